"""Spectral pruning against numpy written out, searches over all choices, and the theorem's share of draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import generalization as gen
from jaxtheory import kernels

RNG = np.random.default_rng(3)


def network(*sizes, rng=RNG):
    """A chain with biases."""
    pairs = [(rng.normal(size=(a, b)) / a**0.5, rng.normal(size=b)) for a, b in itertools.pairwise(sizes)]
    return [(jnp.asarray(w), jnp.asarray(b)) for w, b in pairs]


def features(net, x):
    """Units of the hidden layers, in numpy, from weights [d_in, d_out]."""
    found, h = [], np.asarray(x, float)
    for weight, bias in net[:-1]:
        h = np.maximum(h @ np.asarray(weight) + np.asarray(bias), 0)
        found.append(h)
    return found


def left(h, kept, after):
    """Mean square of what the next layer loses, by least squares with a constant."""
    design = np.concatenate([h[:, kept], np.ones((len(h), 1))], axis=1)
    rest = (h - design @ np.linalg.lstsq(design, h, rcond=None)[0]) @ after
    return (rest**2).sum() / len(h)


def test_degrees_of_freedom_are_those_of_the_covariance(float64):
    net, x = network(3, 7, 5, 2), RNG.normal(size=(40, 3))
    found = gen.feature_freedom(gen.chain(net), jnp.asarray(x), 0.02)
    for value, h in zip(found, features(net, x), strict=True):
        covariance = np.cov(h.T, bias=True)
        eigenvalues = np.linalg.eigvalsh(covariance)
        lam = 0.02 * eigenvalues.sum()
        np.testing.assert_allclose(value, (eigenvalues / (eigenvalues + lam)).sum(), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("drawn", [False, True])
def test_the_smaller_network_is_written_out(drawn, float64):
    """Its matrices, losses and change by numpy's least squares, and the bound of the change by hand."""
    net, x = network(3, 9, 7, 4), RNG.normal(size=(50, 3))
    y = RNG.integers(0, 4, 50)
    key = jax.random.key(2) if drawn else None
    found = gen.spectral_pruning(gen.chain(net), jnp.asarray(x), jnp.asarray(y), (4, 3), key=key)
    hidden, (first, second) = features(net, x), map(np.asarray, found.kept)
    assert [m.shape for m in found.net] == [(5, 4), (4, 5), (4, 4)]
    for kept, width in ((first, 4), (second, 3)):
        assert len(set(kept.tolist())) == width
        assert (np.diff(kept) > 0).all()
    (_, _), (w2, b2), (w3, b3) = [(np.asarray(w), np.asarray(b)) for w, b in net]
    losses = [left(hidden[0], first, w2[:, second]) ** 0.5, left(hidden[1], second, w3) ** 0.5]
    np.testing.assert_allclose(found.losses, losses, rtol=1e-9)
    h, slopes = hidden[0][:, first], []
    for design, whole, weight, bias in ((first, hidden[0], w2[:, second], b2[second]), (second, hidden[1], w3, b3)):
        stands = np.linalg.lstsq(np.c_[whole[:, design], np.ones(50)], whole, rcond=None)[0]
        slopes.append(np.linalg.norm(stands[:-1] @ weight, 2))
        h = np.maximum(np.c_[h, np.ones(50)] @ stands @ weight + bias, 0 if weight is not w3 else -np.inf)
    whole = hidden[1] @ w3 + b3
    change = np.linalg.norm(h - whole) / 50**0.5
    np.testing.assert_allclose(found.change, change, rtol=1e-9)
    np.testing.assert_allclose(found.change_bound, losses[1] + slopes[1] * losses[0], rtol=1e-9)
    assert found.change <= found.change_bound
    np.testing.assert_allclose(found.empirical, (h.argmax(1) != y).mean(), rtol=1e-12)


def test_the_greedy_choice_is_a_search_over_single_units(float64):
    """Every unit that it adds leaves least of all at that step."""
    net, x = network(2, 8, 3), RNG.normal(size=(30, 2))
    after, h = np.asarray(net[1][0]), features(net, x)[0]
    chosen: list[int] = []
    for _ in range(3):
        rest = [j for j in range(8) if j not in chosen]
        chosen.append(min(rest, key=lambda j: left(h, [*chosen, j], after)))
    found = gen.spectral_pruning(gen.chain(net), jnp.asarray(x), jnp.zeros(30, int), (3,))
    assert np.asarray(found.kept[0]).tolist() == sorted(chosen)


def test_units_that_are_zero_or_copies_are_never_missed():
    """Dead units, copies of others and their sums: two units stand for nine, in float32, at any scale of a layer."""
    first = RNG.normal(size=(2, 2))
    first = first * np.sign(first.sum(0, keepdims=True))
    weights = np.concatenate([first, 2 * first, np.zeros((2, 3)), first[:, :1] * 3, -10 * np.ones((2, 1))], axis=1)
    x = np.abs(RNG.normal(size=(20, 2)))  # so that the last unit is dead
    y = np.arange(20) % 2
    for scale in (1.0, 2.0**40, 2.0**-40):
        net = gen.chain([jnp.asarray(scale * weights, jnp.float32), jnp.asarray(RNG.normal(size=(9, 2)), jnp.float32)])
        found = gen.spectral_pruning(net, jnp.asarray(x, jnp.float32), jnp.asarray(y), (2,))
        size = np.abs(gen.forward(net, jnp.asarray(x, jnp.float32))).max()
        assert found.change < 1e-5 * size
        freedom = gen.feature_freedom(net, jnp.asarray(x, jnp.float32), 1e-6)
        assert 1.9 < freedom[0] <= 2.001


@pytest.mark.slow
def test_units_by_degrees_of_freedom_lose_what_the_theorem_allows(float64):
    """With 5 N log(16 N/δ) units by leverage a squared loss exceeds 4 λ ‖A‖_F² in at most δ of the draws."""
    width, ridge, delta = 600, 0.05, 0.2
    net, x = network(2, width, 3, rng=np.random.default_rng(0)), RNG.normal(size=(200, 2))
    chain, points, y = gen.chain(net), jnp.asarray(x), jnp.zeros(200, int)
    freedom = float(gen.feature_freedom(chain, points, ridge)[0])
    count = int(np.ceil(kernels.features_needed(freedom, delta)))
    assert count < width / 4
    covariance = np.cov(features(net, x)[0].T, bias=True)
    allowed = 4 * ridge * np.trace(covariance) * (np.asarray(net[1][0]) ** 2).sum()
    lost = [
        float(gen.spectral_pruning(chain, points, y, (count,), key=jax.random.key(i), ridge=ridge).losses[0]) ** 2
        for i in range(20)
    ]
    assert np.mean(np.array(lost) > allowed) <= delta
    greedy = gen.spectral_pruning(chain, points, y, (count,))
    assert greedy.losses[0] ** 2 < min(lost)


@pytest.mark.slow
def test_trained_networks_have_bounds_with_fewer_units(trained, sample):
    """On the digits: half of the units, within the bounds of the change and of the error."""
    weights, _ = trained
    x, y = sample
    net = gen.chain(weights)
    sizes = [m.shape[0] - 1 for m in net[:-1]]
    half = gen.spectral_pruning(net, x, y, [m // 2 for m in sizes])
    assert half.change <= np.linalg.norm(gen.forward(net, x)) / len(x) ** 0.5
    assert half.change <= half.change_bound * (1 + 1e-5)
    widths = [x.shape[1], *(m // 2 for m in sizes), 10]
    growth = gen.log_growth(widths, 2 * len(x)) + np.log(np.prod(sizes))
    expected = float(half.empirical) + np.sqrt(8 * (growth + np.log(4 / 0.05)) / len(x))
    np.testing.assert_allclose(half.bound, expected, rtol=1e-6)


def test_no_hidden_layer_is_the_network_itself():
    net = (jnp.array([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]]),)
    found = gen.spectral_pruning(net, jnp.ones((3, 2)), jnp.zeros(3, int), ())
    assert (found.net[0] == net[0]).all()
    assert found.change == found.change_bound == 0.0
    assert gen.feature_freedom(net, jnp.ones((3, 2)), 0.1).shape == found.losses.shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (2,)}, "widths must be one for each"),
        ({"widths": (0, 1)}, "widths must be"),
        ({"widths": (4, 1)}, "widths must be"),
        ({"widths": (1.0, 1)}, "widths must be"),
        ({"ridge": 0.0}, "ridge must be positive"),
        ({"delta": 1.0}, "delta must lie"),
        ({"x": jnp.ones((0, 2)), "y": jnp.zeros(0, int)}, "x must hold"),
        ({"y": jnp.array([0, 5])}, "y must hold labels"),
    ],
)
def test_errors_name_the_argument(change, message, unchecked):
    given = {"net": gen.chain(network(2, 3, 2, 2)), "x": jnp.ones((2, 2)), "y": jnp.array([0, 1]), "widths": (2, 1)}
    with pytest.raises(ValueError, match=message):
        gen.spectral_pruning(**given | change)
