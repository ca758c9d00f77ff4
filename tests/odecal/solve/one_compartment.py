"""A system that takes doses of every kind, and how what is seen of it moves with its parameters."""

import numpyro.distributions as dist

import odecal
from odecal import Dosing, Observable, Parameter, State, System


class Oral(System):
    """One compartment, by mouth or into the vein."""

    individual = "ID"
    t0 = 0.0
    ka = Parameter(dist.LogNormal(0.0, 1.0))
    k = Parameter(dist.LogNormal(-1.0, 1.0))
    lag = Parameter(dist.LogNormal(-1.0, 1.0))
    part = Parameter(dist.Beta(2.0, 2.0))
    rate = Parameter(dist.LogNormal(3.0, 1.0))
    lasts = Parameter(dist.LogNormal(0.0, 1.0))
    gut = State(initial=0.0, dosing=Dosing(lag=lambda p: p.lag, bioavailability=lambda p: p.part))
    body = State(initial=0.0, dosing=Dosing(rate=lambda p: p.rate, duration=lambda p: p.lasts))

    def vector_field(self, t, y, p):
        absorbed = p.ka * y.gut
        return {"gut": -absorbed, "body": absorbed - p.k * y.body}

    seen = Observable(lambda t, y, p: odecal.noise.Normal(y.body, 1.0))


def slopes(of, p, h=1e-5):
    """By each parameter, by central differences."""
    return {
        name: (of(p | {name: x + h}) - of(p | {name: x - h})) / (2 * h) for name, x in p.items()
    }
