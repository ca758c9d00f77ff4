"""The journal of a run on disk, from which it goes on after being killed."""

import itertools
import os
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from odecal._errors import JournalError, OdecalError, OutputError
from odecal._run.journal_rows import (
    JournalRows,
    Rows,
    block_to_bytes,
    read_rows,
    snapshot_to_bytes,
    warm_start_from_bytes,
    warm_start_to_bytes,
    write_rows,
)
from odecal._run.records import AbstractJournal, Snapshot, WarmStart

_TABLES = {"part": "name TEXT", "state": "done INTEGER", "block": "done INTEGER"}
_SCHEMA = "".join(
    f"CREATE TABLE {table} ({key} PRIMARY KEY, content BLOB, sha256 BLOB);"
    for table, key in _TABLES.items()
)
_CORRUPT, _NO_DATABASE = 11, 26  # codes of SQLite
_MOST_MISSING = 2**28


def journal_path(path: Path) -> Path:
    """The journal of a run that is to be saved at a path."""
    return path.with_name(path.name + ".partial")


class FileJournal(AbstractJournal):
    """A journal in an SQLite database, beside the file that the run will be saved in.

    A block is written whole or not at all, whatever stops the process; and while a process works
    with a journal no other can. The database is made if it is not there.

    Raises:
        OutputError: if it cannot be opened, or another process works with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = False  # whether this process has recorded a state
        self._there = False  # whether there is a state in the file
        self._plan: bytes | None = None
        self._warm_start: WarmStart | None = None
        self._snapshot: Snapshot | None = None
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise OutputError(
                f"The journal of the run, {path}, is no plain file. Expected the one that odecal "
                "calibrate writes. Move away what is there."
            )
        with self._database_errors():
            try:
                self._database = _connected(path)
            except sqlite3.DatabaseError as error:
                if not (_is_damage(error) and _filled_up(path)):
                    raise
                self._database = _connected(path)
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> None:
        """Make the tables, or see what is in them."""
        with self._database_errors():
            there = _tables(self._database)
            if not there:
                self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                return
        with sqlite3.connect(":memory:") as own:
            own.executescript(_SCHEMA)
            expected = _tables(own)
        if there != expected:
            raise OutputError(
                f"The journal {self.path} has other tables than this version of odecal makes. "
                "Expected one that it has begun. Go on with the version that began it, or delete "
                "that file and start the run again."
            )
        rows = read_rows(self._database)
        if not rows.whole:
            self._repair(rows)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def remove(self) -> None:
        """Delete it: the run has been saved."""
        self.close()
        self.path.unlink(missing_ok=True)

    # What is in it.

    def part(self, name: str) -> bytes | None:
        """One part of the record: `plan` or `warm_start`."""
        with self._database_errors():
            found = self._database.execute("SELECT * FROM part WHERE name = ?", (name,))
            row = found.fetchone()
        return None if row is None else row[1]

    def warm_start(self) -> WarmStart | None:
        """Where the chains started. See the base class."""
        data = self.part("warm_start")
        self._warm_start = None if data is None else warm_start_from_bytes(data)
        return self._warm_start

    def snapshot(self) -> Snapshot | None:
        """The run so far. See the base class."""
        with self._database_errors():
            self._snapshot = read_rows(self._database).snapshot()
        self._there = self._snapshot is not None
        return self._snapshot

    # Writing.

    def record_plan(self, plan: bytes) -> None:
        """Record what the run is."""
        self._plan = plan
        self._write([("part", "plan", plan)])

    def record_start(self, warm_start: WarmStart) -> None:
        """Record where the chains start. See the base class."""
        self._warm_start = warm_start
        self._write([("part", "warm_start", warm_start_to_bytes(warm_start))])

    def record(self, snapshot: Snapshot) -> None:
        """Record the last block. See the base class."""
        self._snapshot = snapshot
        rows: Rows = [("state", snapshot.done, snapshot_to_bytes(snapshot))]
        if snapshot.blocks:
            rows.append(("block", snapshot.done, block_to_bytes(snapshot.blocks[-1])))
        self._write(rows)
        self.begun = self._there = True

    def where(self) -> str:
        """Where the draws are: here, or elsewhere if this file has gone. See the base class."""
        if self._there and self.path.exists():
            return (
                f"What has been drawn is kept in {self.path}. Go on with odecal resume "
                f"{self.path.with_suffix('')}"
            )
        if self._plan is None or self._warm_start is None or self._snapshot is None:
            return ""
        return write_elsewhere(self._plan, self._warm_start, self._snapshot)

    def _write(self, rows: Rows) -> None:
        """Write rows of tables, all or nothing."""
        with self._database_errors(), self._database:
            write_rows(self._database, rows)

    def _repair(self, rows: JournalRows) -> None:
        """Replace a damaged database by one of the rows that are intact."""
        if "plan" not in rows.parts:
            self.close()
            raise _beyond_repair(self.path, "what the run was is not in it any more")
        warnings.warn(rows.damage(self.path), stacklevel=4)
        temporary = self.path.with_name(self.path.name + ".mended")
        temporary.unlink(missing_ok=True)
        with self._database_errors():
            repaired = _connected(temporary)
            repaired.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            with repaired:
                write_rows(repaired, rows.rows())
            repaired.close()
            self._database.close()
            temporary.replace(self.path)
            self._database = _connected(self.path)

    @contextmanager
    def _database_errors(self) -> Iterator[None]:
        """Turn errors of the database into messages that say what to do."""
        try:
            yield
        except UnicodeDecodeError:  # of the text of an error
            raise _beyond_repair(self.path, "its tables have no names") from None
        except sqlite3.Error as error:
            if _is_damage(error):
                raise _beyond_repair(self.path, str(error)) from None
            if "locked" in str(error):
                raise OutputError(
                    f"Another process is working on the run in {self.path}. Wait for it to end, or "
                    "stop it."
                ) from None
            raise JournalError(
                f"The journal of the run, {self.path}, cannot be used: {error}. Free some space, "
                f"or mend its folder or its permissions. {self.where()}".strip()
            ) from None


def write_elsewhere(plan: bytes, warm_start: WarmStart, snapshot: Snapshot) -> str:
    """Write what has been drawn to a journal in the working folder, or in that of temporary files.

    Returns a sentence that says where, and how to go on.
    """
    blocks = snapshot.blocks
    one = (jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *blocks),) if blocks else ()
    for folder in (Path.cwd, tempfile.gettempdir):
        try:
            path = _free(Path(folder()).absolute())
            journal = FileJournal(journal_path(path))
            journal.record_plan(plan)
            journal.record_start(warm_start)
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
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written")
    names = ("odecal-rescued.nc", *(f"odecal-rescued-{i}.nc" for i in range(2, 10_000)))
    paths = (folder / name for name in names)
    return next(itertools.filterfalse(lambda p: p.exists() or journal_path(p).exists(), paths))


def _connected(path: Path) -> sqlite3.Connection:
    """A database that trusts nothing in its file, for this process alone."""
    database = sqlite3.connect(path, isolation_level=None, timeout=0.5)
    try:
        for command in (
            "PRAGMA trusted_schema = OFF",
            "PRAGMA cell_size_check = ON",
            "PRAGMA locking_mode = EXCLUSIVE",
            "BEGIN EXCLUSIVE",
            "COMMIT",
            "PRAGMA synchronous = FULL",
        ):
            database.execute(command)
    except BaseException:
        database.close()
        raise
    return database


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (_CORRUPT, _NO_DATABASE)


def _filled_up(path: Path) -> bool:
    """Whether a database had been cut short, and has its length again, zeros in place of its end.

    SQLite reads none of a database that is shorter than it says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(32)
    if len(head) < 32 or not head.startswith(b"SQLite format 3\0"):
        return False
    page, count = int.from_bytes(head[16:18]), int.from_bytes(head[28:])
    missing = count * (page if page > 1 else 2**16) - size
    if not 0 < missing < _MOST_MISSING:
        return False
    os.truncate(path, size + missing)
    return True


def _tables(database: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Everything that a database declares: tables, and also indices, views and triggers."""
    return set(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _beyond_repair(path: Path, why: str) -> OutputError:
    return OutputError(
        f"The journal {path} is damaged: {why}. Its run cannot go on. Delete that file and start "
        "the run again: the same seed gives the same draws."
    )
