"""Files that are written whole or not at all, and what is refused before long work."""

import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import odecal
from odecal._run.output import check_output, replaced

DATA = xr.Dataset({"x": ("i", np.arange(3.0))})


def test_a_link_stays_and_its_target_is_written(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "x.nc", tmp_path / "there" / "y.nc"
    link.symlink_to(target)
    for _ in range(2):  # dangling at first
        odecal.save(DATA, link)
        assert link.is_symlink()
        assert not target.is_symlink()
        xr.testing.assert_identical(xr.load_dataset(target), DATA)
    assert [p.name for p in target.parent.iterdir()] == ["y.nc"]


def test_what_cannot_be_an_output_is_refused(tmp_path):
    loop = tmp_path / "loop.nc"
    loop.symlink_to(loop)
    os.mkfifo(tmp_path / "pipe.nc")
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "gone.nc").symlink_to(tmp_path / "no" / "x.nc")
    wrong = {
        "loop.nc": "leads back to itself",
        "pipe.nc": "no plain file",
        "folder.nc": "is a folder",
        "gone.nc": "does not exist",
        "n" * 300 + ".nc": "too long",
        "n" * 245 + ".nc": "too long",  # its journal's would be
        "x\0.nc": "NUL",
        "x\ud800.nc": "cannot be encoded",
        "d/" * 300 + "x.nc": "too long",
    }
    before = sorted(p.name for p in tmp_path.iterdir())
    for name, message in wrong.items():
        with pytest.raises(odecal.OutputError, match=message):
            check_output(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "name", ["a b.nc", "ü µ.nc", "line\nbreak.nc", "n" * 230 + ".nc", "%s{}.nc"]
)
def test_odd_names_are_written(tmp_path, name):
    odecal.save(DATA, tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_the_table_that_is_read_is_not_written_over(tmp_path):
    table = tmp_path / "data.nc"
    table.write_text("time,count\n1,2\n")
    (tmp_path / "link.nc").symlink_to(table)
    from odecal.systems import ExponentialDecay

    for source in (table, odecal.Observations(str(table)), odecal.Observations(None, doses=table)):
        with pytest.raises(odecal.OutputError, match="is the table"):
            odecal.calibrate(ExponentialDecay(), source, path=tmp_path / "link.nc")
    assert table.read_text().startswith("time")


def test_what_a_killed_process_left_is_removed(tmp_path):
    """And what a living one is writing is not."""
    path = tmp_path / "x.nc"
    code = (
        "import os, sys; from pathlib import Path; from odecal._run.output import replaced\n"
        "with replaced(Path(sys.argv[1])) as t: t.write_text('half'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    (left,) = tmp_path.iterdir()
    with replaced(path) as living:
        living.write_text("half")
        odecal.save(DATA, path)
        assert set(tmp_path.iterdir()) == {living, path}
    assert left.name.endswith(".tmp")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.nc"
    path.write_text("before")
    with pytest.raises(odecal.OutputError, match="Nothing was left"):
        odecal.save(DATA.rename(x="a/b"), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
