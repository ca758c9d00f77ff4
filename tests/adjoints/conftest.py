"""Arrays of different ranks or types are combined in adjoints by axes and types written down.

Of members, columns and elements each has an axis, so a product of the wrong ones would broadcast
unseen; and a number in double precision would make a solve in single precision double. Only here:
elsewhere what users write is run, which may leave both to JAX.
"""

import jax
import pytest


@pytest.fixture(autouse=True)
def explicit_promotion():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield
