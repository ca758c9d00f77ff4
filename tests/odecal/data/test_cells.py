"""Cells of tables and datasets: each is the number or the label that stands there, or refused."""

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from example_tables import Vector, read, refuse, table
from numpy.testing import assert_array_equal
from test_csv import Plots

from odecal import Observations

BIG = 2**53 + 1


def people(labels):
    return pd.DataFrame({"ID": labels, "time": [0.0, 0.0, 0.0], "level": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([Decimal("0.1"), 2, 3], [0.1, 2.0, 3.0]),
        ([Fraction(1, 3), 2, 3], [1 / 3, 2.0, 3.0]),
        (np.array([0.1, 0.2, 0.3], np.float32), np.array([0.1, 0.2, 0.3], np.float32).tolist()),
        (pd.arrays.SparseArray([1.5, 2.5, 3.5]), [1.5, 2.5, 3.5]),
        (pd.Categorical([1.5, 2.5, 9.5]), [1.5, 2.5, 9.5]),
        (pd.Categorical(["7", "8", "9.50"]), [7.0, 8.0, 9.5]),
        (pd.array(["0.30000000000000004", "1", "3e0"], dtype="str"), [0.1 + 0.2, 1.0, 3.0]),
        (["8.41470984807896506652502321630e-1", 1, 2], [0.8414709848078965, 1.0, 2.0]),
        ([2**53, 2**53 + 2, 2**60], [2.0**53, 2.0**53 + 2, 2.0**60]),
        (pd.array([1, 2, 3], dtype="UInt8"), [1.0, 2.0, 3.0]),
    ],
)
@pytest.mark.parametrize("name", ["time", "level"])
def test_cells_of_many_kinds(cells, expected, name):
    series = read(table(**{name: cells})).series["level"]
    assert (series.times if name == "time" else series.values).tolist() == expected


def test_truths_are_values_and_no_times():
    for cells in ([True, False, True], np.array([True, False, True]).astype(object)):
        series = read(table(level=cells)).series["level"]
        assert series.values.tolist() == [1.0, 0.0, 1.0]
    refuse(table(time=[False, True, True]), r"`time` holds True and False")


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        (np.array([1 + 2j, 2, 3]), "complex numbers"),
        (pd.Series([1 + 2j, 2, 3], dtype=object), "a complex in row 1"),
        (pd.period_range("2020", periods=3, freq="Y"), "dates"),
        (pd.date_range("2020", periods=3, tz="UTC"), "dates"),
        ([datetime.date(2020, 1, 1)] * 3, "a date in row 1"),
        ([datetime.timedelta(1)] * 3, "dates"),
        ([1.0, True, 2.0], "a bool in row 2"),
        ([1, BIG, 3], f"{BIG} in row 2"),
        (pd.array([1, BIG, 3], dtype="Int64"), f"{BIG} in row 2"),
        (np.array([1, 2**64 - 1, 3], np.uint64), f"{2**64 - 1} in row 2"),
        (pd.Series([1, 10**5000, 3], dtype=object), "in row 2"),
        ([1, Decimal(BIG), 3], "in row 2"),
        ([1, str(BIG), 3], f"{BIG} in row 2"),
        ([b"1", b"2", b"3"], "a bytes in row 1"),
        ([1, "1_000", 3], "text in row 2"),
        ([1, "0x10", 3], "text in row 2"),
        ([1, "nan", 3], "text in row 2"),
        ([1, "inf", 3], "an infinite value in row 2"),
        ([1, Decimal("Infinity"), 3], "an infinite value in row 2"),
        (pd.interval_range(0, 3), "a Interval in row 1"),
        ([1, [2], 3], "a list in row 2"),
    ],
)
@pytest.mark.parametrize("name", ["time", "level"])
def test_cells_that_are_no_numbers(cells, what, name):
    refuse(table(**{name: cells}), rf"`{name}` holds {what}" if what[0] == "a" else what)


def test_times_of_single_precision():
    seconds = 1.7e9 + 30 * np.arange(3)
    assert read(table(time=seconds)).t0 == 1.7e9
    refuse(table(time=seconds.astype(np.float32)), r"times of float32, which are rounded to steps")
    refuse(table(time=np.full(3, 1.7e9, np.float32)), r"times of float32, which are rounded")
    for fine in ([0, 1, 2000], [0.1, 0.2, 0.3]):
        for kind in (np.float16, np.float32):
            times = np.array(fine, kind)
            found = read(table(time=times)).series["level"].times
            assert_array_equal(found, times.astype(float))


def test_times_of_doses_are_times():
    observed = pd.DataFrame({"ID": [1, 1], "time": [1.7e9, 1.7e9 + 90], "level": [1.0, 2.0]})
    for times, what in (
        (np.array([1.7e9, 1.7e9 + 30], np.float32), "times of float32"),
        ([True, True], "True and False"),
    ):
        doses = pd.DataFrame({"ID": [1, 1], "time": times, "amount": [1.0, 2.0]})
        refuse(Observations(observed, doses=doses), f"`time` holds {what}", Plots)


# Labels.


@pytest.mark.parametrize(
    "labels",
    [
        [1, BIG, BIG - 1],
        np.array([1, 2**64 - 1, 2**64 - 2], np.uint64),
        [1.0, 2.0, 3.0],
        [0.1, 0.2, 0.30000000000000004],
        ["a", "A", "b"],
        ["1", "2", "10"],
        pd.Categorical(["b", "a", "c"]),
        pd.period_range("2020", periods=3, freq="Y"),
        pd.to_datetime([1, 2, 3], unit="ns"),
        [True, False, "maybe"],
    ],
)
def test_each_label_is_one_individual(labels):
    individuals = read(people(labels), Plots).individuals
    assert list(map(str, individuals.labels)) == [
        str(int(x)) if isinstance(x, float) and x.is_integer() else str(x) for x in labels
    ]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ([2.0**53, 2.0, 3.0], r"label 9007199254740992\.0 in row 1 as a number of float64"),
        (np.array([1, 2, 2**24], np.float32), "in row 3 as a number of float32"),
        ([1.0, np.inf, 2.0], "label inf in row 2"),
        (["1", 1, 2], r"labels '1' in row 1 and 1 in row 2"),
        (["1", 2, 1.0], r"labels '1' in row 1 and 1.0 in row 3"),
        (["1.0", 1, "a"], r"labels '1\.0' in row 1 and 1 in row 2"),
        (["1", "1.0", "2"], r"labels '1' in row 1 and '1.0' in row 2"),
        (["a", "b", "a "], r"labels 'a' in row 1 and 'a ' in row 3"),
        ([True, "True", 2], r"labels True in row 1 and 'True' in row 2"),
        (["a", "a\0", "b"], "a bytes|text in row 2"),
        ([1 + 2j, 2, 3], "a complex in row 1"),
        ([(1, 2), 2, 3], "a tuple in row 1"),
        ([1, None, 3], "is empty in row 2"),
    ],
)
def test_labels_that_are_none_or_may_be_one(labels, what):
    refuse(
        people(
            pd.Series(labels, dtype=None if isinstance(labels, np.ndarray) else object)
            if "float" not in what
            else labels
        ),
        what,
        Plots,
    )


def test_an_index_beside_its_column():
    data = table().set_index("time", drop=False)
    assert read(data).t0 == 0.5
    data.index = pd.Index([5.0, 6.0, 7.0], name="time")
    refuse(data, r"`time` as a column and in its index, and they differ")
    assert read(data.reset_index(drop=True)).t0 == 0.5


# Datasets.


def individuals(labels, **more):
    level = (("ID", "time"), [[1.0, 2.0], [3.0, 4.0]])
    return xr.Dataset({"level": level, **more}, {"ID": labels, "time": [0.0, 1.0]})


def test_individuals_of_datasets():
    assert read(individuals([2, 1]), Plots).individuals.labels.tolist() == [2, 1]
    refuse(individuals([1, 1]).isel(time=[0]), r"index `ID` has duplicates: 1", Plots)
    refuse(individuals([1.0, np.nan]), r"`ID` is empty in row", Plots)
    refuse(individuals(["a", "a "]), r"which could be the same", Plots)


def test_values_of_datasets():
    replicates = (("time", "replicate"), [[1.0, 2.0], [3.0, 4.0]])
    data = xr.Dataset({"level": replicates, "count": ("time", [BIG, 1])}, {"time": [0.0, 1.0]})
    refuse(data, f"`count` holds {BIG} in row 1")
    coded = data.assign(count=("time", [1, -9], {"_FillValue": -9}))
    refuse(coded, r"`count` has the attribute _FillValue.*decode_cf")
    found = read(xr.decode_cf(coded)).series["count"]
    assert_array_equal(found.values, [1.0])


def test_labels_of_dims_are_matched_as_text():
    class Numbered(Vector):
        coords = {"age": [1, 2]}  # noqa: RUF012

    seen = (("time", "age"), [[1.0, 2.0]])
    data = xr.Dataset({"seen": seen}, {"time": [0.0], "age": ["2", "1"]})
    assert read(data, Numbered).series["seen"].values.tolist() == [[2.0, 1.0]]
