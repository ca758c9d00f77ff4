"""Additive Gaussian noise."""

import numpyro.distributions as dist
from jaxtyping import ArrayLike


class Normal(dist.Normal):
    """Additive Gaussian noise: value ~ Normal(mean, sd).

    Args:
        mean: the predicted value, in the unit of the observable.
        sd: the standard deviation, in the same unit.
    """

    def __init__(self, mean: ArrayLike, sd: ArrayLike) -> None:
        super().__init__(mean, sd)
