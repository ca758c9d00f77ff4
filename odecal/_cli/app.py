"""The command line: thin commands over the library."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from odecal._cli.show import say, show_comparison, show_summary, show_systems
from odecal._cli.signals import Stop
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
    """Run the command line: one clear message and status 1 for a mistake, no traceback.

    Args:
        stop: what a signal does; None makes one.
    """
    from odecal._errors import OdecalError
    from odecal._run.names import printable

    if stop is None:
        with Stop() as own:
            main(own)
        return
    warnings.formatwarning = _in_a_line
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
        typer.Option(
            help="nuts, numpyro-nuts, hmc, adjusted-mclmc, chees, meads, tempered-smc or "
            "pathfinder (an approximation)."
        ),
    ] = "nuts",
    metric: Annotated[
        str | None,
        typer.Option(help="diagonal, dense, shrunk or low-rank; by default chosen by dimension."),
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
        typer.Option(help="explicit-forward, forward, recursive-checkpoint, backsolve or direct."),
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
    from odecal._cli.settings import change_solve, make_sampler
    from odecal._run.output import check_output

    check_output(out)
    progress = _prepare(context.obj, out)
    import odecal

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
    import odecal

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
    import odecal

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
    import odecal
    from odecal._run.netcdf import changes_told

    with changes_told(file):
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
    from odecal._errors import SettingsError
    from odecal._results.plot_fit import plot_fit
    from odecal._results.plot_vpc import plot_vpc
    from odecal._run.netcdf import changes_told, load
    from odecal._run.output import check_output

    if log and not vpc:
        raise SettingsError(
            "--log cannot be followed. Expected --vpc, the picture that it is for. Got none. Add "
            "--vpc, or leave --log out."
        )
    check_output(out, ".png")
    with changes_told(file):
        if vpc:
            plot_vpc(load(file), out, log=log)
        else:
            plot_fit(load(file), out)
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
    import odecal
    from odecal._cli.settings import make_adjoint
    from odecal._results.plot_comparison import plot_comparison
    from odecal._run.output import check_output

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
    from odecal._data.observations import Observations
    from odecal._inference.calibrate import shipped

    source = shipped(system) if data is None else data
    return Observations(source, time=time, ignore=tuple(ignore or ()), doses=doses)


def _prepare(stop: Stop, out: Path) -> Any:
    """Set JAX and the messages up; the progress of a run to a file, which a signal may end."""
    stop.does("loading JAX")
    stop.writes(out, out.with_name(out.name + ".partial"))
    from odecal._cli.settings import prepare_jax

    prepare_jax()
    stop.does("reading the system and its data")
    from odecal._cli.progress import StoppableProgress

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


def _in_a_line(message: Any, *_: Any, **__: Any) -> str:
    from odecal._run.names import printable

    return f"odecal: {printable(message)}\n"
