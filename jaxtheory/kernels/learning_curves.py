"""Learning curves of kernel ridge regression from a spectrum: deterministic equivalents and their rates."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import known, require
from jaxtheory.results import Status, status_where

_HALVINGS = 64  # of an interval of at most 2^11 in log κ: below the rounding of float64


class LearningCurve(NamedTuple):
    """Predicted errors at every n. `test` and `train` are mean squared errors that include the noise.

    `learnability` L_i in [0, 1] of each mode; `conserved` = Σ m_i L_i + (ridge + tail)/κ, which equals n.
    """

    test: Float[Array, " sizes"]
    train: Float[Array, " sizes"]
    kappa: Float[Array, " sizes"]
    learnability: Float[Array, "sizes modes"]
    conserved: Float[Array, " sizes"]
    status: Int[Array, " sizes"]


def learning_curve(
    eigs: Float[Array, " modes"],
    coefficients: Float[Array, " modes"],
    n: Float[Array, " sizes"],
    ridge: Any,
    noise: Any,
    *,
    multiplicity: Float[Array, " modes"] | None = None,
    tail: Any = 0.0,
    unlearnable: Any = 0.0,
) -> LearningCurve:
    r"""Test and train error of kernel ridge regression on n samples, K + ridge I with K unnormalized.

    For a kernel Σ λ_i φ_i φ_i with E φ_i² = 1, a target Σ v_i φ_i and label noise σ², κ solves

        Σ m_i λ_i/(λ_i + κ) + δ/κ = n,   δ = ridge + tail,   L_i = λ_i/(λ_i + κ),   E_0 = n / (n − Σ m_i L_i²),
        test = E_0 [Σ (1 − L_i)² v_i² + u + σ²],   train = (ridge/(n κ))² test

    Args:
        eigs: λ ≥ 0. coefficients: v; v_i² is the power of the whole eigenspace of λ_i.
        n: sample sizes > 0, of the dtype of eigs. ridge: ≥ 0. noise: σ² ≥ 0.
        multiplicity: m_i, 1 by default.
        tail: the trace Σ λ_i of the modes that were left out, which act as a ridge.
        unlearnable: u, the target's power in those modes.

    Returns:
        `LearningCurve`; NOT_FINITE where the error is infinite (n equal to the number of modes without a ridge).

    Raises:
        ValueError: negative eigenvalues, ridge, noise, tail or n.

    Cost: 64 passes over the modes for each n; memory sizes · modes.
    Source: Simon, Dickens, Karkada, DeWeese (2023), equations 4-8; Bordelon, Canatar, Pehlevan (2020).

    >>> curve = learning_curve(jnp.ones(10), jnp.ones(10), jnp.array([5.0]), 0.0, 0.0)
    >>> f"{curve.test[0]:.3f} {curve.learnability[0, 0]:.3f}"
    '5.000 0.500'
    """
    for name, value in (("eigs", eigs), ("ridge", ridge), ("noise", noise), ("tail", tail), ("n", n)):
        if known(value):
            require(not (np.asarray(value) < 0).any(), name, value, "be >= 0", "check its sign")
    counts = jnp.ones_like(eigs) if multiplicity is None else multiplicity
    scalars = [jnp.asarray(value, eigs.dtype) for value in (ridge, noise, tail, unlearnable)]
    return _curve(eigs, coefficients, counts, n, *scalars)


def effective_regularization(
    eigs: Float[Array, " modes"], multiplicity: Float[Array, " modes"], n: Float[Array, ""], ridge: Float[Array, ""]
) -> Float[Array, ""]:
    r"""κ ≥ 0 with Σ m_i λ_i/(λ_i + κ) + ridge/κ = n, by bisection of log κ and a Newton step that carries the gradient.

    κ lies in [ridge/n, (Σ m λ + ridge)/n]; it is 0 without a ridge for n at least the number of positive modes.

    >>> f"{effective_regularization(jnp.ones(10), jnp.ones(10), jnp.float32(5.0), jnp.float32(0.0)):.4f}"
    '1.0000'
    """
    largest = (jnp.sum(multiplicity * eigs) + ridge) / n
    least = jnp.maximum(ridge / n, largest * float(jnp.finfo(eigs.dtype).eps) ** 2)

    def excess(log_kappa: Array) -> Array:
        kappa = jnp.exp(log_kappa)
        return jnp.sum(multiplicity * eigs / (eigs + kappa)) + ridge / kappa - n

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = jax.lax.stop_gradient(excess(middle)) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    bounds = jax.lax.stop_gradient((jnp.log(least), jnp.log(largest)))
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, _HALVINGS, halve, bounds))
    root = (low + high) / 2
    slope = jax.lax.stop_gradient(jax.grad(excess)(root))
    kappa = jnp.exp(root - jnp.where(slope < 0, excess(root) / jnp.where(slope < 0, slope, -1), 0))
    enough = (ridge == 0) & (jnp.sum(jnp.where(eigs > 0, multiplicity, 0)) <= n)
    return jnp.where(enough, jnp.zeros_like(kappa), kappa)


def optimal_rate(capacity: float, source: float) -> tuple[float, float]:
    r"""Exponents (of the excess risk, of λ) in n for noisy ridge regression: n^(−2rb/(2rb+1)) at λ ~ n^(−b/(2rb+1)).

    Eigenvalues i^(−b), b = `capacity` > 1; source condition r > 0 (r = 1/2: the target lies in the RKHS), saturating at
    r = 1. The ridge on the unnormalized Gram is n λ. A Sobolev target and kernel of smoothness s on the line: b = 2s,
    r = 1/2, exponent −2s/(2s + 1).

    >>> optimal_rate(2.0, 0.5)[0]
    -0.6666666666666666
    """
    _require_exponents(capacity, source)
    r = min(source, 1.0)
    return -2 * r * capacity / (2 * r * capacity + 1), -capacity / (2 * r * capacity + 1)


def noiseless_rate(capacity: float, source: float) -> float:
    r"""Exponent of the test error in n without noise and with a vanishing ridge: n^(−2b min(r, 1)).

    Source: Cui, Loureiro, Krzakala, Zdeborová (2021), section 4; letters as in `optimal_rate`.

    >>> noiseless_rate(1.5, 0.5)
    -1.5
    """
    _require_exponents(capacity, source)
    return -2 * capacity * min(source, 1.0)


def _require_exponents(capacity: float, source: float) -> None:
    require(capacity > 1, "capacity", capacity, "exceed 1 for a finite trace", "use the exponent b of λ_i = i^(-b)")
    require(source > 0, "source", source, "be > 0", "use 0.5 for a target in the RKHS")


@jax.jit
def _curve(
    eigs: Array, coefficients: Array, counts: Array, n: Array, ridge: Array, noise: Array, tail: Array, rest: Array
) -> LearningCurve:
    kappa = jax.vmap(partial(effective_regularization, eigs, counts, ridge=ridge + tail))(n)
    positive = eigs[None] > 0
    share = jnp.where(positive, eigs[None] / jnp.where(positive, eigs[None] + kappa[:, None], 1), 0)
    left = n - jnp.sum(counts[None] * share**2, axis=1)
    bias = jnp.sum((1 - share) ** 2 * coefficients[None] ** 2, axis=1)
    test = jnp.where(left > 0, n / jnp.where(left > 0, left, 1), jnp.inf) * (bias + rest + noise)
    held = jnp.where(kappa > 0, 1 / jnp.where(kappa > 0, n * kappa, 1), 0)
    # without a ridge and with more samples than modes, what is fitted is a projection: 1 − p/n of the residual stays
    train = jnp.where(kappa > 0, (ridge * held) ** 2, (jnp.maximum(left, 0) / n) ** 2) * test
    conserved = jnp.sum(counts[None] * share, axis=1) + (ridge + tail) * n * held
    status = status_where((~jnp.isfinite(test), Status.NOT_FINITE))
    return LearningCurve(test, train, kappa, share, conserved, status)
