"""Data of a population after one oral dose each: `python -m peers.population N SEED FILE`.

To be run in `benchmarks/`. Sampling times are those of the theophylline study (Boeckmann, Sheiner,
Beal 1994; R's `datasets::Theoph`), and the true values are about what is found there.
"""

import sys

import numpy as np
import pandas as pd

TIMES = np.array([0.0, 0.25, 0.57, 1.12, 2.02, 3.82, 5.1, 7.03, 9.05, 12.12, 24.37])  # h
JITTER = 0.03  # of a sampling time, relative
DOSE = 320.0  # mg
TRUTH = {
    **{"m_ka": 0.45, "m_cl": 1.0, "m_v": 3.45},  # of log ka (1/h), log CL (L/h), log V (L)
    **{"s_ka": 0.6, "s_cl": 0.25, "s_v": 0.13, "sigma": 0.7},  # sigma in mg/L
}


def simulate(num_subjects: int, seed: int) -> pd.DataFrame:
    """Simulate concentrations by the closed form of the one-compartment model.

    With ke = CL/V, and ka, CL and V log-normal over subjects,

        C(t) = dose·ka/(V·(ka − ke))·(exp(−ke·t) − exp(−ka·t)) + normal noise of sd sigma.

    The noise is additive, so that some values are negative. With the same seed, the subjects of a
    small population are the first of a large one.

    Args:
        num_subjects: number of subjects.
        seed: the random seed.

    Returns:
        A row for every sample, with columns subject (from 1), time (h), dose (mg) and
        concentration (mg/L).
    """
    num_times = len(TIMES)
    z = np.random.default_rng(seed).standard_normal((num_subjects, 3 + 2 * num_times))
    effects, of_times, noise = np.split(z, [3, 3 + num_times], axis=1)
    means = np.array([TRUTH["m_ka"], TRUTH["m_cl"], TRUTH["m_v"]])
    sds = np.array([TRUTH["s_ka"], TRUTH["s_cl"], TRUTH["s_v"]])
    ka, cl, v = np.exp(means + sds * effects).T[:, :, None]
    ke = cl / v
    times = TIMES * (1.0 + JITTER * of_times)  # 0 stays 0
    exact = DOSE * ka / (v * (ka - ke)) * (np.exp(-ke * times) - np.exp(-ka * times))
    return pd.DataFrame(
        {
            "subject": np.repeat(np.arange(1, num_subjects + 1), num_times),
            "time": times.ravel(),
            "dose": DOSE,
            "concentration": (exact + TRUTH["sigma"] * noise).ravel(),
        }
    )


if __name__ == "__main__":
    simulate(int(sys.argv[1]), int(sys.argv[2])).to_csv(sys.argv[3], index=False)
