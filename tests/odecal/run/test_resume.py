"""Runs that are killed, interrupted, out of space, resumed and extended."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace

import diffrax
import numpy as np
import pytest
import xarray as xr
from odecal.systems import ExponentialDecay, LotkaVolterra

import odecal
from odecal import samplers
from odecal._inference.calibrate import _new_journal
from odecal._run.encode import from_plain, to_plain
from odecal._run.journal import FileJournal, journal_path

SIZE = {"num_warmup": 150, "num_samples": 120, "num_chains": 2, "seed": 4, "progress": False}

# A process that is killed at a moment: so many seconds after its first block, or after its start.
CHILD = """
import os, signal, sys, threading
import jax
jax.config.update("jax_num_cpu_devices", 2)
import odecal
from odecal._inference.engine import Engine
from odecal.systems import ExponentialDecay
from odecal._run import journal
how, path, delay, after_first = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4] == "1"
start = lambda: threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
record = journal.FileJournal.record
begun = []
def recorded(self, snapshot):
    record(self, snapshot)
    if after_first and not begun:
        begun.append(start())
journal.FileJournal.record = recorded
if not after_first:
    start()
if how == "calibrate":
    odecal.calibrate(ExponentialDecay(), path=path, **{size})
else:
    odecal.resume(path, progress=False)
"""


def killed(how, path, delay, after_first, size):
    """Run a process that is to be killed; whether it was."""
    code = CHILD.replace("{size}", repr(size))
    arguments = [how, str(path), str(delay), str(int(after_first))]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode in (0, -signal.SIGKILL), run.stderr
    return run.returncode != 0


def assert_same(first, second):
    """Every draw, statistic and prediction is the same, bit by bit."""
    assert set(first.groups) == set(second.groups)
    for group in set(first.groups) - {"/checkpoint", "/"}:
        xr.testing.assert_identical(first[group].to_dataset(), second[group].to_dataset())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A small run that nothing has interrupted, saved."""
    path = tmp_path_factory.mktemp("whole") / "whole.nc"
    odecal.calibrate(ExponentialDecay(), path=path, **SIZE)
    assert list(path.parent.iterdir()) == [path]
    return path


def kill_until_done(path, kills, size, seed):
    """Kill a run so many times at random moments, and then let it end."""
    chance = random.Random(seed)
    done = 0
    for _ in range(kills):
        how = "resume" if journal_path(path).exists() else "calibrate"
        if path.exists():
            break  # it was faster than its killer
        after_first = chance.random() < 0.8
        delay = chance.uniform(0.0, 0.6) if after_first else chance.uniform(1.0, 6.0)
        done += killed(how, path, delay, after_first, size)
    if not path.exists():
        if journal_path(path).exists():
            odecal.resume(path, progress=False)
        else:
            odecal.calibrate(ExponentialDecay(), path=path, **size)
    return done


def test_a_run_that_is_killed_ends_bit_for_bit_as_if_it_had_not_been(uninterrupted, tmp_path):
    path = tmp_path / "killed.nc"
    assert kill_until_done(path, 3, SIZE, seed=0) > 0
    assert_same(odecal.load(uninterrupted), odecal.load(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_kills_at_random_moments(tmp_path, seed):
    size = SIZE | {"num_warmup": 3000, "num_samples": 8000, "seed": seed}
    whole = odecal.calibrate(ExponentialDecay(), **size)
    path = tmp_path / "killed.nc"
    assert kill_until_done(path, 6, size, seed) > 1
    assert_same(whole, odecal.load(path))


def interrupt_after(monkeypatch, transitions):
    """As Ctrl-C would, once so many transitions are done."""
    record = FileJournal.record

    def recorded(self, snapshot):
        record(self, snapshot)
        if snapshot.done >= transitions:
            raise KeyboardInterrupt

    monkeypatch.setattr(FileJournal, "record", recorded)


@pytest.mark.parametrize("transitions", [20, 180])
def test_an_interrupt_leaves_a_valid_file_that_goes_on(
    uninterrupted, tmp_path, monkeypatch, transitions
):
    path = tmp_path / "x.nc"
    interrupt_after(monkeypatch, transitions)
    with pytest.warns(UserWarning, match=r"interrupted after \d+ of 270 transitions"):
        part = odecal.calibrate(ExponentialDecay(), path=path, **SIZE)
    monkeypatch.undo()
    assert part.attrs["complete"] == 0
    done = part.attrs["done"]
    assert transitions <= done < 270
    assert list(tmp_path.iterdir()) == [path]
    if transitions > SIZE["num_warmup"]:
        whole = odecal.load(uninterrupted)
        draws = whole["posterior"].isel(draw=slice(done - 150)).to_dataset()
        xr.testing.assert_allclose(odecal.load(path)["posterior"].to_dataset(), draws)
        assert "interrupted" in " ".join(verdict(part))
        with pytest.raises(odecal.OutputError, match=r"unfinished.*odecal resume"):
            odecal.extend(path, 10, progress=False)
    else:
        assert "posterior" not in part.children
        with pytest.raises(odecal.OutputError, match="in warm-up, and holds no draw yet"):
            odecal.load(path)
    assert_same(odecal.load(uninterrupted), odecal.resume(path, progress=False))


def verdict(tree):
    from odecal._results.summary import summary
    from odecal._results.verdict import verdict

    return verdict(tree, summary(tree))


def test_extending_gives_what_a_longer_run_would_have(uninterrupted, tmp_path):
    path = tmp_path / "x.nc"
    path.write_bytes(uninterrupted.read_bytes())
    longer = odecal.extend(path, 40, progress=False)
    whole = odecal.calibrate(ExponentialDecay(), **(SIZE | {"num_samples": 160}))
    for group in ("posterior", "sample_stats", "posterior_predictive", "log_likelihood"):
        first, second = whole[group].to_dataset(), longer[group].to_dataset()
        xr.testing.assert_allclose(first, second, rtol=1e-12)
    np.testing.assert_array_equal(
        longer["unconstrained_posterior"]["position"], whole["unconstrained_posterior"]["position"]
    )
    assert longer.attrs["num_samples"] == 160
    assert_same(longer, odecal.load(path))


def test_a_full_disk_is_said_and_nothing_is_lost(uninterrupted, tmp_path, monkeypatch):
    path = tmp_path / "x.nc"
    made = FileJournal.__init__

    def small(self, path):
        made(self, path)
        self._database.execute("PRAGMA max_page_count = 20")

    monkeypatch.setattr(FileJournal, "__init__", small)
    with pytest.raises(odecal.OutputError, match=r"full.*odecal resume"):
        odecal.calibrate(ExponentialDecay(), path=path, **SIZE)
    monkeypatch.undo()
    journal = FileJournal(journal_path(path))
    assert journal.snapshot().done > 0
    journal.close()
    assert not path.exists()
    assert_same(odecal.load(uninterrupted), odecal.resume(path, progress=False))


def test_a_result_that_cannot_be_written_can_be_written_later(uninterrupted, tmp_path, monkeypatch):
    path = tmp_path / "x.nc"

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", full)
    with pytest.raises(odecal.OutputError, match="No space left"):
        odecal.calibrate(ExponentialDecay(), path=path, **SIZE)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["x.nc.partial"]
    assert_same(odecal.load(uninterrupted), odecal.resume(path, progress=False))


def test_a_mistake_leaves_no_journal(tmp_path):
    with pytest.raises(odecal.ObservationError):
        odecal.calibrate(ExponentialDecay(), tmp_path / "no.csv", path=tmp_path / "x.nc")
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_not_overwritten(tmp_path):
    path = tmp_path / "x.nc"
    FileJournal(journal_path(path)).close()
    with pytest.raises(odecal.OutputError, match=r"unfinished run.*odecal resume.*delete"):
        odecal.calibrate(ExponentialDecay(), path=path, **SIZE)


def test_two_processes_do_not_write_one_run(tmp_path):
    journal = _new_journal(tmp_path / "x.nc")
    code = (
        "import sys; from pathlib import Path; from odecal._run.journal import FileJournal\n"
        "FileJournal(Path(sys.argv[1]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(journal.path)], capture_output=True, text=True, check=False
    )
    assert "Another process is working on the run" in other.stderr
    journal.close()


def test_what_cannot_go_on_is_refused(uninterrupted, tmp_path):
    with pytest.raises(odecal.OutputError, match=r"complete: there is nothing to resume.*extend"):
        odecal.resume(uninterrupted, progress=False)
    with pytest.raises(odecal.OutputError, match="There is no file"):
        odecal.resume(tmp_path / "no.nc", progress=False)
    with pytest.raises(odecal.SettingsError, match=r"num_samples.*at least 1"):
        odecal.extend(uninterrupted, 0, progress=False)
    with pytest.raises(odecal.OutputError, match="of another system"):
        odecal.extend(uninterrupted, 10, LotkaVolterra(), progress=False)
    with pytest.raises(odecal.OutputError, match="of another system"):
        odecal.extend(uninterrupted, 10, ExponentialDecay(sigma=0.1), progress=False)


SETTINGS = [
    odecal.Solve(),
    odecal.Solve(rtol=1e-5, adjoint=odecal.adjoints.RecursiveCheckpoint(), dtype="float32"),
    replace(LotkaVolterra().solve, max_steps=100),
    samplers.NUTS(metric=samplers.LowRankMetric(max_rank=3)),
    samplers.TemperedSMC(max_moves=3),
    odecal.Solve(solver=diffrax.Kvaerno5()),  # with Diffrax's stand-ins for tolerances
    odecal.Solve(adjoint=odecal.adjoints.Gauss(1e-7, 1e-9, diffrax.Kvaerno5(), points=4)),
    odecal.Solve(adjoint=odecal.adjoints.Backsolve(max_drift=0.1)),
    odecal.Solve(adjoint=odecal.adjoints.RecursiveCheckpoint(checkpoints=7)),
    odecal.Solve(adjoint=odecal.adjoints.Direct(), max_steps=100),
]


def robertson_solve():
    from odecal.systems import Robertson

    return Robertson().solve


@pytest.mark.parametrize("index", range(len(SETTINGS) + 1))
def test_settings_survive_a_file(index):
    settings = [*SETTINGS, robertson_solve()][index]
    again = from_plain(json.loads(json.dumps(to_plain(settings))))
    assert type(again) is type(settings)
    assert to_plain(again) == to_plain(settings)


def test_settings_are_found_by_the_names_of_earlier_versions():
    """Those of the files that declared them; files name the packages that export them."""
    solve = odecal.Solve(solver=diffrax.Kvaerno5(), adjoint=odecal.adjoints.Gauss(points=4))
    plain = to_plain([solve, samplers.NUTS(metric=samplers.LowRankMetric())])
    text = json.dumps(plain)
    for now, before in {
        "odecal:Solve": "odecal._settings:Solve",
        "odecal.adjoints:Gauss": "odecal.adjoints._gauss:Gauss",
        "odecal.samplers:NUTS": "odecal.samplers._nuts:NUTS",
        "odecal.samplers:LowRankMetric": "odecal.samplers._metrics:LowRankMetric",
        "diffrax:Kvaerno5": "diffrax._solver.kvaerno5:Kvaerno5",
        "diffrax:VeryChord": "diffrax._root_finder._verychord:VeryChord",
        "lineax:AutoLinearSolver": "lineax._solve:AutoLinearSolver",
    }.items():
        assert now in text
        text = text.replace(now, before)
    assert to_plain(from_plain(json.loads(text))) == plain


def test_constants_are_found_again():
    solver = diffrax.Kvaerno5()
    assert from_plain(to_plain(solver)).root_finder.rtol is solver.root_finder.rtol


def test_what_has_no_name_is_not_described():
    with pytest.raises(TypeError, match="cannot be found by a name"):
        to_plain(lambda x: x)


def test_the_environment_of_a_child_has_the_cache():
    """So that killed processes start fast; see conftest."""
    assert "JAX_COMPILATION_CACHE_DIR" in os.environ
