"""The coordinates in which the values of groups are sampled: between non-centred and centred."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float

from odecal._errors import DeclarationError
from odecal.centring import AbstractCentring


@dataclass(frozen=True, eq=False)
class Reparam:
    """r = a μ/σ₀ + M⁻¹ (θ − μ), for each group, of K values that are sampled together.

    θ ~ N(μ, F Fᵀ), and M = (1 − b) F + b σ₀ (row by row, so that M is lower triangular as F is).
    In the methods r is `raw`, θ `linked`, μ `location`, and F the `factor`: of shape (*dims, 1) for
    one value, (K, K) for several.
    """

    of_location: Float[np.ndarray, "group *dims K"]  # a
    of_scale: Float[np.ndarray, "group *dims K"]  # b
    unit: Float[np.ndarray, " K"]  # σ₀

    @staticmethod
    def of(centrings: dict[str, AbstractCentring], shape: tuple[int, ...]) -> "Reparam":
        """Those of some parameters, of their centrings, for the shape (group, *dims).

        Raises:
            DeclarationError: if the weights of a centring are not one, or one for each group.
        """

        def of_groups(name: str, weight: Any) -> np.ndarray:
            array = np.asarray(weight, float)
            if array.shape not in ((), shape[:1], shape):
                raise DeclarationError(
                    f"The centring of `{name}` has weights of the shape {array.shape}. Expected "
                    f"one number, or one for each of its {shape[0]} groups."
                )
            axes = array.shape + (1,) * (len(shape) - array.ndim if array.ndim else 0)
            return np.broadcast_to(array.reshape(axes), shape)

        weights = {name: centring.weights() for name, centring in centrings.items()}
        return Reparam(
            np.stack([of_groups(name, w.location) for name, w in weights.items()], -1),
            np.stack([of_groups(name, w.scale) for name, w in weights.items()], -1),
            np.asarray([w.unit for w in weights.values()]),
        )

    @property
    def standard(self) -> bool:
        """Whether r is standard normal."""
        return not (self.of_location.any() or self.of_scale.any())

    def distribution(
        self, location: Float[Array, "group *dims K"], factor: Float[Array, "..."]
    ) -> dist.Distribution:
        """The distribution of r, over (group, *dims) for one value, over (group, K) for several."""
        if self.standard:
            standard = dist.Normal(jnp.zeros((), location.dtype), 1.0)
            return standard.expand(
                location.shape if location.shape[-1] > 1 else location.shape[:-1]
            )
        middle = self.of_location * location / self.unit
        if location.shape[-1] == 1:
            spread = factor / self._mix(factor)
            return dist.Normal(middle[..., 0], jnp.broadcast_to(spread, location.shape)[..., 0])
        spread = jax.scipy.linalg.solve_triangular(
            self._mix_matrix(factor),
            jnp.broadcast_to(factor, (*middle.shape, len(factor))),
            lower=True,
        )
        return dist.MultivariateNormal(middle, scale_tril=spread)

    def linked(
        self,
        raw: Float[Array, "group *dims K"],
        location: Float[Array, "group *dims K"],
        factor: Float[Array, "..."],
    ) -> Float[Array, "group *dims K"]:
        """θ, of r."""
        shifted = (
            raw if not self.of_location.any() else raw - self.of_location * location / self.unit
        )
        if location.shape[-1] == 1:
            return location + self._mix(factor) * shifted
        if not self.of_scale.any():
            return location + shifted @ factor.T
        return location + jnp.einsum("gij,gj->gi", self._mix_matrix(factor), shifted)

    def raw(
        self,
        linked: Float[Array, "group *dims K"],
        location: Float[Array, "group *dims K"],
        factor: Float[Array, "..."],
    ) -> Float[Array, "group *dims K"]:
        """r, of θ: the inverse of `linked`."""
        middle = self.of_location * location / self.unit
        if location.shape[-1] == 1:
            return middle + (linked - location) / self._mix(factor)
        away = (linked - location)[..., None]
        mixed = jnp.broadcast_to(self._mix_matrix(factor), (*linked.shape, len(factor)))
        return middle + jax.scipy.linalg.solve_triangular(mixed, away, lower=True)[..., 0]

    def _mix(self, factor: jax.Array) -> jax.Array:
        if not self.of_scale.any():
            return factor
        return (1 - self.of_scale) * factor + self.of_scale * self.unit

    def _mix_matrix(self, factor: jax.Array) -> jax.Array:
        b = self.of_scale[..., None]
        return (1 - b) * factor + b * np.diag(self.unit)
