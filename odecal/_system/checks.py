"""Mistakes in a declaration, found when the class is made: its functions are traced once."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from odecal._errors import DeclarationError, listed, suggestion
from odecal._system.checks_groups import check_groups
from odecal._system.checks_inputs import check_dosing, check_event, check_real, check_shape
from odecal._system.declaration import Declaration
from odecal._system.groups import Grouping, Individuals
from odecal._system.hierarchy import Hierarchy
from odecal._system.user_code import user_code
from odecal._system.values import Values


def check_declaration(declaration: Declaration) -> None:
    """Check names, shapes and results of everything that a system declares.

    Raises:
        DeclarationError: at the first thing that does not fit.
    """
    if not declaration.states:
        raise DeclarationError(
            f"{declaration.name} declares no state. Expected at least one, such as "
            "`amount = State(initial=1.0)`."
        )
    for name in declaration.components:
        declaration.shape(name)
    check_groups(declaration)
    hierarchy = Hierarchy(declaration, _stand_in(declaration), centred=False)
    # Reading `known` here reports constants of a wrong shape before anything is traced.
    _ = declaration.known
    values = {
        name: jax.ShapeDtypeStruct(site.shape, jnp.float64)
        for name, site in hierarchy.sites.items()
    }
    mistakes: list[DeclarationError] = []

    def trace(values: Mapping[str, Any]) -> None:
        # Caught here, since JAX adds advice on its own tracebacks to what passes through it.
        try:
            _trace(declaration, hierarchy, values)
        except DeclarationError as error:
            mistakes.append(error)

    with jax.enable_x64(True):
        tried = set()
        for name, site in hierarchy.sites.items():
            kind = str(jax.tree.structure(site.prior))
            if kind not in tried:  # a prior of one kind draws as another
                with user_code(f"Drawing from the prior of {declaration.name}.{name}"):
                    jax.eval_shape(partial(_draw, site.prior))
            tried.add(kind)
        jax.eval_shape(trace, values)
    if mistakes:
        raise mistakes[0]


def _draw(prior: dist.Distribution) -> jax.Array:
    return prior.sample(jax.random.key(0))


def _stand_in(declaration: Declaration) -> Individuals:
    """Two individuals, of two groups each, for what is checked before there are data."""
    index = np.arange(2)
    groups = {
        parameter.variation.group: Grouping("_".join(parameter.variation.group), index, index)
        for parameter in declaration.varying.values()
    }
    covariates = {name: np.ones(2) for name in declaration.covariates}
    return Individuals("individual", index, groups, covariates)


def _trace(declaration: Declaration, hierarchy: Hierarchy, values: Mapping[str, Any]) -> None:
    """Run every function of the system once on abstract values, checking what each returns."""
    site_values = hierarchy.sample_sites(lambda name, _: values[name], jnp.float64)
    shared, own = hierarchy.of_individuals(site_values, jnp.float64)
    one = {name: x[0] for name, x in own.items()}
    plain = declaration.parameters({**shared, **one}, jnp.float64)
    t = jnp.zeros((), jnp.float64)
    p = Values({**plain, **dict.fromkeys(declaration.inputs, t)}, "parameter")
    y = declaration.initial_state(p)
    where = f"{declaration.name}.vector_field"
    with user_code(where):
        rates = declaration.vector_field(t, y, p)
    check_rates(declaration, rates)
    for name, state in declaration.states.items():
        check_dosing(f"{declaration.name}.{name}", state.dosing, p)
    for name, event in declaration.events.items():
        check_event(declaration, name, event, (t, y, p))
    for name, observable in declaration.observables.items():
        last = (Values({"t": t, "y": y}, "interval value"),) if observable.over_interval else ()
        where = f"{declaration.name}.{name}"
        with user_code(where):
            noise = observable.law(t, y, p, *last)
        _check_noise(where, noise, declaration.shape(name))
    for name, derived in declaration.derived.items():
        where = f"{declaration.name}.{name}"
        with user_code(where):
            value = jnp.asarray(derived.function(plain))
        check_real(where, "value", value)
        check_shape(where, "value", value.shape, declaration.shape(name))


def check_rates(declaration: Declaration, rates: Any) -> None:
    """Refuse a result of the vector field with other names or shapes than the states'."""
    where = f"{declaration.name}.vector_field"
    expected = listed(declaration.states)
    if not isinstance(rates, Mapping):
        raise DeclarationError(
            f"{where} returns a {type(rates).__name__}. Expected a dict with the derivative of "
            f"each of: {expected}."
        )
    got = listed(rates)
    missing = [name for name in declaration.states if name not in rates]
    unknown = [name for name in rates if name not in declaration.states]
    if missing:
        hint = f" Did you mean `{missing[0]}`?" if unknown and _close(unknown, missing[0]) else ""
        raise DeclarationError(
            f"{where} returns no derivative for state `{missing[0]}`. Expected one for each of: "
            f"{expected}. Got: {got}." + hint
        )
    if unknown:
        raise DeclarationError(
            f"{where} returns a derivative for `{unknown[0]}`, which is no state. Expected one for "
            f"each of: {expected}. Got: {got}." + suggestion(unknown[0], declaration.states)
        )
    for name in declaration.states:
        try:
            rate = jnp.asarray(rates[name])
            if jnp.iscomplexobj(rate):
                raise TypeError
        except (TypeError, ValueError):
            raise DeclarationError(
                f"{where} returns {rates[name]!r} as the derivative of `{name}`. "
                "Expected a real number."
            ) from None
        check_shape(where, f"derivative of `{name}`", rate.shape, declaration.shape(name))


def _close(candidates: list[str], name: str) -> bool:
    return bool(suggestion(name, candidates))


def _check_noise(where: str, noise: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(noise, dist.Distribution):
        raise DeclarationError(
            f"{where} returns a {type(noise).__name__}. Expected a distribution of the observed "
            "value, such as odecal.noise.Normal(y.amount, p.sigma)."
        )
    check_shape(where, f"distribution ({type(noise).__name__})", noise.shape(), shape)
