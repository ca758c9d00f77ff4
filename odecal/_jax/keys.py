"""The random keys of a run: one for each purpose, from one seed."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

# The two words of a random key, which cost no program to make or to keep.
KeyData = UInt32[np.ndarray, "2"]

# JAX's `fold_in(key, i)` is `split(key, n)[i]`. So a key has one use: it is drawn with, or split
# once, or folded with numbers; and whoever is given a key is the only one to use it.


class RunKeys(NamedTuple):
    """The key of each purpose."""

    starts: KeyData  # for dispersing chains
    chains: KeyData
    replicates: KeyData  # for replicated data of the draws
    prior: KeyData  # for draws from the prior
    others: KeyData  # for replicated data of those


def run_keys(seed: int) -> RunKeys:
    """Independent keys from one seed, by NumPy's `SeedSequence`."""
    count = len(RunKeys._fields)
    key_data = np.random.SeedSequence(seed).generate_state(2 * count, np.uint32)
    return RunKeys(*key_data.reshape(count, 2))


def key_data_of(key: jax.Array) -> KeyData:
    """The words of a random key; of a generator with longer keys, the first two."""
    return np.resize(np.asarray(jax.random.key_data(key)), 2)


def key_of(key_data: KeyData | UInt32[jax.Array, "2"]) -> jax.Array:
    """A random key from its words, made inside a program, whatever generator JAX is set to."""
    return jax.random.wrap_key_data(jnp.asarray(key_data), impl="threefry2x32")


def keys_by_name(key: jax.Array, names: Iterable[str]) -> dict[str, jax.Array]:
    """A key for each name, by splitting one that has no other use."""
    names = list(names)
    return dict(zip(names, jax.random.split(key, len(names)), strict=True)) if names else {}


def example_key_data() -> jax.ShapeDtypeStruct:
    """The shape and type of a key's words."""
    return jax.ShapeDtypeStruct((2,), np.uint32)
