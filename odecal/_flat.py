"""A model's log density as a function of one flat vector, traced once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import jaxpr_as_fun
from jax.flatten_util import ravel_pytree

from odecal._model import Model


@dataclass(frozen=True, eq=False)
class FlatModel:
    """What samplers and optimisers see of a model.

    Args:
        dim: the number of unconstrained dimensions.
        logdensity_fn: log density of a position of shape (dim,). Reverse-mode differentiable, once.
        init_position: gives a position drawn from the prior, of shape (dim,), from a key.
        constrain: gives the natural value of every site from a position.
    """

    dim: int
    logdensity_fn: Callable[[jax.Array], jax.Array]
    init_position: Callable[[jax.Array], jax.Array]
    constrain: Callable[[jax.Array], dict[str, jax.Array]]


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
        trace_once(logdensity_fn, flat),
        lambda key: ravel_pytree(model.init_position(key))[0],
        lambda x: model.constrain(unravel(x)),
    )


def trace_once(
    function: Callable[[jax.Array], jax.Array], example: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """The same scalar function, with its value and gradient traced here and nowhere else.

    Every program built on it reuses the two traces. Besides the time that saves, what a reverse
    pass does while it is traced is then done outside any device mesh: Equinox's checkpointed loops
    refuse to be differentiated inside one.

    Args:
        function: from an array of shape (dim,) to a scalar.
        example: an array of that shape.

    Returns:
        The function, reverse-mode differentiable once.
    """
    value = jaxpr_as_fun(jax.make_jaxpr(function)(example))
    value_and_grad = jaxpr_as_fun(jax.make_jaxpr(jax.value_and_grad(function))(example))

    @jax.custom_vjp
    def traced(x: jax.Array) -> jax.Array:
        return value(x)[0]

    def forward(x: jax.Array) -> Any:
        return tuple(value_and_grad(x))

    def backward(gradient: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
        return (cotangent * gradient,)

    traced.defvjp(forward, backward)
    return traced
