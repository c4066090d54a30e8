r"""B-splines of any degree, their derivatives and tensor products, and the ReLU networks that realize them.

The cardinal B-spline of order m is N_m = the (m+1)-fold convolution of the indicator of [0, 1]: a piecewise polynomial
of degree m, of m − 1 continuous derivatives, supported on [0, m + 1]. Order and degree are one number here.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, constrain, quantity, require
from jaxtheory.guarded import power_of_two
from jaxtheory.smoothness.bspline_networks import (
    SplineSum,
    as_network,
    audit_sum,
    evaluate_sum,
    relu_network,
    relu_sum,
    suzuki_bound,
)

__all__ = [
    "SplineSum",
    "as_network",
    "audit_sum",
    "basis",
    "cardinal",
    "dictionary",
    "dictionary_size",
    "evaluate",
    "evaluate_sum",
    "evaluate_tensor",
    "relu_network",
    "relu_sum",
    "suzuki_bound",
]


@boundary(static=("degree", "derivative"))
def evaluate(
    x: Float[Array, " n"],
    knots: Float[Array, " knots"],
    coefficients: Float[Array, " splines"],
    degree: int,
    *,
    derivative: int = 0,
) -> Float[Array, " n"]:
    r"""A spline Σ_i c_i B_{i,k}(x), or a derivative of it.

    Args:
        x: points; outside the knots the spline is 0. At a knot where a derivative jumps it is that from the right.
        knots: t_0 ≤ … ≤ t_{K−1}, repeated ones allowed; differentiable where they are distinct.
        coefficients: c, K − k − 1 of them.
        degree: k ≥ 0. derivative: 0 ≤ r.

    Returns:
        [n], as `scipy.interpolate.BSpline(knots, coefficients, degree)` on [t_k, t_{K−k−1}].

    Raises:
        ValueError: too few knots, unsorted knots (outside jit; NaN inside), a negative or traced degree, coefficients
            that do not fit.

    Cost: O(n K k). Source: de Boor (1978), chapter X, equations (5) and (12).

    >>> evaluate(jnp.array([0.5, 1.0, 1.5]), jnp.arange(3.0), jnp.ones(1), 1).tolist()
    [0.5, 1.0, 0.5]
    """
    splines = knots.shape[0] - degree - 1
    wish = f"be {splines} numbers for {knots.shape[0]} knots of degree {degree}"
    require(coefficients.shape[0] == splines, "coefficients", coefficients.shape[0], wish, "match them to the knots")
    return jnp.matmul(basis(x, knots, degree, derivative=derivative), coefficients, precision="highest")


@boundary(static=("degree", "derivative"))
def basis(
    x: Float[Array, " n"], knots: Float[Array, " knots"], degree: int, *, derivative: int = 0
) -> Float[Array, "n splines"]:
    r"""All B-splines of the knots at x, by the recursion of Cox and de Boor.

        B_{i,0} = 1[t_i ≤ x < t_{i+1}],
        B_{i,k} = (x − t_i)/(t_{i+k} − t_i) B_{i,k−1} + (t_{i+k+1} − x)/(t_{i+k+1} − t_{i+1}) B_{i+1,k−1},
        B'_{i,k} = k [B_{i,k−1}/(t_{i+k} − t_i) − B_{i+1,k−1}/(t_{i+k+1} − t_{i+1})],   0/0 = 0.

    The last interval is closed, so that the splines sum to 1 on the whole of [t_k, t_{K−k−1}].

    Args:
        x, knots, degree, derivative: as in `evaluate`.

    Returns:
        [n, K − k − 1], one column a spline.

    Raises:
        ValueError: as `evaluate`. Cost: O(n K k). Source: Cox (1972); de Boor (1972).

    >>> basis(jnp.array([1.5]), jnp.arange(6.0), 2).tolist()
    [[0.75, 0.125, 0.0]]
    """
    require(degree >= 0, "degree", degree, "be >= 0", "use 0 for indicators")
    require(derivative >= 0, "derivative", derivative, "be >= 0", "use 0 for the splines themselves")
    enough = knots.shape[0] >= degree + 2
    require(enough, "knots", knots.shape[0], f"be at least degree + 2 = {degree + 2}", "add knots at the ends")
    sorted_knots = constrain(
        "knots",
        knots,
        lambda t: (t[1:] >= t[:-1]).all() & (abs(t) < np.inf).all(),
        "not decrease, and be finite",
        "sort them",
    )
    return _splines(x, sorted_knots, degree, derivative)


@partial(jax.jit, static_argnames=("degree", "derivative"))
def _splines(x: Array, t: Array, degree: int, derivative: int) -> Array:
    """0 outside the knots, however far, and NaN where x or the knots are."""
    inside = (x >= t[0]) & (x <= t[-1])
    unit = power_of_two(t[-1] - t[0])  # quotients by spans leave the range of the dtype otherwise
    values = _basis(jnp.where(inside, x, t[0]) / unit, t / unit, degree, derivative) / unit**derivative
    known = jnp.where(inside[:, None], values, jnp.zeros_like(values))
    return jnp.where((jnp.isnan(x) | jnp.isnan(t).any())[:, None], jnp.full_like(known, jnp.nan), known)


def _basis(x: Array, t: Array, degree: int, derivative: int) -> Array:
    if degree == 0:
        within = (t[None, :-1] <= x[:, None]) & (x[:, None] < t[None, 1:])
        final = (x[:, None] == t[-1]) & (t[None, 1:] == t[-1]) & (t[None, :-1] < t[-1])
        return jnp.where(derivative > 0, jnp.zeros((), x.dtype), (within | final).astype(x.dtype))
    lower = _basis(x, t, degree - 1, max(derivative - 1, 0))
    spans = (t[degree:] - t[:-degree])[None, :]
    shares = jnp.where(spans > 0, lower / jnp.where(spans > 0, spans, jnp.ones_like(spans)), jnp.zeros_like(lower))
    if derivative:
        return degree * (shares[:, :-1] - shares[:, 1:])
    rising, falling = x[:, None] - t[None, : -degree - 1], t[None, degree + 1 :] - x[:, None]
    return rising * shares[:, :-1] + falling * shares[:, 1:]


@boundary(static=("order",))
def cardinal(x: Float[Array, "n d"], order: int, *, derivative: Sequence[int] | None = None) -> Float[Array, " n"]:
    r"""The cardinal B-spline N_m(x_1) ⋯ N_m(x_d), or a partial derivative of it.

    Args:
        x: points. order: m ≥ 0, the degree. derivative: one order ≥ 0 an axis; none by default.

    Raises:
        ValueError: a negative or traced order, or not one derivative an axis.

    Cost: O(n d m²). Source: Schoenberg (1973).

    >>> f"{cardinal(jnp.array([[2.0, 1.0]]), 3)[0]:.4f}"
    '0.1111'
    """
    orders = (0,) * x.shape[1] if derivative is None else tuple(derivative)
    require(x.shape[1] >= 1, "x", x.shape, "have a coordinate", "pass points as rows")
    fits = len(orders) == x.shape[1]
    require(fits, "derivative", orders, f"name one order for each of {x.shape[1]} axes", "use 0 for no derivative")
    require(order >= 0, "order", order, "be >= 0", "use 0 for indicators")
    return _cardinal(x, order, orders)


@partial(jax.jit, static_argnames=("order", "orders"))
def _cardinal(x: Array, order: int, orders: tuple[int, ...]) -> Array:
    knots = jnp.arange(order + 2, dtype=x.dtype)
    factors = [basis(x[:, i], knots, order, derivative=r)[:, 0] for i, r in enumerate(orders)]
    return jnp.prod(jnp.stack(factors), axis=0)


@boundary(static=("degree",))
def evaluate_tensor(
    x: Float[Array, "n d"], knots: Sequence[Float[Array, " _"]], coefficients: Float[Array, "..."], degree: int
) -> Float[Array, " n"]:
    r"""A tensor-product spline Σ c_{i_1…i_d} B_{i_1}(x_1) ⋯ B_{i_d}(x_d).

    Args:
        x: points. knots: one sequence an axis. coefficients: [splines_1, …, splines_d]. degree: k, of every axis.

    Raises:
        ValueError: axes or numbers of splines that do not match. Cost: O(n Π splines). Source: de Boor (1978),
            chapter XVII.

    >>> knots = (jnp.arange(3.0), jnp.arange(3.0))
    >>> evaluate_tensor(jnp.array([[0.5, 1.0]]), knots, jnp.ones((1, 1)), 1).tolist()
    [0.5]
    """
    given = isinstance(knots, (list, tuple, np.ndarray, jax.Array)) and np.ndim(knots[0] if len(knots) else 0.0) == 1
    require(given, "knots", knots, "be a sequence of knots for each axis", "pass a tuple of arrays")
    dim, sequences = x.shape[1], [jnp.asarray(quantity("knots", t), x.dtype) for t in knots]
    fits = len(sequences) == coefficients.ndim == dim
    require(fits, "knots", len(sequences), f"be one sequence for each of {dim} axes, as coefficients", "pass a tuple")
    splines = tuple(len(t) - degree - 1 for t in sequences)
    wish = f"have shape {splines}, the splines of each axis"
    require(coefficients.shape == splines, "coefficients", coefficients.shape, wish, "match them to the knots")
    value = jnp.broadcast_to(coefficients[None], (x.shape[0], *coefficients.shape))
    for axis, sequence in enumerate(sequences):
        value = jnp.einsum("ni,ni...->n...", basis(x[:, axis], sequence, degree), value, precision="highest")
    return value


@boundary(static=("order", "levels"))
@partial(jax.jit, static_argnames=("order", "levels"))
def dictionary(x: Float[Array, " n"], order: int, levels: int) -> Float[Array, "n atoms"]:
    r"""The B-splines N_m(2^j x − k) whose support meets (0, 1), for j = 0 … levels: an overcomplete dictionary.

    Args:
        x: points of [0, 1]. order: m ≥ 0. levels: the finest j ≥ 0.

    Returns:
        One column an atom, level by level, k = −m … 2^j − 1: Σ_j (2^j + m) columns.

    Raises:
        ValueError: a negative or traced order or number of levels.

    Cost: O(n 2^levels m). Source: DeVore and Popov (1988), section 2.

    >>> dictionary(jnp.array([0.5]), 1, 1).tolist()
    [[0.5, 0.5, 0.0, 1.0, 0.0]]
    """
    require(levels >= 0, "levels", levels, "be >= 0", "use 0 for the coarsest splines alone")
    require(order >= 0, "order", order, "be >= 0", "use 0 for indicators")
    grids = [jnp.arange(-order, 2**j + order + 1, dtype=x.dtype) / 2**j for j in range(levels + 1)]
    return jnp.concatenate([basis(x, knots, order) for knots in grids], axis=1)


@boundary(static=("order", "levels", "dim"))
def dictionary_size(order: int, levels: int, dim: int) -> int:
    r"""Number of tensor-product atoms Π_i N_m(2^j x_i − k_i) that meet (0, 1)^d: Σ_{j ≤ levels} (2^j + m)^d.

    What sparse estimation must prepare before it sees data. It grows as 2^{levels·d}, while the atoms that a target of
    a Besov class needs, and a network finds, do not depend on the grid.

    Args:
        order: m ≥ 0. levels: the finest j ≥ 0. dim: d ≥ 1.

    Raises:
        ValueError: numbers out of range. An exact integer. Source: Suzuki (2019), section 4.1.

    >>> [dictionary_size(3, 5, dim) for dim in (1, 2, 3)]
    [81, 1797, 51597]
    """
    for name, value, least in (("order", order, 0), ("levels", levels, 0), ("dim", dim, 1)):
        require(value >= least, name, value, f"be >= {least}", "pass a larger number")
    return sum((2**j + order) ** dim for j in range(levels + 1))
