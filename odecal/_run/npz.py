"""Arrays as bytes and back, as `numpy.savez` writes them, read without any trust."""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from odecal._errors import OutputError

_KINDS = "biufcU"  # numbers, truth values and text: nothing that holds objects


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Arrays by name as bytes, exactly."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(x) for name, x in arrays.items()}
    np.savez(buffer, **named)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of `pack`.

    No array is larger than the bytes that were given: nothing in them is compressed.

    Raises:
        OutputError: if they are anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError(f"it holds {len(entries)} arrays that overlap")
            return {_name(entry): _array(archive.read(entry)) for entry in entries}
    except Exception as error:  # a crafted header fails in many ways
        raise OutputError(
            f"Part of a recorded run cannot be read: {error}. Expected arrays as odecal writes "
            "them."
        ) from None


def _name(entry: zipfile.ZipInfo) -> str:
    """The name of an array that was stored as it is."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"{entry.filename!r} is compressed")
    return entry.filename.removesuffix(".npy")


def _array(content: bytes) -> np.ndarray:
    """The array of an `npy` file whose length is what its header says."""
    file = io.BytesIO(content)
    shape, by_column, dtype = _header(file)
    rest = content[file.tell() :]
    if dtype.kind not in _KINDS or not dtype.itemsize or any(n < 0 for n in shape):
        raise ValueError(f"it holds {dtype} of shape {shape}")
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(f"{dtype} of shape {shape} are not {len(rest)} bytes")
    if not rest:
        return np.zeros(shape, dtype)
    array = np.frombuffer(rest, dtype).reshape(shape, order="F" if by_column else "C")
    return array.copy(order="K")


def _header(file: IO[bytes]) -> Any:
    """The shape, the order and the type of an array."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"it is of version {version}")
