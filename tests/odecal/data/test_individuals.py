"""Tables of many individuals: who they are, their groups, covariates and inputs."""

import warnings

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from example_tables import read, refuse, subclass
from numpy.testing import assert_array_equal

from odecal import Covariate, Input, Observable, Parameter, State, System


def varying(group):
    return Parameter.varying(group, location=dist.Normal(0.0, 1.0), scale=0.5)


class Growth(System):
    """One parameter varies between subjects, who so are the individuals."""

    size = State(initial=1.0)
    rate = varying("subject")

    def vector_field(self, t, y, p):
        return {"size": p.rate * y.size}

    height = Observable(lambda t, y, p: dist.Normal(y.size, 1.0))
    mass = Observable(lambda t, y, p: dist.Normal(y.size, 2.0))


class Weighed(Growth):
    weight = Covariate("wt")


class Warmed(Growth):
    temperature = Input("degrees")
    mass = None


def table(**columns):
    base = {
        "subject": [7, 7, 7, 3, 3],
        "time": [0.0, 1.0, 2.0, 0.5, 1.5],
        "height": [1.0, 2.0, 3.0, 4.0, 5.0],
        "mass": [10.0, np.nan, 30.0, 40.0, 50.0],
    }
    return pd.DataFrame({**base, **columns})


CONSTANT = Parameter(dist.Normal(0.0, 1.0))
COUNTED = Observable(lambda t, y, p, last: dist.Normal(y.size - last.y.size, 1.0))
Single = subclass("Single", Weighed, rate=CONSTANT)
Sited = subclass("Sited", Growth, individual="subject", level=varying("site"))
Counted = subclass("Counted", Growth, t0=-1.0, mass=None, height=COUNTED)


# What is read.


@pytest.mark.parametrize(
    "wrap",
    [
        lambda table, folder: table,
        lambda table, folder: table.iloc[[0, 3, 1, 4, 2]].reset_index(drop=True),
        lambda table, folder: table.set_index(["subject", "time"]),
        lambda table, folder: (table.to_csv(folder / "t.csv", index=False), folder / "t.csv")[1],
        lambda table, folder: xr.Dataset.from_dataframe(table.set_index(["subject", "time"])).sel(
            subject=[7, 3]
        ),
        lambda table, folder: xr.Dataset.from_dataframe(table.rename_axis("row")).set_coords(
            ["subject", "time"]
        ),
    ],
    ids=["pandas", "interleaved", "index", "CSV", "dimensions", "coordinates"],
)
def test_every_kind_of_table_gives_the_same_experiment(wrap, tmp_path):
    experiment = read(wrap(table(), tmp_path), Growth)
    people = experiment.individuals
    assert people.dim == "subject"
    assert_array_equal(people.labels, [7, 3])
    assert_array_equal(experiment.t0, [0.0, 0.5])
    height, mass = experiment.series["height"], experiment.series["mass"]
    assert_array_equal(height.individual, [0, 0, 0, 1, 1])
    assert_array_equal(height.times, [0.0, 1.0, 2.0, 0.5, 1.5])
    assert_array_equal(height.values, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert_array_equal(mass.individual, [0, 0, 1, 1])
    assert_array_equal(mass.values, [10.0, 30.0, 40.0, 50.0])
    assert height.upper is None
    assert_array_equal(experiment.save_times.ts, [[0, 1, 2], [0.5, 1.5, 1.5]])


@pytest.mark.parametrize(
    ("labels", "expected", "kind"),
    [
        ([7, 7, 7, 3, 3], [7, 3], "i"),
        ([7.0, 7.0, 7.0, 3.0, 3.0], [7, 3], "i"),
        ([0.5, 0.5, 0.5, 3.0, 3.0], [0.5, 3.0], "f"),
        (["b ", "b ", "b ", "a", "a"], ["b", "a"], "U"),
        (["01", "01", "01", "1", "1"], ["01", "1"], "U"),
        (["b", "b", "b", 1.0, 1], ["b", "1"], "U"),
        (pd.Categorical(["b", "b", "b", "a", "a"]), ["b", "a"], "U"),
        (pd.array([7, 7, 7, 3, 3], dtype="Int64"), [7, 3], "i"),
    ],
)
def test_labels_keep_their_kind(labels, expected, kind):
    found = read(table(subject=labels), Growth).individuals.labels
    assert_array_equal(found, expected)
    assert found.dtype.kind == kind


def test_initial_time_of_the_system_is_that_of_all():
    assert_array_equal(read(table(), Growth(t0=-1.0)).t0, [-1.0, -1.0])


def test_individual_is_declared_without_a_parameter_that_varies():
    Alike = subclass("Alike", Growth, individual="subject", rate=CONSTANT)
    people = read(table(), Alike).individuals
    assert_array_equal(people.labels, [7, 3])
    assert people.groups == {}


def test_beginnings_of_intervals_are_those_of_each_individual():
    start = read(table()[["subject", "time", "height"]], Counted).series["height"]
    assert_array_equal(start.start, [-1.0, 0.0, 1.0, -1.0, 0.5])


def test_interval_before_the_initial_time_names_the_individual():
    class Counted(Growth):
        t0 = 0.5
        mass = None
        height = Observable(
            lambda t, y, p, last: dist.Normal(y.size - last.y.size, 1.0), interval=0.5
        )

    data = table()[["subject", "time", "height"]].assign(time=[1.0, 2.0, 3.0, 0.75, 1.5])
    refuse(data, r"first value of `height` of subject 3, at 0\.75, covers", Counted())


def test_gaps_of_intervals_are_warned_of_once_with_the_individual():
    one = pd.DataFrame({"time": [0.0, 1.0, 2.0, 3.0], "height": [1.0, np.nan, 3.0, 4.0]})
    data = pd.concat([one.assign(subject=7), one.assign(subject=3)], ignore_index=True)
    with pytest.warns(UserWarning, match=r"`height` of subject 7 .* at 2 covers 2") as caught:
        read(data, Counted)
    assert len(caught) == 1


def test_a_thousand_individuals():
    count, times = 1000, np.arange(11.0)
    data = pd.DataFrame(
        {
            "subject": np.repeat(np.arange(count), len(times)),
            "time": np.tile(times, count),
            "height": np.arange(count * len(times), dtype=float),
            "mass": np.nan,
            "wt": 70.0,
        }
    )
    data.loc[0, "mass"] = 1.0
    doses = pd.DataFrame({"subject": np.arange(count), "time": 0.0, "amount": 1.0})
    doses = doses.assign(interval=1.0, additional=9)
    experiment = read(data, Weighed, doses=doses)
    assert len(experiment.individuals) == count
    assert len(experiment.doses) == 10 * count
    assert len(experiment.series["height"].times) == 11 * count


# Groups.


class Nested(Growth):
    individual = ("site", "subject")
    rate = varying(("site", "subject"))
    level = varying("site")


def sites(**columns):
    return table(**{"site": ["A", "A", "A", "B", "B"], "subject": [1, 1, 1, 1, 1], **columns})


def test_individuals_of_several_columns():
    people = read(sites(), Nested).individuals
    assert people.dim == "site_subject"
    assert_array_equal(people.labels, ["A/1", "B/1"])
    whole, site = people.groups[("site", "subject")], people.groups[("site",)]
    assert_array_equal(whole.labels, ["A/1", "B/1"])
    assert (whole.dim, site.dim) == ("site_subject", "site")
    assert_array_equal(site.labels, ["A", "B"])


def test_groups_have_their_labels_in_order_of_appearance():
    data = pd.DataFrame(
        {"subject": [4, 2, 9], "site": ["B", "A", "B"], "time": 1.0, "height": 1.0, "mass": 1.0}
    )

    people = read(data, Sited).individuals
    assert list(people.groups) == [("subject",), ("site",)]
    assert_array_equal(people.groups[("site",)].labels, ["B", "A"])
    assert_array_equal(people.groups[("site",)].index, [0, 1, 0])
    assert_array_equal(people.groups[("subject",)].labels, [4, 2, 9])
    assert_array_equal(people.groups[("subject",)].index, [0, 1, 2])


@pytest.mark.parametrize("first", ["site", "subject"])
def test_individuals_that_are_not_declared_are_the_combination_of_the_groups(first):
    second = {"site": "subject", "subject": "site"}[first]

    Combined = subclass("Combined", Growth, rate=varying(first), level=varying(second))
    data = sites(subject=[1, 1, 2, 3, 3])
    people = read(data, Combined).individuals
    assert people.dim == f"{first}_{second}"
    assert len(people) == 3


def test_occasions_of_a_subject():
    Occasions = subclass("Occasions", Growth, level=varying(("subject", "occasion")))
    data = table(occasion=[1, 1, 2, 1, 2], time=[0.0, 1.0, 0.0, 0.0, 0.0])
    people = read(data, Occasions).individuals
    assert_array_equal(people.labels, ["7/1", "7/2", "3/1", "3/2"])
    assert_array_equal(people.groups[("subject",)].index, [0, 0, 1, 1])


def test_initial_value_that_varies():
    Start = subclass("Start", Growth, size=State(initial=varying("plot")), rate=CONSTANT)
    people = read(table().rename(columns={"subject": "plot"}), Start).individuals
    assert people.dim == "plot"
    assert list(people.groups) == [("plot",)]


def test_crossed_groups_with_a_column_of_their_own():
    Crossed = subclass("Crossed", Nested, rate=varying("person"))
    people = read(sites(person=sites().subject), Crossed).individuals
    assert_array_equal(people.groups[("person",)].index, [0, 0])


# Covariates.


def test_covariates():
    known = read(table(wt=[np.nan, 70.0, 70.0, 50.0, np.nan]), Weighed)
    assert_array_equal(known.individuals.covariates["weight"], [70.0, 50.0])


def test_covariate_of_a_single_experiment():
    data = table(time=np.arange(5.0), wt=[np.nan, 70.0, 70.0, 70.0, 70.0]).drop(columns="subject")
    people = read(data, Single).individuals
    assert people.dim == ""
    assert_array_equal(people.covariates["weight"], [70.0])
    refuse(data.assign(wt=np.arange(5.0)), r"`wt` changes within the experiment", Single())


# Inputs.


def warmed(**columns):
    base = {"degrees": [20.0, np.nan, 22.0, 30.0, 31.0]}
    return table(**{**base, **columns}).drop(columns="mass")


def test_inputs():
    samples = read(warmed(), Warmed).inputs["temperature"]
    assert_array_equal(samples.individual, [0, 0, 1, 1])
    assert_array_equal(samples.times, [0.0, 2.0, 0.5, 1.5])
    assert_array_equal(samples.values, [20.0, 22.0, 30.0, 31.0])


def test_row_with_an_input_alone_begins_the_experiment():
    experiment = read(warmed(height=[np.nan, 2.0, 3.0, np.nan, 5.0]), Warmed)
    assert_array_equal(experiment.t0, [0.0, 0.5])
    assert_array_equal(experiment.series["height"].times, [1.0, 2.0, 1.5])


def test_input_of_a_single_experiment():
    Alone = subclass("Alone", Warmed, rate=CONSTANT)
    data = warmed(time=np.arange(5.0)).drop(columns="subject")
    samples = read(data, Alone).inputs["temperature"]
    assert_array_equal(samples.individual, 0)
    assert_array_equal(samples.times, [0.0, 2.0, 3.0, 4.0])
    dataset = xr.Dataset.from_dataframe(data.set_index("time"))
    again = read(dataset, Alone).inputs["temperature"]
    assert_array_equal(again.values, samples.values)


def test_samples_of_the_same_time_are_merged_where_they_agree():
    data = warmed(time=[0.0, 1.0, 1.0, 0.5, 1.5], degrees=[20.0, 22.0, 22.0, 30.0, 31.0])
    samples = read(data, Warmed).inputs["temperature"]
    assert_array_equal(samples.times, [0.0, 1.0, 0.5, 1.5])


def test_rows_of_inputs_alone_are_no_missing_values():
    Driven = subclass("Driven", Warmed, t0=0.0, rate=CONSTANT, height=COUNTED)
    data = pd.DataFrame(
        {"time": [1.0, 2.0, 3.0, 4.0], "height": [1, np.nan, 1, 1], "degrees": [np.nan, 20, 20, 20]}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(data, Driven)


# Individuals that were not observed.


def test_individual_without_observations_is_kept_with_a_warning():
    data = table(height=[1.0, 2.0, 3.0, np.nan, np.nan], mass=[1, 2, 3, np.nan, np.nan])
    with pytest.warns(
        UserWarning, match=r"1 of 2 individuals have no observations; they are kept.*: subject 3\."
    ):
        experiment = read(data, Growth)
    assert_array_equal(experiment.individuals.labels, [7, 3])
    assert_array_equal(experiment.t0, [0.0, 0.5])
    assert experiment.save_times.ts.shape == (2, 3)


def test_individual_with_doses_alone():
    data = table(height=[1.0, 2.0, 3.0, np.nan, np.nan], mass=[1, 2, 3, np.nan, np.nan])
    doses = pd.DataFrame({"subject": [7, 3], "time": [0.0, 0.0], "amount": [1.0, 1.0]})
    with pytest.warns(UserWarning, match=r"have no observations \(all of them have doses\); they"):
        experiment = read(data, Growth, doses=doses)
    assert_array_equal(experiment.t0, [0.0, 0.0])


def test_many_individuals_without_observations_are_not_all_named():
    data = pd.DataFrame({"subject": range(9), "time": 0.0, "height": np.nan, "mass": np.nan})
    data.loc[0, ["height", "mass"]] = 1.0
    with pytest.warns(UserWarning, match=r"8 of 9 .*: subject 1, 2, 3, 4, 5 and 3 more\."):
        read(data, Growth)


def test_reading_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(table(wt=70.0), Weighed)


# xarray.


def dataset(**variables):
    base = {
        "height": (("subject", "time"), [[1.0, 2.0, np.nan], [np.nan, 5.0, 6.0]]),
        "mass": (("time", "subject"), [[1.0, np.nan], [2.0, 5.0], [np.nan, np.nan]]),
        "wt": ("subject", [70.0, 50.0]),
    }
    return xr.Dataset({**base, **variables}, {"subject": ["b", "a"], "time": [0.0, 1.0, 2.0]})


def test_dataset_with_a_dimension_of_individuals():
    experiment = read(dataset(), Weighed)
    assert_array_equal(experiment.individuals.labels, ["b", "a"])
    assert_array_equal(experiment.individuals.covariates["weight"], [70.0, 50.0])
    height = experiment.series["height"]
    assert_array_equal(height.individual, [0, 0, 1, 1])
    assert_array_equal(height.times, [0.0, 1.0, 1.0, 2.0])
    assert_array_equal(experiment.t0, [0.0, 1.0])


def test_dataset_with_covariates_as_coordinates():
    experiment = read(dataset().set_coords("wt"), Weighed)
    assert_array_equal(experiment.individuals.covariates["weight"], [70.0, 50.0])


def test_dataset_with_a_group_along_the_individuals():
    data = dataset(site=("subject", ["A", "B"])).drop_vars("wt")
    people = read(data, Sited).individuals
    assert_array_equal(people.groups[("site",)].labels, ["A", "B"])


def test_dataset_with_an_input_that_all_share():
    data = dataset(degrees=("time", [20.0, 21.0, 22.0])).drop_vars(["wt", "mass"])
    samples = read(data, Warmed).inputs["temperature"]
    assert_array_equal(samples.individual, [0, 0, 0, 1, 1, 1])
    assert_array_equal(samples.values, [20, 21, 22, 20, 21, 22])


def test_dataset_with_an_individual_without_values_keeps_it():
    nothing = [[1.0, 2.0, 3.0], [np.nan, np.nan, np.nan]]
    data = dataset(height=(("subject", "time"), nothing), mass=(("subject", "time"), nothing))
    with pytest.warns(UserWarning, match="subject a"):
        people = read(data, Weighed).individuals
    assert_array_equal(people.labels, ["b", "a"])


def test_dataset_with_replicates_and_stacked_rows():
    data = dataset(height=dataset().height.expand_dims(replicate=2)).drop_vars("mass")
    experiment = read(data, Weighed(mass=None))
    assert_array_equal(experiment.series["height"].individual, [0] * 4 + [1] * 4)
    stacked = dataset().drop_vars("wt").stack(row=("subject", "time"))
    again = read(stacked, Growth).series["height"]
    assert_array_equal(again.values, [1.0, 2.0, 5.0, 6.0])


def test_dataset_of_vectors():
    class Vector(Growth):
        coords = {"age": ["young", "old"]}  # noqa: RUF012
        mass = None
        height = Observable(lambda t, y, p: dist.Normal(y.size, 1.0).expand([2]), dims="age")

    values = np.arange(12.0).reshape(2, 2, 3)
    data = xr.Dataset(
        {"height": (("age", "subject", "time"), values)},
        {"age": ["old", "young"], "subject": [5, 6], "time": [0.0, 1.0, 2.0]},
    )
    series = read(data, Vector).series["height"]
    assert_array_equal(series.values[:3, 0], values[1, 0])
    assert_array_equal(series.values[3:, 1], values[0, 1])


# What is refused.

GROUPS = [
    (
        sites(),
        r"over subject alone, but subject 1 occurs at site A and B.*Relabel them, or take the "
        r"group \('site', 'subject'\).*copy the column",
        subclass("Alone", Nested, rate=varying("subject")),
    ),
    (  # the individual is not declared
        sites(subject=[1, 2, 3, 1, 2]),
        r"subject 1 occurs at site A and B",
        subclass("Crossed", Growth, level=varying("site")),
    ),
    (
        table(site=["A", "A", "B", "C", "C"]),
        r"column `site` changes within subject 7: it is A in row 1 and B in row 3.*"
        r"individual = \('subject', 'site'\)",
        Sited,
    ),
    *(
        (
            table(subject=["a", "a", "a", missing, "b"]),
            r"column `subject` is empty in row 4\. Expected a label in every row",
            Growth,
        )
        for missing in (np.nan, None, " ")
    ),
    (table(subject=[1, np.nan, 1, 2, 2]), r"`subject` is empty in row 2", Growth),
]
TIMES = [
    (
        table(time=[0.0, 2.0, 1.0, 0.5, 1.5]),
        r"times of subject 7 are not sorted: row 3 has 1 after 2 in row 2.*within an individual.*"
        r"sort_values\(\['subject', 'time'\]\)",
        Growth,
    ),
    (table(time=[0, 1, 2, np.nan, 3.0]), r"time of row 4 is missing", Growth),
    (
        table(time=[1.0, 2.0, 3.0, 0.5, 1.5]),
        r"first time of `height` of subject 3 is 0\.5, before the initial time t0 = 0\.75",
        Growth(t0=0.75),
    ),
]
COLUMNS = [
    (
        table().rename(columns={"subject": "subjects"}),
        r"no column `subject` to tell the individuals of Growth apart.*Did you mean `subjects`",
        Growth,
    ),
    (table(), r"no column `site` for the group \"site\" that a parameter of Sited", Sited),
    (
        table(weight=1.0),
        r"no column `wt` for the covariate `weight` of Weighed.*weight = Covariate\(",
        Weighed,
    ),
    (
        table().drop(columns="mass"),
        r"no column `degrees` for the input `temperature` of Warmed.*temperature = Input\(",
        Warmed,
    ),
    (
        table(wt=70.0, height2=1.0),
        r"column `height2` is no observable, covariate or label of Weighed",
        Weighed,
    ),
    (table(mass=np.nan), r"column `mass` holds no value.*mass=None", Growth),
]
COVARIATES_AND_INPUTS = [
    (
        table(wt=[np.nan, 70.0, 71.0, 50.0, 50.0]),
        r"`wt` changes within subject 7: it is 70\.0 in row 2 and 71\.0 in row 3.*Input",
        Weighed,
    ),
    (
        table(wt=[70.0, 70.0, 70.0, np.nan, np.nan]),
        r"covariate `weight` of subject 3 is missing in row 4 and in all others.*column `wt`",
        Weighed,
    ),
    (table(wt="f"), r"`wt` holds text in row 1: 'f'.*Code categories as numbers", Weighed),
    (
        warmed(time=[0.0, 1.0, 1.0, 0.5, 1.5], degrees=[20.0, 22.0, 23.0, 30.0, 31.0]),
        r"`temperature` of subject 7 has two values at time 1: 22 in row 2 and 23 in row 3",
        Warmed,
    ),
    (
        warmed(degrees=[20.0, 21.0, 22.0, np.nan, np.nan]),
        r"input `temperature` of subject 3 has no value.*column `degrees`",
        Warmed,
    ),
]
DATASETS = [
    (
        dataset(mass=("time", [1.0, 2.0, 3.0])),
        r"variable `mass` has the dimensions time\. Expected subject, time",
        Weighed,
    ),
    (dataset().drop_vars("subject"), r"no column `subject` to tell the individuals", Weighed),
]


@pytest.mark.parametrize(
    ("data", "pattern", "system"),
    [*GROUPS, *TIMES, *COLUMNS, *COVARIATES_AND_INPUTS, *DATASETS],
)
def test_what_does_not_fit_is_refused(data, pattern, system):
    refuse(data, pattern, system)
