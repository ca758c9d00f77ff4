"""Results to netCDF files and back, whole or not at all."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odecal._errors import OdecalError, OutputError
from odecal._run.checksum import has_checksum, write_checksum
from odecal._run.output import check_output, replaced

if TYPE_CHECKING:
    import xarray as xr


def save(posterior: "xr.DataTree | xr.Dataset", path: str | Path) -> Path:
    """Save a result as netCDF: into a temporary file beside it, then renamed.

    Args:
        posterior: the result of a calibration, or of a comparison of adjoints.
        path: the path of the file; an existing file is replaced only once the new one is whole.

    Returns:
        The path.

    Raises:
        OutputError: if it cannot be written; nothing is left behind.
    """
    import xarray as xr

    if not isinstance(posterior, (xr.DataTree, xr.Dataset)):
        raise OutputError(
            "save(...) expects the result of a calibration or a comparison, an xarray.DataTree or "
            f"Dataset. Got a {type(posterior).__name__}."
        )
    path = check_output(path)
    try:
        with replaced(path) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*has a space in its name")  # see _with_coords
            posterior.to_netcdf(temporary, engine="netcdf4", encoding=_encoding(posterior))
            write_checksum(temporary)
    except Exception as error:  # whatever netCDF4 and xarray find wrong
        raise OutputError(
            f"The result could not be written to {path}: {error}. Nothing was left there. Free "
            "some space or choose another place, and save again."
        ) from None
    return path


def load(path: str | Path, unfinished: bool = False) -> "xr.DataTree":
    """Read a saved calibration into memory.

    A file that odecal has written ends in a checksum, which is compared before anything is read.
    One that was changed since, on purpose or by another program, is read with a warning.

    Args:
        path: the netCDF file.
        unfinished: whether one that was interrupted before its first draw will do.

    Returns:
        The tree.

    Raises:
        OutputError: if there is no such file, it is damaged, or it is not the result of a
            calibration.
    """
    tree, unchanged = read_tree(path)
    if not unchanged:
        warnings.warn(
            f"The file {path} was changed since odecal wrote it, or was written by another program "
            "or an earlier version: it has no checksum. Its numbers are taken as they are, and its "
            "run cannot go on.",
            stacklevel=2,
        )
    if "posterior" not in tree.children and not unfinished:
        raise OutputError(
            f"The run in {path} was interrupted in warm-up, and holds no draw yet. Go on with it: "
            f"odecal resume {path}"
        )
    return tree


def read_tree(path: str | Path) -> "tuple[xr.DataTree, bool]":
    """Read a saved calibration, as `load` does, and whether it is as odecal wrote it."""
    path = Path(path)
    if not path.is_file():
        raise OutputError(f"There is no file {path}. Expected the netCDF file of a calibration.")
    import xarray as xr

    try:
        unchanged = has_checksum(path)
        with xr.open_datatree(path, engine="netcdf4") as stored:
            # Node by node: DataTree.load passes over a variable that has the name of a group.
            sets = {
                n.path: _with_coords(n.to_dataset(inherit=False).load()) for n in stored.subtree
            }
        tree = xr.DataTree.from_dict(sets)
    except OutputError:
        raise
    except Exception as error:  # whatever netCDF4 and xarray find wrong
        raise OutputError(
            f"The file {path} cannot be read as netCDF: {error}. Expected a file that odecal "
            "calibrate has written."
        ) from None
    if "posterior" not in tree.children and "checkpoint" not in tree.children:
        raise OutputError(
            f"The file {path} holds no posterior. Expected a file that odecal calibrate has "
            "written."
        )
    return tree, unchanged


def _with_coords(data: "xr.Dataset") -> "xr.Dataset":
    """Restore coordinates whose names have a space, which CF cannot list as coordinates."""
    return data.set_coords([name for name in data.data_vars if " " in str(name)])


@contextmanager
def changed_file_errors(path: Path) -> Iterator[None]:
    """Turn errors of a file that was changed since odecal wrote it into messages that say so."""
    try:
        yield
    except OdecalError:
        raise
    except Exception as error:
        if has_checksum(path):
            raise
        raise OutputError(
            f"The file {path} was changed since odecal wrote it, and cannot be shown: "
            f"{type(error).__name__}: {error}. Expected groups and variables as odecal writes them."
        ) from None


def _encoding(data: Any) -> dict[str, Any]:
    """Compression of the large numeric variables."""
    import xarray as xr

    def of(dataset: Any) -> dict[str, Any]:
        return {
            str(name): {"zlib": True, "complevel": 1}
            for name, variable in dataset.data_vars.items()
            if variable.size > 10_000 and variable.dtype.kind in "fiu"
        }

    if isinstance(data, xr.Dataset):
        return of(data)
    return {node.path: of(node.dataset) for node in data.subtree if of(node.dataset)}
