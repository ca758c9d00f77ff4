"""Times of rows: floats that are told apart, sorted, and kept apart by the precision of a solve."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from odecal._data.experiment import Experiment
from odecal._data.individuals import IndividualsTable
from odecal._data.numbers import first_true, numbers, row_number
from odecal._errors import ObservationError, SettingsError

if TYPE_CHECKING:
    import pandas as pd

# How much of the time between two times rounding may take or add, and how many times of its own
# between the first and the last it must leave to the steps.
_MAX_CHANGE, _MIN_STEPS = 0.01, 1000


def read_times(column: "pd.Series", hint: str = "") -> Float[np.ndarray, " row"]:
    """A column of times as floats; NaN where a cell is empty."""
    values = numbers(column, hint)
    if getattr(column.dtype, "kind", "") == "b":
        raise ObservationError(
            f"The column `{column.name}` holds True and False. Expected times, as numbers. Give "
            "the column of the times, or convert it: "
            f"table.astype({{{column.name!r}: float}})."
        )
    _check_rounding(column, values)
    _check_apart(column, values)
    return values


def _check_rounding(column: "pd.Series", values: Float[np.ndarray, " row"]) -> None:
    """Refuse times of half or single precision that are as near as they are rounded."""
    dtype: Any = getattr(column.dtype, "numpy_dtype", column.dtype)
    if dtype not in (np.dtype("float16"), np.dtype("float32")):
        return
    known = np.unique(np.abs(values[~np.isnan(values)]))
    large = known[known > 2.0 ** (np.finfo(dtype).nmant + 1)]
    fine = np.all(values[~np.isnan(values)] % 1 == 0) and not large.size
    steps = np.spacing(known.astype(dtype)).astype(float)
    near = np.diff(known) < 16 * steps[1:]
    alone = bool(large.size) and len(known) < len(values)  # some are equal, perhaps by rounding
    if not fine and (near.any() or alone):
        raise ObservationError(
            f"The column `{column.name}` holds times of {dtype}, which are rounded to steps of "
            f"{steps.max():g}, and as near to each other. Expected times that are told apart. Read "
            "them as float64 from where they come, or subtract an origin before they are rounded."
        )


def _check_apart(column: "pd.Series", values: Float[np.ndarray, " row"]) -> None:
    """Refuse different times that are equal as floats."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind != "O":
        return
    cells = {i: x for i, x in enumerate(column.tolist()) if isinstance(x, (str, Decimal))}
    if all(len(str(x)) < 16 for x in cells.values()):
        return
    seen: dict[float, tuple[Decimal, int]] = {}
    for position, cell in cells.items():
        exact = Decimal(cell.strip() if isinstance(cell, str) else cell)
        other, before = seen.setdefault(values[position], (exact, position))
        if other != exact:
            raise ObservationError(
                f"The times in rows {row_number(column, before)} and "
                f"{row_number(column, position)} of the column `{column.name}` differ, but are one "
                f"number in double precision, {values[position]!s}. Expected times that are told "
                "apart. Subtract an origin, or round them to what was measured."
            )


def check_given(times: Float[np.ndarray, " row"]) -> None:
    """Refuse times that are missing."""
    if (row := first_true(np.isnan(times))) is not None:
        raise ObservationError(
            f"The time of row {row + 1} is missing. Expected a time in every row. "
            "Fill it in, or drop the row."
        )


def merge_rounded(times: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """Times, in which those of rows one after the other that differ by rounding are the same."""
    scale = 1e-12 * np.maximum(np.abs(times[1:]), np.abs(times[:-1]))
    first = np.append(True, np.abs(np.diff(times)) > scale)
    return times[np.flatnonzero(first)[np.cumsum(first) - 1]]


def first_fall(
    times: Float[np.ndarray, " row"], individual: Int[np.ndarray, " row"]
) -> tuple[int, int] | None:
    """The first row that is earlier than the one before it of the same individual: both rows."""
    order = np.argsort(individual, kind="stable")
    falls = (np.diff(times[order]) < 0) & (np.diff(individual[order]) == 0)
    at = first_true(falls)
    return None if at is None else (int(order[at]), int(order[at + 1]))


def check_sorted(times: Float[np.ndarray, " row"], name: str, subjects: IndividualsTable) -> None:
    """Refuse times that are missing or go back within an individual."""
    check_given(times)
    fall = first_fall(times, subjects.index)
    if fall is None:
        return
    before, row = fall
    dim = subjects.individuals.dim
    within = " within an individual" if dim else ""
    columns = f"['{dim}', '{name}']" if dim else f"'{name}'"
    raise ObservationError(
        f"The times{subjects.of(subjects.index[row])} are not sorted: row {row + 1} has "
        f"{times[row]:g} after {times[before]:g}{f' in row {before + 1}' if dim else ''}. Expected "
        f"times that never go back{within}; replicates may repeat one. Sort the table, for example "
        f"table.sort_values({columns}{'' if dim else ', kind="stable"'})."
    )


def check_precision(experiment: Experiment, dtype: Any) -> None:
    """Refuse times that are nearer to one another than they are rounded."""
    dtype = np.dtype(dtype)
    if dtype == np.float64:
        return
    individual, times = _all_times(experiment)
    order = np.lexsort([times, individual])
    individual, times = individual[order], times[order]
    rounded = times.astype(dtype)
    gap, rounded_gap = np.diff(times), np.diff(rounded.astype(float))
    apart = (np.diff(individual) == 0) & (gap > 0)
    bad = np.flatnonzero(apart & (np.abs(rounded_gap - gap) > _MAX_CHANGE * gap))
    if bad.size:
        _refuse(experiment, dtype, int(individual[bad[0]]), times[bad[0] : bad[0] + 2])
    first = np.flatnonzero(np.append(True, np.diff(individual) != 0))
    last = np.append(first[1:], len(individual)) - 1
    step = np.spacing(np.maximum(np.abs(rounded[first]), np.abs(rounded[last])))
    span = times[last] - times[first]
    bad = np.flatnonzero((span > 0) & (span < _MIN_STEPS * step))
    if bad.size:
        ends = [first[bad[0]], last[bad[0]]]
        _refuse(experiment, dtype, int(individual[ends[0]]), times[ends])


def _refuse(
    experiment: Experiment, dtype: Any, individual: int, times: Float[np.ndarray, "2"]
) -> None:
    individuals = experiment.individuals
    whose = f" of {individuals.labels[individual]}" if individuals.dim else ""
    (one, other), step = times.tolist(), float(np.spacing(np.abs(times.astype(dtype)).max()))
    raise SettingsError(
        f"Solve(dtype={dtype.name}) cannot tell the times {one!r} and {other!r}{whose} apart well "
        f"enough: it rounds such times to multiples of {step:.3g}. Expected times whose "
        "differences it keeps. Count time from the first of them, or take "
        "Solve(dtype=jax.numpy.float64)."
    )


def _all_times(
    experiment: Experiment,
) -> tuple[Int[np.ndarray, " time"], Float[np.ndarray, " time"]]:
    """Whose, and when: of the beginning, of observations, doses and samples of inputs."""
    count, ts = len(experiment.individuals), experiment.save_times.ts
    parts = [(np.arange(count), experiment.t0)]
    parts.append((np.repeat(np.arange(count), ts.shape[1]), ts.ravel()))
    parts += [(samples.individual, samples.times) for samples in experiment.inputs.values()]
    if experiment.doses is not None:
        parts.append((experiment.doses.individual, experiment.doses.time))
    individual, times = zip(*parts, strict=True)
    return np.concatenate(individual), np.concatenate(times)
