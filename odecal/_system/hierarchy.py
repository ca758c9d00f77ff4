"""Parameters that vary between groups, as sites and as the values of individuals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from odecal._errors import ObservationError
from odecal._jax.dependence import depends_on
from odecal._jax.keys import keys_by_name
from odecal._system.base import is_prior
from odecal._system.declaration import Declaration, Site
from odecal._system.describe import show_link
from odecal._system.groups import Grouping, Individuals
from odecal._system.random_effects import Quantity, RandomEffects, SiteValues
from odecal._system.reparam import Reparam
from odecal._system.user_code import real, user_code
from odecal._system.values import Values
from odecal._system.varying import Correlation, Pooling, Varying
from odecal.centring import AbstractCentring, NonCentred

# Gives the value of a site, from its name and its distribution given the sites before it.
SampleFn = Callable[[str, dist.Distribution], jax.Array]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The varying parameters of a system, for the groups of an experiment.

    Where not `centred`, all is non-centred. The `centrings`, by parameter, were chosen from the
    data instead of the declared ones.
    """

    declaration: Declaration
    individuals: Individuals
    centred: bool = True
    centrings: Mapping[str, AbstractCentring] = field(default_factory=dict)

    @cached_property
    def random_effects(self) -> list[RandomEffects]:
        """The varying parameters that are sampled together, in the order of declaration."""
        varying, random_effects, done = self.declaration.varying, [], set()
        within = {
            member: (name, c)
            for name, c in self.declaration.of(Correlation).items()
            for member in c.parameters
        }
        for name, parameter in varying.items():
            if name in done:
                continue
            correlation, part = within.get(name, ("", None))
            names = (name,) if part is None else part.parameters
            members = {member: varying[member] for member in names}
            random_effects.append(RandomEffects(members, parameter.variation.group, correlation))
            done |= set(names)
        return random_effects

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Every site: shared ones, hyperparameters, and what is sampled for each group."""
        sites = dict(self.declaration.sites)
        for effects in self.random_effects:
            for name, parameter in effects.members.items():
                sites |= self._hyperparameters(name, parameter)
            if effects.correlation:
                correlation = self.declaration.components[effects.correlation]
                assert isinstance(correlation, Correlation)
                with jax.ensure_compile_time_eval():  # what it computes outlives this trace
                    prior = dist.LKJCholesky(len(effects.members), correlation.concentration)
                    prior = jax.tree.map(np.asarray, prior)
                site = Site(prior, correlation, prior.event_shape)
                sites[f"{effects.correlation}_cholesky"] = site
        for effects in self.random_effects:
            if effects.pooling is not Pooling.COMPLETE:
                shape = self._raw_shape(effects)
                component = next(iter(effects.members.values()))
                prior = component.variation.location if effects.independent else dist.Normal()
                prior = self.declaration.prior(effects.raw, prior, shape)
                sites[effects.raw] = Site(prior, component, shape)
        return sites

    def _hyperparameters(self, name: str, parameter: Varying) -> dict[str, Site]:
        """The sites of the location and the scale of a varying parameter."""
        variation, shape = parameter.variation, self.declaration.shape(name)
        sites = {}
        if is_prior(variation.location) and variation.pooling is not Pooling.NONE:
            prior = self.declaration.prior(f"{name}_location", variation.location, shape)
            sites[f"{name}_location"] = Site(prior, parameter, shape)
        if is_prior(variation.scale) and variation.pooling is Pooling.PARTIAL:
            prior = self.declaration.prior(f"{name}_scale", variation.scale, shape)
            sites[f"{name}_scale"] = Site(prior, parameter, shape)
        return sites

    def _raw_shape(self, effects: RandomEffects) -> tuple[int, ...]:
        groups = len(self.individuals.groups[effects.columns].labels)
        if effects.correlation:
            return (groups, len(effects.members))
        return (groups, *self.declaration.shape(next(iter(effects.members))))

    def sample_sites(self, sample_fn: SampleFn, dtype: Any) -> SiteValues:
        """Sample every site in order, each from its distribution given the ones before.

        `sample_fn` gives the value of a site, as `numpyro.sample` does.
        """
        raws = {effects.raw for effects in self.random_effects}
        values = {
            name: sample_fn(name, _cast(site.prior, dtype))
            for name, site in self.sites.items()
            if name not in raws
        }
        site_values = SiteValues(values, {}, {}, {}, {})
        for effects in self.random_effects:
            self._sample_effects(effects, site_values, sample_fn, dtype)
        return site_values

    def _sample_effects(
        self, effects: RandomEffects, site_values: SiteValues, sample_fn: SampleFn, dtype: Any
    ) -> None:
        """Add what is sampled for the groups, and their values."""
        if effects.independent:
            distribution = _cast(self.sites[effects.raw].prior, dtype)
            site_values.sites[effects.raw] = sample_fn(effects.raw, distribution)
            linked = site_values.sites[effects.raw][..., None]
        else:
            locations = [
                self._location(name, effects, site_values, dtype) for name in effects.members
            ]
            linked = location = jnp.stack(locations, axis=-1)
            if effects.pooling is not Pooling.COMPLETE:
                factor = self._factor(effects, site_values, dtype)
                reparam = self.reparams[effects.raw]
                raw = sample_fn(effects.raw, reparam.distribution(location, factor))
                site_values.sites[effects.raw] = raw
                raw = raw if effects.correlation else raw[..., None]
                linked = reparam.linked(raw, location, factor)
                scale = jnp.linalg.norm(factor, axis=-1) if effects.correlation else factor
                for i, name in enumerate(effects.members):
                    site_values.scales[name] = scale[..., i]
                    site_values.standard[name] = (linked - location)[..., i] / scale[..., i]
        for i, (name, parameter) in enumerate(effects.members.items()):
            site_values.own[name] = parameter.variation.link.inverse(linked[..., i])

    def raw(
        self, effects: RandomEffects, site_values: SiteValues, linked: jax.Array, dtype: Any
    ) -> jax.Array:
        """The value of the site of groups that have given linked values: the way back.

        It needs the values of the sites before it; `linked` is of shape (group, *dims, member).
        """
        if effects.independent:
            return linked[..., 0]
        locations = [self._location(name, effects, site_values, dtype) for name in effects.members]
        factor = self._factor(effects, site_values, dtype)
        reparam = self.reparams[effects.raw]
        raw = reparam.raw(linked, jnp.stack(locations, axis=-1), factor)
        return raw if effects.correlation else raw[..., 0]

    @cached_property
    def reparams(self) -> dict[str, Reparam]:
        """How what is sampled for groups is reparameterised, by the name of its site."""
        return {
            effects.raw: Reparam.of(
                {
                    name: self.centrings.get(name, c.variation.centring)
                    if self.centred
                    else NonCentred()
                    for name, c in effects.members.items()
                },
                self._raw_shape(effects)[:1] + self.declaration.shape(next(iter(effects.members))),
            )
            for effects in self.random_effects
            if effects.pooling is not Pooling.COMPLETE
        }

    def _factor(self, effects: RandomEffects, site_values: SiteValues, dtype: Any) -> jax.Array:
        """The Cholesky factor of the covariance: of shape (*dims, 1), or (K, K)."""
        scales = []
        for name, parameter in effects.members.items():
            scale = parameter.variation.scale
            given = site_values.sites.get(f"{name}_scale", scale)
            shape = self.declaration.shape(name)
            scales.append(jnp.broadcast_to(jnp.asarray(given, dtype), shape))
        scale = jnp.stack(scales, axis=-1)
        if not effects.correlation:
            return scale
        cholesky = site_values.sites[f"{effects.correlation}_cholesky"]
        site_values.correlations[effects.correlation] = cholesky @ cholesky.T
        return scale[:, None] * cholesky

    def _location(
        self, name: str, effects: RandomEffects, site_values: SiteValues, dtype: Any
    ) -> jax.Array:
        """The location of every group, of shape (group, *dims)."""
        variation = effects.members[name].variation
        grouping = self.individuals.groups[effects.columns]
        shape = (len(grouping.labels), *self.declaration.shape(name))
        if not callable(variation.location) or is_prior(variation.location):
            given = site_values.sites.get(f"{name}_location", variation.location)
            return jnp.broadcast_to(jnp.asarray(given, dtype), shape)
        shared, own = self.of_individuals(site_values, dtype)
        first = np.unique(grouping.index, return_index=True)[1]  # one individual of each group

        def location(own: Mapping[str, Any]) -> jax.Array:
            where = f"The location of {self.declaration.name}.{name}"
            with user_code(where):
                value = variation.location(Values({**shared, **own}, "parameter"))
            return real(where, value, shape[1:], dtype)

        of_first = {key: value[first] for key, value in own.items()}
        if not of_first:
            return jnp.broadcast_to(location({}), shape)
        return jax.vmap(location)(of_first)

    def check(self) -> None:
        """Refuse coordinates for other groups, and locations that differ within a group.

        Raises:
            DeclarationError: for weights of a centring that are not one for each group.
            ObservationError: for a location that reads a covariate which differs within a group.
        """
        _ = self.reparams
        for effects in self.random_effects:
            grouping = self.individuals.groups[effects.columns]
            differing = {
                covariate: pair
                for covariate, values in self.individuals.covariates.items()
                if (pair := _differing(values, grouping)) is not None
            }
            for name in effects.members:
                for covariate in self._covariates_read(name, effects) if differing else ():
                    if covariate in differing:
                        self._refuse(name, covariate, grouping, differing[covariate])

    def _covariates_read(self, name: str, effects: RandomEffects) -> list[str]:
        """The covariates that a location depends on, itself or through other parameters."""
        shapes = {n: jax.ShapeDtypeStruct(s.shape, np.float32) for n, s in self.sites.items()}
        known = {n: np.asarray(x, np.float32) for n, x in self.individuals.covariates.items()}

        def location(sites: Mapping[str, Any], covariates: Mapping[str, Any]) -> jax.Array:
            individuals = replace(self.individuals, covariates=covariates)
            other = replace(self, individuals=individuals)
            site_values = other.sample_sites(lambda name, distribution: sites[name], np.float32)
            return other._location(name, effects, site_values, np.float32)

        read = depends_on(location, shapes, known)
        return [covariate for covariate, used in zip(sorted(known), read, strict=True) if used]

    def _refuse(self, name: str, covariate: str, grouping: Grouping, pair: tuple[int, int]) -> None:
        values, labels = self.individuals.covariates[covariate], self.individuals.labels
        first, second = pair
        raise ObservationError(
            f"The location of {self.declaration.name}.{name} uses the covariate `{covariate}`, "
            f"which differs within {grouping.dim} {grouping.labels[grouping.index[first]]}: "
            f"{values[first]:g} of {self.individuals.dim} {labels[first]}, {values[second]:g} of "
            f"{labels[second]}. Expected one value for each {grouping.dim}. Use it in the location "
            "of a parameter that varies over individuals."
        )

    def of_individuals(
        self, site_values: SiteValues, dtype: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What all individuals share, and what each has of its own so far, by name.

        The latter, varying parameters and covariates, has a leading axis of individuals.
        """
        known = self.declaration.known
        shared = {name: jnp.asarray(value, dtype) for name, value in known.items()}
        shared |= {name: site_values.sites[name] for name in self.declaration.sites}
        own = {
            name: jnp.asarray(value, dtype) for name, value in self.individuals.covariates.items()
        }
        for name, value in site_values.own.items():
            columns = self.declaration.varying[name].variation.group
            own[name] = value[self.individuals.groups[columns].index]
        return shared, own

    def renewed(
        self, sites: Mapping[str, jax.Array], key: jax.Array, dtype: Any
    ) -> dict[str, jax.Array]:
        """The values of the sites with other groups, drawn from the same population."""
        keys = keys_by_name(key, [effects.raw for effects in self.random_effects])

        def sample_fn(name: str, distribution: dist.Distribution) -> jax.Array:
            if name not in keys:
                return sites[name]
            return distribution.sample(keys[name]).astype(dtype)

        return self.sample_sites(sample_fn, dtype).sites

    def prior_in_words(self, name: str) -> str:
        """The prior of what is sampled for groups, in words; empty for other sites."""
        for effects in self.random_effects:
            if effects.raw == name and not effects.independent:
                if self.reparams[name].standard:
                    of = (
                        f"the Cholesky factor of {effects.correlation} and scales"
                        if effects.correlation
                        else "the scale"
                    )
                    return f"Normal(0, 1), times {of}: non-centred"
                chosen = ", as chosen" if set(effects.members) & set(self.centrings) else ""
                return f"Normal by the location and the scale: partially centred{chosen}"
        return ""

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """What a posterior reports, by name."""
        sites = self.declaration.sites
        components = {name: site.component for name, site in sites.items()}
        quantities = {n: Quantity(c, c.dims, c.unit, c.description) for n, c in components.items()}
        for name, parameter in self.declaration.varying.items():
            for part in ("location", "scale"):
                if f"{name}_{part}" in self.sites:
                    text = f"{part} of {show_link(parameter)}{name}"
                    quantities[f"{name}_{part}"] = Quantity(parameter, parameter.dims, "", text)
            dim = self.individuals.groups[parameter.variation.group].dim
            dims = (dim, *parameter.dims)
            quantities[name] = Quantity(parameter, dims, parameter.unit, parameter.description)
        for name, c in self.declaration.of(Correlation).items():
            quantities[name] = Quantity(c, (f"{name}_row", f"{name}_column"), "", c.description)
        return quantities

    @cached_property
    def coords(self) -> dict[str, np.ndarray]:
        """The labels of the dimensions of groups and of correlations."""
        varying, groups = self.declaration.varying, self.individuals.groups
        groupings = [groups[c.variation.group] for c in varying.values()]
        coords = {grouping.dim: grouping.labels for grouping in groupings}
        for name, c in self.declaration.of(Correlation).items():
            coords |= {f"{name}_{side}": np.asarray(c.parameters) for side in ("row", "column")}
        return coords

    def reported(self, site_values: SiteValues) -> dict[str, jax.Array]:
        """The values of what a posterior reports, by name, from values of the sites."""
        values = site_values.own | site_values.correlations | site_values.sites
        return {name: values[name] for name in self.quantities}


def _differing(values: np.ndarray, grouping: Grouping) -> tuple[int, int] | None:
    """Two individuals of one group whose values differ; None if there are none."""
    first = np.unique(grouping.index, return_index=True)[1][grouping.index]
    other = np.flatnonzero(values != values[first])
    return (int(first[other[0]]), int(other[0])) if other.size else None


def _cast(prior: dist.Distribution, dtype: Any) -> dist.Distribution:
    """A prior in the floating type to compute in."""

    def cast(x: Any) -> Any:
        # From NumPy: an array of JAX that a program closes over would be one of its arguments.
        known = x if isinstance(x, jax.core.Tracer) else np.asarray(x)
        floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
        return jnp.asarray(known, dtype) if floating else known

    return jax.tree.map(cast, prior)
