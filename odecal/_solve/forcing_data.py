"""The doses and inputs of individuals, as arrays that programs take."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from odecal._data.experiment import MAX_PRIOR_DOSES, Doses, Experiment
from odecal._system.declaration import Declaration
from odecal._system.inputs import Dosing
from odecal.interpolation import AbstractInterpolation

# How many doses before a steady state are reckoned with for what is not known of lag and duration.
_MOST_UNKNOWN = 8


class ForcingData(NamedTuple):
    """The doses and inputs of one individual, or, with a leading axis, of each of many."""

    # The columns of `Doses`, each of shape (dose,); unused ones come at infinity.
    doses: dict[str, Any]
    # The times of samples, (sample,), and coefficients of interpolation, (sample, coefficient).
    inputs: dict[str, tuple[Any, Any]]
    # The rank below which times to keep see the doses of the same time.
    after_dose: Any
    # Times that no step may pass, (limit,); unused ones at infinity.
    limits: Any = None
    # The least magnitude of an observable's data, or of an input.
    size: Any = None


@dataclass(frozen=True)
class ForcingFlags:
    """What kinds of things happen, which programs are made for."""

    doses: bool = False
    infusions: bool = False
    resets: bool = False
    steady: int = 0  # doses to a steady state of one individual, at most
    period: float = 1.0  # of what happens, for infusions that never end
    before: int = 0  # doses before a steady state that may still be to come, or be running
    ordered: bool = False  # whether doses of the same time have an order


def arrays_of(
    experiment: Experiment, declaration: Declaration, flags: ForcingFlags, rtol: Any, dtype: Any
) -> ForcingData:
    """The doses and inputs of each individual, with a leading axis of individuals."""
    count = len(experiment.individuals)
    doses = _padded_doses(experiment.doses, count) if flags.doses else {}
    inputs = {
        name: _padded_samples(experiment, name, c.interpolation)
        for name, c in declaration.inputs.items()
    }
    return ForcingData(
        {name: np.asarray(x, dtype) for name, x in doses.items()},
        {name: (np.asarray(t, dtype), np.asarray(x, dtype)) for name, (t, x) in inputs.items()},
        None,
        limits_of(experiment, declaration, rtol, dtype) if inputs else None,
        _least_size(experiment).astype(dtype),
    )


def flags_of(doses: Doses | None, period: float, declaration: Declaration) -> ForcingFlags:
    """What kinds of doses there are, in an experiment that is so long, of a system."""
    if doses is None or not len(doses):
        return ForcingFlags()
    steady = np.bincount(doses.individual, doses.steady > 0)
    infusions = (doses.rate != 0) | (doses.duration != 0)
    return ForcingFlags(
        True,
        bool(infusions.any()),
        bool(doses.reset.any()),
        int(steady.max()),
        period if period > 0 else 1.0,
        _reach(doses, declaration),
        doses.rank is not None,
    )


def _reach(doses: Doses, declaration: Declaration) -> int:
    """How many of the doses before a steady state may arrive, or end, after the dose itself.

    Those given n intervals before it, n = 1, 2, ..., as long as n intervals are not more than the
    lag and the infusion. For what is a function of parameters some are reckoned with.
    """
    dosing = [
        state.dosing
        for name, state in declaration.states.items()
        for _ in range(int(np.prod(declaration.shape(name))))
    ]
    reach = 0
    for i in np.flatnonzero((doses.steady > 0) & (doses.interval > 0)):
        of = dosing[int(doses.element[i])]
        known, sure = _span(of, doses.amount[i], doses.rate[i], doses.duration[i])
        intervals = min(known / doses.interval[i] * (1 + 1e-9), MAX_PRIOR_DOSES)
        reach = max(reach, int(intervals) + (0 if sure else _MOST_UNKNOWN))
    return reach


def _span(of: Dosing, amount: float, rate: float, duration: float) -> tuple[float, bool]:
    """What is known of how long after a dose it ends, and whether that is all of it.

    Of functions of parameters nothing is known; but where only a part arrives, all might.
    """
    spans = [of.lag]
    sure = not callable(of.bioavailability) or rate in (0, -2)
    if rate == -2 or duration > 0:
        spans.append(of.duration if rate == -2 else duration)
    elif rate != 0:
        rate, part = (of.rate if rate == -1 else rate), of.bioavailability
        given = not callable(rate) and bool(rate > 0)
        sure &= given
        spans.append(amount * (1.0 if callable(part) else part) / rate if given else 0.0)
    known = sum(float(span) for span in spans if not callable(span))
    return known, sure and not any(callable(span) for span in spans)


def _padded_doses(
    doses: Doses | None, count: int
) -> dict[str, Float[np.ndarray, "individual dose"]]:
    """The columns of doses; what is not there comes never."""
    assert doses is not None
    place = _places(doses.individual)
    width = int(place.max()) + 1
    blank = {"time": np.inf, "element": -1.0}
    columns = {}
    names = ["time", "element", "amount", "rate", "duration", "interval", "steady", "reset"]
    names += [name for name in ("rank", "recorded") if getattr(doses, name) is not None]
    for name in names:
        columns[name] = np.full((count, width), blank.get(name, 0.0))
        columns[name][doses.individual, place] = getattr(doses, name)
    return columns


def _padded_samples(
    experiment: Experiment, name: str, interpolation: AbstractInterpolation
) -> tuple[Float[np.ndarray, "individual sample"], Float[np.ndarray, "individual sample ..."]]:
    """Times and coefficients of the samples of an input.

    Where an individual has fewer, its last sample is repeated: at the same time, or, where a solve
    stops at samples, at infinity.
    """
    samples, count = experiment.inputs[name], len(experiment.individuals)
    edges = np.searchsorted(samples.individual, np.arange(count + 1))
    own = [(samples.times[i:j], samples.values[i:j]) for i, j in pairwise(edges)]
    if interpolation.jumps:  # where it stays as it is, there is nothing to stop for
        needed = [interpolation.needed(values) for _, values in own]
        own = [(t[kept], x[kept]) for (t, x), kept in zip(own, needed, strict=True)]
    width = max(len(times) for times, _ in own)
    padded = []
    for times, values in own:
        later = np.full(width - len(times), np.inf if interpolation.jumps else times[-1])
        coefficients = interpolation.coefficients(times, values)
        last = np.repeat(coefficients[-1:], len(later), axis=0)
        padded.append((np.append(times, later), np.concatenate([coefficients, last])))
    times, coefficients = zip(*padded, strict=True)
    return np.stack(times), np.stack(coefficients)


def _least_size(experiment: Experiment) -> Float[np.ndarray, " individual"]:
    """The least magnitude of an observable's data, or of an input, of each individual.

    It is infinity where nothing but zeros is known.
    """
    count = len(experiment.individuals)
    least = np.full(count, np.inf)
    rows = [(s.individual, s.values) for s in experiment.series.values()]
    rows += [(s.individual, s.values) for s in experiment.inputs.values()]
    for individual, values in rows:
        size = np.where(np.isfinite(values), np.abs(values), 0.0).reshape(len(values), -1)
        largest = np.zeros(count)
        np.maximum.at(largest, individual, size.max(axis=1, initial=0.0))
        least = np.minimum(least, np.where(largest > 0, largest, np.inf))
    return least


def limits_of(
    experiment: Experiment, declaration: Declaration, rtol: Any, dtype: Any
) -> Float[np.ndarray, "individual limit"] | None:
    """Times that no step may pass, rising; None where there are none.

    An input is smooth between them: what it does is seen by the stages of a step that is as long.
    """
    count = len(experiment.individuals)
    stops = [np.zeros((0, 2))]
    for name, c in declaration.inputs.items():
        s = experiment.inputs[name]
        turns = c.interpolation.turns(s.individual, s.times, s.values, rtol)
        times = s.times[turns].astype(dtype)
        stops.append(np.stack([s.individual[turns], times], axis=1))
    who, times = np.unique(np.concatenate(stops), axis=0).T
    who = who.astype(int)
    if not len(who):
        return None
    place = _places(who)
    limits = np.full((count, int(place.max()) + 1), np.inf, dtype)
    limits[who, place] = times
    return limits


def _places(individual: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
    """The number of each row among those of its individual; individuals do not decrease."""
    first = np.searchsorted(individual, individual)
    return np.arange(len(individual)) - first
