"""Pictures of a calibration."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._save import check_output

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_BANDS = ((0.05, 0.95, 0.18, "90 % of predictions"), (0.25, 0.75, 0.32, "50 % of predictions"))


def plot_fit(posterior: "xr.DataTree", path: str | Path | None = None) -> "Figure":
    """Draw every observable: the data, and the bands of the posterior predictive distribution.

    Args:
        posterior: the result of a calibration.
        path: where to save the picture as PNG; None only makes it.

    Returns:
        The figure, of one panel an observable (or an element of a vector-valued one).

    Raises:
        OutputError: if the picture cannot be written there.
    """
    from matplotlib.figure import Figure

    target = None if path is None else check_output(path, ".png")
    panels = [
        (name, element)
        for name, data in _dataset(posterior, "observed_data").data_vars.items()
        for element in np.ndindex(*data.shape[1:])
    ]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.2 * columns + 0.8, 3.2 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, element) in zip(axes, panels, strict=False):
        _draw_panel(axis, posterior, str(name), element)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    axes[0].legend(frameon=False, fontsize="small")
    figure.suptitle(f"{posterior.attrs.get('system', '')}: data and posterior predictions")
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def _draw_panel(axis: Any, posterior: "xr.DataTree", name: str, element: tuple[int, ...]) -> None:
    """One observable: bands, median and data."""
    observed = _dataset(posterior, "observed_data")[name]
    predictions = _dataset(posterior, "predictions")
    smooth = name in predictions.data_vars
    drawn = (predictions if smooth else _dataset(posterior, "posterior_predictive"))[name]
    times = drawn[drawn.dims[2]].values
    one = dict(zip(observed.dims[1:], element, strict=True))
    samples = drawn.isel(one).values.reshape(-1, len(times))
    for low, high, alpha, label in _BANDS:
        edges = np.nanquantile(samples, [low, high], axis=0)
        axis.fill_between(times, *edges, color="tab:blue", alpha=alpha, lw=0, label=label)
    axis.plot(times, np.nanmedian(samples, axis=0), color="tab:blue", lw=1.5, label="median")
    when, values = observed[observed.dims[0]].values, observed.isel(one).values
    axis.plot(when, values, "o", color="black", ms=4, label="observed")
    if when.min() > 0 and when.max() > 1000 * when.min():
        axis.set_xscale("log")
        axis.set_xlim(when.min() / 1.5, when.max() * 1.5)
    _limit(axis, np.concatenate([values[np.isfinite(values)], np.nanquantile(samples, 0.95, 0)]))
    labels = [str(observed[dim].values[i]) for dim, i in one.items()]
    axis.set_title(f"{name}[{', '.join(labels)}]" if labels else name, fontsize="medium")
    axis.set_ylabel(observed.attrs.get("units", "") or name)
    time_unit = posterior.attrs.get("time_unit", "")
    axis.set_xlabel(f"time ({time_unit})" if time_unit else "time")
    axis.spines[["top", "right"]].set_visible(False)


def _dataset(tree: "xr.DataTree", group: str) -> "xr.Dataset":
    """A group of the tree; an empty one where it has none of that name."""
    import xarray as xr

    return tree.children[group].to_dataset() if group in tree.children else xr.Dataset()


def _limit(axis: Any, values: np.ndarray) -> None:
    """Keep the upper end of the axis near what is shown, whatever a heavy tail does."""
    top = float(np.max(values))
    if np.min(values) >= 0 and top > 0:
        axis.set_ylim(0, 1.08 * top)


def plot_comparison(comparison: "xr.Dataset", path: str | Path | None = None) -> "Figure":
    """Draw a comparison of adjoints: work against precision, and memory.

    Args:
        comparison: the result of `compare_adjoints`.
        path: where to save the picture as PNG; None only makes it.

    Returns:
        The figure: error against time, and the peak memory of each adjoint.

    Raises:
        OutputError: if the picture cannot be written there.
    """
    from matplotlib.figure import Figure

    target = None if path is None else check_output(path, ".png")
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    work, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    names = [str(name) for name in comparison.adjoint.values]
    for i, name in enumerate(names):
        row = comparison.sel(adjoint=name)
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
    figure.suptitle(f"{system}: medians over {comparison.sizes['draw']} draws at rtol {tolerances}")
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure
