"""Arrays of different ranks are not combined in adjoints, but by axes that are written down.

Of members, columns and elements each has an axis, so a product of the wrong ones would broadcast
unseen. Only here: elsewhere what users write is run, which may leave axes to be added.
"""

import jax
import pytest


@pytest.fixture(autouse=True)
def explicit_ranks():
    with jax.numpy_rank_promotion("raise"):
        yield
