"""The picture of a comparison of adjoints."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from odecal._results.figure import literal, saved
from odecal._run.output import check_output

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def plot_comparison(comparison: "xr.Dataset", path: str | Path | None = None) -> "Figure":
    """Draw work against precision of adjoints, and memory; save it as PNG where there is a path."""
    from matplotlib.figure import Figure

    target = None if path is None else check_output(path, ".png")
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    work, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    for i, adjoint in enumerate(comparison.adjoint.values):
        row, name = comparison.isel(adjoint=i), literal(adjoint)
        name = f" {name}" if name.startswith("_") else name  # which Matplotlib takes as hidden
        look = {"color": f"C{i % 10}", "marker": "os"[i // 10], "markersize": 4}
        errors = np.maximum(row.relative_error, 1e-16).median("draw")
        work.loglog(row.gradient_time.median("draw") * 1e6, errors, label=name, **look)
        every = row.gradient_time.values.ravel() * 1e6, row.relative_error.values.ravel()
        work.loglog(*every, ".", color=look["color"], alpha=0.15, markersize=4)
        bars.barh(name, float(row.peak_memory) / 1e3, color=look["color"])
    value = comparison.value_time.median("draw") * 1e6
    for x in value.values:
        work.axvline(x, color="0.8", linewidth=0.8, zorder=0)
    work.set_xlabel("time of value and gradient (µs); grey: of the value alone")
    work.set_ylabel("relative error of the gradient")
    work.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    bars.set_xlabel("peak memory (kB)")
    bars.set_xscale("log")
    bars.invert_yaxis()
    for axis in (work, bars):
        axis.spines[["top", "right"]].set_visible(False)
    system = comparison.attrs.get("system", "")
    tolerances = ", ".join(f"{x:.0e}" for x in comparison.tolerance.values)
    figure.suptitle(
        f"{literal(system)}: medians over {comparison.sizes['draw']} draws at rtol {tolerances}"
    )
    return saved(figure, target)
