"""Order and chaos, against published values, wide networks and a recursion in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.infinite.phase import (
    correlation_map,
    critical_point,
    deep_ntk,
    diagram,
    fixed_point,
    length_map,
    propagate,
)
from jaxtheory.results import Status

SIX_DIGITS = 6e-7


@pytest.mark.parametrize(
    ("phi", "bias", "weight"),
    [
        ("tanh", 0.01, 1.424205),
        ("tanh", 0.1, 1.986073),
        ("tanh", 1.0, 3.443211),
        ("erf", 0.01, 1.114280),
        ("erf", 0.1, 1.552118),
        ("tanh", 0.0, 1.0),
        ("erf", 0.0, math.pi / 4),
        ("relu", 0.0, 2.0),
    ],
)
@pytest.mark.first_case
@pytest.mark.slow
def test_critical_line_is_the_published_one(phi, bias, weight, float64):
    point = critical_point(phi, math.sqrt(bias))
    assert abs(point.sigma_w**2 - weight) < SIX_DIGITS
    assert point.status == Status.OK
    if bias:
        at = fixed_point(phi, point.sigma_w, point.sigma_b)
        assert abs(at.chi_one - 1) < 1e-8
        assert abs(at.variance - point.variance) < 1e-6


@pytest.mark.smoke
def test_published_fixed_point(float64):
    """erf at σ_w = 1.5, σ_b = 0.05."""
    point = fixed_point("erf", 1.5, 0.05)
    assert abs(point.variance - 1.080874) < SIX_DIGITS
    assert abs(point.chi_one - 1.241636) < SIX_DIGITS


def test_maps_are_those_of_a_wide_layer(key, float64):
    """4e5 units of one layer; four standard errors."""
    q, c, sigma_w, sigma_b = 1.3, 0.4, 1.2, 0.3
    u, v = jax.random.normal(key, (2, 400_000))
    one, two = jnp.tanh(math.sqrt(q) * u), jnp.tanh(math.sqrt(q) * (c * u + math.sqrt(1 - c * c) * v))
    for found, samples in [
        (length_map("tanh")(jnp.asarray(q), sigma_w, sigma_b), one * one),
        (correlation_map("tanh")(jnp.asarray(c), jnp.asarray(q), sigma_w, sigma_b) * q, one * two),
    ]:
        expected = sigma_w**2 * samples + sigma_b**2
        error = float(expected.std()) / math.sqrt(len(samples))
        assert abs(found - expected.mean()) < 4 * error


def erf_layer(q11, q12, q22, sigma_w, sigma_b):
    """Covariance one layer on, in closed form."""
    angle = lambda a, b, c: 2 / math.pi * math.asin(2 * b / math.sqrt((1 + 2 * a) * (1 + 2 * c)))  # noqa: E731
    pairs = (q11, q11, q11), (q11, q12, q22), (q22, q22, q22)
    return [sigma_w**2 * angle(*pair) + sigma_b**2 for pair in pairs]


@pytest.mark.parametrize(("sigma_w", "sigma_b"), [(0.7, 0.4), (2.2, 0.2)])
def test_fixed_points_and_depth_scales_are_where_the_layers_go(sigma_w, sigma_b, float64):
    """300 layers of a recursion in numpy; its last steps decay by χ and by the slope of the length map."""
    state, steps = [0.5, 0.1, 2.0], []
    for _ in range(300):
        state = erf_layer(*state, sigma_w, sigma_b)
        steps.append(state)
    point = fixed_point("erf", sigma_w, sigma_b)
    q, c = steps[-1][0], steps[-1][1] / steps[-1][0]
    assert abs(point.variance - q) < 1e-10
    assert abs(point.correlation - c) < 1e-7
    q11 = np.array([step[0] for step in steps])
    gap = np.abs(q11 - q)[:200]
    late = np.flatnonzero((gap < 1e-5) & (gap > 1e-9))
    assert abs(np.log(gap[late[-1]] / gap[late[0]]) / (late[-1] - late[0]) + 1 / point.variance_depth) < 1e-4


@pytest.mark.slow
def test_correlation_depth_is_the_measured_decay(float64):
    """In the ordered phase 1 − c falls by χ₁ a layer."""
    sigma_w, sigma_b = 1.0, 0.5
    point = fixed_point("tanh", sigma_w, sigma_b)
    q = point.variance
    layers = propagate("tanh", sigma_w, sigma_b, (q, 0.99 * q, q), depth=40)
    gap = np.log(1 - np.asarray(layers.q12 / layers.q11))
    assert point.chi_one < 1
    assert abs((gap[20] - gap[10]) / 10 + 1 / point.correlation_depth) < 1e-3


def test_propagation_is_the_closed_form_layer_by_layer(float64):
    state, layers = [1.0, 0.2, 0.7], propagate("erf", 1.4, 0.3, (1.0, 0.2, 0.7), depth=6)
    tangent = state[1]
    for layer in range(6):
        q11, q12, q22 = state
        slope = 4 / math.pi / math.sqrt((1 + 2 * q11) * (1 + 2 * q22) - 4 * q12**2)
        state = erf_layer(*state, 1.4, 0.3)
        tangent = state[1] + 1.96 * slope * tangent
        np.testing.assert_allclose([layers.q11[layer], layers.q12[layer], layers.q22[layer]], state, rtol=1e-12)
        np.testing.assert_allclose(layers.ntk12[layer], tangent, rtol=1e-12)


@pytest.mark.parametrize(
    ("phi", "ratio"), [("relu", 1 / 4), ("erf", 1 / 3), pytest.param("tanh", 1 / 3, marks=pytest.mark.slow)]
)
def test_deep_limit_on_the_critical_line(phi, ratio, float64):
    """The published limit, and 4000 layers on the way to it: corrections are of order log(depth)/depth."""
    point, depth = critical_point(phi, 0.0 if phi == "relu" else math.sqrt(0.1)), 4000
    assert deep_ntk(phi, point.sigma_w, point.sigma_b).ratio == pytest.approx(ratio)
    q = point.variance
    layers = propagate(phi, point.sigma_w, point.sigma_b, (q, 0.5 * q, q), depth=depth)
    assert abs(layers.ntk12[-1] / layers.ntk11[-1] - ratio) < 10 * math.log(depth) / depth


@pytest.mark.slow
def test_deep_limits_off_the_critical_line(float64):
    order, chaos = deep_ntk("tanh", 0.8, 0.3), deep_ntk("tanh", 2.0, 0.3)
    layers = propagate("tanh", 0.8, 0.3, (1.0, 0.2, 0.5), depth=200)
    np.testing.assert_allclose([layers.ntk11[-1], layers.ntk12[-1]], [order.diagonal, order.off_diagonal], rtol=1e-7)
    layers = propagate("tanh", 2.0, 0.3, (1.0, 0.2, 0.5), depth=200)
    np.testing.assert_allclose(layers.ntk12[-1], chaos.off_diagonal, rtol=1e-6)
    assert order.ratio == 1
    assert chaos.ratio == 0
    assert np.isinf(chaos.diagonal)
    assert layers.ntk11[-1] > 1e10


def test_without_a_fixed_point_the_status_says_so():
    for point in [fixed_point("relu", 2.0, 0.3), critical_point("relu", 0.3)]:
        assert point.status == Status.NOT_CONVERGED
        assert np.isnan(point.variance)


def test_a_relu_with_biases_keeps_its_closed_variance(float64):
    """q* = σ_b²/(1 − σ_w²/2), χ₁ = σ_w²/2."""
    point = fixed_point("relu", 1.2, 0.4)
    np.testing.assert_allclose([point.variance, point.chi_one], [0.16 / 0.28, 0.72], rtol=1e-12)


def test_without_biases_order_is_no_variance_at_all(float64):
    """tanh: q* = 0 while σ_w ≤ 1, and χ₁ = σ_w² there."""
    point = fixed_point("tanh", 0.8, 0.0)
    assert point.variance == 0
    assert abs(point.chi_one - 0.64) < 1e-12


@pytest.mark.slow
def test_diagram_is_the_grid_of_fixed_points_and_its_boundary_the_critical_line():
    sigma_w, sigma_b = jnp.linspace(0.5, 2.5, 5), jnp.array([0.1, 0.5])
    grid = diagram("erf", sigma_w, sigma_b)
    assert grid.chi_one.shape == (5, 2)
    np.testing.assert_allclose(grid.variance[3, 1], fixed_point("erf", 2.0, 0.5).variance, rtol=1e-5)
    for column, bias in enumerate(sigma_b):
        ordered = np.asarray(grid.chi_one[:, column] < 1)
        np.testing.assert_array_equal(ordered, np.asarray(sigma_w < critical_point("erf", bias).sigma_w))


def test_float32_is_float64_to_its_precision():
    with jax.enable_x64(True):
        wide = fixed_point("erf", 1.5, 0.3)
    np.testing.assert_allclose(fixed_point("erf", 1.5, 0.3).variance, wide.variance, rtol=1e-5)
    assert fixed_point("erf", 1.5, 0.3).variance.dtype == jnp.float32


def test_length_map_of_erf_is_its_arcsine(float64):
    q = jnp.linspace(0.0, 9.0, 7)
    expected = 2.25 * 2 / math.pi * np.arcsin(2 * q / (1 + 2 * q)) + 0.09
    np.testing.assert_allclose(length_map(jax.scipy.special.erf)(q, 1.5, 0.3), expected, rtol=1e-12)


def difference(function, at, step=1e-4):
    """Central difference of fourth order."""
    f = {k: float(function(at + k * step)) for k in (-2, -1, 1, 2)}
    return (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * step)


ROOTS = {
    "dq/dσ_b": (lambda s: fixed_point("tanh", 1.5, s).variance, 0.3, 1.04281),
    "dχ₁/dσ_w": (lambda w: fixed_point("tanh", w, 0.3).chi_one, 1.5, 0.5668),
    "dσ_w/dσ_b": (lambda s: critical_point("tanh", s).sigma_w, 0.2, 0.98872),
    "dc*/dσ_w": (lambda w: fixed_point("erf", w, 0.3).correlation, 2.2, None),
    "dΘ/dσ_w in order": (lambda w: deep_ntk("erf", w, 0.4).diagonal, 0.7, None),
    "dΘ/dσ_w in chaos": (lambda w: deep_ntk("erf", w, 0.3).off_diagonal, 2.2, None),
}


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.first_case
def test_derivatives_of_roots_are_those_of_differences(name, float64):
    """Implicit derivatives of fixed and critical points, some by hand: dq/dσ_b = 2σ_b/(1 − χ_q)."""
    function, at, by_hand = ROOTS[name]
    found = jax.jit(jax.grad(lambda x: function(x)))(at)
    np.testing.assert_allclose(found, difference(function, at), rtol=1e-6)
    if by_hand is not None:
        np.testing.assert_allclose(found, by_hand, rtol=1e-4)


@pytest.mark.slow
def test_second_derivatives_of_roots_are_those_of_differences(float64):
    first = jax.jit(jax.grad(lambda s: fixed_point("erf", 1.5, s).variance))
    second = jax.jit(jax.hessian(lambda s: fixed_point("erf", 1.5, s).variance))(0.3)
    np.testing.assert_allclose(second, difference(first, 0.3), rtol=1e-5)


@pytest.mark.slow
def test_roots_without_a_derivative_say_so(float64):
    """No variance at all: derivative 0, not NaN. On the critical line the kernel of infinite depth has none."""
    assert jax.grad(lambda w: fixed_point("erf", w, 0.0).variance)(0.5) == 0
    assert not np.isfinite(jax.grad(lambda w: deep_ntk("relu", w, 0.0).diagonal)(2**0.5))


@pytest.mark.slow
def test_where_order_turns_to_chaos_correlations_have_no_derivative(float64):
    """c* leaves 1 with a kink where χ₁ = 1, as q* leaves 0 where biases are 0, and the critical q for any biases."""

    def parts(w, b):
        point = fixed_point("erf", w, b)
        return jnp.stack([point.variance, point.chi_one, point.correlation, point.chi])

    forward = jax.jit(jax.jacfwd(parts))
    backward = jax.jit(jax.grad(lambda w, b: fixed_point("erf", w, b).correlation))
    edge = critical_point("erf", 0.3).sigma_w
    np.testing.assert_array_equal(np.isfinite(forward(edge, 0.3)), [True, True, False, False])
    assert np.isnan(backward(edge, 0.3))
    assert forward(edge - 0.01, 0.3)[2] == backward(edge - 0.01, 0.3) == 0
    assert backward(edge + 0.01, 0.3) < -1e-3
    assert np.isnan(forward(math.sqrt(math.pi) / 2, 0.0)).all()
    assert np.isnan(jax.grad(lambda b: critical_point("erf", b).sigma_w)(0.0))


@pytest.mark.slow
def test_scales_that_are_no_deviations_are_refused_or_invalid(unchecked):
    for call in (lambda s: fixed_point("relu", 1.2, s), lambda s: critical_point("relu", s)):
        traced = jax.jit(call)
        for bad in (-0.5, math.nan, math.inf):
            with pytest.raises(ValueError, match=r"sigma_b must be >= 0 and finite, got sigma_b="):
                call(bad)
            assert traced(bad).status == Status.INVALID_INPUT
            assert np.isnan(traced(bad).variance)
    with pytest.raises(ValueError, match=r"q12 in covariance must be at most √\(q11 q22\)"):
        propagate("relu", 1.2, 0.1, (1.0, 2.0, 1.0), depth=1)
    assert np.isnan(jax.jit(lambda q: propagate("relu", 1.2, 0.1, (1.0, q, 1.0), depth=1).q12)(2.0)).all()


@pytest.mark.slow
def test_a_variance_that_rounding_moves_is_not_ok():
    """tanh at σ_w = 1 and on the critical line, biases from 0.3 to 1e-8: in float32 where OK to 0.4 %, and some are."""
    biases = np.float32([0.3, 0.03, 1e-3, 1e-4, 1e-5, 1e-8])
    points = jax.vmap(lambda b: (fixed_point("tanh", 1.0, b), critical_point("tanh", b)))
    single = points(jnp.asarray(biases))
    with jax.enable_x64(True):
        double = points(jnp.asarray(biases, float))
    for found, exact in zip(single, double, strict=True):
        good = np.asarray(found.status) == Status.OK
        np.testing.assert_allclose(found.variance[good], exact.variance[good], rtol=4e-3)
        assert 0 < good.sum() < len(biases)
        assert (np.asarray(found.status)[~good] == Status.ILL_CONDITIONED).all()
    # σ_b² = 2 q² to leading order
    np.testing.assert_allclose(double[0].variance[4], 1e-5 / 2**0.5, rtol=1e-3)
    assert double[0].status[4] == Status.OK


@pytest.mark.slow
def test_scales_whose_squares_leave_the_dtype_are_told():
    """float32: 1e-30 counts as 0, which has another depth; 0 itself has an answer."""
    at = jax.vmap(lambda w, b: fixed_point("tanh", w, b).status)
    small = jnp.float32(1e-30)
    weights, biases = jnp.array([small, 0.5, 0.0, 0.5]), jnp.array([0.3, small, 0.3, 0.0])
    assert at(weights, biases).tolist() == [Status.ILL_CONDITIONED] * 2 + [Status.OK] * 2
    assert int(critical_point("tanh", small).status) == Status.ILL_CONDITIONED
