"""A system and its observations, compiled into a NumPyro model and a log density."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from odecal._laws import AtTimes
from odecal._observations import Experiment
from odecal._quiet import no_runtime_errors
from odecal._settings import Solve
from odecal._solve import Trajectory, solve_system
from odecal._values import Values

if TYPE_CHECKING:
    from odecal._system import System

# The names of the two facts about a solve that the model records beside its sites.
SOLVER_STEPS = "solver_steps"
SOLVE_FAILED = "solve_failed"


class Prediction(NamedTuple):
    """What a model predicts from one value of every site.

    Args:
        p: parameters, constants and initial values.
        trajectory: the solution at the times of the experiment.
        laws: the distribution of the values of every observable.
        derived: the derived quantities.
    """

    p: Values
    trajectory: Trajectory
    laws: dict[str, dist.Distribution]
    derived: dict[str, jax.Array]


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
    """

    system: "System"
    experiment: Experiment
    solve: Solve

    # Some NumPyro utilities print the name of a model.
    __name__ = "model"

    def __call__(self, predict: bool = False) -> None:
        """Run as a NumPyro model.

        Args:
            predict: whether the observables are drawn rather than conditioned on the data.
        """
        self._warn_of_single_precision()
        values = {name: numpyro.sample(name, prior) for name, prior in self.priors.items()}
        prediction = self.predict(values)
        failed = prediction.trajectory.failed
        numpyro.deterministic(SOLVER_STEPS, prediction.trajectory.num_steps)
        numpyro.deterministic(SOLVE_FAILED, failed.astype(jnp.int32))
        numpyro.factor("solve", jnp.where(failed, -jnp.inf, 0.0))
        for name, law in prediction.laws.items():
            if predict:
                numpyro.sample(name, law)
            else:
                series = self.experiment.series[name]
                numpyro.sample(name, self._masked(name, law), obs=self._data(series.values))
        for name, value in prediction.derived.items():
            numpyro.deterministic(name, value)

    @property
    def dtype(self) -> Any:
        """The floating type in force: the settings', or single where JAX has no double."""
        return jax.dtypes.canonicalize_dtype(self.solve.dtype)

    @contextmanager
    def precision(self) -> Iterator[None]:
        """A context in which programs of this model are made and run.

        In it JAX computes in the precision of the settings, and a solve that fails inside a
        derivative gives −inf rather than an exception.
        """
        with jax.enable_x64(self.solve.dtype == np.float64), no_runtime_errors():
            yield

    @property
    def priors(self) -> dict[str, dist.Distribution]:
        """The prior of every site, in the floating type in force."""
        return {
            name: self._cast(site.prior) for name, site in self.system.declaration.sites.items()
        }

    @cached_property
    def dims(self) -> dict[str, list[str]]:
        """The named dimensions of every site, as ArviZ takes them."""
        declaration = self.system.declaration
        dims = {name: list(site.component.dims) for name, site in declaration.sites.items()}
        dims |= {name: list(c.dims) for name, c in declaration.derived.items()}
        for name, component in declaration.observables.items():
            dims[name] = [self.time_dims[name], *component.dims]
        return dims

    @cached_property
    def coords(self) -> dict[str, np.ndarray]:
        """The labels of every dimension, as ArviZ takes them."""
        coords = {dim: np.asarray(labels) for dim, labels in self.system.coords.items()}
        for name, dim in self.time_dims.items():
            coords[dim] = self.experiment.series[name].times
        return coords

    @cached_property
    def time_dims(self) -> dict[str, str]:
        """The time dimension of every observable: `time` where all share their times."""
        series = list(self.experiment.series.items())
        first = series[0][1].times
        if all(np.array_equal(s.times, first) for _, s in series):
            return {name: "time" for name, _ in series}
        return {name: f"time_{name}" for name, _ in series}

    def predict(self, values: Mapping[str, Any], extra_times: Any = ()) -> Prediction:
        """Solve for one value of every site, and give what would be observed.

        Args:
            values: the value of every parameter and initial value, on its natural scale.
            extra_times: times to keep in the trajectory beside those of the experiment.

        Returns:
            The prediction: the trajectory at all those times, and the laws of the observables at
            the times of the experiment.
        """
        experiment = self.experiment
        p = self.parameters(values)
        ts = np.union1d(experiment.ts, extra_times)
        trajectory = solve_system(self.system, p, experiment.t0, ts, self.solve)
        laws = {
            name: self.law(
                name, p, trajectory, np.searchsorted(ts, s.times), np.searchsorted(ts, s.start)
            )
            for name, s in experiment.series.items()
        }
        derived = {name: d.function(p) for name, d in self.system.declaration.derived.items()}
        return Prediction(p, trajectory, laws, derived)

    def parameters(self, values: Mapping[str, Any]) -> Values:
        """The record `p` from one value of every site."""
        return self.system.declaration.parameters(values, self.dtype)

    def law(
        self,
        name: str,
        p: Values,
        trajectory: Trajectory,
        index: np.ndarray,
        start: np.ndarray | None = None,
    ) -> AtTimes:
        """The distribution of one observable at times of a trajectory.

        Args:
            name: the observable.
            p: parameters, constants and initial values.
            trajectory: a solution.
            index: which of its times it is observed at, of shape (n,).
            start: for an observable over intervals, which of its times each interval began at.

        Returns:
            The distribution of n values.
        """
        t, y = _kept(trajectory, index)
        arguments: tuple[Any, ...] = (t, y, p)
        axes: tuple[int | None, ...] = (0, 0, None)
        observable = self.system.declaration.observables[name]
        if observable.over_interval:
            last_t, last_y = _kept(trajectory, start)
            arguments = (*arguments, Values({"t": last_t, "y": last_y}, "interval value"))
            axes = (*axes, 0)
        return AtTimes(observable.law, arguments, axes, len(index))

    def log_likelihood(self, prediction: Prediction) -> dict[str, jax.Array]:
        """The log density of every observed value.

        Args:
            prediction: from [`predict`][odecal.Model.predict].

        Returns:
            For each observable an array of shape (n, *dims), zero where the value is missing and
            −inf throughout where the solve failed.
        """
        failed = prediction.trajectory.failed
        densities = {}
        for name, law in prediction.laws.items():
            values = self._data(self.experiment.series[name].values)
            density = self._masked(name, law).log_prob(values)
            densities[name] = jnp.where(failed, -jnp.inf, density)
        return densities

    # Unconstrained space.

    @cached_property
    def transforms(self) -> dict[str, Any]:
        """The bijection from unconstrained space to the support of each site's prior."""
        return {
            name: dist.biject_to(site.prior.support)
            for name, site in self.system.declaration.sites.items()
        }

    @property
    def site_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The shape and type of the natural value of every site."""
        sites = self.system.declaration.sites
        return {name: jax.ShapeDtypeStruct(s.shape, self.dtype) for name, s in sites.items()}

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
        return _guarded(position, self._logdensity)

    def logprior_fn(self, position: Mapping[str, Any]) -> jax.Array:
        """The log prior density on unconstrained space, with the log Jacobian determinants.

        Args:
            position: an unconstrained value for every site, by name.

        Returns:
            A scalar. It and the log likelihood make up `logdensity_fn`.
        """
        return self._values_and_logprior(position)[1]

    def sample_prior(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw one value of every site from its prior."""
        keys = jax.random.split(key, len(self.priors))
        return {
            name: prior.sample(k).astype(self.dtype)
            for k, (name, prior) in zip(keys, self.priors.items(), strict=True)
        }

    def init_position(self, key: jax.Array) -> dict[str, jax.Array]:
        """Draw a position in unconstrained space from the prior."""
        return self.unconstrain(self.sample_prior(key))

    # Helpers.

    def _logdensity(self, position: Mapping[str, Any]) -> jax.Array:
        values, density = self._values_and_logprior(position)
        prediction = self.predict(values)
        for term in self.log_likelihood(prediction).values():
            density += jnp.sum(term)
        good = jnp.isfinite(density) & ~prediction.trajectory.failed
        return jnp.where(good, density, -jnp.inf)

    def _values_and_logprior(
        self, position: Mapping[str, Any]
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        values, density = {}, jnp.zeros((), self.dtype)
        for name, prior in self.priors.items():
            transform = self.transforms[name]
            values[name] = transform(position[name])
            density += jnp.sum(prior.log_prob(values[name]))
            density += jnp.sum(transform.log_abs_det_jacobian(position[name], values[name]))
        return values, density

    def _data(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array, self.dtype)

    def _cast(self, prior: dist.Distribution) -> dist.Distribution:
        def cast(x: Any) -> Any:
            floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
            return jnp.asarray(x, self.dtype) if floating else x

        return jax.tree.map(cast, prior)

    def _masked(self, name: str, law: dist.Distribution) -> dist.Distribution:
        series = self.experiment.series[name]
        return law if series.complete else law.mask(jnp.asarray(series.present))

    def _warn_of_single_precision(self) -> None:
        if self.dtype != self.solve.dtype:
            warnings.warn(
                "JAX computes in single precision here, and the model was compiled for double. "
                "Work inside `with model.precision(): ...`, or enable it for the whole process by "
                'jax.config.update("jax_enable_x64", True); or compile with '
                "Solve(dtype=jax.numpy.float32).",
                stacklevel=3,
            )


@eqx.filter_custom_vjp
def _guarded(position: Any, logdensity: Callable[[Any], jax.Array]) -> jax.Array:
    """A log density whose gradient is zero, and not NaN, where it is −inf."""
    return logdensity(position)


@_guarded.def_fwd
def _guarded_fwd(
    perturbed: Any, position: Any, logdensity: Callable[[Any], jax.Array]
) -> tuple[jax.Array, Any]:
    moving, fixed = eqx.partition(position, perturbed)
    density, reverse = eqx.filter_vjp(lambda moving: logdensity(eqx.combine(moving, fixed)), moving)
    return density, (reverse, jnp.isfinite(density))


@_guarded.def_bwd
def _guarded_bwd(
    kept: Any, cotangent: Any, perturbed: Any, position: Any, logdensity: Callable[[Any], jax.Array]
) -> Any:
    del perturbed, position, logdensity
    reverse, well = kept
    (gradient,) = reverse(cotangent)
    return jax.tree.map(lambda g: jnp.where(well | jnp.isfinite(g), g, 0.0), gradient)


def _kept(trajectory: Trajectory, index: Any) -> tuple[jax.Array, Values]:
    """Times and states of a trajectory at some of its times, mostly at all."""
    if np.array_equal(index, np.arange(len(trajectory.ts))):
        return trajectory.ts, trajectory.y
    return trajectory.ts[index], jax.tree.map(lambda x: x[index], trajectory.y)
