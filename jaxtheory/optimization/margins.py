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
from jax import lax
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, holds, known, positive, require
from jaxtheory.optimization import hulls
from jaxtheory.results import Status, finite_status, status_where


class Separator(NamedTuple):
    """The direction of largest margin, that margin, the weights of the points, and the duality gap left.

    The gap is the distance of the hull from the origin less the smallest margin of `direction`. `status` is
    `INVALID_INPUT` where the data cannot be separated beyond round-off (margin 0), and `NOT_CONVERGED` where the gap
    stays above round-off.
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


@boundary
def max_margin(x: Float[Array, "n d"], y: Float[Array, " n"]) -> Separator:
    r"""max_{‖w‖=1} min_i y_i⟨w, x_i⟩, without offset, through the shortest vector of the hull of the y_i x_i.

    Its length is the margin, its direction the separator. Solved by pairwise Frank-Wolfe steps, which converge
    geometrically on a polytope, and by Wolfe's finite algorithm where features of different scales make them slow.

    Args:
        x: n ≥ 1 points.
        y: ±1.

    Returns:
        `Separator`. Derivatives are implicit, on the points that carry weight.

    Raises:
        ValueError: labels other than ±1, or data that cannot be separated (outside jit; a status inside).

    Cost: O(n²d) and O(n) a step, at most 100,000 steps; derivatives O(n³). Source: Lacoste-Julien and Jaggi (2015),
    Theorem 1; Wolfe (1976).

    >>> fit = max_margin(jnp.array([[1.0, 0.8], [1.0, -0.4]]), jnp.ones(2))
    >>> f"{fit.margin:.3f}"
    '1.000'
    """
    require(len(x) == len(y) >= 1, "y", y.shape, f"have one label for each of {len(x)} points", "pair them")
    wish, hint = "hold labels +1 and -1", "map the classes to signs"
    fit = _max_margin(x, constrain("y", y, lambda v: abs(v) == 1, wish, hint).astype(x.dtype))
    separable = not known(fit) or int(fit.status) != Status.INVALID_INPUT
    require(separable, "x", f"{len(x)} points", "be separable by their labels y", "add features or an offset column")
    return fit


@jax.jit
def _max_margin(x: Array, y: Array) -> Separator:
    unit = guarded.power_of_two(x)
    signed = y[:, None] * x / unit
    weights = hulls.shortest_weights(signed)
    vector = jnp.matmul(weights, signed, precision="highest")
    distance = guarded.norm(vector)
    direction = _direction(signed, weights, vector)
    least = jnp.matmul(signed, direction, precision="highest").min()
    left, small = jax.lax.stop_gradient(jnp.maximum(distance - least, 0)), hulls.round_off(signed)
    # the hull reaches the origin when no direction has every point on its side
    loose = left > jnp.maximum(jnp.finfo(x.dtype).eps ** 0.5 * distance, small)
    status = status_where((distance <= small, Status.INVALID_INPUT), (loose, Status.NOT_CONVERGED))
    found = (direction, distance * unit, weights, left * unit)
    return Separator(*found, finite_status(found, status))


def _direction(signed: Array, weights: Array, vector: Array) -> Array:
    """The direction of the vector, or of the w with ⟨s_i, w⟩ = 1 on its points, which keeps the digits that cancel."""
    support = (weights > jnp.finfo(weights.dtype).eps ** 0.75).astype(weights.dtype)
    solved = jnp.matmul(jnp.linalg.pinv(signed * support[:, None]), support, precision="highest")
    sizes = [guarded.norm(v) for v in (vector, solved)]
    units = [v / jnp.where(size > 0, size, 1) for v, size in zip((vector, solved), sizes, strict=True)]
    plain, refined = (jnp.matmul(signed, unit, precision="highest").min() for unit in units)
    return jnp.where(refined > plain, units[1], units[0])


@boundary
def limit_across(fit: Separator, x: Float[Array, "n d"], y: Float[Array, " n"]) -> Float[Array, " d"]:
    r"""What gradient descent on the logistic loss keeps across the largest-margin direction ŵ as t → ∞.

    w(t) = ŵ log t / margin + w̃ with exp(−y_i⟨x_i, w̃⟩) ∝ α_i at the support vectors, whose weights in the shortest
    vector of the hull are α_i. So the distance of w/‖w‖ from ŵ is margin · ‖w̃_⊥‖ / log t.

    Args:
        fit: from `max_margin(x, y)`.
        x, y: its data, whose support vectors must span ℝ^d and carry positive weights.

    Returns:
        w̃_⊥, NaN where the support vectors do not span and w̃ depends on the other points, or where the status of `fit`
        is not OK.

    Raises:
        ValueError: lengths that differ. Cost: a singular value decomposition of n × (d + 1).

    Source: Soudry, Hoffer, Nacson, Gunasekar, Srebro (2018), Theorem 4.

    >>> x, y = jnp.array([[1.0, 0.8], [1.0, -0.4]]), jnp.ones(2)
    >>> [f"{value:.4f}" for value in limit_across(max_margin(x, y), x, y)]
    ['0.0000', '0.5776']
    """
    same = fit.weights.shape == y.shape == x.shape[:1] and fit.direction.shape == x.shape[1:]
    require(same, "x", x.shape, f"be the data of fit, with {fit.weights.shape[0]} points", "pass those of max_margin")
    unit = guarded.power_of_two(x)
    weights, direction = fit.weights.astype(x.dtype), fit.direction.astype(x.dtype)
    supports = weights > jnp.sqrt(jnp.finfo(x.dtype).eps)
    rows = jnp.where(supports[:, None], y.astype(x.dtype)[:, None] * x / unit, 0)
    target = jnp.where(supports, -jnp.log(jnp.where(supports, weights, 1)), 0)
    # one unknown more: the common factor of the proportionality, which moves w̃ along ŵ only
    system = jnp.concatenate([rows, -supports[:, None].astype(x.dtype)], axis=1)
    offset = jnp.matmul(jnp.linalg.pinv(system), target, precision="highest")[:-1]
    spans = jnp.linalg.matrix_rank(jax.lax.stop_gradient(rows)) == x.shape[1]
    across = (offset - jnp.dot(offset, direction, precision="highest") * direction) / unit
    return jnp.where(spans & (fit.status == Status.OK), across, jnp.full_like(across, jnp.nan))


@boundary(static=("doublings",))
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
        doublings: records − 1, in 0 … 30.
        method: see above.

    Returns:
        `MarginPath`, with derivatives in forward mode. `distance` and `across` are NaN where the separator that they
        are taken from was not found.

    Raises:
        ValueError: data that cannot be separated, an unstable or non-positive step size (outside jit; NaN inside).

    Cost: 2^doublings steps of O(nd). Source: Soudry, Hoffer, Nacson, Gunasekar, Srebro (2018), Theorem 3; normalized:
    Nacson et al. (2019), Theorem 5; Ji and Telgarsky (2021).

    >>> x, y = jnp.array([[1.0, 0.2], [-1.0, 0.3]]), jnp.array([1.0, -1.0])
    >>> path = margin_path(x, y, step_size=1.0, doublings=3)
    >>> path.steps.tolist(), bool(path.margin[-1] > path.margin[0])
    ([1, 2, 4, 8], True)
    """
    best = max_margin(x, y)
    require(0 <= doublings <= 30, "doublings", doublings, "be within 0..30", "steps are counted by int32")
    eta = jnp.asarray(positive("step_size", step_size, "pass a small step, e.g. 0.1"), x.dtype)
    if method == "constant":
        size = jnp.linalg.norm(x / guarded.power_of_two(x), 2) * guarded.power_of_two(x)
        stable = holds(lambda v, most: v * most < 8 / most, eta, size)
        require(stable, "step_size", step_size, "be < 2/smoothness = 8/‖X‖²", "take a smaller step")
        eta = jnp.where(eta * size < 8 / size, eta, jnp.full_like(eta, jnp.nan))
    direction = jnp.where(best.status == Status.OK, best.direction, jnp.full_like(best.direction, jnp.nan))
    return _margin_path(x, y.astype(x.dtype), direction, eta, doublings, method)


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
        norm = guarded.norm(w)
        scores = jnp.matmul(signed, w, precision="highest")
        across = w - jnp.dot(w, best, precision="highest") * best
        return w, (guarded.norm(w / norm - best), across, scores.min() / norm, norm, _log_loss(scores))

    steps = 2 ** jnp.arange(doublings + 1, dtype=jnp.int32)
    counts = jnp.diff(steps, prepend=jnp.zeros(1, jnp.int32))
    _, records = lax.scan(record, jnp.zeros_like(x[0]), counts)
    return MarginPath(steps, *records)


def _log_loss(scores: Array) -> Array:
    """log Σ log(1 + e^{−s}); where e^{−s} is below round-off, log(1 + e^{−s}) = e^{−s}."""
    far = scores > 40
    near = jnp.logaddexp(-jnp.where(far, 0, scores), jnp.zeros_like(scores))
    return jax.nn.logsumexp(jnp.where(far, -scores, jnp.log(near)))
