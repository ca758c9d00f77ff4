"""Noise models: how an observation scatters around what the system predicts.

Each is a NumPyro distribution in the modeller's terms (a predicted median or mean, then the
spread). They survive predictions that solver error has made slightly negative: a prediction below
a tiny floor counts as the floor. Any other NumPyro distribution can be returned by an observable
just as well.
"""

from odecal.noise._models import AdditiveProportional as AdditiveProportional
from odecal.noise._models import LogNormal as LogNormal
from odecal.noise._models import NegativeBinomial as NegativeBinomial
from odecal.noise._models import Normal as Normal
from odecal.noise._models import Poisson as Poisson
from odecal.noise._models import StudentT as StudentT

__all__ = [
    "AdditiveProportional",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
]
