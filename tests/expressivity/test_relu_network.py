"""Explicit networks: their algebra against composed functions, and the gadgets against their exact errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_close, tolerance

from jaxtheory.expressivity import relu_network as rn


def random_net(rng, sizes):
    return rn.network(
        [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in itertools.pairwise(sizes)]
    )  # fmt: skip


def by_hand(net, x):
    """The oracle: a loop of numpy."""
    for weight, bias in net[:-1]:
        x = np.maximum(x @ weight + bias, 0)
    return x @ net[-1].weight + net[-1].bias


@pytest.fixture
def nets():
    rng = np.random.default_rng(3)
    return random_net(rng, [2, 5, 3]), random_net(rng, [3, 4, 6, 2]), random_net(rng, [2, 7, 1])


@pytest.fixture
def x():
    return np.random.default_rng(4).normal(size=(50, 2))


@pytest.mark.smoke
def test_evaluate_keeps_the_dtype(nets, x, dtype):
    values = rn.evaluate(nets[0], jnp.asarray(x, dtype))
    assert values.dtype == dtype
    assert_close(values, by_hand(nets[0], x).astype(dtype), condition=10)


def test_composition_is_that_of_functions(nets, x, float64):
    expected = by_hand(nets[1], by_hand(nets[0], x))
    merged, kept = rn.compose(nets[0], nets[1]), rn.concatenate(nets[0], nets[1])
    assert_close(rn.evaluate(merged, jnp.asarray(x)), expected, condition=10)
    assert_close(rn.evaluate(kept, jnp.asarray(x)), expected, condition=10)
    one, two = rn.audit(nets[0]), rn.audit(nets[1])
    assert rn.audit(merged).depth == one.depth + two.depth - 1
    assert rn.audit(kept).depth == one.depth + two.depth
    assert rn.audit(kept).nonzeros <= 2 * (one.nonzeros + two.nonzeros)


def test_networks_beside_each_other(nets, x, float64):
    """Parallel, with separate inputs, and past a skip, though their depths differ."""
    first, second, third = nets
    points = jnp.asarray(x)
    expected = np.concatenate([by_hand(first, x), by_hand(third, x)], axis=1)
    assert_close(rn.evaluate(rn.parallel([first, third]), points), expected, condition=10)
    both = np.concatenate([x, by_hand(first, x)], axis=1)
    assert_close(rn.evaluate(rn.skip(first), points), both, condition=10)
    apart = rn.side_by_side([second, third])
    inputs = np.concatenate([by_hand(first, x), x], axis=1)
    expected = np.concatenate([by_hand(second, inputs[:, :3]), by_hand(third, x)], axis=1)
    assert_close(rn.evaluate(apart, jnp.asarray(inputs)), expected, condition=10)


def test_restriction_is_the_network_on_a_plane(nets, float64):
    rng = np.random.default_rng(5)
    t, origin, directions = rng.normal(size=(20, 2)), rng.normal(size=3), rng.normal(size=(2, 3))
    inside = rn.evaluate(rn.restrict(nets[1], origin, directions), jnp.asarray(t))
    assert_close(inside, by_hand(nets[1], origin + t @ directions), condition=10)


def test_audit_counts_what_is_there():
    net = rn.network([(np.array([[1.0, 0.0], [0.0, -7.0]]), np.zeros(2)), (np.ones((2, 1)), np.array([3.0]))])
    assert rn.audit(net) == (2, 2, 2, 5, 7.0)


@pytest.mark.parametrize("m", [1, 2, 9])
def test_square_errs_by_exactly_its_law(m, float64):
    """At the dyadic midpoints the error is 2^(−2m−2), at the nodes 0, and in L² 2^(−2m)/√30."""
    nodes = jnp.linspace(0.0, 1.0, 2**m + 1)
    middles = (nodes[1:] + nodes[:-1]) / 2
    net = rn.square(m)
    assert (rn.evaluate(net, nodes[:, None]).ravel() == nodes**2).all()
    assert (rn.evaluate(net, middles[:, None]).ravel() - middles**2 == 2.0 ** (-2 * m - 2)).all()
    gauss, weight = np.polynomial.legendre.leggauss(3)  # exact for the square of a quadratic on each cell
    x = (middles[:, None] + jnp.asarray(gauss)[None, :] * 2.0 ** (-m - 1)).ravel()
    gap = np.asarray(rn.evaluate(net, x[:, None]).ravel() - x**2)
    norm = np.sqrt((gap**2 * np.tile(weight, 2**m)).sum() * 2.0 ** (-m - 1))
    np.testing.assert_allclose(norm, 2.0 ** (-2 * m) / np.sqrt(30), rtol=tolerance("float64", 4.0**m))


@pytest.mark.parametrize("m", [1, 8])
def test_product_errs_by_at_most_its_law_and_attains_it(m, float64):
    grid = jnp.linspace(-1, 1, 2 ** min(m + 2, 8) + 1)
    x, y = (part.ravel() for part in jnp.meshgrid(grid, grid))
    gap = jnp.abs(rn.evaluate(rn.product(m), jnp.stack([x, y], 1)).ravel() - x * y)
    assert gap.max() <= 2.0 ** (-2 * m - 2)
    corner = 2.0 ** (-m - 1)  # (x + y)/2 at the middle of a cell and x = y
    attained = rn.evaluate(rn.product(m), jnp.array([[corner, corner]])).item() - corner**2
    assert attained == 2.0 ** (-2 * m - 2)


def test_product_with_zero_is_zero(dtype):
    """In floating point too, at numbers that are not dyadic."""
    y = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, 2000), dtype)
    zero = jnp.zeros_like(y)
    net = rn.product(10)
    assert (rn.evaluate(net, jnp.stack([zero, y], 1)) == 0).all()
    assert (rn.evaluate(net, jnp.stack([y, zero], 1)) == 0).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=5, max_size=5))
def test_product_tree_errs_by_its_bound(factors):
    m = 6
    value = rn.evaluate(rn.product_tree(5, m), jnp.asarray([factors], jnp.float32)).item()
    assert abs(value - np.prod(np.float32(factors))) <= 4 * 2.0 ** (-2 * m - 2) + tolerance("float32")


def test_sawtooth_is_the_iterated_tent(float64):
    x = jnp.asarray(np.random.default_rng(1).integers(0, 2**20, 200) / 2.0**20)
    expected = np.asarray(x)
    for _ in range(7):
        expected = np.where(expected < 0.5, 2 * expected, 2 - 2 * expected)
    assert (rn.evaluate(rn.sawtooth(7), x[:, None]).ravel() == expected).all()
    assert rn.audit(rn.sawtooth(7)).neurons == 21


def test_hats_are_a_partition_of_unity(float64):
    x = jnp.linspace(0, 1, 500)
    hats = rn.evaluate(rn.partition_of_unity(8), x[:, None])
    np.testing.assert_allclose(hats.sum(1), 1.0, atol=tolerance("float64"))
    expected = np.maximum(0, 1 - np.abs(8 * np.asarray(x)[:, None] - np.arange(9)))
    np.testing.assert_allclose(hats, expected, atol=tolerance("float64"))


def test_tensor_product_of_hats(float64):
    m, x = 8, np.random.default_rng(2).uniform(-0.5, 1.5, (300, 3))
    value = rn.evaluate(rn.tensor_product([rn.tent()] * 3, m), jnp.asarray(x)).ravel()
    expected = np.prod(np.maximum(0, 1 - np.abs(2 * x - 1)), axis=1)
    assert np.abs(value - expected).max() <= 2 * 2.0 ** (-2 * m - 2)
    assert (value[((x < 0) | (x > 1)).any(axis=1)] == 0).all()


def test_equal_shapes_stack_under_vmap(key):
    shifts = [rn.compose(rn.affine([[1.0]], [s]), rn.tent()) for s in (0.0, 0.25)]
    stacked = jax.tree.map(lambda *parts: jnp.stack([jnp.asarray(p, jnp.float32) for p in parts]), *shifts)
    assert jax.vmap(rn.evaluate, (0, None))(stacked, jnp.array([[0.25]])).ravel().tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: rn.network([(np.ones((2, 3)), np.zeros(3)), (np.ones((2, 1)), np.zeros(1))]),
            "layer 1 must take the 3",
        ),
        (lambda: rn.network([(np.ones((2, 3)), np.zeros(2))]), "layer 0 must be W"),
        (lambda: rn.network([(np.full((1, 1), np.nan), np.zeros(1))]), "must be finite"),
        (lambda: rn.network([]), "at least one affine map"),
        (lambda: rn.compose(rn.tent(), rn.product(1)), "nets must have as many outputs"),
        (lambda: rn.evaluate(rn.tent(), jnp.ones((3, 2))), "x must have 1 columns"),
        (lambda: rn.parallel([rn.tent(), rn.product(1)]), "take the same inputs"),
        (lambda: rn.deepen(rn.sawtooth(3), 2), "depth must be >= 4"),
        (lambda: rn.spline([0.0, 0.0], [1.0, 2.0]), "knots must be"),
        (lambda: rn.square(0), "m must be >= 1"),
    ],
)
def test_what_does_not_fit_is_refused(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
