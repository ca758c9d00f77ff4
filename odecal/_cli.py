"""The command line: thin commands over the library."""

import signal
import sys
import warnings
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


def main() -> None:
    """Run the command line: one clear message and status 1 for a mistake, no traceback."""
    from odecal._errors import OdecalError

    try:
        app()
    except OdecalError as error:
        print(f"odecal: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except KeyboardInterrupt:
        print("odecal: interrupted before there was a result to write.", file=sys.stderr)  # noqa: T201
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
    from odecal._cli_settings import change_solve, make_sampler
    from odecal._save import check_output

    check_output(out)
    _prepare()
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
    )
    _show_saved(posterior, out)


@app.command()
def resume(file: ResultArgument, system: OtherSystemOption = None) -> None:
    """Go on with a run that was killed or interrupted."""
    _prepare()
    import odecal

    _show_saved(odecal.resume(file, find_system(system) if system else None), file)


@app.command()
def extend(
    file: ResultArgument,
    num_samples: Annotated[int, typer.Option(min=1, help="Draws to add to each chain.")],
    system: OtherSystemOption = None,
) -> None:
    """Add draws to a finished run."""
    _prepare()
    import odecal

    _show_saved(odecal.extend(file, num_samples, find_system(system) if system else None), file)


@app.command()
def summary(
    file: ResultArgument,
    every: Annotated[
        bool, typer.Option("--all", help="Print every row, also of each of many groups.")
    ] = False,
) -> None:
    """Print the summary of a saved calibration."""
    import odecal

    show_summary(odecal.load(file), every)


@app.command()
def plot(
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
    from odecal._errors import SettingsError
    from odecal._plot import plot_fit
    from odecal._plot_population import plot_vpc
    from odecal._save import check_output, load

    if log and not vpc:
        raise SettingsError(
            "--log cannot be followed. Expected --vpc, the picture that it is for. Got none. Add "
            "--vpc, or leave --log out."
        )
    check_output(out, ".png")
    if vpc:
        plot_vpc(load(file), out, log=log)
    else:
        plot_fit(load(file), out)
    say(f"Saved {out}")


@app.command()
def compare_adjoints(
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
    import odecal
    from odecal._cli_settings import make_adjoint
    from odecal._plot import plot_comparison
    from odecal._save import check_output

    check_output(out)
    if figure is not None:
        check_output(figure, ".png")
    target = find_system(system)
    observations = _observations(target, data, doses, time, ignore)
    chosen = {name.replace("-", "_"): make_adjoint(name) for name in adjoint or ()} or None
    comparison = odecal.compare_adjoints(target, observations, adjoints=chosen, seed=seed)
    odecal.save(comparison, out)
    show_comparison(comparison)
    say(f"Saved {out}")
    if figure is not None:
        plot_comparison(comparison, figure)
        say(f"Saved {figure}")


def _observations(
    system: Any, data: Path | None, doses: Path | None, time: str | None, ignore: Any
) -> Any:
    from odecal._calibrate import shipped
    from odecal._reading._observations import Observations

    source = shipped(system) if data is None else data
    return Observations(source, time=time, ignore=tuple(ignore or ()), doses=doses)


def _prepare() -> None:
    """Set JAX up, and take a request to end (SIGTERM) as Ctrl-C: what is done is saved."""
    from odecal._cli_settings import prepare_jax

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def in_a_line(message: Any, *_: Any, **__: Any) -> str:
        return f"odecal: {message}\n"

    warnings.formatwarning = in_a_line
    signal.signal(signal.SIGTERM, interrupt)
    prepare_jax()


def _show_saved(posterior: Any, out: Path) -> None:
    """Print the summary of a result that has been saved; status 130 if it is not complete."""
    if "posterior" in posterior.children:
        show_summary(posterior)
    say(f"Saved {out}")
    if not posterior.attrs["complete"]:
        say(f"The run is not complete. To go on: odecal resume {out}")
        sys.exit(130)
