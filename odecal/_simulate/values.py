"""The values that are simulated with: given ones, and draws from the priors of the others."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from odecal._errors import DeclarationError, listed, suggestion
from odecal._jax.keys import keys_by_name
from odecal._model.model import Model
from odecal._system.base import is_number
from odecal._system.random_effects import RandomEffects, SiteValues
from odecal._system.varying import Correlation, Pooling


def drawn_values(model: Model, values: Mapping[str, Any], key: jax.Array) -> SiteValues:
    """One value of every site: those that are given, and draws of the others given these.

    Given are values of sites, of the groups of varying parameters, and of correlations, by name. To
    be called within the precision of the model.
    """
    _check_names(model, values)
    hierarchy, dtype = model.hierarchy, model.dtype
    given: dict[str, Any] = {
        name: _as_array(model, name, values[name], site.shape)
        for name, site in model.sites.items()
        if name in values
    }
    given |= _choleskys(model, values)
    linked = {
        effects.raw: x
        for effects in hierarchy.random_effects
        if (x := _linked(model, effects, values))
    }
    keys = keys_by_name(key, model.sites)

    def sample_fn(name: str, distribution: dist.Distribution) -> jax.Array:
        if name in given:
            return jnp.asarray(given[name], dtype)
        return distribution.sample(keys[name]).astype(dtype)

    site_values = hierarchy.sample_sites(sample_fn, dtype)
    # In order: a location may depend on groups of random effects before.
    for effects in hierarchy.random_effects:
        if effects.raw in linked:
            stacked = jnp.stack(linked[effects.raw], axis=-1)
            given[effects.raw] = hierarchy.raw(effects, site_values, stacked, dtype)
            site_values = hierarchy.sample_sites(sample_fn, dtype)
    return site_values


def _check_names(model: Model, values: Mapping[str, Any]) -> None:
    """Refuse names that nothing has, or that have no value of their own."""
    declaration, hierarchy = model.declaration, model.hierarchy
    pooled = [
        name
        for effects in hierarchy.random_effects
        for name in effects.members
        if effects.pooling is Pooling.COMPLETE
    ]
    groups = [name for name in declaration.varying if name not in pooled]
    known = [*model.sites, *groups, *declaration.of(Correlation)]
    for name in values:
        if name in pooled:
            raise DeclarationError(
                f"simulate(values=...) names `{name}`, which is pooled in {declaration.name}: its "
                "value follows from its location. Expected that, where it has a prior: "
                f"`{name}_location`. Give it on the linked scale."
            )
        if name not in known:
            raise DeclarationError(
                f"simulate(values=...) names `{name}`, which {declaration.name} does not sample. "
                f"Expected some of: {listed(known)}." + suggestion(name, known)
            )
    for effects in hierarchy.random_effects:
        _check_effects(effects, values)


def _check_effects(effects: RandomEffects, values: Mapping[str, Any]) -> None:
    """Refuse groups' values of some of what is sampled together, and those that are given twice."""
    there = [name for name in effects.members if name in values]
    missing = [name for name in effects.members if name not in values]
    twice = [(name, effects.raw) for name in there if effects.raw in values]
    if effects.correlation in values and f"{effects.correlation}_cholesky" in values:
        twice.append((effects.correlation, f"{effects.correlation}_cholesky"))
    if twice:
        raise DeclarationError(
            f"simulate(values=...) gives `{twice[0][0]}` and `{twice[0][1]}`, of which one follows "
            "from the other. Expected one of them. Leave the other out."
        )
    if there and missing:
        raise DeclarationError(
            f"simulate(values=...) gives `{there[0]}` without `{missing[0]}`, with which it is "
            f"correlated by `{effects.correlation}`. Expected the values of all of "
            f"{listed(effects.members)}, or of none: they are drawn together. Give the others too."
        )


def _as_array(
    model: Model, name: str, value: Any, shape: tuple[int, ...], groups: str = ""
) -> np.ndarray:
    """A given value, refused where it is no number or array of the right shape."""
    if not is_number(value) or np.shape(value) not in ((), shape):
        raise DeclarationError(
            f"simulate(values=...) gives {value!r} for `{name}` of {model.declaration.name}."
            f" Expected a number, or an array of the shape {shape}{groups}."
        )
    return np.broadcast_to(np.asarray(value, float), shape)


def _choleskys(model: Model, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The sites of the correlations whose matrices are given."""
    found = {}
    for name, c in model.declaration.of(Correlation).items():
        if name not in values:
            continue
        matrix = _as_array(model, name, values[name], (len(c.parameters),) * 2)
        proper = np.allclose(np.diag(matrix), 1.0) and np.allclose(matrix, matrix.T)
        if not proper or np.linalg.eigvalsh(matrix)[0] <= 0.0:
            raise DeclarationError(
                f"simulate(values=...) gives {values[name]!r} for `{name}`. Expected a matrix of "
                "correlations: symmetric and positive definite, with ones on its diagonal. "
                "Correct it."
            )
        found[f"{name}_cholesky"] = np.linalg.cholesky(matrix)
    return found


def _linked(model: Model, effects: RandomEffects, values: Mapping[str, Any]) -> list[jax.Array]:
    """The values of the groups of a block on their linked scales, one a member; none if not given.

    Each has the shape (group, *dims).
    """
    grouping = model.experiment.individuals.groups[effects.columns]
    found = []
    for name, parameter in effects.members.items():
        if name not in values:
            continue
        shape = (len(grouping.labels), *model.declaration.shape(name))
        shown = f"{listed(grouping.labels[:5])}{', …' if len(grouping.labels) > 5 else ''}"
        words = f", a value for each {grouping.dim} in this order: {shown}"
        array = _as_array(model, name, values[name], shape, words)
        linked = parameter.variation.link(jnp.asarray(array, model.dtype))
        wrong = np.argwhere(~np.isfinite(np.asarray(linked)))
        if len(wrong):
            link = type(parameter.variation.link).__name__
            raise DeclarationError(
                f"simulate(values=...) gives {array[tuple(wrong[0])]:g} for `{name}` of "
                f"{grouping.dim} {grouping.labels[wrong[0][0]]}, which its link, {link}, does not "
                "take. Expected values within its bounds. Correct it."
            )
        found.append(linked)
    return found
