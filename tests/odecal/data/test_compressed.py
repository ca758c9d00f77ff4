"""Tables that come compressed, and files that are broken or are something else."""

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pytest

import odecal
from odecal._data import compressed
from odecal._data.frame import read_frame

CSV = b"time,gauge\n1,0.62\n2,0.35\n"
LONG = CSV + b"".join(b"%d,%f\n" % (i, i**0.5) for i in range(3, 3000))


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_slash_", "/").replace("_dot_", "."), content)
    return buffer.getvalue()


def flipped(content, at):
    broken = bytearray(content)
    broken[at] ^= 255
    return bytes(broken)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(CSV, mtime=0)),
        ("t.CSV.GZ", gzip.compress(CSV, mtime=0)),
        ("t.csv.bz2", bz2.compress(CSV)),
        ("t.csv.xz", lzma.compress(CSV)),
        ("t.zip", zipped(t_dot_csv=CSV)),
        ("t.zip", zipped(t_dot_csv=CSV, __MACOSX_slash_t_dot_csv=b"of the Finder")),
    ],
)
def test_what_is_compressed_is_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(read_frame(tmp_path / name)["gauge"], [0.62, 0.35])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv.gz", gzip.compress(LONG, mtime=0)[:500], "cannot be unpacked"),
        ("t.csv.bz2", bz2.compress(LONG)[:500], "cannot be unpacked"),
        ("t.csv.xz", lzma.compress(LONG)[:500], "cannot be unpacked"),
        ("t.zip", zipped(t_dot_csv=LONG)[:500], "cannot be unpacked"),
        ("t.csv.gz", flipped(gzip.compress(LONG, mtime=0), 300), "cannot be unpacked"),
        ("t.csv.gz", flipped(gzip.compress(LONG, mtime=0), -6), "cannot be unpacked"),
        ("t.zip", flipped(zipped(t_dot_csv=LONG), 300), "cannot be unpacked"),
        *[(f"t{s}", b"no such thing", "misnamed") for s in (".gz", ".bz2", ".xz", ".zip")],
        ("t.csv.gz", CSV, r"misnamed.*end in \.csv"),
        ("t.csv", gzip.compress(CSV, mtime=0), r"compressed \(gzip\).*\.csv\.gz"),
        ("t.csv.bz2", lzma.compress(CSV), "misnamed"),
        ("t.zip", zipped(a_dot_csv=CSV, b_dot_csv=CSV), r"2 files \(a\.csv, b\.csv\)"),
        ("t.zip", zipped(), r"0 files"),
        ("t.xlsx", zipped(a=b""), "workbook"),
        ("t.tar.gz", gzip.compress(CSV, mtime=0), "Unpack it first"),
        ("t.csv.zst", b"x", "Unpack it first"),
    ],
)
def test_what_is_broken_is_told_once(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(odecal.ObservationError, match=message) as told:
        read_frame(tmp_path / name)
    assert str(told.value).count("Expected") == 1


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "_MOST_BYTES", 2**20)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"time\n" + b"0" * 2**22, mtime=0))
    with pytest.raises(odecal.ObservationError, match="unpacks to more than"):
        read_frame(tmp_path / "t.csv.gz")
