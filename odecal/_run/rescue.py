"""What has been drawn is kept, whatever fails when sampling is done."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from odecal._errors import JournalError, OdecalError, SamplingError
from odecal._inference.engine import Snapshot
from odecal._inference.multistart import WarmStart
from odecal._inference.pipeline import Begun

if TYPE_CHECKING:
    from odecal._inference.pipeline import Plan


class MemoryJournal(Begun):
    """The journal of a run that is to be saved nowhere: a file only where something goes wrong.

    Args:
        plan: the run.
    """

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan
        self._found: WarmStart | None = None
        self._latest: Snapshot | None = None

    def record_start(self, found: WarmStart) -> None:
        """Keep where the chains start. See the base class."""
        self._found = found

    def record(self, snapshot: Snapshot) -> None:
        """Keep the run so far. See the base class."""
        self._latest = snapshot

    def kept(self) -> str:
        """Where what has been drawn is kept. See the base class."""
        from odecal._run.plan import plan_to_bytes

        if self._found is None or self._latest is None:
            return ""
        return rescued(plan_to_bytes(self._plan), self._found, self._latest)


def rescued(plan: bytes, found: WarmStart, snapshot: Snapshot) -> str:
    """Write what has been drawn to a journal in the working folder, or in that of temporary files.

    Args:
        plan: the run, as bytes.
        found: where its chains started.
        snapshot: the run so far.

    Returns:
        A sentence that says where, and how to go on.
    """
    from odecal._run.journal import FileJournal, journal_path

    blocks = snapshot.blocks
    one = (jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *blocks),) if blocks else ()
    for folder in (Path.cwd, tempfile.gettempdir):
        try:
            path = _free(Path(folder()).absolute())
            journal = FileJournal(journal_path(path))
            journal.record_plan(plan)
            journal.record_start(found)
            journal.record(Snapshot(snapshot.done, snapshot.state, one, snapshot.seconds))
            journal.close()
        except (OSError, OdecalError):
            continue
        return (
            f"What has been drawn is kept in {journal.path}. Go on with odecal resume {path}, or "
            f"odecal.resume({str(path)!r}, system)."
        )
    return "What has been drawn could not be kept: neither here nor among temporary files is room."


def _free(folder: Path) -> Path:
    """The path of a result of which neither file nor journal is there."""
    from odecal._run.journal import journal_path

    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written")
    names = ("odecal-rescued.nc", *(f"odecal-rescued-{i}.nc" for i in range(2, 10_000)))
    paths = (folder / name for name in names)
    return next(itertools.filterfalse(lambda p: p.exists() or journal_path(p).exists(), paths))


@contextmanager
def kept(journal: Begun, saving: bool = False) -> Iterator[None]:
    """Say, where something fails, where what has been drawn is kept.

    Args:
        journal: of the run.
        saving: whether the result is being saved, rather than made: a mistake that is found while
            it is made is not mended by going on.

    Raises:
        OdecalError: the one that was raised, which then says so; `SamplingError` for another.
    """
    try:
        yield
    except JournalError:  # says so itself
        raise
    except OdecalError as error:
        where = journal.kept() if saving else ""
        if not where:
            raise
        raise type(error)(f"{error} {where}") from error
    except Exception as error:
        where = journal.kept()
        if not where:
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())[:500].rstrip(".")
        raise SamplingError(
            f"The run failed after something had been drawn: {what}. {where}"
        ) from error
    except KeyboardInterrupt as stop:
        where = journal.kept()
        if where:
            stop.add_note(where)
        raise
