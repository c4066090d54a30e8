r"""The hard-margin separator, and gradient descent on the logistic loss that finds it at the speed of a logarithm.

>>> x, y = jnp.array([[1.0, 0.0], [-1.0, 0.0]]), jnp.array([1.0, -1.0])
>>> fit = max_margin(x, y)
>>> f"{fit.margin:.3f} {fit.direction[0]:.3f}"
'1.000 1.000'
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxtheory.checks import holds, known, require
from jaxtheory.results import Status, status_where

_STEPS = 100_000


class Separator(NamedTuple):
    """The direction of largest margin, that margin, the weights of the points, and the duality gap left.

    `status` is `INVALID_INPUT` where the data cannot be separated (margin 0) and `NOT_CONVERGED` where the gap
    between the margin of `direction` and the distance of the hulls stays above round-off.
    """

    direction: Float[Array, " d"]
    margin: Float[Array, ""]
    weights: Float[Array, " n"]
    gap: Float[Array, ""]
    status: Int[Array, ""]


class MarginPath(NamedTuple):
    """Gradient descent on the logistic loss at the recorded steps: distance of w/‖w‖ to the largest-margin direction,
    the part of w across that direction, normalized margin, norm of w, and logarithm of the loss."""

    steps: Int[Array, " records"]
    distance: Float[Array, " records"]
    across: Float[Array, "records d"]
    margin: Float[Array, " records"]
    norm: Float[Array, " records"]
    log_loss: Float[Array, " records"]


def max_margin(x: Float[Array, "n d"], y: Float[Array, " n"]) -> Separator:
    r"""max_{‖w‖=1} min_i y_i⟨w, x_i⟩, without offset, through the shortest vector of the hull of the y_i x_i.

    Its length is the margin, its direction the separator. Solved by Frank-Wolfe steps with away steps, which
    converge geometrically on a polytope.

    Args:
        x: n points.
        y: ±1.

    Returns:
        `Separator`.

    Raises:
        ValueError: labels other than ±1, or data that cannot be separated (outside jit).

    Cost: O(nd) a step, at most 100,000 steps. Source: Gilbert (1966); Lacoste-Julien and Jaggi (2015), Theorem 1.
    """
    require(holds(lambda v: abs(v) == 1, y), "y", y, "hold labels +1 and -1", "map the classes to signs")
    fit = _max_margin(x, jnp.asarray(y, x.dtype))  # labels are often integers
    separable = not known(fit) or int(fit.status) != Status.INVALID_INPUT
    require(separable, "x", f"{len(x)} points", "be separable by their labels y", "add features or an offset column")
    return fit


@jax.jit
def _max_margin(x: Array, y: Array) -> Separator:
    signed = y[:, None] * x
    gram = jnp.matmul(signed, signed.T, precision="highest")
    eps = jnp.finfo(x.dtype).eps
    scale = jnp.diag(gram).max()

    def gap_of(weights: Array) -> tuple[Array, Array, Array]:
        product = jnp.matmul(gram, weights, precision="highest")
        square = jnp.dot(weights, product, precision="highest")
        return product, square, square - product.min()

    def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
        weights, step = state
        product, _, _ = gap_of(weights)
        toward = jnp.argmin(product)
        away = jnp.argmax(jnp.where(weights > 0, product, -jnp.inf))
        # Pairwise: move weight from the worst point that carries some to the best.
        curvature = gram[toward, toward] + gram[away, away] - 2 * gram[toward, away]
        best = (product[away] - product[toward]) / jnp.where(curvature > 0, curvature, 1)
        moved = jnp.clip(best, 0, weights[away])
        return weights.at[toward].add(moved).at[away].add(-moved), step + 1

    def going(state: tuple[Array, Array]) -> Array:
        weights, step = state
        _, _, gap = gap_of(weights)
        return (gap > 8 * eps * scale) & (step < _STEPS)

    start = jnp.where(jnp.arange(len(y)) == 0, jnp.ones_like(y), 0)
    weights, _ = lax.while_loop(going, body, (start, jnp.int32(0)))
    _, square, gap = gap_of(weights)
    vector = jnp.matmul(weights, signed, precision="highest")
    margin = jnp.sqrt(jnp.maximum(square, 0))
    # The hull reaches the origin when no direction has every point on its side.
    inseparable = (jnp.matmul(signed, vector, precision="highest") <= 0).any()
    loose = gap > 100 * eps * scale
    status = status_where((inseparable, Status.INVALID_INPUT), (loose, Status.NOT_CONVERGED))
    return Separator(vector / jnp.where(margin > 0, margin, 1), margin, weights, gap, status)


def limit_across(fit: Separator, x: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, " d"]:
    r"""What gradient descent on the logistic loss keeps across the largest-margin direction ŵ as t → ∞.

    w(t) = ŵ log t / margin + w̃ with exp(−y_i⟨x_i, w̃⟩) ∝ α_i at the support vectors, whose weights in the shortest
    vector of the hull are α_i. So the distance of w/‖w‖ from ŵ is margin · ‖w̃_⊥‖ / log t.

    Args:
        fit: from `max_margin(x, y)`.
        x, y: its data, whose support vectors must span ℝ^d and carry positive weights.

    Returns:
        w̃_⊥, NaN where the support vectors do not span and w̃ depends on the other points.

    Source: Soudry, Hoffer, Nacson, Gunasekar, Srebro (2018), Theorem 4.

    >>> x, y = jnp.array([[1.0, 0.8], [1.0, -0.4]]), jnp.ones(2)
    >>> [f"{value:.4f}" for value in limit_across(max_margin(x, y), x, y)]
    ['0.0000', '0.5776']
    """
    supports = fit.weights > jnp.sqrt(jnp.finfo(x.dtype).eps)
    rows = jnp.where(supports[:, None], y[:, None] * x, 0)
    target = jnp.where(supports, -jnp.log(jnp.where(supports, fit.weights, 1)), 0)
    # One unknown more: the common factor of the proportionality, which moves w̃ along ŵ only.
    system = jnp.concatenate([rows, -supports[:, None].astype(x.dtype)], axis=1)
    solution, _, _, _ = jnp.linalg.lstsq(system, target)
    offset = solution[:-1]
    spans = jnp.linalg.matrix_rank(rows) == x.shape[1]
    return jnp.where(spans, offset - jnp.dot(offset, fit.direction, precision="highest") * fit.direction, jnp.nan)


def margin_path(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    step_size: float | Float[Array, ""],
    doublings: int,
    method: Literal["constant", "normalized"] = "constant",
) -> MarginPath:
    r"""Gradient descent from 0 on L(w) = Σ log(1 + exp(−y_i⟨w, x_i⟩)), recorded at steps 1, 2, 4, …, 2^doublings.

        constant:   w ← w − η ∇L          ‖w/‖w‖ − ŵ‖ = O(1/log t): distance · log t flattens
        normalized: w ← w − η ∇L/L        the margin is reached at the rate of 1/t up to logarithms

    All in logarithms: log L by logaddexp, so that no loss underflows.

    Args:
        x, y: separable data, labels ±1.
        step_size: η; `constant` is stable below 2/λ_max(Σ x_i x_iᵀ / 4).
        doublings: records − 1.
        method: see above.

    Raises:
        ValueError: data that cannot be separated, an unstable or non-positive step size.

    Cost: 2^doublings steps of O(nd). Source: Soudry, Hoffer, Nacson, Gunasekar, Srebro (2018), Theorem 3; normalized:
    Nacson et al. (2019), Theorem 5; Ji and Telgarsky (2021).

    >>> x, y = jnp.array([[1.0, 0.2], [-1.0, 0.3]]), jnp.array([1.0, -1.0])
    >>> path = margin_path(x, y, step_size=1.0, doublings=3)
    >>> path.steps.tolist(), bool(path.margin[-1] > path.margin[0])
    ([1, 2, 4, 8], True)
    """
    best = max_margin(x, y)
    require(holds(lambda v: v > 0, step_size), "step_size", step_size, "be > 0", "descend")
    if method == "constant":
        stable = holds(lambda v, points: v < 8 / np.linalg.norm(points, 2) ** 2, step_size, x)
        require(stable, "step_size", step_size, "be < 2/smoothness = 8/‖X‖²", "take a smaller step")
    require(0 <= doublings <= 30, "doublings", doublings, "be within 0..30", "steps are counted by int32")
    return _margin_path(x, y, best.direction, jnp.asarray(step_size, x.dtype), doublings, method)


@partial(jax.jit, static_argnames=("doublings", "method"))
def _margin_path(x: Array, y: Array, best: Array, step_size: Array, doublings: int, method: str) -> MarginPath:
    signed = y[:, None] * x

    def step(_: Array, w: Array) -> Array:
        scores = jnp.matmul(signed, w, precision="highest")
        log_total = _log_loss(scores) if method == "normalized" else 0
        weight = jnp.exp(jax.nn.log_sigmoid(-scores) - log_total)
        return w + step_size * jnp.matmul(weight, signed, precision="highest")

    def record(w: Array, count: Array) -> tuple[Array, tuple[Array, ...]]:
        w = lax.fori_loop(0, count, step, w)
        norm = jnp.linalg.norm(w)
        scores = jnp.matmul(signed, w, precision="highest")
        across = w - jnp.dot(w, best, precision="highest") * best
        return w, (jnp.linalg.norm(w / norm - best), across, scores.min() / norm, norm, _log_loss(scores))

    steps = 2 ** jnp.arange(doublings + 1, dtype=jnp.int32)
    counts = jnp.diff(steps, prepend=jnp.zeros(1, jnp.int32))
    _, records = lax.scan(record, jnp.zeros_like(x[0]), counts)
    return MarginPath(steps, *records)


def _log_loss(scores: Array) -> Array:
    """log Σ log(1 + e^{−s}); where e^{−s} is below round-off, log(1 + e^{−s}) = e^{−s}."""
    far = scores > 40
    near = jnp.logaddexp(-jnp.where(far, 0, scores), jnp.zeros_like(scores))
    return jax.nn.logsumexp(jnp.where(far, -scores, jnp.log(near)))
