"""A user's own file: its name, what lies beside it, and what it leaves behind."""

import os
import pickle
import queue
import subprocess
import sys

import pytest

import odecal
from odecal._run.plan import plan_from_bytes, plan_to_bytes
from odecal._run.provenance import system_attrs
from odecal._run.records import Plan
from odecal._run.source import SourceDigest
from odecal._system.find import find_system
from odecal._system.user_file import run_file
from odecal.samplers import NUTS, Run

SYSTEM = """\
import dataclasses
import queue
import random

import diffrax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import odecal
from odecal import Observable, Parameter, State, System


class Solver(diffrax.Tsit5):
    pass


@dataclasses.dataclass(frozen=True)
class Setting:
    value: float = 2.0


assert queue.Queue and random.random and np.float64 and jnp.zeros


class D(System):
    t0 = 0.0
    solve = odecal.Solve(solver=Solver())
    level = State(initial=1.0)
    rate = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"level": -p.rate * y.level}

    gauge = Observable(lambda t, y, p: odecal.noise.Normal(y.level, 0.1))
"""
NAMES = ["queue.py", "random.py", "jax.py", "numpy.py", "odecal.py", "test.py", "my model.py"]
NAMES += ["2cpt.py", "types.py", "tänk-é.py"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_takes_the_place_of_no_module(name, tmp_path):
    path = tmp_path / name
    path.write_text(SYSTEM)
    before, places = dict(sys.modules), list(sys.path)
    system = find_system(f"{path}:D")
    assert all(sys.modules[other] is module for other, module in before.items())
    assert sys.path == places
    assert "class D(System)" in system_attrs(system)["system_source"]
    setting = sys.modules[type(system).__module__].Setting(3.0)
    assert pickle.loads(pickle.dumps(setting)) == setting
    assert find_system(f"{path}:D").declaration.name == "D"
    assert queue.Queue.__module__ == "queue"


@pytest.mark.parametrize("name", ["queue.py", "types.py", "numpy.py"])
def test_what_lies_beside_a_file_hides_no_module(name, tmp_path):
    (tmp_path / "tank.py").write_text(SYSTEM)
    (tmp_path / name).write_text("raise RuntimeError('hidden')\n")
    assert find_system(f"{tmp_path / 'tank.py'}:D").declaration.name == "D"


def test_each_file_imports_what_lies_beside_it(tmp_path, monkeypatch):
    """Also where a module of that name has been imported, or is found from the working folder."""
    (tmp_path / "rates_here.py").write_text("k = 0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    import rates_here

    found = []
    for i in (1, 2, 1):
        folder = tmp_path / str(i)
        folder.mkdir(exist_ok=True)
        (folder / "rates_here.py").write_text(f"k = {float(i)}\n")
        (folder / "tank.py").write_text("from rates_here import k\n")
        found.append(run_file(folder / "tank.py"))
    assert [module.k for module in found] == [1.0, 2.0, 1.0]
    assert found[0].__name__ == found[2].__name__ != found[1].__name__
    assert sys.modules["rates_here"] is rates_here


def test_a_helper_of_an_installed_name_is_told(tmp_path):
    before = set(sys.modules)
    (tmp_path / "types.py").write_text("rate = 1.0\n")
    (tmp_path / "tank.py").write_text("from types import rate\n")
    with pytest.raises(odecal.DeclarationError, match=r"line 1.*types\.py beside it.*another name"):
        run_file(tmp_path / "tank.py")
    assert not [name for name in set(sys.modules) - before if "odecal_file" in name]


def test_a_run_finds_what_a_file_declares_again(tmp_path):
    """A solver of its own, in a file that has moved."""
    first, second = tmp_path / "queue.py", tmp_path / "moved.py"
    first.write_text(SYSTEM)
    second.write_text(SYSTEM)
    data = tmp_path / "data.csv"
    data.write_text("time,gauge\n1,0.5\n2,0.3\n")
    model = odecal.compile(find_system(f"{first}:D"), data)
    plan = Plan(model, NUTS(), Run(1, 1, 1), 0)
    written = plan_to_bytes(plan)
    again = plan_from_bytes(written, tmp_path / "x.nc", None)
    assert type(again.model.solve.solver).__name__ == "Solver"
    moved = find_system(f"{second}:D")
    assert type(plan_from_bytes(written, tmp_path / "x.nc", moved).model.solve.solver) is type(
        moved.solve.solver
    )


PARTS = """
import numpyro.distributions as dist
import odecal

NOISE = odecal.noise.Normal

class U(odecal.System):
    t0 = 0.0
    solve = odecal.Solve(adjoint=odecal.adjoints.ExplicitReverse(), max_steps=100)
    u = odecal.Input("u", interpolation=odecal.interpolation.Linear())
    a = odecal.State(initial=1.0)
    weight = odecal.Covariate("WT")
    k = odecal.Parameter.varying("ID", location=dist.Normal(0.0, 1.0), scale=dist.HalfNormal(1.0))
    c = odecal.Constant(2.0)
    d = odecal.Derived(lambda p: p.c * 2)
    e = odecal.Event(lambda t, y, p: 1.0 - y.a, lambda t, y, p: {"a": 0.0})
    g = odecal.Observable(lambda t, y, p: NOISE(y.a, 0.1))

    def vector_field(self, t, y, p):
        return {"a": -p.k * y.a}
"""


def test_a_system_has_the_digest_that_files_hold(tmp_path):
    """Where odecal's modules move, saved runs of unchanged systems still go on."""
    path = tmp_path / "parts.py"
    path.write_text(PARTS)
    digest = SourceDigest(find_system(f"{path}:U")).digest
    assert digest == "55bf7b51083d3d25aa894b4584c354badf8dc79298d7b30aaf5d6d62cc4c5f04"


SESSION = """
import xarray as xr
import numpyro.distributions as dist
import odecal

a = xr.Dataset({"level": ("x", [LEVEL, 2.0])})
rates = xr.Dataset({"low": ("x", [LOW, 2.0])})

class U(odecal.System):
    t0 = 0.0
    a = odecal.State(initial=1.0)
    k = odecal.Parameter(dist.HalfNormal(1.0))
    g = odecal.Observable(lambda t, y, p: odecal.noise.Normal(y.a, 0.1))

    def vector_field(self, t, y, p):
        return {"a": -p.k * float(rates.low[0]) * y.a}
"""


def test_what_has_the_name_of_a_state_is_no_part_of_the_system(tmp_path):
    """Such as a result of before; what the functions use is a part, a dataset too."""

    def digest(level, low):
        path = tmp_path / "session.py"
        path.write_text(SESSION.replace("LEVEL", level).replace("LOW", low))
        return SourceDigest(find_system(f"{path}:U")).digest

    first = digest("1.0", "1.0")
    assert digest("3.0", "1.0") == first
    assert digest("1.0", "3.0") != first


def test_the_working_folder_hides_no_module(tmp_path):
    for name in ("queue.py", "jax.py", "numpy.py", "typer.py"):
        (tmp_path / name).write_text("raise RuntimeError('hidden')\n")
    run = subprocess.run(
        [sys.executable, "-m", "odecal", "calibrate", "queue.py:D", "--out", "x.nc"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert "The file queue.py cannot be run (line 1): RuntimeError: hidden" in run.stderr
