"""Where chains start: dispersed around the best modes that several optimisations find."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float, Int

from odecal._errors import SamplingError, listed
from odecal._inference.laplace import Gaussian, measure_curvature, measure_scales
from odecal._inference.optimise import Optimiser, Optimum
from odecal._jax.keys import KeyData, key_data_of, key_of
from odecal._jax.programs import Compiler
from odecal._model.flat import flatten
from odecal._model.model import Model
from odecal._run.records import WarmStart
from odecal.samplers import Start, Target

# Prior draws: of so many the scales are taken; so many are evaluated at once, until those with
# a finite log density are enough. With 16 starts, one seed in a million misses the best mode
# of the Hudson Bay data: 3 in 7 starts lead to it.
NUM_CANDIDATES = 512
_LOOK = 64
_NUM_STARTS = 16
_MAX_STEPS = 200
# In a hierarchy the joint mode is not where the mass is: so far is near enough to warm up from.
_HIERARCHY_STEPS = 80
# Up to so many dimensions curvatures are measured along all axes, above by random steps.
_MOST_MEASURED = 50
# A position is a mode where a step of Newton's method would gain less than this, in nats; and how
# many such steps are tried.
_ARRIVED, _NEWTON_STEPS = 0.01, 4
# Two ends are one mode if the density between them does not dip by more than this, in nats.
_DIP = 1.0
# Chains start at every mode whose mass is within this many nats of the largest.
_CLOSE = 5.0


def find_starts(model: Model, key: jax.Array, num_chains: int) -> dict[str, jax.Array]:
    """Find starting points for the chains of any sampler.

    Args:
        model: the model.
        key: the random key.
        num_chains: the number of chains.

    Returns:
        An unconstrained value of every site for each chain, of shape (chain, *shape): positions
        for `logdensity_fn`, and what NumPyro's `MCMC.run` takes as `init_params`.

    Raises:
        SamplingError: if no prior draw has a finite log density and gradient.
    """
    with model.precision(), Compiler() as compiler:
        flat = flatten(model)
        finder = MultiStart(flat.target, compiler, flat.hierarchical, flat.names)
        key_draws, key_find = jax.random.split(key)
        keys = jax.random.split(key_draws, NUM_CANDIDATES)
        candidates = jax.jit(jax.vmap(flat.target.sample_prior))(keys)
        found = finder(np.asarray(candidates), key_data_of(key_find), num_chains)
        return jax.vmap(flat.unravel)(jnp.asarray(found.starts.position))


class _Mode(NamedTuple):
    """A mode: its position, log density and Gaussian, and whether it was reached."""

    position: Float[np.ndarray, " dim"]
    logdensity: float
    gaussian: Gaussian
    reached: bool = True

    @property
    def log_mass(self) -> float:
        """The log of its mass, in Laplace's approximation."""
        return self.logdensity + 0.5 * (
            self.gaussian.log_det + len(self.position) * np.log(2 * np.pi)
        )


class MultiStart:
    """Finds modes by several optimisations, and disperses chains around the best.

    Steps, distances and curvatures are in units of the scales of the prior; positions are not. All
    is to be called within the precision of the model.
    """

    def __init__(
        self,
        target: Target,
        compiler: Compiler,
        hierarchical: bool = False,
        names: tuple[str, ...] = (),
    ) -> None:
        self._dim, self._names = target.dim, names
        self._steps = _HIERARCHY_STEPS if hierarchical else _MAX_STEPS
        self._optimise = Optimiser(target, compiler, _NUM_STARTS)
        self.wait, self.evaluate = self._optimise.wait, self._optimise.evaluate

    def __call__(
        self, candidates: Float[np.ndarray, "candidate dim"], key_data: KeyData, num_chains: int
    ) -> WarmStart:
        """Optimise from prior draws, and disperse chains around the best modes.

        Each chain starts at a draw of the Gaussian that has the curvature of its mode, drawn in
        towards the mode until its log density is plausible for such a draw. Of the candidates the
        first are evaluated, and further ones where few of them have a finite log density.

        Raises:
            SamplingError: if no candidate has a finite log density and gradient.
        """
        random, scale = np.random.default_rng(key_data), prior_scale(candidates)
        finite, num_evaluated = self._finite(candidates)
        begin = candidates[np.resize(finite, max(_NUM_STARTS, self._optimise.batch))]
        optima = self._optimise(begin, scale, self._steps)
        order = np.argsort(
            -np.nan_to_num(optima.logdensity, nan=-np.inf, neginf=-np.inf), kind="stable"
        )
        optima = Optimum(*(x[order] for x in optima))
        modes, end_modes = self._modes(optima, scale, random)
        masses = np.asarray([mode.log_mass for mode in modes])
        close = np.flatnonzero(masses > masses.max() - _CLOSE)
        close = close[np.argsort(-masses[close], kind="stable")]
        chain_modes = np.resize(close, num_chains)
        return WarmStart(
            self._disperse([modes[i] for i in chain_modes], random),
            chain_modes,
            optima.position,
            optima.logdensity,
            end_modes,
            optima.steps,
            np.stack([mode.position for mode in modes]),
            np.asarray([mode.logdensity for mode in modes]),
            masses,
            int(num_evaluated - finite.size),
        )

    def _finite(
        self, candidates: Float[np.ndarray, "candidate dim"]
    ) -> tuple[Int[np.ndarray, " finite"], int]:
        """Which candidates have a finite log density and gradient, and how many were evaluated."""
        solved, finite = np.zeros(0, bool), np.zeros(0, bool)
        without = np.zeros(self._dim, bool)
        while len(solved) < len(candidates) and finite.sum() < _NUM_STARTS:
            density, gradient = self.evaluate(candidates[len(solved) : len(solved) + _LOOK])
            solved = np.append(solved, np.isfinite(density))
            without |= (np.isfinite(density)[:, None] & ~np.isfinite(gradient)).any(axis=0)
            finite = np.append(finite, np.isfinite(density) & np.isfinite(gradient).all(axis=1))
        if solved.any() and not finite.any():
            raise SamplingError(
                f"The log density is finite at {solved.sum()} of {len(solved)} draws from the "
                f"prior, and its gradient at none of them{self._named(without)}. Something has "
                "no derivative there: a root, a power or a quotient of what is 0, perhaps, for "
                "which jnp.maximum(y.c, 1e-12) ** p.h can stand instead of y.c ** p.h. Or, if "
                "another adjoint than the default was asked for, it cannot differentiate this "
                "solve: take Solve(adjoint=None), or compare: odecal.compare_adjoints."
            )
        if not finite.any():
            raise SamplingError(
                f"None of {len(solved)} draws from the prior has a finite log density, so "
                "there is nowhere to start. Expected the system to be solvable, and the data "
                "possible, over some of the prior. Narrow the priors, raise max_steps, take a "
                "solver for stiff systems (diffrax.Kvaerno5()), or check the noise model."
            )
        return np.flatnonzero(finite), len(solved)

    def _named(self, without: Bool[np.ndarray, " dim"]) -> str:
        """The parameters by which there is no gradient, in words."""
        named = [f"`{n}`" for n, lost in zip(self._names, without, strict=False) if lost]
        return f": it is no number for {listed(named[:5])}" if named else ""

    def _modes(
        self, optima: Optimum, scale: Float[np.ndarray, " dim"], random: np.random.Generator
    ) -> tuple[list[_Mode], Int[np.ndarray, " n"]]:
        """The modes that were found, the highest first, and that of each optimum; −1 for none.

        An optimum is of a mode that is known if it is near it, or the density between them does not
        dip; else it is a mode of its own, if it is one at all.
        """
        modes: list[_Mode] = []
        of = np.full(len(optima.position), -1)
        for i, (position, logdensity) in enumerate(
            zip(optima.position, optima.logdensity, strict=True)
        ):
            known = self._same_mode(position, logdensity, modes) if modes else None
            if known is None and (optima.converged[i] or not modes):
                mode = self._refined(Optimum(*(x[i] for x in optima)), scale, random)
                known = self._same_mode(mode.position, mode.logdensity, modes) if modes else None
                if known is None and (mode.reached or not modes):
                    known = len(modes)
                    modes.append(mode)
            of[i] = -1 if known is None else known
        order = np.argsort([-mode.logdensity for mode in modes], kind="stable")
        return [modes[i] for i in order], np.append(np.argsort(order), -1)[of]

    def _same_mode(
        self,
        position: Float[np.ndarray, " dim"],
        logdensity: float | np.floating,
        modes: list[_Mode],
    ) -> int | None:
        """The mode that a position belongs to: near it, or no dip of the density between them."""
        level = [i for i, mode in enumerate(modes) if logdensity > mode.logdensity - _DIP]
        for i in level:
            if modes[i].gaussian.squared_length(position - modes[i].position) < 1.0:
                return i
        fractions = np.linspace(0.0, 1.0, 9)[1:-1, None]
        for i in level:
            between, _ = self.evaluate(position + fractions * (modes[i].position - position))
            if between.min() > min(logdensity, modes[i].logdensity) - _DIP:
                return i
        return None

    def _refined(
        self, optimum: Optimum, scale: Float[np.ndarray, " dim"], random: np.random.Generator
    ) -> _Mode:
        """An optimum as a mode: a few steps of Newton's method further."""
        position, logdensity = optimum.position.astype(float), float(optimum.logdensity)
        gaussian = Gaussian.guess(scale, optimum.curvature)
        if self._dim > _MOST_MEASURED:
            gaussian = measure_scales(
                self.evaluate, position, gaussian, self._optimise.batch, random
            )
            return _Mode(position, logdensity, gaussian, bool(optimum.converged))
        if not optimum.converged:  # no mode, but the best that there is
            return _Mode(position, logdensity, gaussian)
        for _ in range(_NEWTON_STEPS):
            gaussian, newton_step, concave = measure_curvature(self.evaluate, position, gaussian)
            reached = concave and newton_step @ newton_step < 2 * _ARRIVED
            parts = 0.5 ** np.arange(self._optimise.batch)[:, None]
            ahead = position + parts * gaussian.steps(newton_step[None])
            density, _ = self.evaluate(ahead)
            best = int(np.argmax(np.nan_to_num(density, nan=-np.inf)))
            if density[best] > logdensity:
                position, logdensity = ahead[best], float(density[best])
            if reached or newton_step @ newton_step < 2 * _ARRIVED:
                break
        return _Mode(position, logdensity, gaussian, reached)

    def _disperse(self, modes: list[_Mode], random: np.random.Generator) -> Start:
        """A draw around the mode of each chain; steps are halved until the density is plausible."""
        noise = random.standard_normal((len(modes), self._dim))
        centres = np.stack([mode.position for mode in modes])
        step = np.concatenate(
            [m.gaussian.steps(u[None]) for m, u in zip(modes, noise, strict=True)]
        )
        lowest = np.asarray([mode.logdensity for mode in modes]) - 2.0 * self._dim - 5.0
        positions = centres + step
        density, gradient = self.evaluate(positions)
        for fraction in 0.5 ** np.arange(1, 24):
            bad = np.flatnonzero(~(density >= lowest) | ~np.isfinite(gradient).all(axis=1))
            if not bad.size:
                break
            positions[bad] = centres[bad] + fraction * step[bad]
            density[bad], gradient[bad] = self.evaluate(positions[bad])
        covariances = np.stack([mode.gaussian.covariance for mode in modes])
        dtype = density.dtype
        parts: Any = (positions.astype(dtype), density, gradient, covariances.astype(dtype))
        return Start(*parts)


def prior_sampler(model: Model, count: int) -> Callable[[jax.Array], jax.Array]:
    """Gives draws from the prior, in unconstrained space, from the numbers of a random key."""

    def positions(key_data: jax.Array) -> jax.Array:
        keys = jax.random.split(key_of(key_data), count)
        return jax.vmap(lambda key: ravel_pytree(model.init_position(key))[0])(keys)

    return positions


def prior_scale(draws: Float[np.ndarray, "draw dim"]) -> Float[np.ndarray, " dim"]:
    """The scale of each dimension of draws from the prior.

    The interquartile range, in standard deviations of a normal distribution; where that is 0, the
    standard deviation; where all draws are equal, √epsilon of the floating type times their size.
    """
    finite = np.where(np.isfinite(draws), draws, np.nan).astype(float)
    low, middle, high = np.nanquantile(finite, [0.25, 0.5, 0.75], axis=0)
    scale, spread = (high - low) / 1.349, np.nanstd(finite, axis=0)
    least = np.sqrt(np.finfo(draws.dtype).eps) * np.abs(middle)
    scale = np.where(scale > 0, scale, np.where(spread > 0, spread, least))
    return np.where(scale > 0, scale, 1.0)
