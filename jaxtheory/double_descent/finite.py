"""Exact risk of least squares on Gaussian features: double descent as a formula in n and p, with no limit taken."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, holds, nonnegative, require
from jaxtheory.double_descent.asymptotics import Asymptotics
from jaxtheory.results import Status, status_where


@boundary
def finite_gaussian(
    p: int | Int[Array, "*widths"],
    n: int | Int[Array, "*widths"],
    beta: Float[Array, " features"],
    noise: float | Float[Array, ""],
) -> Asymptotics:
    r"""Mean risk of min-norm least squares that sees the first p of D independent standard Gaussian features.

    With signal in = Σ_{j≤p} β_j², out = Σ_{j>p} β_j², and n samples of y = ⟨x, β⟩ + ε,

        p ≤ n − 2:  bias = out (1 + p/(n − p − 1)),                    variance = σ² p/(n − p − 1)
        p ≥ n + 2:  bias = in (1 − n/p) + out (1 + n/(p − n − 1)),     variance = σ² n/(p − n − 1)

    and infinite in between, where the smallest singular value has no inverse second moment: draws there have a median,
    not a mean. The training error is (out + σ²)(1 − p/n) for p < n, else 0; the test error with noise, excess + σ².

    Args:
        p: features seen, each in 1..D. n: samples ≥ 1; both broadcast.
        beta: β; its dtype is the result's.
        noise: σ² ≥ 0, the variance of the label noise, a number.

    Returns:
        `Asymptotics`, though nothing is asymptotic here; NOT_FINITE where the risk is infinite or the squares of β
        underflow, and INVALID_INPUT, with NaN, where an argument inside `jit` is out of range.

    Raises:
        ValueError: p outside 1..D, n < 1, a negative noise, coefficients that are not finite.

    Cost: O(D + widths). Source: Belkin, Hsu, Xu (2020), theorem 1; Breiman and Freedman (1983) for p < n.

    >>> risk = finite_gaussian(jnp.array([10, 30, 44, 100]), 40, jnp.full(100, 0.1), 0.04)
    >>> [f"{excess + 0.04:.4f}" for excess in risk.excess]
    ['1.2641', '3.2067', '8.6400', '0.6671']
    """
    limit = len(beta)
    require(holds(lambda v: (v >= 1) & (v <= limit), p), "p", p, f"lie in 1..{limit}", "see at least one feature")
    require(holds(lambda v: v >= 1, n), "n", n, "be >= 1", "draw at least one sample")
    beta = constrain("beta", beta, lambda b: abs(b) < jnp.inf, "be finite", "pass the coefficients of the features")
    noise = nonnegative("noise", noise, "pass a variance")
    # signed, since they are subtracted
    width, samples = jnp.broadcast_arrays(jnp.asarray(p, int), jnp.asarray(n, int))
    return _finite_gaussian(width, samples, beta, jnp.asarray(noise, beta.dtype))


@jax.jit
def _finite_gaussian(p: Array, n: Array, beta: Array, noise: Array) -> Asymptotics:
    power = beta**2
    seen = jnp.cumsum(power)[p - 1]
    unseen = jnp.append(jnp.cumsum(power[::-1])[::-1], jnp.zeros(1, beta.dtype))[p]
    width, samples = p.astype(beta.dtype), n.astype(beta.dtype)
    spare = (jnp.abs(p - n) - 1).astype(beta.dtype)
    used = jnp.minimum(width, samples)
    finite = spare > 0
    inflation = jnp.where(finite, used / jnp.where(finite, spare, 1), jnp.inf)
    missed = jnp.where(p > n, seen * ((p - n).astype(beta.dtype) / width), 0)
    bias = missed + jnp.where(unseen > 0, unseen * (1 + inflation), 0)
    variance = jnp.where(noise > 0, noise * inflation, 0)
    train = (unseen + noise) * (jnp.maximum(n - p, 0).astype(beta.dtype) / samples)
    excess = bias + variance
    valid = (p >= 1) & (p <= len(beta)) & (n >= 1) & (noise >= 0) & jnp.isfinite(beta).all()
    bias, variance, excess, train = (jnp.where(valid, x, jnp.nan) for x in (bias, variance, excess, train))
    finite = jnp.isfinite(jnp.stack([bias, variance, excess, train])).all(axis=0)
    numbers = jnp.finfo(beta.dtype)
    lost = ((beta != 0) & (power < numbers.tiny)).any() & (power.sum() < numbers.tiny / numbers.eps)
    status = status_where((~valid, Status.INVALID_INPUT), (~finite | lost, Status.NOT_FINITE))
    return Asymptotics(bias, variance, excess, train, status)
