"""Doses in a table of their own."""

import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from example_tables import read, refuse
from numpy.testing import assert_array_equal

from odecal import Dosing, Observable, Parameter, State, System


class Single(System):
    amount = State(initial=0.0)

    def vector_field(self, t, y, p):
        return {"amount": -y.amount}

    level = Observable(lambda t, y, p: dist.Normal(y.amount, 1.0))


class Depot(Single):
    coords = {"organ": ["liver", "brain"]}  # noqa: RUF012
    individual = "subject"
    t0 = 0.0

    depot = State(initial=0.0, dosing=Dosing(rate=2.0))
    organs = State(initial=0.0, dims="organ", dosing=Dosing(duration=lambda p: 3.0))
    amount = State(initial=0.0)

    def vector_field(self, t, y, p):
        return {"depot": -y.depot, "organs": -y.organs, "amount": y.depot - y.amount}


def observed(system):
    data = pd.DataFrame({"time": [0.0, 1.0, 2.1], "level": [1.0, 2.0, 3.0]})
    if system.individual is None:
        return data
    return pd.concat([data.assign(subject=label) for label in (5, 2)], ignore_index=True)


def table(system=Depot, **columns):
    if system is Depot:
        columns = {"subject": 5, "time": 0.0, "amount": 100.0, "state": "depot", **columns}
    length = max(np.size(column) for column in columns.values())
    return pd.DataFrame({k: np.resize(np.asarray(v, object), length) for k, v in columns.items()})


def dosed(system=Depot, **columns):
    """The experiment of the observations and a table of doses with these columns."""
    return read(observed(system), system, doses=table(system, **columns))


def rows(doses):
    columns = list(vars(doses).values())[:9]
    return list(zip(*(np.asarray(x).tolist() for x in columns), strict=True))


# What is read.


def test_single_experiment_and_single_state():
    doses = dosed(Single, time=[0.0, 0.5], amount=[100.0, 50.0]).doses
    assert rows(doses) == [
        (0, 0.0, 0, 100.0, 0.0, 0.0, 0.0, 0, False),
        (0, 0.5, 0, 50.0, 0.0, 0.0, 0.0, 0, False),
    ]


def test_doses_begin_the_experiment():
    assert_array_equal(dosed(Single, time=[-1.0], amount=[1.0]).t0, [-1.0])


def test_elements_of_the_packed_state():
    doses = dosed(state=["depot", "organs[liver]", "organs[brain]", "amount"]).doses
    # Amount is declared first, in the base class.
    assert_array_equal(doses.element, [1, 2, 3, 0])


def test_doses_are_sorted_by_individual_then_time():
    doses = dosed(subject=[2, 5, 2, 5], time=[0.0, 0.0, 1.0, 2.0], amount=[1.0, 2.0, 3.0, 4.0])
    assert_array_equal(doses.doses.individual, [0, 0, 1, 1])
    assert_array_equal(doses.doses.amount, [2.0, 4.0, 1.0, 3.0])


def test_doses_of_the_same_time_keep_their_order():
    doses = dosed(time=0.0, amount=[3.0, 1.0, 2.0]).doses
    assert_array_equal(doses.amount, [3.0, 1.0, 2.0])


def test_infusions():
    doses = dosed(
        state=["amount", "amount", "depot", "organs[liver]"],
        rate=[10.0, np.nan, -1, -2],
        duration=[np.nan, 2.0, 0.0, 0.0],
    ).doses
    assert_array_equal(doses.rate, [10.0, 0.0, -1.0, -2.0])
    assert_array_equal(doses.duration, [0.0, 2.0, 0.0, 0.0])


def test_additional_doses_are_written_out_in_order_of_time():
    doses = dosed(
        time=[0.0, 12.0],
        amount=[100.0, 7.0],
        interval=[8.0, 0.0],
        additional=[2, 0],
        steady_state=[1, 0],
        reset=[1, 0],
    ).doses
    assert_array_equal(doses.time, [0.0, 8.0, 12.0, 16.0])
    assert_array_equal(doses.amount, [100.0, 100.0, 7.0, 100.0])
    assert_array_equal(doses.steady, [1, 0, 0, 0])
    assert_array_equal(doses.interval, [8.0, 0.0, 0.0, 0.0])
    assert_array_equal(doses.reset, [True, False, False, False])


def test_additional_dose_at_the_time_of_an_observation_does_not_come_just_before():
    assert 3 * 0.7 < 2.1
    doses = dosed(interval=0.7, additional=3).doses
    assert doses.time[3] == 2.1


def test_steady_states():
    doses = dosed(steady_state=[1, 2], interval=[12.0, 24.0]).doses
    assert_array_equal(doses.steady, [1, 2])
    assert_array_equal(doses.interval, [12.0, 24.0])


def test_constant_infusion_in_steady_state():
    doses = dosed(amount=0.0, rate=5.0, steady_state=1).doses
    assert rows(doses) == [(0, 0.0, 1, 0.0, 5.0, 0.0, 0.0, 1, False)]


@pytest.mark.parametrize("amount", [0.0, np.nan])
def test_reset_alone(amount):
    doses = dosed(time=[0.0, 1.0], amount=[1.0, amount], state=["depot", None], reset=[0, 1]).doses
    assert_array_equal(doses.element, [1, -1])
    assert_array_equal(doses.reset, [False, True])


def test_observations_at_the_time_of_a_dose_come_before_it():
    assert dosed().series["level"].after_dose is None


def test_csv_with_the_time_column_of_the_observations(tmp_path):
    path = tmp_path / "doses.csv"
    path.write_text("subject, hour, amount, state\n2, 1.5, 10, amount\n")
    data = observed(Depot).rename(columns={"time": "hour"})
    doses = read(data, Depot, time="hour", doses=path).doses
    assert rows(doses) == [(1, 1.5, 0, 10.0, 0.0, 0.0, 0.0, 0, False)]
    again = pd.read_csv(path, skipinitialspace=True).rename(columns={"hour": "time"})
    assert rows(read(data, Depot, time="hour", doses=again).doses) == rows(doses)


def test_labels_of_text_and_of_numbers_are_the_same():
    assert_array_equal(dosed(subject=["2", "5.0"][:1]).doses.individual, [1])
    assert_array_equal(dosed(subject=[2.0]).doses.individual, [1])


def test_individuals_of_several_columns():
    class Sites(Depot):
        individual = ("site", "subject")

    data = observed(Depot).assign(site="A")
    doses = pd.DataFrame({"subject": [2], "site": ["A"], "time": 1.0, "amount": 1.0})
    found = read(data, Sites, doses=doses.assign(state="depot")).doses
    assert_array_equal(found.individual, [1])


def test_table_without_rows():
    doses = pd.DataFrame({"time": [], "amount": []})
    assert read(observed(Single), Single, doses=doses).doses is None


# Tables that do not fit.


@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        ({"intervall": 1.0}, r"column `intervall` of the table of doses is not.*mean `interval`"),
        ({"amount": [1.0, "much"]}, r"column `amount` holds text in row 2: 'much'.*This is"),
        ({"time": [0.0, np.nan]}, r"Row 2 of the table of doses has no time\. Expected when"),
        ({"amount": [1.0, np.nan]}, r"Row 2 of the table of doses has no amount\. Expected how"),
        ({"state": ["depot", None]}, r"Row 2 of the table of doses has no state\. Expected into"),
        ({"subject": [5, None]}, r"column `subject` of the table of doses is empty in row 2"),
        (
            {"subject": [5, 7]},
            r"Row 2 of the table of doses is for subject 7, of whom.*Expected one of its "
            r"individuals: 5, 2\..*add a row without a value",
        ),
        ({"state": ["depot", "depo"]}, r"Row 2 of .* state `depo`, which Depot does.*mean `depot`"),
        ({"state": "organs"}, r"Row 1 .* `organs`, which is a vector.*organs\[liver\], organs"),
    ],
)
def test_cells_that_do_not_fit(columns, pattern):
    refuse(observed(Depot), pattern, Depot, doses=table(**columns))


@pytest.mark.parametrize(
    ("system", "doses", "pattern"),
    [
        (
            Single,
            pd.DataFrame({"time": [0.0], "amont": 1.0}),
            r"The table of doses has no column `amount`\. Got the columns: time, amont\. Did you "
            r"mean `amont`",
        ),
        (Depot, table().drop(columns="subject"), r"table of doses has no column `subject`"),
        (Depot, table().drop(columns="state"), r"no column `state`, and Depot has several: amount"),
        (Single, [1.0], r"Doses are expected as a pandas\.DataFrame or the"),
    ],
)
def test_tables_that_do_not_fit(system, doses, pattern):
    refuse(observed(system), pattern, system, doses=doses)


# Doses that cannot be.


@pytest.mark.parametrize(
    ("columns", "pattern"),
    [
        ({"amount": [1.0, -1.0]}, "Row 2 of the table of doses has the amount -1. Expected none b"),
        ({"steady_state": 3, "interval": 1.0}, "Row 1 of .* has the steady state 3. Expected 0"),
        ({"reset": 2}, "has the reset 2. Expected 0, or 1"),
        ({"rate": -3}, "has the rate -3. Expected 0 for a bolus"),
        ({"rate": -1.5}, "has the rate -1.5. Expected 0 for a bolus"),
        ({"duration": -1.0}, "has the duration -1"),
        ({"rate": 2.0, "duration": 1.0}, "has a rate, 2, and a duration, 1. Expected one of them"),
        ({"interval": -1.0}, "has the interval -1"),
        ({"additional": -1, "interval": 1.0}, "has -1 additional doses. Expected a whole number"),
        ({"additional": 1.5, "interval": 1.0}, "has 1.5 additional doses. Expected a whole number"),
        ({"additional": 2}, "has 2 additional doses without an interval. Expected a positive one"),
        ({"steady_state": 1}, "is in steady state without an interval.*constant infusion has the"),
        ({"amount": 0.0}, "has the amount 0. Expected a positive one; or 0 for a reset alone"),
        ({"amount": 0.0, "rate": 5.0}, "has the amount 0"),
        ({"amount": 0.0, "rate": 5.0, "steady_state": 1, "interval": 1.0}, "has the amount 0"),
        ({"amount": 0.0, "reset": 1, "additional": 1, "interval": 1.0}, "has the amount 0"),
        (
            {"state": ["depot", "amount"], "rate": -1},
            r"Row 2 of .* has the rate −1, .*Expected `amount` to give one.*Dosing\(rate=\.\.\.\)",
        ),
        ({"rate": -2}, r"has the rate −2, .*duration to the system.*Dosing\(duration=\.\.\.\)"),
        ({"time": [0.0, -1.0]}, r"Row 2 of .* gives a dose at -1, before the initial time t0 = 0"),
        (
            {"subject": [5, 2, 5], "time": [1.0, 0.0, 0.5]},
            r"times of the table of doses of subject 5 are not sorted: row 3 has 0\.5 after 1\.",
        ),
    ],
)
def test_doses_that_cannot_be(columns, pattern):
    refuse(observed(Depot), pattern, Depot, doses=table(**columns))


def test_initial_value_that_varies_does_not_matter_to_doses():
    class Start(Single):
        amount = State(
            initial=Parameter.varying("subject", location=dist.Normal(0.0, 1.0), scale=1.0)
        )

    doses = pd.DataFrame({"subject": [2], "time": [0.0], "amount": [1.0]})
    found = read(observed(Depot), Start, doses=doses).doses
    assert_array_equal(found.individual, [1])
