"""Check that all contenders sample the same posterior: `python -m peers.check`, in `benchmarks/`.

Compares log densities on unconstrained space, up to a constant, of odecal, of the model written for
NumPyro and of the Stan program, at points around odecal's mode; then, of the draws that
`versus_peers.py` left, the means of every contender that converged with odecal's, in combined
Monte Carlo standard errors.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from numpyro.infer.util import potential_energy

import odecal
from peers.numpyro_models import MODELS
from peers.problems import PROBLEMS, stan_data, stan_program
from peers.with_odecal import system

ROOT = Path(__file__).parents[2]
NUM_POSITIONS = 8
# Run by the Python of the Stan environment; every unknown is positive, so exp is Stan's transform.
IN_STAN = """
import json, sys, stan
program, data, positions = json.load(sys.stdin)
model = stan.build(program, data=data, random_seed=1)
print("densities", json.dumps([model.log_prob(position) for position in positions]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stan-env", type=Path, default=ROOT / "build" / "stan")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "versus_peers")
    options = parser.parse_args()
    for problem in PROBLEMS:
        compare_densities(problem, options.stan_env.absolute() / "bin" / "python")
        compare_means(problem, options.work)


def compare_densities(problem: str, stan_python: Path) -> None:
    """Print the largest deviation of log densities, their mean difference taken off."""
    unknowns = PROBLEMS[problem].unknowns
    model = odecal.compile(system(problem), PROBLEMS[problem].table)
    with model.precision():
        starts = odecal.find_starts(model, jax.random.key(0), NUM_POSITIONS)
        positions = [{k: starts[k][i] for k in unknowns} for i in range(NUM_POSITIONS)]
        ours = np.array([jax.jit(model.logdensity_fn)(z) for z in positions])
        data = {k: jnp.asarray(x) for k, x in PROBLEMS[problem].columns().items()}
        by_hand = jax.jit(lambda z: -potential_energy(MODELS[problem], (data,), {}, z))
        theirs = np.array([by_hand(z) for z in positions])
    flat = [[float(z[k]) for k in unknowns] for z in positions]
    for name, other in (("NumPyro", theirs), ("Stan", in_stan(problem, flat, stan_python))):
        difference = other - ours
        largest = np.abs(difference - difference.mean()).max()
        spread = np.ptp(ours)
        print(f"{problem}: log density, {name} against odecal: {largest:.2g} of {spread:.3g}")


def in_stan(problem: str, positions: list[list[float]], python: Path) -> np.ndarray:
    """The log densities of the Stan program, with the Jacobian."""
    given = json.dumps([stan_program(problem).read_text(), stan_data(problem), positions])
    with tempfile.TemporaryDirectory() as cache:
        output = subprocess.run(
            [python, "-c", IN_STAN],
            input=given,
            env=os.environ | {"XDG_CACHE_HOME": cache},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("densities")]
    return np.array(json.loads(line.removeprefix("densities")))


def compare_means(problem: str, work: Path) -> None:
    """Print means and standard deviations, and how far the means are from odecal's."""
    files = sorted(work.glob(f"{problem}-*-0/cold-1000/draws.npz"))
    found = {f.parts[-3].split("-")[1]: summary(f, PROBLEMS[problem].unknowns) for f in files}
    table = pd.concat(found, axis=1)
    print(table.xs("mean", axis=1, level=1).to_string(float_format="{:.4g}".format))
    if "odecal" not in found:
        return
    ours = found.pop("odecal")
    for name, theirs in found.items():
        error = np.hypot(ours["mcse"], theirs["mcse"])
        z = ((theirs["mean"] - ours["mean"]) / error).abs()
        ratio = theirs["sd"] / ours["sd"]
        print(
            f"{problem}: {name} against odecal: largest |z| {z.max():.2f} ({z.idxmax()}), "
            f"ratio of sd {ratio.min():.3f} to {ratio.max():.3f}, "
            f"largest R-hat {theirs['rhat'].max():.4f}"
        )


def summary(file: Path, unknowns: tuple[str, ...]) -> pd.DataFrame:
    """Mean, standard deviation, standard error of the mean and R-hat of every unknown."""
    axes = {"chain_axis": 0, "draw_axis": 1}
    rows = {}
    with np.load(file) as draws:
        for name in unknowns:
            x = draws[name]
            ess = float(array_stats.ess(x, method="mean", **axes))
            rhat = float(array_stats.rhat(x, method="rank", **axes))
            rows[name] = {"mean": x.mean(), "sd": x.std(), "mcse": x.std() / ess**0.5, "rhat": rhat}
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    main()
