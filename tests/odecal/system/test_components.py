import functools

import numpy as np
import numpyro.distributions as dist
import pytest

from odecal import Constant, DeclarationError, Derived, Observable, OdecalError, Parameter, State

PRIOR = dist.LogNormal(0.0, 1.0)


def normal(t, y, p):
    return dist.Normal(y.x, 1.0)


def over_interval(t, y, p, last):
    return dist.Normal(y.x - last.y.x, 1.0)


def of_parameters(p):
    return p.k


@pytest.mark.parametrize(
    ("kind", "first", "field"),
    [
        (State, 1.0, "initial"),
        (Parameter, PRIOR, "prior"),
        (Constant, 3.0, "value"),
        (Observable, normal, "law"),
        (Derived, of_parameters, "function"),
    ],
)
def test_keeps_what_it_is_given(kind, first, field):
    part = kind(first, "mg", "age", "a line")
    assert getattr(part, field) is first
    assert (part.unit, part.dims, part.description) == ("mg", ("age",), "a line")


@pytest.mark.parametrize(
    ("dims", "expected"),
    [((), ()), ("age", ("age",)), (["age", "sex"], ("age", "sex"))],
)
def test_dims_become_a_tuple(dims, expected):
    assert Parameter(PRIOR, dims=dims).dims == expected


@pytest.mark.parametrize("field", ["unit", "description"])
def test_unit_and_description_are_text(field):
    with pytest.raises(DeclarationError, match=rf"State\({field}=\.\.\.\) expects text.*Got 3"):
        State(1.0, **{field: 3})


def test_parts_are_frozen():
    with pytest.raises(AttributeError, match="unit"):
        Parameter(PRIOR).unit = "kg"


def test_declaration_errors_are_value_errors_of_odecal():
    with pytest.raises(OdecalError) as caught:
        Constant("much")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("initial", [1, 0.5, np.ones(2), [1.0, 2.0], PRIOR, of_parameters])
def test_state_takes_number_prior_or_function(initial):
    assert State(initial).initial is initial


@pytest.mark.parametrize("initial", [None, "one", True, np.nan, np.inf, [1.0, "x"], {"a": 1}])
def test_state_refuses_other_initial_values(initial):
    with pytest.raises(
        DeclarationError, match=r"State\(initial=\.\.\.\) expects a number, a NumPyro distribution"
    ):
        State(initial)


@pytest.mark.parametrize("prior", [0.5, None, "LogNormal", dist.LogNormal, of_parameters])
def test_parameter_refuses_what_is_no_distribution(prior):
    with pytest.raises(DeclarationError, match=r"Parameter\(prior\).*known value use Constant"):
        Parameter(prior)


@pytest.mark.parametrize("value", [np.nan, -np.inf, "3", None, True, PRIOR, of_parameters, 1j])
def test_constant_refuses_what_is_no_number(value):
    with pytest.raises(DeclarationError, match=r"Constant\(value\).*unknown use Parameter"):
        Constant(value)


def test_constant_refuses_text_inside_an_array():
    with pytest.raises(DeclarationError, match=r"Constant\(value\).*unknown use Parameter"):
        Constant(["3", "4"])


def three_and_a_default(t, y, p, scale=2.0):
    return dist.Normal(y.x, scale)


class Measurement:
    def __call__(self, t, y, p):
        return dist.Normal(y.x, 1.0)


@pytest.mark.parametrize(
    ("law", "interval"),
    [
        (normal, False),
        (three_and_a_default, False),
        (functools.partial(three_and_a_default, scale=1.0), False),
        (Measurement(), False),
        (over_interval, True),
    ],
)
def test_observable_over_interval_by_its_number_of_arguments(law, interval):
    assert Observable(law).over_interval is interval


@pytest.mark.parametrize(
    "law",
    [
        lambda p: dist.Normal(p.k, 1.0),
        lambda t, y: dist.Normal(y.x, 1.0),
        lambda t, y, p, last, more: dist.Normal(y.x, 1.0),
        lambda *arguments: dist.Normal(0.0, 1.0),
        dist.Normal,
        dist.Normal(0.0, 1.0),
        "x",
        None,
    ],
)
def test_observable_refuses_other_functions(law):
    with pytest.raises(
        DeclarationError, match=r"Observable\(\.\.\.\) expects a function of \(t, y, p\) or"
    ):
        Observable(law)


def test_observable_says_how_many_arguments_it_got():
    with pytest.raises(DeclarationError, match="of 2 arguments"):
        Observable(lambda t, y: dist.Normal(y.x, 1.0))


def test_observable_keeps_its_interval():
    assert Observable(over_interval, interval=7.0).interval == 7.0


@pytest.mark.parametrize("interval", [0.0, -1.0, np.nan])
def test_interval_is_positive(interval):
    with pytest.raises(DeclarationError, match=r"interval=\.\.\.\) expects a positive length"):
        Observable(over_interval, interval=interval)


@pytest.mark.parametrize("interval", ["week", [1.0]])
def test_interval_is_a_number(interval):
    with pytest.raises(DeclarationError, match=r"interval=\.\.\.\) expects a positive length"):
        Observable(over_interval, interval=interval)


def test_interval_needs_the_fourth_argument():
    with pytest.raises(DeclarationError, match=r"\(t, y, p, last\).*interval=7.0 and 3 arguments"):
        Observable(normal, interval=7.0)


@pytest.mark.parametrize("function", [0.5, None, lambda: 1.0, lambda t, p: 1.0, normal])
def test_derived_refuses_what_is_no_function_of_the_parameters(function):
    with pytest.raises(DeclarationError, match=r"Derived\(\.\.\.\) expects.*`lambda p: \.\.\.`"):
        Derived(function)
