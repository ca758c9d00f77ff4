"""The only caller of Diffrax: one solve of one system, as a value."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from odecal._jax.dependence import depends_on, read_by
from odecal._jax.safe_gradient import safe_gradient
from odecal._solve.clock import TIME, fixed, merged, switch_times
from odecal._solve.forcing import Forcing
from odecal._solve.forcing_data import ForcingData
from odecal._solve.steady_state import steady_states
from odecal._solve.tolerances import absolute_tolerance
from odecal._system.declaration import Declaration
from odecal._system.solve import Solve
from odecal._system.system import System
from odecal._system.values import Values
from odecal.adjoints import Jumps, Problem


class Trajectory(NamedTuple):
    """A solution at the times asked for; of many individuals, with a leading axis of them.

    Args:
        ts: the times.
        y: the states there, each of shape (time, *dims). Where the solve failed these are the
            initial values, a finite stand-in.
        num_steps: how many steps were taken, rejected ones included.
        failed: whether the solve failed, or gave a state that is not finite.
    """

    ts: Float[Array, "*individual time"]
    y: Values
    num_steps: Int[Array, "*individual"]
    failed: Bool[Array, "*individual"]


def solve_system(system: System, p: Values, t0: Any, ts: Any, settings: Solve) -> Trajectory:
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
    return solve(system.declaration, p, t0, ts, settings, Forcing(system.declaration))


def solve(
    declaration: Declaration,
    p: Values,
    t0: Any,
    ts: Any,
    settings: Solve,
    forcing: Forcing,
    forcing_data: ForcingData | None = None,
) -> Trajectory:
    """The same with doses and inputs: how they act, and which there are, None for none."""
    dtype = jax.dtypes.canonicalize_dtype(settings.dtype)
    pack, unpack = packing(declaration)
    y0 = pack(declaration.initial_state(p))
    start, times = jnp.asarray(t0, dtype), jnp.asarray(ts, dtype)

    def field(
        t: Any, y: Float[Array, " element"], p: Values, forcing_data: Any, between: Any = None
    ) -> Float[Array, " element"]:
        at_t = forcing.parameters_at(t, p, forcing_data, between)
        rate = pack(declaration.vector_field(t, unpack(y), at_t)).astype(dtype)
        infused = between is not None and between.rate.size
        return rate + between.rate if infused else rate

    jumps = None
    if forcing.has_jumps:
        steady = steady_states(field, settings, forcing.flags.period)
        after_dose = None if forcing_data is None else forcing_data.after_dose
        jumps = forcing.jumps(pack, unpack, steady, after_dose)

    def solved(inputs: Any) -> tuple[jax.Array, jax.Array]:
        """The states packed, of shape (time, element), NaN of a failed solve; and the steps."""
        y0__args, span, jumps = inputs
        solution = _diffeqsolve(settings, field, span, y0__args, jumps)
        failed = solution.result != diffrax.RESULTS.successful
        return jnp.where(failed, jnp.nan, solution.ys), solution.stats["num_steps"]

    data = forcing_data
    if forcing_data is not None and not forcing.flags.steady:  # nothing else looks at the limits
        data = forcing_data._replace(limits=None)
    used, switches = _dependence_and_switches(
        declaration, (pack, unpack), (start, y0), p, forcing.span
    )
    if jumps is not None:
        used = depends_on(lambda p: _outputs_with_jumps(field, jumps, (start, y0), p, data), p)
    args = (_stop_unused_gradients(p, used), data)
    # Every array comes through the inputs: what a rule of its own closes over, loops cannot map.
    limits = None if forcing_data is None else forcing_data.limits
    if switches is not None:
        limits = switches if limits is None else merged(jnp.append(limits, switches))
    inputs = ((y0, args), (start, times, limits), jumps)
    if settings.forward_mode:  # no custom rule of reverse mode may stand in its way
        ys, num_steps = solved(inputs)
    else:
        ys, num_steps = safe_gradient(inputs, solved)
    failed = ~jnp.all(jnp.isfinite(ys))
    stand_in = jax.lax.stop_gradient(jnp.nan_to_num(y0, posinf=0.0, neginf=0.0))
    ys = jnp.where(failed, stand_in, ys)
    return Trajectory(times, jax.vmap(unpack)(ys), num_steps, failed)


def _diffeqsolve(
    settings: Solve,
    field: Callable[..., jax.Array],
    span: tuple[Float[Array, ""], Float[Array, " time"], Float[Array, " limit"] | None],
    y0__args: tuple[jax.Array, Any],
    jumps: Jumps | None,
) -> diffrax.Solution:
    """Solve by the strategy of the settings."""
    (start, times, limits), (y0, args) = span, y0__args
    settings = settings.within(absolute_tolerance(settings, y0, args[1]))
    if jumps is None:
        term = diffrax.ODETerm(lambda t, y, args: field(t, y, *args))
        solve_fn = settings.strategy.solve
    else:
        term = diffrax.ODETerm(lambda t, y, args: field(t, y, *args[0], args[1]))
        solve_fn = settings.strategy.solve_with_jumps
    problem = Problem(
        term,
        settings.solver,
        start,
        times[-1],
        None,
        diffrax.SaveAt(ts=times),
        settings.controller(limits),
        settings.max_steps_past(limits),
        jumps,
    )
    return solve_fn(problem, y0, args)


def _dependence_and_switches(
    declaration: Declaration,
    packed: tuple[Callable[..., jax.Array], Callable[..., Values]],
    begin: tuple[Float[Array, ""], Float[Array, " element"]],
    p: Values,
    span: float,
) -> tuple[list[bool], Float[Array, " switch"] | None]:
    """Which leaves of p the vector field depends on, and the times at which it switches."""
    pack, unpack = packed
    inputs = dict.fromkeys(declaration.inputs, begin[0])

    def field(t: jax.Array, y: jax.Array, inputs: Any, p: Values) -> jax.Array:
        return pack(declaration.vector_field(t, unpack(y), Values({**p, **inputs}, "parameter")))

    program = jax.make_jaxpr(field)(*begin, inputs, p)
    read, leaves = read_by(program.jaxpr), jax.tree.leaves(p)
    if not read[0]:
        return read[len(read) - len(leaves) :], None
    values = [TIME, *[None] * (1 + len(inputs)), *map(fixed, leaves)]
    return read[len(read) - len(leaves) :], switch_times(program, values, begin[0], span)


def _stop_unused_gradients(p: Values, used: list[bool]) -> Values:
    """p, differentiated only with respect to what the solve depends on.

    The scale of a noise or an initial value has no part in the vector field: no strategy is to
    spend a tangent, or a cotangent, on it.
    """
    leaves, structure = jax.tree.flatten(p)
    leaves = [
        leaf if is_used else jax.lax.stop_gradient(leaf)
        for leaf, is_used in zip(leaves, used, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def _outputs_with_jumps(
    field: Callable[..., jax.Array],
    jumps: Jumps,
    start: tuple[Float[Array, ""], Float[Array, " element"]],
    p: Values,
    forcing_data: Any,
) -> Any:
    """All that a solve with jumps computes from p."""
    t, y = start
    schedule = jumps.schedule((p, forcing_data))
    between = jax.tree.map(lambda x: x[0], schedule.between)
    inside = (t, y, ((p, forcing_data), between))
    crossed = [(c.condition(*inside), c.change(*inside)) for c in jumps.crossings]
    return field(t, y, p, forcing_data, between), schedule, crossed


def packing(
    declaration: Declaration,
) -> tuple[Callable[[Mapping[str, Any]], jax.Array], Callable[[jax.Array], Values]]:
    """Two functions between the states by name and one vector of all their elements.

    One vector makes smaller programs than a tree of scalars: they compile and run faster.
    """
    shapes = {name: declaration.shape(name) for name in declaration.states}
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    ends = np.cumsum(sizes).tolist()

    def pack(values: Mapping[str, Any]) -> Shaped[Array, " element"]:
        if all(shape == () for shape in shapes.values()):
            return jnp.stack([jnp.asarray(values[name]) for name in shapes])
        return jnp.concatenate([jnp.ravel(values[name]) for name in shapes])

    def unpack(y: Float[Array, " element"]) -> Values:
        parts = {
            name: y[end - size : end].reshape(shape) if shape else y[end - 1]
            for (name, shape), size, end in zip(shapes.items(), sizes, ends, strict=True)
        }
        return Values(parts, "state")

    return pack, unpack
