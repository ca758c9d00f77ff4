"""What is taken of libraries though it is not of their public interface is there.

A new version of one that renames a part fails here, and says which.
"""

import diffrax
import equinox._errors
import jax
import jax.numpy as jnp
import optax
import pytest
from numpyro.infer.hmc import hmc
from numpyro.infer.util import ParamInfo

from odecal._run.registry import CONSTANTS
from odecal.samplers import _blackjax as blackjax


def has(thing, *fields):
    missing = [name for name in fields if not hasattr(thing, name)]
    assert not missing, f"{type(thing)} has no {missing}"


@pytest.mark.parametrize("name", blackjax.__all__)
def test_parts_of_blackjax(name):
    assert getattr(blackjax, name) is not None


def test_states_of_chains_of_blackjax():
    """They are made by place."""
    fields = ("position", "logdensity", "logdensity_grad")
    assert blackjax.HMCState._fields == fields
    assert blackjax.DynamicHMCState._fields == (*fields, "random_generator_arg")
    assert blackjax.GHMCState._fields == ("position", "momentum", *fields[1:], "slice")


def test_adaptations_of_blackjax():
    init, _, _ = blackjax.mass_matrix_adaptation(is_diagonal_matrix=True)
    state = init(2, jnp.ones(2))
    has(state, "inverse_mass_matrix")
    has(state.wc_state, "sample_size", "m2")
    init, _, _ = blackjax.dual_averaging_adaptation(0.8)
    has(init(1.0), "log_step_size")
    init, _ = blackjax.chees_adaptation(lambda i: i, lambda i: i, optax.adam(0.1), 0.6, 0.5, 10)
    averages = ("log_step_size_moving_average", "log_trajectory_length_moving_average")
    has(init(0, 1.0), *averages, "step_size", "trajectory_length")
    init, _ = blackjax.meads_adaptation(2, 0.5)
    has(
        init(jnp.ones((8, 2)), jnp.ones((8, 2))),
        *("current_iteration", "step_size", "position_sigma", "alpha", "delta"),
    )


def test_the_low_rank_metric_of_blackjax():
    recipe = blackjax.METRIC_RECIPES["fisher_low_rank"]
    has(recipe, "max_rank")
    state = recipe.build_core(buffer_size=3).init(2)
    has(state, "buffer_idx", "background_split", "recompute_counter")
    assert state.inverse_mass_matrix._fields == ("sigma", "U", "lam")


def test_the_kernel_of_numpyro():
    init, sample = hmc(lambda z: 0.5 * z @ z, algo="NUTS")
    start = ParamInfo(jnp.ones(2), jnp.array(1.0), jnp.ones(2))
    state = sample(init(start, 5, rng_key=jax.random.key(0)))
    has(state, *("z", "z_grad", "potential_energy", "energy", "num_steps", "accept_prob"))
    has(state, "diverging", "rng_key")
    has(state.adapt_state, "step_size", "inverse_mass_matrix")


def test_the_switch_of_run_time_errors_of_equinox():
    assert equinox._errors.EQX_ON_ERROR in {"raise", "breakpoint", "off"}


def test_parts_of_diffrax():
    assert CONSTANTS["diffrax:use_stepsize_tol"] is diffrax.Kvaerno3().root_finder.rtol
    for solver in (diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Kvaerno5()):
        has(solver, "interpolation_cls", "tableau")
