"""What the loop of explicit methods is given, and what it carries."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, Shaped
from odecal.adjoints._erk.tape import Tape

# States and their sensitivities: the first column is the state, the others are its tangents.
# Members come last, so that what is done to all of them alike runs through memory in order.
PrimalAndTangents = Float[Array, "element column member"]


class StepControl(NamedTuple):
    """How steps are chosen. Every array has an axis of members, the last one for states.

    Args:
        init: the end of the first step and the first state of the controller, of times, states
            of shape (element, member) and what the vector field is given there.
        adapt: whether a step is kept, the start and end of the next one, the state of the
            controller and a result; of the step's start and end, of the columns there and the
            estimate of their error, and of the state of the controller before.
        max_steps: the largest number of steps, or None.
    """

    init: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
    adapt: Callable[..., tuple[Any, ...]]
    max_steps: int | None


class BatchedJumps(NamedTuple):
    """The jumps of many solves, with a schedule and ranks as in `Schedule` and `Jumps`.

    Args:
        between: what the field is given after so many jumps.
        at_time: the columns after a jump, of its number and the columns before.
        conditions: scalars of a time, a state and what the field is given; where one falls below
            zero the columns jump.
        at_event: the columns after such a jump, of the number of the condition, how many known
            jumps lie behind, the time, and the columns before.
    """

    times: Float[Array, "member n"]
    ranks: Float[Array, "member n"]
    between: Callable[[jax.Array], Any]
    at_time: Callable[[jax.Array, PrimalAndTangents], PrimalAndTangents]
    save_ranks: Shaped[Array, "member time"] | None
    conditions: tuple[Callable[[jax.Array, jax.Array, Any], jax.Array], ...]
    at_event: Callable[[jax.Array, jax.Array, jax.Array, PrimalAndTangents], PrimalAndTangents]


class LoopProblem(NamedTuple):
    """dz/dt = field(t, z, what holds between jumps) of many members, saved at the sorted ts."""

    field: Callable[[jax.Array, PrimalAndTangents, Any], PrimalAndTangents]
    z0: PrimalAndTangents
    t0: Float[Array, " member"]
    ts: Float[Array, "member time"]
    jumps: BatchedJumps | None = None


class LoopState(NamedTuple):
    """What the loop carries.

    Args:
        start: the time reached.
        end: the time that the next step tries.
        z: the columns at `start`.
        slope: their derivative there.
        saved: the columns at the times to save; the last row is for what is not to be saved.
        num_saved: how many of these are filled.
        num_steps: the steps tried.
        num_rejected: those rejected.
        num_jumps: the known jumps that lie behind.
        event: the condition that has fallen below zero at `start`, −1 for none.
        result: why the solve has ended.
        tape: the accepted steps, if they are kept.
    """

    start: Float[Array, " member"]
    end: Float[Array, " member"]
    z: PrimalAndTangents
    slope: PrimalAndTangents
    saved: Float[Array, "member row element column"]
    num_saved: Int[Array, " member"]
    num_steps: Int[Array, " member"]
    num_rejected: Int[Array, " member"]
    num_jumps: Int[Array, " member"]
    event: Int[Array, " member"]
    result: Any
    control_state: Any
    tape: Tape | None
