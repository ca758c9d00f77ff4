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
from odecal._system.base import _is_prior
from odecal._system.declaration import Declaration, Site
from odecal._system.groups import Grouping, Individuals
from odecal._system.random_effects import Quantity, RandomEffects, SiteValues
from odecal._system.reparam import Reparam
from odecal._system.user_code import real, user_code
from odecal._system.values import Values
from odecal._system.varying import Correlation, Pooling, Varying
from odecal.centring import AbstractCentring, NonCentred

# What becomes of a site: its value, from its name and its law given what came before.
Visit = Callable[[str, dist.Distribution], jax.Array]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """The varying parameters of a system, for the groups of an experiment.

    Args:
        declaration: the system.
        individuals: who was observed.
        centred: whether centrings are followed; if not, all is non-centred.
        centrings: those that were chosen from the data, by parameter, instead of the declared ones.
    """

    declaration: Declaration
    individuals: Individuals
    centred: bool = True
    centrings: Mapping[str, AbstractCentring] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> list[RandomEffects]:
        """What is sampled together, in the order of declaration."""
        varying, blocks, done = self.declaration.varying, [], set()
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
            blocks.append(RandomEffects(members, parameter.variation.group, correlation))
            done |= set(names)
        return blocks

    @cached_property
    def sites(self) -> dict[str, Site]:
        """Every site: shared ones, hyperparameters, and what is sampled for each group."""
        sites = dict(self.declaration.sites)
        for block in self.blocks:
            for name, parameter in block.members.items():
                sites |= self._hyperparameters(name, parameter)
            if block.correlation:
                correlation = self.declaration.components[block.correlation]
                assert isinstance(correlation, Correlation)
                with jax.ensure_compile_time_eval():  # what it computes outlives this trace
                    prior = dist.LKJCholesky(len(block.members), correlation.concentration)
                    prior = jax.tree.map(np.asarray, prior)
                site = Site(prior, correlation, prior.event_shape)
                sites[f"{block.correlation}_cholesky"] = site
        for block in self.blocks:
            if block.pooling is not Pooling.COMPLETE:
                shape = self._raw_shape(block)
                component = next(iter(block.members.values()))
                prior = component.variation.location if block.independent else dist.Normal()
                prior = self.declaration.prior(block.raw, prior, shape)
                sites[block.raw] = Site(prior, component, shape)
        return sites

    def _hyperparameters(self, name: str, parameter: Varying) -> dict[str, Site]:
        """The sites of the location and the scale of a varying parameter."""
        variation, shape = parameter.variation, self.declaration.shape(name)
        found = {}
        if _is_prior(variation.location) and variation.pooling is not Pooling.NONE:
            prior = self.declaration.prior(f"{name}_location", variation.location, shape)
            found[f"{name}_location"] = Site(prior, parameter, shape)
        if _is_prior(variation.scale) and variation.pooling is Pooling.PARTIAL:
            prior = self.declaration.prior(f"{name}_scale", variation.scale, shape)
            found[f"{name}_scale"] = Site(prior, parameter, shape)
        return found

    def _raw_shape(self, block: RandomEffects) -> tuple[int, ...]:
        groups = len(self.individuals.groups[block.columns].labels)
        if block.correlation:
            return (groups, len(block.members))
        return (groups, *self.declaration.shape(next(iter(block.members))))

    def unfold(self, visit: Visit, dtype: Any) -> SiteValues:
        """Visit every site in order, each with its law given the ones before.

        Args:
            visit: gives the value of a site.
            dtype: the floating type to compute in.

        Returns:
            The values of the sites, and of the groups.
        """
        raws = {block.raw for block in self.blocks}
        values = {
            name: visit(name, _cast(site.prior, dtype))
            for name, site in self.sites.items()
            if name not in raws
        }
        found = SiteValues(values, {}, {}, {}, {})
        for block in self.blocks:
            self._unfold_block(block, found, visit, dtype)
        return found

    def _unfold_block(
        self, block: RandomEffects, found: SiteValues, visit: Visit, dtype: Any
    ) -> None:
        """Add what is sampled for the groups of a block, and their values."""
        if block.independent:
            law = _cast(self.sites[block.raw].prior, dtype)
            found.sites[block.raw] = visit(block.raw, law)
            linked = found.sites[block.raw][..., None]
        else:
            locations = [self._location(name, block, found, dtype) for name in block.members]
            linked = location = jnp.stack(locations, axis=-1)
            if block.pooling is not Pooling.COMPLETE:
                factor = self._factor(block, found, dtype)
                coordinates = self.coordinates[block.raw]
                raw = visit(block.raw, coordinates.law(location, factor))
                found.sites[block.raw] = raw
                raw = raw if block.correlation else raw[..., None]
                linked = coordinates.linked(raw, location, factor)
                self._standardise(block, found, linked - location, factor)
        for i, (name, parameter) in enumerate(block.members.items()):
            found.own[name] = parameter.variation.link.inverse(linked[..., i])

    def raw(
        self, block: RandomEffects, found: SiteValues, linked: jax.Array, dtype: Any
    ) -> jax.Array:
        """The value of the site of a block whose groups have given values: the way back.

        Args:
            block: the block.
            found: the values of the sites, and of the groups of blocks before it.
            linked: the linked values, of shape (group, *dims, member).
            dtype: the floating type to compute in.
        """
        if block.independent:
            return linked[..., 0]
        locations = [self._location(name, block, found, dtype) for name in block.members]
        factor = self._factor(block, found, dtype)
        coordinates = self.coordinates[block.raw]
        raw = coordinates.raw(linked, jnp.stack(locations, axis=-1), factor)
        return raw if block.correlation else raw[..., 0]

    def _standardise(
        self, block: RandomEffects, found: SiteValues, away: jax.Array, factor: jax.Array
    ) -> None:
        """Note how far groups are from their location, in scales."""
        scale = jnp.linalg.norm(factor, axis=-1) if block.correlation else factor
        for i, name in enumerate(block.members):
            found.scales[name] = scale[..., i]
            found.standard[name] = away[..., i] / scale[..., i]

    @cached_property
    def coordinates(self) -> dict[str, Reparam]:
        """Those of every block that has any, by the name of its site."""
        return {
            block.raw: Reparam.of(
                {
                    name: self.centrings.get(name, c.variation.centring)
                    if self.centred
                    else NonCentred()
                    for name, c in block.members.items()
                },
                self._raw_shape(block)[:1] + self.declaration.shape(next(iter(block.members))),
            )
            for block in self.blocks
            if block.pooling is not Pooling.COMPLETE
        }

    def _factor(self, block: RandomEffects, found: SiteValues, dtype: Any) -> jax.Array:
        """The Cholesky factor of the covariance of a block: of shape (*dims, 1), or (K, K)."""
        scales = []
        for name, parameter in block.members.items():
            scale = parameter.variation.scale
            given = found.sites.get(f"{name}_scale", scale)
            shape = self.declaration.shape(name)
            scales.append(jnp.broadcast_to(jnp.asarray(given, dtype), shape))
        scale = jnp.stack(scales, axis=-1)
        if not block.correlation:
            return scale
        cholesky = found.sites[f"{block.correlation}_cholesky"]
        found.correlations[block.correlation] = cholesky @ cholesky.T
        return scale[:, None] * cholesky

    def _location(
        self, name: str, block: RandomEffects, found: SiteValues, dtype: Any
    ) -> jax.Array:
        """The location of every group, of shape (group, *dims)."""
        variation = block.members[name].variation
        grouping = self.individuals.groups[block.columns]
        shape = (len(grouping.labels), *self.declaration.shape(name))
        if not callable(variation.location) or _is_prior(variation.location):
            given = found.sites.get(f"{name}_location", variation.location)
            return jnp.broadcast_to(jnp.asarray(given, dtype), shape)
        shared, own = self.of_individuals(found, dtype)
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
        _ = self.coordinates
        for block in self.blocks:
            grouping = self.individuals.groups[block.columns]
            differing = {
                covariate: pair
                for covariate, values in self.individuals.covariates.items()
                if (pair := _differing(values, grouping)) is not None
            }
            for name in block.members:
                for covariate in self._covariates_read(name, block) if differing else ():
                    if covariate in differing:
                        self._refuse(name, covariate, grouping, differing[covariate])

    def _covariates_read(self, name: str, block: RandomEffects) -> list[str]:
        """The covariates that a location depends on, itself or through other parameters."""
        shapes = {n: jax.ShapeDtypeStruct(s.shape, np.float32) for n, s in self.sites.items()}
        known = {n: np.asarray(x, np.float32) for n, x in self.individuals.covariates.items()}

        def location(sites: Mapping[str, Any], covariates: Mapping[str, Any]) -> jax.Array:
            individuals = replace(self.individuals, covariates=covariates)
            other = replace(self, individuals=individuals)
            found = other.unfold(lambda name, law: sites[name], np.float32)
            return other._location(name, block, found, np.float32)

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
        self, found: SiteValues, dtype: Any
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """What all individuals share, and what each has of its own so far, by name.

        Args:
            found: the values of sites and groups.
            dtype: the floating type to compute in.

        Returns:
            Constants and parameters; and varying parameters and covariates, each with a leading
            axis of individuals.
        """
        known = self.declaration.known
        shared = {name: jnp.asarray(value, dtype) for name, value in known.items()}
        shared |= {name: found.sites[name] for name in self.declaration.sites}
        own = {
            name: jnp.asarray(value, dtype) for name, value in self.individuals.covariates.items()
        }
        for name, value in found.own.items():
            columns = self.declaration.varying[name].variation.group
            own[name] = value[self.individuals.groups[columns].index]
        return shared, own

    def renewed(
        self, sites: Mapping[str, jax.Array], key: jax.Array, dtype: Any
    ) -> dict[str, jax.Array]:
        """The values of the sites with other groups, drawn from the same population."""
        keys = keys_by_name(key, [block.raw for block in self.blocks])

        def visit(name: str, law: dist.Distribution) -> jax.Array:
            if name not in keys:
                return sites[name]
            return law.sample(keys[name]).astype(dtype)

        return self.unfold(visit, dtype).sites

    def law_of(self, name: str) -> str:
        """The law of what is sampled for the groups of a block, in words; empty for other sites."""
        for block in self.blocks:
            if block.raw == name and not block.independent:
                if self.coordinates[name].standard:
                    of = (
                        f"the Cholesky factor of {block.correlation} and scales"
                        if (block.correlation)
                        else "the scale"
                    )
                    return f"Normal(0, 1), times {of}: non-centred"
                chosen = ", as chosen" if set(block.members) & set(self.centrings) else ""
                return f"Normal by the location and the scale: partially centred{chosen}"
        return ""

    @cached_property
    def quantities(self) -> dict[str, Quantity]:
        """What a posterior reports, by name."""
        found = {}
        for name, site in self.declaration.sites.items():
            c = site.component
            found[name] = Quantity(c, c.dims, c.unit, c.description)
        for name, parameter in self.declaration.varying.items():
            for part in ("location", "scale"):
                if f"{name}_{part}" in self.sites:
                    text = f"{part} of {_linked(parameter)}{name}"
                    found[f"{name}_{part}"] = Quantity(parameter, parameter.dims, "", text)
            dim = self.individuals.groups[parameter.variation.group].dim
            dims = (dim, *parameter.dims)
            found[name] = Quantity(parameter, dims, parameter.unit, parameter.description)
        for name, c in self.declaration.of(Correlation).items():
            found[name] = Quantity(c, (f"{name}_row", f"{name}_column"), "", c.description)
        return found

    @cached_property
    def coords(self) -> dict[str, np.ndarray]:
        """The labels of the dimensions of groups and of correlations."""
        found = {
            self.individuals.groups[c.variation.group].dim: self.individuals.groups[
                c.variation.group
            ].labels
            for c in self.declaration.varying.values()
        }
        for name, c in self.declaration.of(Correlation).items():
            found |= {f"{name}_{side}": np.asarray(c.parameters) for side in ("row", "column")}
        return found

    def reported(self, found: SiteValues) -> dict[str, jax.Array]:
        """The values of what a posterior reports, by name, from values of the sites."""
        return {
            name: (found.own | found.correlations | found.sites)[name] for name in self.quantities
        }


def _differing(values: np.ndarray, grouping: Grouping) -> tuple[int, int] | None:
    """Two individuals of one group whose values differ; None if there are none."""
    first = np.unique(grouping.index, return_index=True)[1][grouping.index]
    other = np.flatnonzero(values != values[first])
    return (int(first[other[0]]), int(other[0])) if other.size else None


def _linked(parameter: Varying) -> str:
    """How the scale of the link is called before a name."""
    link = type(parameter.variation.link).__name__.lower()
    return "" if link == "identity" else f"{link} "


def _cast(prior: dist.Distribution, dtype: Any) -> dist.Distribution:
    """A prior in the floating type to compute in."""

    def cast(x: Any) -> Any:
        # From NumPy: an array of JAX that a program closes over would be one of its arguments.
        known = x if isinstance(x, jax.core.Tracer) else np.asarray(x)
        floating = jnp.issubdtype(jnp.result_type(x), jnp.floating)
        return jnp.asarray(known, dtype) if floating else known

    return jax.tree.map(cast, prior)
