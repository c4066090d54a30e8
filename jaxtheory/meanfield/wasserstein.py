r"""Wasserstein distances between clouds. Every function gives the p-th power W_p^p (p = 2 unless said), in cost units.

Powers and not roots: it is powers that average without bias, decompose along axes, and are smooth at zero. Measures are
arrays [n, d] ([n] on the line), pytrees with one leading axis, or a `Cloud` with weights; `jaxtheory.transport` has the
same distances for arrays.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory import transport
from jaxtheory.checks import boundary, known, require, returned
from jaxtheory.meanfield.cloud import Cloud, central_moments
from jaxtheory.meanfield.costs import both, points_of
from jaxtheory.results import Slope, Status, fit_slope, standard_error
from jaxtheory.transport import Divergence, Entropic, Estimate, Transport, bures, certified, squared_distances
from jaxtheory.transport.costs import Number, uniform
from jaxtheory.transport.entropic import Cost, DivergencePotentials, Potentials
from jaxtheory.transport.line import line_cost, sorting_order
from jaxtheory.transport.matching import matched_cost

__all__ = [
    "Estimate",
    "Rate",
    "Transport",
    "bures",
    "certified",
    "empirical_rate",
    "entropic",
    "exact",
    "gaussian_w2",
    "sinkhorn",
    "sliced",
    "squared_distances",
    "w1d",
]

_PAIRS = 8  # of samples that one program matches


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
    """Exact W_p^p on the line, `transport.w1d` of clouds.

    Args:
        x, y: samples [n] or [n, 1], or clouds of them. p, x_weights, y_weights: as in `transport.w1d`, which says what
            is raised, differentiable, and spent.

    >>> f"{w1d(jnp.array([0.0, 1.0]), jnp.array([3.0, 2.0])):.1f}"
    '4.0'
    """
    x, y, a, b = both(x, y, x_weights, y_weights)
    return transport.w1d(x, y, p, x_weights=a, y_weights=b)


@boundary
def exact(
    x: Cloud | PyTree,
    y: Cloud | PyTree,
    p: Number = 2.0,
    *,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
) -> Transport:
    """Exact W_p^p, `transport.exact` of clouds.

    Args:
        x, y: points, as arrays [n, d], pytrees or clouds with weights. p, x_weights, y_weights: as in
            `transport.exact`, which says what is raised, differentiable, and spent.

    >>> f"{exact(jnp.array([[0.0], [1.0]]), jnp.array([[3.0], [2.0]])).cost:.1f}"
    '4.0'
    """
    x, y, a, b = both(x, y, x_weights, y_weights)
    return transport.exact(x, y, p, x_weights=a, y_weights=b)


@boundary(static=("max_iterations", "block"))
def sinkhorn(
    x: Cloud | PyTree,
    y: Cloud | PyTree,
    *,
    epsilon: Number,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
    tolerance: Number = 1e-3,
    max_iterations: int = 2000,
    p: Number = 2.0,
    cost: Cost | None = None,
    penalty: Number | None = None,
    start: DivergencePotentials | None = None,
    block: int | None = None,
) -> Divergence:
    """Sinkhorn divergence S_ε, `transport.sinkhorn` of clouds.

    Args:
        x, y: points, as arrays [n, d], pytrees or clouds with weights. Others: as in `transport.sinkhorn`, which says
            what is raised, differentiable, and spent.

    >>> found = sinkhorn(jnp.zeros((2, 1)), jnp.ones((2, 1)), epsilon=0.1)
    >>> f"{found.cost:.3f}", int(found.status)
    ('1.000', 0)
    """
    x, y, a, b = both(x, y, x_weights, y_weights)
    return transport.sinkhorn(
        x,
        y,
        epsilon=epsilon,
        p=p,
        cost=cost,
        x_weights=a,
        y_weights=b,
        penalty=penalty,
        start=start,
        tolerance=tolerance,
        max_iterations=max_iterations,
        block=block,
    )


@boundary(static=("max_iterations", "block"))
def entropic(
    x: Cloud | PyTree,
    y: Cloud | PyTree,
    *,
    epsilon: Number,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
    tolerance: Number = 1e-3,
    max_iterations: int = 2000,
    p: Number = 2.0,
    cost: Cost | None = None,
    penalty: Number | None = None,
    start: Potentials | None = None,
    block: int | None = None,
) -> Entropic:
    """Entropic transport cost OT_ε, `transport.entropic` of clouds.

    Args:
        x, y: points, as arrays [n, d], pytrees or clouds with weights. Others: as in `transport.entropic`, which says
            what is raised, differentiable, and spent.

    >>> found = entropic(jnp.zeros((2, 1)), jnp.ones((2, 1)), epsilon=0.1)
    >>> f"{found.cost:.3f}", int(found.status)
    ('1.000', 0)
    """
    x, y, a, b = both(x, y, x_weights, y_weights)
    return transport.entropic(
        x,
        y,
        epsilon=epsilon,
        p=p,
        cost=cost,
        x_weights=a,
        y_weights=b,
        penalty=penalty,
        start=start,
        tolerance=tolerance,
        max_iterations=max_iterations,
        block=block,
    )


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
    """Sliced W_p^p, `transport.sliced` of clouds.

    Args:
        x, y: points, as arrays [n, d], pytrees or clouds with weights. key, p, projections: as in `transport.sliced`,
            which says what is raised and spent.

    >>> f"{sliced(jnp.zeros((3, 1)), jnp.ones((3, 1)), jax.random.key(0)).value:.1f}"
    '1.0'
    """
    x, y, a, b = both(x, y)
    return transport.sliced(x, y, key, p=p, x_weights=a, y_weights=b, projections=projections)


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
        sample: draws (key, (n, d)) as [n, d], or with more columns: points of a d-dimensional set in a larger space.
            Uniform on the cube by default.

    Returns:
        `Rate`, standard errors by the delta method; the slope is weighted by them. NaN where a matching is not OK.

    Raises:
        ValueError: d < 1, fewer than three sizes or one below 1, p < 1, repeats < 2, samples that are not n points of
            at least d numbers.

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
    order = jnp.asarray(sorting_order(p), float)
    pairs = repeats if dimension == 1 else _PAIRS
    keys = _keys(key, tuple(counts), repeats, pairs)
    # in several dimensions one program matches a size's pairs, whatever the dimension and the number of repeats
    costs = [[_matched(_drawn(dimension, n, k, sample), order) for k in keys[i]] for i, n in enumerate(counts)]
    return _rate(costs, tuple(counts), order, repeats)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _keys(key: Array, counts: tuple[int, ...], repeats: int, pairs: int) -> Key[Array, "sizes blocks pairs"]:
    """For each size the keys of all its pairs, in blocks, the last of which begins anew with the first keys."""
    filled = np.arange(-(-repeats // pairs) * pairs) % repeats
    split = jax.vmap(lambda n: jax.random.split(jax.random.fold_in(key, n), repeats)[filled])
    return split(np.array(counts)).reshape(len(counts), -1, pairs)


@partial(jax.jit, static_argnums=(1, 3))
def _rate(blocks: list[list[Array]], counts: tuple[int, ...], p: Array, repeats: int) -> Rate:
    costs = jnp.stack([jnp.concatenate(block)[:repeats] for block in blocks])
    p = p.astype(costs.dtype)
    mean, error = costs.mean(1), standard_error(costs, axis=1)
    distance = mean ** (1 / p)
    errors = error * distance / (p * mean)
    return Rate(distance, errors, fit_slope(jnp.asarray(counts, distance.dtype), distance, errors))


@partial(jax.jit, static_argnums=(0, 1, 3))
def _drawn(dimension: int, n: int, keys: Array, sample: Any) -> Float[Array, "pairs 2 n columns"]:
    """Pairs of samples; columns of zeros, which change no distance, fill eights where there are several."""

    def drawn(key: Array) -> Array:
        points = returned("sample", sample(key, (n, dimension)), (n, ...), whole=float)
        wish = f"return {n} points of at least {dimension} numbers"
        fits = points.ndim == 2 and points.shape[1] >= dimension
        require(fits, "sample", f"shape {list(points.shape)}", wish, "return an array [n, columns]")
        empty = -points.shape[1] % 8 if points.shape[1] > 1 else 0
        return jnp.pad(points, ((0, 0), (0, empty)))

    return jax.lax.map(drawn, jax.vmap(jax.random.split)(keys).ravel()).reshape(len(keys), 2, n, -1)


@jax.jit
def _matched(pairs: Float[Array, "pairs 2 n columns"], p: Array) -> Float[Array, " pairs"]:
    def cost(pair: Array) -> Array:
        order = p.astype(pair.dtype)
        if pair.shape[-1] == 1:
            return line_cost(pair[0, :, 0], pair[1, :, 0], order, None, None)
        found = matched_cost(pair[0], pair[1], order)
        return jnp.where(found.status == Status.OK, found.cost, jnp.nan)

    return jax.lax.map(cost, pairs)
