from ._backsolve import Backsolve as Backsolve
from ._base import AbstractAdjoint as AbstractAdjoint
from ._diffrax_adjoint import DiffraxAdjoint as DiffraxAdjoint
from ._diffrax_adjoint import as_adjoint as as_adjoint
from ._direct import Direct as Direct
from ._explicit_forward import ExplicitForward as ExplicitForward
from ._explicit_reverse import ExplicitReverse as ExplicitReverse
from ._forward import Forward as Forward
from ._forward_sensitivity import ForwardSensitivity as ForwardSensitivity
from ._gauss import Gauss as Gauss
from ._interpolating import Interpolating as Interpolating
from ._jumps import Crossing as Crossing
from ._jumps import Jumps as Jumps
from ._jumps import Schedule as Schedule
from ._problem import Problem as Problem
from ._properties import Mode as Mode
from ._properties import Properties as Properties
from ._quadrature import Quadrature as Quadrature
from ._recursive_checkpoint import RecursiveCheckpoint as RecursiveCheckpoint
from ._sensitivities import AbstractSensitivities as AbstractSensitivities
from ._steady_state import SteadyState as SteadyState
from ._step_limits import Limited as Limited

__all__: list[str]
