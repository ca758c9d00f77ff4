"""What a gradient strategy is, in terms that a program can use."""

from dataclasses import dataclass
from enum import Enum
from math import log


class Mode(Enum):
    """The direction in which derivatives travel.

    Attributes:
        FORWARD: with the solution, from the parameters to the states.
        REVERSE: against it, from the states to the parameters.
    """

    FORWARD = "forward"
    REVERSE = "reverse"


@dataclass(frozen=True)
class Size:
    """The size of a problem.

    Args:
        steps: the number of steps of the solve.
        states: the number of elements of the state.
        parameters: how many numbers are differentiated by, initial values included.
        max_steps: the largest number of steps that is provided for.
    """

    steps: int
    states: int
    parameters: int
    max_steps: int


@dataclass(frozen=True)
class Monomial:
    """A product of powers of the parts of a size.

    Args:
        steps: the power of the number of steps.
        states: the power of the number of elements of the state.
        parameters: the power of the number of parameters.
        max_steps: the power of the largest number of steps.
        log_max_steps: the power of its logarithm.
    """

    steps: float = 0
    states: float = 0
    parameters: float = 0
    max_steps: float = 0
    log_max_steps: float = 0

    def __call__(self, size: Size) -> float:
        """Its value at one size."""
        value = 1.0
        for name in ("steps", "states", "parameters", "max_steps"):
            value *= getattr(size, name) ** getattr(self, name)
        return value * log(size.max_steps) ** self.log_max_steps

    def __str__(self) -> str:
        powers = {0.5: "√{}", 1: "{}", 2: "{}²", 3: "{}³"}
        letters = {"steps": "n", "states": "d", "parameters": "k", "max_steps": "N"}
        parts = [
            powers[getattr(self, name)].format(letter)
            for name, letter in letters.items()
            if getattr(self, name)
        ]
        if self.log_max_steps:
            parts.append(powers[self.log_max_steps].format("log N"))
        return " ".join(parts) or "1"


@dataclass(frozen=True)
class Order:
    """An order of growth: a sum of monomials, up to constants.

    Printed with n for steps, d for states, k for parameters and N for the largest number of steps.

    Args:
        terms: the monomials.
    """

    terms: tuple[Monomial, ...]

    def __call__(self, size: Size) -> float:
        """Its value at one size, with constants of one."""
        return sum(term(size) for term in self.terms)

    def __str__(self) -> str:
        return f"O({' + '.join(map(str, self.terms))})"


def order(*terms: Monomial) -> Order:
    """The order of a sum of monomials."""
    return Order(terms)


@dataclass(frozen=True)
class Properties:
    """What a gradient strategy is.

    Args:
        mode: the direction in which derivatives travel.
        exact: whether the gradient is that of the numbers which the solver gives, to rounding,
            rather than of the solution that they approximate.
        time: the order of the time of a gradient, in evaluations of one element of the vector
            field (of which a solve takes n d).
        memory: the order of what is kept for it, in numbers.
        stiff: whether it serves stiff systems, with an implicit solver.
        chaotic: whether it serves solves over many times the time in which errors double.
        hessian: whether its gradient can itself be differentiated, by forward mode.
    """

    mode: Mode
    exact: bool
    time: Order
    memory: Order
    stiff: bool
    chaotic: bool
    hessian: bool
