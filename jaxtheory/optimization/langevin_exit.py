r"""How long noise needs to push a particle off a saddle: dx = γx dt + √(2ε) dW from 0 until |x| = 1."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, positive, require
from jaxtheory.results import Status, status_where

_NODES, _PANELS = 24, 32
_LONGEST = 2**30  # steps, which are counted by int32
Number = float | Float[Array, ""]


class Exit(NamedTuple):
    """Time of the first passage of |x| = 1; status `NOT_CONVERGED` where `max_time` came first."""

    time: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("gamma", "noise"))
def mean_exit_time(gamma: float, noise: float) -> float:
    r"""The exact expectation: E T = (2/γ) ∫₀^a D(u) du with Dawson's D and a = √(γ/2ε).

    As ε → 0 it is (1/2γ)(ln(γ/ε) + ln 2 + γ_E), the logarithm that Langevin dynamics pays per saddle.

    Args:
        gamma: γ > 0.
        noise: ε > 0, the temperature.

    Raises:
        ValueError: numbers that are not positive, or traced. Accuracy: 1e-13. Cost: 768 evaluations of D.

    Source: solves ε u'' + γ x u' = −1, u(±1) = 0; Gardiner (2009), section 5.2.7.

    >>> f"{mean_exit_time(1.0, 1e-6):.4f} {(np.log(1e6) + np.log(2) + np.euler_gamma) / 2:.4f}"
    '7.5429 7.5429'
    """
    for name, value in (("gamma", gamma), ("noise", noise)):
        hint = "without it the particle never leaves by itself"
        require(0 < value < np.inf, name, value, "be > 0 and finite", hint)
    from scipy.special import dawsn

    end = gamma**0.5 / (2 * noise) ** 0.5
    # Dawson's integral is entire and slow beyond 1: panels that grow with u resolve it to round-off
    cuts = np.concatenate([[0.0], np.geomspace(min(0.5, end), end, _PANELS)])
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    middle, half = (cuts[1:] + cuts[:-1]) / 2, (cuts[1:] - cuts[:-1]) / 2
    values = dawsn(middle[:, None] + half[:, None] * nodes)
    return float(2 / gamma * (half[:, None] * weights * values).sum())


@boundary
def exit_time(
    key: Key[Array, ""], *, gamma: Number, noise: Number, step_size: Number = 1e-2, max_time: Number = 1e3
) -> Exit:
    r"""First time at which |x| = 1 for dx = γx dt + √(2ε) dW, x(0) = 0; vmap over keys for a mean.

    The transition over one step h is exact, x ← e^{γh} x + √(ε(e^{2γh} − 1)/γ) ξ, and the passage is interpolated
    within its step. What remains is that a path may cross and return unseen: late by about 0.58 √(2εh)/γ.

    Args:
        key: of the noise.
        gamma, noise: γ > 0 and ε > 0.
        step_size: h > 0, well below 1/γ.
        max_time: give up there, or after 2^30 steps.

    Returns:
        `Exit`; status `NOT_CONVERGED` where the particle is still inside, `INVALID_INPUT` inside jit for an argument
        that is not positive, `NOT_FINITE` where e^{γh} or the noise leaves the dtype.

    Raises:
        ValueError: an argument that is not positive (outside jit).

    Cost: T/h steps of O(1). Source: Gardiner (2009), section 5.2.7; the overshoot, Siegmund (1985), chapter 10.

    >>> bool(exit_time(jax.random.key(0), gamma=1.0, noise=1e-3).time > 1.0)
    True
    """
    named = (("gamma", gamma), ("noise", noise), ("step_size", step_size), ("max_time", max_time))
    return _exit(key, *(jnp.asarray(positive(name, value, "pass a positive number"), float) for name, value in named))


@jax.jit
def _exit(key: Array, gamma: Array, noise: Array, h: Array, max_time: Array) -> Exit:
    dtype = h.dtype
    stretch, spread = jnp.exp(gamma * h), jnp.sqrt(noise * jnp.expm1(2 * gamma * h) / gamma)
    limit = jnp.clip(max_time / h, 1, _LONGEST).astype(jnp.int32)

    def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        _, x, step = state
        xi = jax.random.normal(jax.random.fold_in(key, step), (), dtype)
        return x, stretch * x + spread * xi, step + 1

    start = (0 * h, 0 * h, jnp.int32(0))
    before, after, step = lax.while_loop(lambda s: (jnp.abs(s[1]) < 1) & (s[2] < limit), body, start)
    within = (1 - jnp.abs(before)) / (jnp.abs(after) - jnp.abs(before))
    inside = jnp.abs(after) < 1
    time = (step.astype(dtype) - 1 + jnp.where(inside, 1, within)) * h
    invalid = jnp.isnan(jnp.stack([gamma, noise, h, max_time])).any()
    broken = ~jnp.isfinite(jnp.stack([stretch, spread, after, time])).all()
    status = status_where((invalid, Status.INVALID_INPUT), (broken, Status.NOT_FINITE), (inside, Status.NOT_CONVERGED))
    return Exit(time, status)
