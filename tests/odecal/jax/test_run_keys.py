"""The keys of a run: from one seed, without a program."""

import jax
import numpy as np
import pytest

from odecal._jax.keys import key_data_of, key_of, run_keys

SEEDS = [0, 1, 2**32, 2**63 - 1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_the_same_keys_again(seed):
    for one, other in zip(run_keys(seed), run_keys(seed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_two_purposes_or_seeds_share_a_key():
    keys = [tuple(key_data) for seed in SEEDS for key_data in run_keys(seed)]
    assert len(set(keys)) == len(keys)


def test_a_key_survives_being_words():
    key = jax.random.key(7)
    draws = jax.random.normal(key_of(key_data_of(key)), (3,))
    np.testing.assert_array_equal(draws, jax.random.normal(key, (3,)))


@pytest.mark.parametrize("generator", ["rbg", "unsafe_rbg"])
def test_a_key_of_another_generator_becomes_words(generator):
    """What it draws differs from what it would have drawn; it draws, and always the same."""
    key_data = key_data_of(jax.random.key(7, impl=generator))
    one, other = (jax.random.normal(key_of(key_data), (3,)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_the_generator_that_jax_is_set_to_changes_nothing():
    draws = jax.jit(lambda key_data: jax.random.normal(key_of(key_data), (3,)))
    expected = draws(run_keys(1).chains)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(draws(run_keys(1).chains), expected)
