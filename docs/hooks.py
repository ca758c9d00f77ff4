"""Show the API reference where its three packages are, wherever their folders lie.

`odecal.adjoints` and `odecal.systems` are folders of their own in the source tree, which
mkdocstrings reads without importing. It is given a tree of links in which they are where they are
installed.
"""

import re
import shutil
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority

_trees: list[str] = []


@event_priority(100)  # before mkdocstrings reads its settings
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    root = Path(config.config_file_path).parent
    tree = Path(tempfile.mkdtemp(prefix="odecal-docs-"))
    _trees.append(str(tree))
    package = tree / "odecal"
    package.mkdir()
    for source in [*(root / "odecal").iterdir(), root / "adjoints", root / "systems"]:
        _link(source, package / source.name)
    handlers = config.plugins["mkdocstrings"].config.handlers
    handlers.setdefault("python", {})["paths"] = [str(tree)]
    return config


def _link(source: Path, target: Path) -> None:
    """A link; of a package whose names stand in a stub, links and the stub with an `__all__`."""
    stub = source / "__init__.pyi"
    if not stub.is_file():
        target.symlink_to(source)
        return
    target.mkdir()
    for file in source.iterdir():
        if file != stub:
            (target / file.name).symlink_to(file)
    text = stub.read_text()
    names = re.findall(r" as (\w+)$", text, re.MULTILINE)
    (target / stub.name).write_text(f"{text}\n__all__ = {names}\n")


def on_post_build(config: MkDocsConfig) -> None:
    while _trees:
        shutil.rmtree(_trees.pop(), ignore_errors=True)
