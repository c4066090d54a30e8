r"""SGD on least squares with the noise of its minibatches, exactly.

>>> x, y = jnp.array([[1.0], [1.0]]), jnp.array([1.0, -1.0])
>>> f"{sgd_covariance(x, y, step_size=0.5, batch_size=1)[0, 0]:.4f}"
'0.3333'
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, holds, positive, require
from jaxtheory.guarded import power_of_two

Number = float | Float[Array, ""]


@boundary(static=("batch_size", "replacement"))
def sgd_covariance(
    x: Float[Array, "n d"], y: Float[Array, " n"], *, step_size: Number, batch_size: int, replacement: bool = True
) -> Float[Array, "d d"]:
    r"""Stationary covariance of SGD on (1/2n)‖Xβ − y‖², with the covariance of its minibatch gradients.

    The noise depends on where β is: with residuals r of least squares, H = XᵀX/n and Σ = E(β − β*)(β − β*)ᵀ,

        Σ = (I − ηH) Σ (I − ηH) + η² c [(1/n) Σ_i (x_iᵀΣx_i + r_i²) x_i x_iᵀ − HΣH]

    a linear equation; c = 1/B with replacement and (n − B)/(B (n − 1)) without it, within a step. The mean is β*. For
    small η it is `stationary_covariance` with the gradient noise at β*; at large steps it is larger, and it is
    infinite from a step on that is smaller than 2/λ_max(H).

    Args:
        x: n ≥ 1 rows of rank d. y: targets.
        step_size: η > 0 where the second moment is stable.
        batch_size: B in 1..n.
        replacement: whether an example may be drawn twice in a batch.

    Returns:
        Σ, NaN inside jit where the second moment is not stable. Derivatives are those of the linear equation.

    Raises:
        ValueError: shapes, a batch size out of range, a step size that is not positive or not stable (outside jit).

    Cost: O(n d⁴ + d⁶) and d⁴ numbers, for d up to some tens. Source: the second moment of the recursion, exactly; with
    constant noise, Mandt, Hoffman, Blei (2017), "Stochastic gradient descent as approximate Bayesian inference".

    >>> x, y = jnp.array([[1.0], [2.0], [-1.0]]), jnp.array([1.0, 1.0, 0.0])
    >>> every = sgd_covariance(x, y, step_size=0.1, batch_size=3, replacement=False)
    >>> f"{every[0, 0]:.4f}"
    '0.0000'
    """
    n, d = x.shape
    require(len(y) == n >= 1, "y", y.shape, f"have one entry for each of {n} rows of x", "pair them")
    require(1 <= batch_size <= n, "batch_size", batch_size, f"lie in 1..{n}", "count the examples of a step")
    require(1 <= d <= n, "x", x.shape, "have a column, and at least as many rows", "drop features")
    eta = jnp.asarray(positive("step_size", step_size, "pass e.g. 0.1"), x.dtype)
    share = 1 / batch_size if replacement else (n - batch_size) / (batch_size * max(n - 1, 1))
    found, stable = _sgd_covariance(x, y.astype(x.dtype), eta, jnp.asarray(share, x.dtype))
    wish = "be small enough for a finite second moment, of x with independent columns"
    require(holds(lambda v: v, stable), "step_size", step_size, wish, "take a smaller step")
    return found


@jax.jit
def _sgd_covariance(x: Array, y: Array, eta: Array, share: Array) -> tuple[Array, Array]:
    n, d = x.shape
    product = partial(jnp.einsum, precision="highest")
    unit = power_of_two(x)
    rows, step = x / unit, eta * unit**2
    residual = y - jnp.matmul(rows, jnp.matmul(jnp.linalg.pinv(rows), y, precision="highest"), precision="highest")
    size = power_of_two(residual)
    size = jnp.where(size > 0, size, jnp.ones_like(size))
    weight = residual / size
    h, eye = jnp.matmul(rows.T, rows, precision="highest") / n, jnp.eye(d, dtype=x.dtype)
    # (Σ less its image without the residuals) / η, on pairs of indices
    decay = product("ac,be->abce", h, eye) + product("ac,be->abce", eye, h)
    spread = product("ia,ib,ic,ie->abce", rows, rows, rows, rows) / n
    matrix = (decay - step * ((1 - share) * product("ac,be->abce", h, h) + share * spread)).reshape(d * d, d * d)
    right = share * product("i,i,ia,ib->ab", weight, weight, rows, rows) / n
    # the recursion is a self-adjoint map that keeps positive matrices, so its largest eigenvalue decides
    lowest = jnp.linalg.eigvalsh(lax.stop_gradient(matrix))[0]
    stable = lowest > 4 * d * d * jnp.finfo(x.dtype).eps * jnp.abs(lax.stop_gradient(matrix)).max()
    found = jnp.linalg.solve(matrix, right.ravel()).reshape(d, d)
    found = (found + found.T) / 2 * size * eta * size
    return jnp.where(stable, found, jnp.full_like(found, jnp.nan)), stable
