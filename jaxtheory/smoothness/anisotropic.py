r"""Anisotropic Besov spaces: a smoothness s_i along each axis, by moduli of smoothness and by tensor B-splines.

What decides the rates is s̃ = (Σ_i 1/s_i)^{−1} (`classes.Anisotropic`): many rough axes cost, smooth ones are free. At
step j axis i is resolved to 2^{−⌊j min s/s_i⌋}, so that all axes err alike, with about 2^{j min s/s̃} splines.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, quantity, require
from jaxtheory.smoothness.besov import Kind, block_norms, check_exponents, level_weights, lp_norm, unit_blocks
from jaxtheory.smoothness.bspline import cardinal

_TERMS = 2**24  # at most
_BLOCKS = 10**6  # at most


class Terms(NamedTuple):
    """Σ_t c_t Π_i N_m(2^{l_ti} x_i − k_ti), step by step; `bspline.relu_sum(*terms, m, accuracy)` is its network."""

    weights: Float[Array, " terms"]
    scales: Float[Array, "terms d"]
    shifts: Float[Array, "terms d"]


@boundary(static=("p", "q"))
def modulus_norm(
    x: Float[Array, "..."], s: tuple[float, ...], p: float, q: float, *, periodic: bool = False
) -> Float[Array, ""]:
    r"""The anisotropic Besov norm: ‖f‖_p + Σ_i (Σ_j [2^{j s_i} ω_i(f, 2^{−j})_p]^q)^{1/q}, from samples on a grid.

    ω_i(f, t)_p = sup_{0<h≤t} ‖Δ^{r_i}_{h, i} f‖_p, r_i = ⌊s_i⌋ + 1, with differences along axis i alone, over the
    points for which they stay in the cube, and 2^{−j} ≥ 1/n_i. On a line it is `besov.modulus_norm`.

    Args:
        x: f at i/n on each axis, [n_1, …, n_d], each n_i a power of two above r_i. s: s_i > 0, one an axis.
        p, q: in (0, ∞]. periodic: take f on the torus.

    Returns:
        The norm; NaN where a sample is not finite.

    Raises:
        ValueError: exponents out of range or traced, another number of axes, lengths that are no powers of two.

    Cost: Σ_i r_i n_i passes over x. Source: Nikol'skii (1975), section 4.3; Suzuki and Nitanda (2021), Definition 1.

    >>> ramp = jnp.broadcast_to(jnp.arange(8.0)[:, None] / 8, (8, 4))
    >>> f"{modulus_norm(ramp, (0.5, 2.5), math.inf, math.inf):.3f}"
    '1.582'
    """
    check_exponents(p, q)
    axes = len(s) == x.ndim >= 1
    require(axes, "s", s, f"have one smoothness for each of the {x.ndim} axes of x", "e.g. s=(1.0, 2.0)")
    for each, n in zip(s, x.shape, strict=True):
        require(0 < each < math.inf, "s", s, "be > 0 and finite", "moduli measure positive smoothness")
        power = n >= 1 and n & (n - 1) == 0
        require(power, "x", x.shape, "have a power of two of samples on each axis", "resample")
        require(n > math.floor(each) + 1, "x", x.shape, f"have more than {math.floor(each) + 1} samples", "refine")
    return _modulus_norm(x, tuple(map(float, s)), p, q, periodic)


@partial(jax.jit, static_argnames=("s", "p", "q", "periodic"))
def _modulus_norm(x: Array, s: tuple[float, ...], p: float, q: float, periodic: bool) -> Array:
    total = lp_norm(x, p) * _mean(x.size, p)
    for axis, each in enumerate(s):
        lines = jnp.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
        moduli = _moduli(lines, math.floor(each) + 1, p, periodic)
        steps = 2 ** np.arange(int(math.log2(len(moduli))) + 1)  # h = n 2^{−j} samples
        weights = jnp.asarray(level_weights(each * np.log2(len(lines) / steps), each, x.dtype), x.dtype)
        total = total + lp_norm(weights * moduli[steps - 1], q)
    return total


def _moduli(lines: Array, order: int, p: float, periodic: bool) -> Array:
    """ω(f, h/n)_p along the first axis, h = 1, 2, …"""
    n = len(lines)
    signs = [(-1.0) ** (order - i) * math.comb(order, i) for i in range(order + 1)]

    @jax.checkpoint
    def size(h: Array) -> Array:
        shifted = [c * jnp.roll(lines, -i * h, axis=0) for i, c in enumerate(signs)]
        kept = jnp.arange(n)[:, None] < (n if periodic else n - order * h)
        return lp_norm(jnp.where(kept, sum(shifted[1:], shifted[0]), jnp.zeros_like(lines)), p)

    return jax.lax.cummax(jax.lax.map(size, jnp.arange(1, (n - 1) // order + 1))) * _mean(lines.size, p)


def _mean(size: int, p: float) -> float:
    return 1.0 if math.isinf(p) else size ** (-1 / p)


def _require_smoothness(s: tuple[float, ...]) -> None:
    positive = len(s) >= 1 and all(bool(0 < each < math.inf) for each in s)
    require(positive, "s", s, "be > 0 and finite", "e.g. s=(1.0, 2.0)")


@boundary(static=("levels",))
def level_vectors(s: tuple[float, ...], levels: int) -> np.ndarray:
    r"""The levels ⌊j min s/s_i⌋ of the axes at the steps j = 0 … levels − 1: sets of an anisotropic full grid.

    Args:
        s: s_i > 0, one an axis. levels: ≥ 1.

    Returns:
        [levels, d], integers.

    Raises:
        ValueError: s or levels out of range. Source: Suzuki and Nitanda (2021), section 3.

    >>> level_vectors((1.0, 2.0), 4).tolist()
    [[0, 0], [1, 0], [2, 1], [3, 1]]
    """
    _require_smoothness(s)
    require(levels >= 1, "levels", levels, "be >= 1", "take at least one step")
    steps = np.arange(levels)[:, None] * (min(s) / np.array(s, float))[None, :]
    return np.floor(steps + 1e-9).astype(int)


@boundary(static=("budget",))
def hyperbolic_set(s: tuple[float, ...], budget: float) -> np.ndarray:
    r"""The anisotropic hyperbolic set {j ∈ N_0^d : Σ_i s_i j_i ≤ n}, of a dominating mixed smoothness s.

    Blocks of 2^{|j|_1} terms have N ≍ 2^{n/min s} n^{m−1} of them, m the number of axes that are as rough as the
    roughest, and errors Σ_{j outside} 2^{−⟨s, j⟩} ≍ 2^{−n} n^{m−1}: the exponent −min s of N does not depend on d, and
    there are no logarithms if one axis alone is the roughest.

    Args:
        s: s_i > 0, one an axis. budget: n ≥ 0.

    Returns:
        [blocks, d], integers in the order of Σ_i s_i j_i, for `adaptive_grid.interpolate_on`.

    Raises:
        ValueError: s or n out of range, or more than 10^6 blocks. Cost: one pass over the axes.

    Source: Dung, Temlyakov, Ullrich (2018), section 10.1 (anisotropic hyperbolic crosses).

    >>> hyperbolic_set((1.0, 2.0), 3.0).tolist()
    [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [3, 0]]
    """
    _require_smoothness(s)
    require(bool(0 <= budget < math.inf), "budget", budget, "be >= 0 and finite", "e.g. budget=4.0")
    found, slack = np.zeros((1, 0), int), budget * (1 + 1e-12)
    for axis, each in enumerate(s):
        left = slack - found @ np.array(s[:axis], float)
        counts = np.floor(np.minimum(left / each, _BLOCKS)).astype(int) + 1
        require(
            bool(counts.sum() <= _BLOCKS), "budget", budget, f"leave at most {_BLOCKS} blocks", "pass a smaller one"
        )
        steps = np.concatenate([np.arange(count) for count in counts])
        found = np.concatenate([np.repeat(found, counts, axis=0), steps[:, None]], axis=1)
    return found[np.argsort(found @ np.array(s, float), kind="stable")]


def _blocks(s: tuple[float, ...], p: float, levels: int, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels, numbers of splines and log2 of the weight of each step."""
    check_exponents(p, p)
    require(order >= 1, "order", order, "be >= 1", "use 3 for cubic splines")
    vectors = level_vectors(s, levels)
    counts = np.prod(2.0**vectors + order, axis=1)
    fits = bool(counts.sum() <= _TERMS)
    require(fits, "levels", levels, f"leave at most {_TERMS} terms, not {counts.sum():.0f}", "take fewer steps")
    return vectors, counts.astype(int), np.arange(levels) * min(s) - vectors.sum(axis=1) / p


@boundary(static=("p", "q", "levels", "order"))
def norm(
    weights: Float[Array, " terms"], s: tuple[float, ...], p: float, q: float, *, levels: int, order: int = 3
) -> Float[Array, ""]:
    r"""The norm of the weights of `sample`'s splines, (Σ_j [2^{j min s − |l(j)|_1/p} ‖c_j‖_p]^q)^{1/q}.

    Args:
        weights: c, the Π_i (2^{l_i} + m) splines of each step after another. s, p, q, levels, order: as in `sample`.

    Raises:
        ValueError: exponents out of range or traced, another number of weights. Cost: one pass.

    Source: Suzuki and Nitanda (2021), section 3 (its equivalence with the norm by moduli for s_i < m).

    >>> float(norm(jnp.ones(4), (1.0,), math.inf, math.inf, levels=1))
    1.0
    """
    check_exponents(p, q)
    _, counts, exponents = _blocks(s, p, levels, order)
    total = int(counts.sum())
    require(len(weights) == total, "weights", len(weights), f"number {total}", "take those of `sample`")
    sizes = jnp.asarray(level_weights(exponents, min(s), weights.dtype), weights.dtype)
    return lp_norm(block_norms(weights, counts, p) * sizes, q)


@boundary(static=("p", "q", "levels", "order"))
def sample(
    key: Key[Array, ""], s: tuple[float, ...], p: float, q: float, levels: int, kind: Kind = "spike+dense",
    *, order: int = 3, dtype: Any = jnp.float32,
) -> Terms:  # fmt: skip
    """A random sum of tensor B-splines whose `norm` is 1: each step as a level of `besov.sample`, all of one norm.

    Args:
        key, p, q, kind: as in `besov.sample`. s: s_i > 0, one an axis, below `order` for functions of that smoothness.
        levels: steps, ≥ 1. order: m ≥ 1 of the splines. dtype: of the terms.

    Returns:
        `Terms` on [0, 1]^d, for `evaluate`.

    Raises:
        ValueError: exponents, levels, order or kind out of range, more than 2^24 terms. Cost: one draw a term.

    Source: Suzuki and Nitanda (2021), section 3.

    >>> terms = sample(jax.random.key(0), (1.0, 2.0), 1.0, 1.0, 3)
    >>> terms.scales.shape, f"{norm(terms.weights, (1.0, 2.0), 1.0, 1.0, levels=3):.4f}"
    ((71, 2), '1.0000')
    """
    check_exponents(p, q)
    vectors, counts, exponents = _blocks(s, p, levels, order)
    weights = unit_blocks(key, counts, p, kind, dtype, exponents + np.log2(levels) / q)
    axes = [[np.arange(-order, 2**level) for level in vector] for vector in vectors.tolist()]
    shifts = [np.stack([part.ravel() for part in np.meshgrid(*each, indexing="ij")], axis=1) for each in axes]
    scales = np.repeat(2.0**vectors, counts, axis=0)
    return Terms(weights, jnp.asarray(scales, dtype), jnp.asarray(np.concatenate(shifts), dtype))


@boundary(static=("order",))
def evaluate(terms: Terms, x: Float[Array, "n d"], *, order: int = 3) -> Float[Array, " n"]:
    """The sum of tensor B-splines at n points.

    Args:
        terms: from `sample`, or any others. x: points. order: m ≥ 1.

    Raises:
        ValueError: points of another dimension, order < 1. Cost: terms · n · d m², memory n, in reverse mode too.

    >>> one = Terms(jnp.ones(1), jnp.array([[2.0, 1.0]]), jnp.zeros((1, 2)))
    >>> evaluate(one, jnp.array([[0.5, 1.0], [0.25, 1.0]]), order=1).tolist()
    [1.0, 0.5]
    """
    require(order >= 1, "order", order, "be >= 1", "use 3 for cubic splines")
    parts = Terms(*(jnp.asarray(quantity("terms", part), x.dtype) for part in terms))
    fits = parts.scales.shape == parts.shifts.shape == (len(parts.weights), x.shape[1])
    wish = f"have scales and shifts of shape {(len(parts.weights), x.shape[1])}"
    require(fits, "terms", (parts.scales.shape, parts.shifts.shape), wish, "pass points as rows")
    return _evaluate(parts, x, order)


@partial(jax.jit, static_argnames="order")
def _evaluate(terms: Terms, x: Array, order: int) -> Array:
    @jax.checkpoint
    def add(total: Array, term: Terms) -> tuple[Array, None]:
        values = cardinal(term.scales[None, :] * x - term.shifts[None, :], order)
        return total + term.weights * values, None

    return jax.lax.scan(add, jnp.zeros_like(x[:, 0]), terms)[0]
