"""Files that are damaged: each gives a clear error, or what it held; never other numbers."""

import shutil
import subprocess

import netCDF4
import numpy as np
import pytest
import xarray as xr
from damage import damages
from odecal.systems import ExponentialDecay

import odecal

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


@pytest.mark.parametrize(
    "content", [b"", b"a", b"\x89HDF\r\n\x1a\n", b"time,x\n0,1\n", bytes(10**5)]
)
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
        with pytest.raises(odecal.OutputError, match="cannot go on.*changed since odecal wrote it"):
            odecal.extend(changed, 10, progress=False)
    odecal.save(tree, path)  # odecal writes it anew
    assert odecal.load(path).attrs["note"] == "mine"
