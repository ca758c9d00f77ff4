"""What a contender is given and what it leaves: the same for all, in any environment.

A contender is a module that is run as `python -m peers.with_... PROBLEM WARMUP SAMPLES SEED CACHE
FOLDER`. In the folder it leaves `draws.npz`, an array of shape (chain, draw) for every unknown, and
`report.json`.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NUM_CHAINS = 4


@dataclass
class Task:
    """One run of a contender.

    Args:
        problem: a name in `peers.problems.PROBLEMS`.
        num_warmup: transitions of warm-up of each chain.
        num_samples: draws of each chain.
        seed: the random seed.
        cache: a folder for what may be compiled once; empty when nothing is cached.
        folder: where draws and report go.
        report: what the contender has to say of the run.
    """

    problem: str
    num_warmup: int
    num_samples: int
    seed: int
    cache: Path
    folder: Path
    report: dict[str, Any] = field(default_factory=dict)

    def written(self) -> None:
        """Take the time: the draws are on the disk."""
        self.report["finished"] = time.time()


def contend(run: Callable[[Task], None]) -> None:
    """Run a contender on the task of the command line, and write its report."""
    problem, num_warmup, num_samples, seed, cache, folder = sys.argv[1:]
    task = Task(problem, int(num_warmup), int(num_samples), int(seed), Path(cache), Path(folder))
    run(task)
    (task.folder / "report.json").write_text(json.dumps(task.report))
