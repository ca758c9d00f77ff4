"""Make the simulated data of the shipped systems: `python benchmarks/simulate_data.py`."""

from pathlib import Path

import numpy as np
import pandas as pd
from odecal.systems import ExponentialDecay, FitzHughNagumo, Robertson

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

# Pulses of current of rising strength, of which the later ones make the neuron fire.
times = np.arange(0.0, 160.0, 4.0)
strength = 0.2 * np.floor(times / 40.0) + 0.2
current = np.where(times % 40.0 < 16.0, strength, 0.0)
pulses = odecal.simulate(
    FitzHughNagumo(),
    design=pd.DataFrame({"time": times, "current": current, "potential": 0.0}),
    values={"v0": -1.2, "w0": -0.62, "a": 0.7, "b": 0.8, "tau": 12.5, "sigma": 0.1},
    seed=1961,
)
pulses.to_csv(DATA / "fitzhugh_nagumo.csv", index=False, float_format="%.5g")
