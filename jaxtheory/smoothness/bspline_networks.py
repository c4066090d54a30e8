r"""ReLU networks that are B-splines to a given accuracy, and sums of them: Besov functions as explicit networks.

The recursion of Cox and de Boor becomes layers: clips for its weights, product gadgets for its products.

    N_k(x) = ((k + 1)/k) [u N_{k−1}(x) + (1 − u) N_{k−1}(x − 1)],   u = clip(x, 0, k + 1)/(k + 1),

from the hat N_1, which is a network as it stands. (Truncated powers, the textbook's other formula, cancel: at order 10
they lose 4e−2 in single precision.)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, host_numbers, require
from jaxtheory.expressivity import relu_network as rn


class SplineSum(NamedTuple):
    """The network Σ_i c_i M(2^{j_i} x − k_i), whose blocks are one network M behind N affine maps.

    `scales` holds 2^{j_i}, or one for each axis, as mixed and anisotropic smoothness need.

    `as_network` writes it out as one list of (W, b); kept like this it takes no N² memory.
    """

    block: rn.Network
    scales: Float[Array, "terms ..."]
    shifts: Float[Array, "terms d"]
    weights: Float[Array, " terms"]


@boundary(static=("order", "accuracy", "dim"))
def relu_network(order: int, accuracy: float, dim: int = 1) -> rn.Network:
    r"""A ReLU network within `accuracy` of the cardinal B-spline N_m(x_1) ⋯ N_m(x_d), and 0 off its support.

    A product gadget of s levels errs by 2^{−2s−2}; through the recursion the errors obey e_k/(k + 1) ≤ e_{k−1}/k +
    2^{−2s−1}/k, so e_m ≤ (m + 1) Σ_{k=2}^m (1/k) 2^{−2s−1}, which sets s. Tensor products add d − 1 gadgets.

    Args:
        order: m ≥ 1; 1 is the hat, which needs no gadget.
        accuracy: 0 < ε < 1, in the sup norm over all of R^d, up to the rounding of the dtype it is evaluated in.
        dim: d ≥ 1.

    Returns:
        A network of `jaxtheory.expressivity.relu_network`, d inputs and one output; `audit` counts it.

    Raises:
        ValueError: order, accuracy or dim out of range, or traced.

    Cost: depth (m − 1)(log4(1/ε) + O(1)), width ≤ (12 m + 2) d.

    Source: Suzuki (2019), Lemma 1 (there from truncated powers); Yarotsky (2017), Proposition 3, for the product.

    >>> net = relu_network(2, 1e-3)
    >>> abs(rn.evaluate(net, jnp.array([[1.5]])).item() - 0.75) < 1e-3
    True
    """
    _check(order, accuracy, dim)
    each = accuracy if dim == 1 else accuracy / (2 * dim)
    growth = (order + 1) * sum(1 / k for k in range(2, order + 1)) / 2
    factor = _spline(order, _gadget_levels(each / growth) if order > 1 else 1)
    return factor if dim == 1 else rn.tensor_product([factor] * dim, _gadget_levels(4 * each))


def _check(order: int, accuracy: float, dim: int) -> None:
    require(order >= 1, "order", order, "be >= 1", "order 0 is discontinuous, and no ReLU network is")
    require(0 < accuracy < 1, "accuracy", accuracy, "lie in (0, 1)", "N_m itself is below 1")
    require(dim >= 1, "dim", dim, "be >= 1", "name the number of inputs")


def _gadget_levels(error: float) -> int:
    """s with 4^{−s} ≤ error."""
    return max(1, math.ceil(-math.log(error) / math.log(4)))


def _spline(order: int, levels: int) -> rn.Network:
    if order == 1:
        return rn.spline([0.0, 1.0, 2.0], [0.0, 1.0, 0.0])
    hats = [rn.spline([i, i + 1, i + 2], [0.0, 1.0, 0.0]) for i in range(order)]
    # clipped a unit beyond the support, so that rounding at large x cannot reach into it
    start = rn.parallel([rn.clip(0.0, order + 2.0), *hats])
    raised = [_raise(k, order - k + 1, levels) for k in range(2, order + 1)]
    return rn.compose(start, *raised, rn.affine([[0.0], [1.0]]))


def _raise(k: int, count: int, levels: int) -> rn.Network:
    """(x, N_{k−1}(x), …, N_{k−1}(x − count)) ↦ (x, N_k(x), …, N_k(x − count + 1))."""
    first = np.eye(count + 2)[:, :1]
    ramp = rn.compose(rn.clip(0.0, k + 1.0), rn.affine([[1 / (k + 1)]]))
    ramps = [rn.compose(rn.affine(first, [-float(i)]), ramp) for i in range(count)]
    weighted = rn.parallel([rn.identity(count + 2, 1), *ramps])
    products = rn.side_by_side([rn.identity(1), *[rn.product(levels)] * (2 * count)])
    added = np.zeros((1 + 2 * count, 1 + count))
    added[0, 0] = 1.0
    for i in range(count):
        added[1 + 2 * i : 3 + 2 * i, 1 + i] = (k + 1) / k
    return rn.compose(weighted, _pairs(count), products, rn.affine(added))


def _pairs(count: int) -> rn.Network:
    """(x, N_0 … N_count, u_0 … u_{count−1}) ↦ (x, then u_i, N_i, 1 − u_i, N_{i+1} for each i)."""
    matrix, offset = np.zeros((2 + 2 * count, 1 + 4 * count)), np.zeros(1 + 4 * count)
    matrix[0, 0] = 1.0
    for i in range(count):
        at, spline, weight = 1 + 4 * i, 1 + i, 2 + count + i
        matrix[weight, at], matrix[spline, at + 1] = 1.0, 1.0
        matrix[weight, at + 2], matrix[spline + 1, at + 3] = -1.0, 1.0
        offset[at + 2] = 1.0
    return rn.affine(matrix, offset)


@boundary(static=("order", "accuracy", "dim"))
def suzuki_bound(order: int, accuracy: float, dim: int = 1) -> rn.Audit:
    r"""What Suzuki's lemma allows for the same task, with its constant c_{d,m} ≤ 1 replaced by 1, its smallest bound.

        L = 3 + 2⌈log2(3^{d∨m}/ε) + 5⌉⌈log2(d ∨ m)⌉,   W = 6dm(m + 2) + 2d,   S = L W²,   B = 2(m + 1)^m.

    Args:
        order, accuracy, dim: as in `relu_network`.

    Returns:
        `Audit` of depth L, width W, neurons (L − 1) W, nonzeros S, largest B.

    Raises:
        ValueError: as `relu_network`.

    Source: Suzuki (2019), Lemma 1.

    >>> suzuki_bound(3, 1e-3).width
    92
    """
    _check(order, accuracy, dim)
    wide = max(dim, order)
    depth = 3 + 2 * math.ceil(wide * math.log2(3) - math.log2(accuracy) + 5) * math.ceil(math.log2(wide))
    width = 6 * dim * order * (order + 2) + 2 * dim
    return rn.Audit(depth, width, (depth - 1) * width, depth * width**2, 2.0 * (order + 1) ** order)


@boundary(static=("order", "accuracy"))
def relu_sum(
    weights: Float[Array, " terms"],
    scales: Float[Array, "terms ..."],
    shifts: Float[Array, "terms d"],
    order: int,
    accuracy: float,
) -> SplineSum:
    r"""A ReLU network for Σ_i c_i N_m(2^{j_i} x − k_i), the N-term sum that approximates a Besov function.

    Args:
        weights: c. scales: 2^j > 0, or [terms, d] with a scale for each axis. shifts: k. order: m ≥ 1.
        accuracy: of each B-spline; where at most q terms overlap the sum is within q · accuracy · max |c|.

    Returns:
        `SplineSum`, for `evaluate_sum`, `audit_sum` and `as_network`.

    Raises:
        ValueError: numbers of terms that differ. Cost: the block's alone. Source: Suzuki (2019), Proposition 1.

    >>> net = relu_sum(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0]), jnp.zeros((2, 1)), 1, 0.1)
    >>> evaluate_sum(net, jnp.array([[0.5]])).tolist()
    [2.5]
    """
    sizes = (weights.shape[0], scales.shape[0], shifts.shape[0])
    require(min(sizes) == max(sizes) >= 1, "weights", sizes, "be one a scale and a shift, at least one", "match them")
    alike = scales.shape[1:] in ((), shifts.shape[1:])
    require(alike, "scales", scales.shape, f"be one a term, or {shifts.shape}", "give one, or one for each axis")
    return SplineSum(relu_network(order, accuracy, shifts.shape[1]), scales, shifts, weights)


@boundary
@jax.jit
def evaluate_sum(net: SplineSum, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The sum at n points, block by block through the ReLU layers, in the dtype of x.

    Raises:
        ValueError: points of another dimension than the splines.

    Cost: terms · n · Σ d_in d_out of a block; memory n times the block's width, in reverse mode too.

    >>> net = relu_sum(jnp.array([2.0]), jnp.ones(1), jnp.zeros((1, 1)), 1, 0.1)
    >>> evaluate_sum(net, jnp.array([[1.0]])).tolist()
    [2.0]
    """
    dim = net.shifts.shape[1]
    require(x.shape[1] == dim, "x", x.shape, f"have {dim} columns, as shifts", "pass points as rows")

    @jax.checkpoint
    def add(total: Array, term: tuple[Array, Array, Array]) -> tuple[Array, None]:
        scale, shift, weight = term
        return total + weight * rn.evaluate(net.block, scale[None, :] * x - shift[None, :])[:, 0], None

    scales = jnp.broadcast_to(jnp.reshape(net.scales, (len(net.shifts), -1)), net.shifts.shape)
    terms = jax.tree.map(lambda part: jnp.asarray(part, x.dtype), (scales, net.shifts, net.weights))
    return jax.lax.scan(add, jnp.zeros_like(x[:, 0]), terms)[0]


@boundary
def as_network(net: SplineSum) -> rn.Network:
    """The sum as one list of (W, b), block-diagonal: N² times the memory of a block.

    Raises:
        ValueError: terms that are traced or not finite.

    >>> net = relu_sum(jnp.ones(2), jnp.ones(2), jnp.array([[0.0], [1.0]]), 1, 0.1)
    >>> rn.audit(as_network(net)) == audit_sum(net)
    True
    """
    terms = zip(*_known_terms(net), strict=True)
    blocks = [rn.compose(rn.affine(np.diag(s), -k), net.block, rn.affine([[c]])) for s, k, c in terms]
    return rn.compose(rn.parallel(blocks), rn.affine(np.ones((len(blocks), 1))))


@boundary
def audit_sum(net: SplineSum) -> rn.Audit:
    """Depth, width, neurons, nonzeros and largest weight of `as_network(net)`, counted without writing it out.

    Raises:
        ValueError: terms that are traced or not finite. Cost: N times the first and last layers of a block.

    >>> audit_sum(relu_sum(jnp.array([2.0]), jnp.ones(1), jnp.zeros((1, 1)), 1, 0.1)).neurons
    3
    """
    scales, shifts, weights = _known_terms(net)
    block, terms = rn.audit(net.block), len(weights)
    first, last = net.block[0], net.block[-1]
    biases = np.asarray(first.bias)[None, :] - shifts @ np.asarray(first.weight)
    outer = np.multiply.outer(weights, np.asarray(last.weight))
    bias = float(weights.sum() * np.asarray(last.bias)[0])
    ends = [*first, *last]
    inner = terms * (block.nonzeros - sum(np.count_nonzero(part) for part in ends))
    entries = [scales[:, :, None] * np.asarray(first.weight)[None], biases, outer, np.array([bias])]
    middle = [np.asarray(part) for layer in net.block[1:-1] for part in layer]
    largest = max(float(np.abs(part).max()) for part in [*entries, *middle])
    nonzeros = int(inner) + sum(int(np.count_nonzero(part)) for part in entries)
    return rn.Audit(block.depth, terms * block.width, terms * block.neurons, nonzeros, largest)


def _known_terms(net: SplineSum) -> list[np.ndarray]:
    """Scales, for each axis, shifts and weights on the host."""
    parts = [host_numbers("net", part) for part in (net.scales, net.shifts, net.weights)]
    parts[0] = np.broadcast_to(np.reshape(parts[0], (len(parts[1]), -1)), np.shape(parts[1]))
    require(all(np.isfinite(part).all() for part in parts), "net", "NaN or infinity", "be finite", "check its weights")
    return parts
