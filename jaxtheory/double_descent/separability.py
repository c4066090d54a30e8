"""Linear separability of noisy labels in high dimension, and the classifier of the largest margin."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, nonnegative, positive
from jaxtheory.double_descent.asymptotics import Number
from jaxtheory.double_descent.spectral import judged
from jaxtheory.double_descent.teachers import Link, aligned, ramp, squared_ramp
from jaxtheory.results import Status, status_where

_HALVINGS = 48
_WIDE = 34.0  # sinh of it, 3e14, is beyond the slopes that are met, and the squares of sums are numbers


class MaxMargin(NamedTuple):
    """The largest margin min_i y_i⟨w, x_i⟩ over ‖w‖ = 1, the cosine of w with the teacher, and the test error of w."""

    margin: Float[Array, "..."]
    alignment: Float[Array, "..."]
    error: Float[Array, "..."]
    status: Int[Array, "..."]


@boundary
def separability_threshold(signal: Number, link: Link = "logistic") -> Float[Array, "..."]:
    r"""Features per sample ψ = p/n beyond which n noisy labels are linearly separable, n, p → ∞.

        x ~ N(0, I_p),  P(y = 1 | x) = p(signal · ⟨x, β⟩/‖β‖),   ψ* = min_t E(−t yG − Z)₊²,  G = ⟨x, β⟩/‖β‖,  Z normal

    Below it the maximum-likelihood estimate exists; above it the training error of a classifier can be 0, and logistic
    regression diverges towards `max_margin`. Without signal it is Cover's 1/2.

    Args:
        signal: ρ ≥ 0, the strength of the teacher, of any shape.
        link: p, "logistic" (1/(1 + e^(−x))) or "probit" (the normal distribution function).

    Returns:
        ψ* in (0, 1/2], decreasing in ρ; differentiable twice.

    Raises:
        ValueError: a signal that is negative or not finite (NaN inside `jit`).

    Cost: 50 sums over about 500 nodes a point. Source: Candès and Sur (2020), theorem 1; Cover (1965).

    >>> [f"{value:.4f}" for value in separability_threshold(jnp.array([0.0, 1.0, 5.0]))]
    ['0.5000', '0.4389', '0.1851']
    """
    signal = jnp.asarray(nonnegative("signal", signal, "pass the strength of the teacher, 0.0 for random labels"))
    return _threshold(signal, link)


@jax.jit(static_argnames="link")
def _threshold(signal: Array, link: Link) -> Array:
    def slope(t: Array, signal: Array) -> Array:  # half the derivative of E(−tS − Z)₊² by t
        s, weight = aligned(signal, link, jnp.zeros_like(t), t)
        return -jnp.sum(weight * s * ramp(-t * s))

    def one(signal: Array) -> Array:
        given = jnp.where((signal >= 0) & (signal < jnp.inf), signal, jnp.nan)
        large = float(jnp.finfo(given.dtype).eps) ** -0.5  # beyond it ρψ* is its limit, up to 1/ρ²
        far = given >= large
        signal = jnp.where(far, large, given)
        fixed = jax.lax.stop_gradient(signal)
        t = _slope_where(lambda t: slope(t, fixed), fixed)

        def newton(_: Array, t: Array) -> Array:
            value, rate = jax.jvp(lambda t: slope(t, signal), (t,), (jnp.ones_like(t),))
            return t - value / rate

        t = jax.lax.fori_loop(0, 2, newton, t)
        s, weight = aligned(signal, link, jnp.zeros_like(t), t)
        found = jnp.sum(weight * squared_ramp(-t * s))
        return found * jnp.where(far, large / jnp.where(far, given, large), 1)

    return jnp.vectorize(one)(signal)


@boundary
def max_margin(aspect: Number, signal: Number, *, link: Link = "logistic") -> MaxMargin:
    r"""The classifier of the largest margin on isotropic Gaussian data with noisy labels, n, p → ∞.

        x ~ N(0, I_p),  P(y = 1 | x) = p(signal · ⟨x, β⟩/‖β‖),  ŵ = argmax_{‖w‖=1} min_i y_i ⟨w, x_i⟩,  p/n → aspect

    With S = yG as in `separability_threshold`, the margin κ is the one zero of
    min {√(E(κ − c₁S − c₂Z)₊²) − √aspect c₂ : c₁² + c₂² = 1}, attained at c₁ = alignment = ⟨ŵ, β⟩/‖β‖, and
    error = P(c₁S + c₂Z < 0). It is where gradient descent on the logistic loss converges in direction.

    In u = κ/c₂ and a = c₁/c₂ the margin is the maximum of u/√(1 + a²) on the convex set E(u − aS − Z)₊² ≤ aspect.

    Args:
        aspect: ψ = p/n > 0, features per sample. signal: ρ ≥ 0. The two broadcast.
        link: p, "logistic" or "probit".

    Returns:
        `MaxMargin`; NaN and NOT_FINITE where the data are not separable (aspect ≤ ψ*), NOT_CONVERGED where the
        equations are not solved to rounding.

    Raises:
        ValueError: aspect not positive, signal negative, or either not finite.

    Cost: 2000 sums over about 500 nodes a point. Differentiable twice. Source: Montanari, Ruan, Sohn, Yan (2019),
    theorem 1; Deng, Kammoun, Thrampoulidis (2022).

    >>> best = max_margin(0.8, 2.0)
    >>> f"{best.margin:.4f} {best.alignment:.4f} {best.error:.4f}"
    '0.4759 0.4953 0.3771'
    """
    aspect = positive("aspect", aspect, "pass features per sample")
    signal = nonnegative("signal", signal, "pass the strength of the teacher, 0.0 for random labels")
    dtype = jnp.result_type(aspect, signal)
    return _max_margin(*jnp.broadcast_arrays(jnp.asarray(aspect, dtype), jnp.asarray(signal, dtype)), link)


@jax.jit(static_argnames="link")
def _max_margin(aspect: Array, signal: Array, link: Link) -> MaxMargin:
    def one(aspect: Array, signal: Array) -> MaxMargin:
        def newton(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            at, _ = carry
            ((p, q), (r, s)), value = jax.jacfwd(lambda x: (_stationary(x, aspect, signal, link),) * 2, has_aux=True)(
                at
            )
            step = jnp.stack([s * value[0] - q * value[1], p * value[1] - r * value[0]]) / (p * s - q * r)
            return at - step, jnp.abs(value).max()

        start = _widest_margin(*jax.lax.stop_gradient((aspect, signal)), link)
        (u, a), left = jax.lax.fori_loop(0, 3, newton, (start, jnp.zeros_like(aspect)))
        # Newton's method goes anywhere where no margin is positive
        u, long = jnp.where((start[0] > 0) & (u > 0), u, jnp.nan), jnp.sqrt(1 + a**2)
        s, weight = aligned(signal, link, jnp.zeros_like(a), a)
        status = status_where(
            (~(u > 0), Status.NOT_FINITE), (left > 1e3 * float(jnp.finfo(u.dtype).eps), Status.NOT_CONVERGED)
        )
        alignment, error = (jnp.where(u > 0, v, jnp.nan) for v in (a / long, jnp.sum(weight * ndtr(-a * s))))
        valid = (aspect > 0) & (aspect < jnp.inf) & (signal >= 0) & (signal < jnp.inf)
        return judged(MaxMargin(u / long, alignment, error, status), valid, status)

    return jnp.vectorize(one)(aspect, signal)


def _widest_margin(aspect: Array, signal: Array, link: Link) -> Array:
    """u and a of the largest u/√(1 + a²) with E(u − aS − Z)₊² ≤ aspect, by bisection of arsinh a and of u."""

    def widest(a: Array) -> Array:
        low, high = -12 * (1 + a), jnp.sqrt(aspect) + a
        return _bisect(lambda u: _means(u, a, signal, link)[0] - aspect, low, high)

    def past(a: Array) -> Array:  # positive where the margin falls with a
        u = widest(a)
        _, along, total = _means(u, a, signal, link)
        return jnp.where(u > 0, a * u * total - (1 + a**2) * along, -along)

    a = _slope_where(past, aspect)
    return jnp.stack([widest(a), a])


def _stationary(at: Array, aspect: Array, signal: Array, link: Link) -> Array:
    """Both equations, in terms of order 1 at every aspect."""
    u, a = at
    filled, along, total = _means(u, a, signal, link)
    long = jnp.sqrt(1 + a**2)
    return jnp.stack([filled / aspect - 1, a / long * u - along / total * long])


def _means(u: Array, a: Array, signal: Array, link: Link) -> tuple[Array, Array, Array]:
    """E X₊², E S X₊ and E X₊ of X = u − aS − Z."""
    s, weight = aligned(signal, link, u / jnp.maximum(a, jnp.abs(u) / 16), a)
    x = u - a * s
    return jnp.sum(weight * squared_ramp(x)), jnp.sum(weight * s * ramp(x)), jnp.sum(weight * ramp(x))


def _slope_where(rising: Callable[[Array], Array], like: Array) -> Array:
    """The zero t ≥ 0 of a function that changes sign once, from minus to plus, by bisection of arsinh t."""
    low, high = jnp.zeros_like(like), jnp.full_like(like, _WIDE)
    return jnp.sinh(_bisect(lambda x: rising(jnp.sinh(x)), low, high))


def _bisect(rising: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The zero of a function that changes sign once, from minus to plus."""

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (bounds[0] + bounds[1]) / 2
        above = rising(middle) > 0
        return jnp.where(above, bounds[0], middle), jnp.where(above, middle, bounds[1])

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, jax.lax.stop_gradient((low, high)))
    return jax.lax.stop_gradient((low + high) / 2)
