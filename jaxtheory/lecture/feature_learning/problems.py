"""Two small problems of one shape, so that they share compiled programs: digits, and a single-index teacher."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory import data

FEATURES = 16  # of both problems; |x|² is about 16
PAIR = (3, 8)  # the digits, whose labels are +1 and -1
_SEEN = 6  # features of the teacher's points that are not 0


class Problem(NamedTuple):
    """Training and test points with their targets."""

    x: Float[Array, "n d"]
    y: Float[Array, " n"]
    test_x: Float[Array, "m d"]
    test_y: Float[Array, " m"]


def digits(samples: int, tests: int) -> Problem:
    """Threes against eights, averaged over 2 x 2 pixels, centred, with |x|² = 16; one class after the other."""
    split = data.digits(train=1000)
    images, labels = np.asarray(split.x), np.asarray(split.y)
    pooled = images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, FEATURES)
    of_pair = np.isin(labels, PAIR)
    pooled, labels = pooled[of_pair] - pooled[of_pair].mean(0), labels[of_pair]
    pooled *= FEATURES**0.5 / np.linalg.norm(pooled, axis=1, keepdims=True)

    def cut(first: int, count: int) -> tuple[Array, Array]:
        rows = np.concatenate([np.flatnonzero(labels == digit)[first : first + count // 2] for digit in PAIR])
        return jnp.asarray(pooled[rows]), jnp.asarray(np.where(labels[rows] == PAIR[0], 1.0, -1.0), pooled.dtype)

    return Problem(*cut(0, samples), *cut(samples // 2, tests))


def teacher(samples: int, tests: int, key: Array) -> Problem:
    """y = 1.2 tanh(2 z₁) of standard Gaussian z in 6 dimensions: a single-index teacher; x is z scaled and padded."""
    z = jax.random.normal(key, (samples + tests, _SEEN), jnp.float32)
    y = 1.2 * jnp.tanh(2 * z[:, 0])
    x = jnp.pad(z * (FEATURES / _SEEN) ** 0.5, ((0, 0), (0, FEATURES - _SEEN)))
    return Problem(x[:samples], y[:samples], x[samples:], y[samples:])
