import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from example_tables import Two, Vector, read, refuse, table
from numpy.testing import assert_array_equal

import odecal
from odecal import ObservationError, Observations


@pytest.mark.parametrize(
    "wrap",
    [
        lambda table, folder: table,
        lambda table, folder: Observations(table),
        lambda table, folder: table.set_index("time"),
        lambda table, folder: xr.Dataset.from_dataframe(table.set_index("time")),
        lambda table, folder: (table.to_csv(folder / "t.csv", index=False), folder / "t.csv")[1],
    ],
    ids=["pandas", "Observations", "index", "xarray", "CSV"],
)
def test_every_kind_of_table_gives_the_same_experiment(wrap, tmp_path):
    experiment = read(wrap(table(level=[1.0, np.nan, 3.0]), tmp_path))
    assert experiment.t0 == 0.5
    level, count = experiment.series["level"], experiment.series["count"]
    assert_array_equal(level.times, [0.5, 2.0])
    assert_array_equal(level.values, [1.0, 3.0])
    assert_array_equal(count.times, [0.5, 1.0, 2.0])
    assert_array_equal(count.values, [4.0, 5.0, 6.0])


def test_observables_measured_at_different_times_share_one_set_of_times():
    data = pd.DataFrame(
        {
            "time": [0.0, 1.0, 1.0, 3.0],
            "level": [1.0, np.nan, np.nan, 2.0],
            "count": [np.nan, 4, 5, np.nan],
        }
    )
    experiment = read(data)
    assert_array_equal(experiment.series["level"].times, [0.0, 3.0])
    assert_array_equal(experiment.series["count"].times, [1.0, 1.0])
    assert_array_equal(experiment.save_times.ts, [[0.0, 1.0, 3.0]])


def test_where_nothing_is_missing_a_series_is_complete():
    series = read(table()).series["level"]
    assert series.complete
    assert series.present.all()
    assert_array_equal(series.start, series.times)


def test_row_of_a_vector_with_one_missing_element_is_kept_with_a_finite_stand_in():
    data = pd.DataFrame(
        {
            "time": [1.0, 2.0, 3.0],
            "seen[young]": [1.0, np.nan, np.nan],
            "seen[old]": [3.0, 4.0, np.nan],
        }
    )
    series = read(data, Vector).series["seen"]
    assert_array_equal(series.times, [1.0, 2.0])
    assert_array_equal(series.present, [[True, True], [False, True]])
    assert_array_equal(series.values[series.present], [1.0, 3.0, 4.0])
    assert np.isfinite(series.values).all()
    assert not series.complete


def test_dataset_with_replicates_gives_rows_of_the_same_time():
    data = xr.Dataset(
        {
            "level": (("time", "replicate"), [[1.0, 2.0], [np.nan, 4.0]]),
            "count": ("time", [5, 6]),
        },
        {"time": [1.0, 2.0]},
    )
    series = read(data).series["level"]
    assert_array_equal(series.times, [1.0, 1.0, 2.0])
    assert_array_equal(series.values, [1.0, 2.0, 4.0])


# The initial time, the time column, and columns that are left out.


@pytest.mark.parametrize(("t0", "expected"), [(None, 0.5), (0.0, 0.0), (0.5, 0.5), (-3.0, -3.0)])
def test_initial_time(t0, expected):
    assert read(table(), Two(t0=t0)).t0 == expected


class Weekly(Two):
    time_column = "week"
    ignored_columns = ("note",)


def test_class_names_the_time_column_and_ignored_columns():
    data = table(note="x").rename(columns={"time": "week"})
    assert read(data, Weekly).t0 == 0.5


def test_only_what_is_there_can_be_ignored():
    source = Observations(table(), ignore=["cuont"])
    refuse(source, r"ignore names `cuont`.*Did you mean `count`")


def test_observations_name_the_time_column_and_ignored_columns():
    data = table(note="x", week=[1.0, 2.0, 3.0], remark="y")
    source = Observations(data, time="time", ignore=["week", "remark"])
    assert read(source, Weekly).t0 == 0.5


def test_columns_of_observables_that_are_left_out_are_unknown():
    with pytest.raises(ObservationError, match=r"column `count` is no observable.*ignore="):
        read(table(), Two(count=None))
    source = Observations(table(), ignore=["count"])
    assert list(read(source, Two(count=None)).series) == ["level"]


# Bad input.


REFUSED = {
    "no observable": (
        table(),
        r"Two has no observable.*Observable\(lambda",
        Two(level=None, count=None),
    ),
    "times not sorted": (
        table(time=[0.5, 1.0, 0.7]),
        r"not sorted: row 3 has 0\.7 after 1.*sort_values\('time'",
    ),
    "times of a dataset not sorted": (
        xr.Dataset.from_dataframe(table(time=[0.5, 1.0, 0.7]).set_index("time")),
        r"not sorted: row 3 has 0\.7 after 1",
    ),
    "missing time": (table(time=[0.5, np.nan, 2.0]), r"time of row 2 is missing.*drop the row"),
    "no value": (table(level=np.nan), r"column `level` holds no value.*level=None"),
    "before the initial time": (
        table(),
        r"first time of `level` is 0\.5, before .* t0 = 0\.75.*Set t0",
        Two(t0=0.75),
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_tables_that_do_not_fit(case):
    refuse(*case)


def test_missing_row_before_the_initial_time_does_no_harm():
    data = table(level=[np.nan, 2.0, 3.0], count=[np.nan, 5, 6])
    assert read(data, Two(t0=0.75)).t0 == 0.75


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"levels": 1.0}, "column `levels` is no observable"),
        ({"level": "high"}, "column `level` holds text in row 1"),
        ({"level": np.inf}, "column `level` holds an infinite value in row 1"),
    ],
)
def test_calibration_reports_what_the_table_reports(change, pattern):
    with pytest.raises(ObservationError, match=pattern):
        odecal.compile(Two(), table(**change))


def test_single_experiment_has_one_individual_without_a_name():
    experiment = read(table())
    assert len(experiment.individuals) == 1
    assert experiment.individuals.dim == ""
    assert experiment.t0.shape == (1,)
    assert experiment.doses is None
    assert experiment.inputs == {}
    for series in experiment.series.values():
        assert_array_equal(series.individual, 0)
        assert series.upper is None
        assert series.after_dose is None


def test_reading_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(table(level=[1.0, np.nan, 3.0]))
