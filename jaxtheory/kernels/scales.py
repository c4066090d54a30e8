"""Units in which a regression is solved, so that its answer does not depend on them.

Each output is divided by its own power of two and the solution multiplied by it again, which is exact; what can then
not be represented is seen by comparing both.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxtheory.guarded import power_of_two
from jaxtheory.results import relative_residual


def as_columns(y: Float[Array, "n ..."]) -> Float[Array, "n o"]:
    """Targets as a matrix of outputs.

    >>> as_columns(jnp.ones(3)).shape
    (3, 1)
    """
    return y.reshape(y.shape[0], math.prod(y.shape[1:]))


def common_unit(*arrays: Float[Array, "..."]) -> Float[Array, ""]:
    """The power of two of the largest number in the arrays; zeros have no say. 1 where all are 0 or one is not finite.

    >>> float(common_unit(jnp.array([0.3]), jnp.zeros(2)))
    0.25
    """
    largest = [jnp.abs(jax.lax.stop_gradient(array)).max(initial=0) for array in arrays]
    return power_of_two(jnp.stack(largest))


def lost(scaled: Float[Array, "n o"], value: Float[Array, "n o"]) -> Bool[Array, ""]:
    """Whether a column that is not 0 in its own units overflows, or underflows as a whole, in those of the caller.

    >>> bool(lost(jnp.ones((1, 1)), jnp.zeros((1, 1))))
    True
    """
    tiny = float(jnp.finfo(value.dtype).tiny)
    before, after = (jnp.abs(jax.lax.stop_gradient(part)).max(axis=0, initial=0) for part in (scaled, value))
    return ((before >= tiny) & ~((after >= tiny) & jnp.isfinite(after))).any()


def mean_square(
    scaled: Float[Array, "... o"], units: Float[Array, " o"]
) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
    """The mean of units² scaled over outputs, and whether it overflowed or underflowed.

    >>> [float(part) for part in mean_square(jnp.array([1.0]), jnp.array([2.0]))]
    [4.0, 0.0]
    """
    common = jnp.max(units)
    in_common = jnp.tensordot(scaled, (units / common) ** 2, 1, precision="highest") / units.shape[0]
    value = in_common * common * common
    tiny = float(jnp.finfo(value.dtype).tiny)
    return value, jnp.isinf(value) | ((in_common >= tiny) & (value < tiny))


def worst_residual(product: Float[Array, "n o"], target: Float[Array, "n o"]) -> Float[Array, ""]:
    """The largest relative residual ‖Ax − b‖ / ‖b‖ over columns; no derivative.

    >>> float(worst_residual(jnp.ones((1, 2)), jnp.array([[1.0, 2.0]])))
    0.5
    """
    product, target = jax.lax.stop_gradient((product, target))
    return jax.vmap(relative_residual, in_axes=1)(product, target).max(initial=0)
