"""Names and units that mean something to a terminal or to Matplotlib are shown as they are."""

import numpy as np
import pytest
import xarray as xr

import odecal
from odecal._cli.show import say, show_summary
from odecal._results.figure import literal, time_coord
from odecal._run.names import printable

GROUP, UNIT = "Subject $ID_{", "m\x1b[31m$\\frac{"
LABELS = np.array(["x$1_", "[red]é\n", "n" * 300], dtype=object)


@pytest.fixture
def tree(tmp_path):
    """Two times of three subjects, saved and loaded."""
    random, times = np.random.default_rng(0), np.array([1.0, 2.0])
    who = ("observation", np.repeat(LABELS, 2))
    time = ("observation", np.tile(times, 3))
    data = xr.DataArray(random.uniform(size=6), {"time": time, GROUP: who}, ["observation"])
    data.attrs["units"] = UNIT
    lead = {"chain": np.arange(2), "draw": np.arange(40)}
    shape = (2, 40, 6)
    drawn = xr.DataArray(
        random.uniform(size=shape), {**lead, **data.coords}, ["chain", "draw", "observation"]
    )
    predicted = xr.DataArray(
        random.uniform(size=(2, 40, 3, 2)),
        {**lead, GROUP: LABELS, "time": times},
        ["chain", "draw", GROUP, "time"],
    )
    rate = xr.DataArray(
        random.uniform(size=(2, 40, 3)), {**lead, GROUP: LABELS}, ["chain", "draw", GROUP]
    )
    rate.attrs["units"] = ":heart:\x1b[1m"
    lp = xr.DataArray(random.uniform(size=(2, 40)), lead, ["chain", "draw"])
    stats = {"lp": lp, "diverging": lp > 2, "failed_solves": lp * 0, "solver_steps": lp * 0}
    groups = {
        "posterior": {"rate": rate},
        "sample_stats": stats,
        "observed_data": {"gauge": data},
        "posterior_predictive": {"gauge": drawn},
        "population_predictive": {"gauge": drawn},
        "predictions": {"gauge": predicted},
    }
    tree = xr.DataTree.from_dict({f"/{k}": xr.Dataset(v) for k, v in groups.items()})
    tree.attrs |= {"system": "Tank", "time_unit": "h$_{2", "complete": 1}
    odecal.save(tree, tmp_path / "x.nc")
    return odecal.load(tmp_path / "x.nc")


def test_a_column_with_a_space_is_a_coordinate_again(tree):
    assert GROUP in tree["observed_data"].coords
    assert list(tree["observed_data"].data_vars) == ["gauge"]


def test_pictures_show_names_as_they_are(tree, tmp_path):
    figure = odecal.plot_fit(tree, tmp_path / "fit.png")
    titles = [axis.get_title().replace(r"\$", "$") for axis in figure.axes if axis.get_title()]
    assert titles[0] == "gauge, Subject $ID_{ x$1_"
    assert titles[1] == r"gauge, Subject $ID_{ [red]é\n"
    assert titles[2] == f"gauge, Subject $ID_{{ {'n' * 23}…"
    assert figure.axes[0].get_ylabel() == r"m\x1b[31m\$\frac{"
    odecal.plot_vpc(tree, tmp_path / "vpc.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.png", "vpc.png", "x.nc"]


def test_tables_show_names_as_they_are(tree, capsys):
    show_summary(tree)
    say("a\x1b[2J[bold]:heart:")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert r":heart:\x1b[1m" in shown
    assert r"rate[[red]é\n]" in shown
    assert "n" * 50 in shown
    table, sentences = shown.split(" draws in ")
    assert max(map(len, table.splitlines())) < 200
    assert "n" * 60 not in sentences
    assert r"a\x1b[2J[bold]:heart:" in shown


def test_texts_are_escaped_and_shortened():
    assert printable("µ\x1b\x9b\u202e\ud800\nz") == "µ\\x1b\\x9b\\u202e\\ud800\nz"
    assert literal("$x$\n") == r"\$x\$\n"
    assert len(literal("y" * 300)) == 60


def test_the_clock_is_no_group_that_is_called_alike():
    coords = {"timepoint": ("observation", ["a"]), "time": ("observation", [1.0])}
    assert time_coord(xr.DataArray([0.0], coords, ["observation"])) == "time"
    coords = {"time_u": ("observation_u", [1.0]), "time": ("observation_u", [2.0])}
    assert time_coord(xr.DataArray([0.0], coords, ["observation_u"])) == "time_u"
    assert time_coord(xr.DataArray([0.0], {"time_u": [1.0]}, ["time_u"])) == "time_u"
