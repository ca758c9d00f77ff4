"""Times that a precision cannot tell apart."""

from typing import Any

import numpy as np

from odecal._data.experiment import Experiment
from odecal._errors import SettingsError

# How much of the time between two times rounding may take or add, and how many times of its own
# between the first and the last it must leave to the steps.
_MOST, _LEAST = 0.01, 1000


def check_times(experiment: Experiment, dtype: Any) -> None:
    """Refuse times that are nearer to one another than they are rounded.

    Args:
        experiment: the observations, doses and inputs.
        dtype: the floating type that a solve computes in.

    Raises:
        SettingsError: for the first two such times.
    """
    dtype = np.dtype(dtype)
    if dtype == np.float64:
        return
    who, times = _all_times(experiment)
    order = np.lexsort([times, who])
    who, times = who[order], times[order]
    rounded = times.astype(dtype)
    gap, kept = np.diff(times), np.diff(rounded.astype(float))
    apart = (np.diff(who) == 0) & (gap > 0)
    bad = np.flatnonzero(apart & (np.abs(kept - gap) > _MOST * gap))
    if bad.size:
        _refuse(experiment, dtype, int(who[bad[0]]), times[bad[0] : bad[0] + 2])
    first = np.flatnonzero(np.append(True, np.diff(who) != 0))
    last = np.append(first[1:], len(who)) - 1
    step = np.spacing(np.maximum(np.abs(rounded[first]), np.abs(rounded[last])))
    span = times[last] - times[first]
    bad = np.flatnonzero((span > 0) & (span < _LEAST * step))
    if bad.size:
        ends = [first[bad[0]], last[bad[0]]]
        _refuse(experiment, dtype, int(who[ends[0]]), times[ends])


def _refuse(experiment: Experiment, dtype: Any, who: int, times: np.ndarray) -> None:
    people = experiment.individuals
    whose = f" of {people.labels[who]}" if people.dim else ""
    (one, other), step = times.tolist(), float(np.spacing(np.abs(times.astype(dtype)).max()))
    raise SettingsError(
        f"Solve(dtype={dtype.name}) cannot tell the times {one!r} and {other!r}{whose} apart well "
        f"enough: it rounds such times to multiples of {step:.3g}. Expected times whose "
        "differences it keeps. Count time from the first of them, or take "
        "Solve(dtype=jax.numpy.float64)."
    )


def _all_times(experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """Whose, and when: of the beginning, of observations, doses and samples of inputs."""
    count, ts = len(experiment.individuals), experiment.save_times.ts
    who = [np.arange(count), np.repeat(np.arange(count), ts.shape[1])]
    times = [experiment.t0, ts.ravel()]
    for samples in experiment.inputs.values():
        who, times = [*who, samples.individual], [*times, samples.times]
    if experiment.doses is not None:
        who, times = [*who, experiment.doses.individual], [*times, experiment.doses.time]
    return np.concatenate(who), np.concatenate(times)
