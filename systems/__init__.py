"""Ready-made systems, each a file that shows how to write one, with its data."""

from odecal.systems.exponential_decay import ExponentialDecay as ExponentialDecay
from odecal.systems.lotka_volterra import LotkaVolterra as LotkaVolterra
from odecal.systems.robertson import Robertson as Robertson
from odecal.systems.sir import SIR as SIR

__all__ = ["SIR", "ExponentialDecay", "LotkaVolterra", "Robertson"]
