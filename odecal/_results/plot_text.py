"""The texts of pictures: names, labels and units, as they are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from odecal._run.names import printable

if TYPE_CHECKING:
    import xarray as xr

# The longest text of a title or an axis, and of a part of one.
_LONGEST, _PART = 60, 24


def literal(text: object) -> str:
    """A text that Matplotlib draws as it is: no mathematics between dollars, and not too long."""
    line = printable(text).replace("\n", r"\n").replace("\t", " ")
    return _short(line, _LONGEST).replace("$", r"\$")


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def named(
    axis: Any, data: "xr.DataArray", one: dict[Any, int], time_unit: str, who: Mapping[str, Any]
) -> None:
    """Give a panel its title, and its axes their names.

    Args:
        axis: the panel.
        data: the observable.
        one: which element of it, by dimension.
        time_unit: the unit of time.
        who: the dimension and the label of the individual; empty for one that needs no name.
    """
    labels = [str(data[dim].values[i]) for dim, i in one.items()]
    title = f"{data.name}[{', '.join(labels)}]" if labels else str(data.name)
    whose = [f"{_short(dim, _PART)} {_short(str(x), _PART)}" for dim, x in who.items()]
    axis.set_title(literal(", ".join([title, *whose])), fontsize="medium")
    axis.set_ylabel(literal(data.attrs.get("units", "") or data.name))
    axis.set_xlabel(literal(f"time ({time_unit})" if time_unit else "time"))
    axis.spines[["top", "right"]].set_visible(False)


def clock_of(data: "xr.DataArray") -> str:
    """The name of the coordinate of times."""
    own = str(data.dims[0])
    clock = f"time{own.removeprefix('observation')}"
    return clock if clock in data.coords else own
