r"""Sparse recovery from random measurements, in the limit of many unknowns: the phase transition and the lasso's risk.

A has m rows and N columns of independent N(0, 1/m) entries, m, N → ∞ with δ = m/N (the undersampling) fixed, and the
truth has a share ε of entries that are not 0. What soft thresholding of a scalar N(μ, τ²) does decides everything:

    r(μ; a) = E(soft_a(μ + z) − μ)²,   z ~ N(0, 1).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, ndtr
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, constrain, positive, require, within

_NODES = 48  # Gauss-Legendre: the integrand falls by e^{-40} over the interval
_DEPTH = 40.0
_HALVINGS = {"float32": 48, "float64": 90}  # intervals below rounding, from widths of 1e6


class LassoRisk(NamedTuple):
    """Mean squared error per unknown, effective noise τ, and the share of coefficients that are not 0."""

    mse: Float[Array, "..."]
    tau: Float[Array, "..."]
    nonzero: Float[Array, "..."]


@boundary
def donoho_tanner(undersampling: float | Float[Array, "..."], nonnegative: bool = False) -> Float[Array, "..."]:
    r"""ρ(δ): basis pursuit finds a truth with k nonzero entries from m = δN equations for k/m < ρ, and not above.

    δ = M(ε) and ρ = ε/δ, with M the minimax risk of soft thresholding over a share ε of entries that are not 0:

        M(ε) = min_t ε(1 + t²) + c(1 − ε)[(1 + t²)Φ(−t) − tφ(t)],   c = 2, or 1 for a nonnegative truth

    At the minimum ε t = c(1 − ε)(φ(t) − tΦ(−t)), which leaves, in closed form, what is solved here:

        (1 − δ)/δ = √(2π) t e^{t²/2} (Φ(t) − (c − 1)/2),   ρ = 1 − tΦ(−t)/φ(t)

    Args:
        undersampling: δ in (0, 1], any shape. nonnegative: min Σ x_i subject to x ≥ 0, instead of min Σ|x_i|.

    Returns:
        ρ in (0, 1], of the shape of δ; ρ(1) = 1. Differentiable for δ < 1; at δ = 1 derivatives are returned as 0.

    Raises:
        ValueError: δ outside (0, 1] (outside jit; NaN inside). Cost: some hundred evaluations of Φ.

    Source: Donoho and Tanner (2005, 2009); Donoho, Maleki, Montanari (2009), for the form by minimax risks.

    >>> f"{donoho_tanner(0.5):.6f} {donoho_tanner(0.5, nonnegative=True):.6f}"
    '0.385690 0.558228'
    """
    wish = "lie in (0, 1]"
    given = constrain("undersampling", undersampling, lambda d: (d > 0) & (d <= 1), wish, "pass equations/unknowns")
    return _transition(jnp.asarray(given), nonnegative)


@partial(jax.jit, static_argnames="nonnegative")
def _transition(delta: Array, nonnegative: bool) -> Array:
    whole = delta == 1
    inner = jnp.where(whole, jnp.full_like(delta, 0.5), delta)
    target = jnp.log1p(-inner) - jnp.log(inner)

    def excess(x: Array) -> Array:
        t = jnp.exp(x)
        mass = ndtr(t) if nonnegative else erf(t / math.sqrt(2)) / 2
        return x + math.log(2 * math.pi) / 2 + t**2 / 2 + jnp.log(mass) - target

    def slope(x: Array) -> Array:
        t = jnp.exp(x)
        mass = ndtr(t) if nonnegative else erf(t / math.sqrt(2)) / 2
        return 1 + t**2 + t * _density(t) / mass

    low, high = jnp.full_like(inner, math.log(1e-18)), jnp.full_like(inner, math.log(50.0))
    x = jax.lax.stop_gradient(_bisect(excess, low, high))
    for _ in range(2):  # each step makes one more derivative right
        x = x - excess(x) / slope(x)
    rho = _tail(jnp.exp(x), jnp.zeros_like(x), 1)
    return jnp.where(whole, jnp.ones_like(rho), rho)


@boundary
def lasso_risk(
    undersampling: float | Float[Array, "..."],
    sparsity: float | Float[Array, "..."],
    noise: float | Float[Array, "..."],
    lam: float | Float[Array, "..."],
) -> LassoRisk:
    r"""The limit of the lasso, min_x ½‖y − A x‖² + λ|x|_1, by state evolution, for y = A x_0 + noise, x_0 = ±1 or 0.

    The entries of the solution are those of soft_θ(x_0 + τ z), θ = aτ, in distribution, with (τ, a) the solution of

        τ² = σ² + mse/δ,   mse = τ²[ε r(1/τ; a) + (1 − ε) r(0; a)],   λ = aτ(1 − nonzero/δ),
        nonzero = ε P(|1/τ + z| > a) + 2(1 − ε)Φ(−a)

    For entries of size h instead of 1, pass noise/h² and λ/h; the errors are then in units of h.

    Args:
        undersampling: δ = m/N > 0. sparsity: ε in [0, 1], the share of entries of x_0 that are ±1.
        noise: σ² > 0, the variance of each observation's noise. lam: λ > 0. The four broadcast.

    Returns:
        `LassoRisk` of the common shape; where λ is below the rounding of τ it is the limit λ → 0, basis pursuit for
        δ < 1. NaN where rounding leaves no solution (σ² below round-off of the rest).

    Raises:
        ValueError: numbers out of range (outside jit; NaN inside), shapes that do not broadcast.

    Cost: a bisection inside a bisection, some thousand evaluations of r. First and second derivatives are those of the
    equations. Source: Donoho, Maleki, Montanari (2009); Bayati and Montanari (2012), Theorem 1.5.

    >>> " ".join(f"{part:.5f}" for part in lasso_risk(0.6, 0.1, 0.04, 0.3))
    '0.03439 0.31196 0.21560'
    """
    delta = positive("undersampling", undersampling, "pass equations/unknowns, e.g. 0.5")
    share = within("sparsity", sparsity, 0.0, 1.0, "pass the share of nonzero entries, e.g. 0.1")
    variance = positive("noise", noise, "pass a variance, small for no noise")
    level = positive("lam", lam, "pass a penalty, small for basis pursuit")
    given = [jnp.asarray(part) for part in (delta, share, variance, level)]
    shapes = [part.shape for part in given]
    fits = _broadcast(shapes)
    require(fits is not None, "undersampling", shapes, "have a shape that broadcasts with the others", "align them")
    parts = [jnp.broadcast_to(part.astype(jnp.result_type(*given)), fits).ravel() for part in given]
    found = _states(*parts)
    return LassoRisk(*(part.reshape(fits) for part in found))


def _broadcast(shapes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


@jax.jit
@jax.vmap
def _states(delta: Array, share: Array, variance: Array, lam: Array) -> LassoRisk:
    """The fixed point for one choice of the four numbers."""
    fixed = tuple(jax.lax.stop_gradient(part) for part in (delta, share, variance, lam))
    v, a = _brackets(*fixed)
    at = jax.lax.stop_gradient(jnp.stack([v, a]))
    missed = partial(_equations, delta=delta, share=share, variance=variance, lam=lam)

    def newton(at: Array, _: None) -> tuple[Array, Array]:
        value, (first, second) = missed(at), jax.jacfwd(missed)(at)
        determinant = first[0] * second[1] - first[1] * second[0]
        step = jnp.stack([value[0] * second[1] - value[1] * first[1], value[1] * first[0] - value[0] * second[0]])
        moved = (jnp.abs(first[1]) + jnp.abs(second[1])) / jnp.abs(determinant)  # log τ², by rounding of the equations
        return at - step / determinant, jax.lax.stop_gradient(moved)

    at, moved = jax.lax.scan(newton, at, length=2)  # each step makes one more derivative right
    eps, share_of_unit = jnp.finfo(at.dtype).eps, lam / _unit(at, lam)
    # of λ itself, where that is more than the rounding of aτ
    allowed = 16 * jnp.sqrt(eps) * jnp.stack([jnp.ones_like(share_of_unit), share_of_unit]) + 64 * eps
    solved = (jnp.abs(missed(at)) <= allowed).all() & (8 * eps * moved[-1] <= 4 * jnp.sqrt(eps))
    ratio, nonzero = _scalar(jnp.exp(-at[0] / 2), at[1], share)
    nothing, found = jnp.full_like(ratio, jnp.nan), (ratio * jnp.exp(at[0]), jnp.exp(at[0] / 2), nonzero)
    return LassoRisk(*(jnp.where(solved, part, nothing) for part in found))


def _equations(at: Array, delta: Array, share: Array, variance: Array, lam: Array) -> Array:
    """The two equations in log τ² and a, relative to what they equate; derivatives of quotients square a small τ²."""
    unit = _unit(at, lam)
    ratio, nonzero = _scalar(jnp.exp(-at[0] / 2), at[1], share)
    first = variance * jnp.exp(-at[0]) + ratio / delta - 1
    return jnp.stack([first, at[1] * jnp.exp(at[0] / 2) / unit * (1 - nonzero / delta) - lam / unit])


def _unit(at: Array, lam: Array) -> Array:
    """The larger of aτ and λ."""
    return jax.lax.stop_gradient(jnp.maximum(at[1] * jnp.exp(at[0] / 2), lam))


def _brackets(delta: Array, share: Array, variance: Array, lam: Array) -> tuple[Array, Array]:
    """log τ² and a by bisection: λ(a) grows from −∞ at r(0; a) = δ, and F(τ²) = σ² + mse/δ is concave."""
    zero, one = jnp.zeros_like(delta), jnp.ones_like(delta)

    def level(a: Array) -> Array:
        # F(τ²) ≤ σ² + (ε + τ² r(0; a))/δ, since r(μ; a) ≤ r(0; a) + μ²
        left = 1 - _null_risk(a) / delta
        most = (variance + share / delta) / jnp.where(left > 0, left, one)
        above = lambda v: -_equations(jnp.stack([v, a]), delta, share, variance, lam)[0]  # noqa: E731
        return _bisect(above, jnp.log(variance), jnp.log(most) + 1)

    def excess(a: Array) -> Array:
        usable = _null_risk(a) < delta
        return jnp.where(usable, _equations(jnp.stack([level(a), a]), delta, share, variance, lam)[1], -one)

    widest = jnp.sqrt(2 * jnp.log(2 / jnp.minimum(delta, one)))  # there 2Φ(−a) ≤ δ/2
    a = _bisect(excess, zero, widest + (1 + 2 * lam) / jnp.sqrt(variance))
    return level(a), a


def _scalar(mu: Array, a: Array, share: Array) -> tuple[Array, Array]:
    """mse/τ² and nonzero of soft thresholding at aτ, μ = 1/τ: risks and probabilities, as sums of positive parts.

    r(μ; a) is what is killed, what is left beyond −a, and what is left beyond a.
    """
    size = jnp.minimum(mu, a + 40.0)  # beyond, nothing is killed
    far, near = a + size, a - size
    beyond, zero = jnp.minimum(near, 0.0), jnp.zeros_like(a)
    # one vector, since the special functions are most of the program
    inside, outside, crossed, one, other, null = ndtr(jnp.stack([near, -far, -beyond, mu - a, -mu - a, -a]))
    starts = jnp.stack([far, jnp.maximum(near, 0.0), a])
    below, above, nothing = _density(starts) * _tail(starts, jnp.stack([-size, size, zero]), 2)
    over = (1 + a**2) * crossed + (beyond - 2 * a) * _density(beyond)
    risk = size**2 * (inside - outside) + below + jnp.where(near > 0, above, over)
    kept = share * (one + other) + 2 * (1 - share) * null
    return share * risk + 2 * (1 - share) * nothing, kept


def _null_risk(a: Array) -> Array:
    """r(0; a) = 2 φ(a) ∫_0^∞ u² e^{−au − u²/2} du."""
    return 2 * _density(a) * _tail(a, jnp.zeros_like(a), 2)


def _density(t: Array) -> Array:
    return jnp.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


def _tail(t: Array, center: Array, power: int) -> Array:
    """∫_0^∞ (u − center)^power e^{−tu − u²/2} du for t ≥ 0: no term cancels where the power is even or center ≤ 0."""
    node, weight = (jnp.asarray(part, t.dtype) for part in np.polynomial.legendre.leggauss(_NODES))
    reach = 2 * _DEPTH / (t + jnp.sqrt(t**2 + 2 * _DEPTH))
    u = reach[..., None] * jnp.expand_dims((node + 1) / 2, range(t.ndim))
    values = (u - center[..., None]) ** power * jnp.exp(-t[..., None] * u - u**2 / 2)
    return reach / 2 * jnp.matmul(values, weight, precision="highest")


def _bisect(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """The zero of an increasing function between the ends."""

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        below = function(middle) < 0
        return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

    ends = jax.lax.fori_loop(0, _HALVINGS[low.dtype.name], halve, (low, high))
    return (ends[0] + ends[1]) / 2
