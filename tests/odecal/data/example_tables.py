"""Two systems that are not solved here, and a table of one: what tests of tables read."""

import numpyro.distributions as dist
import pandas as pd

from odecal import Observable, Parameter, State, System

AGES = {"age": ["young", "old"]}


class Two(System):
    """Two observables of one state."""

    a = State(initial=1.0)
    k = Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"a": -p.k * y.a}

    level = Observable(lambda t, y, p: dist.Normal(y.a, 1.0))
    count = Observable(lambda t, y, p: dist.Poisson(y.a))


class Vector(System):
    """One observable of two elements."""

    coords = AGES

    x = State(initial=1.0, dims="age")

    def vector_field(self, t, y, p):
        return {"x": -y.x}

    seen = Observable(lambda t, y, p: dist.Normal(y.x, 1.0), dims="age")


def table(**columns):
    """A table of `Two`, with some columns added or replaced."""
    base = {"time": [0.5, 1.0, 2.0], "level": [1.0, 2.0, 3.0], "count": [4, 5, 6]}
    return pd.DataFrame({**base, **columns})
