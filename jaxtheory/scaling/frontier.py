r"""How the best model size grows with compute: the frontier of training curves, and its exponents in theory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, positive, require
from jaxtheory.guarded import power_of_two
from jaxtheory.results import Slope, Status, finite_status, fit_slope, status_where


class Frontier(NamedTuple):
    """The least risk of each budget [budgets], its width and number of steps, and fitted power laws of the budget."""

    risk: Float[Array, " budgets"]
    width: Float[Array, " budgets"]
    steps: Float[Array, " budgets"]
    risk_law: Slope
    width_law: Slope
    status: Int[Array, ""]


class Exponents(NamedTuple):
    """Least risk ~ compute^`risk` at width ~ compute^`width`, and the number of the phase, 1 to 4."""

    risk: Float[Array, "..."]
    width: Float[Array, "..."]
    phase: Int[Array, "..."]


@boundary
def compute_optimal(
    widths: Float[Array, " widths"],
    risk: Float[Array, "widths times"],
    compute: Float[Array, " budgets"],
    *,
    batch: float | Float[Array, ""] = 1.0,
) -> Frontier:
    r"""The least risk that a budget of compute reaches over model sizes, where d · B · steps = compute.

    Each curve is interpolated in log-log between its steps, and the least over widths is that of the parabola in log d
    through the best width and its neighbors. Both power laws are least squares in log-log, with standard errors.

    Args:
        widths: d > 0, at least 3 that differ, in any order.
        risk: the risk at each width after 0, 1, … steps, positive, e.g. of `one_pass_equivalent` under `jax.vmap`.
        compute: at least 3 budgets > 0, such that each is reached by the best width and its two neighbors.
        batch: B > 0, points of a step.

    Returns:
        `Frontier`; NOT_COMPUTED, with NaN, where a budget's best width is the first or last that reaches it, or one of
        two that are equal.

    Raises:
        ValueError: too few widths, steps or budgets, numbers that are not positive and finite (INVALID_INPUT inside
            `jit`).

    Cost: O(widths · budgets). Source: Hoffmann et al. (2022), section 3.1.

    >>> d, t = jnp.geomspace(4.0, 64.0, 9), jnp.arange(5000.0)
    >>> risk = (1 / d[:, None] + 1 / jnp.maximum(t, 0.5)[None, :])
    >>> found = compute_optimal(d, risk, jnp.geomspace(100.0, 1000.0, 5))
    >>> f"{found.risk_law.slope:.2f} {found.width_law.slope:.2f}"
    '-0.50 0.50'
    """
    require(
        risk.shape[0] == len(widths), "risk", risk.shape, f"have {len(widths)} rows, one for each width", "stack them"
    )
    require(len(widths) >= 3, "widths", len(widths), "hold at least 3 sizes", "train more of them")
    require(len(compute) >= 3, "compute", len(compute), "hold at least 3 budgets", "e.g. jnp.geomspace(1e3, 1e5, 9)")
    require(risk.shape[1] >= 2, "risk", risk.shape, "hold at least one step", "pass the risk after 0, 1, ... steps")
    widths = positive("widths", widths, "count the features of each model")
    risk, compute = (
        positive("risk", risk, "pass risks, not logarithms"),
        positive("compute", compute, "pass d · B · steps"),
    )
    batch = positive("batch", batch, "count the points of a step")
    dtype = jnp.result_type(widths, risk, compute)
    return _compute_optimal(*(jnp.asarray(value, dtype) for value in (widths, risk, compute, batch)))


@jax.jit
def _compute_optimal(widths: Array, risk: Array, compute: Array, batch: Array) -> Frontier:
    order = jnp.argsort(widths)
    unit = power_of_two(risk)
    widths, size, curves = widths[order], jnp.log(widths[order]), jnp.log(risk[order] / unit)
    last = risk.shape[1] - 1

    def best(budget: Array) -> tuple[Array, Array]:
        steps = budget / (widths * batch)
        reached = (steps >= 1) & (steps <= last)
        below = jnp.clip(jnp.floor(steps), 1, max(last - 1, 1)).astype(jnp.int32)
        low, high = (
            jnp.take_along_axis(curves, at[:, None], axis=1)[:, 0] for at in (below, jnp.minimum(below + 1, last))
        )
        from_below = below.astype(steps.dtype)
        share = jnp.log(steps / from_below) / jnp.log1p(1 / from_below)
        value = jnp.where(reached, low + share * (high - low), jnp.inf)
        middle = jnp.clip(jnp.argmin(value), 1, len(widths) - 2)
        least, log_width = _vertex(*(jax.lax.dynamic_slice_in_dim(v, middle - 1, 3) for v in (size, value)))
        inside = (middle == jnp.argmin(value)) & jnp.isfinite(least)
        found = jnp.exp(jnp.stack([least, log_width, jnp.log(budget) - log_width - jnp.log(batch)]))
        return jnp.where(inside, found, jnp.nan), inside

    found, inside = jax.lax.map(best, compute)
    laws = fit_slope(compute, found[:, 0]), fit_slope(compute, found[:, 1])
    laws = laws[0]._replace(intercept=laws[0].intercept + jnp.log(unit)), laws[1]
    given = [jnp.isnan(value).any() for value in (widths, risk, compute, batch)]
    status = status_where((jnp.stack(given).any(), Status.INVALID_INPUT), (~inside.all(), Status.NOT_COMPUTED))
    return Frontier(unit * found[:, 0], found[:, 1], found[:, 2], *laws, finite_status((found, laws), status))


def _vertex(x: Array, y: Array) -> tuple[Array, Array]:
    """The least value and its place of the parabola through three points, the middle of which is the lowest."""
    left, right = x[0] - x[1], x[2] - x[1]
    # y = y1 + slope u + curvature u², u = x − x1
    rise_left, rise_right = (y[0] - y[1]) / left, (y[2] - y[1]) / right
    curvature = (rise_right - rise_left) / (right - left)
    slope = rise_left - curvature * left
    place = jnp.where(curvature > 0, -slope / jnp.where(curvature > 0, 2 * curvature, 1), 0)
    return y[1] + slope * place / 2, x[1] + place


@boundary
def frontier_exponents(alpha: Float[Array, "..."], beta: Float[Array, "..."]) -> Exponents:
    r"""Exponents of the compute-optimal frontier of one-pass SGD at eigenvalues j^(−2α), target j^(−β).

    At batch size 1 and step size γ, after t steps at width d the risk is, up to constants, the largest of

        d^(−2α + max(0, 1 − 2β))          what d features cannot express,
        (γt)^(−(2α + 2β − 1)/(2α))        modes not yet learned,
        d^(−1) (γt)^(−1 + 1/(2α))         features aligned with learned modes, where β > 1/2 and α > 1/2,
        γ (γt)^(−2 + 1/(2α))              noise of the gradient, where β > 1/2 and α > 1/4.

    For α > 1/2 the step size is fixed. Below, the trace of the covariance grows with the number of modes, of the order
    of d here, and stability allows γ ~ d^(2α − 1). With compute d t = f, the best of d gives the phases

        1  (β < 1/2)         α ≥ 1/2:       d ~ f^(1/(2α + 1)),  risk ~ f^(−(2α + 2β − 1)/(2α + 1))
                             α < 1/2:       d ~ f^(1/2),         risk ~ f^(−(2α + 2β − 1)/2)
           (β > 1/2)         α < 1/4:       d ~ f^(P/Q),         risk ~ f^(−2αP/Q)
        2  (1/2 < β < α):                   d ~ f^(β/(α + β)),   risk ~ f^(−P/(2(α + β)))
        3  (α < β, α > 1/2):                d ~ f^(1/2),         risk ~ f^(−1 + 1/(4α))
        4  (β > 1/2)  1 − √½ < α < 1/2:     d ~ f^(1/2),         risk ~ f^(−α)
                      1/4 < α < 1 − √½:     d ~ f^((β − α)/R),   risk ~ f^(−(1 − 2α) P/(2R))

    with P = 2α + 2β − 1, Q = 6α + 4β − 4αβ − 2 and R = 2β − α − 2αβ. At α = 1/2 they agree, up to logarithms.

    Phase 4 begins late, as the constant of the noise is small: until then the first two terms decide, with
    d ~ f^(P/S), risk ~ f^(−2αP/S), S = 4α² + 2(1 − α)P. At α = 0.4, β = 0.8 the width's exponent is 0.60 about f = 10^8
    and falls to 1/2 by f = 10^18.

    Args:
        alpha: α > 0.
        beta: β > 1/2 − α, so that the target has finite power. They broadcast.

    Returns:
        `Exponents`, NaN and phase 0 where inside `jit` an argument is out of range.

    Raises:
        ValueError: arguments out of range or not finite.

    Cost: elementwise. Source: Paquette, Paquette, Xiao, Pennington (2024), "4+3 phases": Ia, Ib, Ic, II, III, IVa, IVb.

    >>> found = frontier_exponents(1.0, 0.7)
    >>> f"{found.risk:.3f} {found.width:.3f} {found.phase}"
    '-0.706 0.412 2'
    """
    wish = "be positive and finite, for a covariance whose eigenvalues decay"
    alpha = constrain("alpha", alpha, lambda a: (a > 0) & (a < jnp.inf), wish, "e.g. alpha=1.0")
    beta = constrain("beta", beta, lambda b: abs(b) < jnp.inf, "be finite", "e.g. beta=0.7")
    alpha, beta = jnp.broadcast_arrays(alpha, beta)
    total = constrain(
        "alpha + beta", alpha + beta, lambda s: s > 0.5, "exceed 1/2, for a target of finite power", "use a larger beta"
    )
    power, steep, wide = 2 * total - 1, alpha >= 0.5, beta < 0.5
    learned, aligned = power / 2 / total, 1 - 1 / (4 * alpha)
    slow = 6 * alpha + 4 * beta - 4 * alpha * beta - 2
    noisy = 2 * beta - alpha - 2 * alpha * beta
    cases = (
        (wide & steep, 1 / (2 * alpha + 1), power / (2 * alpha + 1)),
        (wide, jnp.full_like(alpha, 0.5), power / 2),
        (steep & (beta < alpha), beta / total, learned),
        (steep, jnp.full_like(alpha, 0.5), aligned),
        (alpha > 1 - 0.5**0.5, jnp.full_like(alpha, 0.5), alpha),
        (alpha > 0.25, _over(beta - alpha, noisy), (1 - 2 * alpha) / 2 * _over(power, noisy)),
        (alpha > 0, _over(power, slow), 2 * alpha * _over(power, slow)),
    )
    where = [case[0] for case in cases]
    width, risk = _first(where, [case[1] for case in cases]), _first(where, [case[2] for case in cases])
    phase = _first(where, [jnp.full(alpha.shape, number, jnp.int32) for number in (1, 1, 2, 3, 4, 4, 1)])
    valid = jnp.isfinite(power)
    risk, width = (jnp.where(valid, value, jnp.full_like(value, jnp.nan)) for value in (-risk, width))
    return Exponents(risk, width, jnp.where(valid, phase, 0))


def _first(conditions: list[Array], values: list[Array]) -> Array:
    """The value of the first condition that holds, elementwise; 0 where none does."""
    found = jnp.zeros_like(values[0])
    for condition, value in zip(conditions[::-1], values[::-1], strict=True):
        found = jnp.where(condition, value, found)
    return found


def _over(above: Array, below: Array) -> Array:
    """The quotient, and 0 where the denominator is not positive: a phase that does not hold there."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, jnp.ones_like(below)), jnp.zeros_like(above))
