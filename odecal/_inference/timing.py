"""Value and gradient of a log density as compiled programs, and how long they take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from odecal._jax.trace import value_and_gradient
from odecal._model.flat import unraveller
from odecal._model.model import Model
from odecal._system.solve import Solve
from odecal.adjoints import AbstractAdjoint

# Of a position, of shape (dim,), and a factor of the tolerances: the log density and its gradient.
Gradient = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def logdensity_of(model: Model, solve: Solve) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The log density of a flat position, with the tolerances of a solve times a factor."""
    _, unravel = unraveller(jax.eval_shape(model.unconstrain, model.site_shapes))

    def logdensity(x: jax.Array, factor: jax.Array) -> jax.Array:
        return replace(model, solve=solve.scaled(factor)).logdensity_fn(unravel(x))

    return logdensity


def gradient_of(model: Model, adjoint: AbstractAdjoint | Any) -> Gradient:
    """Value and gradient by one adjoint."""
    solve = replace(model.solve, adjoint=adjoint)
    logdensity = logdensity_of(model, solve)

    def gradient(x: jax.Array, factor: jax.Array) -> tuple[jax.Array, jax.Array]:
        return value_and_gradient(lambda x: logdensity(x, factor), solve.forward_mode)(x)

    return gradient


def again(gradient: Gradient) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """A gradient taken several times one after the other, as a chain takes it.

    Started from Python, a program of some microseconds takes a hundred. A chain is one program.

    Args:
        gradient: the gradient.

    Returns:
        A function of a position, a factor of the tolerances, how often, and a zero that the
        compiler does not know, by which each time depends on the one before.
    """

    def repeated(
        x: jax.Array, factor: jax.Array, times: jax.Array, zero: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        def once(_: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return gradient(x + zero * found[1], factor)

        shapes = jax.eval_shape(gradient, x, factor)
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, times, once, start)

    return repeated


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled program.

    Args:
        program: the program.
        seconds: for how long it was traced and compiled.
        memory: the bytes it needs beside its arguments, by XLA's own analysis.
    """

    program: Any
    seconds: float
    memory: float


def compiled(function: Callable[..., Any], *examples: Any) -> Compiled:
    """Compile a function for arguments like the examples."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*examples).compile()
    return Compiled(program, time.perf_counter() - began, peak_memory(program))


def peak_memory(program: Any) -> float:
    """The bytes that a compiled program needs beside its arguments, by XLA's own analysis."""
    analysis = program.memory_analysis()
    if analysis is None:
        return float("nan")
    # On a CPU the temporaries can read 0 where the peak has the figure.
    figures = [getattr(analysis, f"{name}_in_bytes", 0) for name in ("temp_size", "peak_memory")]
    return float(max(figures)) or float("nan")


@dataclass(eq=False)
class Clock:
    """Times runs of programs, until a budget is spent.

    Args:
        budget: the seconds that they may take together.
    """

    budget: float
    spent: float = 0.0
    ticks: dict[Any, list[float]] = field(default_factory=dict)

    def run(self, key: Any, program: Any, *args: Any, parts: int = 1) -> Any:
        """Run once and keep the time of a part under a key; None if the budget is spent."""
        if self.spent >= self.budget:
            return None
        began = time.perf_counter()
        result = jax.block_until_ready(program(*args))
        seconds = time.perf_counter() - began
        self.spent += seconds
        self.ticks.setdefault(key, []).append(seconds / parts)
        return result

    def repeat(self, key: Any, program: Any, x: Any, factor: Any, repeats: int) -> Any:
        """Run a program of `again`, as often each time as takes about a millisecond.

        Returns:
            What it gives at its first run; None if the budget was spent before.
        """
        first = self.run((key, "first"), program, x, factor, 1, 0.0)
        seconds = self.median((key, "first"))
        times = int(np.clip(1e-3 / seconds, 1, 20)) if seconds > 0 else 1
        for _ in range(repeats):
            self.run(key, program, x, factor, times, 0.0, parts=times)
        return first

    def median(self, key: Any) -> float:
        """The median time under a key, not a number where there is none."""
        return float(np.median(self.ticks[key])) if key in self.ticks else float("nan")

    def typical(self) -> float:
        """The median over keys of their median times, not a number where there are none."""
        medians = [float(np.median(ticks)) for ticks in self.ticks.values()]
        return float(np.median(medians)) if medians else float("nan")
