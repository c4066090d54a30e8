"""Gaussian integrals of activations, against closed forms and mpmath."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxtheory.activations import expectation, gaussian_moments, hermite_coefficients, resolve

# The module promises 1e-11 and its round-off is a thousand panels of 1e-15 at the most.
PROMISED, ROUND_OFF = 1e-11, 1e-12


def density(x):
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def tail(x):
    """P(G > x)."""
    return math.erfc(x / math.sqrt(2)) / 2


def mp_expectation(function, *breaks):
    """E f(G) to 25 digits by mpmath, told where f is not smooth."""
    with mpmath.workdps(25):
        edges = [-mpmath.inf, *sorted({-6, -2, 0, 2, 6, *breaks}), mpmath.inf]
        return float(mpmath.quad(lambda x: function(x) * mpmath.npdf(x), edges))


CLOSED = {
    "step at 0.7": (lambda x: jnp.where(x > 0.7, 1.0, 0.0), tail(0.7)),
    "step as booleans": (lambda x: x > 0.7, tail(0.7)),
    "step just inside a panel": (lambda x: jnp.where(x > 0.7501, 1.0, 0.0), tail(0.7501)),
    "|x - 0.3|": (lambda x: jnp.abs(x - 0.3), 2 * density(0.3) + 0.3 * (1 - 2 * tail(0.3))),
    "clip": (
        lambda x: jnp.clip(x, -0.3, 2.0),
        density(0.3) - density(2.0) - 0.3 * tail(0.3) + 2.0 * tail(2.0),
    ),
    "sixth power": (lambda x: x**6, 15.0),
    "two-hundredth power": (lambda x: x**200, math.exp(math.lgamma(201) - math.lgamma(101) - 100 * math.log(2))),
    "exp(x^2/8)": (lambda x: jnp.exp(x**2 / 8), 1 / math.sqrt(3 / 4)),
    "exp(0.4 x^2)": (lambda x: jnp.exp(0.4 * x**2), 1 / math.sqrt(1 / 5)),
    "exp(20 x), which overflows in range": (lambda x: jnp.exp(20 * x), math.exp(200.0)),
    "a fast wave": (lambda x: jnp.sin(1e3 * x) ** 2, 0.5),
    "the logarithmic singularity": (lambda x: jnp.log(jnp.abs(x - math.pi * 1e-3)), None),
}


@pytest.mark.parametrize("name", CLOSED)
def test_expectation_is_the_closed_form(name):
    function, expected = CLOSED[name]
    if expected is None:
        expected = mp_expectation(lambda x: mpmath.log(abs(x - math.pi * 1e-3)), math.pi * 1e-3)
    # lgamma of a few hundred costs 13 digits to 16; the other closed forms are exact to round-off.
    assert expectation(function) == pytest.approx(expected, rel=PROMISED if "power" in name else ROUND_OFF)


@pytest.mark.slow
@given(st.floats(-6.0, 6.0))
@settings(max_examples=60, deadline=None)
def test_a_jump_and_a_kink_are_resolved_wherever_they_are(where):
    """Absolute error, because E|f| is what the tolerance is relative to and it is about 1 here."""
    assert abs(expectation(lambda x: jnp.sign(x - where)) - (2 * tail(where) - 1)) < ROUND_OFF
    kink = density(where) - where * tail(where)
    assert abs(expectation(lambda x: jnp.maximum(x - where, 0.0) + 1.0) - 1.0 - kink) < ROUND_OFF


@pytest.mark.parametrize("variance", [0.0, 0.25, 4.0, 100.0])
def test_variance_scales_the_argument(variance):
    assert expectation("square", variance=variance) == pytest.approx(variance, rel=ROUND_OFF)
    assert expectation("relu", variance=variance) == pytest.approx(math.sqrt(variance / (2 * math.pi)), rel=ROUND_OFF)
    cosine = abs(expectation("cos", variance=variance) - math.exp(-variance / 2))
    assert cosine < ROUND_OFF


def mp_moments(function):
    mean = mp_expectation(function)
    linear = mp_expectation(lambda x: x * function(x))
    second = mp_expectation(lambda x: function(x) ** 2)
    with mpmath.workdps(25):
        nonlinear = mp_expectation(lambda x: (function(x) - mean - linear * x) ** 2)
    return mean, linear, second, nonlinear


MPMATH = {
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "gelu": lambda x: x * mpmath.ncdf(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "leaky_relu": lambda x: x if x > 0 else x / 100,
}


@pytest.mark.parametrize("name", MPMATH)
def test_moments_are_those_of_mpmath(name):
    np.testing.assert_allclose(gaussian_moments(name), mp_moments(MPMATH[name]), rtol=ROUND_OFF, atol=1e-14)


def test_moments_in_closed_form():
    pi = math.pi
    relu = gaussian_moments("relu")
    expected = (1 / math.sqrt(2 * pi), 0.5, 0.5, 0.25 - 1 / (2 * pi))
    np.testing.assert_allclose(relu, expected, rtol=ROUND_OFF)
    np.testing.assert_allclose(gaussian_moments("erf")[1:3], (2 / math.sqrt(3 * pi), 2 / pi * math.asin(2 / 3)), 1e-12)
    np.testing.assert_allclose(gaussian_moments("exp").nonlinear, math.e**2 - 2 * math.e, rtol=ROUND_OFF)


def test_published_moments():
    """Six published digits of (linear, nonlinear)."""
    for name, linear, nonlinear in [("tanh", 0.605706, 0.027415), ("erf", 0.651470, 0.040146), ("gelu", 0.5, 0.095644)]:
        moments = gaussian_moments(name)
        assert abs(moments.linear - linear) < 5e-7
        assert abs(moments.nonlinear - nonlinear) < 5e-7


def test_nonlinear_part_of_a_nearly_linear_activation_keeps_its_digits():
    """x + 1e-6 He_2(x) has nonlinear part 2e-12, of which a difference of second moments would keep four digits."""
    assert gaussian_moments(lambda x: x + 1e-6 * (x**2 - 1)).nonlinear == pytest.approx(2e-12, rel=1e-8)
    assert gaussian_moments("identity").nonlinear < 1e-28


def relu_coefficient(k):
    """E[G⁺ He_k(G)]/√k! = (−1)^(k/2+1) (k−3)!! / √(2π k!) for even k ≥ 2."""
    if k < 2 or k % 2:
        return {0: 1 / math.sqrt(2 * math.pi), 1: 0.5}.get(k, 0.0)
    with mpmath.workdps(30):
        size = mpmath.fac2(k - 3) if k > 2 else 1
        return float((-1) ** (k // 2 + 1) * size / mpmath.sqrt(2 * mpmath.pi * mpmath.factorial(k)))


def erf_coefficient(k):
    """√(1/k!)·E[erf^(k)(G)] for odd k: 2/√(3π) · (−1)^m (2m−1)!! 3^(−m)·2^m / √k! with k = 2m + 1."""
    if k % 2 == 0:
        return 0.0
    m = k // 2
    with mpmath.workdps(30):
        size = 2 / mpmath.sqrt(3 * mpmath.pi) * mpmath.fac2(2 * m - 1) * mpmath.mpf(2) ** m / mpmath.mpf(3) ** m
        return float((-1) ** m * size / mpmath.sqrt(mpmath.factorial(k)))


@pytest.mark.parametrize(("name", "oracle"), [("relu", relu_coefficient), ("erf", erf_coefficient)])
def test_hermite_coefficients_in_closed_form_to_degree_1000(name, oracle):
    expected = np.array([oracle(k) for k in range(1001)])
    assert np.abs(hermite_coefficients(name, 1000) - expected).max() < ROUND_OFF


def test_hermite_coefficients_of_the_exponential():
    """e^{aG} has c_k = e^{a²/2} a^k/√k!."""
    expected = [math.exp(0.5) / math.sqrt(math.factorial(k)) for k in range(120)]
    np.testing.assert_allclose(hermite_coefficients("exp", 119), expected, atol=ROUND_OFF, rtol=0)


@pytest.mark.parametrize(("low", "high"), [(-0.37, 1.1), (0.7501, 3.2)])
def test_hermite_coefficients_of_a_clipped_line(low, high):
    """By parts twice, f'' = δ_low − δ_high, so E[f He_k] = φ(low) He_{k−2}(low) − φ(high) He_{k−2}(high)."""

    def oracle(k, corner):  # He_k(x) = 2^(−k/2) H_k(x/√2)
        with mpmath.workdps(60):
            polynomial = mpmath.hermite(k - 2, corner / mpmath.sqrt(2)) / mpmath.mpf(2) ** ((k - 2) / mpmath.mpf(2))
            return float(mpmath.npdf(corner) * polynomial / mpmath.sqrt(mpmath.factorial(k)))

    coefficients = hermite_coefficients(lambda x: jnp.clip(x, low, high), 300)
    degrees = [2, 3, 10, 51, 150, 299, 300]
    expected = [oracle(k, low) - oracle(k, high) for k in degrees]
    assert np.abs(coefficients[degrees] - expected).max() < ROUND_OFF


@pytest.mark.parametrize("name", ["erf", "tanh", "sin", "gaussian", "exp"])
def test_parseval(name):
    """Σ c_k² = E σ². These are analytic, and the slowest, tanh, has c_k² ~ exp(−π√(2k)): 200 terms are all of it."""
    coefficients = hermite_coefficients(name, 200)
    assert (coefficients**2).sum() == pytest.approx(expectation(lambda x: resolve(name)(x) ** 2), rel=ROUND_OFF)


def test_first_coefficients_are_the_moments():
    moments, coefficients = gaussian_moments("softplus"), hermite_coefficients("softplus", 1)
    np.testing.assert_allclose(coefficients, moments[:2], rtol=ROUND_OFF)


def everything(activation):
    return (*gaussian_moments(activation), expectation(activation, variance=2.0), *hermite_coefficients(activation, 5))


@pytest.mark.parametrize("activation", ["gelu", lambda x: jnp.abs(x - 0.3)], ids=["gelu", "kink"])
def test_numbers_do_not_depend_on_the_dtype_mode_or_on_who_is_tracing(activation):
    with jax.enable_x64(False):
        plain = everything(activation)
    with jax.enable_x64(True):
        wide = everything(activation)
    traced = []
    jax.jit(jax.vmap(lambda a: (traced.append(everything(activation)), a)[1]))(jnp.ones(3))
    jax.grad(lambda a: (traced.append(everything(activation)), a)[1])(1.0)
    assert plain == wide == traced[0] == traced[1]
    assert all(type(value) is float for value in gaussian_moments(activation))


def test_moments_are_constants_inside_jit():
    scaled = jax.jit(lambda a: a * gaussian_moments("relu").linear)(jnp.float32(3.0))
    assert scaled.dtype == jnp.float32
    assert float(scaled) == 1.5


REFUSED = {
    "not elementwise": (lambda x: x.sum(), "elementwise"),
    "wrong shape": (lambda x: x[:, None], "elementwise"),
    "fixed precision": (lambda x: x.astype(jnp.float32), "keep the precision of a real input"),
    "complex": (lambda x: jax.lax.complex(x, x), "keep the precision of a real input"),
    "NaN everywhere": (lambda x: x * jnp.nan, "not finite at 0"),
    "NaN on one side": (lambda x: jnp.sqrt(x + 1.0), r"not finite at -1\.00"),
    "infinite at a node": (lambda x: 1 / jnp.abs(x), "not finite at 0"),
    "divergent tail": (lambda x: jnp.exp(x**2 / 2), "grows too fast"),
    "overflow before decay": (lambda x: jnp.exp(24 * x), "grows too fast"),
    "divergent faster": (lambda x: jnp.exp(x**4), "not finite"),
    "divergent pole": (lambda x: 1 / jnp.abs(x - 0.3), "converges to 1e-11"),
    "barely divergent pole": (lambda x: 1 / jnp.abs(x - math.pi / 10), "converges to 1e-11"),
    "signed pole": (lambda x: 1 / (x - math.pi / 10), "converges to 1e-11"),
    "endless oscillation": (lambda x: jnp.sign(jnp.sin(1 / (x - math.pi / 10))), "converges to 1e-11"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_integrated_is_refused(name):
    function, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        expectation(function)


def test_what_is_not_square_integrable_has_no_moments():
    function = lambda x: jnp.exp(x**2 / 4)  # noqa: E731
    assert expectation(function) == pytest.approx(math.sqrt(2), rel=ROUND_OFF)
    with pytest.raises(ValueError, match="grows too fast"):
        gaussian_moments(function)


def test_bad_arguments_are_named(unchecked):
    with pytest.raises(ValueError, match=r"variance must be finite and >= 0, got variance=-1\.0"):
        expectation("relu", variance=-1.0)
    with pytest.raises(ValueError, match="variance must be finite"):
        expectation("relu", variance=math.nan)
    with pytest.raises(ValueError, match="variance must be known"):
        jax.jit(lambda v: expectation("relu", variance=v))(1.0)
    with pytest.raises(ValueError, match="degree must be >= 0"):
        hermite_coefficients("relu", -1)
    with pytest.raises(ValueError, match="activation must be a function or one of"):
        gaussian_moments("rleu")


def test_moments_can_be_had_inside_shard_map():
    """On a mesh, inside jit: the integral is computed now, on the host, whatever is being traced."""
    mesh = jax.make_mesh((8,), ("points",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("points")

    def shift(x):
        return x + gaussian_moments(lambda z: jnp.tanh(1.1 * z)).linear

    shifted = jax.jit(jax.shard_map(shift, mesh=mesh, in_specs=spec, out_specs=spec))(jnp.zeros(8))
    np.testing.assert_allclose(shifted, shift(0.0), rtol=1e-6)
