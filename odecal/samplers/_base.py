"""The protocol of a sampler: a kernel that warms itself up."""

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from odecal._errors import SettingsError

LogDensity = Callable[[Float[Array, " dim"]], Float[Array, ""]]
Covariance = Float[Array, "dim dim"] | Float[Array, " dim"]


@dataclass(frozen=True, eq=False)
class Target:
    """The density that is sampled, on unconstrained space.

    Args:
        dim: the number of unconstrained dimensions.
        logdensity_fn: log density of a position, −inf where a solve fails. Reverse-mode
            differentiable, once.
        logprior_fn: the part of it that is the prior, for methods that temper the rest.
        sample_prior: gives a position drawn from the prior, from a key.
    """

    dim: int
    logdensity_fn: LogDensity
    logprior_fn: LogDensity
    sample_prior: Callable[[jax.Array], Float[Array, " dim"]]


class Start(NamedTuple):
    """Where a chain starts, and what is known there.

    Args:
        position: in unconstrained space.
        logdensity: the log density there.
        gradient: its gradient there.
        covariance: a guess of the covariance of the density around there; its diagonal, where
            dimensions are many.
    """

    position: Float[Array, " dim"]
    logdensity: Float[Array, ""]
    gradient: Float[Array, " dim"]
    covariance: Covariance


# With more dimensions than this, guesses of covariances are diagonal.
_MOST_DENSE = 250


def covariance_shape(dim: int) -> tuple[int, ...]:
    """The shape of a guess of the covariance."""
    return (dim, dim) if dim <= _MOST_DENSE else (dim,)


def as_matrix(covariance: Covariance) -> Float[Array, "dim dim"]:
    """A guess of the covariance as a matrix."""
    return jnp.diag(covariance) if covariance.ndim == 1 else covariance


def as_diagonal(covariance: Covariance) -> Float[Array, " dim"]:
    """The variances of a guess of the covariance."""
    return covariance if covariance.ndim == 1 else jnp.diag(covariance)


class Draw(NamedTuple):
    """One draw of one chain.

    Args:
        position: where the chain is, in unconstrained space.
        stats: statistics of the transition, by ArviZ's names, each a scalar.
    """

    position: Float[Array, " dim"]
    stats: dict[str, jax.Array]


class Run(NamedTuple):
    """The size of a run.

    Args:
        num_chains: the number of chains.
        num_warmup: transitions of each chain that adapt.
        num_samples: draws of each chain that are kept.
    """

    num_chains: int
    num_warmup: int
    num_samples: int


class Kernel(NamedTuple):
    """The pure functions of a sampler, for one chain; for all chains at once in an ensemble.

    Args:
        init: `init(key, start) -> state`.
        step: `step(key, state, index) -> (state, draw)`. The index counts transitions from 0; the
            first `num_warmup` of them adapt. What a step needs to know is in the state, so that a
            run can be cut anywhere.
        adaptation: `adaptation(state) -> arrays`, by name: what warm-up found, such as the metric.
        headline: what progress says first, of a method of which numbers of transitions tell little.
        standing: `standing(stats) -> words`, if there is a headline: where a run stands, from the
            statistics of the last transitions, each of shape (chain, transition).
    """

    init: Callable[[jax.Array, Start], Any]
    step: Callable[[jax.Array, Any, jax.Array], tuple[Any, Draw]]
    adaptation: Callable[[Any], dict[str, jax.Array]]
    headline: str = ""
    standing: Callable[[Mapping[str, Any]], str] = lambda stats: ""


class AbstractSampler(eqx.Module):
    """A method that draws from a posterior.

    How chains are spread over devices, how progress is shown and how draws are kept is not its
    business. To write one of your own:

    - Subclass it, with settings as fields, and give
      [`kernel`][odecal.samplers.AbstractSampler.kernel]: pure functions that begin a chain, move it
      by one transition, and say at the end what warm-up has found. The rest is optional.
    - Let the state hold all that a transition needs to know, the adaptation too, in arrays: a run
      is cut anywhere, written to the disk and gone on with, bit by bit.
    - Give with every draw the statistics `lp`, `diverging`, `acceptance_rate` and `n_steps`; and,
      where it can be told, `failed_solves`, and `failed_gradients`, of transitions that ended at a
      gradient that is no number. None is kept whose log density is −inf.

    Attributes:
        ensemble: whether its kernel moves all chains together, as that of an
            [`AbstractEnsemble`][odecal.samplers.AbstractEnsemble] does.
        approximate: whether its draws are of an approximation, whatever their number.
        extendable: whether more draws can be added to a finished run.
    """

    ensemble: ClassVar[bool] = False
    approximate: ClassVar[bool] = False
    extendable: ClassVar[bool] = True

    @abc.abstractmethod
    def kernel(self, target: Target, run: Run) -> Kernel:
        """Build the kernel.

        Args:
            target: the density.
            run: the size of the run.

        Returns:
            The kernel.
        """


class AbstractEnsemble(AbstractSampler):
    """A method whose kernel moves all chains together, of which each depends on the others.

    What its `init` and `step` take and give has a leading axis of chains.
    """

    ensemble: ClassVar[bool] = True

    @abc.abstractmethod
    def check_run(self, run: Run) -> None:
        """Refuse a run of too few chains to learn from.

        Args:
            run: the size of the run.

        Raises:
            SettingsError: if the method cannot make it.
        """


def check_between(
    sampler: AbstractSampler, setting: str, low: float, high: float, whole: bool = False
) -> None:
    """Refuse a setting that is no number within (low, high), or [low, high] for whole numbers."""
    value: Any = getattr(sampler, setting)
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not (number and (low <= value <= high if whole else low < value < high)):
        span = f"a whole number from {low} to {high}" if whole else f"a number in ({low}, {high})"
        raise SettingsError(
            f"{type(sampler).__name__}({setting}=...) expects {span}. Got {value!r}."
        )
