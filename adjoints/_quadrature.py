"""The adjoint equation first, the parameters' integral after it."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from odecal.adjoints._continuous import AbstractContinuous, scaled_kicks
from odecal.adjoints._erk.tape import blank_tape, write_if
from odecal.adjoints._integrate import dense_info_shape, integrate_with_stops
from odecal.adjoints._reverse import FlatProblem, Gradient, States
from odecal.adjoints._rows import row_at

# The pair of seven Gauss and fifteen Kronrod points on [-1, 1]: Piessens et al. (1983), QUADPACK,
# https://doi.org/10.1007/978-3-642-61786-7, routine QK15. Half of each, from the end inwards.
_NODES = (
    *(0.991455371120812639206854697526329, 0.949107912342758524526189684047851),
    *(0.864864423359769072789712788640926, 0.741531185599394439863864773280788),
    *(0.586087235467691130294144258456480, 0.405845151377397166906606412076961),
    *(0.207784955007898467600689403773245, 0.0),
)
_KRONROD = (
    *(0.022935322010529224963732008058970, 0.063092092629978553290700663189204),
    *(0.104790010322250183839876322541518, 0.140653259715525918745189590510238),
    *(0.169004726639267902826583426598550, 0.190350578064785409913256402421014),
    *(0.204432940075298892414161999234649, 0.209482141084727828012999174891714),
)
_GAUSS = (
    *(0.129484966168869693270611432679082, 0.279705391489276667901467771423780),
    *(0.381830050505118944950369775488975, 0.417959183673469387755102040816327),
)


def gauss_kronrod() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The fifteen points on [-1, 1], their weights, and those of Gauss's seven among them."""
    gauss = np.zeros(8)
    gauss[1::2] = _GAUSS

    def whole(half: Any, sign: float = 1.0) -> np.ndarray:
        return np.concatenate([sign * np.asarray(half), np.asarray(half)[-2::-1]])

    return whole(_NODES, -1.0), whole(_KRONROD), whole(gauss)


class Quadrature(AbstractContinuous):
    """The continuous adjoint method, with Gauss–Kronrod quadrature after the backward solve.

    Backwards in time it solves dλ/dt = −(∂f/∂y)ᵀ λ alone, with y(t) from the dense output of the
    forward solve, and keeps λ(t) densely too. Then it integrates

        dL/dθ = ∫ (∂f/∂θ)ᵀ λ dt

    over each backward step by fifteen Kronrod points; the difference from Gauss's seven among them
    estimates the error, and a gradient whose error is above the square root of the tolerance,
    relative to the whole, is NaN. The most accurate integral of the continuous strategies, at the
    price of two dense solutions: memory for twice the steps that `max_steps` provides for. *Not*
    exact for the discrete solve. A gradient that cannot be found within
    ten times `max_steps` is NaN.

    Source: Piessens et al. (1983), https://doi.org/10.1007/978-3-642-61786-7; Ma et al. (2021),
    https://doi.org/10.1109/HPEC49654.2021.9622796.

    Args:
        rtol: relative tolerance of the backward solve; None takes the forward controller.
        atol: absolute tolerance of the backward solve, of cotangents of which the largest is one.
        solver: solver of the backward solve; None takes the forward one.
    """

    rtol: float | None = None
    atol: float | None = None
    solver: diffrax.AbstractSolver | None = None

    def backward(
        self, flat: FlatProblem, residuals: Any, ys: States, cotangents: States
    ) -> Gradient:
        """Solve for λ, then integrate."""
        del ys
        y_at = residuals
        kicks, scale = scaled_kicks(cotangents)

        def field(s: Any, lam: jax.Array) -> jax.Array:
            return flat.field_vjp(-s, y_at(-s), lam)[0]

        def at_stop(i: jax.Array, lam: jax.Array) -> Any:
            return lam + kicks[i], jnp.array(True)

        def on_step(carry: Any, accepted: jax.Array, span: Any, dense: Any) -> Any:
            tape, i = carry
            return write_if(tape, (*span, dense), i, accepted), i + accepted.astype(i.dtype)

        backward = self.backward_problem(flat.problem, field, at_stop, on_step)
        lam, start = jnp.zeros_like(flat.y0), backward.stops[0]
        row = (start, start, dense_info_shape(backward, lam))
        blank = blank_tape(backward.max_steps, row)
        lam, (tape, num_steps), failed = integrate_with_stops(
            backward, lam, (blank, jnp.zeros((), jnp.int32))
        )

        def integrand(path: Any, s: jax.Array) -> jax.Array:
            return flat.field_vjp(-s, y_at(-s), path.evaluate(s))[1]

        total, error = _integral(backward.solver, integrand, tape, num_steps, flat.theta)
        tolerance = getattr(backward.controller, "rtol", 0.0) + jnp.finfo(total.dtype).eps
        largest = 1 + jnp.max(jnp.abs(total), initial=0.0)
        bad = failed | (error > jnp.sqrt(tolerance) * largest)
        factor = jnp.where(bad, jnp.nan, scale)
        return lam * factor, total * factor


def _integral(
    solver: diffrax.AbstractSolver,
    integrand: Callable[[Any, jax.Array], jax.Array],
    tape: Any,
    num_steps: jax.Array,
    theta: Float[Array, " k"],
) -> tuple[Float[Array, " k"], Float[Array, ""]]:
    """The integral over all steps of a tape, and an estimate of its largest error."""
    nodes, kronrod, gauss = gauss_kronrod()
    weights = jnp.asarray(np.stack([kronrod, kronrod - gauss]), theta.dtype)

    def add(i: jax.Array, sums: jax.Array) -> jax.Array:
        start, end, dense = row_at(tape, i)
        half, middle = (end - start) / 2, (end + start) / 2
        path = solver.interpolation_cls(t0=start, t1=end, **dense)
        at = jax.vmap(lambda node: integrand(path, middle + half * node))
        parts = weights @ at(jnp.asarray(nodes, half.dtype)) * half.astype(theta.dtype)
        return sums + jnp.stack([parts[0], jnp.abs(parts[1])])

    sums = jax.lax.fori_loop(0, num_steps, add, jnp.zeros((2, *theta.shape), theta.dtype))
    return sums[0], jnp.max(sums[1], initial=0.0)
