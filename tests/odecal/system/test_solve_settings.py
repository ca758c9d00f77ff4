import dataclasses

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest

from odecal import SettingsError, Solve, adjoints


def test_defaults_are_those_of_a_non_stiff_system_in_double_precision():
    solve = Solve()
    assert isinstance(solve.solver, diffrax.Tsit5)
    assert isinstance(solve.strategy, adjoints.ExplicitForward)
    assert solve.dtype == np.float64


def test_the_default_adjoint_is_one_that_serves_the_solver():
    stiff = dataclasses.replace(Solve(), solver=diffrax.Kvaerno5())
    assert isinstance(stiff.strategy, adjoints.Forward)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="rtol"):
        Solve().rtol = 1e-3


@pytest.mark.parametrize(
    "solver", [diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Kvaerno5(), diffrax.Heun()]
)
def test_takes_adaptive_solvers(solver):
    assert Solve(solver=solver).solver is solver


@pytest.mark.parametrize("solver", [diffrax.Tsit5, "Tsit5", None])
def test_refuses_what_is_no_solver(solver):
    with pytest.raises(SettingsError, match=r"expects a Diffrax solver object.*diffrax\.Tsit5\(\)"):
        Solve(solver=solver)


@pytest.mark.parametrize("solver", [diffrax.Euler(), diffrax.SemiImplicitEuler()])
def test_refuses_solvers_without_an_error_estimate(solver):
    name = type(solver).__name__
    with pytest.raises(SettingsError, match=rf"solver={name}\(\)\).*error estimate.*Kvaerno5"):
        Solve(solver=solver)


@pytest.mark.parametrize("solver", [diffrax.KenCarp4(), diffrax.Sil3(), diffrax.SPaRK()])
def test_refuses_solvers_of_several_terms(solver):
    name = type(solver).__name__
    with pytest.raises(SettingsError, match=rf"solver={name}\(\)\).*single term.*Kvaerno5"):
        Solve(solver=solver)


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("value", [0.0, -1e-6, float("nan"), "1e-6", True])
def test_tolerance_is_a_positive_number(name, value):
    with pytest.raises(SettingsError, match=rf"Solve\({name}=\.\.\.\) expects a positive.*Got"):
        Solve(**{name: value})


def test_the_relative_tolerance_is_not_left_open():
    with pytest.raises(SettingsError, match=r"Solve\(rtol=\.\.\.\) expects a positive.*None"):
        Solve(rtol=None)


@pytest.mark.parametrize("value", [1e-3, np.float64(1e-3), 1])
def test_tolerance_may_be_any_number(value):
    assert Solve(rtol=value).rtol == value


@pytest.mark.parametrize("value", [0, -1, 10.0, True, "100"])
def test_max_steps_is_a_whole_number(value):
    with pytest.raises(SettingsError, match=r"Solve\(max_steps=\.\.\.\).*at least 1\. Got"):
        Solve(max_steps=value)


def test_a_strategy_that_keeps_no_steps_takes_more_of_them():
    kept = adjoints.RecursiveCheckpoint()
    assert Solve().max_steps_or_default == 2**16
    assert (
        Solve(adjoint=kept).max_steps_or_default
        == Solve(solver=diffrax.Kvaerno5()).max_steps_or_default
        == 4096
    )
    assert (
        Solve(max_steps=10).max_steps_or_default
        == Solve(max_steps=10, adjoint=kept).max_steps_or_default
        == 10
    )


@pytest.mark.parametrize("value", [jnp.float32, np.float64, "float32", np.dtype("float64")])
def test_dtype_is_kept_as_a_numpy_dtype(value):
    assert Solve(dtype=value).dtype == np.dtype(value)
    assert isinstance(Solve(dtype=value).dtype, np.dtype)


@pytest.mark.parametrize("value", [jnp.float16, jnp.bfloat16, int, "double precision", 64])
def test_dtype_is_single_or_double(value):
    with pytest.raises(SettingsError, match=r"Solve\(dtype=\.\.\.\).*float64 or.*float32.*Got"):
        Solve(dtype=value)


def test_dtype_of_none_is_refused():
    with pytest.raises(SettingsError, match=r"Solve\(dtype=\.\.\.\).*Got None"):
        Solve(dtype=None)


@pytest.mark.parametrize(
    "adjoint",
    [adjoints.Forward(), adjoints.RecursiveCheckpoint(), adjoints.Direct(), adjoints.Backsolve()],
)
def test_takes_adjoints_as_they_are(adjoint):
    assert Solve(adjoint=adjoint).adjoint is adjoint


@pytest.mark.parametrize(
    ("solver", "strategy"),
    [
        (diffrax.Tsit5(), adjoints.ExplicitForward()),
        (diffrax.Bosh3(), adjoints.ExplicitForward()),
        (diffrax.Kvaerno5(), adjoints.Forward()),
        (diffrax.Heun(), adjoints.Forward()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_default_adjoint_depends_on_the_solver(solver, strategy):
    solve = Solve(solver=solver)
    assert solve.adjoint is None
    assert solve.strategy == strategy


def test_an_adjoint_asked_for_is_the_one_in_force():
    assert Solve(adjoint=adjoints.Backsolve()).strategy == adjoints.Backsolve()


def test_wraps_adjoints_of_diffrax():
    mode = diffrax.ForwardMode()
    adjoint = Solve(adjoint=mode).adjoint
    assert isinstance(adjoint, adjoints.AbstractAdjoint)
    assert adjoint.adjoint is mode


@pytest.mark.parametrize("adjoint", [1, "forward", adjoints.Forward])
def test_refuses_what_is_no_adjoint(adjoint):
    with pytest.raises(SettingsError, match=r"Solve\(solver=Tsit5\(\), adjoint=\.\.\.\) cannot"):
        Solve(adjoint=adjoint)


def test_refuses_an_adjoint_of_steady_states():
    with pytest.raises(SettingsError, match=r"ImplicitAdjoint.*Use odecal\.adjoints\.Forward\(\)"):
        Solve(adjoint=diffrax.ImplicitAdjoint())
