"""The tree that a calibration gives, its file, and what ArviZ does with it."""

import json
import warnings

import arviz as az
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

import odecal
from odecal import Constant, Derived, Observable, Parameter, State, System, noise


class Reservoirs(System):
    """Two reservoirs that drain, one observable of both and one of their sum."""

    time_unit = "h"
    t0 = 0.0
    coords = {"reservoir": ["upper", "lower"]}  # noqa: RUF012
    volume = State(initial=lambda p: p.start, unit="L", dims="reservoir", description="water")
    start = Constant([2.0, 1.0], unit="L", dims="reservoir")
    rate = Parameter(dist.LogNormal(-1.0, 0.5), unit="1/h", dims="reservoir")
    sigma = Parameter(dist.HalfNormal(0.1), unit="L")

    def vector_field(self, t, y, p):
        return {"volume": -p.rate * y.volume}

    level = Observable(lambda t, y, p: noise.Normal(y.volume, p.sigma), unit="L", dims="reservoir")
    total = Observable(lambda t, y, p: noise.Normal(y.volume.sum(), p.sigma), unit="L")
    half_life = Derived(lambda p: np.log(2.0) / p.rate, unit="h", dims="reservoir")


@pytest.fixture(scope="module")
def posterior():
    times = np.array([0.5, 1.0, 2.0, 3.0])
    data = odecal.simulate(Reservoirs(), times, {"rate": [0.3, 0.6], "sigma": 0.05}, seed=1)
    table = pd.DataFrame(
        {
            "time": times,
            "level[upper]": data.level.sel(reservoir="upper"),
            "level[lower]": data.level.sel(reservoir="lower"),
            "total": data.total,
        }
    )
    table.loc[1, "level[upper]"] = np.nan
    table.loc[3, "total"] = np.nan
    return odecal.calibrate(
        Reservoirs(), table, num_chains=2, num_warmup=200, num_samples=150, progress=False
    )


@pytest.fixture(scope="module")
def saved(posterior, tmp_path_factory):
    return odecal.save(posterior, tmp_path_factory.mktemp("saved") / "reservoirs.nc")


def test_every_group_is_there(posterior):
    assert set(posterior.children) == {
        "posterior",
        "sample_stats",
        "posterior_predictive",
        "log_likelihood",
        "observed_data",
        "constant_data",
        "prior",
        "prior_predictive",
        "trajectories",
        "predictions",
        "warmup_sample_stats",
        "warm_start",
        "adaptation",
        "unconstrained_posterior",
        "checkpoint",
    }


def test_dimensions_and_labels(posterior):
    rate = posterior["posterior"]["rate"]
    assert rate.dims == ("chain", "draw", "reservoir")
    assert rate.shape == (2, 150, 2)
    assert list(rate.reservoir.values) == ["upper", "lower"]
    predictive = posterior["posterior_predictive"]
    assert predictive["level"].dims == ("chain", "draw", "time_level", "reservoir")
    assert predictive["total"].dims == ("chain", "draw", "time_total")
    assert list(predictive["total"].time_total.values) == [0.5, 1.0, 2.0]
    trajectories = posterior["trajectories"]["volume"]
    assert trajectories.dims == ("chain", "draw", "time", "reservoir")
    assert trajectories.time.values[[0, -1]].tolist() == [0.0, 3.0]
    assert posterior["prior"]["rate"].sizes["chain"] == 1


def test_units_and_descriptions(posterior):
    assert posterior["posterior"]["rate"].attrs["units"] == "1/h"
    assert posterior["trajectories"]["volume"].attrs == {"units": "L", "long_name": "water"}
    assert posterior["trajectories"].time.attrs["units"] == "h"
    assert posterior["constant_data"]["start"].attrs["units"] == "L"


def test_missing_values_stay_missing_and_have_no_log_likelihood(posterior):
    observed = posterior["observed_data"]
    assert np.isnan(observed["level"].values[1, 0])
    pointwise = posterior["log_likelihood"]["observations"]
    assert pointwise.sizes["observation"] == 7 + 3
    assert (pointwise.observable.values == "total").sum() == 3


def test_the_log_likelihood_is_that_of_the_noise(posterior):
    """Against SciPy, from the closed-form solution at every draw."""
    from scipy import stats

    draws = posterior["posterior"]
    pointwise = posterior["log_likelihood"]["observations"]
    rows = pointwise.observable.values == "total"
    times = pointwise.time.values[rows]
    volumes = np.array([2.0, 1.0]) * np.exp(-draws["rate"].values[..., None, :] * times[:, None])
    values = posterior["observed_data"]["total"].values
    sigma = draws["sigma"].values[..., None]
    expected = stats.norm.logpdf(values, volumes.sum(-1), sigma)
    np.testing.assert_allclose(pointwise.values[..., rows], expected, rtol=1e-3, atol=1e-4)


def test_trajectories_solve_the_equation_and_predictions_scatter_around_them(posterior):
    volume = posterior["trajectories"]["volume"]
    rate = posterior["posterior"]["rate"].sel(draw=volume.draw)
    expected = np.array([2.0, 1.0]) * np.exp(-rate.values[:, :, None] * volume.time.values[:, None])
    np.testing.assert_allclose(volume.values, expected, rtol=1e-4)
    residual = posterior["predictions"]["level"] - volume
    spread = (residual / posterior["posterior"]["sigma"]).values
    # 120,000 standard normals: their sd has standard error 0.002.
    assert abs(spread.std() - 1) < 0.02


def test_derived_quantities_follow_the_draws(posterior):
    draws = posterior["posterior"]
    np.testing.assert_allclose(draws["half_life"], np.log(2) / draws["rate"], rtol=1e-10)


def test_sample_stats_tell_of_the_solves(posterior):
    stats = posterior["sample_stats"]
    assert (stats["solver_steps"] > 3).all()
    assert stats["failed_solves"].dtype.kind == "i"


def test_provenance(posterior):
    attrs = posterior.attrs
    assert "class Reservoirs(System):" in attrs["system_source"]
    assert len(attrs["system_source_sha256"]) == 64
    assert attrs["solver"] == "Tsit5()"
    assert (attrs["rtol"], attrs["seed"], attrs["dtype"]) == (1e-6, 0, "float64")
    assert json.loads(attrs["sampler_settings"])["target_acceptance_rate"] == 0.8
    assert set(json.loads(attrs["versions"])) >= {"odecal", "jax", "diffrax"}
    assert attrs["wall_time_seconds"] > attrs["sampling_seconds"] > 0
    assert "cpu" in attrs["device"]


def test_the_file_gives_back_what_was_saved(posterior, saved):
    reopened = odecal.load(saved)
    xr.testing.assert_equal(reopened, posterior)
    assert reopened.attrs["system"] == "Reservoirs"
    assert [path.name for path in saved.parent.iterdir()] == ["reservoirs.nc"]


def test_arviz_takes_the_file_as_it_is(saved):
    tree = xr.open_datatree(saved)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "rate[upper]" in az.summary(tree).index
        assert np.isfinite(az.loo(tree).elpd)
        az.plot_trace_dist(tree, backend="matplotlib")
        az.plot_ppc_dist(tree, backend="matplotlib")


def test_the_tree_saves_by_itself(posterior, tmp_path):
    posterior.to_netcdf(tmp_path / "plain.nc")
    xr.testing.assert_equal(xr.open_datatree(tmp_path / "plain.nc"), posterior)


def test_the_summary_has_a_row_an_element(posterior):
    table = odecal.summary(posterior)
    assert list(table.index) == [
        "rate[upper]",
        "rate[lower]",
        "sigma",
        "half_life[upper]",
        "half_life[lower]",
    ]
    draws = posterior["posterior"]["rate"].sel(reservoir="lower").values
    assert table["mean"]["rate[lower]"] == pytest.approx(draws.mean())
    assert table["q95"]["rate[lower]"] == pytest.approx(np.quantile(draws, 0.95))
    assert table["unit"]["rate[lower]"] == "1/h"


def test_the_picture_has_a_panel_an_element(posterior, tmp_path):
    figure = odecal.plot_fit(posterior, tmp_path / "fit.png")
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [a.get_title() for a in shown] == ["level[upper]", "level[lower]", "total"]
    assert shown[0].get_xlabel() == "time (h)"
    assert (tmp_path / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_a_write_that_fails_leaves_nothing_and_keeps_the_old(posterior, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.DataTree, "to_netcdf", fail)
    with pytest.raises(odecal.OutputError, match=r"No space left.*Free some space"):
        odecal.save(posterior, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["reservoirs.nc"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("result.txt", r"end in \.nc"), ("missing/result.nc", r"does not exist.*mkdir")],
)
def test_bad_places_are_refused_before_anything_is_written(posterior, tmp_path, name, message):
    with pytest.raises(odecal.OutputError, match=message):
        odecal.save(posterior, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.nc").write_text("no netCDF")
    with pytest.raises(odecal.OutputError, match="cannot be read as netCDF"):
        odecal.load(tmp_path / "text.nc")
    xr.Dataset({"x": 1}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(odecal.OutputError, match="holds no posterior"):
        odecal.load(tmp_path / "other.nc")


def test_failed_prior_draws_are_missing_and_counted():
    """dx/dt = k x² has no solution at t = 4 where k > 1/4."""

    class Blast(System):
        t0 = 0.0
        x = State(1.0)
        k = Parameter(dist.Normal(0.0, 3.0))

        def vector_field(self, t, y, p):
            return {"x": p.k * y.x**2}

        seen = Observable(lambda t, y, p: noise.Normal(y.x, 0.1))

    table = pd.DataFrame({"time": [1.0, 4.0], "seen": [0.66, 0.33]})
    tree = odecal.calibrate(
        Blast(), table, num_chains=1, num_warmup=50, num_samples=20, progress=False
    )
    fails = tree["prior"]["k"].values > 0.25
    assert tree["prior"].attrs["failed_solves"] == fails.sum() > 300
    np.testing.assert_array_equal(np.isnan(tree["prior_predictive"]["seen"].values).all(-1), fails)
    assert not np.isnan(tree["posterior_predictive"]["seen"]).any()
    # A single complete observable keeps its name and dimensions.
    assert tree["log_likelihood"]["seen"].dims == ("chain", "draw", "time")


def test_nothing_to_calibrate_is_said():
    system = Reservoirs(rate=0.5, sigma=0.1)
    table = pd.DataFrame({"time": [1], "level[upper]": [1], "level[lower]": [1], "total": [2]})
    with pytest.raises(odecal.DeclarationError, match=r"nothing to calibrate.*simulate"):
        odecal.calibrate(system, table)


def test_a_variable_may_have_the_name_of_a_group(tmp_path):
    """And is in memory once loaded, whatever becomes of the file."""
    import xarray as xr

    path = tmp_path / "x.nc"
    values = {"prior": ("x", [1.0, 2.0])}
    tree = xr.DataTree.from_dict({"/posterior": xr.Dataset(values), "/prior": xr.Dataset(values)})
    odecal.save(tree, path)
    loaded = odecal.load(path)
    path.unlink()
    assert loaded["posterior"]["prior"].values.tolist() == [1.0, 2.0]
