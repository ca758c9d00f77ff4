import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import odecal
from odecal import (
    DeclarationError,
    Observable,
    ObservationError,
    OdecalError,
    Parameter,
    SamplingError,
    Solve,
    State,
    System,
    simulate,
)

LABELS = {"place": ["lung", "liver"]}
TIMES = np.linspace(0.0, 3.0, 400)
VALUES = {"k": 0.7, "x0": 2.0, "sigma": 0.1}


class Decay(System):
    t0 = 0.0

    x = State(initial=dist.LogNormal(0.0, 0.3))
    z = State(initial=1.0, dims="place")
    k = Parameter(dist.LogNormal(0.0, 1.0))
    sigma = Parameter(dist.HalfNormal(0.5))
    coords = LABELS

    def vector_field(self, t, y, p):
        return {"x": -p.k * y.x, "z": -jnp.array([1.0, 2.0]) * y.z}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.x, p.sigma))
    parts = Observable(lambda t, y, p: odecal.noise.LogNormal(y.z, 0.1), dims="place")


class Open(Decay):
    t0 = None


class Departures(System):
    t0 = 0.0

    left = State(initial=50.0)
    k = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"left": -p.k * y.left}

    gone = Observable(lambda t, y, p, last: odecal.noise.Poisson(last.y.left - y.left))


@pytest.fixture(scope="module")
def simulated():
    return simulate(Decay(), TIMES, VALUES, seed=1)


def test_states_are_the_solution(simulated):
    np.testing.assert_allclose(simulated["x"], 2.0 * np.exp(-0.7 * TIMES), rtol=1e-4)
    np.testing.assert_allclose(
        simulated["z"], np.exp(-TIMES[:, None] * np.array([1.0, 2.0])), rtol=1e-4
    )


def test_variables_have_dimensions_and_labels(simulated):
    assert simulated["x"].dims == simulated["seen"].dims == ("time",)
    assert simulated["z"].dims == simulated["parts"].dims == ("time", "place")
    np.testing.assert_array_equal(simulated["time"], TIMES)
    np.testing.assert_array_equal(simulated["place"], LABELS["place"])


def test_values_used_are_attributes(simulated):
    assert simulated.attrs == VALUES


def test_observables_scatter_around_the_solution_by_their_noise_model(simulated):
    seen = (simulated["seen"] - simulated["x"]) / 0.1
    parts = np.log(simulated["parts"] / simulated["z"]) / 0.1
    assert scipy.stats.kstest(np.ravel(seen), "norm").pvalue > 1e-3
    assert scipy.stats.kstest(np.ravel(parts), "norm").pvalue > 1e-3


def test_values_that_are_left_out_are_drawn_and_told():
    dataset = simulate(Decay(), [1.0], {"k": 0.7})
    assert set(dataset.attrs) == {"k", "x0", "sigma"}
    np.testing.assert_allclose(dataset["x"], dataset.attrs["x0"] * np.exp(-0.7), rtol=1e-4)


@pytest.mark.parametrize(("seed", "same"), [(1, True), (2, False)])
def test_seed_decides(simulated, seed, same):
    assert simulate(Decay(), TIMES, VALUES, seed=seed).identical(simulated) is same


def test_observables_are_a_data_set(simulated):
    model = odecal.compile(Decay(), simulated[["seen", "parts"]])
    np.testing.assert_array_equal(model.experiment.series["seen"].times, TIMES)
    np.testing.assert_array_equal(model.experiment.series["parts"].values, simulated["parts"])


def test_initial_time_is_the_first_time_where_the_system_has_none():
    dataset = simulate(Open(), [5.0, 6.0], VALUES)
    np.testing.assert_allclose(dataset["x"], [2.0, 2.0 * np.exp(-0.7)], rtol=1e-4)


def test_counts_over_intervals():
    times = np.linspace(0.0, 4.0, 201)[1:]
    dataset = simulate(Departures(left=5000.0), times, {"k": 0.7})
    left = 5000.0 * np.exp(-0.7 * np.linspace(0.0, 4.0, 201))
    gone, mean = np.asarray(dataset["gone"]), left[:-1] - left[1:]
    np.testing.assert_array_equal(gone, np.round(gone))
    # A sum of 200 squared pulls of counts of more than 4 each.
    assert scipy.stats.chi2(200).sf(np.sum((gone - mean) ** 2 / mean)) > 1e-3
    assert scipy.stats.norm(mean.sum(), np.sqrt(mean.sum())).sf(gone.sum()) > 1e-3


def test_interval_at_the_initial_time_is_refused():
    with pytest.raises(ObservationError, match=r"`gone` is at the initial time.*Set an earlier t0"):
        simulate(Departures(), [0.0, 1.0])


@pytest.mark.parametrize(("name", "meant"), [("kk", "k"), ("x", "x0"), ("sigm", "sigma")])
def test_unknown_value_is_refused(name, meant):
    with pytest.raises(
        DeclarationError, match=rf"names `{name}`, which Decay does not sample.*mean `{meant}`"
    ):
        simulate(Decay(), TIMES, {name: 1.0})


def test_value_of_what_is_fixed_is_refused():
    with pytest.raises(DeclarationError, match="names `k`, which Decay does not sample"):
        simulate(Decay(k=1.0), TIMES, {"k": 2.0})


def test_solve_that_fails_is_an_error():
    with pytest.raises(SamplingError, match=r"solve of Decay failed.*'k': 0\.7.*raise max_steps"):
        simulate(Decay(), TIMES, VALUES, solve=Solve(max_steps=2))


@pytest.mark.parametrize(("kind", "times"), [(Decay, [-1.0, 1.0]), (Open, [2.0, 1.0])])
def test_times_before_the_initial_time_are_refused(kind, times):
    with pytest.raises(OdecalError, match=r"t0|initial time|sorted"):
        simulate(kind(), times, VALUES)


@pytest.mark.parametrize("times", [[], [np.nan, 1.0]], ids=str)
def test_times_that_cannot_be_are_refused(times):
    with pytest.raises(OdecalError, match=r"(?i)times"):
        simulate(Decay(), times, VALUES)
