"""Make the simulated data of the shipped systems: `python benchmarks/simulate_data.py`."""

from pathlib import Path

import numpy as np
from odecal.systems import ExponentialDecay, Robertson

import odecal

DATA = Path(__file__).parents[1] / "systems" / "data"


def write(system: odecal.System, times: np.ndarray, values: dict[str, float], name: str) -> None:
    """Simulate one experiment and write its observables as a CSV table of five digits."""
    simulated = odecal.simulate(system, times, values, seed=1978)
    table = simulated[list(system.declaration.observables)].to_dataframe()
    table.to_csv(DATA / name, float_format="%.5g")


write(
    ExponentialDecay(),
    np.array([0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0]),
    {"k": 0.7, "y0": 1.05, "sigma": 0.04},
    "exponential_decay.csv",
)
write(
    Robertson(),
    np.array([0.1, 0.4, 1.0, 4.0, 10.0, 40.0, 100.0, 400.0, 1000.0, 4000.0, 10000.0]),
    {"k1": 0.04, "k2": 3e7, "k3": 1e4, "sigma": 0.05},
    "robertson.csv",
)
