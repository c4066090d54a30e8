r"""Ridgelet transforms with derivatives of the Gaussian as duals: by quadrature, in closed form, and by Fourier slices.

R f(a, b) = ∫ f(x) G^(l)(a·x − b) dx
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, positive, require

_DECAY = 10.0  # G^(l)(10) is below 1e-14 for the l in use
_BLOCK = 1024  # pairs (a, b) at once: memory is _BLOCK × points


@boundary(static=("derivative",))
def gaussian_derivative(t: Float[Array, "..."], derivative: int) -> Float[Array, "..."]:
    """G^(l)(t) = (−1)^l He_l(t) e^(−t²/2)/√(2π), and 0 where that is below the smallest number.

    Args:
        t: any shape. derivative: l ≥ 0.

    Raises:
        ValueError: l < 0 or traced. Cost: l passes. Source: Abramowitz and Stegun (1964), equation 26.2.31.

    >>> f"{gaussian_derivative(jnp.array(0.0), 2):.6f}"
    '-0.398942'
    """
    require(derivative >= 0, "derivative", derivative, "be >= 0", "G^(0) is the Gaussian itself")
    reach = (2 * -math.log(float(jnp.finfo(t.dtype).tiny))) ** 0.5 + 2 * derivative**0.5
    far = jnp.abs(t) > reach
    near = jnp.where(far, jnp.zeros_like(t), t)
    half = jnp.exp(-(near**2) / 4)  # twice a half, since the polynomial alone overflows
    before, now = jnp.zeros_like(t), half
    for k in range(derivative):
        before, now = now, near * now - k * before
    return jnp.where(far, jnp.zeros_like(t), (-1) ** derivative * now * half / math.sqrt(2 * math.pi))


@boundary(static=("derivative",))
def transform(
    values: Float[Array, " n"],
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    a: Float[Array, "k d"],
    b: Float[Array, " k"],
    *,
    derivative: int,
) -> Float[Array, " k"]:
    r"""R f(a, b) = ∫ f(x) ψ(a·x − b) dx by quadrature, ψ = G^(derivative).

    Args:
        values: f at nodes x with quadrature weights (of dx); nodes closer than about 1/|a|. a, b: k pairs.
        derivative: l ≥ 0.

    Raises:
        ValueError: shapes that do not fit, l < 0 or traced.

    Cost: n k evaluations of ψ, memory 1024 n, in reverse mode too. Source: Sonoda and Murata (2017), equation (2).

    >>> x = jnp.linspace(-8, 8, 400)[:, None]
    >>> f = jnp.exp(-(x[:, 0] ** 2) / 2)
    >>> one = jnp.ones((1, 1))
    >>> close = transform(f, x, jnp.full(400, 16 / 399), one, one[0], derivative=4)
    >>> bool(jnp.allclose(close, gaussian_transform(one, one[0], derivative=4), atol=1e-5))
    True
    """
    _check_nodes(values, x, weights)
    check_pairs(a, b, x.shape[1])
    return _transform(values * weights, x, a, b, derivative)


@partial(jax.jit, static_argnames="derivative")
def _transform(weighted: Array, x: Array, a: Array, b: Array, derivative: int) -> Array:
    @jax.checkpoint
    def block(pairs: tuple[Array, Array]) -> Array:
        t = jnp.matmul(pairs[0], x.T, precision="highest") - pairs[1][:, None]
        return jnp.matmul(gaussian_derivative(t, derivative), weighted, precision="highest")

    blocks = tuple(blocks_of(part) for part in (a, b))
    return jax.lax.map(block, blocks).reshape(-1)[: len(b)]


def blocks_of(part: Array) -> Array:
    """1024 rows at a time, the last block filled up with zeros.

    >>> blocks_of(jnp.ones((3, 2))).shape
    (1, 1024, 2)
    """
    blocks = -(-len(part) // _BLOCK)
    padded = jnp.pad(part, ((0, blocks * _BLOCK - len(part)), *((0, 0),) * (part.ndim - 1)))
    return padded.reshape(blocks, _BLOCK, *part.shape[1:])


def _check_nodes(values: Array, x: Array, weights: Array) -> None:
    same = len(values) == len(x) == len(weights)
    require(same, "values", values.shape, f"have one entry for each of {len(x)} nodes, as weights", "pair them")


def check_pairs(a: Array, b: Array, dim: int) -> None:
    """Raise unless a and b are pairs for inputs of this dimension."""
    require(a.shape == (len(b), dim), "a", a.shape, f"be [{len(b)}, {dim}], one row for each b", "pair them")


@boundary(static=("derivative",))
def gaussian_transform(a: Float[Array, "k d"], b: Float[Array, " k"], *, derivative: int) -> Float[Array, " k"]:
    r"""R[e^(−|x|²/2)](a, b) = (2π)^(m/2) (1+|a|²)^(−(l+1)/2) G^(l)(b/√(1+|a|²)) (−1)^l, in any dimension.

    Args:
        a, b: k pairs. derivative: l ≥ 0.

    Raises:
        ValueError: shapes that do not fit, l < 0 or traced.

    Source: a Gaussian convolved with a Gaussian. Cost: O(k m).

    >>> f"{gaussian_transform(jnp.zeros((1, 1)), jnp.zeros(1), derivative=0)[0]:.4f}"
    '1.0000'
    """
    check_pairs(a, b, a.shape[1])
    root = guarded.norm(jnp.concatenate([jnp.ones_like(a[:, :1]), a], axis=1), axis=1)
    scale = (-1) ** derivative * (2 * math.pi) ** (a.shape[1] / 2)
    return scale * root ** -(derivative + 1) * gaussian_derivative(b / root, derivative)


@boundary(static=("derivative",))
def transform_slices(
    values: Float[Array, " n"],
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    *,
    directions: Float[Array, "u d"],
    scales: Float[Array, " r"],
    offsets: Float[Array, " o"],
    frequencies: Float[Array, " q"],
    derivative: int,
) -> Float[Array, "u r o"]:
    r"""R f(r u, b) by the Fourier slice theorem: one Fourier slice (a Radon projection) serves every r and b.

        R f(r u, b) = (1/2π r) ∫ f̂(k u) conj(ψ̂(k/r)) e^(i k b/r) dk,   ψ̂(ω) = (iω)^l e^(−ω²/2)

    Args:
        values, x, weights: as in `transform`. directions: unit vectors u. scales: r > 0. offsets: b.
        frequencies: k = 0, δ, 2δ, …, until f̂ has decayed; δ < π/(R + 10/r) with R = max |x|.
        derivative: l ≥ 0.

    Raises:
        ValueError: shapes that do not fit, l < 0 or traced; scales ≤ 0, frequencies that are not 0, δ, 2δ, … or too far
            apart (outside jit; NaN inside).

    Cost: q (u n + r o) cosines and 4 u q r o flops, instead of u r o n evaluations of ψ.
    Source: Kostadinova et al. (2014), section 3.

    >>> x = jnp.linspace(-8, 8, 400)[:, None]
    >>> f, one = jnp.exp(-(x[:, 0] ** 2) / 2), jnp.ones(1)
    >>> polar = {"directions": one[:, None], "scales": one, "offsets": one, "frequencies": jnp.linspace(0, 8, 200)}
    >>> slices = transform_slices(f, x, jnp.full(400, 16 / 399), **polar, derivative=4)
    >>> bool(jnp.allclose(slices.ravel(), gaussian_transform(one[:, None], one, derivative=4), atol=1e-5))
    True
    """
    _check_nodes(values, x, weights)
    require(directions.shape[1] == x.shape[1], "directions", directions.shape, f"have {x.shape[1]} columns", "as x")
    require(min(len(x), len(scales)) >= 1, "scales", scales.shape, "hold a scale, and x a node", "pass some")
    require(len(frequencies) >= 2, "frequencies", frequencies.shape, "hold two or more", "use jnp.linspace(0, k, q)")
    r = positive("scales", scales, "pass |a| > 0")
    reach = guarded.norm(x, axis=1).max()
    closest = jnp.pi / (reach + _DECAY / r.min())
    k = constrain("frequencies", frequencies, _even, "be 0, δ, 2δ, … with δ > 0", "use jnp.linspace(0, k, q)")
    wish = "be spaced by less than π/(R + 10/r), R = max |x|"
    step = constrain("frequencies", k[1] - k[0], lambda d: d < closest, wish, "use more of them")
    return _transform_slices(values * weights, x, directions, r, offsets, k, ends=(step, reach), derivative=derivative)


def _even(frequencies: Any) -> Any:
    """Whether they are 0, δ, 2δ, … to rounding."""
    step = frequencies[1:2] - frequencies[:1]
    wanted = step * np.arange(len(frequencies))
    return ((abs(frequencies - wanted) <= 1e-3 * step) & (step > 0)).all()


@partial(jax.jit, static_argnames="derivative")
def _transform_slices(
    weighted: Array, x: Array, directions: Array, scales: Array, offsets: Array, frequencies: Array,
    *, ends: tuple[Array, Array], derivative: int,
) -> Array:  # fmt: skip
    step, reach = ends

    @jax.checkpoint
    def one(direction: Array) -> tuple[Array, Array]:
        phase = jnp.matmul(x, direction, precision="highest")[:, None] * frequencies[None, :]
        cosine, sine = (jnp.matmul(weighted, wave(phase), precision="highest") for wave in (jnp.cos, jnp.sin))
        return cosine, sine

    cosine, sine = jax.lax.map(one, directions)

    @jax.checkpoint
    def radial(scale: Array) -> Array:
        omega = frequencies / scale
        dual = (omega**derivative * jnp.exp(-(omega**2) / 2) * step / (math.pi * scale)).at[0].multiply(0.5)
        # conj(i^l) is a phase of −π l / 2
        angle = omega[:, None] * offsets[None, :] - derivative * math.pi / 2
        parts = ((cosine, jnp.cos(angle)), (sine, jnp.sin(angle)))
        even, odd = (jnp.matmul(hat * dual[None, :], wave, precision="highest") for hat, wave in parts)
        # beyond, ψ is below round-off, and the sum over frequencies repeats itself
        return jnp.where(jnp.abs(offsets)[None, :] > scale * reach + _DECAY, jnp.zeros_like(even), even + odd)

    return jnp.moveaxis(jax.lax.map(radial, scales), 0, 1)
