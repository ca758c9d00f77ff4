"""Censored values: cells that say so, and limits of quantification."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from example_tables import read as read_table
from numpy.testing import assert_array_equal

from odecal import Observable, ObservationError, State, System

INF = np.inf


class Plain(System):
    a = State(initial=1.0)

    def vector_field(self, t, y, p):
        return {"a": -y.a}

    level = Observable(lambda t, y, p: dist.Normal(y.a, 1.0))


class Limited(Plain):
    level = Observable(lambda t, y, p: dist.Normal(y.a, 1.0), lloq=0.5, uloq=10.0)


class Vector(Plain):
    coords = {"age": ["young", "old"]}  # noqa: RUF012
    level = Observable(lambda t, y, p: dist.Normal(y.a, 1.0).expand([2]), dims="age", lloq=0.5)


def table(*cells):
    return pd.DataFrame({"time": np.arange(1.0 + len(cells)), "level": [1.0, *cells]})


def read(*cells, system=Plain):
    return read_table(table(*cells), system).series["level"]


def refuse(cell, pattern, system=Plain):
    with pytest.raises(ObservationError, match=pattern):
        read(cell, system=system)


@pytest.mark.parametrize(
    ("cell", "lower", "upper"),
    [
        ("<0.5", -INF, 0.5),
        (" < 0.5 ", -INF, 0.5),
        ("<.5", -INF, 0.5),
        ("<-1e-3", -INF, -1e-3),
        (">100", 100.0, INF),
        ("> 1.5e2", 150.0, INF),
        ("0.2..0.5", 0.2, 0.5),
        ("-2 .. 3", -2.0, 3.0),
        ("2..2", 2.0, 2.0),
        ("0.7", 0.7, 0.7),
        (0.7, 0.7, 0.7),
    ],
)
def test_cells_that_say_what_is_known(cell, lower, upper):
    series = read(cell, "<9")
    assert_array_equal(series.values, [1.0, lower, -INF])
    assert_array_equal(series.upper, [1.0, upper, 9.0])
    assert series.complete


def test_where_nothing_is_censored_there_are_no_upper_bounds():
    assert read(2.0, np.nan, 10.0, system=Limited).upper is None


def test_cells_of_a_csv(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("time,level\n1,0.7\n2,<0.5\n3,\n4, > 100\n5,NA\n")
    series = read_table(path, Plain).series["level"]
    assert_array_equal(series.times, [1.0, 2.0, 4.0])
    assert_array_equal(series.values, [0.7, -INF, 100.0])
    assert_array_equal(series.upper, [0.7, 0.5, INF])


def test_numbers_beyond_the_limits_of_quantification():
    series = read(0.5, 0.4, 10.0, 11.0, system=Limited)
    assert_array_equal(series.values, [1.0, 0.5, -INF, 10.0, 10.0])
    assert_array_equal(series.upper, [1.0, 0.5, 0.5, 10.0, INF])


def test_bounds_that_a_cell_says_stay_beyond_the_limits():
    series = read("<0.2", "0.1..0.3", system=Limited)
    assert_array_equal(series.values, [1.0, -INF, 0.1])
    assert_array_equal(series.upper, [1.0, 0.2, 0.3])


@pytest.mark.parametrize("cell", ["BLQ", "bloq", " Lloq "])
def test_below_the_limit_in_words(cell):
    series = read(cell, system=Limited)
    assert_array_equal(series.values, [1.0, -INF])
    assert_array_equal(series.upper, [1.0, 0.5])


def test_elements_of_a_vector():
    data = pd.DataFrame(
        {"time": [1.0, 2.0], "level[young]": ["<0.3", None], "level[old]": [0.4, 3.0]}
    )
    series = read_table(data, Vector).series["level"]
    assert_array_equal(series.present, [[True, True], [False, True]])
    assert_array_equal(series.values, [[-INF, -INF], [3.0, 3.0]])
    assert_array_equal(series.upper, [[0.3, 0.5], [3.0, 3.0]])


def test_missing_element_where_all_are_censored():
    data = pd.DataFrame(
        {"time": [1.0, 2.0], "level[young]": ["<0.3", None], "level[old]": [0.4, 0.4]}
    )
    series = read_table(data, Vector).series["level"]
    assert series.values[1, 0] == -INF
    assert series.upper[1, 0] == 0.3


def test_below_the_limit_in_words_without_a_limit():
    refuse("BLQ", r"`level` holds BLQ in row 2, below a limit that is not known.*lloq=\.\.\.")


def test_bounds_in_the_wrong_order():
    refuse("3..2", r"`level` holds bounds in the wrong order in row 2: '3\.\.2'.*Write 2\.\.3\.")


@pytest.mark.parametrize("cell", ["about 1", "<", "<inf", "1..", "<1 2", "=3", " "])
def test_other_text(cell):
    refuse(cell, r"`level` holds text in row 2: .*censored one is <0\.5, >100 or 0\.2\.\.0\.5, or")


def test_infinite_numbers_are_refused():
    refuse(INF, r"infinite value in row 2")


def test_times_cannot_be_censored():
    data = table(2.0).astype(object)
    data.loc[1, "time"] = "<1"
    with pytest.raises(ObservationError, match=r"`time` holds text in row 2.*NA or NaN\.$"):
        read_table(data, Plain)
