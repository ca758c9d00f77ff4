"""A run as data: what is to be done, where chains start, how far they are, what came of it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

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
    """What a calibration does.

    Args:
        model: the model.
        sampler: the sampler.
        run: the size of the run.
        seed: the random seed.
        adjoint_choice: how the adjoint was chosen, as JSON.
    """

    model: Model
    sampler: AbstractSampler
    run: Run
    seed: int
    adjoint_choice: str = ""


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Starting points of chains, and the modes around which they lie.

    Args:
        starts: of shape (chain, ...).
        chain_modes: the mode around which each chain starts.
        ends: where each optimisation ended.
        end_logdensities: the log density there.
        end_modes: the mode that it is; −1 for none, where an optimisation did not converge.
        end_steps: how many steps it took.
        modes: the modes found, the highest first.
        mode_logdensities: the log density of each.
        mode_log_masses: the log of the mass of each, in Laplace's approximation.
        num_failed: how many of the prior draws had no finite log density or gradient, and were
            replaced.
    """

    starts: Start
    chain_modes: Int[np.ndarray, " chain"]
    ends: Float[np.ndarray, "climb dim"]
    end_logdensities: Float[np.ndarray, " climb"]
    end_modes: Int[np.ndarray, " climb"]
    end_steps: Int[np.ndarray, " climb"]
    modes: Float[np.ndarray, "mode dim"]
    mode_logdensities: Float[np.ndarray, " mode"]
    mode_log_masses: Float[np.ndarray, " mode"]
    num_failed: int


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run between two blocks.

    Args:
        done: how many transitions each chain has made.
        state: the leaves of the state after them.
        blocks: the draws so far, in blocks, each of shape (chain, draw, ...).
        seconds: how long they took.
    """

    done: int
    state: Leaves
    blocks: tuple[Draw, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Chains:
    """The draws of a run.

    Args:
        positions: positions in unconstrained space.
        stats: statistics of every transition.
        warmup_stats: the same for the transitions of warm-up.
        adaptation: what warm-up has found, by name; of shape (chain, ...), but for an ensemble.
        state: the leaves of the state, from which the run can go on.
        seconds: how long sampling took, without compilation.
    """

    positions: Float[np.ndarray, "chain draw dim"]
    stats: dict[str, Shaped[np.ndarray, "chain draw"]]
    warmup_stats: dict[str, Shaped[np.ndarray, "chain warmup"]]
    adaptation: dict[str, np.ndarray]
    state: Leaves
    seconds: float

    @property
    def done(self) -> int:
        """How many transitions each chain has made."""
        return self.warmup_stats["lp"].shape[1] + self.stats["lp"].shape[1]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model predicts from each of n draws.

    What an individual has of its own has a leading axis of individuals, where they are many.

    Args:
        quantities: natural values of parameters, each of shape (n, *dims).
        derived: derived quantities, likewise.
        replicated: one replicated data set a draw: each observable, of shape (m, value, *dims).
        log_likelihood: the log density of every observed value, of the same shapes.
        renewed: a replicated data set of other groups of the same population, likewise; empty
            where nothing varies between groups.
        states: the states on the grid, each of shape (k, grid, *dims).
        predicted: a replicate of each observable on the grid, except those over intervals.
        solver_steps: the steps that the solve took.
        failed: whether it failed.
        data_step: of every how many draws of a chain there are replicated data (m of n).
        grid_step: of every how many there are states on the grid (k of n).
    """

    quantities: Arrays
    derived: Arrays
    replicated: Arrays
    log_likelihood: Arrays
    renewed: Arrays
    states: Arrays
    predicted: Arrays
    solver_steps: Int[np.ndarray, " n"]
    failed: Bool[np.ndarray, " n"]
    data_step: int = 1
    grid_step: int = 1

    def split(self, number: int) -> tuple["Evaluation", "Evaluation"]:
        """The first so many draws of a single chain, and, of the parameters alone, the rest."""
        steps = {name: getattr(self, f"{part}_step") for name, part in THINNED.items()}
        names = [f.name for f in fields(self) if f.name not in ("data_step", "grid_step")]
        parts = {name: getattr(self, name) for name in names}
        heads = {name: -(-number // steps.get(name, 1)) for name in parts}
        first = {
            name: jax.tree.map(lambda x, n=heads[name]: x[:n], part) for name, part in parts.items()
        }
        rest = {
            name: {} if name in THINNED else jax.tree.map(lambda x: x[number:], part)
            for name, part in parts.items()
        }
        return replace(self, **first), replace(self, **rest)


@dataclass(frozen=True, eq=False)
class Result:
    """What a calibration has done.

    Args:
        plan: what was to be done.
        names: the name of every unconstrained dimension.
        warm_start: where the chains started.
        chains: the draws.
        posterior: the evaluation of every draw, chain after chain; None if there is none yet.
        prior: the evaluation of draws from the prior.
        modes: the evaluation of the modes found.
        grid: the fine grid of times.
        complete: whether the draws are all that were asked for.
        compile_seconds: for how long something was being traced or compiled.
        start_seconds: how long the search for starting points took, without compilation.
    """

    plan: Plan
    names: tuple[str, ...]
    warm_start: WarmStart
    chains: Chains
    posterior: Evaluation | None
    prior: Evaluation
    modes: Evaluation
    grid: Float[np.ndarray, " grid"]
    complete: bool
    compile_seconds: float
    start_seconds: float


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run that has been saved.

    Args:
        plan: what the run is, as bytes.
        warm_start: where its chains started.
        snapshot: where it stands.
    """

    plan: bytes
    warm_start: WarmStart
    snapshot: Snapshot


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
        """Record where the chains start.

        Args:
            warm_start: the starting points.
        """

    @abstractmethod
    def record(self, snapshot: Snapshot) -> None:
        """Record the last block of a run, and the state after it.

        Args:
            snapshot: the run so far.
        """

    @abstractmethod
    def where(self) -> str:
        """A sentence that says where the draws are and how to go on; empty if they are nowhere."""
