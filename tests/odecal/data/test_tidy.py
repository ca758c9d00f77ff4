import re
from dataclasses import replace

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from example_tables import Two, Vector, table
from numpy.testing import assert_array_equal

from odecal import Observable, ObservationError, State, System
from odecal._data.columns import column_roles
from odecal._data.datasets import is_dataset, table_of
from odecal._data.frame import read_frame
from odecal._data.tidy import read_tidy

DATES = ["2020-01-01", "2020-01-02", "2020-01-03"]


def read(data, system=Two, time=None, usual_time=None, ignore=()):
    system = system() if isinstance(system, type) else system
    roles = replace(column_roles(system.declaration, time, ignore), usual_time=usual_time)
    if is_dataset(data):
        table, time = table_of(data, roles)
        return read_tidy(table, roles, time).rows
    return read_tidy(read_frame(data), roles).rows


def refuse(data, pattern, system=Two, time=None):
    with pytest.raises(ObservationError, match=pattern):
        read(data, system, time)


def assert_rows(rows, times, values):
    assert_array_equal(rows.times, times)
    assert_array_equal(rows.lower, values)
    assert_array_equal(rows.upper, values)


def write(path, text):
    path.write_text(text)
    return path


# What is read.


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_csv_by_path(tmp_path, kind):
    path = write(tmp_path / "data.csv", "time,level,count\n0.5,1,4\n1.0,2,5\n")
    rows = read(kind(path))
    assert_rows(rows["level"], [0.5, 1.0], [1.0, 2.0])
    assert_rows(rows["count"], [0.5, 1.0], [4.0, 5.0])


def test_csv_with_spaces_and_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "data.csv", "\ufefftime , level, count\n0.5, 1, 4\n")
    assert_rows(read(path)["level"], [0.5], [1.0])


@pytest.mark.parametrize("missing", ["", "NA", "NaN", "nan", " "])
def test_csv_with_missing_cells(tmp_path, missing):
    path = write(tmp_path / "data.csv", f"time,level,count\n0.5,{missing},4\n1.0,2,5\n")
    assert_rows(read(path)["level"], [0.5, 1.0], [np.nan, 2.0])


def test_table_in_any_order_of_columns():
    rows = read(table()[["count", "time", "level"]])
    assert_rows(rows["level"], [0.5, 1.0, 2.0], [1.0, 2.0, 3.0])
    assert rows["count"].lower.dtype == float


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "object", "string"])
def test_table_of_another_dtype_with_a_missing_value(dtype):
    column = pd.Series([4, None, 6], dtype=dtype)
    assert_rows(read(table(count=column))["count"], [0.5, 1.0, 2.0], [4.0, np.nan, 6.0])


def test_table_with_time_as_its_index():
    assert_rows(read(table().set_index("time"))["level"], [0.5, 1.0, 2.0], [1.0, 2.0, 3.0])


def test_table_with_replicates_keeps_its_rows():
    rows = read(table(time=[0.5, 0.5, 1.0]))
    assert_rows(rows["level"], [0.5, 0.5, 1.0], [1.0, 2.0, 3.0])


def test_table_is_not_changed():
    data = table().set_index("time")
    before = data.copy()
    read(data)
    pd.testing.assert_frame_equal(data, before)


def test_vector_columns_are_stacked_in_the_order_of_the_labels():
    data = pd.DataFrame({"time": [1.0, 2.0], "seen[old]": [3.0, 4.0], "seen[young]": [1.0, 2.0]})
    assert_rows(read(data, Vector)["seen"], [1.0, 2.0], [[1.0, 3.0], [2.0, 4.0]])


def test_columns_of_two_dims_are_named_by_both_labels():
    labels = {"age": ["young", "old"], "sex": ["f", "m", "x"]}

    class Matrix(System):
        coords = labels
        x = State(initial=1.0, dims=("age", "sex"))

        def vector_field(self, t, y, p):
            return {"x": -y.x}

        seen = Observable(lambda t, y, p: dist.Normal(y.x, 1.0), dims=("age", "sex"))

    columns = {
        f"seen[{age},{sex}]": [10.0 * i + j]
        for i, age in enumerate(labels["age"])
        for j, sex in enumerate(labels["sex"])
    }
    rows = read(pd.DataFrame({"time": [1.0], **columns}), Matrix)
    assert_rows(rows["seen"], [1.0], [[[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]])


# The time column.


@pytest.mark.parametrize("name", ["time", "t", "week"])
def test_time_column_is_found(name):
    rows = read(table().rename(columns={"time": name}))
    assert_array_equal(rows["level"].times, [0.5, 1.0, 2.0])


@pytest.mark.parametrize(
    "layout",
    [{"time": "week"}, {"usual_time": "week"}],
    ids=["declared", "usual"],
)
def test_time_column_that_is_named_is_taken(layout):
    rows = read(table(week=[7.0, 8.0, 9.0]), ignore=("time",), **layout)
    assert_array_equal(rows["level"].times, [7.0, 8.0, 9.0])


def test_usual_time_column_that_is_not_there_gives_way():
    rows = read(table(), usual_time="week")
    assert_array_equal(rows["level"].times, [0.5, 1.0, 2.0])


def test_time_column_whose_name_is_a_number_is_found():
    rows = read(table().rename(columns={"time": 0}))
    assert_array_equal(rows["level"].times, [0.5, 1.0, 2.0])


def test_ignored_columns_may_hold_anything():
    rows = read(table(note=["a", "b", "c"]), ignore=("note",))
    assert set(rows) == {"level", "count"}


# Columns that do not fit.


# Values that do not fit.


@pytest.mark.parametrize("name", ["time", "level"])
def test_text_in_a_numeric_column(name):
    refuse(
        table(**{name: [0.5, "about 1", 2.0]}),
        rf"column `{name}` holds text in row 2: 'about 1'.*missing value is an empty cell",
    )


def test_text_in_a_numeric_column_of_a_csv(tmp_path):
    path = write(tmp_path / "data.csv", "time,level,count\n0.5,1,4\n1.0,~0.1,5\n")
    refuse(path, r"column `level` holds text in row 2: '~0\.1'.*missing value is")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("name", ["time", "level"])
def test_infinite_value(name, value):
    refuse(
        table(**{name: [0.5, 1.0, value]}),
        rf"column `{name}` holds an infinite value in row 3.*make it NaN if it is missing",
    )


# Files that do not fit.


def test_missing_file(tmp_path):
    path = tmp_path / "nowhere.csv"
    refuse(path, rf"no file {re.escape(str(path))}\. Expected the path of a CSV table")


def test_folder_in_place_of_a_file(tmp_path):
    refuse(tmp_path, r"cannot be read as a CSV table\. Expected text, a header line")


def test_empty_file(tmp_path):
    refuse(write(tmp_path / "data.csv", ""), r"data\.csv is empty\. Expected a header and rows")


def test_file_of_a_header_alone(tmp_path):
    refuse(write(tmp_path / "data.csv", "time,level,count\n"), r"table has no rows")


def test_binary_file(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"time,level,count\n\xff\xfe\x00,1,2\n")
    refuse(path, r"data\.csv cannot be read as a CSV table\. Expected text")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_file_with_another_separator(tmp_path, mark):
    text = "time,level,count\n0.5,1,4\n".replace(",", mark)
    refuse(write(tmp_path / "data.csv", text), r"has one column.*separated by commas.*sep=\.\.\.\)")


def test_file_with_more_cells_than_columns(tmp_path):
    path = write(tmp_path / "data.csv", "time,level,count\n0.5,1,4,7\n1.0,2,5,8\n")
    refuse(path, r"data\.csv")


def test_file_with_a_comma_at_the_end_of_every_row(tmp_path):
    path = write(tmp_path / "data.csv", "time,level,count\n0.5,1,4,\n1.0,2,5,\n")
    assert_rows(read(path)["level"], [0.5, 1.0], [1.0, 2.0])


@pytest.mark.parametrize("data", [None, [1.0, 2.0], {"time": [1.0]}, np.ones((2, 3))])
def test_data_of_another_type(data):
    refuse(
        data, rf"expected as a pandas\.DataFrame.*path of a CSV file\. Got a {type(data).__name__}"
    )


# xarray.


def dataset(**variables):
    base = {"level": ("time", [1.0, 2.0, np.nan]), "count": ("time", [4, 5, 6])}
    return xr.Dataset({**base, **variables}, {"time": [0.5, 1.0, 2.0]})


def test_dataset():
    rows = read(dataset())
    assert_rows(rows["level"], [0.5, 1.0, 2.0], [1.0, 2.0, np.nan])
    assert_rows(rows["count"], [0.5, 1.0, 2.0], [4.0, 5.0, 6.0])


def test_data_array():
    data = dataset()["level"]
    rows = read(data, Two(count=None))
    assert_rows(rows["level"], [0.5, 1.0, 2.0], [1.0, 2.0, np.nan])


@pytest.mark.parametrize("order", [("time", "replicate"), ("replicate", "time")])
def test_dataset_with_replicates(order):
    both = xr.DataArray([[1.0, 2.0], [3.0, 4.0], [5.0, np.nan]], dims=("time", "replicate"))
    rows = read(dataset(level=both.transpose(*order)))
    times = [0.5, 0.5, 1.0, 1.0, 2.0, 2.0]
    assert_rows(rows["level"], times, [1.0, 2.0, 3.0, 4.0, 5.0, np.nan])
    # What has no replicates is not repeated.
    assert_rows(rows["count"], times, [4.0, np.nan, 5.0, np.nan, 6.0, np.nan])


@pytest.mark.parametrize("order", [("time", "age"), ("age", "time")])
@pytest.mark.parametrize("labels", [["young", "old"], ["old", "young"]])
def test_dataset_with_labels_in_any_order(order, labels):
    young_old = {"young": [1.0, 2.0], "old": [3.0, 4.0]}
    seen = xr.DataArray(
        np.stack([young_old[label] for label in labels], axis=-1),
        dims=("time", "age"),
        coords={"time": [1.0, 2.0], "age": labels},
    )
    rows = read(xr.Dataset({"seen": seen.transpose(*order)}), Vector)
    assert_rows(rows["seen"], [1.0, 2.0], [[1.0, 3.0], [2.0, 4.0]])


def test_dataset_without_labels_is_taken_in_order():
    seen = (("time", "age"), [[1.0, 3.0], [2.0, 4.0]])
    rows = read(xr.Dataset({"seen": seen}, {"time": [1.0, 2.0]}), Vector)
    assert_rows(rows["seen"], [1.0, 2.0], [[1.0, 3.0], [2.0, 4.0]])


@pytest.mark.parametrize("layout", [{}, {"time": "week"}, {"usual_time": "week"}], ids=str)
def test_dataset_with_another_time_dimension(layout):
    rows = read(dataset().rename(time="week"), **layout)
    assert_array_equal(rows["level"].times, [0.5, 1.0, 2.0])


def test_dataset_with_an_ignored_variable():
    rows = read(dataset(note=("time", ["a", "b", "c"])), ignore=("note",))
    assert set(rows) == {"level", "count"}


def test_dataset_with_a_dimension_of_an_ignored_variable():
    data = dataset(note=(("time", "place"), np.ones((3, 2)))).assign_coords(place=[0, 1])
    rows = read(data, ignore=("note",))
    assert_array_equal(rows["level"].times, [0.5, 1.0, 2.0])


DATASETS = {
    "dataset without a variable": (
        dataset().rename(level="levle"),
        r"no variable `level` for the observable of Two.*Did you mean `levle`.*Two\(level=None\)",
    ),
    "dataset with an unknown variable": (
        dataset(levels=("time", [1.0, 2.0, 3.0])),
        r"variable `levels` is no observable of Two.*Did you mean `level`\?.*drop_vars",
    ),
    "dataset without a time coordinate": (
        dataset().drop_vars("time"),
        r"time dimension `time` with a coordinate is expected.*Name it by time_column",
    ),
    "dataset without the declared time": (
        dataset(),
        r"time dimension `week` with a coordinate.*dimensions time.*time=\.\.\.\)",
        Two,
        "week",
    ),
    "dataset with a time twice": (
        dataset().isel(time=[0, 1, 1]),
        r"time index `time` has duplicates: .*1\.0.*dimension of their own, `replicate`",
    ),
    "dataset without times": (
        dataset().isel(time=slice(0)),
        r"dataset has no times\. Expected at least one",
    ),
    "dataset with dates": (
        dataset().assign_coords(time=pd.to_datetime(DATES)),
        r"column `time` holds dates.*Convert it",
    ),
    "dataset with text": (
        dataset(level=("time", ["a", "b", "c"])),
        r"`level` holds text in row 1.*Expected numb",
    ),
    "dataset with an infinite value": (
        dataset(level=("time", [1.0, np.inf, 2.0])),
        r"column `level` holds an infinite value in row 2.*make it NaN",
    ),
    "dataset with a dimension too many": (
        dataset(level=(("time", "place"), np.ones((3, 2)))).assign_coords(place=[0, 1]),
        r"variable `level` has the dimensions time, place\. Expected time",
    ),
    "dataset with a dimension too few": (
        xr.Dataset({"seen": ("time", [1.0, 2.0])}, {"time": [1.0, 2.0]}),
        r"variable `seen` has the dimensions time\. Expected time, age",
        Vector,
    ),
    "dataset with other labels": (
        xr.Dataset(
            {"seen": (("time", "age"), np.ones((1, 2)))},
            {"time": [1.0], "age": ["young", "elderly"]},
        ),
        r"labels of `age` of `seen` differ\. Expected young, old\. Got young, el",
        Vector,
    ),
    "dataset with another number of elements": (
        xr.Dataset({"seen": (("time", "age"), np.ones((1, 3)))}, {"time": [1.0]}),
        r"variable `seen` has the wrong shape.*Expected \(2,\)\. Got \(3,\)",
        Vector,
    ),
}


@pytest.mark.parametrize("case", DATASETS.values(), ids=DATASETS)
def test_datasets_that_do_not_fit(case):
    refuse(*case)


TABLES = {
    "declared time column that is missing": (
        table().rename(columns={"time": "weeks"}),
        r"no time column `week`\..*Got the columns: weeks, level, count\. Did you mean `weeks`",
        Two,
        "week",
    ),
    "time column that cannot be told": (
        table(note=1.0).rename(columns={"time": "week"}),
        r"time column cannot be told.*Got week, note\. Name it `time`, or.*time_column",
    ),
    "no time column at all": (
        table().drop(columns="time"),
        r"time column cannot be told.*Got \(none\)\. Name it",
    ),
    "missing column": (
        table().drop(columns="count"),
        r"no column `count` for the observable `count` of Two.*leave the observable out with "
        r"Two\(count=None\)",
    ),
    "misspelt column": (
        table().rename(columns={"level": "levle"}),
        r"no column `level`.*Did you mean `levle`\?",
    ),
    "column in capitals": (
        table().rename(columns={"level": "LEVEL"}),
        r"no column `level`.*Did you mean `LEVEL`\?",
    ),
    "misspelt column where time is the index": (
        table().rename(columns={"level": "levle"}).set_index("time"),
        r"no column `level`.*Did you mean `levle`\?",
    ),
    "unknown column": (
        table(levels=1.0),
        r"column `levels` is no observable of Two.*Did you mean `level`\?.*ignored_columns",
    ),
    "missing element of a vector": (
        pd.DataFrame({"time": [1.0], "seen[young]": [1.0]}),
        r"no column `seen\[old\]` for the observable `seen` of Vector.*rename",
        Vector,
    ),
    "vector given as one column": (
        pd.DataFrame({"time": [1.0], "seen": [1.0]}),
        r"no column `seen\[young\]`.*Got the columns: time, seen",
        Vector,
    ),
    "column there twice": (
        pd.concat([table(), table()[["level"]]], axis=1),
        r"more than one column `level`.*replicates go into rows of the same time",
    ),
    "duplicate index": (
        table().set_index("time").iloc[[0, 1, 1]],
        r"index of the table has duplicates: .*1\.0.*more than once.*reset_index\(\)",
    ),
    "dates in the time column": (
        table(time=pd.to_datetime(DATES)),
        r"column `time` holds dates.*unit of time\. Convert it",
    ),
    "durations in the time column": (
        table(time=pd.to_timedelta([1, 2, 3], unit="D")),
        r"column `time` holds dates.*Convert it",
    ),
    "dates as text": (
        table(time=DATES),
        r"column `time` holds text in row 1: '2020-01-01'\. Expected numbers",
    ),
    "no rows": (table().iloc[:0], r"table has no rows\. Expected at least one observation"),
}


@pytest.mark.parametrize("case", TABLES.values(), ids=TABLES)
def test_tables_that_do_not_fit(case):
    refuse(*case)
