"""Duals against quadrature between the kinks, closed values, and derivatives of one-dimensional integrals."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import tolerance

from jaxtheory.activations import cross_dual, derivative_dual, dual, dual_pair, gaussian_moments, resolve
from jaxtheory.activations.fingerprint import recognize
from jaxtheory.activations.pieces import find_pieces

SERIES = 1e-8  # of √(E φ² E ψ²): what the module promises where there is no closed form
ROUND_OFF = 1e-12


class Known(NamedTuple):
    """An activation, its derivative and its kinks, in numpy; `closed` says whether its dual has a closed form."""

    function: object
    values: object
    slope: object
    kinks: tuple = ()
    closed: bool = True


def sigmoid(x):
    return scipy.special.expit(x)


KNOWN = {
    "relu": Known("relu", lambda x: np.maximum(x, 0), lambda x: x > 0, (0,)),
    "leaky": Known(
        lambda x: jnp.where(x > 0, 2 * x, -0.3 * x) + 0.1,
        lambda x: np.where(x > 0, 2 * x, -0.3 * x) + 0.1,
        lambda x: np.where(x > 0, 2.0, -0.3),
        (0,),
    ),
    "abs": Known("abs", np.abs, np.sign, (0,)),
    "relu squared": Known(
        lambda x: jnp.square(jax.nn.relu(x)), lambda x: np.maximum(x, 0) ** 2, lambda x: 2 * np.maximum(x, 0), (0,)
    ),
    "step": Known("step", lambda x: (x > 0) * 1.0, lambda x: 0 * x, (0,)),
    "cubic": Known(lambda x: x**3 - 2 * x + 0.5, lambda x: x**3 - 2 * x + 0.5, lambda x: 3 * x**2 - 2),
    "erf": Known(
        lambda x: 2 * jax.scipy.special.erf(0.7 * x) - 0.3 + x,
        lambda x: 2 * scipy.special.erf(0.7 * x) - 0.3 + x,
        lambda x: 2.8 / math.sqrt(math.pi) * np.exp(-0.49 * x**2) + 1,
    ),
    "gelu": Known(
        "gelu",
        lambda x: x * scipy.special.ndtr(x),
        lambda x: scipy.special.ndtr(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi),
    ),
    "wave": Known(
        lambda x: jnp.sin(2 * x + 0.4) + x, lambda x: np.sin(2 * x + 0.4) + x, lambda x: 2 * np.cos(2 * x + 0.4) + 1
    ),
    "exp": Known(lambda x: jnp.exp(-0.5 * x), lambda x: np.exp(-0.5 * x), lambda x: -0.5 * np.exp(-0.5 * x)),
    "gaussian": Known("gaussian", lambda x: np.exp(-(x**2)), lambda x: -2 * x * np.exp(-(x**2))),
    "tanh": Known("tanh", np.tanh, lambda x: 1 / np.cosh(x) ** 2, closed=False),
    "silu": Known("silu", lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x))), closed=False),
    "softplus": Known("softplus", lambda x: np.logaddexp(0, x), sigmoid, closed=False),
    "elu": Known(
        "elu", lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.where(x > 0, 1, np.exp(x)), (0,), False
    ),
    "hard_tanh": Known("hard_tanh", lambda x: np.clip(x, -1, 1), lambda x: (np.abs(x) < 1) * 1.0, (-1, 1), False),
}
# What is drawn between kinks by squares and exponentials of other rates, and what by no closed kind.
PIECES = {
    "hard_swish": Known(
        jax.nn.hard_swish,
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.select([x < -3, x < 3], [0 * x, x / 3 + 0.5], 1.0),
        (-3, 3),
        False,
    ),
    "celu": Known(
        lambda x: jax.nn.celu(x, 2.0),
        lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)),
        lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0) / 2)),
        (0,),
        False,
    ),
    "two-sided exponential": Known(
        lambda x: jnp.exp(-jnp.abs(x)), lambda x: np.exp(-abs(x)), lambda x: -np.sign(x) * np.exp(-abs(x)), (0,), False
    ),
    "softsign": Known("softsign", lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2, (0,), False),
}
COVARIANCES = [(1.0, 0.5, 1.0), (9.0, -4.0, 4.0), (0.3, 0.2, 2.0), (1.0, 0.0, 0.25)]


# One of each kind in every run (a kink, a smooth closed form, a series), all of them in the slow one.
FEW = ("relu", "erf", "tanh")


def few(names, every):
    """The others in the slow run."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in every]


NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def panels(cuts, count=16):
    """Gauss-Legendre under the Gaussian weight, `count` panels between cuts [..., cuts]."""
    left, step = cuts[..., :-1, None, None], np.diff(cuts)[..., None, None] / count
    x = left + step * (np.arange(count)[:, None] + (NODES + 1) / 2)
    weight = step / 2 * WEIGHTS * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return tuple(part.reshape(*cuts.shape[:-1], -1) for part in (x, weight))


def cut(places, like=0.0):
    """[−9, 9] cut at places, which broadcast: [..., cuts]."""
    every = np.broadcast_arrays(-9.0, 9.0, *places, like)[:-1]
    return np.sort(np.clip(np.stack(every, -1), -9, 9), -1)


def line_integral(f, kinks, q):
    """E f(√q G)."""
    x, weight = panels(cut([k / math.sqrt(q) for k in kinks]))
    return float(weight @ f(math.sqrt(q) * x))


def plane_integral(f, g, kinks1, kinks2, q11, q12, q22):
    """E f(u) g(v), both integrals cut where their integrand is not smooth."""
    s1, s2 = math.sqrt(q11), math.sqrt(q22)
    c = q12 / (s1 * s2)
    w = math.sqrt(1 - c * c)
    x, weight = panels(cut([*(k / s1 for k in kinks1), *(k / (s2 * c) for k in kinks2 if c)]))
    y, inner = panels(cut([(k / s2 - c * x) / w for k in kinks2], x), 8)
    return float(weight @ (f(s1 * x) * (inner * g(s2 * (c * x[:, None] + w * y))).sum(-1)))


def size(known, q):
    return math.sqrt(line_integral(lambda x: known.values(x) ** 2, known.kinks, q))


def arrays(covariance):
    return tuple(jnp.asarray(q) for q in covariance)


@pytest.mark.parametrize("name", few((*FEW, "gelu"), KNOWN | PIECES))
def test_dual_is_the_integral_over_the_plane(name, float64):
    known = (KNOWN | PIECES)[name]
    accuracy = ROUND_OFF if known.closed else SERIES
    pair = jax.jit(dual_pair(known.function))(*arrays(np.array(COVARIANCES).T))
    for q, value, derivative in zip(COVARIANCES, *pair, strict=True):
        expected = plane_integral(known.values, known.values, known.kinks, known.kinks, *q)
        assert abs(value - expected) < accuracy * size(known, q[0]) * size(known, q[2])
        slopes = plane_integral(known.slope, known.slope, known.kinks, known.kinks, *q)
        allowed = accuracy * max(1.0, abs(known.slope(np.linspace(-9, 9, 101) * math.sqrt(max(q[0], q[2])))).max()) ** 2
        assert abs(derivative - slopes) < allowed


@pytest.mark.parametrize("name", few(FEW, KNOWN))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_at_correlation_one_values_and_gradients_are_those_of_one_dimension(name, sign, float64):
    """∂/∂q12 = E[φ'(u)φ'(v)], and along q11 ↦ (1+ε)q11, q12 ↦ √(1+ε) q12 the pair stays one-dimensional."""
    known, q11, q22 = KNOWN[name], 1.7, 0.9
    s1, s2 = math.sqrt(q11), math.sqrt(q22)
    cuts = [*(k / s1 for k in known.kinks), *(sign * k / s2 for k in known.kinks)]

    def along(one, two, stretch=1.0):
        x, weight = panels(cut([*(c / stretch for c in cuts[: len(known.kinks)]), *cuts[len(known.kinks) :]]))
        return float(weight @ (one(stretch * s1 * x) * two(sign * s2 * x)))

    q = arrays((q11, sign * s1 * s2, q22))
    value, slopes = jax.jit(jax.value_and_grad(dual(known.function), argnums=(0, 1, 2)))(*q)
    scale = size(known, q11) * size(known, q22)
    # Round-off of the covariance itself moves the angle by its root.
    accuracy = 1e-7 if known.kinks else (1e-11 if known.closed else SERIES)
    assert abs(value - along(known.values, known.values)) < accuracy * scale
    step = 1e-4
    moved = (along(known.values, known.values, 1 + step) - along(known.values, known.values, 1 - step)) / (2 * step)
    if name != "step":  # whose derivative by q12 is infinite here
        assert abs(slopes[1] - along(known.slope, known.slope)) < accuracy * max(scale, 1.0)
    assert abs(2 * q11 * slopes[0] + q[1] * slopes[1] - moved) < 1e-6 * max(scale, 1.0)


@pytest.mark.parametrize("name", few(FEW, KNOWN))
def test_gradients_are_differences_of_the_integral(name, float64):
    known, q, step = KNOWN[name], (1.7, 0.6, 0.9), 1e-4
    slopes = jax.jit(jax.grad(dual(known.function), argnums=(0, 1, 2)))(*arrays(q))
    for i, slope in enumerate(slopes):
        up, down = ([p + s * step * (i == j) for j, p in enumerate(q)] for s in (1, -1))
        values = [plane_integral(known.values, known.values, known.kinks, known.kinks, *p) for p in (up, down)]
        # A central difference of step 1e-4 is good to 1e-8 times the third derivative.
        assert abs(slope - (values[0] - values[1]) / (2 * step)) < 1e-6 * max(1.0, size(known, 1.7) ** 2)


@pytest.mark.parametrize("name", few(("relu", "tanh"), KNOWN))
@pytest.mark.first_case
def test_zero_variance_is_the_value_at_zero_and_nothing_is_nan(name, dtype):
    known = KNOWN[name]
    at_zero = float(known.values(np.zeros(())))
    mean = line_integral(known.values, known.kinks, 1.0)
    accuracy = max(tolerance(dtype, 100), 0 if known.closed else SERIES)
    q = jnp.array([(0, 0, 0), (0, 0, 1), (1, 1, 1), (1, -1, 1)], dtype).T
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(dual(known.function), argnums=(0, 1, 2))))(*q)
    assert abs(values[0] - at_zero**2) < accuracy
    assert abs(values[1] - at_zero * mean) < accuracy * max(1.0, abs(mean))
    assert values.dtype == dtype
    assert np.isfinite([values, *slopes]).all()


@pytest.mark.parametrize("name", few(("relu", "tanh"), KNOWN))
def test_float32_is_float64_to_its_precision(name):
    known = KNOWN[name]
    q = np.array(COVARIANCES).T
    with jax.enable_x64(True):
        wide = jax.jit(dual_pair(known.function))(*map(jnp.asarray, q))
    single = jax.jit(dual_pair(known.function))(*(jnp.asarray(part, jnp.float32) for part in q))
    for narrow, exact in zip(single, wide, strict=True):
        assert narrow.dtype == jnp.float32
        scale = np.abs(np.asarray(exact)).max()
        np.testing.assert_allclose(narrow, exact, rtol=0, atol=(4e-5 if known.closed else 1e-4) * scale)


@pytest.mark.parametrize("both", few(("erf cubic",), ("tanh silu", "erf cubic")))
def test_cross_duals_of_different_activations(both, float64):
    first, second = (KNOWN[name] for name in both.split())
    covariances = [(1.0, 0.5, 0.7), (2.0, -1.0, 1.0)]
    found = jax.jit(cross_dual(first.function, second.function))(*arrays(np.array(covariances).T))
    for q, value in zip(covariances, found, strict=True):
        expected = plane_integral(first.values, second.values, first.kinks, second.kinks, *q)
        assert abs(value - expected) < SERIES * size(first, q[0]) * size(second, q[2])


MIXED = ("gaussian abs", "relu tanh", "gelu elu", "softplus softsign", "wave hard_tanh", "tanh step", "exp relu")


@pytest.mark.parametrize("both", few(("gaussian abs",), MIXED))
def test_cross_duals_of_smooth_and_kinked_activations(both, float64):
    """The plane is split at the kinks; at correlation 0 and in between, for standard deviations from 0.1 to 3."""
    first, second = ((KNOWN | PIECES)[name] for name in both.split())
    covariances = [(1.0, 0.5, 0.7), (9.0, -4.0, 4.0), (1.0, 0.0, 0.25), (0.01, 0.009, 0.01), (4.0, 3.99, 4.0)]
    found = jax.jit(cross_dual(first.function, second.function))(*arrays(np.array(covariances).T))
    for q, value in zip(covariances, found, strict=True):
        expected = plane_integral(first.values, second.values, first.kinks, second.kinks, *q)
        assert abs(value - expected) < SERIES * size(first, q[0]) * size(second, q[2])


def test_cross_dual_of_a_bump_and_an_absolute_value(float64):
    """E e^(−u²)|u| = √(2/π)/3."""
    assert abs(jax.jit(cross_dual("gaussian", "abs"))(1.0, 1.0, 1.0) - math.sqrt(2 / math.pi) / 3) < SERIES


@pytest.mark.slow
def test_an_exponential_and_a_kink_reach_far_out(float64):
    """E e^(2u)|v| = e^(2 q11) E|v + 2 q12|, whose mass is six standard deviations out at scale 3."""
    for q11, q12, q22 in [(1.0, 0.5, 1.0), (9.0, 4.0, 4.0)]:
        shift, s = 2 * q12, math.sqrt(q22)
        mean = s * math.sqrt(2 / math.pi) * math.exp(-(shift**2) / (2 * q22)) + shift * math.erf(shift / s / 2**0.5)
        found = cross_dual(lambda x: jnp.exp(2 * x), "abs")(q11, q12, q22)
        assert abs(found / (math.exp(2 * q11) * mean) - 1) < SERIES


MEANS = {
    "relu6": (jax.nn.relu6, lambda p, t: p(0) - p(6) + 6 * t(6)),
    "clip": (lambda x: jnp.clip(x, -0.3, 2.0), lambda p, t: p(0.3) - p(2.0) - 0.3 * t(0.3) + 2.0 * t(2.0)),
}


@pytest.mark.parametrize("name", MEANS)
def test_means_of_clipped_lines(name, float64):
    """E clip(G) = p(a) − p(b) + a P(G < a) + b P(G > b), as the dual with a constant."""
    function, exact = MEANS[name]
    expected = exact(lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi), lambda x: math.erfc(x / 2**0.5) / 2)
    assert abs(jax.jit(cross_dual(function, jnp.ones_like))(1.0, 0.0, 1.0) - expected) < ROUND_OFF


def test_numbers_of_every_kind_are_covariances():
    """Python numbers, integers, lists; halves are computed in float32."""
    expected = {name: float(dual(name)(*map(jnp.float32, (2.0, 1.0, 3.0)))) for name in ("relu", "tanh")}
    for name, value in expected.items():
        for q in ((2.0, 1.0, 3.0), (2, 1, 3), (np.int8(2), True, np.uint8(3))):
            assert float(dual(name)(*q)) == pytest.approx(value, rel=1e-6)
        for half in (jnp.float16, jnp.bfloat16):
            found = dual(name)(*(jnp.asarray(q, half) for q in (2.0, 1.0, 3.0)))
            assert found.dtype == jnp.float32
            assert float(found) == pytest.approx(value, rel=1e-6)
    assert dual("relu")([2, 2], [1, 1], [3, 3]) == pytest.approx(expected["relu"], rel=1e-6)


INVALID = {"q11": (-1.0, 0.3, 1.0), "q12": (1.0, 1.3, 1.0), "q22": (1.0, 0.3, -1e-3)}


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_covariance_is_refused_or_nan(name, unchecked):
    """Outside `jit` by name, inside as NaN, in the value and in the slope."""
    pair = dual_pair("relu")
    with pytest.raises(ValueError, match=f"{name} must"):
        pair(*INVALID[name])
    assert np.isnan(jax.jit(pair)(*INVALID[name])).all()
    assert not np.isnan(jax.jit(pair)(1.0, 1.0 + 1e-6, 1.0)).any()  # that is rounding


def test_functions_that_no_dual_can_be_had_of_are_named(unchecked):
    """NumPy's and Python's functions cannot be traced, and a traced number is not known."""
    for function in (np.tanh, math.tanh, lambda x: x if x > 0 else 0.0):
        with pytest.raises(ValueError, match="activation must be an elementwise JAX function"):
            dual(function)
    with pytest.raises(ValueError, match="hold known numbers only"):
        jax.jit(lambda a: dual(lambda x: jnp.tanh(a * x))(1.0, 0.3, 1.0))(2.0)
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="scale must be positive and finite"):
            dual("tanh", scale=scale)
    with pytest.raises(ValueError, match="scale must be known"):
        jax.jit(lambda s: dual("tanh", scale=s)(1.0, 0.3, 1.0))(2.0)


class _Slope:
    """A module that holds an array and has no hash."""

    __hash__ = None

    def __call__(self, x):
        return jnp.maximum(x, 0.1 * x)


@pytest.mark.parametrize(
    "function", [jax.nn.softmax, jax.nn.standardize, lambda x: x - x.mean(), jnp.sort, jnp.cumsum, lambda x: x[::-1]]
)
def test_functions_that_mix_their_numbers_are_no_activations(function):
    """They keep the shape, and their values were taken for those of a function of one number."""
    for call in (dual, gaussian_moments):
        with pytest.raises(ValueError, match="must be elementwise, each value a function of one number"):
            call(function)


def test_a_module_without_a_hash_is_an_activation():
    assert dual(_Slope())(1.0, 0.3, 1.0) == pytest.approx(float(dual(lambda x: jnp.maximum(x, 0.1 * x))(1.0, 0.3, 1.0)))


@pytest.mark.smoke
def test_values_of_the_relu_kernel(float64):
    """NNGP and NTK of bias-free ReLU networks of 1 to 3 hidden layers, σ_w² = 2 (six published digits)."""
    published = {1.0: (2, 3, 4), 0.5: (0.942331, 1.351480, 1.737845), 0.0: (0.318310, 0.685709, 1.060388)}
    published[-1.0] = (0, 0.318310, 0.685709)
    one, pair = jnp.ones(()), jax.jit(dual_pair("relu"))
    for cosine, expected in published.items():
        kernel = tangent = jnp.asarray(cosine)
        for layer in expected:
            value, slope = pair(one, kernel, one)
            kernel, tangent = 2 * value, 2 * value + 2 * slope * tangent
            assert abs(tangent - layer) < 6e-7


@jax.jit
def _sheet(q11, q12, q22):
    named = {name: dual(name) for name in ("step", "erf", "sin", "exp")}
    named["relu squared"] = dual(KNOWN["relu squared"].function)
    return {name: function(q11, q12, q22) for name, function in named.items()}


@given(st.floats(-1.0, 1.0), st.floats(0.1, 3.0), st.floats(0.1, 3.0))
@settings(max_examples=40, deadline=None)
def test_formulas_of_the_sheet(c, s1, s2):
    """THEORY's step, ReLU², erf, sine and exponential, at random covariances."""
    with jax.enable_x64(True):
        q11, q12, q22 = s1 * s1, c * s1 * s2, s2 * s2
        theta, q = math.acos(c), arrays((q11, q12, q22))
        s = s1 * s2
        relu2 = s * s * (3 * math.sin(theta) * c + (math.pi - theta) * (1 + 2 * c * c)) / (2 * math.pi)
        erf = 2 / math.pi * math.asin(2 * q12 / math.sqrt((1 + 2 * q11) * (1 + 2 * q22)))
        wave = math.exp(-(q11 + q22) / 2) * math.sinh(q12)
        found = _sheet(*q)
        # Both sides lose √eps in the angle near c = ±1.
        assert abs(found["step"] - (math.pi - theta) / (2 * math.pi)) < 1e-7
        assert abs(found["relu squared"] - relu2) < 1e-7 * s * s
        assert abs(found["erf"] - erf) < ROUND_OFF
        assert abs(found["sin"] - wave) < ROUND_OFF
        assert abs(found["exp"] / math.exp((q11 + q22) / 2 + q12) - 1) < 1e-12


def test_recognition_is_by_value_and_not_by_name():
    for function, kind in [
        (lambda z: jnp.maximum(z, 0.1 * z), "absolute"),
        (lambda z: jnp.sqrt(z * z), "absolute"),
        (lambda z: z * (z > 0), "absolute"),
        (lambda z: 0.5 * z * (1 + jax.scipy.special.erf(z * 0.70710677)), "gated erf"),
        (jax.scipy.stats.norm.cdf, "erf"),
        (lambda z: z + jnp.sin(z) ** 2, "wave"),
        (lambda z: (z - 1) ** 6, "polynomial"),
        (lambda z: 1 - jnp.exp(-z * z / 2), "gaussian"),
        (lambda z: z * 0, "line"),
    ]:
        assert recognize(function).kind == kind
    for function in [jnp.tanh, jax.nn.gelu, jax.nn.relu6, lambda z: jax.nn.relu(z) + 1e-9 * jnp.sin(z)]:
        assert recognize(function) is None


def test_pieces_are_recognized_by_their_values():
    """Lines, squares and exponentials between the kinks; softsign is of none, nor is a sine."""
    for function, kinks, rates in [
        (jax.nn.elu, (0.0,), (1, 0)),
        (lambda x: jax.nn.celu(x, 2.0), (0.0,), (0.5, 0)),
        (lambda x: jnp.exp(-jnp.abs(x)), (0.0,), (1, -1)),
        (jax.nn.hard_swish, (-3.0, 3.0), (0, 0, 0)),
    ]:
        pieces = find_pieces(function, kinks)
        assert np.allclose([piece.rate for piece in pieces], rates, rtol=0, atol=1e-12)
    assert np.allclose(find_pieces(jax.nn.hard_swish, (-3.0, 3.0))[1].polynomial, (0, 1 / 2, 1 / 6), rtol=0, atol=1e-12)
    for function in [jax.nn.soft_sign, lambda x: jnp.abs(x) + jnp.sin(x), lambda x: jnp.abs(x) ** 3]:
        assert find_pieces(function, (0.0,)) is None


@pytest.mark.slow
def test_elu_of_large_scale_against_mpmath(float64):
    """Scale 3, correlation 1/2: an integral over the plane by another program, in 20 digits."""
    elu = lambda x: x if x > 0 else mpmath.expm1(x)  # noqa: E731
    with mpmath.workdps(20):
        root = mpmath.sqrt(0.75)

        def inner(x):
            bend = -x / (2 * root)
            cuts = [-9, bend, 9] if abs(bend) < 9 else [-9, 9]
            return mpmath.quad(lambda y: elu(3 * (x / 2 + root * y)) * mpmath.npdf(y), cuts, maxdegree=5)

        expected = float(mpmath.quad(lambda x: elu(3 * x) * inner(x) * mpmath.npdf(x), [-9, 0, 9], maxdegree=5))
    assert abs(dual("elu")(*arrays((9.0, 4.5, 9.0))) - expected) < SERIES * expected


@pytest.mark.smoke
@pytest.mark.parametrize("sign", [1, -1])
def test_smooth_closed_forms_at_large_variances(sign, dtype):
    """Variances to 1e30 and correlation ±1, where 1 + q rounds to q and 1/q² is no number: limits to 1/q."""
    q = jnp.asarray([1e6, 1e8, 1e11, 1e16, 1e24, 1e30], dtype)
    wide = np.asarray(q, float)
    slopes = np.asarray(derivative_dual("erf")(q, sign * q, q), float)
    np.testing.assert_allclose(slopes, 4 / np.pi / np.sqrt(1 + 4 * wide), rtol=tolerance(dtype, 10))
    bumps = np.asarray(dual("gaussian")(q, sign * q, q), float)
    np.testing.assert_allclose(bumps, 1 / np.sqrt(1 + 4 * wide), rtol=tolerance(dtype, 10))
    # x ndtr(x) is x₊ up to a function of order 1, and x₊ (−x)₊ is 0
    gelu = np.asarray(dual("gelu")(q, sign * q, q), float)
    np.testing.assert_allclose(gelu / wide, [0.5 if sign > 0 else 0.0] * 6, atol=tolerance(dtype, 10) + 1e-6)
    # E erf erf' tends to (2/π) arcsin ρ with ρ = ±1/2 falling as 1/√q11: −ρ/(π√(1 − ρ²)) by log q11
    moved = jax.grad(lambda a: dual("erf")(a, sign * q / 2, q).sum())(q) * q
    np.testing.assert_allclose(moved, np.full(6, -sign / (np.pi * 3**0.5)), rtol=tolerance(dtype, 10) + 1e-5)


def test_growing_exponentials_of_squares_have_no_dual_where_they_diverge(float64):
    """E e^((u² + v²)/10) of independent pairs is 1/(1 − q/5) for q < 5, and E e^((u² − v²)/10) is 1/√(1 − q²/25)."""
    grow, decay = (lambda x: jnp.exp(0.1 * x**2)), (lambda x: jnp.exp(-0.1 * x**2))
    q, zero = jnp.array([1.0, 20.0]), jnp.zeros(2)
    np.testing.assert_allclose(dual(grow)(q, zero, q), [1.25, np.inf], rtol=ROUND_OFF)
    np.testing.assert_allclose(cross_dual(grow, decay)(q, zero, q), [1 / 0.96**0.5, np.inf], rtol=ROUND_OFF)


@pytest.mark.parametrize("name", few(("relu", "erf"), ("tanh", "relu", "erf", "softplus")))
def test_gram_matrices_are_positive_semidefinite_and_gradients_finite_with_repeated_points(name, float64):
    """Repeated, antipodal and zero points; every diagonal is at correlation 1."""
    x = jax.random.normal(jax.random.key(0), (12, 3))
    x = jnp.concatenate([x, x[:2], -x[:1], jnp.zeros((1, 3))])

    def gram(x):
        q = x @ x.T
        d = jnp.diag(q)
        return dual(name)(d[:, None], q, d[None, :])

    eigenvalues = np.linalg.eigvalsh(jax.jit(gram)(x))
    assert eigenvalues[0] > -tolerance(jnp.float64, 10) * eigenvalues[-1]
    assert np.isfinite(jax.jit(jax.grad(lambda x: gram(x).sum()))(x)).all()


@pytest.mark.smoke
@pytest.mark.parametrize("name", few(("relu",), ("relu", "tanh", "elu")))
def test_jit_vmap_and_broadcasting_agree(name):
    x = jax.random.normal(jax.random.key(1), (5, 4))
    q = jnp.matmul(x, x.T, precision="highest")
    d = jnp.diag(q)
    pair = dual_pair(name)
    whole = jax.jit(pair)(d[:, None], q, d[None, :])
    rows = jax.jit(jax.vmap(jax.vmap(pair, (None, 0, 0)), (0, 0, None)))(d, q, d)
    np.testing.assert_allclose(whole.value, rows.value, rtol=1e-5)
    np.testing.assert_allclose(whole.derivative, rows.derivative, rtol=1e-4, atol=1e-5)
    slopes = jax.jit(derivative_dual(name))(d[:, None], q, d[None, :])
    np.testing.assert_allclose(whole.derivative, slopes, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_second_derivatives_of_a_smooth_dual(float64):
    """∂²/∂q12² E[φ(u)φ(v)] = E[φ''(u)φ''(v)], against the dual of φ'' = −2 tanh (1 − tanh²)."""
    curved = lambda x: -2 * jnp.tanh(x) * (1 - jnp.tanh(x) ** 2)  # noqa: E731
    q = arrays((1.3, 0.4, 0.8))
    second = jax.grad(jax.grad(dual("tanh"), 1), 1)(*q)
    assert abs(second - dual(curved)(*q)) < SERIES


def test_tanh_at_the_largest_scale_against_mpmath(float64):
    """Scale 3 at correlation 1, where the series is slowest."""
    with mpmath.workdps(20):
        expected = float(
            mpmath.quad(lambda x: mpmath.tanh(3 * x) ** 2 * mpmath.npdf(x), [-mpmath.inf, -1, 0, 1, mpmath.inf])
        )
    assert abs(jax.jit(dual("tanh"))(*arrays((9.0, 9.0, 9.0))) - expected) < SERIES * expected


@jax.jit
def _tanh_slope(*q):
    return derivative_dual("tanh")(*q)


@pytest.mark.parametrize("variance", [0.0, 1e-4, 0.3])
def test_a_slope_that_decays_at_the_largest_scale_keeps_its_mass_at_small_ones(variance, float64):
    """tanh' is 1 at 0 over all of the Gaussian, though at scale 3 it is nothing beyond 6 standard deviations."""
    expected = line_integral(lambda x: np.cosh(x) ** -4.0, (), variance or 1e-30)
    assert abs(_tanh_slope(*arrays((variance,) * 3)) - expected) < 1e-11


def test_beyond_its_scale_a_series_says_so_and_a_longer_one_is_right(float64):
    q = arrays((36.0, 36.0, 36.0))
    short, long = jax.jit(lambda *q: (dual("tanh")(*q), dual("tanh", scale=6.0)(*q)))(*q)
    assert np.isnan(short)
    assert abs(long - line_integral(lambda x: np.tanh(x) ** 2, (0,), 36.0)) < SERIES


@pytest.mark.slow
def test_gradient_through_a_jump_without_closed_form_is_refused(float64):
    """hard_tanh' jumps at ±1: the gradient of its derivative dual has an atom that no quadrature sees."""
    with pytest.raises(ValueError, match="be continuous for a gradient"):
        jax.jit(jax.grad(derivative_dual("hard_tanh"), 1))(*arrays((1.0, 0.5, 1.0)))


@pytest.mark.slow
def test_high_derivatives_are_no_kinks(float64):
    """The fourth derivative of GELU by tanh loses ten digits far out; its Hessian against Gauss-Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    weights = np.outer(weights, weights) / weights.sum() ** 2

    def expected(q):
        first = jnp.sqrt(q[0]) * nodes[:, None]
        second = q[1] / q[0] * first + jnp.sqrt(q[2] - q[1] ** 2 / q[0]) * nodes[None]
        return (weights * jax.nn.gelu(first) * jax.nn.gelu(second)).sum()

    q = jnp.array([1.0, 0.3, 1.2])
    found = jax.hessian(lambda q: dual(jax.nn.gelu)(*q))(q)
    np.testing.assert_allclose(found, jax.hessian(expected)(q), rtol=1e-10)


@pytest.mark.slow
def test_what_has_no_dual_is_refused(unchecked):
    with pytest.raises(ValueError, match="at most eight kinks"):
        dual(jnp.ceil)
    with pytest.raises(ValueError, match="grows too fast"):
        dual(lambda x: jnp.exp(x**2 / 4) * jnp.tanh(x))
    with pytest.raises(ValueError, match="activation must be a function or one of"):
        dual("rleu")
    assert resolve("tanh") is jnp.tanh
