"""The command line: thin commands over the library."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import xarray as xr

app = typer.Typer(
    name="odecal",
    help="Bayesian calibration of ordinary differential equations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SystemArgument = Annotated[
    str,
    typer.Argument(
        metavar="SYSTEM", help="A shipped system (odecal systems), or path/to/file.py:ClassName."
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="CSV table of observations; by default the system's own."),
]
TimeOption = Annotated[
    str | None, typer.Option("--time", help="Name of the time column, where it cannot be told.")
]
IgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore", help="A column to leave out; may be repeated.")
]
ResultArgument = Annotated[Path, typer.Argument(metavar="FILE.nc", help="A saved calibration.")]


def main() -> None:
    """Run the command line: one clear message and status 1 for a mistake, no traceback."""
    from odecal._errors import OdecalError

    try:
        app()
    except OdecalError as error:
        print(f"odecal: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("odecal: interrupted, nothing was written.", file=sys.stderr)  # noqa: T201
        sys.exit(130)


@app.command()
def systems() -> None:
    """List the shipped systems."""
    import inspect

    from rich.console import Console
    from rich.table import Table

    table = Table("system", "states", "unknowns", "what", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for name, cls in shipped_systems().items():
        declaration = cls().declaration
        first = (inspect.getdoc(cls) or "").splitlines()[0]
        table.add_row(name, ", ".join(declaration.states), ", ".join(declaration.sites), first)
    Console().print(table)


@app.command()
def calibrate(
    system: SystemArgument,
    out: Annotated[Path, typer.Option("--out", help="The netCDF file to write.")],
    data: DataOption = None,
    time: TimeOption = None,
    ignore: IgnoreOption = None,
    sampler: Annotated[str, typer.Option(help="nuts or numpyro-nuts.")] = "nuts",
    adjoint: Annotated[
        str | None,
        typer.Option(help="forward, recursive-checkpoint, backsolve or direct."),
    ] = None,
    num_chains: Annotated[int, typer.Option(min=1)] = 4,
    num_warmup: Annotated[int, typer.Option(min=0)] = 1000,
    num_samples: Annotated[int, typer.Option(min=1)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Calibrate a system to observations and save the posterior."""
    use_all_cores()
    import odecal
    from odecal import samplers
    from odecal._save import check_output

    check_output(out)
    chosen: Callable[[], Any] = _choose(
        "--sampler", sampler, {"nuts": samplers.NUTS, "numpyro-nuts": samplers.NumPyroNUTS}
    )
    target = find_system(system)
    posterior = odecal.calibrate(
        target,
        _observations(target, data, time, ignore),
        sampler=chosen(),
        solve=_with_adjoint(target.solve, adjoint),
        num_chains=num_chains,
        num_warmup=num_warmup,
        num_samples=num_samples,
        seed=seed,
    )
    odecal.save(posterior, out)
    _show_summary(posterior)
    _say(f"Saved {out}")


@app.command()
def summary(file: ResultArgument) -> None:
    """Print the summary of a saved calibration."""
    import odecal

    _show_summary(odecal.load(file))


@app.command()
def plot(
    file: ResultArgument,
    out: Annotated[Path, typer.Option("--out", help="The PNG file to write.")],
) -> None:
    """Draw the data and the posterior predictive bands."""
    from odecal._plot import plot_fit
    from odecal._save import check_output, load

    check_output(out, ".png")
    plot_fit(load(file), out)
    _say(f"Saved {out}")


@app.command()
def compare_adjoints(
    system: SystemArgument,
    out: Annotated[Path, typer.Option("--out", help="The netCDF file to write.")],
    data: DataOption = None,
    time: TimeOption = None,
    ignore: IgnoreOption = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="A PNG picture to write.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Compare gradient strategies on a system: time, memory, error."""
    import odecal
    from odecal._plot import plot_comparison
    from odecal._save import check_output

    check_output(out)
    if figure is not None:
        check_output(figure, ".png")
    target = find_system(system)
    observations = _observations(target, data, time, ignore)
    comparison = odecal.compare_adjoints(target, observations, seed=seed)
    odecal.save(comparison, out)
    _show_comparison(comparison)
    _say(f"Saved {out}")
    if figure is not None:
        plot_comparison(comparison, figure)
        _say(f"Saved {figure}")


# Finding things by the names that the command line uses.


def shipped_systems() -> dict[str, Any]:
    """The shipped systems by their names in snake case."""
    import importlib
    import re

    module = importlib.import_module("odecal.systems")
    boundary = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
    names = {boundary.sub("_", name).lower(): name for name in module.__all__}
    return {snake: getattr(module, names[snake]) for snake in sorted(names)}


def find_system(name: str) -> Any:
    """The system of a name, or of `path/to/file.py:ClassName`.

    Raises:
        DeclarationError: if there is none, or its file cannot be run.
    """
    from odecal._errors import DeclarationError, listed, suggestion

    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _system_of_file(Path(path), attribute)
    shipped = shipped_systems()
    if name in shipped:
        return shipped[name]()
    if name.endswith(".py"):
        raise DeclarationError(
            f"`{name}` names a file without a class. Expected path/to/file.py:ClassName. "
            f"Got no class; the file declares: {listed(_systems_in(_run_file(Path(name))))}."
        )
    raise DeclarationError(
        f"There is no system `{name}`. Expected path/to/file.py:ClassName or one of: "
        f"{listed(shipped)}." + suggestion(name, shipped)
    )


def _system_of_file(path: Path, attribute: str) -> Any:
    """The system of one class of a user's file."""
    from odecal._errors import DeclarationError, listed, suggestion
    from odecal._system import System

    module = _run_file(path)
    cls = getattr(module, attribute, None)
    if isinstance(cls, System):
        return cls
    if not (isinstance(cls, type) and issubclass(cls, System)):
        known = _systems_in(module)
        raise DeclarationError(
            f"The file {path} declares no system `{attribute}`. Expected one of: {listed(known)}."
            + suggestion(attribute, known)
        )
    return cls()


def _systems_in(module: Any) -> list[str]:
    """The names of the systems that a module itself declares."""
    from odecal._system import System

    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, System)
        and value.__module__ == module.__name__
    ]


def _run_file(path: Path) -> Any:
    """Import a Python file by its path."""
    import importlib.util

    from odecal._errors import DeclarationError, OdecalError

    if not path.is_file():
        raise DeclarationError(f"There is no file {path}. Expected path/to/file.py:ClassName.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"The file {path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    # Registered, so that the source of its classes can be found for the provenance.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.absolute().parent))
    try:
        spec.loader.exec_module(module)
    except OdecalError:
        raise
    except Exception as error:
        line = _line_of(error, path)
        raise DeclarationError(
            f"The file {path} cannot be run{line}: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.pop(0)
    return module


def _line_of(error: BaseException, path: Path) -> str:
    """Where in a file an error arose, in words."""
    import traceback

    if isinstance(error, SyntaxError):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).absolute() == path.absolute()]
    return f" (line {lines[-1]})" if lines else ""


def _observations(system: Any, data: Path | None, time: str | None, ignore: Any) -> Any:
    from odecal._calibrate import shipped
    from odecal._observations import Observations

    source = shipped(system) if data is None else data
    return Observations(source, time=time, ignore=tuple(ignore or ()))


def _with_adjoint(solve: Any, name: str | None) -> Any:
    """The system's settings of a solve, with the adjoint of a name."""
    from dataclasses import replace

    from odecal import adjoints

    if name is None:
        return solve
    known = {
        "forward": adjoints.Forward,
        "recursive-checkpoint": adjoints.RecursiveCheckpoint,
        "backsolve": adjoints.Backsolve,
        "direct": adjoints.Direct,
    }
    return replace(solve, adjoint=_choose("--adjoint", name.replace("_", "-"), known)())


def _choose(option: str, name: str, known: dict[str, Any]) -> Any:
    from odecal._errors import SettingsError, listed, suggestion

    if name not in known:
        raise SettingsError(
            f"{option} {name} is unknown. Expected one of: {listed(known)}."
            + suggestion(name, known)
        )
    return known[name]


def use_all_cores() -> None:
    """Let JAX see every CPU core as a device; only possible before it starts."""
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jax.config.update("jax_num_cpu_devices", cores or 1)


# What is printed.


def _say(text: str) -> None:
    from rich.console import Console

    Console().print(text, highlight=False, soft_wrap=True)


def _show_summary(posterior: "xr.DataTree") -> None:
    from rich.console import Console
    from rich.table import Table

    from odecal._summary import summary as summarise
    from odecal._summary import verdict

    frame = summarise(posterior)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in frame.columns:
        table.add_column(name.replace("_", " "), justify="left" if name == "unit" else "right")
    for label, row in frame.iterrows():
        numbers = [f"{row[c]:.4g}" for c in ("mean", "sd", "q5", "q50", "q95")]
        sizes = [f"{row[c]:.0f}" for c in ("ess_bulk", "ess_tail")]
        rest = [f"{row['r_hat']:.3f}", f"{row['mcse_mean']:.2g}", row["unit"]]
        table.add_row(str(label), *numbers, *sizes, *rest)
    console = Console()
    console.print(table)
    for sentence in verdict(posterior, frame):
        console.print(sentence, highlight=False)


def _show_comparison(comparison: "xr.Dataset") -> None:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "adjoint",
        "gradient (µs)",
        "compile (s)",
        "peak memory (kB)",
        "error (median)",
        "error (largest)",
        "failed",
        box=None,
        pad_edge=False,
    )
    for name in comparison.adjoint.values:
        row = comparison.sel(adjoint=name)
        errors = row.relative_error.values[np.isfinite(row.relative_error.values)]
        middle, worst = (np.median(errors), errors.max()) if errors.size else (np.nan, np.nan)
        table.add_row(
            str(name),
            f"{float(row.gradient_time.median()) * 1e6:.0f}",
            f"{float(row.compile_time):.2f}",
            f"{float(row.peak_memory) / 1e3:.1f}",
            f"{middle:.1e}",
            f"{worst:.1e}",
            f"{int(row.failed.sum())} of {row.sizes['draw']}",
        )
    Console().print(table)
