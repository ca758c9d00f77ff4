"""Populations of 1 to 1,000 subjects: a gradient and an effective draw, against Stan.

    python benchmarks/populations.py [--subjects 1 12 100 1000] [--sample 12] [--repeats 3]

The model is that of `peers/population.stan`: one compartment, first-order absorption, log-normal
absorption, clearance and volume, non-centred, the same priors and tolerances. Gradients: seconds of
one chain alone, odecal's by a program that takes many one after the other, Stan's by its own time
of sampling over its leapfrog steps. Effective draws: the smallest bulk effective sample size of the
seven population parameters over the seconds of sampling without warm-up, four chains on all cores.
Contenders take turns, `--repeats` times; rows are appended to `benchmarks/results/populations.csv`,
and drawn beside it. "default" is odecal as it comes, "as Stan" with Stan's target acceptance rate
of 0.8 for its own of 0.95, "informed" so and with centrings chosen from the data.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from jax.flatten_util import ravel_pytree
from peers.population import simulate
from peers.stan_environment import make

import odecal
from odecal import Covariate, Observable, Parameter, State, System, centring

RESULTS = Path(__file__).parent / "results" / "populations.csv"
TRUTH = {
    "ka_location": 0.45,
    "cl_location": 1.0,
    "v_location": 3.45,
    "ka_scale": 0.6,
    "cl_scale": 0.25,
    "v_scale": 0.13,
    "sigma": 0.7,
}


def varying(location: float) -> odecal.Varying:
    """A log-normal parameter of subjects, with the benchmark's priors."""
    return Parameter.varying(
        "subject", location=dist.Normal(location, 1.0), scale=dist.HalfNormal(1.0), link="log"
    )


class Population(System):
    """One compartment with first-order absorption and elimination."""

    time_unit = "h"
    individual = "subject"
    t0 = 0.0
    dose = Covariate(unit="mg")
    gut = State(initial=lambda p: p.dose, unit="mg")
    central = State(initial=0.0, unit="mg/L")
    ka = varying(0.5)
    cl = varying(1.0)
    v = varying(3.5)
    sigma = Parameter(dist.HalfNormal(1.0))

    def vector_field(self, t, y, p):  # noqa: D102
        absorbed = p.ka * y.gut
        return {"gut": -absorbed, "central": absorbed / p.v - p.cl / p.v * y.central}

    concentration = Observable(lambda t, y, p: odecal.noise.Normal(y.central, p.sigma))


def gradient(table: pd.DataFrame) -> dict[str, float]:
    """Seconds of one gradient of odecal's log density, and the memory of its program."""
    from odecal._inference.timing import peak_memory
    from odecal._model.flat import flatten

    model = odecal.compile(Population(), table)
    with model.precision():
        flat = flatten(model).target
        rng = np.random.default_rng(1)
        raws = {n: rng.normal(size=model.sites[n].shape) for n in ("ka_raw", "cl_raw", "v_raw")}
        values = {name: jnp.asarray(x) for name, x in (TRUTH | raws).items()}
        position = ravel_pytree(model.unconstrain(values))[0]
        both = jax.value_and_grad(flat.logdensity_fn)

        def again(x: jax.Array, times: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, times, lambda i, x: x + 1e-14 * both(x)[1], x)

        compiled = jax.jit(again).lower(position, 1).compile()
        times = max(2, 2000 // len(table))
        ticks = []
        for _ in range(7):
            began = time.perf_counter()
            jax.block_until_ready(compiled(position, times))
            ticks.append((time.perf_counter() - began) / times)
        return {"seconds": float(np.median(ticks)), "memory": peak_memory(compiled)}


def sample(table: pd.DataFrame, how: str, run: argparse.Namespace, seed: int) -> dict[str, float]:
    """What four chains of odecal give; but by default, with Stan's target acceptance rate."""
    system = Population()
    sampler = None
    if how != "default":
        metric = odecal.samplers.LowRankMetric()
        sampler = odecal.samplers.NUTS(target_acceptance_rate=0.8, metric=metric)
    if how == "informed":
        names = ("ka", "cl", "v")
        system = Population(
            **{n: getattr(Population, n).with_centring(centring.Informed()) for n in names}
        )
    began = time.perf_counter()
    posterior = odecal.calibrate(
        system,
        table,
        sampler=sampler,
        seed=seed,
        num_warmup=run.warmup,
        num_samples=run.draws,
        progress=False,
    )
    wall = time.perf_counter() - began
    rows = odecal.summary(posterior).loc[list(TRUTH)]
    stats = posterior["sample_stats"]
    steps, warmup = (
        stats.n_steps.values.sum(),
        posterior["warmup_sample_stats"].n_steps.values.sum(),
    )
    seconds = posterior.attrs["sampling_seconds"] * steps / (steps + warmup)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "wall": wall,
        "seconds": seconds,
        "peak_process_memory": 1024.0 * kilobytes,
        "least_ess": float(rows.ess_bulk.min()),
        "ess_per_second": float(rows.ess_bulk.min()) / seconds,
        "leapfrogs": float(stats.n_steps.mean()),
        "warmup_leapfrogs": float(warmup) / 4,
        "divergences": int(stats.diverging.sum()),
        "r_hat": float(rows.r_hat.max()),
    }


def stan(table: pd.DataFrame, python: Path, arguments: list[str]) -> dict[str, object]:
    """What Stan reports, in an environment of its own; chains run two at a time, on two cores."""
    import arviz_stats

    cache = Path(tempfile.gettempdir()) / "odecal-stan-cache"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table.to_csv(folder / "data.csv", index=False)
        command = [str(python), "-m", "peers.with_pystan_population", "data.csv", *arguments[:4]]
        command += [str(cache), name, *arguments[4:]]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        began = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        wall = time.perf_counter() - began
        report = json.loads((folder / "report.json").read_text())
        draws = np.load(folder / "draws.npz")
        unknowns = [name for name in draws.files if name not in ("n_leapfrog", "divergences")]
        ess = min(float(arviz_stats.base.array_stats.ess(draws[name])) for name in unknowns)
        seconds = sum(report["chain_sampling_seconds"]) / 2
        return {
            "seconds_per_gradient": float(np.mean(report["seconds_per_gradient"])),
            "wall": wall,
            "seconds": seconds,
            "least_ess": ess,
            "ess_per_second": ess / seconds,
            "leapfrogs": float(draws["n_leapfrog"].mean()),
            "divergences": report["divergences"],
        }


def keep(row: dict[str, object]) -> None:
    """Print a row, and append it to the results."""
    print(json.dumps(row), flush=True)
    before = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame()
    pd.concat([before, pd.DataFrame([row])]).to_csv(RESULTS, index=False, float_format="%.4g")


def draw(rows: pd.DataFrame) -> None:
    """Seconds of a gradient a subject, and effective draws a second, by the number of subjects."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, what, column in ((left, "gradient", "seconds"), (right, "sample", "ess_per_second")):
        of_what = rows[rows.what == what]
        if of_what.empty:
            continue
        medians = of_what.groupby(["who", "subjects"])[column].median().reset_index()
        for who, found in medians.groupby("who"):
            y = found[column] / found.subjects * 1e6 if what == "gradient" else found[column]
            axes.loglog(found.subjects, y, "o-", label=who, markersize=4)
        axes.set_xlabel("subjects")
        axes.set_xticks(counts := sorted(of_what.subjects.unique()), [f"{n:,}" for n in counts])
        axes.minorticks_off()
        axes.legend(frameon=False)
    left.set_ylabel("µs a gradient and subject")
    right.set_ylabel("effective draws a second")
    figure.savefig(RESULTS.with_suffix(".png"), dpi=150)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--subjects", type=int, nargs="*", default=[1, 2, 4, 12, 30, 100, 300, 1000]
    )
    parser.add_argument("--sample", type=int, nargs="*", default=[12, 100])
    parser.add_argument("--stan", type=int, nargs="*", default=[1, 12, 100])
    parser.add_argument("--stan-sample", type=int, nargs="*", default=[12])
    parser.add_argument("--stan-env", type=Path, default=Path(__file__).parent / "build" / "stan")
    parser.add_argument("--warmup", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--how", nargs="*", default=["default", "as Stan", "informed"])
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    python = make(asked.stan_env.absolute()) if asked.stan else None
    for repeat in range(asked.repeats):
        for count in asked.subjects:
            table = simulate(count, 0)
            row = {"what": "gradient", "subjects": count, "repeat": repeat}
            keep(row | {"who": "odecal"} | gradient(table))
            if python is not None and count in asked.stan:
                cost = stan(table, python, ["1", "30", "20", "1", "--gradient", "--max-depth", "6"])
                keep(row | {"who": "stan", "seconds": cost["seconds_per_gradient"]})
    for repeat in range(asked.repeats):
        for count in asked.sample:
            table = simulate(count, 0)
            row = {"what": "sample", "subjects": count, "repeat": repeat}
            for how in asked.how:
                keep(row | {"who": f"odecal, {how}"} | sample(table, how, asked, repeat))
            if python is not None and count in asked.stan_sample:
                arguments = ["4", str(asked.warmup), str(asked.draws), "1"]
                keep(row | {"who": "stan"} | stan(table, python, arguments))
    draw(pd.read_csv(RESULTS))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    sys.exit(main())
