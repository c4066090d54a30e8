r"""Wasserstein distances between clouds. Every function gives the p-th power W_p^p (p = 2 unless said), in cost units.

Powers and not roots: it is powers that average without bias, decompose along axes, and are smooth at zero. Measures are
arrays [n, d] ([n] on the line), pytrees with one leading axis, or a `Cloud` with weights.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory.checks import boundary, constrain, known, require
from jaxtheory.guarded import power_of_two
from jaxtheory.meanfield import psd
from jaxtheory.meanfield.cloud import Cloud, central_moments, weighted_sum
from jaxtheory.meanfield.costs import (
    Estimate,
    Transport,
    both,
    distance_power,
    estimate,
    points_of,
    power,
    squared_distances,
    uniform,
    vanished,
)
from jaxtheory.meanfield.entropic import sinkhorn
from jaxtheory.meanfield.matching import certified, exact, matched_cost
from jaxtheory.results import Slope, Status, fit_slope, standard_error

__all__ = [
    "Estimate",
    "Rate",
    "Transport",
    "bures",
    "certified",
    "empirical_rate",
    "exact",
    "gaussian_w2",
    "sinkhorn",
    "sliced",
    "squared_distances",
    "w1d",
]

Number = float | Float[Array, ""]


class Rate(NamedTuple):
    """(E W_p^p)^(1/p) between two samples of each size, with standard errors, and the fitted power law."""

    distance: Float[Array, " sizes"]
    standard_error: Float[Array, " sizes"]
    slope: Slope


@boundary
def w1d(
    x: Cloud | PyTree,
    y: Cloud | PyTree,
    p: Number = 2.0,
    *,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
) -> Float[Array, ""]:
    r"""Exact W_p^p on the line: ∫₀¹ |F_x⁻¹(u) − F_y⁻¹(u)|^p du, any p ≥ 1, weighted samples of any sizes.

    Args:
        x, y: samples [n] or [n, 1], or clouds of them. p: ≥ 1. x_weights, y_weights: ≥ 0, normalized here; equal by
            default.

    Raises:
        ValueError: p < 1 (the sorted coupling is then not optimal; NaN inside `jit`), negative weights (NaN inside
            `jit`), weights of another length, points not on a line.

    Differentiable in samples, weights and p, where no two cumulative weights of x and y coincide for the weights; the
    second derivative at coincident points is infinite for 1 < p < 2, and given as 0.
    Cost: O((n + m) log(n + m)). Source: Villani (2003), theorem 2.18.

    >>> f"{w1d(jnp.array([0.0, 1.0]), jnp.array([3.0, 2.0])):.1f}"
    '4.0'
    """
    x, y, a, b = both(x, y, x_weights, y_weights)
    require(x.shape[1] == 1, "x", x.shape, "be numbers on the line, [n]", "use exact() or sliced() for clouds")
    return _w1d(x[:, 0], y[:, 0], jnp.asarray(_sorting_order(p), x.dtype), a, b)


def _sorting_order(p: Any) -> Any:
    return constrain(
        "p", p, lambda v: (v >= 1) & (v < np.inf), "be >= 1, where sorting is optimal", "use p=1.0 or p=2.0"
    )


@jax.jit
def _w1d(x: Array, y: Array, p: Array, a: Array | None, b: Array | None) -> Array:
    if a is None and b is None and len(x) == len(y):
        return distance_power((jnp.sort(x) - jnp.sort(y))[:, None], p).mean()
    (x, x_edges), (y, y_edges) = _quantiles(x, a), _quantiles(y, b)
    edges = jnp.sort(jnp.concatenate([x_edges, y_edges]))
    # Quantile functions are constant between the edges: look them up at the middle of each step.
    left = jnp.concatenate([jnp.zeros_like(edges[:1]), edges[:-1]])
    at = (left + edges) / 2
    gaps = x[_index(x_edges, at)] - y[_index(y_edges, at)]
    return weighted_sum(edges - left, distance_power(gaps[:, None], p))


def _quantiles(x: Array, masses: Array | None) -> tuple[Array, Array]:
    order = jnp.argsort(x)
    edges = jnp.cumsum(jnp.ones_like(x) if masses is None else masses[order])
    return x[order], edges / edges[-1]


def _index(edges: Array, at: Array) -> Array:
    return jnp.minimum(jnp.searchsorted(edges, at), len(edges) - 1)


@boundary
def bures(
    mean1: Float[Array, " k"],
    covariance1: Float[Array, "k k"],
    mean2: Float[Array, " k"],
    covariance2: Float[Array, "k k"],
) -> Float[Array, ""]:
    r"""W₂² between Gaussians: |m₁ − m₂|² + tr(A + B − 2 (A^½ B A^½)^½).

    Args:
        mean1, mean2: means. covariance1, covariance2: symmetric positive semidefinite.

    Returns:
        The squared distance, without cancellation where the Gaussians are close; NaN where A or B has an eigenvalue
        below −√eps of the largest, in units in which its diagonal is of order one.

    Raises:
        ValueError: shapes that do not fit, or a matrix that is not symmetric (NaN inside `jit`).

    Differentiable twice, also at repeated and zero eigenvalues along directions that keep the rank; where A is singular
    and B is not on its null space, the derivative in A there is −∞, and that part is given as 0.
    Cost: six decompositions of d × d matrices, about 100 d³ flops.
    Source: Dowson, Landau (1982); Villani (2003), section 4.1; Bhatia, Jain, Lim (2019) for the rotations.

    >>> f"{bures(jnp.zeros(1), jnp.eye(1), jnp.ones(1), 4 * jnp.eye(1)):.1f}"
    '2.0'
    """
    size = len(mean1)
    require(size >= 1, "mean1", mean1.shape, "have at least one component", "pass vectors of one dimension")
    for name, value in (("covariance1", covariance1), ("mean2", mean2), ("covariance2", covariance2)):
        wish = f"fit mean1 of length {size}"
        require(value.shape == (size,) * value.ndim, name, value.shape, wish, "pass [d] means and [d, d] covariances")
    return _bures(mean1, _symmetric("covariance1", covariance1), mean2, _symmetric("covariance2", covariance2))


def _symmetric(name: str, matrix: Array) -> Array:
    def even(a: Any) -> Any:
        with np.errstate(invalid="ignore"):  # ∞ − ∞ is not symmetric
            return abs(a - a.T) <= 1e-3 * abs(a).max(initial=0)

    return constrain(name, matrix, even, "be symmetric and finite", "pass (A + A.T) / 2")


@jax.jit
def _bures(mean1: Array, a: Array, mean2: Array, b: Array) -> Array:
    unit = power_of_two(jnp.stack([a, b]))
    return distance_power(mean1 - mean2, jnp.full((), 2, a.dtype)) + unit * psd.gap(a / unit, b / unit)


@boundary
def gaussian_w2(x: Cloud | PyTree, mean: Float[Array, " k"], covariance: Float[Array, "k k"]) -> Float[Array, ""]:
    """W₂² between the Gaussian of a cloud's first two moments and a given one: a lower bound of the cloud's own W₂².

    Args:
        x: points, an array [n, d], a pytree or a `Cloud` with weights. mean, covariance: of the Gaussian.

    Raises:
        ValueError: as `bures`; a mean of another dimension than the points.

    Cost: n d² flops and that of `bures`, whose derivatives it has. Source: Gelbrich (1990), theorem 2.1.

    >>> f"{gaussian_w2(jnp.array([[-1.0], [1.0]]), jnp.zeros(1), 4 * jnp.eye(1)):.1f}"
    '1.0'
    """
    points, masses = points_of("x", x)
    shape = mean.shape
    require(shape == points.shape[1:], "mean", shape, f"have the {points.shape[1]} components of x", "pass one of each")
    weights = uniform(len(points), points.dtype) if masses is None else masses
    center, spread = jax.jit(central_moments)(Cloud(points, weights))
    return bures(center, spread, mean, covariance)


@boundary(static=("projections",))
def sliced(
    x: Cloud | PyTree,
    y: Cloud | PyTree,
    key: Key[Array, ""],
    *,
    p: Number = 2.0,
    projections: int = 128,
) -> Estimate:
    r"""Sliced W_p^p: the mean of the exact one-dimensional W_p^p over uniform random directions.

    Args:
        x, y: samples, as arrays [n, d], pytrees or clouds with weights. key: of the directions. p: ≥ 1.
        projections: ≥ 2.

    Returns:
        The mean over directions, its standard error, and a status: NOT_FINITE, or ILL_CONDITIONED where the mean is
        too small for its dtype.

    Raises:
        ValueError: p < 1 (NaN inside `jit`), projections < 2, points of different dimensions.

    Cost: projections · (n + m)(d + log(n + m)), one projection at a time. Source: Bonneel et al. (2015).

    >>> f"{sliced(jnp.zeros((3, 1)), jnp.ones((3, 1)), jax.random.key(0)).value:.1f}"
    '1.0'
    """
    require(projections >= 2, "projections", projections, "be >= 2 for a standard error", "use 128")
    x, y, a, b = both(x, y)
    return _sliced(x, y, key, jnp.asarray(_sorting_order(p), x.dtype), a, b, projections)


@partial(jax.jit, static_argnums=6)
def _sliced(x: Array, y: Array, key: Array, p: Array, a: Any, b: Any, projections: int) -> Estimate:
    unit = power_of_two(jnp.concatenate([x, y]))
    center = jax.lax.stop_gradient(
        (x / unit).mean(0, keepdims=True)
    )  # a common one, so that products keep their digits
    x, y = x / unit - center, y / unit - center
    draws = jax.random.normal(key, (projections, x.shape[1]), x.dtype)
    directions = draws / jnp.linalg.norm(draws, axis=1, keepdims=True)
    dot = partial(jnp.dot, precision="highest")
    found = jax.lax.map(lambda u: _w1d(dot(x, u), dot(y, u), p, a, b), directions)
    scale = power(unit, p)
    mean, error = found.mean(), standard_error(found)
    return estimate(mean * scale, error * scale, vanished(mean * scale, mean > 0))


@boundary(static=("dimension", "repeats"))
def empirical_rate(
    dimension: int,
    sizes: Sequence[int],
    key: Key[Array, ""],
    *,
    p: Number = 1.0,
    repeats: int = 16,
    sample: Callable[[Any, tuple[int, int]], Array] = jax.random.uniform,
) -> Rate:
    r"""The law (E W_p^p)^(1/p) ~ n^(−1/d) between two independent samples of n points, measured by exact matching.

    In theory −1/d for d > 2p and −1/(2p) below (for smooth densities −1/2 in d = 1, −1/2 with a logarithm in d = 2).

    Args:
        dimension: d. sizes: n, at least three. key: of the samples. p: ≥ 1. repeats: independent pairs, ≥ 2.
        sample: draws (key, (n, d)); uniform on the cube by default.

    Returns:
        `Rate`, standard errors by the delta method; the slope is weighted by them. NaN where a matching is not OK.

    Raises:
        ValueError: d < 1, fewer than three sizes or one below 1, p < 1, repeats < 2.

    Cost: repeats · Σ n³, or n log n in d = 1.
    Source: Fournier, Guillin (2015), theorem 1; Ajtai, Komlós, Tusnády (1984).

    >>> rate = empirical_rate(1, (10, 40, 160), jax.random.key(0), p=2.0, repeats=400)
    >>> bool(abs(rate.slope.slope + 0.49) < 4 * rate.slope.standard_error)
    True
    """
    require(dimension >= 1, "dimension", dimension, "be >= 1", "use dimension=1 for the line")
    require(repeats >= 2, "repeats", repeats, "be >= 2 for a standard error", "use 16")
    require(known(sizes) and len(sizes) >= 3, "sizes", sizes, "hold at least three numbers", "use e.g. (32, 64, 128)")
    counts = [int(n) for n in np.asarray(sizes)]
    require(min(counts) >= 1, "sizes", sizes, "be >= 1", "use e.g. (32, 64, 128)")
    order = jnp.asarray(_sorting_order(p), float)
    keys = {n: jax.random.fold_in(key, n) for n in counts}
    costs = jnp.stack([_matching_costs(dimension, n, keys[n], order, repeats, sample) for n in counts])
    order = order.astype(costs.dtype)
    mean, error = costs.mean(1), standard_error(costs, axis=1)
    distance = mean ** (1 / order)
    errors = error * distance / (order * mean)
    return Rate(distance, errors, fit_slope(jnp.asarray(counts, distance.dtype), distance, errors))


@partial(jax.jit, static_argnums=(0, 1, 4, 5))
def _matching_costs(dimension: int, n: int, key: Array, p: Array, repeats: int, sample: Any) -> Array:
    def cost(one: Array) -> Array:
        first, second = (sample(k, (n, dimension)) for k in jax.random.split(one))
        order = p.astype(first.dtype)
        if dimension == 1:
            return _w1d(first[:, 0], second[:, 0], order, None, None)
        found = matched_cost(first, second, order, jnp.array(True))
        return jnp.where(found.status == Status.OK, found.cost, jnp.nan)

    return jax.lax.map(cost, jax.random.split(key, repeats))
