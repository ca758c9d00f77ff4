"""The problems: their tables, their unknowns, and their data as Stan takes them.

Nothing but the standard library is imported, since contenders of every environment read this.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "systems" / "data"


@dataclass(frozen=True)
class Problem:
    """A calibration problem, the same for every contender.

    Args:
        table: the observations, a CSV file.
        time: the column of times.
        observables: the columns of observed values.
        unknowns: parameters and initial values, as every contender names them.
    """

    table: Path
    time: str
    observables: tuple[str, ...]
    unknowns: tuple[str, ...]

    def columns(self) -> dict[str, list[float]]:
        """The times, as `ts`, and the observed values by name."""
        with self.table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {"ts": [float(row[self.time]) for row in rows]}
        return columns | {name: [float(row[name]) for row in rows] for name in self.observables}


PROBLEMS = {
    "hudson_bay": Problem(
        SHIPPED / "hudson_bay.csv",
        "year",
        ("hare_pelts", "lynx_pelts"),
        (
            *("birth", "predation", "death", "growth"),
            *("hare0", "lynx0", "sigma_hare", "sigma_lynx"),
        ),
    ),
    "boarding_school": Problem(
        SHIPPED / "boarding_school.csv", "t_day", ("in_bed",), ("beta", "gamma", "phi_inv")
    ),
    "cascade": Problem(
        HERE / "cascade.csv",
        "time",
        ("blot_1", "blot_2", "blot_3", "product_level"),
        (
            *("fading", "on_1", "off_1", "feedback", "on_2", "off_2", "on_3", "off_3"),
            *("synthesis", "loss", "scale_1", "scale_2", "scale_3"),
            *("sigma_1", "sigma_2", "sigma_3", "sigma_product"),
        ),
    ),
}


def stan_data(name: str) -> dict[str, object]:
    """The data block of the Stan program of a problem."""
    columns: dict[str, object] = dict(PROBLEMS[name].columns())
    columns["N"] = len(PROBLEMS[name].columns()["ts"])
    if name == "boarding_school":
        columns["in_bed"] = [int(count) for count in PROBLEMS[name].columns()["in_bed"]]
    return columns


def stan_program(name: str) -> Path:
    """The Stan program of a problem."""
    return HERE / f"{name}.stan"
