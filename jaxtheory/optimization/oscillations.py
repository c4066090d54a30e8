"""The oscillation of descent at large steps, to next order in its size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import Checked, boundary, constrain, positive, quantity, require
from jaxtheory.guarded import norm, over

Number = float | Float[Array, ""]


@boundary
def steady_curvature(
    loss: Callable[..., Any], center: PyTree, offset: PyTree, *, step_size: Number, beta: Number = 0.0
) -> Float[Array, ""]:
    r"""The curvature at which an oscillation of gradient descent with momentum keeps its size, to next order in it.

        v ← βv + ∇L(x), x ← x − ηv at x = w ± δ in turns:
        δᵀ∇²L(w)δ/‖δ‖² = 2(1 + β)/η − ∇⁴L(w)[δ, δ, δ, δ]/(6‖δ‖²) + O(‖δ‖⁴)

    The part of the gradient that changes sign, ∇²L δ + ∇⁴L[δ, δ, δ]/6 + …, must be 2(1 + β)δ/η. The curvature is larger
    by (1 − β) log(‖δ′‖/‖δ‖)/η while the oscillation grows to δ′ in a step. The curvature along it is what this law
    holds for: a direction v that does not oscillate may be sharper than 2/η, for it is stable to next order below
    2/η − ∇⁴L[δ, δ, v, v]/2 + ‖(∇²L)^(−½)∇³L[δ, v]‖².

    Args:
        loss: `loss(params)`, a scalar, four times differentiable.
        center: w, the average of successive steps, e.g. (x₀ + 2x₁ + x₂)/4.
        offset: δ, half of what the steps alternate by, e.g. (x₀ − 2x₁ + x₂)/4; 0 gives 2(1 + β)/η.
        step_size: η > 0.
        beta: β of the momentum, in [0, 1).

    Raises:
        ValueError: an offset of another size, a loss that is not a scalar, numbers out of range (outside jit; NaN
            inside).

    Cost: a fourth derivative along one direction, about 16 losses.
    Source: leading order, Cohen, Kaur, Li, Kolter, Talwalkar (2021); the next order is the equation above.

    >>> w, step = jnp.zeros(()), jnp.asarray(0.1)  # L = x² − x⁴: at a cycle of size δ, 2 − 4δ² = 2/η
    >>> f"{steady_curvature(lambda x: x**2 - x**4, w, step, step_size=2 / 1.96):.3f}"
    '2.000'
    """
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(quantity("center", leaf)), center))
    moved = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(quantity("offset", leaf)), offset))[0]
    require(moved.shape == flat.shape, "offset", moved.shape, f"hold {flat.size} numbers", "pass one like the center")
    eta = positive("step_size", step_size, "pass the step of the descent")
    b = constrain("beta", beta, lambda v: (v >= 0) & (v < 1), "lie in [0, 1)", "pass e.g. beta=0.9")
    moved = moved.astype(flat.dtype)
    size = norm(moved)
    direction = over(moved, size)

    value = Checked("loss", lambda t: loss(unravel(flat + t * direction)))
    origin = jnp.zeros((), flat.dtype)
    fourth = _slope(_slope(_slope(_slope(value))))(origin)
    found = 2 * (1 + b) / eta - size**2 * fourth / 6
    return jnp.where(jnp.isfinite(flat).all(), found, jnp.nan)  # a derivative may be the same at every center


def _slope(value: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The derivative of a function of one number."""
    return lambda t: jax.jvp(value, (t,), (jnp.ones_like(t),))[1]
