"""How the memory of each adjoint grows with the steps provided for.

`python benchmarks/adjoint_memory.py` compiles a gradient of the hares and lynx for `max_steps` from
64 to 16,384, and writes XLA's own analysis of the peak memory to `results/adjoint_memory.csv` and
`.png`, with the order that each adjoint declares drawn through its last point.
"""

from dataclasses import replace
from math import log, prod, sqrt
from pathlib import Path

import numpy as np
import pandas as pd

import odecal
from odecal import systems
from odecal._inference.compare_adjoints import default_adjoints
from odecal._inference.timing import compiled, gradient_of

RESULTS = Path(__file__).parent / "results"
STEPS = (64, 256, 1024, 4096, 16384)
STATES, PARAMETERS = 2, 6  # that the solve is differentiated by


def measure() -> pd.DataFrame:
    """One row for each adjoint and number of steps."""
    system = systems.LotkaVolterra()
    rows = []
    for name, adjoint in default_adjoints(system.solve).items():
        for steps in STEPS:
            solve = replace(system.solve, max_steps=steps)
            model = odecal.compile(system, system.data, solve)
            with model.precision():
                x = np.zeros(8)
                memory = compiled(gradient_of(model, adjoint), x, 1.0).memory
            declared = adjoint.properties.memory
            rows.append((name, steps, memory / 1e3, declared, numbers(declared, steps)))
            print(*rows[-1], flush=True)
    columns = ["adjoint", "max_steps", "peak_memory_kB", "declared", "numbers_declared"]
    return pd.DataFrame(rows, columns=columns)


def numbers(order: str, max_steps: int) -> float:
    """An order of memory, such as O(d N + k), with constants of one."""
    known = {"d": STATES, "k": PARAMETERS, "N": max_steps}
    known |= {"√N": sqrt(max_steps), "logN": log(max_steps)}
    terms = order.removeprefix("O(").removesuffix(")").replace("log N", "logN").split(" + ")
    return sum(prod(known[factor] for factor in term.split()) for term in terms)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Memory against steps, with the declared orders."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axis = figure.subplots()
    for i, (name, rows) in enumerate(table.groupby("adjoint", sort=False)):
        label = f"{name}: {rows.declared.iloc[0]}"
        axis.loglog(rows.max_steps, rows.peak_memory_kB, "o-", color=f"C{i}", label=label)
        scale = rows.peak_memory_kB.iloc[-1] / rows.numbers_declared.iloc[-1]
        axis.loglog(rows.max_steps, scale * rows.numbers_declared, ":", color=f"C{i}")
    axis.set(xlabel="max_steps", ylabel="peak memory (kB); dotted: the declared order")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize="small", loc="outside right center")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    found = measure()
    found.to_csv(RESULTS / "adjoint_memory.csv", index=False, float_format="%.4g")
    draw(found, RESULTS / "adjoint_memory.png")
