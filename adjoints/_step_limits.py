"""Times that no step may pass: turns of an input, say."""

from operator import attrgetter
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from odecal.adjoints._rows import row_at


class _State(NamedTuple):
    """The state of a controller with limits."""

    inner: Any
    wanted: jax.Array  # the length of the next step, had no limit cut it short
    passed: jax.Array  # how many limits lie behind


class Limited(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """A controller whose steps end at the next of some times, if not before.

    A step evaluates the vector field at its stages alone, so that its estimate of the error misses
    a peak that rises and falls between them. Unlike `diffrax.ClipStepSizeController` this goes on
    with the length that a step had before a limit cut it short, and it does not search the limits
    at every step.

    Args:
        controller: chooses the steps otherwise.
        limits: the times, rising; infinity for none.
    """

    controller: Any
    limits: Float[Array | np.ndarray, " limit"]

    # Those of the controller within.
    rtol = property(attrgetter("controller.rtol"))
    atol = property(attrgetter("controller.atol"))
    norm = property(attrgetter("controller.norm"))

    def wrap(self, direction: Any) -> "Limited":
        """For a solve backwards in time."""
        limits = jnp.where(direction > 0, self.limits, -jnp.flip(self.limits))
        return Limited(self.controller.wrap(direction), limits)

    def step_end(self, t: jax.Array, end: jax.Array) -> jax.Array:
        """The end of a step from t, with no limit between."""
        return self._cut(end, jnp.searchsorted(self.limits, t, side="right"))

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Any,
        error_order: Any,
    ) -> tuple[Any, _State]:
        """The end of the first step, and the first state."""
        end, inner = self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)
        passed = jnp.searchsorted(self.limits, t0, side="right").astype(jnp.int32)
        return self._cut(end, passed), _State(inner, jnp.asarray(end - t0), passed)

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: Any,
        y1_candidate: Any,
        args: Any,
        y_error: Any,
        error_order: Any,
        controller_state: _State,
    ) -> tuple[Any, Any, Any, Any, _State, Any]:
        """Whether a step is kept, and the next one."""
        inner, wanted, passed = controller_state
        keep, start, end, jumped, inner, result = self.controller.adapt_step_size(
            t0, t1, y0, y1_candidate, args, y_error, error_order, inner
        )
        # A step that was cut short says little about the length of the next.
        length = jnp.asarray(end - start)
        # Between limits that the clock hardly tells apart, at either side of a jump, there is no
        # shorter step; what it is off by is what rounding moves the jump by.
        least = 8 * jnp.finfo(length.dtype).eps * jnp.maximum(jnp.abs(t0), jnp.abs(t1))
        shortest = (t1 - t0 <= least) & (t1 < t0 + wanted)
        start = jnp.where(shortest, t1, start)
        keep = keep | shortest
        cut = keep & (t1 < t0 + wanted)
        length = jnp.where(cut, jnp.maximum(length, wanted), length)
        last = len(self.limits) - 1
        here = row_at(self.limits, jnp.minimum(passed, last)) <= start
        passed = passed + ((passed <= last) & here).astype(passed.dtype)
        end = self._cut(start + length, passed)
        return keep, start, end, jumped, _State(inner, length, passed), result

    def _cut(self, end: jax.Array, passed: jax.Array) -> jax.Array:
        last = len(self.limits) - 1
        limit = row_at(self.limits, jnp.minimum(passed, last))
        return jnp.where(passed <= last, jnp.minimum(end, limit.astype(end.dtype)), end)


def in_unit_time(controller: Any, start: jax.Array, width: jax.Array) -> Any:
    """The controller of a solve whose time runs from 0 to 1 between start and start + width."""
    if not isinstance(controller, Limited):
        return controller
    limits = (controller.limits - start) / jnp.where(width > 0, width, 1.0)
    return eqx.tree_at(lambda c: c.limits, controller, limits)


def without_limits(controller: Any) -> Any:
    """The controller without its limits."""
    return controller.controller if isinstance(controller, Limited) else controller


def with_reversed_limits(other: Any, controller: Any) -> Any:
    """A controller with the limits of another, for a solve in s = −t."""
    if not isinstance(controller, Limited):
        return other
    return Limited(other, -jnp.flip(controller.limits))


def step_end(controller: Any, t: jax.Array, end: jax.Array) -> jax.Array:
    """The end of a step from t, as far as a controller allows it."""
    return controller.step_end(t, end) if isinstance(controller, Limited) else end


def with_scalar_atol(controller: Any) -> Any:
    """The controller with one absolute tolerance, the least, for arrays that are no states."""
    if not jnp.ndim(getattr(controller, "atol", 0.0)):
        return controller
    return eqx.tree_at(lambda c: c.atol, controller, jnp.min(controller.atol))
