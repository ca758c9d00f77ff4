"""The command line, as a user types it."""

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr

SYSTEM = '''\
"""A tank that empties."""
import numpyro.distributions as dist

import odecal
from odecal import Observable, Parameter, State, System


class Tank(System):
    """A tank that empties through a hole."""

    t0 = 0.0
    level = State(initial=1.0, unit="m")
    rate = Parameter(dist.LogNormal(-1.0, 1.0), unit="1/h")
    sigma = Parameter(dist.HalfNormal(0.1), unit="m")

    def vector_field(self, t, y, p):
        return {"level": -p.rate * y.level}

    gauge = Observable(lambda t, y, p: odecal.noise.Normal(y.level, p.sigma), unit="m")
'''
DATA = "time,gauge\n1,0.62\n2,0.35\n3,0.24\n4,0.12\n"

# Tanks that are filled on the way: a population with a table of doses.
TANKS = """\
from pathlib import Path

import numpyro.distributions as dist

import odecal
from odecal import Derived, Observable, Parameter, State, System


class Tanks(System):
    \"\"\"Tanks that empty through holes.\"\"\"

    individual = "tank"
    t0 = 0.0
    data = Path(__file__).parent / "tanks.csv"
    level = State(initial=1.0, unit="m")
    rate = Parameter.varying(
        "tank", location=dist.Normal(-1.0, 0.5), scale=dist.HalfNormal(0.3), link="log", unit="1/h"
    )
    sigma = Parameter(dist.HalfNormal(0.1), unit="m")

    def vector_field(self, t, y, p):
        return {"level": -p.rate * y.level}

    gauge = Observable(lambda t, y, p: odecal.noise.Normal(y.level, p.sigma), unit="m")
    half_life = Derived(lambda p: 0.69 / p.rate, unit="h")
"""
NUM_TANKS = 20
TANKS_DATA = "tank,time,gauge\n" + "".join(
    f"{i},{time},{0.5**time + 0.01 * (i % 7) + (time > 2) * 0.7:.3f}\n"
    for i in range(NUM_TANKS)
    for time in (1, 3)
)
DOSES = "tank,time,amount\n" + "".join(f"{i},2.5,1.0\n" for i in range(NUM_TANKS))


def odecal(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "odecal", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "tank.py").write_text(SYSTEM)
    (folder / "data.csv").write_text(DATA)
    return folder


@pytest.fixture(scope="module")
def calibrated(folder):
    run = odecal(
        folder,
        *[
            "calibrate",
            "tank.py:Tank",
            "--data",
            "data.csv",
            "--out",
            "tank.nc",
            "--num-chains",
            "2",
        ],
        *[
            "--num-warmup",
            "200",
            "--num-samples",
            "100",
            "--seed",
            "3",
            "--adjoint",
            "recursive-checkpoint",
        ],
    )
    assert run.returncode == 0, run.stderr
    return run


def test_a_users_own_file_calibrates(calibrated, folder):
    tree = xr.open_datatree(folder / "tank.nc")
    assert tree["posterior"]["rate"].shape == (2, 100)
    assert 0.3 < float(tree["posterior"]["rate"].mean()) < 0.8
    assert tree.attrs["adjoint"].startswith("RecursiveCheckpoint")
    assert "class Tank(System)" in tree.attrs["system_source"]
    assert tree.attrs["num_devices"] >= 1
    assert "rate" in calibrated.stdout
    assert "200 draws in 2 chains" in calibrated.stdout
    assert "Sampling, 2 chains" in calibrated.stderr


@pytest.mark.usefixtures("calibrated")
def test_summary(folder):
    run = odecal(folder, "summary", "tank.nc")
    assert run.returncode == 0
    assert "ess_bulk" in run.stdout
    assert "1/h" in run.stdout


@pytest.mark.usefixtures("calibrated")
def test_plot(folder):
    run = odecal(folder, "plot", "tank.nc", "--out", "tank.png")
    assert run.returncode == 0
    assert (folder / "tank.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def tanks(folder):
    (folder / "tanks.py").write_text(TANKS)
    (folder / "tanks.csv").write_text(TANKS_DATA)
    (folder / "doses.csv").write_text(DOSES)
    run = odecal(
        folder,
        *("calibrate", "tanks.py:Tanks", "--doses", "doses.csv", "--out", "tanks.nc"),
        *("--num-chains", "2", "--num-warmup", "20", "--num-samples", "20"),
        *("--adjoint", "explicit-forward"),
    )
    assert run.returncode == 0, run.stderr
    return run


def test_doses_have_a_table_of_their_own(tanks, folder):
    """Here beside the data that come with the system."""
    given = xr.open_datatree(folder / "tanks.nc")["constant_data"]
    assert given["dose_amount"].values.tolist() == [1.0] * NUM_TANKS
    assert given["dose_time"].values.tolist() == [2.5] * NUM_TANKS
    assert f"The solves of {NUM_TANKS} individuals took" in tanks.stdout


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_many_groups_are_told_in_a_line_each(tanks, folder, options):
    run = odecal(folder, "summary", "tanks.nc", *options)
    assert run.returncode == 0, run.stderr
    assert "…" not in run.stdout
    rows = [line.split()[0] for line in run.stdout.splitlines() if line.strip()]
    each = [f"{name}[{i}]" for name in ("rate", "half_life") for i in range(NUM_TANKS)]
    assert [row for row in rows if "[" in row] == (each if options else [])
    assert {"rate_location", "rate_scale", "sigma"} < set(rows)
    assert ("--all prints each" in run.stdout) == (not options)
    lines = re.findall(rf"^(rate|half_life) +{NUM_TANKS} tank .* (?:1/)?h *$", run.stdout, re.M)
    assert lines == ([] if options else ["rate", "half_life"])
    if not options:
        assert [line for line in tanks.stdout.splitlines() if line.startswith("rate ")] == [
            line for line in run.stdout.splitlines() if line.startswith("rate ")
        ]


@pytest.mark.usefixtures("tanks")
def test_plot_of_a_visual_predictive_check(folder):
    plain = odecal(folder, "plot", "tanks.nc", "--vpc", "--out", "vpc.png")
    assert plain.returncode == 0, plain.stderr
    log = odecal(folder, "plot", "tanks.nc", "--vpc", "--log", "--out", "log.png")
    assert log.returncode == 0, log.stderr
    pictures = [(folder / name).read_bytes() for name in ("vpc.png", "log.png")]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]


@pytest.mark.usefixtures("calibrated")
def test_a_visual_predictive_check_needs_a_population(folder):
    run = odecal(folder, "plot", "tank.nc", "--vpc", "--out", "none.png")
    assert run.returncode == 1
    assert "needs a population" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (folder / "none.png").exists()


@pytest.mark.usefixtures("calibrated")
def test_extend_adds_draws_to_a_users_own_system(folder):
    """Found again by its file, with its data and settings from the result."""
    (folder / "more.nc").write_bytes((folder / "tank.nc").read_bytes())
    run = odecal(folder, "extend", "more.nc", "--num-samples", "20")
    assert run.returncode == 0, run.stderr
    tree = xr.open_datatree(folder / "more.nc")
    assert tree["posterior"]["rate"].shape == (2, 120)
    assert tree.attrs["adjoint"].startswith("RecursiveCheckpoint")
    assert "240 draws in 2 chains" in run.stdout


def test_a_signal_leaves_a_valid_file(folder):
    command = [
        *(sys.executable, "-m", "odecal", "calibrate", "tank.py:Tank", "--data", "data.csv"),
        *("--out", "long.nc", "--num-samples", "10000000"),
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("Sampling"):
            time.sleep(2.0)
            process.send_signal(signal.SIGTERM)
    out = process.stdout.read()
    assert process.wait() == 128 + signal.SIGTERM
    assert "odecal resume long.nc" in out
    tree = xr.open_datatree(folder / "long.nc")
    assert tree.attrs["complete"] == 0
    assert tree.attrs["done"] > 0
    assert not (folder / "long.nc.partial").exists()


def test_compare_adjoints(folder):
    run = odecal(
        folder,
        *[
            "compare-adjoints",
            "tank.py:Tank",
            "--adjoint",
            "recursive-checkpoint",
            "--adjoint",
            "explicit-forward",
            "--data",
            "data.csv",
            "--out",
            "c.nc",
            "--figure",
            "c.png",
        ],
    )
    assert run.returncode == 0, run.stderr
    assert "recursive_checkpoint" in run.stdout
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")
    comparison = xr.open_dataset(folder / "c.nc")
    assert set(comparison.adjoint.values) == {"explicit_forward", "recursive_checkpoint"}
    assert (comparison.gradient_time > 0).all()
    assert (comparison.compile_time > 0).all()
    assert (comparison.peak_memory > 0).all()
    assert float(comparison.relative_error.max()) < 1e-2
    assert comparison.gradient_time.attrs["units"] == "s"


def test_systems_lists_what_is_shipped(folder):
    run = odecal(folder, "systems")
    assert run.returncode == 0
    for name in ("exponential_decay", "lotka_volterra", "robertson", "sir"):
        assert name in run.stdout
    assert re.search(r"theophylline +gut, central +ka, clearance, volume, *sigma", run.stdout)


MISTAKES = [
    ("calibrate lotka_voltera --out x.nc", "Did you mean `lotka_volterra`"),
    ("calibrate tank.py:Tonk --out x.nc", "Did you mean `Tank`"),
    ("calibrate tank.py --out x.nc", "path/to/file.py:ClassName"),
    ("calibrate missing.py:Tank --out x.nc", "There is no file missing.py"),
    ("calibrate broken.py:Tank --out x.nc", "broken.py cannot be run"),
    ("calibrate linx.py:Tank --out x.nc", "no derivative for state `level`.*Did you mean `level`"),
    ("calibrate tank.py:Tank --out x.nc", "comes with no observations.*--data"),
    ("calibrate tank.py:Tank --data no.csv --out x.nc", "There is no file no.csv"),
    ("calibrate tank.py:Tank --data text.csv --out x.nc", "`gauge` holds text in row 2: 'low'"),
    ("calibrate tank.py:Tank --data data.csv --time hour --out x.nc", "no time column `hour`"),
    ("calibrate lotka_volterra --doses no.csv --out x.nc", "There is no file no.csv"),
    ("calibrate tank.py:Tank --data data.csv --doses text.csv --out x.nc", "table of doses has no"),
    ("calibrate theophylline --doses text.csv --out x.nc", "Expected one of the two"),
    ("calibrate lotka_volterra --out x.txt", r"end in \.nc"),
    ("calibrate lotka_volterra --out no/x.nc", "does not exist"),
    ("calibrate lotka_volterra --out x.nc --sampler nut", "Did you mean `nuts`"),
    (
        "calibrate lotka_volterra --out x.nc --adjoint back",
        "Expected one of: auto, .*, explicit-forward",
    ),
    ("calibrate lotka_volterra --out x.nc --metric full", "Expected one of: dense, diagonal"),
    ("calibrate lotka_volterra --out x.nc --dtype half", "Expected one of: float64, float32"),
    ("calibrate lotka_volterra --out x.nc --set depth=3", "NUTS has no setting `depth`"),
    ("calibrate lotka_volterra --out x.nc --set max_tree_depth", "a name and a number"),
    ("calibrate lotka_volterra --out x.nc --sampler chees --num-chains 2", "learns from an ensem"),
    ("compare-adjoints lotka_volterra --out x.nc --adjoint backsolv", "Did you mean `backsolve`"),
    ("resume no.nc", "There is no file no.nc"),
    ("extend no.nc --num-samples 3", "There is no file no.nc"),
    ("summary no.nc", "There is no file no.nc"),
    ("plot no.nc --out x.png", "There is no file no.nc"),
    ("plot no.nc --vpc --out x.png", "There is no file no.nc"),
    ("plot no.nc --log --out x.png", "Add --vpc"),
    (
        "compare-adjoints tank.py:Tank --data data.csv --doses no.csv --out x.nc",
        "There is no file no.csv",
    ),
    ("compare-adjoints lotka_volterra --out x.nc --figure x.pdf", r"end in \.png"),
]


@pytest.mark.parametrize(("command", "message"), MISTAKES, ids=[c for c, _ in MISTAKES])
def test_a_mistake_gives_one_message(command, message, tmp_path, monkeypatch, capsys):
    """And nothing is written. In this process, since starting one for each would take long."""
    from odecal._cli import app

    (tmp_path / "tank.py").write_text(SYSTEM)
    (tmp_path / "broken.py").write_text("class Tank(:\n")
    (tmp_path / "linx.py").write_text(SYSTEM.replace('return {"level"', 'return {"levl"'))
    (tmp_path / "data.csv").write_text(DATA)
    (tmp_path / "text.csv").write_text(DATA.replace("0.35", "low"))
    before = set(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["odecal", *command.split()])
    monkeypatch.setattr(app, "_prepare", lambda *_: False)
    with pytest.raises(SystemExit) as stop:
        app.main()
    text = capsys.readouterr().err
    assert stop.value.code == 1
    assert re.search(message, text), text
    assert text.startswith("odecal: ")
    assert "Traceback" not in text
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == before


def test_a_usage_error_is_no_traceback(tmp_path):
    run = odecal(tmp_path, "calibrate", "sir")
    assert run.returncode == 2
    assert "--out" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    import tempfile

    from odecal._errors import OutputError
    from odecal._run.output import check_output

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        check_output(Path(tmp_path) / "x.nc")


def test_what_is_compiled_is_kept_in_the_users_cache_folder(tmp_path):
    """A folder of bounded size needs a package that JAX does not depend on."""
    code = "from odecal._cli.settings import prepare_jax as p; p(); import jax; jax.jit(abs)(1.5)"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("odecal/jax/*-cache"))
    required = " ".join(importlib.metadata.requires("odecal"))
    assert "filelock" in required.partition("; extra")[0]
