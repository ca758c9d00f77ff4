"""Many solves together are as each alone, however they are mapped."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from odecal.adjoints import Crossing, Jumps, Problem, Schedule
from odecal.adjoints._erk.batches import as_one_batch, in_pieces
from odecal.adjoints._erk.interpolant import Interpolant
from odecal.adjoints._erk.rows import rows_at, with_rows

from odecal import adjoints

TS = np.array([0.0, 0.4, 1.0, 1.0, 2.5, 4.0])


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def test_mapped_again_it_is_called_once_on_all_members():
    shapes = []

    def function(members):
        shapes.append(members["x"].shape)
        return {"y": members["x"] * members["a"][:, None]}

    def one(x, a):
        return as_one_batch(function)({"x": x, "a": a, "none": None})["y"]

    x, a = jnp.arange(24.0).reshape(3, 4, 2), jnp.array([1.0, 2.0, 3.0])
    found = jax.vmap(jax.vmap(one, in_axes=(0, None)))(x, a)
    np.testing.assert_array_equal(found, x * a[:, None, None])
    assert shapes[-1] == (12, 2)


def test_what_it_closes_over_may_be_mapped():
    def one(x, a):
        return as_one_batch(lambda members: a * members)(x)

    x, a = jnp.arange(6.0).reshape(3, 2), jnp.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(jax.vmap(one)(x, a), x * a[:, None])
    np.testing.assert_array_equal(
        jax.vmap(jax.vmap(one, in_axes=(0, None)), in_axes=(None, 0))(x, a),
        x[None] * a[:, None, None],
    )


def test_it_has_derivatives_by_what_is_mapped_and_what_is_not():
    def one(x, a):
        return as_one_batch(lambda m: jnp.sin(m["x"]) * m["a"])({"x": x, "a": a})

    x, a = jnp.arange(4.0), jnp.array(3.0)
    jacobian = jax.jacfwd(jax.vmap(one, in_axes=(0, None)), (0, 1))(x, a)
    np.testing.assert_allclose(jacobian[0], np.diag(3.0 * np.cos(x)))
    np.testing.assert_allclose(jacobian[1], np.sin(x))
    np.testing.assert_allclose(jax.vmap(jax.jacfwd(one))(x, jnp.full(4, a)), 3.0 * np.cos(x))


@pytest.mark.parametrize("count", [1, 5, 6, 7, 13])
def test_pieces_are_filled_up_and_cut_again(count):
    sizes = []

    def function(members):
        sizes.append(len(members))
        return {"twice": 2 * members}

    found = in_pieces(function, jnp.arange(float(count)), 6)["twice"]
    np.testing.assert_array_equal(found, 2 * np.arange(count))
    assert max(sizes) <= 6


@pytest.mark.parametrize("members", [1, 3])
def test_rows_of_members(members):
    array = jnp.arange(members * 4.0).reshape(members, 4)
    i = jnp.array([2, 0, 3], jnp.int32)[:members]
    np.testing.assert_array_equal(rows_at(array, i), np.asarray(array)[np.arange(members), i])
    values = jnp.arange(100.0, 100 + 2 * members).reshape(2, members)
    expected = np.zeros((members, 4, 2))
    expected[np.arange(members), i] = values.T
    np.testing.assert_array_equal(with_rows(jnp.zeros((members, 4, 2)), values, i), expected)


@pytest.mark.parametrize("solver", [diffrax.Tsit5, diffrax.Dopri5, diffrax.Dopri8, diffrax.Bosh3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_interpolant_is_that_of_diffrax(solver, dtype):
    rng = np.random.default_rng(0)
    k = rng.normal(size=(solver.tableau.num_stages, 2, 3)).astype(dtype)
    ends = tuple(jnp.asarray(rng.normal(size=(2, 2, 3)), dtype))
    start, end = np.array([[0.0, 1.0, 2.0], [0.5, 3.0, 2.1]], dtype)

    def alone(t0, t1, y0, y1, k, t):
        return solver.interpolation_cls(t0=t0, t1=t1, y0=y0, y1=y1, k=k).evaluate(t)

    @jax.jit
    def both(part):
        t = start + part * (end - start)
        theirs = jax.vmap(alone, (0, 0, 1, 1, 2, 0), 1)(start, end, *ends, k, t)
        return Interpolant(solver(), start, end, ends, k)(t), theirs

    for part in np.array([0.0, 0.3, 0.9, 1.0], dtype):
        np.testing.assert_allclose(*both(part), atol=200 * np.finfo(dtype).eps)


def _field(t, y, given):
    (rate, _), infused = given
    return -rate * y + infused


def _schedule(args):
    """Doses of each member at times of its own; the third never comes."""
    _, lag = args
    times = jnp.array([0.0, 1.0, jnp.inf]) + lag
    return Schedule(
        times, jnp.array([[2.0], [3.0], [0.0]]), jnp.array([[0.0], [1.0], [0.0], [0.0]])
    )


def _problem(ts):
    def low(t, y, given):
        return y[0] - 0.5

    def refill(t, y, given):
        return y + 1.0

    jumps = Jumps(_schedule, lambda t, y, args, amount: y + amount, None, (Crossing(low, refill),))
    controller = diffrax.PIDController(rtol=1e-8, atol=1e-10)
    saveat = diffrax.SaveAt(ts=ts)
    term = diffrax.ODETerm(_field)
    return Problem(term, diffrax.Tsit5(), 0.0, ts[-1], None, saveat, controller, 512, jumps)


def test_members_jump_and_save_at_times_of_their_own():
    """More members than one piece has, whose changes fall at different turns of the loop."""
    count = 150
    rng = np.random.default_rng(1)
    args = jnp.asarray(rng.uniform([0.3, 0.0], [1.5, 1.0], size=(count, 2)))
    ts = jnp.asarray(np.sort(rng.uniform(0.0, 4.0, size=(count, 5)), axis=1))

    def total(args, ts):
        def summed(args):
            solved = adjoints.ExplicitForward().solve_with_jumps(
                _problem(ts), jnp.array([1.0]), (args[0], args[1])
            )
            return jnp.sum(jnp.sin(solved.ys)), (solved.stats["num_steps"], solved.result._value)

        return jax.value_and_grad(summed, has_aux=True)(args)

    batched = jax.jit(jax.vmap(total))(args, ts)
    alone = jax.jit(lambda *a: jax.lax.map(lambda x: total(*x), a))(args, ts)
    for found, expected in zip(jax.tree.leaves(batched), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert not np.any(batched[0][1][1])


def test_a_member_that_fails_does_not_hold_up_the_rest():
    def total(rate):
        solution = adjoints.ExplicitForward().diffeqsolve(
            diffrax.ODETerm(lambda t, y, rate: rate * y**2),
            diffrax.Tsit5(),
            0.0,
            float(TS[-1]),
            None,
            jnp.array([1.0]),
            rate,
            saveat=diffrax.SaveAt(ts=jnp.asarray(TS)),
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
            max_steps=256,
            throw=False,
        )
        return solution.ys[-1, 0], solution.result == diffrax.RESULTS.successful

    rates = np.array([-1.0, 5.0, -0.2, 1.0])  # 1/(1 − rate t): the positive ones end before 4
    gradients, well = jax.jit(jax.vmap(jax.grad(total, has_aux=True)))(rates)
    np.testing.assert_array_equal(well, [True, False, True, False])
    expected = 4.0 / (1.0 - rates * 4.0) ** 2
    np.testing.assert_allclose(gradients[::2], expected[::2], rtol=1e-6)
