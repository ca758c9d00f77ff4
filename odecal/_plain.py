"""Settings as plain data: objects that JSON can hold, and back."""

import dataclasses
import importlib
from typing import Any

import numpy as np


def to_plain(value: Any) -> Any:
    """Describe an object by the name of its class and its fields, all the way down.

    Args:
        value: numbers, texts, None, arrays, types, functions of modules, lists, tuples, dicts, and
            dataclasses of these, such as solvers, adjoints and samplers.

    Returns:
        What `json.dumps` takes.

    Raises:
        TypeError: for anything else, and for what cannot be found by a name, such as a lambda.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [to_plain(x) for x in value]}
    if isinstance(value, dict):
        return {"dict": [[to_plain(k), to_plain(v)] for k, v in value.items()]}
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return {"name": _name(value)}
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": _name(type(value)), "fields": fields}
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    return {"name": _name_of_constant(value)}


def from_plain(plain: Any) -> Any:
    """Make the object that `to_plain` has described.

    Nothing is called: classes and functions are looked up, and fields are set.

    Args:
        plain: the description.

    Returns:
        The object.

    Raises:
        ImportError: if something in it is not there any more.
    """
    if not isinstance(plain, dict):
        return plain
    if "class" in plain:
        cls = _found(plain["class"])
        made = object.__new__(cls)
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        for name, value in plain["fields"].items():
            default = defaults.get(name)
            # Equinox's repr leaves out what *is* the default.
            same = isinstance(value, (bool, int, float, str)) and value == default
            object.__setattr__(made, name, default if same else from_plain(value))
        return made
    if "name" in plain:
        return _found(plain["name"])
    if "array" in plain:
        return np.asarray(plain["array"], plain["dtype"])
    if "dtype" in plain:
        return np.dtype(plain["dtype"])
    if "dict" in plain:
        return {from_plain(k): from_plain(v) for k, v in plain["dict"]}
    kind = list if "list" in plain else tuple
    return kind(from_plain(x) for x in plain[kind.__name__])


def _name(thing: Any) -> str:
    """The name by which a class or function is found again."""
    name = f"{thing.__module__}:{thing.__qualname__}"
    try:
        same = _found(name) is thing
    except ImportError:
        same = False
    if not same:
        raise TypeError(f"{thing!r} cannot be found by a name")
    return name


def _name_of_constant(value: Any) -> str:
    """The name of a constant of the module that declares its class.

    Such as Diffrax's stand-in for the tolerances of the step-size controller.
    """
    module = type(value).__module__
    for name, known in vars(importlib.import_module(module)).items():
        if known is value:
            return f"{module}:{name}"
    raise TypeError(f"{value!r} cannot be described")


def _found(name: str) -> Any:
    module, _, path = name.partition(":")
    thing: Any = importlib.import_module(module)
    try:
        for part in path.split("."):
            thing = getattr(thing, part)
    except AttributeError as error:
        raise ImportError(f"{module} has no {path}") from error
    return thing
