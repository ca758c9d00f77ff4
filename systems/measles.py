"""Measles in five English towns."""

from pathlib import Path

import jax.numpy as jnp
import numpyro.distributions as dist

import odecal
from odecal import Constant, Covariate, Derived, Observable, Parameter, State, System


class Measles(System):
    """Susceptible, exposed, infectious, recovered: one epidemic in each of five towns.

    dS/dt = −λS,  dE/dt = λS − σE,  dI/dt = σE − γI,  λ = R0·γ·I/N; a part of the new infections of
    every two weeks is notified, with overdispersion. Towns share the virus, nearly (R0), and the
    reporting; each has susceptibles and a beginning of its own. What a town's data tell well is R0
    times its susceptible part, so that, `effective`, is the parameter that varies. Latent and
    infectious periods: Anderson and May (1991), Infectious Diseases of Humans, table 3.1; data:
    notifications to the Registrar General, as in Dalziel et al. (2016),
    https://doi.org/10.1371/journal.pcbi.1004655.
    """

    time_unit = "day"
    individual = "town"
    t0 = 0.0
    data = Path(__file__).parent / "data" / "measles.csv"

    population = Covariate(unit="person")
    latent_period = Constant(8.0, unit="day")
    infectious_period = Constant(5.0, unit="day")

    begun = Parameter.varying(
        "town",
        location=dist.Normal(-9.0, 1.5),
        scale=dist.HalfNormal(1.5),
        link="log",
        centring=odecal.centring.Centred(),
        description="infectious at first, of the population",
    )
    R0 = Parameter.varying(
        "town",
        location=dist.Normal(2.8, 0.2),
        scale=dist.HalfNormal(0.1),
        link="log",
        description="basic reproduction number",
    )
    susceptible_location = Parameter(
        dist.Normal(-2.7, 0.4), description="log of the susceptible part of a typical town"
    )
    effective = Parameter.varying(
        "town",
        location=lambda p: p.susceptible_location + jnp.log(p.R0),
        scale=dist.LogNormal(-1.6, 0.5),
        link="log",
        centring=odecal.centring.Centred(),
        description="reproduction number at first",
    )
    reported = Parameter(dist.Beta(20.0, 20.0), description="part of infections that is notified")
    dispersion = Parameter(dist.Exponential(5.0), description="overdispersion of the counts")

    susceptible = State(initial=lambda p: p.population * p.effective / p.R0, unit="person")
    infectious = State(initial=lambda p: p.population * p.begun, unit="person")
    exposed = State(
        initial=lambda p: p.infectious0 * p.latent_period / p.infectious_period, unit="person"
    )

    def vector_field(self, t, y, p):
        """New infections, the end of latency, recovery."""
        force = p.R0 / p.infectious_period * y.infectious / p.population
        infections = force * y.susceptible
        onsets = y.exposed / p.latent_period
        return {
            "susceptible": -infections,
            "infectious": onsets - y.infectious / p.infectious_period,
            "exposed": infections - onsets,
        }

    cases = Observable(
        lambda t, y, p, last: odecal.noise.NegativeBinomial(
            p.reported * (last.y.susceptible - y.susceptible), overdispersion=p.dispersion
        ),
        unit="person",
        description="notified in two weeks",
    )
    susceptible_part = Derived(
        lambda p: jnp.asarray(p.effective / p.R0),
        description="susceptible at first, of the population",
    )
