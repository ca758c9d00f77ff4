"""Every kind of dosing record against closed forms of one and two compartments."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from odecal.adjoints import ExplicitForward, Forward, RecursiveCheckpoint

import odecal
from odecal import Covariate, Dosing, Observable, Parameter, Solve, State, System
from odecal._model.forward import Forward as ModelForward

TIMES = np.array([0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 9.5, 12.0, 13.0, 18.0, 25.0])
TRUTH = {"ka": 1.3, "k": 0.25, "lag": 0.4, "part": 0.7, "rate": 18.0, "lasts": 2.2}
TIGHT = {"rtol": 1e-9, "atol": 1e-10, "max_steps": 20_000}
GUT, BODY = 1, 2


class Oral(System):
    """One compartment, by mouth or into the vein."""

    individual = "ID"
    t0 = 0.0
    ka = Parameter(dist.LogNormal(0.0, 1.0))
    k = Parameter(dist.LogNormal(-1.0, 1.0))
    lag = Parameter(dist.LogNormal(-1.0, 1.0))
    part = Parameter(dist.Beta(2.0, 2.0))
    rate = Parameter(dist.LogNormal(3.0, 1.0))
    lasts = Parameter(dist.LogNormal(0.0, 1.0))
    gut = State(initial=0.0, dosing=Dosing(lag=lambda p: p.lag, bioavailability=lambda p: p.part))
    body = State(initial=0.0, dosing=Dosing(rate=lambda p: p.rate, duration=lambda p: p.lasts))

    def vector_field(self, t, y, p):
        absorbed = p.ka * y.gut
        return {"gut": -absorbed, "body": absorbed - p.k * y.body}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.body, 1.0))


# The amount in the body after a unit dose at 0, by each route: nothing before it.


def bolus(t, p):
    return jnp.where(t > 0, jnp.exp(-p["k"] * jnp.maximum(t, 0.0)), 0.0)


def oral(t, p):
    """Late by the lag, and in part."""
    after = jnp.maximum(t - p["lag"], 0.0)
    both = jnp.exp(-p["k"] * after) - jnp.exp(-p["ka"] * after)
    return p["part"] * p["ka"] / (p["ka"] - p["k"]) * both


def infusion(t, p, rate, lasts):
    """At a rate, for a time: not a unit dose."""
    during = jnp.clip(t, 0.0, lasts)
    after = jnp.maximum(t - lasts, 0.0)
    return rate / p["k"] * (1 - jnp.exp(-p["k"] * during)) * jnp.exp(-p["k"] * after)


def ever_before(of, interval, count=400):
    """The sum over doses at an interval, the last at 0 and the others before."""
    return lambda t, p: jnp.sum(
        jax.vmap(lambda n: of(t + n * interval, p))(jnp.arange(count, dtype=float)), axis=0
    )


def record(time, amount, **columns):
    return {"TIME": time, "AMT": amount, "EVID": 1, "CMT": BODY} | columns


# What is given, and the amount in the body.
CASES = {
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
    "steady state of boluses": (
        [record(2.1, 10.0, SS=1, II=6.0)],
        lambda t, p: jnp.where(t > 2.1, 10 * ever_before(bolus, 6.0)(t - 2.1, p), 0.0),
    ),
    "steady state by mouth": (
        [record(2.1, 10.0, SS=1, II=6.0, CMT=GUT)],
        lambda t, p: jnp.where(t > 2.1, 10 * ever_before(oral, 6.0)(t - 2.1, p), 0.0),
    ),
    "steady state of infusions": (
        [record(2.1, 10.0, SS=1, II=6.0, RATE=4.0)],
        lambda t, p: jnp.where(
            t > 2.1, ever_before(lambda t, p: infusion(t, p, 4.0, 2.5), 6.0)(t - 2.1, p), 0.0
        ),
    ),
    "steady state on top of what is there": (
        [record(0.2, 7.0), record(2.1, 10.0, SS=2, II=6.0)],
        lambda t, p: (
            7 * bolus(t - 0.2, p)
            + jnp.where(t > 2.1, 10 * ever_before(bolus, 6.0)(t - 2.1, p), 0.0)
        ),
    ),
    "steady state with further doses": (
        [record(0.2, 10.0, SS=1, II=6.0, ADDL=2)],
        lambda t, p: (
            jnp.where(t > 0.2, 10 * ever_before(bolus, 6.0)(t - 0.2, p), 0.0)
            + 10 * bolus(t - 6.2, p)
            + 10 * bolus(t - 12.2, p)
        ),
    ),
    "a constant infusion at rest, which ends": (
        [record(2.1, 0.0, SS=1, RATE=4.0)],
        lambda t, p: 4.0 / p["k"] * bolus(t - 2.1, p),
    ),
    "reset": (
        [record(0.2, 10.0), record(5.0, 0.0, EVID=3), record(5.1, 4.0)],
        lambda t, p: jnp.where(t <= 5.0, 10 * bolus(t - 0.2, p), 4 * bolus(t - 5.1, p)),
    ),
    "reset and dose, in an infusion": (
        [record(0.2, 40.0, RATE=4.0), record(5.0, 6.0, EVID=4)],
        lambda t, p: jnp.where(t <= 5.0, infusion(t - 0.2, p, 4.0, 10.0), 6 * bolus(t - 5.0, p)),
    ),
    "reset, which cancels additional doses": (
        [record(0.2, 10.0, ADDL=5, II=2.0), record(5.0, 0.0, EVID=3)],
        lambda t, p: jnp.where(
            t <= 5.0, sum(10 * bolus(t - 0.2 - 2.0 * n, p) for n in range(3)), 0.0
        ),
    ),
}


def table_of(records, times=TIMES):
    rows = [{"TIME": t, "DV": 0.0, "EVID": 0} for t in times]
    table = pd.DataFrame([*records, *rows]).sort_values("TIME", kind="stable")
    return table.assign(ID=1)


def seen(model):
    """The amounts at the times of observation, of the parameters."""

    def of(p):
        return model.predict(p).laws["seen"].mean

    return of


def parameters():
    return {name: jnp.asarray(x) for name, x in TRUTH.items()}


def assert_like(model, reference, p, tolerance=2e-6):
    """Values and derivatives, of one program."""

    def twice(jacobian, of):
        return jax.jit(jacobian(lambda p: (of(p),) * 2, has_aux=True))

    with model.precision():
        p = {name: jnp.asarray(x) for name, x in p.items()}
        slopes, values = twice(jax.jacrev, seen(model))(p)
        expected_slopes, expected = twice(jax.jacfwd, reference)(p)
    np.testing.assert_allclose(values, expected, rtol=1e-7, atol=1e-7)
    for name in p:
        np.testing.assert_allclose(
            slopes[name], expected_slopes[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case):
    records, reference = CASES[case]
    model = odecal.compile(Oral(), table_of(records), Solve(**TIGHT))
    assert_like(model, lambda p: reference(TIMES, p), TRUTH)


@pytest.mark.parametrize(
    "adjoint",
    [ExplicitForward(), Forward(), RecursiveCheckpoint()],
    ids=lambda a: type(a).__name__,
)
def test_every_strategy_gives_the_same_gradient(adjoint):
    """Also of a steady state, which is found before the solve."""
    records = [
        record(0.15, 10.0, CMT=GUT, SS=1, II=6.0),
        record(4.0, 10.0, RATE=5.0),
        record(7.0, 3.0),
    ]
    solve = Solve(rtol=1e-9, atol=1e-10, max_steps=600, adjoint=adjoint)
    model = odecal.compile(Oral(), table_of(records), solve)

    def reference(p):
        steady = 10 * ever_before(oral, 6.0)(TIMES - 0.15, p)
        return (
            jnp.where(TIMES > 0.15, steady, 0.0)
            + infusion(TIMES - 4.0, p, 5.0, 2.0)
            + 3 * bolus(TIMES - 7.0, p)
        )

    with model.precision():
        got = jax.jit(jax.grad(lambda p: jnp.sum(seen(model)(p) ** 2)))(parameters())
        want = jax.grad(lambda p: jnp.sum(reference(p) ** 2))(parameters())
    for name in TRUTH:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_compartments():
    """A bolus, an infusion and the eigenvectors of the matrix of rates."""

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
        }
    )
    data = odecal.Observations(pd.DataFrame({"time": TIMES, "seen": 0.0}), doses=doses)
    model = odecal.compile(Two(), data, Solve(**TIGHT))

    def reference(p):
        matrix = jnp.array([[-p["out"] - p["there"], p["back"]], [p["there"], -p["back"]]])

        def flow(t, start):
            return jax.scipy.linalg.expm(matrix * t) @ start

        def at(t):
            first = jnp.where(t > 0.3, flow(jnp.maximum(t - 0.3, 0.0), jnp.array([10.0, 0.0])), 0.0)
            rest = jnp.linalg.solve(-matrix, jnp.array([4.0, 0.0]))  # of the endless infusion
            during = jnp.clip(t - 2.0, 0.0, 1.5)
            filled = rest - flow(during, rest)
            return (first + flow(jnp.maximum(t - 3.5, 0.0), filled))[0]

        return jax.vmap(at)(jnp.asarray(TIMES))

    assert_like(model, reference, {"out": 0.4, "there": 0.9, "back": 0.3}, 1e-6)


def test_a_trough_is_before_the_dose_and_a_peak_behind_it():
    """An observation at the time of a dose, by the order of the records."""
    table = pd.DataFrame(
        {
            "ID": 1,
            "TIME": [0.0, 0.0, 0.0, 4.0, 4.0, 4.0],
            "DV": [0.0, np.nan, 0.0, 0.0, np.nan, 0.0],
            "EVID": [0, 1, 0, 0, 1, 0],
            "AMT": [np.nan, 10.0, np.nan, np.nan, 5.0, np.nan],
            "CMT": BODY,
        }
    )
    model = odecal.compile(Oral(), table, Solve(**TIGHT))
    with model.precision():
        got = seen(model)(parameters())
    trough = 10 * np.exp(-TRUTH["k"] * 4.0)
    np.testing.assert_allclose(got, [0.0, 10.0, trough, trough + 5.0], atol=1e-7)


def test_individuals_with_doses_of_their_own():
    """Ragged doses, routes and times in one table are those of each individual alone.

    In whichever order they are solved for: by the number of their doses, and by their length.
    """
    one = table_of(CASES["additional doses"][0], TIMES[5:])
    two = table_of(CASES["oral with lag and bioavailability"][0]).assign(ID=2)
    three = table_of(CASES["infusions that overlap"][0], TIMES[2:7]).assign(ID=3)
    system, solve = Oral(), Solve(**TIGHT)
    together = odecal.compile(system, pd.concat([one, two, three], ignore_index=True), solve)
    assert ModelForward(system.declaration, together.experiment, solve).order.tolist() == [2, 1, 0]
    with together.precision():
        p = parameters()
        got = jax.jit(jax.jacrev(seen(together)))(p)
        apart = [
            jax.jit(jax.jacrev(seen(odecal.compile(system, table, solve))))(p)
            for table in (one, two, three)
        ]
    for name in p:
        want = np.concatenate([each[name] for each in apart])
        np.testing.assert_allclose(got[name], want, rtol=1e-6, atol=1e-7)


def test_a_lag_of_more_intervals_than_are_reckoned_with_has_no_density():
    """Nothing wrong passes for right."""
    table = table_of([record(2.1, 40.0, SS=1, II=0.04, CMT=GUT)])
    model = odecal.compile(Oral(), table)
    with model.precision():
        assert model.logdensity_fn(model.unconstrain(parameters())) == -np.inf


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


@pytest.mark.parametrize("adjoint", [None, Forward()], ids=["explicit", "stretches"])
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
    with model.precision():
        got = jax.jit(seen(model))(parameters())
    expected = np.concatenate([seen for _, _, seen in SAME_TIME.values()])
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)


def test_doses_of_a_table_of_their_own_come_after_observations_of_the_same_time():
    """Also additional and lagged ones."""
    doses = pd.DataFrame(
        {"time": [0.0], "amount": 100.0, "state": "gut", "interval": 24.0, "additional": 2}
    )
    times = [0.0, 5.0, 24.0, 29.0, 30.0]
    alone = type("Alone", (Late,), {"individual": None})
    for lag, expected in (
        (5.0, [0.0, 0.0, 0.0, 0.0, 41.2 * np.exp(-1.3)]),
        (0.0, [0.0, 41.2 * np.exp(-6.5), 0.0, 41.2 * np.exp(-6.5), 41.2 * np.exp(-7.8)]),
    ):
        table = pd.DataFrame({"time": times, "seen": 0.0, "LATE": lag, "PART": 0.412})
        data = odecal.Observations(table, doses=doses)
        model = odecal.compile(alone(), data, Solve(**TIGHT))
        with model.precision():
            np.testing.assert_allclose(seen(model)(parameters()), expected, atol=1e-7)


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

    def reference(t, p):
        other = p | {"lag": 0.1, "part": 1.0}
        first = sum(10 * oral(t - 5.0 * n, p) for n in range(3))
        return first + 4 * oral(t - 7.0, other) + 3 * oral(t - 15.5, p)

    assert_like(model, lambda p: reference(TIMES, p), TRUTH)
