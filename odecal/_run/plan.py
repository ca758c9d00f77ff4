"""What a file must hold so that a run can go on: its plan and its state, as bytes."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from odecal._data.serialise import experiment_from_arrays, experiment_to_arrays
from odecal._errors import OdecalError, OutputError, SettingsError
from odecal._model.model import Model
from odecal._run.encode import from_plain, to_plain
from odecal._run.npz import pack, unpack
from odecal._run.records import Plan
from odecal._run.system_record import Tell, identity, recorded_system
from odecal._system.solve import Solve
from odecal._system.system import System
from odecal.centring import AbstractCentring
from odecal.samplers import AbstractEnsemble, AbstractSampler, Run

_VERSION = 3


def plan_to_bytes(plan: Plan) -> bytes:
    """A plan, observations included, as bytes that make it again, given the system's class."""
    model, experiment = plan.model, plan.model.experiment
    header = {
        "version": _VERSION,
        "system": identity(model.system),
        "solve": _encoded(model.solve),
        "centrings": to_plain(dict(model.centrings)),
        "sampler": _encoded(plan.sampler),
        "run": list(plan.run),
        "seed": int(plan.seed),
        "adjoint_choice": plan.adjoint_choice,
    }
    return pack({"header": json.dumps(header), **experiment_to_arrays(experiment)})


def plan_from_bytes(
    data: bytes, where: Path, system: System | None, more: int = 0, tell: Tell = print
) -> Plan:
    """Make a plan again.

    Nothing that the file `where` says is run but the file of its system (`tell` is told which), and
    that only if its text is the one that the run began with; see the page of the guide on what is
    trusted. A system that is not given is found by the name of its class. To what was planned for
    each chain `more` draws are added.

    Raises:
        OutputError: if the system cannot be found or is another one, or a setting cannot be made
            again.
        SettingsError: if a setting cannot work.
    """
    arrays = unpack(data)
    try:
        header = json.loads(str(arrays["header"]))
        version = header["version"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(where, error) from None
    if version != _VERSION:
        raise OutputError(
            f"The file {where} was written by another version of odecal, whose runs this one "
            "cannot continue. Use the version that its attributes name."
        )
    try:
        return _plan(header, arrays, where, system, more, tell)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        if isinstance(error, OdecalError):
            raise
        raise _unreadable(where, error) from None


def _plan(
    header: Any,
    arrays: dict[str, Any],
    where: Path,
    system: System | None,
    more: int,
    tell: Tell,
) -> Plan:
    """The plan of a header and arrays."""
    system = recorded_system(system, header["system"], where, tell)
    header = _in_module(header, header["system"]["module"], type(system).__module__)
    sampler = _checked(AbstractSampler, _decoded(header["sampler"], "sampler", where), where)
    solve = _checked(Solve, _decoded(header["solve"], "solver", where), where)
    centrings = _checked(dict, _decoded(header["centrings"], "centrings", where), where)
    for name, centring in centrings.items():
        _checked(str, name, where)
        _checked(AbstractCentring, centring, where)
    num_chains, num_warmup, num_samples = header["run"]
    run = checked_run(sampler, num_chains, num_warmup, num_samples, header["seed"])
    return Plan(
        Model(system, experiment_from_arrays(arrays), solve, centrings),
        sampler,
        run._replace(num_samples=run.num_samples + more),
        header["seed"],
        str(header["adjoint_choice"]),
    )


def checked_run(sampler: Any, num_chains: int, num_warmup: int, num_samples: int, seed: int) -> Run:
    """The size of a run, which the sampler and the seed can be of."""
    if not isinstance(sampler, AbstractSampler):
        raise SettingsError(
            "calibrate(sampler=...) expects a sampler object, such as odecal.samplers.NUTS(). "
            f"Got {sampler!r}."
        )
    least = {"num_chains": (num_chains, 1), "num_warmup": (num_warmup, 0)}
    least |= {"num_samples": (num_samples, 1), "seed": (seed, 0)}
    for name, (value, low) in least.items():
        check_count("calibrate", name, value, low)
    if seed >= 2**32:
        raise SettingsError(f"calibrate(seed=...) expects a number below 2**32. Got {seed}.")
    run = Run(int(num_chains), int(num_warmup), int(num_samples))
    if isinstance(sampler, AbstractEnsemble):
        sampler.check_run(run)
    return run


def check_count(function: str, name: str, value: Any, low: int) -> None:
    """Refuse what is not a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise SettingsError(
            f"{function}({name}=...) expects a whole number of at least {low}. Got {value!r}."
        )


def _in_module(plain: Any, before: str, now: str) -> Any:
    """Plain data in which what a user's file declares is looked for in the module it has now."""
    if isinstance(plain, list):
        return [_in_module(x, before, now) for x in plain]
    if isinstance(plain, str) and plain.startswith(f"{before}:"):
        return now + plain.removeprefix(before)
    return (
        {k: _in_module(x, before, now) for k, x in plain.items()} if type(plain) is dict else plain
    )


def _checked(kind: Any, value: Any, where: Path) -> Any:
    if not isinstance(value, kind):
        raise _unreadable(where, f"a {type(value).__name__} stands for a {kind.__name__}")
    return value


def _unreadable(where: Path, why: object) -> OutputError:
    return OutputError(
        f"The plan of the run in {where} cannot be read: {why}. Expected one as odecal writes it. "
        "Start a new run."
    )


def _encoded(settings: Any) -> Any:
    try:
        return to_plain(settings)
    except TypeError as error:
        return {"unknown": str(error)}


def _decoded(plain: Any, what: str, where: Path) -> Any:
    try:
        if isinstance(plain, dict) and "unknown" in plain:
            raise ImportError(str(plain["unknown"]))
        return from_plain(plain)
    except ImportError as error:
        raise OutputError(
            f"The settings of the {what} of the run in {where} cannot be made again: {error}. "
            "Expected solvers, adjoints, samplers and norms of odecal, Diffrax, Optimistix and "
            "Lineax, or classes of the system's own file that derive from those. Start a new run."
        ) from None
