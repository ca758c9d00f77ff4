"""A user's Python file, run so that it takes the place of no other module."""

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from odecal._errors import DeclarationError, OdecalError


def run_file(path: Path, text: bytes | None = None) -> ModuleType:
    """Run a Python file, or a text that was read in its place, under a name of its own.

    It imports what lies beside it as a script would, but for names of the standard library and of
    installed packages: a `queue.py` there hides no `queue` from NumPy.

    Raises:
        DeclarationError: if there is none, or it cannot be run.
    """
    if not path.is_file():
        raise DeclarationError(f"There is no file {path}. Expected path/to/file.py:ClassName.")
    spec = importlib.util.spec_from_file_location(_private_name(path), path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"The file {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    # Registered, so that the source of its classes can be found for the provenance.
    sys.modules[spec.name] = module
    try:
        with _beside(path.absolute().parent):
            if text is None:
                spec.loader.exec_module(module)
            else:
                exec(compile(text, str(path), "exec"), vars(module))
    except BaseException as error:
        sys.modules.pop(spec.name, None)
        if isinstance(error, OdecalError) or not isinstance(error, (Exception, SystemExit)):
            raise
        raise DeclarationError(
            f"The file {path} cannot be run{_line_of(error, path)}: "
            f"{type(error).__name__}: {error}{_hidden(error, path)}"
        ) from error
    return module


def _private_name(path: Path) -> str:
    """A name that no other module has, the same whenever this file is run."""
    digest = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:8]
    return f"odecal_file_{re.sub(r'\W', '_', path.stem)}_{digest}"


class _Beside:
    """Finds the modules that lie in a folder, unless one of that name is installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As the import system asks; see `importlib.abc.MetaPathFinder`."""
        if path is not None or _installed(name):
            return None
        spec = PathFinder.find_spec(name, [str(self._folder)], target)
        return spec if spec is not None and spec.origin is not None else None

    def hides(self, name: str, module: ModuleType) -> bool:
        """Whether there is a module of that name in the folder, and this is another one."""
        there = self._folder / f"{name}.py", self._folder / name / "__init__.py"
        origin = getattr(module, "__file__", None)
        own = next((file for file in there if file.is_file()), None)
        return own is not None and origin != str(own) and not _installed(name)


def _installed(name: str) -> bool:
    """Whether a name is one of the standard library or of an installed package."""
    folders = [x for x in sys.path if Path(x).name in ("site-packages", "dist-packages")]
    known = {*sys.stdlib_module_names, __name__.partition(".")[0]}
    return name in known or PathFinder.find_spec(name, folders) is not None


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let imports find what lies in a folder, first of all, for as long as a file of it is run."""
    finder = _Beside(folder)
    others = {
        name: module
        for name, module in list(sys.modules.items())
        if "." not in name and finder.hides(name, module)
    }
    inside = {n: m for n, m in list(sys.modules.items()) if n.partition(".")[0] in others}
    for name in inside:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    sys.path.append(str(folder))  # for packages without an __init__.py
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.path.remove(str(folder))
        sys.modules.update(inside)


def _line_of(error: BaseException, path: Path) -> str:
    """Where in a file an error arose, in words."""
    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).absolute() == path.absolute()]
    return f" (line {lines[-1]})" if lines else ""


def _hidden(error: BaseException, path: Path) -> str:
    """A remark where what was to be imported lies beside the file, under an installed name."""
    if not isinstance(error, ImportError) or not error.name:
        return ""
    beside = path.absolute().with_name(error.name + ".py")
    if not beside.is_file() or error.path == str(beside):
        return ""
    return (
        f". The file {beside.name} beside it has the name of a module that is installed, which "
        "comes first. Give it another name."
    )
