"""The adjoint that a calibration takes when none is asked for."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from odecal.systems import LotkaVolterra, Robertson

import odecal
from odecal import Observable, Parameter, State, System, adjoints
from odecal._inference import choose_adjoint as choosing
from odecal._inference.choose_adjoint import choose_adjoint
from odecal._inference.progress import NoProgress
from odecal._inference.timing import Timer


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "odecal" / "adjoints"


def ring(n):
    """A ring of n cells that pass on: n states, n parameters."""

    class Ring(System):
        coords = {"cell": list(range(n))}  # noqa: RUF012
        y = State(initial=np.ones(n), dims="cell")
        k = Parameter(dist.LogNormal(0.0, 0.3), dims="cell")

        def vector_field(self, t, y, p):
            passed = p.k * y.y
            return {"y": jnp.roll(passed, 1) - passed - 0.1 * y.y}

        total = Observable(lambda t, y, p: odecal.noise.Normal(y.y.sum(), 0.1))

    return odecal.compile(Ring(), pd.DataFrame({"time": [1.0, 2.0], "total": [1.8, 1.6]}))


def choice(model):
    return choose_adjoint(model, 0, NoProgress())


@pytest.mark.parametrize(
    ("system", "expected"),
    [(LotkaVolterra(), adjoints.ExplicitForward()), (Robertson(), adjoints.Forward())],
)
def test_a_small_problem_takes_forward_mode_unmeasured(system, expected, cache):
    found = choice(odecal.compile(system, system.data))
    assert found.adjoint == expected
    assert not found.trials
    assert not cache.exists()


def test_what_is_asked_for_is_taken():
    model = odecal.compile(LotkaVolterra(), LotkaVolterra.data)
    asked = replace(model, solve=replace(model.solve, adjoint=adjoints.Gauss()))
    assert choice(asked).adjoint == adjoints.Gauss()


def test_only_what_is_differentiated_counts():
    """Two states; four rates and two initial values, but neither of the scales of noise."""
    model = odecal.compile(LotkaVolterra(), LotkaVolterra.data)
    assert choosing._size(model) == (2, 6)


def test_a_middling_problem_takes_reverse_mode_unmeasured():
    found = choice(ring(12))
    assert found.adjoint == adjoints.ExplicitReverse()
    assert not found.trials


def test_a_large_problem_is_measured_once(cache, monkeypatch):
    model = ring(40)
    found = choice(model)
    assert type(found.adjoint).__name__ in found.trials  # which is faster the machine decides
    trial = found.trials["ExplicitReverse"]
    assert trial.seconds > 0
    assert trial.compile_seconds > 0
    assert json.loads(found.note())["trials"]["ExplicitReverse"]["seconds"] == trial.seconds
    (kept,) = cache.iterdir()

    def refuse(*_):
        raise AssertionError("measured again")

    with monkeypatch.context() as patched:
        patched.setattr(choosing, "_measured", refuse)
        assert choice(ring(40)).trials == found.trials
        with pytest.raises(AssertionError, match="measured again"):
            choice(ring(41))
    kept.write_text("{")  # a damaged file is as none
    assert "ExplicitReverse" in choice(model).trials


def test_a_cache_that_cannot_be_written_is_done_without(cache):
    cache.parent.parent.joinpath("odecal").write_text("in the way")
    assert choice(ring(40)).adjoint == adjoints.ExplicitReverse()


def trials(**seconds):
    return {name: choosing.Trial(s, error, 1.0) for name, (s, error) in seconds.items()}


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (trials(ExplicitReverse=(2.0, 0.0), ExplicitForward=(1.0, 0.0)), "ExplicitForward"),
        # Not by so little that noise decides.
        (trials(ExplicitReverse=(1.05, 0.0), ExplicitForward=(1.0, 0.0)), "ExplicitReverse"),
        # Fast and wrong.
        (trials(ExplicitReverse=(2.0, 0.0), ExplicitForward=(1.0, 0.1)), "ExplicitReverse"),
        (trials(ExplicitReverse=(2.0, 0.0), ExplicitForward=(1.0, np.inf)), "ExplicitReverse"),
        # Nothing could be measured.
        ({}, "ExplicitForward"),
    ],
)
def test_the_fastest_sound_one_is_taken(measured, expected, monkeypatch):
    monkeypatch.setattr(choosing, "_measured", lambda *_: measured)
    assert type(choice(ring(40)).adjoint).__name__ == expected


def test_measuring_ends_where_it_cannot_pay():
    quick, slow = (Timer(1.0, seconds={0: [seconds]}) for seconds in (1e-5, 1e-2))
    assert choosing._cannot_pay({"a": quick}, {"a": 1.0})
    assert not choosing._cannot_pay({"a": slow}, {"a": 1.0})
