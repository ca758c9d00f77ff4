"""The Brusselator on a grid, and linear systems, of any size."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import odecal
from odecal import Observable, Parameter, Solve, State, System


def brusselator(n: int) -> System:
    """The Brusselator on an n × n grid with periodic ends: 2 n² states, 4 n² parameters.

    du/dt = a + u² v − (b + 1) u + c Δu,  dv/dt = b u − u² v + d Δv, every cell with rates of its
    own; Δ is the difference from the mean of four neighbours, times four. Source: Prigogine and
    Lefever (1968), https://doi.org/10.1063/1.1668896.
    """
    rows, columns = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    u0, v0 = 1 + np.sin(2 * np.pi * rows / n) / 2, 3 + np.cos(2 * np.pi * columns / n)

    def spread(x):
        around = [jnp.roll(x, step, axis) for step in (-1, 1) for axis in (0, 1)]
        return sum(around) - 4 * x

    class Brusselator(System):
        """See above."""

        coords: ClassVar = {"row": list(range(n)), "column": list(range(n))}
        solve = Solve(max_steps=512)
        u = State(initial=u0, dims=("row", "column"))
        v = State(initial=v0, dims=("row", "column"))
        a = Parameter(dist.LogNormal(0.0, 0.1), dims=("row", "column"))
        b = Parameter(dist.LogNormal(1.0, 0.1), dims=("row", "column"))
        c = Parameter(dist.LogNormal(-1.0, 0.1), dims=("row", "column"))
        d = Parameter(dist.LogNormal(-1.0, 0.1), dims=("row", "column"))

        def vector_field(self, t, y, p):
            made = y.u**2 * y.v
            return {
                "u": p.a + made - (p.b + 1) * y.u + p.c * spread(y.u),
                "v": p.b * y.u - made + p.d * spread(y.v),
            }

        measured = Observable(lambda t, y, p: odecal.noise.Normal(y.u, 0.1), dims=("row", "column"))

    return Brusselator()


def linear(n: int) -> System:
    """A ring of n cells that decay and pass on: n states, n parameters.

    dy_i/dt = k_{i−1} y_{i−1} − k_i y_i − y_i / 10.
    """

    class Ring(System):
        """See above."""

        coords: ClassVar = {"cell": list(range(n))}
        solve = Solve(max_steps=512)
        y = State(initial=1 + np.arange(n) / n, dims="cell")
        k = Parameter(dist.LogNormal(0.0, 0.3), dims="cell")

        def vector_field(self, t, y, p):
            passed = p.k * y.y
            return {"y": jnp.roll(passed, 1) - passed - 0.1 * y.y}

        measured = Observable(lambda t, y, p: odecal.noise.Normal(y.y, 0.1), dims="cell")

    return Ring()
