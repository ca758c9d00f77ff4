"""Where chains start: dispersed around the best mode that several optimisations find."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from odecal._errors import SamplingError
from odecal._flat import FlatModel, flatten
from odecal._model import Model

# Prior draws that are looked at, and how many of the finite ones are optimised.
_NUM_DRAWS = 64
_NUM_OPTIMISED = 8
_MAX_STEPS = 200


@dataclass(frozen=True, eq=False)
class Starts:
    """Starting points of chains, and where they come from.

    Args:
        positions: in unconstrained space, of shape (chain, dim).
        modes: the end of every optimisation, of shape (optimisation, dim), best first.
        logdensities: the log density there, of shape (optimisation,).
        num_failed: how many of the prior draws had no finite log density.
    """

    positions: jax.Array
    modes: np.ndarray
    logdensities: np.ndarray
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
        SamplingError: if no prior draw has a finite log density.
    """
    with model.precision():
        flat = flatten(model)
        return jax.vmap(flat.unravel)(disperse(flat, key, num_chains).positions)


def disperse(flat: FlatModel, key: jax.Array, num_chains: int) -> Starts:
    """Optimise from prior draws, and disperse chains around the best end.

    Each chain starts at a draw of the Gaussian that the optimiser's own estimate of the curvature
    gives, drawn in towards the mode until its log density is plausible for such a draw.

    Args:
        flat: the model, flat; to be called within its precision.
        key: the random key.
        num_chains: the number of chains.

    Returns:
        The starting points.

    Raises:
        SamplingError: if no prior draw has a finite log density.
    """
    logdensity_fn = flat.logdensity_fn
    key_draws, key_jitter = jax.random.split(key)
    draws = jax.jit(jax.vmap(flat.init_position))(jax.random.split(key_draws, _NUM_DRAWS))
    density = np.asarray(jax.jit(partial(jax.lax.map, logdensity_fn))(draws))
    finite = np.flatnonzero(np.isfinite(density))
    if not finite.size:
        raise SamplingError(
            f"None of {_NUM_DRAWS} draws from the prior has a finite log density, so there is "
            "nowhere to start. Expected the system to be solvable, and the data possible, over "
            "most of the prior. Narrow the priors, raise max_steps, take a solver for stiff "
            "systems (diffrax.Kvaerno5()), or check the noise model."
        )
    chosen = jnp.asarray(draws)[np.resize(finite, _NUM_OPTIMISED)]
    modes, curvature, value = jax.jit(partial(jax.lax.map, partial(_optimise, logdensity_fn)))(
        chosen
    )
    order = np.argsort(-np.nan_to_num(np.asarray(value), nan=-np.inf, neginf=-np.inf))
    best = order[0]
    scatter = partial(_scatter, logdensity_fn, modes[best], curvature[best])
    positions = jax.jit(partial(jax.lax.map, scatter))(jax.random.split(key_jitter, num_chains))
    return Starts(
        positions,
        np.asarray(modes)[order],
        np.asarray(value)[order],
        int(_NUM_DRAWS - finite.size),
    )


def _optimise(
    logdensity_fn: Callable[[jax.Array], jax.Array], position: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Climb from a position; the end, the inverse curvature there, and the log density."""

    def objective(x: jax.Array, args: Any) -> jax.Array:
        del args
        return -logdensity_fn(x)

    solution: Any = optimistix.minimise(
        objective,
        optimistix.BFGS(rtol=1e-4, atol=1e-4),
        position,
        max_steps=_MAX_STEPS,
        throw=False,
    )
    inverse = solution.state.f_info.hessian_inv.as_matrix()
    return solution.value, inverse, -solution.state.f_info.f


def _scatter(
    logdensity_fn: Callable[[jax.Array], jax.Array],
    mode: jax.Array,
    curvature: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """A draw around a mode, halved towards it until it is plausible."""
    values, vectors = jnp.linalg.eigh(curvature)
    # A direction that the optimiser never measured keeps its unit guess; at most that.
    scale = jnp.sqrt(jnp.clip(values, 1e-12, 1.0))
    step = vectors @ (scale * jax.random.normal(key, mode.shape, mode.dtype))
    lowest = logdensity_fn(mode) - 2.0 * mode.size - 5.0

    def implausible(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        fraction, density = state
        return (fraction > 1e-6) & ~(density >= lowest)

    def halve(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        fraction = state[0] / 2
        return fraction, logdensity_fn(mode + fraction * step)

    one = jnp.ones((), mode.dtype)
    fraction, _ = jax.lax.while_loop(implausible, halve, (one, logdensity_fn(mode + step)))
    return mode + fraction * step
