"""A system and its observations, compiled into a NumPyro model and a log density."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from odecal._data.experiment import Experiment, SaveTimes, save_times_of
from odecal._jax.keys import keys_by_name
from odecal._jax.runtime_errors import no_runtime_errors
from odecal._jax.safe_gradient import safe_gradient
from odecal._model.describe import describe
from odecal._model.dims import coords_of, dims_of, time_dims_of
from odecal._model.forward import Forward, Prediction
from odecal._model.individuals import (
    IndividualParameters,
    derived_values,
    individual_parameters,
    own_derived,
)
from odecal._solve.forcing import Forcing
from odecal._system.declaration import Declaration, Site
from odecal._system.hierarchy import Hierarchy
from odecal._system.random_effects import SiteValues
from odecal._system.solve import Solve
from odecal._system.system import System
from odecal._system.values import Values
from odecal.centring import AbstractCentring

# The names of the two facts about a solve that the model records beside its sites.
SOLVER_STEPS = "solver_steps"
SOLVE_FAILED = "solve_failed"


@dataclass(frozen=True, eq=False)
class Model:
    """A compiled calibration problem. Called with no argument, it is a NumPyro model.

    Its sites are the parameters, the initial values (`hare0`), the observables (observed), and,
    deterministic, the derived quantities, `solver_steps` and `solve_failed`; and a factor, `solve`,
    by which a draw whose solve fails has log density −inf.

        MCMC(NUTS(model), ...).run(key)
        Predictive(model, samples)(key, predict=True)

    For double precision, work inside `with model.precision(): ...`.

    Args:
        system: the system.
        experiment: the observations.
        solve: the settings of a solve.
        centrings: of varying parameters, where they were chosen from the data.
    """

    system: System
    experiment: Experiment
    solve: Solve
    centrings: Mapping[str, AbstractCentring] = field(default_factory=dict)

    # Some NumPyro utilities print the name of a model.
    __name__ = "model"

    def __repr__(self) -> str:
        return describe(self.experiment, self.hierarchy, self.transforms)

    def __call__(self, predict: bool = False) -> None:
        """Run as a NumPyro model.

        Args:
            predict: whether the observables are drawn rather than conditioned on the data.
        """
        self._warn_of_single_precision()
        site_values = self.hierarchy.sample_sites(numpyro.sample, self.dtype)
        prediction = self._predict(site_values, self.experiment.save_times)
        failed = jnp.any(prediction.trajectory.failed)
        for name, value in {**site_values.own, **site_values.correlations}.items():
            numpyro.deterministic(name, value)
        numpyro.deterministic(SOLVER_STEPS, jnp.sum(prediction.trajectory.num_steps))
        numpyro.deterministic(SOLVE_FAILED, failed.astype(jnp.int32))
        numpyro.factor("solve", jnp.where(failed, -jnp.inf, 0.0))
        for name, distribution in prediction.laws.items():
            if predict:
                numpyro.sample(name, distribution)
            else:
                series = self.experiment.series[name]
                numpyro.sample(
                    name, self._masked(name, distribution), obs=self._data(series.values)
                )
        for name, value in prediction.derived.items():
            numpyro.deterministic(name, value)

    @property
    def declaration(self) -> Declaration:
        """The system with everything resolved."""
        return self.system.declaration

    @property
    def dtype(self) -> Any:
        """The floating type in force: the settings', or single where JAX has no double."""
        return self.forward.dtype

    @contextmanager
    def precision(self) -> Iterator[None]:
        """A context in which programs of this model are made and run.

        In it JAX computes in the precision of the settings, and a solve that fails inside a
        derivative gives −inf rather than an exception.
        """
        with jax.enable_x64(self.solve.dtype == np.float64), no_runtime_errors():
            yield

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The varying parameters, for the groups that were observed."""
        who = self.experiment.individuals
        return Hierarchy(self.declaration, who, centrings=self.centrings)

    @cached_property
    def forward(self) -> Forward:
        """From the parameters of every individual to the distributions of the observables."""
        return Forward(self.declaration, self.experiment, self.solve)

    @property
    def forcing(self) -> Forcing:
        """How doses and inputs act."""
        return self.forward.forcing

    @property
    def sites(self) -> dict[str, Site]:
        """What is sampled, by name."""
        return self.hierarchy.sites

    @cached_property
    def dims(self) -> dict[str, list[str]]:
        """The named dimensions of every quantity, as ArviZ takes them."""
        return dims_of(self.hierarchy, self.time_dims, self._own_derived)

    @cached_property
    def coords(self) -> dict[str, np.ndarray]:
        """The labels of every dimension, as ArviZ takes them."""
        return coords_of(self.hierarchy, self.experiment, self.time_dims)

    @cached_property
    def time_dims(self) -> dict[str, str]:
        """The dimension of the values of every observable.

        Of one individual it is the time, of many the number of the value: `time` or `observation`
        where all observables were measured together, and one of its own for each where not.
        """
        return time_dims_of(self.experiment)

    def predict(self, values: Mapping[str, Any], extra_times: Any = ()) -> Prediction:
        """Solve for one value of every site, and give what would be observed.

        Args:
            values: the value of every site, on its natural scale.
            extra_times: times to keep in the trajectory beside those of the experiment.

        Returns:
            The prediction: the trajectory at all those times, and the distributions of the
            observables at the times of the experiment.
        """
        extra = np.asarray(extra_times, float).ravel()
        save_times = (
            save_times_of(self.experiment, extra) if extra.size else self.experiment.save_times
        )
        return self.predict_at(values, save_times)

    def predict_at(self, values: Mapping[str, Any], save_times: SaveTimes | None) -> Prediction:
        """The same, at times that have been looked up before; None for those of the experiment."""
        return self._predict(self.site_values(values), save_times or self.experiment.save_times)

    def site_values(self, values: Mapping[str, Any]) -> SiteValues:
        """The values of groups that follow from one value of every site."""
        return self.hierarchy.sample_sites(
            lambda name, _: jnp.asarray(values[name], self.dtype), self.dtype
        )

    def individual_parameters(self, site_values: SiteValues) -> IndividualParameters:
        """The record `p` of every individual."""
        shared, own = self.hierarchy.of_individuals(site_values, self.dtype)
        return individual_parameters(self.declaration, shared, own, self.dtype)

    def parameters(self, values: Mapping[str, Any]) -> Values:
        """The record `p` from one value of every site."""
        return self.individual_parameters(self.site_values(values)).p

    def distribution_at_start(self, name: str, values: Mapping[str, Any]) -> dist.Distribution:
        """That of one value of an observable, at the initial time of the first individual."""
        return self.forward.distribution_at_start(
            name, self.individual_parameters(self.site_values(values))
        )

    def log_likelihood(self, prediction: Prediction) -> dict[str, jax.Array]:
        """The log density of every observed value.

        Args:
            prediction: from [`predict`][odecal.Model.predict].

        Returns:
            For each observable an array of shape (n, *dims), zero where the value is missing and
            −inf throughout where the solve failed.
        """
        failed = jnp.any(prediction.trajectory.failed)
        densities = {}
        for name, distribution in prediction.laws.items():
            values = self._data(self.experiment.series[name].values)
            density = self._masked(name, distribution).log_prob(values)
            densities[name] = jnp.where(failed, -jnp.inf, density)
        return densities

    # Unconstrained space.

    @cached_property
    def transforms(self) -> dict[str, Any]:
        """The bijection from unconstrained space to the support of each site's prior."""
        return {name: dist.biject_to(site.prior.support) for name, site in self.sites.items()}

    @property
    def site_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shape and type of the natural value of every site."""
        return {n: jax.ShapeDtypeStruct(s.shape, self.dtype) for n, s in self.sites.items()}

    def constrain(self, position: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Map a position in unconstrained space to natural values of the sites."""
        return {name: self.transforms[name](position[name]) for name in self.transforms}

    def unconstrain(self, values: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Map natural values of the sites to a position in unconstrained space."""
        return {
            name: self.transforms[name].inv(jnp.asarray(values[name], self.dtype))
            for name in self.transforms
        }

    def logdensity_fn(self, position: Mapping[str, Any]) -> jax.Array:
        """The log posterior density on unconstrained space, up to a constant.

        It is the log joint density of NumPyro's trace of this model, with the log Jacobian
        determinants of the bijections.

        Args:
            position: an unconstrained value for every site, by name.

        Returns:
            A scalar. Where the solve fails, or the density is not a number, it is −inf with a
            zero gradient. Where it is finite and its gradient NaN, the adjoint could not find it.
        """
        self._warn_of_single_precision()
        position = {name: jnp.asarray(x) for name, x in position.items()}
        if self.solve.forward_mode:
            return self._logdensity(position)
        return safe_gradient(position, lambda x: (self._logdensity(x), None))[0]

    def logprior_fn(self, position: Mapping[str, Any]) -> jax.Array:
        """The log prior density on unconstrained space, with the log Jacobian determinants.

        Args:
            position: an unconstrained value for every site, by name.

        Returns:
            A scalar. It and the log likelihood make up `logdensity_fn`.
        """
        return self._site_values_and_logprior(position)[1]

    def sample_prior(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw one value of every site from its prior."""
        keys = keys_by_name(key, self.sites)

        def draw(name: str, distribution: dist.Distribution) -> jax.Array:
            return distribution.sample(keys[name]).astype(self.dtype)

        return self.hierarchy.sample_sites(draw, self.dtype).sites

    def init_position(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw a position in unconstrained space from the prior."""
        return self.unconstrain(self.sample_prior(key))

    # Helpers.

    @cached_property
    def _own_derived(self) -> frozenset[str]:
        """The derived quantities that differ between individuals."""
        if not self.experiment.individuals.dim:
            return frozenset()
        return own_derived(
            self.declaration,
            lambda values: self.individual_parameters(self.site_values(values)),
            self.site_shapes,
        )

    def _predict(self, site_values: SiteValues, save_times: SaveTimes) -> Prediction:
        parameters = self.individual_parameters(site_values)
        trajectory = self.forward.solve(parameters, save_times)
        laws = self.forward.distributions(parameters, trajectory, save_times)
        derived = derived_values(self.declaration, parameters, self._own_derived)
        return Prediction(parameters.p, site_values, parameters, trajectory, laws, derived)

    def _logdensity(self, position: Mapping[str, Any]) -> jax.Array:
        site_values, density = self._site_values_and_logprior(position)
        prediction = self._predict(site_values, self.experiment.save_times)
        for term in self.log_likelihood(prediction).values():
            density += jnp.sum(term)
        good = jnp.isfinite(density) & ~jnp.any(prediction.trajectory.failed)
        return jnp.where(good, density, -jnp.inf)

    def _site_values_and_logprior(
        self, position: Mapping[str, Any]
    ) -> tuple[SiteValues, jax.Array]:
        terms = [jnp.zeros((), self.dtype)]

        def sample_fn(name: str, distribution: dist.Distribution) -> jax.Array:
            transform = self.transforms[name]
            value = transform(position[name])
            terms.append(jnp.sum(distribution.log_prob(value)))
            terms.append(jnp.sum(transform.log_abs_det_jacobian(position[name], value)))
            return value

        site_values = self.hierarchy.sample_sites(sample_fn, self.dtype)
        return site_values, sum(terms[1:], terms[0])

    def _data(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array, self.dtype)

    def _masked(self, name: str, distribution: dist.Distribution) -> dist.Distribution:
        series = self.experiment.series[name]
        return distribution if series.complete else distribution.mask(jnp.asarray(series.present))

    def _warn_of_single_precision(self) -> None:
        if self.dtype != self.solve.dtype:
            warnings.warn(
                "JAX computes in single precision here, and the model was compiled for double. "
                "Work inside `with model.precision(): ...`, or enable it for the whole process by "
                'jax.config.update("jax_enable_x64", True); or compile with '
                "Solve(dtype=jax.numpy.float32).",
                stacklevel=3,
            )
