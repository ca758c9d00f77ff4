"""Objects from the words of the command line, and what is set before JAX starts."""

import json
import os
from collections.abc import Iterable
from typing import Any


def make_sampler(name: str, metric: str | None, settings: Iterable[str]) -> Any:
    """The sampler of a name, with its settings.

    Args:
        name: such as `nuts`.
        metric: such as `dense`, or None.
        settings: of the form `name=value`.

    Raises:
        SettingsError: if a name is unknown, or a value cannot be one.
    """
    from odecal import samplers

    known = {
        "nuts": samplers.NUTS,
        "numpyro-nuts": samplers.NumPyroNUTS,
        "hmc": samplers.HMC,
        "adjusted-mclmc": samplers.AdjustedMCLMC,
        "chees": samplers.ChEES,
        "meads": samplers.MEADS,
        "tempered-smc": samplers.TemperedSMC,
        "pathfinder": samplers.Pathfinder,
    }
    metrics = {
        "diagonal": samplers.DiagonalMetric,
        "dense": samplers.DenseMetric,
        "shrunk": samplers.ShrunkMetric,
        "low-rank": samplers.LowRankMetric,
    }
    cls = choose("--sampler", name, known)
    chosen: dict[str, Any] = dict(_setting(cls, text) for text in settings)
    if metric is not None:
        _field(cls, "metric")
        chosen["metric"] = choose("--metric", metric, metrics)()
    return cls(**chosen)


def _setting(cls: type, text: str) -> tuple[str, Any]:
    """The name and value of one setting of a sampler."""
    from odecal._errors import SettingsError

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
    _field(cls, name)
    return name, number


def _field(cls: Any, name: str) -> None:
    """Refuse a setting that a sampler does not have."""
    from odecal._errors import SettingsError, listed, suggestion

    known = list(cls.__dataclass_fields__)
    if name not in known:
        raise SettingsError(
            f"The sampler {cls.__name__} has no setting `{name}`. Expected one of: "
            f"{listed(known)}." + suggestion(name, known)
        )


def change_solve(solve: Any, adjoint: str | None, dtype: str | None) -> Any:
    """Settings of a solve, with the adjoint and the floating type of a name.

    Raises:
        SettingsError: if a name is unknown.
    """
    from dataclasses import replace

    if adjoint is not None:
        solve = replace(solve, adjoint=None if adjoint == "auto" else make_adjoint(adjoint, "auto"))
    if dtype is not None:
        types = {"float64": "float64", "float32": "float32"}
        solve = replace(solve, dtype=choose("--dtype", dtype, types))
    return solve


def make_adjoint(name: str, *others: str) -> Any:
    """The adjoint of a name.

    Args:
        name: such as `recursive-checkpoint`.
        others: further names that may be given, for the message.

    Raises:
        SettingsError: if the name is unknown.
    """
    from odecal import adjoints

    known: dict[str, Any] = dict.fromkeys(others) | {
        "explicit-forward": adjoints.ExplicitForward,
        "explicit-reverse": adjoints.ExplicitReverse,
        "forward": adjoints.Forward,
        "forward-sensitivity": adjoints.ForwardSensitivity,
        "recursive-checkpoint": adjoints.RecursiveCheckpoint,
        "interpolating": adjoints.Interpolating,
        "gauss": adjoints.Gauss,
        "quadrature": adjoints.Quadrature,
        "backsolve": adjoints.Backsolve,
        "direct": adjoints.Direct,
        "steady-state": adjoints.SteadyState,
    }
    return choose("--adjoint", name.replace("_", "-"), known)()


def choose(option: str, name: str, known: dict[str, Any]) -> Any:
    """What a name stands for.

    Raises:
        SettingsError: if it is unknown.
    """
    from odecal._errors import SettingsError, listed, suggestion

    if name not in known:
        raise SettingsError(
            f"{option} {name} is unknown. Expected one of: {listed(known)}."
            + suggestion(name, known)
        )
    return known[name]


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
