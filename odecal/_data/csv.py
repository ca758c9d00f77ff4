"""CSV files as they are, cell by cell: every row fits the header, and no cell is guessed at."""

import csv
import io
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from odecal._data.compressed import read_bytes
from odecal._errors import ObservationError, listed

if TYPE_CHECKING:
    import pandas as pd

# What pandas takes as missing.
_MISSING = frozenset(
    {"", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NaN", "nan", "-NaN", "-nan"}
    | {"NULL", "null", "None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
)
# Numbers that may name an individual: 007, +7 and 7E1 are text, 7 and 7. and 7.0000E+00 are not.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*(?:[eE][+-]?[0-9]+)?)?")
_ANY_NUMBER = re.compile(r"[+-]?[0-9.,]+(?:[eE][+-]?[0-9]+)?")
_EXACT = 2**53  # from here on floats skip whole numbers
# Names of columns whose header is empty are as pandas gives them.
_UNNAMED = "Unnamed: "

Record = tuple[int, list[str]]  # the line it begins in, and its cells


def read_csv(path: Path) -> "pd.DataFrame":
    """A CSV table, which may be compressed (.gz, .bz2, .xz, .zip).

    Columns of plain numbers, each of which is written in one way, are numbers; other cells are the
    text that they are, and NaN where they are empty or NA.
    """
    import pandas as pd

    records = _records(_text(path), path)
    if not records:
        raise ObservationError(f"The file {path} is empty. Expected a header and rows.")
    names, rows = [name.strip() for name in records[0][1]], records[1:]
    _check_header(names, path)
    for line, cells in rows:
        if len(cells) != len(names):
            _check_width(line, cells, names, path)
    columns = {}
    for j, name in enumerate(names):
        cells = [row[j] for _, row in rows]
        if name or any(cell.strip() for cell in cells):
            columns[name or f"{_UNNAMED}{j}"] = _column(cells)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


def is_unnamed(name: str) -> bool:
    """Whether a column had no name in its CSV file: an index that pandas wrote, perhaps."""
    return name.startswith(_UNNAMED) and name[len(_UNNAMED) :].isdigit()


def _text(path: Path) -> str:
    try:
        if not path.exists():
            raise ObservationError(f"There is no file {path}. Expected the path of a CSV table.")
        text = read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        short = str(path) if len(str(path)) < 1000 else f"{str(path)[:100]}…"
        raise ObservationError(
            f"The file {short} cannot be read as a CSV table. Expected text, a header line, and "
            f"values separated by commas. {getattr(error, 'strerror', None) or error}"
        ) from None
    if "\0" in text:
        raise ObservationError(
            f"The file {path} cannot be read as a CSV table. Expected text in UTF-8, a header "
            "line, and values separated by commas. Got bytes of zero. Save it as CSV in UTF-8."
        )
    return text


def _records(text: str, path: Path) -> list[Record]:
    """The rows of cells, blank lines left out."""
    # Blanks before a cell are kept, which may tell labels apart, but where quotes follow them.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=', "' in text)
    records, line = [], 1
    try:
        for cells in reader:
            if len(cells) > 1 or any(cell.strip() for cell in cells):
                records.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ObservationError(
            f"Line {line} of the file {path} cannot be read: {error}. Expected values separated by "
            "commas, and quotes around the whole of a cell or not at all. Correct the quotes there."
        ) from None
    return records


def _check_header(names: Sequence[str], path: Path) -> None:
    if len(names) == 1 and (mark := re.search(r"[;\t| ]", names[0])):
        shown = {"\t": "tabs", " ": "blanks"}.get(mark[0], mark[0])
        raise ObservationError(
            f"The file {path} has one column, `{names[0]}`. Expected values separated by "
            f"commas; it seems to use another separator ({shown}). Read it with "
            "pandas.read_csv(..., sep=...) and pass the table, or save it with commas."
        )
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise ObservationError(
            f"The header of the file {path} has the name `{twice[0]}` more than once. Expected "
            "each name once; replicates go into rows of the same time. Rename or remove the others."
        )
    if all(_ANY_NUMBER.fullmatch(name) for name in names):
        raise ObservationError(
            f"The file {path} has no header: its first line is {listed(names)}. Expected the names "
            "of the columns there. Add them as the first line."
        )


def _check_width(line: int, cells: Sequence[str], names: Sequence[str], path: Path) -> None:
    """Refuse a row with more or fewer cells than the header; empty ones at its end do not count."""
    extra = [cell for cell in cells[len(names) :] if cell.strip()]
    if len(cells) >= len(names) and not extra:
        return
    advice = "Correct the line: a cell with a comma in it goes into quotes, a missing one is empty."
    if cells[0].lstrip().startswith("#"):
        advice = "Comments are not read: remove the line."
    raise ObservationError(
        f"Line {line} of the file {path} has {len(cells)} cells, and its header {len(names)} "
        f"names: {listed(names)}. Expected as many cells as names in each row. {advice}"
    )


def _column(cells: Sequence[str]) -> Shaped[np.ndarray, " row"]:
    """The cells of a column: numbers if each is written in one way, else text."""
    texts = [cell.strip() for cell in cells]
    known = set(texts) - _MISSING
    numbers = _numbers(known)
    if numbers is None:
        column = np.empty(len(cells), object)
        column[:] = [
            np.nan if text in _MISSING else cell for cell, text in zip(cells, texts, strict=True)
        ]
        return column
    return np.asarray([numbers.get(text, np.nan) for text in texts])


def _numbers(texts: Collection[str]) -> dict[str, Any] | None:
    """What numbers stand for; None if some are none, or two stand for the same."""
    kind = int if all(map(_WHOLE.fullmatch, texts)) else float
    if kind is float and not all(map(_PLAIN.fullmatch, texts)):
        return None
    numbers = {text: kind(text) for text in texts}
    values = set(numbers.values())
    told_apart = len(values) == len(texts) and all(abs(x) < _EXACT for x in values)
    return numbers if told_apart else None
