"""A signalling cascade with 17 unknowns, declared for odecal."""

import jax.numpy as jnp
import numpyro.distributions as dist

import odecal
from odecal import Observable, Parameter, State, System
from peers.problems import PROBLEMS


class Cascade(System):
    """Three kinases, each switched on by the one before, and a product of the last.

    The stimulus fades as exp(−fading·t), and the third kinase holds back the first:

        dx1/dt = on_1·exp(−fading·t)·(1 − x1)/(1 + feedback·x3) − off_1·x1
        dx2/dt = on_2·x1·(1 − x2) − off_2·x2
        dx3/dt = on_3·x2·(1 − x3) − off_3·x3
        dproduct/dt = synthesis·x3 − loss·product

    with x the active fractions. Blots measure them on scales of their own; noise is log-normal.
    After Huang and Ferrell (1996), https://doi.org/10.1073/pnas.93.19.10078, and Kholodenko (2000),
    https://doi.org/10.1046/j.1432-1327.2000.01197.x. The data are simulated.
    """

    time_unit = "min"
    t0 = 0.0
    data = PROBLEMS["cascade"].table

    x1 = State(initial=0.0)
    x2 = State(initial=0.0)
    x3 = State(initial=0.0)
    product = State(initial=0.0, unit="nmol/L")

    fading = Parameter(dist.LogNormal(-2.0, 0.3), unit="1/min")
    on_1 = Parameter(dist.LogNormal(0.0, 0.3), unit="1/min")
    off_1 = Parameter(dist.LogNormal(-1.0, 0.3), unit="1/min")
    feedback = Parameter(dist.LogNormal(1.0, 0.3))
    on_2 = Parameter(dist.LogNormal(0.0, 0.3), unit="1/min")
    off_2 = Parameter(dist.LogNormal(-1.0, 0.3), unit="1/min")
    on_3 = Parameter(dist.LogNormal(0.0, 0.3), unit="1/min")
    off_3 = Parameter(dist.LogNormal(-1.0, 0.3), unit="1/min")
    synthesis = Parameter(dist.LogNormal(0.5, 0.3), unit="nmol/(L min)")
    loss = Parameter(dist.LogNormal(-1.5, 0.3), unit="1/min")
    scale_1 = Parameter(dist.LogNormal(0.0, 0.1), unit="a.u.")
    scale_2 = Parameter(dist.LogNormal(0.0, 0.1), unit="a.u.")
    scale_3 = Parameter(dist.LogNormal(0.0, 0.1), unit="a.u.")
    sigma_1 = Parameter(dist.LogNormal(-2.0, 0.5))
    sigma_2 = Parameter(dist.LogNormal(-2.0, 0.5))
    sigma_3 = Parameter(dist.LogNormal(-2.0, 0.5))
    sigma_product = Parameter(dist.LogNormal(-2.0, 0.5))

    def vector_field(self, t, y, p):
        """On by the one before, off by itself."""
        stimulus = jnp.exp(-p.fading * t) / (1.0 + p.feedback * y.x3)
        return {
            "x1": p.on_1 * stimulus * (1.0 - y.x1) - p.off_1 * y.x1,
            "x2": p.on_2 * y.x1 * (1.0 - y.x2) - p.off_2 * y.x2,
            "x3": p.on_3 * y.x2 * (1.0 - y.x3) - p.off_3 * y.x3,
            "product": p.synthesis * y.x3 - p.loss * y.product,
        }

    blot_1 = Observable(
        lambda t, y, p: odecal.noise.LogNormal(p.scale_1 * y.x1, p.sigma_1), unit="a.u."
    )
    blot_2 = Observable(
        lambda t, y, p: odecal.noise.LogNormal(p.scale_2 * y.x2, p.sigma_2), unit="a.u."
    )
    blot_3 = Observable(
        lambda t, y, p: odecal.noise.LogNormal(p.scale_3 * y.x3, p.sigma_3), unit="a.u."
    )
    product_level = Observable(
        lambda t, y, p: odecal.noise.LogNormal(y.product, p.sigma_product), unit="nmol/L"
    )
