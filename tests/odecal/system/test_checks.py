import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import odecal
from odecal import Constant, DeclarationError, Derived, Observable, Parameter, State, System

PLACES = {"place": ["lung", "liver", "brain"]}


def declare(rates=None, **attributes):
    """Declare a system of two states, of which one is a vector."""

    def vector_field(self, t, y, p):
        return rates(t, y, p) if rates else {"x": -p.k * y.x, "z": -y.z}

    body = {
        "coords": PLACES,
        "x": State(initial=1.0),
        "z": State(initial=1.0, dims="place"),
        "k": Parameter(dist.LogNormal(0.0, 1.0)),
        "vector_field": vector_field,
    }
    return type("Two", (System,), {**body, **attributes})


def test_a_right_declaration_passes():
    assert list(declare()().declaration.states) == ["x", "z"]


def test_no_state():
    with pytest.raises(DeclarationError, match=r"Two declares no state.*State\(initial=1\.0\)"):
        declare(x=None, z=None)


# The vector field.


@pytest.mark.parametrize("result", [None, [1.0, 2.0], 1.0, ("x", "z")])
def test_vector_field_returns_a_dict(result):
    with pytest.raises(
        DeclarationError,
        match=rf"vector_field returns a {type(result).__name__}\. Expected a dict.*x, z",
    ):
        declare(lambda t, y, p: result)


def test_vector_field_without_a_state():
    with pytest.raises(
        DeclarationError, match=r"no derivative for state `z`.*each of: x, z\. Got: x\."
    ):
        declare(lambda t, y, p: {"x": y.x})


def test_vector_field_with_a_misspelt_state():
    with pytest.raises(
        DeclarationError, match=r"no derivative for state `zeta`.*zeta1.*Did you mean `zeta`\?"
    ):
        declare(
            lambda t, y, p: {"x": y.x, "zeta1": y.zeta},
            z=None,
            zeta=State(initial=1.0),
        )


def test_vector_field_with_one_name_too_many():
    with pytest.raises(
        DeclarationError, match=r"a derivative for `xx`, which is no state.*Did you mean `x`\?"
    ):
        declare(lambda t, y, p: {"x": y.x, "z": y.z, "xx": y.x})


@pytest.mark.parametrize(
    ("rates", "name", "expected", "got"),
    [
        (lambda t, y, p: {"x": y.z, "z": y.z}, "x", "()", "(3,)"),
        (lambda t, y, p: {"x": y.x, "z": y.x}, "z", "(3,)", "()"),
        (lambda t, y, p: {"x": y.x, "z": y.z[:2]}, "z", "(3,)", "(2,)"),
        (lambda t, y, p: {"x": y.x, "z": y.z[:, None]}, "z", "(3,)", "(3, 1)"),
    ],
)
def test_vector_field_with_a_wrong_shape(rates, name, expected, got):
    with pytest.raises(DeclarationError) as caught:
        declare(rates)
    message = str(caught.value)
    assert f"derivative of `{name}` of Two.vector_field has the wrong shape" in message
    assert f"Expected {expected}, as declared by its dims. Got {got}" in message


@pytest.mark.parametrize("rate", ["fast", None])
def test_vector_field_with_no_number(rate):
    with pytest.raises(
        DeclarationError, match=r"as the derivative of `x`\. Expected a real number"
    ):
        declare(lambda t, y, p: {"x": rate, "z": y.z})


def test_vector_field_may_return_plain_numbers():
    declare(lambda t, y, p: {"x": 1, "z": np.zeros(3)})


@pytest.mark.parametrize(
    ("rates", "kind", "suggested"),
    [
        (lambda t, y, p: {"x": y.xx, "z": y.z}, "state `xx`", "x"),
        (lambda t, y, p: {"x": p.kk * y.x, "z": y.z}, "parameter `kk`", "k"),
        (lambda t, y, p: {"x": p.x * y.x, "z": y.z}, "parameter `x`", "x0"),
    ],
)
def test_unknown_name_in_the_vector_field(rates, kind, suggested):
    with pytest.raises(
        DeclarationError,
        match=rf"Two\.vector_field failed: There is no {kind}.*Did you mean `{suggested}`",
    ):
        declare(rates)


def test_forgotten_wrapper_shows_as_an_unknown_parameter():
    with pytest.raises(DeclarationError, match=r"vector_field failed: There is no parameter `m`"):
        declare(lambda t, y, p: {"x": p.m * y.x, "z": y.z}, m=dist.LogNormal(0.0, 1.0))


def test_own_error_is_told_with_its_place():
    def rates(t, y, p):
        raise RuntimeError("not yet written")

    with pytest.raises(DeclarationError, match=r"Two\.vector_field failed: not yet written"):
        declare(rates)


# Control flow and functions that JAX cannot trace.


def branch_on(condition):
    return lambda t, y, p: {"x": -y.x if condition(t, y, p) else y.x, "z": y.z}


def loop(t, y, p):
    x = y.x
    while x < 10.0:
        x = x + 1.0
    return {"x": x, "z": y.z}


@pytest.mark.parametrize(
    "rates",
    [
        branch_on(lambda t, y, p: y.x > 1.0),
        branch_on(lambda t, y, p: p.k > 1.0),
        branch_on(lambda t, y, p: t > 1.0),
        loop,
        lambda t, y, p: {"x": float(y.x), "z": y.z},
        lambda t, y, p: {"x": math.exp(y.x), "z": y.z},
        lambda t, y, p: {"x": max(y.x, 0.0), "z": y.z},
    ],
    ids=["if state", "if parameter", "if time", "while", "float", "math", "max"],
)
def test_decision_by_a_value(rates):
    with pytest.raises(
        DeclarationError, match=r"Two\.vector_field decides by the value.*Use jnp\.where"
    ):
        declare(rates)


@pytest.mark.parametrize(
    "rates",
    [
        lambda t, y, p: {"x": np.exp(y.x), "z": y.z},
        lambda t, y, p: {"x": np.interp(t, [0.0, 1.0], [0.0, 1.0]), "z": y.z},
    ],
    ids=["exp", "interp"],
)
def test_numpy_function(rates):
    with pytest.raises(
        DeclarationError, match=r"Two\.vector_field decides by.*a NumPy function.*jax\.numpy"
    ):
        declare(rates)


def test_choice_by_a_constant_of_the_class_is_fine():
    system = declare(
        lambda t, y, p: {"x": jnp.where(t > 1.0, y.x, jnp.exp(-y.x)), "z": y.z}, k=Constant(1.0)
    )
    assert system().declaration.known["k"] == 1.0


# Observables.


def test_observable_returns_a_distribution():
    with pytest.raises(
        DeclarationError, match=r"Two\.seen returns a .*Expected a distribution.*odecal\.noise"
    ):
        declare(seen=Observable(lambda t, y, p: y.x))


@pytest.mark.parametrize(
    ("law", "dims", "expected", "got"),
    [
        (lambda t, y, p: dist.Normal(y.z, 1.0), (), r"\(\)", r"\(3,\)"),
        (lambda t, y, p: dist.Normal(y.x, 1.0), "place", r"\(3,\)", r"\(\)"),
        (lambda t, y, p: dist.Normal(y.z[:2], 1.0), "place", r"\(3,\)", r"\(2,\)"),
    ],
)
def test_observable_with_a_wrong_shape(law, dims, expected, got):
    with pytest.raises(
        DeclarationError,
        match=rf"distribution \(Normal\) of Two\.seen .*wrong shape\. Expected {expected}.*{got}",
    ):
        declare(seen=Observable(law, dims=dims))


def test_observable_with_an_unknown_name():
    with pytest.raises(
        DeclarationError, match=r"Two\.seen failed: There is no parameter `sigma`\. Expected one of"
    ):
        declare(seen=Observable(lambda t, y, p: odecal.noise.Normal(y.x, p.sigma)))


def test_observable_with_an_unknown_value_of_its_interval():
    with pytest.raises(
        DeclarationError, match=r"Two\.seen failed: There is no interval value `x`.*: t, y"
    ):
        declare(seen=Observable(lambda t, y, p, last: odecal.noise.Normal(last.x, 1.0)))


def test_observable_that_decides_by_a_value():
    with pytest.raises(DeclarationError, match=r"Two\.seen decides by the value.*jnp\.where"):
        declare(seen=Observable(lambda t, y, p: dist.Normal(y.x, 1.0 if y.x > 0 else 2.0)))


def test_joint_observable_of_its_shape_passes():
    law = lambda t, y, p: dist.MultivariateNormal(y.z, jnp.eye(3))  # noqa: E731
    declare(seen=Observable(law, dims="place"))


# Derived quantities and initial values.


def test_derived_with_a_wrong_shape():
    with pytest.raises(
        DeclarationError, match=r"value of Two\.twice .*wrong shape\. Expected \(\).*Got \(2,\)"
    ):
        declare(twice=Derived(lambda p: jnp.array([p.k, p.k])))


def test_derived_with_an_unknown_name():
    with pytest.raises(DeclarationError, match=r"Two\.half failed: There is no parameter `j`"):
        declare(half=Derived(lambda p: p.j / 2))


def test_derived_that_decides_by_a_value():
    with pytest.raises(DeclarationError, match=r"Two\.sign decides by the value.*jnp\.where"):
        declare(sign=Derived(lambda p: 1.0 if p.k > 1.0 else -1.0))


def test_initial_value_with_an_unknown_name():
    with pytest.raises(
        DeclarationError, match=r"The initial value of Two.x failed: There is no parameter `dose`"
    ):
        declare(x=State(initial=lambda p: p.dose))


def test_initial_value_of_a_wrong_shape():
    with pytest.raises(DeclarationError, match=r"initial value of Two.*\bz0?\b"):
        declare(z=State(initial=lambda p: jnp.ones(2), dims="place"))


def test_computed_initial_value_is_spread_over_dims():
    declaration = declare(z=State(initial=lambda p: 2.0 * p.k, dims="place"))().declaration
    p = declaration.parameters({"k": 3.0}, jnp.float32)
    np.testing.assert_allclose(p.z0, [6.0, 6.0, 6.0])


def test_check_leaves_the_precision_of_jax_alone():
    before = jax.config.jax_enable_x64
    declare()
    assert jax.config.jax_enable_x64 == before
