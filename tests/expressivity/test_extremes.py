"""Bounds and counts in high dimension and at the ends of the number formats."""

import inspect

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special

from jaxtheory.expressivity import barron, depth, linear_regions, regions, relu_network


@pytest.mark.parametrize("dim", [1, 999, 1001, 10**6, 10**15])
def test_the_constant_of_a_gaussian_in_any_dimension(dim):
    with mpmath.workdps(50):
        half = mpmath.mpf(dim) / 2
        wanted = mpmath.sqrt(2) * mpmath.exp(mpmath.loggamma(half + 0.5) - mpmath.loggamma(half))
    assert barron.gaussian_constant(dim) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("ratio", [1.0, 1.0001, 1.01, 1.5, 30.0])
def test_the_share_of_a_tube_in_float32(ratio):
    """Against the incomplete beta function in float64, whose float32 is off by 2 % at d = 10,000."""
    dim = np.float32([2, 3, 10, 47, 200, 1000, 1e4, 1e6])
    wanted = scipy.special.betainc((np.float64(dim) - 1) / 2, 0.5, np.float64(np.float32(ratio)) ** -2)
    found = 1 - depth.tube_certificate(jnp.asarray(dim), jnp.ones(8), jnp.full(8, ratio))
    assert np.asarray(found) == pytest.approx(wanted, abs=3e-6)
    many = np.minimum(0.5 / np.maximum(wanted, 1e-37), 1e37)  # so that small shares count
    found = 1 - depth.tube_certificate(jnp.asarray(dim), jnp.asarray(many, jnp.float32), jnp.full(8, ratio))
    assert np.asarray(found) == pytest.approx(np.float32(many) * wanted, abs=1e-4)


def test_the_derivatives_of_a_tube():
    def bound(neurons, ratio):
        return depth.tube_certificate(jnp.full(1, 10.0), neurons[None], ratio[None])[0]

    by_neurons, by_ratio = jax.grad(bound, argnums=(0, 1))(jnp.float32(100.0), jnp.float32(2.0))
    share = [scipy.special.betainc(4.5, 0.5, (2.0 + step) ** -2) for step in (-1e-6, 0.0, 1e-6)]
    assert float(by_neurons) == pytest.approx(-share[1], rel=1e-4)
    assert float(by_ratio) == pytest.approx(-100 * (share[2] - share[0]) / 2e-6, rel=1e-4)


@pytest.mark.slow
def test_a_radial_bound_has_a_limit_in_high_dimension():
    """The radius is √d + N(0, 1/2): the profile about √d is the same in every high dimension."""

    def bound(dim):
        return depth.radial_certificate(lambda r: np.cos(6 * (r - dim**0.5) + 0.7), dim, 1000)

    low, high = 1 - bound(10**7), 1 - bound(10**14)
    assert high == pytest.approx(low, rel=0.02)
    assert bound(999) == pytest.approx(bound(1000), abs=1e-4)


def test_counts_of_neurons_beyond_64_bits():
    rank = depth.harmonics(200, 300)
    assert rank > 2**100
    assert depth.inner_product_certificate(200, 300, rank // 2) == pytest.approx(0.5)
    assert depth.neurons_needed(lambda n: depth.inner_product_certificate(40, 40, n), 0.5) == pytest.approx(
        depth.harmonics(40, 40) / 2, rel=1e-9
    )


def test_slopes_beyond_float64_are_refused_by_name():
    steep = relu_network.network([([[1e200]], [0.0]), ([[1e200]], [0.0])])
    with pytest.raises(ValueError, match="net must have slopes that are finite"):
        linear_regions(steep, -1.0, 1.0)
    assert len(regions.breakpoints(steep, -1.0, 1.0)) == 1


@pytest.mark.parametrize("widths", [[4, float("nan")], [float("inf")], ["a"], 4, None, []])
def test_widths_that_are_none_are_refused_by_name(widths):
    for count in (regions.montufar_lower, regions.serra_upper):
        with pytest.raises(ValueError, match="widths must be >= 1 and whole"):
            inspect.unwrap(count)(2, widths)  # without the check of annotations that the tests add


@pytest.mark.parametrize("net", [None, "ab", [], [None], [1.0], {"a": 1}, [("a", "b")]])
@pytest.mark.parametrize(
    "call",
    [
        lambda net: relu_network.evaluate(net, [[1.0]]),
        relu_network.audit,
        relu_network.skip,
        lambda net: relu_network.deepen(net, 3),
        lambda net: relu_network.entrywise(net, 2),
        lambda net: relu_network.compose(net),
        lambda net: relu_network.concatenate(net, net),
        lambda net: relu_network.side_by_side([net]),
        lambda net: relu_network.restrict(net, [0.0], [[1.0]]),
    ],
)
def test_what_is_no_network_is_named(net, call, unchecked):
    with pytest.raises(ValueError, match=r" must .*, got .*; "):
        call(net)


def test_constants_beyond_float64_are_infinite_not_an_error():
    assert barron.bound(1e300, 1.0, 3) == np.inf
    assert barron.gamma_ratio(1e300) == pytest.approx(1e150)
