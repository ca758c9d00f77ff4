"""The system of a recorded run: what it is known by, and how it is found again."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from odecal._errors import OdecalError, OutputError
from odecal._run.provenance import system_attrs
from odecal._run.source import SourceDigest, class_file
from odecal._system.find import shipped_system
from odecal._system.system import System
from odecal._system.user_file import run_file

_MAX_SIZE = 2**26
Tell = Callable[[str], None]


def identity(system: System) -> dict[str, Any]:
    """What identifies a system, and where its class is found, for JSON."""
    attrs, digest = system_attrs(system), SourceDigest(system)
    return {
        "module": type(system).__module__,
        "name": type(system).__qualname__,
        "file": class_file(type(system)),
        "sha256": attrs["system_source_sha256"],
        "reach": digest.digest,
        "files": digest.files,
        "table": attrs["system_table"],
    }


def recorded_system(
    system: System | None, recorded: Mapping[str, Any], where: Path, tell: Tell
) -> System:
    """The system whose `identity` a file `where` has recorded: the given one, or as it is found.

    Raises:
        OutputError: if it cannot be found, or is another one.
    """
    name = str(recorded["name"])
    if system is None:
        system = _find(name, recorded, where, tell)
    now = identity(system)
    if now["table"] != recorded["table"]:
        raise OutputError(
            f"The run in {where} was of another system. Expected the system\n"
            f"{recorded['table']}\nGot\n{now['table']}\n{_HINT}."
        )
    if any(now[key] != recorded[key] for key in ("sha256", "reach")):
        raise OutputError(
            f"The source of {name}, or of what its functions use, has changed since the run in "
            f"{where} began, and draws of two models must not be mixed. Restore it, or start a "
            f"new run. {_HINT}."
        )
    return system


_HINT = "Give the system as it was: odecal.resume(path, system), or --system on the command line"


def _find(name: str, recorded: Mapping[str, Any], where: Path, tell: Tell) -> System:
    """A shipped system, or that of the recorded file."""
    if str(recorded["module"]).startswith("odecal.systems."):
        found = shipped_system(name)
        if found is None:
            raise _not_found(name, where, "odecal ships none of that name.")
        return found
    return _of_file(name, recorded, where, tell)


def _of_file(name: str, recorded: Mapping[str, Any], where: Path, tell: Tell) -> System:
    """The system of a file, which is run only if it and what it imports are as recorded."""
    path = Path(str(recorded["file"]))
    texts = {file: _read_source(Path(file)) for file in recorded["files"]}
    for file, text in texts.items():
        if text is None or hashlib.sha256(text).hexdigest() != recorded["files"][file]:
            gone = "is not there" if text is None else "has changed since the run began"
            raise _not_found(name, where, f"The file {file} {gone}, and was not run.")
    text = texts.get(str(path))
    if text is None:
        raise _not_found(name, where, "No file of it is recorded.")
    tell(f"Running the system file {path}")
    try:
        made = getattr(run_file(path, text), name, None)
        if isinstance(made, type) and issubclass(made, System):
            made = made()
    except (ImportError, OdecalError) as error:
        raise _not_found(name, where, f"{error}") from None
    if not isinstance(made, System):
        raise _not_found(name, where, f"The file {path} declares no system of that name.")
    return made


def _read_source(path: Path) -> bytes | None:
    """The bytes of a file at an absolute path; None where there is none."""
    try:
        fits = path.is_absolute() and path.suffix == ".py" and path.is_file()
        return path.read_bytes() if fits and path.stat().st_size < _MAX_SIZE else None
    except (OSError, ValueError):
        return None


def _not_found(name: str, where: Path, why: str) -> OutputError:
    return OutputError(
        f"The system {name} of the run in {where} could not be found: {why} Give it: "
        "odecal.resume(path, system), or --system path/to/file.py:ClassName."
    )
