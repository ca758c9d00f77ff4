"""Where a result comes from: versions, source, settings, machine."""

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import equinox as eqx
import jax

from odecal._run.source import class_source
from odecal._system.solve import Solve
from odecal._system.system import System
from odecal.samplers import AbstractSampler

# What is recorded where the absolute tolerance is chosen for each state.
_ATOL = "1e-08, and 1e-08 of the magnitude of states below 0.01"

_PACKAGES = ("odecal", "jax", "jaxlib", "diffrax", "numpyro", "blackjax", "equinox", "xarray")


def system_attrs(system: System) -> dict[str, Any]:
    """What identifies a system, as attributes: class, source, the hash of that, and table."""
    source = class_source(type(system))
    return {
        "system": type(system).__name__,
        "system_module": type(system).__module__,
        "system_source": source,
        "system_source_sha256": hashlib.sha256(source.encode()).hexdigest(),
        "system_table": repr(system),
        "time_unit": system.time_unit,
    }


def solve_attrs(solve: Solve) -> dict[str, Any]:
    """The settings of a solve, as attributes."""
    return {
        "solver": _shown(solve.solver),
        "rtol": solve.rtol,
        "atol": _ATOL if solve.atol is None else solve.atol,
        "max_steps": solve.max_steps_or_default,
        "adjoint": _shown(solve.strategy),
        "dtype": str(solve.dtype),
    }


def sampler_attrs(sampler: AbstractSampler) -> dict[str, Any]:
    """A sampler and its settings, as attributes."""
    settings = {name: getattr(sampler, name) for name in sampler.__dataclass_fields__}
    return {
        "sampler": type(sampler).__name__,
        "sampler_settings": json.dumps(settings, default=str),
    }


def environment_attrs() -> dict[str, Any]:
    """The versions and the machine, as attributes."""
    device = jax.devices()[0]
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "inference_library": "odecal",
        "inference_library_version": _version("odecal"),
        "creation_library": "odecal",
        "creation_library_version": _version("odecal"),
        "versions": json.dumps({name: _version(name) for name in _PACKAGES}),
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "num_devices": len(jax.devices()),
    }


def merge(*attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Put attributes together, leaving empty texts out: netCDF has no use for them."""
    merged = {name: value for part in attributes for name, value in part.items()}
    return {k: v for k, v in merged.items() if v is not None and not (isinstance(v, str) and not v)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _shown(module: Any) -> str:
    """An object and its settings on one line."""
    return " ".join(eqx.tree_pformat(module, short_arrays=False, width=10_000).split())
