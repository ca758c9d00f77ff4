"""Tables that come compressed: gzip, bzip2, xz, or a zip archive of one file."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from odecal._errors import ObservationError, listed

# Other formats, by the names that their files have.
_OTHERS = (".tar", ".zst", ".7z", ".rar", ".lz4")
# What a table may grow to: a few kilobytes can hold as much as any memory.
_MOST_BYTES = 2**30
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError)


@contextmanager
def _open_zip(path: Path) -> Iterator[IO[bytes]]:
    """The one table of an archive; what macOS adds to each is none."""
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX/" not in n]
        if len(names) != 1:
            raise ObservationError(
                f"The archive {path} holds {len(names)} files ({listed(names[:5])}). Expected one, "
                "the CSV table. Unpack it, and give the table itself."
            )
        with archive.open(names[0]) as stream:
            yield stream


# How a compressed file is called, how it begins, and what opens it.
_KINDS: dict[str, tuple[str, bytes, Callable[[Path], Any]]] = {
    ".gz": ("gzip", b"\x1f\x8b", gzip.open),
    ".bz2": ("bzip2", b"BZh", bz2.open),
    ".xz": ("xz", b"\xfd7zXZ\x00", lzma.open),
    ".zip": ("zip", b"PK", _open_zip),
}


def read_bytes(path: Path) -> bytes:
    """What a file holds, or, of a compressed one, what it unpacks to."""
    suffix = path.suffix.lower()
    if suffix in _OTHERS or Path(path.stem).suffix.lower() == ".tar":
        raise ObservationError(
            f"The file {path} cannot be read. Expected a CSV table, perhaps compressed as "
            f"{listed(_KINDS)}. Unpack it first."
        )
    if not path.is_file():  # a pipe, of which nothing may be read twice
        return path.read_bytes()
    with path.open("rb") as file:
        beginning = file.read(8)
    if not beginning:
        return b""
    _check_name(path, suffix, beginning)
    return _unpacked(path, suffix) if suffix in _KINDS else path.read_bytes()


def _check_name(path: Path, suffix: str, beginning: bytes) -> None:
    """Refuse a file whose name says something else than its first bytes."""
    held = next((s for s, (_, magic, _) in _KINDS.items() if beginning.startswith(magic)), None)
    if suffix in (".xlsx", ".xls", ".ods"):
        raise ObservationError(
            f"The file {path} is a workbook. Expected a CSV table. Save its sheet as CSV, or read "
            "it with pandas.read_excel(...) and pass the table."
        )
    if suffix in _KINDS and held != suffix:
        raise ObservationError(
            f"The file {path} is broken or misnamed: its name ends in {suffix}, and it does not "
            f"begin as a {_KINDS[suffix][0]} file does. Expected a compressed CSV table. Get it "
            "again, or, if it is a table as it is, let its name end in .csv."
        )
    if held is not None and held != suffix:
        raise ObservationError(
            f"The file {path} is compressed ({_KINDS[held][0]}), which its name does not say. "
            f"Expected a CSV table. Unpack it, or let its name end in .csv{held}."
        )


def _unpacked(path: Path, suffix: str) -> bytes:
    """What a compressed file holds, unless it is far too long."""
    kind, _, opened = _KINDS[suffix]
    try:
        with opened(path) as stream:
            content: bytes = stream.read(_MOST_BYTES + 1)
    except _BROKEN as error:
        raise ObservationError(
            f"The file {path} cannot be unpacked: {error}. Expected a whole {kind} file. Get it "
            "again, or unpack it with another tool and give the table that it holds."
        ) from None
    if len(content) > _MOST_BYTES:
        raise ObservationError(
            f"The file {path} unpacks to more than {_MOST_BYTES >> 30} GiB. Expected a table that "
            "is smaller. If it is one all the same, unpack it and give the unpacked file."
        )
    return content
