"""A declared system with everything resolved: all that the rooms above read of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from odecal._errors import DeclarationError, listed
from odecal._system.align import aligned
from odecal._system.base import Component, is_number, is_prior
from odecal._system.components import Constant, Derived, Observable, Parameter, State
from odecal._system.inputs import Event, Input
from odecal._system.user_code import real, user_code
from odecal._system.values import Values
from odecal._system.varying import Covariate, Varying


@dataclass(frozen=True, eq=False)
class Site:
    """One sampled quantity, a parameter or an initial value, and the part that declares it."""

    prior: dist.Distribution
    component: Component
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Declaration:
    """One system: its vector field and its parts, with the overrides of its instance applied."""

    name: str
    components: Mapping[str, Component]
    coords: Mapping[str, np.ndarray]
    vector_field: Callable[[Any, Values, Values], Mapping[str, Any]]
    t0: float | None = None  # None for the first time of the observations
    time_unit: str = ""
    time_column: str | None = None
    ignored_columns: str | Sequence[str] = ()
    individual: str | Sequence[str] | None = None

    def of(self, kind: type[Component]) -> dict[str, Any]:
        """The parts of one kind, by name."""
        return {name: c for name, c in self.components.items() if isinstance(c, kind)}

    @cached_property
    def states(self) -> dict[str, State]:
        """The states."""
        return self.of(State)

    @cached_property
    def observables(self) -> dict[str, Observable]:
        """The observables."""
        return self.of(Observable)

    @cached_property
    def derived(self) -> dict[str, Derived]:
        """The derived quantities."""
        return self.of(Derived)

    @cached_property
    def covariates(self) -> dict[str, Covariate]:
        """What is known of each individual."""
        return self.of(Covariate)

    @cached_property
    def inputs(self) -> dict[str, Input]:
        """What drives the system in time."""
        return self.of(Input)

    @cached_property
    def events(self) -> dict[str, Event]:
        """The changes of the state where a condition falls below zero."""
        return self.of(Event)

    @cached_property
    def varying(self) -> dict[str, Varying]:
        """What varies between groups, by name: parameters, then initial values."""
        initials = {
            initial_name(name): state.initial.within(state)
            for name, state in self.states.items()
            if isinstance(state.initial, Varying)
        }
        return self.of(Varying) | initials

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a part, from the lengths of its dims.

        Raises:
            DeclarationError: if the system has no labels for one of its dims.
        """
        component = self.varying.get(name) or self.components[name]
        for dim in component.dims:
            if dim not in self.coords:
                raise DeclarationError(
                    f"{self.name}.{name} has the dim `{dim}`, which has no labels. Expected "
                    f"coords for it; the system has coords for: {listed(self.coords)}. "
                    f'Add coords = {{"{dim}": [...]}} to the class, or give '
                    f"{self.name}(coords={{...}})."
                )
        return tuple(len(self.coords[dim]) for dim in component.dims)

    @cached_property
    def sites(self) -> dict[str, Site]:
        """What all individuals share, by the name of its site: parameters, then initial values."""
        sites = {
            name: Site(self.prior(name, c.prior, self.shape(name)), c, self.shape(name))
            for name, c in self.of(Parameter).items()
        }
        for name, state in self.states.items():
            if is_prior(state.initial):
                prior = self.prior(name, state.initial, self.shape(name))
                sites[initial_name(name)] = Site(prior, state, self.shape(name))
        return sites

    @cached_property
    def known(self) -> dict[str, np.ndarray]:
        """What is known, by name: constants, and initial values given as numbers."""
        known = {name: self._array(name, c.value) for name, c in self.of(Constant).items()}
        for name, state in self.states.items():
            if is_number(state.initial):
                known[initial_name(name)] = self._array(name, state.initial)
        return known

    @cached_property
    def computed_initials(self) -> dict[str, Any]:
        """The functions that give initial values, by the name of the state."""
        return {
            name: state.initial
            for name, state in self.states.items()
            if callable(state.initial) and not is_prior(state.initial)
        }

    def parameters(self, values: Mapping[str, Any], dtype: Any) -> Values:
        """The record `p` of one individual: constants, parameters and initial values (`hare0`).

        From the value of every site, of every varying parameter and of every covariate, by name.
        """
        named = {name: jnp.asarray(value, dtype) for name, value in self.known.items()}
        given = [*self.sites, *self.varying, *self.covariates]
        named |= {name: jnp.asarray(values[name], dtype) for name in given}
        for name, initial in self.computed_initials.items():
            where = f"The initial value of {self.name}.{name}"
            with user_code(where):
                value = initial(Values(named, "parameter"))
            named[initial_name(name)] = real(where, value, self.shape(name), dtype)
        return Values(named, "parameter")

    def initial_state(self, p: Values) -> Values:
        """The record `y` at the initial time."""
        return Values({name: p[initial_name(name)] for name in self.states}, "state")

    def _array(self, name: str, value: Any) -> np.ndarray:
        shape = self.shape(name)
        given = aligned(f"{self.name}.{name}", value, self.components[name].dims, self.coords)
        array = np.asarray(given, dtype=float)
        if given.dtype.kind in "iu" and (array.astype(object) != given.astype(object)).any():
            raise DeclarationError(
                f"The value of {self.name}.{name} is no number in double precision: from 2^53 on "
                f"whole numbers are rounded. Expected one that is. Got {given!s}. Give a float."
            )
        if array.shape not in ((), shape):
            raise DeclarationError(
                f"The value of {self.name}.{name} has the wrong shape. Expected {shape} "
                f"({_dims(self.components[name])}), or one number. Got {array.shape}."
            )
        return np.broadcast_to(array, shape)

    def prior(
        self, name: str, prior: dist.Distribution, shape: tuple[int, ...]
    ) -> dist.Distribution:
        """A prior, spread over the shape of its site; `name` is for messages.

        Raises:
            DeclarationError: if it is discrete, a single point, or of another shape.
        """
        if getattr(prior.support, "is_discrete", False):
            raise DeclarationError(
                f"The prior of {self.name}.{name} is discrete ({type(prior).__name__}). Expected a "
                "continuous one, since gradients are taken. Sum over the discrete values in the "
                "observable, or use a continuous relaxation."
            )
        if _is_point(prior):
            raise DeclarationError(
                f"The prior of {self.name}.{name} is a single point ({type(prior).__name__}). "
                "Expected a distribution to draw from. For a known value use Constant(value)."
            )
        if prior.shape() == shape:
            return prior
        fits = not prior.event_shape and _broadcasts(prior.batch_shape, shape)
        if not fits:
            part = self.components.get(name)
            dims = f" ({_dims(part)})" if part is not None else ""
            raise DeclarationError(
                f"The prior of {self.name}.{name} has the wrong shape. Expected {shape}"
                f"{dims}, or a scalar prior. Got {prior.shape()}."
            )
        return prior.expand(shape)


def initial_name(state: str) -> str:
    """The name of the initial value of a state: `hare0`, or `x1_0` after a digit."""
    return f"{state}_0" if state[-1].isdigit() else f"{state}0"


def _is_point(prior: dist.Distribution) -> bool:
    """Whether a prior has no spread, beneath whatever reshapes it."""
    while hasattr(prior, "base_dist"):
        prior = prior.base_dist
    return isinstance(prior, dist.Delta)


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _dims(component: Component) -> str:
    return f"dims {listed(component.dims)}" if component.dims else "no dims"
