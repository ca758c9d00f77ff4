"""Random declarations: a system is made, shown and compiled, or an OdecalError tells why not."""

import warnings

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import odecal
from odecal import (
    Constant,
    Correlation,
    Covariate,
    Derived,
    Dosing,
    Event,
    Input,
    Observable,
    OdecalError,
    Parameter,
    Solve,
    State,
    System,
    noise,
)

FEW = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FEW, max_examples=1000)

GOOD_NAMES = ("a", "b", "x1", "rate", "sigma", "σ", "Level", "k_on", "é")
NAMES = (
    *GOOD_NAMES,
    *("t", "y", "p", "chain", "draw", "time", "class", "lambda", "None", "x", "x0", "a0", "x1_0"),
    *("__init__", "_x", "__class__", "__doc__", "solve", "coords", "data", "individual", "items"),
    *("keys", "values", "get", "observation", "replicate", "a b", "1x", "", "a/b", "a.b", "self"),
    *(
        "declaration",
        "vector_field",
        "states",
        "rate_location",
        "rate_raw",
        "time_unit",
        "t0",
        "k" * 300,
    ),
    *(
        "a\n",
        "a\0",
        "dim",
        "subject",
        "a[0]",
        "e\u0301",
        "solver_steps",
        "name",
        "draws",
        "lp",
        "index",
    ),
)


def fails(*_):
    raise ZeroDivisionError("of the user")


# Whatever may be given by mistake.
THINGS = (
    *(
        0,
        1.0,
        -1,
        np.nan,
        np.inf,
        10**400,
        1j,
        True,
        None,
        "text",
        "",
        b"x",
        (),
        [],
        {},
        set(),
        object,
    ),
    *([1.0, 2.0], [[1.0], [2.0, 3.0]], ["a"], np.ones(2), np.ones((2, 2)), np.array("a"), object()),
    *(
        np.array([1.0, np.nan]),
        np.float32(2),
        jnp.ones(2),
        jnp.array(1.0),
        range(3),
        iter([1]),
        ...,
    ),
    *(
        dist.Normal(0.0, 1.0),
        dist.LogNormal(0.0, 1.0),
        dist.HalfNormal(1.0),
        dist.Uniform(0.0, 1.0),
    ),
    *(
        dist.Dirichlet(jnp.ones(2)),
        dist.Poisson(1.0),
        dist.Delta(1.0),
        dist.Beta(1.0, 1.0),
        dist.Normal,
    ),
    *(dist.Normal(jnp.zeros(2), 1.0), dist.Normal(jnp.zeros(2), 1.0).to_event(1), dist.LKJ(2)),
    *(dist.TruncatedNormal(0.0, 1.0, low=0.0), dist.ImproperUniform(dist.constraints.real, (), ())),
    *(
        dist.Normal(0.0, -1.0, validate_args=False),
        dist.Normal(jnp.nan, 1.0, validate_args=False),
        dist.Categorical(jnp.ones(2) / 2),
        dist.Unit(0.0),
    ),
    *(
        dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)),
        dist.Uniform(1.0, 0.0, validate_args=False),
        dist.Gamma(2.0),
    ),
    *(
        lambda: 1.0,
        lambda p: 1.0,
        lambda p: p.a,
        lambda p: None,
        lambda t, y, p: dist.Normal(0.0, 1.0),
    ),
    *(
        lambda p: jnp.ones(2),
        lambda p: "x",
        lambda t, y, p: 1.0,
        lambda *a: 1.0,
        fails,
        lambda p: 1j,
    ),
    *(
        lambda t, y, p, last: dist.Normal(last.t, 1.0),
        lambda t, y, p: None,
        print,
        len,
        pd.DataFrame(),
    ),
    *(
        Parameter(dist.Normal(0.0, 1.0)),
        State(1.0),
        Constant(1.0),
        Parameter,
        State,
        Dosing(),
    ),
    *(
        Parameter.varying("subject", location=0.0, scale=1.0),
        Solve(),
        odecal.links.Log(),
        noise.Normal,
    ),
    *(
        "log",
        "subject",
        ("subject",),
        "dim",
        ("dim",),
        ("dim", "dim"),
        "µg/L",
        "\0",
        "\ud800",
        "a" * 500,
    ),
)
anything = st.sampled_from(THINGS)
names = st.sampled_from(GOOD_NAMES * 30 + NAMES)
units = st.one_of(
    st.just(""), st.just("mg/L"), st.sampled_from(["µ", "kg^", "%%", "\n", "a" * 300])
)
dims = st.sampled_from([(), (), (), "dim", ("dim",), ("dim", "other"), "nowhere"])
priors = st.sampled_from(
    [
        dist.Normal(0.0, 1.0),
        dist.LogNormal(0.0, 1.0),
        dist.HalfNormal(1.0),
        dist.Uniform(0.0, 2.0),
        dist.TruncatedNormal(0.0, 1.0, low=0.0),
        dist.Beta(2.0, 2.0),
        dist.Gamma(2.0, 1.0),
    ]
)
numbers = st.sampled_from([0.0, 1.0, -2, 1e6, 1e-6, np.float32(2), [1.0, 2.0], np.ones(2)])
functions = st.sampled_from(
    [lambda p: 1.0, lambda p: jnp.ones(()), lambda p: sum(map(jnp.sum, p.values()))]
)
usual_noise = st.sampled_from(
    [
        lambda t, y, p: noise.Normal(sum(map(jnp.sum, y.values())), 1.0),
        lambda t, y, p: noise.LogNormal(jnp.exp(t), 1.0),
        lambda t, y, p: noise.StudentT(0.0, 1.0),
        lambda t, y, p: noise.Poisson(1.0),
        lambda t, y, p: noise.AdditiveProportional(1.0, 1.0, 1.0),
        lambda t, y, p: noise.NegativeBinomial(1.0, overdispersion=1.0),
        lambda t, y, p, last: noise.Normal(t - last.t, 1.0),
        lambda t, y, p: noise.Normal(y["a"], 1.0),
        lambda t, y, p: dist.Normal(jnp.zeros(2), 1.0),
    ]
)


def either(usual):
    """Mostly what is meant, at times anything."""
    return st.integers(0, 15).flatmap(lambda i: anything if i == 7 else usual)


def made(kind, *arguments, **named):
    """A part, not yet made: its kind and what it is given."""
    return st.tuples(
        st.just(kind), st.tuples(*arguments), st.fixed_dictionaries({}, optional=named)
    )


about = {"unit": either(units), "dims": either(dims), "description": either(st.just("one line"))}
levels = st.one_of(priors, numbers, functions)
varying = {
    "link": either(st.sampled_from(["log", "logit", "identity", odecal.links.Logit(0.0, 10.0)])),
    "centring": either(
        st.sampled_from([None, odecal.centring.Centred(), odecal.centring.Partial(0.5)])
    ),
}
groups = st.sampled_from(["subject", "subject", ("subject", "site"), "site", "time", "a", ""])


def varies(pooling):
    def make(group, location, scale, **more):
        return pooling(group, location=location, scale=scale, **more)

    return made(
        make, either(groups), either(levels), either(st.one_of(priors, numbers)), **varying, **about
    )


initials = st.one_of(priors, numbers, functions)
parts = st.one_of(
    made(State, either(initials), **about),
    made(State, either(initials), **about, dosing=either(st.just(Dosing(lag=0.5)))),
    made(Parameter, either(priors), **about),
    made(Constant, either(numbers), **about),
    made(
        Observable,
        either(usual_noise),
        **about,
        lloq=either(st.just(0.5)),
        uloq=either(st.just(9.0)),
    ),
    made(Observable, either(usual_noise), interval=either(st.just(1.0))),
    made(Derived, either(functions), **about),
    made(Covariate, either(st.sampled_from([None, "WT", "time", "a", ""])), unit=either(units)),
    made(Input, either(st.sampled_from([None, "heat", "time"])), unit=either(units)),
    made(Correlation, either(names), either(names), concentration=either(st.just(2.0))),
    made(Event, either(st.just(lambda t, y, p: 1.0 + t)), either(st.just(lambda t, y, p: {}))),
    *map(varies, (Parameter.varying, Parameter.unpooled, Parameter.pooled)),
    st.tuples(st.just(lambda x: x), st.tuples(anything), st.just({})),
)


def of_each(rate):
    return lambda self, t, y, p: {name: rate(y[name]) for name in y}


fields = either(
    st.sampled_from(
        [
            *[of_each(lambda x: -0.1 * x)] * 40,
            of_each(lambda x: x[None]),
            of_each(lambda x: 1j * x),
            of_each(lambda x: "x"),
            of_each(lambda x: None),
            lambda self, t, y, p: {},
            lambda self, t, y, p: {"a": 1.0, **dict(y)},
            lambda self, t, y, p: list(y),
            lambda self, t, y, p: y,
            lambda self, t, y, p: y.no_such_state,
            lambda self, t, y, p: {n: 1.0 if x > 0 else 0.0 for n, x in y.items()},
            lambda self, t, y, p: {n: float(x) for n, x in y.items()},
            lambda self, t, y: y,
            lambda self, t, y, p: fails(),
        ]
    )
)
attributes = st.fixed_dictionaries(
    {
        "coords": either(
            st.sampled_from([{"dim": ["u", "v"], "other": [1, 2]}, {"dim": range(2)}, {}])
        )
    },
    optional={
        "time_unit": either(units),
        "time_column": either(st.sampled_from([None, "time", "week"])),
        "ignored_columns": either(st.sampled_from(["note", ("note",), ["note", "WT"]])),
        "individual": either(st.sampled_from([None, "subject", ("site", "subject"), "a"])),
        "t0": either(st.sampled_from([0.0, -1, None])),
        "solve": either(st.just(Solve())),
        "data": either(st.none()),
    },
)


@st.composite
def declarations(draw):
    """The attributes of a class, some overrides, and whether it is to be compiled."""
    wanted = draw(st.lists(st.tuples(names, parts), max_size=4))
    more = [("a", (State, (1.0,), {}))] if draw(st.integers(0, 5)) else []
    more += [("obs", draw(parts))] if draw(st.booleans()) else []
    more += (
        [("seen", (Observable, (lambda t, y, p: noise.Normal(t, 1.0),), {}))]
        if draw(st.integers(0, 3))
        else []
    )
    overrides = {}
    for _ in range(draw(st.integers(0, 2))):
        overrides[draw(st.one_of(st.sampled_from([n for n, _ in wanted] or ["a"]), names))] = draw(
            st.one_of(anything, priors, numbers)
        )
    return dict(wanted + more), draw(attributes), draw(fields), overrides


def table_of(system):
    """A table that fits a system, as far as it can be told."""
    declaration = system.declaration
    roles = odecal._data.columns.column_roles(declaration)
    count = 4
    columns = {"time": np.arange(1.0, count + 1)}
    for name in roles.columns:
        columns.setdefault(name, np.ones(count))
    for name in roles.labels:
        columns[name] = [1, 1, 2, 2]
    for name in declaration.covariates:
        columns[roles.covariates[name]] = [1.0, 1.0, 1.0, 1.0]
    return pd.DataFrame(columns)


def attempt(action):
    """What an action gives; None where it raises an OdecalError, which must say what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return action()
        except OdecalError as error:
            message = str(error)
    assert "xpect" in message, message
    return None


def check(declared, compiled):
    wanted, attributes_, field, overrides = declared
    body = {**attributes_, "vector_field": field}
    for name, (kind, arguments, named) in wanted.items():
        part = attempt(lambda kind=kind, a=arguments, n=named: kind(*a, **n))
        if part is not None:
            body[name] = part
    cls = attempt(lambda: type("Random", (System,), body))
    if cls is None:
        return
    system = attempt(cls)
    if system is None:
        return
    assert isinstance(repr(system), str)
    if overrides:
        system = attempt(lambda: cls(**overrides)) or system
        assert isinstance(repr(system), str)
    if compiled and system.declaration.observables:
        model = attempt(lambda: odecal.compile(system, table_of(system)))
        assert model is None or isinstance(repr(model), str)


@FEW
@given(declarations())
def test_declarations(declared):
    check(declared, compiled=False)


@settings(FEW, max_examples=25)
@given(declarations())
def test_compiled_declarations(declared):
    check(declared, compiled=True)


@pytest.mark.slow
@MANY
@given(declarations())
def test_many_declarations(declared):
    check(declared, compiled=True)
