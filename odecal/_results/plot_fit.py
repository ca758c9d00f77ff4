"""Pictures of a calibration."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._results.plot_text import clock_of, literal, named
from odecal._run.output import check_output, replaced

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

_MOST_PANELS = 16
_BANDS = ((0.05, 0.95, 0.18, "90 % of predictions"), (0.25, 0.75, 0.32, "50 % of predictions"))


def plot_fit(posterior: "xr.DataTree", path: str | Path | None = None) -> "Figure":
    """Draw every observable: the data, and the bands of the posterior predictive distribution.

    Of many individuals, the first ones have panels of their own.

    Args:
        posterior: the result of a calibration.
        path: where to save the picture as PNG; None only makes it.

    Returns:
        The figure, of one panel an observable (or an element of a vector-valued one) and
        individual.

    Raises:
        OutputError: if the picture cannot be written there.
    """
    from matplotlib.figure import Figure

    target = None if path is None else check_output(path, ".png")
    every = _panels(posterior)
    panels = every[:_MOST_PANELS]
    few = len(panels) <= 6
    columns = min(2 if few else 4, len(panels))
    width, height = (5.2, 3.2) if few else (3.3, 2.5)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(width * columns + 0.8, height * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _draw_panel(axis, posterior, panel)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    _legend(axes[: len(panels)])
    more = f" (the first {len(panels)} of {len(every)})" if len(every) > len(panels) else ""
    system = posterior.attrs.get("system", "")
    figure.suptitle(f"{literal(system)}: data and posterior predictions{more}")
    if target is not None:
        with replaced(target) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    return figure


@dataclass(frozen=True, eq=False)
class _Panel:
    """What one panel shows.

    Args:
        name: the observable.
        element: which element of a vector-valued one.
        rows: which of its values are shown.
        who: the dimension and the label of the individual; empty for one that needs no name.
    """

    name: str
    element: tuple[int, ...]
    rows: np.ndarray
    who: dict[str, Any]


def _panels(posterior: "xr.DataTree") -> list[_Panel]:
    """A panel for each observable, element and individual."""
    observed = _dataset(posterior, "observed_data")
    predictions = _dataset(posterior, "predictions")
    found = []
    for name, data in observed.data_vars.items():
        if str(name).removesuffix("_upper") in observed and str(name).endswith("_upper"):
            continue  # the upper bounds of censored values
        dim = _individual_dim(data, predictions)
        labels = [] if dim is None else list(dict.fromkeys(data[dim[1]].values.tolist()))
        whose = [{dim[0]: label} for label in labels] if dim else [{}]
        for element in np.ndindex(*data.shape[1:]):
            for who in whose:
                rows = np.ones(data.shape[0], bool)
                if dim is not None:
                    rows = data[dim[1]].values == who[dim[0]]
                found.append(_Panel(str(name), element, rows, who))
    return found


def _individual_dim(data: "xr.DataArray", predictions: "xr.Dataset") -> tuple[str, str] | None:
    """The dimension of individuals, and the coordinate of the data that tells them apart."""
    own = data.dims[0]
    suffix = str(own).removeprefix("observation")
    for name in data.coords:
        plain = str(name).removesuffix(suffix) if suffix else str(name)
        if data[name].dims == (own,) and plain in predictions.dims and plain != "time":
            return plain, str(name)
    return None


def _draw_panel(axis: Any, posterior: "xr.DataTree", panel: _Panel) -> None:
    """One observable of one individual: bands, median and data."""
    observed = _dataset(posterior, "observed_data")
    predictions = _dataset(posterior, "predictions")
    data, name = observed[panel.name], panel.name
    one = dict(zip(data.dims[1:], panel.element, strict=True))
    clock = clock_of(data)
    when = data[clock].values[panel.rows]
    values = data.isel(one).values[panel.rows]
    if name in predictions.data_vars:
        drawn = predictions[name].sel(panel.who).isel(one)
        times = drawn["time"].values
        samples = drawn.values.reshape(-1, len(times))
    else:
        drawn = _dataset(posterior, "posterior_predictive")[name].isel(one)
        times = when
        samples = drawn.values.reshape(-1, data.shape[0])[:, panel.rows]
    for low, high, alpha, label in _BANDS:
        edges = np.nanquantile(samples, [low, high], axis=0)
        axis.fill_between(times, *edges, color="tab:blue", alpha=alpha, lw=0, label=label)
    axis.plot(times, np.nanmedian(samples, axis=0), color="tab:blue", lw=1.5, label="median")
    values = _draw_values(axis, when, values, _upper(observed, panel, one))
    if when.size and when.min() > 0 and when.max() > 1000 * when.min():
        axis.set_xscale("log")
        axis.set_xlim(when.min() / 1.5, when.max() * 1.5)
    _limit(axis, np.concatenate([values[np.isfinite(values)], np.nanquantile(samples, 0.95, 0)]))
    named(axis, data, one, posterior.attrs.get("time_unit", ""), panel.who)


def _upper(observed: "xr.Dataset", panel: _Panel, one: dict[Any, int]) -> np.ndarray | None:
    """The upper bounds of the values of a panel, where some are censored."""
    upper = observed.get(f"{panel.name}_upper")
    return None if upper is None else upper.isel(one).values[panel.rows]


def _legend(axes: Any) -> None:
    """Explain in the first panel all that is drawn in any."""
    shown: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    axes[0].legend(shown.values(), shown.keys(), frameon=False, fontsize="small")


def _draw_values(
    axis: Any, when: np.ndarray, values: np.ndarray, upper: np.ndarray | None
) -> np.ndarray:
    """Draw the data, censored values as arrows from their bounds; gives where they were drawn."""
    if upper is None:
        axis.plot(when, values, "o", color="black", ms=4, label="observed")
        return values
    exact, left, right = values == upper, np.isneginf(values), np.isposinf(upper)
    shown = np.where(left, upper, np.where(right, values, (values + upper) / 2))
    look = {"color": "black", "ms": 5}
    axis.plot(when[exact], shown[exact], "o", color="black", ms=4, label="observed")
    for which, mark, label in ((left, "v", "below"), (right, "^", "above")):
        if which.any():
            axis.plot(when[which], shown[which], mark, fillstyle="none", label=label, **look)
    between = ~(exact | left | right) & np.isfinite(values)
    axis.vlines(when[between], values[between], upper[between], color="black", lw=1.5)
    return shown


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
    if target is not None:
        with replaced(target) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    return figure
