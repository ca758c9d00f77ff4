"""Stan at its best: dense metric, chains that start at the best mode its optimiser finds.

The optimiser climbs from as many points as odecal's does.
"""

import csv
import json
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

from peers.contract import NUM_CHAINS, Task, contend
from peers.problems import PROBLEMS, stan_data, stan_program
from peers.stan_environment import build

NUM_OPTIMISED = 8


def run(task: Task) -> None:
    """Build, optimise, sample, save."""
    began = time.perf_counter()
    model = build(stan_program(task.problem), task.cache / "stan_dense")
    built = time.perf_counter()
    (task.folder / "data.json").write_text(json.dumps(stan_data(task.problem)))
    (task.folder / "init.json").write_text(json.dumps(find_mode(model, task)))
    found = time.perf_counter()
    files = sample(model, task)
    sampled = time.perf_counter()
    chains = [columns(file) for file in files]
    draws = {name: np.stack([c[name] for c in chains]) for name in PROBLEMS[task.problem].unknowns}
    np.savez(task.folder / "draws.npz", **draws)
    task.written()
    task.report |= {
        "sampling_seconds": sampled - found,
        "compile_seconds": built - began,
        "start_seconds": found - built,
        "divergences": int(sum(c["divergent__"].sum() for c in chains)),
        "versions": f"Stan of httpstan {version('httpstan')}",
    }


def find_mode(model: Path, task: Task) -> dict[str, float]:
    """The best of several optimisations from random points."""
    ends = task.folder / "ends.csv"
    numbers = [str(task.seed), str(NUM_OPTIMISED)]
    command = [model, "optimize", task.folder / "data.json", ends, *numbers]
    with (task.folder / "optimize.log").open("w") as log:
        subprocess.run(command, check=True, stderr=log, stdout=log)
    found = columns(ends)
    best = int(np.nanargmax(found["lp__"]))
    return {name: float(found[name][best]) for name in PROBLEMS[task.problem].unknowns}


def sample(model: Path, task: Task) -> list[Path]:
    """Run the chains side by side; the files of their draws."""
    files, running = [], []
    for chain in range(1, NUM_CHAINS + 1):
        files.append(task.folder / f"chain_{chain}.csv")
        numbers = [str(n) for n in (task.seed, chain, task.num_warmup, task.num_samples)]
        paths = [task.folder / "data.json", files[-1]]
        command = [model, "sample", *paths, *numbers, task.folder / "init.json"]
        with files[-1].with_suffix(".log").open("w") as log:
            running.append(subprocess.Popen(command, stderr=log, stdout=log))
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError(f"A chain failed; see the logs in {task.folder}.")
    return files


def columns(file: Path) -> dict[str, np.ndarray]:
    """The columns that Stan wrote, by name."""
    with file.open(newline="") as lines:
        rows = list(csv.reader(without_comments(lines)))
    header = rows[0]
    values = np.array([row for row in rows[1:] if row != header], float)
    return dict(zip(header, values.T, strict=True))


def without_comments(lines: Iterator[str]) -> Iterator[str]:
    """Lines that hold values."""
    return (line for line in lines if line.strip() and not line.startswith("#"))


if __name__ == "__main__":
    contend(run)
