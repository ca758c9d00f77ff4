import io

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.stats

import odecal
from odecal import (
    Correlation,
    Covariate,
    DeclarationError,
    Input,
    Observable,
    ObservationError,
    Observations,
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


# Designs.


class Washout(System):
    """Doses leave by first order: amount(t) = dose exp(−k (t − time of dose))."""

    t0 = 0.0
    individual = "subject"

    amount = State(initial=0.0)
    k = Parameter.varying(
        "subject", location=dist.Normal(-1.0, 0.3), scale=dist.HalfNormal(0.3), link="log"
    )
    sigma = Parameter(dist.HalfNormal(0.5))

    def vector_field(self, t, y, p):
        return {"amount": -p.k * y.amount}

    conc = Observable(lambda t, y, p: odecal.noise.Normal(y.amount, p.sigma))


class Limited(Washout):
    conc = Observable(lambda t, y, p: odecal.noise.Normal(y.amount, p.sigma), lloq=2.5, uloq=6.0)


class Two(Washout):
    """Two correlated parameters, of which one depends on a covariate."""

    weight = Covariate()
    v = Parameter.varying(
        "subject",
        location=lambda p: jnp.log(p.weight / 70.0),
        scale=dist.HalfNormal(0.3),
        link="log",
        centring=odecal.centring.Partial(0.4, 0.7, about=0.5),
    )
    both = Correlation("k", "v")
    conc = Observable(lambda t, y, p: odecal.noise.LogNormal(y.amount / p.v, 0.1))
    sigma = None


class Driven(Washout):
    """An input alone: amount(t) = the integral of the input; no individuals."""

    individual = None
    k = None
    flow = Input()

    def vector_field(self, t, y, p):
        return {"amount": p.flow}


KNOWN = {"k_location": -1.0, "k_scale": 0.3, "sigma": 0.1}
DOSES = pd.DataFrame({"subject": [1, 2, 3], "time": [0.0, 0.0, 1.0], "amount": [10.0, 20.0, 5.0]})
STANDARD = """
ID,TIME,AMT,EVID,MDV,DV
7,0,10,1,1,.
7,1,.,0,0,.
7,2,.,0,1,.
7,3,.,2,0,.
3,0,20,1,1,.
3,0.5,.,0,.,8
3,9,.,0,0,
"""


def visits(times=(0.5, 1.0, 2.0, 4.0), subjects=(1, 2, 3)):
    rows = [(i, t) for i in subjects for t in times]
    return pd.DataFrame(rows, columns=["subject", "time"])


def standard(text=STANDARD):
    return pd.read_csv(io.StringIO(text.strip()))


def amounts(k, design=None, doses=DOSES):
    design = visits() if design is None else design
    total = np.zeros(len(design))
    labels = list(dict.fromkeys(design["subject"]))
    rate = np.asarray(k)[[labels.index(x) for x in design["subject"]]]
    for who, time, dose in doses.itertuples(index=False):
        since = design["time"].to_numpy() - time
        there = (design["subject"] == who).to_numpy() & (since > 0)
        total += np.where(there, dose * np.exp(-rate * np.maximum(since, 0.0)), 0.0)
    return total


def log_density(system, data, values):
    """The log density of a table at the values of its sites."""
    model = odecal.compile(system, data)
    with model.precision():
        return float(jax.jit(model.logdensity_fn)(model.unconstrain(values)))


def test_doses_of_each_subject_by_a_table_by_themselves():
    many = visits(np.linspace(1.1, 4.0, 100))
    table = simulate(Washout(), design=Observations(many, doses=DOSES), values=KNOWN)
    assert list(table.columns) == ["subject", "time", "conc"]
    values = table.attrs["values"]
    assert set(values) == {"k", "k_location", "k_scale", "sigma"}
    assert np.shape(values["k"]) == (3,)
    noise = (table["conc"] - amounts(values["k"], many)) / 0.1
    assert scipy.stats.kstest(noise, "norm").pvalue > 1e-3


def test_groups_are_drawn_from_the_population():
    design = visits([1.0], np.arange(500))
    k = simulate(Washout(), design=design, values={**KNOWN, "k_scale": 0.2}).attrs["values"]["k"]
    assert scipy.stats.kstest((np.log(k) + 1.0) / 0.2, "norm").pvalue > 1e-3


@pytest.mark.parametrize("centring", [odecal.centring.Centred(), odecal.centring.NonCentred()])
def test_groups_that_are_given(centring):
    k = Washout().k.with_centring(centring)
    design = Observations(visits(), doses=DOSES)
    given = {**KNOWN, "k": [0.2, 0.4, 0.9], "sigma": 1e-9}
    table = simulate(Washout(k=k), design=design, values=given)
    np.testing.assert_allclose(table["conc"], amounts([0.2, 0.4, 0.9]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table.attrs["values"]["k"], [0.2, 0.4, 0.9])


def test_groups_that_are_given_as_one_number():
    table = simulate(Washout(), design=visits(), values={"k": 0.3})
    np.testing.assert_allclose(table.attrs["values"]["k"], [0.3] * 3)
    assert set(table.attrs["values"]) == {"k", "k_location", "k_scale", "sigma"}


def test_groups_of_correlated_parameters_that_are_given():
    design = visits().assign(weight=np.repeat([50.0, 70.0, 90.0], 4))
    given = {"k": [0.2, 0.4, 0.9], "v": [0.5, 1.0, 3.0], "both": [[1.0, 0.6], [0.6, 1.0]]}
    table = simulate(Two(), design=Observations(design, doses=DOSES), values=given)
    for name, value in given.items():
        np.testing.assert_allclose(table.attrs["values"][name], value, rtol=1e-10)
    expected = amounts(given["k"]) / np.repeat(given["v"], 4)
    seen = expected > 0
    np.testing.assert_allclose(np.log(table["conc"][seen] / expected[seen]), 0.0, atol=0.5)


def test_values_used_give_the_same_table_again():
    design = Observations(visits().assign(weight=60.0), doses=DOSES)
    table = simulate(Two(), design=design, seed=4)
    again = simulate(Two(), design=design, values=table.attrs["values"], seed=4)
    np.testing.assert_allclose(again["conc"], table["conc"], rtol=1e-6)


@pytest.mark.parametrize("location", [-1.0, dist.Normal(-1.0, 0.3)], ids=["number", "prior"])
def test_groups_without_pooling_that_are_given(location):
    k = Parameter.unpooled("subject", location=location, scale=0.3, link="log")
    table = simulate(Washout(k=k), design=visits(), values={"k": [0.2, 0.4, 0.9]})
    np.testing.assert_allclose(table.attrs["values"]["k"], [0.2, 0.4, 0.9])


@pytest.mark.parametrize(("seed", "same"), [(1, True), (2, False)])
def test_seed_decides_what_is_drawn_in_a_design(seed, same):
    table, other = (simulate(Washout(), design=visits(), seed=s) for s in (1, seed))
    assert table.equals(other) is same
    assert (table.attrs == other.attrs) is same


def test_design_is_not_changed_and_may_be_a_file(tmp_path):
    design = visits()
    before = design.copy()
    table = simulate(Washout(), design=design)
    pd.testing.assert_frame_equal(design, before)
    design.to_csv(tmp_path / "design.csv", index=False)
    pd.testing.assert_frame_equal(simulate(Washout(), design=tmp_path / "design.csv"), table)


def test_a_design_keeps_its_labels_and_numbers(tmp_path):
    class Plots(System):
        individual = "ID"

        x = State(initial=1.0)

        def vector_field(self, t, y, p):
            return {"x": -y.x}

        level = Observable(lambda t, y, p: odecal.noise.Normal(y.x, 1.0))

    path = tmp_path / "data.csv"
    path.write_text("ID,time,level\n001,0,1\n001,1.50,1.0\n002,1.5,1\n")
    filled = simulate(Plots(), design=path, seed=0)
    assert filled["ID"].tolist() == ["001", "001", "002"]
    assert filled["time"].tolist() == [0.0, 1.5, 1.5]
    assert filled["level"].dtype == float


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        (np.nan, [True] * 12),
        ([9.0, np.nan, np.nan] * 4, [True, False, False] * 4),
        (["BLQ", None, "here"] * 4, [True, False, True] * 4),
    ],
    ids=["blank", "numbers", "text"],
)
def test_places_that_are_filled(given, filled):
    table = simulate(Washout(), design=visits().assign(conc=given))
    np.testing.assert_array_equal(table["conc"].notna(), filled)
    assert not (table["conc"] == 9.0).any()


def test_another_observable_that_is_not_there_is_filled_everywhere():
    class Both(Washout):
        effect = Observable(lambda t, y, p: odecal.noise.Normal(y.amount, 1.0))

    table = simulate(Both(), design=visits().assign(conc=[9.0, np.nan, np.nan] * 4))
    assert table["conc"].notna().sum() == 4
    assert table["effect"].notna().all()


def test_elements_of_a_vector_have_columns_of_their_own():
    design = pd.DataFrame({"time": [1.0, 2.0], "parts[lung]": [1.0, np.nan]})
    table = simulate(Decay(), design=design, values=VALUES)
    assert list(table.columns) == ["time", "parts[lung]", "seen", "parts[liver]"]
    np.testing.assert_array_equal(table["parts[lung]"].notna(), [True, False])
    np.testing.assert_allclose(np.log(table["parts[liver]"]), [-2.0, -4.0], atol=0.6)
    assert table.attrs["values"] == VALUES


def test_rows_of_inputs_alone_are_not_filled():
    design = pd.DataFrame({"time": [0.0, 1.0, 2.0, 3.0], "flow": [2.0, np.nan, np.nan, 2.0]})
    table = simulate(Driven(), design=design, values={"sigma": 1e-9})
    np.testing.assert_allclose(table["conc"], [np.nan, 2.0, 4.0, np.nan], rtol=1e-6)
    assert np.isfinite(log_density(Driven(), table, {"sigma": 0.1}))


def test_rows_of_inputs_are_filled_where_there_are_no_others():
    design = pd.DataFrame({"time": [0.0, 1.0, 2.0], "flow": 2.0})
    table = simulate(Driven(), design=design, values={"sigma": 1e-9})
    np.testing.assert_allclose(table["conc"], [0.0, 2.0, 4.0], rtol=1e-6, atol=1e-6)


def test_values_beyond_the_limits_are_text():
    design = Observations(visits(), doses=DOSES)
    exact = simulate(Washout(), design=design, values=KNOWN, seed=3)["conc"]
    table = simulate(Limited(), design=design, values=KNOWN, seed=3)
    expected = ["<2.5" if x < 2.5 else ">6" if x > 6.0 else x for x in exact]
    assert {"<2.5", ">6"} < set(expected)
    assert table["conc"].tolist() == expected
    series = odecal.compile(Limited(), table).experiment.series["conc"]
    np.testing.assert_array_equal(series.upper == np.inf, exact > 6.0)
    np.testing.assert_array_equal(series.values == -np.inf, exact < 2.5)


@pytest.mark.parametrize("system", [Washout, Limited])
def test_the_table_has_a_finite_density_at_the_values_used(system, tmp_path):
    given = {**KNOWN, "k_raw": [0.3, -0.7, 1.2]}
    table = simulate(system(), design=Observations(visits(), doses=DOSES), values=given)
    table.to_csv(tmp_path / "table.csv", index=False)
    there, read = (Observations(x, doses=DOSES) for x in (table, tmp_path / "table.csv"))
    assert np.isfinite(log_density(system(), there, given))
    series = [odecal.compile(system(), x).experiment.series["conc"] for x in (there, read)]
    np.testing.assert_array_equal(*[x.values for x in series])
    np.testing.assert_array_equal(*[x.upper for x in series])


def test_pharmacometric_table():
    table = simulate(Washout(), design=standard(), values={**KNOWN, "sigma": 1e-6})
    assert list(table.columns) == ["ID", "TIME", "AMT", "EVID", "MDV", "DV"]
    assert table["DV"].dtype == float
    first, second = table.attrs["values"]["k"]
    expected = [10 * np.exp(-first), 20 * np.exp(-0.5 * second), 20 * np.exp(-9.0 * second)]
    measured = [1, 5, 6]
    np.testing.assert_allclose(table["DV"].iloc[measured], expected, rtol=1e-3, atol=1e-4)
    assert table["DV"].drop(measured).isna().all()
    rest = standard().drop(columns="DV")
    pd.testing.assert_frame_equal(table.drop(columns="DV"), rest)
    given = {**KNOWN, "k_raw": (np.log([first, second]) + 1.0) / 0.3}
    assert np.isfinite(log_density(Washout(), table, given))


def test_pharmacometric_table_without_dv():
    with_dv = simulate(Washout(), design=standard(), values=KNOWN)
    without = simulate(Washout(), design=standard().drop(columns="DV"), values=KNOWN)
    pd.testing.assert_frame_equal(with_dv, without)


def test_pharmacometric_values_beyond_the_limits():
    given = {**KNOWN, "k": [0.4, 0.6]}
    exact = simulate(Washout(), design=standard(), values=given)["DV"].dropna()
    assert list(np.sign(exact - 4.0)) == [1.0, 1.0, -1.0]
    table = simulate(Limited(), design=standard(), values=given)
    assert list(table.columns) == ["ID", "TIME", "AMT", "EVID", "MDV", "DV", "CENS"]
    np.testing.assert_array_equal(table["DV"].dropna(), [6.0, 6.0, 2.5])
    np.testing.assert_array_equal(table["CENS"], [0, -1, 0, 0, 0, -1, 1])
    series = odecal.compile(Limited(), table).experiment.series["conc"]
    np.testing.assert_array_equal(series.values, [6.0, 6.0, -np.inf])
    np.testing.assert_array_equal(series.upper, [np.inf, np.inf, 2.5])


def test_pharmacometric_limits_of_the_table():
    design = standard().assign(CENS=[".", "1", ".", ".", ".", ".", "0"], LLOQ=8.0, LIMIT=0.0)
    table = simulate(Washout(), design=design, values={**KNOWN, "k": [0.4, 0.6]})
    np.testing.assert_array_equal(table["CENS"].iloc[[1, 5, 6]], [1, 0, 1])
    np.testing.assert_array_equal(table["DV"].iloc[[1, 6]], [8.0, 8.0])
    assert table["LIMIT"].iloc[[1, 5, 6]].isna().all()
    np.testing.assert_array_equal(
        odecal.compile(Washout(), table).experiment.series["conc"].upper[[0, 2]], [8.0, 8.0]
    )


def test_dvid_tells_the_observable():
    class Both(Washout):
        effect = Observable(lambda t, y, p: odecal.noise.Normal(100.0 + y.amount, 1e-6))

    design = standard().assign(DVID=[".", "2", ".", ".", ".", "effect", "1"])
    table = simulate(Both(), design=design, values=KNOWN)
    np.testing.assert_array_equal(table["DV"].iloc[[1, 5, 6]] > 50.0, [True, True, False])


def test_an_observation_behind_a_dose_of_the_same_time_sees_it():
    design = standard("id,time,amt,evid\n1,0,,0\n1,0,10,1\n1,0,,0")
    table = simulate(Washout(), design=design, values={**KNOWN, "sigma": 1e-6})
    assert list(table.columns) == ["id", "time", "amt", "evid", "DV"]
    np.testing.assert_allclose(table["DV"], [0.0, np.nan, 10.0], atol=1e-4)


def test_solve_that_fails_names_the_individual():
    given = {**KNOWN, "k": [0.1, 3e3, 4e3]}
    with pytest.raises(
        SamplingError, match=r"solve of Washout for subject 2 and 1 more failed.*'k'.*max_steps"
    ):
        simulate(
            Washout(),
            design=Observations(visits(), doses=DOSES),
            values=given,
            solve=Solve(max_steps=500),
        )


@pytest.mark.parametrize(
    ("values", "pattern"),
    [
        ({"k_loc": 1.0}, r"names `k_loc`, which Two does not sample.*k_location.*mean `k_loc"),
        ({"k": 1.0}, r"gives `k` without `v`, with which it is correlated by `both`.*all of k, v"),
        ({"k": [1.0, 2.0], "v": 1.0}, r"for `k` of Two.*\(3,\), a value for each subject.*1, 2, 3"),
        ({"k": [1.0, -2.0, 1.0], "v": 1.0}, r"gives -2 for `k` of subject 2, which its link, Log"),
        ({"k": 1.0, "v": 1.0, "both_raw": 0.0}, r"gives `k` and `both_raw`, of which one follows"),
        ({"both": [[1.0, 2.0], [2.0, 1.0]]}, r"for `both`\. Expected a matrix of correlations"),
        ({"k_scale": "much"}, r"gives 'much' for `k_scale` of Two\. Expected a number"),
    ],
    ids=lambda x: ",".join(x) if isinstance(x, dict) else "",
)
def test_values_that_cannot_be_are_refused(values, pattern):
    with pytest.raises(DeclarationError, match=pattern):
        simulate(Two(), design=visits().assign(weight=70.0), values=values)


def test_value_of_what_is_pooled_is_refused():
    pooled = Washout(k=Washout().k.with_pooling(odecal.Pooling.COMPLETE))
    with pytest.raises(DeclarationError, match=r"names `k`, which is pooled.*`k_location`"):
        simulate(pooled, design=visits(), values={"k": 1.0})


@pytest.mark.parametrize(
    ("system", "pattern"),
    [
        (Washout, r"vary between groups \(k\) and individuals.*\(subject\).*design"),
        (Two, r"covariates \(weight\).*design"),
        (Driven, r"Driven has inputs \(flow\), of which times say nothing.*design"),
    ],
)
def test_system_that_needs_a_design(system, pattern):
    with pytest.raises(ObservationError, match=pattern):
        simulate(system(), [1.0, 2.0])


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({}, r"times=\.\.\., or a table.*design=.*Got neither"),
        ({"times": [1.0], "design": visits()}, r"one of the two"),
        ({"times": visits()}, r"Give it by design="),
        ({"design": {"time": [1.0]}}, r"Designs are expected as a pandas.DataFrame.*Got a dict"),
    ],
    ids=["neither", "both", "as times", "a dict"],
)
def test_times_or_a_design_are_needed(arguments, pattern):
    with pytest.raises(ObservationError, match=pattern):
        simulate(Decay(), **arguments)


def test_slip_in_the_name_of_a_column_is_found():
    with pytest.raises(ObservationError, match=r"column `cons` is no .*mean `conc`"):
        simulate(Washout(), design=visits().assign(cons=1.0))
