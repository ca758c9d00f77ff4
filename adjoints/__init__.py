"""Gradient strategies for Diffrax solves.

Each is an object with a method `diffeqsolve` whose arguments and result are Diffrax's own, so that
a plain Diffrax user can use this package alone:

    solution = odecal.adjoints.Forward().diffeqsolve(terms, solver, t0, t1, dt0, y0, args, ...)
"""

from odecal.adjoints._backsolve import Backsolve as Backsolve
from odecal.adjoints._base import AbstractAdjoint as AbstractAdjoint
from odecal.adjoints._base import DiffraxAdjoint as DiffraxAdjoint
from odecal.adjoints._base import as_adjoint as as_adjoint
from odecal.adjoints._direct import Direct as Direct
from odecal.adjoints._explicit_forward import ExplicitForward as ExplicitForward
from odecal.adjoints._explicit_reverse import ExplicitReverse as ExplicitReverse
from odecal.adjoints._forward import Forward as Forward
from odecal.adjoints._forward_sensitivity import ForwardSensitivity as ForwardSensitivity
from odecal.adjoints._gauss import Gauss as Gauss
from odecal.adjoints._interpolating import Interpolating as Interpolating
from odecal.adjoints._jumps import Crossing as Crossing
from odecal.adjoints._jumps import Jumps as Jumps
from odecal.adjoints._jumps import Schedule as Schedule
from odecal.adjoints._problem import Problem as Problem
from odecal.adjoints._properties import Mode as Mode
from odecal.adjoints._properties import Properties as Properties
from odecal.adjoints._quadrature import Quadrature as Quadrature
from odecal.adjoints._recursive_checkpoint import RecursiveCheckpoint as RecursiveCheckpoint
from odecal.adjoints._sensitivities import AbstractSensitivities as AbstractSensitivities
from odecal.adjoints._steady_state import SteadyState as SteadyState
from odecal.adjoints._step_limits import limited as limited

__all__ = [
    "AbstractAdjoint",
    "AbstractSensitivities",
    "Backsolve",
    "Crossing",
    "DiffraxAdjoint",
    "Direct",
    "ExplicitForward",
    "ExplicitReverse",
    "Forward",
    "ForwardSensitivity",
    "Gauss",
    "Interpolating",
    "Jumps",
    "Mode",
    "Problem",
    "Properties",
    "Quadrature",
    "RecursiveCheckpoint",
    "Schedule",
    "SteadyState",
    "as_adjoint",
]
