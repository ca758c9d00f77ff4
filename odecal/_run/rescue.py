"""Draws are not lost, whatever fails after them."""

from collections.abc import Iterator
from contextlib import contextmanager

from odecal._errors import JournalError, OdecalError, SamplingError
from odecal._run.journal import write_elsewhere
from odecal._run.plan import plan_to_bytes
from odecal._run.records import AbstractJournal, Plan, Snapshot, WarmStart


class MemoryJournal(AbstractJournal):
    """The journal of a run that is to be saved nowhere: a file only where something goes wrong."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._warm_start: WarmStart | None = None
        self._snapshot: Snapshot | None = None

    def warm_start(self) -> WarmStart | None:
        """Where the chains started. See the base class."""
        return self._warm_start

    def snapshot(self) -> Snapshot | None:
        """The run so far. See the base class."""
        return self._snapshot

    def record_start(self, warm_start: WarmStart) -> None:
        """Hold where the chains start. See the base class."""
        self._warm_start = warm_start

    def record(self, snapshot: Snapshot) -> None:
        """Hold the run so far. See the base class."""
        self._snapshot = snapshot

    def where(self) -> str:
        """Write the draws to a journal on disk, and say where. See the base class."""
        if self._warm_start is None or self._snapshot is None:
            return ""
        return write_elsewhere(plan_to_bytes(self._plan), self._warm_start, self._snapshot)


@contextmanager
def failures_say_where(journal: AbstractJournal, saving: bool = False) -> Iterator[None]:
    """Add to the error of anything that fails where the draws are.

    To an `OdecalError` only where the result is being saved: to go on would not help where a
    mistake is found while it is made. Errors of other kinds become a `SamplingError`.
    """
    try:
        yield
    except JournalError:  # says so itself
        raise
    except OdecalError as error:
        where = journal.where() if saving else ""
        if not where:
            raise
        raise type(error)(f"{error} {where}") from error
    except Exception as error:
        where = journal.where()
        if not where:
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())[:500].rstrip(".")
        raise SamplingError(
            f"The run failed after something had been drawn: {what}. {where}"
        ) from error
    except KeyboardInterrupt as stop:
        where = journal.where()
        if where:
            stop.add_note(where)
        raise
