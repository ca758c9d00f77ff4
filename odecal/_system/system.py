"""The base class that a scientist derives a system from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from keyword import iskeyword
from pathlib import Path
from typing import Any, ClassVar
from unicodedata import normalize

import numpy as np

from odecal._errors import DeclarationError, listed, suggestion
from odecal._system.base import Component, is_number, is_prior, shown
from odecal._system.checks import check_declaration
from odecal._system.components import Constant, Observable, Parameter, State
from odecal._system.declaration import Declaration, initial_name
from odecal._system.describe import describe
from odecal._system.solve import Solve
from odecal._system.values import Values
from odecal._system.varying import Varying, as_group

# Names that results and compiled models use for their own dimensions and sites.
_RESERVED = (
    "chain",
    "draw",
    "time",
    "observation",
    "replicate",
    "solve_failed",
    "solver_steps",
)


class System:
    """A system of ordinary differential equations, dy/dt = f(t, y, p), with its observables.

    Derive a class, declare its parts as class attributes, and give its vector field:

        class Decay(System):
            amount = State(initial=1.0, unit="mg")
            rate = Parameter(dist.LogNormal(0.0, 1.0), unit="1/h")
            sigma = Parameter(dist.HalfNormal(0.1), unit="mg")

            def vector_field(self, t, y, p):
                return {"amount": -p.rate * y.amount}

            measured = Observable(lambda t, y, p: odecal.noise.Normal(y.amount, p.sigma))

    An instance is the system as declared; `Decay(rate=0.5)` fixes a parameter, `Decay(rate=
    dist.Normal(...))` replaces its prior, `Decay(amount=2.0)` (or `amount0=2.0`) sets an initial
    value, and `Decay(measured=None)` leaves an observable out. A subclass extends a system.

    Class attributes, all optional:
        time_unit: the unit of time, as text.
        time_column: the name of the time column of its tables. Without it: `time` or `t`, or else
            the only column that is not an observable.
        ignored_columns: a column, or columns, of its tables that are not used.
        individual: the column, or columns, of its tables that tell individuals apart: subjects,
            plots, reactors, each of which is solved for by itself. None takes those of the groups
            that parameters vary over.
        t0: the initial time; None takes the first time of the observations.
        coords: the labels of every named dimension, by name.
        solve: how it is solved by default.
        data: the path of a table of observations that comes with it.

    Args:
        t0: overrides the initial time.
        coords: overrides labels of dimensions.
        **overrides: overrides of parts, by name: a number fixes, a distribution is a prior, None
            leaves an observable or a derived quantity out.

    Raises:
        DeclarationError: when the class is made, or an instance, if something does not fit.
    """

    time_unit: ClassVar[str] = ""
    time_column: ClassVar[str | None] = None
    ignored_columns: ClassVar[str | Sequence[str]] = ()
    individual: ClassVar[str | Sequence[str] | None] = None
    t0: float | None = None
    coords: Mapping[str, Sequence[Any]] = {}
    solve: ClassVar[Solve] = Solve()
    data: ClassVar[str | Path | None] = None

    declaration: Declaration
    _components: ClassVar[dict[str, Component]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._components = _collect(cls)
        _check_coords(cls.__name__, cls.coords)
        _check_attributes(cls)
        complete = cls.vector_field is not System.vector_field
        dims = {dim for c in cls._components.values() for dim in c.dims}
        if complete and dims <= set(cls.coords):
            cls()

    def __init__(
        self,
        /,
        *,
        t0: float | None = None,
        coords: Mapping[str, Sequence[Any]] | None = None,
        **overrides: Any,
    ) -> None:
        components = _override(type(self).__name__, self._components, overrides)
        _check_coords(type(self).__name__, coords or {})
        labels = {**self.coords, **(coords or {})}
        _check_dims(type(self).__name__, components, labels)
        declaration = Declaration(
            type(self).__name__,
            components,
            {dim: np.asarray(values) for dim, values in labels.items()},
            self.vector_field,
            _initial_time(type(self).__name__, type(self).t0 if t0 is None else t0),
            self.time_unit,
            self.time_column,
            self.ignored_columns,
            self.individual,
        )
        fields = {"coords": declaration.coords, "t0": declaration.t0, **components}
        for name, value in {"declaration": declaration, **fields}.items():
            object.__setattr__(self, name, value)
        check_declaration(declaration)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"{type(self).__name__} is frozen: cannot set `{name}`. Make a new instance with "
            f"{type(self).__name__}({name}=...)."
        )

    def vector_field(self, t: Any, y: Any, p: Any) -> Mapping[str, Any]:
        """The time derivative of every state.

        Args:
            t: time.
            y: the states, by name: `y.hare`.
            p: parameters, constants and initial values, by name: `p.birth`.

        Returns:
            The derivative of each state by its name, of the shape of the state, in the unit of
            the state over the unit of time.
        """
        raise DeclarationError(
            f"{type(self).__name__} has no vector_field. Expected a method "
            "`def vector_field(self, t, y, p)` that returns the derivative of every state."
        )

    def __repr__(self) -> str:
        return describe(self.declaration)


def _collect(cls: type[System]) -> dict[str, Component]:
    """The parts that a class declares or inherits, in order; an attribute set to None drops one."""
    components: dict[str, Component] = {}
    for base in reversed(cls.__mro__):
        own: dict[str, Component] = {}
        for name, value in vars(base).items():
            if isinstance(value, Component):
                _check_name(cls, name)
                own[name] = value
            elif name in components:
                del components[name]
            elif isinstance(value, type) and issubclass(value, Component):
                raise DeclarationError(
                    f"{cls.__name__}.{name} is the class {value.__name__}. Expected an object, "
                    f"such as {value.__name__}(...)."
                )
        components = _extended(components, own)
    initials: dict[str, str] = {}
    for state in (n for n, c in components.items() if isinstance(c, State)):
        other = initials.setdefault(initial_name(state), state)
        if other != state:
            raise DeclarationError(
                f"The states `{other}` and `{state}` of {cls.__name__} would share the name "
                f"`{initial_name(state)}` for their initial values. Expected different ones. "
                "Rename one of them."
            )
    for name in components:
        if name in initials:
            raise DeclarationError(
                f"{cls.__name__}.{name} has the name of the initial value of the state "
                f"`{initials[name]}`. Expected another name. Rename one of them; inside the "
                f"system's functions that initial value is p.{name}."
            )
    return components


def _extended(components: dict[str, Component], own: dict[str, Component]) -> dict[str, Component]:
    """The parts with those of a subclass: redeclared ones keep their place, new ones come last.

    But new varying parameters come before what the subclass redeclares behind them: its location
    may use what is declared before it.
    """
    names, parts = list(components), components | own
    place = len(names)  # of the first part that is redeclared behind the one at hand
    for name, part in reversed(own.items()):
        if name in components:
            place = min(place, names.index(name))
        elif place < len(names) and isinstance(part, Varying):
            names.insert(place, name)
    return {name: parts[name] for name in dict.fromkeys([*names, *own])}


def _check_name(cls: type[System], name: str) -> None:
    """Refuse names that mean something else already."""
    dims = cls.coords if isinstance(cls.coords, Mapping) else ()
    taken = {*_RESERVED, *dir(System), *System.__annotations__, *dir(Values), *dims}
    if not name.isidentifier() or iskeyword(name) or normalize("NFKC", name) != name:
        raise DeclarationError(
            f"{cls.__name__}.{name!a} cannot be the name of a part, since `y.name` and `p.name` "
            "would not reach it. Expected a name as of a variable of Python. Rename it."
        )
    if name.startswith("_") or name in taken:
        raise DeclarationError(
            f"{cls.__name__}.{name} cannot be the name of a part: it starts with an underscore, or "
            f"is used otherwise (by a dim, by System, or by results: {listed(_RESERVED)}). "
            "Expected another name. Rename it."
        )


def _check_attributes(cls: type[System]) -> None:
    """Refuse class attributes that are not what they should be."""
    ignored = cls.ignored_columns
    if cls.individual is not None:
        as_group(cls.individual)
    for name, good, expected in (
        ("time_unit", isinstance(cls.time_unit, str), "text"),
        ("time_column", isinstance(cls.time_column, str | None), "the name of a column, or None"),
        (
            "ignored_columns",
            isinstance(ignored, str)
            or (isinstance(ignored, (tuple, list)) and all(isinstance(x, str) for x in ignored)),
            'the name of a column, or names in a row, such as ("note", "WT")',
        ),
        ("solve", isinstance(cls.solve, Solve), "odecal.Solve(...)"),
        ("data", isinstance(cls.data, str | Path | None), "the path of a table, or None"),
    ):
        if not good:
            raise DeclarationError(
                f"{cls.__name__}.{name} expects {expected}. Got {shown(getattr(cls, name))}. "
                "Correct it."
            )


def _check_coords(system: str, coords: Any) -> None:
    """Refuse labels that are none."""
    good = isinstance(coords, Mapping) and all(
        isinstance(dim, str) and dim and not isinstance(labels, str) and np.ndim(labels) == 1
        for dim, labels in coords.items()
    )
    if not good:
        raise DeclarationError(
            f"coords of {system} expects the labels of each dim in a row, such as "
            f'{{"age": ["child", "adult"]}}. Got {shown(coords)}.'
        )
    for dim, labels in coords.items():
        texts = [str(label) for label in labels]
        if not texts or len(set(texts)) < len(texts):
            raise DeclarationError(
                f"coords of {system} expects labels of `{dim}` that differ as text, at least one. "
                f"Got {listed(texts)}. Rename or add some."
            )


def _initial_time(system: str, t0: Any) -> float | None:
    """The initial time, None for the first one of the observations."""
    if t0 is None:
        return None
    if not (is_number(t0) and np.ndim(t0) == 0):
        raise DeclarationError(
            f"{system}(t0=...) expects a finite number, the initial time, or None for the first "
            f"time of the observations. Got {shown(t0)}."
        )
    return float(t0)


def _check_dims(
    system: str, components: Mapping[str, Component], coords: Mapping[str, Any]
) -> None:
    """Refuse dims that a result has already."""
    for dim in [*coords, *(dim for c in components.values() for dim in c.dims)]:
        if dim in _RESERVED or dim in components:
            raise DeclarationError(
                f"{system} has a dim `{dim}`, which results or one of its parts are named like. "
                "Expected another name. Rename the dim."
            )


def _override(
    system: str, components: Mapping[str, Component], overrides: Mapping[str, Any]
) -> dict[str, Component]:
    """Apply an instance's overrides to the declared parts."""
    result = dict(components)
    initials = {initial_name(n): n for n, c in components.items() if isinstance(c, State)}
    given: dict[str, str] = {}
    for key, value in overrides.items():
        name = initials.get(key, key)
        if name not in components:
            known = [*components, *initials]
            raise DeclarationError(
                f"{system}({key}=...) names nothing that {system} declares. Expected one of: "
                f"{listed(components)}." + suggestion(key, known)
            )
        if name in given:
            raise DeclarationError(
                f"{system}({given[name]}=..., {key}=...) sets the initial value of `{name}` twice. "
                "Give one of them."
            )
        given[name] = key
        replaced = _replaced(system, key, components[name], value)
        if replaced is None:
            del result[name]
        else:
            result[name] = replaced
    return result


def _replaced(system: str, key: str, component: Component, value: Any) -> Component | None:
    """The part with one override applied; None to leave it out."""
    if isinstance(value, type(component)):
        return value
    about = {"unit": component.unit, "dims": component.dims, "description": component.description}
    function = callable(value) and not isinstance(value, type)
    initial = is_number(value) or is_prior(value) or function
    if isinstance(component, State) and (initial or isinstance(value, Varying)):
        return replace(component, initial=value)
    if isinstance(component, (Parameter, Constant, Varying)):
        if is_number(value):
            return Constant(value, **about)
        if is_prior(value):
            return Parameter(value, **about)
        if isinstance(value, (Parameter, Constant, Varying)):
            return value
    elif not isinstance(component, State):
        if value is None:
            return None
        if isinstance(component, Observable) and callable(value):
            return replace(component, law=value)
    expected = {
        State: "a number, a distribution or a function of the parameters",
        Parameter: "a number (to fix it) or a distribution (as its prior)",
        Constant: "a number, or a distribution (to make it unknown)",
        Varying: "a number, a distribution (one value for all) or Parameter.varying(...)",
    }.get(type(component), f"None (to leave it out) or a {type(component).__name__}")
    raise DeclarationError(f"{system}({key}=...) expects {expected}. Got {shown(value)}.")
