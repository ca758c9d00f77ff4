"""Interpolations: what an input is between its samples. Outside them it keeps the nearest."""

from odecal.interpolation._interpolations import AbstractInterpolation as AbstractInterpolation
from odecal.interpolation._interpolations import Backward as Backward
from odecal.interpolation._interpolations import Constant as Constant
from odecal.interpolation._interpolations import Hermite as Hermite
from odecal.interpolation._interpolations import Linear as Linear

__all__ = ["AbstractInterpolation", "Backward", "Constant", "Hermite", "Linear"]
