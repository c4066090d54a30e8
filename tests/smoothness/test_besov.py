"""Besov norms against moduli, Fourier, Hölder quotients and variation; samplers; signals."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from jaxtheory.results import fit_slope
from jaxtheory.smoothness import besov, signals, spaces, wavelets

SEEDS = 6
KEY = jax.random.key(0)


def functions(s, p, levels, wavelet="db4"):
    """Samples and coefficients of random points of a ball, rough and smooth, spiky and dense, stacked."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    kinds = ("spike+dense", "gaussian") if math.isinf(p) else ("spike+dense", "weak-lp")
    draw = partial(besov.sample, s=s, p=p, q=math.inf, levels=levels, dtype=jnp.float64)
    drawn = [jax.vmap(lambda k, kind=kind: draw(k, kind=kind))(keys) for kind in kinds]
    coefficients = jax.tree.map(lambda *parts: jnp.concatenate(parts), *drawn)
    samples = jax.vmap(partial(wavelets.idwt, wavelet=wavelet))(coefficients)  # one compilation for all tests
    return samples * 2 ** (levels / 2), coefficients


def ratios(above, below, s, p, levels, wavelet="db4"):
    """above(samples)/below(coefficients) over `functions`."""
    samples, coefficients = functions(s, p, levels, wavelet)
    return np.asarray(jax.vmap(above)(samples) / jax.vmap(below)(coefficients))


def spread(ratios):
    """Largest over smallest: what an equivalence of norms bounds, whatever the resolution."""
    return max(ratios) / min(ratios)


@pytest.mark.parametrize("kind", ["spike+dense", "weak-lp", "gaussian"])
@pytest.mark.parametrize(("s", "p", "q", "dim"), [(1.0, 1.0, 1.0, 1), (0.7, 0.5, math.inf, 1), (2.0, 2.0, 2.0, 2)])
@pytest.mark.first_case
def test_samples_lie_on_the_sphere(kind, s, p, q, dim, key, float64):
    c = besov.sample(key, s, p, q, 5, kind, dim=dim, dtype=jnp.float64)
    weights = [2.0 ** (j * (s + dim / 2 - dim / p)) for j in range(5)]
    parts = [w * (np.abs(d) ** p).sum() ** (1 / p) for w, d in zip(weights, c.details, strict=True)]
    by_hand = max(parts) if math.isinf(q) else (np.array(parts) ** q).sum() ** (1 / q)
    np.testing.assert_allclose([by_hand, besov.norm(c, s, p, q)], 1.0, rtol=1e-12)
    assert c.details[3].shape == (2**dim - 1, *[8] * dim)


@pytest.mark.parametrize("kind", ["spike+dense", "weak-lp", "gaussian"])
def test_samples_in_single_precision_at_small_p(kind, key):
    """p = 0.1, where norms of blocks, 8192^10, are beyond the dtype and their entries are not."""
    c = besov.sample(key, 0.2, 0.1, 1.0, 14, kind)
    weights = [2.0 ** (j * (0.2 + 0.5 - 10)) for j in range(14)]
    assert all(part.dtype == jnp.float32 for part in c.details)
    sizes = [np.abs(np.asarray(d, np.float64)) for d in c.details]
    by_hand = sum(w * d.max() * ((d / d.max()) ** 0.1).sum() ** 10 for w, d in zip(weights, sizes, strict=True))
    assert abs(by_hand - 1) < 100 * 2**-23  # ten roundings of 2^−24 in each entry, and as many in the mean
    with pytest.raises(ValueError, match="p must leave entries above"):
        besov.unit_blocks(key, [2**14], 0.1, "weak-lp", jnp.float32)


def test_spikes_stand_out_by_their_law(key, float64):
    """One coefficient of a level is larger by 2^{j/p} + 1, the others are equal."""
    detail = np.abs(besov.sample(key, 1.0, 1.0, math.inf, 8, dtype=jnp.float64).details[7].ravel())
    np.testing.assert_allclose(np.sort(detail)[-1] / np.sort(detail)[:-1], 2**7 + 1, rtol=1e-12)


@pytest.mark.slow
def test_sobolev_is_b_s_2_2(float64):
    """Fourier norms within one constant of wavelet norms, at every resolution."""
    s = 1.2
    below = lambda c: besov.norm(c, s, 2.0, 2.0, wavelet="db4")  # noqa: E731
    found = [ratios(lambda x: spaces.sobolev_norm(x, s), below, s, 2.0, levels) for levels in (6, 9)]
    # a level's frequencies are those within a factor 2 of 2π 2^j/1.5, up to the tails of db4
    assert spread(np.concatenate(found)) < 2 ** (2 * s)


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 9])
def test_sobolev_norms_of_waves_are_their_integrals(n, dtype):
    """∫ f² = 1/2 for a cosine, also at the Nyquist frequency 4 of n = 8, where its samples are ±1."""
    t = np.arange(n) / n
    for k in range(5):
        wave = jnp.asarray(np.cos(2 * np.pi * k * t), dtype)
        for s in (-1.0, 0.0, 1.5):
            exact = np.sqrt((1 + (2 * np.pi * k) ** 2) ** s * (0.5 if k else 1.0))
            assert_close(spaces.sobolev_norm(wave, s), exact, condition=10 * 30 ** abs(s))


def test_sobolev_norms_of_images_halve_both_edges(float64):
    """cos πn x · cos πm y has the square 1/4; with one frequency within the range too."""
    i, j = np.meshgrid(np.arange(4), np.arange(6), indexing="ij")
    for k, m in ((2, 3), (2, 1), (1, 3)):
        wave = jnp.asarray(np.cos(2 * np.pi * k * i / 4) * np.cos(2 * np.pi * m * j / 6))
        assert_close(spaces.sobolev_norm(wave, 1.0), np.sqrt(1 + (2 * np.pi) ** 2 * (k**2 + m**2)) / 2, condition=10)


@pytest.mark.slow
def test_holder_is_b_s_inf_inf(float64):
    s = 0.4
    below = lambda c: besov.norm(c, s, math.inf, math.inf, wavelet="db4")  # noqa: E731
    found = [ratios(lambda x: spaces.holder_norm(x, s), below, s, math.inf, levels) for levels in (6, 9)]
    assert spread(np.concatenate(found)) < 4


@pytest.mark.parametrize(
    ("s", "p", "q"),
    [
        (0.8, 1.0, 1.0),
        pytest.param(1.3, 2.0, math.inf, marks=pytest.mark.slow),
        pytest.param(0.5, math.inf, 2.0, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_moduli_and_wavelets_give_equivalent_norms(s, p, q, float64):
    """The ratio stays within a band that does not widen with the resolution."""
    moduli = lambda x: besov.modulus_norm(x, s, p, q, periodic=True)  # noqa: E731
    coarse, fine = (ratios(moduli, lambda c: besov.norm(c, s, p, q), s, p, levels) for levels in (6, 9))
    assert spread(fine) < 8
    assert 0.5 < fine.mean() / coarse.mean() < 2


def test_moduli_of_a_step_and_of_a_wave_are_exact(float64):
    """ω_1(step, t)_p = t^{1/p}; ω_2(sin 2πx, t)_2 = 4 sin²(πt)/√2 on the circle."""
    n = 64
    t = np.arange(1, n) / n
    step = jnp.where(jnp.arange(n) >= n // 2, 1.0, 0.0)
    np.testing.assert_allclose(besov.modulus(step, 1, 2.0)[: n // 2], np.sqrt(t[: n // 2]), rtol=1e-12)
    wave = jnp.sin(2 * jnp.pi * (jnp.arange(n) / n))
    found = besov.modulus(wave, 2, 2.0, periodic=True)[: n // 2 - 1]
    np.testing.assert_allclose(found, 4 * np.sin(np.pi * t[: n // 2 - 1]) ** 2 / np.sqrt(2), rtol=1e-12)


@pytest.mark.slow
def test_bounded_variation_lies_between_b_1_1_1_and_b_1_1_inf(float64):
    """Variation ≤ C · B^1_{1,1}; a jump has B^1_{1,∞} bounded, while its B^1_{1,1} grows with the levels."""
    below = lambda c: besov.norm(c, 1.0, 1.0, 1.0)  # noqa: E731
    assert ratios(spaces.total_variation, below, 1.0, 1.0, 9, "haar").max() <= 4
    norms = []
    for levels in (6, 8, 10):
        t = jnp.arange(2**levels) / 2**levels
        c = wavelets.dwt(jnp.where(t >= 1 / 3, 1.0, 0.0) / 2 ** (levels / 2), "haar")
        norms.append((besov.norm(c, 1.0, 1.0, 1.0), besov.norm(c, 1.0, 1.0, math.inf)))
    one, sup = np.array(norms).T
    # the fraction of 2^j/3 is 1/3 or 2/3 at every j, so that level j has one coefficient of weighted size 1/3
    np.testing.assert_allclose(np.diff(one), 2 / 3, rtol=0.05)
    np.testing.assert_allclose(sup[1:], sup[0], rtol=0.05)


@pytest.mark.slow
def test_embedding_into_continuous_functions_needs_s_above_one_over_p(float64):
    """Spikes at one place: the sup grows as Σ 2^{−j(s − 1/p)}, bounded for s > 1/p only."""

    def peak(s, levels):
        details = [jnp.zeros((1, 2**j)).at[0, 2**j // 3].set(2.0 ** (-j * (s - 0.5))) for j in range(levels)]
        return float(jnp.abs(wavelets.idwt(wavelets.Coefficients(jnp.zeros(1), tuple(details)), "db2")).max()) * 2 ** (
            levels / 2
        )

    assert abs(peak(1.5, 14) - peak(1.5, 10)) < 2.0**-4 * peak(1.5, 10)
    growth = [peak(0.75, levels) for levels in (8, 10, 12, 14)]
    slope = fit_slope(2.0 ** jnp.arange(8.0, 15.0, 2.0), jnp.asarray(growth)).slope
    np.testing.assert_allclose(slope, 0.25, atol=0.05)


def test_signals_have_the_published_features(float64):
    t = jnp.linspace(0, 1, 2049)[1:-1]
    assert float(jnp.abs(jnp.diff(signals.blocks(t))).max()) == pytest.approx(5.0)
    peaks = [0.1, 0.13, 0.15, 0.23, 0.25, 0.40, 0.44, 0.65, 0.76, 0.78, 0.81]
    heights = [4, 5, 3, 4, 5, 4.2, 2.1, 4.3, 3.1, 5.1, 4.2]
    assert (signals.bumps(jnp.array(peaks)) >= jnp.array(heights)).all()
    assert float(
        signals.heavisine(jnp.array([0.3 + 1e-9]))[0] - signals.heavisine(jnp.array([0.3 - 1e-9]))[0]
    ) == pytest.approx(-2, abs=1e-6)
    assert float(jnp.abs(signals.doppler(t)).max()) < 0.5


@pytest.mark.slow
def test_random_pieces_have_their_jumps_and_their_smoothness(key, float64):
    t = (jnp.arange(4096.0) + 0.5) / 4096
    f = signals.piecewise_smooth(key, t, 5, 2.5)
    assert int((jnp.abs(jnp.diff(f)) > 0.5).sum()) == 5
    image = signals.horizon(key, 64, 2.0, 2.0, dtype=jnp.float64)
    assert ((jnp.abs(jnp.diff(image, axis=1)) > 0.3).sum(axis=1) >= 1).mean() > 0.5
    assert abs(signals.disc(128).sum() / 128**2 - math.pi * 0.09) < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: besov.norm(c, 1.0, 0.0, 1.0), "p must lie in"),
        (lambda c: besov.norm(c, 1.0, 1.0, -1.0), "q must lie in"),
        (lambda c: besov.norm(c, 1.2, 2.0, 2.0, wavelet="db2"), "s must be below the smoothness 1 of db2"),
        (lambda c: besov.norm(c, 0.9, 0.5, 2.0, wavelet="db4"), r"s must be above d\(1/p − 1\)_\+ = 1,"),
        (lambda c: besov.norm(c, 0.0, 2.0, 2.0, wavelet="db4"), r"s must be above d\(1/p − 1\)_\+ = 0,"),
        (lambda c: jax.jit(lambda s: besov.norm(c, s, 1.0, 1.0))(1.0), "s must be known when the program is compiled"),
        (lambda c: jax.jit(lambda p: besov.norm(c, 1.0, p, 1.0))(1.0), "p must be known when the program is compiled"),
        (lambda c: jax.vmap(lambda q: besov.norm(c, 1.0, 1.0, q))(jnp.ones(2)), "q must be known when"),
        (lambda c: jax.jit(lambda s: besov.sample(KEY, s, 1.0, 1.0, 3))(1.0), "s must be known when"),
        (lambda c: jax.jit(lambda n: besov.sample(KEY, 1.0, 1.0, 1.0, n))(3), "levels must be known when"),
        (lambda c: besov.sample(jax.random.key(0), 1.0, 1.0, 1.0, 0), "levels must be >= 1"),
        (lambda c: besov.sample(jax.random.key(0), 1.0, math.inf, 1.0, 3, "weak-lp"), "kind must be"),
        (lambda c: besov.modulus_norm(jnp.ones(12), 1.0, 1.0, 1.0), "x must be a power of two"),
        (lambda c: spaces.holder_norm(jnp.ones(8), 1.0), "s must lie in"),
        (lambda c: signals.smooth(jax.random.key(0), jnp.ones(3), -1.0), "beta must be > 0"),
    ],
)
def test_what_is_no_besov_space_is_refused(call, message, key, unchecked):
    with pytest.raises(ValueError, match=message):
        call(besov.sample(key, 1.0, 1.0, 1.0, 4))
