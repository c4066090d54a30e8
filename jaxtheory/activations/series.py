r"""E[φ(u)ψ(v)] of smooth activations by Mehler's formula: a power series in the correlation.

    E[φ(u)ψ(v)] = Σ_k a_k(q11) b_k(q22) c^k,   a_k(q) = E[φ(√q G) h_k(G)],   c = q12/√(q11 q22)

with orthonormal h_k. The coefficients cost a product with a fixed matrix for each of the n₁ + n₂ variances; what is
left for each of the n₁ n₂ pairs is a polynomial.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.activations.quadrature import evaluate_on_host

Number = Float[Array, "..."]

_FINEST, _REACH, _TERMS = 32, 37, 2048  # nodes a standard deviation; e^(−37²/4) = 1e-149
_LOST = 1e-9  # of √(E φ² E ψ²) beyond the last term, at the scale that the series is built for
_STEP_ACCURACY = 1e-11
_ALLOWED = {"float64": 1e-8, "float32": 1e-5}  # what may be lost where it is evaluated
_CHUNK = 16


class Series(NamedTuple):
    """Nodes, their probabilities, and the matrix (nodes × degrees) that takes values to coefficients."""

    nodes: np.ndarray
    probabilities: np.ndarray
    matrix: np.ndarray
    parity: int | None


class _Expansion(NamedTuple):
    """A function on the finest nodes within its reach, its coefficients, and E φ²."""

    nodes: np.ndarray
    roots: np.ndarray
    basis: np.ndarray
    values: np.ndarray
    coefficients: np.ndarray
    second: float

    def lost(self) -> np.ndarray:
        """Share of E φ² beyond each degree; round-off counts as lost."""
        return np.maximum(1 - np.cumsum(self.coefficients**2) / self.second, 1e-15)


def fit_series(phi: Callable, psi: Callable, scale: float) -> tuple[Series, Series] | None:
    """Series for variances up to scale², of as few terms and nodes as keep 1e-9, or None where 2048 terms do not.

    By Cauchy-Schwarz the sum beyond a degree is at most √(what φ has lost · what ψ has lost) there.
    """
    first, second = _expand(phi, scale), _expand(psi, scale)
    if first is None or second is None:
        return None
    good = np.flatnonzero(first.lost() * second.lost() <= _LOST**2)
    if not len(good):
        return None
    terms = _CHUNK * (int(good[0]) // _CHUNK + 1)
    return _series(first, terms), _series(second, terms)


@functools.lru_cache(maxsize=64)
def _expand(function: Callable, scale: float) -> _Expansion | None:
    nodes, basis, roots = _hermite_functions()
    values = evaluate_on_host(function, scale * nodes)
    # A function that decays fast at the full scale is nearly constant, over all of the Gaussian, at a small one.
    smaller = [evaluate_on_host(function, part * nodes) for part in scale * np.array([0.5, 0.25, 0.125, 0.0])]
    half = max(_reach(each, nodes) for each in (values, *smaller))
    inside = np.abs(nodes) <= half + 1 / _FINEST
    if inside.all() or not np.isfinite(values[inside]).all():
        return None
    nodes, basis, roots, values = nodes[inside], basis[inside], roots[inside], values[inside]
    second = float(((values * roots) ** 2).sum()) / _FINEST
    return _Expansion(nodes, roots, basis, values, (values * roots) @ basis / _FINEST, second or 1.0)


def _series(expansion: _Expansion, terms: int) -> Series:
    """As few nodes and degrees as keep what the expansion knows."""
    nodes, roots, basis = expansion.nodes, expansion.roots, expansion.basis
    parity = _parity(expansion.values)
    every = _coarsest(expansion, terms)
    picked = slice((len(nodes) // 2) % every, None, every)
    weight = roots[picked] * (every / _FINEST)
    degrees = slice(parity or 0, terms, 1 if parity is None else 2)
    return Series(nodes[picked], roots[picked] * weight, basis[picked, degrees] * weight[:, None], parity)


@functools.lru_cache(maxsize=1)
def _hermite_functions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes, h_k(x) e^(−x²/4) (2π)^(−1/4), which is bounded, and the density's root."""
    x = np.arange(-_REACH * _FINEST, _REACH * _FINEST + 1) / _FINEST
    root = np.exp(-(x**2) / 4) * (2 * math.pi) ** -0.25
    table = np.empty((len(x), _TERMS))
    before, now = np.zeros_like(x), root
    for k in range(_TERMS):
        table[:, k] = now
        before, now = now, (x * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return x, table, root


def _reach(values: np.ndarray, nodes: np.ndarray) -> float:
    """How far out φ e^(−x²/4) is more than round-off, or not finite."""
    with np.errstate(all="ignore"):
        size = np.abs(values) * np.exp(-(nodes**2) / 4)
    largest = np.max(size[np.isfinite(size)], initial=0.0)
    needed = ~(size <= 1e-18 * largest)
    return float(np.abs(nodes[needed]).max(initial=1.0))


def _coarsest(expansion: _Expansion, terms: int) -> int:
    """How many of the finest steps one step may be: the trapezoidal rule converges geometrically or not at all."""
    weighted, norm = expansion.values * expansion.roots, math.sqrt(expansion.second)
    for every in (8, 4, 2):
        picked = slice((len(weighted) // 2) % every, None, every)
        rough = weighted[picked] @ expansion.basis[picked, :terms] * (every / _FINEST)
        size = math.sqrt((weighted[picked] ** 2).sum() * every / _FINEST)
        if max(np.abs(rough - expansion.coefficients[:terms]).max(), abs(size - norm)) <= _STEP_ACCURACY * norm:
            return every
    return 1


def _parity(values: np.ndarray) -> int | None:
    """0 for an even function, 1 for an odd one."""
    size = 1e-15 * np.abs(values) + 1e-300
    for parity, mirrored in ((0, values[::-1]), (1, -values[::-1])):
        if (np.abs(values - mirrored) <= size).all():
            return parity
    return None


def evaluate_series(
    first: tuple[Callable, Series], second: tuple[Callable, Series], q11: Number, q12: Number, q22: Number
) -> Number:
    """Σ_k a_k b_k c^k over the degrees that both series have; NaN where the variances are too large for them."""
    correlation = _correlation(q11, q12, q22)
    (one, lost1), (two, lost2) = _coefficients_at(*first, q11), _coefficients_at(*second, q22)
    correlation = jnp.where(lost1 * lost2 > _ALLOWED[q12.dtype.name] ** 2, jnp.nan, correlation)
    parities = {first[1].parity, second[1].parity} - {None}
    if len(parities) == 2:  # an even and an odd function
        return jnp.zeros_like(correlation)
    parity = parities.pop() if parities else None
    one, two = _thin(one, first[1].parity, parity), _thin(two, second[1].parity, parity)
    total = _horner(one, two, correlation if parity is None else correlation**2)
    return total * correlation if parity == 1 else total


def _thin(coefficients: Float[Array, "... k"], own: int | None, parity: int | None) -> Float[Array, "... m"]:
    return coefficients[..., parity::2] if own is None and parity is not None else coefficients


def _correlation(q11: Number, q12: Number, q22: Number) -> Number:
    """q12/√(q11 q22), and 0 where there is no variance: only the constant term is left there anyway."""
    positive = (q11 > 0) & (q22 > 0)
    safe1, safe2 = (jnp.where(q > 0, q, jnp.ones_like(q)) for q in (q11, q22))
    return jnp.where(positive, q12 * (1 / jnp.sqrt(safe1)) * (1 / jnp.sqrt(safe2)), 0.0)


def _coefficients_at(function: Callable, series: Series, q: Number) -> tuple[Float[Array, "... k"], Number]:
    """a_k(q) of the degrees that the series keeps, and the share of E φ² that they lose, at least round-off."""
    dtype = q.dtype
    nodes, matrix = jnp.asarray(series.nodes, dtype), jnp.asarray(series.matrix, dtype)
    values = function(jnp.sqrt(q)[..., None] * nodes.reshape((1,) * q.ndim + (-1,))).astype(dtype)
    coefficients = jnp.matmul(values, matrix, precision="highest")
    second = jnp.matmul(values**2, jnp.asarray(series.probabilities, dtype), precision="highest")
    lost = second - (coefficients**2).sum(-1)
    share = jnp.where(second > 0, lost / jnp.where(second > 0, second, jnp.ones_like(second)), 0.0)
    return coefficients, jnp.maximum(share, jnp.finfo(dtype).eps)


def _horner(one: Float[Array, "... k"], two: Float[Array, "... k"], x: Number) -> Number:
    """Σ one_k two_k x^k, sixteen degrees a step, so that memory is that of the pairs and not of the terms."""
    pad = [(0, 0)] * (one.ndim - 1) + [(0, -one.shape[-1] % _CHUNK)]
    first = jnp.moveaxis(jnp.pad(one, pad), -1, 0).reshape(-1, _CHUNK, *one.shape[:-1])
    pad = [(0, 0)] * (two.ndim - 1) + [(0, -two.shape[-1] % _CHUNK)]
    second = jnp.moveaxis(jnp.pad(two, pad), -1, 0).reshape(-1, _CHUNK, *two.shape[:-1])

    def step(total: Number, block: tuple) -> tuple[Number, None]:
        for k in reversed(range(_CHUNK)):
            total = total * x + block[0][k] * block[1][k]
        return total, None

    return jax.lax.scan(step, jnp.zeros_like(x) * first[0, 0] * second[0, 0], (first, second), reverse=True)[0]
