"""What is imported, and when: nothing heavy before it is needed."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import odecal
from odecal import systems

# ArviZ puts an unloaded `jax` among the modules; `jaxlib` is there only once JAX is loaded.
JAX = {"jaxlib", "equinox", "diffrax", "optimistix", "numpyro.distributions", "blackjax"}
TABLES = {"xarray", "pandas", "matplotlib", "arviz", "arviz_stats"}
COMMAND = "from odecal._cli.app import main; main()"


def modules(code, *arguments, cwd=None):
    """The modules that are loaded when a program in a process of its own ends."""
    report = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
    command = [sys.executable, "-c", report + code, *arguments]
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr, run.stderr
    return set(run.stderr.splitlines()[-1].split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the file of a small calibration."""
    folder = tmp_path_factory.mktemp("imports")
    draws, data = ("chain", "draw"), np.random.default_rng(0).normal(size=(2, 50))
    groups = {
        "posterior": {"rate": (draws, data)},
        "sample_stats": {
            name: (draws, np.zeros((2, 50), int))
            for name in ("diverging", "failed_solves", "solver_steps")
        },
        "observed_data": {"level": ("time", [1.0, 2.0], {"units": "m"})},
        "posterior_predictive": {"level": ((*draws, "time"), np.ones((2, 50, 2)))},
    }
    sets = {name: xr.Dataset(variables) for name, variables in groups.items()}
    odecal.save(xr.DataTree.from_dict(sets), folder / "x.nc")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "calibrate --help",
        "calibrate sir",
        "calibrate sir --out x.txt",
        "summary no.nc",
        "plot no.nc --out x.txt",
    ],
)
def test_help_and_mistakes_need_nothing_heavy(arguments, tmp_path):
    loaded = modules(COMMAND, *arguments.split(), cwd=tmp_path)
    assert "typer" in loaded
    assert not loaded & (JAX | TABLES | {"jax"})


def test_importing_odecal_needs_nothing_heavy():
    assert not modules("import odecal") & (JAX | TABLES | {"jax", "numpy"})


def test_the_public_names_need_no_tables():
    """Nor BlackJAX, which starts JAX when it is imported."""
    assert not modules("from odecal import *") & (TABLES | {"blackjax"})


def test_a_systems_list_needs_no_tables():
    assert not modules(COMMAND, "systems") & (TABLES | {"blackjax"})


def test_a_shipped_system_is_imported_when_it_is_used():
    loaded = modules("from odecal import systems; systems.LotkaVolterra")
    assert "odecal.systems.lotka_volterra" in loaded
    assert "odecal.systems.robertson" not in loaded


def test_summary_and_plot_do_not_load_jax(folder):
    loaded = modules(COMMAND, "summary", "x.nc", cwd=folder)
    assert "arviz_stats" in loaded
    assert not loaded & (JAX | {"matplotlib"})
    loaded = modules(COMMAND, "plot", "x.nc", "--out", "x.png", cwd=folder)
    assert (folder / "x.png").is_file()
    assert not loaded & (JAX | {"arviz", "arviz_stats"})


def test_a_calibration_needs_arviz_only_for_its_summary():
    loaded = modules(
        "import odecal._inference.engine, odecal._inference.predictive, odecal._results.tree"
    )
    assert "xarray" in loaded
    assert not loaded & {"arviz", "arviz_stats", "matplotlib", "blackjax"}


@pytest.mark.parametrize(
    "package",
    [odecal, odecal.noise, odecal.interpolation, odecal.samplers, odecal.adjoints, systems],
)
def test_every_public_name_is_an_attribute(package):
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert name in dir(package)
        assert getattr(package, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'odecal' has no attribute 'Stat'"):
        odecal.Stat  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Stat' from 'odecal'"):
        from odecal import Stat  # noqa: F401
