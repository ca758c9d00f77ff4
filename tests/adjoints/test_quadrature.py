"""The Gauss–Kronrod pair."""

import numpy as np
import pytest
from odecal.adjoints._quadrature import gauss_kronrod


@pytest.mark.parametrize("degree", range(24))
def test_the_pair_integrates_polynomials(degree):
    """Fifteen Kronrod points to degree 22 (and 23, being symmetric), seven of Gauss to 13."""
    nodes, kronrod, gauss = gauss_kronrod()
    expected = (1 - (-1) ** (degree + 1)) / (degree + 1)
    np.testing.assert_allclose(kronrod @ nodes**degree, expected, atol=1e-15)
    if degree <= 13:
        np.testing.assert_allclose(gauss @ nodes**degree, expected, atol=1e-15)


def test_gauss_points_are_legendre_s():
    nodes, _, gauss = gauss_kronrod()
    ours = nodes[gauss > 0], gauss[gauss > 0]
    np.testing.assert_allclose(ours, np.polynomial.legendre.leggauss(7), atol=1e-15)
