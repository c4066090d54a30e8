r"""Besov spaces B^s_{p,q}: norms by wavelet coefficients and by moduli of smoothness, and points of the unit ball.

    ‖f‖ = (‖α‖_p^q + Σ_j [2^{j(s + d/2 − d/p)} ‖β_j‖_p]^q)^{1/q}

for coefficients in an L²-normalized basis of wavelets smoother than s. Large p asks for smoothness everywhere, small p
allows it to fail in places: that is what an adaptive method can use and a linear one cannot.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, host_numbers, require
from jaxtheory.smoothness.dyadic_cells import require_dim
from jaxtheory.smoothness.wavelets import Coefficients, floating, level, smoothness

Kind = Literal["spike+dense", "weak-lp", "gaussian"]


@boundary(static=("s", "p", "q"))
def norm(coefficients: Coefficients, s: float, p: float, q: float, *, wavelet: str | None = None) -> Float[Array, ""]:
    r"""The Besov norm of wavelet coefficients, the equation above.

    Args:
        coefficients: L²-normalized, of a function on the torus [0, 1)^d: for n samples on each axis,
            `dwt(samples / n^(d/2))`. Levels j are read off from the shapes.
        s: smoothness. p, q: in (0, ∞]; a quasi-norm below 1.
        wavelet: the basis of the coefficients; s must then lie above d(1/p − 1)_+, where the space consists of
            functions, and below the smoothness of the wavelet in L^p. None for sequences, where any s makes sense.

    Returns:
        The norm. Where p or q is no even integer it has no derivative at coefficients or levels that are 0; those
        entries then get the derivative 0.

    Raises:
        ValueError: exponents out of range or traced, weights beyond the dtype.

    Cost: one pass. Source: Triebel (2006), Theorems 1.20 and 3.5; DeVore and Popov (1988); Cohen (2003), Theorem 3.7.7.

    >>> c = Coefficients(jnp.zeros(1), (jnp.zeros((1, 1)), jnp.array([[3.0, 4.0]])))
    >>> f"{norm(c, 1.0, 2.0, 2.0):.1f}"
    '10.0'
    """
    check_exponents(p, q)
    approximation, details = floating(coefficients)
    dim = approximation.ndim
    if wavelet is not None:
        _check_wavelet(s, p, dim, wavelet)
    exponents = [level(detail) * _rate(s, p, dim) for detail in details]
    weights = level_weights(exponents, s, approximation.dtype)
    return _norm(Coefficients(approximation, details), jnp.asarray(weights, approximation.dtype), p, q)


@partial(jax.jit, static_argnames=("p", "q"))
def _norm(coefficients: Coefficients, weights: Array, p: float, q: float) -> Array:
    parts = [w * lp_norm(detail, p) for w, detail in zip(weights, coefficients.details, strict=True)]
    return lp_norm(jnp.stack([lp_norm(coefficients.approximation, p), *parts]), q)


def _check_wavelet(s: float, p: float, dim: int, wavelet: str) -> None:
    least, most = dim * max(0.0, 1 / p - 1), smoothness(wavelet, p)
    require(s > least, "s", s, f"be above d(1/p − 1)_+ = {least:.3g}", "pass wavelet=None for the norm of sequences")
    hint = "take a longer filter" if wavelet != "db10" else "take a smaller s"
    require(s < most, "s", s, f"be below the smoothness {most:.3g} of {wavelet} in L^{p:g}", hint)


@boundary(static=("p", "q"))
def check_exponents(p: float, q: float) -> None:
    """Raise unless p and q are in (0, ∞].

    Raises:
        ValueError: p or q ≤ 0, NaN or traced.

    >>> check_exponents(1.0, math.inf)
    """
    for name, value in (("p", p), ("q", q)):
        require(value > 0, name, value, "lie in (0, inf]", "use math.inf for the sup norm")


def _rate(s: float, p: float, dim: int) -> float:
    require(math.isfinite(s), "s", s, "be finite", "pass a smoothness, e.g. s=1.0")
    return s + dim / 2 - dim / p


@boundary(static=("s",))
def level_weights(exponents: Any, s: float, dtype: Any) -> np.ndarray:
    """2^e for each exponent, where the dtype holds it and its inverse.

    Args:
        exponents: e, any shape, known. s: the smoothness that an error names. dtype: of the weights in use.

    Raises:
        ValueError: an exponent too large for the dtype, or traced ones.

    >>> level_weights([0.0, 1.5], 1.0, jnp.float32).round(3).tolist()
    [1.0, 2.828]
    """
    powers = host_numbers("exponents", exponents)
    largest = float(np.abs(powers).max(initial=0.0))
    limit = jnp.finfo(dtype).maxexp - 2
    wish = f"keep the weights 2^(j(s + d/2 − d/p)) within 2^±{limit}"
    require(largest <= limit, "s", s, wish, "use fewer levels, a larger p, a smaller |s|, or float64")
    return 2.0**powers


@boundary(static=("p",))
@partial(jax.jit, static_argnames="p")
def lp_norm(values: Float[Array, "..."], p: float) -> Float[Array, ""]:
    """(Σ|v|^p)^{1/p}, scaled by the largest entry so that no power overflows; 0 for no values.

    Args:
        values: any shape. p: in (0, ∞].

    Raises:
        ValueError: p ≤ 0 or traced. Cost: one pass. Derivatives at 0 are 0.

    >>> f"{lp_norm(jnp.array([3.0, -4.0]), 2.0):.1f}"
    '5.0'
    """
    check_exponents(p, p)
    largest = _size(values).max(initial=0)
    if math.isinf(p):
        return largest
    unit = _unit(largest)
    return unit * _root(jnp.sum(_power(values / unit, p)), p)


def _size(values: Array) -> Array:
    """|v| with derivative 0 at 0."""
    return values * jnp.sign(values)


def _unit(largest: Array) -> Array:
    """What values are divided by; the norm, being homogeneous, does not depend on it."""
    usual = jax.lax.stop_gradient(largest)
    return jnp.where((usual > 0) & jnp.isfinite(usual), usual, jnp.ones_like(usual))


def _power(values: Array, p: float) -> Array:
    """|v|^p, an even power without the kink of |v|; the derivative at 0 is 0."""
    if p % 2 == 0:
        return values ** int(p)
    size = _size(values)
    zero = size == 0
    return jnp.where(zero, jnp.zeros_like(size), jnp.where(zero, jnp.ones_like(size), size) ** p)


def _root(total: Array, p: float) -> Array:
    """x^{1/p}, with derivative 0 at 0."""
    zero = total == 0
    return jnp.where(zero, jnp.zeros_like(total), jnp.where(zero, jnp.ones_like(total), total) ** (1 / p))


@boundary(static=("order", "p"))
def modulus(x: Float[Array, " n"], order: int, p: float, *, periodic: bool = False) -> Float[Array, " steps"]:
    r"""Moduli of smoothness ω_r(f, t)_p = sup_{0<h≤t} ‖Δ_h^r f‖_p at t = 1/n, 2/n, …, from samples at i/n.

    Δ_h^r f(x) = Σ_i (−1)^{r−i} C(r, i) f(x + ih), over the x for which x + rh stays in [0, 1).

    Args:
        x: f(i/n). order: r ≥ 1. p: in (0, ∞]; norms are averages over the n points.
        periodic: take x on the circle.

    Returns:
        [⌊(n − 1)/r⌋], entry i at t = (i + 1)/n.

    Raises:
        ValueError: r < 1, p ≤ 0, or fewer than r + 1 samples. Cost: O(n² r) flops, O(n) memory.

    Source: DeVore and Lorentz (1993), section 2.7.

    >>> modulus(jnp.arange(4.0) / 4, 1, math.inf).tolist()
    [0.25, 0.5, 0.75]
    """
    check_exponents(p, 1.0)
    require(order >= 1, "order", order, "be >= 1", "use floor(s) + 1")
    require(len(x) > order, "x", len(x), f"hold more than {order} samples", "sample more finely")
    return _modulus(x, order, p, periodic)


@partial(jax.jit, static_argnames=("order", "p", "periodic"))
def _modulus(x: Array, order: int, p: float, periodic: bool) -> Array:
    n = len(x)
    signs = [(-1.0) ** (order - i) * math.comb(order, i) for i in range(order + 1)]

    @jax.checkpoint
    def size(h: Array) -> Array:
        shifted = [c * jnp.roll(x, -i * h) for i, c in enumerate(signs)]
        kept = jnp.arange(n) < (n if periodic else n - order * h)
        return lp_norm(jnp.where(kept, sum(shifted[1:], shifted[0]), jnp.zeros_like(x)), p)

    norms = jax.lax.map(size, jnp.arange(1, (n - 1) // order + 1))
    largest = jax.lax.cummax(norms) * (1.0 if math.isinf(p) else n ** (-1 / p))
    # samples that no difference reaches are not finite in silence
    return jnp.where(jnp.isfinite(x).all(), largest, jnp.full_like(largest, jnp.nan))


@boundary(static=("s", "p", "q"))
def modulus_norm(x: Float[Array, " n"], s: float, p: float, q: float, *, periodic: bool = False) -> Float[Array, ""]:
    r"""The Besov norm by moduli: ‖f‖_p + (Σ_j [2^{js} ω_r(f, 2^{−j})_p]^q)^{1/q}, r = ⌊s⌋ + 1, 2^{−j} ≥ 1/n.

    No wavelet enters, so it is an oracle for `norm`: the two are equivalent, not equal.

    Args:
        x: samples at i/n, n a power of two. s: > 0. p, q: in (0, ∞]; s > (1/p − 1)_+ for the equivalence.

    Raises:
        ValueError: exponents out of range or traced, n no power of two. Cost: O(n² r).

    Source: DeVore and Popov (1988), Theorem 5.1; DeVore and Lorentz (1993), section 2.10.

    >>> f"{modulus_norm(jnp.ones(8), 0.5, 2.0, 2.0):.1f}"
    '1.0'
    """
    check_exponents(p, q)
    require(0 < s < math.inf, "s", s, "be > 0 and finite", "moduli measure positive smoothness")
    n, order = len(x), math.floor(s) + 1
    require(n >= 1 and n & (n - 1) == 0, "x", n, "be a power of two of samples", "resample")
    moduli = modulus(x, order, p, periodic=periodic)
    steps = 2 ** np.arange(int(math.log2(len(moduli))) + 1)  # h = n 2^{−j} samples
    weights = jnp.asarray(level_weights(s * np.log2(n / steps), s, x.dtype), x.dtype)
    size = lp_norm(x, p) * (1.0 if math.isinf(p) else n ** (-1 / p))
    return size + lp_norm(weights * moduli[steps - 1], q)


@boundary(static=("s", "p", "q", "levels", "dim"))
def sample(
    key: Key[Array, ""],
    s: float,
    p: float,
    q: float,
    levels: int,
    kind: Kind = "spike+dense",
    *,
    dim: int = 1,
    dtype: Any = jnp.float32,
) -> Coefficients:
    r"""A random point of the unit sphere of B^s_{p,q}, by its coefficients at levels 0 … levels − 1.

    - "spike+dense": every coefficient of level j is ±2^{−j(s+d/2)}, and one, at a random place, is larger by
      2^{jd/p}. For p < 2 the spikes decide what a linear method can do, the dense part what any can.
    - "weak-lp": sorted, they fall as i^{−1/p}, in random order: the extreme point of the weak ball.
    - "gaussian": N(0, 2^{−j(2s+d)}), the prior of a Sobolev space. Equal sizes in a level: nothing separates.

    Each level is scaled to norm 1 in 2^{−j(s+d/2−d/p)} ℓ_p, and all to norm 1, which costs levels^{−1/q}.

    Args:
        key, s, p, q: p and q in (0, ∞], p < ∞ for "weak-lp".
        levels: J ≥ 1; the function has 2^J samples an axis. kind: above. dim: d ≥ 1. dtype: of the coefficients.

    Returns:
        `Coefficients`, approximation 0; `idwt` of it times 2^{Jd/2} are the function's samples.

    Raises:
        ValueError: exponents, levels, dim or kind out of range; traced ones; weights beyond the dtype.

    Cost: one draw a coefficient. Source: Donoho and Johnstone (1998), section 4 (the extreme points); Suzuki (2019),
    section 4.2.

    >>> f"{norm(sample(jax.random.key(0), 1.0, 1.0, 1.0, 6), 1.0, 1.0, 1.0):.4f}"
    '1.0000'
    """
    check_exponents(p, q)
    require(levels >= 1, "levels", levels, "be >= 1", "draw at least one level")
    require_dim(dim)
    _check_kind(kind, p)
    bands = 2**dim - 1
    counts = [bands * 2 ** (j * dim) for j in range(levels)]
    weights = np.log2(level_weights([j * _rate(s, p, dim) for j in range(levels)], s, dtype)) + np.log2(levels) / q
    return _sample(key, tuple(counts), tuple(weights.tolist()), p, kind, dim, dtype=dtype)


@partial(jax.jit, static_argnames=("counts", "weights", "p", "kind", "dim", "dtype"))
def _sample(
    key: Array, counts: tuple[int, ...], weights: tuple[float, ...], p: float, kind: Kind, dim: int, *, dtype: Any
) -> Coefficients:
    flat = jnp.split(unit_blocks(key, counts, p, kind, dtype, weights), np.cumsum(counts)[:-1])
    details = [part.reshape(2**dim - 1, *[2**j] * dim) for j, part in enumerate(flat)]
    return Coefficients(jnp.zeros((1,) * dim, dtype), tuple(details))


@boundary(static=("p",))
def unit_blocks(
    key: Key[Array, ""],
    counts: Sequence[int] | np.ndarray,
    p: float,
    kind: Kind,
    dtype: Any,
    weights: Sequence[float] | np.ndarray | None = None,
) -> Float[Array, " total"]:
    """Blocks of the given sizes one after another, each drawn as `sample` says and of norm 2^{−weight} in ℓ_p.

    Args:
        key, p, kind, dtype: as in `sample`. counts: sizes ≥ 1. weights: of each block, known; 0 by default.

    Raises:
        ValueError: p ≤ 0, an unknown kind, "weak-lp" with p = ∞, or entries below the smallest number of the dtype, as
            they are for p far below 1.

    Cost: one draw an entry.

    >>> unit_blocks(jax.random.key(0), [1, 2], math.inf, "spike+dense", jnp.float32).shape
    (3,)
    """
    check_exponents(p, p)
    _check_kind(kind, p)
    host_numbers("counts", counts, axes=1)
    some = len(counts) >= 1 and bool(min(counts) >= 1)
    require(some, "counts", counts, "be >= 1, one a block at least", "leave out blocks without entries")
    fits = weights is None or len(host_numbers("weights", weights, axes=1)) == len(counts)
    require(fits, "weights", weights, f"be one for each of {len(counts)} blocks", "pass as many as counts")
    ids, start = np.repeat(np.arange(len(counts)), counts), np.cumsum([0, *counts[:-1]])
    order = np.arange(len(ids)) - start[ids]
    first, others = _log_sizes(np.asarray(counts, float), order + 1.0, ids, p, kind)
    moved = np.zeros(len(counts)) if weights is None else np.asarray(weights, float)
    first, others = first - moved, others - moved[ids]
    least = min(float(first.min()), float(others.min()))
    wish = f"leave entries above 2^{jnp.finfo(dtype).minexp}, not 2^{least:.0f}"
    require(least >= jnp.finfo(dtype).minexp, "p", p, wish, "use a larger p, fewer levels, or float64")
    signs, places = jax.random.split(key)
    sizes = jnp.asarray(2.0**others, dtype)
    if kind == "gaussian":
        drawn = jax.random.normal(signs, ids.shape, dtype)
        return drawn / _means(drawn, counts, ids, p)[ids] * sizes
    if kind == "weak-lp":  # sorted by block, then by chance: a random order within each block
        shuffled = jnp.lexsort((jax.random.uniform(places, ids.shape, dtype), jnp.asarray(ids)))
        sizes = jnp.zeros(ids.shape, dtype).at[shuffled].set(sizes)
    else:
        spike = jax.random.randint(places, (len(counts),), 0, jnp.asarray(counts))[ids]
        sizes = jnp.where(jnp.asarray(order) == spike, jnp.asarray(2.0**first, dtype)[ids], sizes)
    return sizes * jax.random.rademacher(signs, ids.shape, dtype)


def _log_sizes(
    counts: np.ndarray, rank: np.ndarray, ids: np.ndarray, p: float, kind: Kind
) -> tuple[np.ndarray, np.ndarray]:
    """log2 of the size of each block's first entry, and of all, in blocks of norm 1; powers 1/p leave every dtype."""
    whole = np.log2(counts) / p
    if kind == "gaussian":
        return -whole, -whole[ids]
    if kind == "weak-lp":
        sums = np.add.reduceat(1 / rank, np.cumsum([0, *counts[:-1].astype(int)]))
        return -np.log2(sums) / p, (-np.log2(rank) - np.log2(sums)[ids]) / p
    spike = np.logaddexp2(0.0, whole) if p < math.inf else np.zeros_like(whole)
    rest = np.log2(np.maximum(counts - 1, 1e-300))
    total = np.logaddexp2(p * spike, rest) / p if p < math.inf else spike
    return spike - total, -total[ids]


def _means(values: Array, counts: Sequence[int] | np.ndarray, ids: np.ndarray, p: float) -> Array:
    """(mean |v|^p)^{1/p} of each block."""
    largest = jax.ops.segment_max(jnp.abs(values), ids, len(counts))
    if math.isinf(p):
        return largest
    total = jax.ops.segment_sum((jnp.abs(values) / largest[ids]) ** p, ids, len(counts))
    return largest * (total / jnp.asarray(counts, values.dtype)) ** (1 / p)


def _check_kind(kind: Kind, p: float) -> None:
    fits = kind != "weak-lp" or p < math.inf
    require(fits, "kind", kind, "be spike+dense or gaussian where p = inf", "choose one, or a finite p")


@boundary(static=("p",))
def block_norms(
    values: Float[Array, " total"], counts: Sequence[int] | np.ndarray, p: float
) -> Float[Array, " blocks"]:
    """‖·‖_p of each of the blocks that follow one another in `values`, scaled as in `lp_norm`.

    Args:
        values: all blocks. counts: their sizes, which sum to the number of values. p: in (0, ∞].

    Raises:
        ValueError: p ≤ 0, sizes that do not fit. Cost: one pass.

    >>> block_norms(jnp.array([3.0, -4.0, 2.0]), [2, 1], 2.0).round(4).tolist()
    [5.0, 2.0]
    """
    check_exponents(p, p)
    host_numbers("counts", counts, axes=1)
    fits = int(np.sum(counts)) == len(values) and bool(min(counts, default=0) >= 0)
    require(fits, "counts", np.sum(counts), f"sum to the {len(values)} values", "give the size of each block")
    ids, blocks = np.repeat(np.arange(len(counts)), counts), len(counts)
    largest = jnp.maximum(jax.ops.segment_max(_size(values), ids, blocks), 0)
    if math.isinf(p):
        return largest
    unit = _unit(largest)
    return unit * _root(jax.ops.segment_sum(_power(values / unit[ids], p), ids, blocks), p)
