r"""The landscape on which gradient descent needs exponential time: a tube that turns at each of d saddles.

With a = |x| and i the first coordinate that still waits (a_i ≤ 2τ), the value depends on where a_i stands:

    a_i ≤ τ:      L Σ_{j<i} (a_j − 4τ)² − γ a_i² + L Σ_{j>i} a_j² − (i − 1) ν
    τ < a_i ≤ 2τ: L Σ_{j<i} (a_j − 4τ)² + g₁(a_i) + g₂(a_i) a²_{i+1} + L Σ_{j>i+1} a_j² − (i − 1) ν
    none waits:   L Σ (a_j − 4τ)² − d ν

Each saddle has one downhill direction; while descent leaves along it, every later coordinate shrinks.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, positive, require

Number = float | Float[Array, ""]


class Turn(NamedTuple):
    """The two polynomials that carry the tube round a corner, and the drop of height from saddle to saddle."""

    height: Float[Array, "..."]
    stiffness: Float[Array, "..."]


def turn(a: Float[Array, "..."], *, L: Number, gamma: Number, tau: Number) -> Turn:
    r"""g₁ and g₂ on (τ, 2τ], where they join both sides twice differentiably.

        g₁(a) = −γ a² + (10γ − 14L)/(3τ) (a − τ)³ + (5L − 3γ)/(2τ²) (a − τ)⁴
        g₂(a) = −γ − (L + γ)(10 v³ + 15 v⁴ + 6 v⁵),  v = (a − 2τ)/τ

    Source: Du, Jin, Lee, Jordan, Póczos, Singh (2017), equations (2) and (3).

    >>> t = turn(jnp.array(2.0), L=1.0, gamma=1.0, tau=1.0)
    >>> float(t.stiffness)
    -1.0
    """
    s, v = a - tau, (a - 2 * tau) / tau
    height = -gamma * a**2 + (10 * gamma - 14 * L) / (3 * tau) * s**3 + (5 * L - 3 * gamma) / (2 * tau**2) * s**4
    return Turn(height, -gamma - (L + gamma) * (10 * v**3 + 15 * v**4 + 6 * v**5))


@boundary
def octopus(x: Float[Array, " d"], *, L: Number, gamma: Number, tau: Number) -> Float[Array, ""]:
    r"""The value of the landscape at `x`; differentiate it twice with `jax.grad` and `jax.hessian`.

    Args:
        x: d ≥ 1 coordinates, those after the first that waits within τ, the others within 6τ: the tube around the
            course of gradient descent, on which the landscape is defined. Elsewhere the value is NaN.
        L: curvature of the walls, > 0.
        gamma: γ > 0, curvature of the downhill direction at each saddle.
        tau: τ > 0, half the length of the way between two turns.

    Returns:
        f(x). Saddles at height −(i−1)ν, minima |x_j| = 4τ at −dν with ν = (37L/6 + 13γ/6)τ².

    Raises:
        ValueError: L, γ or τ not positive (outside jit; NaN inside), no coordinate.

    Cost: O(d). Source: Du, Jin, Lee, Jordan, Póczos, Singh (2017), section 4.

    >>> f"{octopus(jnp.array([4.0, 4.0]), L=1.0, gamma=1.0, tau=1.0):.4f}"
    '-16.6667'
    """
    require(len(x) >= 1, "x", x.shape, "have a coordinate", "pass a point of dimension 1 or more")
    return _octopus(x, *(jnp.asarray(value, x.dtype) for value in landscape(L, gamma, tau)))


@jax.jit
def _octopus(x: Array, L: Number, gamma: Number, tau: Number) -> Array:
    a = jnp.where(x < 0, -x, x)  # unlike |x|, twice differentiable through zero
    order = jnp.arange(x.shape[0])
    first = waiting(a, tau)
    here = a[jnp.minimum(first, x.shape[0] - 1)]
    turning = (first < x.shape[0]) & (here > tau)
    corner = turn(here, L=L, gamma=gamma, tau=tau)
    coupled = jnp.where(turning, corner.stiffness, L)
    walls = jnp.where(order < first, L * (a - 4 * tau) ** 2, 0)
    walls += jnp.where(order == first, jnp.where(turning, corner.height, -gamma * a**2), 0)
    walls += jnp.where(order == first + 1, coupled * a**2, 0) + jnp.where(order > first + 1, L * a**2, 0)
    drop = (37 * L / 6 + 13 * gamma / 6) * tau**2
    inside = jnp.where(order < first + 1, a <= 6 * tau, a <= tau).all()
    return jnp.where(inside, walls.sum() - first.astype(x.dtype) * drop, jnp.nan)


def waiting(a: Float[Array, " d"], tau: Number) -> Array:
    """The first coordinate that waits, a_i ≤ 2τ, counted from 0; d where none does.

    >>> int(waiting(jnp.array([4.0, 1.0, 0.0]), 1.0))
    1
    """
    waits = a <= 2 * tau
    return jnp.where(waits.any(), jnp.argmax(waits), a.shape[0])


def landscape(L: Number, gamma: Number, tau: Number) -> tuple[Number, Number, Number]:
    """The three constants, which are positive: outside `jit` others raise, inside they become NaN.

    >>> landscape(1.0, 1.0, 2.72)
    (1.0, 1.0, 2.72)
    """
    hint = "see Du et al. (2017): L=1, gamma=1, tau=e"
    return positive("L", L, hint), positive("gamma", gamma, hint), positive("tau", tau, hint)
