import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats

import odecal
from odecal import Observable, ObservationError, Parameter, Solve, State, System
from odecal._data.observations import read_experiment

TIGHT = Solve(rtol=1e-10, atol=1e-12)
K, N = 0.7, 50.0


class Decay(System):
    """Of n, a part leaves: left(t) = n·exp(−k·(t − t0)); the departures are counted."""

    t0 = 0.0

    left = State(initial=N)
    k = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"left": -p.k * y.left}

    gone = Observable(lambda t, y, p, last: odecal.noise.Poisson(last.y.left - y.left))


class Weekly(Decay):
    gone = Observable(
        lambda t, y, p, last: odecal.noise.Poisson(last.y.left - y.left), interval=0.5
    )


class Rate(Decay):
    gone = Observable(
        lambda t, y, p, last: odecal.noise.Normal((last.y.left - y.left) / (t - last.t), 0.3)
    )


def left(t):
    return N * np.exp(-K * np.asarray(t))


def log_likelihood(system, data):
    model = odecal.compile(system, data, solve=TIGHT)
    with model.precision():
        density = jax.jit(lambda k: model.log_likelihood(model.predict({"k": k}))["gone"])
        return np.asarray(density(K))


def table(times, values):
    return pd.DataFrame({"time": times, "gone": values})


def test_counts_since_the_previous_observation():
    # Of the replicates at 1.5, both cover the time since 1.
    times, starts, counts = [1.0, 1.5, 1.5, 4.0], [0.0, 1.0, 1.0, 1.5], [20, 7, 9, 15]
    expected = scipy.stats.poisson(left(starts) - left(times)).logpmf(counts)
    np.testing.assert_allclose(log_likelihood(Decay(), table(times, counts)), expected, rtol=1e-7)


def test_rate_over_the_length_of_the_interval():
    times, starts, values = [1.0, 1.5, 4.0], [0.0, 1.0, 1.5], [25.0, 14.0, 6.0]
    rates = (left(starts) - left(times)) / (np.array(times) - starts)
    expected = scipy.stats.norm(rates, 0.3).logpdf(values)
    np.testing.assert_allclose(log_likelihood(Rate(), table(times, values)), expected, rtol=1e-7)


def test_counts_over_a_fixed_interval():
    times, counts = np.array([0.5, 1.5, 4.0]), [14, 8, 1]
    expected = scipy.stats.poisson(left(times - 0.5) - left(times)).logpmf(counts)
    np.testing.assert_allclose(log_likelihood(Weekly(), table(times, counts)), expected, rtol=1e-7)


def test_replicates_cover_the_same_interval():
    series = read_experiment(table([1.0, 1.0, 2.0, 2.0], [9, 9, 9, 9]), Decay().declaration).series[
        "gone"
    ]
    np.testing.assert_array_equal(series.start, [0.0, 0.0, 1.0, 1.0])


def test_initial_time_of_the_system_begins_the_first_interval():
    series = read_experiment(table([1.0, 2.0], [9, 9]), Decay(t0=-2.0).declaration).series["gone"]
    np.testing.assert_array_equal(series.start, [-2.0, 1.0])


def test_start_of_an_interval_reaches_back_over_a_missing_value():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = read_experiment(
            table([1.0, 2.0, 3.0, 4.0], [9, np.nan, 9, 9]), Decay().declaration
        )
    np.testing.assert_array_equal(series.series["gone"].start, [0.0, 1.0, 3.0])


def test_start_of_a_fixed_interval_does_not_reach_back_over_a_missing_value():
    experiment = read_experiment(table([1.0, 2.0, 3.0], [9, np.nan, 9]), Weekly().declaration)
    np.testing.assert_array_equal(experiment.series["gone"].start, [0.5, 2.5])
    np.testing.assert_array_equal(experiment.save_times.ts[0], [0.5, 1.0, 2.5, 3.0])


def test_times_of_another_observable_are_no_beginnings():
    class Both(Decay):
        level = Observable(lambda t, y, p: odecal.noise.Normal(y.left, 1.0))

    data = table([1.0, 2.0, 3.0], [20, np.nan, 15]).assign(level=[np.nan, 9.0, np.nan])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment = read_experiment(data, Both().declaration)
    np.testing.assert_array_equal(experiment.series["gone"].start, [0.0, 1.0])
    np.testing.assert_array_equal(experiment.series["level"].start, [2.0])


def test_first_observation_at_the_initial_time():
    with pytest.raises(
        ObservationError,
        match=r"first value of `gone` is at the initial time t0 = 0,.*Set an earlier t0",
    ):
        read_experiment(table([0.0, 1.0], [5, 5]), Decay().declaration)


def test_first_observation_where_the_initial_time_is_that_of_the_table():
    class Open(Decay):
        t0 = None

    with pytest.raises(ObservationError, match=r"initial time t0 = 1,.*Set an earlier t0"):
        read_experiment(table([1.0, 2.0], [5, 5]), Open().declaration)


def test_missing_value_at_the_initial_time_is_no_observation():
    series = read_experiment(table([0.0, 1.0, 2.0], [np.nan, 5, 5]), Decay().declaration).series[
        "gone"
    ]
    np.testing.assert_array_equal(series.start, [0.0, 1.0])


def test_fixed_interval_that_begins_before_the_initial_time():
    with pytest.raises(
        ObservationError,
        match=r"`gone`, at 0\.25, covers an interval of 0\.5 that begins before.*Set an earlier t0",
    ):
        read_experiment(table([0.25, 1.0], [5, 5]), Weekly().declaration)


@pytest.mark.parametrize("t0", [0.1, 7.3, 1900.1])
def test_fixed_interval_that_begins_at_the_initial_time_up_to_rounding(t0):
    times = t0 + np.array([0.5, 1.0])
    series = read_experiment(table(times, [5, 5]), Weekly(t0=t0).declaration).series["gone"]
    assert series.start[0] >= t0
    np.testing.assert_allclose(series.start, times - 0.5, rtol=1e-12)


def test_missing_values_with_uneven_gaps_are_warned_of():
    with pytest.warns(UserWarning, match=r"`gone`.*value at 3 covers 2 where others cover 1.*int"):
        read_experiment(table([1.0, 2.0, 3.0, 4.0], [9, np.nan, 9, 9]), Decay().declaration)


def test_first_value_missing_is_warned_of():
    with pytest.warns(UserWarning, match=r"`gone`.*value at 2 covers 2 where others cover 1"):
        read_experiment(table([1.0, 2.0, 3.0, 4.0], [np.nan, 9, 9, 9]), Decay().declaration)


@pytest.mark.parametrize(
    ("system", "times", "values"),
    [
        (Decay, [1.0, 2.0, 3.0], [9, np.nan, 9]),
        (Decay, [1.0, 2.0, 4.0], [9, 9, 9]),
        (Weekly, [1.0, 2.0, 3.0, 4.0], [9, np.nan, 9, 9]),
    ],
    ids=["even gaps left", "nothing missing", "fixed interval"],
)
def test_nothing_is_warned_of_where_it_is_not_needed(system, times, values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if system is Decay and np.isnan(values).any():
            # The first interval is from t0 = 0, so that all are of length 2.
            times = [2.0, 3.0, 4.0]
        read_experiment(table(times, values), system().declaration)
