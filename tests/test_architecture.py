"""The plan of the house: imports go down, importing changes nothing, the wheel is whole."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What no file of a folder may import. `odecal.adjoints` lies below `odecal`.
FORBIDDEN = {"adjoints": ("odecal",), "odecal": ("odecal.systems",), "systems": ()}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name, package):
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_only_go_down(folder):
    own = {"adjoints": "odecal.adjoints"}.get(folder, "odecal.adjoints")
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in imports(path)
        for bad in FORBIDDEN[folder]
        if within(name, bad) and not within(name, own)
    ]
    assert not wrong


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
    for folder, target in (
        ("odecal", "odecal"),
        ("adjoints", "odecal/adjoints"),
        ("systems", "odecal/systems"),
    ):
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
