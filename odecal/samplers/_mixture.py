"""A mixture of Student's t distributions that follows weighted particles."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Steps of expectation and maximisation in a fit.
_STEPS = 12


class Mixture(NamedTuple):
    """A mixture of multivariate t distributions.

    The factors are lower triangular: a factor times its transpose is the scale matrix of a
    component.
    """

    log_weights: Float[Array, " component"]
    means: Float[Array, "component dim"]
    factors: Float[Array, "component dim dim"]
    inverses: Float[Array, "component dim dim"]  # of the factors
    freedom: Float[Array, ""]  # degrees of freedom, of all components

    def parts(self, positions: Float[Array, "n dim"]) -> Float[Array, "n component"]:
        """Log densities of components, with their weights."""
        dim = positions.shape[-1]
        apart = positions[:, None] - self.means
        square = jnp.sum(jnp.einsum("cij,ncj->nci", self.inverses, apart) ** 2, axis=-1)
        log_det = jnp.sum(jnp.log(jnp.diagonal(self.inverses, axis1=1, axis2=2)), axis=-1)
        nu = self.freedom
        constant = jax.lax.lgamma((nu + dim) / 2) - jax.lax.lgamma(nu / 2)
        constant -= 0.5 * dim * jnp.log(nu * jnp.pi)
        tail = -0.5 * (nu + dim) * jnp.log1p(square / nu)
        return self.log_weights + log_det + constant + tail

    def sample(self, key: jax.Array, number: int) -> Float[Array, "{number} dim"]:
        """Positions."""
        key_which, key_normal, key_chi = jax.random.split(key, 3)
        which = jax.random.categorical(key_which, self.log_weights, shape=(number,))
        dim, dtype = self.means.shape[1], self.means.dtype
        normal = jax.random.normal(key_normal, (number, dim), dtype)
        chi = jax.random.gamma(key_chi, self.freedom / 2, (number, 1), dtype) * 2
        step = jnp.einsum("nij,nj->ni", self.factors[which], normal)
        return self.means[which] + step * jnp.sqrt(self.freedom / chi)


def fitted(
    key: jax.Array,
    positions: Float[Array, "particle dim"],
    weights: Float[Array, " particle"],
    components: int,
) -> Mixture:
    """A mixture that follows weighted particles, by expectation maximisation.

    Its components are of Gaussians; tails of t distributions are given to them after the fit. The
    covariance of a component is drawn towards the mean covariance of all by as much as its
    particles are few. It works in coordinates in which the particles as a whole have unit
    covariance, and so does not depend on units. The weights sum to one.
    """
    dim = positions.shape[1]
    middle = weights @ positions
    scale = jnp.sqrt(weights @ (positions - middle) ** 2)
    scale = jnp.where(scale > 0, scale, 1.0)
    scaled = (positions - middle) / scale
    whole = jnp.linalg.cholesky(_covariance(scaled, weights) + _jitter(positions))
    white = jax.scipy.linalg.solve_triangular(whole, scaled.T, lower=True).T
    means = _centres(key, white, weights, components)
    start = (
        jnp.full((components,), 1 / components, white.dtype),
        means,
        jnp.broadcast_to(jnp.eye(dim, dtype=white.dtype), (components, dim, dim)) / 4,
    )
    effective = 1 / jnp.sum(weights**2)
    shares, means, covariances = jax.lax.fori_loop(
        0, _STEPS, lambda _, now: _improved(now, white, weights, effective), start
    )
    factors = scale[:, None] * (whole @ jnp.linalg.cholesky(covariances))
    means = middle + scale * (means @ whole.T)
    freedom = jnp.asarray(max(6.0, 2.0 * dim), white.dtype)
    eye = jnp.broadcast_to(jnp.eye(dim, dtype=white.dtype), factors.shape)
    inverses = jax.scipy.linalg.solve_triangular(factors, eye, lower=True)
    shares = (shares + 0.01 / components) / 1.01
    return Mixture(jnp.log(shares), means, factors, inverses, freedom)


def _jitter(positions: jax.Array) -> jax.Array:
    """What keeps a matrix of correlations positive definite."""
    dtype = positions.dtype
    return 100 * jnp.finfo(dtype).eps * jnp.eye(positions.shape[1], dtype=dtype)


def _covariance(positions: jax.Array, weights: jax.Array) -> jax.Array:
    return (weights[:, None] * positions).T @ positions


def _centres(key: jax.Array, white: jax.Array, weights: jax.Array, number: int) -> jax.Array:
    """First centres: particles that are far from each other, as those of k-means++."""
    log_weights = jnp.log(weights)

    def add(i: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        centres, nearest = found
        chosen = jax.random.categorical(
            jax.random.fold_in(key, i), log_weights + jnp.log(nearest + 1e-12)
        )
        distance = jnp.sum((white - white[chosen]) ** 2, axis=1)
        nearest = jnp.where(i == 0, distance, jnp.minimum(nearest, distance))
        return centres.at[i].set(white[chosen]), nearest

    none = jnp.zeros((number, white.shape[1]), white.dtype)
    return jax.lax.fori_loop(0, number, add, (none, jnp.ones_like(weights)))[0]


def _improved(
    now: tuple[jax.Array, jax.Array, jax.Array],
    white: jax.Array,
    weights: jax.Array,
    effective: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One step of expectation maximisation: shares, means and covariances of the components."""
    shares, means, covariances = now
    dim = white.shape[1]
    factors = jnp.linalg.cholesky(covariances)
    apart = white[:, None] - means
    solve = jax.vmap(lambda f, x: jax.scipy.linalg.solve_triangular(f, x.T, lower=True).T)
    square = jnp.sum(solve(factors, jnp.swapaxes(apart, 0, 1)) ** 2, axis=-1).T
    log_det = jnp.sum(jnp.log(jnp.diagonal(factors, axis1=1, axis2=2)), axis=-1)
    belongs = jax.nn.softmax(jnp.log(shares) - log_det - 0.5 * square, axis=1)
    counted = belongs * weights[:, None]
    total = counted.sum(axis=0)
    shares = jnp.maximum(total, 1e-12)
    means = (counted.T @ white) / shares[:, None]
    apart = white[:, None] - means
    scatter = jnp.einsum("nc,nci,ncj->cij", counted, apart, apart)
    within = scatter.sum(axis=0) + _jitter(white)
    prior = 2 * dim / effective
    covariances = (scatter + prior * within) / (shares + prior)[:, None, None]
    return shares, means, covariances
