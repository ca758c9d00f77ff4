"""The summary of populations: rows of groups told together, and sentences that suit them."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from odecal._results.summary import folded, summary
from odecal._results.verdict import verdict

DRAWS = ("chain", "draw")
NUM_DRAWS = 50


def population(subjects=30, sites=3, **parts):
    """The tree of a calibration of subjects at sites.

    `clearance` varies over subjects, `volume` and its two `layers` over sites, `dose` is of each
    subject without varying, and `weight` belongs to the layers that all share.
    """
    rng = np.random.default_rng(0)
    sizes = {"chain": 2, "draw": NUM_DRAWS, "site_subject": subjects, "site": sites, "layer": 2}
    quantities = {
        "clearance": ("site_subject",),
        "clearance_location": (),
        "clearance_scale": (),
        "volume": ("site", "layer"),
        "volume_scale": ("layer",),
        "weight": ("layer",),
        "dose": ("site_subject",),
    }
    coords = {
        "site_subject": [f"a/{i}" for i in range(subjects)],
        "site": list("abcdefg"[:sites]),
        "layer": ["top", "deep"],
    }

    def drawn(*dims):
        return ((*DRAWS, *dims), rng.normal(size=[sizes[d] for d in (*DRAWS, *dims)]))

    posterior = xr.Dataset({name: drawn(*dims) for name, dims in quantities.items()}, coords)
    posterior["clearance"].attrs["units"] = "L/h"
    stats = {
        "diverging": (DRAWS, np.zeros((2, NUM_DRAWS), bool)),
        "failed_solves": (DRAWS, np.zeros((2, NUM_DRAWS), int)),
        "solver_steps": (DRAWS, np.full((2, NUM_DRAWS), 840)),
    }
    states = {"level": ((*DRAWS, "site_subject", "time"), np.zeros((2, NUM_DRAWS, subjects, 4)))}
    groups = {
        "posterior": posterior,
        "sample_stats": xr.Dataset(stats),
        "trajectories": xr.Dataset(states),
        "population_predictive": xr.Dataset({"seen": (DRAWS, np.zeros((2, NUM_DRAWS)))}),
    }
    return xr.DataTree.from_dict(groups | parts)


def diverged(tree, divergences=3, failed=0):
    for name, number in (("diverging", divergences), ("failed_solves", failed)):
        tree["sample_stats"][name].values.flat[:number] = 1
    return tree


def climbed(lost, climbs=12, failed=0):
    where = np.zeros(climbs, int)
    where[:lost] = -1
    return xr.Dataset(
        {
            "mode_logdensity": ("mode", [1.0]),
            "mode_log_mass": ("mode", [1.0]),
            "climb_mode": ("climb", where),
            "chain_mode": ("chain", [0, 0]),
            "failed_candidates": failed,
        }
    )


def said(tree):
    return " ".join(verdict(tree, summary(tree)))


def test_many_groups_are_folded():
    tree = population()
    table = summary(tree)
    rest, groups = folded(tree, table)
    shared = ["clearance_location", "clearance_scale"]
    layers = [f"{name}[{x}]" for name in ("volume_scale", "weight") for x in ("top", "deep")]
    assert list(rest.index) == shared + layers
    pd.testing.assert_frame_equal(rest, table.loc[rest.index])
    assert list(groups.index) == ["clearance", "volume", "dose"]
    assert list(groups["groups"]) == ["30 site_subject", "3 site", "30 site_subject"]
    for name, row in groups.iterrows():
        own = table[table.index.str.startswith(f"{name}[")]
        assert len(own) == {"volume": 6}.get(name, 30)
        assert row["lowest q50"] == own["q50"].min()
        assert row["highest q50"] == own["q50"].max()
        assert row["least ess_bulk"] == own["ess_bulk"].min()
        assert row["least ess_tail"] == own["ess_tail"].min()
        assert row["largest r_hat"] == own["r_hat"].max()
    assert groups.loc["clearance", "unit"] == "L/h"


def test_few_rows_stay():
    tree = population(subjects=4)
    table = summary(tree)
    rest, groups = folded(tree, table)
    pd.testing.assert_frame_equal(rest, table)
    assert groups.empty


def test_many_rows_of_no_groups_stay():
    """A vector whose name happens to have a scale, of a single experiment."""
    values = np.random.default_rng(0).normal(size=(2, NUM_DRAWS, 45))
    posterior = xr.Dataset(
        {"rate": ((*DRAWS, "age"), values), "rate_scale": (DRAWS, values[..., 0])}
    )
    states = xr.Dataset({"level": ((*DRAWS, "time", "age"), np.zeros((2, NUM_DRAWS, 4, 45)))})
    tree = xr.DataTree.from_dict({"posterior": posterior, "trajectories": states})
    rest, groups = folded(tree, summary(tree))
    assert len(rest) == 46
    assert groups.empty


@pytest.mark.parametrize(
    ("subjects", "sentence"),
    [
        (12, "The solves of 12 individuals took 840 steps together (at most 840)."),
        (1, "A solve took 840 steps (at most 840)."),
    ],
)
def test_steps_are_of_all_individuals_together(subjects, sentence):
    assert said(population(subjects=subjects, sites=1)).endswith(sentence)


@pytest.mark.parametrize(("lost", "usual"), [(10, True), (6, False)])
def test_lost_climbs_are_usual_for_populations(lost, usual):
    text = said(population(warm_start=climbed(lost, failed=2)))
    assert f"{lost} did not arrive" in text
    assert ("as is usual for populations" in text) == usual
    assert "; 2 prior draws had no finite density or gradient, and were replaced." in text
    alone = population(warm_start=climbed(lost))
    del alone["population_predictive"]
    assert "usual" not in said(alone)


def test_divergences_of_a_population_may_come_from_its_centring():
    advice = "choose the centring from the data: odecal.centring.Informed()."
    assert advice in said(diverged(population()))
    text = said(diverged(population(), failed=1))
    assert "reconsider the priors" in text
    assert advice in text
    alone = diverged(population())
    del alone["population_predictive"]
    assert "raise target_acceptance_rate, to 0.99 if need be." in said(alone)
    assert "centring" not in said(population())


def test_a_centring_that_was_chosen_is_not_advised():
    tree = diverged(population())
    tree.attrs["system_table"] = "  varying  clearance  log ~ Normal(0, 1) over subject, informed"
    assert "raise target_acceptance_rate, to 0.99 if need be." in said(tree)
    tree.attrs["system_table"] += "\n  varying  volume  log ~ Normal(0, 1) over site, non-centred"
    assert "odecal.centring.Informed()" in said(tree)


def sampled(draws=1000, chains=4, **changed):
    """Chains that agree, but for what is changed: quantities, or statistics of the sampler."""
    rng = np.random.default_rng(0)
    posterior = {name: (DRAWS, rng.normal(size=(chains, draws))) for name in ("rate", "level")}
    stats = {
        "diverging": (DRAWS, np.zeros((chains, draws), bool)),
        "failed_solves": (DRAWS, np.zeros((chains, draws), int)),
        "solver_steps": (DRAWS, np.full((chains, draws), 84)),
        "tree_depth": (DRAWS, np.full((chains, draws), 3)),
    }
    for name, change in changed.items():
        group = posterior if name in posterior else stats
        group.setdefault(name, (DRAWS, np.zeros((chains, draws), int)))
        change(group[name][1])
    groups = {"posterior": xr.Dataset(posterior), "sample_stats": xr.Dataset(stats)}
    groups["posterior"] = groups["posterior"].assign_coords(chain=np.arange(chains))
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["sampler_settings"] = '{"max_tree_depth": "10"}'
    return tree


def test_chains_that_agree_are_said_to():
    text = said(sampled())
    assert "R-hat is below 1.01 throughout: the chains agree." in text
    assert "No transition diverged, and no solve failed." in text


def put(where, value):
    def change(values):
        values[where] = value

    return change


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rate": put((2, slice(5)), np.nan)}, "is not a number for `rate`"),
        ({"rate": put(2, 0.3), "level": put(2, 0.1)}, "Chains that never moved: 2."),
        ({"diverging": put((0, slice(3)), True)}, "3 of 4000 transitions diverged"),
        ({"failed_solves": put((0, 0), 1)}, "solves failed in 1 of 4000"),
        ({"tree_depth": put((0, slice(100)), 10)}, "cut short at max_tree_depth=10"),
        (
            {"rate": lambda x: np.copyto(x, np.repeat(x[:, ::25], 25, 1))},
            "than 400 effective draws",
        ),
        ({"rate": put(0, 9.0)}, "the chains do not agree yet"),
        (
            {"diverging": put((0, 0), True), "failed_gradients": put((0, 0), 1)},
            "0 of them at a failed solve and 1 at a gradient that is not a number",
        ),
    ],
)
def test_in_doubt_chains_do_not_agree(changed, told):
    text = said(sampled(**changed))
    assert told in text
    assert "the chains agree" not in text


def test_one_chain_agrees_with_nobody():
    text = said(sampled(chains=1))
    assert "There is a single chain" in text
    assert "agree." not in text


def test_draws_that_never_move_are_told():
    text = said(sampled(rate=put(slice(None), 1.0), level=put(slice(None), 2.0)))
    assert "No chain moved" in text


def test_small_quantities_are_quantities():
    tree = sampled()
    tree["posterior"]["rate"].values[:] *= 1e-18
    assert list(summary(tree).index) == ["rate", "level"]


def test_a_group_whose_rows_are_constant_is_left_out_of_the_fold():
    tree = population()
    tree["posterior"]["clearance"].values[..., 3] = 1.0
    tree["posterior"]["dose"].values[:] = 1.0
    _, groups = folded(tree, summary(tree))
    assert list(groups.index) == ["clearance", "volume"]


def test_what_is_not_a_number_is_not_folded_away():
    tree = population()
    tree["posterior"]["clearance"].values[0, 0, 3] = np.nan
    _, groups = folded(tree, summary(tree))
    assert np.isnan(groups.loc["clearance", "largest r_hat"])


@pytest.mark.parametrize(
    ("solver", "steps", "told"),
    [("Tsit5()", 4000, True), ("Tsit5()", 400, False), ("Kvaerno5(scan_kind=None)", 4000, False)],
)
def test_many_steps_of_an_explicit_solver_are_a_sign_of_stiffness(solver, steps, told):
    tree = sampled(solver_steps=put(slice(None), steps))
    tree.attrs["solver"] = solver
    assert ("Kvaerno5(root_finder=" in said(tree)) == told
