"""What every declared part has, and what may stand in one."""

import abc
import inspect
from typing import Any

import numpy as np
import numpyro.distributions as dist

from odecal._errors import DeclarationError

Dims = tuple[str, ...]


def _as_dims(dims: Any) -> Dims:
    names = (dims,) if isinstance(dims, str) else dims
    if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
        raise DeclarationError(
            f"dims=... expects the name of a dimension, or a tuple of names. Got {shown(dims)}."
        )
    if len(set(names)) < len(names):
        raise DeclarationError(
            f"dims=... expects different names. Got {shown(dims)}. For a dimension against itself "
            "give the second one a name of its own, with the same labels in `coords`."
        )
    return tuple(names)


class Component(abc.ABC):
    """What every declared part has. Each kind of part is a frozen dataclass with these fields.

    To write one of your own: derive a dataclass with `frozen=True, eq=False`, give it these three
    fields beside its own, and refuse in `check` what cannot be.
    """

    unit: str
    dims: Any
    description: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", _as_dims(self.dims))
        for field in ("unit", "description"):
            if not isinstance(getattr(self, field), str):
                raise DeclarationError(
                    f"{type(self).__name__}({field}=...) expects text. "
                    f"Got {getattr(self, field)!r}."
                )
        self.check()

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse what cannot be declared."""


def check_column(component: Component, column: Any) -> None:
    """Refuse a column of a table that is not named by text; None is for none."""
    if column is not None and not isinstance(column, str):
        raise DeclarationError(
            f"{type(component).__name__}(column) expects the name of a column of the table. "
            f"Got {shown(column)}."
        )


def is_prior(x: Any) -> bool:
    """Whether it is a distribution, as priors are."""
    return isinstance(x, dist.Distribution)


def is_number(x: Any) -> bool:
    """Whether it is a finite real number, or an array of such."""
    if isinstance(x, (str, bytes, bool)) or x is None or callable(x) or is_prior(x):
        return False
    try:
        array = np.asarray(x)
    except (TypeError, ValueError):
        return False
    if np.ma.is_masked(x):
        return False
    return array.dtype.kind in "iuf" and bool(np.all(np.isfinite(array)))


def num_positional(function: Any) -> int | None:
    """How many positional arguments a function takes, None where that is not fixed."""
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


def shown(x: Any) -> str:
    """What was given, and its type, as messages say it."""
    return f"{x!r} ({type(x).__name__})"
