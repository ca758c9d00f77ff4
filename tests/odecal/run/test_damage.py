"""Files that are damaged: each gives a clear error, or what it held; never other numbers."""

import io
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import warnings
import zipfile

import netCDF4
import numpy as np
import pytest
import xarray as xr
from damage import damages
from odecal.systems import ExponentialDecay

import odecal
from odecal._run.checkpoint import read_checkpoint
from odecal._run.journal import FileJournal, journal_path
from odecal._run.npz import pack, unpack
from odecal._run.records import Snapshot
from odecal.samplers import Draw

SIZE = {"num_warmup": 60, "num_samples": 30, "num_chains": 2, "seed": 4, "progress": False}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small run, saved."""
    path = tmp_path_factory.mktemp("saved") / "whole.nc"
    odecal.calibrate(ExponentialDecay(), path=path, **SIZE)
    return path


def check_damaged_files(saved, folder, count, seed):
    whole = odecal.load(saved)
    path = folder / "damaged.nc"
    refused = 0
    for data, _ in damages(saved.read_bytes(), count, seed):
        path.write_bytes(data)
        try:
            tree = odecal.load(path)
        except odecal.OutputError:
            refused += 1
        else:
            xr.testing.assert_identical(tree, whole)
    return refused


def test_damaged_files_are_refused(saved, tmp_path):
    assert check_damaged_files(saved, tmp_path, 60, seed=1) == 60


@pytest.mark.slow
def test_many_damaged_files_are_refused(saved, tmp_path):
    assert check_damaged_files(saved, tmp_path, 1000, seed=2) == 1000


@pytest.mark.parametrize("content", [b"", b"a", b"\x89HDF\r\n\x1a\n", b"x\n1\n", bytes(9999)])
def test_what_is_no_file_of_ours_is_refused(content, tmp_path):
    (tmp_path / "x.nc").write_bytes(content)
    with pytest.raises(odecal.OutputError, match=r"damaged|cannot be read as netCDF"):
        odecal.load(tmp_path / "x.nc")


def test_a_file_cut_at_its_last_bytes_is_refused(saved, tmp_path):
    whole = saved.read_bytes()
    for lost in (*range(1, 200), 4096):
        (tmp_path / "x.nc").write_bytes(whole[:-lost])
        if lost == 80:  # the seal, and nothing else, is gone
            continue
        with pytest.raises(odecal.OutputError, match="damaged"):
            odecal.load(tmp_path / "x.nc")


def test_a_sealed_file_is_netcdf_for_others(saved):
    with netCDF4.Dataset(saved) as plain, xr.open_datatree(saved) as tree:
        assert set(plain.groups) == set(tree.children)
    if shutil.which("ncdump"):
        subprocess.run(["ncdump", "-h", str(saved)], check=True, capture_output=True)


def test_a_file_changed_on_purpose_is_read_with_a_warning_and_does_not_go_on(saved, tmp_path):
    path = tmp_path / "x.nc"
    with xr.open_datatree(saved) as tree:
        tree.load()
        tree.attrs["note"] = "mine"
        tree.to_netcdf(path)
    in_place = tmp_path / "y.nc"
    shutil.copy(saved, in_place)
    with netCDF4.Dataset(in_place, "a") as file:
        file.setncattr("note", "mine")
    for changed in (path, in_place):
        with pytest.warns(UserWarning, match="was changed since odecal wrote it"):
            tree = odecal.load(changed)
        assert tree.attrs["note"] == "mine"
        np.testing.assert_array_equal(
            tree["posterior"].to_dataset().to_array(),
            odecal.load(saved)["posterior"].to_dataset().to_array(),
        )
        with pytest.raises(odecal.OutputError, match=r"cannot go on.*changed since odecal"):
            odecal.extend(changed, 10, progress=False)
    odecal.save(tree, path)  # odecal writes it anew
    assert odecal.load(path).attrs["note"] == "mine"


def changed(tree, chance):
    """A result in which something is not as odecal writes it: gone, or of other type or dims."""
    sets = {group: tree[group].to_dataset() for group in tree.groups}
    kind = chance.choice(["group", "variable", "type", "dims", "attribute", "coordinate"])
    group = chance.choice([g for g in sets if g != "/"])
    data = sets[group]
    name = chance.choice(list(data.data_vars)) if data.data_vars else None
    if kind == "group" or name is None:
        del sets[group]
    elif kind == "variable":
        sets[group] = data.drop_vars(name)
    elif kind == "type":
        other = chance.choice([np.int8, np.float32, str])
        sets[group] = data.assign({name: (data[name].dims, np.zeros(data[name].shape, other))})
    elif kind == "dims":
        sets[group] = data.assign({name: data[name].rename({d: d + "_" for d in data[name].dims})})
    elif kind == "coordinate":
        sets[group] = data.drop_vars(list(data.coords))
    else:
        where = chance.choice([sets["/"], data, data[name]])
        for key in list(where.attrs):
            where.attrs[key] = chance.choice([1.5, "text", np.arange(3), b"\xff"])
    return xr.DataTree.from_dict(sets)


def check_changed_files(saved, folder, monkeypatch, count, commands, seed):
    from odecal._cli import app

    chance = random.Random(seed)
    monkeypatch.chdir(folder)
    for _ in range(count):
        changed(odecal.load(saved), chance).to_netcdf("x.nc")
        for command in commands:
            monkeypatch.setattr(sys, "argv", ["odecal", *command.split()])
            with pytest.warns() as told, pytest.raises(SystemExit):
                app.main()  # no other exception
            assert any("changed since odecal wrote it" in str(x.message) for x in told)


def test_files_changed_anyhow_are_read_with_a_warning_or_refused(saved, tmp_path, monkeypatch):
    check_changed_files(saved, tmp_path, monkeypatch, 5, ["summary x.nc"], seed=5)


@pytest.mark.slow
def test_many_files_changed_anyhow(saved, tmp_path, monkeypatch):
    commands = ["summary x.nc", "plot x.nc --out x.png"]
    check_changed_files(saved, tmp_path, monkeypatch, 60, commands, seed=6)


@pytest.fixture(scope="module")
def journal(saved, tmp_path_factory):
    """The bytes of a journal of six blocks, and what it holds."""
    path = tmp_path_factory.mktemp("journal") / "x.nc.partial"
    plan, warm_start, snapshot = read_checkpoint(saved, complete=True)
    (draws,) = snapshot.blocks
    made = FileJournal(path)
    made.record_plan(plan)
    made.record_start(warm_start)
    for end in range(15, 91, 15):
        cut = slice(end - 15, end)
        block = Draw(draws.position[:, cut], {k: x[:, cut] for k, x in draws.stats.items()})
        made.record(Snapshot(end, snapshot.state, (block,), 1.0))
    made.close()
    return path.read_bytes(), plan, warm_start, snapshot


def read_journal(path):
    """What a journal holds of a run, and whether it told of damage."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = FileJournal(path)
    try:
        return made.part("plan"), made.warm_start(), made.snapshot(), bool(told)
    finally:
        made.close()


def check_damaged_journals(journal, folder, count, seed):
    content, recorded_plan, warm_start, recorded = journal
    (draws,) = recorded.blocks
    ends = []
    for i, (data, _) in enumerate(damages(content, count, seed)):
        path = folder / f"{i}.nc.partial"
        path.write_bytes(data)
        try:
            plan, start, snapshot, told = read_journal(path)
        except odecal.OutputError:
            assert path.exists()
            continue
        assert plan == recorded_plan
        if start is not None:
            np.testing.assert_array_equal(start.ends, warm_start.ends)
        end = 0
        for block in snapshot.blocks if snapshot else ():
            cut = slice(end, end + block.position.shape[1])
            np.testing.assert_array_equal(block.position, draws.position[:, cut])
            for name, x in block.stats.items():
                np.testing.assert_array_equal(x, draws.stats[name][:, cut])
            end = cut.stop
        assert end == (snapshot.done if snapshot else 0)
        assert told or end == 90
        ends.append(end)
        assert not read_journal(path)[-1]  # it is mended
        path.unlink()
    return ends


def test_damaged_journals_keep_what_is_whole_in_them(journal, tmp_path):
    assert len(check_damaged_journals(journal, tmp_path, 40, seed=3)) > 15


@pytest.mark.slow
def test_many_damaged_journals_keep_what_is_whole_in_them(journal, tmp_path):
    ends = check_damaged_journals(journal, tmp_path, 1000, seed=4)
    assert len(ends) > 500
    assert {0, 75, 90} <= set(ends)


def change_journal(path, *commands):
    with sqlite3.connect(path) as database:
        for command in commands:
            database.execute(command)
    database.close()


LAST_BLOCK = "UPDATE block SET content = zeroblob(length(content)) WHERE done = 90"
LAST_STATE = "UPDATE state SET content = zeroblob(length(content)) WHERE done = 90"


@pytest.mark.parametrize(
    ("commands", "done"),
    [
        ([LAST_BLOCK], 75),
        ([LAST_STATE], 75),
        ([LAST_BLOCK, LAST_STATE], 75),
        (["DELETE FROM block WHERE done = 90"], 75),
        (["UPDATE block SET done = 30 + 60 - done WHERE done = 45"], 90),
        (["UPDATE block SET done = 1000 WHERE done = 45"], 0),
        (["DELETE FROM state"], 0),
        (["UPDATE block SET content = 'text' WHERE done = 90"], 75),
        (["UPDATE block SET sha256 = NULL WHERE done = 90"], 75),
        (["DELETE FROM part WHERE name = 'warm_start'"], 90),
    ],
)
def test_a_journal_loses_no_more_than_what_is_damaged(journal, tmp_path, commands, done):
    path = tmp_path / "x.nc.partial"
    path.write_bytes(journal[0])
    change_journal(path, *commands)
    snapshot = read_journal(path)[2]
    assert (snapshot.done if snapshot else 0) == done


def test_of_a_journal_that_was_cut_what_is_left_goes_on(journal, tmp_path):
    path = tmp_path / "x.nc.partial"
    path.write_bytes(journal[0][:-6000])
    plan, start, _, told = read_journal(path)
    assert plan == journal[1]
    np.testing.assert_array_equal(start.modes, journal[2].modes)
    assert told


@pytest.mark.parametrize(
    "command",
    [
        "CREATE TRIGGER t AFTER INSERT ON part BEGIN DELETE FROM block; END",
        "CREATE VIEW v AS SELECT * FROM part",
        "CREATE INDEX i ON block (content)",
        "DROP TABLE state",
        "ALTER TABLE block ADD COLUMN more TEXT",
    ],
)
def test_a_journal_of_other_tables_is_refused(journal, tmp_path, command):
    path = tmp_path / "x.nc.partial"
    path.write_bytes(journal[0])
    change_journal(path, command)
    with pytest.raises(odecal.OutputError, match=r"other tables.*delete that file"):
        odecal.resume(tmp_path / "x.nc", progress=False)


def test_a_journal_that_is_no_plain_file_is_refused(journal, tmp_path):
    path = tmp_path / "x.nc.partial"
    for make in (
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(tmp_path / "elsewhere"),
    ):
        make()
        for go in (odecal.resume, lambda *_, **__: FileJournal(path)):
            with pytest.raises(odecal.OutputError, match=r"no plain file|There is no file"):
                go(tmp_path / "x.nc", progress=False)
        path.rmdir() if path.is_dir() else path.unlink()
    assert not (tmp_path / "elsewhere").exists()


def test_a_run_whose_journal_lost_its_last_block_ends_as_if_it_had_not(saved, journal, tmp_path):
    path = tmp_path / "x.nc"
    journal_path(path).write_bytes(journal[0])
    change_journal(journal_path(path), "DELETE FROM state", LAST_BLOCK)
    with pytest.warns(UserWarning, match="was damaged. Whole in it are 0 transitions"):
        again = odecal.resume(path, progress=False)
    for group in ("posterior", "sample_stats", "posterior_predictive", "warm_start"):
        xr.testing.assert_identical(
            again[group].to_dataset(), odecal.load(saved)[group].to_dataset()
        )


def bomb(name, dtype, shape, content=b"", compression=zipfile.ZIP_STORED):
    """An archive of one array, whose header says what it likes."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    header = header.ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        bomb("a.npy", "<f8", (2**60,)),
        bomb("a.npy", "<f8", (-1,)),
        bomb("a.npy", "<f8", (2**62, 2**62)),
        bomb("a.npy", "<U0", (2**60,)),
        bomb("a.npy", "|O", (1,), b"cos\nsystem\n(S'true'\ntR."),
        bomb("a.npy", "|V8", (1,), bytes(8)),
        bomb("a.npy", "<f8", (1000,), bytes(8000), zipfile.ZIP_DEFLATED),
        bomb("a.npy", "(" * 5000, (1,)),
    ],
)
def test_arrays_that_are_none_are_refused(data):
    with pytest.raises(odecal.OutputError, match="cannot be read"):
        unpack(data)


def test_arrays_survive():
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "b": np.zeros((0, 3), np.float32),
        "c": np.asarray("text"),
        "d": np.asarray(["x", ""]),
        "e": np.asarray(True),
    }
    again = unpack(pack(arrays))
    for name, x in arrays.items():
        np.testing.assert_array_equal(again[name], x)
        assert again[name].dtype == x.dtype
