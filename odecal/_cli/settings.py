"""Objects from the words of the command line, and what is set before JAX starts."""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from odecal._cli.choices import adjoints, choose, metrics, samplers
from odecal._errors import SettingsError, listed, suggestion

if TYPE_CHECKING:
    from odecal._system.solve import Solve
    from odecal.adjoints import AbstractAdjoint
    from odecal.samplers import AbstractSampler


def make_sampler(name: str, metric: str | None, settings: Iterable[str]) -> "AbstractSampler":
    """The sampler of a name such as `nuts`, with settings of the form `name=value`."""
    import odecal

    cls = getattr(odecal.samplers, choose("--sampler", name, samplers()))
    chosen = dict(_setting(cls, text) for text in settings)
    if metric is not None:
        _check_field(cls, "metric")
        chosen["metric"] = getattr(odecal.samplers, choose("--metric", metric, metrics()))()
    return cls(**chosen)


def _setting(cls: type, text: str) -> tuple[str, Any]:
    """The name and value of one setting of a sampler."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    try:
        number = json.loads(value)
    except json.JSONDecodeError:
        number = None
    if not equals or not isinstance(number, (int, float)):
        raise SettingsError(
            f"--set {text} cannot be read. Expected a name and a number, such as "
            "--set target_acceptance_rate=0.95."
        )
    _check_field(cls, name)
    return name, number


def _check_field(cls: Any, name: str) -> None:
    """Refuse a setting that a sampler does not have."""
    known = list(cls.__dataclass_fields__)
    if name not in known:
        raise SettingsError(
            f"The sampler {cls.__name__} has no setting `{name}`. Expected one of: "
            f"{listed(known)}." + suggestion(name, known)
        )


def change_solve(solve: "Solve", adjoint: str | None, dtype: str | None) -> "Solve":
    """Settings of a solve, with the adjoint and the floating type of a name."""
    if adjoint is not None:
        solve = replace(solve, adjoint=None if adjoint == "auto" else make_adjoint(adjoint, "auto"))
    if dtype is not None:
        types = {"float64": "float64", "float32": "float32"}
        solve = replace(solve, dtype=choose("--dtype", dtype, types))
    return solve


def make_adjoint(name: str, *others: str) -> "AbstractAdjoint":
    """The adjoint of a name such as `recursive-checkpoint`; others are for the message alone."""
    import odecal

    known = {**{other: other for other in others}, **adjoints()}
    cls = getattr(odecal.adjoints, choose("--adjoint", name.replace("_", "-"), known))
    return cls()


def prepare_jax() -> None:
    """Let JAX see every CPU core as a device, and keep what it compiles in the user's cache folder.

    Only possible before it starts. A folder that the user has set (`JAX_COMPILATION_CACHE_DIR`) is
    kept.
    """
    import jax
    from platformdirs import user_cache_path

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", cores or 1)
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(user_cache_path("odecal") / "jax"))
        jax.config.update("jax_compilation_cache_max_size", 2**30)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
