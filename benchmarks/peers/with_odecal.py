"""odecal, as its documentation shows."""

from importlib.metadata import version

import jax
import numpy as np

import odecal
from peers.contract import NUM_CHAINS, Task, contend
from peers.problems import PROBLEMS


def system(problem: str) -> odecal.System:
    """The system of a problem."""
    from odecal.systems import SIR, LotkaVolterra

    from peers.cascade import Cascade

    return {"hudson_bay": LotkaVolterra, "boarding_school": SIR, "cascade": Cascade}[problem]()


def run(task: Task) -> None:
    """Calibrate and save; then hand the draws over."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_compilation_cache_dir", str(task.cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    problem = PROBLEMS[task.problem]
    posterior = odecal.calibrate(
        system(task.problem),
        problem.table,
        num_chains=NUM_CHAINS,
        num_samples=task.num_samples,
        seed=task.seed,
        progress=False,
    )
    odecal.save(posterior, task.folder / "posterior.nc")
    task.written()
    draws = {name: posterior["posterior"][name].values for name in problem.unknowns}
    np.savez(task.folder / "draws.npz", **draws)
    attrs = posterior.attrs
    task.report |= {
        "sampling_seconds": float(attrs["sampling_seconds"]),
        # Where compilation is not told apart, the seconds of sampling hold it.
        "compile_seconds": float(attrs.get("compile_seconds", "nan")),
        "start_seconds": float(attrs.get("start_seconds", "nan")),
        "num_warmup": int(attrs["num_warmup"]),
        "divergences": int(posterior["sample_stats"]["diverging"].sum()),
        "versions": f"odecal {version('odecal')}, jax {jax.__version__}",
    }


if __name__ == "__main__":
    contend(run)
