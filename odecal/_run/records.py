"""A run as data: what is to be done, where chains start, how far they are, what came of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from odecal._model.model import Model
from odecal.samplers import AbstractSampler, Draw, Run, Start

Arrays = Mapping[str, np.ndarray]
Leaves = list[np.ndarray]

# What takes much room in an evaluation, and by which step it is thinned.
THINNED = {
    "replicated": "data",
    "log_likelihood": "data",
    "renewed": "data",
    "states": "grid",
    "predicted": "grid",
}


@dataclass(frozen=True, eq=False)
class Plan:
    """What a calibration does."""

    model: Model
    sampler: AbstractSampler
    run: Run
    seed: int
    adjoint_choice: str = ""  # how the adjoint was chosen, as JSON


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Starting points of chains, and the modes around which they lie, the highest first."""

    starts: Start  # with a leading axis of chains
    chain_modes: Int[np.ndarray, " chain"]  # the mode around which each chain starts
    # Where each optimisation ended; and the mode that it is, −1 where it did not converge.
    ends: Float[np.ndarray, "climb dim"]
    end_logdensities: Float[np.ndarray, " climb"]
    end_modes: Int[np.ndarray, " climb"]
    end_steps: Int[np.ndarray, " climb"]
    modes: Float[np.ndarray, "mode dim"]
    mode_logdensities: Float[np.ndarray, " mode"]
    mode_log_masses: Float[np.ndarray, " mode"]  # in Laplace's approximation
    num_failed: int  # prior draws without a finite log density or gradient, which were replaced


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run between two blocks."""

    done: int  # transitions of each chain
    state: Leaves  # after them
    blocks: tuple[Draw, ...] = ()  # the draws so far, each block of shape (chain, draw, ...)
    seconds: float = 0.0  # that they took


@dataclass(frozen=True, eq=False)
class Chains:
    """The draws of a run."""

    positions: Float[np.ndarray, "chain draw dim"]  # in unconstrained space
    stats: dict[str, Shaped[np.ndarray, "chain draw"]]
    warmup_stats: dict[str, Shaped[np.ndarray, "chain warmup"]]
    adaptation: dict[str, np.ndarray]  # what warm-up has found; (chain, ...), but for an ensemble
    state: Leaves  # from which the run can go on
    seconds: float  # of sampling, without compilation

    @property
    def done(self) -> int:
        """How many transitions each chain has made."""
        return self.warmup_stats["lp"].shape[1] + self.stats["lp"].shape[1]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model predicts from each of n draws.

    What an individual has of its own has a leading axis of individuals, where they are many.
    """

    # Natural values of parameters, and derived quantities, each of shape (n, *dims).
    quantities: Arrays
    derived: Arrays
    # Of every `data_step` draws of a chain, m of n: one replicated data set a draw, each observable
    # of shape (m, value, *dims); the log density of every observed value; and a replicated data set
    # of other groups of the same population, empty where nothing varies between groups.
    replicated: Arrays
    log_likelihood: Arrays
    renewed: Arrays
    # Of every `grid_step`, k of n: the states on the grid, each of shape (k, grid, *dims), and a
    # replicate there of each observable, except those over intervals.
    states: Arrays
    predicted: Arrays
    solver_steps: Int[np.ndarray, " n"]
    failed: Bool[np.ndarray, " n"]
    data_step: int = 1
    grid_step: int = 1

    def split(self, number: int) -> tuple["Evaluation", "Evaluation"]:
        """The first so many draws of a single chain, and, of the parameters alone, the rest."""
        first: dict[str, Any] = {}
        rest: dict[str, Any] = {}
        for name in {f.name for f in fields(self)} - {"data_step", "grid_step"}:
            part = getattr(self, name)
            step = getattr(self, f"{THINNED[name]}_step") if name in THINNED else 1
            head = -(-number // step)
            first[name] = jax.tree.map(lambda x, head=head: x[:head], part)
            rest[name] = {} if name in THINNED else jax.tree.map(lambda x: x[number:], part)
        return replace(self, **first), replace(self, **rest)


@dataclass(frozen=True, eq=False)
class Result:
    """What a calibration has done."""

    plan: Plan
    names: tuple[str, ...]  # of every unconstrained dimension
    warm_start: WarmStart
    chains: Chains
    posterior: Evaluation | None  # of every draw, chain after chain; None if there is none yet
    prior: Evaluation  # of draws from the prior
    modes: Evaluation
    grid: Float[np.ndarray, " grid"]  # the fine grid of times
    complete: bool  # whether the draws are all that were asked for
    compile_seconds: float  # for how long something was being traced or compiled
    start_seconds: float  # of the search for starting points, without compilation


class AbstractJournal(ABC):
    """Where a run is recorded as it goes, and where it stands."""

    @abstractmethod
    def warm_start(self) -> WarmStart | None:
        """Where the chains started, if that has been found."""

    @abstractmethod
    def snapshot(self) -> Snapshot | None:
        """The run so far, if it has begun."""

    @abstractmethod
    def record_start(self, warm_start: WarmStart) -> None:
        """Record where the chains start."""

    @abstractmethod
    def record(self, snapshot: Snapshot) -> None:
        """Record the last block of a run, and the state after it."""

    @abstractmethod
    def where(self) -> str:
        """A sentence that says where the draws are and how to go on; empty if they are nowhere."""
