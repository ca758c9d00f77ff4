"""Parameters that vary between groups: subjects, plots, reactors, towns."""

import enum
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from odecal import centring as centrings
from odecal import links
from odecal._errors import DeclarationError
from odecal._system.base import Component, check_column, is_number, is_prior, num_positional, shown

_LINKS = {"log": links.Log(), "logit": links.Logit(), "identity": links.Identity()}


class Pooling(enum.Enum):
    """How much groups share.

    PARTIAL: each has its own value, around a location that all share, by a scale that is learnt.
    NONE: each has its own value, with the prior of the location, and nothing is shared.
    COMPLETE: all have one value, or differ by covariates alone.
    """

    PARTIAL = "partial"
    NONE = "none"
    COMPLETE = "complete"


@dataclass(frozen=True, eq=False)
class Variation:
    """How a parameter varies over a group; what `Parameter.varying(...)` says."""

    group: tuple[str, ...]
    location: Any  # on the linked scale, as is the scale
    scale: Any
    link: links.AbstractLink
    pooling: Pooling
    centring: centrings.AbstractCentring


def as_group(group: Any) -> tuple[str, ...]:
    """The columns that name a group, refused if they are none."""
    columns = (group,) if isinstance(group, str) else group
    if (
        not isinstance(columns, (tuple, list))
        or not columns
        or not all(isinstance(column, str) and column for column in columns)
        or len(set(columns)) < len(columns)
    ):
        raise DeclarationError(
            'A group is expected as the name of a column of the table, such as "subject", or of '
            f'several that tell it together, such as ("subject", "occasion"). Got {group!r}.'
        )
    return tuple(columns)


def as_link(link: Any) -> links.AbstractLink:
    """A link, of which the usual ones have names, refused if it is none."""
    link = _LINKS.get(link, link) if isinstance(link, str) else link
    if isinstance(link, type) and issubclass(link, links.AbstractLink):
        link = link()
    if not isinstance(link, links.AbstractLink):
        raise DeclarationError(
            f'link=... expects "log", "logit", "identity", or an object of odecal.links, such as '
            f"odecal.links.Logit(0.0, 10.0). Got {link!r}."
        )
    return link


def as_centring(centring: Any) -> centrings.AbstractCentring:
    """A centring, refused if it is none."""
    if centring is None:
        return centrings.NonCentred()
    if isinstance(centring, type) and issubclass(centring, centrings.AbstractCentring):
        centring = centring() if centring is not centrings.Partial else centring
    if not isinstance(centring, centrings.AbstractCentring):
        raise DeclarationError(
            "centring=... expects an object of odecal.centring: NonCentred(), Centred(), "
            f"Partial(0.5) or Informed(). Got {centring!r}."
        )
    return centring


@dataclass(frozen=True, eq=False)
class Varying(Component):
    """A parameter that varies between groups; made by `Parameter.varying(...)`.

    Args:
        variation: how it varies.
        unit: the unit.
        dims: named dimensions, for a vector-valued parameter.
        description: one line.

    Raises:
        DeclarationError: if the location or the scale cannot be one.
    """

    variation: Variation
    unit: str = ""
    dims: Any = ()
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be declared."""
        location, scale = self.variation.location, self.variation.scale
        if not (is_number(location) or is_prior(location) or num_positional(location) == 1):
            raise DeclarationError(
                "Parameter.varying(location=...) expects a number, a NumPyro distribution or a "
                f"function of the parameters, `lambda p: ...`. Got {shown(location)}."
            )
        number = is_number(scale) and np.all(np.asarray(scale) > 0)
        if not (number or is_prior(scale)):
            raise DeclarationError(
                "Parameter.varying(scale=...) expects a positive number, or a NumPyro distribution "
                f"such as numpyro.distributions.HalfNormal(0.5). Got {shown(scale)}."
            )
        alone = self.variation.pooling is Pooling.NONE and not is_prior(location)
        if alone and is_prior(scale):
            raise DeclarationError(
                "Parameter.unpooled(...) expects a prior as its location, or a number as its "
                "scale: groups that share nothing cannot tell how far apart they are. "
                f"Got the location {shown(location)}."
            )

    def with_pooling(self, pooling: Pooling) -> "Varying":
        """The same with groups that share more or less."""
        return replace(self, variation=replace(self.variation, pooling=pooling))

    def with_centring(self, centring: centrings.AbstractCentring) -> "Varying":
        """The same in other coordinates."""
        return replace(self, variation=replace(self.variation, centring=as_centring(centring)))

    def within(self, part: Component) -> "Varying":
        """The same with the unit, dims and description of the part it is in, where it has none."""
        return replace(
            self,
            unit=self.unit or part.unit,
            dims=self.dims or part.dims,
            description=self.description or part.description,
        )


@dataclass(frozen=True, init=False, eq=False)
class Correlation(Component):
    """Correlation between parameters that vary over the same group.

    On their linked scales the values of a group are jointly normal, with the declared scales and a
    correlation matrix whose prior is p(R) ∝ det(R)^(concentration − 1). It is sampled by its
    Cholesky factor. In results the matrix has this name.

    Source: Lewandowski, Kurowicka and Joe (2009), https://doi.org/10.1016/j.jmva.2009.04.008.

    Args:
        *parameters: the names of two or more parameters made by `Parameter.varying`.
        concentration: 1 is uniform over correlation matrices; more draws them to the identity.
        description: one line.

    Raises:
        DeclarationError: if there are not two different names, or the concentration is not
            positive.
    """

    parameters: tuple[str, ...]
    unit: str = ""
    dims: Any = ()
    description: str = ""
    concentration: float = 1.0

    def __init__(self, *parameters: str, concentration: float = 1.0, description: str = "") -> None:
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "concentration", concentration)
        object.__setattr__(self, "description", description)
        self.__post_init__()

    def check(self) -> None:
        """Refuse what cannot be declared."""
        parameters, concentration = self.parameters, self.concentration
        names = all(isinstance(name, str) for name in parameters)
        if not names or len(parameters) < 2 or len(set(parameters)) < len(parameters):
            raise DeclarationError(
                "Correlation(...) expects the names of two or more varying parameters, such as "
                f'Correlation("clearance", "volume"). Got {parameters!r}.'
            )
        if not is_number(concentration) or not np.ndim(concentration) == 0 or concentration <= 0:
            raise DeclarationError(
                "Correlation(concentration=...) expects a positive number. "
                f"Got {shown(concentration)}."
            )


@dataclass(frozen=True, eq=False)
class Covariate(Component):
    """What is known of each individual, from a column of the table: a weight, an age, an area.

    It is `p.<name>` in the system's functions, and in the locations of varying parameters.

    Args:
        column: the column; None takes the name of the attribute.
        unit: the unit.
        description: one line.

    Raises:
        DeclarationError: if the column is no name.
    """

    column: str | None = None
    unit: str = ""
    dims: Any = field(default=(), init=False)
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be declared."""
        check_column(self, self.column)
