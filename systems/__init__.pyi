from .exponential_decay import ExponentialDecay as ExponentialDecay
from .fitzhugh_nagumo import FitzHughNagumo as FitzHughNagumo
from .indometacin import Indometacin as Indometacin
from .lotka_volterra import LotkaVolterra as LotkaVolterra
from .measles import Measles as Measles
from .robertson import Robertson as Robertson
from .sir import SIR as SIR
from .theophylline import Theophylline as Theophylline

__all__: list[str]
