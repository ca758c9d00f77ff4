"""A drug's way through the body and its effect; and Lorenz's equations."""

import jax.numpy as jnp
import numpyro.distributions as dist

import odecal
from odecal import Observable, Parameter, Solve, State, System


class IndirectResponse(System):
    """An oral dose of 100 mg whose concentration holds back the making of a response.

    Absorption and elimination of first order; kin (1 − Imax C / (IC50 + C)) − kout R. Source:
    Dayneka, Garg and Jusko (1993), https://doi.org/10.1007/BF01061691.
    """

    time_unit = "h"
    solve = Solve(max_steps=512)
    depot = State(initial=100.0, unit="mg")
    central = State(initial=0.0, unit="mg")
    response = State(initial=lambda p: p.kin / p.kout)
    ka = Parameter(dist.LogNormal(0.0, 0.3))
    clearance = Parameter(dist.LogNormal(1.0, 0.3))
    volume = Parameter(dist.LogNormal(3.0, 0.3))
    kin = Parameter(dist.LogNormal(2.0, 0.3))
    kout = Parameter(dist.LogNormal(-1.0, 0.3))
    imax = Parameter(dist.Beta(8.0, 2.0))
    ic50 = Parameter(dist.LogNormal(0.0, 0.3))

    def vector_field(self, t, y, p):
        """Absorption, elimination, and a response whose making is held back."""
        concentration = y.central / p.volume
        inhibition = p.imax * concentration / (p.ic50 + concentration)
        return {
            "depot": -p.ka * y.depot,
            "central": p.ka * y.depot - p.clearance * concentration,
            "response": p.kin * (1 - inhibition) - p.kout * y.response,
        }

    concentration = Observable(lambda t, y, p: odecal.noise.Normal(y.central / p.volume, 0.2))
    effect = Observable(lambda t, y, p: odecal.noise.Normal(y.response, 0.5))


class Lorenz(System):
    """Lorenz's equations, chaotic.

    Source: Lorenz (1963), https://doi.org/10.1175/1520-0469(1963)020<0130:DNF>2.0.CO;2.
    """

    solve = Solve(rtol=1e-8, atol=1e-8, max_steps=1024)
    x = State(initial=1.0)
    y = State(initial=1.0)
    z = State(initial=20.0)
    sigma = Parameter(dist.LogNormal(jnp.log(10.0).item(), 0.05))
    rho = Parameter(dist.LogNormal(jnp.log(28.0).item(), 0.05))
    beta = Parameter(dist.LogNormal(jnp.log(8 / 3).item(), 0.05))

    def vector_field(self, t, y, p):
        """Lorenz's."""
        return {
            "x": p.sigma * (y.y - y.x),
            "y": y.x * (p.rho - y.z) - y.y,
            "z": y.x * y.y - p.beta * y.z,
        }

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.x, 1.0))
