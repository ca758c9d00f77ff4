import jax
import jax.numpy as jnp
import numpy as np
import pytest

from odecal._system.values import Values


@pytest.fixture
def y():
    return Values({"hare": 30.0, "lynx": 4.0}, "state")


def test_reads_as_attributes_and_as_a_mapping(y):
    assert y.hare == 30.0
    assert y["lynx"] == 4.0
    assert dict(y) == {"hare": 30.0, "lynx": 4.0}
    assert list(y) == ["hare", "lynx"]
    assert len(y) == 2
    assert "hare" in y
    assert "fox" not in y


def test_unknown_name_lists_the_known_ones_and_suggests(y):
    with pytest.raises(
        AttributeError, match=r"no state `hair`.*one of: hare, lynx\. Did you mean `hare`\?"
    ):
        _ = y.hair


def test_unknown_name_far_from_all_gets_no_suggestion(y):
    with pytest.raises(AttributeError, match=r"no state `temperature`.*hare, lynx\.$"):
        _ = y.temperature


def test_unknown_key_is_a_key_error(y):
    with pytest.raises(KeyError, match="fox"):
        _ = y["fox"]


def test_probing_for_special_methods_finds_nothing(y):
    assert not hasattr(y, "__array__")
    assert not hasattr(y, "__jax_array__")


@pytest.mark.parametrize("name", ["hare", "fox", "_values"])
def test_is_frozen(y, name):
    with pytest.raises(AttributeError, match=f"frozen: cannot set `{name}`"):
        setattr(y, name, 1.0)
    assert y.hare == 30.0


def test_does_not_change_with_the_dict_it_came_from():
    source = {"hare": 30.0}
    values = Values(source)
    source["hare"] = 1.0
    assert values.hare == 30.0


def test_shows_its_values(y):
    assert repr(y) == "Values(hare=30.0, lynx=4.0)"


def test_is_a_pytree_that_keeps_names_order_and_label(y):
    leaves, structure = jax.tree.flatten(y)
    assert leaves == [30.0, 4.0]
    back = jax.tree.unflatten(structure, [1.0, 2.0])
    assert list(back.items()) == [("hare", 1.0), ("lynx", 2.0)]
    with pytest.raises(AttributeError, match="no state `fox`"):
        _ = back.fox


def test_tree_paths_name_the_values(y):
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(y)]
    assert paths == [".hare", ".lynx"]


def test_gradient_is_a_record_of_the_same_names(y):
    gradient = jax.grad(lambda y: y.hare**2 * y.lynx)(y)
    assert isinstance(gradient, Values)
    assert gradient.hare == pytest.approx(2 * 30.0 * 4.0)
    assert gradient.lynx == pytest.approx(900.0)


def test_goes_through_jit_and_vmap():
    batch = Values({"a": jnp.arange(3.0), "b": jnp.ones((3, 2))})
    out = jax.jit(jax.vmap(lambda v: Values({"s": v.a + v.b.sum()})))(batch)
    np.testing.assert_allclose(out.s, [2.0, 3.0, 4.0])
