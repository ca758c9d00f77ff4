import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import odecal
from odecal import Constant, DeclarationError, Derived, Observable, Parameter, State, System
from odecal._system.declaration import initial_name


class Decay(System):
    time_unit = "h"
    t0 = 0.0

    volume = Constant(2.0, unit="L", description="of the vessel")
    amount = State(initial=dist.LogNormal(0.0, 0.5), unit="mg", description="drug left")
    lost = State(initial=0.0, unit="mg")
    rate = Parameter(dist.LogNormal(0.0, 1.0), unit="1/h")
    sigma = Parameter(dist.HalfNormal(0.1), unit="mg/L")

    def vector_field(self, t, y, p):
        return {"amount": -p.rate * y.amount, "lost": p.rate * y.amount}

    measured = Observable(
        lambda t, y, p: odecal.noise.Normal(y.amount / p.volume, p.sigma), unit="mg/L"
    )
    half_life = Derived(lambda p: jnp.log(2.0) / p.rate, unit="h")


LABELS = {"place": ["lung", "liver", "brain"]}


class Compartments(System):
    coords = LABELS

    x = State(initial=1.0, dims="place")
    k = Parameter(dist.LogNormal(0.0, 1.0), dims="place")

    def vector_field(self, t, y, p):
        return {"x": -p.k * y.x}


def values_of(declaration):
    return {name: np.ones(site.shape) for name, site in declaration.sites.items()}


def make(**attributes):
    """A minimal system with more attributes."""

    def vector_field(self, t, y, p):
        return {"x": -y.x}

    body = {"x": State(initial=1.0), "vector_field": vector_field}
    return type("Small", (System,), {**body, **attributes})


def test_declares_parts_by_kind_and_in_order():
    declaration = Decay().declaration
    assert list(declaration.components) == [
        "volume",
        "amount",
        "lost",
        "rate",
        "sigma",
        "measured",
        "half_life",
    ]
    assert list(declaration.states) == ["amount", "lost"]
    assert list(declaration.observables) == ["measured"]
    assert list(declaration.derived) == ["half_life"]


def test_samples_parameters_and_unknown_initial_values():
    declaration = Decay().declaration
    assert list(declaration.sites) == ["rate", "sigma", "amount0"]
    assert declaration.sites["amount0"].component.unit == "mg"
    assert set(declaration.known) == {"volume", "lost0"}


def test_reads_its_parts_as_attributes():
    system = Decay(rate=0.5)
    assert system.rate.value == 0.5
    assert system.amount is system.declaration.components["amount"]


@pytest.mark.parametrize(("state", "expected"), [("hare", "hare0"), ("x1", "x1_0"), ("a_", "a_0")])
def test_name_of_an_initial_value(state, expected):
    assert initial_name(state) == expected


def test_parameters_have_constants_sites_and_initial_values():
    system = Decay(lost=lambda p: p.rate * p.amount0 + p.volume)
    p = system.declaration.parameters({"rate": 3.0, "sigma": 0.1, "amount0": 5.0}, jnp.float32)
    assert set(p) == {"volume", "rate", "sigma", "amount0", "lost0"}
    assert p.lost0 == pytest.approx(17.0)
    y = system.declaration.initial_state(p)
    assert dict(y) == {"amount": p.amount0, "lost": p.lost0}


# Inheritance.


class WithDose(Decay):
    dose = Parameter(dist.HalfNormal(1.0))
    rate = Parameter(dist.LogNormal(1.0, 0.1), unit="1/h")
    half_life = None

    def vector_field(self, t, y, p):
        rates = super().vector_field(t, y, p)
        return {**rates, "amount": rates["amount"] + p.dose}


def test_subclass_adds_replaces_and_drops_parts():
    declaration = WithDose().declaration
    assert list(declaration.components) == [
        "volume",
        "amount",
        "lost",
        "rate",
        "sigma",
        "measured",
        "dose",
    ]
    assert declaration.components["rate"].prior.loc == 1.0


def test_subclass_leaves_its_base_alone():
    assert "half_life" in Decay().declaration.components
    assert Decay().declaration.components["rate"].prior.loc == 0.0


def test_subclass_calls_the_vector_field_of_its_base():
    system = WithDose()
    y = {"amount": 2.0, "lost": 0.0}
    p = {"rate": 0.5, "dose": 10.0}
    rates = system.vector_field(
        0.0, odecal._system.values.Values(y), odecal._system.values.Values(p)
    )
    assert rates == {"amount": 9.0, "lost": 1.0}


def test_abstract_base_without_a_vector_field_can_be_declared_and_extended():
    class Base(System):
        x = State(initial=1.0)

    class Full(Base):
        def vector_field(self, t, y, p):
            return {"x": -y.x}

    assert list(Full().declaration.states) == ["x"]
    with pytest.raises(DeclarationError, match=r"Base has no vector_field.*def vector_field"):
        Base()


def test_parts_of_a_mixin_are_inherited():
    class Noise:
        sigma = Parameter(dist.HalfNormal(1.0))

    class Mixed(Noise, System):
        x = State(initial=1.0)

        def vector_field(self, t, y, p):
            return {"x": -p.sigma * y.x}

    assert list(Mixed().declaration.sites) == ["sigma"]


def test_mistakes_show_when_the_class_is_made():
    with pytest.raises(DeclarationError, match="declares no state"):

        class Empty(System):
            def vector_field(self, t, y, p):
                return {}


# Overrides.


def test_number_fixes_a_parameter():
    declaration = Decay(rate=0.5).declaration
    assert "rate" not in declaration.sites
    assert declaration.known["rate"] == 0.5
    assert declaration.components["rate"].unit == "1/h"


def test_distribution_replaces_a_prior():
    prior = dist.Gamma(2.0, 1.0)
    component = Decay(rate=prior).declaration.components["rate"]
    assert component.prior is prior
    assert component.unit == "1/h"


def test_distribution_makes_a_constant_unknown():
    declaration = Decay(volume=dist.LogNormal(1.0, 0.1)).declaration
    assert "volume" in declaration.sites
    assert declaration.components["volume"].description == "of the vessel"


def test_number_changes_a_constant():
    assert Decay(volume=3.0).declaration.known["volume"] == 3.0


@pytest.mark.parametrize("key", ["amount", "amount0"])
def test_number_sets_an_initial_value(key):
    declaration = Decay(**{key: 2.0}).declaration
    assert "amount0" not in declaration.sites
    assert declaration.known["amount0"] == 2.0
    assert declaration.components["amount"].unit == "mg"


@pytest.mark.parametrize("key", ["lost", "lost0"])
def test_distribution_makes_an_initial_value_unknown(key):
    assert "lost0" in Decay(**{key: dist.HalfNormal(1.0)}).declaration.sites


def test_function_computes_an_initial_value():
    declaration = Decay(amount=lambda p: 2.0 * p.volume).declaration
    assert "amount0" not in declaration.sites
    assert declaration.parameters({"rate": 1.0, "sigma": 1.0}, jnp.float32).amount0 == 4.0


@pytest.mark.parametrize("name", ["measured", "half_life"])
def test_none_leaves_a_part_out(name):
    assert name not in Decay(**{name: None}).declaration.components


def test_function_replaces_a_noise_model_and_keeps_its_unit():
    def law(t, y, p):
        return odecal.noise.StudentT(y.amount, p.sigma)

    component = Decay(measured=law).declaration.components["measured"]
    assert component.law is law
    assert component.unit == "mg/L"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("amount", State(1.0)),
        ("rate", Parameter(dist.HalfNormal(1.0))),
        ("rate", Constant(1.0)),
        ("volume", Parameter(dist.HalfNormal(1.0))),
        ("measured", Observable(lambda t, y, p: dist.Normal(y.amount, 1.0))),
        ("half_life", Derived(lambda p: 1.0 / p.rate)),
    ],
)
def test_a_whole_part_replaces_a_part(name, part):
    assert Decay(**{name: part}).declaration.components[name] is part


def test_overrides_leave_the_class_alone():
    Decay(rate=0.5, measured=None)
    assert {"rate", "sigma", "amount0"} == set(Decay().declaration.sites)
    assert "measured" in Decay().declaration.observables


@pytest.mark.parametrize("key", ["rat", "amuont0"])
def test_unknown_override_is_refused_with_a_suggestion(key):
    expected = {"rat": "rate", "amuont0": "amount0"}[key]
    with pytest.raises(
        DeclarationError, match=rf"Decay\({key}=\.\.\.\) names nothing.*Did you mean `{expected}`"
    ):
        Decay(**{key: 1.0})


def test_initial_value_given_twice_is_refused():
    with pytest.raises(
        DeclarationError, match=r"initial value of `amount` twice\. Give one of them"
    ):
        Decay(amount=1.0, amount0=2.0)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("amount", None, "a number, a distribution or a function"),
        ("amount", "two", "a number, a distribution or a function"),
        ("rate", None, r"a number \(to fix it\) or a distribution"),
        ("rate", lambda p: 1.0, r"a number \(to fix it\) or a distribution"),
        ("rate", np.nan, r"a number \(to fix it\) or a distribution"),
        ("volume", "big", r"a number, or a distribution \(to make it unknown\)"),
        ("measured", 1.0, r"None \(to leave it out\) or a Observable"),
        ("half_life", 1.0, r"None \(to leave it out\) or a Derived"),
    ],
)
def test_override_of_another_kind_is_refused(key, value, expected):
    with pytest.raises(DeclarationError, match=rf"Decay\({key}=\.\.\.\) expects {expected}.*Got"):
        Decay(**{key: value})


# Initial time and named dimensions.


def test_initial_time_is_the_class_s_unless_given():
    assert Decay().t0 == 0.0
    assert Decay(t0=-2).t0 == -2.0
    assert Compartments().t0 is None


def test_initial_time_that_is_no_number_is_refused():
    with pytest.raises(DeclarationError, match="t0"):
        Decay(t0="noon")


def test_dims_give_shapes():
    declaration = Compartments().declaration
    assert declaration.sites["k"].shape == (3,)
    assert declaration.sites["k"].prior.batch_shape == (3,)
    assert declaration.known["x0"].shape == (3,)


def test_coords_of_an_instance_replace_labels():
    system = Compartments(coords={"place": ["a", "b"]})
    assert system.declaration.sites["k"].shape == (2,)
    np.testing.assert_array_equal(system.coords["place"], ["a", "b"])
    assert Compartments().declaration.sites["k"].shape == (3,)


def test_labels_may_come_with_the_instance():
    class Later(System):
        x = State(initial=1.0, dims="place")

        def vector_field(self, t, y, p):
            return {"x": -y.x}

    assert Later(coords=LABELS).declaration.shape("x") == (3,)
    with pytest.raises(
        DeclarationError, match=r"Later\.x has the dim `place`, which has no labels.*coords"
    ):
        Later()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", [1.0, 2.0]),
        ("x", [1.0, 2.0]),
        ("k", dist.LogNormal(jnp.zeros(2), 1.0)),
        ("k", dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2))),
    ],
)
def test_value_or_prior_of_a_wrong_shape_is_refused(key, value):
    with pytest.raises(
        DeclarationError,
        match=rf"of Compartments\.{key} has the wrong shape. Expected \(3,\).*Got \(2,\)",
    ):
        Compartments(**{key: value})


@pytest.mark.parametrize(
    "prior",
    [
        dist.LogNormal(0.0, 1.0),
        dist.LogNormal(jnp.arange(3.0), 1.0),
        dist.Dirichlet(jnp.ones(3)),
        dist.Normal(jnp.zeros(3), 1.0).to_event(1),
    ],
)
def test_prior_of_a_vector_is_scalar_or_of_its_shape(prior):
    assert Compartments(k=prior).declaration.sites["k"].prior.shape() == (3,)


@pytest.mark.parametrize("prior", [dist.Delta(1.0), dist.Delta(jnp.ones(3)).to_event(1)])
def test_a_single_point_is_no_prior(prior):
    with pytest.raises(
        DeclarationError, match=r"Compartments\.k is a single point.*Constant\(value\)"
    ):
        Compartments(k=prior)


def test_a_dimension_is_named_once():
    with pytest.raises(DeclarationError, match=r"different names. Got \('age', 'age'\).*coords"):
        Constant([[1.0]], dims=("age", "age"))


@pytest.mark.parametrize("key", ["rate", "amount"])
def test_discrete_prior_is_refused(key):
    with pytest.raises(
        DeclarationError, match=rf"prior of Decay\.{key} is discrete \(Poisson\).*continuous one"
    ):
        Decay(**{key: dist.Poisson(3.0)})


# Names.


@pytest.mark.parametrize(
    "name",
    [
        # names of results
        "chain",
        "draw",
        "time",
        "observation",
        "replicate",
        # attributes of System
        "solve",
        "data",
        "coords",
        "t0",
        "time_unit",
        "declaration",
        # private
        "_k",
    ],
)
def test_reserved_name_is_refused(name):
    with pytest.raises(DeclarationError, match=rf"Small\.{name} cannot be the name.*Rename it"):
        make(**{name: Parameter(dist.HalfNormal(1.0))})


@pytest.mark.parametrize("name", ["solver_steps", "solve_failed"])
def test_name_of_a_fact_about_the_solve_is_refused(name):
    with pytest.raises(DeclarationError, match=rf"Small\.{name} cannot be the name.*Rename it"):
        make(**{name: Parameter(dist.HalfNormal(1.0))})


@pytest.mark.parametrize("name", ["keys", "items", "values", "get"])
def test_name_of_a_method_of_the_record_is_refused(name):
    with pytest.raises(DeclarationError, match=rf"Small\.{name} cannot be the name.*Rename it"):
        make(**{name: Parameter(dist.HalfNormal(1.0))})


def test_name_of_a_dim_is_refused():
    with pytest.raises(DeclarationError, match=r"Small\.place cannot be the name.*Rename it"):
        make(coords=LABELS, place=Parameter(dist.HalfNormal(1.0)))


@pytest.mark.parametrize("dim", ["chain", "draw", "time"])
def test_reserved_dim_is_refused(dim):
    with pytest.raises(DeclarationError, match=rf"(?i)`{dim}`.*rename"):
        make(coords={dim: [1, 2]}, k=Parameter(dist.HalfNormal(1.0), dims=dim))


def test_name_of_an_initial_value_is_refused():
    with pytest.raises(
        DeclarationError, match=r"Small\.x0 has the name of the initial value of the state `x`"
    ):
        make(x0=Parameter(dist.HalfNormal(1.0)))


def test_states_whose_initial_values_share_a_name_are_refused():
    class_body = {"x1": State(1.0), "x1_": State(2.0), "x": None}

    def vector_field(self, t, y, p):
        return {"x1": -y.x1, "x1_": -y.x1_}

    with pytest.raises(DeclarationError, match=r"(?i)x1_.*rename"):
        make(**class_body, vector_field=vector_field)


@pytest.mark.parametrize("kind", [State, Parameter, Observable])
def test_class_in_place_of_an_object_is_refused(kind):
    with pytest.raises(
        DeclarationError,
        match=rf"Small\.part is the class {kind.__name__}.*such as {kind.__name__}\(\.\.\.\)",
    ):
        make(part=kind)


def test_attributes_that_are_no_parts_are_left_alone():
    system = make(limit=3.0)()
    assert system.limit == 3.0
    assert list(system.declaration.components) == ["x"]


# Frozen, and shown.


@pytest.mark.parametrize("name", ["rate", "t0", "anything"])
def test_instance_is_frozen(name):
    system = Decay()
    with pytest.raises(AttributeError, match=rf"frozen: cannot set `{name}`.*Decay\({name}="):
        setattr(system, name, 1.0)


def test_table_has_a_line_for_every_part():
    assert repr(Decay()).splitlines() == [
        "Decay: time in h, from 0",
        "  state       amount     amount0 ~ LogNormal(loc=0, scale=0.5)  mg    drug left",
        "  state       lost       lost0 = 0                              mg",
        "  parameter   rate       ~ LogNormal(loc=0, scale=1)            1/h",
        "  parameter   sigma      ~ HalfNormal(scale=0.1)                mg/L",
        "  constant    volume     = 2                                    L     of the vessel",
        "  observable  measured                                          mg/L",
        "  derived     half_life                                         h",
    ]


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"rate": 0.25}, "constant rate = 0.25 1/h"),
        ({"lost": lambda p: p.volume}, "state lost lost0 from the parameters mg"),
        (
            {"rate": dist.TruncatedNormal(1.0, 0.5, low=0.0)},
            "parameter rate ~ TruncatedNormal(loc=1, scale=0.5, low=0) 1/h",
        ),
        (
            {"measured": Observable(lambda t, y, p, last: dist.Normal(y.lost - last.y.lost, 1.0))},
            "observable measured over the interval since the previous observation",
        ),
    ],
)
def test_table_shows_overrides(overrides, line):
    lines = [" ".join(text.split()) for text in repr(Decay(**overrides)).splitlines()]
    assert line in lines


def test_table_shows_dims_and_an_open_initial_time():
    lines = [" ".join(text.split()) for text in repr(Compartments()).splitlines()]
    assert lines[0] == "Compartments: time, from the first observation"
    assert "state x[place] x0 = 1" in lines
    assert "parameter k[place] ~ LogNormal(loc=0, scale=1)" in lines
