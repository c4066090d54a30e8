"""An exact bound on the rank of nested features: rows and columns that repeat to the bit count once."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def rank_bound(features: Float[Array, "n P"]) -> Int[Array, " P"]:
    """The smaller of the numbers of different rows and of different columns that are not zero, at every width.

    Rows are compared number by number, columns by 64 bits of a sum. Cost: n² P + P² comparisons.

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
    keys = np.random.default_rng(0).integers(2**32, size=(2, len(features), 1, words.shape[2]), dtype=np.uint32) | 1
    first, second = ((words * key).sum(axis=(0, 2), dtype=jnp.uint32) for key in keys)
    same = (first[:, None] == first[None]) & (second[:, None] == second[None])
    return (~jnp.tril(same, -1).any(axis=1) & (features != 0).any(axis=0)).cumsum()
