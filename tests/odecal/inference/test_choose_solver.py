"""The solver that a calibration takes when none is asked for."""

import json

import diffrax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from odecal.systems import LotkaVolterra

import odecal
from odecal import Event, Observable, Parameter, Solve, State, System, adjoints
from odecal._inference import choose_solver as choosing
from odecal._inference.choose_solver import Trial, choose_solver, solver_is_open
from odecal._inference.multistart import draw_prior
from odecal._inference.progress import NoProgress

DATA = pd.DataFrame({"time": [1e-3, 0.3, 1.0, 2.5], "seen": [1.01e-6, 9.4e-7, 5.6e-7, -7.9e-7]})


class Relaxation(System):
    """A state of the order of 1e-6 that follows a slow cosine at a rate of up to a million."""

    t0 = 0.0
    y = State(initial=1e-6)
    rate = Parameter(dist.LogUniform(1e2, 1e6))
    size = Parameter(dist.LogNormal(jnp.log(1e-6), 0.5))

    def vector_field(self, t, y, p):
        return {"y": -p.rate * (y.y - p.size * jnp.cos(t))}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.y, 2e-8))


class Said(NoProgress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, what):
        self.lines.append(what)


def choice(model, progress=None):
    draws = draw_prior(model, 0) if solver_is_open(model) else None
    return choose_solver(model, draws, progress or NoProgress())


def refuse(*_):
    raise AssertionError("tried")


def test_a_stiff_prior_takes_the_implicit_solver_and_it_is_said():
    said = Said()
    found = choice(odecal.compile(Relaxation(), DATA), said)
    assert isinstance(found.solver, diffrax.Kvaerno5)
    explicit, implicit = (found.trials[name] for name in ("Tsit5", "Kvaerno5"))
    assert explicit.failed > 0 == implicit.failed
    assert explicit.median_steps > 1000 > implicit.median_steps
    assert "stiff" in said.lines[-1]
    assert f"{implicit.median_steps:,.0f} by Kvaerno5" in said.lines[-1]
    assert json.loads(found.note())["trials"]["Tsit5"]["failed"] == explicit.failed


def test_where_few_steps_do_nothing_is_tried(monkeypatch):
    monkeypatch.setattr(choosing, "implicit_solver", refuse)
    found = choice(odecal.compile(LotkaVolterra(), LotkaVolterra.data))
    assert found.solver == diffrax.Tsit5()
    assert not found.trials


class Emptied(Relaxation):
    """The same, which is emptied where it falls below a level."""

    empty = Event(lambda t, y, p: y.y - 1e-8, lambda t, y, p: {"y": 0.0})


@pytest.mark.parametrize(
    ("system", "solve", "reason"),
    [
        (Relaxation, Solve(solver=diffrax.Dopri5()), "as asked for"),
        (Emptied, None, "it follows events"),
        (Relaxation, Solve(adjoint=adjoints.ExplicitReverse()), "the adjoint serves no implicit"),
    ],
)
def test_what_cannot_be_another_solver_is_left(system, solve, reason):
    model = odecal.compile(system(), DATA, solve)
    found = choice(model)
    assert found.solver == model.solve.solver_or_default
    assert found.reason.startswith(reason)


@pytest.mark.parametrize(
    ("explicit", "implicit", "taken"),
    [
        (Trial(30_000.0, 0, 0.1), Trial(1000.0, 0, 0.6), False),  # many steps, and yet faster
        (Trial(30_000.0, 0, 0.5), Trial(1000.0, 0, 0.4), False),  # not by enough
        (Trial(30_000.0, 0, 0.9), Trial(1000.0, 0, 0.4), True),
        (Trial(65_536.0, 9, 0.1), Trial(1000.0, 1, 0.6), True),  # slower, and solves more
        (Trial(9000.0, 0, 0.9), Trial(1000.0, 1, 0.1), False),  # faster, and solves less
    ],
)
def test_it_must_solve_more_or_as_many_in_less_time(explicit, implicit, taken, monkeypatch):
    trials = iter((explicit, implicit))
    monkeypatch.setattr(choosing._Solves, "trial", lambda self, draws: next(trials))
    found = choice(odecal.compile(Relaxation(), DATA))
    assert isinstance(found.solver, diffrax.Kvaerno5) == taken
    assert found.trials == {"Tsit5": explicit, "Kvaerno5": implicit}


def test_a_stiff_system_calibrates_by_default(tmp_path):
    """And goes on by the solver that was chosen, which the file holds."""
    path = tmp_path / "stiff.nc"
    settings = {"num_chains": 2, "num_warmup": 150, "num_samples": 150, "progress": False}
    tree = odecal.calibrate(Relaxation(), DATA, path=path, **settings)
    assert tree.attrs["solver"].startswith("Kvaerno5")
    assert json.loads(tree.attrs["solver_choice"])["reason"].startswith("stiff")
    assert int(tree["sample_stats"]["failed_solves"].sum()) == 0
    size = np.asarray(tree["posterior"]["size"])
    assert size.mean() == pytest.approx(1e-6, rel=0.05)
    more = odecal.extend(path, 10, Relaxation(), progress=False)
    assert more.attrs["solver"].startswith("Kvaerno5")
    np.testing.assert_array_equal(more["posterior"]["size"][:, :150], size)
