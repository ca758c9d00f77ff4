"""Many individuals at once: their parameters, their solves in batches, their derived quantities."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from odecal._jax.dependence import depends_on
from odecal._jax.programs import map_or_vmap
from odecal._solve.forcing import Forcing
from odecal._solve.forcing_data import ForcingData
from odecal._solve.trajectory import Trajectory, solve
from odecal._system.declaration import Declaration, initial_name
from odecal._system.solve import Solve
from odecal._system.values import Values


class IndividualParameters(NamedTuple):
    """The record `p` of every individual.

    What each has of its own, by these names, has a leading axis of individuals.
    """

    p: Values
    own: tuple[str, ...]

    @property
    def axes(self) -> Values:
        """The axis of individuals of each value: 0 for own ones, None for shared ones."""
        return Values({name: 0 if name in self.own else None for name in self.p}, "parameter")

    def rows(self, who: Int[np.ndarray, "*n"]) -> Values:
        """The values for some individuals, perhaps more than once."""
        return Values(
            {name: x[who] if name in self.own else x for name, x in self.p.items()}, "parameter"
        )


def individual_parameters(
    declaration: Declaration, shared: dict[str, Any], own: dict[str, Any], dtype: Any
) -> IndividualParameters:
    """The record `p` of every individual.

    From what all share and what each has of its own, with a leading axis of individuals.
    """
    if not own:
        return IndividualParameters(declaration.parameters(shared, dtype), ())

    def one(own: dict[str, Any]) -> dict[str, Any]:
        return dict(declaration.parameters({**shared, **own}, dtype))

    whole = declaration.parameters(
        {**shared, **{name: jnp.asarray(x)[0] for name, x in own.items()}}, dtype
    )
    computed = [initial_name(name) for name in declaration.computed_initials]
    each = jax.vmap(one)(own)
    names = [*own, *computed]
    return IndividualParameters(
        Values(
            {name: each[name] if name in names else x for name, x in whole.items()}, "parameter"
        ),
        tuple(name for name in whole if name in names),
    )


def solve_each(
    declaration: Declaration,
    parameters: IndividualParameters,
    when: tuple[Float[np.ndarray, " individual"], Float[np.ndarray, "individual time"]],
    forcing_data: ForcingData,
    order: Int[np.ndarray, " individual"],
    settings: Solve,
    forcing: Forcing,
) -> Trajectory:
    """Solve for every individual.

    All in one batch where the strategy steps many together, or on another device than a CPU; else
    one after the other, in one small loop each: for what a mapped loop of another strategy steps
    through is too large for the innermost caches, and all of it waits for the slowest.

    `when` is the initial times, and the times to keep; `order` has like ones beside one another.
    """

    def one(own: dict[str, Any], t0: Any, ts: Any, forcing_data: ForcingData) -> Trajectory:
        p = Values({**parameters.p, **own}, "parameter")
        return solve(declaration, p, t0, ts, settings, forcing, forcing_data)

    many = jax.vmap(one) if settings.strategy.batched else map_or_vmap(one)
    own = {name: parameters.p[name] for name in parameters.own}
    if np.array_equal(order, np.arange(len(order))):
        return many(own, *jax.tree.map(jnp.asarray, (*when, forcing_data)))
    t0, ts, known = jax.tree.map(lambda x: jnp.asarray(x[order]), (*when, forcing_data))
    trajectories = many({name: x[order] for name, x in own.items()}, t0, ts, known)
    return jax.tree.map(lambda x: x[np.argsort(order)], trajectories)


def own_derived(
    declaration: Declaration,
    parameters_from: Callable[[Mapping[str, Any]], IndividualParameters],
    shapes: Mapping[str, jax.ShapeDtypeStruct],
) -> frozenset[str]:
    """The derived quantities that differ between individuals; `shapes` are those of the sites."""
    differing = []

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
            differing.extend([name] if any(depends) else [])

    jax.eval_shape(trace, shapes)
    return frozenset(differing)


def derived_values(
    declaration: Declaration, parameters: IndividualParameters, own: frozenset[str]
) -> dict[str, jax.Array]:
    """The derived quantities, by name; those of individuals' own with a leading axis of them."""
    one = parameters.rows(np.zeros((), int))
    return {
        name: jax.vmap(d.function, in_axes=(parameters.axes,))(parameters.p)
        if name in own
        else jnp.asarray(d.function(one))
        for name, d in declaration.derived.items()
    }
