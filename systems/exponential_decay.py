"""First-order decay: the smallest system there is, with an answer known by quadrature."""

from pathlib import Path

import jax.numpy as jnp
import numpyro.distributions as dist

import odecal
from odecal import Derived, Observable, Parameter, State, System


class ExponentialDecay(System):
    """First-order decay: dy/dt = −k·y, observed with Gaussian noise.

    Its solution is y(t) = y0·exp(−k·t). The data are simulated.
    """

    time_unit = "h"
    t0 = 0.0
    data = Path(__file__).parent / "data" / "exponential_decay.csv"

    y = State(initial=dist.Normal(1.0, 0.1), unit="mg/L", description="concentration")
    k = Parameter(dist.LogNormal(0.0, 1.0), unit="1/h", description="decay rate")
    sigma = Parameter(dist.HalfNormal(0.1), unit="mg/L", description="measurement noise")

    def vector_field(self, t, y, p):
        """Decay in proportion to what is left."""
        return {"y": -p.k * y.y}

    y_measured = Observable(lambda t, y, p: odecal.noise.Normal(y.y, p.sigma), unit="mg/L")
    half_life = Derived(lambda p: jnp.log(2.0) / p.k, unit="h")
