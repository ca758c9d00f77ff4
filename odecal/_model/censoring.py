"""The probability that an observation lies between two bounds: what a censored value tells.

A family of noise models is a function that gives the logarithms of both of its tails, P(X ≤ x)
and P(X > x), inside the support and at whole numbers for counts. JAX's incomplete gamma and beta
functions underflow in the tails and lack slopes, so that their logarithms are computed here.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.custom_derivatives import SymbolicZero
from jax.nn import log1mexp, log_sigmoid, sigmoid
from jax.scipy.special import log_ndtr

from odecal._errors import ObservationError
from odecal.noise._series import excess, stirling

Array = Any
Tails = tuple[jax.Array, jax.Array]


def interval_log_prob(noise: dist.Distribution, lower: Array, upper: Array) -> jax.Array:
    """The log probability log P(lower < X < upper) of a value that was censored.

    Both bounds are excluded, which matters to counts only: below a limit of quantification L is
    lower = −inf, upper = L and means X < L; above a limit U is lower = U, upper = inf and means
    X > U. Counts from 3 to 5 are lower = 2, upper = 6. What cannot happen has −inf.

    It is 0 with a zero gradient unless lower < upper, so that a caller may select by `jnp.where`
    what was not censored. Reverse mode differentiates it once; further derivatives are by forward
    mode.

    Raises:
        ObservationError: if the noise, of a scalar event, has no distribution function.
    """
    shape = jnp.broadcast_shapes(noise.batch_shape, jnp.shape(lower), jnp.shape(upper))
    dtype = jnp.result_type(float, lower, upper)
    lower, upper = (jnp.broadcast_to(jnp.asarray(x, dtype), shape) for x in (lower, upper))
    censored = lower < upper
    low, high = jnp.where(censored, lower, -jnp.inf), jnp.where(censored, upper, jnp.inf)
    if noise.is_discrete:
        low, high = jnp.floor(low), jnp.ceil(high) - 1.0
    below, above = _everywhere(noise, jnp.stack([low, high]))
    # The difference is taken in the tail where the numbers are smaller.
    left = below[1] <= above[0]
    more, less = jnp.where(left, below[1], above[0]), jnp.where(left, below[0], above[1])
    one_sided = less == -jnp.inf
    gap = jnp.where(one_sided, 1.0, more - jnp.where(one_sided, 0.0, less))
    # Where the difference has lost as much as the density times the width would, take the latter.
    narrow = gap < float(24.0 * np.finfo(dtype).eps) ** (1.0 / 3.0)
    between = more + jnp.where(one_sided, 0.0, log1mexp(jnp.where(narrow, 1.0, gap)))
    return jnp.where(narrow, _narrow(noise, low, high, narrow & (high > low)), between)


def _narrow(noise: dist.Distribution, low: jax.Array, high: jax.Array, here: Array) -> jax.Array:
    """The log of the density in the middle times the width (of the mass times the count)."""
    width = jnp.where(here, high - low, 1.0)
    middle = jnp.where(here, low, 0.0) + 0.5 * (width + (1.0 if noise.is_discrete else 0.0))
    middle = jnp.where(here, middle, noise.support.feasible_like(middle))
    return jnp.where(here, noise.log_prob(middle) + jnp.log(width), -jnp.inf)


def _everywhere(noise: dist.Distribution, x: jax.Array) -> Tails:
    """Both tails, which are certain outside the support and at infinity."""
    inside = noise.support(x) & jnp.isfinite(x)
    feasible = noise.support.feasible_like(x)
    below, above = _tails(noise, jnp.where(inside, x, feasible))
    below = jnp.where(inside, below, jnp.where(x < feasible, -jnp.inf, 0.0))
    return below, jnp.where(inside, above, jnp.where(x < feasible, 0.0, -jnp.inf))


def _tails(noise: dist.Distribution, x: jax.Array) -> Tails:
    """Both tails by the family's function, else by its own distribution function."""
    for family, tails in _FAMILIES:
        if isinstance(noise, family):
            return tails(noise, x)
    try:
        p = jnp.asarray(noise.cdf(x))
    except NotImplementedError as error:
        raise ObservationError(
            f"The noise model {type(noise).__name__} cannot be censored. Expected one with a "
            "distribution function, such as those of odecal.noise. Give it a method `cdf`, take "
            "another noise model, or make the censored rows missing (NaN)."
        ) from error
    proper = (p > 0.0) & (p < 1.0)
    q, certain = jnp.where(proper, p, 0.5), jax.lax.stop_gradient(p)
    below = jnp.where(proper, jnp.log(q), jnp.log(certain))
    return below, jnp.where(proper, jnp.log1p(-q), jnp.log1p(-certain))


def _normal(z: jax.Array) -> Tails:
    """Log Φ(z) and log Φ(−z), with slopes that rounding leaves alone far out (DLMF 7.12.1)."""
    z = jnp.stack([z, -z])
    far = z <= -20.0
    y, near = jnp.where(far, -z, 20.0), jnp.where(far, 0.0, z)
    series = jnp.polyval(jnp.array([10395, -945, 105, -15, 3, -1, 1], z.dtype), (1.0 / y) ** 2)
    tail = jnp.log(series / y) - 0.5 * (y * y + float(np.log(2.0 * np.pi)))
    below, above = jnp.where(far, tail, log_ndtr(near))
    return below, above


def _student_t(noise: Any, x: jax.Array) -> Tails:
    # P(|T| > |z|) = I_u(df/2, 1/2), u = df / (df + z²). A z of 0 is nudged, with its slope kept.
    z = (x - noise.loc) / noise.scale
    size, least = jnp.where(z < 0.0, -z, z), float(np.finfo(z.dtype).tiny) ** 0.25
    size = size + jax.lax.stop_gradient(jnp.maximum(size, least) - size)
    outside, _ = _beta_tails(0.5 * noise.df, 0.5, jnp.log(noise.df) - 2.0 * jnp.log(size))
    return _both(z < 0.0, outside - float(np.log(2.0)))


def _binomial(noise: Any, k: jax.Array) -> Tails:
    left = noise.total_count - k
    below, above = _beta_tails(jnp.where(left > 0, left, 1.0), k + 1.0, -noise.logits)
    return jnp.where(left > 0, below, 0.0), jnp.where(left > 0, above, -jnp.inf)


_FAMILIES: tuple[tuple[Any, Callable[[Any, jax.Array], Tails]], ...] = (
    (dist.ExpandedDistribution, lambda d, x: _tails(d.base_dist, x)),
    (dist.Normal, lambda d, x: _normal((x - d.loc) / d.scale)),
    (dist.LogNormal, lambda d, x: _normal((jnp.log(x) - d.loc) / d.scale)),
    (dist.StudentT, _student_t),
    (dist.Exponential, lambda d, x: (log1mexp(d.rate * x), -d.rate * x)),
    (dist.Gamma, lambda d, x: _gamma_tails(d.concentration, d.rate * x)),
    (dist.Poisson, lambda d, k: _gamma_tails(k + 1.0, d.rate)[::-1]),
    (dist.GammaPoisson, lambda d, k: _beta_tails(d.concentration, k + 1.0, jnp.log(d.rate))),
    ((dist.BinomialProbs, dist.BinomialLogits), _binomial),
)


def _gamma_tails(a: Array, x: Array) -> Tails:
    """Log P(a, x) and log Q(a, x), the incomplete gamma functions (DLMF 8.9.2, 8.17.22)."""
    a, x = _promoted(a, x)
    x = jnp.maximum(x, float(np.finfo(x.dtype).tiny))
    left = x < a + 1.0
    off = (x - a) / a
    close = jnp.abs(off) < 0.5
    log_ratio = jnp.where(close, jnp.log1p(jnp.where(close, off, 0.0)), jnp.log(x / a))
    density = 0.5 * jnp.log(a / (2.0 * jnp.pi)) - a * excess(off, log_ratio) - stirling(1.0 / a)
    fraction = _fraction(_gamma_term, left, a, x)
    return _both(left, density - jnp.log(fraction) - jnp.where(left, jnp.log(a), 0.0))


def _gamma_term(n: jax.Array, left: jax.Array, a: jax.Array, x: jax.Array) -> Tails:
    m = jnp.floor(0.5 * n)
    odd = -(a + m) / (a + 2.0 * m) * (x / (a + 2.0 * m + 1.0))
    into = jnp.where(n > 2.0 * m, odd, m / (a + 2.0 * m) * (x / (a + n - 1.0)))
    a_n = jnp.where(left, into, n * (a - n))
    return a_n, jnp.where(left, 1.0, x + 1.0 - a + 2.0 * n)


def _beta_tails(a: Array, b: Array, logit: Array) -> Tails:
    """Log I_x(a, b) and log (1 − I_x(a, b)), the incomplete beta functions (DLMF 8.17.22)."""
    a, b, logit = _promoted(a, b, logit)
    x, y = sigmoid(logit), sigmoid(-logit)  # neither from the other, which may round to one
    left = a * y - b * x + 1.0 - 2.0 * x > 0.0
    w = 1.0 / jnp.stack([a + b, a, b])
    of_sum, of_a, of_b = stirling(w)
    off = x * b - y * a
    density = (
        0.5 * (jnp.log(a) - jnp.log1p(a / b) - jnp.log(2.0 * jnp.pi))
        - a * excess(off / a, log_sigmoid(logit) + jnp.log1p(b / a))
        - b * excess(-off / b, log_sigmoid(-logit) + jnp.log1p(a / b))
        + (of_sum - of_a - of_b)
    )
    fraction = _fraction(_beta_term, left, a, b, jnp.where(left, logit, -logit))
    return _both(left, density - jnp.log(fraction))


def _beta_term(n: jax.Array, left: jax.Array, a: jax.Array, b: jax.Array, logit: Array) -> Tails:
    """The even part of the fraction, where 1 − x is not lost if a is large."""
    a, b = jnp.where(left, a, b), jnp.where(left, b, a)
    x, y, end = sigmoid(logit), sigmoid(-logit), a + 2.0 * n
    before = jnp.where(n > 0.0, end - 1.0, 1.0)
    a_n = n * ((a + n - 1.0) / before) * ((a + b + n - 1.0) / before) * (b - n) * x * x
    b_n = n + n * (b - n) * x / before
    return a_n, b_n + (a + n) / (end + 1.0) * (a * y - b * x + 1.0 + n * (2.0 - x))


def _promoted(*args: Array) -> tuple[jax.Array, ...]:
    return jnp.broadcast_arrays(*[jnp.asarray(x, jnp.result_type(float, *args)) for x in args])


def _both(left: jax.Array, tail: jax.Array) -> Tails:
    """The left and the right tail from the one that was computed."""
    rest = log1mexp(jnp.maximum(-tail, float(np.finfo(tail.dtype).tiny)))
    return jnp.where(left, tail, rest), jnp.where(left, rest, tail)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fraction(term: Callable[..., Tails], *args: jax.Array) -> jax.Array:
    """The continued fraction b₀ + a₁/(b₁ + a₂/(b₂ + …)), with aₙ, bₙ = term(n, *args)."""
    return _lentz(term, args, len(args) - 1, 0.0)[0]


@functools.partial(_fraction.defjvp, symbolic_zeros=True)
def _fraction_jvp(term: Callable[..., Tails], primals: Any, tangents: Any) -> Tails:
    fraction, change = _fraction(term, *primals), jnp.zeros_like(primals[-1])
    for i, tangent in enumerate(tangents):
        if not isinstance(tangent, SymbolicZero):
            fraction, slope = _lentz(term, primals, i, 1.0)
            change = change + slope * tangent
    return fraction, change


def _lentz(term: Callable[..., Tails], args: Any, i: int, speed: float) -> Tails:
    """A continued fraction and its slope along the i-th argument, by the method of Lentz.

    The slope is taken in the loop, through which reverse mode cannot go. It must settle as well:
    where the fraction ends, at a whole number, its slope may go on.
    """
    x, eps = args[i], float(np.finfo(args[i].dtype).eps)
    dx = jnp.full_like(x, speed)

    def at(n: jax.Array, x: jax.Array) -> Tails:
        return term(n, *args[:i], x, *args[i + 1 :])

    def step(n: jax.Array, x: jax.Array, c: Any, d: Any, f: Any) -> tuple[jax.Array, ...]:
        a, b = at(n, x)
        c, d = b + a / c, 1.0 / (b + a * d)
        return c, d, f * (c * d)

    def body(carry: Any) -> Any:
        n, going, old, slope = carry
        new, new_slope = jax.jvp(functools.partial(step, n), (x, *old), (dx, *slope))
        moved = jnp.abs(new[2] - old[2]) > 4.0 * eps * jnp.abs(new[2])
        moved |= jnp.abs(new_slope[2] - slope[2]) > eps**0.75 * jnp.abs(new_slope[2])
        kept = jax.tree.map(lambda x, y: jnp.where(going, x, y), (new, new_slope), (old, slope))
        return n + 1.0, going & moved & (n < 1e5), *kept

    # It takes some √a steps near the median.
    b, db = jax.jvp(lambda x: at(jnp.zeros((), x.dtype), x)[1], (x,), (dx,))
    zero, going = jnp.zeros_like(b), jnp.ones(b.shape, bool)
    start = (jnp.ones((), b.dtype), going, (b, zero, b), (db, zero, db))
    *_, value, slope = jax.lax.while_loop(lambda carry: jnp.any(carry[1]), body, start)
    return value[2], slope[2]
