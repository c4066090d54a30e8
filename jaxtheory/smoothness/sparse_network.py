r"""Sparse-grid interpolants as explicit ReLU networks: tensor hats with a scale for each axis, and few of them.

    Σ_{|j|_1 < n} Σ_k s_{jk} M(2^{j_1 + 1} x_1 − 2k_1, …, 2^{j_d + 1} x_d − 2k_d),

M one network within an accuracy of the tensor hat N_1 ⊗ … ⊗ N_1 and 0 off its support. For mixed smoothness s, and
blocks that add in L² as 2^{−s|j|_1} does, such networks of N terms err by N^{−s} (log N)^{(d−1)(s + 1/2)}.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, host_numbers, require
from jaxtheory.expressivity import relu_network as rn
from jaxtheory.smoothness import bspline_networks, sparse_grid
from jaxtheory.smoothness.bspline_networks import SplineSum
from jaxtheory.smoothness.dyadic_cells import locate, numbers
from jaxtheory.smoothness.sparse_grid import SparseInterpolant


class SparseNetwork(NamedTuple):
    """The network M of one term, and the interpolant whose surpluses s weigh its copies."""

    block: rn.Network
    interpolant: SparseInterpolant


@boundary(static=("accuracy",))
def from_grid(interpolant: SparseInterpolant, accuracy: float) -> SparseNetwork:
    r"""The ReLU network of a sparse-grid interpolant, each term within `accuracy` of its tensor hat.

    At a point one term of each level vector j is not 0: the network is within accuracy · Σ_j max_k |s_jk| of the
    interpolant.

    Args:
        interpolant: of `sparse_grid.interpolate`.
        accuracy: 0 < ε < 1, of a term, in the sup norm.

    Returns:
        `SparseNetwork`, for `evaluate`, and by `as_sum` for `bspline.audit_sum` and `bspline.as_network`.

    Raises:
        ValueError: an accuracy outside (0, 1). Cost: that of one term.

    Source: Yarotsky (2017), section 3, for products; Suzuki (2019), section 3.2, for sums of tensor splines.

    >>> from jaxtheory.smoothness import sparse_grid
    >>> grid = sparse_grid.interpolate(lambda x: 4 * x[:, 0] * (1 - x[:, 0]), 3, 1)
    >>> evaluate(from_grid(grid, 0.1), jnp.array([[0.25], [0.375]])).tolist()
    [0.75, 0.9375]
    """
    return SparseNetwork(bspline_networks.relu_network(1, accuracy, interpolant.levels.shape[1]), interpolant)


@boundary(static=("batch",))
@partial(jax.jit, static_argnames="batch")
def evaluate(net: SparseNetwork, x: Float[Array, "n d"], *, batch: int = 64) -> Float[Array, " n"]:
    """The network at n points through its ReLU layers, without the terms that are exactly 0 at a point.

    Args:
        net: from `from_grid`. x: points; the network is 0 outside the cube. batch: points at once, ≥ 1.

    Raises:
        ValueError: points of another dimension. Cost: n times a term of each level vector j.

    >>> from jaxtheory.smoothness import sparse_grid
    >>> grid = sparse_grid.interpolate(lambda x: jnp.prod(4 * x * (1 - x), axis=1), 3, 2)
    >>> x = jnp.array([[0.5, 0.25]])
    >>> bool(abs(evaluate(from_grid(grid, 1e-3), x) - sparse_grid.evaluate(grid, x))[0] < 3e-3)
    True
    """
    levels, offsets, surpluses = net.interpolant
    weights = jnp.asarray(surpluses, x.dtype)
    require(x.shape[1] == levels.shape[1], "x", x.shape, f"have {levels.shape[1]} columns", "pass points as rows")
    require(batch >= 1, "batch", batch, "be >= 1", "use the default")

    @jax.checkpoint
    def at(point: Array) -> Array:
        index, local = locate(levels, offsets, point)
        return jnp.sum(weights[index] * rn.evaluate(net.block, local)[:, 0])

    return jax.lax.map(at, x, batch_size=batch)


@boundary(static=("level", "dim", "accuracy"))
def count(level: int, dim: int, accuracy: float) -> int:
    r"""Weights and biases that are not 0 in the network of a sparse grid, as `audit_sum` counts, without the grid.

    All terms have those of one, less a bias of the first layer for each k_i = 0: T c − z Σ_i #{k_i = 0}, with T the
    size of the grid, and #{k_i = 0} = Σ_{a<n} 2^a C(d − 2 + a, d − 2)(n − a).

    Args:
        level: n ≥ 1. dim: d ≥ 1. accuracy: 0 < ε < 1, of a term.

    Returns:
        An exact integer, for surpluses none of which is 0.

    Raises:
        ValueError: numbers out of range. Cost: that of one term, and n integers of n bits.

    >>> count(3, 1, 0.1)
    60
    """
    require(level >= 1, "level", level, "be >= 1", "0 is the empty grid")
    total = sparse_grid.size(level, dim)
    block = bspline_networks.relu_network(1, accuracy, dim)
    one = [_single(block, shift, dim) for shift in (0.0, 2.0)]
    faces = [math.comb(dim - 2 + a, a) if dim > 1 else a == 0 for a in range(level)]  # vectors of the other axes
    edges = sum(2**a * face * (level - a) for a, face in enumerate(faces))
    return total * one[1] - (one[1] - one[0]) * edges


def _single(block: rn.Network, shift: float, dim: int) -> int:
    """Nonzero parameters of one term with this shift on all axes."""
    term = SplineSum(block, jnp.full((1, dim), 2.0), jnp.full((1, dim), shift), jnp.ones(1))
    return bspline_networks.audit_sum(term).nonzeros


@boundary
def as_sum(net: SparseNetwork) -> SplineSum:
    """The same network as a list of terms c_i M(2^{j_i + 1} x − 2k_i), one for each point of the grid.

    Raises:
        ValueError: traced surpluses or levels. Cost: 2 d numbers a point of the grid, on the host.

    >>> from jaxtheory.smoothness import sparse_grid
    >>> grid = sparse_grid.interpolate(lambda x: 4 * x[:, 0] * (1 - x[:, 0]), 2, 1)
    >>> as_sum(from_grid(grid, 0.1)).shifts.ravel().tolist()
    [0.0, 0.0, 2.0]
    """
    levels, surpluses = (host_numbers("net", part) for part in (net.interpolant.levels, net.interpolant.surpluses))
    j, k = numbers(levels.astype(int))
    return SplineSum(net.block, *(jnp.asarray(part, float) for part in (2.0 ** (j + 1), 2.0 * k, surpluses)))
