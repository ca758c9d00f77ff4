"""Adjoints compared on one problem."""

from dataclasses import replace

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from odecal.systems import ExponentialDecay

import odecal
from odecal import (
    Input,
    Observable,
    Parameter,
    SettingsError,
    State,
    System,
    adjoints,
    interpolation,
)
from odecal._inference.timing import logdensity_of
from odecal._results.plot_comparison import plot_comparison

SMALL = {"num_draws": 3, "num_around_mode": 2, "repeats": 2, "batch_size": 4, "progress": False}


@pytest.fixture(scope="module")
def comparison():
    compared = {
        "forward": adjoints.Forward(),
        "gauss": adjoints.Gauss(),
        "suspicious": adjoints.Backsolve(max_drift=1e-15),
    }
    return odecal.compare_adjoints(ExponentialDecay(), adjoints=compared, **SMALL)


def test_it_has_what_it_says(comparison):
    assert dict(comparison.sizes) == {"adjoint": 3, "tolerance": 3, "draw": 5}
    np.testing.assert_allclose(comparison.tolerance, [1e-8, 1e-6, 1e-4])
    assert list(comparison.place.values) == ["prior"] * 3 + ["mode"] * 2
    assert list(comparison["mode"].values) == ["forward", "reverse", "reverse"]
    assert list(comparison.exact.values) == ["yes", "no", "no"]
    for name in ("gradient_time", "batch_time", "value_time", "compile_time", "peak_memory"):
        assert (comparison[name] > 0).all(), name


def test_errors_follow_the_tolerances(comparison):
    for name in ("forward", "gauss"):
        errors = comparison.relative_error.sel(adjoint=name).median("draw").values
        assert 0 < errors[0] < errors[1] < errors[2] < 1e-2


def test_the_reference_agrees_with_finite_differences(comparison):
    assert float(comparison.reference_error.max()) < 1e-5


def test_gradients_that_could_not_be_found_are_failures(comparison):
    assert comparison.failed.sel(adjoint="suspicious").all()
    assert np.isnan(comparison.relative_error.sel(adjoint="suspicious")).all()
    assert not comparison.failed.sel(adjoint=["forward", "gauss"]).any()


def test_tolerances_are_scaled_also_where_an_input_turns():
    """Times that no step passes are looked for at the tolerance that is declared."""

    class Tank(System):
        t0 = 0.0
        level = State(initial=1.0)
        rate = Parameter(dist.LogNormal(-1.0, 1.0))
        feed = Input(interpolation=interpolation.Linear())

        def vector_field(self, t, y, p):
            return {"level": p.feed - p.rate * y.level}

        gauge = Observable(lambda t, y, p: odecal.noise.Normal(y.level, 0.1))

    table = pd.DataFrame({"time": [0.0, 1.0, 1.1, 1.2, 3.0], "feed": [0.1, 0.0, 4.0, 0.0, 0.2]})
    model = odecal.compile(Tank(), table.assign(gauge=[np.nan, 0.4, 0.6, 0.7, 0.3]))
    with model.precision():
        x = np.zeros(1)
        scaled = jax.jit(logdensity_of(model, model.solve))(x, 1e-3)
        tight = replace(model, solve=odecal.Solve(rtol=1e-9, atol=1e-11))
        expected = jax.jit(tight.logdensity_fn)({"rate": 0.0})
        np.testing.assert_allclose(scaled, expected, rtol=1e-8)


def test_it_is_saved_and_drawn(comparison, tmp_path):
    odecal.save(comparison, tmp_path / "c.nc")
    xr.testing.assert_equal(xr.open_dataset(tmp_path / "c.nc"), comparison)
    figure = plot_comparison(comparison, tmp_path / "c.png")
    assert len(figure.axes) == 2
    assert (tmp_path / "c.png").stat().st_size > 10_000


def test_batches_and_the_mode_can_be_left_out():
    spared = {**SMALL, "batch_size": 0, "num_around_mode": 0}
    found = odecal.compare_adjoints(
        ExponentialDecay(), adjoints={"f": adjoints.ExplicitForward()}, tolerances=[1.0], **spared
    )
    assert np.isnan(found.batch_time).all()
    assert set(found.place.values) == {"prior"}
    assert found.sizes["tolerance"] == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tolerances": ()}, r"tolerances=.*positive factors.*Got \(\)"),
        ({"tolerances": (1.0, -1.0)}, "positive factors"),
        ({"num_draws": 0}, "num_draws and repeats of at least 1.*Got 0"),
        ({"repeats": 0}, "at least 1"),
        ({"batch_size": -1}, "at least 0"),
        ({"adjoints": {"x": "forward"}}, "Pass an object"),
        (
            {"solve": odecal.systems.Robertson.solve, "adjoints": {"b": adjoints.Backsolve()}},
            "Backsolve cannot be right with Kvaerno5",
        ),
    ],
)
def test_mistakes_are_refused_before_anything_is_measured(wrong, message):
    with pytest.raises(SettingsError, match=message):
        odecal.compare_adjoints(ExponentialDecay(), **{**SMALL, **wrong})


def test_a_calibration_without_a_gradient_says_so():
    """The log density is fine; its gradient is not to be found."""
    solve = odecal.Solve(adjoint=adjoints.Backsolve(max_drift=1e-15))
    with pytest.raises(odecal.SamplingError, match=r"at none.*for `k`.*Solve\(adjoint=None\)"):
        odecal.calibrate(ExponentialDecay(), solve=solve, progress=False)
