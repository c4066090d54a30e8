r"""Lists of (W, b) as ReLU networks: evaluation, audit, and the algebra that builds larger ones from smaller ones.

    f(x) = relu(… relu(relu(x W_1 + b_1) W_2 + b_2) …) W_L + b_L

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

from jaxtheory.checks import boundary, host_numbers, quantity, require


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


@boundary
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
    net = [
        Layer(host_numbers(f"layer {i}", weight), host_numbers(f"layer {i}", bias))
        for i, (weight, bias) in enumerate(_pairs("layers", layers))
    ]
    for i, (weight, bias) in enumerate(net):
        fits = weight.ndim == 2 and bias.shape == weight.shape[1:]
        require(fits, f"layer {i}", (weight.shape, bias.shape), "be W [d_in, d_out], b [d_out]", "transpose W")
        finite = bool(np.isfinite(weight).all() and np.isfinite(bias).all())
        require(finite, f"layer {i}", "NaN or infinity", "be finite", "look at how it was trained")
    _require_chain(net)
    return net


def _pairs(name: str, layers: Any) -> Sequence[tuple[Any, Any]]:
    """The layers, known to be pairs, at least one."""
    rows = isinstance(layers, (list, tuple))
    pairs = rows and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in layers)
    require(pairs, name, type(layers).__name__, "be a sequence of pairs (W, b)", "pass [(W, b), ...]")
    require(len(layers) >= 1, name, 0, "hold at least one affine map", "pass [(W, b), ...]")
    return layers


def _sequence(nets: Any) -> list[Network]:
    """The networks of a sequence, each checked."""
    several = isinstance(nets, (list, tuple)) and len(nets) >= 1
    found = len(nets) if isinstance(nets, (list, tuple)) else type(nets).__name__
    require(several, "nets", found, "hold at least one network", "pass a sequence of networks")
    return [network(net) for net in nets]


@boundary
def evaluate(net: Network, x: Float[Array, "n d"]) -> Float[Array, "n d_out"]:
    """The network at n points, in the dtype of x and at the highest matmul precision.

    Args:
        net: a network, or any sequence of (W, b), whose weights may be traced.
        x: n points.

    Raises:
        ValueError: layers, or the points, do not fit. Cost: 2 n Σ d_in d_out flops.

    >>> from jaxtheory.expressivity.relu_network import tent
    >>> evaluate(tent(), [[0.25], [0.5], [2.0]]).ravel().tolist()
    [0.5, 1.0, 0.0]
    """
    layers = [Layer(_array(weight), _array(bias)) for weight, bias in _pairs("net", net)]
    for i, (weight, bias) in enumerate(layers):
        fits = weight.ndim == 2 and bias.shape == weight.shape[1:]
        require(fits, f"layer {i}", (weight.shape, bias.shape), "be W [d_in, d_out], b [d_out]", "transpose W")
    _require_chain(layers)
    inputs = layers[0].weight.shape[0]
    require(x.shape[1] == inputs, "x", x.shape, f"have {inputs} columns, one an input", "pass points as rows")
    return _evaluate(layers, x)


def _array(numbers: Any) -> Any:
    """Arrays as they are, lists as arrays."""
    return numbers if isinstance(numbers, np.ndarray | jax.Array) else jnp.asarray(quantity("net", numbers))


@jax.jit
def _evaluate(net: Network, x: Array) -> Array:
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


@boundary
def audit(net: Network) -> Audit:
    """Depth, width, neurons, nonzeros and the largest weight: (L, W, S, B) of Φ(L, W, S, B), counted.

    Args:
        net: a network, or any sequence of (W, b), with known numbers.

    Raises:
        ValueError: as `network`. Cost: one pass over the weights on the host.

    Source: Schmidt-Hieber (2020), equation (4); Suzuki (2019), section 2.1.

    >>> from jaxtheory.expressivity.relu_network import square
    >>> audit(square(5))
    Audit(depth=6, width=3, neurons=14, nonzeros=37, largest=4.0)
    """
    net = network(net)
    hidden = [layer.weight.shape[1] for layer in net[:-1]]
    parts = [np.asarray(part) for layer in net for part in layer]
    nonzeros = sum(int(np.count_nonzero(part)) for part in parts)
    largest = max(float(np.abs(part).max(initial=0.0)) for part in parts)
    return Audit(len(net), max(hidden, default=0), sum(hidden), nonzeros, largest)


@boundary
def affine(weight: Any, bias: Any = None) -> Network:
    """x W + b as a network without hidden layers; b = 0 by default.

    Args:
        weight: W [d_in, d_out]. bias: b [d_out].

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite.

    >>> audit(affine([[1.0], [1.0]])).depth
    1
    """
    matrix = host_numbers("weight", weight)
    require(matrix.ndim == 2, "weight", matrix.shape, "have shape [d_in, d_out]", "pass a matrix")
    return network([(matrix, np.zeros(matrix.shape[-1]) if bias is None else bias)])


def compose(*nets: Network) -> Network:
    """The networks one after another, the first applied first; adjoining affine maps become one, so depths add less 1.

    Args:
        nets: at least one.

    Raises:
        ValueError: no network, or an output that does not fit the next input.

    >>> from jaxtheory.expressivity.relu_network import tent
    >>> audit(compose(tent(), tent())).depth
    3
    """
    require(len(nets) >= 1, "nets", 0, "hold at least one network", "pass them one after another")
    return reduce(_compose, [network(net) for net in nets])


def _compose(first: Network, second: Network) -> Network:
    last, start = first[-1], second[0]
    out, taken = last.weight.shape[1], start.weight.shape[0]
    require(out == taken, "nets", (out, taken), "have as many outputs as the next has inputs", "insert an affine map")
    merged = Layer(last.weight @ start.weight, last.bias @ start.weight + start.bias)
    return [*first[:-1], merged, *second[1:]]


def concatenate(*nets: Network) -> Network:
    """`compose` with a layer relu(y), relu(−y) between: depths and nonzeros add (to a factor 2).

    Args:
        nets: at least one.

    Raises:
        ValueError: as `compose`.

    Source: Petersen and Voigtlaender (2018), definition 2.5.

    >>> from jaxtheory.expressivity.relu_network import tent
    >>> audit(concatenate(tent(), tent())).depth
    4
    """
    require(len(nets) >= 1, "nets", 0, "hold at least one network", "pass them one after another")
    whole = [network(net) for net in nets]
    return reduce(lambda first, second: compose(first, identity(first[-1].weight.shape[1], 1), second), whole)


@boundary(static=("dim", "hidden"))
def identity(dim: int, hidden: int = 0) -> Network:
    """x ↦ x through `hidden` layers of the 2·dim neurons relu(x), relu(−x).

    Args:
        dim: ≥ 1. hidden: ≥ 0.

    Raises:
        ValueError: numbers out of range or traced.

    >>> evaluate(identity(2, hidden=3), [[1.5, -2.0]]).tolist()
    [[1.5, -2.0]]
    """
    require(dim >= 1, "dim", dim, "be >= 1", "name the number of inputs")
    require(hidden >= 0, "hidden", hidden, "be >= 0", "use 0 for an affine map")
    one = np.eye(dim)
    if hidden == 0:
        return affine(one)
    both = np.concatenate([one, -one], axis=1)
    return network([(w, np.zeros(w.shape[1])) for w in (both, *[np.eye(2 * dim)] * (hidden - 1), both.T)])


@boundary(static=("depth",))
def deepen(net: Network, depth: int) -> Network:
    """The same function by `depth` affine maps.

    Raises:
        ValueError: the network is deeper already.

    >>> from jaxtheory.expressivity.relu_network import tent
    >>> audit(deepen(tent(), 5)).depth
    5
    """
    net = network(net)
    require(depth >= len(net), "depth", depth, f"be >= {len(net)}, the network's own", "layers cannot be removed")
    return compose(net, identity(net[-1].weight.shape[1], depth - len(net)))


def side_by_side(nets: Sequence[Network]) -> Network:
    """(x_1, …, x_n) ↦ (f_1(x_1), …, f_n(x_n)), each network on separate inputs; depths are made equal.

    Raises:
        ValueError: no network.

    >>> from jaxtheory.expressivity.relu_network import tent, clip
    >>> evaluate(side_by_side([tent(), clip(0.0, 1.0)]), [[0.5, 3.0]]).tolist()
    [[1.0, 1.0]]
    """
    nets = _sequence(nets)
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

    Raises:
        ValueError: no network, or different numbers of inputs.

    >>> from jaxtheory.expressivity.relu_network import tent
    >>> evaluate(parallel([tent(), identity(1)]), [[0.25]]).tolist()
    [[0.5, 0.25]]
    """
    nets = _sequence(nets)
    together = side_by_side(nets)
    dim = nets[0][0].weight.shape[0]
    same = all(net[0].weight.shape[0] == dim for net in nets)
    require(same, "nets", [n[0].weight.shape[0] for n in nets], "take the same inputs", "use side_by_side")
    return compose(affine(np.tile(np.eye(dim), len(nets))), together)


def skip(net: Network) -> Network:
    """x ↦ (x, f(x)): the input is carried past the network by 2·d_in neurons a layer.

    Raises:
        ValueError: no layer.

    >>> from jaxtheory.expressivity.relu_network import tent
    >>> evaluate(skip(tent()), [[0.25]]).tolist()
    [[0.25, 0.5]]
    """
    net = network(net)
    return parallel([identity(net[0].weight.shape[0], len(net) - 1), net])


@boundary(static=("count",))
def entrywise(net: Network, count: int) -> Network:
    """(x_1, …, x_n) ↦ (f(x_1), …, f(x_n)) for one f of one variable, the copies interleaved neuron by neuron.

    Raises:
        ValueError: count < 1, or a network of more inputs.

    >>> from jaxtheory.expressivity.relu_network import tent
    >>> evaluate(entrywise(tent(), 2), [[0.25, 0.5]]).tolist()
    [[0.5, 1.0]]
    """
    require(count >= 1, "count", count, "be >= 1", "name the number of copies")
    net = network(net)
    inputs = net[0].weight.shape[0]
    require(inputs == 1, "net", f"{inputs} inputs", "have one input", "use side_by_side for networks of more")
    return [Layer(np.kron(weight, np.eye(count)), np.kron(bias, np.ones(count))) for weight, bias in net]


def restrict(net: Network, origin: Any, directions: Any) -> Network:
    """The network on the affine subspace t ↦ origin + t · directions, a network of k inputs.

    Args:
        net: of d_in inputs. origin: [d_in]. directions: [k, d_in].

    Raises:
        ValueError: shapes that do not fit.

    >>> from jaxtheory.expressivity.relu_network import product
    >>> evaluate(restrict(product(2), [0.5, 0.0], [[0.0, 1.0]]), [[0.5]]).item()
    0.25
    """
    start = host_numbers("origin", origin, axes=1)
    return compose(affine(directions, start), net)
