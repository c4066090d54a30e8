r"""Explicit ReLU networks: lists of (W, b), their algebra, and the gadgets that approximation theory is made of.

    f(x) = relu(… relu(relu(x W_1 + b_1) W_2 + b_2) …) W_L + b_L

Nothing here is trained and nothing is computed but through such layers: what `audit` counts is what `evaluate` runs.
Networks are built on the host in float64 and evaluated in the dtype of the input; they are pytrees, so that equal
shapes stack and `jax.vmap(evaluate, (0, None))` runs many of them.
"""

import itertools
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import require


class Layer(NamedTuple):
    """One affine map x W + b."""

    weight: Float[Any, "d_in d_out"]
    bias: Float[Any, " d_out"]


Network = list[Layer]


class Audit(NamedTuple):
    """The size of a network, as the theorems count it."""

    depth: int
    """L, the number of affine maps; L − 1 hidden layers"""
    width: int
    """the widest hidden layer"""
    neurons: int
    """all hidden units"""
    nonzeros: int
    """weights and biases that are not 0"""
    largest: float
    """max |weight or bias|"""


def network(layers: Sequence[tuple[Any, Any]]) -> Network:
    """Any sequence of (W, b) as a network, checked for layers that fit.

    Args:
        layers: W [d_in, d_out] and b [d_out] each, L ≥ 1 of them, for instance the parameters of a trained network.

    Returns:
        The same numbers in float64, on the host.

    Raises:
        ValueError: no layer, shapes that do not fit together, or numbers that are not finite.

    >>> audit(network([(np.ones((2, 3)), np.zeros(3)), (np.ones((3, 1)), np.zeros(1))])).depth
    2
    """
    net = [Layer(np.asarray(weight, float), np.asarray(bias, float)) for weight, bias in layers]
    require(len(net) >= 1, "layers", 0, "hold at least one affine map", "pass [(W, b), ...]")
    for i, (weight, bias) in enumerate(net):
        fits = weight.ndim == 2 and bias.shape == weight.shape[1:]
        require(fits, f"layer {i}", (weight.shape, bias.shape), "be W [d_in, d_out], b [d_out]", "transpose W")
        finite = bool(np.isfinite(weight).all() and np.isfinite(bias).all())
        require(finite, f"layer {i}", "NaN or infinity", "be finite", "look at how it was trained")
    _require_chain(net)
    return net


@jax.jit
def evaluate(net: Network, x: Float[Array, "n d_in"]) -> Float[Array, "n d_out"]:
    """The network at n points, in the dtype of x and at the highest matmul precision.

    Raises:
        ValueError: layers, or the points, do not fit. Cost: 2 n Σ d_in d_out flops.

    >>> evaluate(tent(), jnp.array([[0.25], [0.5], [2.0]])).ravel().tolist()
    [0.5, 1.0, 0.0]
    """
    _require_chain(net)
    inputs = net[0].weight.shape[0]
    require(x.shape[1] == inputs, "x", x.shape, f"have {inputs} columns, one an input", "pass points as rows")
    for layer in net[:-1]:
        x = jax.nn.relu(_affine(layer, x))
    return _affine(net[-1], x)


def _affine(layer: Layer, x: Array) -> Array:
    weight, bias = (jnp.asarray(part).astype(x.dtype) for part in layer)
    return jnp.matmul(x, weight, precision="highest") + bias[None, :]


def _require_chain(net: Network) -> None:
    for i, (one, two) in enumerate(itertools.pairwise(net)):
        out, taken = one.weight.shape[1], two.weight.shape[0]
        require(out == taken, f"layer {i + 1}", taken, f"take the {out} outputs of layer {i}", "match the widths")


def audit(net: Network) -> Audit:
    """Depth, width, neurons, nonzeros and the largest weight: (L, W, S, B) of Φ(L, W, S, B), counted.

    Source: Schmidt-Hieber (2020), equation (4); Suzuki (2019), section 2.1.

    >>> audit(square(5))
    Audit(depth=6, width=3, neurons=14, nonzeros=37, largest=4.0)
    """
    hidden = [layer.weight.shape[1] for layer in net[:-1]]
    parts = [np.asarray(part) for layer in net for part in layer]
    nonzeros = sum(int(np.count_nonzero(part)) for part in parts)
    largest = max(float(np.abs(part).max(initial=0.0)) for part in parts)
    return Audit(len(net), max(hidden, default=0), sum(hidden), nonzeros, largest)


# --- algebra -----------------------------------------------------------------------------------------------------


def affine(weight: Any, bias: Any = None) -> Network:
    """x W + b as a network without hidden layers; b = 0 by default.

    >>> audit(affine([[1.0], [1.0]])).depth
    1
    """
    matrix = np.asarray(weight, float)
    return network([(matrix, np.zeros(matrix.shape[-1]) if bias is None else bias)])


def compose(*nets: Network) -> Network:
    """The networks one after another, the first applied first; adjoining affine maps become one, so depths add less 1.

    Raises:
        ValueError: an output does not fit the next input.

    >>> audit(compose(tent(), tent())).depth
    3
    """
    return reduce(_compose, nets)


def _compose(first: Network, second: Network) -> Network:
    last, start = first[-1], second[0]
    out, taken = last.weight.shape[1], start.weight.shape[0]
    require(out == taken, "nets", (out, taken), "have as many outputs as the next has inputs", "insert an affine map")
    merged = Layer(last.weight @ start.weight, last.bias @ start.weight + start.bias)
    return [*first[:-1], merged, *second[1:]]


def concatenate(*nets: Network) -> Network:
    """`compose` with a layer relu(y), relu(−y) between: depths and nonzeros add (to a factor 2).

    Source: Petersen and Voigtlaender (2018), definition 2.5.

    >>> audit(concatenate(tent(), tent())).depth
    4
    """
    return reduce(lambda first, second: compose(first, identity(first[-1].weight.shape[1], 1), second), nets)


def identity(dim: int, hidden: int = 0) -> Network:
    """x ↦ x through `hidden` layers of the 2·dim neurons relu(x), relu(−x).

    >>> evaluate(identity(2, hidden=3), jnp.array([[1.5, -2.0]])).tolist()
    [[1.5, -2.0]]
    """
    one = np.eye(dim)
    if hidden == 0:
        return affine(one)
    both = np.concatenate([one, -one], axis=1)
    return network([(w, np.zeros(w.shape[1])) for w in (both, *[np.eye(2 * dim)] * (hidden - 1), both.T)])


def deepen(net: Network, depth: int) -> Network:
    """The same function by `depth` affine maps. Raises: ValueError, if the network is deeper already.

    >>> audit(deepen(tent(), 5)).depth
    5
    """
    require(depth >= len(net), "depth", depth, f"be >= {len(net)}, the network's own", "layers cannot be removed")
    return compose(net, identity(net[-1].weight.shape[1], depth - len(net)))


def side_by_side(nets: Sequence[Network]) -> Network:
    """(x_1, …, x_n) ↦ (f_1(x_1), …, f_n(x_n)), each network with inputs of its own; depths are made equal.

    >>> evaluate(side_by_side([tent(), clip(0.0, 1.0)]), jnp.array([[0.5, 3.0]])).tolist()
    [[1.0, 1.0]]
    """
    require(len(nets) >= 1, "nets", 0, "hold at least one network", "pass a sequence of networks")
    depth = max(map(len, nets))
    layers = zip(*(deepen(net, depth) for net in nets), strict=True)
    return [Layer(_block_diagonal([w for w, _ in row]), np.concatenate([b for _, b in row])) for row in layers]


def _block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Like SciPy's, written here for blocks without columns or rows."""
    whole = np.zeros(np.sum([block.shape for block in blocks], axis=0))
    row = column = 0
    for block in blocks:
        whole[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return whole


def parallel(nets: Sequence[Network]) -> Network:
    """x ↦ (f_1(x), …, f_n(x)), all on the same inputs.

    >>> evaluate(parallel([tent(), identity(1)]), jnp.array([[0.25]])).tolist()
    [[0.5, 0.25]]
    """
    together = side_by_side(nets)
    dim = nets[0][0].weight.shape[0]
    same = all(net[0].weight.shape[0] == dim for net in nets)
    require(same, "nets", [n[0].weight.shape[0] for n in nets], "take the same inputs", "use side_by_side")
    return compose(affine(np.tile(np.eye(dim), len(nets))), together)


def skip(net: Network) -> Network:
    """x ↦ (x, f(x)): the input is carried past the network by 2·d_in neurons a layer.

    >>> evaluate(skip(tent()), jnp.array([[0.25]])).tolist()
    [[0.25, 0.5]]
    """
    return parallel([identity(net[0].weight.shape[0], len(net) - 1), net])


def entrywise(net: Network, count: int) -> Network:
    """(x_1, …, x_n) ↦ (f(x_1), …, f(x_n)) for one f of one variable, the copies interleaved neuron by neuron.

    >>> evaluate(entrywise(tent(), 2), jnp.array([[0.25, 0.5]])).tolist()
    [[0.5, 1.0]]
    """
    return [Layer(np.kron(weight, np.eye(count)), np.kron(bias, np.ones(count))) for weight, bias in net]


# --- gadgets -----------------------------------------------------------------------------------------------------


def spline(knots: Any, values: Any) -> Network:
    """The piecewise linear interpolant of one variable, constant beyond its knots: one neuron a knot.

    Args: knots: increasing, ≥ 2. values: as many.

    >>> evaluate(spline([0.0, 1.0, 2.0], [0.0, 3.0, 1.0]), jnp.array([[-1.0], [0.5], [1.5], [9.0]])).ravel().tolist()
    [0.0, 1.5, 2.0, 1.0]
    """
    t, v = np.asarray(knots, float), np.asarray(values, float)
    grid = len(t) >= 2 and t.shape == v.shape and bool((np.diff(t) > 0).all())
    require(grid, "knots", t.tolist(), "be >= 2, increasing, one a value", "sort the knots and drop equal ones")
    slopes = np.concatenate([[0.0], np.diff(v) / np.diff(t), [0.0]])
    return network([(np.ones((1, len(t))), -t), (np.diff(slopes)[:, None], v[:1])])


def tent() -> Network:
    """The tent: 2x on [0, 1/2], 2 − 2x on [1/2, 1], 0 elsewhere, by three neurons.

    >>> audit(tent()).neurons
    3
    """
    return spline([0.0, 0.5, 1.0], [0.0, 1.0, 0.0])


def clip(low: float, high: float) -> Network:
    """min(max(x, low), high) by two neurons.

    >>> evaluate(clip(0.0, 1.0), jnp.array([[-3.0], [0.25], [7.0]])).ravel().tolist()
    [0.0, 0.25, 1.0]
    """
    return spline([low, high], [low, high])


def sawtooth(k: int) -> Network:
    """Telgarsky's sawtooth: the tent composed k times, with 2^k pieces on [0, 1] from 3k neurons.

    Limits: in floating point every orbit of the tent ends at 0 once the digits are used up: after 24 (float32) or
    53 (float64) doublings of a number in [1/2, 1]. Source: Telgarsky (2016), Lemma 3.10.

    >>> evaluate(sawtooth(3), jnp.array([[0.0625]])).item()
    0.5
    """
    require(k >= 1, "k", k, "be >= 1", "use identity(1) for no tooth")
    return compose(*[tent()] * k)


def square(m: int) -> Network:
    r"""Yarotsky's x² on [0, 1], the piecewise linear interpolant on 2^m cells:

        f_m(x) = x − Σ_{s=1}^m tent∘s(x) / 4^s,   f_m ≥ x²,   sup |f_m − x²| = 2^(−2m−2),   ‖f_m − x²‖₂ = 2^(−2m)/√30.

    Args: m: ≥ 1, the number of hidden layers, of 3 neurons each (2 in the first). Valid on [0, 1] only.

    Source: Yarotsky (2017), Proposition 2.

    >>> (evaluate(square(3), jnp.array([[0.0625]])) - 0.0625**2).item() == 2.0**-8
    True
    """
    require(m >= 1, "m", m, "be >= 1", "the error is 2^(−2m−2)")
    # neurons of layer s: relu(T_{s−1}), relu(T_{s−1} − 1/2), and x − Σ_{i<s} T_i/4^i ≥ 0; T_0 = x is its own sum
    layers = [(np.array([[1.0, 1.0]]), np.array([0.0, -0.5]))]
    tooth = np.array([2.0, -4.0, 0.0])
    for s in range(1, m):
        rest = np.array([0.0, 0.0, 1.0]) - tooth / 4.0**s
        following = np.stack([tooth, tooth, rest], axis=1)
        layers.append((_merge_first(following) if s == 1 else following, np.array([0.0, -0.5, 0.0])))
    last = (np.array([0.0, 0.0, 1.0]) - tooth / 4.0**m)[:, None]
    return network([*layers, (_merge_first(last) if m == 1 else last, np.zeros(1))])


def _merge_first(weight: np.ndarray) -> np.ndarray:
    """In the first layer the running sum is relu(x), which is there already."""
    return np.stack([weight[0] + weight[2], weight[1]])


def product(m: int) -> Network:
    r"""x·y on [−1, 1]² as f_m(|x + y|/2) − f_m(|x − y|/2), with f_m = `square(m)`.

    The sup error is exactly 2^(−2m−2), the result lies in [−1, 1], and it is exactly 0 where a factor is 0, in
    floating point too: both halves are computed by equal sums of equal numbers.

    Args: m: ≥ 1; m + 1 hidden layers of 6 neurons (4 in the first two).

    Source: Yarotsky (2017), Proposition 3.

    >>> evaluate(product(4), jnp.array([[0.5, -0.25], [0.3, 0.0]])).ravel().tolist()
    [-0.125, 0.0]
    """
    halves = np.array([[0.5, 0.5], [0.5, -0.5]])
    signed = np.concatenate([halves, -halves], axis=1)
    absolute = network([(signed, np.zeros(4)), (np.tile(np.eye(2), (2, 1)), np.zeros(2))])
    return compose(absolute, entrywise(square(m), 2), affine([[1.0], [-1.0]]))


def product_tree(factors: int, m: int) -> Network:
    """x_1 ⋯ x_n on [−1, 1]^n by a tree of `product(m)`: ⌈log2 n⌉ (m + 1) hidden layers, error ≤ (n − 1) 2^(−2m−2).

    >>> evaluate(product_tree(3, 8), jnp.array([[0.5, 0.5, -0.5]])).item()
    -0.125
    """
    require(factors >= 1, "factors", factors, "be >= 1", "name the number of inputs")
    levels = [identity(factors)]
    while factors > 1:
        pairs, odd = divmod(factors, 2)
        levels.append(side_by_side([product(m)] * pairs + [identity(1)] * odd))
        factors = pairs + odd
    return compose(*levels)


def tensor_product(nets: Sequence[Network], m: int) -> Network:
    """f_1(x_1) ⋯ f_d(x_d) for networks with one output in [−1, 1] each, by `product_tree`.

    >>> evaluate(tensor_product([tent(), tent()], 6), jnp.array([[0.5, 0.25], [0.5, 2.0]])).ravel().tolist()
    [0.5, 0.0]
    """
    return compose(side_by_side(nets), product_tree(len(nets), m))


def partition_of_unity(cells: int) -> Network:
    """x ↦ the cells + 1 hats at the nodes k/cells: nonnegative, supported on two cells, of sum 1 on [0, 1].

    One hidden layer of cells + 3 neurons, shared by the hats.

    >>> evaluate(partition_of_unity(2), jnp.array([[0.25]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    require(cells >= 1, "cells", cells, "be >= 1", "name the number of intervals")
    nodes = np.arange(-1, cells + 2, dtype=float)
    second = np.diff(np.eye(cells + 3), n=2, axis=0).T
    return network([(np.full((1, cells + 3), float(cells)), -nodes), (second, np.zeros(cells + 1))])


def restrict(net: Network, origin: Any, directions: Any) -> Network:
    """The network on the affine subspace t ↦ origin + t · directions, a network of k inputs.

    Args: origin: [d_in]. directions: [k, d_in].

    >>> evaluate(restrict(product(2), [0.5, 0.0], [[0.0, 1.0]]), jnp.array([[0.5]])).item()
    0.25
    """
    return compose(affine(directions, origin), net)
