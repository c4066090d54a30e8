"""Penalized classification with a convex loss on isotropic data with noisy labels, in the proportional limit."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, nonnegative, positive
from jaxtheory.double_descent.asymptotics import Number
from jaxtheory.double_descent.margin_losses import AGAIN, MEANS, PREPARE, Means
from jaxtheory.double_descent.spectral import judged
from jaxtheory.double_descent.teachers import Link
from jaxtheory.guarded import root
from jaxtheory.results import Status, status_where

Loss = Literal["logistic", "hinge", "squared"]

_OUTER, _INNER, _NEWTON = 18, 24, 4
_DECADES = 30.0  # of e: the range of norms below the bound that the penalty gives


class Classifier(NamedTuple):
    """A fit b of the labels of a teacher β: alignment ⟨b, β⟩/‖β‖, ‖b‖², their cosine, and its errors and losses.

    `error` is the probability of a wrong sign at a fresh point, `test_loss` the mean loss there, `train_loss` the mean
    loss at the training points, without the penalty.
    """

    alignment: Float[Array, "..."]
    squared_norm: Float[Array, "..."]
    cosine: Float[Array, "..."]
    error: Float[Array, "..."]
    test_loss: Float[Array, "..."]
    train_loss: Float[Array, "..."]
    status: Int[Array, "..."]


@boundary
def logistic(
    samples_per_dimension: Number, ridge: Number, signal: Number, *, loss: Loss = "logistic", link: Link = "logistic"
) -> Classifier:
    r"""Logistic regression, or another convex loss of the margin, with a ridge on isotropic data; n, d → ∞.

        x ~ N(0, I_d),  P(y = 1 | x) = p(signal · ⟨x, β⟩/‖β‖),  b = argmin (1/n) Σ ℓ(y_i ⟨x_i, b⟩) + (ridge/2) ‖b‖²

    With δ = n/d, S = yG of density 2 φ(S) p(signal S), Z normal, t = mS + sZ and f(t) = −ℓ'(prox), where prox
    minimizes ℓ(u) + (u − t)²/(2V), the fit has alignment m and ‖b‖² = m² + s², the one solution of

        ridge m = E S f(t),   s² = δ V² E f(t)²,   1/V = δ ridge − (δ/s) E Z f(t)

    the stationary point of the convex ridge (m² + s²)/2 + max_V [E min_u (ℓ(u) + (u − t)²/(2V)) − s²/(2δV)].
    Training loss: E ℓ(prox). The number of samples at which logistic regression without a ridge begins to have a
    solution is δ = 1/`separability_threshold`; below it, ridge → 0 leads to `max_margin`.

    Args:
        samples_per_dimension: δ = n/d > 0. ridge: ≥ 0, of the mean loss: n · ridge for a sum of losses.
        signal: ρ ≥ 0, the strength of the teacher. The three broadcast.
        loss: ℓ(t) = "logistic" log(1 + e^(−t)), "hinge" max(0, 1 − t) (the soft-margin support vector machine) or
            "squared" (1 − t)²/2 (least squares on labels ±1).
        link: p, "logistic" or "probit".

    Returns:
        `Classifier`; NOT_CONVERGED where the equations are not solved, as without a ridge where no one solution exists
        (separable data, or fewer samples than dimensions), or where other nodes or rounding would move the angle of b
        and the teacher, log ‖b‖ or log V by √ε.

    Raises:
        ValueError: arguments that are negative or not finite, δ = 0.

    Accuracy: rounding for norms ‖b‖ up to 10, √ε up to about 20 (40 in float32); beyond, for the logistic loss, the
    nodes are too coarse, and the status says so.
    Cost: about 8,000 sums over 400 nodes a point. Differentiable twice but for the hinge, at whose kinks once.
    Source: Salehi, Abbasi, Hassibi (2019), theorem 1; Sur and Candès (2019); Mignacco et al. (2020).

    >>> fit = logistic(2.0, 0.1, 2.0)
    >>> f"{fit.alignment:.4f} {fit.cosine:.4f} {fit.error:.4f} {fit.test_loss:.4f} {fit.train_loss:.4f}"
    '0.9270 0.6849 0.3255 0.6065 0.3388'
    """
    hint = "pass variances and penalties, 0.0 for none"
    delta = positive("samples_per_dimension", samples_per_dimension, "pass a ratio of two sizes")
    numbers = delta, nonnegative("ridge", ridge, hint), nonnegative("signal", signal, hint)
    dtype = jnp.result_type(*numbers)
    return _logistic(*jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in numbers)), loss, link)


@jax.jit(static_argnames=("loss", "link"))
def _logistic(delta: Array, ridge: Array, signal: Array, loss: Loss, link: Link) -> Classifier:
    def one(delta: Array, ridge: Array, signal: Array) -> Classifier:
        def means(at: Array, prepare: Any = PREPARE[loss]) -> Means:
            angle, log_norm, log_v = at
            return MEANS[loss](prepare(angle, signal, link), angle, jnp.exp(log_norm), jnp.exp(log_v))

        def equations(at: Array) -> Array:
            return jnp.stack(_unbalanced(at, means(at), delta, ridge))

        def newton(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            at = carry[0]
            rates, value = jax.jacfwd(lambda x: (equations(x),) * 2, has_aux=True)(at)
            return at - solved(rates, value), jnp.abs(value).max(), rates

        start = _start(*jax.lax.stop_gradient((delta, ridge, signal)), loss, link)
        first = start, jnp.zeros_like(delta), jnp.zeros_like(delta, shape=(3, 3))
        at, left, rates = jax.lax.fori_loop(0, _NEWTON, newton, first)
        found, norm = means(at), jnp.exp(at[1])
        cosine = jnp.cos(at[0])
        # a step of Newton squares what is left, down to rounding
        eps = float(jnp.finfo(norm.dtype).eps)
        lost = ~(left < 100 * eps**0.75)
        # how far rounding of the equations moves the solution: one that a tiny ridge alone decides is not found
        inverse = jnp.stack([solved(rates, row) for row in jnp.eye(3, dtype=norm.dtype)])
        lost = lost | ~(eps * jnp.abs(inverse).max() < eps**0.5)
        if loss in AGAIN:
            # how far the solution is from that of other nodes
            again = jnp.stack(_unbalanced(at, means(at, AGAIN[loss]), delta, ridge))
            lost = lost | ~(jnp.abs(solved(rates, again)).max() < eps**0.5)
        status = status_where((lost, Status.NOT_CONVERGED))
        fit = Classifier(norm * cosine, norm**2, cosine, found.error, found.test, found.train, status)
        valid = (delta > 0) & (delta < jnp.inf) & (ridge >= 0) & (ridge < jnp.inf) & (signal >= 0) & (signal < jnp.inf)
        return judged(fit, valid, status)

    return jnp.vectorize(one)(delta, ridge, signal)


def _unbalanced(at: Array, found: Means, delta: Array, ridge: Array) -> tuple[Array, Array, Array]:
    """Derivatives of the convex objective by angle and by norm, and the logarithm of the equation of V; all of order 1.

    In polar coordinates m = r cos θ, s = r sin θ the field is rT with T = S cos θ + Z sin θ, and W = S sin θ − Z cos θ.
    """
    angle, norm, v = at[0], jnp.exp(at[1]), jnp.exp(at[2])
    pull = norm * jnp.sin(angle) / (delta * v)
    size = root(found.square)
    by_angle = (found.across - pull * jnp.cos(angle)) / size
    by_norm = (ridge * norm - found.along - pull * jnp.sin(angle)) / (size + ridge * norm)
    by_v = jnp.log(v * size * jnp.sqrt(delta) / (norm * jnp.sin(angle)))
    return by_angle, by_norm, by_v


def _start(delta: Array, ridge: Array, signal: Array, loss: Loss, link: Link) -> Array:
    """θ, log r and log V by bisection, one inside the other: the objective is convex in (m, s)."""
    # ridge r²/2 ≤ ℓ(0) ≤ 1
    most = jnp.minimum(jnp.log(2 / ridge) / 2, 15.0)

    def along_norm(angle: Array) -> tuple[Array, Callable[[Array, Array], Array]]:
        """log r and log V at an angle, and the function that tells what is left of the equations at others."""
        prepared = PREPARE[loss](angle, signal, link)

        def left(log_norm: Array, log_v: Array) -> Array:
            found = MEANS[loss](prepared, angle, jnp.exp(log_norm), jnp.exp(log_v))
            return jnp.stack(_unbalanced(jnp.stack([angle, log_norm, log_v]), found, delta, ridge))

        def balance_v(log_norm: Array) -> Array:
            # f² ≤ 2 (1 + t²), so that V is at least r sin θ/√(2δ(1 + r²))
            low = log_norm + jnp.log(jnp.sin(angle)) - jnp.log(2 * delta * (1 + jnp.exp(2 * log_norm))) / 2
            return _bisect(lambda log_v: left(log_norm, log_v)[2], low, jnp.maximum(most_v, low) + 10, _INNER)

        log_norm = _bisect(lambda x: left(x, balance_v(x))[1], most - _DECADES, most, _INNER)
        return jnp.stack([angle, log_norm, balance_v(log_norm)]), left

    def by_angle(angle: Array) -> Array:
        at, left = along_norm(angle)
        return left(at[1], at[2])[0]

    most_v = jnp.minimum(-jnp.log(delta * ridge), 20.0)
    at, left = along_norm(_bisect(by_angle, jnp.full_like(delta, 1e-4), jnp.full_like(delta, np.pi / 2), _OUTER))
    if loss == "hinge":
        # without an error left, V leaves its equation, and is what balances the norm
        low = at[1] - 20
        other = _bisect(lambda log_v: left(at[1], log_v)[1], low, low + 50, _INNER)
        better = jnp.abs(left(at[1], other)).max() < jnp.abs(left(at[1], at[2])).max()
        at = at.at[2].set(jnp.where(better, other, at[2]))
    return at


def _bisect(rising: Callable[[Array], Array], low: Array, high: Array, halvings: int) -> Array:
    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (bounds[0] + bounds[1]) / 2
        over = rising(middle) > 0
        return jnp.where(over, bounds[0], middle), jnp.where(over, middle, bounds[1])

    low, high = jax.lax.fori_loop(0, halvings, halve, (low, high))
    return (low + high) / 2


def solved(rates: Array, value: Array) -> Array:
    """rates^(−1) value of three equations, by cross products."""
    a, b, c = rates.T
    dot = partial(jnp.dot, precision="highest")
    numerators = [dot(value, jnp.cross(b, c)), dot(a, jnp.cross(value, c)), dot(a, jnp.cross(b, value))]
    return jnp.stack(numerators) / dot(a, jnp.cross(b, c))
