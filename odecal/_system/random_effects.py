"""What a hierarchy is made of: random effects, the values of sites, what is reported."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float

from odecal._system.base import Component, is_prior
from odecal._system.groups import Columns
from odecal._system.varying import Pooling, Varying


@dataclass(frozen=True, eq=False)
class Quantity:
    """What a posterior reports: a parameter, a hyperparameter, a matrix of correlations."""

    component: Component
    dims: tuple[str, ...]
    unit: str = ""
    description: str = ""


@dataclass(frozen=True, eq=False)
class RandomEffects:
    """Varying parameters that are sampled together: one, or several that are correlated."""

    members: Mapping[str, Varying]
    columns: Columns
    correlation: str = ""  # empty for one alone

    @property
    def raw(self) -> str:
        """The name of the site of what is sampled for each group."""
        return f"{self.correlation or next(iter(self.members))}_raw"

    @property
    def independent(self) -> bool:
        """Whether the linked value of each group has the prior of the location."""
        (first, *_) = self.members.values()
        return self.pooling is Pooling.NONE and is_prior(first.variation.location)

    @property
    def pooling(self) -> Pooling:
        """How much groups share."""
        return next(iter(self.members.values())).variation.pooling


@dataclass(frozen=True, eq=False)
class SiteValues:
    """One value of every site, and what follows for the groups, by name."""

    sites: dict[str, Any]  # arrays; where NumPyro is given values, as they were given
    own: dict[str, Float[Array, " group *dims"]]  # of varying parameters
    correlations: dict[str, Float[Array, "parameter parameter"]]
    standard: dict[str, Float[Array, " group *dims"]]  # (linked value − location)/scale
    scales: dict[str, Float[Array, "*dims"]]
