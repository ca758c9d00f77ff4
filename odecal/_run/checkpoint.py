"""The part of a saved calibration from which its run can go on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from odecal._errors import OutputError
from odecal._run.journal_rows import (
    snapshot_from_bytes,
    snapshot_to_bytes,
    warm_start_from_bytes,
    warm_start_to_bytes,
)
from odecal._run.netcdf import read_tree
from odecal._run.plan import plan_to_bytes
from odecal._run.records import Result, Snapshot, WarmStart
from odecal.samplers import Draw

if TYPE_CHECKING:
    import xarray as xr


def checkpoint_arrays(result: Result) -> dict[str, UInt8[np.ndarray, " byte"]]:
    """What a file must hold, beside draws, so that its run can go on; as arrays of bytes."""
    chains = result.chains
    parts = {
        "plan": plan_to_bytes(result.plan),
        "starts": warm_start_to_bytes(result.warm_start),
        "state": snapshot_to_bytes(Snapshot(chains.done, chains.state, (), chains.seconds)),
    }
    return {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}


def read_checkpoint(path: Path, complete: bool) -> tuple[bytes, WarmStart, Snapshot]:
    """The plan of a saved run, where its chains started, and where it stands.

    Raises:
        OutputError: if it is not there, or complete where it should not be, or the reverse.
    """
    tree, unchanged = read_tree(path)
    if not unchanged:
        raise OutputError(
            f"The run in {path} cannot go on: the file was changed since odecal wrote it, or was "
            "written by another program or an earlier version. Expected a file that ends in "
            "odecal's checksum. Take the file as it was, or start a new run."
        )
    if "checkpoint" not in tree.children:
        raise OutputError(
            f"The file {path} holds no checkpoint. Expected a file that odecal calibrate has "
            "written."
        )
    if complete and not tree.attrs.get("complete", 1):
        raise OutputError(
            f"The run in {path} is unfinished. Expected a finished one to extend. Finish it first: "
            f"odecal resume {path}"
        )
    if not complete and tree.attrs.get("complete", 1):
        raise OutputError(
            f"The run in {path} is complete: there is nothing to resume. To add draws: "
            f"odecal extend {path} --num-samples N"
        )
    try:
        plan, starts, state = (
            np.asarray(tree["checkpoint"][name].values, np.uint8).tobytes()
            for name in ("plan", "starts", "state")
        )
        draws = _draws(tree)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise OutputError(
            f"The checkpoint in {path} cannot be read: {error}. Expected one as odecal writes it. "
            "Start a new run."
        ) from None
    return plan, warm_start_from_bytes(starts), snapshot_from_bytes(state, (draws,))


def _draws(tree: "xr.DataTree") -> Draw:
    """All transitions of a saved run in one block; positions of warm-up, which are not saved, 0."""
    stats: Any = {str(k): v.values for k, v in tree["warmup_sample_stats"].data_vars.items()}
    shape = (*stats["lp"].shape, tree["warm_start"].sizes["unconstrained"])
    positions: Any = np.zeros(shape, stats["lp"].dtype)
    if "sample_stats" in tree.children:
        sampling = tree["sample_stats"].to_dataset()
        stats = {
            name: np.concatenate([x, sampling[name].values.astype(x.dtype)], axis=1)
            for name, x in stats.items()
        }
        sampled = tree["unconstrained_posterior"]["position"].values
        positions = np.concatenate([positions, sampled], axis=1)
    return Draw(positions, stats)
