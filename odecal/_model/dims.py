"""The named dimensions of what a model gives, and their labels."""

from collections.abc import Mapping

import numpy as np

from odecal._data.experiment import Experiment
from odecal._system.hierarchy import Hierarchy


def time_dims_of(experiment: Experiment) -> dict[str, str]:
    """The dimension of the values of every observable, by its name."""
    series = list(experiment.series.items())
    first = series[0][1]
    together = all(
        np.array_equal(s.times, first.times) and np.array_equal(s.individual, first.individual)
        for _, s in series
    )
    word = "observation" if experiment.individuals.dim else "time"
    return {name: word if together else f"{word}_{name}" for name, _ in series}


def dims_of(
    hierarchy: Hierarchy, time_dims: Mapping[str, str], own_derived: frozenset[str]
) -> dict[str, list[str]]:
    """The named dimensions of every quantity."""
    declaration = hierarchy.declaration
    dims = {name: list(q.dims) for name, q in hierarchy.quantities.items()}
    for name, c in declaration.derived.items():
        own = [hierarchy.individuals.dim] if name in own_derived else []
        dims[name] = [*own, *c.dims]
    for name, component in declaration.observables.items():
        dims[name] = [time_dims[name], *component.dims]
    return dims


def coords_of(
    hierarchy: Hierarchy, experiment: Experiment, time_dims: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The labels of every dimension."""
    individuals = experiment.individuals
    coords = {dim: np.asarray(labels) for dim, labels in hierarchy.declaration.coords.items()}
    coords |= hierarchy.coords
    if individuals.dim:
        coords[individuals.dim] = individuals.labels
    for name, dim in time_dims.items():
        times = experiment.series[name].times
        coords[dim] = np.arange(len(times)) if individuals.dim else times
    return coords
