"""POLLU: the chemistry of air pollution, 20 species and 25 reactions, stiff.

Source: Verwer (1994), https://doi.org/10.1137/0915076. Reaction rates, initial values and the
solution at 60 min that `check` compares with: the test set for initial value problem solvers,
Mazzia and Magherini (2008), https://archimede.uniba.it/~testset/.
"""

from typing import ClassVar

import diffrax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optimistix

import odecal
from odecal import Observable, Parameter, Solve, State, System

RATES = np.array(
    [
        *(0.35, 26.6, 1.23e4, 8.6e-4, 8.2e-4, 1.5e4, 1.3e-4, 2.4e4, 1.65e4, 9.0e3, 0.022, 1.2e4),
        *(1.88, 1.63e4, 4.8e6, 3.5e-4, 0.0175, 1.0e8, 4.44e11, 1240.0, 2.1, 5.78, 0.0474, 1780.0),
        3.12,
    ]
)
START = np.zeros(20)
START[[1, 3, 6, 7, 8, 16]] = 0.2, 0.04, 0.1, 0.3, 0.01, 0.007
# Reactants and products of each reaction, by the number of the species; repeated where two form.
REACTIONS = (
    *(((1,), (2, 3)), ((2, 4), (1,)), ((5, 2), (1, 6)), ((7,), (5, 5, 8)), ((7,), (8,))),
    *(((7, 6), (5, 8)), ((9,), (5, 8, 10)), ((9, 6), (11,)), ((11, 2), (1, 10, 12))),
    *(((11, 1), (13,)), ((13,), (1, 11)), ((10, 2), (1, 14)), ((14,), (5, 7)), ((1, 6), (15,))),
    *(
        ((3,), (4,)),
        ((4,), (16,)),
        ((4,), (3,)),
        ((16,), (6, 6)),
        ((16,), (3,)),
        ((17, 6), (5, 18)),
    ),
    *(((19,), (2,)), ((19,), (1, 3)), ((1, 4), (19,)), ((19, 1), (20,)), ((20,), (1, 19))),
)
# At 60 min: NO2, NO, O3P and O3.
SOLUTION = (0.5646255480022769e-1, 0.1342484130422339, 0.4139734331099427e-8, 0.5523140207484359e-2)


def _stoichiometry() -> np.ndarray:
    change = np.zeros((20, 25))
    for j, (reactants, products) in enumerate(REACTIONS):
        for i in reactants:
            change[i - 1, j] -= 1
        for i in products:
            change[i - 1, j] += 1
    return change


CHANGE = _stoichiometry()


class Pollu(System):
    """dy/dt = S v(y), with mass-action rates v."""

    coords: ClassVar = {
        "species": [f"y{i}" for i in range(1, 21)],
        "reaction": [f"k{j}" for j in range(1, 26)],
    }
    time_unit = "min"
    t0 = 0.0
    solve = Solve(
        solver=diffrax.Kvaerno5(root_finder=optimistix.Newton(rtol=1e-8, atol=1e-12)),
        rtol=1e-6,
        atol=1e-10,
        max_steps=512,
    )

    y = State(initial=START, dims="species")
    k = Parameter(dist.LogNormal(np.log(RATES), 0.1), dims="reaction")

    def vector_field(self, t, y, p):
        """Mass action."""
        y = y.y
        v = jnp.stack([jnp.prod(jnp.stack([y[i - 1] for i in r])) for r, _ in REACTIONS])
        return {"y": CHANGE @ (p.k * v)}

    measured = Observable(lambda t, y, p: odecal.noise.Normal(y.y, 0.01), dims="species")


def check() -> float:
    """The largest relative difference from the published solution at 60 min."""
    found = odecal.simulate(Pollu(), [60.0], {"k": RATES})
    return float(np.max(np.abs(found.y.values[-1, :4] / SOLUTION - 1)))
