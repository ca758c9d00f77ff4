"""odecal: Bayesian calibration of ordinary differential equations.

Declare a system as a class (`System`, `State`, `Parameter`, `Observable`, ...), hand over a table
of observations, and get a posterior: `calibrate(system, observations)`.
"""

from odecal import adjoints as adjoints
from odecal import noise as noise
from odecal import samplers as samplers
from odecal._calibrate import calibrate as calibrate
from odecal._calibrate import extend as extend
from odecal._calibrate import resume as resume
from odecal._compare import compare_adjoints as compare_adjoints
from odecal._compile import compile as compile  # noqa: A004
from odecal._components import Constant as Constant
from odecal._components import Derived as Derived
from odecal._components import Observable as Observable
from odecal._components import Parameter as Parameter
from odecal._components import State as State
from odecal._errors import DeclarationError as DeclarationError
from odecal._errors import ObservationError as ObservationError
from odecal._errors import OdecalError as OdecalError
from odecal._errors import OutputError as OutputError
from odecal._errors import SamplingError as SamplingError
from odecal._errors import SettingsError as SettingsError
from odecal._model import Model as Model
from odecal._model import Prediction as Prediction
from odecal._observations import Observations as Observations
from odecal._plot import plot_fit as plot_fit
from odecal._save import load as load
from odecal._save import save as save
from odecal._settings import Solve as Solve
from odecal._simulate import simulate as simulate
from odecal._solve import Trajectory as Trajectory
from odecal._solve import solve_system as solve_system
from odecal._start import find_starts as find_starts
from odecal._summary import summary as summary
from odecal._system import System as System

__all__ = [
    "Constant",
    "DeclarationError",
    "Derived",
    "Model",
    "Observable",
    "ObservationError",
    "Observations",
    "OdecalError",
    "OutputError",
    "Parameter",
    "Prediction",
    "SamplingError",
    "SettingsError",
    "Solve",
    "State",
    "System",
    "Trajectory",
    "adjoints",
    "calibrate",
    "compare_adjoints",
    "compile",
    "extend",
    "find_starts",
    "load",
    "noise",
    "plot_fit",
    "resume",
    "samplers",
    "save",
    "simulate",
    "solve_system",
    "summary",
]
