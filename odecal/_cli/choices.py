"""What can be chosen by a name: the classes that a package exports.

They are found in the text of its files, so that help need not import what it names. A class is
called as its file is (`NumPyroNUTS` in `_numpyro_nuts.py`: numpyro-nuts) where the two differ by
hyphens alone, and otherwise by its own words.
"""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from odecal._errors import SettingsError, listed, suggestion

_CLASS = re.compile(r"^class (\w+)\(([^)]*)\):", re.MULTILINE)


@cache
def _classes(package: str) -> dict[str, tuple[list[str], str]]:
    """The bases and the file of every class in the files of a package, by name."""
    return {
        name: (re.findall(r"\w+", bases), path.stem)
        for path in sorted(Path(importlib.import_module(package).__path__[0]).glob("_*.py"))
        for name, bases in _CLASS.findall(path.read_text("utf-8"))
    }


@cache
def _choices(package: str, base: str, suffix: str = "") -> dict[str, str]:
    """The exported classes that derive from a base of the package, by their names here."""
    classes = _classes(package)

    def derives(name: str) -> bool:
        return name == base or (name in classes and any(map(derives, classes[name][0])))

    exported = importlib.import_module(package).__all__
    names = [x for x in exported if derives(x) and not x.startswith("Abstract")]
    return dict(sorted((_said(x.removesuffix(suffix), classes[x][1]), x) for x in names))


def _said(name: str, file: str) -> str:
    """The name of a class on the command line."""
    words = file.strip("_").replace("_", "-")
    if words.replace("-", "") == name.lower():
        return words
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def samplers() -> dict[str, str]:
    """Samplers, by their names on the command line."""
    return _choices("odecal.samplers", "AbstractSampler")


def metrics() -> dict[str, str]:
    """Metrics, by their names on the command line."""
    return _choices("odecal.samplers", "AbstractMetric", "Metric")


def adjoints() -> dict[str, str]:
    """Adjoints, by their names on the command line."""
    known = _choices("odecal.adjoints", "AbstractAdjoint")
    return {said: name for said, name in known.items() if name != "DiffraxAdjoint"}  # of an object


def choose(option: str, name: str, known: dict[str, Any]) -> Any:
    """What a name stands for; one that is unknown is refused."""
    if name not in known:
        raise SettingsError(
            f"{option} {name} is unknown. Expected one of: {listed(known)}."
            + suggestion(name, known)
        )
    return known[name]
