"""Depth: bounds for every two-layer network, against explicit tensors, an adversary, and three-layer networks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxtheory.expressivity import depth, relu_network, three_layers, two_layers

SAMPLES = 20_000


def wave(dim, frequency):
    return lambda r: np.cos(frequency * (r - (dim - 0.5) ** 0.5) + 0.7)


def on_sphere(rng, count, dim):
    x = rng.normal(size=(count, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def relative_error(net, x, y):
    """Mean and standard error of (y − net)² / E y²."""
    squares = (np.asarray(relu_network.evaluate(net, jnp.asarray(x, jnp.float32)))[:, 0] - y) ** 2 / np.mean(y**2)
    return squares.mean(), squares.std() / len(y) ** 0.5


@pytest.mark.parametrize(("dim", "degree"), [(3, 6), (6, 3), (5, 4)])
def test_legendre_is_scipys_gegenbauer(dim, degree):
    t = np.linspace(-1, 1, 41)
    index = (dim - 2) / 2
    expected = special.eval_gegenbauer(degree, index, t) / special.eval_gegenbauer(degree, index, 1.0)
    np.testing.assert_allclose(depth.legendre(t, degree, dim), expected, atol=1e-13)


def test_the_target_has_rank_d_with_equal_singular_values():
    """√D P_n(⟨x, x'⟩) on many points: D equal nonzero eigenvalues, so rank N leaves the share 1 − N/D."""
    dim, degree, count = 3, 2, 3000
    x = on_sphere(np.random.default_rng(0), count, dim)
    gram = depth.legendre(x @ x[:300].T, degree, dim)
    eigenvalues = np.linalg.svd(gram, compute_uv=False) ** 2 / (gram**2).sum()
    np.testing.assert_allclose(eigenvalues[:5], 1 / 5, rtol=4 * np.sqrt(15 / 300))
    assert eigenvalues[5:].max() < 1e-12
    assert depth.inner_product_certificate(dim, degree, 3) == pytest.approx(1 - 3 / 5)


@pytest.mark.smoke
def test_certificates_of_the_sheet():
    assert depth.inner_product_certificate(10, 5, 288) == pytest.approx(0.838, abs=5e-4)
    assert depth.inner_product_certificate(20, 5, 528) == pytest.approx(0.987, abs=5e-4)
    assert depth.radial_certificate(wave(10, 6), 10, 1000) == pytest.approx(0.591, abs=5e-4)
    assert depth.inner_product_certificate(4, 3, 10_000) == 0.0


def test_radial_parts_of_a_polynomial():
    """|x|² = d + (|x|² − d): degree 0 holds d², degree 2 holds 2d, and nothing is left."""
    parts, energy = depth._radial_parts(lambda r: r**2, 7)
    np.testing.assert_allclose(parts[:2], [49.0, 14.0], rtol=1e-12)
    assert parts[2:].max() < 1e-20 * energy
    np.testing.assert_allclose(energy, 63.0, rtol=1e-12)


@pytest.mark.parametrize("k", [2, 3])
def test_captured_share_is_that_of_the_catalecticant(k):
    """E[w^{⊗k} ⊗ w^{⊗k}] written out in 3 dimensions from Gaussian moments, its eigenvalues by numpy."""
    dim = 3
    words = list(itertools.product(range(dim), repeat=k))

    def moment(word):  # of a Gaussian, proportional to that of the sphere at fixed degree
        counts = [word.count(axis) for axis in range(dim)]
        return 0.0 if any(c % 2 for c in counts) else float(np.prod([special.factorial2(c - 1) for c in counts if c]))

    matrix = np.array([[moment(a + b) for b in words] for a in words])
    squares = np.sort(np.linalg.eigvalsh(matrix) ** 2)[::-1]
    shares = np.cumsum(squares) / squares.sum()
    measured = [depth._captured(dim, k, n) for n in range(1, 10)]
    np.testing.assert_allclose(measured, shares[:9], atol=1e-12)


def test_every_radial_bound_falls_to_zero_with_neurons():
    bounds = [depth.radial_certificate(wave(4, 6), 4, n) for n in (0, 10, 100, 1000, 100_000)]
    assert np.all(np.diff(bounds) <= 0)
    assert 0.9999 < bounds[0] <= 1  # degrees above 318 are counted as approximated
    assert bounds[-1] == pytest.approx(0.0, abs=1e-9)


def test_smooth_radial_functions_do_not_separate():
    """Gaussian and |x|² need few neurons by the bound, as they do in truth (Safran, Eldan, Shamir 2019)."""
    assert depth.radial_certificate(lambda r: r**2, 10, 10) < 1e-12
    assert depth.radial_certificate(lambda r: np.exp(-(r**2) / 20), 10, 200) < 0.01


@pytest.mark.parametrize("ratio", [1.2, 2.0, 3.0])
def test_tube_certificate_is_the_share_of_directions(ratio):
    directions = on_sphere(np.random.default_rng(1), 200_000, 6)
    inside = 1 - directions[:, 0] ** 2 <= ratio**-2
    error = inside.std() / len(inside) ** 0.5
    bound = depth.tube_certificate(jnp.array([6.0]), jnp.array([1.0]), jnp.array([ratio]))[0]
    assert abs(1 - bound - inside.mean()) < 4 * error + 1e-6


def test_neurons_needed_is_the_first_that_reaches():
    certificate = lambda n: depth.radial_certificate(wave(6, 6), 6, n)  # noqa: E731
    least = depth.neurons_needed(certificate, 0.1)
    assert certificate(least) <= 0.1 < certificate(least - 1)


@pytest.mark.parametrize("dim", [10, 20, 30])
def test_three_layers_reach_inner_products(dim):
    """Below 1% with 24d + 48 neurons, where no two-layer network of as many comes below the certificate."""
    rng = np.random.default_rng(dim)
    x, other = on_sphere(rng, SAMPLES, dim), on_sphere(rng, SAMPLES, dim)
    y = np.sqrt(depth.harmonics(dim, 5)) * depth.legendre((x * other).sum(1), 5, dim)
    net = three_layers.inner_product(dim, 5)
    audit = relu_network.audit(net)
    assert (audit.depth, audit.neurons) == (3, 24 * dim + 48)
    mean, error = relative_error(net, np.hstack([x, other]), y)
    assert mean + 3 * error < 0.01
    # Predicted to leading order; coordinates of fixed sum of squares depend on each other negatively, which lowers it.
    predicted = three_layers.inner_product_error(dim, 5)
    assert mean < predicted + 3 * error
    assert depth.inner_product_certificate(dim, 5, audit.neurons) > 0.8


@pytest.mark.parametrize("dim", [10, 30])
def test_three_layers_reach_radial_waves(dim):
    x = np.random.default_rng(dim).normal(size=(SAMPLES, dim))
    net = three_layers.radial(wave(dim, 6), dim)
    assert relu_network.audit(net)[:3] == (3, max(24 * dim, 96), 24 * dim + 96)
    mean, error = relative_error(net, x, wave(dim, 6)(np.linalg.norm(x, axis=1)))
    predicted = three_layers.radial_error(wave(dim, 6), dim)
    assert mean < predicted + 3 * error < 0.01


@pytest.mark.slow
def test_the_adversary_does_not_beat_the_inner_product_bound(key):
    rng, dim, degree, neurons = np.random.default_rng(7), 3, 3, 3

    def draw(count):
        x, other = on_sphere(rng, count, dim), on_sphere(rng, count, dim)
        y = np.sqrt(depth.harmonics(dim, degree)) * depth.legendre((x * other).sum(1), degree, dim)
        return jnp.asarray(np.hstack([x, other]), jnp.float32), jnp.asarray(y, jnp.float32)

    result = two_layers.adversary(key, draw(4000), draw(SAMPLES), neurons, starts=6, steps=150)
    bound = depth.inner_product_certificate(dim, degree, neurons)
    assert (result.errors + 4 * result.standard_error >= bound).all()
    assert result.errors.min() < 1.02  # it did fit something


@pytest.mark.slow
def test_the_adversary_does_not_beat_the_radial_bound(key):
    rng, dim, neurons = np.random.default_rng(8), 3, 12

    def draw(count):
        x = rng.normal(size=(count, dim))
        y = wave(dim, 6)(np.linalg.norm(x, axis=1))
        return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)

    result = two_layers.adversary(key, draw(4000), draw(SAMPLES), neurons, starts=6, steps=150)
    bound = depth.radial_certificate(wave(dim, 6), dim, neurons)
    assert bound > 0.2
    assert (result.errors + 4 * result.standard_error >= bound).all()


@pytest.mark.slow
def test_the_adversary_finds_what_can_be_found(key):
    """A teacher of three neurons is fitted to under 1% by six."""
    x = jax.random.normal(key, (3000, 2))
    y = jax.nn.relu(x @ jnp.array([[1.0, -0.5, 0.3], [0.2, 1.0, -1.0]])) @ jnp.array([1.0, -2.0, 1.5])
    result = two_layers.adversary(key, (x[:1500], y[:1500]), (x[1500:], y[1500:]), 6, starts=6, steps=150)
    assert result.errors.min() < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: depth.inner_product_certificate(1, 2, 3), "dim must be >= 2"),
        (lambda: depth.inner_product_certificate(3, 2, -1), "neurons must be >= 0"),
        (lambda: depth.radial_certificate(lambda r: 0 * r, 3, 2), "profile must have a finite norm above 0"),
        (lambda: depth.neurons_needed(lambda n: 0.0, 2.0), "error must lie in"),
        (lambda: three_layers.inner_product(2, 3), "dim must be >= 3"),
        (lambda: three_layers.radial(np.cos, 3, inner=1), "inner must be >= 3"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
