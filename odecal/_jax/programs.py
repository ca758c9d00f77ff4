"""Compiled programs: over all devices, and compiled in the background."""

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from odecal._jax.backend import on_cpu
from odecal._jax.trace import trace


class Program:
    """A program that is being compiled; calling it waits until it is."""

    def __init__(self, compiling: "Future[Any]", shape: Any) -> None:
        self._compiling = compiling
        self.shape = shape  # the shapes and types of its results

    def wait(self) -> None:
        """Wait until it is compiled."""
        self._compiling.result()

    def __call__(self, *args: Any) -> Any:
        """Run the program on arguments of the shapes that it was compiled for."""
        return self._compiling.result()(*args)


class Compiler:
    """Compiles programs side by side, in threads, while the main thread goes on tracing.

    XLA compiles without Python's lock, so what one program's compilation takes is another's, too.
    To be used as a context, which waits for nothing when it is left in haste.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(thread_name_prefix="odecal-compile")
        self._spans: list[tuple[float, float]] = []
        self._futures: list[Future[Any]] = []

    def __enter__(self) -> "Compiler":
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=error[0] is not None)
        if error[0] is not None:
            atexit.register(_leave, self._futures)

    def __call__(self, function: Any, *examples: Any) -> Program:
        """Trace a jitted program for examples of arguments, and compile it in the background."""
        began = time.perf_counter()
        lowered = function.lower(*examples)
        self._spans.append((began, time.perf_counter()))
        shape = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), lowered.out_info)
        self._futures.append(self._threads.submit(self._compile, lowered))
        return Program(self._futures[-1], shape)

    def _compile(self, lowered: Any) -> Any:
        began = time.perf_counter()
        compiled = lowered.compile()
        self._spans.append((began, time.perf_counter()))
        return compiled

    @property
    def seconds(self) -> float:
        """For how long, so far, something was being traced or compiled."""
        total = last = 0.0
        for start, end in sorted(self._spans):
            total += max(0.0, end - max(start, last))
            last = max(last, end)
        return total


def _leave(compiling: "list[Future[Any]]") -> None:
    """End the process at once if something is still being compiled when Python ends.

    Which waits for threads, unless a second Ctrl-C ends that: to go on and take the interpreter
    down while one runs XLA would abort the process.
    """
    if any(future.running() for future in compiling):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + signal.SIGINT)


def padded(count: int, size: int) -> int:
    """The next multiple of a size."""
    return -(-count // size) * size


def map_or_vmap(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of many: one after another on a CPU, all at once elsewhere.

    On a CPU a batch would wait for its slowest member.
    """

    def one_after_another(*args: Any) -> Any:
        return jax.lax.map(lambda a: function(*a), args)

    return one_after_another if on_cpu() else jax.vmap(function)


def jit_sharded(
    function: Callable[..., Any], devices: list[Any], batched: int, replicated: int = 0
) -> Any:
    """Jit a function of many so that each device runs its own share in a loop of its own.

    So many of its arguments are batched: they have a leading axis to share out, a multiple of the
    number of devices, as its results have. So many after those are the same for all.
    """
    if len(devices) == 1:
        return jax.jit(function)
    axis, everywhere = jax.sharding.PartitionSpec("chain"), jax.sharding.PartitionSpec()
    mesh = jax.sharding.Mesh(np.asarray(devices), ("chain",))
    specs = (axis,) * batched + (everywhere,) * replicated

    def share(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((x.shape[0] // len(devices), *x.shape[1:]), x.dtype)

    def on_mesh(*args: Any) -> Any:
        local = (*jax.tree.map(share, args[:batched]), *args[batched:])
        traced = trace(function, *local)
        sharded = jax.shard_map(traced, mesh=mesh, in_specs=specs, out_specs=axis, check_vma=False)
        return sharded(*args)

    shardings = tuple(jax.sharding.NamedSharding(mesh, spec) for spec in specs)
    return jax.jit(on_mesh, in_shardings=shardings, out_shardings=shardings[0])


def shapes(*args: Any) -> Any:
    """The shapes and types of arguments, as examples of them."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
