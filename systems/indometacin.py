"""Indometacin into a vein: two compartments, of which every subject has some of its own."""

from pathlib import Path

import jax.numpy as jnp
import numpyro.distributions as dist

import odecal
from odecal import Derived, Observable, Parameter, State, System


class Indometacin(System):
    """Two compartments after an injection of 25 mg, for six subjects.

    dX/dt = −(CL + Q)/V1·X + Q/V2·Y,  dY/dt = Q/V1·X − Q/V2·Y; the concentration X/V1 is measured
    with log-normal noise. Data: Kwan, Breault, Umbenhauer, McMahon and Duggan (1976),
    https://doi.org/10.1007/BF01063617.
    """

    time_unit = "h"
    individual = "ID"
    t0 = 0.0
    data = Path(__file__).parent / "data" / "indometacin.csv"

    central = State(initial=0.0, unit="mg", description="in blood")
    peripheral = State(initial=0.0, unit="mg", description="in tissue")

    clearance = Parameter.varying(
        "ID",
        location=dist.Normal(2.0, 1.0),
        scale=dist.HalfNormal(0.5),
        link="log",
        unit="L/h",
    )
    central_volume = Parameter.varying(
        "ID", location=dist.Normal(2.0, 1.0), scale=dist.HalfNormal(0.5), link="log", unit="L"
    )
    exchange = Parameter.varying(
        "ID",
        location=dist.Normal(2.0, 1.0),
        scale=dist.HalfNormal(0.5),
        link="log",
        unit="L/h",
        description="clearance between the compartments",
    )
    peripheral_volume = Parameter.varying(
        "ID", location=dist.Normal(2.5, 1.0), scale=dist.HalfNormal(0.5), link="log", unit="L"
    )
    sigma = Parameter(dist.HalfNormal(0.5), description="noise of the log concentration")

    def vector_field(self, t, y, p):
        """Out of the blood for good, or into tissue and back."""
        there = p.exchange / p.central_volume * y.central
        back = p.exchange / p.peripheral_volume * y.peripheral
        gone = p.clearance / p.central_volume * y.central
        return {"central": back - there - gone, "peripheral": there - back}

    concentration = Observable(
        lambda t, y, p: odecal.noise.LogNormal(y.central / p.central_volume, p.sigma), unit="mg/L"
    )
    steady_volume = Derived(
        lambda p: p.central_volume + p.peripheral_volume,
        unit="L",
        description="of distribution at steady state",
    )
    mean_residence = Derived(
        lambda p: jnp.asarray((p.central_volume + p.peripheral_volume) / p.clearance), unit="h"
    )
