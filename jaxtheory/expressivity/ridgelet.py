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
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtheory.activations import resolve
from jaxtheory.checks import holds, require

Activation = str | int
_DECAY = 10.0  # G^(l)(10) is below 1e-14 for the l in use
_BLOCK = 1024  # pairs (a, b) at once: memory is _BLOCK × points


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


class Grid(NamedTuple):
    """Nodes (a, b) and the weights of da db."""

    a: Float[Array, "k m"]
    b: Float[Array, " k"]
    weights: Float[Array, " k"]
    cell: tuple[float, float]
    """spacings of |a| and of b"""


class Sampled(NamedTuple):
    """A two-layer network x ↦ Σ outer_i σ(a_i·x − b_i) whose inner weights were drawn from |T|."""

    a: Float[Array, "neurons m"]
    b: Float[Array, " neurons"]
    outer: Float[Array, " neurons"]
    """by least squares"""
    monte_carlo: Float[Array, " neurons"]
    """the unbiased weights sign(T) ∫|T| / (K N)"""


def admissibility(activation: Activation, derivative: int, dim: int) -> float:
    r"""K of the pair σ, ψ = G^(derivative) in dimension m: S R f = K f.

        K = (2π)^(m−1) · 2 Re[conj(i^l) phase] ∫_0^∞ ω^(l−m−pole) profile(ω) e^(−ω²/2) dω

    For ReLU and l = 2ℓ it is −(−1)^ℓ (2π)^(m−1) 2^((2ℓ−1−m)/2) Γ((2ℓ−1−m)/2).

    Args:
        activation: "relu", "abs", "softplus", "step", "sigmoid", "tanh", "erf", or j for σ = G^(j).
        derivative: l ≥ 0. dim: m ≥ 1.

    Raises:
        ValueError: an inadmissible pair: parities that differ (K = 0), or an integral that diverges at ω = 0, as for
            ReLU with G'' in one dimension.

    Accuracy: 1e-13. Cost: 1000 evaluations. Source: Sonoda and Murata (2017), definition 4.4 and theorem 5.6.

    >>> f"{admissibility('relu', 4, 1):.6f} {admissibility('tanh', 3, 1):.6f}"
    '-2.000000 2.337876'
    """
    spectrum = _admissible(activation, derivative, dim)
    sign = ((1j**derivative).conjugate() * spectrum.phase).real
    power = derivative - dim - spectrum.pole
    return float((2 * np.pi) ** (dim - 1) * 2 * sign * _moment(spectrum, power, 0.0))


def retained(activation: Activation, derivative: int, dim: int, ratio: Any) -> np.ndarray:
    r"""The blur law: the factor on f̂(ξ) when only |a| ≤ A is kept, at ratio = |ξ|/A.

        ∫_{ω > ratio} ω^(l−m−pole) profile(ω) e^(−ω²/2) dω / ∫_0^∞ …

    since a frequency ξ is made by the pairs with ω a = ξ. For ReLU/G'''' and m = 1 it is e^(−ratio²/2).

    Raises: ValueError: an inadmissible pair. Source: the Fourier slice theorem in Sonoda and Murata (2017), section 4.

    >>> retained("relu", 4, 1, [0.0, 1.0]).round(6).tolist()
    [1.0, 0.606531]
    """
    spectrum = _admissible(activation, derivative, dim)
    power = derivative - dim - spectrum.pole
    ratios = np.asarray(ratio, float)
    kept = [_moment(spectrum, power, low) for low in ratios.ravel()]
    return np.asarray(np.reshape(kept, ratios.shape) / _moment(spectrum, power, 0.0))


def _admissible(activation: Activation, derivative: int, dim: int) -> _Spectrum:
    known = isinstance(activation, int) or activation in _SPECTRA
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
    """∫_low^∞ ω^power profile(ω) e^(−ω²/2) dω by Gauss-Legendre panels up to where e^(−ω²/2) is round-off."""
    node, weight = np.polynomial.legendre.leggauss(24)
    edges = np.linspace(low, low + 14 + 2 * power**0.5, 49)
    half = np.diff(edges)[:, None] / 2
    w = edges[:-1, None] + half * (node[None, :] + 1)
    return float((half * weight[None, :] * w**power * spectrum.profile(w) * np.exp(-(w**2) / 2)).sum())


def gaussian_derivative(t: Float[Array, "..."], derivative: int) -> Float[Array, "..."]:
    """G^(l)(t) = (−1)^l He_l(t) e^(−t²/2)/√(2π).

    >>> f"{gaussian_derivative(jnp.array(0.0), 2):.6f}"
    '-0.398942'
    """
    before, now = jnp.zeros_like(t), jnp.ones_like(t)
    for k in range(derivative):
        before, now = now, t * now - k * before
    return (-1) ** derivative * now * jnp.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


@partial(jax.jit, static_argnames="derivative")
def transform(
    values: Float[Array, " n"],
    x: Float[Array, "n m"],
    weights: Float[Array, " n"],
    a: Float[Array, "k m"],
    b: Float[Array, " k"],
    *,
    derivative: int,
) -> Float[Array, " k"]:
    r"""R f(a, b) = ∫ f(x) ψ(a·x − b) dx by quadrature, ψ = G^(derivative).

    Args: values: f at nodes x with quadrature weights (of dx); nodes closer than about 1/|a|. a, b: k pairs.

    Cost: n k evaluations of ψ, memory 1024 n. Source: Sonoda and Murata (2017), equation (2).

    >>> x = jnp.linspace(-8, 8, 400)[:, None]
    >>> f = jnp.exp(-(x[:, 0] ** 2) / 2)
    >>> one = jnp.ones((1, 1))
    >>> close = transform(f, x, jnp.full(400, 16 / 399), one, one[0], derivative=4)
    >>> bool(jnp.allclose(close, gaussian_transform(one, one[0], derivative=4), atol=1e-5))
    True
    """
    weighted = values * weights

    def block(pairs: tuple[Array, Array]) -> Array:
        t = jnp.matmul(pairs[0], x.T, precision="highest") - pairs[1][:, None]
        return jnp.matmul(gaussian_derivative(t, derivative), weighted, precision="highest")

    return _in_blocks(block, a, b)


def _in_blocks(block: Callable[[Any], Array], a: Array, b: Array) -> Array:
    """`block` over the pairs, 1024 at a time."""
    count = -(-len(b) // _BLOCK) * _BLOCK
    padded = jnp.pad(a, ((0, count - len(b)), (0, 0))), jnp.pad(b, (0, count - len(b)))
    parts = tuple(part.reshape(-1, _BLOCK, *part.shape[1:]) for part in padded)
    return jax.lax.map(block, parts).reshape(count)[: len(b)]


def gaussian_transform(a: Float[Array, "k m"], b: Float[Array, " k"], *, derivative: int) -> Float[Array, " k"]:
    r"""R[e^(−|x|²/2)](a, b) = (2π)^(m/2) (1+|a|²)^(−(l+1)/2) G^(l)(b/√(1+|a|²)) (−1)^l, in any dimension.

    Source: a Gaussian convolved with a Gaussian. Cost: O(k m).

    >>> f"{gaussian_transform(jnp.zeros((1, 1)), jnp.zeros(1), derivative=0)[0]:.4f}"
    '1.0000'
    """
    root = jnp.sqrt(1 + (a**2).sum(axis=1))
    scale = (-1) ** derivative * (2 * math.pi) ** (a.shape[1] / 2)
    return scale * root ** -(derivative + 1) * gaussian_derivative(b / root, derivative)


def transform_slices(
    values: Float[Array, " n"],
    x: Float[Array, "n m"],
    weights: Float[Array, " n"],
    directions: Float[Array, "u m"],
    scales: Float[Array, " r"],
    offsets: Float[Array, " o"],
    frequencies: Float[Array, " q"],
    *,
    derivative: int,
) -> Float[Array, "u r o"]:
    r"""R f(r u, b) by the Fourier slice theorem: one Fourier slice (a Radon projection) serves every r and b.

        R f(r u, b) = (1/2π r) ∫ f̂(k u) conj(ψ̂(k/r)) e^(i k b/r) dk,   ψ̂(ω) = (iω)^l e^(−ω²/2)

    Args:
        values, x, weights: as in `transform`. directions: unit vectors u. scales: r > 0. offsets: b.
        frequencies: k = 0, δ, 2δ, …, to where f̂ has decayed; δ < π/(R + 10/r) with R = max |x|.

    Raises: ValueError: frequencies too far apart.

    Cost: q (u n + r o) cosines and 4 u q r o flops, instead of u r o n evaluations of ψ.
    Source: Kostadinova et al. (2014), section 3.

    >>> x = jnp.linspace(-8, 8, 400)[:, None]
    >>> f, one = jnp.exp(-(x[:, 0] ** 2) / 2), jnp.ones(1)
    >>> k = jnp.linspace(0, 8, 200)
    >>> slices = transform_slices(f, x, jnp.full(400, 16 / 399), one[:, None], one, one, k, derivative=4)
    >>> bool(jnp.allclose(slices.ravel(), gaussian_transform(one[:, None], one, derivative=4), atol=1e-5))
    True
    """
    reach = jnp.linalg.norm(x, axis=1).max()
    step, least = frequencies[1] - frequencies[0], scales.min()
    fine = holds(lambda d, r, low: d * (2 * r + 2 * _DECAY / low) < 2 * np.pi, step, reach, least)
    require(fine, "frequencies", step, "be spaced by less than π/(R + 10/r), R = max |x|", "use more of them")
    weighted = values * weights

    def one(direction: Array) -> tuple[Array, Array]:
        phase = jnp.matmul(x, direction, precision="highest")[:, None] * frequencies[None, :]
        cosine, sine = (jnp.matmul(weighted, wave(phase), precision="highest") for wave in (jnp.cos, jnp.sin))
        return cosine, sine

    cosine, sine = jax.lax.map(one, directions)

    def radial(scale: Array) -> Array:
        omega = frequencies / scale
        dual = (omega**derivative * jnp.exp(-(omega**2) / 2) * step / (math.pi * scale)).at[0].multiply(0.5)
        # conj(i^l) is a phase of −π l / 2
        angle = omega[:, None] * offsets[None, :] - derivative * math.pi / 2
        parts = ((cosine, jnp.cos(angle)), (sine, jnp.sin(angle)))
        even, odd = (jnp.matmul(hat * dual[None, :], wave, precision="highest") for hat, wave in parts)
        # beyond, ψ is below round-off, and the sum over frequencies repeats itself
        return jnp.where(jnp.abs(offsets)[None, :] <= scale * reach + _DECAY, even + odd, jnp.zeros_like(even))

    return jnp.moveaxis(jax.lax.map(radial, scales), 0, 1)


def grid(
    scale: float, reach: float, *, dim: int = 1, step: float = 0.1, offset_step: float = 0.5, angles: int = 48
) -> Grid:
    r"""Nodes (a, b) with |a| ≤ A and |b| ≤ A R + 8, uniform, in the plane or in polar coordinates.

    Args:
        scale: A; what is lost beyond is told by `retained`. reach: R, the largest |x| where f is not 0.
        dim: 1, or 2 (polar in a). step: of a. offset_step: of b; 1/2 serves G'''' and 1/4 G^(6).

    Raises: ValueError: dim > 2, where grids are too large: sample instead.

    >>> grid(2.0, 1.0).a.shape
    (1600, 1)
    """
    require(dim in (1, 2), "dim", dim, "be 1 or 2", "in higher dimension draw (a, b) at random")
    count = round(scale / step)
    radius = (np.arange(count) + 0.5) * scale / count
    turns = np.linspace(0, 2 * np.pi, 2 if dim == 1 else angles, endpoint=False)
    unit = np.stack([np.cos(turns), np.sin(turns)][:dim], axis=1)
    cone = np.full_like(radius, scale / count) if dim == 1 else radius * (scale / count) * 2 * np.pi / angles
    bound = math.ceil((scale * reach + 8) / offset_step)
    a = (radius[:, None, None] * unit[None]).reshape(-1, dim)
    # Offsets turn with a by the golden ratio: on a fixed grid of b the kinks of all neurons at x = 0 fall on nodes, and
    # their errors of order step² add up instead of averaging out.
    turn = np.arange(len(a)) * (5**0.5 - 1) / 2 % 1
    b = (np.arange(-bound, bound)[None, :] + turn[:, None]) * offset_step
    weights = np.repeat(np.repeat(cone, len(unit)), b.shape[1]) * offset_step
    dtype = jnp.zeros(0).dtype
    nodes = jnp.asarray(np.repeat(a, b.shape[1], axis=0), dtype), jnp.asarray(b.ravel(), dtype)
    return Grid(*nodes, jnp.asarray(weights, dtype), (scale / count, offset_step))


@partial(jax.jit, static_argnames="activation")
def reconstruct(
    spectrum: Float[Array, " k"],
    pairs: Grid,
    x: Float[Array, "n m"],
    constant: float | Float[Array, ""],
    *,
    activation: Activation,
) -> Float[Array, " n"]:
    r"""f = S[T]/K on points x: (1/K) Σ_k w_k T_k σ(a_k·x − b_k), with K from `admissibility` and nothing fitted.

    Args: spectrum: T at `pairs`. constant: K.

    Cost: n k evaluations of σ, memory 1024 n. Source: Sonoda and Murata (2017), theorem 5.6.

    >>> pairs, x = grid(12.0, 6.0), jnp.array([[0.0], [1.0]])
    >>> spectrum = gaussian_transform(pairs.a, pairs.b, derivative=4)
    >>> f = reconstruct(spectrum, pairs, x, admissibility("relu", 4, 1), activation="relu")
    >>> [f"{value:.2f}" for value in f.tolist()]
    ['1.00', '0.61']
    """
    coefficients = spectrum * pairs.weights
    count = -(-len(coefficients) // _BLOCK) * _BLOCK
    fill = count - len(coefficients)
    blocks = (
        jnp.pad(coefficients, (0, fill)).reshape(-1, _BLOCK),
        jnp.pad(pairs.a, ((0, fill), (0, 0))).reshape(-1, _BLOCK, x.shape[1]),
        jnp.pad(pairs.b, (0, fill)).reshape(-1, _BLOCK),
    )

    def add(total: Array, block: tuple[Array, Array, Array]) -> tuple[Array, None]:
        c, a, b = block
        return total + jnp.matmul(_neurons(a, b, x, activation), c, precision="highest"), None

    return jax.lax.scan(add, 0 * x[:, 0], blocks)[0] / constant


def _neurons(a: Array, b: Array, x: Array, activation: Activation) -> Array:
    """σ(a_k·x_i − b_k), one column a neuron."""
    t = jnp.matmul(x, a.T, precision="highest") - b[None, :]
    return gaussian_derivative(t, activation) if isinstance(activation, int) else resolve(activation)(t)


def sample_network(
    key: PRNGKeyArray,
    spectrum: Float[Array, " k"],
    pairs: Grid,
    neurons: int,
    x: Float[Array, "n m"],
    values: Float[Array, " n"],
    constant: float,
    *,
    activation: Activation,
) -> Sampled:
    r"""N neurons drawn from |T| da db, with Monte Carlo outer weights and with the best ones.

        f ≈ (∫|T| / K N) Σ_i sign T(a_i, b_i) σ(a_i·x − b_i),   and   min_c Σ (f(x) − Σ_i c_i σ(a_i·x − b_i))².

    Inside its cell of the grid a neuron is uniform. Least squares forgives a wrong K: check K by `reconstruct`.

    Args: spectrum: T at `pairs`. x, values: the target, n ≥ N points. constant: K.

    Raises: ValueError: more neurons than points. Cost: one SVD of n × N.

    >>> pairs, x = grid(10.0, 5.0), jnp.linspace(-2, 2, 200)[:, None]
    >>> f, spectrum = jnp.exp(-(x[:, 0] ** 2) / 2), gaussian_transform(pairs.a, pairs.b, derivative=4)
    >>> net = sample_network(jax.random.key(0), spectrum, pairs, 100, x, f, -2.0, activation="relu")
    >>> bool(jnp.abs(evaluate(net, x, activation="relu") - f).max() < 0.02)
    True
    """
    require(1 <= neurons <= len(values), "neurons", neurons, f"lie in 1..{len(values)}", "pass more points")
    mass = jnp.abs(spectrum) * pairs.weights
    draw, stretch, shift = jax.random.split(key, 3)
    chosen = jax.random.choice(draw, len(mass), (neurons,), p=mass / mass.sum())
    radius = jnp.linalg.norm(pairs.a[chosen], axis=1, keepdims=True)
    jitter = pairs.cell[0] * (jax.random.uniform(stretch, radius.shape, mass.dtype) - 0.5)
    a = pairs.a[chosen] * (1 + jitter / radius)
    b = pairs.b[chosen] + pairs.cell[1] * (jax.random.uniform(shift, (neurons,), mass.dtype) - 0.5)
    plain = jnp.sign(spectrum[chosen]) * mass.sum() / (constant * neurons)
    outer = jnp.linalg.lstsq(_neurons(a, b, x, activation), values)[0]
    return Sampled(a, b, outer, plain)


def evaluate(net: Sampled, x: Float[Array, "n m"], *, activation: Activation) -> Float[Array, " n"]:
    """The sampled network with its least-squares outer weights.

    >>> net = Sampled(jnp.ones((1, 1)), jnp.zeros(1), jnp.full(1, 2.0), jnp.zeros(1))
    >>> evaluate(net, jnp.ones((1, 1)), activation="relu").tolist()
    [2.0]
    """
    return jnp.matmul(_neurons(net.a, net.b, x, activation), net.outer, precision="highest")
