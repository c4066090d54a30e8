"""What is done to labels and inputs before a fit: label noise, one-hot targets, standardized columns.

Inside jit nothing can be raised, so what is out of range comes back marked: a label as −1, a target as NaN.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, known, require, within
from jaxtheory.guarded import power_of_two, root


@boundary
def flip_labels(
    y: Int[Array, " n"], fraction: float | Float[Array, ""], key: Key[Array, ""], *, classes: int
) -> Int[Array, " n"]:
    """Label noise: exactly round(fraction · n) labels, chosen uniformly, become a uniformly random other class.

    At one key the labels flipped for a smaller fraction are also flipped, to the same class, for a larger one.

    Args:
        y: labels in 0..classes−1.
        fraction: in [0, 1]; may be traced. n · fraction is rounded half to even.
        key: chooses which labels and which classes.
        classes: K ≥ 2, static under jit.

    Returns:
        Labels in 0..classes−1, int32, or int64 where `y` is. Inside jit, a label that was out of range, and every
        label when `fraction` is outside [0, 1], is −1, which `one_hot` turns to NaN.

    Raises:
        ValueError: a fraction outside [0, 1], fewer than two classes, labels out of range (outside jit).

    Cost: O(n log n). Source: symmetric label noise, Angluin and Laird (1988).

    >>> y = jnp.zeros(10, jnp.int32)
    >>> int((flip_labels(y, 0.3, jax.random.key(0), classes=10) != y).sum())
    3
    """
    require(classes >= 2, "classes", classes, "be >= 2 for another class to exist", "count the classes of y")
    share = within("fraction", fraction, 0.0, 1.0, "pass a share, not a percentage")
    return _flip(_labels(y, classes), jnp.asarray(share), key, classes)


@partial(jax.jit, static_argnames="classes")
def _flip(y: Int[Array, " n"], fraction: Array, key: Key[Array, ""], classes: int) -> Int[Array, " n"]:
    which, what = jax.random.split(key)
    order = jax.random.permutation(which, len(y))
    flipped = order < jnp.round(fraction * len(y)).astype(order.dtype)  # none where the fraction is NaN
    # A shift by 1..classes−1 reaches each other class equally often and never the same one.
    shift = jax.random.randint(what, y.shape, 1, classes, jnp.int32)  # whatever the type of y, the same draws
    other = (y + shift.astype(y.dtype)) % jnp.asarray(classes, y.dtype)
    valid = (y >= 0) & (y < classes) & (fraction >= 0) & (fraction <= 1)
    return jnp.where(valid, jnp.where(flipped, other, y), jnp.full_like(y, -1))


@boundary
def one_hot(y: Int[Array, "*shape"], classes: int, dtype: DTypeLike = "float32") -> Float[Array, "*shape classes"]:
    """Targets for squared loss: e_y, the unit vector of each label.

    Args:
        y: labels in 0..classes−1.
        classes: K ≥ 1, static under jit.
        dtype: of the targets.

    Returns:
        The shape of `y` with a last axis of length `classes`. Inside jit a label out of range gives a row of NaN.

    Raises:
        ValueError: labels out of range (outside jit), no classes, a dtype that is not available.

    Cost: O(n · classes).

    >>> [[f"{v:.0f}" for v in row] for row in one_hot(jnp.array([1, 0]), 3)]
    [['0', '1', '0'], ['1', '0', '0']]
    """
    require(classes >= 1, "classes", classes, "be >= 1", "count the classes of y")
    y = _labels(y, classes)
    target = jax.nn.one_hot(y, classes, dtype=dtype)
    return jnp.where(((y >= 0) & (y < classes))[..., None], target, jnp.full_like(target, jnp.nan))


@boundary
def standardize(x: Float[Array, "n d"], reference: Float[Array, "m d"] | None = None) -> Float[Array, "n d"]:
    """Columns with mean 0 and variance 1 over `reference`: (x − mean) / std, with the 1/m variance.

    A column that is constant over `reference` carries no unit, so it becomes 0 in the result.

    Args:
        x: points, one a row; [n] stands for [n, 1].
        reference: the points whose mean and spread are used, most often the training set; `x` when None.

    Returns:
        As `x`, [n, d]. A column with a NaN or an infinity in `reference` is NaN.

    Raises:
        ValueError: another number of columns in `reference`, or no rows.

    Cost: O((n + m) d). Neither tiny nor huge units under- or overflow: each column is scaled first.

    >>> [f"{v:.3f}" for v in standardize(jnp.array([[1.0, 5.0], [3.0, 5.0]])).ravel()]
    ['-1.000', '0.000', '1.000', '0.000']
    """
    base = x if reference is None else reference
    wish = f"have rows like the {x.shape[1]} columns of x"
    require(len(base) > 0 and base.shape[1] == x.shape[1], "reference", base.shape, wish, "pass the training points")
    return _standardize(x, base)


@jax.jit
def _standardize(x: Float[Array, "n d"], base: Float[Array, "m d"]) -> Float[Array, "n d"]:
    # The range knows a constant column; the variance does not, for the mean of equal numbers need not equal them.
    # The result does not depend on origin and unit, so that neither carries a derivative.
    low, high = (jax.lax.stop_gradient(end(base, 0, keepdims=True)) for end in (jnp.min, jnp.max))
    constant = low == high
    power = power_of_two(jnp.maximum(jnp.abs(low), jnp.abs(high)), axis=())  # the range may overflow
    unit = jnp.where(constant, jnp.ones_like(low), high / power - low / power)
    scaled = (base / power - low / power) / unit
    mean = scaled.mean(0, keepdims=True)
    spread = root(((scaled - mean) ** 2).mean(0, keepdims=True))
    standard = ((x / power - low / power) / unit - mean) / jnp.where(constant, jnp.ones_like(spread), spread)
    return jnp.where(constant, jnp.zeros_like(x), standard)


def _labels(y: Int[Array, "..."], classes: int) -> Int[Array, "..."]:
    """Labels as integers, in range where they are known."""
    if known(y) and y.size:
        # Known labels inside someone else's jit are looked at now, by numpy, not traced.
        low, high = int(np.asarray(y).min()), int(np.asarray(y).max())
        hint = "number the classes from 0, or raise classes"
        require(low >= 0 and high < classes, "y", f"labels {low}..{high}", f"hold labels within 0..{classes - 1}", hint)
    # Narrow and unsigned integers would wrap: above 255, and below 0 where −1 marks what is out of range.
    return y if y.dtype in (jnp.int32, jnp.int64) else y.astype(jnp.int32)
