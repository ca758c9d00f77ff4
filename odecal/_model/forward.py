"""From the parameters of every individual to the distributions of the observables."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int

from odecal._data.experiment import Experiment, SaveTimes
from odecal._jax.keys import keys_by_name
from odecal._model.individuals import IndividualParameters, solve_each
from odecal._model.likelihood import ObservationDistribution
from odecal._solve.forcing import Forcing
from odecal._solve.forcing_data import ForcingData, arrays_of, flags_of
from odecal._solve.trajectory import Trajectory, solve
from odecal._system.declaration import Declaration
from odecal._system.random_effects import SiteValues
from odecal._system.solve import Solve
from odecal._system.values import Values


class SaveIndex(NamedTuple):
    """Where in the trajectories values are: whose, and at which of the times that were kept."""

    individual: Int[np.ndarray, " value"]
    time: Int[np.ndarray, " value"]


class Prediction(NamedTuple):
    """What a model predicts from one value of every site.

    Args:
        p: parameters, constants and initial values; of many individuals, what each has of its own
            has a leading axis of individuals.
        site_values: the value of every site, and of the groups.
        parameters: `p`, and which of it is own.
        trajectory: the solution at the times of the experiment, likewise with a leading axis of
            many individuals.
        laws: the distribution of the values of every observable.
        derived: the derived quantities.
    """

    p: Values
    site_values: SiteValues
    parameters: IndividualParameters
    trajectory: Trajectory
    laws: dict[str, dist.Distribution]
    derived: dict[str, jax.Array]

    def sample(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw the values of every observable."""
        keys = keys_by_name(key, self.laws)
        return {name: law.sample(keys[name]) for name, law in self.laws.items()}


@dataclass(frozen=True)
class _WithInputs:
    """The noise of an observable that sees the inputs at its time."""

    noise: Callable[..., dist.Distribution]
    forcing: Forcing

    def __call__(self, inputs: Any, t: Any, y: Values, p: Values, *last: Any) -> dist.Distribution:
        """The distribution, with the inputs among the parameters."""
        return self.noise(
            t, y, self.forcing.parameters_at(t, p, ForcingData({}, inputs, None)), *last
        )


@dataclass(frozen=True, eq=False)
class Forward:
    """The way from the parameters of every individual to the distributions of the observables."""

    declaration: Declaration
    experiment: Experiment
    settings: Solve

    @property
    def dtype(self) -> Any:
        """The floating type in force: the settings', or single where JAX has no double."""
        return jax.dtypes.canonicalize_dtype(self.settings.dtype)

    @cached_property
    def forcing(self) -> Forcing:
        """How doses and inputs act."""
        experiment = self.experiment
        span = float(np.max(experiment.save_times.ts) - np.min(experiment.t0))
        declaration = self.declaration
        return Forcing(declaration, flags_of(experiment.doses, span, declaration), span)

    @cached_property
    def forcing_data(self) -> ForcingData:
        """Doses and inputs, with a leading axis of individuals."""
        declaration, flags = self.declaration, self.forcing.flags
        settings = self.settings
        dtype = np.dtype(settings.dtype)
        return arrays_of(self.experiment, declaration, flags, settings.rtol, dtype)

    @cached_property
    def order(self) -> Int[np.ndarray, " individual"]:
        """The individuals by how much there is to do for each, which is shared out in this order.

        Those that step together wait for the last of them. At a dose a solve begins anew with short
        steps; between doses it is the time that counts.
        """
        count, save_times = len(self.experiment.individuals), self.experiment.save_times
        doses = self.experiment.doses
        dosed = np.zeros(count) if doses is None else np.bincount(doses.individual, minlength=count)
        return np.lexsort([save_times.ts[:, -1] - self.experiment.t0, dosed])

    @property
    def _many(self) -> bool:
        """Whether trajectories have a leading axis of individuals."""
        return bool(self.experiment.individuals.dim)

    def solve(self, parameters: IndividualParameters, save_times: SaveTimes) -> Trajectory:
        """Solve for every individual, for one that needs no name without a leading axis."""
        forcing_data = self.forcing_data._replace(after_dose=save_times.after_dose)
        when = jax.tree.map(
            lambda x: np.asarray(x, np.dtype(self.dtype)), (self.experiment.t0, save_times.ts)
        )
        way = (self.settings, self.forcing)
        if self._many:
            return solve_each(self.declaration, parameters, when, forcing_data, self.order, *way)
        t0, ts, forcing_data = jax.tree.map(lambda x: jnp.asarray(x[0]), (*when, forcing_data))
        return solve(self.declaration, parameters.p, t0, ts, *way, forcing_data)

    def distributions(
        self, parameters: IndividualParameters, trajectory: Trajectory, save_times: SaveTimes
    ) -> dict[str, dist.Distribution]:
        """The distribution of the values of every observable that was measured."""
        return {
            name: self.distribution(
                name,
                parameters,
                trajectory,
                SaveIndex(s.individual, save_times.index[name]),
                SaveIndex(s.individual, save_times.start[name]),
                s.upper,
            )
            for name, s in self.experiment.series.items()
        }

    def distribution(
        self,
        name: str,
        parameters: IndividualParameters,
        trajectory: Trajectory,
        index: SaveIndex,
        start: SaveIndex | None = None,
        upper: np.ndarray | None = None,
    ) -> ObservationDistribution:
        """The distribution of one observable at n places of the trajectories.

        For an observable over intervals, `start` is where each began; `upper` is the upper bound of
        values, where some are censored.
        """
        observable = self.declaration.observables[name]
        noise = observable.law
        t, y = self._at(trajectory, index)
        p = parameters.rows(index.individual) if parameters.own else parameters.p
        arguments: tuple[Any, ...] = (t, y, p)
        in_axes: tuple[Any, ...] = (0, 0, parameters.axes if parameters.own else None)
        if observable.over_interval:
            assert start is not None
            last_t, last_y = self._at(trajectory, start)
            arguments = (*arguments, Values({"t": last_t, "y": last_y}, "interval value"))
            in_axes = (*in_axes, 0)
        if self.declaration.inputs:
            noise = _WithInputs(noise, self.forcing)
            arguments = (self._inputs_of(index), *arguments)
            in_axes = (0 if self._many else None, *in_axes)
        return ObservationDistribution(noise, arguments, in_axes, len(index.time), upper)

    def distribution_at_start(
        self, name: str, parameters: IndividualParameters
    ) -> dist.Distribution:
        """That of one value of an observable, at the initial time of the first individual."""
        first = SaveIndex(np.zeros(1, int), np.zeros(1, int))
        p = parameters.rows(np.zeros((), int))
        y = jax.tree.map(lambda x: x[None], self.declaration.initial_state(p))
        t0 = jnp.asarray(self.experiment.t0[:1], self.dtype)
        start = Trajectory(t0, y, jnp.zeros(()), jnp.zeros((), bool))
        if self._many:
            start = jax.tree.map(lambda x: x[None], start)
        return self.distribution(name, parameters, start, first, first).at_first()

    def _at(
        self, trajectory: Trajectory, index: SaveIndex
    ) -> tuple[Float[Array, " value"], Values]:
        """Times and states of trajectories at some places."""
        if self._many:
            where = (index.individual, index.time)
            return trajectory.ts[where], jax.tree.map(lambda x: x[where], trajectory.y)
        if np.array_equal(index.time, np.arange(len(trajectory.ts))):
            return trajectory.ts, trajectory.y
        return trajectory.ts[index.time], jax.tree.map(lambda x: x[index.time], trajectory.y)

    def _inputs_of(self, index: SaveIndex) -> Any:
        """The inputs of whoever is at some places; of a single experiment, those of all places."""
        whose = index.individual if self._many else 0
        return jax.tree.map(lambda x: jnp.asarray(x)[whose], self.forcing_data.inputs)
