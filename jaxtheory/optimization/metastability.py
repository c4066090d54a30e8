"""How long noise needs to carry descent over a saddle into another valley, with the curvatures of both."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import Checked, boundary, constrain, positive, require
from jaxtheory.results import Status, finite_status, status_where

Number = float | Float[Array, ""]


class Crossing(NamedTuple):
    """Mean crossing time as its logarithm, log_time = log prefactor + barrier/ε, and its parts.

    `shift` is the largest |½ gᵀH⁻¹g|/ε of the two points, by which log_time errs where they are not quite critical.
    """

    log_time: Float[Array, ""]
    prefactor: Float[Array, ""]
    barrier: Float[Array, ""]
    shift: Float[Array, ""]
    status: Int[Array, ""]


@boundary
def eyring_kramers(
    potential: Callable[..., Any], minimum: Float[Array, " d"], saddle: Float[Array, " d"], *, temperature: Number
) -> Crossing:
    r"""Mean time of dx = −∇V dt + √(2ε) dW from a minimum over a saddle to a deeper or equal minimum behind it.

        E T = (2π/|λ₁|) √(|det ∇²V(s)| / det ∇²V(m)) e^{(V(s) − V(m))/ε} (1 + O(√ε |log ε|^{3/2}))

    with λ₁ the one negative eigenvalue at the saddle. SGD of step η with gradient noise of covariance σ²I has
    ε = ησ²/2. The saddle itself is reached in half of this time.

    Args:
        potential: V(x), a scalar of a vector [d], twice differentiable.
        minimum, saddle: m and s, critical points.
        temperature: ε > 0, small against the barrier V(s) − V(m).

    Returns:
        `Crossing`. INVALID_INPUT where the Hessian at m is not positive definite or that at s has not exactly one
        negative eigenvalue and no zero, or where the barrier is not positive; NOT_CONVERGED where the points are so far
        from critical that log_time may err by more than 10⁻³. Differentiable.

    Raises:
        ValueError: shapes, a potential that is not a scalar, numbers that are not finite or ε ≤ 0 (outside jit).

    Cost: two Hessians and their eigenvalues. Source: Bovier, Eckhoff, Gayrard, Klein (2004), "Metastability in
    reversible diffusion processes I", sharp asymptotics of exit times.

    >>> well = lambda x: (x[0] ** 2 - 1) ** 2 / 4 + x[1] ** 2
    >>> found = eyring_kramers(well, jnp.array([-1.0, 0.0]), jnp.array([0.0, 0.0]), temperature=0.05)
    >>> f"{found.barrier:.2f} {found.prefactor:.4f} {math.pi * math.sqrt(2):.4f} {found.log_time:.3f}"
    '0.25 4.4429 4.4429 6.491'
    """
    same = minimum.shape == saddle.shape and minimum.size >= 1
    require(same, "saddle", f"shape {saddle.shape}", f"have the shape of minimum, {minimum.shape}", "pass two points")
    finite = lambda v: (v > -np.inf) & (v < np.inf)  # noqa: E731
    points = (
        constrain(name, value, finite, "be finite", "pass critical points")
        for name, value in (("minimum", minimum), ("saddle", saddle))
    )
    eps = jnp.asarray(positive("temperature", temperature, "pass e.g. a fifth of the barrier"), minimum.dtype)
    return _crossing(Checked("potential", potential), *points, eps)


@partial(jax.jit, static_argnames="potential")
def _crossing(potential: Callable[..., Any], minimum: Array, saddle: Array, eps: Array) -> Crossing:
    def at(x: Array) -> tuple[Array, Array, Array, Array]:
        gradient, hessian = jax.grad(potential)(x), jax.hessian(potential)(x)
        values = jnp.linalg.eigvalsh(hessian)
        moved = jnp.dot(gradient, jnp.linalg.solve(hessian, gradient), precision="highest") / (2 * eps)
        return potential(x), values, jnp.linalg.slogdet(hessian)[1], jnp.abs(moved)

    low, curvatures, log_volume, shift = at(minimum)
    high, bends, log_bent, shift_high = at(saddle)
    # eigenvalues within round-off of 0 have no sign
    least = 10 * len(minimum) * float(jnp.finfo(minimum.dtype).eps)
    shaped = (curvatures[0] > least * curvatures[-1]) & (bends[0] < 0)
    shaped &= (bends[1:] > least * jnp.max(jnp.abs(bends))).all() & (high > low)
    log_prefactor = math.log(2 * math.pi) - jnp.log(-bends[0]) + (log_bent - log_volume) / 2
    shift = jax.lax.stop_gradient(jnp.maximum(shift, shift_high))
    values = jnp.stack([log_prefactor + (high - low) / eps, jnp.exp(log_prefactor), high - low, shift])
    log_time, prefactor, barrier, shift = jnp.where(shaped, values, jnp.full_like(values, jnp.nan))
    status = status_where((~shaped, Status.INVALID_INPUT), (shift > 1e-3, Status.NOT_CONVERGED))
    return Crossing(log_time, prefactor, barrier, shift, finite_status(values, status))
