"""Names and labels that a file can hold."""

import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from odecal._errors import OutputError, listed

if TYPE_CHECKING:
    from odecal._model.model import Model

# The longest name of netCDF, in bytes, and how a text is shown in a message.
_MAX_BYTES = 255
_MAX_SHOWN = 60
# Dimensions that results have of their own.
_RESERVED = {
    *("chain", "draw", "time", "observation", "observable", "mode", "climb", "direction"),
    *("unconstrained", "unconstrained_", "window", "dose", "dose_time"),
}


def check_dims(model: "Model") -> None:
    """Refuse dimensions that a result cannot have, and labels that cannot be told apart in it."""
    declaration, individuals = model.declaration, model.experiment.individuals
    labels = {**declaration.coords, **model.hierarchy.coords}
    if individuals.dim:
        labels[individuals.dim] = individuals.labels
    check_names(labels)
    parts = {*declaration.components, *model.hierarchy.quantities}
    for dim, values in labels.items():
        if dim in _RESERVED or dim in parts:
            raise OutputError(
                f"The dimension `{dim}` (a dim, or a column of groups or individuals) cannot be "
                "saved: results have another one, or a variable, of that name. Rename it."
            )
        _check_labels(dim, np.asarray(values))


def _check_labels(dim: str, labels: np.ndarray) -> None:
    """Refuse labels of several types, and two that are the same as text."""
    kinds = {type(x) for x in labels.tolist()}
    if labels.dtype == object and kinds != {str}:
        raise OutputError(
            f"The labels of `{dim}` cannot be saved: they are of several types, or of one that a "
            f"file does not know ({listed(sorted(kind.__name__ for kind in kinds))}). Expected "
            "texts or numbers. Relabel them."
        )
    for text in labels.tolist() if labels.dtype.kind in "OU" else ():
        if fault_of_text(text):
            raise OutputError(
                f"The label {shown(text)} of `{dim}` cannot be saved: {fault_of_text(text)}. "
                "Expected text. Correct it."
            )
    texts = [str(x) for x in labels.tolist()]
    if len(set(texts)) < len(texts):
        twice = next(x for x, count in Counter(texts).items() if count > 1)
        raise OutputError(
            f"Two labels of `{dim}` are the same as text: {shown(twice)}. Expected different ones. "
            "Relabel one."
        )


def check_names(names: Iterable[Hashable]) -> None:
    """Refuse names that netCDF excludes."""
    for name in names:
        fault = _fault_of_name(str(name))
        if fault:
            raise OutputError(
                f"The name {shown(str(name))} cannot be saved as netCDF: {fault}. Expected at most "
                f"{_MAX_BYTES} bytes that begin with a letter, a digit or `_`, without `/` and "
                "control characters. Rename the column, the dim or the part of the system."
            )


def _fault_of_name(name: str) -> str:
    """What is wrong with a name, in words; empty where nothing is."""
    fault = fault_of_text(name)
    if fault:
        return fault
    if "/" in name:
        return "it holds a `/`"
    if any(ord(x) < 32 or ord(x) == 127 for x in name):
        return "it holds a line break or another control character"
    if len(name.encode()) > _MAX_BYTES:
        return f"it is {len(name.encode())} bytes long"
    if unicodedata.normalize("NFC", name) != name:
        return "its accents are characters of their own (it is not in Unicode's form NFC)"
    if name != name.strip():
        return "it begins or ends with a space"
    if ord(name[:1] or " ") < 128 and not (name[0].isalnum() or name[0] == "_"):
        return f"it begins with `{name[:1]}`"
    return ""


def fault_of_text(text: str) -> str:
    """What keeps a text out of a file."""
    if "\0" in text:
        return "it holds a NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "it holds half a character (a lone surrogate)"
    return ""


def shown(text: str) -> str:
    """A text as it can be shown: escaped, and not too long."""
    return (
        repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…")
        .encode("ascii", "backslashreplace")
        .decode()
    )


def printable(text: object) -> str:
    """A text whose control characters, and what cannot be encoded, are escaped; lines stay."""
    return "".join(x if x.isprintable() or x in "\n\t" else ascii(x)[1:-1] for x in str(text))
