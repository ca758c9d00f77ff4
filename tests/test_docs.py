"""Texts for developers name files that exist, and dependencies that are declared."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = ["CONTRIBUTING.md", "README.md", "docs/dependencies.md"]
OUTPUT = {"site/", ".venv", "tank.py", "oral.py", "runs/"}


def exists(name):
    """A path from the root, or from `odecal/`; or the name of a file somewhere in the tree."""
    if any(
        (base / f"{name}{end}").exists() for base in (ROOT, ROOT / "odecal") for end in ("", ".py")
    ):
        return True
    folders = ("odecal", "adjoints", "systems")
    return "/" not in name and any(any((ROOT / f).rglob(name)) for f in folders)


@pytest.mark.parametrize("text", TEXTS)
def test_files_that_are_named_exist(text):
    words = (ROOT / text).read_text()
    named = set(re.findall(r"`([\w./]+(?:\.pyi?|/))`", words))
    named |= set(re.findall(r"^((?:_\w+|adjoints|samplers)/\w*) ", words, re.MULTILINE))
    assert not {name for name in named - OUTPUT if not exists(name)}


def test_every_dependency_has_its_reason():
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    names = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    table = re.findall(
        r"^\| \[([\w-]+)\]", (ROOT / "docs/dependencies.md").read_text(), re.MULTILINE
    )
    assert sorted(names) == sorted(table)


def test_every_dependency_is_imported():
    """But filelock, which JAX asks for without depending on it."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    sources = [p for f in ("odecal", "adjoints") for p in (ROOT / f).rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    for line in project["dependencies"]:
        name = re.match(r"[\w-]+", line)[0].replace("-", "_")
        if name != "filelock":
            assert re.search(rf"^\s*(import|from) {name}\b", code, re.MULTILINE), name
