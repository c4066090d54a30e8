"""Penalized classification with a convex loss on data of any covariance, in the proportional limit."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, constrain, nonnegative, positive
from jaxtheory.double_descent.asymptotics import Number
from jaxtheory.double_descent.classifiers import Classifier, Loss, solved
from jaxtheory.double_descent.margin_losses import AGAIN, MEANS, PREPARE, Means
from jaxtheory.double_descent.spectral import common, is_legal, judged, spectrum
from jaxtheory.double_descent.teachers import Link
from jaxtheory.guarded import power_of_two
from jaxtheory.results import Status, status_where

_ITERATIONS, _NEWTON, _STEP = 400, 5, 0.5


@boundary
def covariance_logistic(
    eigs: Float[Array, " modes"],
    beta: Float[Array, " modes"],
    n: Number,
    ridge: Number,
    signal: Number,
    *,
    loss: Loss = "logistic",
    link: Link = "logistic",
) -> Classifier:
    r"""`logistic` on data of any covariance: n samples x = Σ^{1/2} z, labels of a linear teacher β.

        P(y = 1 | x) = p(signal · ⟨x, t⟩),  t = β/√(βᵀΣβ),  b = argmin (1/n) Σ ℓ(y_i ⟨x_i, b⟩) + (ridge/2) ‖b‖²

    The scores ⟨x, b⟩ = mG + sZ, G = ⟨x, t⟩, have m = alignment = bᵀΣt and q = m² + s² = bᵀΣb. With f, V as in
    `logistic`, S = yG, and D_i = n ridge + V̂ λ_i,

        V̂ = −(n/s) E Z f,   m̂ = n E S f + m V̂,   q̂ = n E f²,
        V = Σ λ_i/D_i,   m = m̂ Σ λ_i² t_i²/D_i,   q = q̂ Σ λ_i²/D_i² + m̂² Σ λ_i³ t_i²/D_i²,
        ‖b‖² = q̂ Σ λ_i/D_i² + m̂² Σ λ_i² t_i²/D_i²

    Random features z = σ(Wx) of normal x follow by Gaussian equivalence, with Σ = E zzᵀ and β = Σ^(−1) E z⟨x, θ⟩ for a
    teacher θ with E⟨x, θ⟩² = 1, of which the features see the part γ = βᵀΣβ: probit labels at ρ are then probit labels
    at signal = ρ √γ/√(1 + ρ² (1 − γ)).

    A hinge with little ridge is the largest margin 1/‖b‖ where the data are separable: its penalty is exact.

    Args:
        eigs: λ_i ≥ 0. beta: β in the eigenbasis, with βᵀΣβ > 0.
        n: samples > 0. ridge: > 0, of the mean loss. signal: ρ ≥ 0, the strength of the teacher. The three broadcast.
        loss: "logistic", "hinge" or "squared". link: "logistic" or "probit".

    Returns:
        `Classifier`; `cosine` is m/√q, the correlation of the scores of b and of the teacher, from which the error
        follows. NOT_CONVERGED where the equations are not solved, or the nodes are too coarse, as for `logistic`.

    Raises:
        ValueError: arguments that are negative or not finite, n or ridge 0, a teacher without variance.

    Accuracy: as `logistic`; the eigenvalues enter by sums alone. Cost: 400 sums over 400 nodes and the modes a point.
    Differentiable as `logistic`. Source: Loureiro et al. (2021), theorem 4 and, for features,
    Goldt et al. (2022); Montanari, Ruan, Sohn, Yan (2019).

    >>> fit = covariance_logistic(jnp.ones(50), jnp.ones(50), 100, 0.1, 2.0)
    >>> f"{fit.alignment:.3f} {fit.cosine:.3f} {fit.error:.3f} {fit.squared_norm:.3f}"
    '0.927 0.685 0.325 1.832'
    """
    eigs, beta = spectrum(eigs, beta)
    beta = beta / power_of_two(beta)  # only its direction counts
    n = positive("n", n, "draw at least one sample")
    ridge = positive("ridge", ridge, "pass a small penalty, e.g. ridge=1e-6")
    signal = nonnegative("signal", signal, "pass the strength of the teacher, 0.0 for random labels")
    power = jnp.sum(eigs / power_of_two(eigs) * beta**2)
    constrain("beta", power, lambda v: v > 0, "have Σ λ β² > 0", "pass a teacher within the data")
    return _covariance_logistic(eigs, beta, *common(eigs, n, ridge, signal), loss=loss, link=link)


@jax.jit(static_argnames=("loss", "link"))
def _covariance_logistic(
    eigs: Array, beta: Array, n: Array, ridge: Array, signal: Array, *, loss: Loss, link: Link
) -> Classifier:
    power = eigs / power_of_two(eigs) * beta**2
    power = power / jnp.sum(power)

    def one(n: Array, ridge: Array, signal: Array) -> Classifier:
        def updated(at: Array, n: Array, ridge: Array, signal: Array, eigs: Array, power: Array) -> tuple[Array, Array]:
            return _updated(at, _means(at, signal, loss, link), n, ridge, eigs, power)

        given = n, ridge, signal, eigs, power
        fixed = jax.lax.stop_gradient(given)
        start = jnp.stack([jnp.ones_like(n), jnp.zeros_like(n), jnp.log(jnp.sum(eigs / (n * (ridge + eigs))))])
        at = jax.lax.fori_loop(
            0, _ITERATIONS, lambda _, at: at + _STEP * (updated(at, *fixed)[0] - at), jax.lax.stop_gradient(start)
        )

        def newton(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            at = carry[0]
            rates, value = jax.jacfwd(lambda x: (updated(x, *given)[0] - x,) * 2, has_aux=True)(at)
            return at - solved(rates, value), jnp.abs(value).max(), rates

        first = at, jnp.zeros_like(n), jnp.zeros_like(n, shape=(3, 3))
        at, left, rates = jax.lax.fori_loop(0, _NEWTON, newton, first)
        found, cosine = _means(at, signal, loss, link), jnp.cos(at[0])
        squared_norm = updated(at, *given)[1]
        eps = float(jnp.finfo(n.dtype).eps)
        lost = ~(left < 100 * eps**0.75)
        if loss in AGAIN:
            # how far the solution is from that of other nodes
            again = _updated(at, _means(at, signal, loss, link, AGAIN), n, ridge, eigs, power)[0] - at
            lost = lost | ~(jnp.abs(solved(rates, again)).max() < eps**0.5)
        status = status_where((lost, Status.NOT_CONVERGED))
        alignment = jnp.exp(at[1]) * cosine
        fit = Classifier(alignment, squared_norm, cosine, found.error, found.test, found.train, status)
        valid = (n > 0) & (n < jnp.inf) & (ridge > 0) & (ridge < jnp.inf) & (signal >= 0) & (signal < jnp.inf)
        return judged(fit, valid & is_legal(eigs, beta), status)

    return jnp.vectorize(one)(n, ridge, signal)


def _means(at: Array, signal: Array, loss: Loss, link: Link, nodes: Any = PREPARE) -> Means:
    angle, log_norm, log_v = at
    return MEANS[loss](nodes[loss](angle, signal, link), angle, jnp.exp(log_norm), jnp.exp(log_v))


def _updated(at: Array, found: Means, n: Array, ridge: Array, eigs: Array, power: Array) -> tuple[Array, Array]:
    """θ, log √q and log V once more around the equations, and ‖b‖²; `power` is λ t², of sum 1."""
    cosine, sine, norm = jnp.cos(at[0]), jnp.sin(at[0]), jnp.exp(at[1])
    s_f = cosine * found.along + sine * found.across  # E S f
    z_f = sine * found.along - cosine * found.across  # E Z f
    v_hat = -n * z_f / (norm * sine)
    m_hat, q_hat = n * s_f + norm * cosine * v_hat, n * found.square
    scale = n * ridge + v_hat * eigs
    share = eigs / scale
    mean = jnp.sum(share * power)
    m, across = m_hat * mean, q_hat * jnp.sum(share**2) + m_hat**2 * jnp.sum((share - mean) ** 2 * power)
    squared_norm = q_hat * jnp.sum(share / scale) + m_hat**2 * jnp.sum(power * share / scale)
    angle, size = jnp.arctan2(jnp.sqrt(across), m), jnp.log(m**2 + across) / 2
    return jnp.stack([angle, size, jnp.log(jnp.sum(share))]), squared_norm
