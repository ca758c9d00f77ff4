"""A model's log density as a function of one flat vector, traced once."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
from jax.flatten_util import ravel_pytree

from odecal._model import Model
from odecal._trace import trace_scalar


@dataclass(frozen=True, eq=False)
class FlatModel:
    """What samplers and optimisers see of a model.

    Args:
        dim: the number of unconstrained dimensions.
        logdensity_fn: log density of a position of shape (dim,). Reverse-mode differentiable, once.
        init_position: gives a position drawn from the prior, of shape (dim,), from a key.
        unravel: gives the unconstrained value of every site, by name, from a position.
    """

    dim: int
    logdensity_fn: Callable[[jax.Array], jax.Array]
    init_position: Callable[[jax.Array], jax.Array]
    unravel: Callable[[jax.Array], dict[str, jax.Array]]


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
        lambda key: ravel_pytree(model.init_position(key))[0],
        unravel,
    )
