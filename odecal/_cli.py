"""The command line: thin commands over the library."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from odecal._cli_find import find_system, shipped_systems
from odecal._cli_show import say, show_comparison, show_summary, show_systems

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
    show_systems(shipped_systems())


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
    import odecal
    from odecal._save import check_output

    check_output(out)
    use_all_cores()
    known = {"nuts": odecal.samplers.NUTS, "numpyro-nuts": odecal.samplers.NumPyroNUTS}
    chosen: Callable[[], Any] = _choose("--sampler", sampler, known)
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
    show_summary(posterior)
    say(f"Saved {out}")


@app.command()
def summary(file: ResultArgument) -> None:
    """Print the summary of a saved calibration."""
    import odecal

    show_summary(odecal.load(file))


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
    say(f"Saved {out}")


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
    show_comparison(comparison)
    say(f"Saved {out}")
    if figure is not None:
        plot_comparison(comparison, figure)
        say(f"Saved {figure}")


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
