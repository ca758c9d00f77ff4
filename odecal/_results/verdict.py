"""Whether draws can be trusted, in sentences."""

from typing import TYPE_CHECKING

import numpy as np

from odecal._results.doubts import DOUBTS, HIGHEST_R_HAT, in_several_modes, tempered
from odecal._results.summary import individuals

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# A solve of more steps by an explicit solver makes one think of stiffness.
_MANY_STEPS = 1000
# A standard deviation of the log evidence between populations that is too large to trust them.
_NATS_APART = 0.5
# Tempering has been tried in so many dimensions.
_TEMPERED = 20


def verdict(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Say whether draws can be trusted, from a result and its summary: one sentence a finding."""
    attrs, stats = posterior.attrs, posterior["sample_stats"]
    draws = stats["diverging"].size
    long = ""
    if "compile_seconds" in attrs:
        compiled, sampled = attrs["compile_seconds"], attrs["sampling_seconds"]
        long = f" ({compiled:.1f} s of tracing and compiling, {sampled:.1f} s of sampling)"
    found = [f"{draws} draws in {stats.sizes['chain']} chains{long}."]
    if not attrs.get("complete", 1):
        found.append("The run was interrupted, and is not complete.")
    found += _modes(posterior)
    if attrs.get("approximate", 0):
        return [*found, *_approximation(posterior)]
    agreement = _agreement(posterior, table)
    return [*found, *agreement, *_evidence(posterior), _failures(posterior), _steps(posterior)]


def _modes(posterior: "xr.DataTree") -> list[str]:
    """What the search for starting points has found."""
    if "warm_start" not in posterior.children:
        return []
    group = posterior["warm_start"].to_dataset()
    density = group["mode_logdensity"].values
    climbs, lost = group.sizes["climb"], int((group["climb_mode"].values < 0).sum())
    text = f"{climbs} climbs from prior draws ended in {_count(len(density), 'mode')}"
    if len(density) > 1:
        gaps = ", ".join(f"{density[0] - x:.0f}" for x in density[1:])
        text += f", the others {gaps} nats lower" if len(density) > 2 else f", {gaps} nats apart"
    if lost:
        text += f"; {lost} did not arrive"
    if 2 * lost > climbs and "population_predictive" in posterior.children:
        text += ", as is usual for populations, whose joint mode means little"
    if failed := int(group["failed_candidates"]):
        was = "was" if failed == 1 else "were"
        text += (
            f"; {_count(failed, 'prior draw')} had no finite density or gradient, and {was} "
            "replaced"
        )
    return [f"{text}.", *_masses(posterior, group)]


def _masses(posterior: "xr.DataTree", group: "xr.Dataset") -> list[str]:
    """That chains start in several modes of similar mass."""
    used = np.unique(group["chain_mode"].values)
    if len(used) < 2:
        return []
    mass = group["mode_log_mass"].values
    share = np.exp(mass - mass.max())
    parts = ", ".join(f"{x:.0%}" for x in (share / share.sum())[used])
    weighed = (
        ". Populations of particles weigh them from the prior on, whatever that says."
        if tempered(posterior)
        else ", and chains start in each. Chains do not weigh modes that they do not cross: "
        "for that take odecal.samplers.TemperedSMC() (--sampler tempered-smc)."
    )
    return [f"Modes are close in mass (about {parts}, by Laplace's approximation){weighed}"]


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


def _agreement(posterior: "xr.DataTree", table: "pd.DataFrame") -> list[str]:
    """Whether the chains agree; every reason to doubt the draws; and their number."""
    if not len(table):
        return ["No chain moved: every draw of a chain is the same. Nothing is known from them."]
    worst, stats = float(table["r_hat"].max()), posterior["sample_stats"]
    failed = any(bool(stats[x].any()) for x in ("diverging", "failed_solves") if x in stats)
    doubts = [sentence for doubt in DOUBTS for sentence in doubt(posterior, table)]
    if worst >= HIGHEST_R_HAT:
        first = f"R-hat reaches {worst:.3f} ({table['r_hat'].idxmax()}): {_disagreement(posterior)}"
    elif stats.sizes["chain"] == 1:
        first = (
            "There is a single chain: whether another would agree is not known. Run several "
            "(num_chains=4)."
        )
    elif not np.isfinite(worst):
        first = "R-hat cannot be told from these draws: run several chains, and longer."
    elif doubts or failed or in_several_modes(posterior):
        first = "R-hat is below 1.01 where it is known, but there is reason to doubt the draws:"
    else:
        first = "R-hat is below 1.01 throughout: the chains agree."
    sizes = (
        "The smallest bulk effective sample size is "
        f"{table['ess_bulk'].min():.0f}, the smallest of the tails {table['ess_tail'].min():.0f}."
    )
    return [first, *doubts, sizes]


def _disagreement(posterior: "xr.DataTree") -> str:
    """What to do about a high R-hat."""
    if tempered(posterior):
        return (
            "the populations do not agree yet. Take more particles: "
            "TemperedSMC(num_particles=4000) (--set num_particles=4000)."
        )
    if in_several_modes(posterior):
        return "the chains are in several modes, and do not weigh them however long they run."
    return "the chains do not agree yet. Run longer; if that does not help, look for several modes."


def _evidence(posterior: "xr.DataTree") -> list[str]:
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
    spread = values.std(ddof=1) if len(values) > 1 else np.nan
    error = spread / np.sqrt(len(values))
    found = [f"The log evidence is {values.mean():.2f} (standard error {error:.2f})."]
    if spread > _NATS_APART:
        found.append(
            f"It differs by {spread:.1f} nats between populations: particles moved too "
            "little, and means may be off by more than their standard errors. Where there is one "
            "mode, compare with odecal.samplers.NUTS()."
        )
    return found


def _failures(posterior: "xr.DataTree") -> str:
    """Divergences and failed solves."""
    stats = posterior["sample_stats"].to_dataset()
    diverging = np.asarray(stats["diverging"]).astype(bool)
    none = 0 * stats["diverging"]
    failed, without = (
        np.asarray(stats.get(name, none)) > 0 for name in ("failed_solves", "failed_gradients")
    )
    if not diverging.any() and failed.any():
        return f"No transition diverged, but solves failed in {failed.sum()} of {failed.size}."
    known = "failed_solves" in stats
    if not diverging.any():
        return f"No transition diverged{', and no solve failed' if known else ''}."
    at_failed, at_gradient = (int((diverging & which).sum()) for which in (failed, without))
    solves = f", {at_failed} of them at a failed solve" if known else ""
    gradients = f" and {at_gradient} at a gradient that is not a number" if at_gradient else ""
    return (
        f"{diverging.sum()} of {diverging.size} transitions diverged{solves}{gradients}: what lies "
        "beyond is missing from the draws. "
        f"To mend it, {_advice(posterior, at_failed, at_gradient)}."
    )


def _advice(posterior: "xr.DataTree", at_failed: int, at_gradient: int) -> str:
    """What to do about divergences, of which so many are at failed solves and gradients."""
    if at_gradient:
        return (
            "write what has no derivative so that it has one: a root, a power or a quotient of "
            "something that is 0, such as jnp.maximum(y.c, 1e-12) ** p.h for y.c ** p.h"
        )
    advice = "raise target_acceptance_rate, to 0.99 if need be"
    groups = posterior.children
    flat = groups.get("unconstrained_posterior")
    few = flat is not None and flat.sizes["unconstrained"] <= _TEMPERED
    if few and "population_predictive" not in groups:
        advice += ", or take odecal.samplers.TemperedSMC() (--sampler tempered-smc)"
    if at_failed:
        advice += ", or reconsider the priors where the system cannot be solved"
    # Where every centring is chosen from the data already, the table has no other.
    chosen = "centred" not in posterior.attrs.get("system_table", "centred")
    if "population_predictive" in groups and not chosen:
        advice += ", or choose the centring from the data: odecal.centring.Informed()"
    return advice


def _steps(posterior: "xr.DataTree") -> str:
    """How many steps solves took, in words: of many individuals, all together."""
    steps = np.asarray(posterior["sample_stats"]["solver_steps"])
    _, number = individuals(posterior)
    median = np.median(steps)
    solves = "A solve took" if number == 1 else f"The solves of {number} individuals took"
    together = "" if number == 1 else " together"
    return (
        f"{solves} {median:.0f} steps{together} (at most {steps.max()})."
        f"{_stiff(posterior, median / number)}"
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
