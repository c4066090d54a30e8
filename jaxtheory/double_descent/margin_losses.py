r"""Means over the labels of a teacher of three losses of the margin, smoothed by a proximal step.

The margin is t = rT, T = S cos θ + Z sin θ, and f(t) = −ℓ'(prox) = (prox − t)/V. The logistic loss is smooth in T,
whose density is φ(T) w(T); the hinge is integrated over Z in closed form; the squared loss has moments.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array

from jaxtheory.double_descent.teachers import Link, aligned, chance, density, panels, ramp, squared_ramp

_STEPS = 10  # Newton from above: 1e-12 after 8 at V in 1e-8..1e12, t in −1e3..1e3
_EXTENT, _PANELS, _ORDER = 8.5, 32, 12


class Means(NamedTuple):
    """E f², E T f, E W f (W = S sin θ − Z cos θ), the error P(t < 0), and E ℓ(t) and E ℓ(prox)."""

    square: Array
    along: Array
    across: Array
    error: Array
    test: Array
    train: Array


def prox_step(t: Array, v: Array) -> Array:
    """u = prox − t > 0 of the logistic loss: u = V σ(−(t + u)), by Newton on log u + softplus(t + u) = log V.

    The function is convex in log u, and the start is above the root: it falls to it.
    """

    def newton(_: Array, log_u: Array) -> Array:
        u = jnp.exp(log_u)
        return log_u - (log_u + jax.nn.softplus(t + u) - jnp.log(v)) / (1 + u * jax.nn.sigmoid(t + u))

    start = jnp.minimum(jnp.log(v), jnp.log(jnp.maximum(1, jnp.log(v) - t)))
    return jnp.exp(jax.lax.fori_loop(0, _STEPS, newton, start))


def _prepare_logistic(angle: Array, signal: Array, link: Link, shifted: bool = False) -> tuple[Array, Array, Array]:
    """Nodes T, the weights w(T) φ(T) dT and the same times E(W | T); `shifted` by half a panel if asked for."""
    half = _EXTENT / _PANELS
    count, first = (_PANELS + 1, -_EXTENT - half) if shifted else (_PANELS, -_EXTENT)
    node, weight = np.polynomial.legendre.leggauss(_ORDER)
    t = jnp.asarray((first + half * (1 + 2 * np.arange(count)[:, None] + node)).ravel(), signal.dtype)
    measure = jnp.asarray(np.tile(half * weight, count), signal.dtype) * density(t)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    # S = T cos θ + W sin θ
    w, inner = panels(signal, 8, (-t * cosine / jnp.maximum(sine, 1e-6), jnp.full_like(t, signal * sine)))
    inner = inner * density(w) * 2 * chance(signal * (t[:, None] * cosine + w * sine), link)
    return t, measure * inner.sum(axis=-1), measure * (inner * w).sum(axis=-1)


def _logistic(prepared: Any, angle: Array, norm: Array, v: Array) -> Means:
    t, weight, across = prepared
    margin = norm * t
    step = prox_step(margin, v)
    f = step / v
    return Means(
        jnp.sum(weight * f**2),
        jnp.sum(weight * t * f),
        jnp.sum(across * f),
        jnp.sum(jnp.where(t < 0, weight, 0)),
        jnp.sum(weight * jax.nn.softplus(-margin)),
        jnp.sum(weight * jax.nn.softplus(-margin - step)),
    )


def _prepare_hinge(angle: Array, signal: Array, link: Link) -> tuple[Array, Link]:
    return signal, link


def _hinge(prepared: Any, angle: Array, norm: Array, v: Array) -> Means:
    """f = 1 for Z < d₁, falling linearly to 0 at d₀ = d₁ + h: the margin is 1 − V at d₁ and 1 at d₀."""
    signal, link = prepared
    m, s = norm * jnp.cos(angle), norm * jnp.sin(angle)
    nodes, weight = aligned(signal, link, 1 / jnp.maximum(m, norm / 16), m / s)
    first, h = (1 - v - m * nodes) / s, v / s
    last = (1 - m * nodes) / s
    flat = ndtr(first)
    between, mean, square = _falling(first, last, h)
    f, along_z = flat + mean, -between / h
    s_f, z_f = jnp.sum(weight * nodes * f), jnp.sum(weight * along_z)
    test = s * jnp.sum(weight * ramp(last))
    return Means(
        jnp.sum(weight * (flat + square)),
        jnp.cos(angle) * s_f + jnp.sin(angle) * z_f,
        jnp.sin(angle) * s_f - jnp.cos(angle) * z_f,
        jnp.sum(weight * ndtr(-m * nodes / s)),
        test,
        s * jnp.sum(weight * ramp(first)),
    )


def _falling(first: Array, last: Array, h: Array) -> tuple[Array, Array, Array]:
    """∫ of φ, of φ (last − z)/h and of its square over first..last: in closed form, by eight nodes where h is small."""
    node, weight = np.polynomial.legendre.leggauss(8)
    x, dx = (jnp.asarray(v, h.dtype)[None] for v in ((1 + node) / 2, weight / 2))
    short = jnp.minimum(h, 1)
    values = short * dx * density(first[:, None] + short * x)
    few = values.sum(axis=-1), (values * (1 - x)).sum(axis=-1), (values * (1 - x) ** 2).sum(axis=-1)
    wide = jnp.maximum(h, 0.5)
    flat, rest = ndtr(first), ramp(first) / wide
    closed = (
        ndtr(last) - flat,
        ramp(last) / wide - rest - flat,
        (squared_ramp(last) - squared_ramp(first)) / wide**2 - 2 * rest - flat,
    )
    a, b, c = (jnp.where(h < 0.5, one, other) for one, other in zip(few, closed, strict=True))
    return a, b, c


def _prepare_squared(angle: Array, signal: Array, link: Link) -> tuple[Array, Array, Array]:
    """E S, and nodes for the error."""
    nodes, weight = aligned(signal, link, jnp.zeros_like(angle), 1 / jnp.maximum(jnp.tan(angle), 1e-6))
    return jnp.sum(weight * nodes), nodes, weight


def _squared(prepared: Any, angle: Array, norm: Array, v: Array) -> Means:
    """f = (1 − t)/(1 + V), E t = r cos θ E S, E t² = r²."""
    mean, nodes, weight = prepared
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    size = (1 - norm * cosine * mean) ** 2 + norm**2 * (1 - (cosine * mean) ** 2)
    error = jnp.sum(weight * ndtr(-nodes * cosine / jnp.maximum(sine, 1e-12)))
    return Means(
        size / (1 + v) ** 2,
        (cosine * mean - norm) / (1 + v),
        sine * mean / (1 + v),
        error,
        size / 2,
        size / (2 * (1 + v) ** 2),
    )


PREPARE: dict[str, Callable[[Array, Array, Link], Any]] = {
    "logistic": _prepare_logistic,
    "hinge": _prepare_hinge,
    "squared": _prepare_squared,
}
# the same means on other nodes, from which the error of the nodes is seen; the others have no nodes along the margin
AGAIN: dict[str, Callable[[Array, Array, Link], Any]] = {"logistic": partial(_prepare_logistic, shifted=True)}
MEANS: dict[str, Callable[[Any, Array, Array, Array], Means]] = {
    "logistic": _logistic,
    "hinge": _hinge,
    "squared": _squared,
}
