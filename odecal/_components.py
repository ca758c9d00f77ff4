"""The parts that a system is declared with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpyro.distributions as dist

from odecal._errors import DeclarationError

Dims = tuple[str, ...]


def _as_dims(dims: Any) -> Dims:
    names = (dims,) if isinstance(dims, str) else dims
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise DeclarationError(
            f"dims=... expects the name of a dimension, or a tuple of names. Got {_shown(dims)}."
        )
    if len(set(names)) < len(names):
        raise DeclarationError(
            f"dims=... expects different names. Got {_shown(dims)}. For a dimension against itself "
            "give the second one a name of its own, with the same labels in `coords`."
        )
    return tuple(names)


@dataclass(frozen=True, eq=False)
class Component:
    """What every declared part has.

    Args:
        unit: the unit, as text; an attribute in every result.
        dims: named dimensions of a vector-valued part; their lengths and labels are in the
            system's `coords`.
        description: one line for tables and results.
    """

    unit: str = ""
    dims: Any = ()
    description: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", _as_dims(self.dims))
        for field in ("unit", "description"):
            if not isinstance(getattr(self, field), str):
                raise DeclarationError(
                    f"{type(self).__name__}({field}=...) expects text. "
                    f"Got {getattr(self, field)!r}."
                )


@dataclass(frozen=True, init=False, eq=False)
class State(Component):
    """A state of the system, integrated in time.

    Args:
        initial: its value at `t0`: a number, a prior (a NumPyro distribution), or a function of
            the parameters, `lambda p: ...`. It is named like the state with a 0
            behind it (`p.hare0`; `p.x1_0` for a state `x1`); a prior makes it an unknown.
        unit: the unit.
        dims: named dimensions, for a vector-valued state.
        description: one line.

    Raises:
        DeclarationError: if `initial` is none of the three.
    """

    initial: Any = None

    def __init__(self, initial: Any, unit: str = "", dims: Any = (), description: str = "") -> None:
        object.__setattr__(self, "initial", initial)
        super().__init__(unit, dims, description)
        if not (_is_number(initial) or _is_prior(initial) or callable(initial)):
            raise DeclarationError(
                "State(initial=...) expects a number, a NumPyro distribution or a function of the "
                f"parameters. Got {_shown(initial)}."
            )


@dataclass(frozen=True, init=False, eq=False)
class Parameter(Component):
    """An unknown of the system, with its prior.

    It is sampled on an unconstrained scale: a positive one by its logarithm, a bounded one through
    the bijection of its prior's support.

    Args:
        prior: a continuous NumPyro distribution. With `dims`, a scalar prior holds for each
            element independently.
        unit: the unit.
        dims: named dimensions, for a vector-valued parameter.
        description: one line.

    Raises:
        DeclarationError: if the prior is not a continuous distribution.
    """

    prior: Any = None

    def __init__(self, prior: Any, unit: str = "", dims: Any = (), description: str = "") -> None:
        object.__setattr__(self, "prior", prior)
        super().__init__(unit, dims, description)
        if not _is_prior(prior):
            raise DeclarationError(
                "Parameter(prior) expects a NumPyro distribution, such as "
                f"numpyro.distributions.LogNormal(0.0, 1.0). Got {_shown(prior)}. "
                "For a known value use Constant(value)."
            )


@dataclass(frozen=True, init=False, eq=False)
class Constant(Component):
    """A known number: a population size, a dose, a volume.

    Args:
        value: the number, or an array of the shape of its `dims`.
        unit: the unit.
        dims: named dimensions, for a vector.
        description: one line.

    Raises:
        DeclarationError: if the value is not a finite number or array of numbers.
    """

    value: Any = None

    def __init__(self, value: Any, unit: str = "", dims: Any = (), description: str = "") -> None:
        object.__setattr__(self, "value", value)
        super().__init__(unit, dims, description)
        if not _is_number(value):
            raise DeclarationError(
                "Constant(value) expects a finite number or an array of numbers. "
                f"Got {_shown(value)}. For an unknown use Parameter(prior)."
            )


@dataclass(frozen=True, init=False, eq=False)
class Observable(Component):
    """What is measured, and its noise.

    Args:
        law: `lambda t, y, p: ...` gives the distribution of one value observed at time t, from the
            states y and the parameters p there. With a fourth argument, `lambda t, y, p, last:
            ...`, it may also use what changed since the previous observation of this observable:
            `last.t` is that time and `last.y` the states there (`t0` before the first one).
            Incidence is then `last.y.susceptible - y.susceptible`.
        interval: with a fourth argument, a fixed length of the interval in units of time, instead
            of the time since the previous observation: `last.t = t - interval`.
        unit: the unit.
        dims: named dimensions, for a vector-valued observable.
        description: one line.

    Raises:
        DeclarationError: if `law` is not such a function.
    """

    law: Any = None
    interval: float | None = None

    def __init__(
        self,
        law: Callable[..., dist.Distribution],
        unit: str = "",
        dims: Any = (),
        description: str = "",
        *,
        interval: float | None = None,
    ) -> None:
        object.__setattr__(self, "law", law)
        object.__setattr__(self, "interval", interval)
        super().__init__(unit, dims, description)
        arguments = _positional(law)
        if arguments not in (3, 4):
            raise DeclarationError(
                "Observable(...) expects a function of (t, y, p) or (t, y, p, last) that returns "
                f"a NumPyro distribution. Got {_shown(law)}"
                + (f" of {arguments} arguments." if arguments is not None else ".")
            )
        length: Any = interval
        positive = _is_number(length) and np.ndim(length) == 0 and length > 0
        if interval is not None and (arguments != 4 or not positive):
            raise DeclarationError(
                "Observable(..., interval=...) expects a positive length of time, and a function "
                f"of (t, y, p, last). Got interval={interval!r} and {arguments} arguments."
            )

    @property
    def over_interval(self) -> bool:
        """Whether it depends on what changed since the previous observation."""
        return _positional(self.law) == 4


@dataclass(frozen=True, init=False, eq=False)
class Derived(Component):
    """A quantity computed from the parameters, reported with the posterior.

    Args:
        function: `lambda p: ...`.
        unit: the unit.
        dims: named dimensions, for a vector.
        description: one line.

    Raises:
        DeclarationError: if it is not a function of one argument.
    """

    function: Any = None

    def __init__(
        self,
        function: Callable[[Any], Any],
        unit: str = "",
        dims: Any = (),
        description: str = "",
    ) -> None:
        object.__setattr__(self, "function", function)
        super().__init__(unit, dims, description)
        if _positional(function) != 1:
            raise DeclarationError(
                f"Derived(...) expects a function of the parameters, `lambda p: ...`. "
                f"Got {_shown(function)}."
            )


def _is_prior(x: Any) -> bool:
    return isinstance(x, dist.Distribution)


def _is_number(x: Any) -> bool:
    if isinstance(x, (str, bytes, bool)) or x is None or callable(x) or _is_prior(x):
        return False
    try:
        array = np.asarray(x)
    except (TypeError, ValueError):
        return False
    return array.dtype.kind in "iuf" and bool(np.all(np.isfinite(array)))


def _positional(function: Any) -> int | None:
    """How many positional arguments a function takes, None where that is not fixed."""
    import inspect

    if not callable(function) or isinstance(function, type):
        return None
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
        for p in parameters
    )


def _shown(x: Any) -> str:
    return f"{x!r} ({type(x).__name__})"
