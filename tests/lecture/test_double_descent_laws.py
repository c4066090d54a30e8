"""The laws' panels: the solver against numpy, the places of the peaks, the ridge that is best at every n."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.double_descent import isotropic
from jaxtheory.lecture.double_descent.laws import Laws, ridge_inverse


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_ridge_inverse_is_the_pseudo_inverse_of_the_ridge(float64, shape, ridge):
    design = np.random.default_rng(0).standard_normal(shape)
    stacked = np.concatenate([design, np.sqrt(ridge) * np.eye(shape[1])])
    expected = np.linalg.pinv(stacked)[:, : shape[0]]
    np.testing.assert_allclose(ridge_inverse(jnp.asarray(design), ridge), expected, atol=1e-12)
    padded = ridge_inverse(jnp.pad(jnp.asarray(design), ((0, 2), (0, 1))), ridge)
    np.testing.assert_allclose(padded, np.pad(expected, ((0, 1), (0, 2))), atol=1e-12)


def test_peaks_are_at_the_published_places():
    """d'Ascoli et al.: n/d = 1.08 and 9.97, read off a grid of 0.6%, here of one in d; between is the valley."""
    first, valley, second = Laws(100, 1, 0, "float32").turns()
    np.testing.assert_allclose([first / 100, second / 100], [1.08, 9.97], rtol=0.01)
    assert first < valley < second


def test_the_ridge_is_the_best_for_every_number_of_samples(float64):
    """The law's derivative in the ridge vanishes, and the risk falls with samples."""
    laws = Laws(40, 1, 0, "float64")
    powers = {"signal": 0.5, "unseen": 0.5, "noise": 0.1}
    slope = jax.grad(lambda ridge: isotropic(40 / 30, lam=ridge / 30, **powers).excess)
    assert abs(slope(laws.ridge)) < 1e-12
    risks = laws.ridged(jnp.arange(10.0, 120.0), 40.0)
    assert (jnp.diff(risks) < 0).all()
