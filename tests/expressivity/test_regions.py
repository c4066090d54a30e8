"""Linear regions: counts against dense sampling of signs, theorems, and networks built to attain them."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import expressivity
from jaxtheory.expressivity import regions
from jaxtheory.expressivity import relu_network as rn


def random_net(seed, sizes):
    rng = np.random.default_rng(seed)
    return rn.network([(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in itertools.pairwise(sizes)])


def signs(net, x):
    """The activation pattern of every point."""
    pattern = []
    for weight, bias in net[:-1]:
        x = np.maximum(x @ weight + bias, 0)
        pattern.append(x > 0)
    return np.concatenate(pattern, axis=1)


def montufar_net():
    """4 + 4 neurons: the first layer folds the square onto itself 4 times, the second cuts it by 4 lines."""
    fold = np.kron(np.eye(2), [[2.0, 2.0]])  # relu(2x) and relu(2x − 1): 2 relu − 2·… is the tent
    bias = np.array([0.0, -1.0, 0.0, -1.0])
    tent = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -2.0]])
    lines = np.array([[1.0, 1.0, 1.0, -1.0], [0.45, 2.0, -0.9, 0.3]])
    offsets = np.array([-0.71, -1.48, -0.06, 0.34])
    return rn.network([(fold, bias), (tent @ lines, offsets), (np.ones((4, 1)), np.zeros(1))])


@pytest.mark.smoke
@pytest.mark.parametrize("k", [1, 4, 7])
def test_a_sawtooth_has_exactly_its_pieces(k):
    points = regions.breakpoints(rn.sawtooth(k), 0.0, 1.0)
    assert points == [Fraction(j, 2**k) for j in range(1, 2**k)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shallow_nets_have_at_most_their_neurons_of_breakpoints(seed):
    """At the zeros −b/w of their neurons, as rationals."""
    net = random_net(seed, [1, 9, 1])
    zeros = sorted(-Fraction(b) / Fraction(w) for w, b in zip(net[0].weight[0], net[0].bias, strict=True))
    assert regions.breakpoints(net, -3.0, 3.0) == [z for z in zeros if -3 < z < 3]


@pytest.mark.parametrize("seed", [3, 4])
def test_cells_on_a_line_are_the_patterns_met(seed):
    net = random_net(seed, [1, 7, 6, 1])
    found = expressivity.linear_regions(net, -2.0, 2.0)
    middles = np.array([cell.mean() for cell in found.cells])[:, None]
    dense = np.linspace(-2, 2, 200_001)[:, None]
    changes = (np.diff(signs(net, dense).astype(int), axis=0) != 0).any(axis=1).sum()
    assert len(found.cells) >= changes + 1  # sampling may step over a small cell, never invent one
    order = np.argsort(middles[:, 0])
    patterns = signs(net, middles[order])
    assert (patterns[1:] != patterns[:-1]).any(axis=1).all()
    widths = [np.ptp(cell) for cell in found.cells]
    assert sum(widths) == pytest.approx(4.0)
    assert len(found.cells) - (changes + 1) <= sum(width < 4e-5 for width in widths)


@pytest.mark.parametrize("arithmetic", ["exact", "float64"])
def test_cells_in_the_plane_tile_it_and_the_network_is_affine_on_each(arithmetic):
    net = random_net(5, [2, 6, 5, 2])
    found = regions.linear_regions(net, [-1.5, -1.0], [1.5, 1.0], arithmetic=arithmetic)

    def area(p):
        x, y = p.T
        return 0.5 * abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))

    assert sum(map(area, found.cells)) == pytest.approx(6.0)
    for cell, slope in zip(found.cells, found.slopes, strict=True):
        inside = np.random.default_rng(0).dirichlet(np.ones(len(cell)), 3) @ cell
        with jax.enable_x64(True):
            values = np.asarray(rn.evaluate(net, jnp.asarray(inside)))
        np.testing.assert_allclose(values - values[:1], (inside - inside[:1]) @ slope, atol=1e-9)
    dense = np.random.default_rng(1).uniform([-1.5, -1.0], [1.5, 1.0], (40_000, 2))
    met = {row.tobytes() for row in signs(net, dense)}
    own = [row.tobytes() for row in signs(net, np.array([cell.mean(axis=0) for cell in found.cells]))]
    assert met <= set(own)
    assert len(set(own)) == len(own)


def test_a_generic_layer_attains_the_arrangement():
    net = random_net(6, [2, 8, 1])
    assert len(regions.linear_regions(net, -1e6, 1e6).cells) == regions.arrangement(8, 2) == 37


def test_montufars_network_attains_his_bound():
    count = len(regions.linear_regions(montufar_net(), 0.0, 1.0).cells)
    assert count == regions.montufar_lower(2, [4, 4]) == 44
    assert count <= regions.serra_upper(2, [4, 4])


@pytest.mark.parametrize("widths", [[5], [3, 4], [4, 3, 3]])
def test_no_network_exceeds_serras_bound(widths):
    for seed in range(3):
        count = len(regions.linear_regions(random_net(seed, [2, *widths, 1]), -5.0, 5.0, arithmetic="float64").cells)
        assert count <= regions.serra_upper(2, widths)
    assert regions.serra_upper(2, widths[:1]) == regions.arrangement(widths[0], 2)


def test_a_slice_of_a_deep_network(key):
    """A plane through 64 dimensions: the slice is the network on it, and its cells tile the square."""
    net = random_net(7, [64, 12, 10, 3])
    rng = np.random.default_rng(8)
    slice_ = rn.restrict(net, rng.normal(size=64), rng.normal(size=(2, 64)))
    found = regions.linear_regions(slice_, -1.0, 1.0, arithmetic="float64")
    middles = np.array([cell.mean(axis=0) for cell in found.cells])
    assert len({row.tobytes() for row in signs(slice_, middles)}) == len(found.cells)
    assert len(found.cells) > 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: regions.linear_regions(random_net(0, [3, 2, 1]), 0.0, 1.0), "net must have 1 or 2 inputs"),
        (lambda: regions.linear_regions(rn.tent(), 1.0, 0.0), "low must be below high"),
        (lambda: regions.breakpoints(random_net(0, [2, 2, 1]), 0.0, 1.0), "net must have one input"),
        (lambda: regions.montufar_lower(3, [2, 4]), "widths must be >= the 3 inputs"),
        (lambda: regions.serra_upper(2, []), "widths must be >= 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
