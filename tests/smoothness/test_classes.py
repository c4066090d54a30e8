"""Rates of function classes: measured exponents of exact risks, limits between classes, and named errors."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.results import fit_slope
from jaxtheory.smoothness import estimation, mixed
from jaxtheory.smoothness.classes import (
    Anisotropic,
    Composite,
    Isotropic,
    Manifold,
    Mixed,
    PiecewiseSmooth,
    Variable,
    rates,
)


@pytest.mark.parametrize("s", [1.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_isotropic_rates_are_slopes_of_the_exact_minimax_risk(s):
    """B^s_{1,∞} in the sequence model, with the tolerance of the finite sizes; the two arms are ≥ 0.05 apart."""
    n = jnp.asarray(2.0 ** np.arange(24, 40), jnp.float32)
    for arm, name in (("linear", "linear"), ("deep", "adaptive")):
        slope = fit_slope(n, estimation.minimax_risk(s, 1.0, n, estimator=name)).slope
        assert abs(slope + rates(Isotropic(s, p=1.0), arm).exponent) < 0.01


def test_anisotropic_rates_are_slopes_of_exact_projections():
    """Over the ellipsoid Σ_k (Σ_i |k_i|^{2 s_i}) |f_k|² ≤ 1 projections risk min_T N(T)/n + T^{−2}, N(T) counted."""
    for s in ((1.0, 2.0), (2.0, 2.0), (0.7, 3.0)):
        k = np.stack(np.meshgrid(np.arange(-2000, 2001), np.arange(-64, 65)))
        size = np.sort(sum(np.abs(axis) ** (2 * each) for axis, each in zip(k, s, strict=True)).ravel())
        inside = size[size < min(2000 ** (2 * s[0]), 64 ** (2 * s[1]))]  # beyond, the grid misses some
        n = 10.0 ** np.arange(5.0, 8.0, 0.25)
        risk = [np.min(np.arange(1, len(inside)) / each + 1 / inside[1:]) for each in n]
        found = np.polyfit(np.log(n), np.log(risk), 1)[0]
        assert abs(found + rates(Anisotropic(s)).exponent) < 0.02, (s, found)


def test_mixed_rates_are_slopes_of_hyperbolic_crosses():
    """e_j = 2^{−2js}, d = 3: n^{−r}(log n)^l fits better than 5 %, the power alone misses by more than a tenth."""
    s, levels = 1.0, 60
    cross = mixed.cross_errors(4.0 ** (-s * np.arange(levels + 1)), levels, 3)
    n = 2.0 ** np.arange(30, 70)
    risk = np.array([np.min(cross.terms / each + cross.errors**2) for each in n])
    law = rates(Mixed(s, dim=3))
    with_logs = np.polyfit(np.log(n), np.log(risk) - law.log_power * np.log(np.log(n)), 1)[0]
    assert abs(with_logs + law.exponent) < 0.03
    assert abs(np.polyfit(np.log(n), np.log(risk), 1)[0] + law.exponent) > 0.04


def test_classes_agree_where_they_meet():
    """Equal smoothness along axes, one map, one variable, a cube as manifold, constant smoothness."""
    for s, p, dim in itertools.product((0.8, 2.0), (1.5, math.inf), (1, 3)):
        if s <= dim * max(0, 1 / p - 0.5):
            continue
        plain = [rates(Isotropic(s, p, dim), arm).exponent for arm in ("deep", "linear")]
        axes = [rates(Anisotropic((s,) * dim, p), arm).exponent for arm in ("deep", "linear")]
        np.testing.assert_allclose(plain, axes, rtol=1e-12)
        others = (Variable(s, p, dim), Composite((s,), (dim,)), Manifold(s, dim))
        np.testing.assert_allclose([rates(other).exponent for other in others], plain[0], rtol=1e-12)
    assert rates(Mixed(1.5, 1.0, 2.0, dim=1), "linear")[:2] == rates(Isotropic(1.5, 1.0), "linear")[:2]


def test_numbers_of_every_kind_give_python_numbers_and_traced_ones_are_named():
    for s in (1, np.float32(1.0), jnp.float32(1.0), np.array(1.0)):
        assert isinstance(rates(Isotropic(s)).exponent, float)
        assert rates(Isotropic(s)) == rates(Isotropic(1.0))
    for both in ([1.0, 2.0], np.array([1.0, 2.0]), (jnp.float32(1.0), 2)):
        assert rates(Anisotropic(both)) == rates(Anisotropic((1.0, 2.0)))
    with pytest.raises(ValueError, match="s must be known"):
        jax.jit(lambda s: rates(Isotropic(s)).exponent)(1.0)


def test_compositions_and_boundaries_by_hand():
    """β* of each map by the product over later maps; the slower of piece and boundary."""
    assert rates(Composite((2.0, 0.5), (4, 1))).exponent == 2 * 1.0 / (2 * 1.0 + 4)
    assert rates(Composite((0.5, 0.5), (1, 1))).exponent == 0.5 / (0.5 + 1)
    assert rates(PiecewiseSmooth(2.0, 1.0)).exponent == 0.5
    assert rates(PiecewiseSmooth(0.5, 3.0)).exponent == 1 / 3


@pytest.mark.parametrize(
    ("given", "estimator", "message"),
    [
        (Isotropic(0.5, 1.0), "deep", "s must be > 0.5"),
        (Isotropic(math.nan), "deep", "s must be >"),
        (Isotropic(1.0, 0.0), "deep", "p must lie"),
        (Mixed(1.0, q=-1.0), "deep", "q must lie"),
        (Anisotropic(()), "deep", "s must hold"),
        (Anisotropic((1.0, -1.0)), "deep", "s must be positive"),
        (Composite((1.0,), (1, 2)), "deep", "variables must be one"),
        (Manifold(1.0, 0.0), "deep", "intrinsic must be"),
        (PiecewiseSmooth(1.0, 1.0, 1), "deep", "dim must be"),
        (Manifold(1.0, 1.0), "linear", "estimator must be 'deep'"),
        (Isotropic(1.0), "best", "estimator must be"),
        (1.0, "deep", "function_class must be"),
        (Isotropic("a"), "deep", "s must be a number"),
        (Isotropic((1.0, 2.0)), "deep", "s must be a number"),
        (Isotropic(1.0, dim=math.inf), "deep", "dim must be an integer"),
        (Manifold(None, 1.0), "deep", "smoothness must be a number"),
        (Anisotropic(1.0), "deep", "s must be one number for each"),
        (Anisotropic((1.0, "a")), "deep", "s must be a number"),
        (Composite(1.0, 1), "deep", "smoothness must be one number for each"),
    ],
)
def test_bad_classes_are_named(given, estimator, message, unchecked):
    with pytest.raises(ValueError, match=message):
        rates(given, estimator)
