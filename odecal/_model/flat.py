"""A model's log density as a function of one flat vector, traced once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from odecal._jax.trace import trace_scalar
from odecal._model.model import Model
from odecal.samplers import Target

# More steps than any solve may take.
NO_LIMIT = np.int32(np.iinfo(np.int32).max // 2)


@dataclass(frozen=True, eq=False)
class FlatModel:
    """What samplers and optimisers see of a model, and how its positions are read."""

    target: Target
    # Its log density with a further limit on the steps of a solve, an integer.
    limited_logdensity_fn: Callable[[jax.Array, Any], jax.Array]
    unravel: Callable[[jax.Array], dict[str, jax.Array]]
    names: tuple[str, ...]  # of every element of a position
    hierarchical: bool  # whether parameters vary between groups by unknown scales


def flatten(model: Model) -> FlatModel:
    """See a model as a density on flat vectors; to be called within its `precision()`."""
    sites = jax.eval_shape(model.unconstrain, model.site_shapes)
    dim, unravel = unraveller(sites)
    examples = jax.ShapeDtypeStruct((dim,), model.dtype), jax.ShapeDtypeStruct((), np.int32)

    def logdensity_fn(x: jax.Array, step_limit: jax.Array) -> jax.Array:
        limited = replace(model, solve=model.solve.limited(step_limit))
        return limited.logdensity_fn(unravel(x))

    limited_logdensity_fn = trace_scalar(
        logdensity_fn, *examples, forward_mode=model.solve.forward_mode
    )
    target = Target(
        dim,
        lambda x: limited_logdensity_fn(x, NO_LIMIT),
        lambda x: model.logprior_fn(unravel(x)),
        lambda key: ravel_pytree(model.init_position(key))[0],
    )
    return FlatModel(
        target, limited_logdensity_fn, unravel, _names(sites), bool(model.hierarchy.reparams)
    )


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
