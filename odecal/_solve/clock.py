"""The times at which a vector field switches, found in its jaxpr.

They are where it compares the time with something: `t > 5`, `jnp.interp(t, hours, values)`,
`t % 24 < 2`. Between its stages a step sees nothing of a pulse, so none may pass such a time.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# What compares, and what bends where two things are equal.
_COMPARED = {"gt", "lt", "ge", "le", "eq", "ne"}
_SHAPED = {"broadcast_in_dim", "squeeze", "reshape", "convert_element_type", "copy", "slice"}
# What only calls another program.
_CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat"}
# At most so many times of one recurring switch, and so many forms of one value.
_MAX_TIMES, _MAX_FORMS = 4096, 8


class Clock(NamedTuple):
    """A value that depends on the time: s·t + o, or, if it recurs, (s·t + o) mod period + shift.

    With `steps` it is instead s·t + o rounded down to a multiple of the period.
    """

    slope: Any  # s
    offset: Any  # o
    period: Any = None  # None where it does not recur
    shift: Any = 0.0
    steps: bool = False


@dataclass(frozen=True, eq=False)
class Fixed:
    """A value that depends on neither the time nor the state; computed where it is needed."""

    value: Callable[[], Any]


TIME = (Clock(1.0, 0.0),)
Value = tuple[Clock, ...] | Fixed | None


def switch_times(
    program: Any, inputs: Sequence[Value], start: Float[Array, ""], span: float
) -> Float[Array, " time"] | None:
    """The times at which the program of a vector field, a closed jaxpr, switches; None for none.

    They rise, each once, infinity for what never comes. An input is `TIME`, `Fixed`, or None for
    any other; recurring switches are found from the start for as long as the span.
    """
    switches = _Switches([], start, span)
    _followed(program.jaxpr, program.consts, inputs, switches)
    if not switches.times:
        return None
    times = jnp.concatenate([jnp.ravel(jnp.asarray(x, start.dtype)) for x in switches.times])
    return merged(jax.lax.stop_gradient(times))


def merged(times: Float[Array, " time"]) -> Float[Array, " time"]:
    """Times in order, and each only once."""
    times = jnp.sort(jnp.where(jnp.isnan(times), jnp.inf, times))
    again = times[1:] <= times[:-1]
    return jnp.sort(jnp.where(jnp.append(False, again), jnp.inf, times))


class _Switches(NamedTuple):
    """Where times are collected; `start` and `span` are those of `switch_times`."""

    times: list[Any]
    start: jax.Array
    span: float

    def note(self, times: Any, sharp: bool) -> None:
        """Note times; of a jump the last before it and the first after it, by rounding."""
        times = jnp.asarray(times, self.start.dtype)
        apart = 2 * jnp.finfo(times.dtype).eps * jnp.abs(times)
        self.times.extend([times - apart, times + apart] if sharp else [times])

    def where_equal(self, clock: Clock, level: Any, sharp: bool) -> None:
        """Note when a clock is at a level, where there is a jump or else a kink."""
        slope, offset, period, shift, steps = clock
        if period is None:
            self.note(jnp.divide(level - offset, slope), sharp)
            return
        if not all(isinstance(x, (int, float, np.ndarray)) for x in (slope, period)):
            return  # how often is not known before the solve
        slope, period = np.asarray(slope, float), np.asarray(period, float)
        if slope.size != 1 or period.size != 1 or slope == 0 or period == 0:
            return
        interval = float(abs(period.item() / slope.item()))
        count = int(self.span / interval) + 2
        if count > _MAX_TIMES:
            return
        phases = [0.0 * offset] if steps else [level - shift, 0.0 * (level - shift)]
        for phase in phases:  # when it is at the level, and when it begins anew
            first = jnp.ravel((phase - offset) / slope.item())
            first = first + interval * jnp.ceil((self.start - first) / interval)
            self.note(first + interval * jnp.arange(count)[:, None], sharp)


def _followed(jaxpr: Any, consts: Any, inputs: Sequence[Value], switches: _Switches) -> list[Value]:
    """What the results of a jaxpr are; the times at which clocks are compared are noted."""
    known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {var: fixed(x) for var, x in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Value:
        return fixed(atom.val) if hasattr(atom, "val") else known.get(atom)

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        if any(isinstance(x, tuple) for x in values):
            results = _of_clocks(eqn, values, switches)
        elif values and all(isinstance(x, Fixed) for x in values):
            results = _of_fixed(eqn, values)
        else:
            results = [None] * len(eqn.outvars)
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def fixed(x: Any) -> Fixed:
    """A value that is known already."""
    return Fixed(lambda: x)


def _of_fixed(eqn: Any, values: list[Any]) -> list[Value]:
    """The results of an equation of fixed values alone, computed at most once."""

    @cache
    def results() -> list[Any]:
        return _computed(eqn, [x.value() for x in values])

    def result(i: int) -> Fixed:
        return Fixed(lambda: results()[i])

    return [result(i) for i in range(len(eqn.outvars))]


def _computed(eqn: Any, inputs: list[Any]) -> list[Any]:
    """The results of one equation; numbers that are concrete while tracing stay so."""
    traced = any(isinstance(x, jax.core.Tracer) for x in inputs)
    if not traced and eqn.primitive.name == "convert_element_type":
        return [np.asarray(inputs[0]).astype(eqn.params["new_dtype"])]
    bound = eqn.primitive.get_bind_params(eqn.params)
    functions, params = bound if isinstance(bound, tuple) else ([], bound)
    with nullcontext() if traced else jax.ensure_compile_time_eval():
        results = eqn.primitive.bind(*functions, *inputs, **params)
    return results if eqn.primitive.multiple_results else [results]


def _of_clocks(eqn: Any, values: list[Any], switches: _Switches) -> list[Value]:
    """The results of an equation of clocks, and perhaps of fixed or unknown values."""
    name, params = eqn.primitive.name, eqn.params
    nothing: list[Value] = [None] * len(eqn.outvars)
    if name == "SearchSorted" or params.get("name") == "searchsorted":
        if isinstance(values[0], Fixed) and eqn.invars[0].aval.ndim == 1:
            _compared(values[1], _column(eqn, values[0]), switches, sharp=False)
        return nothing
    if name in _CALLS:
        inner = params.get("jaxpr", params.get("call_jaxpr"))
        if inner is None:
            return nothing
        closed = hasattr(inner, "consts")
        program, consts = (inner.jaxpr, inner.consts) if closed else (inner, ())
        return _followed(program, consts, values, switches)
    if name == "cond":
        for branch in params["branches"]:
            _followed(branch.jaxpr, branch.consts, values[1:], switches)
        return nothing
    if name in _COMPARED or name in ("max", "min"):
        _compared(values[0], values[1], switches, sharp=name in _COMPARED)
    if name == "clamp":
        _compared(values[1], values[0], switches, sharp=False)
        _compared(values[1], values[2], switches, sharp=False)
    if name in ("abs", "sign"):
        _compared(values[0], fixed(0.0), switches, sharp=name == "sign")
    return [_moved(eqn, values, switches)] if len(nothing) == 1 else nothing


def _column(eqn: Any, among: Fixed) -> Fixed:
    """The sorted values of a search, with trailing axes for the queries."""
    return Fixed(lambda: jnp.reshape(among.value(), (-1, *(1,) * eqn.invars[1].aval.ndim)))


def _compared(one: Value, other: Value, switches: _Switches, sharp: bool) -> None:
    """Note the times at which two values are the same."""
    if isinstance(one, Fixed):
        one, other = other, one
    if one is None or other is None or isinstance(one, Fixed):
        return
    for clock in one:
        if isinstance(other, Fixed):
            switches.where_equal(clock, other.value(), sharp)
            continue
        for second in other:
            if clock.period is None and second.period is None:
                slope, offset = clock.slope - second.slope, clock.offset - second.offset
                switches.where_equal(Clock(slope, offset), 0.0, sharp)


def _moved(eqn: Any, values: list[Any], switches: _Switches) -> Value:
    """The result of an equation of a clock, as a clock; None where it is none."""
    name = eqn.primitive.name
    if name == "convert_element_type" and not jnp.issubdtype(eqn.params["new_dtype"], jnp.floating):
        stepped = all(c.steps for c in values[0])
        return values[0] if stepped else _recurring(values[0], fixed(1.0), True, switches)
    if name in _SHAPED:
        return tuple(_shaped(eqn, clock) for clock in values[0])
    if name in ("select_n", "max", "min", "clamp"):
        several = values[1:] if name == "select_n" else values
        forms = [c for x in several if x is not None and not isinstance(x, Fixed) for c in x]
        return tuple(forms[:_MAX_FORMS]) or None
    if name == "neg":
        return _scaled(values[0], -1.0)
    if name == "abs":
        return (*values[0], *_scaled(values[0], -1.0))[:_MAX_FORMS]
    if name in ("floor", "ceil", "round", "rem"):
        period = values[1] if name == "rem" else fixed(1.0)
        return _recurring(values[0], period, name != "rem", switches)
    if name in ("add", "sub", "mul", "div"):
        return _combined(name, values[0], values[1])
    return None


def _shaped(eqn: Any, clock: Clock) -> Clock:
    """A clock whose arrays are brought into another shape."""

    def shaped(x: Any) -> Any:
        if not np.ndim(x):
            return x
        return _computed(eqn, [jnp.broadcast_to(x, eqn.invars[0].aval.shape)])[0]

    return clock._replace(
        slope=shaped(clock.slope), offset=shaped(clock.offset), shift=shaped(clock.shift)
    )


def _scaled(clocks: Any, by: Any) -> Any:
    """Clocks times a factor."""
    return tuple(
        Clock(
            c.slope * by,
            c.offset * by,
            None if c.period is None else c.period * by,
            c.shift * by,
            c.steps,
        )
        for c in clocks
    )


def _recurring(clocks: Value, period: Value, steps: bool, switches: _Switches) -> Value:
    """A clock that starts again from zero, or steps, after each period."""
    if clocks is None or isinstance(clocks, Fixed) or not isinstance(period, Fixed):
        return None
    length = _concrete(period.value())
    if length is None or any(c.period is not None for c in clocks):
        return None
    new = tuple(Clock(_plain(c.slope), c.offset, abs(length), 0.0, steps) for c in clocks)
    for clock in new:
        switches.where_equal(clock, 0.0, sharp=True)
    return new


def _combined(name: str, one: Value, other: Value) -> Value:
    """A sum, a difference, a product or a quotient."""
    if isinstance(one, Fixed) and name in ("add", "mul"):
        one, other = other, one
    if one is None or other is None:
        return None
    if isinstance(one, Fixed):  # minus a clock; what is divided by one is followed no further
        return _combined("add", _scaled(other, -1.0), one) if name == "sub" else None
    if not isinstance(other, Fixed):
        return _difference(one, other) if name == "sub" else None
    x = _plain(other.value())
    if name == "mul":
        return _scaled(one, x)
    if name == "div":
        return _scaled(one, 1.0 / x)
    x = x if name == "add" else -x
    return tuple(
        c._replace(offset=c.offset + x) if c.period is None else c._replace(shift=c.shift + x)
        for c in one
    )


def _difference(one: Any, other: Any) -> Value:
    """A clock minus what it is rounded down to is one that recurs; minus a clock, another."""
    first, second = one[0], other[0]
    if first.period is not None:
        return None
    if second.period is None:
        return (Clock(first.slope - second.slope, first.offset - second.offset),)
    fast, faster = _concrete(first.slope), _concrete(second.slope)
    if not second.steps or fast is None or faster is None or not np.isclose(fast, faster):
        return None
    shift = first.offset - second.offset - second.shift
    return (Clock(second.slope, second.offset, second.period, shift),)


def _plain(x: Any) -> Any:
    """A concrete number as one of Python's; anything else as it is."""
    number = _concrete(x)
    return x if number is None else number


def _concrete(x: Any) -> float | None:
    """A number that is known while tracing."""
    if isinstance(x, jax.core.Tracer) or np.size(x) != 1:
        return None
    return float(np.asarray(x).item())
