"""Random tables against a reader of forty lines: what odecal reads is what stands there.

The other reader knows the csv module and float(). Whatever odecal reads must equal what it reads;
what it cannot read odecal must not read either; whatever odecal refuses must be an OdecalError; and
a table without a blemish must be read.
"""

import csv
import io
import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from odecal import Covariate, Input, Observable, Observations, OdecalError, State, System, noise
from odecal._data.observations import read_experiment

FEW = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=2000)
MISSING = {"", "NA", "<NA>", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"}


class Plots(System):
    individual = "ID"
    ignored_columns = "note"
    t0 = -1e6

    x = State(initial=1.0)
    weight = Covariate("WT")
    heat = Input()

    def vector_field(self, t, y, p):
        return {"x": -y.x}

    level = Observable(lambda t, y, p: noise.Normal(y.x, 1.0), lloq=0.5)
    other = Observable(lambda t, y, p: noise.Normal(y.x, 1.0))


class Doses(System):
    individual = "ID"
    t0 = -1e6

    x = State(initial=1.0)

    def vector_field(self, t, y, p):
        return {"x": -y.x}

    level = Observable(lambda t, y, p: noise.Normal(y.x, 1.0))


PLOTS, DOSES = Plots(), Doses()

# The other reader.


class UnreadableError(Exception):
    """What stands there is no table."""


def cells_of(text):
    """The cells of a CSV file, by column."""
    try:
        rows = [
            r for r in csv.reader(io.StringIO(text, newline=""), strict=True) if "".join(r).strip()
        ]
    except csv.Error as error:
        raise UnreadableError from error
    if not rows:
        raise UnreadableError
    header, *rows = [[cell.strip() for cell in row] for row in rows]
    width = len(header)
    if any(len(row) < width or any(row[width:]) for row in rows):
        raise UnreadableError
    columns = [(name, [row[j] for row in rows]) for j, name in enumerate(header)]
    columns = [(name, cells) for name, cells in columns if name or any(cells)]
    if len(dict(columns)) < len(columns) or "" in dict(columns):
        raise UnreadableError
    return dict(columns)


def number(cell, missing=()):
    """float(cell); None where it is missing."""
    if cell in MISSING or cell in missing:
        return None
    try:
        value = float(cell)
    except ValueError as error:
        raise UnreadableError from error
    if not np.isfinite(value) or "_" in cell:
        raise UnreadableError
    return value


def bounds(cell, lloq):
    """Between what a cell says that the value lies; None where it is missing."""
    infinity = float("inf")
    if cell[:1] == "<" and cell not in MISSING:
        return -infinity, present(cell[1:].strip())
    if cell[:1] == ">":
        return present(cell[1:].strip()), infinity
    if ".." in cell:
        low, *high = cell.split("..")
        if len(high) != 1 or present(low.strip()) > present(high[0].strip()):
            raise UnreadableError
        return present(low.strip()), present(high[0].strip())
    if cell.upper() in ("BLQ", "BLOQ", "LLOQ"):
        if lloq is None:
            raise UnreadableError
        return -infinity, lloq
    value = number(cell)
    if value is None:
        return None
    return (-infinity, lloq) if lloq is not None and value < lloq else (value, value)


def present(cell):
    value = number(cell)
    if value is None:
        raise UnreadableError
    return value


def people_of(labels):
    """The individual of each row, by the text of its label, in order of appearance."""
    if any(label in MISSING for label in labels):
        raise UnreadableError
    found = list(dict.fromkeys(labels))
    return found, [found.index(label) for label in labels]


def strict_tidy(text):
    """Individuals, and of each observable (individual, time, lower, upper), of a tidy table."""
    columns = cells_of(text)
    spare = set(columns) - {"note", "ID", "level", "other", "WT", "heat"}
    if {"ID", "level", "other", "WT", "heat"} - set(columns) or len(spare) != 1:
        raise UnreadableError
    columns["time"] = columns[spare.pop()]  # the only one that is nothing else
    labels, who = people_of(columns["ID"])
    times = list(map(present, columns["time"]))
    series = {}
    for name, lloq in (("level", 0.5), ("other", None)):
        known = [bounds(cell, lloq) for cell in columns[name]]
        series[name] = sorted(
            ((i, t, *b) for i, t, b in zip(who, times, known, strict=True) if b is not None),
            key=lambda row: row[0],
        )
    heat = [(i, t, number(x)) for i, t, x in zip(who, times, columns["heat"], strict=True)]
    weights = {}
    for i, cell in zip(who, columns["WT"], strict=True):
        if (value := number(cell)) is not None and weights.setdefault(i, value) != value:
            raise UnreadableError
    return (
        labels,
        series,
        [weights.get(i) for i in range(len(labels))],
        [row for row in sorted(heat, key=lambda row: row[0]) if row[2] is not None],
    )


def strict_doses(text):
    """Individuals, observations and doses (individual, time, amount) of a pharmacometric table."""
    columns = cells_of(text)
    if set(columns) != {"ID", "TIME", "EVID", "AMT", "DV", "CENS"}:
        raise UnreadableError
    dots = {".", *MISSING}
    if any(cell in dots for cell in columns["ID"]):
        raise UnreadableError
    labels, who = people_of(columns["ID"])
    observed, given_ = [], []
    for i, t, evid, amount, dv, cens in zip(
        who, *(columns[n] for n in ("TIME", "EVID", "AMT", "DV", "CENS")), strict=True
    ):
        time = present(t)
        kind, below = number(evid, dots) or 0.0, number(cens, dots) or 0.0
        if kind == 1:
            given_.append((i, time, number(amount, dots) or 0.0))
        elif dv not in dots:
            low, high = bounds(dv, None)
            low, high = (
                (-np.inf, high) if below == 1 else (low, np.inf) if below == -1 else (low, high)
            )
            observed.append((i, time, low, high))
    return labels, observed, given_


# Random tables.

clean_number = st.one_of(
    st.integers(0, 9999).map(str),
    st.decimals(0, 100, places=2).map(str),
    st.floats(0.5, 1e6).map(repr),
    st.floats(1e-3, 1e3).map(lambda x: f"{x:.4e}"),
)
positive = st.integers(1, 9999).map(str) | st.floats(0.5, 1e6).map(repr)
noisy_number = st.one_of(
    clean_number,
    clean_number.map(lambda x: f" {x}"),
    clean_number.map(lambda x: f'"{x}"'),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["-0.0", ".5", "5.", "+3", "007", "1E5", "9007199254740993", "1e-400"]),
)
AWKWARD = (
    *("1,5", '"1,5"', "1e999", "inf", "-", "1_000", "0x1f", "True", "1.2.3", "\xa03", "−5", "５"),
    *("2020-01-01", "1d3", "a", '"', '"x"y', "<", "< 1", "1..2", "2..1", "1...5", ">5", "BLQ"),
    *("1 000", "# 1", "'1'", "1;2", "<-0.5", "\t7", "nan0", "e5", "--1", "<NA>", ".", "\x0c3"),
    *("1\n2", '"1\n"', "1e", "Infinity", "<inf", "<1_0", "1.._2", "+-1", "0b1", "1j", "½", "1/2"),
)
awkward = st.sampled_from(AWKWARD)
censored = st.sampled_from(["<0.5", "<0.25", ">100", "0.2..0.5", "BLQ", "< 0.1"])
missing = st.sampled_from(["", "NA", "NaN", " ", "n/a", "null"])
clean_value = st.one_of(
    clean_number, clean_number, missing, st.sampled_from(["<0.5", ">1e3", "1..2"])
)
label_kinds = st.sampled_from(
    [
        ["1", "2", "3"],
        ["1.", "2.", "3."],
        ["a", "b", "c"],
        ["A", "a", "1"],
        ["001", "002", "1"],
        ["9007199254740992", "9007199254740993", "1"],
        ["1.5", "2.5", "1"],
        ["é", "ü", "x y"],
    ]
)
BAD_LABELS = (
    *(["1", "1.0", "01"], ["1E1", "10", "1e1"], ["a", "a ", " a"], ["é", "e\u0301", "e"]),
    *(["", "NA", "1"], ["a", "a\xa0", "b"], ["x,y", '"x,y"', "z"], ["-0", "0", "1"]),
    *(["1e0", "1", "2"], ["１", "1", "2"], ["a b", "a  b", "ab"], ["0.1", "0.10", ".1"]),
)
bad_labels = st.sampled_from(BAD_LABELS)


@dataclass(frozen=True)
class Table:
    text: str
    clean: bool


def joined(draw, header, rows, clean):
    """Rows of cells as text, with blemishes unless it is to be clean."""
    lines = [",".join(row) for row in (header, *rows)]
    if not clean and draw(st.booleans()):
        at = draw(st.integers(0, len(lines) - 1))
        blemish = draw(
            st.sampled_from(
                ["more", "fewer", "trailing", "blank", "comment", "again", "swap", "semicolons"]
            )
        )
        if blemish == "more":
            lines[at] += ",7"
        elif blemish == "fewer":
            lines[at] = lines[at].rpartition(",")[0]
        elif blemish == "trailing":
            lines = [line + "," for line in lines]
        elif blemish == "blank":
            lines.insert(at, draw(st.sampled_from(["", "  ", "\t"])))
        elif blemish == "comment":
            lines.insert(at, "# a comment")
        elif blemish == "again":
            lines.insert(at, lines[at])
        elif blemish == "swap":
            lines[at], lines[-1] = lines[-1], lines[at]
        else:
            lines = [line.replace(",", ";") for line in lines]
    end = draw(st.sampled_from(["\n", "\r\n"]))
    start = draw(st.sampled_from(["", "\ufeff"]))
    return start + end.join(lines) + draw(st.sampled_from(["", end, end + end]))


@st.composite
def tidy_tables(draw):
    clean = draw(st.booleans())
    labels = draw(label_kinds if clean else st.one_of(label_kinds, bad_labels))
    count = draw(st.integers(1, 8))
    who = sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    times = sorted(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)))
    value = (
        clean_value if clean else st.one_of(noisy_number, noisy_number, missing, censored, awkward)
    )
    plain = clean_number if clean else st.one_of(clean_number, missing, awkward)
    weight = {i: draw(clean_number) for i in range(3)}
    rows, seen = [], set()
    for row, (i, t) in enumerate(zip(who, times, strict=True)):
        first = i not in seen
        seen.add(i)
        heat = draw(plain) if first or (not clean and draw(st.booleans())) else ""
        own = draw(plain) if not clean and draw(st.integers(0, 9)) == 0 else weight[i]
        at = f"{t}" if clean or draw(st.integers(0, 4)) else draw(st.one_of(noisy_number, awkward))
        cells = [draw(value), draw(value)]
        if row == 0 and clean:
            cells = ["1.25", "0.75"]
        rows.append([labels[i], at, *cells, own, heat, draw(st.sampled_from(["", "x", '"a, b"']))])
    header = ["ID", "time", "level", "other", "WT", "heat", "note"]
    order = draw(st.permutations(range(7)))
    names = [header[j] for j in order]
    if not clean and draw(st.integers(0, 7)) == 0:
        names[0] = draw(st.sampled_from(["", "ID", "x", " time ", "Unnamed: 0", "level.1", "1"]))
    rows = [[row[j] for j in order] for row in rows]
    return Table(joined(draw, names, rows, clean), clean)


@st.composite
def dose_tables(draw):
    clean = draw(st.booleans())
    labels = draw(label_kinds if clean else st.one_of(label_kinds, bad_labels))
    count = draw(st.integers(1, 8))
    who = sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    times = sorted(draw(st.lists(st.integers(0, 5), min_size=count, max_size=count)))
    cell = st.one_of(clean_number, censored, missing, awkward, noisy_number)
    rows = []
    for row, (i, t) in enumerate(zip(who, times, strict=True)):
        if row > 0 and draw(st.booleans()):
            amount = draw(positive if clean else st.one_of(clean_number, awkward, missing))
            rows.append([labels[i], str(t), "1", amount, ".", draw(st.sampled_from([".", "0"]))])
        else:
            value = "3.5" if row == 0 else draw(clean_number if clean else cell)
            cens = draw(st.sampled_from(["0", ".", "0", "1", "-1"]))
            evid = "0" if clean else draw(st.sampled_from(["0", "0", ".", "", "0.0", "x"]))
            rows.append(
                [labels[i], str(t), evid, draw(st.sampled_from([".", "0", ""])), value, cens]
            )
    return Table(joined(draw, ["ID", "TIME", "EVID", "AMT", "DV", "CENS"], rows, clean), clean)


# What must hold.


def read(text, system, **more):
    """What odecal reads; None where it refuses, with a message that says what was expected."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_bytes(text.encode())
        return attempt(Observations(path, **more), system)


def attempt(data, system):
    try:
        return read_experiment(data, system.declaration)
    except OdecalError as error:
        message = str(error)
    assert "xpect" in message
    return None


def same_label(label, text):
    if isinstance(label, np.integer):
        return int(label) == Decimal(text)
    if isinstance(label, np.floating):
        return float(label) == float(text)
    return str(label) == text


def assert_same_series(series, expected):
    upper = series.values if series.upper is None else series.upper
    found = zip(series.individual, series.times, series.values, upper, strict=True)
    assert [tuple(map(float, row)) for row in found] == [tuple(map(float, row)) for row in expected]


def assert_tidy(table):
    experiment = read(table.text, PLOTS)
    if experiment is None:
        assert not table.clean, read_experiment
        return False
    labels, series, weights, heat = strict_tidy(table.text.removeprefix("\ufeff"))
    found = experiment.individuals
    assert len(found) == len(labels)
    assert all(map(same_label, found.labels, labels))
    for name, rows in series.items():
        assert_same_series(experiment.series[name], rows)
    assert found.covariates["weight"].tolist() == weights
    samples = experiment.inputs["heat"]
    rows = zip(
        samples.individual.tolist(), samples.times.tolist(), samples.values.tolist(), strict=True
    )
    assert list(rows) == list(dict.fromkeys(heat))
    return True


def assert_doses(table):
    experiment = read(table.text, DOSES)
    if experiment is None:
        assert not table.clean
        return
    labels, observed, doses = strict_doses(table.text.removeprefix("\ufeff"))
    assert len(experiment.individuals) == len(labels)
    assert all(map(same_label, experiment.individuals.labels, labels))
    assert_same_series(experiment.series["level"], observed)
    found = experiment.doses
    rows = [] if found is None else zip(found.individual, found.time, found.amount, strict=True)
    assert [tuple(map(float, row)) for row in rows] == [tuple(map(float, row)) for row in doses]


@FEW
@given(tidy_tables())
def test_tidy_tables(table):
    assert_tidy(table)


@pytest.mark.slow
@MANY
@given(tidy_tables())
def test_many_tidy_tables(table):
    assert_tidy(table)


@pytest.mark.filterwarnings("ignore:.*have no observations")
@FEW
@given(dose_tables())
def test_dose_tables(table):
    assert_doses(table)


@pytest.mark.slow
@MANY
@given(dose_tables())
def test_many_dose_tables(table):
    assert_doses(table)


def test_a_table_of_inputs_alone_holds_no_observation():
    assert read("ID,time,level,other,WT,heat\n1,0,,,0,0\n", PLOTS) is None
