"""Spectra against mpmath, published values, dense eigenvalues and closed forms."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special
from tolerances import assert_close

from jaxtheory import kernels


def arc_cosine(t):
    """Order 1 with κ(1) = 1, on real and complex t."""
    return (jnp.sqrt(1 - t**2) + (jnp.pi - jnp.arccos(t)) * t) / jnp.pi


def ntk(t):
    return arc_cosine(t) + t * (jnp.pi - jnp.arccos(t)) / jnp.pi


def test_published_values_in_three_dimensions(float64):
    """Arc-cosine 3/8, 1/6, 3/128, 0; bias-free two-layer NTK 1/2, 1/3, 5/64, 0."""
    assert_close(kernels.sphere_eigenvalues(arc_cosine, 3, 3).eigenvalues, np.array([3 / 8, 1 / 6, 3 / 128, 0.0]))
    assert_close(kernels.sphere_eigenvalues(ntk, 3, 3).eigenvalues, np.array([1 / 2, 1 / 3, 5 / 64, 0.0]))


def test_circle_is_fourier(float64):
    """Arc-cosine on the circle: c_1 = 1/4, even k: 4/(π²(k²−1)²), other odd k: 0; and the FFT of the profile."""
    found = kernels.sphere_eigenvalues(arc_cosine, 2, 6).eigenvalues
    angles = 2 * np.pi * np.arange(2**14) / 2**14
    expected = np.fft.rfft(np.asarray(arc_cosine(jnp.cos(jnp.asarray(angles))))).real[:7] / 2**14
    assert np.abs(found - expected).max() < 1e-12
    k = np.arange(2, 7, 2)
    assert_close(found[2::2], 4 / (np.pi**2 * (k**2 - 1.0) ** 2), condition=1e2)


@pytest.mark.parametrize("dim", [2, 3, 10, 1000])
def test_multiplicities_are_binomials(dim, float64):
    k_max = 200 if dim == 1000 else 50
    exact = [
        scipy.special.comb(k + dim - 1, k, exact=True)
        - (scipy.special.comb(k + dim - 3, k - 2, exact=True) if k > 1 else 0)
        for k in range(k_max + 1)
    ]
    found = kernels.multiplicities(dim, k_max)
    # logarithms of Γ of size ~6000 round to 1e-12
    assert np.max(np.abs(np.asarray(found) / np.array([float(e) for e in exact]) - 1)) < 1e-11


@pytest.mark.parametrize("dim", [3, 10])
def test_trace_is_the_profile_at_one(dim, float64):
    """Σ N λ approaches κ(1) = 1 from below, the missing tail being of order k^(−2)."""
    found = kernels.sphere_eigenvalues(arc_cosine, dim, 200)
    traces = jnp.cumsum(found.multiplicity * found.eigenvalues)
    assert 0 < 1 - traces[-1] < 0.02
    assert (1 - traces[200]) < 0.6 * (1 - traces[100])


def mp_eigenvalue(dim, k):
    """λ_k of the arc-cosine kernel from its exact power series, to 60 digits."""
    mpmath.mp.dps = 60

    def coefficient(j):  # of (√(1−t²) + (π − arccos t) t)/π
        if j == 1:
            return mpmath.mpf(1) / 2
        if j % 2:
            return mpmath.mpf(0)
        n = j // 2  # √(1−t²) + t arcsin t = Σ C(2n, n) t^(2n) / (4^n (2n−1)²)
        return mpmath.binomial(2 * n, n) / (mpmath.mpf(4) ** n * (2 * n - 1) ** 2) / mpmath.pi

    total = mpmath.mpf(0)
    for j in range(k, 4000, 2):
        moment = mpmath.gamma(j + 1) * mpmath.gamma(mpmath.mpf(dim) / 2)
        moment /= mpmath.mpf(2) ** j * mpmath.gamma((j - k) // 2 + 1) * mpmath.gamma(mpmath.mpf(j + k + dim) / 2)
        term = coefficient(j) * moment
        total += term
        if j > k and term and term < total * mpmath.mpf(10) ** -25:
            break
    return total


@pytest.mark.slow
@pytest.mark.parametrize("k", [0, 1, 2, 10, 40, 100, 200])
def test_thousand_dimensions_against_sixty_digits(k, float64):
    """Relative accuracy where the contour serves, 1e-8 (its stated error for a_200 ~ 1e-6 from values of order 1)."""
    found = kernels.sphere_eigenvalues(arc_cosine, 1000, 200, radius=0.99)
    exact = float(mp_eigenvalue(1000, k))
    error = abs(float(found.eigenvalues[k]) - exact)
    assert error <= float(found.error[k])
    assert error <= 1e-8 * exact


@pytest.mark.parametrize("k", [0, 1, 2, 10, 200])
def test_quadrature_keeps_its_stated_error(k, float64):
    """Without a contour the absolute error stays within the bound, in dimension 20 and 1000."""
    for dim in (20, 1000):
        found = kernels.sphere_eigenvalues(arc_cosine, dim, 200)
        assert abs(float(found.eigenvalues[k]) - float(mp_eigenvalue(dim, k))) <= float(found.error[k])
        assert np.isfinite(found.eigenvalues).all()


def test_laplace_decays_by_its_smoothness(float64):
    """Eigenvalues of exp(−‖x − x'‖) on S^(d−1) decay as k^(−d) (Geifman et al., 2020): slope −3 at d = 3, ± 0.02."""
    found = kernels.sphere_eigenvalues(lambda t: jnp.exp(-jnp.sqrt(2 - 2 * t)), 3, 200).eigenvalues
    slope = jnp.log(found[200] / found[100]) / jnp.log(2.0)
    assert abs(slope + 3) < 0.02


def test_float32_is_refused():
    with pytest.raises(ValueError, match="jax_enable_x64 must be on"):
        kernels.sphere_eigenvalues(arc_cosine, 3, 3)


def test_empirical_spectrum_approaches_the_operators(float64, key):
    """K/n on 1000 uniform points of S²: eigenvalues 3/8, 1/6 (3), 3/128 (5), within 4/√n in ℓ² (κ(1) = 1)."""
    x = jax.random.normal(key, (1000, 3), jnp.float64)
    x = x / jnp.linalg.norm(x, axis=1)[:, None]
    found = kernels.empirical_spectrum(kernels.arc_cosine(1)(x, x))
    expected = jnp.concatenate([jnp.full(1, 3 / 8), jnp.full(3, 1 / 6), jnp.full(5, 3 / 128)])
    assert jnp.linalg.norm(found[:9] - expected) < 4 / 1000**0.5
    assert_close(found.sum(), jnp.ones(()))


@pytest.mark.parametrize(("s", "constant"), [(1, np.pi / 2), (2, np.pi / (2 * np.sqrt(2)))])
def test_degrees_of_freedom_of_power_laws(s, constant, float64):
    """N(λ) λ^(1/2s) → (π/2s)/sin(π/2s); the integral's error is at most one mode of N(λ) ~ constant λ^(−1/2s)."""
    eigs, ridge = jnp.arange(1.0, 4e5) ** (-2 * s), 1e-6
    found = kernels.degrees_of_freedom(eigs, ridge) * ridge ** (1 / (2 * s))
    tail = 4e5 ** (1 - 2 * s) / ridge * ridge ** (1 / (2 * s))
    assert abs(found - constant) < ridge ** (1 / (2 * s)) + tail


def test_degrees_of_freedom_is_a_trace(float64, key):
    x = jax.random.normal(key, (40, 3), jnp.float64)
    gram = np.asarray(kernels.laplace()(x, x))
    trace = np.trace(gram @ np.linalg.inv(gram + 0.3 * np.eye(40)))
    assert_close(kernels.degrees_of_freedom(jnp.linalg.eigvalsh(gram), 0.3), trace, condition=1e2)
    doubled = kernels.degrees_of_freedom(jnp.array([1.0, 0.5]), 0.5, jnp.array([1.0, 3.0]))
    assert_close(doubled, 1 / 1.5 + 3 * 0.5)
    assert kernels.degrees_of_freedom(jnp.array([1.0, 0.0]), 0.0) == 1


@pytest.mark.slow
def test_lanczos_quadrature_estimates_traces(float64, key):
    """log det and degrees of freedom of 400 points, never forming K: within 4 standard errors, and 3% of the truth."""
    x = jax.random.normal(key, (400, 4), jnp.float64)
    eigs = jnp.linalg.eigvalsh(kernels.laplace(2.0)(x, x))
    density = kernels.lanczos_density(kernels.laplace(2.0), x, key, order=40, probes=16, block=128)
    assert density.nodes.shape == (16, 40)
    assert_close(density.weights.sum(axis=1), 400 * jnp.ones(16), condition=10)
    for function in (lambda v: jnp.log(v + 1.0), lambda v: v / (v + 1.0)):
        found = kernels.spectral_sum(density, function)
        assert abs(found.value - function(eigs).sum()) < 4 * found.standard_error
        assert found.standard_error < 0.03 * function(eigs).sum()
    assert_close(density.nodes[:, -1], jnp.broadcast_to(eigs[-1], (16,)), condition=1e2)
