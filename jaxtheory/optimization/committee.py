r"""Gaussian integrals of a soft committee machine Σ_i g(λ_i): all that online learning of its overlaps needs.

The fields of K students and M teachers are Gaussian with one covariance C. With a, b units whose derivative g' acts and
c, d any units, the four integrals are

    pair[c, d] = E g(c) g(d),   drive[a, j, c] = E g'(a) λ_j g(c),
    slopes[a, b] = E g'(a) g'(b),   push[a, b, c, d] = E g'(a) g'(b) g(c) g(d).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.activations.angle import angle, separation
from jaxtheory.guarded import over, root

_NODES = 24
_TURN = 2 * math.pi


class Integrals(NamedTuple):
    """The four integrals of all units; F = K + M fields, the first K of them students."""

    pair: Float[Array, "F F"]
    drive: Float[Array, "K F F"]
    slopes: Float[Array, "K K"]
    push: Float[Array, "K K F F"]


def erf_integrals(c: Float[Array, "F F"], students: int) -> Integrals:
    """The integrals of g(x) = erf(x/√2), in closed form. Source: Saad and Solla (1995), their appendix.

    >>> f"{jax.jit(erf_integrals, static_argnums=1)(jnp.eye(2), 1).slopes[0, 0]:.4f}"
    '0.3676'
    """
    own = 1 + jnp.diagonal(c)
    k = students
    lengths = own[:, None] * own[None, :]
    sine = lambda top, square: angle(top, root(square - top**2))  # noqa: E731
    pair = sine(c, lengths) * (2 / math.pi)
    # indices a, j, l
    inner = (lengths - c**2)[:k, None, :]
    top = c[None, :, :] * own[:k, None, None] - c[:k, :, None] * c[:k, None, :]
    drive = (2 / math.pi) * top / (own[:k, None, None] * root(inner))
    # indices a, b, c, d
    c1, c2 = own[:k, None, None, None], own[None, :k, None, None]
    c3, c4, c34 = own[None, None, :, None], own[None, None, None, :], c[None, None]
    c12, c13, c14 = c[:k, :k, None, None], c[:k, None, :, None], c[:k, None, None, :]
    c23, c24 = c[None, :k, :, None], c[None, :k, None, :]
    l4 = c1 * c2 - c12**2
    l0 = l4 * c34 - c23 * c24 * c1 - c13 * c14 * c2 + c12 * (c13 * c24 + c14 * c23)
    l1 = l4 * c3 - c23**2 * c1 - c13**2 * c2 + 2 * c12 * c13 * c23
    l2 = l4 * c4 - c24**2 * c1 - c14**2 * c2 + 2 * c12 * c14 * c24
    push = (4 / math.pi**2) * sine(l0, l1 * l2) / root(l4)
    return Integrals(pair, drive, (2 / math.pi) / root(l4[:, :, 0, 0]), push)


def relu_integrals(c: Float[Array, "F F"], students: int) -> Integrals:
    r"""The integrals of g(x) = max(x, 0): arc-cosine functions, and for `push` one quadrature of them.

    E 1(a) 1(b) c₊ d₊ is a moment of a four-dimensional orthant, which has no closed form. With the covariances between
    {a, b} and {c, d} multiplied by t it is closed at t = 0, and by Price's theorem its derivative in t is a sum of
    moments of three-dimensional orthants, which are closed.

    >>> f"{jax.jit(relu_integrals, static_argnums=1)(jnp.eye(2), 1).push[0, 0, 0, 0]:.4f}"
    '0.5000'
    """
    k = students
    own = jnp.diagonal(c)
    apart = separation(own[:, None], c, own[None, :])
    quadrant = 0.25 + angle(c, apart) / _TURN
    pair = apart / _TURN + c * quadrant
    # E 1(a) λ_j l₊, indices a, j, l
    drive = c[:k, :, None] * over(apart[:k, None, :], own[:k, None, None]) / _TURN + c[None] * quadrant[:k, None, :]
    slopes = quadrant[:k, :k]
    return Integrals(pair, drive, slopes, slopes[:, :, None, None] * pair[None, None] + _coupling(c, k))


def _coupling(c: Array, k: int) -> Array:
    """∫₀¹ d/dt E 1(a) 1(b) c₊ d₊ dt, with t = sin θ, in which the roots of 1 − t² are smooth."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    theta = (nodes + 1) * math.pi / 4
    moved, weight = np.sin(theta), weights * np.cos(theta) * math.pi / 4
    # x, z are a, b in either order, y and v are c, d in either order
    terms = jax.vmap(lambda t: _slope_terms(c, k, t))(jnp.asarray(moved, c.dtype))
    one = jnp.tensordot(jnp.asarray(weight, c.dtype), terms, 1, precision="highest")
    both = one + one.swapaxes(0, 1)
    return both + both.swapaxes(2, 3)


def _slope_terms(c: Array, k: int, t: Array) -> Array:
    """C_xy E δ(x) 1(z) 1(y) v₊ at coupling t, indices x, z, y, v."""
    own = jnp.diagonal(c)
    xx, zz, xz = own[:k, None, None, None], own[None, :k, None, None], c[:k, :k, None, None]
    yy, vv, yv = own[None, None, :, None], own[None, None, None, :], c[None, None]
    xy, xv = t * c[:k, None, :, None], t * c[:k, None, None, :]
    zy, zv = t * c[None, :k, :, None], t * c[None, :k, None, :]
    # covariances given x = 0
    zz = over(separation(zz, xz, xx) ** 2, xx)
    zz = jnp.where(zz <= 8 * jnp.finfo(c.dtype).eps * own[None, :k, None, None], jnp.zeros_like(zz), zz)
    zy, zv = (jnp.where(zz > 0, left - xz * over(right, xx), 0.0) for left, right in ((zy, xy), (zv, xv)))
    yy, vv, yv = yy - xy * over(xy, xx), vv - xv * over(xv, xx), yv - xy * over(xv, xx)
    moment = over(zv, root(zz)) * _quadrant_given(yy, yv, vv, zy, zv, zz)
    moment = moment + over(yv, root(yy)) * _quadrant_given(zz, zv, vv, zy, yv, yy)
    moment = moment + root(vv) * _quadrant_given(zz, zy, yy, zv, yv, vv)
    return c[:k, None, :, None] * over(moment, root(xx)) / _TURN


def _quadrant_given(p: Array, pq: Array, q: Array, with_p: Array, with_q: Array, given: Array) -> Array:
    """P(u > 0, v > 0 | w = 0), variances p and q, covariance pq, covariances with w, whose variance is `given`."""
    first, second = p - with_p * over(with_p, given), q - with_q * over(with_q, given)
    cross = pq - with_p * over(with_q, given)
    return 0.25 + angle(cross, separation(first, cross, second)) / _TURN
