"""Samplers: objects that say how a posterior is explored."""

from odecal.samplers._base import AbstractSampler as AbstractSampler
from odecal.samplers._base import Draw as Draw
from odecal.samplers._base import Kernel as Kernel
from odecal.samplers._base import Run as Run
from odecal.samplers._base import Start as Start
from odecal.samplers._base import Target as Target
from odecal.samplers._chees import ChEES as ChEES
from odecal.samplers._hmc import HMC as HMC
from odecal.samplers._mclmc import AdjustedMCLMC as AdjustedMCLMC
from odecal.samplers._meads import MEADS as MEADS
from odecal.samplers._metrics import AbstractMetric as AbstractMetric
from odecal.samplers._metrics import DenseMetric as DenseMetric
from odecal.samplers._metrics import DiagonalMetric as DiagonalMetric
from odecal.samplers._metrics import Estimator as Estimator
from odecal.samplers._metrics import LowRankMetric as LowRankMetric
from odecal.samplers._metrics import ShrunkMetric as ShrunkMetric
from odecal.samplers._numpyro_nuts import NumPyroNUTS as NumPyroNUTS
from odecal.samplers._nuts import NUTS as NUTS
from odecal.samplers._pathfinder import Pathfinder as Pathfinder
from odecal.samplers._tempered_smc import TemperedSMC as TemperedSMC

__all__ = [
    "HMC",
    "MEADS",
    "NUTS",
    "AbstractMetric",
    "AbstractSampler",
    "AdjustedMCLMC",
    "ChEES",
    "DenseMetric",
    "DiagonalMetric",
    "Draw",
    "Estimator",
    "Kernel",
    "LowRankMetric",
    "NumPyroNUTS",
    "Pathfinder",
    "Run",
    "ShrunkMetric",
    "Start",
    "Target",
    "TemperedSMC",
]
