"""Systems by the names that the command line uses."""

import sys
from pathlib import Path
from typing import Any


def shipped_systems() -> dict[str, Any]:
    """The shipped systems by their names in snake case."""
    return {snake: getattr(_systems(), name) for snake, name in _shipped_names().items()}


def _systems() -> Any:
    """The module of the shipped systems, which lies above this one: the tool looks up to it."""
    import importlib

    return importlib.import_module("odecal.systems")


def _shipped_names() -> dict[str, str]:
    """The names of the classes of the shipped systems, by their names in snake case."""
    import re

    boundary = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
    names = {boundary.sub("_", name).lower(): name for name in _systems().__all__}
    return dict(sorted(names.items()))


def find_system(name: str) -> Any:
    """The system of a name, or of `path/to/file.py:ClassName`.

    Raises:
        DeclarationError: if there is none, or its file cannot be run.
    """
    from odecal._errors import DeclarationError, listed, suggestion

    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _system_of_file(Path(path), attribute)
    shipped = _shipped_names()
    if name in shipped:
        return getattr(_systems(), shipped[name])()
    if name.endswith(".py"):
        raise DeclarationError(
            f"`{name}` names a file without a class. Expected path/to/file.py:ClassName. "
            f"Got no class; the file declares: {listed(_systems_in(_run_file(Path(name))))}."
        )
    raise DeclarationError(
        f"There is no system `{name}`. Expected path/to/file.py:ClassName or one of: "
        f"{listed(shipped)}." + suggestion(name, shipped)
    )


def _system_of_file(path: Path, attribute: str) -> Any:
    """The system of one class of a user's file."""
    from odecal._errors import DeclarationError, listed, suggestion
    from odecal._system import System

    module = _run_file(path)
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
    from odecal._system import System

    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, System)
        and value.__module__ == module.__name__
    ]


def _run_file(path: Path) -> Any:
    """Import a Python file by its path."""
    import importlib.util

    from odecal._errors import DeclarationError, OdecalError

    if not path.is_file():
        raise DeclarationError(f"There is no file {path}. Expected path/to/file.py:ClassName.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"The file {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    # Registered, so that the source of its classes can be found for the provenance.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.absolute().parent))
    try:
        spec.loader.exec_module(module)
    except OdecalError:
        raise
    except (Exception, SystemExit) as error:
        line = _line_of(error, path)
        raise DeclarationError(
            f"The file {path} cannot be run{line}: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.pop(0)
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """Where in a file an error arose, in words."""
    import traceback

    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).absolute() == path.absolute()]
    return f" (line {lines[-1]})" if lines else ""
