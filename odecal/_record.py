"""What a file must hold so that a run can go on: its plan and its state, as bytes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odecal._errors import OutputError
from odecal._experiment_arrays import experiment_from_arrays, experiment_to_arrays
from odecal._packed import pack, unpack
from odecal._plain import from_plain, to_plain

if TYPE_CHECKING:
    from odecal._pipeline import Plan
    from odecal._system import System

_VERSION = 2


def plan_to_bytes(plan: "Plan") -> bytes:
    """Describe a plan, observations included.

    Args:
        plan: the plan.

    Returns:
        Bytes from which it can be made again, given the system's class.
    """
    model, experiment = plan.model, plan.model.experiment
    header = {
        "version": _VERSION,
        "system": _reference(model.system),
        "solve": _described(model.solve),
        "centrings": to_plain(dict(model.centrings)),
        "sampler": _described(plan.sampler),
        "run": list(plan.run),
        "seed": int(plan.seed),
        "adjoint_choice": plan.adjoint_choice,
    }
    return pack({"header": json.dumps(header), **experiment_to_arrays(experiment)})


def plan_from_bytes(data: bytes, where: Path, system: "System | None", more: int = 0) -> "Plan":
    """Make a plan again.

    Args:
        data: from `plan_to_bytes`.
        where: the file that holds it, for messages.
        system: the system; None finds it by the name of its class.
        more: draws of each chain to add.

    Returns:
        The plan.

    Raises:
        OutputError: if the system cannot be found or is another one, or a setting cannot be made
            again.
    """
    from odecal._model import Model
    from odecal._pipeline import Plan
    from odecal.samplers import Run

    arrays = unpack(data)
    header = json.loads(str(arrays["header"]))
    if header["version"] != _VERSION:
        raise OutputError(
            f"The file {where} was written by another version of odecal, whose runs this one "
            "cannot continue. Use the version that its attributes name."
        )
    system = _same_system(system, header["system"], where)
    header = _moved(header, header["system"]["module"], type(system).__module__)
    num_chains, num_warmup, num_samples = header["run"]
    return Plan(
        Model(
            system,
            experiment_from_arrays(arrays),
            _made(header["solve"], "solver", where),
            from_plain(header["centrings"]),
        ),
        _made(header["sampler"], "sampler", where),
        Run(num_chains, num_warmup, num_samples + more),
        header["seed"],
        header.get("adjoint_choice", ""),
    )


def _moved(plain: Any, before: str, now: str) -> Any:
    """Plain data in which what a user's file declares is looked for in the module it has now."""
    if isinstance(plain, list):
        return [_moved(x, before, now) for x in plain]
    if isinstance(plain, str) and plain.startswith(f"{before}:"):
        return now + plain.removeprefix(before)
    return {k: _moved(x, before, now) for k, x in plain.items()} if type(plain) is dict else plain


def _reference(system: "System") -> dict[str, str]:
    """What identifies a system, and where its class is found."""
    from odecal._provenance import source_file, system_attrs

    attrs = system_attrs(system)
    return {
        "module": type(system).__module__,
        "name": type(system).__qualname__,
        "file": source_file(type(system)),
        "sha256": attrs["system_source_sha256"],
        "table": attrs["system_table"],
    }


def _same_system(system: "System | None", reference: dict[str, str], where: Path) -> "System":
    """The system of a reference, or the given one if it is the same."""
    name = reference["name"]
    if system is None:
        system = _find(reference, where)
    now = _reference(system)
    hint = "Give the system as it was: odecal.resume(path, system), or --system on the command line"
    if now["table"] != reference["table"]:
        raise OutputError(
            f"The run in {where} was of another system. Expected the system\n"
            f"{reference['table']}\nGot\n{now['table']}\n{hint}."
        )
    if now["sha256"] != reference["sha256"]:
        raise OutputError(
            f"The source of {name} has changed since the run in {where} began, and draws of two "
            f"models must not be mixed. Restore it, or start a new run. {hint}."
        )
    return system


def _find(reference: dict[str, str], where: Path) -> "System":
    """The system of a class that is found by its name."""
    from odecal._cli_find import find_system
    from odecal._errors import OdecalError

    try:
        if reference["module"].startswith("odecal."):
            return from_plain({"name": f"{reference['module']}:{reference['name']}"})()
        return find_system(f"{reference['file']}:{reference['name']}")
    except (ImportError, OdecalError) as error:
        raise OutputError(
            f"The system {reference['name']} of the run in {where} could not be found in "
            f"{reference['file'] or reference['module']}: {error} Give it: "
            "odecal.resume(path, system), or --system path/to/file.py:ClassName."
        ) from None


def _described(settings: Any) -> Any:
    try:
        return to_plain(settings)
    except TypeError as error:
        return {"unknown": str(error)}


def _made(plain: Any, what: str, where: Path) -> Any:
    try:
        if "unknown" in plain:
            raise ImportError(plain["unknown"])
        return from_plain(plain)
    except ImportError as error:
        raise OutputError(
            f"The settings of the {what} of the run in {where} cannot be made again: {error}. "
            "Runs with functions that have no name of their own cannot be continued."
        ) from None
