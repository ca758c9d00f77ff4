"""The picture of a calibration: data, and bands of predictions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._results.figure import label_panel, literal, panel_grid, saved, time_coord
from odecal._run.output import check_output

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
    target = None if path is None else check_output(path, ".png")
    every = _panels(posterior)
    panels = every[:_MOST_PANELS]
    few = len(panels) <= 6
    columns = min(2 if few else 4, len(panels))
    figure, axes = panel_grid(len(panels), columns, (5.2, 3.2) if few else (3.3, 2.5), (0.8, 0.6))
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, posterior, panel)
    _legend(axes)
    more = f" (the first {len(panels)} of {len(every)})" if len(every) > len(panels) else ""
    system = posterior.attrs.get("system", "")
    figure.suptitle(f"{literal(system)}: data and posterior predictions{more}")
    return saved(figure, target)


@dataclass(frozen=True, eq=False)
class _Panel:
    """What one panel shows of an observable."""

    name: str
    element: dict[Any, int]  # of a vector-valued one, by dimension
    rows: np.ndarray  # which of its values are shown
    individual: dict[str, Any]  # its dimension and label; empty for one that needs no name


def _panels(posterior: "xr.DataTree") -> list[_Panel]:
    """A panel for each observable, element and individual."""
    observed = _dataset(posterior, "observed_data")
    predictions = _dataset(posterior, "predictions")
    panels: list[_Panel] = []
    for name, data in observed.data_vars.items():
        if str(name).removesuffix("_upper") in observed and str(name).endswith("_upper"):
            continue  # the upper bounds of censored values
        dim, coord = _individual_dim(data, predictions)
        every: list[tuple[dict[str, Any], np.ndarray]] = [({}, np.ones(data.shape[0], bool))]
        if dim:
            labels = data[coord].values
            every = [({dim: x}, labels == x) for x in dict.fromkeys(labels.tolist())]
        for index in np.ndindex(*data.shape[1:]):
            element = dict(zip(data.dims[1:], index, strict=True))
            panels += [_Panel(str(name), element, rows, who) for who, rows in every]
    return panels


def _individual_dim(data: "xr.DataArray", predictions: "xr.Dataset") -> tuple[str, str]:
    """The dimension of individuals, and the coordinate of the data that tells them apart.

    Both are empty for a single experiment.
    """
    dim = str(data.dims[0])
    suffix = dim.removeprefix("observation")
    for name in map(str, data.coords):
        plain = name.removesuffix(suffix) if suffix else name
        if data[name].dims == (dim,) and plain in predictions.dims and plain != "time":
            return plain, name
    return "", ""


def _draw_panel(axis: Any, posterior: "xr.DataTree", panel: _Panel) -> None:
    """One observable of one individual: bands, median and data."""
    observed = _dataset(posterior, "observed_data")
    predictions = _dataset(posterior, "predictions")
    data = observed[panel.name]
    times = data[time_coord(data)].values[panel.rows]
    if panel.name in predictions.data_vars:
        drawn = predictions[panel.name].sel(panel.individual).isel(panel.element)
        grid = drawn["time"].values
        draws = drawn.values.reshape(-1, len(grid))
    else:
        drawn = _dataset(posterior, "posterior_predictive")[panel.name].isel(panel.element)
        grid = times
        draws = drawn.values.reshape(-1, data.shape[0])[:, panel.rows]
    for low, high, alpha, label in _BANDS:
        edges = np.nanquantile(draws, [low, high], axis=0)
        axis.fill_between(grid, *edges, color="tab:blue", alpha=alpha, lw=0, label=label)
    axis.plot(grid, np.nanmedian(draws, axis=0), color="tab:blue", lw=1.5, label="median")
    upper = observed.get(f"{panel.name}_upper")
    bounds = None if upper is None else upper.isel(panel.element).values[panel.rows]
    shown = _draw_values(axis, times, data.isel(panel.element).values[panel.rows], bounds)
    if times.size and times.min() > 0 and times.max() > 1000 * times.min():
        axis.set_xscale("log")
        axis.set_xlim(times.min() / 1.5, times.max() * 1.5)
    values = np.concatenate([shown[np.isfinite(shown)], np.nanquantile(draws, 0.95, 0)])
    if values.min() >= 0 and values.max() > 0:  # near what is shown, whatever a heavy tail does
        axis.set_ylim(0, 1.08 * values.max())
    label_panel(axis, data, panel.element, posterior.attrs.get("time_unit", ""), panel.individual)


def _draw_values(
    axis: Any, times: np.ndarray, values: np.ndarray, upper: np.ndarray | None
) -> np.ndarray:
    """Draw the data, censored values as arrows from their bounds; gives where they were drawn."""
    if upper is None:
        axis.plot(times, values, "o", color="black", ms=4, label="observed")
        return values
    exact, left, right = values == upper, np.isneginf(values), np.isposinf(upper)
    shown = np.where(left, upper, np.where(right, values, (values + upper) / 2))
    look = {"color": "black", "ms": 5}
    axis.plot(times[exact], shown[exact], "o", color="black", ms=4, label="observed")
    for which, mark, label in ((left, "v", "below"), (right, "^", "above")):
        if which.any():
            axis.plot(times[which], shown[which], mark, fillstyle="none", label=label, **look)
    between = ~(exact | left | right) & np.isfinite(values)
    axis.vlines(times[between], values[between], upper[between], color="black", lw=1.5)
    return shown


def _legend(axes: Any) -> None:
    """Explain in the first panel all that is drawn in any."""
    shown: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    axes[0].legend(shown.values(), shown.keys(), frameon=False, fontsize="small")


def _dataset(tree: "xr.DataTree", group: str) -> "xr.Dataset":
    """A group of the tree; an empty one where it has none of that name."""
    import xarray as xr

    return tree.children[group].to_dataset() if group in tree.children else xr.Dataset()
