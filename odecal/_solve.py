"""The only caller of Diffrax: one solve of one system, as a value."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from odecal._declaration import Declaration
from odecal._settings import Solve
from odecal._values import Values

if TYPE_CHECKING:
    from odecal._system import System


class Trajectory(NamedTuple):
    """A solution at the times asked for.

    Args:
        ts: the times, of shape (time,).
        y: the states there, each of shape (time, *dims). Where the solve failed these are the
            initial values, a finite stand-in.
        num_steps: how many steps were taken, rejected ones included.
        failed: whether the solve failed, or gave a state that is not finite.
    """

    ts: jax.Array
    y: Values
    num_steps: jax.Array
    failed: jax.Array


def solve_system(system: "System", p: Values, t0: float, ts: Any, settings: Solve) -> Trajectory:
    """Solve dy/dt = f(t, y, p) from the initial values in p.

    Args:
        system: the system.
        p: parameters, constants and initial values.
        t0: the initial time, in the system's unit of time.
        ts: the times to keep, of shape (time,), sorted, none before t0.
        settings: solver, tolerances, adjoint, precision.

    Returns:
        The trajectory. It never raises for a failed solve: `failed` tells. The gradient through a
        failed solve is zero, never NaN.
    """
    declaration = system.declaration
    dtype = jax.dtypes.canonicalize_dtype(settings.dtype)
    pack, unpack = packing(declaration)
    ts = jnp.asarray(ts, dtype)
    y0, p = _clean_gradient((pack(declaration.initial_state(p)), p), settings)

    def vector_field(t: Any, y: jax.Array, p: Values) -> jax.Array:
        return pack(system.vector_field(t, unpack(y), p)).astype(dtype)

    solution = settings.adjoint.diffeqsolve(  # type: ignore[union-attr]
        diffrax.ODETerm(vector_field),
        settings.solver,
        jnp.asarray(t0, dtype),
        ts[-1],
        None,
        y0,
        p,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=settings.rtol, atol=settings.atol),
        max_steps=settings.max_steps,
        throw=False,
    )
    failed = (solution.result != diffrax.RESULTS.successful) | ~jnp.all(jnp.isfinite(solution.ys))
    stand_in = jax.lax.stop_gradient(jnp.nan_to_num(y0, posinf=0.0, neginf=0.0))
    ys = jnp.where(failed, stand_in, solution.ys)
    return Trajectory(ts, jax.vmap(unpack)(ys), solution.stats["num_steps"], failed)


def packing(
    declaration: Declaration,
) -> tuple[Callable[[Mapping[str, Any]], jax.Array], Callable[[jax.Array], Values]]:
    """Two functions between the states by name and one vector of all their elements.

    One vector makes smaller programs than a tree of scalars: they compile and run faster.
    """
    shapes = {name: declaration.shape(name) for name in declaration.states}
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    ends = np.cumsum(sizes).tolist()

    def pack(values: Mapping[str, Any]) -> jax.Array:
        if all(shape == () for shape in shapes.values()):
            return jnp.stack([jnp.asarray(values[name]) for name in shapes])
        return jnp.concatenate([jnp.ravel(values[name]) for name in shapes])

    def unpack(y: jax.Array) -> Values:
        parts = {
            name: y[end - size : end].reshape(shape) if shape else y[end - 1]
            for (name, shape), size, end in zip(shapes.items(), sizes, ends, strict=True)
        }
        return Values(parts, "state")

    return pack, unpack


def _clean_gradient(inputs: Any, settings: Solve) -> Any:
    """The inputs unchanged, with any gradient that reaches them made finite.

    The reverse pass of a failed solve multiplies its zero cotangent by what overflowed, which
    gives NaN; that is zero here. Forward mode has no such trouble, and no custom rule may stand in
    its way.
    """
    if isinstance(getattr(settings.adjoint, "adjoint", None), diffrax.ForwardMode):
        return inputs
    return jax.tree.map(_finite_cotangent, inputs)


@jax.custom_vjp
def _finite_cotangent(x: jax.Array) -> jax.Array:
    return x


def _finite_cotangent_fwd(x: jax.Array) -> tuple[jax.Array, None]:
    return x, None


def _finite_cotangent_bwd(_: None, cotangent: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(jnp.isfinite(cotangent), cotangent, 0.0),)


_finite_cotangent.defvjp(_finite_cotangent_fwd, _finite_cotangent_bwd)
