"""Theophylline by mouth: one compartment, of which every subject has one of its own."""

from pathlib import Path

import jax.numpy as jnp
import numpyro.distributions as dist

import odecal
from odecal import Derived, Observable, Parameter, State, System


class Theophylline(System):
    """One compartment with first-order absorption and elimination, for twelve subjects.

    dA/dt = −ka·A,  dX/dt = ka·A − CL/V·X; the concentration X/V is measured with additive noise.
    Absorption, clearance and volume are log-normal over subjects, independent of one another.
    Model: Pinheiro and Bates (1995), https://doi.org/10.1080/10618600.1995.10474663, in the form
    that is fitted with clearances and volumes in L/h and L; data: Boeckmann, Sheiner and Beal
    (1994), NONMEM Users Guide V.
    """

    time_unit = "h"
    individual = "ID"
    ignored_columns = ("WT",)
    t0 = 0.0
    data = Path(__file__).parent / "data" / "theophylline.csv"

    gut = State(initial=0.0, unit="mg", description="not yet absorbed")
    central = State(initial=0.0, unit="mg", description="in the body")

    ka = Parameter.varying(
        "ID",
        location=dist.Normal(0.0, 1.0),
        scale=dist.HalfNormal(1.0),
        link="log",
        unit="1/h",
        description="absorption rate",
    )
    clearance = Parameter.varying(
        "ID",
        location=dist.Normal(1.0, 1.0),
        scale=dist.HalfNormal(1.0),
        link="log",
        unit="L/h",
    )
    volume = Parameter.varying(
        "ID",
        location=dist.Normal(3.5, 1.0),
        scale=dist.HalfNormal(1.0),
        link="log",
        unit="L",
        description="of distribution",
    )
    sigma = Parameter(dist.HalfNormal(2.0), unit="mg/L", description="noise")

    def vector_field(self, t, y, p):
        """From the gut into the body, and out of it."""
        absorbed = p.ka * y.gut
        return {"gut": -absorbed, "central": absorbed - p.clearance / p.volume * y.central}

    concentration = Observable(
        lambda t, y, p: odecal.noise.Normal(y.central / p.volume, p.sigma), unit="mg/L"
    )
    half_life = Derived(lambda p: jnp.log(2.0) * p.volume / p.clearance, unit="h")
