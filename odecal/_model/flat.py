"""A model's log density as a function of one flat vector, traced once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from odecal._jax.trace import trace_scalar
from odecal._model.model import Model
from odecal.samplers import Target


@dataclass(frozen=True, eq=False)
class FlatModel:
    """What samplers and optimisers see of a model, and how its positions are read."""

    target: Target
    unravel: Callable[[jax.Array], dict[str, jax.Array]]
    names: tuple[str, ...]  # of every element of a position
    hierarchical: bool  # whether parameters vary between groups by unknown scales


def flatten(model: Model) -> FlatModel:
    """See a model as a density on flat vectors; to be called within its `precision()`."""
    sites = jax.eval_shape(model.unconstrain, model.site_shapes)
    dim, unravel = unraveller(sites)
    example = jax.ShapeDtypeStruct((dim,), model.dtype)

    def logdensity_fn(x: jax.Array) -> jax.Array:
        return model.logdensity_fn(unravel(x))

    target = Target(
        dim,
        trace_scalar(logdensity_fn, example, model.solve.forward_mode),
        lambda x: model.logprior_fn(unravel(x)),
        lambda key: ravel_pytree(model.init_position(key))[0],
    )
    return FlatModel(target, unravel, _names(sites), bool(model.hierarchy.reparams))


def unraveller(
    sites: dict[str, Any],
) -> tuple[int, Callable[[jax.Array], dict[str, jax.Array]]]:
    """The inverse of `ravel_pytree` for values like these; and their number."""
    ends, end = {}, 0
    for name in sorted(sites):  # the order in which trees are flattened
        end += sites[name].size
        ends[name] = end

    def unravel(x: jax.Array) -> dict[str, jax.Array]:
        return {
            name: x[ends[name] - site.size : ends[name]].reshape(site.shape)
            for name, site in sites.items()
        }

    return end, unravel


def _names(position: dict[str, Any]) -> tuple[str, ...]:
    """A name for every element: that of its site, with a number where there are several."""
    names = []
    for site in sorted(position):  # the order in which trees are flattened
        size = position[site].size
        names += [site] if position[site].ndim == 0 else [f"{site}[{i}]" for i in range(size)]
    return tuple(names)
