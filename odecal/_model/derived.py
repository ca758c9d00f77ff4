"""Derived quantities: which of them individuals have of their own, and their values."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from odecal._jax.dependence import depends_on
from odecal._model.individuals import IndividualParameters
from odecal._system.declaration import Declaration
from odecal._system.values import Values


def own_derived(
    declaration: Declaration,
    parameters_from: Callable[[Mapping[str, Any]], IndividualParameters],
    shapes: Mapping[str, jax.ShapeDtypeStruct],
) -> frozenset[str]:
    """The derived quantities that differ between individuals.

    Args:
        declaration: the system.
        parameters_from: gives the parameters of every individual, from one value of every site.
        shapes: of the values of the sites.
    """
    found = []

    def trace(values: Mapping[str, Any]) -> None:
        parameters = parameters_from(values)
        one = parameters.rows(np.zeros((), int))
        own, shared = (
            {n: x for n, x in one.items() if (n in parameters.own) is k} for k in (True, False)
        )
        for name, d in declaration.derived.items():
            depends = depends_on(
                lambda own, d=d: d.function(Values({**shared, **own}, "parameter")), own
            )
            found.extend([name] if any(depends) else [])

    jax.eval_shape(trace, shapes)
    return frozenset(found)


def derived_values(
    declaration: Declaration, parameters: IndividualParameters, own: frozenset[str]
) -> dict[str, jax.Array]:
    """The derived quantities, by name.

    Args:
        declaration: the system.
        parameters: the parameters of every individual.
        own: which of the quantities differ between individuals, and so get a leading axis of them.
    """
    return {
        name: _value(d.function, parameters, name in own) for name, d in declaration.derived.items()
    }


def _value(
    function: Callable[[Values], Any], parameters: IndividualParameters, own: bool
) -> jax.Array:
    """One derived quantity, of every individual its own or of all the same."""
    if own:
        return jax.vmap(function, in_axes=(parameters.axes,))(parameters.p)
    one = parameters.rows(np.zeros((), int)) if parameters.own else parameters.p
    return jnp.asarray(function(one))
