r"""Implicit bias of sign descent and Adam: the separator whose margin is largest among ‖w‖_∞ ≤ 1.

>>> x, y = jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.ones(2)
>>> fit = sign_margin(x, y)
>>> f"{fit.margin:.2f}", bool(fit.gap < 1e-6)
('3.00', True)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, holds, known, positive, require
from jaxtheory.guarded import over

Number = float | Float[Array, ""]


class SignSeparator(NamedTuple):
    """A direction with ‖w‖_∞ ≤ 1 of the largest margin, the margin, weights of the points, and the duality gap."""

    direction: Float[Array, " d"]
    margin: Float[Array, ""]
    weights: Float[Array, " n"]
    gap: Float[Array, ""]


class SignPath(NamedTuple):
    """Margin min_i y_i⟨w, x_i⟩/‖w‖_∞ and the norm ‖w‖_∞ of sign descent at the recorded steps."""

    steps: Int[Array, " records"]
    margin: Float[Array, " records"]
    norm: Float[Array, " records"]


@boundary
def sign_margin(x: Float[Array, "n d"], y: Float[Array, " n"]) -> SignSeparator:
    r"""max over ‖w‖_∞ ≤ 1 of min_i y_i⟨w, x_i⟩: where sign descent and Adam go on separable data.

    Its dual is the shortest vector of the hull of the y_i x_i in the norm ‖·‖₁: min over weights α ≥ 0 of sum 1 of
    ‖Σ α_i y_i x_i‖₁. Both are solved as linear programs on the host, and the gap between them is recomputed.

    Args:
        x: n ≥ 1 points. y: ±1.

    Returns:
        `SignSeparator`. The direction need not be unique; the margin is, to the gap. No derivatives.

    Raises:
        ValueError: labels other than ±1, data that cannot be separated, numbers that are not finite, traced arguments.

    Cost: two linear programs of n + d variables. Source: Gunasekar, Lee, Soudry, Srebro (2018), "Characterizing
    implicit bias in terms of optimization geometry"; Adam: Zhang, Zou, Cao (2024), "The implicit bias of Adam on
    separable data".

    >>> f"{sign_margin(jnp.array([[1.0, 0.0], [0.0, 3.0]]), jnp.ones(2)).margin:.2f}"
    '1.00'
    """
    require(known(x, y), "x", x, "be known, not traced", "call it outside jit")
    signed = _signed(x, y)
    from scipy.optimize import linprog

    s = np.asarray(signed, np.float64)
    s = s / max(np.abs(s).max(), np.finfo(float).tiny)
    n, d = s.shape
    # maximize t: ⟨w, s_i⟩ ≥ t
    primal = linprog(
        np.r_[np.zeros(d), -1.0], np.c_[-s, np.ones(n)], np.zeros(n), bounds=[(-1, 1)] * d + [(None, None)]
    )
    # minimize Σ r: |Σ α s| ≤ r, α on the simplex
    bound = np.block([[s.T, -np.eye(d)], [-s.T, -np.eye(d)]])
    cost, simplex = np.r_[np.zeros(n), np.ones(d)], np.r_[np.ones(n), np.zeros(d)][None]
    dual = linprog(cost, bound, np.zeros(2 * d), simplex, [1.0])
    w, weights = np.clip(primal.x[:d], -1, 1), np.maximum(dual.x[:n], 0) / np.maximum(dual.x[:n], 0).sum()
    margin, size = (s @ w).min(), np.abs(np.asarray(signed)).max()
    separable = margin > 1e-9
    require(bool(separable), "x", x, "be separable through the origin by the labels y", "add features, or drop points")
    gap = max(np.abs(weights @ s).sum() - margin, 0.0)
    return SignSeparator(*(jnp.asarray(v, x.dtype) for v in (w, margin * size, weights, gap * size)))


@boundary(static=("doublings",))
def sign_descent(x: Float[Array, "n d"], y: Float[Array, " n"], *, step_size: Number, doublings: int) -> SignPath:
    r"""Sign descent from 0 on Σ log(1 + exp(−y_i⟨w, x_i⟩)), recorded at steps 1, 2, 4, …, 2^doublings.

        w ← w − (η/√t) sign(∇L),   t = 1, 2, …

    the limit of Adam without memory. The margin over ‖w‖_∞ tends to that of `sign_margin`, at the rate log t/√t.

    Args:
        x, y: separable data, labels ±1.
        step_size: η > 0. doublings: records − 1, in 0 … 30.

    Returns:
        `SignPath`; in logarithms, so that no loss underflows. Derivatives are 0 but at jumps of the signs.

    Raises:
        ValueError: labels other than ±1, numbers out of range (outside jit; NaN inside).

    Cost: 2^doublings steps of O(nd). Source: as `sign_margin`, for steepest descent with decaying steps.

    >>> path = sign_descent(jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.ones(2), step_size=0.5, doublings=2)
    >>> path.steps.tolist(), [f"{margin:.2f}" for margin in path.margin]
    ([1, 2, 4], ['3.00', '3.00', '3.00'])
    """
    require(0 <= doublings <= 30, "doublings", doublings, "be within 0..30", "steps are counted by int32")
    eta = jnp.asarray(positive("step_size", step_size, "pass a small step, e.g. 0.1"), x.dtype)
    return _sign_descent(_signed(x, y), eta, doublings)


def _signed(x: Array, y: Array) -> Array:
    require(len(x) == len(y) >= 1, "y", y.shape, f"have one label for each of {len(x)} points", "pair them")
    require(x.shape[1] >= 1, "x", x.shape, "have a coordinate", "pass points as rows")
    wish, hint = "hold labels +1 and -1", "map the classes to signs"
    labels = constrain("y", y, lambda v: abs(v) == 1, wish, hint).astype(x.dtype)
    require(holds(np.isfinite, x), "x", x, "be finite", "drop those points")
    return labels[:, None] * jnp.where(jnp.isfinite(x), x, jnp.full_like(x, jnp.nan))


@partial(jax.jit, static_argnames="doublings")
def _sign_descent(signed: Array, eta: Array, doublings: int) -> SignPath:
    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        w, t = state
        scores = jnp.matmul(signed, w, precision="highest")
        weight = jax.nn.softmax(jax.nn.log_sigmoid(-scores))  # −∇L up to a positive factor
        push = jnp.sign(jnp.matmul(weight, signed, precision="highest"))
        return w + eta / jnp.sqrt(t.astype(w.dtype)) * push, t + 1

    def record(state: tuple[Array, Array], stop: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        w, t = lax.while_loop(lambda s: s[1] <= stop, step, state)
        size = jnp.max(jnp.abs(w), initial=0)
        return (w, t), (over(jnp.matmul(signed, w, precision="highest").min(), size), size)

    steps = 2 ** jnp.arange(doublings + 1, dtype=jnp.int32)
    _, records = lax.scan(record, (jnp.zeros_like(signed[0]), jnp.int32(1)), steps)
    return SignPath(steps, *records)
