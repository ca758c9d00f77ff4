"""A function whose gradient is a number also where the function has failed."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


@eqx.filter_custom_vjp
def safe_gradient(x: Any, function: Callable[[Any], tuple[jax.Array, Any]]) -> Any:
    """A function whose gradient is zero, and not NaN, where its value is not finite.

    The reverse pass of a failed solve multiplies its zero cotangent by what overflowed, which is
    NaN; that is zero here. Where the value is finite and the gradient NaN, it stays so. The
    function, of a pytree, gives an array, and what carries no gradient.
    """
    return function(x)


@safe_gradient.def_fwd
def _forward(perturbed: Any, x: Any, function: Callable[[Any], Any]) -> tuple[Any, Any]:
    diff, nondiff = eqx.partition(x, perturbed)
    value, vjp_fn, aux = eqx.filter_vjp(
        lambda diff: function(eqx.combine(diff, nondiff)), diff, has_aux=True
    )
    return (value, aux), (vjp_fn, jnp.all(jnp.isfinite(value)))


@safe_gradient.def_bwd
def _backward(
    residuals: Any, cotangents: Any, perturbed: Any, x: Any, function: Callable[[Any], Any]
) -> Any:
    (vjp_fn, finite), (cotangent, _) = residuals, cotangents
    if cotangent is None:
        return jax.tree.map(jnp.zeros_like, eqx.filter(x, perturbed))
    (gradient,) = vjp_fn(cotangent)
    return jax.tree.map(lambda g: jnp.where(finite | jnp.isfinite(g), g, 0.0), gradient)
