r"""What gradient descent on least squares converges to, on its way and with noise: exact predictions.

The loss is (1/2n)‖Xβ − y‖² throughout, with Hessian H = XᵀX/n and eigenvalues h.

>>> x, y = jnp.array([[1.0, 1.0]]), jnp.array([2.0])
>>> [f"{value:.3f}" for value in minimum_norm(x, y)]
['1.000', '1.000']
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import holds, require


class Filtered(NamedTuple):
    """Expected squared error ‖β̂ − β‖² of a spectral estimator, and its parts."""

    bias: Float[Array, "..."]
    variance: Float[Array, "..."]
    risk: Float[Array, "..."]


def minimum_norm(
    x: Float[Array, "n d"], y: Float[Array, " n"], start: Float[Array, " d"] | None = None
) -> Float[Array, " d"]:
    r"""Where gradient descent on least squares ends: β₀ + X⁺(y − Xβ₀), the interpolator nearest to its start.

    Every iterate stays in β₀ + row(X), so the component of β₀ across the rows is never touched.

    Args:
        x, y: the data.
        start: β₀, the origin by default: then the min-norm solution.

    Returns:
        The limit for any step size within 0 … 2/λ_max(H).

    Cost: one singular value decomposition. Source: Gunasekar et al. (2018), section 2.

    >>> minimum_norm(jnp.array([[1.0, 0.0]]), jnp.array([1.0]), jnp.array([0.0, 5.0])).tolist()
    [1.0, 5.0]
    """
    require(len(x) == len(y), "y", y.shape, f"have one entry for each of {len(x)} rows of x", "pair them")
    origin = jnp.zeros_like(x[0]) if start is None else start
    missing = y - jnp.matmul(x, origin, precision="highest")
    return origin + jnp.matmul(jnp.linalg.pinv(x), missing, precision="highest")


def filtered_risk(
    eigenvalues: Float[Array, " d"],
    coefficients: Float[Array, " d"],
    *,
    samples: int,
    noise: float,
    time: Float[Array, "..."] | float | None = None,
    lam: Float[Array, "..."] | float | None = None,
) -> Filtered:
    r"""Risk of gradient flow stopped at `time` t, or of ridge regression with `lam` λ, in the eigenbasis of H.

        flow: kept share φ(h) = 1 − e^{−ht};   ridge: φ(h) = h/(h + λ)
        bias = Σ (1 − φ)² β_j²,   variance = (σ²/n) Σ φ²/h_j

    At λ = 1/t the flow's bias is below the ridge's, and its variance at most `FLOW_RATIO` of the ridge's.

    Args:
        eigenvalues: h ≥ 0 of H; directions with h = 0 are not learned.
        coefficients: β_j in the eigenvectors.
        samples: n.
        noise: σ² ≥ 0.
        time, lam: one of the two, any shape; λ is of the objective normalized by n, so `ridge` = nλ.

    Returns:
        `Filtered` of the shape of `time` or `lam`.

    Raises:
        ValueError: none or both of `time` and `lam`, or a negative one.

    Cost: O(d) a point. Source: Ali, Kolter, Tibshirani (2019), equations 11 and 12, Theorem 1.

    >>> flow = filtered_risk(jnp.ones(1), jnp.ones(1), samples=10, noise=1.0, time=1.0)
    >>> f"{flow.bias:.4f} {flow.variance:.4f}"
    '0.1353 0.0400'
    """
    require((time is None) != (lam is None), "time", time, f"be given, or lam={lam}, not both", "choose one")
    name, knob = ("time", time) if lam is None else ("lam", lam)
    require(holds(lambda v: v >= 0, knob), name, knob, "be >= 0", "0 is the start (time) or no ridge (lam)")
    h = eigenvalues
    knob = jnp.asarray(knob, h.dtype)[..., None]
    kept = -jnp.expm1(-h * knob) if lam is None else jnp.where(h > 0, h / jnp.where(h > 0, h + knob, 1), 0)
    bias = ((1 - kept) ** 2 * coefficients**2).sum(-1)
    variance = noise / samples * (kept**2 / jnp.where(h > 0, h, 1)).sum(-1)
    return Filtered(bias, variance, bias + variance)


def flow_ratio() -> float:
    r"""sup_x ((1 − e^{−x})(1 + x)/x)² = 1.6859: flow's variance over ridge's at λ = 1/t, per direction, x = ht.

    Source: Ali, Kolter, Tibshirani (2019), Lemma 7, by Newton on its stationarity (1 + x + x²) = eˣ.

    >>> f"{flow_ratio():.6f}"
    '1.685909'
    """
    x = 1.8
    for _ in range(8):
        x -= (jnp.exp(x).item() - 1 - x - x * x) / (jnp.exp(x).item() - 1 - 2 * x)
    return float((1 - jnp.exp(-x)) * (1 + x) / x) ** 2


def stationary_covariance(
    hessian: Float[Array, "d d"], noise: Float[Array, "d d"], step_size: float
) -> Float[Array, "d d"]:
    r"""Covariance at which SGD on a quadratic settles: Σ = (I − ηH) Σ (I − ηH) + η² C.

    In the eigenvectors of H, Σ_ij = η² C_ij / (1 − (1 − ηh_i)(1 − ηh_j)); for small η and C = cH it is ηc/2 · I.

    Args:
        hessian: H, symmetric positive definite.
        noise: C, covariance of the gradient noise.
        step_size: η < 2/λ_max(H).

    Returns:
        Σ.

    Raises:
        ValueError: a step size outside the stable range, with that range, or H not positive definite.

    Cost: O(d³). Source: Mandt, Hoffman, Blei (2017), section 3.2, without their continuous-time limit.

    >>> float(stationary_covariance(jnp.eye(1), jnp.eye(1), 0.5)[0, 0])
    0.3333333...
    """
    eigenvalues, vectors = jnp.linalg.eigh(hessian)
    definite = holds(lambda h: h > 0, eigenvalues)
    require(definite, "hessian", eigenvalues, "be positive definite", "leave out directions without curvature")
    stable = holds(lambda h: (step_size > 0) & (step_size * h < 2), eigenvalues)
    top = f"lie within (0, 2/λ_max) = (0, {2 / eigenvalues[-1]})"
    require(stable, "step_size", step_size, top, "take a smaller step")
    return _stationary(eigenvalues, vectors, noise, step_size)


def _stationary(h: Array, vectors: Array, noise: Array, step_size: float) -> Array:
    rotated = jnp.linalg.multi_dot([vectors.T, noise, vectors], precision="highest")
    # 1 − (1 − a)(1 − b) = a + b − ab, without the cancellation.
    a = step_size * h
    rate = a[:, None] + a[None, :] - jnp.outer(a, a)
    return jnp.linalg.multi_dot([vectors, step_size**2 * rotated / rate, vectors.T], precision="highest")
