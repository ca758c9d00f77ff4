"""Links: the scale on which a parameter varies between groups.

On the scale of its link a varying parameter is normal around its location. `Log` keeps it positive,
`Logit` between two bounds, `Identity` anywhere.
"""

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

__all__ = ["AbstractLink", "Identity", "Log", "Logit"]


class AbstractLink(abc.ABC):
    """A monotone map from the values of a parameter to the whole line."""

    @abc.abstractmethod
    def __call__(self, value: ArrayLike) -> Num[Array, "..."]:
        """The linked value."""

    @abc.abstractmethod
    def inverse(self, linked: ArrayLike) -> Num[Array, "..."]:
        """The value of a linked one."""


@dataclass(frozen=True)
class Identity(AbstractLink):
    """The value itself: a parameter that may be negative."""

    def __call__(self, value: ArrayLike) -> Num[Array, "..."]:
        """The value itself."""
        return jnp.asarray(value)

    def inverse(self, linked: ArrayLike) -> Num[Array, "..."]:
        """The value itself."""
        return jnp.asarray(linked)


@dataclass(frozen=True)
class Log(AbstractLink):
    """log(x): a positive parameter. Its location is the logarithm of its median."""

    def __call__(self, value: ArrayLike) -> Float[Array, "..."]:
        """The logarithm."""
        return jnp.log(value)

    def inverse(self, linked: ArrayLike) -> Float[Array, "..."]:
        """The exponential."""
        return jnp.exp(linked)


@dataclass(frozen=True)
class Logit(AbstractLink):
    """log((x − low) / (high − x)): a parameter between two bounds.

    Args:
        low: the lower bound.
        high: the upper bound.

    Raises:
        ValueError: unless low < high.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(
                f"Logit expects its lower bound below its upper one. Got {self.low}, {self.high}."
            )

    def __call__(self, value: ArrayLike) -> Float[Array, "..."]:
        """The log odds of where the value lies between the bounds."""
        part = (jnp.asarray(value) - self.low) / (self.high - self.low)
        return jnp.log(part) - jnp.log1p(-part)

    def inverse(self, linked: ArrayLike) -> Float[Array, "..."]:
        """The value between the bounds."""
        return self.low + (self.high - self.low) * jax.nn.sigmoid(linked)
