"""Compare every adjoint on problems from 3 to 400 parameters: `python benchmarks/gradients.py`.

Writes `benchmarks/results/gradients.csv`, a row for each problem and adjoint, and
`gradients.png`. Within a problem all adjoints are timed in turn in one run; take ratios to the
forward solve (`value_us`, the log density alone), not seconds. `chosen` marks what `Solve(adjoint=
None)` chooses in a calibration, by a measurement of its own at other draws.

POLLU begins at 0; the initial values of the other simulated systems hold at the first observation.

Printed at the end: how far the choice is from the best sound adjoint on every problem, and in
total; and the same for the size rule "forward below 100 states and parameters, reverse above".
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from problems.grids import brusselator, linear
from problems.pollu import Pollu, check
from problems.small import IndirectResponse, Lorenz

import odecal
from odecal import systems
from odecal._inference.choose_adjoint import choose_adjoint
from odecal._inference.progress import NoProgress

RESULTS = Path(__file__).parent / "results"
SOUND = 1e-3  # the relative error, beyond that of the best adjoint, of a gradient that may be used


def problems() -> Iterator[tuple[str, Any, Any]]:
    """Names, systems and observations."""
    yield "lotka_volterra", systems.LotkaVolterra(), None
    yield "robertson", systems.Robertson(), None
    for system, end in ((IndirectResponse(), 24.0), (Lorenz(), 4.0), (Pollu(), 60.0)):
        name = type(system).__name__.lower()
        yield name, system, simulated(system, np.linspace(end / 20, end, 20))
    for n in (2, 3, 4, 6, 8, 10):
        system = brusselator(n)
        yield f"brusselator_{n}", system, simulated(system, np.linspace(0.5, 10.0, 20))
    for n in (2, 10, 50, 100, 200):
        system = linear(n)
        yield f"linear_{n}", system, simulated(system, np.linspace(0.5, 10.0, 20))


def simulated(system: Any, times: np.ndarray) -> Any:
    found = odecal.simulate(system, times, seed=1)
    return found[list(system.declaration.observables)]


def measure(name: str, system: Any, observations: Any, options: Any) -> pd.DataFrame:
    """One row an adjoint, for one problem."""
    found = odecal.compare_adjoints(
        system,
        observations,
        tolerances=(1.0,),
        num_draws=options.draws,
        num_around_mode=0,
        repeats=options.repeats,
        batch_size=0,
        progress=False,
    ).isel(tolerance=0)
    model = odecal.compile(system, system.data if observations is None else observations)
    choice = choose_adjoint(model, 1, NoProgress())
    seconds, value = found.gradient_time.median("draw"), found.value_time.median("draw")
    errors, failed = found.relative_error.median("draw"), found.failed.any("draw")
    sound = (errors <= float(errors.min()) + SOUND) & ~failed
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(choice.adjoint).__name__)
    declaration = system.declaration
    return pd.DataFrame(
        {
            "problem": name,
            "states": sum(int(np.prod(declaration.shape(s))) for s in declaration.states),
            "parameters": sum(int(np.prod(s.shape)) for s in declaration.sites.values()),
            "adjoint": found.adjoint.values,
            "gradient_us": seconds.values * 1e6,
            "value_us": float(value) * 1e6,
            "ratio_to_value": (seconds / value).values,
            "ratio_to_best": (seconds / float(seconds.where(sound).min())).values,
            "compile_s": found.compile_time.values,
            "peak_memory_kB": found.peak_memory.values / 1e3,
            "median_error": errors.values,
            "failed": found.failed.sum("draw").values,
            "sound": sound.values,
            "chosen": found.adjoint.values == snake.lstrip("_"),
            "measured": len(choice.trials),
            "choice_s": sum(t.compile_seconds for t in choice.trials.values()),
            "reference_error": float(found.reference_error.median()),
        }
    )


def report(table: pd.DataFrame) -> None:
    """Print the figures that the choice is judged by."""
    shown = table.pivot_table(
        index="problem", columns="adjoint", values="ratio_to_value", sort=False
    )
    print(shown.round(1).to_string(na_rep="—"))
    chosen = table[table.chosen].set_index("problem")
    print("\nThe choice, and how far it is from the best sound adjoint:")
    print(chosen[["adjoint", "sound", "ratio_to_best", "measured", "choice_s"]].to_string())
    best = table[table.sound].groupby("problem", sort=False).gradient_us.min()
    rule = table.apply(by_rule, axis=1)
    by_size = table[rule].set_index("problem").gradient_us
    print(
        f"\nIn total, of the best: the choice {chosen.gradient_us.sum() / best.sum():.2f}, "
        f"the size rule {by_size.sum() / best.sum():.2f}; geometric means "
        f"{np.exp(np.log(chosen.gradient_us / best).mean()):.2f} and "
        f"{np.exp(np.log(by_size / best).mean()):.2f}."
    )


def by_rule(row: pd.Series) -> bool:
    """Whether the size rule takes this row: forward mode below 100, and reverse mode above."""
    small = row.states + row.parameters < 100
    return row.adjoint == ("forward" if small else "recursive_checkpoint")


def draw(table: pd.DataFrame, path: Path) -> None:
    """Ratios to the forward solve, and memory, against the number of parameters."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    panels = (
        ("brusselator", "ratio_to_value", "gradient, in forward solves"),
        ("linear", "ratio_to_value", "gradient, in forward solves"),
        ("brusselator", "peak_memory_kB", "peak memory (kB)"),
    )
    figure = Figure(figsize=(12.0, 4.2), layout="constrained")
    for axis, (family, column, label) in zip(figure.subplots(1, 3), panels, strict=True):
        part = table[table.problem.str.startswith(family)]
        for i, (name, rows) in enumerate(part.groupby("adjoint", sort=False)):
            look = {"color": f"C{i}", "label": name, "markersize": 3}
            axis.loglog(rows.parameters, rows[column], "o-", **look)
        axis.set(title=family, xlabel="parameters", ylabel=label)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.spines[["top", "right"]].set_visible(False)
    handles = axis.get_legend_handles_labels()
    figure.legend(*handles, frameon=False, fontsize="small", loc="outside right center")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of problems")
    parser.add_argument("--out", type=Path, default=RESULTS / "gradients.csv")
    options = parser.parse_args()
    print(f"POLLU at 60 min is within {check():.1e} of the published solution.")
    tables: list[pd.DataFrame] = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # every choice is measured here
        for name, system, observations in problems():
            if options.only and name not in options.only:
                continue
            tables.append(measure(name, system, observations, options))
            print(tables[-1].drop(columns=["states", "parameters"]).to_string(), flush=True)
            pd.concat(tables).to_csv(options.out, index=False, float_format="%.4g")
    table = pd.concat(tables, ignore_index=True)
    report(table)
    draw(table, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
