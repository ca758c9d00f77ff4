"""Where chains start: dispersed around the best modes that several optimisations find."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from odecal._curvature import bounded, correlated, log_det, probed, solved
from odecal._errors import SamplingError
from odecal._flat import FlatModel, flatten
from odecal._model import Model
from odecal._programs import Compiler, each, padded, spread, usable_devices
from odecal._streams import Words, words_of
from odecal.samplers import Start
from odecal.samplers._base import covariance_shape

# Prior draws that are looked at, and how many of those with a finite log density are optimised.
# With 12, one seed in 200,000 misses the best mode of the Hudson Bay data: 4 in 11 climbs do.
NUM_CANDIDATES = 64
_NUM_CLIMBS = 12
_MAX_STEPS = 200
# In a hierarchy the joint mode is not where the mass is: so far is near enough to warm up from.
_HIERARCHY_STEPS = 80
# Chains start at every mode whose mass is within this many nats of the largest.
_CLOSE = 5.0


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Starting points of chains, and where they come from.

    Args:
        starts: of shape (chain, ...).
        chain_modes: which mode each chain starts around, of shape (chain,).
        ends: where each climb ended, of shape (climb, dim).
        end_logdensities: the log density there, of shape (climb,).
        end_modes: which mode that is, of shape (climb,); −1 for none, where a climb did not arrive.
        end_steps: how many steps it took, of shape (climb,).
        modes: the modes found, the highest first, of shape (mode, dim).
        mode_logdensities: the log density of each, of shape (mode,).
        mode_log_masses: the log of the mass of each, in Laplace's approximation, of shape (mode,).
        num_failed: how many of the prior draws had no finite log density or gradient, and were
            replaced.
    """

    starts: Start
    chain_modes: np.ndarray
    ends: np.ndarray
    end_logdensities: np.ndarray
    end_modes: np.ndarray
    end_steps: np.ndarray
    modes: np.ndarray
    mode_logdensities: np.ndarray
    mode_log_masses: np.ndarray
    num_failed: int


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
        finder = StartFinder(flat, compiler, flat.hierarchical)
        key_draws, key_find = jax.random.split(key)
        keys = jax.random.split(key_draws, NUM_CANDIDATES)
        candidates = jax.jit(jax.vmap(flat.sample_prior))(keys)
        found = finder(np.asarray(candidates), words_of(key_find), num_chains)
        return jax.vmap(flat.unravel)(jnp.asarray(found.starts.position))


class _Climb(NamedTuple):
    """The end of a climb, the inverse curvature, density and gradient there; whether it is a mode.

    After a single step, which evaluates and does not move, that of where it began.
    """

    end: Any
    curvature: Any
    logdensity: Any
    gradient: Any
    arrived: Any
    steps: Any


class StartFinder:
    """Looks for modes and disperses chains around the best.

    Args:
        flat: the model, flat; all to be called within its precision.
        compiler: compiles the programs.
        hierarchical: whether parameters vary between groups, by scales that are unknown.
    """

    def __init__(self, flat: FlatModel, compiler: Compiler, hierarchical: bool = False) -> None:
        self._dim = flat.dim
        self._steps = _HIERARCHY_STEPS if hierarchical else _MAX_STEPS
        devices = usable_devices(_NUM_CLIMBS)
        self._batch = padded(_NUM_CLIMBS, len(devices))
        climb = each(partial(_climb, flat.logdensity_fn))
        self._climb = compiler(
            spread(climb, devices, batched=2),
            jax.ShapeDtypeStruct((self._batch, flat.dim), np.dtype(jnp.result_type(float))),
            jax.ShapeDtypeStruct((self._batch,), np.int32),
        )

    def wait(self) -> None:
        """Wait until the program is compiled."""
        self._climb.wait()

    def __call__(self, candidates: np.ndarray, words: Words, num_chains: int) -> WarmStart:
        """Climb from prior draws, and disperse chains around the best modes.

        Each chain starts at a draw of the Gaussian that the optimiser's own estimate of the
        curvature gives, drawn in towards the mode until its log density is plausible for such a
        draw.

        Args:
            candidates: draws from the prior, of shape (candidate, dim).
            words: the random key, in words.
            num_chains: the number of chains.

        Returns:
            The starting points, and what was found on the way.

        Raises:
            SamplingError: if no candidate has a finite log density and gradient.
        """
        density, gradient = self.evaluate(candidates)
        solved = np.isfinite(density)
        finite = np.flatnonzero(solved & np.isfinite(gradient).all(axis=1))
        if solved.any() and not finite.size:
            raise SamplingError(
                f"The log density is finite at {solved.sum()} of {len(candidates)} draws from the "
                "prior, and its gradient at none of them. Expected an adjoint that can "
                "differentiate this solve. Take the default, Solve(adjoint=None), or compare: "
                "odecal.compare_adjoints."
            )
        if not finite.size:
            raise SamplingError(
                f"None of {len(candidates)} draws from the prior has a finite log density, so "
                "there is nowhere to start. Expected the system to be solvable, and the data "
                "possible, over most of the prior. Narrow the priors, raise max_steps, take a "
                "solver for stiff systems (diffrax.Kvaerno5()), or check the noise model."
            )
        climbs = self._run(candidates[np.resize(finite, self._batch)], self._steps)
        order = np.argsort(
            -np.nan_to_num(climbs.logdensity, nan=-np.inf, neginf=-np.inf), kind="stable"
        )
        climbs = _Climb(*(x[order] for x in climbs))
        ends, value = climbs.end, climbs.logdensity
        end_modes, first = self._group(climbs)
        random = np.random.default_rng(words)
        covariances = np.stack([self._covariance(climbs, i, random) for i in first])
        masses = value[first] + 0.5 * np.asarray([log_det(c) for c in covariances])
        masses = masses + 0.5 * self._dim * np.log(2 * np.pi)
        close = np.flatnonzero(masses > masses.max() - _CLOSE)
        close = close[np.argsort(-masses[close], kind="stable")]
        chain_modes = np.resize(close, num_chains)
        starts = self._scatter(
            ends[first][chain_modes], covariances[chain_modes], value[first][chain_modes], random
        )
        return WarmStart(
            starts,
            chain_modes,
            ends,
            value,
            end_modes,
            climbs.steps,
            ends[first],
            value[first],
            masses,
            int(len(candidates) - finite.size),
        )

    def evaluate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log density and gradient of many positions, of shapes (n,) and (n, dim)."""
        found = self._run(positions, 1)
        return found.logdensity, found.gradient

    def _run(self, positions: np.ndarray, max_steps: int) -> _Climb:
        """Climb from many positions, of shape (n, dim)."""
        index = np.resize(np.arange(len(positions)), padded(len(positions), self._batch))
        steps = np.full(self._batch, max_steps, np.int32)
        parts = [
            jax.tree.map(np.asarray, self._climb(positions[index[i : i + self._batch]], steps))
            for i in range(0, len(index), self._batch)
        ]
        return _Climb(*(np.concatenate(x)[: len(positions)] for x in zip(*parts, strict=True)))

    def _group(self, climbs: _Climb) -> tuple[np.ndarray, np.ndarray]:
        """Which mode each end is, −1 for none, and the first end of each mode.

        Two ends are one mode if they are as near as draws around the higher one, or if the density
        between them does not dip.
        """
        ends, value = climbs.end, climbs.logdensity
        middles = (ends[:, None] + ends[None]) / 2
        between, _ = self.evaluate(middles.reshape(-1, self._dim))
        between = between.reshape(len(ends), len(ends))
        modes = np.full(len(ends), -1)
        first: list[int] = []
        for i in range(len(ends)):
            for number, j in enumerate(first):
                apart = ends[i] - ends[j]
                distance = apart @ solved(climbs.curvature[j], apart)
                level = value[i] > value[j] - 1.0
                if level and (distance < 10 + self._dim or between[i, j] > value[i] - 1.0):
                    modes[i] = number
                    break
            else:
                if climbs.arrived[i] or not first:
                    modes[i] = len(first)
                    first.append(i)
        return modes, np.asarray(first)

    def _covariance(self, climbs: _Climb, i: int, random: np.random.Generator) -> np.ndarray:
        """A covariance around the end of a climb: the optimiser's, or its diagonal, probed."""
        if climbs.curvature.ndim == 3:
            return bounded(climbs.curvature[i])
        return probed(lambda x: self.evaluate(x)[1], climbs.end[i], self._batch, random)

    def _scatter(
        self,
        modes: np.ndarray,
        covariances: np.ndarray,
        value: np.ndarray,
        random: np.random.Generator,
    ) -> Start:
        """A draw around the mode of each chain, halved towards it until it is plausible."""
        noise = random.standard_normal(modes.shape)
        step = np.stack([correlated(c, x) for c, x in zip(covariances, noise, strict=True)])
        lowest = value - 2.0 * self._dim - 5.0
        positions = modes + step
        density, gradient = self.evaluate(positions)
        for fraction in 0.5 ** np.arange(1, 24):
            bad = np.flatnonzero(~(density >= lowest) | ~np.isfinite(gradient).all(axis=1))
            if not bad.size:
                break
            positions[bad] = modes[bad] + fraction * step[bad]
            density[bad], gradient[bad] = self.evaluate(positions[bad])
        parts: Any = (positions, density, gradient, covariances)
        return Start(*parts)


def _climb(
    logdensity_fn: Callable[[jax.Array], jax.Array], position: jax.Array, max_steps: jax.Array
) -> _Climb:
    """Climb from a position by BFGS, or by its kind of limited memory where dimensions are many.

    The number of steps is an argument, so that the same program also evaluates a position.
    """
    dense = len(covariance_shape(len(position))) == 2
    kind = optimistix.BFGS if dense else optimistix.LBFGS
    solver: Any = kind(rtol=1e-4, atol=1e-4)

    def objective(x: jax.Array, args: Any) -> tuple[jax.Array, None]:
        del args
        return -logdensity_fn(x), None

    fixed: Any = (None, {})  # neither arguments nor options
    scalar = jax.ShapeDtypeStruct((), position.dtype)
    state = solver.init(objective, position, *fixed, scalar, None, frozenset())
    arrays, rest = eqx.partition(state, eqx.is_array)

    def climbing(carry: Any) -> jax.Array:
        _, _, steps, arrived = carry
        return (steps < max_steps) & ~arrived

    def step(carry: Any) -> Any:
        y, arrays, steps, _ = carry
        y, state, _ = solver.step(objective, y, *fixed, eqx.combine(arrays, rest), frozenset())
        arrived, _ = solver.terminate(objective, y, *fixed, state, frozenset())
        return y, eqx.filter(state, eqx.is_array), steps + 1, arrived

    begin = (position, arrays, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    end, arrays, steps, arrived = jax.lax.while_loop(climbing, step, begin)
    found = eqx.combine(arrays, rest).f_info
    curvature = found.hessian_inv.as_matrix() if dense else jnp.ones_like(position)
    return _Climb(end, curvature, -found.f, -found.grad, arrived, steps)
