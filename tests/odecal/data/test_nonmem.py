"""Pharmacometric tables as they are."""

import io
import warnings

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from odecal import (
    Covariate,
    Dosing,
    Input,
    Observable,
    ObservationError,
    Observations,
    Parameter,
    State,
    System,
)
from odecal._data.observations import read_experiment
from odecal._data.serialise import experiment_from_arrays, experiment_to_arrays

INF = np.inf


class One(System):
    """One observable, and individuals by whatever tells them."""

    individual = "ID"

    depot = State(initial=0.0, dosing=Dosing(rate=2.0, duration=3.0))
    centre = State(initial=0.0)

    def vector_field(self, t, y, p):
        return {"depot": -y.depot, "centre": y.depot - y.centre}

    cp = Observable(lambda t, y, p: dist.Normal(y.centre, 1.0))


class Alone(One):
    individual = None


class Both(One):
    effect = Observable(lambda t, y, p: dist.Normal(y.depot, 1.0))


class Limited(One):
    cp = Observable(lambda t, y, p: dist.Normal(y.centre, 1.0), lloq=1.0)


def table(text):
    return pd.read_csv(io.StringIO(text.strip().replace(" ", "")), keep_default_na=True)


def read(text, system=One, **more):
    return read_experiment(Observations(table(text), **more), system().declaration)


def refuse(text, pattern, system=One, **more):
    with pytest.raises(ObservationError, match=pattern):
        read(text, system, **more)


USUAL = """
ID,TIME,AMT,RATE,DV,EVID,MDV,CMT,II,ADDL,SS
1,0,100,.,.,1,1,1,12,2,1
1,1,.,.,8.5,0,0,2,.,.,.
1,2,.,.,.,0,1,2,.,.,.
1,3,.,.,7.0,2,1,2,.,.,.
2,0,50,-2,.,1,1,2,.,.,.
2,0,.,.,0.5,0,0,2,.,.,.
2,4,.,.,.,3,1,.,.,.,.
2,4,20,4,.,4,1,1,.,.,.
2,5,.,.,1.5,0,0,2,.,.,.
"""


def test_usual_table():
    class Two(One):
        centre = State(initial=0.0, dosing=Dosing(duration=1.0))

    experiment = read(USUAL, Two)
    assert experiment.individuals.dim == "ID"
    assert_array_equal(experiment.individuals.labels, [1, 2])
    assert_array_equal(experiment.t0, [0.0, 0.0])
    series = experiment.series["cp"]
    assert_array_equal(series.individual, [0, 1, 1])
    assert_array_equal(series.times, [1.0, 0.0, 5.0])
    assert_array_equal(series.values, [8.5, 0.5, 1.5])
    assert_array_equal(series.after_dose, [False, True, False])
    doses = experiment.doses
    assert_array_equal(doses.individual, [0, 0, 0, 1, 1, 1])
    assert_array_equal(doses.time, [0.0, 12.0, 24.0, 0.0, 4.0, 4.0])
    assert_array_equal(doses.element, [0, 0, 0, 1, -1, 0])
    assert_array_equal(doses.amount, [100, 100, 100, 50, 0, 20])
    assert_array_equal(doses.rate, [0, 0, 0, -2, 0, 4])
    assert_array_equal(doses.steady, [1, 0, 0, 0, 0, 0])
    assert_array_equal(doses.interval, [12, 0, 0, 0, 0, 0])
    assert_array_equal(doses.reset, [0, 0, 0, 0, 1, 1])


def test_an_experiment_in_a_file_is_the_same():
    """Its arrays have the names of earlier versions."""
    experiment = read(USUAL.replace("-2", "."))
    arrays = experiment_to_arrays(experiment)
    assert {"series.cp.late", "doses.rank", "t0"} < set(arrays)
    again = experiment_to_arrays(experiment_from_arrays(arrays))
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        assert_array_equal(again[name], array)


def test_csv_with_dots(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("id,time,amt,dv\n1,0,100,.\n1,1,.,8.5\n2,0, . ,1\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        experiment = read_experiment(path, One().declaration)
    assert_array_equal(experiment.series["cp"].values, [8.5, 1.0])
    assert_array_equal(experiment.doses.amount, [100.0])


def test_table_is_not_changed():
    data = table(USUAL.replace("-2", "."))
    before = data.copy()
    read_experiment(data, One().declaration)
    pd.testing.assert_frame_equal(data, before)


# Who.


@pytest.mark.parametrize("individual", ["ID", "subject"])
def test_id_takes_the_place_of_the_individual(individual):
    class Named(One):
        pass

    Named.individual = individual
    people = read("ID,TIME,DV,MDV\n4,0,1,0\n3,0,1,0", Named).individuals
    assert people.dim == individual
    assert_array_equal(people.labels, [4, 3])


def test_individual_by_another_column():
    class Named(One):
        individual = "subject"

    people = read("ID,TIME,DV,MDV,subject\n1,0,1,0,a\n2,0,1,0,b", Named).individuals
    assert_array_equal(people.labels, ["a", "b"])


def test_id_takes_the_place_of_a_group():
    class Group(Alone):
        level = Parameter.varying("subject", location=dist.Normal(0.0, 1.0), scale=1.0)

    people = read("ID,TIME,DV,MDV\n4,0,1,0\n3,0,1,0", Group).individuals
    assert_array_equal(people.groups[("subject",)].labels, [4, 3])


@pytest.mark.parametrize("text", ["ID,TIME,DV,MDV\n4,0,1,0\n4,1,1,0", "TIME,DV,MDV\n0,1,0\n1,1,0"])
def test_one_subject_needs_no_individual(text):
    experiment = read(text, Alone)
    assert experiment.individuals.dim == ""
    assert_array_equal(experiment.series["cp"].times, [0.0, 1.0])


def test_several_subjects_of_a_group():
    class Group(Alone):
        level = Parameter.varying("site", location=dist.Normal(0.0, 1.0), scale=1.0)

    refuse(
        "ID,TIME,DV,MDV,site\n4,0,1,0,A\n3,1,1,0,A\n1,0,1,0,B",
        r'more than one ID: 4, and 3 in row 2\..*Set individual = "ID" in the class',
        Group,
    )


# Columns.


def test_covariates_inputs_and_ignored_columns():
    class More(One):
        ignored_columns = ("C",)
        weight = Covariate("WT")
        temperature = Input("TEMP")

    text = """
C,ID,TIME,DV,AMT,WT,TEMP
x,1,0,.,100,70,20
x,1,1,5,.,.,.
x,1,2,.,.,70,22
"""
    experiment = read(text, More)
    assert_array_equal(experiment.individuals.covariates["weight"], [70.0])
    assert_array_equal(experiment.inputs["temperature"].times, [0.0, 2.0])
    assert_array_equal(experiment.series["cp"].times, [1.0])


def test_unknown_column():
    refuse(
        "ID,TIME,DV,MDV,EVIT\n1,0,1,0,0",
        r"column `EVIT` is not known.*pharmacometric.*mean `EVID`.*ignored_columns",
    )
    assert read("ID,TIME,DV,MDV,EVIT\n1,0,1,0,0", ignore=["EVIT"]).doses is None


def test_ignored_column_that_is_not_there():
    refuse("ID,TIME,DV,MDV\n1,0,1,0", r"ignore names `WT`", ignore=["WT"])


def test_ignored_pharmacometric_column_has_no_meaning():
    assert read("ID,TIME,DV,MDV,CENS\n1,0,1,0,1", ignore=["CENS"]).series["cp"].upper is None


@pytest.mark.parametrize("time", [None, "TIME", "time", "TAFD"])
def test_time_column(time):
    text = "ID,TIME,TAFD,DV,MDV\n1,0,5,1,0"
    ignore = [] if time == "TAFD" else ["TAFD"]
    expected = 5.0 if time == "TAFD" else 0.0
    assert read(text, time=time, ignore=ignore).series["cp"].times == [expected]


def test_unknown_time_column():
    refuse("ID,TIME,DV,MDV\n1,0,1,0", r"no time column `TIMES`.*mean `TIME`", time="TIMES")


def test_table_that_is_tidy():
    class Tidy(Alone):
        cp = None
        DV = Observable(lambda t, y, p: dist.Normal(y.centre, 1.0))

    assert list(read("TIME,DV\n0,1", Tidy).series) == ["DV"]
    assert read("TIME,DV,MDV\n0,1,0", Tidy, ignore=["MDV"]).series["DV"].values == [1.0]


def test_doses_twice():
    doses = pd.DataFrame({"ID": [1], "time": [0.0], "amount": [1.0], "state": ["depot"]})
    refuse(
        "ID,TIME,DV,AMT\n1,0,1,.\n1,1,.,100",
        r"doses in the table of observations and in one by themselves.*row 2 of the first",
        doses=doses,
    )
    experiment = read("ID,TIME,DV,MDV\n1,0,1,0", doses=doses)
    assert len(experiment.doses) == 1
    assert experiment.series["cp"].after_dose is None


# What rows are.


def test_without_evid_an_amount_is_a_dose():
    experiment = read("ID,TIME,DV,AMT\n1,0,3,100\n1,1,4,0\n1,2,5,.")
    assert_array_equal(experiment.doses.time, [0.0])
    assert_array_equal(experiment.series["cp"].values, [4.0, 5.0])


def test_without_evid_a_constant_infusion_is_a_dose():
    doses = read("ID,TIME,DV,AMT,RATE,SS\n1,0,.,.,5,1\n1,1,4,.,.,.").doses
    assert_array_equal(doses.rate, [5.0])
    assert_array_equal(doses.amount, [0.0])


@pytest.mark.parametrize("evid", ["5", "-1", "1.5"])
def test_unknown_evid(evid):
    refuse(f"ID,TIME,DV,EVID\n1,0,1,0\n1,1,.,{evid}", rf"Row 2 of the table has EVID {evid}\. Exp")


@pytest.mark.parametrize("evid", [0, 2, 3])
def test_amount_where_there_is_no_dose(evid):
    refuse(
        f"ID,TIME,DV,EVID,AMT\n1,0,1,0,.\n1,1,.,{evid},7",
        r"Row 2 of the table has AMT 7, but an EVID by which it is no dose\. Expected EVID 1",
    )


def test_late_are_the_observations_behind_a_dose_of_the_same_time():
    text = """
ID,TIME,DV,AMT
1,0,1,.
1,0,.,10
1,0,2,.
1,1,3,.
1,1,.,10
1,2,4,.
2,2,5,.
2,2,.,10
2,2,6,.
"""
    series = read(text).series["cp"]
    assert_array_equal(series.values, [1, 2, 3, 4, 5, 6])
    assert_array_equal(series.after_dose, [0, 1, 0, 0, 0, 1])
    assert read("ID,TIME,DV,AMT\n1,0,1,.\n1,0,.,10").series["cp"].after_dose is None


def test_late_counts_the_doses_of_the_same_time():
    text = "1,0,1,,,\n1,0,,5,2,1\n1,0,2,,,\n1,0,,7,,\n1,0,3,,,\n1,9,3,,,"
    experiment = read(f"ID,TIME,DV,AMT,ADDL,II\n{text}")
    assert_array_equal(experiment.series["cp"].after_dose, [0, 1, 2, 0])
    assert_array_equal(experiment.doses.rank, [0, 1, -1, -1])


@pytest.mark.parametrize(
    ("cmt", "element"), [("1", 0), ("2", 1), ("depot", 0), ("centre", 1), ("2.0", 1)]
)
def test_compartments(cmt, element):
    doses = read(f"ID,TIME,DV,AMT,CMT\n1,0,.,10,{cmt}\n1,0,.,10,depot\n1,1,1,.,.").doses
    assert_array_equal(doses.element, [element, 0])


def test_elements_of_vectors_are_compartments():
    class Organs(One):
        coords = {"organ": ["liver", "brain"]}  # noqa: RUF012
        depot = State(initial=0.0, dims="organ")
        cp = Observable(lambda t, y, p: dist.Normal(y.centre, 1.0))

        def vector_field(self, t, y, p):
            return {"depot": -y.depot, "centre": -y.centre}

    doses = read(
        "ID,TIME,DV,AMT,CMT\n1,0,.,1,2\n1,0,.,1,3\n1,0,.,1,depot[brain]\n1,1,1,.,.", Organs
    )
    assert_array_equal(doses.doses.element, [1, 2, 1])


def test_without_compartments_doses_go_into_the_first_state():
    assert_array_equal(read("ID,TIME,DV,AMT\n1,0,.,1\n1,1,1,.").doses.element, [0])


@pytest.mark.parametrize(
    ("cmt", "pattern"),
    [
        ("0", r"Row 1 of the table has CMT 0\. Expected the number of a state, from 1 to 2"),
        ("3", r"has CMT 3\."),
        ("-1", r"has CMT -1\."),
        ("1.5", r"has CMT 1\.5\."),
        (".", r"Row 1 of the table has no CMT\..*depot, centre"),
        ("center", r"Row 1 of the table names the state `center`.*mean `centre`"),
    ],
)
def test_compartments_that_are_none(cmt, pattern):
    refuse(f"ID,TIME,DV,AMT,CMT\n1,0,.,10,{cmt}\n1,1,1,.,.", pattern)


@pytest.mark.parametrize(
    ("names", "cells", "pattern"),
    [
        ("AMT", "-10", "Row 2 of the table has the amount -10"),
        ("AMT", "0", "Row 2 of the table has the amount 0. Expected a positive one"),
        ("AMT", ".", "Row 2 of the table has the amount 0"),
        ("AMT,RATE", "10,-3", "has the rate -3"),
        ("AMT,ADDL", "10,2", "has 2 additional doses without an interval"),
        ("AMT,II", "10,-2", "has the interval -2"),
        ("AMT,SS", "10,1", "is in steady state without an interval"),
        ("AMT,SS,II", "10,3,1", "has the steady state 3"),
        ("AMT,RATE,CMT", "10,-1,2", "has the rate −1.*`centre` to give one"),
        ("AMT,RATE,CMT", "10,-2,centre", "has the rate −2.*`centre` to give one"),
    ],
)
def test_doses_that_cannot_be(names, cells, pattern):
    empty = "," * names.count(",")
    refuse(f"ID,TIME,DV,EVID,{names}\n1,0,1,0,{empty}\n1,1,.,1,{cells}", pattern)


def test_dose_before_the_initial_time():
    class Late(One):
        t0 = 1.0

    refuse(
        "ID,TIME,DV,AMT\n1,0,.,10\n1,1,1,.", r"Row 1 of the table gives a dose at 0, before", Late
    )


# Values.


def test_observables_are_told_by_dvid():
    text = "ID,TIME,DV,DVID,AMT\n1,0,.,.,10\n1,0,1,1,.\n1,0,2,2,.\n1,1,3,effect,.\n1,1,4,cp,."
    series = read(text, Both).series
    assert_array_equal(series["cp"].values, [1.0, 4.0])
    assert_array_equal(series["effect"].values, [2.0, 3.0])
    assert_array_equal(series["effect"].times, [0.0, 1.0])


@pytest.mark.parametrize(
    ("dvid", "pattern"),
    [
        ("3", r"Row 2 of the table has DVID 3\. Expected the number of an observable"),
        ("1.5", r"has DVID 1\.5\."),
        (".", r"Row 2 of the table has no DVID\."),
        ("efect", r"has DVID efect\..*mean `effect`"),
    ],
)
def test_dvid_that_is_none(dvid, pattern):
    refuse(f"ID,TIME,DV,DVID,MDV\n1,0,1,1,0\n1,0,1,{dvid},0", pattern, Both)


def test_dvid_of_a_single_observable():
    assert read("ID,TIME,DV,DVID,MDV\n1,0,1,.,0\n1,0,1,1,0\n1,1,9,2,1").series["cp"].complete
    refuse("ID,TIME,DV,DVID,MDV\n1,0,1,2,0", "has DVID 2. Expected .* from 1 to 1")


def test_observable_without_any_value():
    refuse(
        "ID,TIME,DV,DVID,MDV\n1,0,1,1,0",
        r"holds no value of `effect` \(DVID 2\)\. Expected at least one.*effect=None",
        Both,
    )
    refuse("ID,TIME,DV,MDV\n1,0,1,1\n1,1,.,0", r"The table holds no value of `cp`\. Expected")


def test_vector_observables_have_no_column():
    class Vector(One):
        coords = {"organ": ["liver", "brain"]}  # noqa: RUF012
        cp = Observable(lambda t, y, p: dist.Normal(y.centre, 1.0).expand([2]), dims="organ")

    refuse("ID,TIME,DV,MDV\n1,0,1,1", r"observable `cp` is a vector.*Give a tidy table", Vector)


def test_text_in_dv():
    series = read("ID,TIME,DV,MDV\n1,0,<2,0\n1,1,5,0").series["cp"]
    assert_array_equal(series.values, [-INF, 5.0])
    assert_array_equal(series.upper, [2.0, 5.0])
    refuse("ID,TIME,DV,MDV\n1,0,1,0\n1,1,high,0", r"column `DV` holds text in row 2: 'high'")


def test_cens():
    text = """
ID,TIME,MDV,DV,CENS,LIMIT
1,0,0,2,0,.
1,1,0,1,1,.
1,2,0,1,1,0.5
1,3,0,9,-1,.
1,4,0,9,-1,12
"""
    series = read(text).series["cp"]
    assert_array_equal(series.values, [2.0, -INF, 0.5, 9.0, 9.0])
    assert_array_equal(series.upper, [2.0, 1.0, 1.0, INF, 12.0])


def test_declared_limit_counts_where_cens_does_not_say_otherwise():
    text = "ID,TIME,DV,CENS,MDV\n1,0,0.8,0,0\n1,1,0.4,1,0\n1,2,3,0,0"
    series = read(text, Limited).series["cp"]
    assert_array_equal(series.values, [-INF, -INF, 3.0])
    assert_array_equal(series.upper, [1.0, 0.4, 3.0])


def test_lloq():
    text = "ID,TIME,DV,LLOQ,MDV\n1,0,0.8,0.5,0\n1,1,0.4,0.5,0\n1,2,0.8,.,0\n1,3,BLQ,0.5,0"
    series = read(text, Limited).series["cp"]
    assert_array_equal(series.values, [0.8, -INF, -INF, -INF])
    assert_array_equal(series.upper, [0.8, 0.5, 1.0, 0.5])


def test_lloq_beside_cens_is_for_information():
    text = "ID,TIME,DV,LLOQ,CENS,MDV\n1,0,0.3,0.5,0,0\n1,1,0.5,0.5,1,0"
    series = read(text).series["cp"]
    assert_array_equal(series.values, [0.3, -INF])
    assert_array_equal(series.upper, [0.3, 0.5])


@pytest.mark.parametrize(
    ("cells", "pattern"),
    [
        ("1,2,.", r"Row 2 of the table has CENS 2\. Expected 0, 1 where the value is below DV"),
        (".,1,.", r"Row 2 of the table has CENS 1, but no DV\. Expected the limit there"),
        ("1,1,3", r"Row 2 of the table has CENS 1, DV 1 and LIMIT 3, bounds in the wrong order"),
        ("5,-1,3", r"Row 2 of the table has CENS -1, DV 5 and LIMIT 3, bounds in the wrong"),
    ],
)
def test_censoring_that_cannot_be(cells, pattern):
    refuse(f"ID,TIME,MDV,DV,CENS,LIMIT\n1,0,0,1,0,.\n1,1,0,{cells}", pattern)


def test_a_thousand_subjects():
    count = 1000
    one = "\n".join(["{0},0,100,.,1,1", *(f"{{0}},{t},.,{t},0,1" for t in range(1, 11))])
    text = "ID,TIME,AMT,DV,EVID,DVID\n" + "\n".join(one.format(i) for i in range(count))
    experiment = read(text)
    assert len(experiment.individuals) == count
    assert len(experiment.doses) == count
    assert len(experiment.series["cp"].times) == 10 * count


def test_additional_doses_beyond_the_last_time_are_not_written_out():
    """A thousand million of them once took 45 GB."""
    experiment = read("ID,TIME,DV,AMT,ADDL,II\n1,0,,5,1e9,12\n1,25,2,,,\n2,0,,5,3,12\n2,40,1,,,")
    assert_array_equal(experiment.doses.time[experiment.doses.individual == 0][:3], [0, 12, 24])
    assert len(experiment.doses) < 10
    refuse(
        "ID,TIME,DV,AMT,ADDL,II\n1,0,,5,1e9,1e-6\n1,25,2,,,",
        r"Row 1 has additional doses at an interval of 1e-06, 2\.5e\+07 of them until 25",
    )


def test_a_reset_may_set_the_clock_back():
    """What follows is of an individual of its own."""
    experiment = read(CLOCK)
    who = experiment.individuals
    assert who.dim == "ID_restart"
    assert_array_equal(who.labels, ["1/0", "1/1", "2/0"])
    assert_array_equal(experiment.t0, 0.0)
    series = experiment.series["cp"]
    assert_array_equal(series.times, [1, 24, 0, 2, 1])
    assert_array_equal(series.individual, [0, 0, 1, 1, 2])
    assert_array_equal(experiment.doses.individual, [0, 1, 2])
    assert_array_equal(experiment.doses.amount, [10, 7, 10])
    assert_array_equal(experiment.doses.reset, [False, True, False])


CLOCK = """
ID,TIME,EVID,AMT,DV
1,0,1,10,.
1,1,0,.,1
1,24,0,.,2
1,0,4,7,.
1,0,0,.,3
1,2,0,.,4
2,0,1,10,.
2,1,0,.,5
"""


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (CLOCK.replace("1,0,4", "1,0,1"), r"If a new occasion begins there, give its first row"),
        (CLOCK.replace("1,2,0", "1,-1,0"), r"put them back: a sort would mix occasions"),
        (CLOCK.replace("1,0,4", "1,0,1"), r'sort_values\(\[.ID., .TIME.\], kind="stable"\)'),
    ],
)
def test_clocks_that_go_back_without_a_reset(table, words):
    refuse(table, words)


REFUSED = {
    "several subjects need an individual": (
        "ID,TIME,DV,MDV\n4,0,1,0\n4,1,1,0\n3,2,1,0",
        r'more than one ID: 4, and 3 in row 3\..*Set individual = "ID" in the class',
        Alone,
    ),
    "individual that is nowhere": (
        "TIME,DV,MDV\n0,1,0",
        r"no column `ID` to tell the individuals of One apart",
    ),
    "subjects whose rows are interrupted": (
        "ID,TIME,DV,MDV\n1,0,1,0\n2,0,1,0\n1,1,1,0",
        r"Row 3 of the table goes back to ID 1, after rows of ID 2\..*sort the table",
    ),
    "times that go back": (
        "ID,TIME,DV,MDV\n1,0,1,0\n1,2,1,0\n1,1,1,0",
        r"times of ID 1 are not sorted: row 3 has 1 after 2 in row 2",
    ),
    "missing id": ("ID,TIME,DV,MDV\n1,0,1,0\n.,2,1,0", r"column `ID` is empty in row 2"),
    "column twice": ("ID,TIME,DV,MDV,dv\n1,0,1,0,0", r"columns `DV` and `dv`\. Expected one DV\."),
    "table without rows": (
        "ID,TIME,DV,MDV",
        r"table has no rows\. Expected at least one observation",
    ),
    "dvid is needed for several observables": (
        "ID,TIME,DV,MDV\n1,0,1,0",
        r"no column DVID, and Both has several observables\. .*from 1 to 2, or its name: cp, eff",
        Both,
    ),
    "no compartment is turned off": (
        "ID,TIME,EVID,CMT,DV\n1,0,0,1,2\n1,1,2,-1,.\n1,2,0,1,2",
        r"Row 2 of the table has CMT -1, which turns a compartment off in NONMEM",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_tables_that_do_not_fit(case):
    refuse(*case)
