r"""The angle of a Gaussian pair in arithmetic that vectorizes.

Every homogeneous dual is a polynomial in one angle. On CPUs the compiler calls the C library for each arctangent, one
number at a time, which costs ten times all the rest of a layer: here an angle is one division and a series.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.guarded import over, root

_NEAR = math.tan(math.pi / 8)


@jax.custom_jvp
def angle(opposite: Float[Array, "..."], adjacent: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""arctan(opposite/adjacent) in [−π/2, π/2] for adjacent ≥ 0; 0 where both are 0.

    Beyond π/4 it is what is left to π/2, so that at adjacent = 0 it is ±π/2 exactly. Beyond π/8 it is

        arctan(y/x) = π/4 + arctan((y − x)/(y + x)),

    and within Σ_k (−1)^k t^(2k+1)/(2k+1), |t| ≤ tan(π/8) = 0.414: nine terms in float32, twenty in float64. The
    derivative is (x dy − y dx)/(x² + y²), and 0 where both are 0.

    Its relative error is at most 5 ε: of ten units of rounding, ε/2 each, the quotient takes three, the series and its
    product three, the sums with π/4 and π/2 two each. The derivative needs x² + y² to be a number of the format. Cost:
    a division and thirty (float32) or fifty flops. Source: Gregory's series and the addition theorem.

    >>> f"{angle(jnp.float32(1.0), jnp.float32(1.0)):.6f}"
    '0.785398'
    """
    rise = jnp.abs(opposite)
    steep = rise > adjacent
    x, y = jnp.where(steep, rise, adjacent), jnp.where(steep, adjacent, rise)
    far = y > _NEAR * x
    rest = _series(over(jnp.where(far, y - x, y), jnp.where(far, y + x, x)))
    acute = jnp.where(far, math.pi / 4 + rest, rest)
    positive = jnp.where(steep, math.pi / 2 - acute, acute)
    return jnp.where(opposite < 0, -positive, positive)


@angle.defjvp
def _angle_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (y, x), (dy, dx) = primals, tangents
    return angle(y, x), over(x * dy - y * dx, x * x + y * y)


def determinant(q11: Float[Array, "..."], q12: Float[Array, "..."], q22: Float[Array, "..."]) -> Float[Array, "..."]:
    """q11 q22 − q12², exactly 0 at correlation ±1 of equal variances, for |q12| ≤ √(q11 q22).

    A fused multiply-add would leave the rounding of one product there, an angle of √ε.

    >>> float(determinant(jnp.float32(2.0), jnp.float32(1.0), jnp.float32(3.0)))
    5.0
    """
    size = jnp.where(q12 < 0, -q12, q12)  # not abs, whose second derivative is lost at 0
    return (q11 - size) * q22 + size * (q22 - size)


def separation(q11: Float[Array, "..."], q12: Float[Array, "..."], q22: Float[Array, "..."]) -> Float[Array, "..."]:
    """√(q11 q22 − q12²), the sine of the angle times both lengths; its derivative is 0 where it is 0.

    Variances are divided by powers of four first: the determinant of 1e-12, 5e-7 and 1 is not lost in float32, and none
    overflows or vanishes.

    >>> f"{separation(jnp.float32(1e-12), jnp.float32(5e-7), jnp.float32(1.0)):.4e}"
    '8.6603e-07'
    """
    (one, _), (two, _) = _unit(q11), _unit(q22)
    return legs(q11, q12, q22)[1] * one * two


def legs(
    q11: Float[Array, "..."], q12: Float[Array, "..."], q22: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """q12 and √(q11 q22 − q12²), both over one power of two that brings them near 1: the sides of the angle.

    >>> [float(leg) for leg in legs(jnp.float32(2.0), jnp.float32(1.0), jnp.float32(1.0))]
    [1.0, 1.0]
    """
    (_, down1), (_, down2) = _unit(q11), _unit(q22)
    across = q12 * down1 * down2
    return across, root(determinant(q11 * down1 * down1, across, q22 * down2 * down2))


def raised_separation(
    q11: Float[Array, "..."], q12: Float[Array, "..."], q22: Float[Array, "..."]
) -> Float[Array, "..."]:
    """√((1 + q11)(1 + q22) − q12²) = √(1 + q11 + q22 + det), at any variances: 1 + q11 alone rounds to q11.

    >>> f"{raised_separation(jnp.float32(1e10), jnp.float32(1e10), jnp.float32(1e10)):.4e}"
    '1.4142e+05'
    """
    (one, _), (two, _) = _unit(1 + q11), _unit(1 + q22)
    return raised_legs(q11, q12, q22)[1] * one * two


def raised_legs(
    q11: Float[Array, "..."], q12: Float[Array, "..."], q22: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """q12 and `raised_separation`, both over one power of two that brings them near 1.

    >>> [f"{leg:.4f}" for leg in raised_legs(jnp.float32(1.0), jnp.float32(1.0), jnp.float32(1.0))]
    ['1.0000', '1.7321']
    """
    (_, down1), (_, down2) = _unit(1 + q11), _unit(1 + q22)
    low1, low2 = down1 * down1, down2 * down2  # their product is below the smallest number from variances of 1e23
    first, across, second = q11 * low1, q12 * down1 * down2, q22 * low2
    return across, root(determinant(first, across, second) + ((first + low1) * low2 + second * low1))


def _unit(q: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """2^⌊log₂(q)/2⌋ and its reciprocal, from the exponent's bits in a few integer operations, without derivative."""
    info = jnp.finfo(q.dtype)
    whole, bias = jnp.dtype(f"int{info.bits}"), (1 << (info.nexp - 1)) - 1
    exponent = (jax.lax.bitcast_convert_type(jnp.abs(jax.lax.stop_gradient(q)), whole) >> info.nmant) - bias
    powers = (bias + (exponent >> 1), bias - (exponent >> 1))
    one, down = (jax.lax.bitcast_convert_type(power << info.nmant, q.dtype) for power in powers)
    return one, down


def _series(tangent: Array) -> Array:
    """Σ_k (−1)^k t^(2k+1)/(2k+1) by Horner's rule."""
    square, total = tangent * tangent, jnp.zeros_like(tangent)
    for k in reversed(range(_terms(float(jnp.finfo(tangent.dtype).eps)))):
        total = total * square + (-1) ** k / (2 * k + 1)
    return tangent * total


def _terms(eps: float) -> int:
    """Of the series, so that the first one left out is an eighth of the rounding error."""
    return next(n for n in itertools.count(1) if _NEAR ** (2 * n) / (2 * n + 1) < eps / 8)
