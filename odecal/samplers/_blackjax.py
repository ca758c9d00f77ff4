"""All that is taken of BlackJAX: kernels, and parts of its adaptations.

It is imported where a kernel is built, not before: importing BlackJAX starts JAX, after which its
number of devices is fixed.
"""

from blackjax.adaptation.chees_adaptation import base as chees_adaptation
from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
from blackjax.adaptation.meads_adaptation import base as meads_adaptation
from blackjax.adaptation.metric_recipes import REGISTRY as METRIC_RECIPES
from blackjax.adaptation.staged_adaptation import build_schedule
from blackjax.adaptation.step_size import dual_averaging_adaptation
from blackjax.mcmc.adjusted_mclmc import build_kernel as adjusted_mclmc_kernel
from blackjax.mcmc.dynamic_hmc import DynamicHMCState, halton_sequence
from blackjax.mcmc.dynamic_hmc import build_kernel as dynamic_hmc_kernel
from blackjax.mcmc.ghmc import GHMCState
from blackjax.mcmc.ghmc import build_kernel as ghmc_kernel
from blackjax.mcmc.hmc import HMCState
from blackjax.mcmc.hmc import build_kernel as hmc_kernel
from blackjax.mcmc.metrics import default_metric
from blackjax.mcmc.nuts import build_kernel as nuts_kernel
from blackjax.vi import pathfinder

__all__ = [
    "METRIC_RECIPES",
    "DynamicHMCState",
    "GHMCState",
    "HMCState",
    "adjusted_mclmc_kernel",
    "build_schedule",
    "chees_adaptation",
    "default_metric",
    "dual_averaging_adaptation",
    "dynamic_hmc_kernel",
    "ghmc_kernel",
    "halton_sequence",
    "hmc_kernel",
    "mass_matrix_adaptation",
    "meads_adaptation",
    "nuts_kernel",
    "pathfinder",
]
