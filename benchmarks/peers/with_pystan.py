"""Stan through PyStan with its default settings: diagonal metric, random starting points."""

import os
import shutil
import time
from importlib.metadata import version

import numpy as np

from peers.contract import NUM_CHAINS, Task, contend
from peers.problems import PROBLEMS, stan_data, stan_program


def run(task: Task) -> None:
    """Build, sample, save."""
    os.environ["XDG_CACHE_HOME"] = str(task.cache)
    import stan

    # A run of the same seed before this one has left its draws beside the compiled model.
    for fits in task.cache.glob("httpstan/*/models/*/fits"):
        shutil.rmtree(fits)
    began = time.perf_counter()
    program = stan_program(task.problem).read_text()
    model = stan.build(program, data=stan_data(task.problem), random_seed=task.seed)
    built = time.perf_counter()
    fit = model.sample(
        num_chains=NUM_CHAINS, num_warmup=task.num_warmup, num_samples=task.num_samples
    )
    sampled = time.perf_counter()
    shape = (task.num_samples, NUM_CHAINS)
    draws = {name: fit[name].reshape(shape).T for name in PROBLEMS[task.problem].unknowns}
    np.savez(task.folder / "draws.npz", **draws)
    task.written()
    task.report |= {
        "sampling_seconds": sampled - built,
        "compile_seconds": built - began,
        "divergences": int(fit["divergent__"].sum()),
        "versions": f"pystan {version('pystan')}, httpstan {version('httpstan')}",
    }


if __name__ == "__main__":
    contend(run)
