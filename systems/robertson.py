"""Robertson's chemical kinetics: the classical stiff system."""

from pathlib import Path

import diffrax
import numpyro.distributions as dist
import optimistix

import odecal
from odecal import Observable, Parameter, Solve, State, System


class Robertson(System):
    """Robertson's three reactions: A → B slowly, 2B → B + C very fast, B + C → A + C fast.

    dA/dt = −k1·A + k3·B·C,  dB/dt = k1·A − k2·B² − k3·B·C,  dC/dt = k2·B², with rates nine orders
    of magnitude apart: stiff, so it declares an implicit solver. Source: Robertson (1966), in
    Numerical Analysis: An Introduction; Hairer and Wanner (1996), section IV.1,
    https://doi.org/10.1007/978-3-642-05221-7. The data are simulated.
    """

    time_unit = "s"
    t0 = 0.0
    data = Path(__file__).parent / "data" / "robertson.csv"
    solve = Solve(
        solver=diffrax.Kvaerno5(root_finder=optimistix.Newton(rtol=1e-8, atol=1e-12)),
        rtol=1e-6,
        atol=1e-10,
    )

    A = State(initial=1.0, unit="mol/L")
    B = State(initial=0.0, unit="mol/L")
    C = State(initial=0.0, unit="mol/L")

    k1 = Parameter(dist.LogNormal(-3.2, 0.5), unit="1/s")
    k2 = Parameter(dist.LogNormal(17.2, 0.5), unit="L/(mol s)")
    k3 = Parameter(dist.LogNormal(9.2, 0.5), unit="L/(mol s)")
    sigma = Parameter(dist.HalfNormal(0.1), description="relative noise")

    def vector_field(self, t, y, p):
        """Mass-action kinetics."""
        slow, fastest, fast = p.k1 * y.A, p.k2 * y.B**2, p.k3 * y.B * y.C
        return {"A": -slow + fast, "B": slow - fastest - fast, "C": fastest}

    A_measured = Observable(lambda t, y, p: odecal.noise.LogNormal(y.A, p.sigma), unit="mol/L")
    B_measured = Observable(lambda t, y, p: odecal.noise.LogNormal(y.B, p.sigma), unit="mol/L")
    C_measured = Observable(lambda t, y, p: odecal.noise.LogNormal(y.C, p.sigma), unit="mol/L")
