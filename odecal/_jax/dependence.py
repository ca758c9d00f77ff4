"""Which of its arguments a function depends on."""

from collections.abc import Callable
from typing import Any

import jax


def depends_on(function: Callable[..., Any], *arguments: Any) -> list[bool]:
    """Whether the result of a function of pytrees depends on each leaf of its last argument.

    Shapes do for arguments. A leaf that it depends on need not matter; another cannot.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return read_by(jaxpr)[-len(jax.tree.leaves(arguments[-1])) or len(jaxpr.invars) :]


def read_by(jaxpr: Any) -> list[bool]:
    """Whether the results of a program depend on each of its inputs."""
    live = {id(var) for var in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if any(id(var) in live for var in equation.outvars):
            live |= {id(var) for var in equation.invars}
    return [id(var) in live for var in jaxpr.invars]
