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

from jaxtheory.activations.angle import angle, raised_separation, separation
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
    q, k = jnp.diagonal(c), students
    apart = raised_separation(q[:, None], c, q[None, :])  # √((1 + q_i)(1 + q_j) − c_ij²)
    pair = angle(c, apart) * (2 / math.pi)
    # indices a, j, l
    qa = q[:k, None, None]
    top = c[None] + _minor(qa, c[None], c[:k, :, None], c[:k, None, :])
    drive = (2 / math.pi) * top / (1 + qa) / apart[:k, None, :]
    low = apart[:k, :k, None, None]
    s = _given(c, k, low**2)  # covariances of c and d, the noise of a and b and of g' added and given
    p = jnp.diagonal(s, axis1=2, axis2=3)
    p, r = p[..., :, None], p[..., None, :]
    push = (4 / math.pi**2) * angle(s, root(1 + p + r + _minor(p, r, s, s))) / low
    return Integrals(pair, drive, (2 / math.pi) / low[:, :, 0, 0], push)


def _given(c: Array, k: int, square: Array) -> Array:
    """C_cd − C_c,ab (1 + C_ab)⁻¹ C_ab,d, indices a, b, c, d, with `square` the determinant of 1 + C_ab.

    By minors of C, which are exactly 0 where units coincide: with the entries of 1 + C, the 1 is lost in large C.
    """
    q = jnp.diagonal(c)
    qa, qb, ab = q[:k, None, None, None], q[None, :k, None, None], c[:k, :k, None, None]
    ac, ad, cd = c[:k, None, :, None], c[:k, None, None, :], c[None, None]
    bc, bd = c[None, :k, :, None], c[None, :k, None, :]
    first, second = _minor(qa, cd, ac, ad), _minor(qb, cd, bc, bd)
    by_c, by_d = _minor(qa, bc, ab, ac), _minor(qa, bd, ab, ad)
    third = _minor(_minor(qa, qb, ab, ab) / square, over(first, qa), by_c / square, over(by_d, qa))
    return (cd + first + second) / square + third


def _minor(a: Array, b: Array, c: Array, d: Array) -> Array:
    """a b − c d, exactly 0 where the factors are the same: a fused multiply-add leaves the rounding of one product."""
    found = a * b - c * d
    same = ((a == c) & (b == d)) | ((a == d) & (b == c))
    return found - jax.lax.stop_gradient(jnp.where(same, found, jnp.zeros_like(found)))


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
