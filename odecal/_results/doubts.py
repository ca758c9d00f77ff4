"""Reasons to doubt draws, one a function.

Each takes the result of a calibration and its summary, and gives a sentence for each finding: none
where there is no reason to doubt.
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# Above this R-hat chains do not agree, and with fewer effective draws neither it nor a quantile is
# reliable: Vehtari et al. (2021), https://doi.org/10.1214/20-BA1221.
HIGHEST_R_HAT, _FEWEST_DRAWS = 1.01, 400
# Names are listed up to so many, and cut after so many letters.
_MANY_NAMES, _LONG = 5, 40


def still_chains(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Chains that never moved."""
    moved = _moved(posterior)
    if moved.all():
        return []
    chains = posterior["posterior"].to_dataset()["chain"].values[~moved]
    return [
        f"Chains that never moved: {', '.join(map(str, chains))}. Start them elsewhere (another "
        "seed), or drop them."
    ]


def still_coordinates(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Unconstrained coordinates that are the same in every draw."""
    if "unconstrained_posterior" not in posterior.children or not _moved(posterior).any():
        return []
    position = posterior["unconstrained_posterior"].to_dataset()["position"]
    values = np.asarray(position.transpose("chain", "draw", "unconstrained"))
    fixed = (values == values[:1, :1]).all(axis=(0, 1))
    if not fixed.any():
        return []
    names = _listed(position["unconstrained"].values[fixed])
    return [f"The same in every draw: {names}. No sampler leaves it so."]


def unknown_diagnostics(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Quantities whose R-hat or effective sample sizes are not numbers."""
    columns = ["r_hat"] if posterior["sample_stats"].sizes["chain"] > 1 else []
    known = np.isfinite(table[[*columns, "ess_bulk", "ess_tail"]]).all(axis=1)
    if known.all():
        return []
    return [
        f"R-hat or an effective sample size is not a number for {_listed(table.index[~known])}: "
        "their draws hold what is not a number, or chains that stand still."
    ]


def few_draws(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Quantities with few effective draws."""
    if table["r_hat"].max() >= HIGHEST_R_HAT and in_several_modes(posterior):
        return []  # of chains in different modes more draws say nothing more
    least = table[["ess_bulk", "ess_tail"]].min(axis=1)
    few = least[least < _FEWEST_DRAWS].sort_values()
    if not len(few):
        return []
    return [
        f"Fewer than {_FEWEST_DRAWS} effective draws: {_listed(few.index)}, at least "
        f"{few.iloc[0]:.0f}. Take more (num_samples), of which quantiles are reliable."
    ]


def cut_trajectories(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Trajectories that ended at the largest length allowed."""
    stats = posterior["sample_stats"]
    for setting, values in (
        ("max_tree_depth", stats.get("tree_depth")),
        ("max_integration_steps", stats.get("n_steps")),
    ):
        limit = _sampler_setting(posterior, setting)
        if limit is None or values is None:
            continue
        share = float(np.mean(np.asarray(values) >= limit))
        if share > 0.01:
            return [
                f"{share:.0%} of trajectories were cut short at {setting}={limit}: draws are "
                "correlated, or scales were not learnt. Run a longer warm-up, or raise it."
            ]
    return []


DOUBTS = (still_chains, still_coordinates, unknown_diagnostics, few_draws, cut_trajectories)


def tempered(posterior: "xr.DataTree") -> bool:
    """Whether the sampler went from the prior to the posterior, and tells the evidence."""
    return "adaptation" in posterior.children and "log_evidence" in posterior["adaptation"]


def in_several_modes(posterior: "xr.DataTree") -> bool:
    """Whether chains started around several modes; of tempering, whether it has not arrived."""
    if tempered(posterior):
        return bool((posterior["adaptation"]["inverse_temperature"] < 1.0).any())
    if "warm_start" not in posterior.children:
        return False
    return len(np.unique(posterior["warm_start"].to_dataset()["chain_mode"].values)) > 1


def _moved(posterior: "xr.DataTree") -> np.ndarray:
    """Whether each chain has moved."""
    group = posterior["posterior"].to_dataset()
    moved = np.zeros(group.sizes["chain"], bool)
    for variable in group.data_vars.values():
        values = np.asarray(variable.transpose("chain", "draw", ...))
        moved |= (values != values[:, :1]).reshape(len(values), -1).any(axis=1)
    return moved


def _sampler_setting(posterior: "xr.DataTree", name: str) -> int | None:
    """A whole number among the settings of the sampler, as they stand in the file."""
    try:
        settings = json.loads(posterior.attrs.get("sampler_settings", "{}"))
    except ValueError:
        return None
    value = settings.get(name) if isinstance(settings, dict) else None
    found = re.fullmatch(r"\d+", str(value))
    return int(found[0]) if found else None


def _listed(names: "Sequence[str] | np.ndarray | pd.Index") -> str:
    cut = [name if len(name) <= _LONG else f"{name[:_LONG]}…" for name in names[:_MANY_NAMES]]
    shown = ", ".join(f"`{name}`" for name in cut)
    more = len(names) - _MANY_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
