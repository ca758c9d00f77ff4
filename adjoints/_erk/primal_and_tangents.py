"""What the loop of explicit methods integrates: the state, and perhaps tangents beside it."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float
from odecal.adjoints._erk.state import PrimalAndTangents
from odecal.adjoints._erk.tangent_control import Step, error_with_tangents, witness_direction
from odecal.adjoints._jump_maps import JumpMap, JumpMaps
from odecal.adjoints._jumps import Schedule
from odecal.adjoints._problem import Problem
from odecal.adjoints._rows import row_at

# The derivative of all columns: of times, the columns, and what holds between jumps.
Field = Callable[[jax.Array, PrimalAndTangents, Any], PrimalAndTangents]


class AbstractPrimalAndTangents(abc.ABC):
    """What is integrated in solves of one kind: columns, of which the first is the state.

    A member is what one solve has of its own: the arrays of its problem, its initial state and its
    parameters. What is called `members` is of all, with a leading axis; their states have an axis
    of members at the end. `aux` is what else the columns need, as `init` gives it.
    """

    @abc.abstractmethod
    def unpack(self, member: Any) -> tuple[Problem, Any, Any]:
        """The problem, the initial state and the parameters; of one, or of all."""

    @abc.abstractmethod
    def num_columns(self, member: Any) -> int:
        """How many columns one has."""

    @abc.abstractmethod
    def init(self, members: Any) -> tuple[PrimalAndTangents, Any]:
        """The initial columns of all, and `aux`, with a leading axis."""

    @abc.abstractmethod
    def field(self, members: Any, aux: Any) -> Field:
        """The derivative of all columns of all."""

    @abc.abstractmethod
    def schedule(self, aux: Any) -> Schedule:
        """The known jumps; of one, or of all."""

    @abc.abstractmethod
    def between(self, aux: Any, i: jax.Array) -> tuple[Any, ...]:
        """What the field of one is given after i known jumps: first, what its state needs."""

    @abc.abstractmethod
    def jump(
        self, member: Any, aux: Any, jump_map: JumpMap, z: Float[Array, "element column"]
    ) -> Float[Array, "element column"]:
        """The columns of one after a jump of the state."""

    @abc.abstractmethod
    def error(
        self,
        controller: diffrax.AbstractStepSizeController,
        aux: Any,
        step: Step,
        watched: Bool[Array, ""],
    ) -> tuple[Float[Array, " element"], Bool[Array, ""]]:
        """The error by which the step of one is judged, and whether tangents have a part in it.

        `watched` is what was given after the step before; False at first.
        """

    def jump_maps(self, member: Any, aux: Any) -> JumpMaps:
        """The jumps of one."""
        problem, y0, args = self.unpack(member)
        assert problem.jumps is not None
        unravel = ravel_pytree(y0)[1]
        return JumpMaps(problem.terms, unravel, problem.jumps, args, self.schedule(aux))

    def slopes(
        self,
        members: Any,
        t: Float[Array, " member"],
        y: Float[Array, "element member"],
        between: Any,
        inexact: Any = None,
    ) -> Float[Array, "element member"]:
        """The vector fields of all, between vectors of all elements of the state.

        `inexact` are the floating-point parameters; None for those of the members.
        """

        def slope(member: Any, t: Any, y: jax.Array, between: Any, inexact: Any) -> jax.Array:
            problem, y0, args = self.unpack(member)
            args = eqx.combine(inexact, args) if inexact is not None else args
            given = args if problem.jumps is None else (args, between)
            found = problem.terms.vector_field(t, ravel_pytree(y0)[1](y), given)
            return ravel_pytree(found)[0].astype(y.dtype)

        axes = (0, 0, -1, 0, 0)
        return jax.vmap(slope, in_axes=axes, out_axes=-1)(members, t, y, between, inexact)


@dataclass(frozen=True, eq=False)
class Primal(AbstractPrimalAndTangents):
    """The state, and perhaps a witness: a tangent that tells where they go where it does not.

    Members are the arrays of `(problem, y0, args)`, and `rest` what solves hold beside those, the
    same for all; `aux` is the schedule. The derivative of the witness is not given here.
    """

    rest: Any
    witness: bool = False

    def unpack(self, member: Any) -> tuple[Problem, Any, Any]:
        return eqx.combine(member, self.rest)

    def num_columns(self, member: Any) -> int:
        del member
        return 1 + self.witness

    def init(self, members: Any) -> tuple[PrimalAndTangents, Any]:
        def begin(member: Any) -> tuple[jax.Array, Any]:
            problem, y0, args = self.unpack(member)
            schedule = None if problem.jumps is None else problem.jumps.schedule(args)
            return ravel_pytree(y0)[0][:, None], schedule

        z0, aux = jax.vmap(begin, out_axes=(-1, 0))(members)
        if self.witness:
            z0 = jnp.concatenate([z0, witness_direction(z0)], axis=1)
        return z0, aux

    def field(self, members: Any, aux: Any) -> Field:
        del aux

        def of_all(t: jax.Array, z: PrimalAndTangents, held: Any) -> PrimalAndTangents:
            (between,) = held or (None,)
            return self.slopes(members, t, z[:, 0], between)[:, None]

        return of_all

    def schedule(self, aux: Any) -> Schedule:
        return aux

    def between(self, aux: Any, i: jax.Array) -> tuple[Any, ...]:
        return (row_at(aux.between, i),)

    def jump(
        self, member: Any, aux: Any, jump_map: JumpMap, z: Float[Array, "element column"]
    ) -> Float[Array, "element column"]:
        _, _, args = self.unpack(member)
        return jump_map(z[:, 0], aux, args)[:, None]

    def error(
        self,
        controller: diffrax.AbstractStepSizeController,
        aux: Any,
        step: Step,
        watched: Bool[Array, ""],
    ) -> tuple[Float[Array, " element"], Bool[Array, ""]]:
        del aux
        if not self.witness:
            return step[-1][:, 0], watched
        return error_with_tangents(controller, jnp.ones(1, step[0].dtype), step, watched)
