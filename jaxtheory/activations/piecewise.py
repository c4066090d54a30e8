r"""E[φ(u)ψ(v)] of activations with kinks that no closed form knows, by quadrature between the kinks.

    E[φ(u)ψ(v)] = ∫ p(x) φ(s₁x) m(x) dx,   m(x) = ∫ p(y) ψ(s₂(c x + w y)) dy,   w = √(1 − c²)

The inner integral is closed for lines, squares and exponentials between the kinks, else cut where its argument crosses
a kink of ψ. It is then smooth in x but near r/(s₂c), where it turns within a width of w/c, be that 1 or 1e-8; the
outer integral is cut there and at the kinks of φ, and double-exponential rules in between resolve a turn of any width
next to a cut.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.activations.angle import separation
from jaxtheory.activations.pieces import Piece, conditional_mean
from jaxtheory.activations.quadrature import evaluate_on_host, on_host

Number = Float[Array, "..."]

_REACH = 8.6  # P(|G| > 8.6) = 8e-18
_FARTHEST = 37.0  # e^(−37²/2) = 1e-298
_NEGLIGIBLE = 1e-20  # of the largest φ² e^(−x²/2)
_GAUSS = 20  # nodes on an inner panel
_ACCURACY = 1e-9
_LEVELS = (1, 2, 4, 8, 16)


class Piecewise(NamedTuple):
    """An elementwise function, where it is not smooth, what it is in between, if that is of a closed kind, and reach.

    Beyond `reach` standard deviations φ² is negligible under the Gaussian, so that by Cauchy-Schwarz every φψ is.
    """

    function: Callable
    kinks: tuple[float, ...]
    pieces: tuple[Piece, ...] | None
    reach: float


@functools.lru_cache(maxsize=512)
def find_reach(function: Callable, scale: float) -> float | None:
    """How many standard deviations of `scale` the integral of φ² extends over; None where 37 do not do.

    >>> find_reach(jnp.tanh, 3.0) < find_reach(jnp.exp, 3.0)
    True
    """
    distance = np.arange(0.0, _FARTHEST + 0.1, 0.1)
    values = np.abs(evaluate_on_host(function, scale * np.concatenate([distance, -distance]))).reshape(2, -1)
    with np.errstate(divide="ignore"):
        size = 2 * np.log(values) - distance**2 / 2
    needed = ~(size <= np.max(size[np.isfinite(size)], initial=-np.inf) + math.log(_NEGLIGIBLE)).all(0)
    if needed[-1]:
        return None
    return max(_REACH, float(distance[needed].max(initial=0.0)) + 0.1)


def evaluate_piecewise(
    first: Piecewise, second: Piecewise, level: int, q11: Number, q12: Number, q22: Number
) -> Number:
    """The integral; a scan over outer nodes, so that memory is a few hundred numbers a pair."""
    if second.pieces is None and first.pieces is not None:
        return evaluate_piecewise(second, first, level, q22, q12, q11)
    s1, s2, c, w = _standardize(q11, q12, q22)
    cuts = _cuts(first, second, s1, s2 * c)
    left, width = cuts[..., :-1], jnp.diff(cuts, axis=-1)
    inner = functools.partial(_conditional_mean, second, level, s2[..., None], c[..., None], w[..., None])

    def step(total: Number, node: tuple) -> tuple[Number, None]:
        place, weight = node
        x = left + width * place
        part = width * weight * jnp.exp(-(x**2) / 2) * first.function(s1[..., None] * x) * inner(x)
        return total + part.sum(-1), None

    places, weights = (jnp.asarray(part, q12.dtype) for part in _double_exponential(level))
    total = jax.lax.scan(step, jnp.zeros_like(c), (places, weights))[0]
    return total / math.sqrt(2 * math.pi)


def _standardize(q11: Number, q12: Number, q22: Number) -> tuple[Number, Number, Number, Number]:
    """Standard deviations, correlation, and √(1 − c²) without the cancellation at c = 1."""
    q11, q12, q22 = jnp.broadcast_arrays(q11, q12, q22)
    safe1, safe2 = (jnp.where(q > 0, q, jnp.ones_like(q)) for q in (q11, q22))
    product = jnp.sqrt(safe1) * jnp.sqrt(safe2)
    positive = (q11 > 0) & (q22 > 0)
    c = jnp.where(positive, q12 / product, 0.0)
    w = jnp.where(positive, separation(q11, q12, q22) / product, 1.0)
    return jnp.sqrt(jnp.maximum(q11, 0.0)), jnp.sqrt(jnp.maximum(q22, 0.0)), c, w


def _cuts(first: Piecewise, second: Piecewise, s1: Number, s2: Number) -> Float[Array, "... cuts"]:
    """The ends, the kinks of φ(s₁x), the middles of the turns of m, and 0 in any case, in order."""
    ends = [jnp.full_like(s1, place) for place in (-first.reach, first.reach)]
    if 0.0 not in first.kinks:
        ends.append(jnp.zeros_like(s1))
    cuts = [_crossing(kink, s, first.reach) for kinks, s in ((first.kinks, s1), (second.kinks, s2)) for kink in kinks]
    return jnp.sort(jnp.stack(ends + cuts, -1), axis=-1)


def _crossing(kink: Number | float, scale: Number, reach: float) -> Number:
    """kink/scale, within reach."""
    safe = jnp.where(scale == 0, jnp.ones_like(scale), scale)
    place = jnp.where(scale == 0, jnp.where(kink == 0, 0.0, jnp.sign(kink) * reach).astype(scale.dtype), kink / safe)
    return jnp.clip(place, -reach, reach)


def _conditional_mean(second: Piecewise, level: int, s2: Number, c: Number, w: Number, x: Number) -> Number:
    """m(x): closed, or by Gauss-Legendre panels between the crossings."""
    s2, c, w, x = jnp.broadcast_arrays(s2, c, w, x)
    reach = second.reach if second.pieces is None else _FARTHEST
    crossings = [_crossing(kink - s2 * c * x, s2 * w, reach) for kink in second.kinks]
    edges = jnp.stack([jnp.full_like(x, -reach), *crossings, jnp.full_like(x, reach)], -1)
    if second.pieces is not None:
        return conditional_mean(second.pieces, edges, s2 * c * x, s2 * w)
    left, width = edges[..., :-1, None], jnp.diff(edges, axis=-1)[..., None]
    places, weights = (jnp.asarray(part, x.dtype).reshape((1,) * (left.ndim - 1) + (-1,)) for part in _panels(level))
    y = left + width * places
    argument = s2[..., None, None] * (c[..., None, None] * x[..., None, None] + w[..., None, None] * y)
    total = (width * weights * jnp.exp(-(y**2) / 2) * second.function(argument)).sum((-2, -1))
    return total / math.sqrt(2 * math.pi)


@functools.lru_cache(maxsize=8)
def _panels(level: int) -> tuple[np.ndarray, np.ndarray]:
    """2·level panels of Gauss-Legendre nodes on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_GAUSS)
    starts = np.arange(2 * level) / (2 * level)
    places = (starts[:, None] + (nodes + 1) / (4 * level)).ravel()
    return places, np.tile(weights / (4 * level), 2 * level)


@functools.lru_cache(maxsize=8)
def _double_exponential(level: int) -> tuple[np.ndarray, np.ndarray]:
    """Tanh-sinh nodes on [0, 1], to a distance of 1e-16 from the ends."""
    step = 1 / (8 + 4 * level)
    t = np.arange(-int(3.2 / step), int(3.2 / step) + 1) * step
    places = 1 / (1 + np.exp(-math.pi * np.sinh(t)))
    return places, step * math.pi * np.cosh(t) * places * (1 - places)


@functools.lru_cache(maxsize=256)
def fit_level(first: Piecewise, second: Piecewise, scale: float) -> int | None:
    """The least level that the next one confirms to 1e-9 of √(E φ² E ψ²), at correlations up to 1, or None."""
    return on_host(lambda: _fit_level(first, second, scale))


def _fit_level(first: Piecewise, second: Piecewise, scale: float) -> int | None:
    correlation = jnp.tile(jnp.array([0.0, 0.3, -0.6, 0.9, 0.999, 1 - 1e-6, 1 - 1e-12, 1.0, -1.0]), 2)
    variance = scale**2 * jnp.repeat(jnp.array([1.0, 1e-2]), 9)
    other = jnp.tile(jnp.array([0.25, 1.0, 0.5, 1.0, 1.0, 0.999, 1.0, 1.0, 1.0]), 2) * variance
    arguments = (variance, correlation * jnp.sqrt(variance * other), other)
    value = jax.jit(evaluate_piecewise, static_argnums=(0, 1, 2))
    before = value(first, second, _LEVELS[0], *arguments)
    size = np.sqrt(_second_moment(first, variance) * _second_moment(second, other))
    for level, finer in itertools.pairwise(_LEVELS):
        after = value(first, second, finer, *arguments)
        if bool((jnp.abs(after - before) <= _ACCURACY * size).all()):
            return level
        before = after
    return None


def _second_moment(part: Piecewise, variance: Number) -> np.ndarray:
    """E φ² at some variances, to the few digits that a tolerance needs."""
    x = np.linspace(-part.reach, part.reach, 1025)
    weight = np.exp(-(x**2) / 2) * (x[1] - x[0]) / math.sqrt(2 * math.pi)
    values = evaluate_on_host(part.function, (np.sqrt(np.asarray(variance))[:, None] * x).ravel())
    return values.reshape(-1, len(x)) ** 2 @ weight
