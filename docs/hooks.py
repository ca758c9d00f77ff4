"""Show the API reference where its three packages are, wherever their folders lie.

`odecal.adjoints` and `odecal.systems` are folders of their own in the source tree, which
mkdocstrings reads without importing. It is given a tree of links in which they are where they are
installed.
"""

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
    for source in (root / "odecal").iterdir():
        (package / source.name).symlink_to(source)
    for name in ("adjoints", "systems"):
        (package / name).symlink_to(root / name)
    handlers = config.plugins["mkdocstrings"].config.handlers
    handlers.setdefault("python", {})["paths"] = [str(tree)]
    return config


def on_post_build(config: MkDocsConfig) -> None:
    while _trees:
        shutil.rmtree(_trees.pop(), ignore_errors=True)
