"""The picture of a population: a visual predictive check."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._errors import OutputError
from odecal._results.figure import label_panel, literal, panel_grid, saved, time_coord
from odecal._run.output import check_output

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# The quantiles of a visual predictive check, and how sure their bands are.
_QUANTILES = (0.05, 0.5, 0.95)
_SURE = (0.05, 0.95)
_COLOURS = {0.05: "tab:blue", 0.5: "tab:orange", 0.95: "tab:blue"}
# A bin of times has so many values, about, and there are so many at least and at most.
_PER_BIN, _FEWEST_BINS, _MOST_BINS = 12, 3, 12


def plot_vpc(
    posterior: "xr.DataTree", path: str | Path | None = None, *, log: bool = False
) -> "Figure":
    """Draw a visual predictive check of a population.

    Of the values in each bin of times, the 5, 50 and 95 % quantiles are compared with those of
    data simulated for other individuals of the same population, with the same doses, times and
    covariates: a band has each quantile in 90 % of the simulations. Values that are known to lie
    below a limit count as that limit, in the data and in the simulations.

    Source: Holford (2005), "The visual predictive check", PAGE 14, abstract 738.

    Args:
        posterior: the result of a calibration of a system with varying parameters.
        path: where to save the picture as PNG; None only makes it.
        log: whether values are drawn on a logarithmic axis.

    Returns:
        The figure, of one panel an observable (or an element of a vector-valued one).

    Raises:
        OutputError: if nothing varies in the posterior, or the picture cannot be written there.
    """
    target = None if path is None else check_output(path, ".png")
    if "population_predictive" not in posterior.children:
        raise OutputError(
            "This posterior has no group `population_predictive`: a visual predictive check needs "
            "a population. Expected a system with parameters that vary between groups, by "
            "Parameter.varying(...). Take odecal.plot_fit."
        )
    simulated = posterior["population_predictive"].to_dataset()
    observed = posterior["observed_data"].to_dataset()
    panels = [
        (str(name), element)
        for name in simulated.data_vars
        for element in np.ndindex(*observed[name].shape[1:])
    ]
    figure, axes = panel_grid(len(panels), min(2, len(panels)), (6.2, 4.2), (0.4, 0.4))
    for axis, (name, element) in zip(axes, panels, strict=True):
        _draw_check(axis, posterior.attrs, (observed, simulated), name, element)
        if log:
            axis.set_yscale("log")
    axes[0].legend(frameon=False, fontsize="small")
    figure.suptitle(f"{literal(posterior.attrs.get('system', ''))}: visual predictive check")
    return saved(figure, target)


def _draw_check(
    axis: Any, attrs: Any, data: tuple["xr.Dataset", "xr.Dataset"], name: str, element: Any
) -> None:
    """One observable: its values, their quantiles, and the bands of simulated ones."""
    observed, simulated = (part[name] for part in data)
    one = dict(zip(observed.dims[1:], element, strict=True))
    values = observed.isel(one).values
    times = observed[time_coord(observed)].values
    draws = simulated.isel(one).values.reshape(-1, len(times))
    upper = data[0].get(f"{name}_upper")
    if upper is not None:
        values, draws = _quantified(values, upper.isel(one).values, draws)
    here = np.isfinite(values)
    bins = _bins(times[here])
    groups = [bins == i for i in range(bins.max() + 1)]
    middles = [float(np.median(times[here][group])) for group in groups]
    if len(groups) == 1:  # drawn as a short stretch, to be seen
        groups, middles = groups * 2, [middles[0] - 0.5, middles[0] + 0.5]
    for q in _QUANTILES:
        label = {0.5: "median", 0.05: "5 and 95 %"}.get(q)
        seen = [np.quantile(values[here][group], q) for group in groups]
        drawn = np.stack([np.nanquantile(draws[:, here][:, g], q, axis=1) for g in groups])
        low, high = np.nanquantile(drawn, _SURE, axis=1)
        band = f"simulated {label}" if label else None
        axis.fill_between(middles, low, high, color=_COLOURS[q], alpha=0.3, lw=0, label=band)
        style = "-" if q == 0.5 else "--"
        axis.plot(middles, seen, style, color="black", lw=1.3, label=label and f"observed {label}")
    axis.plot(times[here], values[here], "o", color="black", ms=2.5, alpha=0.45)
    label_panel(axis, observed, one, attrs.get("time_unit", ""), {})


def _quantified(
    lower: np.ndarray, upper: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values, and simulated ones, as a laboratory would report them: no further than its limits."""
    left, right = np.isneginf(lower), np.isposinf(upper)
    floor = upper[left].max() if left.any() else -np.inf
    ceiling = lower[right].min() if right.any() else np.inf
    values = np.where(left, floor, np.where(right, ceiling, (lower + upper) / 2))
    return np.clip(values, floor, ceiling), np.clip(draws, floor, ceiling)


def _bins(times: np.ndarray) -> np.ndarray:
    """The number of the bin of each time: about as many values in each, equal times together.

    Where all are measured at a few times, each of these is a bin.
    """
    distinct, number_of = np.unique(times, return_inverse=True)
    if len(distinct) <= _MOST_BINS and len(times) >= 2 * len(distinct):
        return number_of
    number = int(np.clip(len(times) // _PER_BIN, _FEWEST_BINS, _MOST_BINS))
    edges = np.unique(np.quantile(times, np.linspace(0, 1, number + 1)[1:-1], method="nearest"))
    found = np.searchsorted(edges, times, side="left")
    return np.unique(found, return_inverse=True)[1]
