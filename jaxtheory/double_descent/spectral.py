"""Risks for any spectrum: ridge regression on general covariance, and random features of any kernel.

Each is one root of an increasing function, found by bisection, and then a ratio of sums of positive terms.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, nonnegative, positive, require
from jaxtheory.double_descent.asymptotics import Number, split, times
from jaxtheory.kernels import learning_curve
from jaxtheory.results import Status, finite_status, status_where

_HALVINGS = 64  # of an interval of log γ no longer than 2^12: below the rounding of float64


class SpectralRisk(NamedTuple):
    """As `Asymptotics`, and the effective regularization κ that decides which modes are learned."""

    bias: Float[Array, "..."]
    variance: Float[Array, "..."]
    excess: Float[Array, "..."]
    train: Float[Array, "..."]
    kappa: Float[Array, "..."]
    status: Int[Array, "..."]


class FeatureRisk(NamedTuple):
    """Mean squared errors with label noise included; L_i = λ_i/(λ_i + gamma) is the learned fraction of mode i."""

    test: Float[Array, "..."]
    train: Float[Array, "..."]
    gamma: Float[Array, "..."]
    kappa: Float[Array, "..."]
    status: Int[Array, "..."]


@boundary
def general_covariance(
    eigs: Float[Array, " modes"], beta: Float[Array, " modes"], n: Number, lam: Number, noise: Number
) -> SpectralRisk:
    r"""Risk of ridge regression on data of any covariance: x = Σ^{1/2} z, n samples.

        y = ⟨x, β⟩ + ε,  β̂ = argmin (1/n)‖y − Xβ‖² + lam ‖β‖²,   Σ_i λ_i/(λ_i + κ) + n lam/κ = n
        df = Σ_i (λ_i/(λ_i + κ))²,   bias = κ² Σ_i λ_i β_i²/(λ_i + κ)² / (1 − df/n),
        variance = σ² (df/n)/(1 − df/n),   train = (lam/κ)² (bias + variance + σ²)

    At lam = 0 it is the min-norm solution. In terms of solvers that add `ridge` to XᵀX: **ridge = n · lam**.

    Args:
        eigs: λ_i ≥ 0, the eigenvalues of Σ. beta: β in its eigenbasis.
        n: samples > 0. lam: ≥ 0. noise: σ² ≥ 0. The three broadcast; the dtype is that of eigs.

    Returns:
        `SpectralRisk`; NOT_FINITE where the variance is infinite: lam = 0 and as many modes as samples.

    Raises:
        ValueError: negative or non-finite arguments.

    Cost: 64 passes over the modes a point. Source: Hastie, Montanari, Rosset, Tibshirani (2022), theorem 5; Wu and Xu
    (2020); Bach (2024), proposition 3.

    >>> i = jnp.arange(1, 601, dtype=jnp.float32)
    >>> beta = i**-0.5 / jnp.sqrt(jnp.sum(i**-2.5))
    >>> f"{general_covariance(i**-1.5, beta, 100, 0.0, 0.1).variance:.5f}"
    '0.07826'
    """
    eigs, beta = spectrum(eigs, beta)
    numbers = positive("n", n, "draw at least one sample"), *powers(lam=lam, noise=noise)
    return _general_covariance(eigs, beta, *common(eigs, *numbers))


@jax.jit
def _general_covariance(eigs: Array, beta: Array, n: Array, lam: Array, noise: Array) -> SpectralRisk:
    power = eigs * beta**2

    def one(n: Array, lam: Array, noise: Array) -> SpectralRisk:
        # of noise alone, of variance 1: test is 1/(1 − df/n)
        curve = learning_curve(eigs, jnp.zeros_like(beta), n[None], n * lam, 1.0)
        kappa, learned, inflation = curve.kappa[0], curve.learnability[0], curve.test[0]
        missed = kappa / jnp.where(eigs + kappa > 0, eigs + kappa, 1)
        missed_power = jnp.sum(missed**2 * power)
        bias = times(missed_power, inflation)
        variance = times(noise, jnp.sum(learned**2) / n * inflation)
        held = jnp.where(jnp.isinf(inflation), 0, curve.train[0])
        risk = SpectralRisk(bias, variance, bias + variance, held * (missed_power + noise), kappa, curve.status[0])
        tiny = float(jnp.finfo(eigs.dtype).tiny)
        lost = (missed_power + noise < tiny) & ((missed > 0) & (eigs > 0) & (beta != 0)).any()
        status = of_ridge(n, lam, curve.status[0])
        status = jnp.where((status == Status.OK) & lost, jnp.int32(Status.NOT_FINITE), status)
        return judged(risk, (n > 0) & (lam >= 0) & (noise >= 0) & is_legal(eigs, beta), status)

    return jnp.vectorize(one)(n, lam, noise)


@boundary
def random_feature_spectrum(
    eigs: Float[Array, " modes"], beta: Float[Array, " modes"], n: Number, k: Number, ridge: Number, noise: Number
) -> FeatureRisk:
    r"""Risk of ridge regression on k random features of a kernel with any spectrum.

        F = Φ Λ^{1/2} W / √k  [n × k],  W Gaussian,  y = Φ Λ^{1/2} β + ε,  ŷ from (FFᵀ + ridge I)^(−1)

    γ > 0 and κ > 0 solve n = Σ L_i + ridge/κ, k = Σ L_i + kκ/γ, L_i = λ_i/(λ_i + γ). With what is left over of
    features and samples, p = k − ΣL and r = n − ΣL, and s = Σ L_i (1 − L_i),

        test = n [Σ (1 − L_i)((1 − L_i) p + s) λ_i β_i² + (p + s) σ²] / (p r + s (p + r)),   train = (r/n)² test

    which is the published risk in sums of positive terms. p − r = k − n and p r = k·ridge/γ, so that γ is the one root
    of ΣL + min(p, r) = min(k, n), whose left side falls with γ.

    Args:
        eigs: λ_i ≥ 0. beta: β, so that mode i holds the power λ_i β_i².
        n: samples > 0. k: features > 0, or infinity for the kernel itself.
        ridge: ≥ 0, added to FFᵀ. noise: σ² ≥ 0. The four broadcast; the dtype is that of eigs.

    Returns:
        `FeatureRisk`; NOT_FINITE where the risk is infinite: k = n without a ridge.

    Raises:
        ValueError: negative arguments, n or k not positive.

    Cost: 64 passes over the modes a point. Source: Simon, Karkada, Ghosh, Belkin (2023), equations 5-8.

    >>> i = jnp.arange(1, 601, dtype=jnp.float32)
    >>> beta = i**-0.5 / jnp.sqrt(jnp.sum(i**-2.5))
    >>> risk = random_feature_spectrum(i**-1.5, beta, 150, jnp.array([50.0, 150.0, 200.0]), 0.01, 0.1)
    >>> [f"{test:.4f}" for test in risk.test]
    ['0.1815', '0.3151', '0.2854']
    """
    eigs, beta = spectrum(eigs, beta)
    n = positive("n", n, "count the samples, and take the limit in k only")
    k = constrain("k", k, lambda v: v > 0, "be > 0", "count the features, or pass infinity for the kernel")
    return _random_feature_spectrum(eigs, beta, *common(eigs, n, k, *powers(ridge=ridge, noise=noise)))


@jax.jit
def _random_feature_spectrum(eigs: Array, beta: Array, n: Array, k: Array, ridge: Array, noise: Array) -> FeatureRisk:
    def one(n: Array, k: Array, ridge: Array, noise: Array) -> FeatureRisk:
        at = balance(eigs, n, k, ridge, jnp.zeros_like(ridge))
        power = eigs * beta**2
        missed = jnp.sum(at.rest * (at.rest + at.lost * at.learned) * power)
        test = times(missed + noise, at.inflation)
        train = jnp.where(at.samples > 0, (at.samples / n) ** 2 * test, 0)
        risk = FeatureRisk(test, train, at.gamma, at.gamma * at.features, at.status)
        valid = (n > 0) & (k > 0) & (ridge >= 0) & (noise >= 0) & is_legal(eigs, beta)
        return judged(risk, valid, at.status)

    return jnp.vectorize(one)(n, k, ridge, noise)


class Balance(NamedTuple):
    """Where the degrees of freedom of n samples, k features and a ridge balance, s = Σ L_i (1 − L_i) + tail/γ."""

    gamma: Array
    learned: Array  # L_i
    rest: Array  # 1 − L_i
    features: Array  # p/k, the fraction of features left over
    samples: Array  # r, the samples left over
    spread: Array  # s
    lost: Array  # s/(p + s), what drawing the features adds to the error of a learned mode
    inflation: Array  # n (p + s)/(p r + s (p + r))
    status: Array


def balance(eigs: Array, n: Array, k: Array, ridge: Array, tail: Array, counts: Array | None = None) -> Balance:
    """The fixed point of `random_feature_spectrum`, with infinitely many negligible eigenvalues of sum `tail`.

    `counts` are the multiplicities of the eigenvalues, 1 by default.
    """
    counts = jnp.ones_like(eigs) if counts is None else counts
    # n/k below the square of rounding changes nothing, and k may be too large for its products
    k = jnp.where(n < jnp.finfo(eigs.dtype).eps ** 2 * k, jnp.inf, k)
    rank = jnp.sum(jnp.where(eigs > 0, counts, 0))
    fewer = jnp.minimum(n, k)
    exact = (ridge == 0) & (tail == 0) & (rank <= fewer)  # every mode is fitted: γ = 0
    solved = _resolution(eigs, counts, n, k, jnp.where(exact, 1, ridge), tail)
    gamma = jnp.where(exact, 0, solved)
    total = jnp.where(exact & (eigs == 0), 1, eigs + gamma)
    learned, rest = eigs / total, jnp.where(exact, (eigs == 0).astype(eigs.dtype), gamma / total)
    features, samples = _left_over(n, k, ridge, solved)
    features = jnp.where(exact, 1 - rank / k, features)
    samples = jnp.where(exact, n - rank, samples)
    spread = jnp.sum(counts * learned * rest) + jnp.where(exact, 0, tail / solved)
    per_feature = spread / k
    used = features + per_feature
    below = jnp.where(exact, samples, features * samples + spread * features + per_feature * samples)
    above = jnp.where(exact, 1, used)
    inflation = jnp.where(below > 0, n * above / jnp.where(below > 0, below, 1), jnp.inf)
    lost = jnp.where(used > 0, per_feature / jnp.where(used > 0, used, 1), 0)
    # in log γ the fixed point moves by what is missing over at least half of this
    held = spread + jnp.where(jnp.isinf(k), samples, jnp.minimum(features * k, samples))
    missing = jnp.abs(_excess(eigs, counts, n, k, ridge, tail, gamma=solved)) > jnp.finfo(eigs.dtype).eps ** 0.5 * held
    status = status_where((missing & ~exact, Status.NOT_CONVERGED))
    return Balance(gamma, learned, rest, features, samples, spread, lost, inflation, status)


def _left_over(n: Array, k: Array, ridge: Array, gamma: Array) -> tuple[Array, Array]:
    """(k − ΣL)/k and n − ΣL, from their difference and their product."""
    endless = jnp.isinf(k)
    finite = jnp.where(endless, 1, k)  # no derivative meets an infinity
    p, r = split(jnp.where(endless, 0, finite - n), jnp.where(endless, 0, finite * ridge / gamma))
    return jnp.where(endless, 1, p / finite), jnp.where(endless, ridge / gamma, r)


def _resolution(eigs: Array, counts: Array, n: Array, k: Array, ridge: Array, tail: Array) -> Array:
    """γ by bisection of its logarithm, and two Newton steps that carry derivatives; 0 where nothing is left out."""
    fewer = jnp.minimum(n, k)

    def excess(log_gamma: Array) -> Array:
        return _excess(eigs, counts, n, k, ridge, tail, gamma=jnp.exp(log_gamma))

    # Σ L ≤ m/2 at γ ≥ 2 tr/m, and min(p, r) ≤ r ≤ ridge/γ + (n − k)_+ keeps the rest below at γ ≥ 4 ridge/n.
    largest = 4 * ((jnp.sum(counts * eigs) + tail) / fewer + ridge / n) * (1 + n / k)
    # γ ≥ ridge/n, γ ≥ tail/m, and Σ (1 − L) ≥ rank − m keeps γ above the smallest eigenvalue times (rank − m)/m
    live = (eigs > 0) & (counts > 0)
    spare = jnp.maximum(jnp.sum(jnp.where(live, counts, 0)) - fewer, 0) / fewer
    smallest = jnp.where(spare > 0, jnp.min(jnp.where(live, eigs, jnp.inf), initial=jnp.inf) * spare, 0)
    least = jnp.maximum(jnp.maximum(ridge / n, tail / fewer), smallest) / 2
    least = jnp.maximum(least, jnp.finfo(eigs.dtype).tiny)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = excess(middle) > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    ends = jax.lax.stop_gradient((jnp.log(least), jnp.log(largest)))
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, _HALVINGS, halve, ends))
    root = (low + high) / 2
    for _ in range(2):
        value, slope = jax.jvp(excess, (root,), (jnp.ones_like(root),))
        root = root - jnp.where(slope < 0, value / jnp.where(slope < 0, slope, -1), 0)
    return jnp.exp(root)


def _excess(eigs: Array, counts: Array, n: Array, k: Array, ridge: Array, tail: Array, *, gamma: Array) -> Array:
    """ΣL + min(p, r) − min(n, k): learned modes are counted and what they miss is subtracted, so nothing cancels.

    Both minima are those of the same side, also where rounding decides between p and r, for derivatives at k = n.
    """
    learned, fewer_features = eigs > gamma, k < n
    counted = jnp.sum(jnp.where(learned, counts, 0)) - jnp.where(fewer_features, k, n)
    small = jnp.sum(counts * jnp.where(learned, -gamma, eigs) / (eigs + gamma)) + tail / gamma
    p_share, r = _left_over(n, k, ridge, gamma)
    return counted + (small + jnp.where(fewer_features, p_share * jnp.where(fewer_features, k, 1), r))


def of_ridge(n: Array, lam: Array, status: Array) -> Array:
    """The status, where n · lam is not lost: a ridge below the dtype's range would count as none."""
    lost = (lam > 0) & (n * lam < jnp.finfo(lam.dtype).tiny)
    return jnp.where((status == Status.OK) & lost, jnp.int32(Status.ILL_CONDITIONED), status)


def spectrum(eigs: Array, beta: Array) -> tuple[Array, Array]:
    """Eigenvalues and coefficients of one dtype, NaN inside `jit` where they are not allowed."""
    require(beta.shape == eigs.shape, "beta", beta.shape, f"have the shape of eigs, {eigs.shape}", "pass one each")
    dtype = jnp.result_type(eigs, beta)
    eigs = nonnegative("eigs", eigs, "pass eigenvalues of a covariance")
    beta = constrain("beta", beta, lambda b: abs(b) < jnp.inf, "be finite", "pass coefficients in the eigenbasis")
    return eigs.astype(dtype), beta.astype(dtype)


def common(like: Array, *values: Number) -> list[Array]:
    """Numbers in the dtype of `like`, broadcast to one shape."""
    return list(jnp.broadcast_arrays(*(jnp.asarray(value, like.dtype) for value in values)))


def powers(**values: Number) -> list[Number]:
    """Variances and penalties, checked by name: ≥ 0, NaN inside `jit` where one is not."""
    return [nonnegative(name, value, "pass variances and penalties, 0.0 for none") for name, value in values.items()]


def is_legal(eigs: Array, beta: Array) -> Array:
    """Whether eigenvalues are nonnegative and coefficients finite."""
    return (eigs >= 0).all() & jnp.isfinite(beta).all()


def judged(risk: Any, valid: Array, status: Array) -> Any:
    """NaN where an argument is out of range, and a status that is OK only where every number is finite."""
    values = [jnp.where(valid, value, jnp.nan) for value in risk[:-1]]
    status = jnp.where(valid, finite_status(values, status), jnp.int32(Status.INVALID_INPUT))
    return type(risk)(*values, status)
