"""Choose the metric by dimension: `python benchmarks/metrics.py`.

NUTS with every metric on Gaussians whose scales span a factor of 100 and whose correlations are
those of draws of a random factor model; four chains of 500 transitions of warm-up and 500 draws,
started without a guess of the covariance. Measured: the smallest bulk ESS a thousand gradients of
warm-up and sampling together, and a transition's leapfrog steps.
"""

import argparse
from pathlib import Path

import arviz_stats
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

jax.config.update("jax_num_cpu_devices", 2)

from odecal import samplers  # noqa: E402
from odecal._inference.engine import Engine  # noqa: E402
from odecal._inference.progress import NoProgress  # noqa: E402
from odecal._jax.keys import run_keys  # noqa: E402
from odecal._jax.programs import Compiler  # noqa: E402
from odecal._jax.trace import trace_scalar  # noqa: E402

HERE = Path(__file__).parent
METRICS = {
    "diagonal": samplers.DiagonalMetric(),
    "dense": samplers.DenseMetric(),
    "shrunk": samplers.ShrunkMetric(),
    "low_rank": samplers.LowRankMetric(),
}
SIZE = samplers.Run(num_chains=4, num_warmup=500, num_samples=500)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", nargs="+", type=int, default=[5, 10, 25, 50, 100, 200])
    parser.add_argument("--out", type=Path, default=HERE / "results" / "metrics.csv")
    options = parser.parse_args()
    rows = []
    for dim in options.dims:
        for name, metric in METRICS.items():
            rows.append({"dim": dim, "metric": name} | measure(dim, metric))
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(options.out, index=False, float_format="%.4g")
    print(table.pivot(index="dim", columns="metric", values="ess_per_1000_gradients").round(1))


def measure(dim: int, metric: samplers.AbstractMetric) -> dict:
    random = np.random.default_rng(dim)
    factors = random.standard_normal((dim, max(2, dim // 5)))
    covariance = factors @ factors.T + 0.5 * np.eye(dim)
    scale = 10 ** random.uniform(-1, 1, dim) / np.sqrt(np.diag(covariance))
    covariance = scale[:, None] * covariance * scale
    precision = np.linalg.inv(covariance).tolist()

    def density(x: jax.Array) -> jax.Array:
        return -0.5 * x @ jnp.asarray(precision) @ x

    starts = random.multivariate_normal(np.zeros(dim), covariance, SIZE.num_chains)
    with jax.enable_x64(True), Compiler() as compiler:
        target = samplers.Target(
            dim,
            trace_scalar(density, jnp.zeros(dim)),
            density,
            lambda key: jax.random.normal(key, (dim,)),
        )
        values, gradients = jax.vmap(jax.value_and_grad(density))(jnp.asarray(starts))
        guess = np.broadcast_to(np.eye(dim), (SIZE.num_chains, dim, dim))
        start = samplers.Start(*map(np.asarray, (starts, values, gradients, guess)))
        sampler = samplers.NUTS(metric=metric)
        engine = Engine(target, sampler, SIZE, run_keys(0).chains, compiler)
        chains, _ = engine.sample(engine.init(start), NoProgress())
    draws = xr.Dataset({"x": (("chain", "draw", "i"), chains.positions)})
    gradients = chains.stats["n_steps"].sum() + chains.warmup_stats["n_steps"].sum()
    ess = float(arviz_stats.ess(draws).x.min())
    return {
        "ess_min": ess,
        "rhat_max": float(arviz_stats.rhat(draws).x.max()),
        "ess_per_1000_gradients": 1000 * ess / gradients,
        "leapfrogs_a_draw": chains.stats["n_steps"].mean(),
    }


if __name__ == "__main__":
    main()
