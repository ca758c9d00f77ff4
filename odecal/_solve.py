"""The only caller of Diffrax: one solve of one system, as a value."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import diffrax
import equinox as eqx
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
        failed solve is zero; that of a successful one is NaN where the adjoint could not find it.
    """
    dtype = jax.dtypes.canonicalize_dtype(settings.dtype)
    pack, unpack = packing(system.declaration)
    y0 = pack(system.declaration.initial_state(p))

    def vector_field(t: Any, y: jax.Array, p: Values) -> jax.Array:
        return pack(system.vector_field(t, unpack(y), p)).astype(dtype)

    def solve(y0__p: tuple[jax.Array, Values]) -> tuple[jax.Array, tuple[Any, Any]]:
        """The states packed, of shape (time, element), and what carries no gradient."""
        y0, p = y0__p
        times = jnp.asarray(ts, dtype)
        solution = settings.strategy.diffeqsolve(
            diffrax.ODETerm(vector_field),
            settings.solver,
            jnp.asarray(t0, dtype),
            times[-1],
            None,
            y0,
            p,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=settings.rtol, atol=settings.atol),
            max_steps=settings.max_steps,
            throw=False,
        )
        failed = solution.result != diffrax.RESULTS.successful
        return solution.ys, (solution.stats["num_steps"], failed)

    p = _still_where_unused(vector_field, jnp.asarray(t0, dtype), y0, p)
    if settings.forward_mode:  # no custom rule of reverse mode may stand in its way
        ys, (num_steps, failed) = solve((y0, p))
    else:
        ys, (num_steps, failed) = _guarded((y0, p), solve)
    failed = failed | ~jnp.all(jnp.isfinite(ys))
    stand_in = jax.lax.stop_gradient(jnp.nan_to_num(y0, posinf=0.0, neginf=0.0))
    ys = jnp.where(failed, stand_in, ys)
    return Trajectory(jnp.asarray(ts, dtype), jax.vmap(unpack)(ys), num_steps, failed)


def _still_where_unused(
    vector_field: Callable[..., jax.Array], t: jax.Array, y: jax.Array, p: Values
) -> Values:
    """p, in which only what the vector field reads is differentiated.

    The scale of a noise or an initial value has no part in the vector field: no strategy is to
    spend a tangent, or a cotangent, on it.
    """
    jaxpr = jax.make_jaxpr(vector_field)(t, y, p).jaxpr
    read = {id(var) for equation in jaxpr.eqns for var in equation.invars}
    read |= {id(var) for var in jaxpr.outvars}
    leaves, structure = jax.tree.flatten(p)
    inputs = jaxpr.invars[-len(leaves) :] if leaves else []
    kept = [
        leaf if id(var) in read else jax.lax.stop_gradient(leaf)
        for leaf, var in zip(leaves, inputs, strict=True)
    ]
    return jax.tree.unflatten(structure, kept)


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


@eqx.filter_custom_vjp
def _guarded(inputs: Any, solve: Callable[[Any], Any]) -> Any:
    """A solve whose gradient is zero where it failed.

    The reverse pass of a failed solve multiplies its zero cotangent by what overflowed, which is
    NaN; that is zero here. Where the solve succeeded and its gradient is NaN, it stays so.
    """
    return solve(inputs)


@_guarded.def_fwd
def _guarded_fwd(perturbed: Any, inputs: Any, solve: Callable[[Any], Any]) -> tuple[Any, Any]:
    moving, fixed = eqx.partition(inputs, perturbed)

    def solve_moving(moving: Any) -> Any:
        return solve(eqx.combine(moving, fixed))

    ys, reverse, (num_steps, failed) = eqx.filter_vjp(solve_moving, moving, has_aux=True)
    well = ~failed & jnp.all(jnp.isfinite(ys))
    return (ys, (num_steps, failed)), (reverse, well)


@_guarded.def_bwd
def _guarded_bwd(
    kept: Any, cotangents: Any, perturbed: Any, inputs: Any, solve: Callable[[Any], Any]
) -> Any:
    reverse, well = kept
    ys_cotangent, _ = cotangents
    if ys_cotangent is None:
        return jax.tree.map(jnp.zeros_like, eqx.filter(inputs, perturbed))
    (gradient,) = reverse(ys_cotangent)
    return jax.tree.map(lambda g: jnp.where(well | jnp.isfinite(g), g, 0.0), gradient)
