"""The checksum of a file, behind its end: damage is found before anything is read.

HDF5 ignores what is behind the end that its superblock states, so the file is netCDF as any other.
A program that writes into it with HDF5 cuts the checksum off.
"""

import hashlib
import struct
from pathlib import Path

from odecal._errors import OutputError

_MARK = b"\nodecal sha256 "
_SIZE = len(_MARK) + 64 + 1
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where each version of the superblock states the end of the file.
_END_AT = {0: 40, 1: 44, 2: 28, 3: 28}


def write_checksum(path: Path) -> None:
    """Write the checksum of a file behind its end."""
    with path.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, 2)
        file.write(_MARK + digest.encode() + b"\n")


def has_checksum(path: Path) -> bool:
    """Whether a file has a checksum: then it is, byte for byte, as odecal has written it.

    One that was written by another program, or an earlier version, has none.

    Raises:
        OutputError: if it is damaged, or no netCDF-4 file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(max(0, size - _SIZE))
        tail = file.read()
        if tail.startswith(_MARK) and size > _SIZE:
            if tail == _MARK + _digest(path, size - _SIZE).encode() + b"\n":
                return True
            raise _damaged(path, "its bytes do not have the checksum that is at its end")
    if not head:
        raise _damaged(path, "it is empty")
    if not head.startswith(_SIGNATURE):
        raise OutputError(
            f"The file {path} cannot be read as netCDF: it does not begin as a netCDF-4 file does. "
            "Expected a file that odecal calibrate has written."
        )
    at = _END_AT.get(head[8] if len(head) > 8 else -1)
    end = struct.unpack_from("<Q", head, at)[0] if at and len(head) == 64 else None
    if end != size:
        raise _damaged(path, f"it should have {end} bytes and a checksum, and has {size} bytes")
    return False


def _digest(path: Path, size: int) -> str:
    """The digest of the first bytes of a file."""
    digest, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while left and (part := file.read(min(left, 2**20))):
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()


def _damaged(path: Path, how: str) -> OutputError:
    return OutputError(
        f"The file {path} is damaged: {how}. Expected a file as odecal has written it. Nothing was "
        "read from it. Take a copy of it that is whole, or run the calibration again."
    )
