"""The population model in Stan, through PyStan: sampling, and what a gradient costs.

    python -m peers.with_pystan_population DATA CHAINS WARMUP SAMPLES SEED CACHE FOLDER

with the Python of the Stan environment, `benchmarks/` on its path, and FOLDER, where PyStan leaves
what it compiles, as working directory. As the contenders of `versus_peers.py` do, it leaves
`draws.npz` and `report.json` in the folder. The arrays of the draws have the shape (chain, draw):
the unknowns of the population, `n_leapfrog` and `divergences`. In the report:

* `compile_seconds`: translation and compilation, next to nothing where the cache holds the model;
* `sampling_seconds`: warm-up and sampling by the clock, of chains side by side, of which PyStan
  runs as many at a time as there are cores. With `--gradient` chains run one at a time;
* `chain_warmup_seconds`, `chain_sampling_seconds`: as Stan itself times each chain;
* `gradients`: how often each chain evaluated the gradient while sampling, once a leapfrog step and
  once at the start of a transition;
* `seconds_per_gradient`: of each chain, its seconds of sampling over its gradients. This is the
  cost within Stan's C++, at points of the posterior. PyStan's own `grad_log_prob` would add that of
  a request to a server, with the data in it. Report it from `--gradient`, where nothing else runs.

`--density POINTS`, an `.npy` file of shape (point, unknown) on unconstrained space, adds to the
folder `density.npz`: `log_prob`, with the Jacobian and up to a constant, and its `gradient`. The
order is that of the parameters block: m_ka, m_cl, m_v, the logarithms of s_ka, s_cl, s_v and sigma,
then z_ka of all subjects, z_cl, z_v.
"""

import argparse
import csv
import dataclasses
import json
import os
import re
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = Path(__file__).parent / "population.stan"
UNKNOWNS = ("m_ka", "m_cl", "m_v", "s_ka", "s_cl", "s_v", "sigma")
EFFECTS = ("z_ka", "z_cl", "z_v")
# Medians of the priors. Stan's own starting points, uniform on (-2, 2), serve as well; of those it
# rejects the few where a rate is beyond what the solver takes.
START = {
    "m_ka": 0.5,
    "m_cl": 1.0,
    "m_v": 3.5,
    "s_ka": 0.67,
    "s_cl": 0.67,
    "s_v": 0.67,
    "sigma": 0.67,
}
JITTER = 0.1


def main() -> None:
    """Build, sample, save."""
    options = parse()
    os.environ["XDG_CACHE_HOME"] = str(options.cache.absolute())
    import stan

    # A run of the same seed before this one has left its draws beside the compiled model.
    for fits in options.cache.glob("httpstan/*/models/*/fits"):
        shutil.rmtree(fits)
    data = stan_data(options.data)
    began = time.perf_counter()
    model = stan.build(PROGRAM.read_text(), data=data, random_seed=options.seed)
    built = time.perf_counter()
    starts = starting_points(options, data["S"])
    length: dict[str, Any] = {"num_warmup": options.warmup, "num_samples": options.samples}
    length["max_depth"] = options.max_depth
    if options.gradient:
        fits = [
            dataclasses.replace(model, random_seed=options.seed + i).sample(
                num_chains=1, **length, **{k: [v[i]] for k, v in starts.items()}
            )
            for i in range(options.chains)
        ]
    else:
        fits = [model.sample(num_chains=options.chains, **length, **starts)]
    sampled = time.perf_counter()
    draws = {name: by_chain(fits, name) for name in UNKNOWNS}
    draws["n_leapfrog"] = by_chain(fits, "n_leapfrog__").astype(int)
    draws["divergences"] = by_chain(fits, "divergent__").astype(int)
    np.savez(options.folder / "draws.npz", **draws)
    report = {
        "finished": time.time(),
        "num_subjects": data["S"],
        "sampling_seconds": sampled - built,
        "compile_seconds": built - began,
        "divergences": int(draws["divergences"].sum()),
        "versions": f"pystan {version('pystan')}, httpstan {version('httpstan')}",
    }
    report |= cost(fits, draws["n_leapfrog"])
    if options.density:
        density(model, np.load(options.density), options.folder / "density.npz")
    (options.folder / "report.json").write_text(json.dumps(report))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="CSV: subject, time, dose, concentration")
    parser.add_argument("chains", type=int)
    parser.add_argument("warmup", type=int, help="transitions of warm-up of each chain")
    parser.add_argument("samples", type=int, help="draws of each chain")
    parser.add_argument("seed", type=int)
    parser.add_argument("cache", type=Path, help="folder for what may be compiled once")
    parser.add_argument("folder", type=Path, help="folder for draws and report")
    parser.add_argument("--gradient", action="store_true", help="run one chain at a time")
    parser.add_argument(
        "--max-depth", type=int, default=10, help="of trees; less bounds the time of --gradient"
    )
    parser.add_argument("--density", type=Path, help="points to evaluate the log density at")
    parser.add_argument(
        "--random-start",
        action="store_true",
        help="Stan's starting points, not the priors' medians",
    )
    return parser.parse_args()


def stan_data(table: Path) -> dict[str, Any]:
    """The data block: a sample at the dose of every subject, and equally many after it."""
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    subjects: dict[str, list[tuple[float, float, float]]] = {}
    for row in rows:
        values = (float(row["time"]), float(row["dose"]), float(row["concentration"]))
        subjects.setdefault(row["subject"], []).append(values)
    counts = {len(samples) for samples in subjects.values()}
    if len(counts) != 1:
        raise ValueError(f"Subjects of {table} differ in their number of samples: {counts}.")
    x = np.array([sorted(samples) for samples in subjects.values()])
    times, doses, concentrations = np.moveaxis(x, 2, 0)
    if times[:, 0].any() or not (np.diff(times, axis=1) > 0.0).all():
        raise ValueError(f"Times of {table} are not, for every subject, 0 and then later ones.")
    return {
        "S": len(x),
        "T": x.shape[1] - 1,
        "dose": doses[:, 0].tolist(),
        "ts": times[:, 1:].tolist(),
        "concentration_0": concentrations[:, 0].tolist(),
        "concentration": concentrations[:, 1:].T.tolist(),
    }


def starting_points(options: argparse.Namespace, num_subjects: int) -> dict[str, Any]:
    """The argument `init` of PyStan, of every chain; none where Stan is to choose."""
    if options.random_start:
        return {}
    rng = np.random.default_rng(options.seed)

    def start() -> dict[str, Any]:
        near = {k: v + rng.uniform(-JITTER, JITTER) for k, v in START.items()}
        z = {k: rng.uniform(-JITTER, JITTER, num_subjects).tolist() for k in EFFECTS}
        return near | z

    return {"init": [start() for _ in range(options.chains)]}


def by_chain(fits: list[Any], name: str) -> np.ndarray:
    """A scalar of the fits, of shape (chain, draw)."""
    return np.concatenate([f[name].reshape(f.num_samples, f.num_chains).T for f in fits])


def cost(fits: list[Any], num_leapfrog: np.ndarray) -> dict[str, Any]:
    """What Stan says that each chain took, and a gradient's share of it."""
    outputs = [output.decode() for fit in fits for output in fit.stan_outputs]
    warmup, sampling = (
        [float(re.findall(rf"([\d.e+-]+) seconds \({phase}\)", o)[0]) for o in outputs]
        for phase in ("Warm-up", "Sampling")
    )
    gradients = (num_leapfrog + 1).sum(1)
    return {
        "chain_warmup_seconds": warmup,
        "chain_sampling_seconds": sampling,
        "gradients": gradients.tolist(),
        "seconds_per_gradient": (np.array(sampling) / gradients).tolist(),
    }


def density(model: Any, points: np.ndarray, file: Path) -> None:
    """Save the log density and its gradient at points of unconstrained space."""
    log_prob = [model.log_prob(point) for point in points.tolist()]
    gradient = [model.grad_log_prob(point) for point in points.tolist()]
    np.savez(file, log_prob=log_prob, gradient=gradient)


if __name__ == "__main__":
    main()
