"""A result of zeros, written before sampling: what cannot be saved is told then."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from odecal._errors import OutputError
from odecal._results.tree import build_tree
from odecal._run.names import check_names, fault_of_text, shown
from odecal._run.records import Chains, Evaluation, Plan, Result, WarmStart
from odecal.samplers import Start

if TYPE_CHECKING:
    import xarray as xr


def rehearse(
    plan: Plan, names: tuple[str, ...], chains: Chains, one: Evaluation, grid: np.ndarray
) -> None:
    """Put a result together and write it to memory, as it will be at the end of a run.

    The draws of one chain, and the evaluation of one, are zeros.

    Raises:
        OutputError: if that fails; with the name, the unit or the label that is in the way.
    """
    start = _no_start(len(names))
    result = Result(plan, names, start, chains, one, one, one, grid, True, 0.0, 0.0)
    try:
        tree = build_tree(result)
    except Exception as error:
        raise OutputError(
            f"The result of this run could not be put together: {_short(error)} "
            "Rename the column, the dim or the part of the system that this is about."
        ) from error
    nodes = [*tree.children.values(), tree]
    for node in nodes:
        check_names([*node.dims, *node.variables, *node.attrs])
    for node in nodes:
        _check_texts(node.dataset)
    for node in nodes:
        _check_written(node.dataset, node.path)


def _check_texts(data: "xr.Dataset") -> None:
    """Refuse texts that cannot be written: units, descriptions, labels."""
    for what, text in _texts(data):
        fault = fault_of_text(text)
        if fault:
            raise OutputError(
                f"{what} cannot be saved: {shown(text)}; {fault}. Expected text. Correct it."
            )


def _texts(data: "xr.Dataset") -> Iterator[tuple[str, str]]:
    """Every text of a dataset, and what it is."""
    for name, variable in data.variables.items():
        for key, text in variable.attrs.items():
            if isinstance(text, str):
                yield f"The {key} of `{name}`", text
        if variable.dtype.kind in "OU":
            for text in np.ravel(variable.values).tolist():
                yield f"A label of `{name}`", str(text)
    for name, text in data.attrs.items():
        if isinstance(text, str):
            yield f"The attribute {name}", text


def _check_written(data: "xr.Dataset", where: str) -> None:
    """Write a dataset to memory; of one that fails, name the first variable that does."""
    error = _write_error(data)
    if error is not None:
        name = next(
            (n for n in data.variables if _write_error(data[n].to_dataset(name="it"))), None
        )
        what = f"`{name}`" if name is not None else "it"
        raise OutputError(
            f"The group {where.strip('/')} of the result could not be saved as netCDF, because of "
            f"{what}: {_short(error)} Rename or relabel what it is made of."
        ) from error


def _write_error(data: "xr.Dataset") -> Exception | None:
    """What goes wrong as a dataset is written to a netCDF file that is in memory only."""
    import netCDF4
    from xarray.backends import NetCDF4DataStore

    try:
        with (
            netCDF4.Dataset("rehearsal.nc", "w", diskless=True, persist=False) as file,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            data.dump_to_store(NetCDF4DataStore(file))
    except Exception as error:
        return error
    return None


def _no_start(dim: int) -> WarmStart:
    """Where no chain starts: one mode, one optimisation, one chain, of zeros."""
    one, position = np.zeros(1), np.zeros((1, dim))
    which = np.zeros(1, int)
    known: Any = (position, one, position, position)
    start = Start(*known)
    return WarmStart(start, which, position, one, which, which, position, one, one, 0)


def _short(error: Exception) -> str:
    """What went wrong, on a line."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return (line if len(line) <= 300 else f"{line[:300]}…").rstrip(".") + "."
