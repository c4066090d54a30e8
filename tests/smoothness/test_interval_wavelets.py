"""Wavelets on the interval: orthogonality, the inverse, and moments that vanish up to both ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.smoothness import interval_wavelets as iw
from jaxtheory.smoothness import wavelets


@pytest.mark.parametrize("wavelet", ["db2", "db4"])
def test_a_step_is_an_orthogonal_matrix_that_is_the_periodic_one_inside(wavelet, float64):
    """To 1e-12: edge functions come from a Gram matrix of condition up to 1e4."""
    step = lambda e: jnp.concatenate(iw._halve(e, wavelet))  # noqa: E731
    matrix = np.asarray(jax.jit(jax.vmap(step))(jnp.eye(48))).T
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(48), atol=1e-12)
    moments = wavelets.vanishing_moments(wavelet)
    low = wavelets.filters(wavelet)[0]
    np.testing.assert_array_equal(matrix[moments, moments + 1 : 3 * moments + 1], low)


@pytest.mark.parametrize(("wavelet", "levels"), [("db2", 2), ("db3", 1), ("db4", 2), ("db5", 1)])
@pytest.mark.first_case
def test_polynomials_have_no_details_and_come_back(wavelet, levels, float64):
    """Degree N − 1 vanishes to round-off times the edges' condition, up to the ends; degree N does not; x returns."""
    moments, n = wavelets.vanishing_moments(wavelet), 64
    t = jnp.arange(n) / n
    largest = lambda k: max(float(jnp.abs(d).max()) for d in iw.interval_dwt(t**k, wavelet, levels).details)  # noqa: E731
    assert largest(moments - 1) < 1e-12
    assert largest(moments) > 1e-9
    x = jnp.asarray(np.random.default_rng(0).normal(size=n))
    back = iw.interval_idwt(iw.interval_dwt(x, wavelet, levels), wavelet)
    np.testing.assert_allclose(back, x, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iw.interval_dwt(jnp.ones(64), "haar"), "wavelet must be one of db2"),
        (lambda: iw.interval_dwt(jnp.ones(64), "db8"), "wavelet must be one of db2"),
        (lambda: iw.interval_dwt(jnp.ones(16), "db2", 2), "x must be a multiple of 2"),
    ],
)
def test_what_has_no_edges_is_refused(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
