"""Files that are written whole or not at all, and whether one can be."""

import hashlib
import os
import platform
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from odecal._errors import OutputError

# The most bytes of a file's name, and of a path that SQLite opens; what a journal adds to it.
_LONGEST_NAME, _LONGEST_PATH = 255, 511
_ADDED = ".partial-journal"


def check_output(path: str | Path, suffix: str = ".nc") -> Path:
    """Make sure, before long work, that a file can be written there; a link is followed, and stays.

    Raises:
        OutputError: if the folder is not there or cannot be written, or the name ends otherwise or
            is too long, or what is there is no file.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise OutputError(f"The output {path} should end in {suffix}. Got `{path.name}`.")
    _check_length(path)
    try:
        target = _target(path)
        _check_place(path, target)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
        if target.parent != path.absolute().parent:
            with tempfile.TemporaryFile(dir=path.absolute().parent):  # where the journal will be
                pass
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"The folder of the output {path} cannot be written: "
            f"{getattr(error, 'strerror', None) or error}. Choose another folder, or change its "
            "permissions."
        ) from None
    return path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of another once it is whole.

    It lies beside that one; what a killed process has left there of an earlier try is removed. Of a
    link, the target is replaced.
    """
    target = _target(path)
    mark = f".odecal-{_digest(target.name)}-{_digest(platform.node())}-"
    for stale in target.parent.glob(f"{mark}*.tmp"):
        if not _alive(stale.name.removeprefix(mark).partition("-")[0]):
            stale.unlink(missing_ok=True)
    temporary = target.with_name(f"{mark}{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """The file that is meant, behind all links; a link where they go round in a circle."""
    return Path(os.path.realpath(path))


def _check_length(path: Path) -> None:
    """Refuse a path that cannot be one, or that leaves no room for the journal's."""
    try:
        name, whole = os.fsencode(path.name), str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise OutputError(
            f"The path of the output, {str(path)!r}, cannot be encoded as UTF-8. Choose another."
        ) from None
    most, in_all = _LONGEST_NAME - len(_ADDED), _LONGEST_PATH - len(_ADDED)
    if len(name) > most or len(whole) > in_all or b"\0" in whole:
        raise OutputError(
            f"The path of the output, {str(path)[:80]!r}…, is too long or holds a NUL. Expected a "
            f"name of at most {most} bytes, and at most {in_all} with its folders. Choose a "
            "shorter one."
        )


def _check_place(path: Path, target: Path) -> None:
    """Refuse what is no file, or is in no folder."""
    if target.is_dir():
        raise OutputError(f"The output {path} is a folder. Expected the path of a file.")
    if target.is_symlink():
        raise OutputError(
            f"The output {path} is a link that leads back to itself. Expected the path of a file. "
            "Remove the link, or choose another path."
        )
    if target.exists() and not target.is_file():
        raise OutputError(f"The output {path} is no plain file. Expected the path of one.")
    for folder in (path.absolute().parent, target.parent):
        if not folder.is_dir():
            raise OutputError(
                f"The folder of the output {path} does not exist. Expected an existing folder. "
                f"Make it first: mkdir -p {folder}"
            )


def _alive(pid: str) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
