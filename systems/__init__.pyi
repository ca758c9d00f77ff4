from .exponential_decay import ExponentialDecay as ExponentialDecay
from .lotka_volterra import LotkaVolterra as LotkaVolterra
from .robertson import Robertson as Robertson
from .sir import SIR as SIR

__all__ = ["SIR", "ExponentialDecay", "LotkaVolterra", "Robertson"]
