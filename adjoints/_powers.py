"""Derivatives of powers and roots where they are infinite and the tangent is zero."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

# What has an infinite derivative at zero and a finite value.
_STEEP = {"pow", "sqrt", "cbrt"}
# What only calls another program.
_CALLS = {"jit", "pjit", "closed_call", "core_call"}


def with_limits(function: Callable[..., Any], *examples: Any) -> Callable[..., Any]:
    """The function, to be differentiated in forward mode, with 0 for 0 × ∞ at powers and roots.

    A concentration that is 0 until a dose comes, for every value of the parameters, has tangents of
    0. Its power cᵖ with p < 1 has the derivative ∞ there, and ∞ × 0 is no number; but the power is
    0 for every value of the parameters as well, and so are its tangents. Where the tangent is not
    0, what is infinite stays so. Not for reverse mode, which does not know the tangent. The
    function gives one array, and is traced with the examples.
    """
    closed = jax.make_jaxpr(function)(*examples)
    if not _steep(closed.jaxpr):
        return function

    def run(*args: Any) -> Any:
        (found,) = _evaluated(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return found

    return run


def _steep(jaxpr: Any) -> bool:
    """Whether there is a power or a root, in what is called as well."""
    return any(
        eqn.primitive.name in _STEEP
        or (eqn.primitive.name in _CALLS and _steep(eqn.params["jaxpr"].jaxpr))
        for eqn in jaxpr.eqns
    )


def _evaluated(jaxpr: Any, consts: Any, args: Any) -> list[Any]:
    """Evaluate a program, with rules of our own for powers and roots."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inputs, name = [read(atom) for atom in eqn.invars], eqn.primitive.name
        if name in _CALLS and _steep(eqn.params["jaxpr"].jaxpr):
            inner = eqn.params["jaxpr"]
            found = _evaluated(inner.jaxpr, inner.consts, inputs)
        elif name in _STEEP:
            found = [_safe(eqn, inputs)]
        else:
            bound = eqn.primitive.get_bind_params(eqn.params)
            functions, params = bound if isinstance(bound, tuple) else ([], bound)  # as JAX has it
            with eqn.ctx.manager:
                found = eqn.primitive.bind(*functions, *inputs, **params)
            found = found if eqn.primitive.multiple_results else [found]
        values.update(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _safe(eqn: Any, inputs: list[Any]) -> Any:
    """A power or a root, where a zero tangent of its first argument gives a zero tangent."""

    @jax.custom_jvp
    def steep(x: Any, *rest: Any) -> Any:
        return eqn.primitive.bind(x, *rest, **eqn.params)

    @steep.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        x, *rest = primals
        x_tangent, *rest_tangents = tangents

        def of_first(x: Any) -> Any:
            return eqn.primitive.bind(x, *rest, **eqn.params)

        def of_rest(*rest: Any) -> Any:
            return eqn.primitive.bind(x, *rest, **eqn.params)

        value, slope = jax.jvp(of_first, (x,), (jnp.ones_like(x),))
        change = jnp.where(jnp.isinf(slope) & (x_tangent == 0), 0.0, slope * x_tangent)
        floating = rest and jnp.issubdtype(jnp.asarray(rest[0]).dtype, jnp.inexact)
        if floating:
            change = change + jax.jvp(of_rest, tuple(rest), tuple(rest_tangents))[1]
        return value, change.astype(value.dtype)

    return steep(*inputs)
