"""The rows of a journal that are as they were written, and records as bytes."""

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from odecal._errors import OutputError
from odecal._run.npz import pack, unpack
from odecal._run.records import Snapshot, WarmStart
from odecal.samplers import Draw, Start

Row = tuple[str, str | int, bytes]
Rows = list[Row]


@dataclass(frozen=True, eq=False)
class JournalRows:
    """The parts, states and blocks of a journal whose checksums are right.

    States and blocks are by how many transitions each chain had made after them.
    """

    parts: dict[str, bytes]
    states: dict[int, bytes]
    blocks: dict[int, bytes]
    intact: bool  # whether nothing else was in the journal

    @property
    def whole(self) -> bool:
        """Whether nothing was lost."""
        return self.intact and self.done == max([*self.states, *self.blocks, 0])

    @cached_property
    def done(self) -> int:
        """The most transitions whose state and blocks are all there."""
        ends, end = {0}, 0
        for done, content in sorted(self.blocks.items()):
            end += block_from_bytes(content).position.shape[1]
            if end != done:
                break
            ends.add(end)
        return max(ends & self.states.keys(), default=0)

    def snapshot(self) -> Snapshot | None:
        """The run as far as it is there."""
        done = self.done
        if done not in self.states:
            return None
        blocks = [block_from_bytes(x) for end, x in sorted(self.blocks.items()) if end <= done]
        return snapshot_from_bytes(self.states[done], tuple(blocks))

    def rows(self) -> Rows:
        """What the run needs to go on."""
        done = self.done
        rows: Rows = [("part", name, content) for name, content in self.parts.items()]
        rows += [("state", n, x) for n, x in self.states.items() if n == done]
        return rows + [("block", n, x) for n, x in self.blocks.items() if n <= done]

    def damage(self, path: Path) -> str:
        """What was lost, in words."""
        return (
            f"The journal {path} was damaged. Whole in it are {self.done} transitions of each "
            "chain. What came after them is drawn again: on the same machine it comes out the same."
        )


def read_rows(database: sqlite3.Connection) -> JournalRows:
    """Read a journal, leaving out what is not as it was written."""
    parts, all_parts = _intact(database, "part", str)
    states, all_states = _intact(database, "state", int)
    blocks, all_blocks = _intact(database, "block", int)
    intact = all_parts and all_states and all_blocks and _is_consistent(database)
    return JournalRows(parts, states, blocks, intact)


def write_rows(database: sqlite3.Connection, rows: Iterable[Row]) -> None:
    """Write rows, each with its checksum, and delete all states but the last two.

    The last but one stays in case the last, or its block, is damaged.
    """
    database.execute("BEGIN")
    for table, key, content in rows:
        row = (key, content, _digest(table, key, content))
        database.execute(f"REPLACE INTO {table} VALUES (?, ?, ?)", row)
    database.execute(
        "DELETE FROM state WHERE done NOT IN (SELECT done FROM state ORDER BY done DESC LIMIT 2)"
    )


def _intact(
    database: sqlite3.Connection, table: str, kind: type[Any]
) -> tuple[dict[Any, bytes], bool]:
    """The rows of a table whose checksums are right, and whether those are all."""
    rows, whole = {}, True
    try:
        for key, content, digest in database.execute(f"SELECT * FROM {table}"):
            right = isinstance(key, kind) and isinstance(content, bytes)
            if right and digest == _digest(table, key, content):
                rows[key] = content
            else:
                whole = False
    except (sqlite3.Error, ValueError, OverflowError, MemoryError):
        whole = False
    return rows, whole


def _digest(table: str, key: str | int, content: bytes) -> bytes:
    return hashlib.sha256(f"{table} {key} ".encode() + content).digest()


def _is_consistent(database: sqlite3.Connection) -> bool:
    """Whether the database finds no fault with itself."""
    try:
        return database.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
    except sqlite3.Error:
        return False


def snapshot_to_bytes(snapshot: Snapshot) -> bytes:
    """The state of a run, without its draws."""
    leaves = {f"leaf{i:04d}": leaf for i, leaf in enumerate(snapshot.state)}
    return pack({"done": snapshot.done, "seconds": snapshot.seconds, **leaves})


def snapshot_from_bytes(data: bytes, blocks: tuple[Draw, ...]) -> Snapshot:
    """A run from its state and its draws."""
    arrays = unpack(data)
    leaves = [arrays[name] for name in sorted(arrays) if name.startswith("leaf")]
    return Snapshot(
        int(_required(arrays, "done")), leaves, blocks, float(_required(arrays, "seconds"))
    )


def warm_start_to_bytes(warm_start: WarmStart) -> bytes:
    """Where chains start, as bytes."""
    arrays: dict[str, Any] = {f.name: getattr(warm_start, f.name) for f in fields(warm_start)}
    starts = arrays.pop("starts")
    return pack(arrays | {f"starts.{name}": x for name, x in starts._asdict().items()})


def warm_start_from_bytes(data: bytes) -> WarmStart:
    """Where chains start, from bytes."""
    arrays: dict[str, Any] = unpack(data)
    starts = Start(*(_required(arrays, f"starts.{name}") for name in Start._fields))
    others = {f.name: _required(arrays, f.name) for f in fields(WarmStart) if f.name != "starts"}
    others["num_failed"] = int(others["num_failed"])
    return WarmStart(starts=starts, **others)


def block_to_bytes(block: Draw) -> bytes:
    """Draws, as bytes."""
    return pack({"position": block.position, **block.stats})


def block_from_bytes(data: bytes) -> Draw:
    """Draws, from bytes."""
    arrays: dict[str, Any] = unpack(data)
    position = _required(arrays, "position")
    if position.ndim != 3:
        raise OutputError(f"Draws of a recorded run have the shape {position.shape}. Expected 3.")
    return Draw(position, {name: x for name, x in arrays.items() if name != "position"})


def _required(arrays: dict[str, Any], name: str) -> Any:
    """An array that must be there."""
    if name not in arrays:
        raise OutputError(
            f"A recorded run has no `{name}`. Expected what odecal writes. Start a new run."
        )
    return arrays[name]
