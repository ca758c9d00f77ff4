"""The solution within a step of an explicit Runge–Kutta method, of many solves at once."""

from functools import lru_cache
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from odecal.adjoints._erk.rows import over

# The interpolations of explicit methods are polynomials of degrees up to this one.
_DEGREES = range(3, 13)


class Interpolant(NamedTuple):
    """The solution within one step, by the interpolation of a Diffrax solver.

    It is linear in the states at the ends and the stages, which are times the length of the step,
    by weights that are polynomials of θ, from 0 at the start of the step to 1 at its end.
    """

    solver: diffrax.AbstractERK
    start: Float[Array, " member"]
    end: Float[Array, " member"]
    ends: tuple[Float[Array, "*dims member"], Float[Array, "*dims member"]]
    k: Float[Array, "stage *dims member"]

    def of_column(self, column: int) -> "Interpolant":
        """Of one column of states of shape (element, column, member)."""
        first, last = self.ends
        return self._replace(ends=(first[:, column], last[:, column]), k=self.k[:, :, column])

    def __call__(self, t: Float[Array, " member"]) -> Float[Array, "*dims member"]:
        """The states at a time of each member."""
        length = self.end - self.start
        theta = jnp.where(length > 0, (t - self.start) / jnp.where(length > 0, length, 1), 0)
        coefficients = _coefficients(self.solver)
        power, powers = jnp.ones_like(theta, self.k.dtype), []
        for _ in range(coefficients.shape[1]):
            powers.append(power)
            power = power * theta.astype(power.dtype)
        of_parts = jnp.asarray(coefficients, power.dtype)[..., None] * jnp.stack(powers)[None]
        first, last, *of_stages = jnp.sum(of_parts, axis=1)
        weights = jnp.stack(of_stages).reshape(len(self.k), *(1,) * (self.k.ndim - 2), -1)
        y0, y1 = self.ends
        return over(y0, first) * y0 + over(y1, last) * y1 + jnp.sum(weights * self.k, axis=0)


@lru_cache
def _coefficients(solver: diffrax.AbstractERK) -> Float[np.ndarray, "part power"]:
    """The weights of both ends and of all stages as polynomials.

    Of as low a degree as tells them, which is found by trying.
    """
    parts = np.eye(2 + solver.tableau.num_stages)
    size = _DEGREES[-1] + 1

    @jax.jit
    def weights_at(theta: jax.Array) -> jax.Array:
        y0, y1, k = jnp.asarray(parts[0]), jnp.asarray(parts[1]), jnp.asarray(parts[2:])
        zero, one = jnp.zeros(()), jnp.ones(())
        path = solver.interpolation_cls(t0=zero, t1=one, y0=y0, y1=y1, k=k)
        return jax.vmap(path.evaluate)(theta)

    def weights(theta: np.ndarray) -> np.ndarray:
        padded = np.resize(theta, size)  # of one size: compiled once
        return np.asarray(weights_at(padded))[: len(theta)]

    probes = np.linspace(0.05, 0.97, 7)
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        wanted = weights(probes)
        for degree in _DEGREES:
            points = 0.5 - 0.5 * np.cos(np.pi * np.arange(degree + 1) / degree)
            found = np.linalg.solve(np.vander(points, increasing=True), weights(points))
            if np.allclose(
                np.vander(probes, degree + 1, increasing=True) @ found, wanted, atol=1e-12
            ):
                return found.T
    raise ValueError(
        f"The interpolation of {type(solver).__name__} is no polynomial of a degree up to "
        f"{_DEGREES[-1]}. Use odecal.adjoints.Forward(), which serves every solver."
    )
