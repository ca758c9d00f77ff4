"""A law with no derivative at zero, of a drug that is not there until its dose."""

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from odecal.adjoints import ExplicitForward

import odecal
from odecal import Dosing, Observable, Parameter, State, System
from odecal._inference.timing import gradient_of
from odecal._model.flat import flatten


class Hill(System):
    time_unit = "h"
    t0 = 0.0

    c = State(initial=0.0, unit="mg", dosing=Dosing())
    e = State(initial=0.0)
    k = Parameter(dist.LogNormal(-1.0, 0.3))
    ec50 = Parameter(dist.LogNormal(0.0, 0.3))
    h = Parameter(dist.LogNormal(-0.5, 0.2))

    def vector_field(self, t, y, p):
        x = (y.c / p.ec50) ** p.h
        return {"c": -p.k * y.c, "e": x / (1 + x) - 0.5 * y.e}

    effect = Observable(lambda t, y, p: odecal.noise.Normal(y.e, 0.1))


def test_a_power_of_no_drug_has_gradients():
    times = np.arange(8.0)
    rows = pd.DataFrame({"ID": 1, "TIME": times, "EVID": 0, "AMT": np.nan, "DV": 0.1 * times})
    dose = pd.DataFrame({"ID": [1], "TIME": [2.5], "EVID": [1], "AMT": [4.0], "DV": [np.nan]})
    table = pd.concat([rows, dose]).sort_values("TIME").reset_index(drop=True).assign(CMT="c")
    model = odecal.compile(Hill(), table, odecal.Solve(rtol=1e-9, atol=1e-11))
    with model.precision():
        x = np.asarray(flatten(model).target.sample_prior(jax.random.key(0)))
        program = jax.jit(gradient_of(model, ExplicitForward()))
        gradient = np.asarray(program(x, 1.0)[1])
        around = [
            (program(x + e, 1.0)[0] - program(x - e, 1.0)[0]) / 2e-4 for e in 1e-4 * np.eye(3)
        ]
    np.testing.assert_allclose(gradient, around, rtol=1e-4, atol=1e-4)
