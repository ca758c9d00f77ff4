"""Choose the optimiser of the warm start: `python benchmarks/warm_start.py`.

Twelve climbs from the same prior draws of every shipped system, by

* `bfgs`: optimistix's BFGS, as odecal does;
* `pathfinder`: the L-BFGS of BlackJAX's multi-path Pathfinder, with ten draws a step.

Measured, over several seeds: seconds of compilation and of a run, the share of climbs within one
nat of the best mode that any has found, and the share of seeds in which at least one is.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd

jax.config.update("jax_num_cpu_devices", 1)

import odecal  # noqa: E402
from odecal import systems  # noqa: E402
from odecal._inference.optimise import _ascend  # noqa: E402
from odecal._model.flat import flatten  # noqa: E402

HERE = Path(__file__).parent
NUM_CLIMBS = 12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--systems", nargs="+", default=["ExponentialDecay", "SIR", "LotkaVolterra", "Robertson"]
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "warm_start.csv")
    options = parser.parse_args()
    rows = [row for name in options.systems for row in compare(name, options.seeds)]
    table = pd.DataFrame(rows)
    table.to_csv(options.out, index=False, float_format="%.4g")
    print(table.to_string(index=False))


def compare(name: str, seeds: int) -> list[dict]:
    """Both optimisers on one system."""
    system = getattr(systems, name)()
    model = odecal.compile(system, system.data)
    with model.precision():
        flat = flatten(model).target
        keys = jax.random.split(jax.random.key(0), (seeds, NUM_CLIMBS))
        starts = jax.vmap(jax.vmap(flat.sample_prior))(keys)
        ends, rows = {}, []
        for optimiser, climb in (("bfgs", bfgs), ("pathfinder", pathfinder)):
            program = jax.jit(partial(jax.lax.map, partial(climb, flat)))
            began = time.perf_counter()
            compiled = program.lower(starts[0]).compile()
            built = time.perf_counter() - began
            began = time.perf_counter()
            ends[optimiser] = np.stack([compiled(x) for x in starts])
            ran = (time.perf_counter() - began) / seeds
            rows.append({"system": name, "optimiser": optimiser, "compile_s": built, "run_s": ran})
    best = np.nanmax([np.nanmax(x) for x in ends.values()])
    for row in rows:
        there = ends[row["optimiser"]] > best - 1.0
        row |= {"climbs_at_best": there.mean(), "seeds_at_best": there.any(axis=1).mean()}
    return rows


def bfgs(flat, position):
    # In scales of the prior, which for the shipped systems are about 1.
    return _ascend(flat.logdensity_fn, jax.numpy.ones_like(position), position, 200).logdensity


def pathfinder(flat, position):
    from blackjax.vi import pathfinder

    key = jax.random.key(0)
    _, info = pathfinder.approximate(key, flat.logdensity_fn, position, 10, maxiter=100)
    values = jax.lax.map(flat.logdensity_fn, info.path.position)
    return jax.numpy.nanmax(values)


if __name__ == "__main__":
    main()
