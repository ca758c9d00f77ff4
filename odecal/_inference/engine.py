"""Running a sampler: chains over devices, draws in blocks, a record of each block."""

import os
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from odecal._errors import OutputError
from odecal._inference.progress import Progress
from odecal._jax.backend import usable_devices
from odecal._jax.keys import KeyData, key_of
from odecal._jax.programs import Compiler, jit_sharded, map_or_vmap, padded, shapes
from odecal._jax.trace import trace
from odecal._run.records import Chains, Leaves, Snapshot
from odecal.samplers import AbstractSampler, Draw, Kernel, Run, Start, Target
from odecal.samplers._base import covariance_shape

# The most draws of a chain between two looks at the clock, and how long a block should take.
_BLOCK = 100
_SECONDS = 0.3


class Engine:
    """The compiled programs of a sampler on a density.

    The draw number i of a chain depends on the chain's key and i alone, not on how draws are cut
    into blocks.

    Args:
        target: the density.
        sampler: the sampler.
        run: the size of the run.
        key_data: the random key, as its words.
        compiler: compiles the programs.
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
        self._sampler = sampler
        self._ensemble = sampler.ensemble
        self.devices = usable_devices(1 if sampler.ensemble else run.num_chains)
        kernel = sampler.kernel(target, run)
        starts = _start_shapes(target, run.num_chains)
        if sampler.ensemble:
            self._order = np.arange(run.num_chains, dtype=np.uint32)
            programs: Any = jax.jit(partial(_begin, kernel)), jax.jit(partial(_go_on, kernel))
            adaptation = kernel.adaptation
        else:
            _warn_of_idle_cores(self.devices, run.num_chains)
            count = padded(run.num_chains, len(self.devices))
            self._order = np.resize(np.arange(run.num_chains, dtype=np.uint32), count)
            starts = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype), starts
            )
            programs = (
                jit_sharded(partial(_begin_each, kernel), self.devices, batched=2, replicated=1),
                jit_sharded(partial(_go_on_each, kernel), self.devices, batched=2, replicated=3),
            )
            adaptation = jax.vmap(kernel.adaptation)
        who = shapes(self._order, key_data)
        self._init = compiler(programs[0], starts, *who)
        number = jax.ShapeDtypeStruct((), jnp.asarray(0).dtype)
        states = self._init.shape
        self._advance = compiler(programs[1], states, *who, number, number)
        self._adaptation = compiler(jax.jit(adaptation), states)

    def begin(self, starts: Start) -> Snapshot:
        """Put the chains at their starting points.

        Args:
            starts: of shape (chain, ...).

        Returns:
            A run of no draws.
        """
        if not self._ensemble:
            starts = jax.tree.map(lambda x: np.asarray(x)[self._order], starts)
        return Snapshot(0, self._leaves(self._init(starts, self._order, self._key_data)))

    def go_on(
        self,
        snapshot: Snapshot,
        progress: Progress,
        record: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> tuple[Chains, bool]:
        """Run from a snapshot to the end.

        Args:
            snapshot: the run so far.
            progress: where progress is shown.
            record: records the run after each block.

        Returns:
            The draws, and whether they are all; not where the user has interrupted the run, which
            then ends after the last whole block.
        """
        total = self.run.num_warmup + self.run.num_samples
        self._check(snapshot)
        states = self._restored(snapshot.state)
        self._advance.wait()  # the clock is of sampling alone
        progress.start(*self.run, snapshot.done, self._sampler.headline(self.run))
        size = 1
        try:
            while snapshot.done < total:
                count = min(size, _BLOCK, total - snapshot.done)
                began = time.perf_counter()
                done = jnp.asarray(snapshot.done), jnp.asarray(count)
                states, draws = self._advance(states, self._order, self._key_data, *done)
                draws = jax.tree.map(partial(self._cut, count=count), draws)
                seconds = time.perf_counter() - began
                snapshot = Snapshot(  # a single assignment, which an interrupt cannot halve
                    snapshot.done + count,
                    self._leaves(states),
                    (*snapshot.blocks, draws),
                    snapshot.seconds + seconds,
                )
                record(snapshot)
                size = _next_size(count, seconds)
                progress.update(snapshot.done, draws.stats, self._sampler.standing(draws.stats))
        except KeyboardInterrupt:
            return self.chains(snapshot), snapshot.done >= total
        return self.chains(snapshot), True

    def _check(self, snapshot: Snapshot) -> None:
        """Refuse a recorded run that is not one of this sampler on this density."""

        def forms(leaves: Sequence[Any]) -> list[Any]:
            whole = self._ensemble or any(x.ndim == 0 for x in leaves)
            return [(x.shape[0 if whole else 1 :], x.dtype) for x in leaves]

        examples = [jax.eval_shape(_numbers, x) for x in jax.tree.leaves(self._init.shape)]
        fits = forms(snapshot.state) == forms(examples)
        fits &= self._ensemble or {len(x) for x in snapshot.state} <= {self.run.num_chains}
        one = self._advance.shape[1]
        for block in snapshot.blocks:
            fits &= block.stats.keys() == one.stats.keys()
            fits &= {x.shape[:2] for x in block.stats.values()} == {block.position.shape[:2]}
            fits &= block.position.shape[::2] == (self.run.num_chains, one.position.shape[-1])
        fits = fits and sum(block.position.shape[1] for block in snapshot.blocks) == snapshot.done
        if not fits or snapshot.done > self.run.num_warmup + self.run.num_samples:
            raise OutputError(
                "The recorded state does not fit this run: its arrays are of other shapes or types "
                "than the sampler's. Expected the same system, sampler, number of chains and "
                "floating type. Start a new run."
            )

    def chains(self, snapshot: Snapshot) -> Chains:
        """The draws of a snapshot, those of warm-up apart."""
        warmup = self.run.num_warmup
        none = jax.tree.map(
            lambda x: self._cut(np.zeros(x.shape, x.dtype), 0), self._advance.shape[1]
        )
        positions, stats = jax.tree.map(
            lambda *parts: np.concatenate(parts, axis=1), none, *snapshot.blocks
        )
        adaptation = jax.tree.map(np.asarray, self._adaptation(self._restored(snapshot.state)))
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
        """A transition of warm-up and a draw of one chain, of zeros: what the result looks like."""
        positions, stats = jax.tree.map(
            lambda x: self._cut(np.zeros(x.shape, x.dtype), 1)[:1], self._advance.shape[1]
        )
        ends = 0 if self._ensemble else 1  # the adaptation of an ensemble has no axis of chains
        adaptation = {
            name: np.zeros((*(1,) * ends, *x.shape[ends:]), x.dtype)
            for name, x in self._adaptation.shape.items()
        }
        return Chains(positions, stats, stats, adaptation, [], 0.0)

    def _cut(self, buffer: Any, count: int) -> np.ndarray:
        """The part of a buffer that was filled, of shape (chain, draw, ...)."""
        array = np.asarray(buffer)
        array = array.swapaxes(0, 1) if self._ensemble else array
        return array[: self.run.num_chains, :count].copy()

    def _leaves(self, states: Any) -> Leaves:
        """The state as arrays that can be written: of each chain once, keys as numbers."""
        leaves = [np.asarray(_numbers(leaf)) for leaf in jax.tree.leaves(states)]
        return leaves if self._ensemble else [x[: self.run.num_chains] for x in leaves]

    def _restored(self, leaves: Sequence[np.ndarray]) -> Any:
        """The state from its leaves."""
        examples, structure = jax.tree.flatten(self._init.shape)
        if not self._ensemble:
            leaves = [x[self._order] for x in leaves]
        pairs = zip(leaves, examples, strict=True)
        return jax.tree.unflatten(structure, [_like(x, example) for x, example in pairs])


def _begin_each(kernel: Kernel, starts: Start, numbers: jax.Array, key_data: jax.Array) -> Any:
    """The states of all chains of one device at their starting points."""
    return map_or_vmap(lambda start, i: kernel.init(_keys(_key_of_chain(key_data, i))[0], start))(
        starts, numbers
    )


def _begin(kernel: Kernel, starts: Start, numbers: jax.Array, key_data: jax.Array) -> Any:
    """The state of an ensemble at its starting points."""
    del numbers
    return kernel.init(_keys(key_of(key_data))[0], starts)


def _go_on_each(
    kernel: Kernel,
    states: Any,
    numbers: jax.Array,
    key_data: jax.Array,
    start: jax.Array,
    count: jax.Array,
) -> tuple[Any, Draw]:
    """`count` transitions of every chain of one device."""
    return map_or_vmap(
        lambda state, i: _block(kernel, state, _key_of_chain(key_data, i), start, count)
    )(states, numbers)


def _go_on(
    kernel: Kernel,
    state: Any,
    numbers: jax.Array,
    key_data: jax.Array,
    start: jax.Array,
    count: jax.Array,
) -> tuple[Any, Draw]:
    """`count` transitions of an ensemble."""
    del numbers
    return _block(kernel, state, key_of(key_data), start, count)


def _key_of_chain(key_data: jax.Array, number: jax.Array) -> jax.Array:
    return jax.random.fold_in(key_of(key_data), number)


def _keys(key: jax.Array) -> jax.Array:
    """The key of the beginning of a chain or an ensemble, and that of its transitions."""
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


def _numbers(leaf: Any) -> Any:
    """A leaf of a state as numbers, which a random key is not."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _like(numbers: Any, example: Any) -> Any:
    """Numbers as the leaf that they were."""
    if jnp.issubdtype(example.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(numbers)
    return numbers


def _warn_of_idle_cores(devices: list[Any], num_chains: int) -> None:
    """Say so where chains run one after another beside idle cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if len(devices) == 1 and devices[0].platform == "cpu" and min(cores or 1, num_chains) > 1:
        warnings.warn(
            f"JAX uses one CPU core of {cores}, so the {num_chains} chains run one after another. "
            f'To use all, call jax.config.update("jax_num_cpu_devices", {cores}) before anything '
            "else uses JAX.",
            stacklevel=5,
        )


def _next_size(count: int, seconds: float) -> int:
    """How many draws the next block should have to take about the wanted time."""
    return int(np.clip(count * _SECONDS / max(seconds, 1e-6), 1, min(4 * count, _BLOCK)))
