"""Mistakes in a declaration, found when the class is made: its functions are traced once."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from odecal._errors import DeclarationError, listed, suggestion
from odecal._system.base import is_number
from odecal._system.declaration import Declaration
from odecal._system.groups import Grouping, Individuals
from odecal._system.hierarchy import Hierarchy
from odecal._system.inputs import Dosing, Event
from odecal._system.user_code import user_code
from odecal._system.values import Values
from odecal._system.varying import Correlation, Pooling


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
    _check_groups(declaration)
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
    _check_rates(declaration, rates)
    for name, state in declaration.states.items():
        _check_dosing(f"{declaration.name}.{name}", state.dosing, p)
    for name, event in declaration.events.items():
        _check_event(declaration, name, event, (t, y, p))
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
        _check_real(where, "value", value, declaration.shape(name))


def _check_rates(declaration: Declaration, rates: Any) -> None:
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
        hint = f" Did you mean `{missing[0]}`?" if suggestion(missing[0], unknown) else ""
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
        _check_shape(where, f"derivative of `{name}`", rate.shape, declaration.shape(name))


def _check_noise(where: str, noise: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(noise, dist.Distribution):
        raise DeclarationError(
            f"{where} returns a {type(noise).__name__}. Expected a distribution of the observed "
            "value, such as odecal.noise.Normal(y.amount, p.sigma)."
        )
    _check_shape(where, f"distribution ({type(noise).__name__})", noise.shape(), shape)


def _check_groups(declaration: Declaration) -> None:
    """Check what is correlated, and the names that varying parameters take."""
    taken: dict[str, str] = {}
    for name, correlation in declaration.of(Correlation).items():
        _check_correlation(declaration, name, correlation, taken)
    for name, parameter in declaration.varying.items():
        for part in ("location", "scale"):
            _check_level(declaration, name, part, getattr(parameter.variation, part))
        for part in ("location", "scale", "raw"):
            _check_free(declaration, f"{name}_{part}", name)
    for name in declaration.of(Correlation):
        for part in ("cholesky", "raw"):
            _check_free(declaration, f"{name}_{part}", name)
    for name, parameter in declaration.varying.items():
        _check_free(declaration, "_".join(parameter.variation.group), name, "dimension")


def _check_level(declaration: Declaration, name: str, part: str, value: Any) -> None:
    """Refuse a location or a scale whose numbers are neither one nor one an element."""
    shape = declaration.shape(name)
    if is_number(value) and np.shape(value) not in ((), shape):
        raise DeclarationError(
            f"The {part} of {declaration.name}.{name} has the wrong shape. Expected one number"
            f"{f', or {shape} of them, as by its dims' if shape else ''}. Got {np.shape(value)}. "
            "Give one number; what differs between groups is a covariate."
        )


def _check_correlation(
    declaration: Declaration, name: str, correlation: Correlation, taken: dict[str, str]
) -> None:
    where = f"{declaration.name}.{name}"
    varying = declaration.varying
    first = correlation.parameters[0]
    for member in correlation.parameters:
        if member not in varying:
            raise DeclarationError(
                f"{where} names `{member}`, which is no varying parameter. Expected some of: "
                f"{listed(varying)}." + suggestion(member, varying)
            )
        if taken.setdefault(member, name) != name:
            raise DeclarationError(
                f"`{member}` is in two correlations, {taken[member]} and {name}. Expected one that "
                "names all parameters that are correlated with it."
            )
        variation = varying[member].variation
        if variation.group != varying[first].variation.group:
            raise DeclarationError(
                f"{where} correlates `{first}` and `{member}`, which vary over different groups "
                f"({listed(varying[first].variation.group)}; {listed(variation.group)}). Expected "
                "parameters of one group."
            )
        if variation.pooling is not Pooling.PARTIAL:
            raise DeclarationError(
                f"{where} names `{member}`, which is not partially pooled. Expected parameters "
                "made by Parameter.varying(...). Leave the correlation out by "
                f"{declaration.name}({name}=None)."
            )
        if declaration.shape(member):
            raise DeclarationError(
                f"{where} names `{member}`, which has dims. Expected parameters without."
            )


def _check_free(declaration: Declaration, taken: str, name: str, what: str = "quantity") -> None:
    """Refuse a part whose name is needed for something that another part brings."""
    if taken in declaration.components:
        raise DeclarationError(
            f"{declaration.name}.{taken} has the name of a {what} that `{name}` brings into "
            "results. Expected different names. Rename one of them."
        )


def _check_dosing(where: str, dosing: Dosing, p: Values) -> None:
    """Refuse a lag, a bioavailability, a rate or a duration that is no number."""
    for name in ("lag", "bioavailability", "rate", "duration"):
        function = getattr(dosing, name)
        if callable(function):
            with user_code(f"The {name} of doses into {where}"):
                value = jnp.asarray(function(p))
            _check_real(where, f"{name} of doses", value, ())


def _check_event(declaration: Declaration, name: str, event: Event, inside: Any) -> None:
    """Refuse an event whose condition is no number, or that changes what is no state."""
    where = f"{declaration.name}.{name}"
    with user_code(f"The condition of {where}"):
        condition = jnp.asarray(event.condition(*inside))
    _check_real(where, "condition", condition, ())
    with user_code(f"The change of {where}"):
        change = event.change(*inside)
    if not isinstance(change, Mapping):
        raise DeclarationError(
            f"The change of {where} returns a {type(change).__name__}. Expected a dict with the "
            f"new value of each state that changes, some of: {listed(declaration.states)}."
        )
    for state, value in change.items():
        if state not in declaration.states:
            raise DeclarationError(
                f"The change of {where} gives a value to `{state}`, which is no state. Expected "
                f"some of: {listed(declaration.states)}." + suggestion(state, declaration.states)
            )
        with user_code(f"The change of {where}"):
            new = jnp.asarray(value)
        _check_real(where, f"new value of `{state}`", new, declaration.shape(state))


def _check_real(where: str, what: str, value: jax.Array, shape: tuple[int, ...]) -> None:
    """Refuse complex numbers, whose imaginary part would be lost, and another shape."""
    if jnp.iscomplexobj(value):
        raise DeclarationError(
            f"The {what} of {where} is complex. Expected real numbers. Take what is meant: its "
            "real part, jnp.real(...), or its modulus, jnp.abs(...)."
        )
    _check_shape(where, what, value.shape, shape)


def _check_shape(where: str, what: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse a result of another shape than was declared."""
    if got != expected:
        raise DeclarationError(
            f"The {what} of {where} has the wrong shape. Expected {expected}, as declared by its "
            f"dims. Got {got}."
        )
