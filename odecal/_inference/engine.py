"""Running a sampler: chains over devices, draws in blocks, a record of each block."""

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped

from odecal._errors import OutputError
from odecal._inference.progress import AbstractProgress
from odecal._jax.backend import usable_devices
from odecal._jax.keys import KeyData, key_of
from odecal._jax.programs import Compiler, jit_sharded, map_or_vmap, padded, shapes
from odecal._jax.trace import trace
from odecal._run.records import Chains, Leaves, Snapshot
from odecal.samplers import AbstractSampler, Draw, Kernel, Run, Start, Target
from odecal.samplers._base import covariance_shape

# The most draws of a chain in a block, and how many seconds a block should take.
_BLOCK = 100
_SECONDS = 0.3


class Engine:
    """The compiled programs of a sampler on a density.

    The draw number i of a chain depends on the chain's key and i alone, not on how draws are cut
    into blocks.
    """

    def __init__(
        self,
        target: Target,
        sampler: AbstractSampler,
        run: Run,
        key_data: KeyData,
        compiler: Compiler,
    ) -> None:
        self.run = run
        self._key_data = key_data
        self._ensemble = sampler.ensemble
        self.devices = usable_devices(1 if sampler.ensemble else run.num_chains)
        self._kernel = kernel = sampler.kernel(target, run)
        starts = _start_shapes(target, run.num_chains)
        init, advance = (partial(f, kernel, sampler.ensemble) for f in (_init_states, _transitions))
        if sampler.ensemble:
            self._order = np.arange(run.num_chains, dtype=np.uint32)
            programs: Any = jax.jit(init), jax.jit(advance)
            adaptation = kernel.adaptation
        else:
            _warn_of_idle_cores(self.devices, run.num_chains)
            count = padded(run.num_chains, len(self.devices))
            self._order = np.resize(np.arange(run.num_chains, dtype=np.uint32), count)
            starts = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), starts
            )
            programs = (
                jit_sharded(init, self.devices, batched=2, replicated=1),
                jit_sharded(advance, self.devices, batched=2, replicated=3),
            )
            adaptation = jax.vmap(kernel.adaptation)
        keys = shapes(self._order, key_data)
        self._init = compiler(programs[0], starts, *keys)
        number = jax.ShapeDtypeStruct((), jnp.asarray(0).dtype)
        states = self._init.shape
        self._advance = compiler(programs[1], states, *keys, number, number)
        self._adaptation = compiler(jax.jit(adaptation), states)

    def init(self, starts: Start) -> Snapshot:
        """A run without draws, with each chain at its starting point."""
        if not self._ensemble:
            starts = jax.tree.map(lambda x: np.asarray(x)[self._order], starts)
        return Snapshot(0, self._leaves(self._init(starts, self._order, self._key_data)))

    def sample(
        self,
        snapshot: Snapshot,
        progress: AbstractProgress,
        record: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> tuple[Chains, bool]:
        """Sample from a snapshot to the end of the run; record it after each block.

        Returns the draws, and whether the run is complete: not if the user interrupts it, after
        which the draws are those of all whole blocks.
        """
        total = self.run.num_warmup + self.run.num_samples
        snapshot = self._checked(snapshot)
        states = self._states(snapshot.state)
        self._advance.wait()  # the clock is of sampling alone
        progress.start(self.run, snapshot.done, self._kernel.headline)
        size = 1
        try:
            while snapshot.done < total:
                count = min(size, _BLOCK, total - snapshot.done)
                began = time.perf_counter()
                done = jnp.asarray(snapshot.done), jnp.asarray(count)
                states, draws = self._advance(states, self._order, self._key_data, *done)
                draws = jax.tree.map(partial(self._filled, count=count), draws)
                seconds = time.perf_counter() - began
                snapshot = Snapshot(  # a single assignment, which an interrupt cannot halve
                    snapshot.done + count,
                    self._leaves(states),
                    (*snapshot.blocks, draws),
                    snapshot.seconds + seconds,
                )
                record(snapshot)
                size = _next_size(count, seconds)
                progress.update(snapshot.done, draws.stats, self._kernel.standing(draws.stats))
        except KeyboardInterrupt:
            return self.chains(snapshot), snapshot.done >= total
        return self.chains(snapshot), True

    def _checked(self, snapshot: Snapshot) -> Snapshot:
        """A recorded run, without statistics that the sampler has no more.

        Raises:
            OutputError: if it is not one of this sampler on this density.
        """

        def signatures(leaves: Sequence[Any]) -> list[Any]:
            whole = self._ensemble or any(x.ndim == 0 for x in leaves)
            return [(x.shape[0 if whole else 1 :], x.dtype) for x in leaves]

        examples = [jax.eval_shape(_to_numbers, x) for x in jax.tree.leaves(self._init.shape)]
        fits = signatures(snapshot.state) == signatures(examples)
        fits &= self._ensemble or {len(x) for x in snapshot.state} <= {self.run.num_chains}
        one = self._advance.shape[1]
        blocks = tuple(
            Draw(x.position, {name: x.stats[name] for name in one.stats if name in x.stats})
            for x in snapshot.blocks
        )
        for block in blocks:
            fits &= block.stats.keys() == one.stats.keys()
            fits &= {x.shape[:2] for x in block.stats.values()} == {block.position.shape[:2]}
            fits &= block.position.shape[::2] == (self.run.num_chains, one.position.shape[-1])
        fits = fits and sum(block.position.shape[1] for block in blocks) == snapshot.done
        if not fits or snapshot.done > self.run.num_warmup + self.run.num_samples:
            raise OutputError(
                "The recorded state does not fit this run: its arrays are of other shapes or types "
                "than the sampler's. Expected the same system, sampler, number of chains and "
                "floating type. Start a new run."
            )
        return replace(snapshot, blocks=blocks)

    def chains(self, snapshot: Snapshot) -> Chains:
        """The draws of a snapshot, with warm-up apart."""
        warmup = self.run.num_warmup
        none = jax.tree.map(
            lambda x: self._filled(np.zeros(x.shape, x.dtype), 0), self._advance.shape[1]
        )
        positions, stats = jax.tree.map(
            lambda *parts: np.concatenate(parts, axis=1), none, *snapshot.blocks
        )
        adaptation = jax.tree.map(np.asarray, self._adaptation(self._states(snapshot.state)))
        if not self._ensemble:
            adaptation = {name: x[: self.run.num_chains] for name, x in adaptation.items()}
        return Chains(
            positions[:, warmup:],
            {name: x[:, warmup:] for name, x in stats.items()},
            {name: x[:, :warmup] for name, x in stats.items()},
            adaptation,
            snapshot.state,
            snapshot.seconds,
        )

    def blank(self) -> Chains:
        """Zeros of the form of a result: a transition of warm-up and a draw of one chain."""
        positions, stats = jax.tree.map(
            lambda x: self._filled(np.zeros(x.shape, x.dtype), 1)[:1], self._advance.shape[1]
        )
        ends = 0 if self._ensemble else 1  # the adaptation of an ensemble has no axis of chains
        adaptation = {
            name: np.zeros((*(1,) * ends, *x.shape[ends:]), x.dtype)
            for name, x in self._adaptation.shape.items()
        }
        return Chains(positions, stats, stats, adaptation, [], 0.0)

    def _filled(self, buffer: Any, count: int) -> Shaped[np.ndarray, "chain draw *shape"]:
        """The part of a buffer that was filled."""
        array = np.asarray(buffer)
        array = array.swapaxes(0, 1) if self._ensemble else array
        return array[: self.run.num_chains, :count].copy()

    def _leaves(self, states: Any) -> Leaves:
        """The state as arrays for a file: each chain once, keys as numbers."""
        leaves = [np.asarray(_to_numbers(leaf)) for leaf in jax.tree.leaves(states)]
        return leaves if self._ensemble else [x[: self.run.num_chains] for x in leaves]

    def _states(self, leaves: Sequence[np.ndarray]) -> Any:
        """The state from its leaves."""
        examples, structure = jax.tree.flatten(self._init.shape)
        if not self._ensemble:
            leaves = [x[self._order] for x in leaves]
        pairs = zip(leaves, examples, strict=True)
        return jax.tree.unflatten(structure, [_from_numbers(x, example) for x, example in pairs])


def _init_states(
    kernel: Kernel, ensemble: bool, starts: Start, numbers: jax.Array, key_data: jax.Array
) -> Any:
    """The states of an ensemble, or of all chains of one device, at their starting points."""
    if ensemble:
        return kernel.init(_keys(key_of(key_data))[0], starts)
    return map_or_vmap(lambda start, i: kernel.init(_keys(_key_of_chain(key_data, i))[0], start))(
        starts, numbers
    )


def _transitions(
    kernel: Kernel,
    ensemble: bool,
    states: Any,
    numbers: jax.Array,
    key_data: jax.Array,
    start: jax.Array,
    count: jax.Array,
) -> tuple[Any, Draw]:
    """`count` transitions of an ensemble, or of every chain of one device."""
    if ensemble:
        return _block(kernel, states, key_of(key_data), start, count)
    return map_or_vmap(
        lambda state, i: _block(kernel, state, _key_of_chain(key_data, i), start, count)
    )(states, numbers)


def _key_of_chain(key_data: jax.Array, number: jax.Array) -> jax.Array:
    return jax.random.fold_in(key_of(key_data), number)


def _keys(key: jax.Array) -> jax.Array:
    """The key of the initial state of a chain or an ensemble, and that of its transitions."""
    return jax.random.split(key)


def _block(
    kernel: Kernel, state: Any, key: jax.Array, start: jax.Array, count: jax.Array
) -> tuple[Any, Draw]:
    """`count` transitions of one chain, or of one ensemble, into buffers of a fixed length."""
    _, key = _keys(key)
    step = trace(kernel.step, key, state, start)

    def transition(i: jax.Array, carry: Any) -> Any:
        state, buffer = carry
        index = start + i
        state, draw = step(jax.random.fold_in(key, index), state, index)
        return state, jax.tree.map(lambda b, x: b.at[i].set(x), buffer, draw)

    _, one = jax.eval_shape(step, key, state, start)
    buffer = jax.tree.map(lambda x: jnp.zeros((_BLOCK, *x.shape), x.dtype), one)
    return jax.lax.fori_loop(0, count, transition, (state, buffer))


def _start_shapes(target: Target, num_chains: int) -> Start:
    """The shapes of the starting points of all chains."""
    dim, dtype = target.dim, jnp.result_type(float)
    ends = ((dim,), (), (dim,), covariance_shape(dim))
    shapes: Any = [jax.ShapeDtypeStruct((num_chains, *end), dtype) for end in ends]
    return Start(*shapes)


def _to_numbers(leaf: Any) -> Any:
    """A leaf of a state; a random key as its numbers."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _from_numbers(numbers: Any, example: Any) -> Any:
    """A leaf of a state like an example; a random key from its numbers."""
    if jnp.issubdtype(example.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(numbers)
    return numbers


def _warn_of_idle_cores(devices: list[Any], num_chains: int) -> None:
    """Warn where chains run one after another beside idle cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if len(devices) == 1 and devices[0].platform == "cpu" and min(cores or 1, num_chains) > 1:
        warnings.warn(
            f"JAX uses one CPU core of {cores}, so the {num_chains} chains run one after another. "
            f'To use all, call jax.config.update("jax_num_cpu_devices", {cores}) before anything '
            "else uses JAX.",
            stacklevel=5,
        )


def _next_size(count: int, seconds: float) -> int:
    """How many draws the next block should have, to take `_SECONDS`."""
    return int(np.clip(count * _SECONDS / max(seconds, 1e-6), 1, min(4 * count, _BLOCK)))
