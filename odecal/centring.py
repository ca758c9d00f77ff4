"""Centrings: in which coordinates the values of a varying parameter are sampled.

The linked values θ of the groups are normal, with location μ and scale σ. Sampled is, for each
group,

    r = a μ/σ₀ + (θ − μ) / M,    M = (1 − b) σ + b σ₀,

with σ₀ a constant. `NonCentred` (a = b = 0, r a standard normal) suits groups of which the data say
little: their values follow the location and the scale, and a centred r would make a funnel.
`Centred` (a = b = 1) suits groups that the data determine by themselves. `Informed` looks at how
much the data of each group say, and takes for each the a and b by which r depends least on μ and σ.
The posterior is the same whichever it is.

Source: Papaspiliopoulos, Roberts and Sköld (2007), https://doi.org/10.1214/088342307000000014;
Gorinova, Moore and Hoffman (2020), https://arxiv.org/abs/1906.03028.
"""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["AbstractCentring", "Centred", "Informed", "NonCentred", "Partial"]


class Weights(NamedTuple):
    """How far the values of groups are centred.

    Args:
        location: a, one number or one for each group.
        scale: b, likewise.
        unit: σ₀.
    """

    location: Any
    scale: Any
    unit: float = 1.0


@dataclass(frozen=True)
class AbstractCentring(abc.ABC):
    """How the values of groups are centred."""

    @abc.abstractmethod
    def weights(self) -> Weights:
        """The weights a and b, and the unit σ₀."""


@dataclass(frozen=True)
class NonCentred(AbstractCentring):
    """Standard normals, shifted and scaled: r = (θ − μ)/σ."""

    def weights(self) -> Weights:
        """None."""
        return Weights(0.0, 0.0)


@dataclass(frozen=True)
class Centred(AbstractCentring):
    """The linked values themselves: r = θ."""

    def weights(self) -> Weights:
        """One and one."""
        return Weights(1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Partial(AbstractCentring):
    """Between the two.

    Args:
        location: a, from 0 (non-centred) to 1 (centred): a number, or one for each group.
        scale: b, likewise; None takes that of the location.
        about: σ₀, a guess of the scale.

    Raises:
        ValueError: if a weight is not between 0 and 1, or σ₀ not positive.
    """

    location: Any
    scale: Any = None
    about: float = 1.0

    def __post_init__(self) -> None:
        for weight in self.weights()[:2]:
            if not np.all((np.asarray(weight) >= 0) & (np.asarray(weight) <= 1)):
                raise ValueError(
                    f"Partial expects weights from 0 (non-centred) to 1 (centred). Got {weight!r}."
                )
        if not 0 < self.about < np.inf:
            raise ValueError(f"Partial(about=...) expects a positive number. Got {self.about!r}.")

    def weights(self) -> Weights:
        """As given."""
        scale = self.location if self.scale is None else self.scale
        return Weights(self.location, scale, self.about)


@dataclass(frozen=True)
class Informed(AbstractCentring):
    """Chosen for each group by [`calibrate`][odecal.calibrate], from how much its data say.

    With w the part of a group's variance that its data take away, a = w and b = max(0, 2w − 1):
    for normal data these make r independent of μ, and its spread of σ, to first order. Elsewhere
    than in `calibrate` it is non-centred.
    """

    def weights(self) -> Weights:
        """None."""
        return Weights(0.0, 0.0)
