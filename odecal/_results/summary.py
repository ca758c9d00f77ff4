"""A posterior in a table."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# A summary with more rows tells those of groups together.
_MANY_ROWS = 40


def summary(posterior: "xr.DataTree") -> "pd.DataFrame":
    """Summarise every parameter, initial value and derived quantity.

    What is the same in every draw, such as the diagonal of a matrix of correlations, is left out.

    Args:
        posterior: the result of a calibration.

    Returns:
        A row a quantity: mean, sd, the 5, 50 and 95 % quantiles, bulk and tail effective sample
        size, R-hat, the Monte Carlo standard error of the mean, and the unit.
    """
    import arviz_stats
    import pandas as pd

    group = posterior["posterior"].to_dataset()
    draws = ("chain", "draw")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is left out
        mean, sd = group.mean(draws), group.std(draws)
        columns = {
            "mean": mean,
            "sd": sd,
            "q5": group.quantile(0.05, draws),
            "q50": group.quantile(0.5, draws),
            "q95": group.quantile(0.95, draws),
            "ess_bulk": arviz_stats.ess(group, method="bulk"),
            "ess_tail": arviz_stats.ess(group, method="tail"),
            "r_hat": arviz_stats.rhat(group),
            "mcse_mean": arviz_stats.mcse(group, method="mean"),
        }
    rows = {
        label: {name: float(data[variable].values[index]) for name, data in columns.items()}
        | {"unit": group[variable].attrs.get("units", "")}
        for variable, index, label in _elements(group)
        if not sd[variable].values[index] <= 1e-14 * abs(mean[variable].values[index])
    }  # draws differ by more than rounding, or are not numbers
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "unit"])


def _elements(group: "xr.Dataset") -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Every scalar of a group: its variable, its index, and a label such as `rate[adult]`."""
    for name, variable in group.data_vars.items():
        dims = [dim for dim in variable.dims if dim not in ("chain", "draw")]
        for index in np.ndindex(*(variable.sizes[dim] for dim in dims)):
            where = [
                str(variable[dim].values[i]) if dim in variable.coords else str(i)
                for dim, i in zip(dims, index, strict=True)
            ]
            yield str(name), index, f"{name}[{', '.join(where)}]" if where else str(name)


def folded(
    posterior: "xr.DataTree", table: "pd.DataFrame"
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """Divide a long summary: the rows of no single group, and one for each quantity of groups.

    The latter tells their number, the lowest and the highest median, the smallest effective sample
    sizes, the largest R-hat, and the unit. Where the rows are few, it is all of them and none.
    """
    import pandas as pd

    group = posterior["posterior"].to_dataset()
    dims = _dims_of_groups(posterior) if len(table) > _MANY_ROWS else {}
    labels: dict[str, list[str]] = {name: [] for name in dims}
    for name, _, label in _elements(group):
        if name in labels and label in table.index:
            labels[name].append(label)
    ranges = {
        name: {"groups": f"{group.sizes[dims[name]]} {dims[name]}"} | _range(table.loc[own])
        for name, own in labels.items()
        if own
    }
    rest = table.drop([label for own in labels.values() for label in own])
    return rest, pd.DataFrame.from_dict(ranges, orient="index")


def _range(rows: "pd.DataFrame") -> dict[str, Any]:
    """The range of the medians of rows, and the worst of their diagnostics."""
    return {
        "lowest q50": rows["q50"].min(),
        "highest q50": rows["q50"].max(),
        "least ess_bulk": rows["ess_bulk"].min(skipna=False),
        "least ess_tail": rows["ess_tail"].min(skipna=False),
        "largest r_hat": rows["r_hat"].max(skipna=False),
        "unit": rows["unit"].iloc[0],
    }


def _dims_of_groups(posterior: "xr.DataTree") -> dict[str, str]:
    """The quantities that groups have of their own, each with the dimension of its groups."""
    individual, _ = individuals(posterior)
    if not individual:
        return {}
    variables = posterior["posterior"].to_dataset().data_vars
    first = {str(name): str(x.dims[2]) for name, x in variables.items() if len(x.dims) > 2}
    varying = [x for x in first if f"{x}_location" in variables or f"{x}_scale" in variables]
    groups = {individual, *(first[name] for name in varying)}
    return {name: dim for name, dim in first.items() if dim in groups}


def individuals(posterior: "xr.DataTree") -> tuple[str, int]:
    """The dimension of individuals, and their number; no name for a single experiment."""
    if "trajectories" in posterior.children:
        for variable in posterior["trajectories"].data_vars.values():
            before = variable.dims[2 : variable.dims.index("time")]
            if before:
                return str(before[0]), variable.sizes[before[0]]
    return "", 1
