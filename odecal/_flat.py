"""A model's log density as a function of one flat vector, traced once."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.flatten_util import ravel_pytree

from odecal._model import Model
from odecal._trace import trace_scalar
from odecal.samplers import Target


@dataclass(frozen=True, eq=False)
class FlatModel(Target):
    """What samplers and optimisers see of a model.

    Args:
        unravel: gives the unconstrained value of every site, by name, from a position.
        names: the name of every element of a position.
    """

    unravel: Callable[[jax.Array], dict[str, jax.Array]]
    names: tuple[str, ...]


def flatten(model: Model) -> FlatModel:
    """See a model as a density on flat vectors.

    Args:
        model: the model; to be called within its `precision()`.

    Returns:
        The density and its companions.
    """
    example = jax.eval_shape(model.init_position, jax.random.key(0))
    zeros = jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), example)
    flat, unravel = ravel_pytree(zeros)

    def logdensity_fn(x: jax.Array) -> jax.Array:
        return model.logdensity_fn(unravel(x))

    return FlatModel(
        flat.size,
        trace_scalar(logdensity_fn, flat, model.solve.forward_mode),
        lambda x: model.logprior_fn(unravel(x)),
        lambda key: ravel_pytree(model.init_position(key))[0],
        unravel,
        _names(zeros),
    )


def _names(position: dict[str, jax.Array]) -> tuple[str, ...]:
    """A name for every element: that of its site, with a number where there are several."""
    names = []
    for site in sorted(position):  # the order in which trees are flattened
        size = position[site].size
        names += [site] if position[site].ndim == 0 else [f"{site}[{i}]" for i in range(size)]
    return tuple(names)
