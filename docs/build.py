"""Build the site with Zensical, or fail: `make docs`.

`odecal.adjoints` and `odecal.systems` are folders of their own in the source tree, which
mkdocstrings reads without importing. It is given a tree of links (`paths` in mkdocs.yml) in which
they are where they are installed.
"""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = ROOT / "build" / "docs"
SITE = ROOT / "site"


def link(source: Path, target: Path) -> None:
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


def wrong(page: Path) -> list[str]:
    """What Zensical lets pass: code that raised, and pictures that are not there."""
    text = page.read_text()
    sources = re.findall(r'<img[^>]* src="([^"]*)"', text)
    local = [html.unescape(source) for source in sources if ":" not in source]
    found = [f"no picture {s}" for s in local if not (page.parent / s).is_file()]
    if "&lt;code block: " in text:
        found.append("code of this page raised an error")
    return [f"{page.relative_to(SITE)}: {line}" for line in found]


def main() -> None:
    shutil.rmtree(TREE, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    (TREE / "odecal").mkdir(parents=True)
    for source in [*(ROOT / "odecal").iterdir(), ROOT / "adjoints", ROOT / "systems"]:
        link(source, TREE / "odecal" / source.name)
    zensical = [str(Path(sys.executable).parent / "zensical"), "build", "--strict", "--clean"]
    if subprocess.run(zensical, cwd=ROOT, check=False).returncode:
        sys.exit("The site could not be built.")
    pages = sorted(SITE.rglob("*.html"))
    if found := [line for page in pages for line in wrong(page)]:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
