"""A set of points and their targets, cut at random into a training and a test part."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, Shaped

from jaxtheory.checks import boundary, require


class Split(NamedTuple):
    """Training and test points, one a row, with their labels (int32) or regression targets (floating)."""

    x: Float[Array, "train features"]
    y: Shaped[Array, "train ..."]
    x_test: Float[Array, "test features"]
    y_test: Shaped[Array, "test ..."]


@boundary
def split(x: Float[Array, "n ..."], y: ArrayLike, train: int, key: Key[Array, ""]) -> Split:
    """A uniformly random training set of `train` points; the rest, in random order too, is the test set.

    The cut is not stratified: the number of training points of a class is hypergeometric around its share.
    The set for fewer training points is a prefix of the set for more, at the same key.

    Args:
        x: [n, ...] points; integers become floats.
        y: [n, ...] labels or targets; row i belongs to row i of `x`.
        train: number of training points, 1..n; at n the test set is empty.
        key: the only source of the choice.

    Returns:
        `Split`, y with its dtype.

    Raises:
        ValueError: lengths that differ, or `train` outside 1..n.

    Cost: O(n · features) time and memory.

    >>> x, y = jnp.eye(5), jnp.arange(5)
    >>> parts = split(x, y, 3, jax.random.key(0))
    >>> parts.x.shape, parts.x_test.shape, sorted([*parts.y.tolist(), *parts.y_test.tolist()])
    ((3, 5), (2, 5), [0, 1, 2, 3, 4])
    """
    require(x.ndim >= 1, "x", f"shape {x.shape}", "be points [n, ...]", "pass one point a row")
    return cut(x, y, train, key)


def cut(x: ArrayLike, y: ArrayLike, train: int, key: Key[Array, ""]) -> Split:
    """`split` of points of any dtype."""
    points, targets = jnp.asarray(x), _targets(y)
    count, rows = len(points), len(targets) if targets.ndim else 1
    require(rows == count, "y", f"{rows} rows", f"have one row for each of the {count} of x", "pair them")
    require(1 <= train <= count, "train", train, f"be within 1..{count}, the number of points", "ask for fewer")
    order = jax.random.permutation(key, count)
    return Split(points[order[:train]], targets[order[:train]], points[order[train:]], targets[order[train:]])


def _targets(y: ArrayLike) -> Array:
    try:
        return jnp.asarray(y)
    except (TypeError, ValueError):
        require(False, "y", repr(y), "be numbers, one row a point", "pass labels 0..K−1 or real targets")
        raise
