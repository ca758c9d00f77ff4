"""Random histories of doses of a linear system against superposition by the matrix exponential."""

import heapq
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from one_compartment import Oral, slopes
from scipy.linalg import eig

import odecal
from odecal import Dosing, Observable, Solve, State

GUT, BODY = 0, 1
COUNT = 40
P = {"ka": 1.3, "k": 0.45, "lag": 1.013, "part": 0.713, "rate": 18.17, "lasts": 2.2137}


class Scaled(Oral):
    """Amounts of any magnitude; what is seen is not."""

    scale = odecal.Covariate("SCALE")
    body = State(
        initial=0.0, dosing=Dosing(rate=lambda p: p.rate * p.scale, duration=lambda p: p.lasts)
    )
    seen = Observable(lambda t, y, p: odecal.noise.Normal((2 * y.gut + y.body) / p.scale, 1.0))


def random_dose(random, scale, steady):
    """One record: a bolus or an infusion of some kind, with repetitions of some kind."""
    into = int(random.integers(2))
    amount = scale * float(random.integers(1, 20))
    rates = [0.0, 0.0, scale * float(random.integers(1, 9))] + [-1.0, -2.0] * (into == BODY)
    interval = 0.1 * int(random.integers(2, 30))
    ss = int(random.integers(1, 3)) if steady else 0
    row = {"EVID": int(random.choice([1, 1, 1, 4])), "AMT": amount, "CMT": into + 1, "SS": ss}
    row["RATE"] = float(random.choice(rates))
    if ss:  # of infusions, eight intervals with the lag are reckoned with
        interval = max(interval, 0.6)
        row["RATE"] = max(row["RATE"], amount / 3.0) if row["RATE"] > 0 else row["RATE"]
    additional = int(random.integers(4)) if random.random() < 0.6 else 0
    return row | {"ADDL": additional, "II": interval if additional or ss else 0.0}


def history(random):
    """The rows of one individual: times on a grid of 0.1, in which many coincide, and off it."""
    scale = float(random.choice([1e-6, 1.0, 1e6]))
    blank = dict.fromkeys(("AMT", "RATE", "ADDL", "II", "SS"), 0.0) | {"CMT": 1, "SCALE": scale}
    number, steady = int(random.integers(1, 6)), int(random.integers(0, 4))
    times = [0.1 * int(n) for n in random.integers(0, 80, number)]
    rows = [
        {"TIME": t} | random_dose(random, scale, steady == i) | {"SCALE": scale}
        for i, t in enumerate(times)
    ]
    if random.random() < 0.3:
        rows.append(blank | {"TIME": 0.1 * int(random.integers(0, 80)), "EVID": 3})
    given = {r["TIME"] + n * r["II"] for r in rows for n in range(int(r["ADDL"]) + 1)}
    meet = random.choice(sorted({t for time in given for t in (time, time + 1.0)}), 5)
    off = 0.1 * random.integers(0, 120, 4) + 0.037
    seen = [blank | {"TIME": round(float(t), 6), "EVID": 0} for t in (*meet, *off)]
    rows = [rows[i] for i in random.permutation(len(rows))] + seen
    rows = [rows[i] for i in random.permutation(len(rows))]
    return sorted(rows, key=lambda row: round(row["TIME"], 6))


class Reference:
    """What is observed of one history, by the matrix exponential.

    PREDPP's order: at the same time, doses that are additional or late come first, then what rows
    say, in their order.
    """

    def __init__(self, p, scale):
        self.p = p | {"rate": p["rate"] * scale}
        self.matrix = np.array([[-p["ka"], 0.0], [p["ka"], -p["k"]]])
        self.inverse = np.linalg.inv(self.matrix)
        self.rates, self.modes = eig(self.matrix)
        self.rates, self.into_modes = self.rates.real, np.linalg.inv(self.modes)
        self.lag = (p["lag"], 0.0)
        self.part = (p["part"], 1.0)

    def flow(self, t):
        return (self.modes * np.exp(self.rates * t)) @ self.into_modes

    def filled(self, rate, t):
        """From nothing, by an infusion."""
        return self.inverse @ (self.flow(t) - np.eye(2)) @ rate

    def dose(self, row):
        """What arrives at once, at what rate, and for how long."""
        into = int(row["CMT"]) - 1
        unit, amount = np.eye(2)[into], row["AMT"] * self.part[into]
        rate = {-1.0: self.p["rate"], -2.0: amount / self.p["lasts"]}.get(row["RATE"], row["RATE"])
        if rate == 0:
            return amount * unit, None, 0.0
        return 0 * unit, rate * unit, amount / rate

    def steady(self, row):
        """The state at the time of the row, and what of the doses before it is yet to come."""
        bolus, rate, lasts = self.dose(row)
        state, later = np.zeros(2), []
        for n in range(1, 250):
            since = n * row["II"] - self.lag[int(row["CMT"]) - 1]
            if since <= 1e-9:
                later.append((-since, bolus, rate, lasts))
            elif rate is None:
                state += self.flow(since) @ bolus
            else:
                state += self.flow(max(since - lasts, 0.0)) @ self.filled(rate, min(since, lasts))
                if lasts > since + 1e-9:
                    later.append((0.0, 0 * bolus, rate, lasts - since))
        return state, later

    def __call__(self, rows):
        queue, numbers = [], itertools.count()

        def plan(time, rank, what, payload):
            heapq.heappush(queue, (round(time, 12), rank, next(numbers), what, payload))

        def arrive(time, rank, dose):
            bolus, rate, lasts = dose
            plan(time, rank, "bolus", bolus)
            if rate is not None:
                name = next(numbers)
                plan(time, rank, "begin", (name, rate))
                plan(time + lasts, -1, "end", name)

        clear = [r["EVID"] in (3, 4) or r["SS"] == 1 for r in rows]
        for i, row in enumerate(rows):
            time, lag = row["TIME"], self.lag[int(row["CMT"]) - 1]
            if row["EVID"] == 0:
                plan(time, i, "see", None)
            if row["EVID"] in (3, 4):
                plan(time, i, "reset", None)
            if row["EVID"] in (1, 4):
                if row["SS"]:
                    state, later = self.steady(row)
                    plan(time, i, "steady", (row["SS"], state))
                    for wait, *dose in later:
                        arrive(time + wait, i if wait < 1e-9 else -1, dose)
                ends = [r["TIME"] for r, c in zip(rows[i + 1 :], clear[i + 1 :], strict=True) if c]
                end = min(ends, default=np.inf) + (1e-9 if lag == 0 else -1e-9)
                arrive(time + lag, i if lag == 0 else -1, self.dose(row))
                for n in range(1, int(row["ADDL"]) + 1):
                    if time + n * row["II"] < end:
                        arrive(time + n * row["II"] + lag, -1, self.dose(row))
        return self.observed(queue)

    def observed(self, queue):
        now, state, running, seen = 0.0, np.zeros(2), {}, []
        while queue:
            time, _, _, what, payload = heapq.heappop(queue)
            rate = sum(running.values(), np.zeros(2))
            state = self.flow(time - now) @ state + self.filled(rate, time - now)
            now = time
            if what == "see":
                seen.append(2 * state[0] + state[1])
            elif what == "bolus":
                state = state + payload
            elif what == "begin":
                running[payload[0]] = payload[1]
            elif what == "end":
                running.pop(payload, None)
            elif what == "reset" or payload[0] == 1:
                state, running = (np.zeros(2) if what == "reset" else payload[1]), {}
            else:
                state = state + payload[1]
        return seen


def references(histories, p):
    every = [np.asarray(Reference(p, rows[0]["SCALE"])(rows)) for rows in histories]
    return np.concatenate([x / rows[0]["SCALE"] for x, rows in zip(every, histories, strict=True)])


def test_random_histories():
    """Values at and off the times of doses; gradients by what moves doses, off them."""
    random = np.random.default_rng(5)
    histories = [history(random) for _ in range(COUNT)]
    table = pd.concat([pd.DataFrame(h).assign(ID=i) for i, h in enumerate(histories)])
    table = table.assign(DV=np.where(table.EVID == 0, 0.0, np.nan)).reset_index(drop=True)
    model = odecal.compile(Scaled(), table, Solve(rtol=1e-8, atol=1e-14, max_steps=4000))
    times = table.TIME[table.EVID == 0].to_numpy()
    off = np.abs(times * 10 - np.round(times * 10)) > 0.1
    weights = np.where(off, random.normal(size=len(off)), 0.0)

    def total(p):
        seen = model.predict(p).laws["seen"].mean
        return jnp.sum(seen * weights), seen

    with model.precision():
        solve = jax.jit(jax.value_and_grad(total, has_aux=True))
        (_, got), moves = solve(P)
        np.testing.assert_allclose(got, references(histories, P), rtol=1e-5, atol=1e-5)
        # Now late doses come at times of the grid, where observations and resets are.
        later = P | {"lag": 1.0}
        (_, got), _ = solve(later)
        np.testing.assert_allclose(got, references(histories, later), rtol=1e-5, atol=1e-5)
    for name, slope in slopes(lambda p: weights @ references(histories, p), P).items():
        np.testing.assert_allclose(moves[name], slope, rtol=1e-4, err_msg=name)
