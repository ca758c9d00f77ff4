"""A neuron that is driven by a current."""

from pathlib import Path

import numpyro.distributions as dist

import odecal
from odecal import Input, Observable, Parameter, State, System


class FitzHughNagumo(System):
    """Membrane potential and recovery of a neuron under pulses of current.

    dv/dt = v − v³/3 − w + I(t),  dw/dt = (v + a − b·w)/τ; the potential is measured with additive
    noise, and the current is known: it is held from each row of the table to the next. Source:
    FitzHugh (1961), https://doi.org/10.1016/S0006-3495(61)86902-6; the data are simulated with its
    a = 0.7, b = 0.8, τ = 12.5.
    """

    t0 = 0.0
    data = Path(__file__).parent / "data" / "fitzhugh_nagumo.csv"

    v = State(initial=dist.Normal(-1.2, 0.2), description="membrane potential")
    w = State(initial=dist.Normal(-0.6, 0.2), description="recovery")
    current = Input(interpolation=odecal.interpolation.Constant(), description="injected")

    a = Parameter(dist.TruncatedNormal(0.7, 0.3, low=0.0))
    b = Parameter(dist.TruncatedNormal(0.8, 0.3, low=0.0))
    tau = Parameter(dist.LogNormal(2.5, 0.3), description="time scale of recovery")
    sigma = Parameter(dist.HalfNormal(0.2), description="noise")

    def vector_field(self, t, y, p):
        """Excitation by the current, and slow recovery."""
        return {
            "v": y.v - y.v**3 / 3 - y.w + p.current,
            "w": (y.v + p.a - p.b * y.w) / p.tau,
        }

    potential = Observable(lambda t, y, p: odecal.noise.Normal(y.v, p.sigma))
