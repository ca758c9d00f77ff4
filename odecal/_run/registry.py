"""The classes and functions that a file may name: those of settings, and no others.

Nothing is imported for a name, and no name leads through a module to what that has imported.
"""

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import diffrax
import lineax
import optimistix

FUNCTIONS: tuple[Callable[..., Any], ...] = (
    optimistix.max_norm,
    optimistix.rms_norm,
    optimistix.two_norm,
    lineax.GMRES(1.0, 1.0).norm,
    diffrax.adjoint_rms_seminorm,
)
# Diffrax's stand-in for the tolerances of the step-size controller.
CONSTANTS: dict[str, Any] = {"diffrax:use_stepsize_tol": diffrax.Kvaerno5().root_finder.rtol}


@cache
def _bases() -> tuple[type, ...]:
    """What a class must derive from; our own classes of these kinds are loaded with it."""
    from odecal import adjoints, centring, samplers
    from odecal._system.solve import Solve

    for package in (adjoints, samplers):
        for name in package.__all__:
            getattr(package, name)
    return (
        Solve,
        adjoints.AbstractAdjoint,
        centring.AbstractCentring,
        samplers.AbstractMetric,
        samplers.AbstractSampler,
        diffrax.AbstractAdjoint,
        diffrax.AbstractSolver,
        diffrax.AbstractStepSizeController,
        lineax.AbstractLinearSolver,
        optimistix.AbstractAdjoint,
        optimistix.AbstractRootFinder,
    )


def name_of(thing: Any) -> str:
    """The name of a class or a function."""
    return f"{thing.__module__}:{thing.__qualname__}"


def known_class(name: Any) -> type[Any]:
    """The class of settings of a name, among those that are loaded.

    Raises:
        ImportError: if there is none.
    """
    bases = _bases()
    module, _, path = str(name).partition(":")
    thing: Any = sys.modules.get(module)
    for part in path.split("."):
        thing = vars(thing).get(part) if isinstance(thing, (type, types.ModuleType)) else None
    if not (isinstance(thing, type) and issubclass(thing, bases) and name_of(thing) == name):
        raise ImportError(f"{name!r} is no class of settings that is known here")
    if not dataclasses.is_dataclass(thing) or inspect.isabstract(thing):
        raise ImportError(f"{name!r} cannot be made from its fields")
    return thing


def known_function(name: Any) -> Callable[..., Any]:
    """The function of a name, among the norms of Diffrax and Optimistix.

    Raises:
        ImportError: if there is none.
    """
    for function in FUNCTIONS:
        if name_of(function) == name:
            return function
    raise ImportError(f"{name!r} is no function that a file may name")


def field_types(cls: type) -> dict[str, Any]:
    """What each field of a class is declared to be, as far as that can be told."""
    try:
        return typing.get_type_hints(cls)
    except Exception:  # names that exist for type checkers alone
        return {}


def accepts(declared: Any, value: Any) -> bool:
    """Whether a value is of a declared type, as far as that can be told."""
    if declared is Any or any(value is x for x in CONSTANTS.values()):
        return True
    origin = typing.get_origin(declared)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(x, value) for x in typing.get_args(declared))
    if origin is typing.Literal:
        return value in typing.get_args(declared)
    if origin is Callable or declared is Callable:
        return callable(value)
    kind = origin or declared
    if not isinstance(kind, type):
        return True
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
