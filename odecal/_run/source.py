"""The digest of a system: of its source, and of all that its functions use in a user's files.

A run recognises its system by it. Constants count by their values, functions and classes of a
user's by their source, those of installed packages by their names.
"""

import ast
import dataclasses
import dis
import functools
import hashlib
import inspect
import itertools
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist

from odecal._system.base import Component
from odecal._system.system import System

_PLAIN = (type(None), bool, int, float, complex, str, bytes, range)
_LIBRARIES = ("site-packages", "dist-packages")
_STANDARD = str(Path(ast.__file__).parent)
Names = Mapping[str, Any]
_MAX_DEPTH = 60
# The instructions that take a name from the globals, or import a module.
_FROM_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "IMPORT_NAME"}
# Modules that have moved, by the names that they had when the first digests were written: a digest
# must not change with them.
_FIRST_NAMES = {
    "odecal._system.components": "odecal._components",
    "odecal._system.inputs": "odecal._driving",
    "odecal._system.solve": "odecal._settings",
    "odecal._system.system": "odecal._system",
    "odecal._system.varying": "odecal._varying",
}
# Packages that were single modules then.
_FIRST_MODULES = ("odecal.interpolation", "odecal.noise")
# Attributes of a user's class that are not part of what it is, such as where its table lies.
_IGNORED = ("data", "_components")


class SourceDigest:
    """The digest of all that a system's functions use.

    Attributes:
        digest: of the source and the values of all of it, as hexadecimal digits.
        files: the user's files that it is in or that those import, by path, and their digests.
    """

    def __init__(self, system: System) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, Any] = {}  # kept alive, so that no two have one id
        self._files: dict[str, str] = {}
        self._depth = 0
        self._visit(type(system))
        self._visit(dict(system.declaration.components))
        self._visit({dim: np.asarray(x) for dim, x in system.coords.items()})
        self._visit(system.t0)
        self.digest = self._hash.hexdigest()
        self.files = dict(sorted(self._files.items()))

    def _add(self, *words: Any) -> None:
        self._hash.update(repr(words).encode(errors="replace"))

    def _visit(self, thing: Any) -> None:
        """Add an object and all that it refers to."""
        if isinstance(thing, Path):  # wherever the user's folder is now
            return self._add("path")
        if isinstance(thing, _PLAIN):
            return self._add(type(thing).__name__, str(thing))
        if id(thing) in self._seen:
            return self._add("again")
        self._seen[id(thing)] = thing
        if self._depth > _MAX_DEPTH:
            return self._add("deep")
        self._depth += 1
        try:
            return self._visit_new(thing)
        finally:
            self._depth -= 1

    def _visit_new(self, thing: Any) -> None:
        """Add an object that is no plain value and was not added before."""
        if isinstance(thing, Mapping):  # an xarray.Dataset, too
            return self._each("mapping", (x for pair in thing.items() for x in pair))
        if hasattr(type(thing), "__array__"):  # a pandas.Series, too
            return self._array(np.asarray(thing))
        if isinstance(thing, (list, tuple)):
            return self._each(type(thing).__name__, thing)
        if isinstance(thing, (set, frozenset)):
            return self._each("set", sorted(thing, key=repr))
        if isinstance(thing, types.ModuleType):
            return self._module(thing)
        if isinstance(thing, type):
            return self._class(thing)
        return self._callable(thing) if callable(thing) else self._object(thing)

    def _each(self, name: str, things: Iterable[Any]) -> None:
        self._add(name)
        for thing in things:
            self._visit(thing)

    def _array(self, array: np.ndarray) -> None:
        self._add(array.dtype.name, array.shape)
        content = array.tolist() if array.dtype == object else array.tobytes()
        self._add(content)

    def _module(self, module: types.ModuleType) -> None:
        """A module of the user's by its text, another by its name."""
        self._reach_file(vars(module))
        self._add("module", self._files.get(_user_file(vars(module)), module.__name__))

    def _reach_file(self, space: Names) -> None:
        """Record the file of a module, and those of what it imports, outside the digest."""
        path = _user_file(space)
        if not path or path in self._files:
            return
        try:
            text = Path(path).read_bytes()
        except OSError:
            return
        self._files[path] = hashlib.sha256(text).hexdigest()
        for other in [*map(_globals_of, list(space.values())), *_imported(text, space)]:
            self._reach_file(other)

    def _class(self, cls: type) -> None:
        space = _globals_of(cls)
        if not _is_user_module(space):
            return self._add("class", *_name_of(cls))
        self._reach_file(space)
        self._add("class", cls.__qualname__, _source(cls))
        for base in cls.__bases__:
            self._visit(base)
        for name, value in vars(cls).items():
            own = not name.startswith(("__", "_abc")) or isinstance(value, types.FunctionType)
            if own and name not in _IGNORED:
                self._add(name)
                self._visit(value)
        return None

    def _callable(self, thing: Any) -> None:
        if isinstance(thing, functools.partial):
            return self._each("partial", (thing.func, thing.args, thing.keywords))
        if isinstance(thing, types.MethodType):
            return self._each("method", (thing.__func__, thing.__self__))
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if hasattr(thing, "__wrapped__"):  # such as what jax.jit gives
            return self._each("wrapped", (thing.__wrapped__,))
        return self._object(thing)

    def _function(self, function: types.FunctionType) -> None:
        space = function.__globals__
        if not _is_user_module(space):
            self._add("function", *_name_of(function))
            return self._visit(getattr(function, "__wrapped__", None))
        self._reach_file(space)
        code = function.__code__
        self._add("function", _source(function) or _compiled(code))
        self._each("defaults", (function.__defaults__, function.__kwdefaults__))
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
            self._add(name)
            self._visit(_cell_contents(cell))
        for name in _names(code):
            if name in space:
                self._add(name)
                self._visit(space[name])
            elif _is_user_module(_globals_of(sys.modules.get(name))):
                self._visit(sys.modules[name])  # imported inside
        return None

    def _object(self, thing: Any) -> None:
        """Any other object by its class and contents."""
        self._visit(type(thing))
        if isinstance(thing, (staticmethod, classmethod, property, functools.cached_property)):
            inner = [getattr(thing, name, None) for name in ("__func__", "fget", "func")]
            return self._each("inner", inner)
        # The fields of parts are in the order that they had in the first digests.
        first = ("unit", "dims", "description") if isinstance(thing, Component) else ()
        if dataclasses.is_dataclass(thing):
            names = sorted(
                (f.name for f in dataclasses.fields(thing)), key=lambda n: n not in first
            )
            return self._visit({name: getattr(thing, name, None) for name in names})
        if isinstance(thing, dist.Distribution):
            fields = {*thing.gather_pytree_data_fields(), *thing.gather_pytree_aux_fields()}
            return self._visit({name: getattr(thing, name, None) for name in sorted(fields)})
        leaves = jax.tree.leaves(thing)
        if len(leaves) != 1 or leaves[0] is not thing:
            return self._each("leaves", leaves)
        if _is_user_module(_globals_of(type(thing))):
            return self._visit(dict(getattr(thing, "__dict__", {})))
        return None


def _name_of(thing: Any) -> tuple[str, str]:
    """The module and the name of a class or a function, as digests have it."""
    module = thing.__module__
    package = module.rpartition(".")[0]
    if package in _FIRST_MODULES:
        module = package
    return _FIRST_NAMES.get(module, module), thing.__qualname__


def _globals_of(thing: Any) -> Names:
    """The names of the module that a function or a class is of, or a module; else none."""
    if isinstance(thing, types.ModuleType):
        return vars(thing)
    if isinstance(thing, types.FunctionType):
        return thing.__globals__
    if not isinstance(thing, type):
        return {}
    for value in vars(thing).values():  # of a method: other modules can have taken its name
        if isinstance(value, types.FunctionType) and value.__module__ == thing.__module__:
            return value.__globals__
    module = sys.modules.get(thing.__module__)
    return vars(module) if isinstance(module, types.ModuleType) else {}


def _user_file(space: Names) -> str:
    """The path of a module's file, empty where it is none of a user's."""
    path = space.get("__file__")
    if not isinstance(path, str) or not path.endswith(".py") or not _is_user_module(space):
        return ""
    return str(Path(path).absolute())


def _is_user_module(space: Names) -> bool:
    """Whether a module is the user's own: of no package, and not of Python."""
    name, path = space.get("__name__"), space.get("__file__")
    if not isinstance(name, str) or name.partition(".")[0] == "odecal":
        return False
    if path is None:
        return name == "__main__"
    parts = Path(path).parts
    return not any(x in parts for x in _LIBRARIES) and not str(path).startswith(_STANDARD)


def _imported(text: bytes, space: Names) -> Iterable[Names]:
    """The modules that a text imports, of those that are loaded."""
    package = str(space.get("__package__") or "").split(".")
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*above, *([node.module] if node.module else [])])
            names = [name, *(f"{name}.{alias.name}" for alias in node.names)]
        for name in names:
            yield _globals_of(sys.modules.get(name))


def class_source(cls: type) -> str:
    """The source of a system's class and of those that it extends, or a note that it is lost."""
    bases = itertools.takewhile(lambda base: base is not System, cls.__mro__)
    return "\n".join(
        _source(x) or f"# The source of {x.__qualname__} was not available.\n" for x in bases
    )


def class_file(cls: type) -> str:
    """The absolute path of the file that declares a class, empty where there is none."""
    try:
        return str(Path(inspect.getsourcefile(cls) or "").absolute())
    except TypeError:
        return ""


def _source(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return ""


def _codes(code: types.CodeType) -> Iterable[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _names(code: types.CodeType) -> list[str]:
    """The globals and modules that a function uses, those of functions inside it too.

    Not attributes: the `r` of `y.r` is another thing than a global `r`.
    """
    instructions = (i for part in _codes(code) for i in dis.get_instructions(part))
    return sorted({str(i.argval) for i in instructions if i.opname in _FROM_GLOBALS})


def _compiled(code: types.CodeType) -> list[Any]:
    """A function by its instructions, where its source is lost."""
    return [
        (part.co_code, [c for c in part.co_consts if not isinstance(c, types.CodeType)])
        for part in _codes(code)
    ]


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
