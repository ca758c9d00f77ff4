"""Value and gradient of a log density as compiled programs, and how long they take."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from odecal._jax.trace import value_and_gradient
from odecal._model.flat import unraveller
from odecal._model.model import Model
from odecal._system.solve import Solve

Scalar = Float[Array, ""]
ValueAndGradient = tuple[Scalar, Float[Array, " dim"]]
# Of a position and a factor of the tolerances: the log density and its gradient.
Gradient = Callable[[jax.Array, jax.Array], ValueAndGradient]


def logdensity_of(model: Model, solve: Solve) -> Callable[[jax.Array, jax.Array], Scalar]:
    """The log density of a position, with the tolerances of a solve times a factor."""
    _, unravel = unraveller(jax.eval_shape(model.unconstrain, model.site_shapes))

    def logdensity(x: jax.Array, factor: jax.Array) -> Scalar:
        return replace(model, solve=solve.scaled(factor)).logdensity_fn(unravel(x))

    return logdensity


def gradient_of(model: Model, adjoint: Any) -> Gradient:
    """Value and gradient by one adjoint."""
    solve = replace(model.solve, adjoint=adjoint)
    logdensity = logdensity_of(model, solve)

    def gradient(x: jax.Array, factor: jax.Array) -> ValueAndGradient:
        return value_and_gradient(lambda x: logdensity(x, factor), solve.forward_mode)(x)

    return gradient


def repeated(gradient: Gradient) -> Callable[..., ValueAndGradient]:
    """A gradient computed several times in one program, as a chain computes it.

    Started from Python, a program of some microseconds takes a hundred. The zero is one that the
    compiler does not know, by which each time depends on the one before.
    """

    def repeat(
        x: jax.Array, factor: jax.Array, times: jax.Array, zero: jax.Array
    ) -> ValueAndGradient:
        def once(_: jax.Array, last: ValueAndGradient) -> ValueAndGradient:
            return gradient(x + zero * last[1], factor)

        shapes = jax.eval_shape(gradient, x, factor)
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, times, once, start)

    return repeat


def relative_error(gradient: Any, reference: Float[np.ndarray, " dim"]) -> float:
    """‖g − g_ref‖ / ‖g_ref‖; not a number where there is no gradient."""
    norm = float(np.linalg.norm(reference))
    error = float(np.linalg.norm(gradient - reference)) / norm if norm > 0 else float("nan")
    return error if np.isfinite(error) else float("nan")


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled program, for how long it was traced and compiled, and its `peak_memory`."""

    program: Any
    seconds: float
    memory: float


def compiled(function: Callable[..., Any], *examples: Any) -> Compiled:
    """Compile a function for arguments like the examples."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*examples).compile()
    return Compiled(program, time.perf_counter() - began, peak_memory(program))


def compiled_gradient(gradient: Gradient, x: Float[np.ndarray, " dim"]) -> Compiled:
    """Compile a [`repeated`][odecal._inference.timing.repeated] gradient for a position."""
    return compiled(repeated(gradient), x, 1.0, 1, 0.0)


def peak_memory(program: Any) -> float:
    """The bytes that a compiled program needs beside its arguments, by XLA's own analysis."""
    analysis = program.memory_analysis()
    if analysis is None:
        return float("nan")
    # On a CPU the temporaries can read 0 where the peak has the figure.
    figures = [getattr(analysis, f"{name}_in_bytes", 0) for name in ("temp_size", "peak_memory")]
    return float(max(figures)) or float("nan")


@dataclass(eq=False)
class Timer:
    """Times runs of programs, until a budget of seconds is spent."""

    budget: float
    spent: float = 0.0
    # Of every run, under the key of what was run.
    seconds: dict[Hashable, list[float]] = field(default_factory=dict)

    def run(self, key: Hashable, program: Any, *args: Any, parts: int = 1) -> Any:
        """Run once, and keep the time of one of its equal parts; None if the budget is spent."""
        if self.spent >= self.budget:
            return None
        began = time.perf_counter()
        result = jax.block_until_ready(program(*args))
        seconds = time.perf_counter() - began
        self.spent += seconds
        self.seconds.setdefault(key, []).append(seconds / parts)
        return result

    def gradient(
        self, key: Hashable, compiled: Compiled, x: Any, factor: float, repeats: int
    ) -> ValueAndGradient | None:
        """Time a compiled gradient, computed as often each time as takes about a millisecond.

        Returns what it gives at its first run; None if the budget was spent before.
        """
        first = self.run((key, "first"), compiled.program, x, factor, 1, 0.0)
        seconds = self.median((key, "first"))
        times = int(np.clip(1e-3 / seconds, 1, 20)) if seconds > 0 else 1
        for _ in range(repeats):
            self.run(key, compiled.program, x, factor, times, 0.0, parts=times)
        return first

    def median(self, key: Hashable) -> float:
        """The median time under a key, not a number where there is none."""
        return float(np.median(self.seconds[key])) if key in self.seconds else float("nan")

    def median_of_all(self) -> float:
        """The median over keys of their median times, not a number where there are none."""
        return float(np.median([*map(self.median, self.seconds)] or np.nan))
