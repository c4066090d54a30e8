"""Wavelets against PyWavelets, the laws of orthogonality, and published regularity."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from tolerances import assert_close

from jaxtheory.smoothness import wavelets

pytestmark = pytest.mark.filterwarnings("ignore:Level value:UserWarning:pywt")


@pytest.mark.parametrize("wavelet", wavelets.WAVELETS)
def test_filters_are_those_of_pywavelets(wavelet):
    """Computed here from the roots of a polynomial, there from a table."""
    reference = pywt.Wavelet("db1" if wavelet == "haar" else wavelet)
    low, high = wavelets.filters(wavelet)
    np.testing.assert_allclose(low, reference.rec_lo, atol=1e-13)
    np.testing.assert_allclose(high, reference.rec_hi, atol=1e-13)


@pytest.mark.smoke
@pytest.mark.parametrize(("wavelet", "levels"), [("haar", 6), ("db2", 3), ("db4", 6), ("db7", 6), ("db10", 6)])
@pytest.mark.first_case
def test_every_level_is_that_of_pywavelets(wavelet, levels, float64):
    """To 1e-10 absolute, as asked of a transform, also where the filter is longer than the signal."""
    x = np.random.default_rng(1).normal(size=64)
    ours = wavelets.dwt(jnp.asarray(x), wavelet, levels)
    theirs = pywt.wavedec(x, wavelet, mode="periodization", level=levels)
    for mine, other in zip((ours.approximation, *ours.details), theirs, strict=True):
        np.testing.assert_allclose(mine.ravel(), other, atol=1e-10)
    np.testing.assert_allclose(wavelets.idwt(ours, wavelet), x, atol=1e-13)


def test_three_dimensions_are_separable(float64):
    x = np.random.default_rng(2).normal(size=(16, 8, 4))
    ours = wavelets.dwt(jnp.asarray(x), "db3", 2)
    theirs = pywt.wavedecn(x, "db3", mode="periodization", level=2)
    bands = ["".join(letters) for letters in itertools.product("ad", repeat=3)][1:]
    np.testing.assert_allclose(ours.approximation, theirs[0], atol=1e-10)
    for mine, other in zip(ours.details, theirs[1:], strict=True):
        np.testing.assert_allclose(mine, np.stack([other[band] for band in bands]), atol=1e-10)
    np.testing.assert_allclose(wavelets.idwt(ours, "db3"), x, atol=1e-12)


def test_tensor_basis_is_the_transform_of_rows_and_columns(float64):
    x = np.random.default_rng(3).normal(size=(8, 16))
    one = lambda row: np.concatenate(pywt.wavedec(row, "db2", mode="periodization", level=int(np.log2(len(row)))))  # noqa: E731
    expected = np.apply_along_axis(one, 1, np.apply_along_axis(one, 0, x))
    np.testing.assert_allclose(wavelets.tensor_dwt(jnp.asarray(x), "db2"), expected, atol=1e-10)


@pytest.mark.first_case
def test_energy_is_kept_and_batches_vmap(dtype, key):
    x = jax.random.normal(key, (5, 32), dtype)
    batch = jax.vmap(lambda row: wavelets.dwt(row, "db4"))(x)
    single = wavelets.dwt(x[3], "db4")
    assert single.approximation.dtype == dtype
    assert_close(wavelets.ravel(jax.tree.map(lambda a: a[3], batch)), wavelets.ravel(single))
    assert_close((wavelets.ravel(single) ** 2).sum(), (x[3] ** 2).sum())


@pytest.mark.parametrize("wavelet", ["db2", "db4"])
def test_details_of_polynomials_vanish_away_from_the_wrap(wavelet, float64):
    """N vanishing moments: degree N − 1 leaves nothing, degree N does."""
    moments, t = wavelets.vanishing_moments(wavelet), jnp.linspace(0, 1, 64)
    inside = slice(moments, -moments)
    finest = lambda x: np.abs(wavelets.dwt(x, wavelet, 1).details[0][0, inside]).max()  # noqa: E731
    assert finest(t ** (moments - 1)) < 1e-14
    assert finest(t**moments) > 1e-9


def test_sobolev_regularity_is_as_published():
    """Villemoes (1992), Table 1; Daubechies (1992), section 7.1."""
    found = [wavelets.smoothness(name) for name in ("haar", "db2", "db3", "db4", "db5")]
    np.testing.assert_allclose(found, [0.5, 1.0, 1.415, 1.775, 2.096], atol=1e-3)
    assert wavelets.smoothness("haar", 1.0) == 1.0
    assert wavelets.smoothness("db2", np.inf) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wavelets.dwt(jnp.ones(12)), "x must have a power of two"),
        (lambda: wavelets.dwt(jnp.ones(12), levels=3), "multiples of 2"),
        (lambda: wavelets.dwt(jnp.ones(8), "db11"), "wavelet must be one of haar"),
        (lambda: wavelets.dwt(jnp.ones(8), levels=-1), "levels must be >= 0"),
        (lambda: wavelets.idwt(wavelets.Coefficients(jnp.ones(2), (jnp.ones((1, 4)),))), "details must have shape"),
    ],
)
def test_what_cannot_be_transformed_is_refused(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
