"""Every kind of dosing record against closed forms of one and two compartments."""

from functools import cache, partial

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.linalg
from odecal.adjoints import Gauss, RecursiveCheckpoint
from one_compartment import Oral, slopes

import odecal
from odecal import Covariate, Dosing, Observable, Parameter, Solve, State, System
from odecal._model.forward import Forward as ModelForward

TIMES = np.array([0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 9.5, 12.0, 13.0, 18.0, 25.0])
TRUTH = {"ka": 1.3, "k": 0.25, "lag": 0.4, "part": 0.7, "rate": 18.0, "lasts": 2.2}
TIGHT = {"rtol": 1e-9, "atol": 1e-10, "max_steps": 20_000}
GUT, BODY = 1, 2

# The amount in the body after a unit dose at 0, by each route: nothing before it.


def bolus(t, p):
    return np.where(t > 0, np.exp(-p["k"] * np.maximum(t, 0.0)), 0.0)


def oral(t, p):
    """Late by the lag, and in part."""
    after = np.maximum(t - p["lag"], 0.0)
    both = np.exp(-p["k"] * after) - np.exp(-p["ka"] * after)
    return p["part"] * p["ka"] / (p["ka"] - p["k"]) * both


def infusion(t, p, rate, lasts):
    """At a rate, for a time: not a unit dose."""
    during = np.clip(t, 0.0, lasts)
    after = np.maximum(t - lasts, 0.0)
    return rate / p["k"] * (1 - np.exp(-p["k"] * during)) * np.exp(-p["k"] * after)


def steady(of, interval, t, p):
    """Of doses at an interval, one at 0, which have been given ever before."""
    return np.where(t > 0, sum(of(t + n * interval, p) for n in range(400)), 0.0)


def record(time, amount, **columns):
    return {"TIME": time, "AMT": amount, "EVID": 1, "CMT": BODY} | columns


MIXED = [
    record(0.15, 10.0, CMT=GUT, SS=1, II=6.0),
    record(4.0, 10.0, RATE=5.0),
    record(7.0, 3.0),
]
# Of each program: what is given, and the amount in the body.
CASES = {
    "doses": {
        "bolus": ([record(1.1, 10.0)], lambda t, p: 10 * bolus(t - 1.1, p)),
        "oral with lag and bioavailability": (
            [record(0.0, 10.0, CMT=GUT), record(6.2, 5.0, CMT=GUT)],
            lambda t, p: 10 * oral(t, p) + 5 * oral(t - 6.2, p),
        ),
        "both routes at once": (
            [record(2.5, 3.0, CMT=GUT), record(2.5, 4.0)],
            lambda t, p: 3 * oral(t - 2.5, p) + 4 * bolus(t - 2.5, p),
        ),
        "additional doses": (
            [record(0.3, 10.0, ADDL=3, II=5.1)],
            lambda t, p: sum(10 * bolus(t - 0.3 - 5.1 * n, p) for n in range(4)),
        ),
        "infusion at a rate": (
            [record(1.2, 10.0, RATE=4.0)],
            lambda t, p: infusion(t - 1.2, p, 4.0, 2.5),
        ),
        "infusions that overlap": (
            [record(0.0, 12.0, RATE=2.0), record(2.2, 6.0, RATE=2.0)],
            lambda t, p: infusion(t, p, 2.0, 6.0) + infusion(t - 2.2, p, 2.0, 3.0),
        ),
        "infusion at a rate that is a parameter": (
            [record(1.2, 30.0, RATE=-1)],
            lambda t, p: infusion(t - 1.2, p, p["rate"], 30.0 / p["rate"]),
        ),
        "infusion of a duration that is a parameter": (
            [record(1.2, 30.0, RATE=-2)],
            lambda t, p: infusion(t - 1.2, p, 30.0 / p["lasts"], p["lasts"]),
        ),
    },
    "steady states and resets": {
        "steady state of boluses": (
            [record(2.1, 10.0, SS=1, II=6.0)],
            lambda t, p: 10 * steady(bolus, 6.0, t - 2.1, p),
        ),
        "steady state of infusions": (
            [record(2.1, 10.0, SS=1, II=6.0, RATE=4.0)],
            lambda t, p: steady(lambda t, p: infusion(t, p, 4.0, 2.5), 6.0, t - 2.1, p),
        ),
        "steady state on top of what is there": (
            [record(0.2, 7.0), record(2.1, 10.0, SS=2, II=6.0)],
            lambda t, p: 7 * bolus(t - 0.2, p) + 10 * steady(bolus, 6.0, t - 2.1, p),
        ),
        "steady state with further doses": (
            [record(0.2, 10.0, SS=1, II=6.0, ADDL=2)],
            lambda t, p: (
                10 * steady(bolus, 6.0, t - 0.2, p)
                + 10 * bolus(t - 6.2, p)
                + 10 * bolus(t - 12.2, p)
            ),
        ),
        "a constant infusion at rest, which ends": (
            [record(2.1, 0.0, SS=1, RATE=4.0)],
            lambda t, p: 4.0 / p["k"] * bolus(t - 2.1, p),
        ),
        "steady state by mouth": (
            [record(2.1, 10.0, SS=1, II=6.0, CMT=GUT)],
            lambda t, p: 10 * steady(oral, 6.0, t - 2.1, p),
        ),
        "of every kind": (
            MIXED,
            lambda t, p: (
                10 * steady(oral, 6.0, t - 0.15, p)
                + infusion(t - 4.0, p, 5.0, 2.0)
                + 3 * bolus(t - 7.0, p)
            ),
        ),
        "reset": (
            [record(0.2, 10.0), record(5.0, 0.0, EVID=3), record(5.1, 4.0)],
            lambda t, p: np.where(t <= 5.0, 10 * bolus(t - 0.2, p), 4 * bolus(t - 5.1, p)),
        ),
        "reset and dose, in an infusion": (
            [record(0.2, 40.0, RATE=4.0), record(5.0, 6.0, EVID=4)],
            lambda t, p: np.where(t <= 5.0, infusion(t - 0.2, p, 4.0, 10.0), 6 * bolus(t - 5.0, p)),
        ),
        "reset, which cancels additional doses": (
            [record(0.2, 10.0, ADDL=5, II=2.0), record(5.0, 0.0, EVID=3)],
            lambda t, p: np.where(
                t <= 5.0, sum(10 * bolus(t - 0.2 - 2.0 * n, p) for n in range(3)), 0.0
            ),
        ),
    },
}


def table_of(records, times=TIMES, individual=1):
    rows = [{"TIME": t, "DV": 0.0, "EVID": 0} for t in times]
    table = pd.DataFrame([*records, *rows]).sort_values("TIME", kind="stable")
    return table.assign(ID=individual)


def seen(model):
    """The amounts at the times of observation."""
    with model.precision():
        return jax.jit(lambda p: model.predict(p).laws["seen"].mean)(TRUTH)


def program_of(model):
    """How the amounts move with the parameters, the amounts, and their log densities."""

    def of(p):
        prediction = model.predict(p)
        amounts = prediction.laws["seen"].mean
        return amounts, (amounts, model.log_likelihood(prediction)["seen"])

    program = jax.jit(jax.jacrev(of, has_aux=True))

    def run(p):
        with model.precision():
            return program(p)

    return run


def assert_like(found, references, p, tolerance=2e-6):
    """Values and slopes are those of the references, one after another."""
    (moves, (values, _)), end = found, 0
    for case, of in references.items():
        expected = of(p)
        own = slice(end, end := end + len(expected))
        np.testing.assert_allclose(values[own], expected, rtol=1e-7, atol=1e-7, err_msg=case)
        for name, slope in slopes(of, p).items():
            np.testing.assert_allclose(
                moves[name][own], slope, rtol=tolerance, atol=tolerance, err_msg=f"{case}: {name}"
            )
    assert end == len(values)


@cache
def batch(kind):
    """Individuals in one table, whose doses, routes and times are their own."""
    parts, references = [], {}
    for i, (case, (records, reference)) in enumerate(CASES[kind].items()):
        times = TIMES[i % 3 :]
        parts.append(table_of(records, times, case))
        references[case] = partial(reference, times)
    model = odecal.compile(Oral(), pd.concat(parts, ignore_index=True), Solve(**TIGHT))
    return program_of(model), references


@pytest.mark.parametrize("kind", CASES)
def test_values_and_gradients(kind):
    program, references = batch(kind)
    assert_like(program(TRUTH), references, TRUTH)


def test_individuals_are_solved_for_by_the_number_of_their_doses_and_by_their_length():
    doses = CASES["doses"]
    parts = [
        table_of(doses["additional doses"][0], TIMES[5:], 1),
        table_of(doses["oral with lag and bioavailability"][0], TIMES, 2),
        table_of(doses["infusions that overlap"][0], TIMES[2:7], 3),
    ]
    system, solve = Oral(), Solve()
    model = odecal.compile(system, pd.concat(parts, ignore_index=True), solve)
    assert ModelForward(system.declaration, model.experiment, solve).order.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("way", "kind", "case"),
    [
        (
            {"adjoint": RecursiveCheckpoint(), "max_steps": 600},
            "steady states and resets",
            "of every kind",
        ),
        ({"solver": diffrax.Kvaerno5()}, "doses", "oral with lag and bioavailability"),
    ],
    ids=["reverse mode, and a steady state found before", "an implicit solver"],
)
def test_other_ways_give_the_same(way, kind, case):
    records, reference = CASES[kind][case]
    model = odecal.compile(Oral(), table_of(records), Solve(**TIGHT | way))
    assert_like(program_of(model)(TRUTH), {case: partial(reference, TIMES)}, TRUTH)


def test_two_compartments():
    """Boluses ever before, an infusion, and the exponential of the matrix of rates."""

    class Two(System):
        t0 = 0.0
        out = Parameter(dist.LogNormal(0.0, 1.0))
        there = Parameter(dist.LogNormal(0.0, 1.0))
        back = Parameter(dist.LogNormal(0.0, 1.0))
        blood = State(initial=0.0)
        tissue = State(initial=0.0)

        def vector_field(self, t, y, p):
            exchange = p.there * y.blood - p.back * y.tissue
            return {"blood": -p.out * y.blood - exchange, "tissue": exchange}

        seen = Observable(lambda t, y, p: odecal.noise.Normal(y.blood, 1.0))

    doses = pd.DataFrame(
        {
            "time": [0.3, 2.0],
            "amount": [10.0, 6.0],
            "state": ["blood", "blood"],
            "duration": [0.0, 1.5],
            "interval": [4.0, np.nan],
            "steady_state": [1, 0],
        }
    )
    data = odecal.Observations(pd.DataFrame({"time": TIMES, "seen": 0.0}), doses=doses)
    model = odecal.compile(Two(), data, Solve(**TIGHT))

    def reference(p):
        matrix = np.array([[-p["out"] - p["there"], p["back"]], [p["there"], -p["back"]]])

        def flow(t, start):
            return scipy.linalg.expm(matrix * max(t, 0.0)) @ start

        def at(t):
            still = np.eye(2) - scipy.linalg.expm(matrix * 4.0)
            first = flow(t - 0.3, np.linalg.solve(still, np.array([10.0, 0.0]))) * (t > 0.3)
            rest = np.linalg.solve(-matrix, np.array([4.0, 0.0]))  # of the endless infusion
            filled = rest - flow(np.clip(t - 2.0, 0.0, 1.5), rest)
            return (first + flow(t - 3.5, filled))[0]

        return np.array([at(t) for t in TIMES])

    p = {"out": 0.4, "there": 0.9, "back": 0.3}
    assert_like(program_of(model)(p), {"": reference}, p, 1e-6)


def test_doses_before_a_steady_state_are_still_to_come_where_the_lag_is_long():
    """A lag of more intervals than are reckoned with has no density: nothing passes for right."""
    program, references = batch("steady states and resets")
    for lag, failed in ((50.0, False), (60.0, True)):  # the interval is 6
        p = TRUTH | {"lag": lag}
        found = program(p)
        np.testing.assert_array_equal(np.asarray(found[1][1]) == -np.inf, failed)
        if not failed:
            assert_like(found, references, p)


def observation(time):
    return {"TIME": time, "DV": 0.0, "EVID": 0}


class Late(Oral):
    """The gut is observed; each individual has a lag and a bioavailability of its own."""

    late = Covariate("LATE")
    arrives = Covariate("PART")
    gut = State(
        initial=0.0, dosing=Dosing(lag=lambda p: p.late, bioavailability=lambda p: p.arrives)
    )
    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.gut, 1.0))


# Rows, lag and bioavailability, and what is seen.
SAME_TIME = {
    # NONMEM, mrgsolve and rxode2: 41.2 in the compartment at 5.
    "lagged": (
        [record(0.0, 100.0, CMT=GUT, II=24.0, ADDL=3), observation(5.0), observation(29.0)],
        (5.0, 0.412),
        [41.2, 41.2 * (1 + np.exp(-24 * 1.3))],
    ),
    "lagged, where rounding would have it later": (
        [record(0.1, 100.0, CMT=GUT), observation(0.3)],  # 0.1 + 0.2 > 0.3
        (0.2, 0.412),
        [41.2],
    ),
    "additional, and a dose whose row stands behind": (
        [
            record(0.1, 100.0, CMT=GUT, II=0.1, ADDL=3),  # 0.1 + 2 * 0.1 > 0.3
            observation(0.3),
            record(0.3, 50.0, CMT=GUT),
            observation(0.3),
        ],
        (0.0, 1.0),
        [
            100 * (1 + np.exp(-0.13) + np.exp(-0.26)),
            100 * (1 + np.exp(-0.13) + np.exp(-0.26)) + 50,
        ],
    ),
    "rows in their order": (
        [
            observation(0.0),
            record(0.0, 100.0, CMT=GUT),
            observation(0.0),
            record(0.0, 50.0, CMT=GUT),
            observation(0.0),
            record(0.0, 0.0, EVID=3),
            observation(0.0),
            observation(3.0),
        ],
        (0.0, 1.0),
        [0.0, 100.0, 150.0, 0.0, 0.0],
    ),
    "a trough before the dose, a peak behind it": (
        [
            observation(0.0),
            record(0.0, 10.0, CMT=GUT),
            observation(0.0),
            observation(4.0),
            record(4.0, 5.0, CMT=GUT),
            observation(4.0),
        ],
        (0.0, 1.0),
        [0.0, 10.0, 10 * np.exp(-5.2), 10 * np.exp(-5.2) + 5.0],
    ),
    "additional, before a reset": (
        [
            record(0.0, 100.0, CMT=GUT, II=1.0, ADDL=3),
            observation(1.0),
            record(1.0, 0.0, EVID=3),
            observation(1.0),
            observation(2.5),
        ],
        (0.0, 1.0),
        [100 * (1 + np.exp(-1.3)), 0.0, 0.0],
    ),
}


@pytest.mark.parametrize("adjoint", [None, Gauss()], ids=["explicit", "stretches"])
def test_observations_at_the_time_of_a_dose(adjoint):
    """Additional and lagged doses come before them, doses with rows in the order of rows.

    PREDPP has it so, see https://github.com/metrumresearchgroup/mrgsolve/issues/424.
    """
    parts = [
        pd.DataFrame(rows).assign(ID=case, LATE=late, PART=part)
        for case, (rows, (late, part), _) in SAME_TIME.items()
    ]
    solve = Solve(rtol=1e-9, atol=1e-10, max_steps=600, adjoint=adjoint)
    model = odecal.compile(Late(), pd.concat(parts, ignore_index=True), solve)
    expected = np.concatenate([x for _, _, x in SAME_TIME.values()])
    np.testing.assert_allclose(seen(model), expected, rtol=1e-8, atol=1e-8)


def test_doses_of_a_table_of_their_own_come_after_observations_of_the_same_time():
    """Also additional and lagged ones."""
    times, lags = [0.0, 5.0, 24.0, 29.0, 30.0], {"late": 5.0, "at once": 0.0}
    parts = [
        pd.DataFrame({"ID": who, "time": times, "seen": 0.0, "LATE": lag, "PART": 0.412})
        for who, lag in lags.items()
    ]
    doses = pd.DataFrame(
        {"ID": [*lags], "time": 0.0, "amount": 100.0, "state": "gut"}
        | {"interval": 24.0, "additional": 2}
    )
    data = odecal.Observations(pd.concat(parts, ignore_index=True), doses=doses)
    model = odecal.compile(Late(), data, Solve(**TIGHT))
    expected = [0.0, 0.0, 0.0, 0.0, 41.2 * np.exp(-1.3)]
    expected += [0.0, 41.2 * np.exp(-6.5), 0.0, 41.2 * np.exp(-6.5), 41.2 * np.exp(-7.8)]
    np.testing.assert_allclose(seen(model), expected, atol=1e-7)


def test_what_differs_between_doses_is_an_input():
    """Lag and bioavailability by the column of each dose's record, which additional doses share."""

    class Formulations(Oral):
        form = odecal.Input("FORM", interpolation=odecal.interpolation.Backward())
        gut = State(
            initial=0.0,
            dosing=Dosing(
                lag=lambda p: jnp.where(p.form == 1, p.lag, 0.1),
                bioavailability=lambda p: jnp.where(p.form == 1, p.part, 1.0),
            ),
        )

    rows = [
        record(0.0, 10.0, CMT=GUT, ADDL=2, II=5.0, FORM=1),
        record(7.0, 4.0, CMT=GUT, FORM=2),
        record(15.5, 3.0, CMT=GUT, FORM=1),
    ]
    model = odecal.compile(Formulations(), table_of(rows), Solve(**TIGHT))

    def reference(p):
        other = p | {"lag": 0.1, "part": 1.0}
        first = sum(10 * oral(TIMES - 5.0 * n, p) for n in range(3))
        return first + 4 * oral(TIMES - 7.0, other) + 3 * oral(TIMES - 15.5, p)

    assert_like(program_of(model)(TRUTH), {"": reference}, TRUTH)
