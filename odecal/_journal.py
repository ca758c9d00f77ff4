"""The journal of a run on disk, from which it goes on after being killed."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from odecal._engine import Snapshot
from odecal._errors import OutputError
from odecal._pipeline import Begun
from odecal._record import pack, unpack
from odecal._start import WarmStart
from odecal.samplers import Draw, Start

_SCHEMA = """
CREATE TABLE IF NOT EXISTS part (name TEXT PRIMARY KEY, content BLOB);
CREATE TABLE IF NOT EXISTS block (done INTEGER PRIMARY KEY, content BLOB);
"""


def journal_path(path: Path) -> Path:
    """The journal of a run that is to be saved at a path."""
    return path.with_name(path.name + ".partial")


class FileJournal(Begun):
    """A journal in an SQLite database, beside the file that the run will be saved in.

    A block is written whole or not at all, whatever stops the process; and while a process works
    with a journal no other can.

    Args:
        path: the path of the database; it is made if it is not there.

    Raises:
        OutputError: if it cannot be opened, or another process works with it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = False  # whether this process has recorded a state
        with self._told():
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0.5)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} COMMIT;")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def remove(self) -> None:
        """Delete it: the run has been saved."""
        self.close()
        self.path.unlink(missing_ok=True)

    # What is in it.

    def part(self, name: str) -> bytes | None:
        """One part of the record: `plan`, `warm_start` or `state`."""
        with self._told():
            found = self._database.execute("SELECT content FROM part WHERE name = ?", (name,))
            row = found.fetchone()
        return None if row is None else row[0]

    def warm_start(self) -> WarmStart | None:
        """Where the chains started. See the base class."""
        data = self.part("warm_start")
        return None if data is None else warm_start_from_bytes(data)

    def snapshot(self) -> Snapshot | None:
        """The run so far. See the base class."""
        data = self.part("state")
        if data is None:
            return None
        with self._told():
            rows = self._database.execute("SELECT content FROM block ORDER BY done").fetchall()
        return snapshot_from_bytes(data, tuple(_block_from_bytes(row[0]) for row in rows))

    # Writing.

    def record_plan(self, plan: bytes) -> None:
        """Keep what the run is."""
        self._write({"plan": plan})

    def record_start(self, found: WarmStart) -> None:
        """Keep where the chains start. See the base class."""
        self._write({"warm_start": warm_start_to_bytes(found)})

    def record(self, snapshot: Snapshot) -> None:
        """Keep the last block. See the base class."""
        block = snapshot.blocks[-1] if snapshot.blocks else None
        self._write({"state": snapshot_to_bytes(snapshot)}, snapshot.done, block)
        self.begun = True

    def _write(self, parts: dict[str, bytes], done: int = 0, block: Draw | None = None) -> None:
        """Write parts, and perhaps a block, all or nothing."""
        with self._told(), self._database:
            self._database.execute("BEGIN")
            self._database.executemany("REPLACE INTO part VALUES (?, ?)", parts.items())
            if block is not None:
                row = (done, pack({"position": block.position, **block.stats}))
                self._database.execute("REPLACE INTO block VALUES (?, ?)", row)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in our words what the database says in its own."""
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                raise OutputError(
                    f"Another process is working on the run in {self.path}. Wait for it to end, or "
                    "stop it."
                ) from None
            raise OutputError(
                f"The journal of the run, {self.path}, cannot be used: {error}. What it held "
                "before is still there. Free some space or mend its permissions, and go on with "
                f"odecal resume {self.path.with_suffix('')}"
            ) from None


def snapshot_to_bytes(snapshot: Snapshot) -> bytes:
    """The state of a run, without its draws."""
    leaves = {f"leaf{i:04d}": leaf for i, leaf in enumerate(snapshot.state)}
    return pack({"done": snapshot.done, "seconds": snapshot.seconds, **leaves})


def snapshot_from_bytes(data: bytes, blocks: tuple[Draw, ...]) -> Snapshot:
    """A run from its state and its draws."""
    arrays = unpack(data)
    leaves = [arrays[name] for name in sorted(arrays) if name.startswith("leaf")]
    return Snapshot(int(arrays["done"]), leaves, blocks, float(arrays["seconds"]))


def warm_start_to_bytes(found: WarmStart) -> bytes:
    """Where chains start, as bytes."""
    arrays: dict[str, Any] = {f.name: getattr(found, f.name) for f in fields(found)}
    starts = arrays.pop("starts")
    return pack(arrays | {f"starts.{name}": x for name, x in starts._asdict().items()})


def warm_start_from_bytes(data: bytes) -> WarmStart:
    """Where chains start, from bytes."""
    arrays: dict[str, Any] = unpack(data)
    starts = Start(*(arrays.pop(f"starts.{name}") for name in Start._fields))
    arrays["num_failed"] = int(arrays["num_failed"])
    return WarmStart(starts=starts, **arrays)


def _block_from_bytes(data: bytes) -> Draw:
    arrays: dict[str, Any] = unpack(data)
    position = arrays.pop("position")
    return Draw(position, arrays)


def as_bytes(array: np.ndarray) -> bytes:
    """Bytes from the unsigned numbers of a netCDF variable."""
    return np.asarray(array, np.uint8).tobytes()
