"""Functions traced once, to be used in many programs and on many devices."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
from jax.extend.core import jaxpr_as_fun


def trace(function: Callable[..., Any], *examples: Any) -> Callable[..., Any]:
    """The same function, traced here and nowhere else.

    Every program built on it reuses the trace. Besides the time that saves, the function's own
    transformations are then done here, outside any device mesh: Equinox's checkpointed loops and
    Lineax's solves compare shardings, and refuse to be traced where a mesh comes and goes.

    It is for arguments like the examples, and has lost its own rules of differentiation:
    differentiate before tracing.
    """
    closed, shape = jax.make_jaxpr(function, return_shape=True)(*examples)
    evaluate = jaxpr_as_fun(closed)
    structure = jax.tree.structure(shape)

    def traced(*args: Any) -> Any:
        return jax.tree.unflatten(structure, evaluate(*jax.tree.leaves(args)))

    return traced


def value_and_gradient(
    function: Callable[[jax.Array], jax.Array], forward_mode: bool = False
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """The value and gradient of a scalar function of a vector."""
    if not forward_mode:
        return jax.value_and_grad(function)

    def twice(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = function(x)
        return value, value

    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient, value = jax.jacfwd(twice, has_aux=True)(x)
        return value, gradient

    return both


def trace_scalar(
    function: Callable[[jax.Array], jax.Array],
    example: jax.Array | jax.ShapeDtypeStruct,
    forward_mode: bool = False,
) -> Callable[[jax.Array], jax.Array]:
    """A scalar function of a vector whose value and gradient are traced once.

    It is reverse-mode differentiable once, also where its gradient is taken by forward mode.
    """
    value_and_grad = trace(value_and_gradient(function, forward_mode), example)

    @cache
    def value() -> Callable[..., Any]:
        """Traced only if it is asked for, which gradient-based methods never do."""
        return trace(function, example)

    @jax.custom_vjp
    def traced(x: jax.Array) -> jax.Array:
        return value()(x)

    def backward(gradient: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
        return (cotangent * gradient,)

    traced.defvjp(value_and_grad, backward)
    return traced
