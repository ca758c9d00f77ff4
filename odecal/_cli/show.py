"""What the command line prints."""

from typing import TYPE_CHECKING, Any

from odecal._run.names import printable

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from rich.console import Console

# A table needs this width. A narrower terminal wraps its lines, and no digit is lost.
_WIDTH = 110
# A column whose text may be folded needs this.
_FOLDED = 12
# A longer one is folded in any case.
_LONGEST = 60
# How the numbers of a summary are written.
_FORMS = dict.fromkeys(("mean", "sd", "q5", "q50", "q95"), ".4g") | {
    "ess_bulk": ".0f",
    "ess_tail": ".0f",
    "r_hat": ".3f",
    "mcse_mean": ".2g",
}


def console(width: int = _WIDTH) -> "Console":
    """The standard output, as wide as a terminal, or at least as a table needs."""
    from rich.console import Console

    output = Console(highlight=False, emoji=False)
    wide = output.is_terminal and output.width >= width
    return output if wide else Console(highlight=False, emoji=False, width=width)


def say(text: str) -> None:
    """Print one line."""
    console().print(printable(text), soft_wrap=True, markup=False)


def show_systems(systems: dict[str, Any]) -> None:
    """Print a table of systems, by the names that the command line uses."""
    import inspect

    rows = []
    for name, cls in systems.items():
        declaration = cls().declaration
        what = (inspect.getdoc(cls) or "").splitlines()[0]
        unknowns = [*declaration.varying, *declaration.sites]
        rows.append([name, ", ".join(declaration.states), ", ".join(unknowns), what])
    _print_table(["system", "states", "unknowns", "what"], rows, left=4)


def show_summary(posterior: "xr.DataTree", every: bool = False) -> None:
    """Print the summary of a calibration, if need be every row, and what it says of the draws."""
    from odecal._results.summary import folded, summary
    from odecal._results.verdict import verdict

    frame = summary(posterior)
    rest, groups = (frame, frame.head(0)) if every else folded(posterior, frame)
    if len(rest):
        _print_summary(rest)
    if len(groups):
        say("")
        _print_summary(groups)
        own = len(frame) - len(rest)
        say(f"Groups have {own} rows of their own: odecal summary FILE.nc --all prints each.")
    for sentence in verdict(posterior, frame):
        say(sentence)


def _print_summary(frame: "pd.DataFrame") -> None:
    """Print rows of a summary, or what it says of groups: `lowest q50` as `q50`."""
    forms = [_FORMS.get(name.split()[-1], "") for name in frame.columns]
    rows = [
        [str(label), *(format(x, form) for x, form in zip(row, forms, strict=True))]
        for label, row in frame.iterrows()
    ]
    _print_table(["", *frame.columns], rows, left=1, wrapped="unit")


def show_comparison(comparison: "xr.Dataset") -> None:
    """Print a comparison of adjoints."""
    import numpy as np

    ratios = np.abs(np.log(comparison.tolerance.values / float(comparison.attrs["rtol"])))
    own = comparison.isel(tolerance=int(np.argmin(ratios)))
    value = float(own.value_time.median())
    rows = []
    for name in own.adjoint.values:
        row = own.sel(adjoint=name)
        errors = row.relative_error.values[np.isfinite(row.relative_error.values)]
        middle, worst = (np.median(errors), errors.max()) if errors.size else (np.nan, np.nan)
        measured = int(np.isfinite(row.gradient_time).sum())
        seconds = float(row.gradient_time.median())
        rows.append(
            [
                str(name),
                f"{seconds * 1e6:.0f}",
                f"{seconds / value:.1f}",
                f"{float(row.batch_time) * 1e6:.0f}",
                f"{float(row.compile_time):.2f}",
                f"{float(row.peak_memory) / 1e3:.1f}",
                f"{middle:.1e}",
                f"{worst:.1e}",
                f"{int(row.failed.sum())}/{measured}",
            ]
        )
    heads = ["gradient µs", "× value", "batched µs", "compile s", "memory kB"]
    _print_table(["adjoint", *heads, "median error", "largest", "failed"], rows, left=1)
    trusted = float(np.nanmedian(own.reference_error))
    say(
        f"At rtol {float(own.tolerance):.0e}; the value alone takes {value * 1e6:.0f} µs. The "
        f"reference is within {trusted:.0e} of finite differences (median)."
    )


def _print_table(
    heads: list[str], rows: list[list[str]], left: int, wrapped: str | None = None
) -> None:
    """Print rows under their heads; the first `left` columns are text, the others numbers."""
    from rich.table import Table

    table, needed = Table(box=None, pad_edge=False), 0
    rows = [[printable(cell).replace("\n", r"\n") for cell in row] for row in rows]
    for i, head in enumerate(heads):
        text, longest = i < left or head == wrapped, max(len(row[i]) for row in [heads, *rows])
        folds = head == wrapped or (text and i > 0)
        table.add_column(
            head,
            justify="left" if text else "right",
            no_wrap=not folds and longest <= _LONGEST,
            max_width=_LONGEST,
            overflow="fold",
        )
        needed += 2 + (_FOLDED if folds else min(longest, _LONGEST))
    for row in rows:
        table.add_row(*row)
    console(max(_WIDTH, needed)).print(table, markup=False)
