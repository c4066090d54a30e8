"""Gradient flow of least squares on random designs, in the proportional limit: the errors at every time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, nonnegative, positive
from jaxtheory.double_descent.asymptotics import Number
from jaxtheory.double_descent.spectral import balance, is_legal, judged, powers, spectrum
from jaxtheory.results import Status, status_where

_SUBSTEPS = 4  # of Newton's path between two nodes
_LONGEST = 1e14  # times that the nodes resolve where γ = 1


class FlowCurve(NamedTuple):
    """Mean squared errors along the flow: excess = bias + variance is free of label noise, train is not."""

    bias: Float[Array, "..."]
    variance: Float[Array, "..."]
    excess: Float[Array, "..."]
    train: Float[Array, "..."]
    status: Int[Array, "..."]


@boundary
def isotropic_flow(gamma: Number, times: Number, *, signal: Number, noise: Number) -> FlowCurve:
    r"""Errors of gradient flow on isotropic data, p/n → γ, from zero.

        y = ⟨x, β⟩ + ε,  ‖β‖² = signal,  Var ε = noise,   β̇ = −Xᵀ(Xβ − y)/n,   x of independent entries of variance 1

    With μ the Marchenko-Pastur law of XᵀX/n without its atom at 0, of mass min(1, 1/γ),

        bias = signal [∫ e^(−2ts) dμ + (1 − 1/γ)₊],   variance = noise γ ∫ (1 − e^(−ts))²/s dμ,
        train = signal ∫ s e^(−2ts) dμ + noise [γ ∫ e^(−2ts) dμ + (1 − γ)₊]

    As t → ∞ it is `isotropic` at lam = 0. The best time to stop minimizes the excess: `optimal_ridge` finds it, with t
    in place of λ.

    Args:
        gamma: γ = p/n > 0. times: t ≥ 0, of the flow; gradient descent of ‖Xβ − y‖²/(2n) with a small step η is at
            t = η · steps. signal, noise: ≥ 0. The four broadcast.

    Returns:
        `FlowCurve`; NOT_CONVERGED where t √γ exceeds 1e14 and γ is 1 to 1e-7.

    Raises:
        ValueError: γ not positive, another argument negative or not finite (outside `jit`; inside, INVALID_INPUT).

    Accuracy: sums of positive terms, to rounding. Cost: a sum over 416 nodes a point.
    Source: Advani, Saxe, Sompolinsky (2020), section 2; Ali, Kolter, Tibshirani (2019), theorem 3.

    >>> curve = isotropic_flow(0.5, jnp.array([0.5, 3.0, 20.0]), signal=1.0, noise=0.25)
    >>> [f"{value:.4f}" for value in curve.excess]
    ['0.4689', '0.1867', '0.2385']
    """
    given = powers(times=times, signal=signal, noise=noise)
    given = [positive("gamma", gamma, "pass a ratio of two sizes"), *given]
    dtype = jnp.result_type(*given)
    return _isotropic_flow(*jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in given)))


@jax.jit
def _isotropic_flow(gamma: Array, times: Array, signal: Array, noise: Array) -> FlowCurve:
    node, weight = np.polynomial.legendre.leggauss(16)
    ends = np.pi * np.append(0.5 ** np.arange(26), 0.0)[::-1]  # graded to 0, where s is smallest
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    angle = (middle[:, None] + half[:, None] * node).ravel()
    sine, cosine = (jnp.asarray(f(angle / 2) ** 2, gamma.dtype) for f in (np.sin, np.cos))
    dx = jnp.asarray((half[:, None] * weight).ravel() * 8 / np.pi, gamma.dtype)

    def one(gamma: Array, t: Array, signal: Array, noise: Array) -> FlowCurve:
        valid = (gamma > 0) & (gamma < jnp.inf) & (t >= 0) & (t < jnp.inf) & (signal >= 0) & (noise >= 0)
        root = jnp.sqrt(jnp.where(gamma > 0, gamma, 1))
        s = (1 - root) ** 2 + 4 * root * sine  # 1 + γ − 2 √γ cos θ
        mass = dx * (sine / s) * cosine
        decay = jnp.exp(-2 * t * s)
        left = jnp.sum(mass * decay)
        few, many = (jnp.where(out > 0, out, 0) for out in (1 - gamma, 1 - 1 / gamma))
        bias = signal * (left + many)
        variance = noise * gamma * jnp.sum(dx * cosine * sine * (jnp.expm1(-t * s) / s) ** 2)
        train = signal * jnp.sum(dx * sine * cosine * decay) + noise * (gamma * left + few)
        # both edges of the law are nearer to 0 than the first nodes, and t is long enough to see it
        coarse = (t * root > _LONGEST) & ((1 - root) ** 2 * _LONGEST < root)
        status = status_where((coarse, Status.NOT_CONVERGED))
        return judged(FlowCurve(bias, variance, bias + variance, train, status), valid, status)

    return jnp.vectorize(one)(gamma, times, signal, noise)


@boundary
def covariance_flow(
    eigs: Float[Array, " modes"],
    beta: Float[Array, " modes"],
    n: float | Float[Array, ""],
    noise: float | Float[Array, ""],
    times: Float[Array, " times"],
) -> FlowCurve:
    r"""Errors of gradient flow on n random samples of any covariance, from zero: `flow_risk` for random designs.

        y = ⟨x, β⟩ + ε,  x = Σ^{1/2} z,  β̇ = −Xᵀ(Xβ − y)/n,   Ŝ = XᵀX/n
        bias = βᵀ e^(−tŜ) Σ e^(−tŜ) β,   variance = (σ²/n) tr Σ (1 − e^(−tŜ))² Ŝ^(−1),
        train = βᵀ Ŝ e^(−2tŜ) β + (σ²/n) tr e^(−2tXXᵀ/n)

    e^(−tŜ) = (1/2πi) ∫ e^ζ (ζ + tŜ)^(−1) dζ along a parabola around the negative axis, and for complex ridges ζ, ζ'

        ζ (ζ + tŜ)^(−1) ≈ κ (tΣ + κ)^(−1),  κ (1 − Σ_i L_i/n) = ζ,  L_i = tλ_i/(tλ_i + κ),
        ζ ζ' βᵀ(ζ + tŜ)^(−1) Σ (ζ' + tŜ)^(−1) β ≈ Σ_i λ_i β_i² (1 − L_i)(1 − L_i') / (1 − Σ_i L_i L_i'/n)

    As t → ∞ it is `general_covariance` at lam = 0. Slow strong modes behind fast weak ones put two descents in one run;
    the best time to stop minimizes the excess (`optimal_ridge`, with t in place of λ).

    Args:
        eigs: λ_i ≥ 0. beta: β in the eigenbasis. n: samples > 0. noise: σ² ≥ 0. times: t ≥ 0.

    Returns:
        `FlowCurve`, [times]; NOT_CONVERGED where κ does not solve its equation, or where the variance exceeds
        noise/√ε, next to as many modes as samples at late times.

    Raises:
        ValueError: arguments that are negative or not finite, n = 0 (outside `jit`; inside, INVALID_INPUT).

    Accuracy: 1e-12 of the powers of signal and noise in float64, 1e-5 in float32; not relative to an excess that has
    decayed below. Cost: 200 passes over the modes a time, and 1,000 products a mode.
    Source: Ali, Kolter, Tibshirani (2019); the equivalents of Bach (2024), section 3; the contour of Weideman and
    Trefethen (2007).

    >>> curve = covariance_flow(jnp.ones(50), jnp.full(50, 0.02**0.5), 100, 0.25, jnp.array([0.5, 3.0, 20.0]))
    >>> [f"{value:.4f}" for value in curve.excess]
    ['0.4689', '0.1867', '0.2385']
    """
    eigs, beta = spectrum(eigs, beta)
    n = positive("n", n, "draw at least one sample")
    noise = nonnegative("noise", noise, "pass a variance")
    times = nonnegative("times", times, "the flow starts at 0")
    return _covariance_flow(eigs, beta, *(jnp.asarray(value, eigs.dtype) for value in (n, noise, times)))


@jax.jit
@jax.default_matmul_precision("highest")
def _covariance_flow(eigs: Array, beta: Array, n: Array, noise: Array, times: Array) -> FlowCurve:
    zeta, weight = _parabola(eigs.dtype)
    power, samples = (value.astype(zeta.dtype) for value in ((eigs * beta**2)[None], n))
    ridgeless = balance(eigs, n, jnp.asarray(jnp.inf, eigs.dtype), jnp.zeros_like(n), jnp.zeros_like(n)).gamma

    def one(t: Array) -> FlowCurve:
        kappa, missing = _complex_kappa(t * eigs, n, zeta)
        double, also_missing = _complex_kappa(2 * t * eigs, n, zeta)
        tau, least = ((t * value).astype(zeta.dtype) for value in (eigs[None], ridgeless))
        rest = kappa[:, None] / (tau + kappa[:, None])  # 1 − L
        learned = tau / (tau + kappa[:, None])
        pairs = ((rest * power) @ rest.T) / (1 - learned @ learned.T / samples)
        part = weight / zeta
        bias = jnp.real(jnp.sum(part[:, None] * part[None] * pairs))
        # (1 − e^(−x))²/x = 2 Σ (weight/ζ²) x [ζ/(ζ + x) − ζ/(ζ + 2x)]
        apart = _beyond(kappa, zeta, tau, least, samples) - _beyond(double, zeta, 2 * tau, 2 * least, samples)
        variance = 2 * noise / n * jnp.real(jnp.sum((weight / zeta**2)[:, None] * tau * apart))
        held = jnp.real(jnp.sum(weight[:, None] * power / (2 * tau + double[:, None])))
        train = held + noise * jnp.real(jnp.sum(weight / double))
        # next to as many modes as samples, rounding is multiplied by the variance
        peak = variance * float(jnp.finfo(eigs.dtype).eps) ** 0.5 > noise
        status = status_where((missing | also_missing | peak, Status.NOT_CONVERGED))
        valid = (n > 0) & (n < jnp.inf) & (noise >= 0) & (noise < jnp.inf) & (t >= 0) & (t < jnp.inf)
        return judged(FlowCurve(bias, variance, bias + variance, train, status), valid & is_legal(eigs, beta), status)

    return jax.lax.map(one, times)


def _beyond(kappa: Array, zeta: Array, tau: Array, least: Array, n: Array) -> Array:
    """1 − L = κ/(τ + κ) less its value at ζ = 0, where κ = `least`, without cancellation."""
    over = 1 / (tau + kappa[:, None])
    # κ (κ − least) Σ τ/((τ + least)(τ + κ)) = n ζ where least > 0
    some = jnp.real(least) > 0
    total = jnp.where(some, tau + least, 1)
    grown = n * zeta / (kappa * jnp.sum(tau / total * over, axis=1))
    return jnp.where(some, tau / total * over * grown[:, None], kappa[:, None] * over)


def _parabola(dtype: jnp.dtype) -> tuple[Array, Array]:
    """Nodes ζ and weights: e^(−x) = Re Σ weight/(ζ + x) over the nodes and their conjugates, to rounding, x ≥ 0."""
    u, width = _path(dtype, 1)
    u = np.concatenate([-u[::-1], u])
    zeta = width * (1 + 1j * u) ** 2
    weight = 3 / (len(u) // 2) * width / np.pi * np.exp(zeta) * (1 + 1j * u)
    kind = jnp.complex128 if dtype == jnp.float64 else jnp.complex64
    return jnp.asarray(zeta, kind), jnp.asarray(weight, kind)


def _path(dtype: jnp.dtype, substeps: int) -> tuple[np.ndarray, float]:
    """Points u of the upper branch of ζ = width (1 + iu)², whose nodes are (k + 1/2) 3/half, and the width."""
    half = 16 if dtype == jnp.float64 else 8
    first = 3 / (2 * half * substeps) * (1 if substeps == 1 else 2)
    points = half if substeps == 1 else substeps * half - substeps // 2
    return first + 3 / (half * substeps) * np.arange(points), np.pi * half / 12


def _complex_kappa(tau: Array, n: Array, zeta: Array) -> tuple[Array, Array]:
    """κ with κ (1 − Σ τ/(τ + κ)/n) = ζ at the nodes, and whether one misses; by Newton along the path from ζ > 0."""
    fine, width = _path(tau.dtype, _SUBSTEPS)
    path = jnp.asarray(width * (1 + 1j * fine) ** 2, zeta.dtype)
    infinite, none = jnp.asarray(jnp.inf, tau.dtype), jnp.zeros_like(n)
    start = balance(tau, n, infinite, n * width, none).gamma
    modes, samples = tau.astype(zeta.dtype), n.astype(zeta.dtype)

    def follow(kappa: Array, target: Array) -> tuple[Array, Array]:
        for _ in range(3):
            learned = modes / (modes + kappa)
            left = kappa * (1 - jnp.sum(learned) / samples) - target
            kappa = kappa - left / (1 - jnp.sum(learned**2) / samples)
        return kappa, kappa

    kappas = jax.lax.scan(follow, start.astype(zeta.dtype), path)[1][_SUBSTEPS // 2 - 1 :: _SUBSTEPS]
    kappas = jnp.concatenate([jnp.conj(kappas[::-1]), kappas])
    left = kappas * (1 - jnp.sum(modes[None] / (modes[None] + kappas[:, None]), axis=1) / samples) - zeta
    return kappas, (jnp.abs(left) > 1e3 * float(jnp.finfo(tau.dtype).eps) * (jnp.abs(zeta) + jnp.abs(kappas))).any()
