"""What has been drawn is kept, whatever fails afterwards."""

import os
import re
import shutil
from pathlib import Path

import pytest
import xarray as xr
from odecal.systems import ExponentialDecay

import odecal
from odecal._results import tree
from odecal._run.journal import FileJournal, journal_path

SIZE = {"num_warmup": 20, "num_samples": 30, "num_chains": 2, "seed": 4, "progress": False}


@pytest.fixture(scope="module")
def whole():
    return odecal.calibrate(ExponentialDecay(), **SIZE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def failing(monkeypatch):
    build_tree = tree.build_tree

    def build(result):
        if not result.compile_seconds:  # the rehearsal
            return build_tree(result)
        raise RuntimeError("something\nthat nobody has thought of")

    monkeypatch.setattr(tree, "build_tree", build)


def gone_on_with(message, whole):
    """The run that a message says how to go on with, in Python as on the command line."""
    path = re.search(r"odecal resume (\S+\.nc)", message).group(1)
    assert f"odecal.resume({path!r}, system)" in message or "rescued" not in message
    tree = odecal.resume(path, progress=False)
    xr.testing.assert_identical(tree["posterior"].to_dataset(), whole["posterior"].to_dataset())
    assert not journal_path(Path(path)).exists()


def test_draws_without_a_path_are_kept_where_their_result_fails(here, monkeypatch, whole):
    failing(monkeypatch)
    with pytest.raises(odecal.SamplingError, match="something that nobody") as told:
        odecal.calibrate(ExponentialDecay(), **SIZE)
    monkeypatch.undo()
    assert [p.name for p in here.iterdir()] == ["odecal-rescued.nc.partial"]
    gone_on_with(str(told.value), whole)


def test_draws_with_a_path_are_kept_in_the_journal(here, monkeypatch, whole):
    failing(monkeypatch)
    for call in (
        lambda: odecal.calibrate(ExponentialDecay(), path="x.nc", **SIZE),
        lambda: odecal.resume("x.nc", progress=False),
    ):
        with pytest.raises(odecal.SamplingError, match=r"kept in \S+x\.nc\.partial") as told:
            call()
    monkeypatch.undo()
    gone_on_with(str(told.value), whole)


def test_an_interrupt_while_predicting_says_where_the_draws_are(here, monkeypatch):
    from odecal._inference.predictive import Evaluator

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluator, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt) as told:
        odecal.calibrate(ExponentialDecay(), **SIZE)
    assert "kept in" in told.value.__notes__[0]
    assert [p.name for p in here.iterdir()] == ["odecal-rescued.nc.partial"]


@pytest.mark.parametrize("blocks", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_draws_are_kept_where_the_folder_has_been_deleted(here, monkeypatch, whole, blocks):
    folder = here / "runs"
    folder.mkdir()
    record = FileJournal.record

    def recorded(self, snapshot):
        if len(snapshot.blocks) == blocks:
            shutil.rmtree(folder, ignore_errors=True)
        record(self, snapshot)

    monkeypatch.setattr(FileJournal, "record", recorded)
    with pytest.raises(odecal.OutputError, match="odecal-rescued") as told:
        odecal.calibrate(ExponentialDecay(), path=folder / "x.nc", **SIZE)
    monkeypatch.undo()
    gone_on_with(str(told.value), whole)


def test_the_working_folder_may_change(here, monkeypatch):
    (here / "other").mkdir()
    record = FileJournal.record

    def recorded(self, snapshot):
        record(self, snapshot)
        os.chdir(here / "other")

    monkeypatch.setattr(FileJournal, "record", recorded)
    odecal.calibrate(ExponentialDecay(), path="x.nc", **SIZE)
    assert sorted(p.name for p in here.iterdir()) == ["other", "x.nc"]
    assert not list((here / "other").iterdir())
