"""The state that doses at regular intervals have brought about."""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.lax import stop_gradient
from jaxtyping import Array, Bool, Float

from odecal._jax.dependence import depends_on
from odecal._solve.tolerances import absolute_tolerance
from odecal._system.solve import Solve
from odecal._system.values import Values
from odecal.adjoints import ExplicitForward, Forward, Jumps, Problem, Schedule

# Cycles that are gone through first, and corrections by Newton's method after them, at most.
_CYCLES, _CORRECTIONS = 3, 20

# The derivative of the packed state: of a time, the packed state, `p` and what is given.
Field = Callable[[Any, jax.Array, Values, Any], jax.Array]
# The steady state: of a cycle, `p`, what is given, and a state to begin the search from.
SteadyStates = Callable[["Cycle", Values, Any, jax.Array], jax.Array]


class Cycle(NamedTuple):
    """Doses at regular intervals."""

    time: Float[Array, ""]  # of the dose that stands in the table
    interval: Float[Array, ""]  # 0 for an infusion that never ends
    lag: Float[Array, ""]
    bolus: Float[Array, " element"]
    rate: Float[Array, " element"]
    lasts: Float[Array, ""]


def steady_states(field: Field, settings: Solve, period: float) -> SteadyStates:
    """A function that finds the state at the time of a dose that has been given ever before.

    With Φ(y, θ) the state after one cycle that began at y with the arrival of a dose, the steady
    state is y* = Φ(y*, θ), and

        dy*/dθ = (I − ∂Φ/∂y)⁻¹ ∂Φ/∂θ.

    Found by Newton's method, and differentiated by this equation: whatever strategy differentiates
    the solve around it. The state is then taken on to where in the cycle the dose is given: a lag
    before the next one arrives, or what is left of the lag over whole intervals. An infusion that
    lasts longer than the interval overlaps with those after it; of one that never ends the cycle is
    the period. The state is not a number if it was not found.
    """

    def steady(
        cycle: Cycle, p: Values, forcing_data: Any, start: Float[Array, " element"]
    ) -> Float[Array, " element"]:
        allowed = settings.within(absolute_tolerance(settings, start, forcing_data))
        leaves, structure = jax.tree.flatten(p)
        read = depends_on(lambda p: field(cycle.time, start, p, forcing_data), p)
        moving = [leaf for leaf, used in zip(leaves, read, strict=True) if used]
        theta, unravel = ravel_pytree((cycle, moving))

        def once(
            y: Float[Array, " element"], theta: Float[Array, " theta"]
        ) -> Float[Array, "2 element"]:
            cycle, moving = unravel(theta)
            rest = iter(moving)
            merged = [
                next(rest) if used else stop_gradient(leaf)
                for leaf, used in zip(leaves, read, strict=True)
            ]
            p = jax.tree.unflatten(structure, merged)
            return _round(field, allowed, period, y, cycle, p, stop_gradient(forcing_data))

        still = stop_gradient(theta)
        y = _fixed_point(lambda y: once(y, still)[1], stop_gradient(start), allowed)
        states, (of_y, of_theta) = _value_and_jacobian(once, y, still)
        moves = jnp.linalg.solve(jnp.eye(len(y)) - of_y[1], of_theta[1])
        slope = of_y[0] @ moves + of_theta[0]
        return states[0] + slope @ (theta - still)

    return steady


def _round(
    field: Field,
    settings: Solve,
    period: float,
    y: Float[Array, " element"],
    cycle: Cycle,
    p: Values,
    forcing_data: Any,
) -> Float[Array, "2 element"]:
    """The states where the next dose is given, and where it arrives."""
    adjoint = ExplicitForward() if ExplicitForward.serves(settings.solver) else Forward()
    endless = cycle.interval <= 0
    length = jnp.where(endless, period, cycle.interval)
    waits = jnp.where(endless, 0.0, _left_over(cycle.lag, length)[0])
    ends = jnp.stack([length - waits, length])

    def moved(s: Any, y: jax.Array, args: Any) -> jax.Array:
        (cycle, p, forcing_data), rate = args
        return field(cycle.time + s, y, p, forcing_data) + rate

    def schedule(args: Any) -> Schedule:
        cycle, _, _ = args
        none = jnp.zeros_like(cycle.bolus)
        endless = cycle.interval <= 0
        until, throughout = _left_over(cycle.lasts, jnp.where(endless, 1.0, cycle.interval))
        until = jnp.where(endless, jnp.inf, until)
        rest = jnp.where(endless, 0.0, throughout) * cycle.rate
        return Schedule(
            jnp.stack([jnp.zeros_like(until), until]),
            jnp.stack([cycle.bolus, none]),
            jnp.stack([none, cycle.rate + rest, rest]),
        )

    limits = None
    if forcing_data is not None and forcing_data.limits is not None:
        limits = stop_gradient(forcing_data.limits - cycle.time)
    problem = Problem(
        diffrax.ODETerm(moved),
        settings.solver,
        jnp.zeros((), y.dtype),
        stop_gradient(length),
        None,
        diffrax.SaveAt(ts=stop_gradient(ends)),
        settings.controller(limits),
        settings.max_steps_past(limits),
        Jumps(schedule, lambda t, y, args, add: y + add),
    )
    args = (cycle, p, forcing_data)
    solution = adjoint.solve_with_jumps(problem, y, args)
    good = solution.result == diffrax.RESULTS.successful
    until, throughout = stop_gradient(_left_over(cycle.lasts, length))

    def at(t: jax.Array, y: jax.Array) -> jax.Array:
        """The state at an end that moves with what it depends on, which the solve cannot know."""
        running = jnp.where(endless, 1.0, throughout + (stop_gradient(t) < until))
        rate = (cycle.rate * running).astype(y.dtype)
        return y + moved(stop_gradient(t), y, (args, rate)) * (t - stop_gradient(t))

    return jnp.where(good, jax.vmap(at)(ends, solution.ys), jnp.nan)


def _left_over(
    span: Float[Array, ""], length: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What is left of a span over whole intervals of a length, and how many those are."""
    whole = stop_gradient(jnp.floor(span / length))
    return span - whole * length, whole


def _fixed_point(
    once: Callable[[jax.Array], jax.Array], start: Float[Array, " element"], settings: Solve
) -> Float[Array, " element"]:
    """Solve y = Φ(y) by some rounds, then Newton's method; not a number if that fails."""
    start = jax.lax.fori_loop(0, _CYCLES, lambda _, y: once(y), start)

    def unsettled(carry: tuple[jax.Array, jax.Array, jax.Array]) -> Bool[Array, ""]:
        y, change, i = carry
        scale = jnp.asarray(settings.atol) + settings.relative_tolerance * jnp.abs(y)
        return (i < _CORRECTIONS) & jnp.any(jnp.abs(change) > scale)

    def correct(carry: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
        y, _, i = carry
        after, (slope,) = _value_and_jacobian(once, y)
        change = jnp.linalg.solve(jnp.eye(len(y)) - slope, after - y)
        return y + change, change, i + 1

    begin = (start, jnp.full_like(start, jnp.inf), jnp.zeros((), jnp.int32))
    y, change, i = jax.lax.while_loop(unsettled, correct, begin)
    return jnp.where(unsettled((y, change, jnp.zeros_like(i))), jnp.nan, y)


def _value_and_jacobian(
    function: Callable[..., jax.Array], *arguments: jax.Array
) -> tuple[jax.Array, Any]:
    def twice(*arguments: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = function(*arguments)
        return value, value

    jacobian, value = jax.jacrev(twice, tuple(range(len(arguments))), has_aux=True)(*arguments)
    return value, jacobian
