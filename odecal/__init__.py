"""odecal: Bayesian calibration of ordinary differential equations."""

from odecal import noise as noise
from odecal._components import Constant as Constant
from odecal._components import Derived as Derived
from odecal._components import Observable as Observable
from odecal._components import Parameter as Parameter
from odecal._components import State as State
from odecal._settings import Solve as Solve
from odecal._system import System as System
from odecal._compile import compile as compile  # noqa: A004
from odecal._model import Model as Model
from odecal._observations import Observations as Observations
