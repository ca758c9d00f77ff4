"""What the loop of explicit methods integrates: the state, and perhaps more lanes beside it."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from odecal.adjoints._erk.loop import Lanes
from odecal.adjoints._jump_maps import Course, Move
from odecal.adjoints._jumps import Schedule
from odecal.adjoints._problem import Problem
from odecal.adjoints._tangent_control import part_in_witness, with_tangents

# The derivative of all lanes: of times of shape (member,), the lanes, and what holds between
# changes.
Field = Callable[[jax.Array, Lanes, Any], Lanes]


@dataclass(frozen=True, eq=False)
class AbstractLanes(abc.ABC):
    """What is integrated in solves of one kind.

    A member is what one solve has of its own: the arrays of its problem, its initial state and its
    parameters. What is given as `members` is of all, with a leading axis; their states have an
    axis of members at the end.

    Args:
        rest: what solves hold beside arrays, the same for all.
    """

    rest: Any

    @abc.abstractmethod
    def parts(self, member: Any) -> tuple[Problem, Any, Any]:
        """The problem, the initial state and the parameters; of one, or of all."""

    @abc.abstractmethod
    def beginning(self, members: Any) -> tuple[Lanes, Any]:
        """The initial lanes of all; and what they need on their way, with a leading axis."""

    @abc.abstractmethod
    def field(self, members: Any, own: Any) -> Field:
        """The derivative of all lanes of all, given what each needs on its way."""

    @abc.abstractmethod
    def schedule(self, own: Any) -> Schedule:
        """The known changes; of one, or of all."""

    @abc.abstractmethod
    def between(self, member: Any, own: Any, i: jax.Array) -> tuple[Any, ...]:
        """What the field of one is given after i known changes: first, what its state needs."""

    @abc.abstractmethod
    def after(self, member: Any, own: Any, move: Move, z: jax.Array) -> jax.Array:
        """The lanes of one after a change of the state, of shape (element, lane)."""

    def error(
        self, controller: Any, own: Any, step: tuple[jax.Array, ...], watched: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The error by which the step of one is judged, of shape (element,): that of the state.

        Args:
            controller: how steps are chosen.
            own: what the lanes need on their way.
            step: the lanes before the step, of shape (element, lane), after it, and the estimate
                of their error.
            watched: what was given after the step before; False at first.

        Returns:
            The error, and whether the other lanes have a part in it.
        """
        del controller, own
        return step[-1][:, 0], watched

    def course(self, member: Any, own: Any) -> Course:
        """The changes on the way of one."""
        problem, y0, args = self.parts(member)
        assert problem.jumps is not None
        return Course(problem, ravel_pytree(y0)[1], problem.jumps, args, self.schedule(own))

    def slopes(
        self, members: Any, t: jax.Array, y: jax.Array, between: Any, inexact: Any = None
    ) -> jax.Array:
        """The vector fields of all, between vectors of all elements of the state.

        Args:
            members: them.
            t: times, of shape (member,).
            y: states, of shape (element, member).
            between: what holds between changes, with a leading axis; None without changes.
            inexact: the floating-point parameters, likewise; None for those of the members.
        """

        def slope(member: Any, t: Any, y: jax.Array, between: Any, inexact: Any) -> jax.Array:
            problem, y0, args = self.parts(member)
            args = eqx.combine(inexact, args) if inexact is not None else args
            given = args if problem.jumps is None else (args, between)
            found = problem.terms.vector_field(t, ravel_pytree(y0)[1](y), given)
            return ravel_pytree(found)[0].astype(y.dtype)

        axes = (0, 0, -1, 0, 0)
        return jax.vmap(slope, in_axes=axes, out_axes=-1)(members, t, y, between, inexact)


class StateAlone(AbstractLanes):
    """One lane: the state. Members are the arrays of `(problem, y0, args)`."""

    def parts(self, member: Any) -> tuple[Problem, Any, Any]:
        """As they are."""
        found: tuple[Problem, Any, Any] = eqx.combine(member, self.rest)
        return found

    def beginning(self, members: Any) -> tuple[Lanes, Any]:
        """The initial states, and the schedules."""

        def begin(member: Any) -> tuple[jax.Array, Any]:
            problem, y0, args = self.parts(member)
            schedule = None if problem.jumps is None else problem.jumps.schedule(args)
            return ravel_pytree(y0)[0][:, None], schedule

        return jax.vmap(begin, out_axes=(-1, 0))(members)

    def field(self, members: Any, own: Any) -> Field:
        """The vector fields."""
        del own

        def of_all(t: jax.Array, z: Lanes, within: Any) -> Lanes:
            (between,) = within or (None,)
            return self.slopes(members, t, z[:, 0], between)[:, None]

        return of_all

    def schedule(self, own: Any) -> Schedule:
        """All that is needed."""
        found: Schedule = own
        return found

    def between(self, member: Any, own: Any, i: jax.Array) -> tuple[Any, ...]:
        """A row of the schedule."""
        return (self.course(member, own).between(i),)

    def after(self, member: Any, own: Any, move: Move, z: jax.Array) -> jax.Array:
        """The state after the change."""
        _, _, args = self.parts(member)
        return move(z[:, 0], own, args)[:, None]


class WithWitness(StateAlone):
    """Two lanes: the state, and a tangent that tells where tangents go where the state does not."""

    def beginning(self, members: Any) -> tuple[Lanes, Any]:
        """The initial states, and the witness's part in them."""
        z0, own = super().beginning(members)
        return jnp.concatenate([z0, part_in_witness(z0)], axis=1), own

    def error(
        self, controller: Any, own: Any, step: tuple[jax.Array, ...], watched: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The error of the state, or more where the witness was far off."""
        start, end, error = step
        return with_tangents(controller, jnp.ones(1, start.dtype), (start, end, error), watched)
