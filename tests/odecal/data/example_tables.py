"""Systems that are not solved here and a table of one, and how tests of tables read and refuse."""

import numpyro.distributions as dist
import pandas as pd
import pytest

from odecal import Observable, ObservationError, Observations, Parameter, State, System
from odecal._data.observations import read_experiment

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


def read(data, system=Two, **more):
    """The experiment of a table and a system, or a class of one; more is for `Observations`."""
    system = system() if isinstance(system, type) else system
    return read_experiment(Observations(data, **more) if more else data, system.declaration)


def refuse(data, pattern, system=Two, **more):
    """Expect that a table is refused with a message."""
    with pytest.raises(ObservationError, match=pattern):
        read(data, system, **more)


def subclass(name, base, **attributes):
    """A class of systems with some parts more than another."""
    return type(name, (base,), attributes)
