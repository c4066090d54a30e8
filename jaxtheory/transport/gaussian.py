"""Transport between Gaussians."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, constrain, require
from jaxtheory.guarded import power_of_two
from jaxtheory.transport import psd
from jaxtheory.transport.costs import distance_power


@boundary
def bures(
    mean1: Float[Array, " k"],
    covariance1: Float[Array, "k k"],
    mean2: Float[Array, " k"],
    covariance2: Float[Array, "k k"],
) -> Float[Array, ""]:
    r"""W₂² between Gaussians: |m₁ − m₂|² + tr(A + B − 2 (A^½ B A^½)^½).

    Args:
        mean1, mean2: means. covariance1, covariance2: symmetric positive semidefinite.

    Returns:
        The squared distance, without cancellation where the Gaussians are close; NaN where A or B has an eigenvalue
        below −√eps of the largest, in units in which its diagonal is of order one.

    Raises:
        ValueError: shapes that do not fit, or a matrix that is not symmetric (NaN inside `jit`).

    Differentiable to any order, also at repeated and zero eigenvalues along directions that keep the rank; where A is
    singular and B is not on its null space, the derivative in A there is −∞, and that part is given as 0.
    Cost: six decompositions of d × d matrices, about 100 d³ flops.
    Source: Dowson, Landau (1982); Villani (2003), section 4.1; Bhatia, Jain, Lim (2019) for the rotations.

    >>> f"{bures(jnp.zeros(1), jnp.eye(1), jnp.ones(1), 4 * jnp.eye(1)):.1f}"
    '2.0'
    """
    size = len(mean1)
    require(size >= 1, "mean1", mean1.shape, "have at least one component", "pass vectors of one dimension")
    for name, value in (("covariance1", covariance1), ("mean2", mean2), ("covariance2", covariance2)):
        wish = f"fit mean1 of length {size}"
        require(value.shape == (size,) * value.ndim, name, value.shape, wish, "pass [d] means and [d, d] covariances")
    return _bures(mean1, symmetric("covariance1", covariance1), mean2, symmetric("covariance2", covariance2))


def symmetric(name: str, matrix: Array) -> Array:
    """The matrix, checked by name: symmetric to 10⁻³ of its largest entry, NaN inside `jit` where it is not."""

    def even(a: Any) -> Any:
        with np.errstate(invalid="ignore"):  # ∞ − ∞ is not symmetric
            return abs(a - a.T) <= 1e-3 * abs(a).max(initial=0)

    return constrain(name, matrix, even, "be symmetric and finite", "pass (A + A.T) / 2")


@jax.jit
def _bures(mean1: Array, a: Array, mean2: Array, b: Array) -> Array:
    unit = power_of_two(jnp.stack([a, b]))
    return distance_power(mean1 - mean2, jnp.full((), 2, a.dtype)) + unit * psd.gap(a / unit, b / unit)
