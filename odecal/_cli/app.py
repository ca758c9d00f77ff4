"""The command line: thin commands over the library."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

import odecal
from odecal._cli.choices import adjoints, metrics, samplers
from odecal._cli.progress import StoppableProgress
from odecal._cli.settings import change_solve, make_adjoint, make_sampler, prepare_jax
from odecal._cli.show import say, show_comparison, show_summary, show_systems
from odecal._cli.signals import Stop
from odecal._errors import OdecalError, SettingsError
from odecal._run.names import printable
from odecal._run.output import check_output
from odecal._system.find import find_system, shipped_systems

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
DosesOption = Annotated[
    Path | None,
    typer.Option("--doses", help="CSV table of doses, where they are not among the observations."),
]
TimeOption = Annotated[
    str | None, typer.Option("--time", help="Name of the time column, where it cannot be told.")
]
IgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore", help="A column to leave out; may be repeated.")
]
OtherSystemOption = Annotated[
    str | None,
    typer.Option("--system", help="The system, if it is not where it was when the run began."),
]
ResultArgument = Annotated[Path, typer.Argument(metavar="FILE.nc", help="A saved calibration.")]


def main(stop: Stop | None = None) -> None:
    """Run the command line: one clear message and status 1 for a mistake, no traceback."""
    if stop is None:
        with Stop() as own:
            main(own)
        return
    warnings.formatwarning = lambda message, *_, **__: f"odecal: {printable(message)}\n"
    try:
        app(obj=stop)
    except OdecalError as error:
        print(f"odecal: {printable(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


@app.command()
def systems() -> None:
    """List the shipped systems."""
    show_systems(shipped_systems())


@app.command()
def calibrate(
    context: typer.Context,
    system: SystemArgument,
    out: Annotated[Path, typer.Option("--out", help="The netCDF file to write.")],
    data: DataOption = None,
    doses: DosesOption = None,
    time: TimeOption = None,
    ignore: IgnoreOption = None,
    sampler: Annotated[
        str,
        typer.Option(help=f"One of: {', '.join(samplers())}."),
    ] = "nuts",
    metric: Annotated[
        str | None,
        typer.Option(help=f"One of: {', '.join(metrics())}; by default chosen by dimension."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=NUMBER",
            help="A setting of the sampler, such as target_acceptance_rate=0.95; may be repeated.",
        ),
    ] = None,
    adjoint: Annotated[
        str | None,
        typer.Option(help=f"One of: auto, {', '.join(adjoints())}; by default the system's."),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float64 or float32.")] = None,
    num_chains: Annotated[int, typer.Option(min=1)] = 4,
    num_warmup: Annotated[int, typer.Option(min=0)] = 500,
    num_samples: Annotated[int, typer.Option(min=1)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Calibrate a system to observations and save the posterior.

    A run that is killed goes on with odecal resume.
    """
    check_output(out)
    progress = _prepare(context.obj, out)
    usual = sampler == "nuts" and metric is None and not settings
    chosen = None if usual else make_sampler(sampler, metric, settings or ())
    target = find_system(system)
    posterior = odecal.calibrate(
        target,
        _observations(target, data, doses, time, ignore),
        sampler=chosen,
        solve=change_solve(target.solve, adjoint, dtype),
        num_chains=num_chains,
        num_warmup=num_warmup,
        num_samples=num_samples,
        seed=seed,
        path=out,
        progress=progress,
    )
    _show_saved(posterior, out, context.obj)


@app.command()
def resume(context: typer.Context, file: ResultArgument, system: OtherSystemOption = None) -> None:
    """Go on with a run that was killed or interrupted."""
    progress = _prepare(context.obj, file)
    found = find_system(system) if system else None
    _show_saved(odecal.resume(file, found, progress=progress), file, context.obj)


@app.command()
def extend(
    context: typer.Context,
    file: ResultArgument,
    num_samples: Annotated[int, typer.Option(min=1, help="Draws to add to each chain.")],
    system: OtherSystemOption = None,
) -> None:
    """Add draws to a finished run."""
    progress = _prepare(context.obj, file)
    found = find_system(system) if system else None
    _show_saved(odecal.extend(file, num_samples, found, progress=progress), file, context.obj)


@app.command()
def summary(
    context: typer.Context,
    file: ResultArgument,
    every: Annotated[
        bool, typer.Option("--all", help="Print every row, also of each of many groups.")
    ] = False,
) -> None:
    """Print the summary of a saved calibration."""
    context.obj.does("reading the result")
    from odecal._run.netcdf import changed_file_errors

    with changed_file_errors(file):
        show_summary(odecal.load(file), every)


@app.command()
def plot(
    context: typer.Context,
    file: ResultArgument,
    out: Annotated[Path, typer.Option("--out", help="The PNG file to write.")],
    vpc: Annotated[
        bool, typer.Option("--vpc", help="Draw a visual predictive check of a population instead.")
    ] = False,
    log: Annotated[
        bool, typer.Option("--log", help="With --vpc: values on a logarithmic axis.")
    ] = False,
) -> None:
    """Draw the data and the posterior predictive bands."""
    context.obj.does("drawing")
    from odecal._run.netcdf import changed_file_errors

    if log and not vpc:
        raise SettingsError(
            "--log cannot be followed. Expected --vpc, the picture that it is for. Got none. Add "
            "--vpc, or leave --log out."
        )
    check_output(out, ".png")
    with changed_file_errors(file):
        result = odecal.load(file)
        if vpc:
            odecal.plot_vpc(result, out, log=log)
        else:
            odecal.plot_fit(result, out)
    say(f"Saved {out}")


@app.command()
def compare_adjoints(
    context: typer.Context,
    system: SystemArgument,
    out: Annotated[Path, typer.Option("--out", help="The netCDF file to write.")],
    data: DataOption = None,
    doses: DosesOption = None,
    time: TimeOption = None,
    ignore: IgnoreOption = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="A PNG picture to write.")] = None,
    adjoint: Annotated[
        list[str] | None,
        typer.Option("--adjoint", help="A strategy to compare; repeat for several. Default: all."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Compare gradient strategies on a system: time, memory, error."""
    context.obj.does("comparing adjoints")
    from odecal._results.plot_comparison import plot_comparison

    check_output(out)
    if figure is not None:
        check_output(figure, ".png")
    target = find_system(system)
    observations = _observations(target, data, doses, time, ignore)
    chosen = {name.replace("-", "_"): make_adjoint(name) for name in adjoint or ()} or None
    comparison = odecal.compare_adjoints(target, observations, adjoints=chosen, seed=seed)
    odecal.save(comparison, out)
    context.obj.saved(out)
    show_comparison(comparison)
    say(f"Saved {out}")
    if figure is not None:
        plot_comparison(comparison, figure)
        say(f"Saved {figure}")


def _observations(
    system: Any, data: Path | None, doses: Path | None, time: str | None, ignore: Any
) -> Any:
    from odecal._inference.calibrate import shipped

    source = shipped(system) if data is None else data
    return odecal.Observations(source, time=time, ignore=tuple(ignore or ()), doses=doses)


def _prepare(stop: Stop, out: Path) -> Any:
    """Set JAX and the messages up; the progress of a run to a file, which a signal may end."""
    stop.does("loading JAX")
    stop.writes(out, out.with_name(out.name + ".partial"))
    prepare_jax()
    stop.does("reading the system and its data")
    return StoppableProgress(stop)


def _show_saved(posterior: Any, out: Path, stop: Stop) -> None:
    """Print the summary of a result that has been saved; status 130 or 143 if not complete."""
    stop.saved(out)
    if "posterior" in posterior.children:
        show_summary(posterior)
    say(f"Saved {out}")
    if not posterior.attrs["complete"]:
        say(f"The run is not complete. To go on: odecal resume {out}")
        sys.exit(stop.status)
