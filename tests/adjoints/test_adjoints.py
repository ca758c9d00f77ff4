"""Contract of every gradient strategy, on a plain Diffrax problem with a closed form."""

import functools
import inspect
import re

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from odecal import adjoints

PUBLIC = {
    name: cls()
    for name in adjoints.__all__
    if inspect.isclass(cls := getattr(adjoints, name))
    and issubclass(cls, adjoints.AbstractAdjoint)
    and not inspect.isabstract(cls)
    and cls is not adjoints.DiffraxAdjoint
}
# A steady state is another problem, with tests of its own.
STRATEGIES = {name: adjoint for name, adjoint in PUBLIC.items() if name != "SteadyState"}
STRATEGIES["ForwardSensitivity in the error norm"] = adjoints.ForwardSensitivity(True)
STRATEGIES["a Diffrax adjoint"] = adjoints.as_adjoint(diffrax.RecursiveCheckpointAdjoint())
every_strategy = pytest.mark.parametrize("name", STRATEGIES)
TIMES = {
    "apart": np.array([0.0, 0.5, 1.0, 2.0]),
    "twice": np.array([0.0, 1.0, 1.0, 1.5]),
    "at the start": np.zeros(4),
}
TS = TIMES["apart"]


def decay(t, y, args):
    """dy/dt = −k y + c, whose solution is c/k + (y0 − c/k) exp(−k t)."""
    return -args["k"] * y + args["c"]


def solve(adjoint, y0, args, ts=TS, tolerance=1e-9, **settings):
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    settings = {"saveat": diffrax.SaveAt(ts=ts), "max_steps": 256, **settings}
    problem = diffrax.ODETerm(decay), diffrax.Tsit5(), 0.0, 2.0, None, y0, args
    return adjoint.diffeqsolve(*problem, stepsize_controller=controller, **settings)


def loss(ys):
    return jnp.sum(jnp.sin(ys) * np.arange(1.0, 5.0, dtype=ys.dtype)[:, None])


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def expected(y0, args, ts=TS):
    """((loss, solution), gradient)."""
    rest = args["c"] / args["k"]
    ys = rest[None] + (y0 - rest)[None] * jnp.exp(-args["k"] * ts[:, None])
    return loss(ys), ys


@functools.cache
def program(name, throw):
    def of(y0, args, ts, tolerance):
        solution = solve(STRATEGIES[name], y0, args, ts, tolerance, throw=throw)
        return loss(solution.ys), (solution.ys, solution.result == diffrax.RESULTS.successful)

    return jax.jit(jax.value_and_grad(of, (0, 1), has_aux=True))


def solved(name, y0, args, ts=TS, tolerance=1e-9, throw=False):
    """As expected, by a strategy; with the solution, whether the solve has succeeded."""
    return program(name, throw)(y0, args, ts, tolerance)


def assert_close(got, want, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), got, want)


@pytest.fixture
def inputs():
    with jax.enable_x64(True):
        yield np.array([1.5, -0.3]), {"k": np.array(0.7), "c": np.array([0.2, 0.1])}


@every_strategy
@pytest.mark.parametrize("ts", TIMES.values(), ids=TIMES)
def test_the_solution_and_its_gradient_are_right(name, ts, inputs):
    (_, (ys, well)), gradient = solved(name, *inputs, ts)
    (_, right), right_gradient = expected(*inputs, ts)
    assert well
    assert_close(ys, right, rtol=1e-7)
    assert_close(gradient, right_gradient, rtol=1e-6)


@every_strategy
def test_a_batch_is_as_each_alone(name, inputs):
    batch, args = np.array([1.0, 2.0, -1.0])[:, None] * inputs[0], inputs[1]
    together = jax.vmap(lambda y0: solved(name, y0, args))(batch)
    each = [solved(name, y0, args) for y0 in batch]
    assert_close(together, jax.tree.map(lambda *one: np.stack(one), *each), rtol=1e-10)


@every_strategy
def test_second_derivatives_are_right_where_declared(name, inputs):
    """Along one direction in which everything moves."""
    properties = STRATEGIES[name].properties
    if properties is None or not properties.hessian:
        pytest.skip("declares none")
    along = np.array([0.6, -1.1]), {"k": np.array(0.9), "c": np.array([-0.4, 1.3])}
    got, right = (
        jax.jvp(lambda y0, args, f=f: f(y0, args)[1], inputs, along)[1]
        for f in (functools.partial(solved, name), expected)
    )
    assert_close(got, right, rtol=1e-5, atol=1e-6)


@pytest.fixture
def single(inputs):
    with jax.enable_x64(False):
        yield (*jax.tree.map(np.float32, inputs), np.float32(TS))


@every_strategy
def test_single_precision_is_kept(name, single):
    got, right = solved(name, *single, 1e-5, throw=True)[1], expected(*single)[1]
    assert {one.dtype for one in jax.tree.leaves(got)} == {np.dtype(np.float32)}
    assert_close(got, right, rtol=1e-2)


@every_strategy
def test_a_failed_solve_can_be_silent(name, inputs):
    """One that is to be far too exact for its number of steps."""
    assert not solved(name, *inputs, TS, 1e-20)[0][1][1]


@every_strategy
def test_a_failed_solve_raises_otherwise(name, single):
    with pytest.raises(Exception, match="maximum number of"):
        jax.block_until_ready(solved(name, *single, 1e-20, throw=True))


@pytest.mark.parametrize("name", ["Forward", "ExplicitForward", "ForwardSensitivity"])
def test_a_gradient_by_a_python_number(name, inputs):
    """JAX gives it to a rule as it is, not as an array, where nothing is traced."""
    y0, args = inputs

    def of_k(k, max_steps):
        return loss(solve(PUBLIC[name], y0, {**args, "k": k}, max_steps=max_steps).ys)

    np.testing.assert_allclose(jax.grad(of_k)(0.7, 256), expected(*inputs)[1][1]["k"], rtol=1e-6)
    with pytest.raises(Exception, match="maximum number of"):
        jax.block_until_ready(jax.grad(of_k)(0.7, 2))


@pytest.mark.parametrize("adjoint", [adjoints.Forward(), adjoints.ExplicitForward()])
def test_forward_takes_tangents_of_what_moves_only(adjoint, inputs):
    """Differentiated by one number of five, the Jacobian has one tangent."""
    y0, args = inputs

    def of_k(k):
        return solve(adjoint, y0, {**args, "k": k}).ys

    _, reverse = jax.vjp(of_k, args["k"])
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(reverse) if leaf.ndim == 3}
    assert sizes == {1}


@pytest.mark.parametrize("adjoint", PUBLIC.values(), ids=PUBLIC)
def test_properties_are_declared(adjoint):
    declared = adjoint.properties
    assert isinstance(declared, adjoints.Properties)
    for order in (declared.time, declared.memory):
        assert re.fullmatch(r"O\((log N|[ndkN √²³+])+\)", order)


@pytest.mark.parametrize(
    ("adjoint", "growth"),
    [
        (adjoints.ExplicitForward(), (1.0, 1.1)),
        (adjoints.Backsolve(), (1.0, 1.1)),
        (adjoints.RecursiveCheckpoint(), (1.5, 5.0)),
        (adjoints.ExplicitReverse(), (10.0, 17.0)),
        (adjoints.Gauss(), (10.0, 17.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_memory_grows_with_the_steps_as_declared(adjoint, growth, inputs):
    """XLA's own analysis, from 512 to 8192 steps: constant, as a root, or in proportion."""

    def memory(max_steps):
        def total(y0, args):
            return loss(solve(adjoint, y0, args, max_steps=max_steps).ys)

        analysis = jax.jit(jax.grad(total, (0, 1))).lower(*inputs).compile().memory_analysis()
        return max(analysis.temp_size_in_bytes, getattr(analysis, "peak_memory_in_bytes", 0))

    assert growth[0] <= memory(8192) / memory(512) <= growth[1]


@pytest.mark.parametrize("adjoint", [adjoints.Forward(), adjoints.ExplicitForward()])
def test_forward_refuses_dense_output(adjoint, inputs):
    with pytest.raises(ValueError, match=r"SaveAt\(dense=True\).*SaveAt\(ts="):
        solve(adjoint, *inputs, saveat=diffrax.SaveAt(dense=True))


def pendulum(t, y, args):
    """A driven, damped pendulum: non-linear, and not autonomous."""
    angle, speed = y["angle"], y["speed"]
    return {"angle": speed, "speed": args["push"] * jnp.cos(t) - jnp.sin(angle) - 0.1 * speed}


PID = functools.partial(diffrax.PIDController, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "solver", [diffrax.Tsit5(), diffrax.Dopri5(), diffrax.Dopri8(), diffrax.Bosh3()]
)
@pytest.mark.parametrize(
    "controller",
    [
        PID,
        functools.partial(PID, pcoeff=0.4, icoeff=0.3, dtmax=0.3),
        functools.partial(diffrax.StepTo, ts=np.linspace(0.0, 12.0, 61)),
    ],
    ids=["I", "PI", "fixed"],
)
def test_explicit_forward_steps_as_diffrax_does(solver, controller):
    """The same steps from the same first step, hence the same solution and Jacobian."""
    ts = np.array([0.0, 0.01, 3.0, 3.1, 3.2, 11.0, 12.0])
    dt0 = None if controller.func is diffrax.StepTo else 0.05

    def of(adjoint, push):
        y0 = {"angle": jnp.array(0.3), "speed": jnp.array(1.2)}
        problem = diffrax.ODETerm(pendulum), solver, 0.0, 12.0, dt0, y0, {"push": push}
        saveat = diffrax.SaveAt(ts=ts)
        solution = adjoint.diffeqsolve(*problem, saveat=saveat, stepsize_controller=controller())
        return jnp.sum(solution.ys["angle"] ** 2), (solution.ys, solution.stats)

    @jax.jit
    def both(push):
        """Of each the solution without tangents, which its steps need not see, and the gradient."""
        ours = functools.partial(of, adjoints.ExplicitForward())
        theirs = functools.partial(of, adjoints.as_adjoint(diffrax.ForwardMode()))
        gradient = jax.jvp(theirs, (push,), (jnp.ones(()),))[1][0]
        return (ours(push)[1], jax.grad(ours, has_aux=True)(push)[0]), (theirs(push)[1], gradient)

    with jax.enable_x64(True):
        ((ours, steps), gradient), ((theirs, their_steps), their_gradient) = both(jnp.array(0.7))
    assert jax.tree.map(int, steps) == jax.tree.map(int, their_steps)
    assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert_close(gradient, their_gradient, rtol=1e-9)


@pytest.mark.parametrize(
    "saveat",
    [
        diffrax.SaveAt(t1=True),
        diffrax.SaveAt(steps=True),
        diffrax.SaveAt(t0=True, ts=TS),
        diffrax.SaveAt(ts=TS, fn=lambda t, y, args: 2 * y),
    ],
)
def test_explicit_forward_keeps_states_at_given_times_alone(saveat, inputs):
    with pytest.raises(ValueError, match=r"(?s)SaveAt\(ts=\.\.\.\).*Forward\(\)"):
        solve(adjoints.ExplicitForward(), *inputs, saveat=saveat)


def test_explicit_forward_gives_up_where_the_state_ends():
    """dy/dt = y² from 1 has a pole at t = 1, which no step can pass."""
    with jax.enable_x64(True):
        solution = adjoints.ExplicitForward().diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: y**2),
            diffrax.Tsit5(),
            0.0,
            2.0,
            None,
            jnp.array([1.0]),
            saveat=diffrax.SaveAt(ts=jnp.array([0.5, 2.0])),
            stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8),
            throw=False,
        )
        assert solution.result != diffrax.RESULTS.successful
        assert int(solution.stats["num_steps"]) < 1000
        np.testing.assert_allclose(solution.ys[0], 2.0, rtol=1e-5)


def test_as_adjoint_refuses_a_name():
    with pytest.raises(TypeError, match=r"'forward'.*Pass an object"):
        adjoints.as_adjoint("forward")


BOUNDED = (
    *(adjoints.Backsolve(), adjoints.Direct(), adjoints.ExplicitReverse(), adjoints.Gauss()),
    *(adjoints.Interpolating(), adjoints.Quadrature(), adjoints.RecursiveCheckpoint()),
)
IMPLICIT = adjoints.as_adjoint(diffrax.ImplicitAdjoint())
REFUSED = [
    (adjoints.ExplicitForward(), diffrax.Kvaerno5(), 100, r"Kvaerno5.*Tsit5.*Forward\(\)"),
    (adjoints.ExplicitForward(), diffrax.Heun(), 100, r"Heun.*Tsit5.*Forward\(\)"),
    (adjoints.ExplicitForward(), diffrax.KenCarp4(), 100, r"KenCarp4.*Tsit5.*Forward\(\)"),
    (adjoints.Backsolve(), diffrax.KenCarp4(), 100, "KenCarp4.*Forward"),
    (adjoints.Backsolve(), diffrax.Kvaerno5(), 100, "(?s)Backsolve cannot.*with Kvaerno5.*Gauss"),
    (IMPLICIT, diffrax.Tsit5(), 100, "ImplicitAdjoint.*Forward"),
    *((adjoint, diffrax.Tsit5(), None, "max_steps=None.*Give max_steps") for adjoint in BOUNDED),
]


@pytest.mark.parametrize(
    ("adjoint", "solver", "max_steps", "message"), REFUSED, ids=lambda value: type(value).__name__
)
def test_what_would_not_be_right_is_refused(adjoint, solver, max_steps, message):
    with pytest.raises(ValueError, match=message):
        adjoint.check(solver, max_steps)


CONTINUOUS = [adjoints.Backsolve, adjoints.Gauss, adjoints.Interpolating, adjoints.Quadrature]


@pytest.mark.parametrize("strategy", CONTINUOUS)
def test_backward_tolerances_come_together(strategy):
    with pytest.raises(ValueError, match="both tolerances or neither"):
        strategy(rtol=1e-6)


@pytest.mark.parametrize(
    ("strategy", "setting"), [(adjoints.Gauss, "points"), (adjoints.Backsolve, "max_drift")]
)
def test_settings_are_positive(strategy, setting):
    with pytest.raises(ValueError, match=rf"{setting}.*Got 0"):
        strategy(**{setting: 0})


def test_backsolve_uses_its_own_settings(inputs):
    """A loose backward solve gives a gradient that is off, a tight one does not."""

    def error(adjoint):
        gradient = jax.grad(lambda y0, args: loss(solve(adjoint, y0, args).ys), 1)
        return abs(float(gradient(*inputs)["k"] / expected(*inputs)[1][1]["k"]) - 1)

    solver = diffrax.Bosh3()
    assert error(adjoints.Backsolve(rtol=1e-10, atol=1e-10, solver=solver)) < 1e-6
    loose = {"rtol": 1e-1, "atol": 1e-1, "solver": solver}
    assert error(adjoints.Backsolve(**loose, max_drift=1.0)) > 1e-6
    assert np.isnan(error(adjoints.Backsolve(**loose)))
