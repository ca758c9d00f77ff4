"""The classes and functions that a file may name: those of settings, and no others.

Nothing is imported for a name, and no name leads through a module to what that has imported.
"""

import dataclasses
import inspect
import itertools
import sys
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

import diffrax
import lineax
import optimistix

from odecal import adjoints, centring, samplers
from odecal._system.solve import Solve

_BASES = (
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
# Diffrax's stand-in for the tolerances of the step-size controller.
CONSTANTS: dict[str, Any] = {"diffrax:use_stepsize_tol": diffrax.Kvaerno5().root_finder.rtol}


@cache
def _public() -> dict[str, Any]:
    """Every class and function that a file may name, of odecal and of what it builds on.

    Of each package, the classes of settings that it exports, such as `odecal.samplers:NUTS`.
    """
    packages = (adjoints, centring, samplers, diffrax, lineax, optimistix)
    exported = [getattr(p, name) for p in packages for name in getattr(p, "__all__", dir(p))]
    norms = (
        optimistix.max_norm,
        optimistix.rms_norm,
        optimistix.two_norm,
        lineax.GMRES(1.0, 1.0).norm,
        diffrax.adjoint_rms_seminorm,
    )
    known = (Solve, *filter(_is_settings, exported), *norms)
    return {_without_files(_full_name(x)): x for x in known}


def name_of(thing: Any, kind: type[Any]) -> str:
    """The name by which a file knows a class (of kind `type`) or a function (`FunctionType`).

    Raises:
        TypeError: if it could not be found again by it.
    """
    full = _full_name(thing)
    for name in (_without_files(full), full):
        try:
            if known(name, kind) is thing:
                return name
        except ImportError:
            continue
    raise TypeError(f"{thing!r} cannot be found by a name")


def known(name: Any, kind: type[Any]) -> Any:
    """The class of settings, or the norm, of a name.

    It is one that a package exports, also by the name of the file in which it is or was, or a class
    of a module that is loaded, such as the file of a user's system.

    Raises:
        ImportError: if there is none.
    """
    found = _public().get(_without_files(str(name)))
    if isinstance(found, kind):
        return found
    module, _, path = str(name).partition(":")
    thing: Any = sys.modules.get(module)
    for part in path.split("."):
        thing = vars(thing).get(part) if isinstance(thing, (type, types.ModuleType)) else None
    if not (_is_settings(thing) and isinstance(thing, kind) and _full_name(thing) == name):
        raise ImportError(f"{name!r} is no class of settings, nor a norm, that is known here")
    return thing


def _is_settings(thing: Any) -> bool:
    """Whether something is a class that is made from its fields, and of the kinds of settings."""
    fits = isinstance(thing, type) and issubclass(thing, _BASES) and dataclasses.is_dataclass(thing)
    return fits and not inspect.isabstract(thing)


def _full_name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _without_files(name: str) -> str:
    """A name of which the module ends at its package: without private modules."""
    module, _, path = name.partition(":")
    parts = itertools.takewhile(lambda part: not part.startswith("_"), module.split("."))
    return f"{'.'.join(parts)}:{path}"


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
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)
