r"""Householder reflections applied in blocks.

A product of reflections H_i = 1 − v_iv_iᵀ with ‖v_i‖² = 2 (or v_i = 0) in this order is

    H_1 H_2 ⋯ H_b = 1 − Vᵀ T V,   T⁻¹ = 1 + (VVᵀ above its diagonal),

with the v_i as rows of V: the reflections of a panel are found one by one, and the rest is turned by products of
matrices. Source: Joffrain, Low, Quintana-Ortí and van de Geijn (2006), Accumulating Householder transformations,
revisited.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxtheory.guarded import root


def length(x: Array) -> Float[Array, ""]:
    """‖x‖ of numbers of order one: what overflows or vanishes in the square has no digits left."""
    return root((x**2).sum())


def mirror(tail: Float[Array, " n"], first: Bool[Array, " n"], needed: Bool[Array, ""]) -> tuple[Array, Array]:
    """The v that takes `tail` to a multiple of the unit vector `first`, and that multiple; zeros if not `needed`."""
    height, lead = length(tail), jnp.where(first, tail, 0).sum()
    signed = jnp.where(needed, jnp.where(lead < 0, height, -height), 0)
    v = jnp.where(needed, tail - jnp.where(first, signed, 0), 0)
    return v / jnp.sqrt(jnp.where(needed, height * (height + jnp.abs(lead)), 1)), signed


def factor(mirrors: Float[Array, "b n"]) -> Float[Array, "b b"]:
    """T of the product of these reflections, column by column."""
    size = len(mirrors)
    overlap = jnp.triu(mirrors @ mirrors.T, 1)

    def step(factor: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        index, column = at
        own = (jnp.arange(size) == index).astype(overlap.dtype)
        return factor.at[:, index].set(own - factor @ column), None

    return jax.lax.scan(step, 0 * overlap, (jnp.arange(size), overlap.T))[0]


def absorb(points: Float[Array, "rows n"], new: Float[Array, "rows w"], size: int) -> Float[Array, "rows n"]:
    """Turn the columns [points, new] so that `new` vanishes in the first n rows and these stay lower triangular."""
    samples = points.shape[1]
    size = min(size, samples)

    def turn(carry: tuple[Array, Array], start: Array) -> tuple[tuple[Array, Array], None]:
        points, new = carry
        own = jax.lax.dynamic_slice_in_dim(points, start, size, axis=1)
        top, top_new = (jax.lax.dynamic_slice_in_dim(x, start, size) for x in (own, new))
        heads, mirrors = _panel(top, top_new)
        turn = factor(jnp.concatenate([jnp.diag(heads), mirrors], axis=1))
        moved = (own * heads[None] + new @ mirrors.T) @ turn
        points = jax.lax.dynamic_update_slice_in_dim(points, own - moved * heads[None], start, axis=1)
        return (points, new - moved @ mirrors), None

    starts = jnp.minimum(jnp.arange(0, samples, size), samples - size)  # turning a row again changes nothing
    points = jax.lax.scan(turn, (points, new), starts)[0][0]
    return points.at[:samples].set(jnp.tril(points[:samples]))


def _panel(lower: Float[Array, "b b"], new: Float[Array, "b w"]) -> tuple[Float[Array, " b"], Float[Array, "b w"]]:
    """The reflections that take rows [L, N] to [L', 0], one a row: v_i is the i-th head in column i, and a row of N."""

    def reflect(new: Array, at: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        column, index = at
        tail = jnp.concatenate([column[index][None], new[index]])
        v, _ = mirror(tail, jnp.arange(len(tail)) == 0, (tail[1:] != 0).any())
        return new - jnp.outer(column * v[0] + new @ v[1:], v[1:]), (v[0], v[1:])

    return jax.lax.scan(reflect, new, (lower.T, jnp.arange(len(lower))))[1]
