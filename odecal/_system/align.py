"""Arrays that bring labels of their own, in the order of those that a system declares."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from odecal._errors import DeclarationError, listed


def aligned(where: str, value: Any, dims: Sequence[str], coords: Mapping[str, Any]) -> np.ndarray:
    """The numbers of a value, each at the place of its labels; `where` says whose it is.

    Raises:
        DeclarationError: if a value of pandas or xarray has other labels or dims than are declared.
    """
    if type(value).__module__.partition(".")[0] not in ("pandas", "xarray"):
        return np.asarray(value)
    axes = getattr(value, "axes", [])
    if hasattr(value, "dims") and value.ndim:
        if set(value.dims) != set(dims):
            raise DeclarationError(
                f"The value of {where} has the dims {listed(value.dims)}. Expected {listed(dims)}. "
                "Rename them, value.rename(...), or give the numbers alone, value.values."
            )
        value = value.transpose(*dims)
        axes = [value.indexes.get(dim) for dim in dims]
    array = np.asarray(value)
    for axis, (dim, index) in enumerate(zip(dims, axes, strict=False)):
        if index is None or _counts(index):
            continue
        found, expected = list(map(str, index)), list(map(str, coords[dim]))
        if sorted(found) != sorted(expected):
            raise DeclarationError(
                f"The labels of `{dim}` of the value of {where} differ. Expected "
                f"{listed(expected)}. Got {listed(found)}. Correct them, or give the numbers "
                "alone, np.asarray(value)."
            )
        array = np.take(array, [found.index(label) for label in expected], axis=axis)
    return array


def _counts(index: Any) -> bool:
    """Whether an index only numbers its rows, as that of a new table does."""
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1
