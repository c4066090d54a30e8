r"""Gaussian expectations of pairs of activations that have a closed form.

An activation is φ(x) = constant + slope·x + amplitude·atom(x), the atom one of a family. Within a family

    E[φ(u)ψ(v)] = d₁d₂ + e₁e₂q₁₂ + d₁γ₂m₂ + d₂γ₁m₁ + q₁₂(e₁γ₂m₂' + e₂γ₁m₁') + γ₁γ₂ E[atom₁(u) atom₂(v)]

where m = E[atom] and m' = E[atom'] under the variance of its own argument.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jaxtheory.activations.angle import angle, legs, raised_legs, raised_separation, separation
from jaxtheory.guarded import over, polynomial, root

Number = Float[Array, "..."]
Tangent = Number | SymbolicZero
_TURN = 2 / math.pi


class Form(NamedTuple):
    """φ(x) = constant + slope·x + amplitude·atom(x; parameters), atom of the family `kind`; "line" has no atom."""

    kind: str
    parameters: tuple[float, ...]
    amplitude: float
    constant: float
    slope: float
    at_zero: float


class Family(NamedTuple):
    """An atom's values (numpy), its mean and mean slope at a variance, and E[atom(u) atom(v)]; parameters come last."""

    values: Callable
    mean: Callable
    slope: Callable
    product: Callable


def joint(first: Form, second: Form, q11: Number, q12: Number, q22: Number) -> Number:
    """E[φ(u)ψ(v)] of two forms of one family, or of which one is a line."""
    family = FAMILIES[first.kind if first.kind != "line" else second.kind]
    mean1, slope1 = _linear_part(first, q11)
    mean2, slope2 = _linear_part(second, q22)
    d1, d2, e1, e2 = first.constant, second.constant, first.slope, second.slope
    total = q12 * (e1 * e2 + e1 * slope2 + e2 * slope1)
    if d1 or d2:  # a compiler keeps zero times a mean, for each pair
        total = total + (d1 * d2 + d1 * mean2 + d2 * mean1)
    scale = first.amplitude * second.amplitude
    if scale:
        total = total + scale * family.product(q11, q12, q22, first.parameters, second.parameters)
    return _at_zero_variance(first, second, q11, q22, total) if "sign" in (first.kind, second.kind) else total


def _linear_part(form: Form, q: Number) -> tuple[Number, Number]:
    """Mean and mean slope of the atom, with its amplitude."""
    if not form.amplitude:
        return jnp.zeros_like(q), jnp.zeros_like(q)
    family = FAMILIES[form.kind]
    return form.amplitude * family.mean(q, form.parameters), form.amplitude * family.slope(q, form.parameters)


def _at_zero_variance(first: Form, second: Form, q11: Number, q22: Number, total: Number) -> Number:
    """A jump at 0 makes the limit of small variance differ from the value at none, which is that of φ(0)."""
    left = jnp.where(q11 > 0, jnp.asarray(first.constant, q11.dtype), first.at_zero)
    right = jnp.where(q22 > 0, jnp.asarray(second.constant, q22.dtype), second.at_zero)
    return jnp.where((q11 > 0) & (q22 > 0), total, left * right)


# Positively homogeneous: everything is the angle arcsin(q12/√(q11 q22)) and the root of the determinant.


@jax.custom_jvp
def _angle(q11: Number, q12: Number, q22: Number) -> Number:
    """arcsin of the correlation; no clipping, no division, and 0 at zero variance."""
    return angle(*legs(q11, q12, q22))


def _drift(q11: Number, q22: Number, t11: Tangent, t22: Tangent) -> Number | None:
    """∂ log of both variances; None where neither moves, as in the derivative by q12 alone, which every pair takes."""
    moving = [over(t, q) for t, q in ((t11, q11), (t22, q22)) if not isinstance(t, SymbolicZero)]
    return sum(moving[1:], moving[0]) if moving else None


def _or_zero(t: Tangent, like: Number) -> Number:
    return jnp.zeros_like(like) if isinstance(t, SymbolicZero) else t


@partial(_angle.defjvp, symbolic_zeros=True)
def _angle_jvp(primals: tuple, tangents: tuple) -> tuple[Number, Number]:
    """Infinite at correlation ±1 but along rays, where the angle does not move: 0 there, the symmetric derivative."""
    q11, q12, q22 = primals
    move, drift = _or_zero(tangents[1], q12), _drift(q11, q22, tangents[0], tangents[2])
    move = move if drift is None else move - q12 / 2 * drift
    return _angle(*primals), over(move, separation(*primals))


@jax.custom_jvp
def _absolute(q11: Number, q12: Number, q22: Number) -> Number:
    """E|u||v| = (2/π)(√det + q12·arcsin c)."""
    return _TURN * (separation(q11, q12, q22) + q12 * _angle(q11, q12, q22))


@partial(_absolute.defjvp, symbolic_zeros=True)
def _absolute_jvp(primals: tuple, tangents: tuple) -> tuple[Number, Number]:
    q11, q12, q22 = primals
    apart, theta, drift = separation(*primals), _angle(*primals), _drift(q11, q22, tangents[0], tangents[2])
    tangent = theta * _or_zero(tangents[1], q12)
    tangent = tangent if drift is None else tangent + apart / 2 * drift
    return _TURN * (apart + q12 * theta), _TURN * tangent


@jax.custom_jvp
def _signed_square(q11: Number, q12: Number, q22: Number) -> Number:
    """E[u|u| v|v|] = (2/π)(3 q12 √det + (q11 q22 + 2 q12²) arcsin c)."""
    return _TURN * (3 * q12 * separation(q11, q12, q22) + (q11 * q22 + 2 * q12**2) * _angle(q11, q12, q22))


@partial(_signed_square.defjvp, symbolic_zeros=True)
def _signed_square_jvp(primals: tuple, tangents: tuple) -> tuple[Number, Number]:
    q11, q12, q22 = primals
    apart, theta = separation(*primals), _angle(*primals)
    value = 3 * q12 * apart + (q11 * q22 + 2 * q12**2) * theta
    tangent = 4 * _or_zero(tangents[1], q12) * (apart + q12 * theta)
    for t, q, other in ((tangents[0], q11, q22), (tangents[2], q22, q11)):
        if not isinstance(t, SymbolicZero):
            tangent = tangent + t * (other * theta + over(q12 * apart, q))
    return _TURN * value, _TURN * tangent


def _square_product(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> Number:
    """E[(u|u| + r u²)(v|v| + s v²)]."""
    (r,), (s,) = one, two
    return _signed_square(q11, q12, q22) + r * s * (q11 * q22 + 2 * q12**2)


def _zero(q: Number, _: tuple) -> Number:
    return jnp.zeros_like(q)


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


# The smooth families: q-dependence is analytic everywhere, so that JAX differentiates them as they stand.


def _erf_moments(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> tuple[Number, Number, Number]:
    """Variances and covariance of √2·au and √2·bv."""
    (a,), (b,) = one, two
    return 2 * a * a * q11, 2 * a * b * q12, 2 * b * b * q22


@jax.custom_jvp
def _raised_angle(p11: Number, p12: Number, p22: Number) -> Number:
    """arcsin(p12/√((1 + p11)(1 + p22)))."""
    return angle(*raised_legs(p11, p12, p22))


@partial(_raised_angle.defjvp, symbolic_zeros=True)
def _raised_angle_jvp(primals: tuple, tangents: tuple) -> tuple[Number, Number]:
    """By p12 alone, which every pair takes, 1/√((1 + p11)(1 + p22) − p12²)."""
    if all(isinstance(t, SymbolicZero) for t in (tangents[0], tangents[2])):
        return _raised_angle(*primals), _or_zero(tangents[1], primals[1]) / raised_separation(*primals)
    moves = tuple(_or_zero(t, p) for t, p in zip(tangents, primals, strict=True))
    return jax.jvp(lambda *p: angle(*raised_legs(*p)), primals, moves)


def _erf_product(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> Number:
    return _TURN * _raised_angle(*_erf_moments(q11, q12, q22, one, two))


def _gated_erf_product(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> Number:
    """E[u erf(au) v erf(bv)], from the exact GELU with variances 2a²q11 and 2b²q22."""
    p11, p12, p22 = _erf_moments(q11, q12, q22, one, two)
    apart, up11, up22 = raised_separation(p11, p12, p22), 1 + p11, 1 + p22
    ratio = p12 / up11 * (p12 / up22) / apart + p11 / up11 * (p22 / up22) * apart
    return _TURN * (ratio + p12 * angle(p12, apart)) / (2 * one[0] * two[0])


def _wave_product(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> Number:
    """E[cos(au + s) cos(bv + t)], each half an exponential that cannot overflow."""
    (a, s), (b, t) = one, two
    plus = jnp.exp(-(a * a * q11 + b * b * q22) / 2 - a * b * q12)
    minus = jnp.exp(-(a * a * q11 + b * b * q22) / 2 + a * b * q12)
    return (plus * math.cos(s + t) + minus * math.cos(s - t)) / 2


def _exp_product(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> Number:
    (a,), (b,) = one, two
    return jnp.exp((a * a * q11 + b * b * q22) / 2 + a * b * q12)


def _gaussian_product(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> Number:
    (a,), (b,) = one, two
    if min(a, b) > 0:
        return 1 / raised_separation(2 * a * q11, 2 * math.sqrt(a * b) * q12, 2 * b * q22)
    # one grows: E is infinite unless both eigenvalues of 1 + 2 C diag(a, b) are positive
    p11, p22 = 2 * a * q11, 2 * b * q22
    det = (1 + p11) * (1 + p22) - 4 * a * b * q12**2
    finite = ((det > 0) & (2 + p11 + p22 > 0)) | jnp.isnan(det)
    return jnp.where(finite, 1 / jnp.sqrt(jnp.where(finite, det, jnp.ones_like(det))), jnp.inf)


def _wick(coefficients: tuple[float, ...], q: Number) -> list[Number]:
    """a_k with Σ c_n u^n = Σ a_k :u^k:, i.e. a_k = Σ_i c_{k+2i} (k+2i)!/(i! 2^i k!) q^i."""
    degree = len(coefficients) - 1
    terms = [[0.0] * ((degree - k) // 2 + 1) for k in range(degree + 1)]
    for k, row in enumerate(terms):
        for i in range(len(row)):
            count = math.factorial(k + 2 * i) / (math.factorial(i) * 2**i * math.factorial(k))
            row[i] = coefficients[k + 2 * i] * count
    return [polynomial(row, q) for row in terms]


def _power_product(q11: Number, q12: Number, q22: Number, one: tuple, two: tuple) -> Number:
    """Σ_k k! a_k b_k q12^k: Wick powers of different order are orthogonal."""
    pairs = zip(_wick(one, q11), _wick(two, q22), strict=False)
    return polynomial([math.factorial(k) * a * b for k, (a, b) in enumerate(pairs)], q12)


FAMILIES = {
    "line": Family(lambda x: 0 * x, _zero, _zero, lambda q11, q12, q22, *_: jnp.zeros_like(q12)),
    "sign": Family(
        np.sign,
        _zero,
        lambda q, _: math.sqrt(_TURN) * over(jnp.ones_like(q), root(q)),
        lambda q11, q12, q22, *_: _TURN * _angle(q11, q12, q22),
    ),
    "absolute": Family(
        np.abs,
        lambda q, _: math.sqrt(_TURN) * root(q),
        _zero,
        lambda q11, q12, q22, *_: _absolute(q11, q12, q22),
    ),
    "homogeneous square": Family(
        lambda x, ratio: x * np.abs(x) + ratio * x**2,
        lambda q, p: p[0] * q,
        lambda q, _: 2 * math.sqrt(_TURN) * root(q),
        _square_product,
    ),
    "erf": Family(
        lambda x, a: _erf(a * x),
        _zero,
        lambda q, p: 2 * p[0] / jnp.sqrt(math.pi * (1 + 2 * p[0] ** 2 * q)),
        _erf_product,
    ),
    "gated erf": Family(
        lambda x, a: x * _erf(a * x),
        lambda q, p: 2 * p[0] * q / jnp.sqrt(math.pi * (1 + 2 * p[0] ** 2 * q)),
        _zero,
        _gated_erf_product,
    ),
    "wave": Family(
        lambda x, a, s: np.cos(a * x + s),
        lambda q, p: jnp.exp(-(p[0] ** 2) * q / 2) * math.cos(p[1]),
        lambda q, p: -p[0] * jnp.exp(-(p[0] ** 2) * q / 2) * math.sin(p[1]),
        _wave_product,
    ),
    "exp": Family(
        lambda x, a: np.exp(a * x),
        lambda q, p: jnp.exp(p[0] ** 2 * q / 2),
        lambda q, p: p[0] * jnp.exp(p[0] ** 2 * q / 2),
        _exp_product,
    ),
    "gaussian": Family(
        lambda x, a: np.exp(-a * x * x),
        lambda q, p: 1 / jnp.sqrt(1 + 2 * p[0] * q),
        _zero,
        _gaussian_product,
    ),
    "polynomial": Family(
        lambda x, *c: sum(coefficient * x**k for k, coefficient in enumerate(c)),
        lambda q, p: _wick(p, q)[0],
        lambda q, p: _wick(p, q)[1],
        _power_product,
    ),
}
