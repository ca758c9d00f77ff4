"""A posterior in a table and a few sentences."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def summary(posterior: "xr.DataTree") -> "pd.DataFrame":
    """Summarise every parameter, initial value and derived quantity.

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
    columns = {
        "mean": group.mean(draws),
        "sd": group.std(draws),
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
    }
    return pd.DataFrame.from_dict(rows, orient="index")


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


def verdict(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Say in sentences whether the draws can be trusted.

    Args:
        posterior: the result of a calibration.
        table: its summary.

    Returns:
        One sentence a finding.
    """
    stats = posterior["sample_stats"]
    draws = stats["diverging"].size
    divergences = int(stats["diverging"].sum())
    failed = int(stats["failed_solves"].sum())
    worst, least = float(table["r_hat"].max()), float(table["ess_bulk"].min())
    found = [f"{draws} draws in {stats.sizes['chain']} chains."]
    if worst < 1.01:
        found.append("R-hat is below 1.01 throughout: the chains agree.")
    elif np.isfinite(worst):
        found.append(
            f"R-hat reaches {worst:.3f} ({table['r_hat'].idxmax()}): the chains do not agree yet. "
            "Run longer; if that does not help, look for several modes."
        )
    else:
        found.append("R-hat cannot be told from these draws: run several chains, and longer.")
    found.append(f"The smallest bulk effective sample size is {least:.0f}.")
    if divergences:
        advice = "raise target_acceptance_rate"
        if failed:
            advice += ", or reconsider the priors where the system cannot be solved"
        found.append(
            f"{divergences} of {draws} transitions diverged, {failed} of them at a failed solve: "
            f"{advice}."
        )
    else:
        found.append("No transition diverged, and no solve failed.")
    steps = np.asarray(stats["solver_steps"])
    found.append(f"A solve took {np.median(steps):.0f} steps (at most {steps.max()}).")
    return found
