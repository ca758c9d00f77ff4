"""Adaptive steps of any Diffrax solver from stop to stop, watched on the way."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from odecal.adjoints._erk.batches import any_of_batch
from odecal.adjoints._step_limits import ahead

# What is made of an accepted step: from what has been seen, whether the step counts, the times of
# its start and end, and the solver's dense information, to what has been seen.
Visit = Callable[[Any, jax.Array, tuple[jax.Array, jax.Array], Any], Any]
# What happens at a stop: from its number and the state, to the state and whether all is well.
Arrive = Callable[[jax.Array, Any], tuple[Any, jax.Array]]


class Road(NamedTuple):
    """dz/ds = g(s, z) from a start past some stops.

    Args:
        term: g.
        solver: the method.
        controller: how steps are chosen.
        stops: the values of s to stop at, rising, none before the start; of shape (stop,). The
            last is the end.
        arrive: what happens at each.
        visit: what is made of each accepted step.
        max_steps: the largest number of steps, or None.
    """

    term: diffrax.ODETerm
    solver: diffrax.AbstractSolver
    controller: diffrax.AbstractStepSizeController
    stops: jax.Array
    arrive: Arrive
    visit: Visit
    max_steps: int | None


class Place(NamedTuple):
    """Where a march stands.

    Args:
        s: the time reached.
        z: the state.
        stop: the number of the next stop.
        length: the step wanted, whether or not a stop cuts it short.
        solver_state: the state of the solver.
        jumped: whether the state has jumped since the last step.
        control: the state of the controller.
        num_steps: the steps tried.
        failed: whether the march cannot go on, or something was wrong at a stop.
    """

    s: jax.Array
    z: Any
    stop: jax.Array
    length: jax.Array
    solver_state: Any
    jumped: jax.Array
    control: Any
    num_steps: jax.Array
    failed: jax.Array


def march(road: Road, s0: jax.Array, z0: Any, seen: Any) -> tuple[Any, Any, jax.Array]:
    """Go from s0, z0 to the last stop.

    Args:
        road: the way.
        s0: the start.
        z0: the state there, a pytree of arrays.
        seen: what has been seen at the start.

    Returns:
        The state at the end; what has been seen; and whether the march failed.
    """
    road = road._replace(solver=_resolved(road.solver, road.controller))
    place = _first_place(road, s0, z0)

    def going(place: Place) -> jax.Array:
        return (place.stop < len(road.stops)) & ~place.failed

    def turn(carry: tuple[Place, Any]) -> tuple[Place, Any]:
        place, seen = carry
        alive = going(place)
        new, accepted, span, dense = _step(road, place)
        seen = road.visit(seen, alive & accepted, span, dense)
        return jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, place), seen

    place, seen = jax.lax.while_loop(
        lambda carry: any_of_batch(going(carry[0])), turn, (place, seen)
    )
    return place.z, seen, place.failed


def dense_shape(road: Road, z0: Any) -> Any:
    """The shapes of the dense information about a step."""
    solver = _resolved(road.solver, road.controller)

    def step(s: jax.Array, z: Any) -> Any:
        state = solver.init(road.term, s, s, z, None)
        return solver.step(road.term, s, s, z, None, state, False)[2]

    return jax.eval_shape(step, road.stops[0], z0)


def _first_place(road: Road, s0: jax.Array, z0: Any) -> Place:
    """The start, after the stops that are there already."""
    solver, end = road.solver, road.stops[-1]
    order = solver.error_order(road.term)
    first, control = road.controller.init(road.term, s0, end, z0, None, None, solver.func, order)
    length = jnp.asarray(first - s0)
    solver_state = solver.init(road.term, s0, s0 + length, z0, None)
    place = Place(
        s0,
        z0,
        jnp.zeros((), jnp.int32),
        length,
        solver_state,
        jnp.array(False),
        jax.tree.map(jnp.asarray, control),
        jnp.zeros((), jnp.int32),
        jnp.array(False),
    )
    return _arrived(road, place)


def _step(road: Road, place: Place) -> tuple[Place, jax.Array, tuple[jax.Array, jax.Array], Any]:
    """Try one step, as far as the next stop at most."""
    solver, last = road.solver, len(road.stops) - 1
    stop = road.stops[jnp.minimum(place.stop, last)]
    end = ahead(road.controller, place.s, jnp.minimum(place.s + place.length, stop))
    z1, error, dense, solver_state, _ = solver.step(
        road.term, place.s, end, place.z, None, place.solver_state, place.jumped
    )
    error = jax.tree.map(lambda e: jnp.where(jnp.isfinite(e), e, jnp.inf), error)
    order = solver.error_order(road.term)
    keep, s, next_end, _, control, result = road.controller.adapt_step_size(
        place.s, end, place.z, z1, None, error, order, place.control
    )
    keep = jnp.asarray(keep)
    # A step that a stop cut short says little about the length of the next.
    longer = jnp.maximum(next_end - s, place.length)
    length = jnp.where(keep & (end < place.s + place.length), longer, next_end - s)
    stuck = (next_end <= s) | (~keep & (next_end >= end))
    num_steps = place.num_steps + 1
    out = False if road.max_steps is None else num_steps >= road.max_steps
    reached = keep & (end >= stop) & (place.stop == last)
    failed = (result != diffrax.RESULTS.successful) | ((stuck | out) & ~reached)

    def kept(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new, old)

    new = Place(
        s,
        kept(z1, place.z),
        place.stop,
        length,
        kept(solver_state, place.solver_state),
        jnp.where(keep, False, place.jumped),
        control,
        num_steps,
        failed,
    )
    return _arrived(road, new), keep, (place.s, end), dense


def _arrived(road: Road, place: Place) -> Place:
    """After all stops that have been reached."""
    last = len(road.stops) - 1

    def here(place: Place) -> jax.Array:
        return (place.stop <= last) & (road.stops[jnp.minimum(place.stop, last)] <= place.s)

    def arrive(place: Place) -> Place:
        z, well = road.arrive(place.stop, place.z)
        return place._replace(
            z=z, stop=place.stop + 1, jumped=jnp.array(True), failed=place.failed | ~well
        )

    return jax.lax.while_loop(here, arrive, place)


def _resolved(
    solver: diffrax.AbstractSolver, controller: diffrax.AbstractStepSizeController
) -> diffrax.AbstractSolver:
    """The solver as `diffrax.diffeqsolve` would use it: loops plain, tolerances filled in."""
    if getattr(solver, "scan_kind", "lax") is None:
        solver = eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)
    root_finder = getattr(solver, "root_finder", None)
    for name in ("rtol", "atol", "norm"):
        value = getattr(root_finder, name, 0.0)
        if not (callable(value) or eqx.is_array_like(value)):  # to be taken from the controller
            where = attrgetter(f"root_finder.{name}")
            solver = eqx.tree_at(where, solver, getattr(controller, name))
    return solver
