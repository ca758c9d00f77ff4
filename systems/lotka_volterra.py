"""Predator and prey: the hares and lynx of Hudson Bay."""

from pathlib import Path

import jax.numpy as jnp
import numpyro.distributions as dist

import odecal
from odecal import Derived, Observable, Parameter, State, System


class LotkaVolterra(System):
    """Predator and prey: hares and the lynx that eat them.

    dH/dt = (birth − predation·L)·H,  dL/dt = (−death + growth·H)·L, with log-normal noise on the
    pelts traded. Model and priors: Carpenter (2018), "Predator-Prey Population Dynamics", Stan
    case studies; data: Elton and Nicholson (1942), https://doi.org/10.2307/1358.
    """

    time_unit = "year"
    time_column = "year"
    data = Path(__file__).parent / "data" / "hudson_bay.csv"

    hare = State(initial=dist.LogNormal(2.302585092994046, 1.0), unit="1e3 pelts")
    lynx = State(initial=dist.LogNormal(2.302585092994046, 1.0), unit="1e3 pelts")

    birth = Parameter(
        dist.TruncatedNormal(1.0, 0.5, low=0.0), unit="1/year", description="hare births"
    )
    predation = Parameter(
        dist.TruncatedNormal(0.05, 0.05, low=0.0),
        unit="1/(year 1e3 pelts)",
        description="hares eaten, per lynx",
    )
    death = Parameter(
        dist.TruncatedNormal(1.0, 0.5, low=0.0), unit="1/year", description="lynx deaths"
    )
    growth = Parameter(
        dist.TruncatedNormal(0.05, 0.05, low=0.0),
        unit="1/(year 1e3 pelts)",
        description="lynx births, per hare",
    )
    sigma_hare = Parameter(dist.LogNormal(-1.0, 1.0), description="noise of log hare pelts")
    sigma_lynx = Parameter(dist.LogNormal(-1.0, 1.0), description="noise of log lynx pelts")

    def vector_field(self, t, y, p):
        """Births less predation; predation less deaths."""
        return {
            "hare": (p.birth - p.predation * y.lynx) * y.hare,
            "lynx": (-p.death + p.growth * y.hare) * y.lynx,
        }

    hare_pelts = Observable(
        lambda t, y, p: odecal.noise.LogNormal(y.hare, p.sigma_hare), unit="1e3 pelts"
    )
    lynx_pelts = Observable(
        lambda t, y, p: odecal.noise.LogNormal(y.lynx, p.sigma_lynx), unit="1e3 pelts"
    )
    cycle = Derived(
        lambda p: 2 * jnp.pi / jnp.sqrt(p.birth * p.death),
        unit="year",
        description="period of small oscillations",
    )
