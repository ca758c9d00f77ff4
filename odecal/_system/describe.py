"""The declared model as a table of plain text."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from odecal._system.base import Component, is_prior
from odecal._system.components import Constant, Derived, Observable, Parameter, State
from odecal._system.declaration import Declaration, initial_name
from odecal._system.inputs import Event, Input
from odecal._system.varying import Correlation, Covariate, Pooling, Varying

# The kinds of parts, in the order of the table, as they are called there.
_KINDS: dict[type[Component], str] = {
    State: "state",
    Parameter: "parameter",
    Varying: "varying",
    Correlation: "correlation",
    Covariate: "covariate",
    Constant: "constant",
    Input: "input",
    Event: "event",
    Observable: "observable",
    Derived: "derived",
}


def describe(declaration: Declaration) -> str:
    """Every part of a system: its kind, name, value or prior, unit and description."""
    rows = [
        (word, _name(name, c), _value(name, c), c.unit, c.description)
        for kind, word in _KINDS.items()
        for name, c in declaration.of(kind).items()
    ]
    time = f"time in {declaration.time_unit}" if declaration.time_unit else "time"
    start = "the first observation" if declaration.t0 is None else f"{declaration.t0:g}"
    return "\n".join([f"{declaration.name}: {time}, from {start}", *table_of(rows)])


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
        if isinstance(initial, Varying):
            return f"{initial_name(name)} {_varies(initial)}"
        if is_prior(initial):
            return f"{initial_name(name)} ~ {show_prior(initial)}"
        if callable(initial):
            return f"{initial_name(name)} from the parameters"
        return f"{initial_name(name)} = {_number(initial)}"
    if isinstance(component, Parameter):
        return f"~ {show_prior(component.prior)}"
    if isinstance(component, Constant):
        return f"= {_number(component.value)}"
    if isinstance(component, Varying):
        return _varies(component)
    if isinstance(component, Correlation):
        return f"of {', '.join(component.parameters)} ~ LKJ({component.concentration:g})"
    if isinstance(component, (Covariate, Input)):
        how = "" if isinstance(component, Covariate) else f", {_word(component.interpolation)}"
        return f"from the column {component.column or name}{how}"
    if isinstance(component, Event):
        return "where its condition falls below zero"
    if isinstance(component, Observable):
        return ", ".join(_about_values(component))
    return ""


def _about_values(observable: Observable) -> list[str]:
    """What is particular about the values of an observable."""
    facts = []
    if observable.interval is not None:
        facts.append(f"over an interval of {observable.interval:g}")
    elif observable.over_interval:
        facts.append("over the interval since the previous observation")
    if observable.lloq is not None:
        facts.append(f"quantified from {observable.lloq:g}")
    if observable.uloq is not None:
        facts.append(f"quantified up to {observable.uloq:g}")
    return facts


def _varies(parameter: Varying) -> str:
    """How a parameter varies, in words."""
    variation = parameter.variation
    where = f"over {', '.join(variation.group)}"
    linked = show_link(parameter)
    location = _level(variation.location)
    if variation.pooling is Pooling.COMPLETE:
        return f"{linked}= {location}, the same {where}"
    if variation.pooling is Pooling.NONE:
        return f"{linked}~ {location}, unpooled {where}"
    scale = _level(variation.scale)
    return f"{linked}~ Normal({location}, {scale}) {where}, {_centred(variation.centring)}"


def show_link(parameter: Varying) -> str:
    """How the scale of its link is called before the name of a parameter."""
    link = _word(parameter.variation.link)
    return "" if link == "identity" else f"{link} "


def _level(value: Any) -> str:
    """A location or a scale."""
    if is_prior(value):
        return show_prior(value)
    return "a function of the parameters" if callable(value) else _number(value)


def _word(thing: Any) -> str:
    return type(thing).__name__.lower()


def _centred(centring: Any) -> str:
    word = _word(centring)
    return {"noncentred": "non-centred", "partial": "partially centred"}.get(word, word)


def _number(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{float(array):.4g}"
    text = np.array2string(array, precision=4, separator=", ", threshold=6)
    return text.replace("\n", "")


def table_of(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of text as lines, in columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
