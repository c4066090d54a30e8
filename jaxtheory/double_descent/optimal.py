"""The best ridge of any risk curve, with its derivatives."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import Checked, boundary, require
from jaxtheory.guarded import power_of_two
from jaxtheory.results import Status, status_where

_GRID, _HALVINGS = 49, 60


class Optimum(NamedTuple):
    """The λ that minimizes a risk, and the risk there."""

    lam: Float[Array, ""]
    risk: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("low", "high"))
def optimal_ridge(
    risk: Callable[[Float[Array, ""]], Float[Array, ""]], *, low: float = 1e-8, high: float = 1e4
) -> Optimum:
    r"""λ* = argmin risk(λ) over [low, high], differentiable in whatever `risk` closes over.

    The lowest of 49 points in log λ brackets the minimum, bisection of d risk/d log λ finds it, and the implicit
    function theorem differentiates it: dλ*/dθ = −(∂²R/∂λ²)^(−1) ∂²R/∂λ∂θ. With the best ridge there is no peak: the
    risk of isotropic data falls with every sample (Nakkiran, Venkat, Kakade, Ma 2021).

    Args:
        risk: of one λ, twice differentiable: `lambda lam: isotropic(2.0, signal=1.0, noise=0.25, lam=lam).excess`,
            and in the same way of `mei_montanari`, `general_covariance`, `random_feature_spectrum`.
        low, high: 0 < low < high, the range of λ.

    Returns:
        `Optimum`; NOT_CONVERGED where the risk is, to rounding, lowest at an end of the range (no noise: the best
        ridge is 0) or its derivative does not change sign around the lowest point; NOT_FINITE where a risk is not
        finite.

    Raises:
        ValueError: a range that is none, or a risk that is not one floating number.

    Cost: 110 evaluations of the risk and its derivative; jit and vmap around it.

    >>> best = optimal_ridge(lambda lam: lam + 4 / lam)
    >>> f"{best.lam:.4f} {best.risk:.4f}"
    '2.0000 4.0000'
    """
    require(0 < low < high, "low", low, f"lie in (0, {high})", "give a range of positive ridges")
    require(high < math.inf, "high", high, "be finite", "give the largest ridge to try")
    ends = jnp.log(jnp.array([low, high], float))
    grid = jnp.linspace(ends[0], ends[1], _GRID)

    along = Checked("risk", lambda log_lam: risk(jnp.exp(log_lam)))
    values = jax.vmap(along)(grid)
    best = jnp.argmin(values)
    unit = power_of_two(values[best])  # derivatives of small risks would underflow
    around = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, _GRID - 1)]

    log_lam = jax.lax.custom_root(
        jax.grad(lambda x: along(x) / unit),
        jax.lax.stop_gradient(grid[best]),
        partial(_bisected, bracket=jax.lax.stop_gradient(around)),
        lambda linear, y: y / linear(jnp.ones_like(y)),
    )
    lam, inside = jnp.exp(log_lam), (best > 0) & (best < _GRID - 1)
    found = along(log_lam)
    finite = jnp.isfinite(values).all() & jnp.isfinite(found)
    # without a change of sign, bisection ends at an end of its bracket
    slack = (around[1] - around[0]) / 2**10
    turns = inside & (log_lam > around[0] + slack) & (log_lam < around[1] - slack)
    lowest = values[best] + 4 * float(jnp.finfo(values.dtype).eps) * jnp.abs(values[best])
    rises = jnp.minimum(values[0], values[-1]) > lowest  # by more than rounding
    converged = turns & rises & (found <= lowest)
    return Optimum(lam, found, status_where((~finite, Status.NOT_FINITE), (~converged, Status.NOT_CONVERGED)))


def _bisected(slope: Callable[[Array], Array], _: Array, *, bracket: tuple[Array, Array]) -> Array:
    """Where a rising slope changes its sign, within a bracket."""

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (bounds[0] + bounds[1]) / 2
        rising = slope(middle) > 0
        return jnp.where(rising, bounds[0], middle), jnp.where(rising, middle, bounds[1])

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, bracket)
    return (low + high) / 2
