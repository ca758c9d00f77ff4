"""The declared model as a table of plain text."""

from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._components import Component, Constant, Derived, Observable, Parameter, State, _is_prior
from odecal._declaration import initial_name

if TYPE_CHECKING:
    from odecal._system import System


def describe(system: "System") -> str:
    """Every part of a system: its kind, name, value or prior, unit and description."""
    declaration = system.declaration
    rows = [
        (kind.__name__.lower(), _name(name, c), _value(name, c), c.unit, c.description)
        for kind in (State, Parameter, Constant, Observable, Derived)
        for name, c in declaration.of(kind).items()
    ]
    time = f"time in {system.time_unit}" if system.time_unit else "time"
    start = "the first observation" if system.t0 is None else f"{system.t0:g}"
    return "\n".join([f"{declaration.name}: {time}, from {start}", *_table(rows)])


def show_prior(prior: Any) -> str:
    """A distribution in a few words: `LogNormal(loc=2.3, scale=1)`."""
    base = prior
    while type(base).__name__ in ("ExpandedDistribution", "Independent"):
        base = base.base_dist
    inner = getattr(base, "base_dist", base)
    truncated = "Truncated" in type(base).__name__
    shown = inner if truncated else base
    arguments = [
        f"{name}={_number(getattr(shown, name))}"
        for name in shown.arg_constraints
        if isinstance(getattr(shown, name, None), (int, float))
        or hasattr(getattr(shown, name, None), "shape")
    ]
    if truncated:
        arguments += [
            f"{side}={_number(getattr(base, side))}"
            for side in ("low", "high")
            if getattr(base, side, None) is not None
        ]
    name = type(shown).__name__
    return f"{'Truncated' if truncated else ''}{name}({', '.join(arguments)})"


def _name(name: str, component: Component) -> str:
    return f"{name}[{', '.join(component.dims)}]" if component.dims else name


def _value(name: str, component: Component) -> str:
    if isinstance(component, State):
        initial = component.initial
        if _is_prior(initial):
            return f"{initial_name(name)} ~ {show_prior(initial)}"
        if callable(initial):
            return f"{initial_name(name)} from the parameters"
        return f"{initial_name(name)} = {_number(initial)}"
    if isinstance(component, Parameter):
        return f"~ {show_prior(component.prior)}"
    if isinstance(component, Constant):
        return f"= {_number(component.value)}"
    if isinstance(component, Observable) and component.over_interval:
        if component.interval is not None:
            return f"over an interval of {component.interval:g}"
        return "over the interval since the previous observation"
    return ""


def _number(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{float(array):.4g}"
    text = np.array2string(array, precision=4, separator=", ", threshold=6)
    return text.replace("\n", "")


def _table(rows: list[tuple[str, str, str, str, str]]) -> list[str]:
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(5)]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
