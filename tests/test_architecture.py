"""The plan of the house: imports go down, importing changes nothing, the wheel is whole."""

import ast
import graphlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"odecal": "odecal", "odecal.adjoints": "adjoints", "odecal.systems": "systems"}
# The rooms, in order: a file imports from its own line's room, or from lines above it.
ROOMS = [
    ["odecal._errors"],
    ["odecal.links", "odecal.centring", "odecal.noise", "odecal.interpolation"],
    ["odecal._jax", "odecal.adjoints"],
    ["odecal.samplers", "odecal._system"],
    ["odecal._data"],
    ["odecal._solve"],
    ["odecal._model"],
    ["odecal._run"],
    ["odecal._simulate"],
    ["odecal._results"],
    ["odecal._inference"],
    ["odecal"],
    ["odecal._cli"],
    ["odecal.__main__"],
    ["odecal.systems"],
]
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def imports(path):
    """Every name that a file imports, also in a function and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name, package):
    return name == package or name.startswith(package + ".")


def files():
    """Path of each module of the import tree, by its name."""
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            yield ".".join(parts).removesuffix(".__init__"), path


def test_imports_only_go_down_from_room_to_room():
    """Hence there is no circle of rooms; and there is none of the files of a room."""
    paths = dict(files())

    def longest(name, packages):
        return max((package for package in packages if within(name, package)), key=len, default="")

    graph = {
        name: {longest(imported, paths) for imported in imports(path)} - {name, ""}
        for name, path in paths.items()
    }
    rooms = {name: longest(name, FLOORS) for name in paths}

    wrong = [
        f"{name} imports {other}"
        for name, others in graph.items()
        for other in others
        if rooms[name] != rooms[other] and FLOORS[rooms[name]] <= FLOORS[rooms[other]]
    ]
    assert not wrong
    graphlib.TopologicalSorter(graph).prepare()


def test_systems_use_public_names_only():
    wrong = [
        f"{path.name} imports {name}"
        for path in (ROOT / "systems").glob("*.py")
        for name in imports(path)
        if within(name, "odecal") and any(part.startswith("_") for part in name.split("."))
    ]
    assert not wrong


def test_every_public_name_is_exported_and_documented():
    import odecal

    for module in (odecal, odecal.adjoints, odecal.samplers, odecal.noise):
        for name in module.__all__:
            assert getattr(module, name).__doc__, f"{module.__name__}.{name} has no docstring"


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_importing_changes_no_global_state():
    """No precision, no device, no environment variable; JAX is not even started."""
    code = """
import os, jax
from jax._src import xla_bridge
before = dict(os.environ), dict(jax.config.values)
import odecal.systems, equinox
from odecal import *
after = dict(os.environ), dict(jax.config.values)
print(before == after, xla_bridge.backends_are_initialized(), equinox._errors.EQX_ON_ERROR)
"""
    assert run_python(code) == ["True", "False", "raise"]


def test_adjoints_can_be_used_without_a_model():
    """The ground floor by itself pulls in neither NumPyro nor xarray."""
    wrong = {"numpyro", "xarray", "pandas", "blackjax"}
    for path in (ROOT / "adjoints").glob("*.py"):
        assert not wrong & {name.split(".")[0] for name in imports(path)}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_everything_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {"odecal/py.typed"}
    for package, folder in FOLDERS.items():
        target = package.replace(".", "/")
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".pyi", ".csv", ".md") and "__pycache__" not in path.parts:
                expected.add(f"{target}/{path.relative_to(ROOT / folder).as_posix()}")
    assert names == expected


def test_the_wheel_calibrates_where_it_is_installed(wheel, tmp_path):
    """Installed into a folder of its own, and run from there."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(wheel)], check=True)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path / "site")!r})
import odecal
assert odecal.__file__.startswith({str(tmp_path)!r}), odecal.__file__
sys.argv = "odecal calibrate lotka_volterra --out lv.nc --num-warmup 50 --num-samples 20".split()
from odecal._cli.app import main
main()
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "hare0" in run.stdout
    assert (tmp_path / "lv.nc").is_file()
