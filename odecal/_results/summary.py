"""A posterior in a table and a few sentences."""

import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._results.doubts import agreement, tempered

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# A summary with more rows tells those of groups together.
_MANY_ROWS = 40
# A solve of more steps by an explicit solver makes one think of stiffness.
_MANY_STEPS = 1000
# A standard deviation of the log evidence between populations that is too large to trust them.
_NATS_APART = 0.5
# Tempering has been tried in so many dimensions.
_TEMPERED = 20


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
        if _spread(columns["mean"][variable].values[index], columns["sd"][variable].values[index])
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, "unit"])


def _spread(mean: float, sd: float) -> bool:
    """Whether draws differ by more than rounding, or are not numbers."""
    return not sd <= 1e-14 * abs(mean)


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
    """Divide a long summary: what all share, and a row for each quantity that groups have.

    Args:
        posterior: the result of a calibration.
        table: its summary.

    Returns:
        The rows that are of no single group; and of each quantity of groups their number, the
        lowest and the highest median, the smallest effective sample sizes, the largest R-hat, and
        the unit. The whole table and an empty one, where the rows are few.
    """
    import pandas as pd

    group = posterior["posterior"].to_dataset()
    dims = _of_groups(posterior) if len(table) > _MANY_ROWS else {}
    labels: dict[str, list[str]] = {name: [] for name in dims}
    for name, _, label in _elements(group):
        if name in labels:
            labels[name].append(label)
    labels = {name: [x for x in own if x in table.index] for name, own in labels.items()}
    told = {
        name: {"groups": f"{group.sizes[dims[name]]} {dims[name]}"} | _range(table.loc[own])
        for name, own in labels.items()
        if own
    }
    rest = table.drop([label for own in labels.values() for label in own])
    return rest, pd.DataFrame.from_dict(told, orient="index")


def _range(rows: "pd.DataFrame") -> dict[str, Any]:
    """The range of the medians of rows, and the worst of what is said of their draws."""
    return {
        "lowest q50": rows["q50"].min(),
        "highest q50": rows["q50"].max(),
        "least ess_bulk": rows["ess_bulk"].min(skipna=False),
        "least ess_tail": rows["ess_tail"].min(skipna=False),
        "largest r_hat": rows["r_hat"].max(skipna=False),
        "unit": rows["unit"].iloc[0],
    }


def _of_groups(posterior: "xr.DataTree") -> dict[str, str]:
    """The quantities that groups have of their own, each with the dimension of its groups."""
    individual, _ = _individuals(posterior)
    if not individual:
        return {}
    variables = posterior["posterior"].to_dataset().data_vars
    first = {str(name): str(x.dims[2]) for name, x in variables.items() if len(x.dims) > 2}
    varying = [x for x in first if f"{x}_location" in variables or f"{x}_scale" in variables]
    groups = {individual, *(first[name] for name in varying)}
    return {name: dim for name, dim in first.items() if dim in groups}


def _individuals(posterior: "xr.DataTree") -> tuple[str, int]:
    """The dimension of individuals, and their number; no name for a single experiment."""
    if "trajectories" in posterior.children:
        for variable in posterior["trajectories"].data_vars.values():
            before = variable.dims[2 : variable.dims.index("time")]
            if before:
                return str(before[0]), variable.sizes[before[0]]
    return "", 1


def verdict(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Say in sentences whether the draws can be trusted.

    Args:
        posterior: the result of a calibration.
        table: its summary.

    Returns:
        One sentence a finding.
    """
    attrs, stats = posterior.attrs, posterior["sample_stats"]
    draws = stats["diverging"].size
    found = [f"{draws} draws in {stats.sizes['chain']} chains{_of_how_long(attrs)}."]
    if not attrs.get("complete", 1):
        found.append("The run was interrupted, and is not complete.")
    found += _modes(posterior)
    if attrs.get("approximate", 0):
        return [*found, *_approximation(posterior)]
    found += agreement(posterior, table)
    found += _adapted(posterior)
    found += _failures(posterior)
    return found


def _of_how_long(attrs: Mapping[Any, Any]) -> str:
    """How long compilation and sampling took, in words."""
    if "compile_seconds" not in attrs:
        return ""
    compiled, sampled = attrs["compile_seconds"], attrs["sampling_seconds"]
    return f" ({compiled:.1f} s of tracing and compiling, {sampled:.1f} s of sampling)"


def _modes(posterior: "xr.DataTree") -> list[str]:
    """What the search for starting points has found, in words."""
    if "warm_start" not in posterior.children:
        return []
    group = posterior["warm_start"].to_dataset()
    density, mass = group["mode_logdensity"].values, group["mode_log_mass"].values
    climbs, lost = group.sizes["climb"], int((group["climb_mode"].values < 0).sum())
    text = f"{climbs} climbs from prior draws ended in {_count(len(density), 'mode')}"
    if len(density) > 1:
        gaps = ", ".join(f"{density[0] - x:.0f}" for x in density[1:])
        text += f", the others {gaps} nats lower" if len(density) > 2 else f", {gaps} nats apart"
    text += f"; {lost} did not arrive" if lost else ""
    if 2 * lost > climbs and "population_predictive" in posterior.children:
        text += ", as is usual for populations, whose joint mode means little"
    failed = int(group["failed_candidates"])
    was = "was" if failed == 1 else "were"
    text += (
        f"; {_count(failed, 'prior draw')} had no finite density or gradient, and {was} replaced"
        if failed
        else ""
    )
    sentences = [f"{text}."]
    used = np.unique(group["chain_mode"].values)
    if len(used) > 1:
        share = np.exp(mass - mass.max())
        parts = ", ".join(f"{x:.0%}" for x in (share / share.sum())[used])
        text = f"Modes are close in mass (about {parts}, by Laplace's approximation)"
        weighed = (
            ". Populations of particles weigh them from the prior on, whatever that says."
            if tempered(posterior)
            else ", and chains start in each. Chains do not weigh modes that they do not cross: "
            "for that take odecal.samplers.TemperedSMC() (--sampler tempered-smc)."
        )
        sentences.append(text + weighed)
    return sentences


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _approximation(posterior: "xr.DataTree") -> list[str]:
    """How good an approximation is, by the Pareto tail of its importance weights."""
    from arviz_stats.base import array_stats

    stats = posterior["sample_stats"]
    ratio = np.asarray(stats["lp"] - stats["log_approximation"]).ravel()
    k_hat = float(array_stats.psislw(ratio, axis=-1)[1])
    judged = (
        "importance weights would correct them"
        if k_hat < 0.7
        else "they are not to be trusted, nor weighted. Take odecal.samplers.NUTS()"
    )
    return [
        "These draws are of an approximation, not of the posterior.",
        f"The Pareto k of their importance weights is {k_hat:.2f}: {judged}.",
    ]


def _adapted(posterior: "xr.DataTree") -> list[str]:
    """The evidence, where the sampler gives it."""
    if not tempered(posterior):
        return []
    group = posterior["adaptation"].to_dataset()
    arrived = float(group["inverse_temperature"].min())
    if arrived < 1.0:
        return [
            "Tempering has not arrived at the posterior: the inverse temperature is "
            f"{arrived:.2g}. These are not draws of it. Raise num_warmup, the number of stages."
        ]
    values = group["log_evidence"].values
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    found = [f"The log evidence is {values.mean():.2f} (standard error {error:.2f})."]
    if len(values) > 1 and values.std(ddof=1) > _NATS_APART:
        found.append(
            f"It differs by {values.std(ddof=1):.1f} nats between populations: particles moved too "
            "little, and means may be off by more than their standard errors. Where there is one "
            "mode, compare with odecal.samplers.NUTS()."
        )
    return found


def _failures(posterior: "xr.DataTree") -> list[str]:
    """Divergences, failed solves, and what a solve took."""
    stats = posterior["sample_stats"]
    diverging = np.asarray(stats["diverging"]).astype(bool)
    failed = np.asarray(stats["failed_solves"]) > 0
    without = np.asarray(stats.get("failed_gradients", 0 * stats["diverging"])) > 0
    parts = [int((diverging & which).sum()) for which in (diverging, failed, without)]
    if parts[0]:
        text = (
            f"{parts[0]} of {diverging.size} transitions diverged, {parts[1]} of them at a failed "
            f"solve{_of_gradients(parts[2])}: what lies beyond is missing from the draws. "
            f"To mend it, {_advice(posterior, *parts)}."
        )
    elif failed.any():
        text = f"No transition diverged, but solves failed in {failed.sum()} of {failed.size}."
    else:
        text = "No transition diverged, and no solve failed."
    return [text, _steps(posterior)]


def _of_gradients(number: int) -> str:
    return f" and {number} at a gradient that is not a number" if number else ""


def _advice(posterior: "xr.DataTree", diverged: int, failed: int, without: int) -> str:
    """What to do about divergences."""
    if without:
        return (
            "write what has no derivative so that it has one: a root, a power or a quotient of "
            "something that is 0, such as jnp.maximum(y.c, 1e-12) ** p.h for y.c ** p.h"
        )
    advice = "raise target_acceptance_rate, to 0.99 if need be"
    if "population_predictive" not in posterior.children and _few_dimensions(posterior):
        advice += ", or take odecal.samplers.TemperedSMC() (--sampler tempered-smc)"
    if failed:
        advice += ", or reconsider the priors where the system cannot be solved"
    # Where every centring is chosen from the data already, the table has no other.
    chosen = "centred" not in posterior.attrs.get("system_table", "centred")
    if "population_predictive" in posterior.children and not chosen:
        advice += ", or choose the centring from the data: odecal.centring.Informed()"
    return advice


def _few_dimensions(posterior: "xr.DataTree") -> bool:
    """Whether tempering, which takes no gradient, is a way to try."""
    if "unconstrained_posterior" not in posterior.children:
        return False
    return posterior["unconstrained_posterior"].sizes["unconstrained"] <= _TEMPERED


def _steps(posterior: "xr.DataTree") -> str:
    """How many steps solves took, in words: of many individuals, all together."""
    steps = np.asarray(posterior["sample_stats"]["solver_steps"])
    _, number = _individuals(posterior)
    middle = np.median(steps)
    if number == 1:
        return (
            f"A solve took {middle:.0f} steps (at most {steps.max()}).{_stiff(posterior, middle)}"
        )
    return (
        f"The solves of {number} individuals took {middle:.0f} steps together "
        f"(at most {steps.max()}).{_stiff(posterior, middle / number)}"
    )


def _stiff(posterior: "xr.DataTree", steps: float) -> str:
    """What many steps by an explicit solver may mean."""
    name = str(posterior.attrs.get("solver", "")).partition("(")[0]
    if steps < _MANY_STEPS or name not in {"Tsit5", "Dopri5", "Dopri8", "Bosh3"}:
        return ""
    return (
        f" That is many for {name}: unless the states oscillate as often the system is stiff, and "
        "an implicit solver takes fewer: odecal.Solve(solver=diffrax.Kvaerno5(root_finder="
        "optimistix.Newton(rtol=1e-8, atol=1e-10)))."
    )
