r"""Sparse estimation over a dictionary prepared in advance: the lasso, and the network that its answer is.

The dictionary must hold every atom that a target may need; its size is exponential in the dimension
(`bspline.dictionary_size`). A network chooses its atoms after it has seen the data.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import holds, require
from jaxtheory.results import Status, finite_status, status_where
from jaxtheory.smoothness.bspline_networks import SplineSum, relu_sum


class Lasso(NamedTuple):
    """Coefficients, the fit, and the duality gap relative to ‖y‖²/2, which bounds the excess of the objective."""

    coefficients: Float[Array, " atoms"]
    fitted: Float[Array, " n"]
    gap: Float[Array, ""]
    status: Int[Array, ""]


def lasso(
    design: Float[Array, "n atoms"], y: Float[Array, " n"], penalty: Float[Array, ""] | float, *, steps: int = 1000
) -> Lasso:
    r"""Minimize ½‖y − A b‖² + λ Σ_i ‖a_i‖ |b_i| by accelerated proximal gradient with restarts.

    Columns are scaled to norm 1, so that λ = σ √(2 log atoms) is the universal choice whatever the atoms' sizes.

    Args:
        design: A. y: observations. penalty: λ ≥ 0. steps: of FISTA.

    Returns:
        `Lasso`; `status` is `NOT_CONVERGED` where the gap is above √eps.

    Raises:
        ValueError: shapes that differ, λ < 0 (outside jit). Cost: steps · 4 n · atoms flops; vmaps over y and λ.

    Source: Tibshirani (1996); Beck and Teboulle (2009), section 4; O'Donoghue and Candès (2015) for restarts.

    >>> lasso(jnp.eye(2), jnp.array([3.0, 0.5]), 1.0, steps=20).coefficients.tolist()
    [2.0, 0.0]
    """
    require(design.shape[0] == len(y), "y", len(y), f"have one entry for each of {design.shape[0]} rows", "pair them")
    require(holds(lambda v: v >= 0, penalty), "penalty", penalty, "be >= 0", "use 0 for least squares")
    return _lasso(design, y, jnp.asarray(penalty, y.dtype), steps)


@partial(jax.jit, static_argnames="steps")
def _lasso(design: Array, y: Array, level: Array, steps: int) -> Lasso:
    norms = jnp.linalg.norm(design, axis=0)
    scale = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), jnp.zeros_like(norms))
    unit = design * scale[None, :]
    b = _fista(unit, y, level, steps)
    fitted = jnp.matmul(unit, b, precision="highest")
    gap = _gap(unit, y, level, b, fitted)
    slow = status_where((gap > jnp.finfo(y.dtype).eps ** 0.5, Status.NOT_CONVERGED))
    return Lasso(b * scale, fitted, gap, finite_status((b, gap), slow))


def _fista(unit: Array, y: Array, penalty: Array, steps: int) -> Array:
    # ‖A‖² ≤ max column sum · max row sum, a bound that needs no iteration
    size = jnp.abs(unit)
    step = 1 / (size.sum(axis=0).max() * size.sum(axis=1).max())

    def advance(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        b, momentum, t = carry
        residual = jnp.matmul(unit, momentum, precision="highest") - y
        moved = momentum - step * jnp.matmul(unit.T, residual, precision="highest")
        following = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - step * penalty, 0)
        overshoots = jnp.vdot(momentum - following, following - b, precision="highest") > 0
        t = jnp.where(overshoots, jnp.ones_like(t), t)
        later = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return (following, following + (t - 1) / later * (following - b), later), None

    start = jnp.zeros_like(unit[0])
    return jax.lax.scan(advance, (start, start, jnp.ones_like(y[0])), length=steps)[0][0]


def _gap(unit: Array, y: Array, penalty: Array, b: Array, fitted: Array) -> Array:
    """Primal minus dual at the residual scaled into the dual ball."""
    residual = y - fitted
    correlation = jnp.abs(jnp.matmul(unit.T, residual, precision="highest")).max()
    feasible = residual * jnp.minimum(1, penalty / jnp.where(correlation > 0, correlation, 1))
    primal = jnp.sum(residual**2) / 2 + penalty * jnp.abs(b).sum()
    dual = (jnp.sum(y**2) - jnp.sum((y - feasible) ** 2)) / 2
    return (primal - dual) / (jnp.sum(y**2) / 2)


def lasso_network(coefficients: Float[Array, " atoms"], order: int, levels: int, accuracy: float) -> SplineSum:
    r"""The ReLU network that is the estimator Σ b_i N_m(2^j x − k), from its nonzero coefficients.

    Args:
        coefficients: over `bspline.dictionary(x, order, levels)`. accuracy: of each B-spline.

    Raises:
        ValueError: another number of coefficients, or none that is not 0.

    Source: Suzuki (2019), proof of Theorem 2: the network holds the N-term sum that the estimator needs.

    >>> lasso_network(jnp.array([0.0, 1.0, 0.0, 2.0, 0.0]), 1, 1, 0.1).weights.tolist()
    [1.0, 2.0]
    """
    places = [(2.0**j, float(k)) for j in range(levels + 1) for k in range(-order, 2**j)]
    size = len(coefficients)
    require(size == len(places), "coefficients", size, f"be {len(places)}, one an atom", "take those of `lasso`")
    kept = jnp.flatnonzero(coefficients)
    require(len(kept) > 0, "coefficients", "all 0", "hold one that is not 0", "lower the penalty")
    scales, shifts = jnp.asarray(places, coefficients.dtype)[kept].T
    return relu_sum(coefficients[kept], scales, shifts[:, None], order, accuracy)
