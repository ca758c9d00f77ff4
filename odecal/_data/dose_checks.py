"""Checks of dose records: amounts, rates, intervals, and times."""

import numpy as np
from jaxtyping import Bool, Float

from odecal._data.columns import column_names
from odecal._data.dose_records import DoseRecords, state_elements
from odecal._data.experiment import MAX_PRIOR_DOSES
from odecal._data.individuals import IndividualsTable
from odecal._data.numbers import first_true
from odecal._data.times import first_fall
from odecal._errors import ObservationError
from odecal._system.declaration import Declaration


def check_doses(records: DoseRecords, declaration: Declaration, where: str) -> None:
    """Refuse doses that cannot be.

    Their element is −1 only where they put nothing into a state.
    """
    r = records

    def refuse(wrong: Bool[np.ndarray, " record"], problem: str) -> None:
        if (at := first_true(wrong)) is not None:
            cells = {name: column[at] for name, column in vars(records).items()}
            raise ObservationError(f"Row {r.row[at] + 1} of {where} {problem.format(**cells)}")

    refuse(
        r.amount < 0,
        "has the amount {amount:g}. Expected none below 0. Correct it; what takes away from a "
        "state belongs into the vector field.",
    )
    refuse(
        ~np.isin(r.steady, (0, 1, 2)),
        "has the steady state {steady:g}. Expected 0 for none, 1 where it replaces the state, or 2 "
        "where it is added. Correct it; NONMEM's 3 gives the same state as 1.",
    )
    refuse(
        ~np.isin(r.reset, (0, 1)),
        "has the reset {reset:g}. Expected 0, or 1 where the state begins anew. Correct it.",
    )
    refuse(
        (r.rate < 0) & ~np.isin(r.rate, (-1, -2)),
        "has the rate {rate:g}. Expected 0 for a bolus, a positive rate, −1 where the system gives "
        "the rate, or −2 where it gives the duration. Correct it.",
    )
    refuse(
        r.duration < 0,
        "has the duration {duration:g}. Expected 0 for none, or a positive one. Correct it.",
    )
    refuse(
        (r.rate != 0) & (r.duration != 0),
        "has a rate, {rate:g}, and a duration, {duration:g}. Expected one of them, since the "
        "amount over one gives the other. Leave one out.",
    )
    refuse(
        r.interval < 0,
        "has the interval {interval:g}. Expected 0 for none, or a positive one. Correct it.",
    )
    refuse(
        (r.additional < 0) | (r.additional != np.floor(r.additional)),
        "has {additional:g} additional doses. Expected a whole number of at least 0. Correct it.",
    )
    refuse(
        (r.additional > 0) & (r.interval == 0),
        "has {additional:g} additional doses without an interval. Expected a positive one. Say "
        "after which time each is given.",
    )
    refuse(
        (r.steady > 0) & (r.amount > 0) & (r.interval == 0),
        "is in steady state without an interval. Expected that between the doses before it. Give "
        "one; a constant infusion has the amount 0 and a positive rate instead.",
    )
    refuse(
        (r.amount == 0) & ~r.at_rest & ~(r.nothing & (r.reset == 1)),
        "has the amount 0. Expected a positive one; or 0 for a reset alone, and for a constant "
        "infusion in steady state, which has a rate and no interval. Give the amount, or drop the "
        "row.",
    )
    refuse(
        (r.steady > 0)
        & (np.maximum(_lasting(records), 0.0) > MAX_PRIOR_DOSES * r.interval)
        & (r.interval > 0),
        f"is in steady state of infusions that last more than {MAX_PRIOR_DOSES} intervals of "
        "{interval:g}. Correct the rate, the duration or the interval; or give the constant "
        "infusion that these are nearly: an amount of 0, no interval, and their mean rate.",
    )
    _refuse_silent(records, declaration, where)


def _lasting(records: DoseRecords) -> Float[np.ndarray, " record"]:
    """How long infusions last, as far as the table says; 0 for others."""
    at_rate = records.rate > 0
    return np.where(at_rate, records.amount / np.where(at_rate, records.rate, 1), records.duration)


def _refuse_silent(records: DoseRecords, declaration: Declaration, where: str) -> None:
    """Refuse infusions that leave to the system what it does not say."""
    names = list(state_elements(declaration))
    dosing = [
        state.dosing
        for name, state in declaration.states.items()
        for _ in column_names(declaration, name)
    ]
    for code, part in ((-1, "rate"), (-2, "duration")):
        silent = np.asarray([getattr(of, part) is None for of in dosing])
        if (at := first_true((records.rate == code) & silent[records.element])) is not None:
            raise ObservationError(
                f"Row {records.row[at] + 1} of {where} has the rate −{-code}, which leaves the "
                f"{part} to the system. Expected `{names[records.element[at]]}` to give one. Got "
                f"none. Declare it, State(..., dosing=Dosing({part}=...)), or give the {part} in "
                "the table."
            )


def check_dose_times(
    records: DoseRecords, t0: float | None, subjects: IndividualsTable, where: str
) -> None:
    """Refuse doses that go back in time, or lie before the initial time of the system."""
    if t0 is not None and (at := first_true(records.time < t0)) is not None:
        raise ObservationError(
            f"Row {records.row[at] + 1} of {where} gives a dose at {records.time[at]:g}, before "
            f"the initial time t0 = {t0:g}. Expected none before it. Set an earlier t0 of the "
            "system, or drop the row."
        )
    if (fall := first_fall(records.time, records.individual)) is not None:
        before, after = fall
        raise ObservationError(
            f"The times of {where}{subjects.of(records.individual[after])} are not sorted: row "
            f"{records.row[after] + 1} has {records.time[after]:g} after {records.time[before]:g}. "
            "Expected times that never go back within an individual. "
            + (
                "Where a reset begins a new time axis, tell the occasions apart by a column of "
                "both tables that `individual` names beside the others."
                if records.reset.any()
                else 'Sort the table; kind="stable" keeps the order of rows of the same time.'
            )
        )
