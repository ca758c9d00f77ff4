"""The protocol of a sampler: a kernel that warms itself up."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax

from odecal._errors import SettingsError

LogDensity = Callable[[jax.Array], jax.Array]


class Draw(NamedTuple):
    """One draw of one chain.

    Args:
        position: where the chain is, in unconstrained space, of shape (dim,).
        stats: statistics of the transition, by ArviZ's names, each a scalar.
    """

    position: jax.Array
    stats: dict[str, jax.Array]


class Kernel(NamedTuple):
    """The two pure functions of a sampler, for one chain.

    Args:
        init: `init(key, position) -> state`.
        step: `step(key, state, index) -> (state, draw)`. The index counts transitions from 0; the
            first `num_warmup` of them adapt. What a step needs to know is in the state, so that a
            run can be cut anywhere.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    step: Callable[[jax.Array, Any, jax.Array], tuple[Any, Draw]]


class AbstractSampler(eqx.Module):
    """A Markov chain Monte Carlo method.

    A subclass gives [`kernel`][odecal.samplers.AbstractSampler.kernel] and nothing else: how chains
    are spread over devices, how progress is shown and how draws are kept is not its business.
    Every draw has at least the statistics `lp`, `diverging`, `acceptance_rate`, `step_size`,
    `n_steps`, `energy` and `failed_solves`.
    """

    @abc.abstractmethod
    def kernel(self, logdensity_fn: LogDensity, dim: int, num_warmup: int) -> Kernel:
        """Build the kernel.

        Args:
            logdensity_fn: log density of a position of shape (dim,); −inf where a solve fails.
            dim: the number of unconstrained dimensions.
            num_warmup: the number of transitions that adapt.

        Returns:
            The kernel.
        """


def check_nuts(target_acceptance_rate: float, max_tree_depth: int) -> None:
    """Refuse settings of a no-U-turn sampler that cannot work.

    Raises:
        SettingsError: if the rate is not between 0 and 1, or the depth not from 1 to 20.
    """
    if not 0.0 < target_acceptance_rate < 1.0:
        raise SettingsError(
            "NUTS(target_acceptance_rate=...) expects a number between 0 and 1. "
            f"Got {target_acceptance_rate!r}."
        )
    if not 1 <= max_tree_depth <= 20:
        raise SettingsError(
            f"NUTS(max_tree_depth=...) expects a whole number from 1 to 20. Got {max_tree_depth!r}."
        )


def use_dense(dense_mass: bool | None, dim: int) -> bool:
    """Whether the metric is dense; by default where its entries are fewer than warm-up draws."""
    return dim <= 50 if dense_mass is None else dense_mass


def first_step_size(num_warmup: int) -> float:
    """The step size before adaptation; a cautious one where there will be none."""
    return 1.0 if num_warmup else 0.1
