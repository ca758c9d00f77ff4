"""Make the data of the cascade: `python -m peers.simulate_cascade`, in `benchmarks/`."""

import numpy as np

import odecal
from peers.cascade import Cascade

TRUTH = {
    **{"fading": 0.1, "on_1": 1.5, "off_1": 0.5, "feedback": 3.0},
    **{"on_2": 1.2, "off_2": 0.4, "on_3": 0.8, "off_3": 0.3, "synthesis": 2.0, "loss": 0.2},
    **{"scale_1": 1.1, "scale_2": 0.95, "scale_3": 1.0},
    **{"sigma_1": 0.15, "sigma_2": 0.15, "sigma_3": 0.15, "sigma_product": 0.15},
}

if __name__ == "__main__":
    times = np.concatenate([np.arange(0.5, 8.0, 0.5), np.arange(8.0, 23.0, 1.0)])
    simulated = odecal.simulate(Cascade(), times, TRUTH, seed=1996)
    table = simulated[list(Cascade().declaration.observables)].to_dataframe()
    table.to_csv(Cascade.data, float_format="%.5g")
