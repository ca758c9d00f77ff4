"""Settings as plain data: objects that JSON can hold, and back."""

import dataclasses
import inspect
import json
import types
from typing import Any

import numpy as np

from odecal._run.registry import CONSTANTS, accepts, field_types, known, name_of

_MAX_DEPTH = 40
_DTYPES = ("float64", "float32", "int64", "int32", "bool")


def to_plain(value: Any) -> Any:
    """Describe an object by the name of its class and its fields, all the way down.

    It may be made of numbers, texts, None, arrays, types of numbers, norms, lists, tuples, dicts,
    and settings of these: solvers, root finders, adjoints, samplers, centrings.

    Raises:
        TypeError: for anything else, such as a function of the user's own.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [to_plain(x) for x in value]}
    if isinstance(value, dict):
        return {"dict": [[to_plain(k), to_plain(v)] for k, v in value.items()]}
    for name, constant in CONSTANTS.items():
        if value is constant:
            return {"constant": name}
    if callable(value) and hasattr(value, "__qualname__"):
        return {"function": name_of(value, types.FunctionType)}
    if dataclasses.is_dataclass(value):
        fields = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": name_of(type(value), type), "fields": fields}
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return {"array": array.tolist(), "dtype": array.dtype.name}
    raise TypeError(f"{value!r} cannot be described")


def from_plain(plain: Any) -> Any:
    """Make the object that `to_plain` has described.

    Nothing in a description is trusted: only settings are made, each by its constructor from the
    fields that its class declares.

    Raises:
        ImportError: if it describes anything else, or something that is not there any more.
        SettingsError: if a setting cannot work.
    """
    try:
        return _decoded(plain, 0)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ImportError(f"it describes no settings ({error})") from None


def _decoded(plain: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ImportError("it is nested too deeply")
    if not isinstance(plain, dict):
        return plain
    if "class" in plain:
        return _decoded_settings(known(plain["class"], type), plain, depth)
    if "function" in plain:
        return known(plain["function"], types.FunctionType)
    if "constant" in plain:
        return CONSTANTS[plain["constant"]]
    if "array" in plain or "dtype" in plain:
        if plain["dtype"] not in _DTYPES:
            raise ImportError(f"it has numbers of type {plain['dtype']!r}")
        dtype = np.dtype(plain["dtype"])
        return np.asarray(plain["array"], dtype) if "array" in plain else dtype
    if "dict" in plain:
        return {_decoded(k, depth + 1): _decoded(v, depth + 1) for k, v in plain["dict"]}
    kind = list if "list" in plain else tuple
    return kind(_decoded(x, depth + 1) for x in plain[kind.__name__])


def _decoded_settings(cls: type[Any], plain: dict[str, Any], depth: int) -> Any:
    """Settings from their fields, which must then be those that were described."""
    names = [field.name for field in dataclasses.fields(cls)]
    if plain["fields"].keys() != set(names):
        raise ImportError(f"{cls.__name__} has other fields now: {', '.join(names)}")
    fields = {name: _decoded(plain["fields"][name], depth + 1) for name in names}
    declared = field_types(cls)
    for name, value in fields.items():
        if name in declared and not accepts(declared[name], value):
            raise ImportError(f"{cls.__name__} cannot have {value!r} as its {name}")
    made = cls(**_arguments(cls, fields))
    for name, value in fields.items():  # what a constructor derives from arguments of other names
        if dataclasses.is_dataclass(value) and type(getattr(made, name)) is type(value):
            object.__setattr__(made, name, value)
    if any(
        json.dumps(to_plain(getattr(made, k))) != json.dumps(to_plain(x)) for k, x in fields.items()
    ):
        raise ImportError(f"{cls.__name__} cannot be made again as it was")
    return made


def _arguments(cls: type[Any], fields: dict[str, Any]) -> dict[str, Any]:
    """What a constructor takes of the fields."""
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in fields and parameter.kind is parameter.VAR_KEYWORD:
            arguments |= fields[name]
        elif name in fields:
            arguments[name] = fields[name]
    return arguments
