r"""The ridgelet transform: the distribution of a two-layer network's weights, in closed form (Sonoda and Murata).

    R f(a, b) = ∫ f(x) ψ(a·x − b) dx,   S[T](x) = ∬ T(a, b) σ(a·x − b) da db,   S R f = K f,
    K = (2π)^(m−1) ∫ conj(ψ̂(ω)) σ̂(ω) |ω|^(−m) dω,   f̂(ξ) = ∫ f(x) e^(−i ξ·x) dx.

The dual of an activation σ is ψ = G^(l), a derivative of the standard Gaussian density, and K is known before any fit.
A factor |a|^s in R and |a|^(−s) in S changes neither K nor the density T |a|^(−s) da db, so s = 0 here.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory import guarded
from jaxtheory.activations.named import elementwise
from jaxtheory.checks import boundary, constrain, host_numbers, require
from jaxtheory.expressivity.ridgelet_grids import Grid, PolarGrid, grid, polar_grid
from jaxtheory.expressivity.ridgelet_transforms import (
    blocks_of,
    check_pairs,
    gaussian_derivative,
    gaussian_transform,
    transform,
    transform_slices,
)

__all__ = [
    "Grid",
    "PolarGrid",
    "Sampled",
    "admissibility",
    "evaluate",
    "gaussian_derivative",
    "gaussian_transform",
    "grid",
    "polar_grid",
    "reconstruct",
    "retained",
    "sample_network",
    "transform",
    "transform_slices",
]

Activation = str | int
Number = float | Float[Array, ""]


class _Spectrum(NamedTuple):
    """σ̂(ω) = phase · profile(ω) / ω^pole for ω > 0, even (parity 0) or odd (1); profile is smooth and even."""

    parity: int
    pole: int
    phase: complex
    profile: Callable[[np.ndarray], np.ndarray]


def _bell(width: float) -> Callable[[np.ndarray], np.ndarray]:
    """π ω / sinh(π ω / width), continued to 0."""
    return lambda w: np.where(w > 1e-8, np.pi * w / np.sinh(np.maximum(np.pi * w / width, 1e-8)), width)


_SPECTRA = {
    "relu": _Spectrum(0, 2, -1, np.ones_like),
    "abs": _Spectrum(0, 2, -2, np.ones_like),
    "softplus": _Spectrum(0, 2, -1, _bell(1.0)),
    "step": _Spectrum(1, 1, -1j, np.ones_like),
    "sigmoid": _Spectrum(1, 1, -1j, _bell(1.0)),
    "tanh": _Spectrum(1, 1, -1j, _bell(2.0)),
    "erf": _Spectrum(1, 1, -1j, lambda w: 2 * np.exp(-(w**2) / 4)),
}


class Sampled(NamedTuple):
    """A two-layer network x ↦ Σ outer_i σ(a_i·x − b_i) whose inner weights were drawn from |T|."""

    a: Float[Array, "neurons d"]
    b: Float[Array, " neurons"]
    outer: Float[Array, " neurons"]
    """by least squares"""
    monte_carlo: Float[Array, " neurons"]
    """the unbiased weights sign(T) ∫|T| / (K N)"""


@boundary(static=("derivative", "dim"))
def admissibility(activation: Activation, derivative: int, dim: int) -> float:
    r"""K of the pair σ, ψ = G^(derivative) in dimension m: S R f = K f.

        K = (2π)^(m−1) · 2 Re[conj(i^l) phase] ∫_0^∞ ω^(l−m−pole) profile(ω) e^(−ω²/2) dω

    For ReLU and l = 2ℓ it is −(−1)^ℓ (2π)^(m−1) 2^((2ℓ−1−m)/2) Γ((2ℓ−1−m)/2).

    Args:
        activation: "relu", "abs", "softplus", "step", "sigmoid", "tanh", "erf", or j for σ = G^(j).
        derivative: l ≥ 0. dim: m ≥ 1.

    Raises:
        ValueError: an inadmissible pair: parities that differ (K = 0), or an integral that diverges at ω = 0, as for
            ReLU with G'' in one dimension; a K beyond float64.

    Accuracy: 1e-13. Cost: 1000 evaluations. Source: Sonoda and Murata (2017), definition 4.4 and theorem 5.6.

    >>> f"{admissibility('relu', 4, 1):.6f} {admissibility('tanh', 3, 1):.6f}"
    '-2.000000 2.337876'
    """
    spectrum = _admissible(activation, derivative, dim)
    sign = ((1j**derivative).conjugate() * spectrum.phase).real
    power = derivative - dim - spectrum.pole
    with np.errstate(over="ignore"):
        size = np.exp(_peak(power)) * np.float64(2 * np.pi) ** (dim - 1)
    found = float(2 * sign * _moment(spectrum, power, 0.0) * size)
    require(math.isfinite(found), "derivative", derivative, "leave K within float64", "use a lower derivative")
    return found


@boundary(static=("derivative", "dim"))
def retained(activation: Activation, derivative: int, dim: int, ratio: Any) -> np.ndarray:
    r"""The blur law: the factor on f̂(ξ) when only |a| ≤ A is kept, at ratio = |ξ|/A.

        ∫_{ω > ratio} ω^(l−m−pole) profile(ω) e^(−ω²/2) dω / ∫_0^∞ …

    since a frequency ξ is made by the pairs with ω a = ξ. For ReLU/G'''' and m = 1 it is e^(−ratio²/2).

    Args:
        activation, derivative, dim: as in `admissibility`. ratio: numbers ≥ 0 of any shape, for NumPy.

    Raises:
        ValueError: an inadmissible pair, or ratios that are negative or not finite. Cost: 1000 evaluations a ratio.

    Source: the Fourier slice theorem in Sonoda and Murata (2017), section 4.

    >>> retained("relu", 4, 1, [0.0, 1.0]).round(6).tolist()
    [1.0, 0.606531]
    """
    spectrum = _admissible(activation, derivative, dim)
    power = derivative - dim - spectrum.pole
    ratios = host_numbers("ratio", ratio)
    valid = bool(((ratios >= 0) & (ratios < np.inf)).all())
    require(valid, "ratio", ratio, "be >= 0 and finite", "pass |ξ|/A")
    kept = [_moment(spectrum, power, low) for low in ratios.ravel()]
    return np.asarray(np.reshape(kept, ratios.shape) / _moment(spectrum, power, 0.0))


def _admissible(activation: Activation, derivative: int, dim: int) -> _Spectrum:
    known = activation in _SPECTRA if isinstance(activation, str) else activation >= 0
    names = f"be one of {sorted(_SPECTRA)}, or j for a Gaussian derivative"
    require(known, "activation", activation, names, "add its Fourier transform")
    require(derivative >= 0, "derivative", derivative, "be >= 0", "G^(0) is the Gaussian itself")
    require(dim >= 1, "dim", dim, "be >= 1", "pass the number of inputs")
    if isinstance(activation, int):
        spectrum = _Spectrum(activation % 2, -activation, 1j**activation, np.ones_like)
        spectrum = spectrum._replace(profile=lambda w: np.exp(-(w**2) / 2))
    else:
        spectrum = _SPECTRA[activation]
    kind = "even" if spectrum.parity == 0 else "odd"
    same = derivative % 2 == spectrum.parity
    require(same, "derivative", derivative, f"be {kind}, as the activation's spectrum, or K = 0", "use the next one")
    least = dim + spectrum.pole
    converges = f"be >= {least}, or the integral of ω^{derivative - least} diverges at ω = 0"
    require(derivative >= least, "derivative", derivative, converges, "use a higher derivative")
    return spectrum


def _moment(spectrum: _Spectrum, power: int, low: float) -> float:
    """∫_low^∞ ω^power profile(ω) e^(−ω²/2) dω over the largest ω^power e^(−ω²/2), by Gauss-Legendre panels."""
    node, weight = np.polynomial.legendre.leggauss(24)
    edges = np.linspace(low, low + 14 + 2 * power**0.5, 49)
    half = np.diff(edges)[:, None] / 2
    w = edges[:-1, None] + half * (node[None, :] + 1)
    logarithm = power * np.log(w) - w**2 / 2 - _peak(power)  # up to where this is round-off
    return float((half * weight[None, :] * spectrum.profile(w) * np.exp(logarithm)).sum())


def _peak(power: int) -> float:
    """The largest power · log ω − ω²/2."""
    return power / 2 * (math.log(power) - 1) if power else 0.0


@boundary
def reconstruct(
    spectrum: Float[Array, " k"],
    pairs: Grid,
    x: Float[Array, "n d"],
    constant: Number,
    *,
    activation: Activation,
) -> Float[Array, " n"]:
    r"""f = S[T]/K on points x: (1/K) Σ_k w_k T_k σ(a_k·x − b_k), with K from `admissibility` and nothing fitted.

    Args:
        spectrum: T at `pairs`. x: n points. constant: K ≠ 0. activation: σ, a name or j for G^(j).

    Raises:
        ValueError: shapes that do not fit, an unknown activation; K = 0 (outside jit; NaN inside).

    Cost: n k evaluations of σ, memory 1024 n, in reverse mode too. Source: Sonoda and Murata (2017), theorem 5.6.

    >>> pairs, x = grid(12.0, 6.0), jnp.array([[0.0], [1.0]])
    >>> spectrum = gaussian_transform(pairs.a, pairs.b, derivative=4)
    >>> f = reconstruct(spectrum, pairs, x, admissibility("relu", 4, 1), activation="relu")
    >>> [f"{value:.2f}" for value in f.tolist()]
    ['1.00', '0.61']
    """
    _check_grid(spectrum, pairs, x)
    k = jnp.asarray(_nonzero(constant), x.dtype)
    return _reconstruct(spectrum * pairs.weights, pairs.a, pairs.b, x, activation) / k


def _nonzero(constant: Number) -> Number:
    wish, hint = "be finite and not 0", "use admissibility(activation, derivative, dim)"
    return constrain("constant", constant, lambda k: (k != 0) & (abs(k) < math.inf), wish, hint)


def _check_grid(spectrum: Array, pairs: Grid, x: Array) -> None:
    check_pairs(pairs.a, pairs.b, x.shape[1])
    fits = spectrum.shape == pairs.b.shape == pairs.weights.shape
    require(fits, "spectrum", spectrum.shape, f"have one entry for each of {len(pairs.b)} pairs", "transform at pairs")


@partial(jax.jit, static_argnames="activation")
def _reconstruct(coefficients: Array, a: Array, b: Array, x: Array, activation: Activation) -> Array:
    @jax.checkpoint
    def add(total: Array, block: tuple[Array, Array, Array]) -> tuple[Array, None]:
        c, directions, shifts = block
        return total + jnp.matmul(_neurons(directions, shifts, x, activation), c, precision="highest"), None

    return jax.lax.scan(add, 0 * x[:, 0], tuple(map(blocks_of, (coefficients, a, b))))[0]


def _neurons(a: Array, b: Array, x: Array, activation: Activation) -> Array:
    """σ(a_k·x_i − b_k), one column a neuron."""
    t = jnp.matmul(x, a.T, precision="highest") - b[None, :]
    return gaussian_derivative(t, activation) if isinstance(activation, int) else elementwise(activation)(t)


@boundary(static=("neurons",))
def sample_network(
    key: Key[Array, ""],
    spectrum: Float[Array, " k"],
    pairs: Grid,
    *,
    neurons: int,
    x: Float[Array, "n d"],
    values: Float[Array, " n"],
    constant: Number,
    activation: Activation,
) -> Sampled:
    r"""N neurons drawn from |T| da db, with Monte Carlo outer weights and with the best ones.

        f ≈ (∫|T| / K N) Σ_i sign T(a_i, b_i) σ(a_i·x − b_i),   and   min_c Σ (f(x) − Σ_i c_i σ(a_i·x − b_i))².

    Inside its cell of the grid a neuron is uniform. Least squares forgives a wrong K: check K by `reconstruct`.

    Args:
        key, spectrum: T at `pairs`. neurons: N ≥ 1. x, values: the target, n ≥ N points. constant: K ≠ 0.
        activation: σ, a name or j for G^(j).

    Raises:
        ValueError: more neurons than points, shapes that do not fit, an unknown activation; K = 0 or a spectrum that
            vanishes (outside jit; NaN inside).

    Cost: one SVD of n × N. Source: Sonoda and Murata (2014), section 4.

    >>> pairs, x = grid(10.0, 5.0), jnp.linspace(-2, 2, 200)[:, None]
    >>> f, spectrum = jnp.exp(-(x[:, 0] ** 2) / 2), gaussian_transform(pairs.a, pairs.b, derivative=4)
    >>> options = {"neurons": 100, "constant": -2.0, "activation": "relu"}
    >>> net = sample_network(jax.random.key(0), spectrum, pairs, x=x, values=f, **options)
    >>> bool(jnp.abs(evaluate(net, x, activation="relu") - f).max() < 0.02)
    True
    """
    require(len(x) == len(values), "values", values.shape, f"have one entry for each of {len(x)} points", "pair them")
    require(1 <= neurons <= len(values), "neurons", neurons, f"lie in 1..{len(values)}", "pass more points")
    _check_grid(spectrum, pairs, x)
    k = _nonzero(constant)
    size = constrain("spectrum", jnp.abs(spectrum), lambda t: (t > 0).any(), "not vanish", "transform the target")
    mass = size * pairs.weights
    draw, stretch, shift = jax.random.split(key, 3)
    chosen = jax.random.choice(draw, len(mass), (neurons,), p=mass / mass.sum())
    radius = guarded.norm(pairs.a[chosen], axis=1, keepdims=True)
    jitter = pairs.cell[0] * (jax.random.uniform(stretch, radius.shape, mass.dtype) - 0.5)
    a = pairs.a[chosen] * (1 + guarded.over(jitter, radius))
    b = pairs.b[chosen] + pairs.cell[1] * (jax.random.uniform(shift, (neurons,), mass.dtype) - 0.5)
    plain = jnp.sign(spectrum[chosen]) * mass.sum() / jnp.asarray(k * neurons, mass.dtype)
    outer = jnp.linalg.lstsq(_neurons(a, b, x, activation), values)[0]
    # a point at infinity, where a neuron may be 0, must not be fitted in silence
    return Sampled(a, b, jnp.where(jnp.isfinite(x).all(), outer, jnp.full_like(outer, jnp.nan)), plain)


@boundary
def evaluate(net: Sampled, x: Float[Array, "n d"], *, activation: Activation) -> Float[Array, " n"]:
    """The sampled network with its least-squares outer weights.

    Args:
        net: from `sample_network`. x: n points. activation: that of the network.

    Raises:
        ValueError: points of another dimension, an unknown activation. Cost: n · neurons evaluations of σ.

    >>> net = Sampled(jnp.ones((1, 1)), jnp.zeros(1), jnp.full(1, 2.0), jnp.zeros(1))
    >>> evaluate(net, jnp.ones((1, 1)), activation="relu").tolist()
    [2.0]
    """
    check_pairs(net.a, net.b, x.shape[1])
    return jnp.matmul(_neurons(net.a, net.b, x, activation), net.outer, precision="highest")
