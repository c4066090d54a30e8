r"""What gradient descent on least squares converges to, on its way and with noise: exact predictions.

The loss is (1/2n)‖Xβ − y‖² throughout, with Hessian H = XᵀX/n and eigenvalues h.

>>> x, y = jnp.array([[1.0, 1.0]]), jnp.array([2.0])
>>> [f"{value:.3f}" for value in minimum_norm(x, y)]
['1.000', '1.000']
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, holds, nonnegative, require
from jaxtheory.optimization.decay import mean_decay

Number = float | Float[Array, ""]


class Filtered(NamedTuple):
    """Expected squared error ‖β̂ − β‖² of a spectral estimator, and its parts."""

    bias: Float[Array, "..."]
    variance: Float[Array, "..."]
    risk: Float[Array, "..."]


@boundary
def minimum_norm(
    x: Float[Array, "n d"], y: Float[Array, " n"], start: Float[Array, " d"] | None = None
) -> Float[Array, " d"]:
    r"""Where gradient descent on least squares ends: β₀ + X⁺(y − Xβ₀), the solution nearest to its start.

    Every iterate stays in β₀ + row(X), so the component of β₀ across the rows is never touched.

    Args:
        x, y: the data.
        start: β₀, the origin by default: then the min-norm solution.

    Returns:
        The limit for any step size within 0 … 2/λ_max(H). Singular values below 10 max(n, d) ε of the largest count
        as 0.

    Raises:
        ValueError: lengths that differ. Cost: one singular value decomposition. Source: Gunasekar et al. (2018),
            section 2.

    >>> minimum_norm(jnp.array([[1.0, 0.0]]), jnp.array([1.0]), jnp.array([0.0, 5.0])).tolist()
    [1.0, 5.0]
    """
    require(len(x) == len(y), "y", y.shape, f"have one entry for each of {len(x)} rows of x", "pair them")
    origin = jnp.zeros(x.shape[1], x.dtype) if start is None else start
    require(origin.shape == x.shape[1:], "start", origin.shape, f"have shape {x.shape[1:]}", "one entry a column of x")
    unit = guarded.power_of_two(x)
    rows = x / unit
    missing = y / unit - jnp.matmul(rows, origin, precision="highest")
    return origin + jnp.matmul(jnp.linalg.pinv(rows), missing, precision="highest")


@boundary
def filtered_risk(
    eigenvalues: Float[Array, " d"],
    coefficients: Float[Array, " d"],
    *,
    samples: Number,
    noise: Number,
    time: Float[Array, "..."] | float | None = None,
    lam: Float[Array, "..."] | float | None = None,
) -> Filtered:
    r"""Risk of gradient flow stopped at `time` t, or of ridge regression with `lam` λ, in the eigenbasis of H.

        flow: kept share φ(h) = 1 − e^{−ht};   ridge: φ(h) = h/(h + λ)
        bias = Σ (1 − φ)² β_j²,   variance = (σ²/n) Σ φ²/h_j

    At λ = 1/t the bias of the flow is below that of ridge, and its variance at most `flow_ratio()` of that of ridge.

    Args:
        eigenvalues: h ≥ 0 of H; directions with h = 0 are not learned.
        coefficients: β_j in the eigenvectors.
        samples: n ≥ 1.
        noise: σ² ≥ 0.
        time, lam: one of the two, any shape; λ is of the objective normalized by n, so `ridge` = nλ.

    Returns:
        `Filtered` of the shape of `time` or `lam`.

    Raises:
        ValueError: none or both of `time` and `lam`, lengths that differ; negative numbers (outside jit; NaN inside).

    Cost: O(d) a point. Source: Ali, Kolter, Tibshirani (2019), equations 11 and 12, Theorem 1.

    >>> flow = filtered_risk(jnp.ones(1), jnp.ones(1), samples=10, noise=1.0, time=1.0)
    >>> f"{flow.bias:.4f} {flow.variance:.4f}"
    '0.1353 0.0400'
    """
    require((time is None) != (lam is None), "time", time, f"be given, or lam={lam}, not both", "choose one")
    same = eigenvalues.shape == coefficients.shape
    require(
        same, "coefficients", coefficients.shape, f"have the shape of eigenvalues, {eigenvalues.shape}", "pair them"
    )
    name, given = ("time", time) if lam is None else ("lam", lam)
    knob = nonnegative(name, given, "0 is the start (time) or no ridge (lam)")
    h = nonnegative("eigenvalues", eigenvalues, "pass those of a covariance")
    count = constrain("samples", samples, lambda n: (n >= 1) & (n < math.inf), "be >= 1 and finite", "pass n")
    variance = nonnegative("noise", noise, "pass the variance of the labels") / count
    knob = jnp.asarray(knob, h.dtype)[..., None]
    if lam is None:
        lost, over = jnp.exp(-h * knob), knob * mean_decay(h * knob)  # 1 − φ and φ/h
    else:
        whole = jnp.where(h + knob == 0, jnp.ones_like(h + knob), h + knob)
        lost, over = jnp.where(h + knob == 0, 1.0, knob / whole), jnp.where(h + knob == 0, 0.0, 1 / whole)
    bias = ((lost * coefficients) ** 2).sum(-1)
    spread = jnp.asarray(variance, h.dtype) * (over * (h * over)).sum(-1)
    return Filtered(bias, spread, bias + spread)


@boundary
def flow_ratio() -> float:
    r"""sup_x ((1 − e^{−x})(1 + x)/x)² = 1.6859: variance of flow over that of ridge at λ = 1/t, per direction, x = ht.

    Source: Ali, Kolter, Tibshirani (2019), Lemma 7, by Newton on its stationarity (1 + x + x²) = eˣ.

    >>> f"{flow_ratio():.6f}"
    '1.685909'
    """
    x = 1.8
    for _ in range(8):
        x -= (math.exp(x) - 1 - x - x * x) / (math.exp(x) - 1 - 2 * x)
    return (-math.expm1(-x) * (1 + x) / x) ** 2


@boundary
def stationary_covariance(
    hessian: Float[Array, "d d"], noise: Float[Array, "d d"], step_size: Number
) -> Float[Array, "d d"]:
    r"""Covariance at which SGD on a quadratic settles: Σ = (I − ηH) Σ (I − ηH) + η² C.

    In the eigenvectors of H, Σ_ij = η² C_ij / (1 − (1 − ηh_i)(1 − ηh_j)); for small η and C = cH it is ηc/2 · I.

    Args:
        hessian: H, symmetric positive definite; repeated eigenvalues are allowed, also in derivatives.
        noise: C, covariance of the gradient noise.
        step_size: η < 2/λ_max(H).

    Returns:
        Σ, with derivatives by the linear equation it solves.

    Raises:
        ValueError: shapes that differ; H not positive definite, or a step size outside the stable range, with that
            range (outside jit; NaN inside).

    Cost: O(d³). Source: Mandt, Hoffman, Blei (2017), section 3.2, without their continuous-time limit.

    >>> float(stationary_covariance(jnp.eye(1), jnp.eye(1), 0.5)[0, 0])
    0.3333333...
    """
    square = hessian.shape[0] == hessian.shape[1] and hessian.shape == noise.shape
    require(square, "noise", noise.shape, f"be square like hessian, {hessian.shape}", "pass two [d, d] matrices")
    eta = jnp.asarray(step_size, hessian.dtype)
    decay = eta * (hessian + hessian.T) / 2
    shares, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(decay))
    definite = holds(lambda h, e: (h > 0) if e > 0 else True, shares, eta)
    require(definite, "hessian", hessian, "be positive definite", "leave out directions without curvature")
    most = eta / jnp.max(jnp.abs(shares), initial=0)
    stable = holds(lambda h, e: (e > 0) & (h < 2), shares, eta)
    require(stable, "step_size", step_size, f"lie within (0, 2/λ_max) = (0, {2 * most})", "take a smaller step")
    # 1 − (1 − a)(1 − b) = a + b − ab, without the cancellation
    rate = shares[:, None] + shares[None, :] - jnp.outer(shares, shares)

    def solve(_: object, right: Array) -> Array:
        rotated = jnp.linalg.multi_dot([vectors.T, right, vectors], precision="highest")
        return jnp.linalg.multi_dot([vectors, rotated / rate, vectors.T], precision="highest")

    def equation(sigma: Array) -> Array:
        one = jnp.matmul(decay, sigma, precision="highest")
        both = jnp.matmul(one, decay, precision="highest")
        return one + jnp.matmul(sigma, decay, precision="highest") - both

    found = jax.lax.custom_linear_solve(equation, eta**2 * noise, solve, symmetric=True)
    valid = ((shares > 0) & (shares < 2)).all() & (eta > 0)
    return jnp.where(valid, found, jnp.full_like(found, jnp.nan))
