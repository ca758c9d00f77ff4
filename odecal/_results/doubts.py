"""What speaks against draws: every reason to doubt them, in sentences."""

import json
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# Above this R-hat chains do not agree, and with fewer effective draws neither it nor a quantile is
# reliable: Vehtari et al. (2021), https://doi.org/10.1214/20-BA1221.
_HIGHEST_R_HAT, _FEWEST_DRAWS = 1.01, 400
# Names are told up to so many.
_MANY_NAMES = 5
# And cut after so many letters.
_LONG = 40


def agreement(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Whether the chains agree, in doubt not.

    Args:
        posterior: the result of a calibration.
        table: its summary.

    Returns:
        What R-hat says first; then every reason for doubt that the draws themselves give.
    """
    if not len(table):
        return ["No chain moved: every draw of a chain is the same. Nothing is known from them."]
    single = posterior["sample_stats"].sizes["chain"] == 1
    worst = float(table["r_hat"].max())
    # Of chains in different modes more draws say nothing more.
    few = [] if worst >= _HIGHEST_R_HAT and _apart(posterior) else _few(table)
    doubts = [*_still(posterior), *_unknown(table, single), *few, *_cut_short(posterior)]
    if worst >= _HIGHEST_R_HAT:
        said = f"R-hat reaches {worst:.3f} ({table['r_hat'].idxmax()}): {_disagreement(posterior)}"
    elif single:
        said = (
            "There is a single chain: whether another would agree is not known. Run several "
            "(num_chains=4)."
        )
    elif not np.isfinite(worst):
        said = "R-hat cannot be told from these draws: run several chains, and longer."
    elif doubts or _diverged(posterior) or _apart(posterior):
        said = "R-hat is below 1.01 where it is known, but there is reason to doubt the draws:"
    else:
        said = "R-hat is below 1.01 throughout: the chains agree."
    bulk, tail = table["ess_bulk"], table["ess_tail"]
    sizes = (
        "The smallest bulk effective sample size is "
        f"{bulk.min():.0f}, the smallest of the tails {tail.min():.0f}."
    )
    return [said, *doubts, sizes]


def _disagreement(posterior: "xr.DataTree") -> str:
    """That R-hat is high, and what to do, in words."""
    if tempered(posterior):
        return (
            "the populations do not agree yet. Take more particles: "
            "TemperedSMC(num_particles=4000) (--set num_particles=4000)."
        )
    if _apart(posterior):
        return "the chains are in several modes, and do not weigh them however long they run."
    return "the chains do not agree yet. Run longer; if that does not help, look for several modes."


def tempered(posterior: "xr.DataTree") -> bool:
    """Whether the sampler went from the prior to the posterior, and tells the evidence."""
    return "adaptation" in posterior.children and "log_evidence" in posterior["adaptation"]


def _diverged(posterior: "xr.DataTree") -> bool:
    stats = posterior["sample_stats"]
    return bool(np.asarray(stats["diverging"]).any() or np.asarray(stats["failed_solves"]).any())


def _apart(posterior: "xr.DataTree") -> bool:
    """Whether chains start around several modes, which they may not weigh; or not at all."""
    if tempered(posterior):
        return bool((posterior["adaptation"]["inverse_temperature"] < 1.0).any())
    if "warm_start" not in posterior.children:
        return False
    return len(np.unique(posterior["warm_start"].to_dataset()["chain_mode"].values)) > 1


def _still(posterior: "xr.DataTree") -> list[str]:
    """Chains, and coordinates, that did not move."""
    group = posterior["posterior"].to_dataset()
    moved = np.zeros(group.sizes["chain"], bool)
    for variable in group.data_vars.values():
        values = np.asarray(variable.transpose("chain", "draw", ...))
        moved |= (values != values[:, :1]).reshape(len(values), -1).any(axis=1)
    found = []
    if not moved.all():
        which = ", ".join(str(group["chain"].values[i]) for i in np.flatnonzero(~moved))
        found.append(
            f"Chains that never moved: {which}. Start them elsewhere (another seed), or drop them."
        )
    if "unconstrained_posterior" not in posterior.children:
        return found
    position = posterior["unconstrained_posterior"].to_dataset()["position"]
    values = np.asarray(position.transpose("chain", "draw", "unconstrained"))
    fixed = (values == values[:1, :1]).all(axis=(0, 1))
    if fixed.any() and moved.any():
        names = position["unconstrained"].values[fixed]
        found.append(f"The same in every draw: {_named(names)}. No sampler leaves it so.")
    return found


def _unknown(table: "pd.DataFrame", single: bool) -> list[str]:
    """Quantities whose diagnostics are no numbers."""
    numbers = table[["ess_bulk", "ess_tail"] if single else ["r_hat", "ess_bulk", "ess_tail"]]
    names = list(table.index[~np.isfinite(numbers).all(axis=1)])
    if not names:
        return []
    return [
        f"R-hat or an effective sample size is not a number for {_named(names)}: their draws hold "
        "what is not a number, or chains that stand still."
    ]


def _few(table: "pd.DataFrame") -> list[str]:
    """Quantities with few effective draws."""
    least = table[["ess_bulk", "ess_tail"]].min(axis=1)
    few = least[least < _FEWEST_DRAWS].sort_values()
    if not len(few):
        return []
    return [
        f"Fewer than {_FEWEST_DRAWS} effective draws: {_named(list(few.index))}, at least "
        f"{few.iloc[0]:.0f}. Take more (num_samples), of which quantiles are reliable."
    ]


def _cut_short(posterior: "xr.DataTree") -> list[str]:
    """Trajectories that ended at the largest length allowed."""
    stats = posterior["sample_stats"]
    for setting, values in (
        ("max_tree_depth", stats.get("tree_depth")),
        ("max_integration_steps", stats.get("n_steps")),
    ):
        limit = _setting(posterior, setting)
        if limit is None or values is None:
            continue
        share = float(np.mean(np.asarray(values) >= limit))
        if share > 0.01:
            return [
                f"{share:.0%} of trajectories were cut short at {setting}={limit}: draws are "
                "correlated, or scales were not learnt. Run a longer warm-up, or raise it."
            ]
    return []


def _setting(posterior: "xr.DataTree", name: str) -> int | None:
    """A whole number among the settings of the sampler, as they are kept in the file."""
    try:
        settings = json.loads(posterior.attrs.get("sampler_settings", "{}"))
    except ValueError:
        return None
    value = settings.get(name) if isinstance(settings, dict) else None
    found = re.fullmatch(r"\d+", str(value))
    return int(found[0]) if found else None


def _named(names: "list[str] | np.ndarray") -> str:
    cut = [name if len(name) <= _LONG else f"{name[:_LONG]}…" for name in names[:_MANY_NAMES]]
    told = ", ".join(f"`{name}`" for name in cut)
    more = len(names) - _MANY_NAMES
    return f"{told} and {more} more" if more > 0 else told
