"""What pictures share: a grid of panels, the file, and texts as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odecal._run.names import printable
from odecal._run.output import replaced

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

# The longest text of a title or an axis, and of a part of one.
_LONGEST, _PART = 60, 24


def panel_grid(
    number: int, columns: int, size: tuple[float, float], margin: tuple[float, float]
) -> "tuple[Figure, Any]":
    """A figure and the axes of its panels, of this width and height in inches, beside a margin."""
    from matplotlib.figure import Figure

    rows = -(-number // columns)
    figsize = (size[0] * columns + margin[0], size[1] * rows + margin[1])
    figure = Figure(figsize=figsize, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[number:]:
        axis.set_visible(False)
    return figure, axes[:number]


def saved(figure: "Figure", target: Path | None) -> "Figure":
    """The figure, saved as PNG where there is a place for it."""
    if target is not None:
        with replaced(target) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    return figure


def literal(text: object) -> str:
    """A text that Matplotlib draws as it is: no mathematics between dollars, and not too long."""
    line = printable(text).replace("\n", r"\n").replace("\t", " ")
    return _short(line, _LONGEST).replace("$", r"\$")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def label_panel(
    axis: Any,
    data: "xr.DataArray",
    element: dict[Any, int],
    time_unit: str,
    individual: Mapping[str, Any],
) -> None:
    """Give a panel its title, and its axes their names.

    The element is that of a vector-valued observable, by dimension; the individual is its dimension
    and label, and empty where it needs no name.
    """
    labels = [str(data[dim].values[i]) for dim, i in element.items()]
    title = f"{data.name}[{', '.join(labels)}]" if labels else str(data.name)
    whose = [f"{_short(dim, _PART)} {_short(str(x), _PART)}" for dim, x in individual.items()]
    axis.set_title(literal(", ".join([title, *whose])), fontsize="medium")
    axis.set_ylabel(literal(data.attrs.get("units", "") or data.name))
    axis.set_xlabel(literal(f"time ({time_unit})" if time_unit else "time"))
    axis.spines[["top", "right"]].set_visible(False)


def time_coord(data: "xr.DataArray") -> str:
    """The name of the coordinate of times."""
    dim = str(data.dims[0])
    name = f"time{dim.removeprefix('observation')}"
    return name if name in data.coords else dim
