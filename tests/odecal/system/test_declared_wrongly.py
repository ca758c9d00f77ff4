"""Names, attributes and shapes that random declarations found to pass unseen."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr

from odecal import (
    Constant,
    DeclarationError,
    Derived,
    Dosing,
    Event,
    Observable,
    Parameter,
    State,
    System,
    noise,
)


def make(**body):
    field = body.pop("field", lambda self, t, y, p: {name: -y[name] for name in y})
    return type("Made", (System,), {"x": State(1.0), **body, "vector_field": field})


def refuse(pattern, **body):
    with pytest.raises(DeclarationError, match=pattern):
        make(**body)


@pytest.mark.parametrize("name", ["", "a b", "1x", "class", "a/b", "a\n", "a\0", "e\u0301"])
def test_names_that_attributes_do_not_reach(name):
    refuse(r"cannot be the name of a part.*Rename it", **{name: Parameter(dist.Normal(0.0, 1.0))})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time_unit", 1),
        ("time_column", ("time",)),
        ("ignored_columns", 5),
        ("ignored_columns", ["WT", 5]),
        ("solve", "stiff"),
        ("data", 5),
        ("t0", lambda self: 1.0),
        ("t0", "now"),
        ("t0", True),
    ],
)
def test_attributes_of_another_type(name, value):
    refuse(rf"{name}.*expects.*Got", **{name: value})


def test_an_override_may_be_called_self():
    with pytest.raises(DeclarationError, match=r"Made\(self=\.\.\.\) names nothing"):
        make()(**{"self": 1.0})


def varying(location, scale=1.0, **more):
    return Parameter.varying("subject", location=location, scale=scale, **more)


def test_numbers_for_groups_are_not_taken_from_an_array():
    # There are two groups when a declaration is checked, as many as these have values.
    refuse(r"location of Made\.k has the wrong shape.*one number", k=varying([1.0, 2.0]))
    refuse(r"scale of Made\.k has the wrong shape.*one number", k=varying(0.0, [1.0, 2.0]))
    refuse(r"location of Made\.k.*shape \(2,\)", k=varying(lambda p: jnp.ones(2)))
    coords = {"dim": ["a", "b", "c"]}
    refuse(r"Got \(2,\)", k=varying([1.0, 2.0], dims="dim"), coords=coords)
    make(k=varying([1.0, 2.0, 3.0], dims="dim"), coords=coords)
    make(k=varying(lambda p: 1.0, dims="dim"), coords=coords)


def test_complex_numbers_are_refused_everywhere():
    for body in (
        {"x": State(lambda p: 1j)},
        {"x": State(1.0, dosing=Dosing(lag=lambda p: 1j))},
        {"k": varying(lambda p: 1j)},
        {"k": Derived(lambda p: 1j)},
        {"e": Event(lambda t, y, p: 1j, lambda t, y, p: {"x": 1.0})},
        {"e": Event(lambda t, y, p: 1.0, lambda t, y, p: {"x": 1j})},
    ):
        refuse(r"complex", **body)


def test_what_a_function_raises_is_told_with_what_to_do():
    def seen(t, y, p):
        raise KeyError

    refuse(r"Made\.seen failed: KeyError\. Expected a function.*Correct it", seen=Observable(seen))
    make(seen=Observable(lambda t, y, p: noise.Normal(y.x, 1.0)))


def test_labelled_values_go_to_their_labels():
    known = {"coords": {"d": ["a", "b"], "e": [0, 1, 2]}}
    series = pd.Series([1.0, 2.0], index=["b", "a"])
    array = xr.DataArray(
        np.arange(6.0).reshape(3, 2), {"e": [2, 1, 0], "d": ["b", "a"]}, ("e", "d")
    )
    for value in (series, series.to_xarray().rename(index="d")):
        made = make(c=Constant(value, dims="d"), **known)()
        assert made.declaration.known["c"].tolist() == [2.0, 1.0]
    for value in (array, array.T.to_pandas()):
        made = make(c=Constant(value, dims=("d", "e")), **known)()
        assert made.declaration.known["c"].tolist() == [[5.0, 3.0, 1.0], [4.0, 2.0, 0.0]]
    made = make(c=Constant(pd.Series([1.0, 2.0]), dims="d"), **known)()
    assert made.declaration.known["c"].tolist() == [1.0, 2.0]
    refuse("labels of `d`.*differ", c=Constant(series.rename({"a": "x"}), dims="d"), **known)
    refuse("has the dims e, d", c=Constant(array, dims="d"), **known)


def test_values_that_would_be_changed():
    refuse(r"from 2\^53 on", c=Constant(2**53 + 1))
    with pytest.raises(DeclarationError, match="expects a finite number"):
        Constant(np.ma.masked_array([1.0, 2.0], [True, False]))


@pytest.mark.parametrize(
    "coords", [{"d": ["a", "a"]}, {"d": [1, "1"]}, {"d": []}, {1: ["a"]}, {"": "a"}]
)
def test_labels_that_are_none(coords):
    refuse("coords of Made expects", coords=coords)
