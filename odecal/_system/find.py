"""Systems by the names that the command line uses.

`System` is imported where it is needed: the command line's help and its messages need no JAX.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from odecal._errors import DeclarationError, listed, suggestion
from odecal._system.user_file import run_file


def shipped_systems() -> dict[str, Any]:
    """The shipped systems by their names in snake case."""
    return {snake: getattr(_systems(), name) for snake, name in _shipped_names().items()}


def _systems() -> Any:
    """The module of the shipped systems, which lies above this one: the tool looks up to it."""
    return importlib.import_module("odecal.systems")


def _shipped_names() -> dict[str, str]:
    """The names of the classes of the shipped systems, by their names in snake case."""
    boundary = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
    names = {boundary.sub("_", name).lower(): name for name in _systems().__all__}
    return dict(sorted(names.items()))


def shipped_system(name: str) -> Any:
    """The shipped system of a class of that name, None where there is none."""
    module = _systems()
    return getattr(module, name)() if name in module.__all__ else None


def find_system(name: str) -> Any:
    """The system of a name, or of `path/to/file.py:ClassName`.

    Raises:
        DeclarationError: if there is none, or its file cannot be run.
    """
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _system_of_file(Path(path), attribute)
    shipped = _shipped_names()
    if name in shipped:
        return getattr(_systems(), shipped[name])()
    if name.endswith(".py"):
        raise DeclarationError(
            f"`{name}` names a file without a class. Expected path/to/file.py:ClassName. "
            f"Got no class; the file declares: {listed(_systems_in(run_file(Path(name))))}."
        )
    raise DeclarationError(
        f"There is no system `{name}`. Expected path/to/file.py:ClassName or one of: "
        f"{listed(shipped)}." + suggestion(name, shipped)
    )


def _system_of_file(path: Path, attribute: str) -> Any:
    """The system of one class of a user's file."""
    from odecal._system.system import System

    module = run_file(path)
    cls = getattr(module, attribute, None)
    if isinstance(cls, System):
        return cls
    if not (isinstance(cls, type) and issubclass(cls, System)):
        known = _systems_in(module)
        raise DeclarationError(
            f"The file {path} declares no system `{attribute}`. Expected one of: {listed(known)}."
            + suggestion(attribute, known)
        )
    return cls()


def _systems_in(module: Any) -> list[str]:
    """The names of the systems that a module itself declares."""
    from odecal._system.system import System

    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, System)
        and value.__module__ == module.__name__
    ]
