r"""Order and chaos of deep networks: how variance and correlation travel through layers of infinite width.

With z = (σ_w/√n) W φ + σ_b b, the variance q of a unit and the correlation c of two inputs follow, from layer to layer,

    q ↦ σ_w² E[φ(√q G)²] + σ_b²,   c ↦ (σ_w² E[φ(u)φ(v)] + σ_b²)/q*,   χ(c) = σ_w² E[φ'(u)φ'(v)]

and χ₁ = χ(1) is the slope at c = 1: below 1 inputs come together (order), above 1 they part (chaos).

>>> point = fixed_point("erf", 1.5, 0.05)
>>> f"{point.variance:.4f} {point.chi_one:.4f}"
'1.0809 1.2416'
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.activations import dual, dual_pair
from jaxtheory.activations.named import Activation
from jaxtheory.checks import boundary, constrain, nonnegative, positive, require, within
from jaxtheory.guarded import root
from jaxtheory.infinite.roots import bisect, largest_stable, search_grid, without_derivative
from jaxtheory.results import Status, status_where

Scalar = float | Float[Array, ""]
Number = float | Float[Array, "..."]
_CRITICAL = {"float64": 1e-6, "float32": 1e-3}  # how near 1 is χ₁ = 1


class FixedPoint(NamedTuple):
    """Where variance and correlation end, and how fast they get there; correlations below are c*, the stable ones."""

    variance: Float[Array, "..."]
    correlation: Float[Array, "..."]
    chi_variance: Float[Array, "..."]
    chi_one: Float[Array, "..."]
    chi: Float[Array, "..."]
    variance_depth: Float[Array, "..."]
    correlation_depth: Float[Array, "..."]
    status: Int[Array, "..."]


class CriticalPoint(NamedTuple):
    """Scales of weights and biases at the edge of chaos, and the variance that they keep."""

    sigma_w: Float[Array, "..."]
    sigma_b: Float[Array, "..."]
    variance: Float[Array, "..."]
    status: Int[Array, "..."]


class Layers(NamedTuple):
    """Covariance and tangent kernel of two inputs, of the pre-activations of every layer."""

    q11: Float[Array, " depth"]
    q12: Float[Array, " depth"]
    q22: Float[Array, " depth"]
    ntk11: Float[Array, " depth"]
    ntk12: Float[Array, " depth"]


class DeepNTK(NamedTuple):
    """The tangent kernel of infinite depth, and Θ(x, x')/Θ(x, x) there."""

    diagonal: Float[Array, ""]
    off_diagonal: Float[Array, ""]
    ratio: Float[Array, ""]


@boundary
def length_map(phi: str | Activation, *, scale: float = 3.0) -> Callable[..., Float[Array, "..."]]:
    """(q, σ_w, σ_b) ↦ σ_w² E[φ(√q G)²] + σ_b², the variance one layer on; q up to scale².

    The function raises a ValueError for negative or non-finite arguments, and gives NaN inside `jit`.

    Source: Poole et al. (2016), equation 3.

    >>> f"{length_map('relu')(jnp.float32(2.0), 1.0, 0.5):.4f}"
    '1.2500'
    """
    value = dual(phi, scale=scale)

    @boundary
    def following(q: Float[Array, "..."], sigma_w: Number, sigma_b: Number) -> Float[Array, "..."]:
        sigma_w, sigma_b = _check_deviations(sigma_w, sigma_b)
        return sigma_w**2 * value(q, q, q) + sigma_b**2

    return following


@boundary
def correlation_map(phi: str | Activation, *, scale: float = 3.0) -> Callable[..., Float[Array, "..."]]:
    """(c, q, σ_w, σ_b) ↦ (σ_w² E[φ(u)φ(v)] + σ_b²)/q for two inputs of variance q, a fixed point of the length map.

    The function raises a ValueError for correlations outside [−1, 1], q ≤ 0 and negative or non-finite scales, and
    gives NaN inside `jit`.

    Source: Poole et al. (2016), equation 5.

    >>> f"{correlation_map('relu')(jnp.float32(0.0), jnp.float32(1.0), 2**0.5, 0.0):.6f}"
    '0.318310'
    """
    value = dual(phi, scale=scale)

    @boundary
    def following(
        c: Float[Array, "..."], q: Float[Array, "..."], sigma_w: Number, sigma_b: Number
    ) -> Float[Array, "..."]:
        c = within("c", c, -1.0, 1.0, "pass a correlation")
        q = positive("q", q, "pass a variance")
        sigma_w, sigma_b = _check_deviations(sigma_w, sigma_b)
        return (sigma_w**2 * value(q, c * q, q) + sigma_b**2) / q

    return following


@boundary
def fixed_point(phi: str | Activation, sigma_w: Scalar, sigma_b: Scalar, *, scale: float = 3.0) -> FixedPoint:
    r"""Fixed points of the two maps, the slopes there, and the depths over which they are reached.

        q* = σ_w² E φ(√q* G)² + σ_b²,   c* the stable fixed point of the correlation map,
        ξ_q = −1/log |dq'/dq|,   ξ_c = −1/log χ(c*)

    q* is the largest stable one in [0, scale²], bracketed on a grid and bisected; c* = 1 where χ₁ ≤ 1, and is bisected
    in [−1, 1] where not.

    Args:
        phi: a name or an elementwise function.
        sigma_w, sigma_b: scales of weights and biases (standard deviations), ≥ 0.
        scale: the largest √q considered.

    Returns:
        `FixedPoint`. `status` is `NOT_CONVERGED`, and the rest NaN, where variances grow beyond scale² (a ReLU's with
        σ_w² ≥ 2 and biases). ξ is infinite on the critical line. Where q* = 0, correlations mean nothing and are 1.
        Derivatives in both scales are those of the roots, and NaN where there is none: of q* where dq'/dq = 1, and of
        c* and χ(c*) where χ₁ is 1 to √eps, since c* leaves 1 there with a kink. ξ is right to eps/|1 − χ|.
        `ILL_CONDITIONED` where q* is not, to ten √eps: 1 − dq'/dq is below √eps; and where the square of a scale is
        below the dtype's range, so that it counts as none. `INVALID_INPUT`, with NaN, for
        forbidden scales inside `jit`.

    Raises:
        ValueError: negative or non-finite scales.

    Cost: 3e2 evaluations of the dual. Source: Schoenholz et al. (2017), equations 3 to 9.

    >>> f"{fixed_point('tanh', 0.5, 0.3).correlation_depth:.3f}"
    '0.638'
    """
    return _fixed_point(phi, *_deviations(sigma_w, sigma_b), scale=scale)


@partial(jax.jit, static_argnames=("phi", "scale"))
def _fixed_point(phi: str | Activation, sigma_w: Array, sigma_b: Array, *, scale: float) -> FixedPoint:
    value, pair = dual(phi, scale=scale), dual_pair(phi, scale=scale)

    def step(q: Array) -> Array:
        return sigma_w**2 * value(q, q, q) + sigma_b**2

    q, found = largest_stable(lambda q: step(q) - q, scale, sigma_w.dtype)
    slope = jax.grad(step)(q)
    scales = sigma_w, sigma_b
    q = without_derivative(jnp.where(found, q, jnp.nan), (q == 0) & _is_one(slope), *scales)
    safe = jnp.where(q > 0, q, jnp.ones_like(q))
    chi_one = sigma_w**2 * pair(q, q, q).derivative
    part = lambda c: sigma_w**2 * value(safe, c * safe, safe) + sigma_b**2 - c * safe  # noqa: E731
    apart = (chi_one > 1) & (q > 0)
    correlation = bisect(lambda c: jnp.where(apart, part(c), -c), -1.0, 1.0, q.dtype)
    correlation = without_derivative(jnp.where(apart, correlation, jnp.ones_like(q)), _is_one(chi_one), *scales)
    correlation = jnp.where(found, correlation, jnp.nan)
    chi = sigma_w**2 * pair(q, correlation * q, q).derivative
    slope = jnp.where(found, slope, jnp.nan)
    unsure = (q > 0) & _is_lost(1 - slope)
    status = status_where(
        (~_are_known(*scales), Status.INVALID_INPUT),
        (~found, Status.NOT_CONVERGED),
        (unsure | _vanish(*scales), Status.ILL_CONDITIONED),
    )
    return FixedPoint(q, correlation, slope, chi_one, chi, _depth(slope), _depth(chi), status)


@boundary
def diagram(
    phi: str | Activation, sigma_w: Float[Array, " w"], sigma_b: Float[Array, " b"], *, scale: float = 3.0
) -> FixedPoint:
    """`fixed_point` on a grid, fields [w b]: the phase diagram, ordered where `chi_one` < 1.

    Arguments, statuses and what raises: `fixed_point`.

    >>> diagram("erf", jnp.array([0.5, 2.0]), jnp.array([0.1])).chi_one.round(1)
    Array([[0.3],
           [1.5]], dtype=float32)
    """
    point = partial(_fixed_point, phi, scale=scale)
    return jax.vmap(jax.vmap(point, (None, 0)), (0, None))(*_deviations(sigma_w, sigma_b))


@boundary
def critical_point(phi: str | Activation, sigma_b: Scalar, *, scale: float = 3.0) -> CriticalPoint:
    r"""The edge of chaos: σ_w at which χ₁ = 1 for this σ_b, an initialization at which depth does not erase inputs.

    χ₁ = 1 gives σ_w² = 1/E[φ'²], and the length map one equation for the variance that is kept:

        q − E[φ(√q G)²] / E[φ'(√q G)²] = σ_b²

    Args:
        phi: a name or an elementwise function.
        sigma_b: scale of the biases, ≥ 0.
        scale: the largest √q considered.

    Returns:
        `CriticalPoint` with the least such q. Where φ is homogeneous and σ_b = 0 every q is kept, and q is 1. `status`
        is `NOT_CONVERGED`, and σ_w NaN, where there is none (a ReLU with biases), `INVALID_INPUT` for a forbidden σ_b
        inside `jit`, and `ILL_CONDITIONED` where rounding moves q by more than ten √eps of it (tanh in float32 with σ_b
        below 1e-3), or σ_b² is below the dtype's range.
        Where σ_b = 0 is on the line, q has a kink or an end there, and no derivative: NaN.

    Raises:
        ValueError: a negative or non-finite σ_b.

    Cost: 3e2 evaluations of the duals. Source: Schoenholz et al. (2017), section 3; Hayou et al. (2019), Definition 2.

    >>> f"{critical_point('tanh', 0.1**0.5).sigma_w ** 2:.4f}"
    '1.9861'
    """
    return _critical_point(phi, _deviations(0.0, sigma_b)[1], scale=scale)


@partial(jax.jit, static_argnames=("phi", "scale"))
def _critical_point(phi: str | Activation, sigma_b: Array, *, scale: float) -> CriticalPoint:
    pair = dual_pair(phi, scale=scale)

    def excess(q: Float[Array, "..."]) -> Float[Array, "..."]:
        value, slope = pair(q, q, q)
        return sigma_b**2 - (q - value / slope)

    grid = search_grid(scale, sigma_b.dtype)
    free = (jnp.abs(excess(grid)) <= 64 * jnp.finfo(grid.dtype).eps * grid).all()  # every q is a solution
    at_zero = excess(grid[0]) <= 0  # without biases, φ(0) = 0
    first = jnp.maximum(jnp.argmax(excess(grid[1:]) < 0) + 1, 1)
    found = free | at_zero | (excess(grid[1:]) < 0).any()
    crossing = bisect(lambda q: jnp.where(free | at_zero, -q, excess(q)), grid[first - 1], grid[first], grid.dtype)
    q = jnp.where(free, jnp.ones_like(crossing), jnp.where(at_zero, jnp.zeros_like(crossing), crossing))
    q = without_derivative(q, free | at_zero, sigma_b)
    sigma_w = jnp.where(found, 1 / jnp.sqrt(pair(q, q, q).derivative), jnp.nan)
    unsure = ~(free | at_zero) & _is_lost(jax.grad(excess)(q))
    status = status_where(
        (~_are_known(sigma_b), Status.INVALID_INPUT),
        (~found, Status.NOT_CONVERGED),
        (unsure | _vanish(sigma_b), Status.ILL_CONDITIONED),
    )
    return CriticalPoint(sigma_w, sigma_b, jnp.where(found, q, jnp.nan), status)


@boundary(static=("depth",))
def propagate(
    phi: str | Activation,
    sigma_w: Scalar,
    sigma_b: Scalar,
    covariance: Float[Array, " 3"],
    *,
    depth: int,
    scale: float = 3.0,
) -> Layers:
    r"""Covariance and tangent kernel of two inputs through `depth` layers.

        K ↦ σ_w² E[φ(u)φ(v)] + σ_b²,   Θ ↦ K' + σ_w² E[φ'(u)φ'(v)] Θ,   Θ = K at the first layer

    Args:
        covariance: (q11, q12, q22) of the first pre-activations, q11, q22 ≥ 0 and q12² ≤ q11 q22.
        depth: number of layers after it, ≥ 0.

    Returns:
        `Layers`, one entry a layer; NaN where an argument inside `jit` is out of range.

    Raises:
        ValueError: negative or non-finite scales, three numbers that are no covariance, a negative depth.

    Cost: three dual evaluations a layer. Source: Jacot, Gabriel and Hongler (2018), Theorem 1.

    >>> layers = propagate("relu", 2**0.5, 0.0, (1.0, 0.5, 1.0), depth=3)
    >>> f"{layers.ntk12[-1]:.4f}"
    '1.7378'
    """
    require(depth >= 0, "depth", depth, "be >= 0", "count the layers")
    return _propagate(phi, *_deviations(sigma_w, sigma_b), _covariance(covariance), depth=depth, scale=scale)


def _covariance(covariance: Array) -> Array:
    """(q11, q12, q22), where q12² ≤ q11 q22 up to rounding."""
    three, hint = covariance.shape == (3,), "pass E u², E uv, E v² of a Gaussian pair"
    require(three, "covariance", covariance.shape, "be the three numbers (q11, q12, q22)", hint)
    covariance = constrain("covariance", covariance.astype(float), lambda q: abs(q) < jnp.inf, "be finite", hint)
    variances = nonnegative("variances in covariance", covariance[::2], hint)
    slack = 1 + float(jnp.finfo(covariance.dtype).eps) ** 0.25
    limit = slack * jax.lax.stop_gradient(root(variances)).prod()
    within_limit = constrain(
        "q12 in covariance", covariance[1], lambda q: abs(q) <= limit, "be at most √(q11 q22) in magnitude", hint
    )
    return jnp.stack([variances[0], within_limit, variances[1]])


@partial(jax.jit, static_argnames=("phi", "depth", "scale"))
def _propagate(
    phi: str | Activation, sigma_w: Array, sigma_b: Array, covariance: Array, *, depth: int, scale: float
) -> Layers:
    pair = dual_pair(phi, scale=scale)
    q11, q12, q22 = covariance

    def layer(state: Layers, _: None) -> tuple[Layers, Layers]:
        own, cross, other = pair(*(state.q11,) * 3), pair(*state[:3]), pair(*(state.q22,) * 3)
        q11, q12, q22 = (sigma_w**2 * part.value + sigma_b**2 for part in (own, cross, other))
        ntk11 = q11 + sigma_w**2 * own.derivative * state.ntk11
        state = Layers(q11, q12, q22, ntk11, q12 + sigma_w**2 * cross.derivative * state.ntk12)
        return state, state

    return jax.lax.scan(layer, Layers(q11, q12, q22, q11, q12), None, length=depth)[1]


@boundary
def deep_ntk(phi: str | Activation, sigma_w: Scalar, sigma_b: Scalar, *, scale: float = 3.0) -> DeepNTK:
    r"""The tangent kernel at infinite depth, between an input and itself and between two generic inputs.

    Order, χ₁ < 1: both are q*/(1 − χ₁), so that nothing can be learned but a constant. Chaos, χ₁ > 1: the diagonal
    diverges as χ₁^depth, off it Θ → q* c*/(1 − χ(c*)). On the critical line both grow like depth, and their ratio is

        Θ(x, x')/Θ(x, x) → p/(2p + 1),   1 − χ(c) ~ (1 − c)^p

    1/3 for a smooth activation (p = 1), 1/4 for one with a kink (p = 1/2): with ε = 1 − c and χ = 1 − A ε^p, the
    correlation obeys ε' = −A ε^(1+p)/(1+p), hence χ = 1 − (1 + 1/p)/depth, whose products fall like a power of depth.

    Returns:
        `DeepNTK`; χ₁ counts as 1 within 1e-6 (float64) or 1e-3. NaN where there is no fixed point with q > 0, and for
        forbidden scales inside `jit`.

    Raises:
        ValueError: negative or non-finite scales.

    Source: Hayou, Doucet and Rousseau (2022), Theorems 1 and 2; Xiao, Pennington and Schoenholz (2020), Table 1.

    >>> f"{deep_ntk('relu', 2**0.5, 0.0).ratio:.2f}"
    '0.25'
    """
    return _deep_ntk(phi, *_deviations(sigma_w, sigma_b), scale=scale)


@partial(jax.jit, static_argnames=("phi", "scale"))
def _deep_ntk(phi: str | Activation, sigma_w: Array, sigma_b: Array, *, scale: float) -> DeepNTK:
    point = _fixed_point(phi, sigma_w, sigma_b, scale=scale)
    free = jnp.isnan(point.variance)  # where every variance is kept, χ does not depend on it
    q = jnp.where(free, jnp.ones_like(point.variance), point.variance)
    weight = jnp.where(_are_known(sigma_w, sigma_b), sigma_w, jnp.nan) ** 2
    pair = dual_pair(phi, scale=scale)
    chi_one = weight * pair(q, q, q).derivative
    critical = jnp.abs(chi_one - 1) < _CRITICAL[q.dtype.name]
    diagonal = jnp.where(chi_one < 1, q / (1 - chi_one), jnp.inf)
    off = jnp.where(chi_one < 1, diagonal, q * point.correlation / (1 - point.chi))
    near, far = ((pair(q, q, q).derivative - pair(q, q * (1 - e), q).derivative) for e in (1e-3, 1e-2))
    power = jnp.round(2 * jnp.log(far / near) / jnp.log(10.0)) / 2
    ratio = jnp.where(critical, power / (2 * power + 1), jnp.where(chi_one < 1, 1.0, 0.0))
    exists = (q > 0) & ~jnp.isnan(chi_one)
    infinite = jnp.inf * jnp.where(critical, chi_one, jnp.ones_like(q))  # which has no derivative
    found = jnp.where(critical, infinite, diagonal), jnp.where(critical, infinite, off), ratio
    return DeepNTK(*(jnp.where(exists, value, jnp.nan) for value in found))


def _deviations(sigma_w: Number, sigma_b: Number) -> tuple[Array, Array]:
    """Standard deviations in the default precision."""
    one, two = (jnp.asarray(sigma, float) for sigma in _check_deviations(sigma_w, sigma_b))
    return one, two


def _check_deviations(sigma_w: Number, sigma_b: Number) -> tuple[Number, Number]:
    hint = "pass a standard deviation"
    return nonnegative("sigma_w", sigma_w, hint), nonnegative("sigma_b", sigma_b, hint)


def _are_known(*values: Array) -> Array:
    return ~jnp.isnan(jnp.stack(values)).any()


def _vanish(*scales: Array) -> Array:
    """Whether a scale that is not 0 has a square that is."""
    return jnp.stack([(scale > 0) & (scale**2 < jnp.finfo(scale.dtype).tiny) for scale in scales]).any()


def _is_one(chi: Array) -> Array:
    """To the accuracy to which a root tells the sides of 1 apart."""
    return jnp.abs(chi - 1) <= float(jnp.finfo(chi.dtype).eps) ** 0.5


def _is_lost(slope: Array) -> Array:
    """Whether a few roundings of q, over the slope of the equation in q, exceed ten √eps of q."""
    return jnp.abs(slope) < 0.8 * float(jnp.finfo(slope.dtype).eps) ** 0.5


def _depth(slope: Float[Array, ""]) -> Float[Array, ""]:
    """−1/log|slope|, and infinite where nothing is forgotten."""
    size = jnp.abs(slope)
    usual = (size > 0) & (size < 1)
    depth = -1 / jnp.log(jnp.where(usual, size, jnp.full_like(size, 0.5)))
    finite = jnp.where(size == 0, jnp.zeros_like(size), jnp.where(usual, depth, jnp.nan))
    return without_derivative(jnp.where(size >= 1, jnp.inf, finite), size >= 1, size)
