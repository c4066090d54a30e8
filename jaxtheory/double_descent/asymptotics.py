r"""Exact risks of ridge regression where samples, features and dimension grow in proportion.

Both laws here are written with the unknowns of the fixed point that balances degrees of freedom, in sums of positive
terms. The published formulas, polynomials of degree five whose terms cancel, are the same functions; in this form
float32 keeps its digits through the interpolation threshold.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.activations import gaussian_moments
from jaxtheory.activations.named import Activation
from jaxtheory.checks import boundary, constrain, holds, nonnegative, positive, require
from jaxtheory.results import Status, status_where

Number = float | Float[Array, "..."]

# From its start below the root, Newton was within round-off in 13 steps at all of 4e5 points with psi in 1e-4..1e4,
# lam in 0..1e8 and zeta² in 1e-6..1e6, a good half of them at or near the threshold.
_NEWTON_STEPS = 24
_ROUND_OFF = 100  # of eps: what a few dozen roundings leave of a residual


class Asymptotics(NamedTuple):
    """Mean squared errors of ridge regression in the proportional limit, each of the arguments' common shape.

    `excess` is E(f̂(x) − f(x))² at a fresh point, free of label noise: the sum of `bias`, the error of f̂ averaged over
    label noise against what the model can express of f; `variance`, which the noise causes, and with it the rest of f,
    as it acts like noise (`nonlinear` of `mei_montanari`, `unseen` of `isotropic`); and the power of that rest itself.
    `train` is the mean squared residual ‖y − ŷ‖²/n at the n training points, their label noise included, the penalty
    left out.
    """

    bias: Float[Array, "..."]
    variance: Float[Array, "..."]
    excess: Float[Array, "..."]
    train: Float[Array, "..."]
    status: Int[Array, "..."]


@boundary
def isotropic(gamma: Number, *, signal: Number, noise: Number, lam: Number, unseen: Number = 0.0) -> Asymptotics:
    r"""Risk of ridge regression on isotropic data, p/n → γ, where the model may see only some of the features.

        y = ⟨x, β⟩ + ⟨w, θ⟩ + ε,  ‖β‖² = signal,  ‖θ‖² = unseen,  Var ε = noise,
        β̂ = argmin (1/n)‖y − Xβ‖² + lam ‖β‖²   (x is seen; w, isotropic and independent of x, is not)

    With κ ≥ 0 and s = lam/κ from γ/(1 + κ) + lam/κ = 1, that is κ − s = γ + lam − 1 and κ s = lam,

        D = γκ + s(1 + κ)²,   bias = signal κ²/D,   variance = (noise + unseen) γ/D,
        excess = bias + variance + unseen,   train = s² (excess + noise)

    What is not seen is noise of the same power to the fit, and is missed by the prediction. At lam = 0 this is the
    min-norm solution: with v = noise + unseen, for γ < 1 bias 0, variance v γ/(1 − γ); for γ > 1 bias
    signal·(1 − 1/γ), variance v/(γ − 1); at γ = 1 the variance is infinite. The best ridge is lam = v γ/signal.

    In terms of solvers that add `ridge` to the unnormalized Gram, XᵀX + ridge·I: **ridge = n · lam**.

    Args:
        gamma: γ = p/n > 0, features per sample.
        signal: ‖β‖² ≥ 0; β may point anywhere. The entries of x are independent, of mean 0 and variance 1.
        noise: σ² ≥ 0, the variance of the label noise.
        lam: ≥ 0, of the objective normalized by n.
        unseen: ‖θ‖² ≥ 0, the power of the target outside the seen features; 0 if the model is well specified.
            All five broadcast against each other; the result has their float dtype.

    Returns:
        `Asymptotics`, with excess = bias + variance + unseen. `status` is `NOT_FINITE` where the variance is infinite
        and `INVALID_INPUT`, with NaN values, where an argument inside `jit` is out of range.

    Raises:
        ValueError: γ ≤ 0, or another argument negative or not finite (outside `jit`).

    Accuracy: sums of positive terms only; in float32 within 2e-6, relative, of the exact answer to the rounded
    arguments, at and off the threshold. Differentiable in every argument but at γ = 1, lam = 0.
    Cost: O(1) a point. Source: Dobriban and Wager (2018), Theorem 2.1; Hastie, Montanari, Rosset and Tibshirani
    (2022), Theorems 1 and 5 and, for `unseen`, their section on misspecified models; in κ, Bordelon, Canatar and
    Pehlevan (2020).

    >>> risk = isotropic(jnp.array([0.5, 1.25]), signal=1.0, noise=0.25, lam=0.1)
    >>> [f"{value:.5f}" for value in risk.excess]
    ['0.17678', '0.54048']
    >>> f"{isotropic(0.5, signal=1.0, noise=0.25, lam=0.0, unseen=0.5).excess:.2f}"  # 0.75 γ/(1 − γ) + 0.5
    '1.25'
    """
    powers = _powers(signal=signal, noise=noise, lam=lam, unseen=unseen)
    return _isotropic(*_common(positive("gamma", gamma, "pass a ratio of two sizes"), *powers))


@jax.jit
def _isotropic(
    gamma: Float[Array, "*s"],
    signal: Float[Array, "*s"],
    noise: Float[Array, "*s"],
    lam: Float[Array, "*s"],
    unseen: Float[Array, "*s"],
) -> Asymptotics:
    valid = (gamma > 0) & (lam >= 0) & (signal >= 0) & (noise >= 0) & (unseen >= 0)
    gamma = jnp.where(valid, gamma, jnp.nan)
    kappa, shrinkage = split(gamma - 1 + lam, lam)
    scale = gamma * kappa + shrinkage * (1 + kappa) ** 2
    # At the ridgeless threshold κ and D vanish together, κ²/D → 0.
    bias = signal * jnp.where(scale == 0, 0, kappa**2 / jnp.where(scale == 0, 1, scale))
    variance = times(noise + unseen, gamma / scale)
    return _result(bias, variance, bias + variance + unseen, noise, shrinkage, valid)


@boundary
def mei_montanari(
    psi1: Number,
    psi2: Number,
    lam: Number,
    *,
    activation: str | Activation,
    signal: Number,
    noise: Number,
    nonlinear: Number = 0.0,
) -> Asymptotics:
    r"""Risk of random-features ridge regression, N/d → ψ1 features and n/d → ψ2 samples in dimension d.

        Z_ij = σ(⟨x_i, θ_j⟩/√d),  x_i, θ_j uniform on the sphere of radius √d,  y = ⟨x, β⟩ + f_nl(x) + ε,
        â = argmin (1/n)‖y − Za‖² + (N lam/d)‖a‖²,   signal F1² = ‖β‖²,  nonlinear F*² = E f_nl²,  noise τ² = Var ε

    With ζ = μ1/μ* of the activation (`gaussian_moments`) and λ̄ = lam/μ*², x ≥ 0 is the one root of

        g(x) + p = ψ1,  g(x) + r = ψ2,  p r = ψ1 ψ2 λ̄ x,   g = x + L,  L = ζ²x/(1 + ζ²x)

    (x = −χ of the paper; p and r are the features and samples, per dimension, that are not used up), and

        Δ = p r + (g − L²)(p + r),   B = ψ2 (1 − L)(ψ1 (1 − L) + L x)/Δ,   V = (L² p + g (g − L²))/Δ,
        bias = F1² B,   variance = (τ² + F*²) V,   excess = F1² B + (τ² + F*²) V + F*²,
        train = (r/ψ2)² (excess + τ²)

    B = ℰ1/ℰ0 and V = ℰ2/ℰ0 identically in x, but with no cancellation. lam = 0 is the min-norm solution, for which
    x solves the quadratic g(x) = min(ψ1, ψ2).

    In terms of solvers that add `ridge` to the unnormalized Gram, ZᵀZ + ridge·I: **ridge = n · N · lam / d** with Z as
    above; features that carry a further 1/√N or 1/√d divide the ridge by N or d.

    Args:
        psi1: N/d > 0; infinity for the kernel limit, in which ZZᵀ/N is a kernel and nN·lam/d adds n·lam/d to it.
        psi2: n/d > 0; infinity for the population's own ridge regression, E zzᵀ + (N lam/d) I. Not both at once.
        lam: λ ≥ 0, the paper's.
        activation: σ, a name or an elementwise function with a nonlinear part; see `activations.gaussian_moments`.
        signal: F1² ≥ 0, the power of the linear part of the target.
        noise: τ² ≥ 0, the variance of the label noise.
        nonlinear: F*² ≥ 0, the power of the rest of the target, isotropic of degree two and more.
            All but `activation` broadcast against each other; the result has their float dtype.

    Returns:
        `Asymptotics`, with excess = bias + variance + nonlinear. `status` is `NOT_FINITE` where the risk is infinite
        (psi1 = psi2 at lam = 0), `NOT_CONVERGED` where x leaves more than 100 eps of its equation, and
        `INVALID_INPUT`, with NaN values, where an argument inside `jit` is out of range.

    Raises:
        ValueError: psi ≤ 0, another argument negative or not finite (outside `jit`), or an activation that is linear.

    Accuracy: the equation of x, increasing and concave, is solved by Newton from below, which climbs to the one root.
    In float32 the result is within 2e-6, relative, of the exact answer to the rounded arguments for ζ² ≤ 30, at
    and off the threshold; beyond, the error grows like ζ, the condition of x. Differentiable in every number, to any
    order (implicit function theorem), but at psi1 = psi2 with lam = 0.
    Cost: some 600 flops a point, and one `gaussian_moments`. Source: Mei and Montanari (2022), Definition 1 and
    Theorems 2 and 3; in this form and for `train`, Simon, Karkada, Ghosh and Belkin (2023), the random-feature
    eigenframework, on a spectrum of d equal modes and a flat rest.

    >>> risk = mei_montanari(jnp.array([1.0, 3.0, 6.0]), 2.0, 0.0, activation="relu", signal=1.0, noise=1.0)
    >>> [f"{value:.6f}" for value in risk.bias]
    ['0.895812', '0.530820', '0.188371']
    """
    hint = "pass a ratio of two sizes, or infinity"
    sizes = [constrain(name, psi, lambda v: v > 0, "be > 0", hint) for name, psi in (("psi1", psi1), ("psi2", psi2))]
    one = holds(lambda a, b: np.isfinite(np.minimum(a, b)), psi1, psi2)
    require(one, "psi2", psi2, "be finite where psi1 is not", "take one limit at a time")
    powers = _powers(lam=lam, signal=signal, noise=noise, nonlinear=nonlinear)
    moments = gaussian_moments(activation)
    # Rounding leaves a linear function 1e-30 of its power; one with 1e-24 has λ̄ and ζ² too large to mean anything.
    curved = moments.nonlinear > 1e-24 * moments.second
    hint = "use isotropic for linear features"
    require(curved, "activation", activation, "have a nonlinear part, E σ² > (E σ)² + (E Gσ)²", hint)
    zeta2, ridge = moments.linear**2 / moments.nonlinear, 1 / moments.nonlinear
    return _mei_montanari(_Features(*_common(*sizes, *powers, zeta2, ridge)))


class _Features(NamedTuple):
    """Arguments of `mei_montanari`, ζ² and 1/μ*² of the activation, of one shape."""

    psi1: Float[Array, "*s"]
    psi2: Float[Array, "*s"]
    lam: Float[Array, "*s"]
    signal: Float[Array, "*s"]
    noise: Float[Array, "*s"]
    nonlinear: Float[Array, "*s"]
    zeta2: Float[Array, "*s"]
    scale: Float[Array, "*s"]


@jax.jit
def _mei_montanari(given: _Features) -> Asymptotics:
    psi1, psi2, lam, signal, noise, nonlinear, zeta2, scale = given
    valid = (psi1 > 0) & (psi2 > 0) & (lam >= 0) & (signal >= 0) & (noise >= 0) & (nonlinear >= 0)
    valid = valid & jnp.isfinite(jnp.minimum(psi1, psi2))
    psi1 = jnp.where(valid, psi1, jnp.nan)
    x, residual = _unresolved(psi1, psi2, lam * scale, zeta2)
    used, learned, rest = _degrees(x, zeta2)
    features, samples = _unused(psi1, psi2, lam * scale * x)
    spread = x + learned * rest  # g − L²
    a, b = 1 / psi1, 1 / psi2  # 0 at infinity; else all is as in the docstring, over ψ1 ψ2
    delta = features * samples + spread * (b * features + a * samples)
    bias = times(signal, rest * (rest + a * learned * x) / delta)
    variance = times(noise + nonlinear, b * (learned**2 * features + a * used * spread) / delta)
    slack = _ROUND_OFF * jnp.finfo(x.dtype).eps * jnp.minimum(psi1, psi2)
    return _result(
        bias, variance, bias + variance + nonlinear, noise, samples, valid, converged=jnp.abs(residual) <= slack
    )


def _unused(psi1: Array, psi2: Array, product: Array) -> tuple[Array, Array]:
    """The fractions p/ψ1 of features and r/ψ2 of samples that are not used up; their product is λ̄x."""
    fewer = psi1 <= psi2
    small, large = jnp.where(fewer, psi1, psi2), jnp.where(fewer, psi2, psi1)
    apart = jnp.where(jnp.isinf(large), 1, (large - small) / jnp.where(jnp.isinf(large), 1, large))
    of_large, scaled = split(apart, product * small / large)
    # The smaller fraction is the product over the larger one: small/large would be 0/0 at infinity.
    of_small = jnp.where(of_large > 0, product / jnp.where(of_large > 0, of_large, 1), scaled)
    return jnp.where(fewer, of_small, of_large), jnp.where(fewer, of_large, of_small)


def _unresolved(
    psi1: Float[Array, "*s"], psi2: Float[Array, "*s"], ridge: Float[Array, "*s"], zeta2: Float[Array, "*s"]
) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """x with g(x) + min(p, r) = min(ψ1, ψ2), and what is left of that equation."""
    fewer = psi1 <= psi2
    smaller = jnp.where(fewer, psi1, psi2)  # and not the minimum, whose derivative at a tie is that of neither

    def equation(x: Array) -> Array:
        unused = jnp.where(fewer, *_unused(psi1, psi2, ridge * x))
        return _degrees(x, zeta2)[0] + smaller * unused - smaller

    def climb(function: Callable, start: Array) -> Array:
        def newton(_: Int[Array, ""], x: Array) -> Array:
            value, slope = jax.jvp(function, (x,), (jnp.ones_like(x),))
            return x - value / slope

        return jax.lax.fori_loop(0, _NEWTON_STEPS, newton, start)

    # g ≤ (1 + ζ²)x and min(p, r) ≤ √(ψ1ψ2λ̄x), so the root of the bounds' sum is below that of the equation; where one
    # ψ is infinite, min(p, r) is ψλ̄x itself.
    cost = psi1 * psi2 * ridge
    below = (2 * smaller / (jnp.sqrt(cost) + jnp.sqrt(cost + 4 * (1 + zeta2) * smaller))) ** 2
    below = jnp.where(jnp.isinf(jnp.maximum(psi1, psi2)), smaller / (1 + zeta2 + smaller * ridge), below)
    x = jax.lax.custom_root(
        equation, jax.lax.stop_gradient(below), climb, lambda linear, y: y / linear(jnp.ones_like(y))
    )
    return x, equation(x)


def _degrees(x: Array, zeta2: Array) -> tuple[Array, Array, Array]:
    """Degrees of freedom used, g = x + L; the learned fraction L of a linear mode; and 1 − L."""
    rest = 1 / (1 + zeta2 * x)
    learned = zeta2 * x * rest
    return x + learned, learned, rest


def split(difference: Array, product: Array) -> tuple[Array, Array]:
    """The a, b ≥ 0 with a − b = difference and a b = product, both without cancellation."""
    square = difference**2 + 4 * product
    root = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), square)
    positive = difference >= 0
    larger = (root + jnp.where(positive, difference, -difference)) / 2
    smaller = jnp.where(larger > 0, product / jnp.where(larger > 0, larger, 1), larger)
    return jnp.where(positive, larger, smaller), jnp.where(positive, smaller, larger)


def times(power: Array, factor: Array) -> Array:
    """power · factor, and 0 for no power where the factor is infinite."""
    none = power == 0
    return jnp.where(none, power * jnp.where(none & jnp.isinf(factor), 1, factor), power * factor)


def _result(
    bias: Array,
    variance: Array,
    excess: Array,
    noise: Array,
    shrinkage: Array,
    valid: Array,
    *,
    converged: Array | bool = True,
) -> Asymptotics:
    """With the training error, which is the test error shrunk, and 0 where the fit interpolates."""
    interpolates = shrinkage == 0
    train = jnp.where(interpolates, 0, shrinkage**2 * (excess + noise))
    finite = jnp.isfinite(bias) & jnp.isfinite(variance) & jnp.isfinite(excess) & jnp.isfinite(train)
    status = status_where(
        (~valid, Status.INVALID_INPUT), (~finite, Status.NOT_FINITE), (~jnp.asarray(converged), Status.NOT_CONVERGED)
    )
    return Asymptotics(bias, variance, excess, train, status)


def _common(*values: Number) -> list[Array]:
    """The values as arrays of one shape and one float dtype: that of the arrays among them."""
    dtype = jnp.result_type(*values)
    return list(jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values)))


def _powers(**values: Number) -> list[Number]:
    hint = "pass powers and variances, and lam=0 for the min-norm solution"
    return [nonnegative(name, value, hint) for name, value in values.items()]
