"""What a CSV file says is read as it stands there, or refused with its line."""

import re

import numpy as np
import pandas as pd
import pytest
from example_tables import Two

from odecal import (
    Covariate,
    Input,
    Observable,
    ObservationError,
    Observations,
    State,
    System,
    noise,
)
from odecal._data.frame import read_frame
from odecal._data.observations import read_experiment


class Pelts(System):
    individual = None

    hare = State(initial=1.0)

    def vector_field(self, t, y, p):
        return {"hare": -y.hare}

    hare_pelts = Observable(lambda t, y, p: noise.Normal(y.hare, 1.0))
    lynx_pelts = Observable(lambda t, y, p: noise.Normal(y.hare, 1.0))


class Plots(System):
    individual = "ID"

    x = State(initial=1.0)

    def vector_field(self, t, y, p):
        return {"x": -y.x}

    level = Observable(lambda t, y, p: noise.Normal(y.x, 1.0))


def write(folder, text):
    path = folder / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder, text, system=Pelts, **more):
    return read_experiment(Observations(write(folder, text), **more), system().declaration)


def refuse(folder, text, pattern, system=Pelts, **more):
    with pytest.raises(ObservationError, match=pattern):
        read(folder, text, system, **more)


# Rows that do not fit the header.


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("1900,30,5,4\n1901,31,5,5\n1902,32,5,6\n", 2),
        ("1900,30,4\n1901,31,4,7\n", 3),
        ("1900,30,4\n\n1901,31\n", 4),
        ("1900,30,4\n1901\n", 3),
        ('1900,30,4\n1901,"3\n1",4,5\n', 3),
        ('1900,30,4\n1901,"31",4\n1902,,4,,5\n', 4),
    ],
)
def test_rows_of_more_or_fewer_cells(tmp_path, rows, line):
    pattern = rf"Line {line} of the file .*data\.csv has \d cells?, and its header 3 names"
    refuse(tmp_path, f"year,hare_pelts,lynx_pelts\n{rows}", pattern)


def test_a_comment_is_a_row_that_does_not_fit(tmp_path):
    text = "year,hare_pelts,lynx_pelts\n1900,30,4\n# a note\n1901,31,4\n"
    refuse(tmp_path, text, r"Line 3 .*Comments are not read: remove the line")
    assert len(read(tmp_path, text.replace("# a note\n", "")).series["hare_pelts"].times) == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_commas_at_the_end_of_rows_and_blank_lines(tmp_path, end):
    text = "year,hare_pelts,lynx_pelts\n\n1900,30,4,\n  \n1901,31,5,,\n1902,32,6\n\n"
    path = tmp_path / "data.csv"
    path.write_bytes(text.replace("\n", end).encode())
    series = read_experiment(path, Pelts().declaration).series["lynx_pelts"]
    np.testing.assert_array_equal(series.values, [4.0, 5.0, 6.0])
    np.testing.assert_array_equal(series.times, [1900.0, 1901.0, 1902.0])


def test_a_comma_at_the_end_of_the_header(tmp_path):
    series = read(tmp_path, "year,hare_pelts,lynx_pelts,\n1900,30,4,\n").series["lynx_pelts"]
    np.testing.assert_array_equal(series.values, [4.0])


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("year,x,x\n1,2,3\n", r"name `x` more than once"),
        ("year, x,x \n1,2,3\n", r"name `x` more than once"),
        ("1900,30,4\n1901,31,4\n", r"has no header: its first line is 1900, 30, 4"),
        ("year;hare_pelts;lynx_pelts\n1900;3,5;4\n", r"another separator \(;\)"),
        ("year hare_pelts lynx_pelts\n1900 3 4\n", r"another separator \(blanks\)"),
        ('year,hare_pelts,lynx_pelts\n1900,"3"5,4\n', r"Line 2 .*cannot be read.*quotes"),
        ('year,hare_pelts,lynx_pelts\n1900,"35,4\n1901,3,4\n', r"Line 2 .*cannot be read"),
        ("year,hare_pelts,lynx_pelts\n1900,3\0,4\n", r"bytes of zero"),
    ],
)
def test_files_that_are_no_table(tmp_path, text, pattern):
    refuse(tmp_path, text, pattern)


def test_a_table_in_place_of_its_path():
    with pytest.raises(
        ObservationError, match=r"(?s)time,level.*… cannot be read.*too long"
    ) as told:
        read_experiment("time,level,count\n" + "1,2,3\n" * 1000, Two().declaration)
    assert len(str(told.value)) < 500


def test_an_index_that_pandas_wrote_is_no_time(tmp_path):
    table = pd.DataFrame({"hare_pelts": [30.0, 31.0], "lynx_pelts": [4.0, 5.0]})
    path = tmp_path / "data.csv"
    table.to_csv(path)
    for data in (path, pd.read_csv(path)):
        with pytest.raises(ObservationError, match=r"time column cannot be told.*Unnamed: 0"):
            read_experiment(data, Pelts().declaration)
        again = read_experiment(Observations(data, time="Unnamed: 0"), Pelts().declaration)
        np.testing.assert_array_equal(again.series["hare_pelts"].times, [0.0, 1.0])
    table.assign(time=[3.0, 4.0]).to_csv(path)
    refused = r"column `Unnamed: 0` is no observable.*ignore=\.\.\."
    with pytest.raises(ObservationError, match=refused):
        read_experiment(path, Pelts().declaration)
    found = read_experiment(Observations(path, ignore="Unnamed: 0"), Pelts().declaration)
    np.testing.assert_array_equal(found.series["hare_pelts"].times, [3.0, 4.0])


# Cells.


NUMBERS = (
    *("0.1", "3", "-3.50", "+2", ".5", "5.", "1e5", "1E-3", " 3 ", '"7"', "\xa03", "-0.0"),
    *("0.30000000000000004", "1.7976931348623157e308", "2.2250738585072011e-308", "1e-400"),
    *("8.41470984807896506652502321630e-1", "123456789012345.678", "007", "0012.50"),
)
NOT_NUMBERS = (
    *('"1,5"', "1_000", "0x10", "True", "1.2.3", "-", "−5", "1 000", "2020-01-01", "1e", "e5"),
    *("５", "1d5", "$5", "5%", "..", "1...5", "inf", "-Infinity", "1e999", "--1", "+-1", "1+2j"),
    *("<1e999", "5 mg", "12:30", "~1", "½", "1/2", "#5", "9007199254740993"),
)


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_that_number(tmp_path, text):
    for other in ("1", "0.10", "1.0"):
        header = "time,level,count\n"
        rows = f"1,{text},2\n2,{other},2\n3,{float(text.strip(chr(34)))!r},2\n"
        values = read(tmp_path, header + rows, Two).series["level"].values
        assert values[0] == values[2] == float(text.strip('"'))
        assert values[1] == float(other)


@pytest.mark.parametrize("text", ["", "NA", "N/A", "nan", "NaN", "null", "None", "  ", '" NA"'])
def test_a_missing_cell(tmp_path, text):
    series = read(tmp_path, f"time,level,count\n1,{text},2\n2,5.0,2\n", Two).series["level"]
    np.testing.assert_array_equal(series.times, [2.0])


@pytest.mark.parametrize("text", NOT_NUMBERS)
@pytest.mark.parametrize("rest", ["", "3,5.0,2\n3,5.00,2\n"])
def test_what_is_no_number_is_refused_with_its_row(tmp_path, text, rest):
    refuse(tmp_path, f"time,level,count\n1,2,2\n2,{text},2\n{rest}", r"`level`.*row 2", Two)
    if rest:
        refuse(tmp_path, f"time,level,count\n1,2,2\n{text},3,2\n", r"`time`.*row 2", Two)


def test_covariates_and_inputs_are_the_same_numbers(tmp_path):
    class Driven(Two):
        count = None
        weight = Covariate("WT")
        heat = Input()

    experiment = read(
        tmp_path, "time,level,WT,heat\n0,1,70.10,0.1\n1,2,70.1,0.10\n2,3,,1e-1\n", Driven
    )
    np.testing.assert_array_equal(experiment.individuals.covariates["weight"], [70.1])
    np.testing.assert_array_equal(experiment.inputs["heat"].values, [0.1, 0.1, 0.1])
    refuse(tmp_path, "time,level,WT,heat\n0,1,7_0,0.1\n", r"`WT` holds text in row 1", Driven)


def test_times_that_only_text_tells_apart(tmp_path):
    text = "time,level,count\n1700000000.0000000001,1,2\n1700000000.0000000002,3,4\n"
    refuse(tmp_path, text, r"rows 1 and 2 of the column `time` differ", Two)
    same = "time,level,count\n1700000000.0000000001,1,2\n1700000000.0000000001,3,4\n"
    assert len(read(tmp_path, same, Two).series["level"].times) == 2


# Labels.


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["1.", "2."], [1, 2]),
        (["1.0000E+00", "2.0000E+00"], [1, 2]),
        ([" 1", "10"], [1, 10]),
        (["0.5", "1.5"], [0.5, 1.5]),
        (["001", "002"], ["001", "002"]),
        (["001", "1"], ["001", "1"]),
        (["1E1", "2E1"], ["1E1", "2E1"]),
        (["9007199254740992", "9007199254740993"], ["9007199254740992", "9007199254740993"]),
        (
            ["9007199254740992.0", "9007199254740993.0"],
            ["9007199254740992.0", "9007199254740993.0"],
        ),
        (["a", "A"], ["a", "A"]),
        (["a", "1"], ["a", "1"]),
        (["1" * 5000, "2"], ["1" * 5000, "2"]),
    ],
)
def test_labels_are_told_apart(tmp_path, labels, expected):
    rows = "".join(f"{label},0,1\n{label},1,2\n" for label in labels)
    individuals = read(tmp_path, f"ID,time,level\n{rows}", Plots).individuals
    assert individuals.labels.tolist() == expected


@pytest.mark.parametrize(
    "labels",
    [
        ("1", "1.0"),
        ("1", "1."),
        ("1E1", "10"),
        ("1e1", "1E1"),
        ("a", "a "),
        (" a", "a"),
        ("a\xa0b", "a b"),
        ("é", "e\u0301"),
        ("a\u200b", "a"),
    ],
)
@pytest.mark.parametrize("others", ["", "b,0,3\n"])
def test_labels_that_may_be_one_are_refused(tmp_path, labels, others):
    rows = f"{labels[0]},0,1\n{labels[1]},0,2\n"
    pattern = r"column `ID` has the labels .* in row 1 and .* in row 2"
    refuse(tmp_path, f"ID,time,level\n{rows}{others}", pattern, Plots)


def test_a_missing_label(tmp_path):
    for label in ("", "NA", " "):
        refuse(tmp_path, f"ID,time,level\n1,0,1\n{label},1,2\n", r"`ID` is empty in row 2", Plots)


def test_joined_labels_that_would_be_one(tmp_path):
    class Nested(Plots):
        individual = ("site", "plot")

    text = "site,plot,time,level\na/b,c,0,1\na,b/c,0,2\n"
    refuse(tmp_path, text, r"would be called\s+`a/b/c`", Nested)


# Columns to leave out.


def test_one_column_to_leave_out_may_stand_by_itself(tmp_path):
    class Weighed(Two):
        ignored_columns = "WT"

    text = "time,level,count,WT\n0,1,2,70\n"
    assert set(read(tmp_path, text, Weighed).series) == {"level", "count"}
    assert set(read(tmp_path, text, Two, ignore="WT").series) == {"level", "count"}
    unknown = text.replace("WT", "W")
    refuse(tmp_path, unknown, r"column `W` is no observable", Weighed)
    with pytest.raises(ObservationError, match=r"ignore=\.\.\.\) expects the name.*Got 5"):
        Observations(text, ignore=5)
    with pytest.raises(
        ObservationError, match=r"time=\.\.\.\) expects the name.*Got 0.*time=\"0\""
    ):
        Observations(text, time=0)


def test_what_the_system_reads_is_not_left_out(tmp_path):
    text = "time,level,count,WT\n0,1,2,70\n"
    refuse(tmp_path, text, r"ignore names `level`, which Two reads as", Two, ignore=["WT", "level"])
    left = read(tmp_path, text, lambda: Two(level=None), ignore=["WT", "level"]).series
    assert set(left) == {"count"}


def test_a_sheet_keeps_what_stands_in_it(tmp_path):
    sheet = read_frame(write(tmp_path, "a,b,c,d\n1,1.5,x,01\n,2.5,NA,1.0\n3,,\xa0y ,2\n"))
    assert [sheet[name].dtype.kind for name in "abcd"] == ["f", "f", "O", "O"]
    assert sheet["c"].tolist()[::2] == ["x", "\xa0y "]
    assert re.match("nan", str(sheet["c"][1]))
    assert sheet["d"].tolist() == ["01", "1.0", "2"]
