"""An experiment as plain arrays by name, and back: what a file holds of it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from odecal._data.experiment import Doses, Experiment, Samples, Series
from odecal._system.groups import Grouping, Individuals

# Fields that have another name in files.
_NAMES_IN_FILES = {"after_dose": "late"}


def experiment_to_arrays(experiment: Experiment) -> dict[str, Any]:
    """An experiment as arrays.

    They are of numbers or text, and by their names the experiment can be made again.
    """
    who = experiment.individuals
    arrays: dict[str, Any] = {
        "t0": experiment.t0,
        "individuals": who.labels,
        "outline": json.dumps(
            {
                "dim": who.dim,
                "groups": [[list(columns), g.dim] for columns, g in who.groups.items()],
                "covariates": list(who.covariates),
                "series": list(experiment.series),
                "doses": experiment.doses is not None,
                "inputs": list(experiment.inputs),
            }
        ),
    }
    for i, grouping in enumerate(who.groups.values()):
        arrays |= {f"group{i}.labels": grouping.labels, f"group{i}.index": grouping.index}
    arrays |= {f"covariate.{name}": x for name, x in who.covariates.items()}
    for name, series in experiment.series.items():
        arrays |= _columns(f"series.{name}", series)
    if experiment.doses is not None:
        arrays |= _columns("doses", experiment.doses)
    for name, samples in experiment.inputs.items():
        arrays |= _columns(f"input.{name}", samples)
    return arrays


def experiment_from_arrays(arrays: Mapping[str, np.ndarray]) -> Experiment:
    """The experiment of `experiment_to_arrays`."""
    outline = json.loads(str(arrays["outline"]))
    groups = {
        tuple(columns): Grouping(dim, arrays[f"group{i}.labels"], arrays[f"group{i}.index"])
        for i, (columns, dim) in enumerate(outline["groups"])
    }
    covariates = {name: arrays[f"covariate.{name}"] for name in outline["covariates"]}
    return Experiment(
        arrays["t0"],
        {name: _made(Series, f"series.{name}", arrays) for name in outline["series"]},
        Individuals(outline["dim"], arrays["individuals"], groups, covariates),
        _made(Doses, "doses", arrays) if outline["doses"] else None,
        {name: _made(Samples, f"input.{name}", arrays) for name in outline["inputs"]},
    )


def _columns(prefix: str, rows: Any) -> dict[str, Any]:
    """The fields of a dataclass of arrays that are there."""
    named = {name: getattr(rows, field) for field, name in _names(prefix, type(rows)).items()}
    return {name: x for name, x in named.items() if x is not None}


def _made(kind: type[Any], prefix: str, arrays: Mapping[str, np.ndarray]) -> Any:
    optional = {f.name for f in fields(kind) if f.default is None}
    there = {
        field: arrays[name]
        for field, name in _names(prefix, kind).items()
        if name in arrays or field not in optional
    }
    return kind(**there)


def _names(prefix: str, kind: type[Any]) -> dict[str, str]:
    """What the fields of a dataclass are called in files."""
    return {f.name: f"{prefix}.{_NAMES_IN_FILES.get(f.name, f.name)}" for f in fields(kind)}
