r"""Random features drawn by their leverage: as few as the kernel's effective dimension needs.

For a kernel K = Z Zᵀ/P of P candidate features z_j (columns of Z) the leverage of a feature at `ridge` is

    ℓ_j = z_jᵀ (K + ridge I)^{−1} z_j,   mean_j ℓ_j = tr K (K + ridge I)^{−1} = d(ridge), the effective dimension.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxtheory import guarded
from jaxtheory.checks import boundary, positive, require, within


class LeverageFeatures(NamedTuple):
    """Features Z_m with Z_m Z_mᵀ/m close to K, the columns that they come from, and the leverages of all columns."""

    features: Float[Array, "samples m"]
    indices: Int[Array, " m"]
    scores: Float[Array, " width"]


@boundary
def leverage_scores(features: Float[Array, "samples width"], ridge: float | Float[Array, ""]) -> Float[Array, " width"]:
    r"""The leverage ℓ_j = z_jᵀ (Z Zᵀ/P + ridge I)^{−1} z_j of each of P features, at n points.

    The mean is the effective dimension d; the maximum d_max says how many features a uniform draw needs.

    Args:
        features: Z, e.g. of `random_features`. ridge: > 0, added to the unnormalized Gram matrix; nλ for the λ of a
            mean loss.

    Returns:
        ℓ ≥ 0; NaN where the ridge is below the rounding of K, 10 n ε tr K.

    Raises:
        ValueError: no features or points, ridge ≤ 0 (outside jit; NaN inside).

    Cost: n² P + n³/3 flops. Source: Bach (2017), section 4; Alaoui and Mahoney (2015).

    >>> leverage_scores(jnp.eye(2), 0.5).tolist()
    [1.0, 1.0]
    """
    require(min(features.shape) >= 1, "features", features.shape, "hold a point and a feature", "pass Z [n, P]")
    given = positive("ridge", ridge, "pass n λ for the λ of a mean loss")
    relative, top = _scores(features, jnp.asarray(given, features.dtype))
    return relative / top


@jax.jit
def _scores(features: Array, ridge: Array) -> tuple[Array, Array]:
    """Leverages times a number ≥ 1, which keeps them where the ridge is far above K; and that number."""
    n, width = features.shape
    unit = guarded.power_of_two(features)
    columns = features / unit
    gram = jnp.matmul(columns, columns.T, precision="highest") / width
    level = guarded.divided(ridge, unit, unit)
    top = jnp.maximum(level, 1)
    share = jnp.where(level > 1, jnp.ones_like(level), level)
    factor = jnp.linalg.cholesky(gram / top + share * jnp.eye(n, dtype=gram.dtype))
    solved = jax.scipy.linalg.solve_triangular(factor, columns, lower=True)
    scores = jnp.sum(solved**2, axis=0)
    sound = level >= 10 * n * jnp.finfo(gram.dtype).eps * jnp.trace(gram)
    return jnp.where(sound, scores, jnp.full_like(scores, jnp.nan)), top


@boundary(static=("count",))
def leverage_features(
    key: Key[Array, ""], features: Float[Array, "samples width"], ridge: float | Float[Array, ""], count: int
) -> LeverageFeatures:
    r"""m of P features drawn independently with q_j = ℓ_j/Σℓ, each over √(P q_j): E Z_m Z_mᵀ/m = Z Zᵀ/P.

    With m ≥ `features_needed(d)`, every function of the unit ball of K is within a squared distance 4 ridge (a sum over
    the n points) of a combination of the m features whose weights have squared norm ≤ 4/m, with probability 1 − δ.

    Args:
        key: of the draw. features: Z [n, P]. ridge: > 0, as in `leverage_scores`. count: m ≥ 1.

    Returns:
        `LeverageFeatures`; to use them at new points, take the same columns there over √(P q_j).

    Raises:
        ValueError: no features, ridge ≤ 0 (outside jit; NaN inside), count < 1.

    Cost: that of `leverage_scores`, and n m. Source: Bach (2017), Proposition 1 and section 4.2.

    >>> leverage_features(jax.random.key(0), jnp.eye(2), 0.5, 3).features.shape
    (2, 3)
    """
    require(count >= 1, "count", count, "be >= 1", "draw at least one feature")
    require(min(features.shape) >= 1, "features", features.shape, "hold a point and a feature", "pass Z [n, P]")
    given = positive("ridge", ridge, "pass n λ for the λ of a mean loss")
    relative, top = _scores(features, jnp.asarray(given, features.dtype))
    scores = relative / top
    share = relative / jnp.where(relative.sum() > 0, relative.sum(), jnp.ones_like(top))
    indices = jax.random.choice(key, len(share), (count,), p=share)
    weight = guarded.root(guarded.over(jnp.ones_like(share), share * len(share)))
    whole = jnp.where(jnp.isfinite(scores).all(), weight[indices], jnp.full((count,), jnp.nan, weight.dtype))
    return LeverageFeatures(features[:, indices] * whole[None, :], indices, scores)


@boundary
def features_needed(dimension: float, delta: float = 0.05) -> float:
    r"""How many random features suffice, 5 d log(16 d/δ) and at least one, with probability 1 − δ.

    d is the effective dimension (the mean of `leverage_scores`, or `degrees_of_freedom`) for features drawn by their
    leverage, and the largest leverage for features drawn from the kernel's own law.

    Args:
        dimension: d > 0. delta: δ in (0, 1].

    Raises:
        ValueError: numbers out of range (outside jit; NaN inside). Cost: none.

    Source: Bach (2017), Proposition 1.

    >>> f"{features_needed(10.0):.1f}"
    '403.5'
    """
    d = positive("dimension", dimension, "pass an effective dimension, e.g. 10.0")
    failure = within("delta", positive("delta", delta, "pass a probability"), 0.0, 1.0, "pass a probability, e.g. 0.05")
    if isinstance(d, float) and isinstance(failure, float):
        return max(1.0, 5 * d * math.log(16 * d / failure))
    return jnp.maximum(5 * d * jnp.log(16 * d / failure), 1)
