r"""Activations that are c₀ + c₁x + c₂x² + d e^(ax) between their kinks: their conditional Gaussian mean is closed.

With Y standard normal, between α and β, and Φ and p its distribution and density,

    E[1; α, β] = Φ(β) − Φ(α),   E[Y; α, β] = p(α) − p(β),   E[Y²; α, β] = E[1; α, β] + α p(α) − β p(β),
    E[e^(a(m + sY)); α, β] = e^(am + a²s²/2) (Φ(β − as) − Φ(α − as)).

The last is taken together with −1, since e^x − 1 of an ELU has no digits left in e^x where x is small.

hard_tanh, ReLU6, hard swish, ELU, CELU, SELU and their derivatives are of this kind, told by their values.
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import chebyshev

from jaxtheory.activations.quadrature import evaluate_on_host

Number = Float[Array, "..."]

_NODES = np.cos(np.pi * (np.arange(24) + 0.5) / 24)  # within a piece, off its ends
_NEAR = 2.0  # length of a piece next to a kink from which its rate is read off
_REACH = 26.0  # 8.6 standard deviations of 3
_AGREEMENT = 1e-12  # of the size of the terms, at each point and next to the kink
_ROUNDS = 6
_STEEP = 300.0  # e^300 and its square are finite
_SMALL = 0.25
_MOVED_TERMS = 12  # |He_k| p ≤ √k!, so that the next is 1/4^12 √12!/13! = 2e-13 of the first


class Piece(NamedTuple):
    """c₀ + c₁x + c₂x² + d e^(ax)."""

    polynomial: tuple[float, float, float]
    amplitude: float
    rate: float


@functools.lru_cache(maxsize=512)
def find_pieces(function: Callable, kinks: tuple[float, ...]) -> tuple[Piece, ...] | None:
    """The pieces between the kinks and beyond them, or None where one is of another kind.

    >>> find_pieces(jax.nn.elu, (0.0,))[1]
    Piece(polynomial=(0.0, 1.0, 0.0), amplitude=0.0, rate=0.0)
    """
    ends = [min(kinks, default=0.0) - _REACH, *kinks, max(kinks, default=0.0) + _REACH]
    found = [_piece(function, left, right) for left, right in itertools.pairwise(ends)]
    return None if any(piece is None for piece in found) else tuple(p for p in found if p is not None)


def _piece(function: Callable, left: float, right: float) -> Piece | None:
    grid = left + (right - left) * (1 + np.concatenate([_NODES, 1 - 1e-3 * (1 + _NODES), 1e-3 * (1 + _NODES) - 1])) / 2
    side = min(_NEAR, right - left) / 2
    near = [(right - side if left < -_REACH / 2 else left + side) + side * _NODES]
    values, beside = np.split(evaluate_on_host(function, np.concatenate([grid, *near])), [len(grid)])
    if not (np.isfinite(values).all() and np.isfinite(beside).all()):
        return None
    for rate in (0.0, _rate(near[0], beside)):
        piece = _fitted(grid, values, rate, np.abs(beside).max())
        if piece is not None:
            return piece
    return None


def _rate(x: np.ndarray, values: np.ndarray) -> float:
    """a = f⁗/f‴, which a square does not touch."""
    series = chebyshev.Chebyshev.fit(x, values, 14)
    middle = float(x.mean())
    third, fourth = (float(series.deriv(k)(middle)) for k in (3, 4))
    return fourth / third if abs(third) > 1e-9 * np.abs(values).max() else 0.0


def _fitted(x: np.ndarray, values: np.ndarray, rate: float, scale: float) -> Piece | None:
    """Least squares, with Gauss-Newton steps for the rate, if it reproduces the values, of size `scale` at a kink."""
    coefficients = np.zeros(5)
    for _ in range(_ROUNDS if rate else 1):
        if not np.abs(rate * x).max() < _STEEP:
            return None
        columns = [np.ones_like(x), x, x**2, *([np.exp(rate * x), x * np.exp(rate * x)] if rate else [])]
        matrix = np.stack(columns, 1)
        row = 1 / (1e-300 + np.abs(matrix[:, :4]).max(1))
        size = np.abs(matrix * row[:, None]).max(0)
        solution = np.linalg.lstsq(matrix * row[:, None] / size, values * row, rcond=None)[0] / size
        coefficients[: len(columns)] = np.where(
            np.abs(solution * size) > 1e-13 * np.abs(solution * size).max(), solution, 0
        )
        if rate and coefficients[3]:
            rate += coefficients[4] / coefficients[3]
    c0, c1, c2, amplitude = map(float, coefficients[:4])
    terms = [np.full_like(x, c0), c1 * x, c2 * x**2, amplitude * np.exp(rate * x)]
    close = np.abs(sum(terms) - values) <= _AGREEMENT * (scale + np.abs(terms).sum(0))
    return Piece((c0, c1, c2), amplitude, float(rate)) if close.all() else None


def conditional_mean(pieces: tuple[Piece, ...], edges: Number, mean: Number, deviation: Number) -> Number:
    """E ψ(m + sY), the pieces between `edges` [..., pieces + 1] of Y; constant in number of evaluations."""
    density = jnp.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi).astype(edges.dtype)
    below = jax.scipy.special.ndtr(edges)
    total = jnp.zeros_like(mean)
    for i, piece in enumerate(pieces):
        left, right = edges[..., i], edges[..., i + 1]
        zeroth = below[..., i + 1] - below[..., i]
        first = density[..., i] - density[..., i + 1]
        c0, c1, c2 = piece.polynomial
        c0 = _sum(c0, piece.amplitude)
        total = total + c0 * zeroth + c1 * (mean * zeroth + deviation * first)
        if c2:
            second = zeroth + left * density[..., i] - right * density[..., i + 1]
            total = total + c2 * (mean**2 * zeroth + 2 * mean * deviation * first + deviation**2 * second)
        if piece.amplitude:
            shift, exponent = piece.rate * deviation, piece.rate * mean + (piece.rate * deviation) ** 2 / 2
            moved = _moved(right, density[..., i + 1], shift) - _moved(left, density[..., i], shift)
            small = jnp.expm1(jnp.clip(exponent, -1, 1)) * (zeroth + moved) + moved
            rise = _exponential(piece.rate, left, right, mean, deviation) - zeroth
            close = (jnp.abs(shift) < _SMALL) & (jnp.abs(exponent) < _SMALL)
            total = total + piece.amplitude * jnp.where(close, small, rise)
    return total


def _sum(one: float, other: float) -> float:
    """The sum, 0 where nothing but rounding is left of it."""
    total = one + other
    return total if abs(total) > _AGREEMENT * max(abs(one), abs(other)) else 0.0


def _moved(edge: Number, density: Number, shift: Number) -> Number:
    """Φ(z − s) − Φ(z) = −s p(z) Σ_k He_k(z) s^k/(k + 1)!, to the last digit of its size for |s| ≤ 1/4."""
    total, power = jnp.zeros_like(shift * edge), jnp.ones_like(shift)
    before, now = jnp.zeros_like(edge), jnp.ones_like(edge)
    for k in range(_MOVED_TERMS):
        total = total + now * power
        before, now, power = now, edge * now - k * before, power * shift / (k + 2)
    return -shift * density * total


def _exponential(rate: float, left: Number, right: Number, mean: Number, deviation: Number) -> Number:
    """E[e^(a(m + sY)); α, β], by tails on the side where the exponential is small, which do not overflow."""
    shift = rate * deviation
    exponent = rate * mean + shift**2 / 2
    near, far = (right - shift, left - shift) if rate > 0 else (shift - left, shift - right)
    return jnp.exp(exponent + jax.scipy.special.log_ndtr(near)) - jnp.exp(exponent + jax.scipy.special.log_ndtr(far))
