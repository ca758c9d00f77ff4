"""Where a GPU overtakes the CPU: `python benchmarks/chains.py`.

Chains on the Hudson Bay data, from 4 to 4,096 where JAX has a GPU and to 16 on a CPU (`--chains`
gives other numbers), by NUTS and by ChEES, in double and in single precision. Measured: effective
draws (smallest bulk ESS) a second of warm-up and sampling, without compilation; and how far means
and sds in single precision are from those in double, in standard errors and as a ratio.

Run it once on each machine; rows are added to `--out`, and the figure shows all that it holds.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

if not any(device.startswith("cuda") for device in (jax.config.jax_platforms or "").split(",")):
    jax.config.update("jax_num_cpu_devices", 2)

from odecal.systems import LotkaVolterra

import odecal
from odecal import samplers

HERE = Path(__file__).parent
SAMPLERS = {"NUTS": samplers.NUTS(), "ChEES": samplers.ChEES()}
REFERENCE = HERE.parent / "tests" / "odecal" / "references" / "hudson_bay.csv"


def main() -> None:
    gpu = jax.default_backend() == "gpu"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    many, few = [4, 16, 64, 256, 1024, 4096], [4, 16]
    parser.add_argument("--chains", nargs="+", type=int, default=many if gpu else few)
    parser.add_argument("--num-samples", type=int, default=500)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "chains.csv")
    options = parser.parse_args()
    for num_chains in options.chains:
        for name in SAMPLERS:
            for dtype in (jnp.float64, jnp.float32):
                row = measure(name, num_chains, dtype, options.num_samples)
                print(row, flush=True)
                old = pd.read_csv(options.out) if options.out.exists() else None
                pd.concat([old, pd.DataFrame([row])]).to_csv(
                    options.out, index=False, float_format="%.5g"
                )
    draw(pd.read_csv(options.out), options.out.with_suffix(".png"))


def measure(name: str, num_chains: int, dtype: type, num_samples: int) -> dict:
    single = dtype == jnp.float32
    solve = odecal.Solve(dtype=dtype, **({"rtol": 1e-5, "atol": 1e-6} if single else {}))
    posterior = odecal.calibrate(
        LotkaVolterra(),
        sampler=SAMPLERS[name],
        solve=solve,
        num_chains=num_chains,
        num_samples=num_samples,
        progress=False,
    )
    summary, attrs = odecal.summary(posterior), posterior.attrs
    reference = pd.read_csv(REFERENCE, index_col="parameter")
    summary = summary.loc[reference.index]
    error = np.hypot(summary.mcse_mean, reference.mcse_mean)
    return {
        "device": attrs["device"],
        "sampler": name,
        "dtype": attrs["dtype"],
        "chains": num_chains,
        "draws": num_samples,
        "ess_min": summary.ess_bulk.min(),
        "rhat_max": summary.r_hat.max(),
        "sampling_seconds": attrs["sampling_seconds"],
        "compile_seconds": attrs["compile_seconds"],
        "ess_per_second": summary.ess_bulk.min() / attrs["sampling_seconds"],
        "largest_error_of_a_mean": ((summary["mean"] - reference["mean"]).abs() / error).max(),
        "largest_ratio_of_sds": (summary.sd / reference.sd).max(),
        "smallest_ratio_of_sds": (summary.sd / reference.sd).min(),
    }


def draw(table: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (device, sampler, dtype), rows in table.groupby(["device", "sampler", "dtype"]):
        speed = rows.groupby("chains").ess_per_second.median()
        axes.loglog(speed.index, speed, "o-", label=f"{sampler}, {dtype}, {device}", ms=4)
    axes.set_xticks(sorted(set(table.chains)), minor=False)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="chains", ylabel="smallest bulk ESS a second", title="Hudson Bay")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
