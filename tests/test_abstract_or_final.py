"""Every class is abstract or final: the pattern of Equinox, https://docs.kidger.site/equinox/pattern/.

A class that is subclassed is abstract, no concrete method is overridden, and all fields stand in
one class: what a method does is read in one place. To hold a room to it, add it to `ROOMS`.
"""

import dataclasses
import importlib
import inspect
import pkgutil

import pytest

ROOMS = [
    "odecal.adjoints",
    "odecal.noise",
    "odecal.links",
    "odecal.centring",
    "odecal._jax",
    "odecal.samplers",
    "odecal._system",
    "odecal._data",
    "odecal._solve",
    "odecal._model",
    "odecal._run",
    "odecal._simulate",
    "odecal._results",
    "odecal._inference",
    "odecal._cli",
]


def classes(room):
    package = importlib.import_module(room)
    names = [m.name for m in pkgutil.walk_packages(getattr(package, "__path__", ()), f"{room}.")]
    modules = [package, *map(importlib.import_module, names)]
    every = {c for m in modules for c in vars(m).values() if inspect.isclass(c)}
    return {c for c in every if dataclasses.is_dataclass(c) and c.__module__.startswith(room)}


def is_abstract(cls):
    return inspect.isabstract(cls) or bool(getattr(cls, "__abstractvars__", ()))


def concrete_methods(cls):
    """Those of its own; dataclasses and Equinox give every class dunder methods."""
    found = {
        name
        for name, x in vars(cls).items()
        if (isinstance(x, property) or inspect.isroutine(inspect.unwrap(x)))
        and (name == "__call__" or not name.startswith("__"))
    }
    return found - set(getattr(cls, "__abstractmethods__", ()))


def own_fields(cls):
    every = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return {field.name for field in every} & inspect.get_annotations(cls).keys()


@pytest.mark.parametrize("room", ROOMS)
def test_every_class_is_abstract_or_final(room):
    for cls in classes(room):
        bases = [base for base in cls.__mro__[1:] if base.__module__.startswith("odecal")]
        for base in bases:
            assert is_abstract(base), f"{cls} derives from {base}, which is concrete"
            overridden = concrete_methods(base) & vars(cls).keys()
            assert not overridden, f"{cls} overrides {overridden} of {base}"
        assert sum(map(bool, map(own_fields, (cls, *bases)))) <= 1, f"fields of {cls} are in bases"
