r"""Barron functions: C_f = ∫ |ξ| |f̂(ξ)| dξ decides how many neurons are enough, in any dimension.

With f(x) = ∫ e^(i ξ·x) f̂(ξ) dξ: some network of n neurons has ‖f − f_n‖² ≤ (2 r C_f)²/n on the ball of radius r.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, nonnegative, require
from jaxtheory.results import Estimate, standard_error

Number = float | Float[Array, ""]


@boundary
def constant(
    frequencies: Float[Array, "n d"], magnitudes: Float[Array, " n"], density: Float[Array, " n"]
) -> Estimate:  # fmt: skip
    r"""C_f = ∫ |ξ| |f̂(ξ)| dξ from samples ξ_i of a density p: the mean of |ξ_i| |f̂(ξ_i)| / p(ξ_i).

    Args:
        frequencies: ξ_i, n ≥ 2, in radians per unit of x. magnitudes: |f̂(ξ_i)| ≥ 0, with f = ∫ e^(iξ·x) f̂ dξ.
        density: p(ξ_i) > 0; 1/volume for a uniform grid or draw.

    Raises:
        ValueError: fewer than two samples, lengths that differ; p ≤ 0 or magnitudes < 0 (outside jit; NaN inside).

    Cost: O(n d). Source: Barron (1993), equation (3).

    >>> xi = jnp.linspace(-8.0, 8.0, 2001)[:, None]
    >>> hat = jnp.exp(-(xi[:, 0] ** 2) / 2) / math.sqrt(2 * math.pi)
    >>> f"{constant(xi, hat, jnp.full(2001, 1 / 16)).value:.3f}"
    '0.797'
    """
    require(len(magnitudes) >= 2, "magnitudes", len(magnitudes), "hold at least 2 samples", "draw more")
    same = len(frequencies) == len(magnitudes) == len(density)
    require(same, "density", density.shape, f"have one entry for each of {len(frequencies)} frequencies", "pair them")
    drawn = constrain("density", density, lambda p: (p > 0) & (p < math.inf), "be > 0", "drop what cannot be drawn")
    weights = nonnegative("magnitudes", magnitudes, "pass absolute values") / drawn
    terms = guarded.norm(frequencies, axis=1) * weights
    return Estimate(terms.mean(), standard_error(terms))


@boundary(static=("dim",))
def gaussian_constant(dim: int, width: Number = 1.0) -> Number:
    """C of e^(−|x|²/2w²): √2 Γ((d+1)/2) / (Γ(d/2) w), which grows like √d.

    Args:
        dim: d ≥ 1. width: w > 0.

    Raises:
        ValueError: d < 1, or w ≤ 0 (outside jit; NaN inside). Source: Barron (1993), section IX.

    >>> [f"{gaussian_constant(d):.6f}" for d in (1, 2, 10)]
    ['0.797885', '1.253314', '3.084328']
    """
    require(dim >= 1, "dim", dim, "be >= 1", "pass the number of inputs")
    wish, hint = "be > 0 and finite", "pass the standard deviation"
    spread = constrain("width", width, lambda w: (w > 0) & (w < math.inf), wish, hint)
    return math.sqrt(2) * gamma_ratio(dim / 2) / spread


@boundary(static=("a",))
def gamma_ratio(a: float) -> float:
    """Γ(a + 1/2)/Γ(a): for large a by its expansion in 1/a, of which log Γ would leave no digits.

    Raises:
        ValueError: a that is not > 0 and finite, or traced.

    Source: Abramowitz and Stegun (1964), 6.1.47.

    >>> f"{gamma_ratio(1.0):.6f} {gamma_ratio(1e14):.6e}"
    '0.886227 1.000000e+07'
    """
    require(0 < a < math.inf, "a", a, "be > 0 and finite", "pass half a dimension, e.g. a=1.5")
    if a < 500:
        return math.exp(math.lgamma(a + 0.5) - math.lgamma(a))
    b = 1 / a
    return math.sqrt(a) * (1 - b / 8 + b**2 / 128 + 5 * b**3 / 1024 - 21 * b**4 / 32768)


@boundary(static=("neurons",))
def bound(constant: Number, radius: Number, neurons: int) -> Number:
    """Barron's bound (2 r C)²/n on min ‖f − f_n‖², in L² of any probability on the ball of radius r.

    Args:
        constant: C ≥ 0. radius: r > 0. neurons: n ≥ 1.

    Raises:
        ValueError: n < 1; C < 0 or r ≤ 0 (outside jit; NaN inside).

    Source: Barron (1993), Theorem 1.

    >>> bound(1.0, 0.5, 100)
    0.01
    """
    _require_neurons(neurons)
    size = nonnegative("constant", constant, "pass C, an integral of |ω||f̂|")
    wish, hint = "be > 0 and finite", "pass the radius of the ball"
    reach = constrain("radius", radius, lambda r: (r > 0) & (r < math.inf), wish, hint)
    length = 2 * reach * size
    return length * length / neurons  # a power of a Python float would raise where it overflows


@boundary(static=("neurons",))
def monte_carlo(key: Key[Array, ""], x: Float[Array, "k d"], neurons: int) -> Float[Array, " k"]:
    """(1/n) Σ cos(ω_i·x) with ω_i ~ N(0, I): a network of n random neurons for e^(−|x|²/2), at points x.

    Args:
        key, x: k points. neurons: n ≥ 1.

    Raises:
        ValueError: n < 1 or traced. Cost: 2 n k d flops, memory n k. Source: Barron (1993), Lemma 1 (Maurey).

    >>> monte_carlo(jax.random.key(0), jnp.zeros((1, 3)), 10).tolist()
    [1.0]
    """
    _require_neurons(neurons)
    frequencies = jax.random.normal(key, (x.shape[1], neurons), x.dtype)
    return jnp.cos(jnp.matmul(x, frequencies, precision="highest")).mean(axis=1)


@boundary(static=("neurons",))
def monte_carlo_law(x: Float[Array, "k d"], neurons: int) -> Float[Array, ""]:
    """The exact mean squared error of `monte_carlo`: (1/2n) E_x (1 − e^(−|x|²))², x uniform on the given points.

    Args:
        x: k ≥ 1 points. neurons: n ≥ 1.

    Raises:
        ValueError: no points, or n < 1. Cost: O(k d). Source: the variance of cos(ω·x), ω ~ N(0, I).

    >>> f"{monte_carlo_law(jnp.full((1, 1), 10.0), 50):.4f}"
    '0.0100'
    """
    _require_neurons(neurons)
    require(len(x) >= 1, "x", x.shape, "hold a point", "pass points as rows")
    return (jnp.expm1(-(x**2).sum(axis=1)) ** 2).mean() / (2 * neurons)


def _require_neurons(neurons: int) -> None:
    require(neurons >= 1, "neurons", neurons, "be >= 1", "pass n")
