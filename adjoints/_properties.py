"""What a gradient strategy is, in terms that a program can use."""

from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    """The direction in which derivatives travel.

    Attributes:
        FORWARD: with the solution, from the parameters to the states.
        REVERSE: against it, from the states to the parameters.
    """

    FORWARD = "forward"
    REVERSE = "reverse"


@dataclass(frozen=True)
class Properties:
    """What a gradient strategy is.

    Orders of growth are written with n for the steps of the solve, N for the largest number of
    steps, d for the elements of the state, and k for the numbers that are differentiated by.

    Args:
        mode: the direction in which derivatives travel.
        exact: whether the gradient is that of the numbers which the solver gives, to rounding,
            rather than of the solution that they approximate.
        time: the order of the time of a gradient, in evaluations of one element of the vector
            field (of which a solve takes n d), such as `"O(n d k)"`.
        memory: the order of what is kept for it, in numbers, such as `"O(d k)"`.
        stiff: whether it serves stiff systems, with an implicit solver.
        chaotic: whether it serves solves over many times the time in which errors double.
        hessian: whether its gradient can itself be differentiated, by forward mode.
    """

    mode: Mode
    exact: bool
    time: str
    memory: str
    stiff: bool
    chaotic: bool
    hessian: bool
