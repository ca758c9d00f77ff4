"""Running a sampler: chains over devices, draws in blocks, progress between blocks."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from odecal._progress import Progress
from odecal._trace import trace
from odecal.samplers import AbstractSampler, Draw, Kernel

# The most draws of a chain between two looks at the clock, and how long a block should take.
_BLOCK = 100
_SECONDS = 0.3


@dataclass(frozen=True, eq=False)
class Chains:
    """The draws of all chains after warm-up.

    Args:
        positions: positions in unconstrained space, of shape (chain, draw, dim).
        stats: statistics of every transition, each of shape (chain, draw).
        warmup_stats: the same for the transitions of warm-up.
        seconds: how long warm-up and sampling took, compilation included.
    """

    positions: np.ndarray
    stats: dict[str, np.ndarray]
    warmup_stats: dict[str, np.ndarray]
    seconds: float


def run_chains(
    logdensity_fn: Callable[[jax.Array], jax.Array],
    sampler: AbstractSampler,
    starts: jax.Array,
    key: jax.Array,
    *,
    num_warmup: int,
    num_samples: int,
    progress: Progress,
) -> Chains:
    """Run chains from given starting points.

    The draw number i of a chain depends on the chain's key and i alone, not on how draws are cut
    into blocks.

    Args:
        logdensity_fn: log density of a position of shape (dim,).
        sampler: the sampler.
        starts: starting positions, of shape (chain, dim).
        key: the random key.
        num_warmup: transitions of warm-up.
        num_samples: draws to keep of each chain.
        progress: where progress is shown.

    Returns:
        The draws and their statistics.
    """
    began = time.perf_counter()
    num_chains, dim = starts.shape
    kernel = sampler.kernel(logdensity_fn, dim, num_warmup)
    devices = usable_devices(num_chains)
    _warn_of_idle_cores(devices, num_chains)
    order = np.resize(np.arange(num_chains), _padded(num_chains, len(devices)))
    keys = jax.vmap(partial(jax.random.fold_in, key))(order)
    init = spread(
        lambda keys, starts: jax.lax.map(lambda a: kernel.init(*a), (keys, starts)), devices, 2
    )
    block = spread(partial(_run_block, kernel), devices, 2, replicated=2)
    states = init(keys, starts[order])

    kept: list[Draw] = []
    total, done, size = num_warmup + num_samples, 0, 10
    progress.start(num_chains, num_warmup, num_samples)
    while done < total:
        count = min(size, _BLOCK, total - done)
        tick = time.perf_counter()
        states, draws = block(states, keys, jnp.asarray(done), jnp.asarray(count))
        draws = jax.tree.map(lambda x, n=count: np.asarray(x)[:num_chains, :n], draws)
        kept.append(draws)
        if done > 0:  # the first block's time is mostly compilation
            size = _next_size(count, time.perf_counter() - tick)
        done += count
        progress.update(done, draws.stats)
    draws = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *kept)
    return Chains(
        draws.position[:, num_warmup:],
        {name: x[:, num_warmup:] for name, x in draws.stats.items()},
        {name: x[:, :num_warmup] for name, x in draws.stats.items()},
        time.perf_counter() - began,
    )


def _run_block(
    kernel: Kernel, states: Any, keys: jax.Array, start: jax.Array, count: jax.Array
) -> tuple[Any, Draw]:
    """`count` transitions of every chain of one device, into buffers of a fixed length."""

    def chain(state_key: Any) -> tuple[Any, Draw]:
        state, key = state_key

        def transition(i: jax.Array, carry: Any) -> Any:
            state, buffer = carry
            index = start + i
            state, draw = kernel.step(jax.random.fold_in(key, index), state, index)
            return state, jax.tree.map(lambda b, x: b.at[i].set(x), buffer, draw)

        _, one = jax.eval_shape(kernel.step, key, state, start)
        buffer = jax.tree.map(lambda x: jnp.zeros((_BLOCK, *x.shape), x.dtype), one)
        return jax.lax.fori_loop(0, count, transition, (state, buffer))

    # On a CPU a chain after another, since a batch would wait for its longest trajectory.
    if jax.default_backend() == "cpu":
        return jax.lax.map(chain, (states, keys))
    return jax.vmap(chain)((states, keys))


def usable_devices(wanted: int) -> list[Any]:
    """The devices to use for so many independent pieces of work."""
    return jax.devices()[:wanted]


def _warn_of_idle_cores(devices: list[Any], num_chains: int) -> None:
    """Say so where chains run one after another beside idle cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if len(devices) == 1 and devices[0].platform == "cpu" and min(cores or 1, num_chains) > 1:
        warnings.warn(
            f"JAX uses one CPU core of {cores}, so the {num_chains} chains run one after another. "
            f'To use all, call jax.config.update("jax_num_cpu_devices", {cores}) before anything '
            "else uses JAX.",
            stacklevel=4,
        )


def _padded(num_chains: int, num_devices: int) -> int:
    """The number of chains with each device having as many; the extra ones are thrown away."""
    return -(-num_chains // num_devices) * num_devices


def spread(
    function: Callable[..., Any], devices: list[Any], batched: int, replicated: int = 0
) -> Callable[..., Any]:
    """Compile a function of many so that each device runs its own share in a loop of its own.

    Args:
        function: the function; its results have a leading axis like its first arguments'.
        devices: the devices.
        batched: how many of its arguments have a leading axis to share out, a multiple of the
            number of devices.
        replicated: how many arguments after those are the same for all.

    Returns:
        The compiled function.
    """
    if len(devices) == 1:
        return jax.jit(function)
    axis = jax.sharding.PartitionSpec("chain")
    mesh = jax.sharding.Mesh(np.asarray(devices), ("chain",))
    specs = (axis,) * batched + (jax.sharding.PartitionSpec(),) * replicated

    def share(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((x.shape[0] // len(devices), *x.shape[1:]), x.dtype)

    def on_mesh(*args: Any) -> Any:
        local = (*jax.tree.map(share, args[:batched]), *args[batched:])
        traced = trace(function, *local)
        return jax.shard_map(traced, mesh=mesh, in_specs=specs, out_specs=axis, check_vma=False)(
            *args
        )

    return jax.jit(on_mesh)


def _next_size(count: int, seconds: float) -> int:
    """How many draws the next block should have to take about the wanted time."""
    return int(np.clip(count * _SECONDS / max(seconds, 1e-6), 1, min(4 * count, _BLOCK)))
