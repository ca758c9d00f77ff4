"""Compare odecal with its peers: `python benchmarks/versus_peers.py`.

Contenders (`benchmarks/peers/with_*.py`), each with four chains in a fresh process:

* `odecal`: `odecal.calibrate` and `odecal.save`, as its documentation shows;
* `numpyro`: NumPyro's NUTS with its defaults (diagonal metric, random starting points), the model
  written by hand for Diffrax, its default adjoint, the same solver and tolerances;
* `numpyro_dense`: the same with a dense metric, from the median of the prior;
* `pystan`: Stan through PyStan with its defaults (diagonal metric, random starting points),
  `ode_rk45_tol` with the same tolerances;
* `stan_dense`: Stan with a dense metric from the best mode its own optimiser finds. PyStan offers
  neither, so `peers/stan_dense.cpp` calls Stan's own functions, with CmdStan's default settings.

Problems (`peers/problems.py`): the hares and lynx of Hudson Bay (8 unknowns), influenza in a
boarding school (3), a simulated signalling cascade (17). Priors, likelihood and data are the same
for all; `python -m peers.check`, in `benchmarks/`, shows it.

For each repetition, problem and contender, in turn:

1. A process with nothing cached and 1000 draws a chain after the default warm-up. It gives the
   *first figure*, the smallest bulk ESS a second of warm-up and sampling, compilation left out.
   odecal tells it apart by itself (`compile_seconds`; nan where its seconds of sampling hold it);
   NumPyro's programs are compiled before they run, and so are Stan's. Optimising for a starting
   point, which odecal and `stan_dense` do, is not in this figure (`start_seconds`, where it is
   told) but in the second; the others find their way during warm-up, which is in both.
   `num_warmup` says how long each warmed up: odecal's default need not be the others' 1000.
2. If R-hat is below 1.01 and the smallest bulk ESS is 400 or more, over all unknowns, that process
   also gives the *second figure*: seconds from the start of the process until its draws are on the
   disk. Otherwise further processes with nothing cached draw 2000, then 4000 a chain; the first
   that reaches the target counts, by itself. `--ladder` gives other numbers of draws. With R-hat
   above 1.1 the chains are in different places, which more draws do not mend, and none is tried.
3. Where the target was reached, one more process, of as many draws and the same seed, finds the
   caches that one filled: JAX's persistent cache, PyStan's models, a built executable.

Diagnostics are computed here, by arviz-stats, from every contender's draws, outside of any time.
Each run is a row of `--out` as soon as it ends, one that failed or missed the target as well.
Printed are the median of the first figure over the repetitions whose R-hat was below 1.1, since
chains in different places have no ESS to speak of; that of the second over the repetitions that
reached the target; and how many did.

The Stan contenders run in an environment of their own, `--stan-env`, which is made where it is
missing: a virtual environment with PyStan from PyPI, which needs a C++ compiler.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from arviz_stats.base import array_stats
from peers.problems import PROBLEMS
from peers.stan_environment import make

HERE = Path(__file__).parent
ROOT = HERE.parent
CONTENDERS = ("odecal", "numpyro", "numpyro_dense", "pystan", "stan_dense")
NUM_WARMUP = 1000  # odecal is not told, and takes its own default
NUM_SAMPLES = 1000  # of the first figure
MAX_RHAT, MIN_ESS = 1.01, 400
HOPELESS_RHAT = 1.1
FIELDS = (
    *("date", "repetition", "problem", "contender", "cache", "status", "num_warmup", "num_samples"),
    *("seed", "wall_seconds", "sampling_seconds", "compile_seconds", "start_seconds"),
    *("draws", "ess_min", "ess_min_of", "rhat_max", "rhat_max_of", "divergences", "reached"),
    *("ess_per_second", "load_before", "cores", "machine", "python", "versions"),
)


def main() -> None:
    options = parse()
    python = {name: Path(sys.executable) for name in CONTENDERS}
    if {"pystan", "stan_dense"} & set(options.contenders):
        python |= dict.fromkeys(("pystan", "stan_dense"), make(options.stan_env.absolute()))
    for repetition in range(options.repetitions):
        for problem in options.problems:
            for contender in options.contenders:
                compare(options, python[contender], repetition, problem, contender)
    print(table(pd.read_csv(options.out)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--ladder", nargs="+", type=int, default=[1000, 2000, 4000])
    parser.add_argument("--seed", type=int, default=1, help="of the first repetition")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds of one process")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "versus_peers.csv")
    parser.add_argument("--stan-env", type=Path, default=ROOT / "build" / "stan")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs" / "versus_peers", help="folder of draws and logs"
    )
    options = parser.parse_args()
    if options.ladder != sorted(options.ladder) or NUM_SAMPLES not in options.ladder:
        parser.error(f"--ladder expects rising numbers with {NUM_SAMPLES} among them")
    return options


def compare(
    options: argparse.Namespace, python: Path, repetition: int, problem: str, contender: str
) -> None:
    """All processes of one contender on one problem in one repetition."""
    work = options.work.absolute() / f"{problem}-{contender}-{repetition}"
    shutil.rmtree(work, ignore_errors=True)

    def run(cache: str, num_samples: int) -> dict[str, Any]:
        caches, folder = work / f"cache-{num_samples}", work / f"{cache}-{num_samples}"
        row = {"repetition": repetition, "problem": problem, "contender": contender}
        row |= {"cache": cache, "num_samples": num_samples, "seed": options.seed + repetition}
        row |= measure(python, row, caches, folder, options.timeout)
        record(options.out, row)
        return row

    reached: list[int] = []
    for num_samples in options.ladder:
        if not reached or num_samples == NUM_SAMPLES:
            row = run("cold", num_samples)
            if row["status"] != "ok":
                break
            if row["reached"]:
                reached.append(num_samples)
            elif not row["rhat_max"] < HOPELESS_RHAT:
                break
    if reached:
        run("warm", reached[0])
    for caches in work.glob("cache-*"):
        shutil.rmtree(caches)


def measure(
    python: Path, row: dict[str, Any], caches: Path, folder: Path, timeout: float
) -> dict[str, Any]:
    """Run one process, and look at its draws."""
    for made in (caches, folder):
        made.mkdir(parents=True, exist_ok=True)
    arguments = [row["problem"], NUM_WARMUP, row["num_samples"], row["seed"], caches, folder]
    command = [python, "-m", f"peers.with_{row['contender']}", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    environment["XDG_CACHE_HOME"] = str(caches)  # no cache of this user's is found
    paths = [str(HERE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    found = context() | {"num_warmup": NUM_WARMUP, "status": "ok", "reached": False}
    with (folder / "log.txt").open("w") as log:
        began = time.time()
        try:
            process = subprocess.run(
                command,
                cwd=folder,  # where PyStan leaves what it compiles
                env=environment,
                stdout=log,
                stderr=log,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return found | {"status": "timed out", "wall_seconds": timeout}
    if process.returncode:
        return found | {"status": "failed", "wall_seconds": time.time() - began}
    report = json.loads((folder / "report.json").read_text())
    found["wall_seconds"] = report.pop("finished") - began
    found |= report | diagnose(folder, row["problem"])
    found["ess_per_second"] = found["ess_min"] / found["sampling_seconds"]
    return found


def diagnose(folder: Path, problem: str) -> dict[str, Any]:
    """The worst bulk ESS and R-hat of all unknowns."""
    with np.load(folder / "draws.npz") as draws:
        x = {name: draws[name] for name in PROBLEMS[problem].unknowns}
    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = {k: float(array_stats.ess(v, method="bulk", **axes)) for k, v in x.items()}
    rhat = {k: float(array_stats.rhat(v, method="rank", **axes)) for k, v in x.items()}
    # A chain that never moved has neither.
    least = min(ess, key=lambda k: np.nan_to_num(ess[k], nan=-np.inf))
    most = max(rhat, key=lambda k: np.nan_to_num(rhat[k], nan=np.inf))
    return {
        "draws": next(iter(x.values())).size,
        "ess_min": ess[least],
        "ess_min_of": least,
        "rhat_max": rhat[most],
        "rhat_max_of": most,
        "reached": bool(ess[least] >= MIN_ESS and rhat[most] < MAX_RHAT),
    }


def context() -> dict[str, Any]:
    """When and on what."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2),
        "cores": len(os.sched_getaffinity(0)),
        "machine": processor(),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The name of the processor, where the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def record(out: Path, row: dict[str, Any]) -> None:
    """Append a row to the table of all runs, and say it."""
    new = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
    shown = ("repetition", "problem", "contender", "cache", "num_samples", "status")
    words = [str(row[name]) for name in shown]
    for name in ("wall_seconds", "sampling_seconds", "ess_min", "rhat_max", "divergences"):
        words.append(f"{name}={row.get(name, float('nan')):.4g}")
    print(*words, flush=True)


def table(rows: pd.DataFrame) -> str:
    """Medians over repetitions, and ratios to odecal (above 1: odecal is faster)."""
    figures = pd.DataFrame(
        {
            (problem, contender): figures_of(runs)
            for (problem, contender), runs in rows.groupby(["problem", "contender"], sort=False)
        }
    ).T
    for name in ("ess_per_second", "cold_seconds", "warm_seconds"):
        ours = figures[name].unstack(0).reindex(["odecal"]).iloc[0]
        ratio = figures[name] / figures.index.get_level_values(0).map(ours).astype(float)
        figures[f"{name}_ratio"] = 1 / ratio if name == "ess_per_second" else ratio
    return figures.astype(float).round(2).to_string()


def figures_of(runs: pd.DataFrame) -> dict[str, float]:
    """The figures of one contender on one problem."""
    cold, warm = runs[runs.cache == "cold"], runs[runs.cache == "warm"]
    first = cold[(cold.num_samples == NUM_SAMPLES) & (cold.rhat_max < HOPELESS_RHAT)]
    reached = cold[cold.reached].sort_values("num_samples").groupby("repetition").first()
    return {
        "ess_per_second": first.ess_per_second.median(),
        "cold_seconds": reached.wall_seconds.median(),
        "warm_seconds": warm[warm.reached].wall_seconds.median(),
        "num_samples": reached.num_samples.median(),
        "reached": len(reached),
        "of": runs.repetition.nunique(),
    }


if __name__ == "__main__":
    main()
