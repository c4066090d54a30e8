"""Ridgelets: K against mpmath and closed forms, transforms against each other, reconstruction with K never fitted."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import special
from tolerances import tolerance

from jaxtheory.activations.named import resolve
from jaxtheory.expressivity import ridgelet

HATS = {  # Fourier transforms away from 0, as mpmath writes them
    "relu": lambda w: -1 / w**2,
    "abs": lambda w: -2 / w**2,
    "softplus": lambda w: -mpmath.pi / (w * mpmath.sinh(mpmath.pi * w)),
    "step": lambda w: 1 / (1j * w),
    "sigmoid": lambda w: -1j * mpmath.pi / mpmath.sinh(mpmath.pi * w),
    "tanh": lambda w: -1j * mpmath.pi / mpmath.sinh(mpmath.pi * w / 2),
    "erf": lambda w: 2 * mpmath.exp(-(w**2) / 4) / (1j * w),
    3: lambda w: (1j * w) ** 3 * mpmath.exp(-(w**2) / 2),
}


def wave(x):
    return jnp.exp(-2 * x**2) * jnp.sin(4 * x)


def line(reach=3.0, count=601):
    x = jnp.linspace(-reach, reach, count)
    return x, jnp.full(count, 2 * reach / (count - 1), x.dtype)


@pytest.mark.parametrize(
    ("activation", "derivative", "dim"),
    [
        *[("relu", 4, 1), ("relu", 6, 1), ("relu", 4, 2), ("abs", 6, 3), ("softplus", 4, 1), ("step", 3, 1)],
        *[("sigmoid", 5, 2), ("tanh", 3, 1), ("tanh", 5, 4), ("erf", 3, 1), (3, 5, 2)],
    ],
)
def test_constant_is_mpmaths_integral(activation, derivative, dim):
    """(2π)^(m−1) ∫ conj(ψ̂) σ̂ |ω|^(−m) over both half-lines."""
    hat = HATS[activation]

    def integrand(w):
        return mpmath.conj((1j * w) ** derivative * mpmath.exp(-(w**2) / 2)) * hat(w) / abs(w) ** dim

    both = mpmath.quad(lambda w: integrand(w) + integrand(-w), [1e-12, 1, 4, 15])
    expected = float(mpmath.re(both)) * (2 * math.pi) ** (dim - 1)
    assert ridgelet.admissibility(activation, derivative, dim) == pytest.approx(expected, rel=1e-9)


@pytest.mark.smoke
@pytest.mark.parametrize(("ell", "dim"), [(2, 1), (3, 1), (2, 2), (4, 5)])
def test_constant_of_relu_in_closed_form(ell, dim):
    half = (2 * ell - 1 - dim) / 2
    expected = -((-1) ** ell) * (2 * math.pi) ** (dim - 1) * 2**half * math.gamma(half)
    assert ridgelet.admissibility("relu", 2 * ell, dim) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("one", "other", "dim"), [(2, 2, 1), (3, 5, 2), (4, 2, 3)])
def test_constant_of_gaussian_pairs_in_closed_form(one, other, dim):
    expected = (-1) ** ((one - other) // 2) * (2 * math.pi) ** (dim - 1) * math.gamma((one + other - dim + 1) / 2)
    assert ridgelet.admissibility(one, other, dim) == pytest.approx(expected, rel=1e-12)


def test_the_spectrum_of_each_activation_is_its_fourier_transform():
    """σ̂ tested on G'''': ∫ σ(t) G''''(t) dt by quadrature = (1/2π) ∫ σ̂ conj(…) dω, for even and odd alike."""
    t = np.linspace(-20, 20, 40_001)
    for name, derivative in (("relu", 4), ("softplus", 4), ("tanh", 3), ("erf", 3), ("sigmoid", 3), ("step", 3)):
        spectrum = ridgelet._admissible(name, derivative, 1)
        psi = np.asarray(_gaussian_derivative(t, derivative))
        direct = np.trapezoid(np.asarray(resolve(name)(jnp.asarray(t, jnp.float32))) * psi, t)
        sign = ((1j**derivative).conjugate() * spectrum.phase).real
        power = derivative - spectrum.pole
        parseval = sign * ridgelet._moment(spectrum, power, 0.0) * math.exp(ridgelet._peak(power)) / math.pi
        assert direct == pytest.approx(parseval, abs=2e-3 * abs(parseval) + 2e-3), name


def _gaussian_derivative(t, derivative):
    hermite = np.polynomial.hermite_e.HermiteE.basis(derivative)
    return (-1) ** derivative * hermite(t) * np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize(
    ("activation", "derivative", "dim", "message"),
    [
        ("relu", 2, 1, "diverges at ω = 0"),
        ("tanh", 1, 1, "diverges at ω = 0"),
        ("relu", 4, 3, "diverges at ω = 0"),
        ("relu", 5, 1, "be even"),
        ("tanh", 4, 1, "or K = 0"),
        ("cos", 4, 1, "activation must be one of"),
        (-1, 3, 1, "activation must be one of"),
        ("relu", 400, 1, "leave K within float64"),
        ("relu", 4, 0, "dim must be >= 1"),
    ],
)
def test_inadmissible_pairs_are_refused_with_the_reason(activation, derivative, dim, message):
    with pytest.raises(ValueError, match=message):
        ridgelet.admissibility(activation, derivative, dim)


def test_blur_law_is_a_gaussian_for_relu_and_an_incomplete_gamma_in_general():
    ratio = np.array([0.0, 0.3, 1.0, 2.5])
    np.testing.assert_allclose(ridgelet.retained("relu", 4, 1, ratio), np.exp(-(ratio**2) / 2), rtol=1e-12)
    upper = [float(mpmath.gammainc(1.5, r**2 / 2) / mpmath.gamma(1.5)) for r in ratio]
    np.testing.assert_allclose(ridgelet.retained("relu", 6, 2, ratio), upper, rtol=1e-12)


def test_the_blur_of_a_high_derivative_is_an_incomplete_gamma():
    """Where K itself is beyond float64: Q((l − 2)/2, ratio²/2) for ReLU in one dimension."""
    ratio = np.array([15.0, 19.0, 20.0, 21.0])
    np.testing.assert_allclose(
        ridgelet.retained("relu", 400, 1, ratio), special.gammaincc(199, ratio**2 / 2), rtol=1e-9
    )


@pytest.mark.parametrize(("dim", "derivative"), [(1, 3), (2, 4)])
def test_transform_of_a_gaussian_in_closed_form(dim, derivative, float64):
    axis = np.linspace(-9, 9, 181)
    x = jnp.asarray(np.stack(np.meshgrid(*[axis] * dim), -1).reshape(-1, dim))
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.normal(size=(30, dim))), jnp.asarray(rng.normal(size=30))
    values = jnp.exp(-(x**2).sum(1) / 2)
    weights = jnp.full(len(x), (axis[1] - axis[0]) ** dim)
    got = ridgelet.transform(values, x, weights, a, b, derivative=derivative)
    expected = ridgelet.gaussian_transform(a, b, derivative=derivative)
    np.testing.assert_allclose(got, expected, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("derivative", [3, 4])
def test_slices_are_the_direct_transform(derivative, float64):
    """An off-centre image in two dimensions, through its Fourier slices."""
    axis = np.linspace(-1, 1, 24)
    x = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    values = jnp.exp(-8 * ((x - jnp.array([[0.3, -0.1]])) ** 2).sum(1)) * (1 + x[:, 0])
    weights = jnp.full(len(x), (axis[1] - axis[0]) ** 2)
    angle = jnp.array([0.0, 0.7, 2.0])
    directions = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    scales, offsets, k = jnp.array([1.0, 4.0]), jnp.linspace(-6, 6, 9), jnp.linspace(0, 45, 900)
    polar = {"directions": directions, "scales": scales, "offsets": offsets, "frequencies": k}
    slices = ridgelet.transform_slices(values, x, weights, **polar, derivative=derivative)
    a = (directions[:, None] * scales[None, :, None]).reshape(-1, 2)
    pairs = jnp.repeat(a, 9, axis=0), jnp.tile(offsets, 6)
    direct = ridgelet.transform(values, x, weights, *pairs, derivative=derivative)
    np.testing.assert_allclose(slices.ravel(), direct, atol=1e-8 * float(jnp.abs(direct).max()))


def test_polar_nodes_are_those_of_slices_and_fill_the_disk(float64):
    """In the order of the raveled slices, with Σ weights = π A² times the length of the offsets."""
    polar = ridgelet.polar_grid(3.0, 1.0, radii=4, angles=5, offset_step=0.5, shift=0.25)
    nodes, slopes = polar.nodes, {"directions": polar.directions, "scales": polar.scales, "offsets": polar.offsets}
    rng = np.random.default_rng(0)
    x, values = rng.uniform(-0.7, 0.7, (6, 2)), rng.standard_normal(6)
    slices = ridgelet.transform_slices(
        values, x, np.ones(6), **slopes, frequencies=np.linspace(0, 25, 400), derivative=4
    )
    direct = ridgelet.transform(values, x, np.ones(6), nodes.a, nodes.b, derivative=4)
    np.testing.assert_allclose(slices.ravel(), direct, atol=1e-8 * float(jnp.abs(direct).max()))
    assert float(nodes.weights.sum()) == pytest.approx(np.pi * 3.0**2 * 0.5 * len(polar.offsets), rel=1e-12)
    assert polar.offsets.min() < -3 < 3 < polar.offsets.max()


@pytest.fixture(scope="module")
def reconstructed():
    """Target, spectrum and reconstruction at |a| ≤ 20, ReLU with G''''."""
    x, weights = line()
    pairs = ridgelet.grid(20.0, 3.0, step=0.1)
    spectrum = ridgelet.transform(wave(x), x[:, None], weights, pairs.a, pairs.b, derivative=4)
    points = jnp.linspace(-1, 1, 201)[:, None]
    constant = ridgelet.admissibility("relu", 4, 1)
    return points, spectrum, pairs, ridgelet.reconstruct(spectrum, pairs, points, constant, activation="relu")


def blurred(points, scale, derivative):
    """f with f̂ multiplied by the law, by a Fourier sum in numpy."""
    x = np.linspace(-4, 4, 801)
    k = np.linspace(-30, 30, 1501)
    transform = np.exp(-1j * k[:, None] * x[None, :]) @ np.asarray(wave(x)) * 0.01
    kept = transform * ridgelet.retained("relu", derivative, 1, np.abs(k) / scale)
    return (np.exp(1j * np.asarray(points) * k[None, :]) @ kept).real * (k[1] - k[0]) / (2 * np.pi)


def test_reconstruction_is_the_target_blurred_as_predicted(reconstructed):
    """S R f / K with K from the theory: the error is the law's .0265 (relative, L²), and nothing else of that size."""
    points, _, _, got = reconstructed
    truth, predicted = np.asarray(wave(points[:, 0])), blurred(points, 20.0, 4)
    size = np.linalg.norm(truth)
    assert np.linalg.norm(predicted - truth) / size == pytest.approx(0.0265, abs=5e-5)
    # kinks of neurons: offset_step²/12 · |T| a cell, averaged over offsets, is under a tenth of the blur
    assert np.linalg.norm(np.asarray(got) - predicted) / size < 0.1 * np.linalg.norm(predicted - truth) / size


@pytest.mark.parametrize(("activation", "derivative"), [("tanh", 3), pytest.param(2, 4, marks=pytest.mark.slow)])
def test_other_pairs_reconstruct_with_their_constant(activation, derivative):
    """The law's loss, and the error of the grid, which is under what the grid of twice its steps differs by."""
    x, weights = line()
    points = jnp.linspace(-1, 1, 41)[:, None]
    constant = ridgelet.admissibility(activation, derivative, 1)

    def reconstructed(step):
        pairs = ridgelet.grid(30.0, 3.0, step=step, offset_step=2.5 * step)
        spectrum = ridgelet.transform(wave(x), x[:, None], weights, pairs.a, pairs.b, derivative=derivative)
        return ridgelet.reconstruct(spectrum, pairs, points, constant, activation=activation)

    got = reconstructed(0.2)
    lost = 1 - ridgelet.retained(activation, derivative, 1, 8.0 / 30)  # the target has no frequency above about 8
    truth = wave(points[:, 0])
    grid_error = jnp.linalg.norm(got - reconstructed(0.4))
    assert grid_error < 0.1 * jnp.linalg.norm(truth)
    assert jnp.linalg.norm(got - truth) < lost * jnp.linalg.norm(truth) + grid_error


@pytest.mark.slow
def test_reconstruction_in_two_dimensions():
    """The closed-form spectrum of a Gaussian, K = −(2π)^(3/2), the factor (1 + A^(−2))-blur of the law."""
    points = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.5, -1.0]])
    constant = ridgelet.admissibility("relu", 4, 2)
    assert constant == pytest.approx(-((2 * math.pi) ** 1.5), rel=1e-12)

    def reconstructed(step, angles):
        pairs = ridgelet.grid(6.0, 5.0, dim=2, step=step, angles=angles, offset_step=2 * step)
        spectrum = ridgelet.gaussian_transform(pairs.a, pairs.b, derivative=4)
        return ridgelet.reconstruct(spectrum, pairs, points, constant, activation="relu")

    got = reconstructed(0.25, 32)
    grid_error = float(abs(got - reconstructed(0.5, 16)).max())  # of twice the steps: above that of these
    assert grid_error < 0.1
    radii = np.linspace(0, 9, 2000)
    kept = ridgelet.retained("relu", 4, 2, radii / 6.0) * np.exp(-(radii**2) / 2) * radii
    distance = np.linalg.norm(points, axis=1)
    bessel = special.j0(radii[None, :] * distance[:, None])
    np.testing.assert_allclose(got, np.trapezoid(kept * bessel, radii, axis=1), rtol=0, atol=grid_error)


@pytest.mark.slow
def test_sampled_neurons_with_solved_weights_beat_monte_carlo(reconstructed, key):
    """Least squares over the same neurons: N^(−2) of piecewise linear functions against N^(−1/2), at N = 100."""
    points, spectrum, pairs, _ = reconstructed
    truth = wave(points[:, 0])
    net = ridgelet.sample_network(
        key, spectrum, pairs, neurons=100, x=points, values=truth, constant=-2.0, activation="relu"
    )
    solved = jnp.abs(ridgelet.evaluate(net, points, activation="relu") - truth).max()
    plain = jnp.abs(ridgelet.evaluate(net._replace(outer=net.monte_carlo), points, activation="relu") - truth).max()
    assert solved < 0.1 * plain  # the rates' ratio is 1e-3, their constants' is not known


@pytest.mark.slow
def test_monte_carlo_weights_are_unbiased(reconstructed, key):
    """Many sampled networks average to S R f / K, within 4 standard errors at most points."""
    points, spectrum, pairs, got = reconstructed
    some, truth = points[::20], wave(points[::20, 0])

    def draw(key):
        net = ridgelet.sample_network(
            key, spectrum, pairs, neurons=10, x=some, values=truth, constant=-2.0, activation="relu"
        )
        return ridgelet.evaluate(net._replace(outer=net.monte_carlo), some, activation="relu")

    draws = np.asarray(jax.lax.map(draw, jax.random.split(key, 2000)))
    error = draws.std(0) / len(draws) ** 0.5
    assert (np.abs(draws.mean(0) - np.asarray(got)[::20]) < 4 * error + tolerance("float32", 100)).all()


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="dim must be 1 or 2"):
        ridgelet.grid(1.0, 1.0, dim=3)
