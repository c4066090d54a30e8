"""The topic end to end on real digits, at a size for tests."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_topics
import xarray as xr

from jaxtheory import kernels
from jaxtheory.lecture import judge, kernel_regression, run
from jaxtheory.lecture.claims import estimated
from jaxtheory.lecture.kernel_regression import circle, digits
from jaxtheory.lecture.kernel_regression.population import NAMES, kernel_functions

TINY = tiny_topics.TINY["kernel-regression"].config


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return run(kernel_regression.TOPIC, replace(TINY, out=tmp_path_factory.mktemp("tiny")))


@pytest.mark.slow
def test_every_claim_is_measured_and_every_curve_kept(outcome):
    names = {verdict.claim.name for verdict in outcome.verdicts}
    assert names >= {"Laplace test", "NTK used", "finite NTK trace", "rate 1", "circle 1"}
    assert all(np.isfinite(verdict.measured) for verdict in outcome.verdicts)
    dataset = xr.open_zarr(outcome.dataset, consolidated=False)
    assert dataset.test.sizes == {"seed": 2, "kernel": 4, "size": 2}
    assert dataset.excess.sizes == {"s": 1, "circle_seed": 3, "circle_size": 2}


@pytest.mark.slow
def test_the_rate_does_not_depend_on_the_sizes(outcome):
    """The slope is deterministic: −2/3 at s = 1, in the tiny configuration as in any other."""
    rate = next(verdict for verdict in outcome.verdicts if verdict.claim.name == "rate 1")
    assert rate.claim.predicted == pytest.approx(-2 / 3)
    assert rate.holds


def test_the_closed_form_is_the_limit_of_the_networks_kernel(float64):
    """E[Θ̂] = Θ at any width: entries of one kernel of width m scatter by 2/√m around the limit (5 of them)."""
    config = replace(TINY, width=16384)
    x = jax.random.normal(jax.random.key(1), (4, 784), jnp.float64)
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    functions = kernel_functions(config)
    assert jnp.abs(functions["finite NTK"](x, x) - functions["NTK"](x, x)).max() < 5 * 2 / 16384**0.5


def test_a_curve_of_another_kernel_fails():
    """Every mismatched pair of neighbours, with the errors that 16 training sets give, is told from the right one."""
    right = dict(zip((f"{name} test" for name in NAMES), (0.438, 0.435, 0.405, 0.421), strict=True))
    claims = digits.order_claims(right, kernel_regression.Config())
    assert [claim.name for claim in claims] == ["NTK less finite NTK", "finite NTK less arc-cosine"]
    for claim in claims:
        for measured, holds in ((claim.predicted, True), (0.0, False), (-claim.predicted, False)):
            data = xr.Dataset(estimated(claim.name, measured, 0.0008, 16))
            assert judge([claim], data)[0].holds is holds


def test_one_program_fits_every_number_of_images(float64):
    """Against numpy on the first n images alone, one of them drawn twice."""
    rng = np.random.default_rng(0)
    points, y, drawn, ridge = rng.standard_normal((12, 3)), rng.standard_normal((12, 2)), np.array([3, 7, 3, 0, 9]), 0.3
    whole = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1))
    columns = jnp.asarray(np.stack([whole, whole**2])[:, :, drawn])
    test, used = digits._regressions((2, 5), ridge)(columns, jnp.asarray(drawn), jnp.asarray(y))
    for i, kernel in enumerate((whole, whole**2)):
        for j, n in enumerate((2, 5)):
            seen = drawn[:n]
            gram = kernel[np.ix_(seen, seen)]
            inverse = np.linalg.inv(gram + ridge * np.eye(n))
            error = ((kernel[:, seen] @ inverse @ y[seen] - y) ** 2).sum(1).mean()
            np.testing.assert_allclose([test[i, j], used[i, j]], [error, np.trace(gram @ inverse)], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("s", [1, 2])
def test_samples_beyond_the_first_n_on_the_circle_are_not_fitted(float64, s):
    """Against numpy on the first n samples alone."""
    rng = np.random.default_rng(1)
    x, y, at = rng.uniform(size=(6, 1)), rng.standard_normal(6), rng.uniform(size=(4, 1))
    found = circle._excesses((2, 3, 6))(jnp.asarray(s), *map(jnp.asarray, (x, y, at, np.zeros(4))))
    kernel = kernels.periodic_spline(s)
    for value, n in zip(found, (2, 3, 6), strict=True):
        gram = np.asarray(kernel(jnp.asarray(x[:n]), jnp.asarray(x[:n]))) + n ** (1 / (2 * s + 1)) * np.eye(n)
        predicted = np.asarray(kernel(jnp.asarray(at), jnp.asarray(x[:n]))) @ np.linalg.solve(gram, y[:n])
        np.testing.assert_allclose(value, (predicted**2).mean(), rtol=1e-12)
