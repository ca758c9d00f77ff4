from ._base import AbstractEnsemble as AbstractEnsemble
from ._base import AbstractSampler as AbstractSampler
from ._base import Draw as Draw
from ._base import Kernel as Kernel
from ._base import Run as Run
from ._base import Start as Start
from ._base import Target as Target
from ._chees import ChEES as ChEES
from ._estimators import Estimator as Estimator
from ._hmc import HMC as HMC
from ._mclmc import AdjustedMCLMC as AdjustedMCLMC
from ._meads import MEADS as MEADS
from ._metrics import AbstractMetric as AbstractMetric
from ._metrics import DenseMetric as DenseMetric
from ._metrics import DiagonalMetric as DiagonalMetric
from ._metrics import LowRankMetric as LowRankMetric
from ._metrics import ShrunkMetric as ShrunkMetric
from ._numpyro_nuts import NumPyroNUTS as NumPyroNUTS
from ._nuts import NUTS as NUTS
from ._pathfinder import Pathfinder as Pathfinder
from ._tempered_smc import TemperedSMC as TemperedSMC

__all__: list[str]
