"""Influenza in an English boarding school, 1978."""

from pathlib import Path

import numpyro.distributions as dist

import odecal
from odecal import Constant, Derived, Observable, Parameter, State, System


class SIR(System):
    """Susceptible, infectious, recovered: influenza in a boarding school, 1978.

    dS/dt = −β·S·I/N,  dI/dt = β·S·I/N − γ·I,  dR/dt = γ·I; the boys in bed are counted, with
    overdispersion. Model and priors: Grinsztajn, Semenova, Margossian and Riou (2021),
    https://doi.org/10.1002/sim.9164; data: British Medical Journal (1978),
    https://doi.org/10.1136/bmj.1.6112.586.
    """

    time_unit = "day"
    time_column = "t_day"
    ignored_columns = ("date",)
    t0 = 0.0
    data = Path(__file__).parent / "data" / "boarding_school.csv"

    population = Constant(763.0, unit="person", description="pupils")
    infectious = State(initial=1.0, unit="person")
    susceptible = State(initial=lambda p: p.population - p.infectious0, unit="person")
    recovered = State(initial=0.0, unit="person")

    beta = Parameter(
        dist.TruncatedNormal(2.0, 1.0, low=0.0), unit="1/day", description="transmission rate"
    )
    gamma = Parameter(
        dist.TruncatedNormal(0.4, 0.5, low=0.0), unit="1/day", description="recovery rate"
    )
    phi_inv = Parameter(dist.Exponential(5.0), description="overdispersion of the counts")

    def vector_field(self, t, y, p):
        """New infections move from S to I, recoveries from I to R."""
        infections = p.beta * y.susceptible * y.infectious / p.population
        recoveries = p.gamma * y.infectious
        return {
            "susceptible": -infections,
            "infectious": infections - recoveries,
            "recovered": recoveries,
        }

    in_bed = Observable(
        lambda t, y, p: odecal.noise.NegativeBinomial(y.infectious, overdispersion=p.phi_inv),
        unit="person",
        description="boys confined to bed",
    )
    R0 = Derived(lambda p: p.beta / p.gamma, description="basic reproduction number")
    recovery_time = Derived(lambda p: 1.0 / p.gamma, unit="day")
