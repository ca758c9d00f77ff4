"""Additive and proportional noise together."""

import numpyro.distributions as dist
from jaxtyping import ArrayLike

from odecal.noise._floors import root_of_squares


class AdditiveProportional(dist.Normal):
    """Additive and proportional noise: variance = additive² + (proportional·mean)².

    The combined error model of pharmacometrics (its variances add).

    Args:
        mean: the predicted value, in the unit of the observable.
        additive: the standard deviation at zero, in the same unit.
        proportional: the coefficient of variation at large values, dimensionless.
    """

    def __init__(self, mean: ArrayLike, additive: ArrayLike, proportional: ArrayLike) -> None:
        super().__init__(mean, root_of_squares(additive, proportional * mean))
