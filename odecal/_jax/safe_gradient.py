"""A log density whose gradient is a number also where the density is −inf."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


@eqx.filter_custom_vjp
def safe_gradient(position: Any, logdensity: Callable[[Any], jax.Array]) -> jax.Array:
    """A log density whose gradient is zero, and not NaN, where it is −inf.

    Args:
        position: where; any pytree.
        logdensity: the density, a scalar function of it.
    """
    return logdensity(position)


@safe_gradient.def_fwd
def _safe_gradient_fwd(
    perturbed: Any, position: Any, logdensity: Callable[[Any], jax.Array]
) -> tuple[jax.Array, Any]:
    moving, fixed = eqx.partition(position, perturbed)
    density, reverse = eqx.filter_vjp(lambda moving: logdensity(eqx.combine(moving, fixed)), moving)
    return density, (reverse, jnp.isfinite(density))


@safe_gradient.def_bwd
def _safe_gradient_bwd(
    kept: Any, cotangent: Any, perturbed: Any, position: Any, logdensity: Callable[[Any], jax.Array]
) -> Any:
    del perturbed, position, logdensity
    reverse, well = kept
    (gradient,) = reverse(cotangent)
    return jax.tree.map(lambda g: jnp.where(well | jnp.isfinite(g), g, 0.0), gradient)
