"""Contract of every gradient strategy, on a plain Diffrax problem with a closed form."""

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
TS = np.array([0.0, 0.5, 1.0, 2.0])
every_strategy = pytest.mark.parametrize("adjoint", STRATEGIES.values(), ids=STRATEGIES)


def decay(t, y, args):
    """dy/dt = −k y + c, whose solution is c/k + (y0 − c/k) exp(−k t)."""
    return -args["k"] * y + args["c"]


def solve(adjoint, y0, args, **kwargs):
    settings = {
        "saveat": diffrax.SaveAt(ts=TS),
        "stepsize_controller": diffrax.PIDController(rtol=1e-9, atol=1e-9),
        "max_steps": 512,
    }
    return adjoint.diffeqsolve(
        diffrax.ODETerm(decay), diffrax.Tsit5(), 0.0, 2.0, None, y0, args, **{**settings, **kwargs}
    )


def closed_form(y0, args):
    rest = args["c"] / args["k"]
    return rest + (y0 - rest) * jnp.exp(-args["k"] * jnp.asarray(TS)[:, None])


def loss(ys):
    return jnp.sum(jnp.sin(ys) * jnp.arange(1.0, 5.0)[:, None])


@pytest.fixture
def inputs():
    with jax.enable_x64(True):
        yield jnp.array([1.5, -0.3]), {"k": jnp.array(0.7), "c": jnp.array([0.2, 0.1])}


@every_strategy
def test_the_solution_is_right(adjoint, inputs):
    np.testing.assert_allclose(solve(adjoint, *inputs).ys, closed_form(*inputs), rtol=1e-7)


@every_strategy
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_gradient_is_right(adjoint, transform, inputs):
    gradient = transform(jax.grad(lambda y0, args: loss(solve(adjoint, y0, args).ys), (0, 1)))
    expected = jax.grad(lambda y0, args: loss(closed_form(y0, args)), (0, 1))(*inputs)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-6),
        gradient(*inputs),
        expected,
    )


@every_strategy
def test_a_batch_is_as_each_alone(adjoint, inputs):
    y0, args = inputs
    gradient = jax.grad(lambda y0: loss(solve(adjoint, y0, args).ys))
    batch = jnp.stack([y0, 2 * y0, -y0])
    each = jnp.stack([gradient(y) for y in batch])
    np.testing.assert_allclose(jax.vmap(gradient)(batch), each, rtol=1e-10)


@every_strategy
@pytest.mark.parametrize("ts", [[0.0], [0.0, 1.0, 1.0]], ids=["at the start", "twice"])
def test_times_may_coincide(adjoint, ts, inputs):
    y0, args = inputs

    def total(y0):
        return solve(adjoint, y0, args, saveat=diffrax.SaveAt(ts=jnp.array(ts))).ys.sum()

    expected = np.exp(-float(args["k"]) * np.array(ts)).sum()
    np.testing.assert_allclose(jax.grad(total)(y0), expected, rtol=1e-6)


@every_strategy
def test_single_precision_is_kept(adjoint):
    with jax.enable_x64(False):
        y0, args = jnp.array([1.5, -0.3]), {"k": jnp.array(0.7), "c": jnp.array([0.2, 0.1])}
        loose = diffrax.PIDController(rtol=1e-4, atol=1e-5)

        def total(y0, args):
            return loss(solve(adjoint, y0, args, stepsize_controller=loose).ys)

        got = jax.jit(jax.grad(total, (0, 1)))(y0, args)
        expected = jax.grad(lambda y0, args: loss(closed_form(y0, args)), (0, 1))(y0, args)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-2)


@every_strategy
def test_a_failed_solve_can_be_silent(adjoint, inputs):
    solution = solve(adjoint, *inputs, max_steps=2, throw=False)
    assert solution.result != diffrax.RESULTS.successful


@every_strategy
def test_a_failed_solve_raises_otherwise(adjoint, inputs):
    with pytest.raises(Exception, match="maximum number of"):
        jax.block_until_ready(solve(adjoint, *inputs, max_steps=2).ys)


@pytest.mark.parametrize("name", ["Forward", "ExplicitForward", "ForwardSensitivity"])
def test_a_gradient_by_a_python_number(name, inputs):
    """JAX gives it to a rule as it is, not as an array, where nothing is traced."""
    y0, args = inputs

    def of_k(k, max_steps):
        return loss(solve(PUBLIC[name], y0, {**args, "k": k}, max_steps=max_steps).ys)

    expected = jax.grad(lambda k: loss(closed_form(y0, {**args, "k": k})))(0.7)
    np.testing.assert_allclose(jax.grad(of_k)(0.7, 512), expected, rtol=1e-6)
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


@every_strategy
def test_second_derivatives_are_right_where_declared(adjoint, inputs):
    if adjoint.properties is None or not adjoint.properties.hessian:
        pytest.skip("declares none")

    def hessian(function):
        return jax.jacfwd(jax.grad(function, (0, 1)), (0, 1))(*inputs)

    got = hessian(lambda y0, args: loss(solve(adjoint, y0, args).ys))
    expected = hessian(lambda y0, args: loss(closed_form(y0, args)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, expected)


@pytest.mark.parametrize("adjoint", [adjoints.Forward(), adjoints.ExplicitForward()])
def test_forward_refuses_dense_output(adjoint, inputs):
    with pytest.raises(ValueError, match=r"SaveAt\(dense=True\).*SaveAt\(ts="):
        solve(adjoint, *inputs, saveat=diffrax.SaveAt(dense=True))


def pendulum(t, y, args):
    """A driven, damped pendulum: non-linear, and not autonomous."""
    angle, speed = y["angle"], y["speed"]
    return {"angle": speed, "speed": args["push"] * jnp.cos(t) - jnp.sin(angle) - 0.1 * speed}


@pytest.mark.parametrize(
    "solver", [diffrax.Tsit5(), diffrax.Dopri5(), diffrax.Dopri8(), diffrax.Bosh3()]
)
@pytest.mark.parametrize(
    "controller",
    [
        diffrax.PIDController(rtol=1e-5, atol=1e-7),
        diffrax.PIDController(rtol=1e-5, atol=1e-7, pcoeff=0.4, icoeff=0.3, dtmax=0.3),
        diffrax.StepTo(ts=jnp.linspace(0.0, 12.0, 61)),
    ],
    ids=["I", "PI", "fixed"],
)
def test_explicit_forward_steps_as_diffrax_does(solver, controller):
    """The same steps from the same first step, hence the same solution and Jacobian."""
    with jax.enable_x64(True):
        ts = jnp.array([0.0, 0.01, 3.0, 3.1, 3.2, 11.0, 12.0])
        y0 = {"angle": jnp.array(0.3), "speed": jnp.array(1.2)}
        dt0 = None if isinstance(controller, diffrax.StepTo) else 0.05

        def solution(adjoint, push):
            return adjoint.diffeqsolve(
                diffrax.ODETerm(pendulum),
                solver,
                0.0,
                12.0,
                dt0,
                y0,
                {"push": push},
                saveat=diffrax.SaveAt(ts=ts),
                stepsize_controller=controller,
            )

        push = jnp.array(0.7)
        ours = solution(adjoints.ExplicitForward(), push)
        theirs = solution(adjoints.Forward(), push)
        assert {k: int(v) for k, v in ours.stats.items()} == {
            k: int(v) for k, v in theirs.stats.items()
        }
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            ours.ys,
            theirs.ys,
        )
        gradients = [
            jax.grad(lambda push, a=adjoint: jnp.sum(solution(a, push).ys["angle"] ** 2))(push)
            for adjoint in (adjoints.ExplicitForward(), adjoints.Forward())
        ]
        np.testing.assert_allclose(*gradients, rtol=1e-9)


@pytest.mark.parametrize("solver", [diffrax.Kvaerno5(), diffrax.Heun(), diffrax.KenCarp4()])
def test_explicit_forward_refuses_other_solvers(solver):
    with pytest.raises(ValueError, match=rf"{type(solver).__name__}.*Tsit5.*Forward\(\)"):
        adjoints.ExplicitForward().check(solver, 100)


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


BOUNDED = [
    adjoints.Backsolve(),
    adjoints.Direct(),
    adjoints.ExplicitReverse(),
    adjoints.Gauss(),
    adjoints.Interpolating(),
    adjoints.Quadrature(),
    adjoints.RecursiveCheckpoint(),
]


@pytest.mark.parametrize("adjoint", BOUNDED, ids=lambda adjoint: type(adjoint).__name__)
def test_bounded_strategies_refuse_unbounded_solves(adjoint):
    with pytest.raises(ValueError, match=r"max_steps=None.*Give max_steps"):
        adjoint.check(diffrax.Tsit5(), None)


def test_backsolve_refuses_solvers_of_several_terms():
    with pytest.raises(ValueError, match=r"KenCarp4.*Forward"):
        adjoints.Backsolve().check(diffrax.KenCarp4(), 100)


CONTINUOUS = [adjoints.Backsolve, adjoints.Gauss, adjoints.Interpolating, adjoints.Quadrature]


@pytest.mark.parametrize("strategy", CONTINUOUS)
def test_backward_tolerances_come_together(strategy):
    with pytest.raises(ValueError, match="both tolerances or neither"):
        strategy(rtol=1e-6)


def test_backsolve_refuses_implicit_solvers():
    with pytest.raises(ValueError, match=r"(?s)Backsolve cannot be right with Kvaerno5.*Gauss"):
        adjoints.Backsolve().check(diffrax.Kvaerno5(), 100)


@pytest.mark.parametrize(
    ("strategy", "setting"), [(adjoints.Gauss, "points"), (adjoints.Backsolve, "max_drift")]
)
def test_settings_are_positive(strategy, setting):
    with pytest.raises(ValueError, match=rf"{setting}.*Got 0"):
        strategy(**{setting: 0})


def test_backsolve_uses_its_own_settings(inputs):
    """A loose backward solve gives a gradient that is off, a tight one does not."""
    expected = jax.grad(lambda y0, args: loss(closed_form(y0, args)), 1)(*inputs)["k"]

    def error(adjoint):
        gradient = jax.grad(lambda y0, args: loss(solve(adjoint, y0, args).ys), 1)
        return abs(float(gradient(*inputs)["k"] / expected) - 1)

    solver = diffrax.Bosh3()
    assert error(adjoints.Backsolve(rtol=1e-10, atol=1e-10, solver=solver)) < 1e-6
    loose = {"rtol": 1e-1, "atol": 1e-1, "solver": solver}
    assert error(adjoints.Backsolve(**loose, max_drift=1.0)) > 1e-6
    assert np.isnan(error(adjoints.Backsolve(**loose)))


def test_implicit_is_refused():
    with pytest.raises(ValueError, match=r"ImplicitAdjoint.*Forward"):
        adjoints.as_adjoint(diffrax.ImplicitAdjoint()).check(diffrax.Tsit5(), 100)
