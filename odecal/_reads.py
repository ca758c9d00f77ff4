"""Which of its arguments a function reads."""

from collections.abc import Callable
from typing import Any

import jax


def reads(function: Callable[..., Any], *arguments: Any) -> list[bool]:
    """Whether the result of a function depends on each leaf of its last argument.

    Args:
        function: a function of pytrees.
        *arguments: its arguments, or their shapes.

    Returns:
        One answer a leaf. A leaf that it depends on need not matter; another cannot.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    live = {id(var) for var in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if any(id(var) in live for var in equation.outvars):
            live |= {id(var) for var in equation.invars}
    count = len(jax.tree.leaves(arguments[-1]))
    return [id(var) in live for var in jaxpr.invars[len(jaxpr.invars) - count :]]
