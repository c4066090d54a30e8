"""An exact bound on the rank of nested features: rows and columns that repeat to the bit count once."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def rank_bound(features: Float[Array, "n P"]) -> Int[Array, " P"]:
    """The smaller of the numbers of different rows and of different columns that are not zero, at every width.

    Rows are compared number by number, columns by two sums of 32 bits of their mixed numbers.
    Cost: n² P + P log P comparisons.

    >>> rank_bound(jnp.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [0.0, 0.0, 3.0]]))
    Array([1, 1, 2], dtype=int32)
    """
    return jnp.minimum(_different_rows(features), _different_columns(features))


def _different_rows(features: Array) -> Array:
    earlier = jnp.tril(jnp.ones((len(features), len(features)), bool), -1)

    def step(carry: tuple[Array, Array], column: Array) -> tuple[tuple[Array, Array], Array]:
        same, empty = carry
        same, empty = same & (column[:, None] == column[None]), empty & (column == 0)
        return (same, empty), (~same.any(axis=1) & ~empty).sum()

    some = jnp.isnan(features[0, 0])  # False, of the batch that the features are of
    return jax.lax.scan(step, (earlier | some, (features[:, 0] == 0) | True), features.T)[1]


def _different_columns(features: Array) -> Array:
    words = jax.lax.bitcast_convert_type(features + 0.0, jnp.uint32)  # -0 + 0 = 0
    words = words.reshape(*features.shape, -1)
    keys = np.random.default_rng(0).integers(2**32, size=(2, len(features), 1, words.shape[2]), dtype=np.uint32)
    first, second = (_mixed(words ^ key).sum(axis=(0, 2), dtype=jnp.uint32) for key in keys)
    # a stable sort puts repeats behind the first of them
    first, second, order = jax.lax.sort((first, second, jnp.arange(len(first))), num_keys=2, is_stable=True)
    repeats = (first[1:] == first[:-1]) & (second[1:] == second[:-1])
    new = jnp.ones(len(order), bool).at[order[1:]].set(~repeats)
    return (new & (features != 0).any(axis=0)).cumsum()


def _mixed(words: Array) -> Array:
    """One-to-one maps of 32 bits that let each bit change all: floats of few digits have zeros in most of theirs."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = (words ^ (words >> shift)) * np.uint32(factor)
    return words ^ (words >> 16)
