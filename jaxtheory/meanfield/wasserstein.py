r"""Wasserstein distances between clouds. Every function gives the p-th power W_p^p (p = 2 unless said), in cost units.

Powers and not roots: it is powers that average without bias, decompose along axes, and are smooth at zero.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxtheory.checks import holds, require
from jaxtheory.results import Slope, Status, fit_slope, standard_error, status_where


class Transport(NamedTuple):
    """A transport cost, and how far the answer is from an optimal plan, recomputed from what the solver returned."""

    cost: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]


class Estimate(NamedTuple):
    """A mean over random draws and its standard error."""

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]


class Rate(NamedTuple):
    """(E W_p^p)^(1/p) between two samples of each size, with standard errors, and the fitted power law."""

    distance: Float[Array, " sizes"]
    standard_error: Float[Array, " sizes"]
    slope: Slope


def w1d(
    x: Float[Array, " n"],
    y: Float[Array, " m"],
    p: float = 2.0,
    *,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
) -> Float[Array, ""]:
    r"""Exact W_p^p on the line: ∫₀¹ |F_x⁻¹(u) − F_y⁻¹(u)|^p du, any p ≥ 1, weighted samples of any sizes.

    Args:
        x, y: samples. p: ≥ 1. x_weights, y_weights: ≥ 0, normalized here; equal by default.

    Raises:
        ValueError: p < 1 (the sorted coupling is then not optimal), negative weights, points not on a line.

    Cost: O((n + m) log(n + m)). Source: Villani (2003), theorem 2.18.

    >>> f"{w1d(jnp.array([0.0, 1.0]), jnp.array([3.0, 2.0])):.1f}"
    '4.0'
    """
    require(p >= 1, "p", p, "be >= 1, where sorting is optimal", "use exact() for a concave cost")
    for name, points in (("x", x), ("y", y)):
        require(points.ndim == 1, name, points.shape, "be numbers on the line, [n]", "use exact() for clouds")
    for name, weights in (("x_weights", x_weights), ("y_weights", y_weights)):
        good = weights is None or holds(lambda w: w >= 0, weights)
        require(good, name, weights, "be >= 0", "a measure has no negative mass")
    return _w1d(x, y, p, x_weights, y_weights)


@partial(jax.jit, static_argnums=2)
def _w1d(x: Array, y: Array, p: float, x_weights: Array | None, y_weights: Array | None) -> Array:
    if x_weights is None and y_weights is None and len(x) == len(y):
        return (jnp.abs(jnp.sort(x) - jnp.sort(y)) ** p).mean()
    (x, x_edges), (y, y_edges) = _quantiles(x, x_weights), _quantiles(y, y_weights)
    edges = jnp.sort(jnp.concatenate([x_edges, y_edges]))
    # Quantile functions are constant between the edges: look them up at the middle of each step.
    left = jnp.concatenate([jnp.zeros_like(edges[:1]), edges[:-1]])
    at = (left + edges) / 2
    gaps = x[_index(x_edges, at)] - y[_index(y_edges, at)]
    return jnp.dot(edges - left, jnp.abs(gaps) ** p, precision="highest")


def _quantiles(x: Array, weights: Array | None) -> tuple[Array, Array]:
    order = jnp.argsort(x)
    mass = jnp.ones_like(x) if weights is None else weights[order]
    edges = jnp.cumsum(mass)
    return x[order], edges / edges[-1]


def _index(edges: Array, at: Array) -> Array:
    return jnp.minimum(jnp.searchsorted(edges, at), len(edges) - 1)


@jax.jit
def bures(
    mean1: Float[Array, " d"],
    covariance1: Float[Array, "d d"],
    mean2: Float[Array, " d"],
    covariance2: Float[Array, "d d"],
) -> Float[Array, ""]:
    r"""W₂² between Gaussians: |m₁ − m₂|² + tr(A + B − 2 (A^½ B A^½)^½).

    Args:
        mean1, mean2: means. covariance1, covariance2: positive semidefinite.

    Returns:
        The squared distance; NaN where A or B has an eigenvalue below −√eps of its largest.

    Cost: two eigendecompositions, 20 d³ flops. Source: Dowson, Landau (1982); Villani (2003), section 4.1.

    >>> f"{bures(jnp.zeros(1), jnp.eye(1), jnp.ones(1), 4 * jnp.eye(1)):.1f}"
    '2.0'
    """
    root = _root(covariance1)
    cross = jnp.linalg.multi_dot([root, covariance2, root], precision="highest")
    overlap = jnp.trace(_root(cross))
    return ((mean1 - mean2) ** 2).sum() + jnp.trace(covariance1) + jnp.trace(covariance2) - 2 * overlap


def _root(matrix: Array) -> Array:
    values, vectors = jnp.linalg.eigh(matrix)
    floor = -jnp.sqrt(jnp.finfo(matrix.dtype).eps) * jnp.abs(values).max()
    root = jnp.where(values < floor, jnp.nan, jnp.sqrt(jnp.maximum(values, 0.0)))
    return jnp.matmul(vectors * root[None], vectors.T, precision="highest")


def gaussian_w2(x: Float[Array, "n d"], mean: Float[Array, " d"], covariance: Float[Array, "d d"]) -> Float[Array, ""]:
    """W₂² between the Gaussian of a cloud's first two moments and a given one: a lower bound of the cloud's own W₂².

    Source: Gelbrich (1990), theorem 2.1.

    >>> f"{gaussian_w2(jnp.array([[-1.0], [1.0]]), jnp.zeros(1), 4 * jnp.eye(1)):.1f}"
    '1.0'
    """
    centered = x - x.mean(0, keepdims=True)
    return bures(x.mean(0), jnp.matmul(centered.T, centered, precision="highest") / len(x), mean, covariance)


def sliced(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    key: PRNGKeyArray,
    *,
    p: float = 2.0,
    projections: int = 128,
) -> Estimate:
    r"""Sliced W_p^p: the mean of the exact one-dimensional W_p^p over uniform random directions.

    Args:
        x, y: samples. key: of the directions. p: ≥ 1. projections: ≥ 2.

    Returns:
        The mean over directions and its standard error.

    Cost: projections · (n + m)(d + log(n + m)), one projection at a time. Source: Bonneel et al. (2015).

    >>> f"{sliced(jnp.zeros((3, 1)), jnp.ones((3, 1)), jax.random.key(0)).value:.1f}"
    '1.0'
    """
    require(projections >= 2, "projections", projections, "be >= 2 for a standard error", "use 128")
    require(p >= 1, "p", p, "be >= 1, where sorting is optimal", "use p=1.0 or p=2.0")
    return _sliced(x, y, key, p, projections)


@partial(jax.jit, static_argnums=(3, 4))
def _sliced(x: Array, y: Array, key: PRNGKeyArray, p: float, projections: int) -> Estimate:
    draws = jax.random.normal(key, (projections, x.shape[1]), x.dtype)
    directions = draws / jnp.linalg.norm(draws, axis=1, keepdims=True)
    dot = partial(jnp.dot, precision="highest")
    costs = jax.lax.map(lambda u: _w1d(dot(x, u), dot(y, u), p, None, None), directions)
    return Estimate(costs.mean(), standard_error(costs))


def sinkhorn(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    *,
    epsilon: float,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 2000,
) -> Transport:
    r"""Sinkhorn divergence S_ε(x, y) = OT_ε(x, y) − (OT_ε(x, x) + OT_ε(y, y))/2 for the cost |x − y|².

        OT_ε(a, b) = min_P ⟨P, C⟩ + ε KL(P ‖ a ⊗ b)

    S_ε → W₂² as ε → 0 and is 0 at x = y for every ε; the bias is O(ε²).

    Args:
        x, y: samples. epsilon: ε > 0, in units of the cost. x_weights, y_weights: normalized, equal by default.
        tolerance: largest ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ of an answer that passes. max_iterations: of each of three solves.

    Returns:
        `Transport`; residual is the largest of the three marginal errors, recomputed from the potentials, and status
        NOT_CONVERGED where it exceeds `tolerance`.

    Raises:
        ValueError: ε ≤ 0.

    Cost: 3 solves of n m flops an iteration, n m memory. Source: Feydy et al. (2019); the solver is ott-jax's.
    """
    require(epsilon > 0, "epsilon", epsilon, "be > 0", "use exact() for the unregularized cost")
    a = jnp.full(len(x), 1 / len(x), x.dtype) if x_weights is None else x_weights / x_weights.sum()
    b = jnp.full(len(y), 1 / len(y), y.dtype) if y_weights is None else y_weights / y_weights.sum()
    return _sinkhorn(x, y, a, b, epsilon, tolerance, max_iterations)


@partial(jax.jit, static_argnums=(4, 5, 6))
def _sinkhorn(x: Array, y: Array, a: Array, b: Array, epsilon: float, tolerance: float, iterations: int) -> Transport:
    solve = partial(_entropic, epsilon=epsilon, tolerance=tolerance, iterations=iterations)
    (cross, r1), (left, r2), (right, r3) = solve(x, y, a, b), solve(x, x, a, a), solve(y, y, b, b)
    cost, residual = cross - (left + right) / 2, jnp.maximum(r1, jnp.maximum(r2, r3))
    return Transport(cost, residual, _judged(cost, residual, tolerance))


def _judged(cost: Array, residual: Array, tolerance: float | Array) -> Array:
    lost = ~(jnp.isfinite(cost) & jnp.isfinite(residual))
    return status_where((lost, Status.NOT_FINITE), (residual > tolerance, Status.NOT_CONVERGED))


def _entropic(
    x: Array, y: Array, a: Array, b: Array, *, epsilon: float, tolerance: float, iterations: int
) -> tuple[Array, Array]:
    """OT_ε by its dual at ott-jax's potentials, and the marginal error of their plan."""
    from ott.geometry import pointcloud  # a second to import, and only this needs it
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn as solver

    relaxed = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")  # ott-jax mixes both
    with relaxed[0], relaxed[1], jax.default_matmul_precision("highest"):
        problem = linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=epsilon), a=a, b=b)
        # Half: ott-jax looks at one marginal, after an update that makes the other exact.
        out = solver.Sinkhorn(threshold=tolerance / 2, max_iterations=iterations)(problem)
    exponent = (out.f[:, None] + out.g[None, :] - squared_distances(x, y)) / epsilon
    rows, columns = jnp.exp(exponent).sum(1), jnp.exp(exponent).sum(0)
    residual = jnp.abs(rows - a).sum() + jnp.abs(columns - b).sum()
    # ott-jax's potentials hold ε log a and ε log b.
    value = _dual(a, out.f, epsilon) + _dual(b, out.g, epsilon) - epsilon * (rows.sum() - 1)
    return value, residual


def _dual(mass: Array, potential: Array, epsilon: float) -> Array:
    present = mass > 0
    relative = jnp.where(present, potential - epsilon * jnp.log(jnp.where(present, mass, 1.0)), 0.0)
    return jnp.dot(mass, relative, precision="highest")


def squared_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """|x_i − y_j|², by differences where d is small and by products, clipped at 0, where it is not.

    >>> squared_distances(jnp.array([[0.0]]), jnp.array([[2.0]]))
    Array([[4.]], dtype=float32)
    """
    if x.shape[1] <= 8:
        return sum(
            ((x[:, k, None] - y[None, :, k]) ** 2 for k in range(1, x.shape[1])), (x[:, :1] - y[None, :, 0]) ** 2
        )
    product = jnp.matmul(x, y.T, precision="highest")
    return jnp.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * product, 0.0)


def exact(x: Float[Array, "n d"], y: Float[Array, "n d"], p: float = 2.0) -> Transport:
    r"""Exact W_p^p between two clouds of n equal weights, by the Hungarian algorithm, certified by a dual.

    Args:
        x, y: n points each. p: > 0, of the Euclidean distance.

    Returns:
        `Transport`; residual is the duality gap, primal − dual at potentials that are feasible by construction, over
        the mean cost, recomputed from the assignment alone; status NOT_CONVERGED where it exceeds 100 √n eps.

    Raises:
        ValueError: clouds of different sizes.

    Cost: O(n³) sequential: .03 s at n = 256, .2 s at 512 on one CPU core; n² memory.
    Source: Kuhn (1955); through ott-jax. Duality: Villani (2003), theorem 1.3.

    >>> f"{exact(jnp.array([[0.0], [1.0]]), jnp.array([[3.0], [2.0]])).cost:.1f}"
    '4.0'
    """
    require(x.shape == y.shape, "y", y.shape, f"have the shape of x, {x.shape}", "use sinkhorn() for other sizes")
    require(p > 0, "p", p, "be > 0", "use p=1.0 or p=2.0")
    return _exact(x, y, p)


@partial(jax.jit, static_argnums=2)
def _exact(x: Array, y: Array, p: float) -> Transport:
    from ott.geometry import geometry
    from ott.tools import unreg

    squares = squared_distances(x, y)
    costs = squares if p == 2 else squares ** (p / 2)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # ott-jax mixes both
        _, out = unreg.hungarian(geometry.Geometry(cost_matrix=costs))
    rows, columns = out.paired_indices
    return certified(costs, jnp.zeros_like(columns).at[rows].set(columns))


def certified(costs: Float[Array, "n n"], partners: Int[Array, " n"]) -> Transport:
    r"""The mean cost of an assignment, with the gap to a dual bound found from the assignment alone.

    Shortest paths in the graph of exchanges (Bellman-Ford) give potentials v; u_i = min_j (c_ij − v_j) makes the pair
    feasible, so the mean of u + v bounds every assignment from below, whatever the paths did.

    Cost: at most n rounds of n² operations.

    >>> certified(jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([1, 0])).status == Status.NOT_CONVERGED
    Array(True, dtype=bool)
    """
    count = len(costs)
    matched = costs[:, partners]  # column k is now the partner of row k
    own = jnp.diagonal(matched)

    def shorter(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        v, _, rounds = state
        u = (own - v)[:, None]  # tight on matched pairs
        better = jnp.minimum(v, (matched - u).min(0))
        return better, (better < v).any(), rounds + 1

    start = (jnp.zeros_like(own), own[0] == own[0], jnp.int32(0))
    v, _, _ = jax.lax.while_loop(lambda state: state[1] & (state[2] < count), shorter, start)
    dual = ((matched - v[None]).min(1) + v).mean()
    cost = own.mean()
    residual = (cost - dual) / jnp.maximum(costs.mean(), jnp.finfo(costs.dtype).tiny)
    # A permutation, or no assignment at all.
    permutation = (jnp.zeros(count, jnp.int32).at[partners].add(1) == 1).all()
    residual = jnp.where(permutation, jnp.abs(residual), jnp.inf)
    return Transport(cost, residual, _judged(cost, residual, 100 * count**0.5 * float(jnp.finfo(costs.dtype).eps)))


def empirical_rate(
    dimension: int,
    sizes: Sequence[int],
    key: PRNGKeyArray,
    *,
    p: float = 1.0,
    repeats: int = 16,
    sample: Callable[[PRNGKeyArray, tuple[int, int]], Array] = jax.random.uniform,
) -> Rate:
    r"""The law (E W_p^p)^(1/p) ~ n^(−1/d) between two independent samples of n points, measured by exact matching.

    In theory −1/d for d > 2p and −1/(2p) below (for smooth densities −1/2 in d = 1, −1/2 with a logarithm in d = 2).

    Args:
        dimension: d. sizes: n, at least three. key: of the samples. p: ≥ 1. repeats: independent pairs, ≥ 2.
        sample: draws (key, (n, d)); uniform on the cube by default.

    Returns:
        `Rate`, standard errors by the delta method; the slope is weighted by them.

    Cost: repeats · Σ n³, or n log n in d = 1.
    Source: Fournier, Guillin (2015), theorem 1; Ajtai, Komlós, Tusnády (1984).
    """
    require(dimension >= 1, "dimension", dimension, "be >= 1", "points have coordinates")
    require(repeats >= 2, "repeats", repeats, "be >= 2 for a standard error", "use 16")
    costs = jnp.stack([_matching_costs(dimension, n, jax.random.fold_in(key, n), p, repeats, sample) for n in sizes])
    mean, error = costs.mean(1), standard_error(costs, axis=1)
    distance = mean ** (1 / p)
    errors = error * distance / (p * mean)
    return Rate(distance, errors, fit_slope(jnp.asarray(np.asarray(sizes), distance.dtype), distance, errors))


@partial(jax.jit, static_argnums=(0, 1, 3, 4, 5))
def _matching_costs(dimension: int, n: int, key: PRNGKeyArray, p: float, repeats: int, sample: Any) -> Array:
    def cost(one: PRNGKeyArray) -> Array:
        first, second = (sample(k, (n, dimension)) for k in jax.random.split(one))
        return _w1d(first[:, 0], second[:, 0], p, None, None) if dimension == 1 else _exact(first, second, p).cost

    return jax.lax.map(cost, jax.random.split(key, repeats))
