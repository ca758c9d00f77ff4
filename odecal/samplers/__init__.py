"""Samplers: objects that say how a posterior is explored."""

from odecal.samplers._base import AbstractSampler as AbstractSampler
from odecal.samplers._base import Draw as Draw
from odecal.samplers._base import Kernel as Kernel
from odecal.samplers._numpyro_nuts import NumPyroNUTS as NumPyroNUTS
from odecal.samplers._nuts import NUTS as NUTS

__all__ = ["NUTS", "AbstractSampler", "Draw", "Kernel", "NumPyroNUTS"]
