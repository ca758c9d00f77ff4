"""Pictures of many individuals."""

import numpy as np
import pytest
import xarray as xr

import odecal
from odecal._results.plot_vpc import _bins


def population(times, seed=0):
    """A result of a population that was seen at some times, with values around the times."""
    rng = np.random.default_rng(seed)
    where = {"observation": np.arange(len(times)), "time": ("observation", times)}
    values = xr.DataArray(times + rng.normal(size=len(times)), coords=where, dims="observation")
    draws = times + rng.normal(size=(2, 50, len(times)))
    dims = ("chain", "draw", "observation")
    return xr.DataTree.from_dict(
        {
            "observed_data": xr.Dataset({"seen": values}),
            "population_predictive": xr.Dataset({"seen": xr.DataArray(draws, dims=dims)}),
        }
    )


@pytest.mark.parametrize(
    ("times", "bins"),
    [
        (np.tile([1.0, 4.0, 25.0, 60.0], 3), 4),
        (np.linspace(0.0, 1.0, 12), 3),
        (np.linspace(0.0, 1.0, 600), 12),
        (np.tile(np.arange(11.0), 12), 11),
        (np.full(8, 2.0), 1),
    ],
    ids=["few subjects at the same times", "no time twice", "many", "a design", "one time"],
)
def test_a_predictive_check_has_bands_that_are_seen(times, bins):
    found = _bins(times)
    assert found.max() + 1 == bins
    assert all(len(np.unique(found[times == t])) == 1 for t in times)
    (axis,) = odecal.plot_vpc(population(times)).axes
    assert len(axis.collections) == 3
    for band in axis.collections:
        width, height = np.ptp(band.get_paths()[0].vertices, axis=0)
        assert width >= 0.5
        assert height > 0.0
