"""Random tables in memory, of columns of any type: each cell is what it was, or is refused."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_random_tables import FEW, MANY, Plots, attempt

from odecal import Observable, noise

exact = st.one_of(
    st.integers(0, 99),
    st.integers(-(2**70), 2**70),
    st.floats(-1e6, 1e6),
    st.floats(),
    st.decimals(-1000, 1000, places=3),
    st.fractions(-10, 10, max_denominator=9),
    st.booleans(),
    st.sampled_from(
        [None, pd.NA, np.nan, pd.NaT, "1.5", " 2", "x", "", "NA", "1_0", 1j, b"1", (1,)]
    ),
    st.sampled_from([np.float32(0.1), np.int8(3), np.float64(0.1), np.bool_(True), Decimal("NaN")]),
    st.sampled_from(
        [pd.Timestamp("2020"), pd.Timedelta(1), pd.Period("2020"), np.datetime64(1, "ns")]
    ),
)
KINDS = (
    *("float64", "float32", "float16", "int64", "int8", "uint64", "Int64", "Float64", "Float32"),
    *("boolean", "bool", "object", "str", "category", "complex128", "datetime64[ns]", "Sparse"),
    *("timedelta64[ns]", "period[Y]"),
)


def column(draw, plain):
    """A column of some type, of cells that may be none of numbers."""
    cells = [draw(plain) for _ in range(4)]
    kind = draw(st.sampled_from(KINDS))
    series = pd.Series(cells, dtype=object)
    try:
        return series.astype(kind)
    except Exception:  # cells that this type does not have
        return series


def same_number(cell, value):
    """Whether a float is the number that stands in a cell; NaN for a missing one."""
    if isinstance(cell, str):
        return float(cell) == value
    if cell is None or cell is pd.NA or cell is pd.NaT or pd.isna(cell):
        return np.isnan(value)
    if isinstance(cell, (Decimal, Fraction)):
        return float(cell) == value
    return isinstance(cell, (int, float, np.number, np.bool_)) and cell == value


def equal(one, other):
    try:
        return bool(one == other)
    except TypeError:
        return False


@st.composite
def frames(draw):
    level = column(draw, draw(st.sampled_from([st.floats(0, 10), st.integers(0, 9), exact, exact])))
    time = pd.Series(sorted(draw(st.lists(st.integers(0, 9), min_size=4, max_size=4))))
    if draw(st.booleans()):
        time = column(draw, draw(st.sampled_from([st.floats(0, 0), st.just(0), exact])))
    labels = st.sampled_from(
        [1, 2, 3.0, "1", "2", "1.0", "a", "a ", 2**53, 2.0**53, 2**53 + 1, True]
    )
    label = column(draw, draw(st.sampled_from([st.integers(0, 3), labels, labels, exact])))
    table = pd.DataFrame({"ID": label, "time": time, "level": level, "note": [1, 1, 1, 1]})
    if draw(st.integers(0, 9)) == 0 and "float16" not in map(str, table.dtypes):
        table = table.set_index(draw(st.sampled_from(["ID", "time", "note"])))
    return table


class Plain(Plots):
    weight = None
    heat = None
    other = None
    level = Observable(lambda t, y, p: noise.Normal(y.x, 1.0))


PLAIN = Plain()


def assert_frame(table):
    before = table.copy(deep=True)
    experiment = attempt(table, PLAIN)
    pd.testing.assert_frame_equal(table, before)
    if experiment is None:
        return
    table = table if "note" in table else table.reset_index()
    table = table.reset_index() if table.index.name else table
    labels = table["ID"].astype(object).tolist()
    series = experiment.series["level"]
    found = experiment.individuals.labels
    # The same individual if and only if the labels are equal, and of one kind.
    rows = {
        row: (i, j) for j, (row, i) in enumerate(zip(series.row, series.individual, strict=True))
    }
    for a, (i, _) in rows.items():
        for b, (k, _) in rows.items():
            one, other = labels[a], labels[b]
            kinds = {(isinstance(x, str), isinstance(x, (bool, np.bool_))) for x in (one, other)}
            assert bool(i == k) is (len(kinds) == 1 and equal(one, other))
        whole = isinstance(labels[a], float) and labels[a].is_integer()
        label = int(labels[a]) if whole else labels[a]
        assert str(found[i]) == str(label).strip() or found[i] == label
    for row, (time, level) in enumerate(
        zip(table["time"].astype(object), table["level"].astype(object), strict=True)
    ):
        if row in rows:
            j = rows[row][1]
            assert same_number(time, series.times[j])
            assert same_number(level, series.values[j])
        else:
            assert same_number(level, np.nan)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@FEW
@given(frames())
def test_frames(table):
    assert_frame(table)


@pytest.mark.slow
@MANY
@given(frames())
def test_many_frames(table):
    assert_frame(table)
