r"""Students that learn from teachers on a stream of Gaussian inputs: exact dynamics of a few overlaps.

Committees by `online_sgd`; single- and multi-index models by their exponents, their flows and SGD on the sphere.

>>> one = jnp.ones((1, 1))
>>> run = online_sgd(0.25 * one, 0.1 * one, one, step_size=0.5, times=jnp.array([2.0, 10.0]))
>>> [f"{value:.4f}" for value in run.error]
['0.0824', '0.0063']
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, holds, nonnegative, positive, require
from jaxtheory.guarded import power_of_two
from jaxtheory.optimization.committee import erf_integrals, relu_integrals
from jaxtheory.optimization.index_models import (
    Escape,
    OverlapPath,
    escape_samples,
    information_exponent,
    leap_exponent,
    overlap_flow,
)
from jaxtheory.optimization.multi_index import Leap, OverlapVectors, isotropic_leap, multi_index_flow
from jaxtheory.optimization.passage import mean_escape_samples
from jaxtheory.optimization.runge_kutta import ascending, integrate
from jaxtheory.results import Status, finite_status, status_where

__all__ = [
    "Escape",
    "Leap",
    "OverlapPath",
    "OverlapVectors",
    "Overlaps",
    "escape_samples",
    "information_exponent",
    "isotropic_leap",
    "leap_exponent",
    "mean_escape_samples",
    "multi_index_flow",
    "online_sgd",
    "overlap_flow",
]

Number = float | Float[Array, ""]
_INTEGRALS = {"erf": erf_integrals, "relu": relu_integrals}


class Overlaps(NamedTuple):
    """Generalization error, overlaps of the students among themselves and with the teachers, at each time."""

    error: Float[Array, " times"]
    q: Float[Array, "times K K"]
    r: Float[Array, "times K M"]
    status: Int[Array, ""]


@boundary(static=("max_steps",))
def online_sgd(
    q: Float[Array, "K K"],
    r: Float[Array, "K M"],
    t: Float[Array, "M M"],
    *,
    step_size: Number,
    times: Float[Array, " times"],
    noise: Number = 0.0,
    activation: Literal["erf", "relu"] = "erf",
    tolerance: Number | None = None,
    max_steps: int = 100_000,
) -> Overlaps:
    r"""Overlaps under one-pass SGD of K students on M teachers as the input dimension d → ∞ (Saad and Solla).

    Fields λ_i = J_i·x/√d of students and ρ_n = B_n·x/√d of teachers, x ~ N(0, I_d), and a fresh sample a step:

        e = Σ_n g(ρ_n) − Σ_j g(λ_j) + ξ,   δ_i = g'(λ_i) e,   J_i ← J_i + (η/√d) δ_i x
        Ṙ_in = η E δ_i ρ_n,   Q̇_ik = η E(δ_i λ_k + δ_k λ_i) + η² E δ_i δ_k

    in α = steps/d, with Q = JJᵀ/d, R = JBᵀ/d, T = BBᵀ/d and error ε_g = ½ E(Σ g(ρ) − Σ g(λ))², without the noise. All
    expectations are exact: closed for erf, g(x) = erf(x/√2); for relu, g(x) = max(x, 0), the term in η² is one
    quadrature of closed functions, to round-off. Dormand-Prince 5(4) with adaptive steps.

    Args:
        q, r, t: Q, R and T at α = 0. The joint covariance [[Q, R], [Rᵀ, T]] has no negative eigenvalue, and for relu
            no zero on its diagonal.
        step_size: η > 0; too large a one makes Q diverge.
        times: α ≥ 0, ascending.
        noise: variance of ξ, ≥ 0.
        activation: "erf" or "relu".
        tolerance: local error of a step, relative to 1 + |Q|; 1e-6 in float32 and 1e-10 in float64 by default.
        max_steps: between two times.

    Returns:
        `Overlaps`; NOT_CONVERGED where `max_steps` did not reach a time, NOT_FINITE where Q overflows, both with NaN
        from there on; INVALID_INPUT (all NaN) inside jit for what is refused outside. Derivatives in forward mode.
        The error is a difference of numbers of order one: below 10 ε it is round-off. Symmetric students stay so, and
        close to symmetry the time of specialization depends on the logarithm of the asymmetry.

    Raises:
        ValueError: shapes; overlaps of no vectors; numbers out of range; times that descend (outside jit).

    Cost: 7 evaluations of K² (K + M)² integrals a step, each of 24 nodes for relu.
    Source: Saad and Solla (1995), "On-line learning in soft committee machines"; noise: Saad and Solla (1997).

    >>> path = online_sgd(jnp.eye(2), 0.1 * jnp.eye(2), jnp.eye(2), step_size=0.5, times=[10.0, 300.0])
    >>> bool(path.error[1] < path.error[0] / 4), int(path.status)
    (True, 0)
    """
    k, m = len(q), len(t)
    require(q.shape == (k, k) and k >= 1, "q", f"shape {q.shape}", "be square and not empty", "pass JJᵀ/d")
    require(t.shape == (m, m) and m >= 1, "t", f"shape {t.shape}", "be square and not empty", "pass BBᵀ/d")
    require(
        r.shape == (k, m), "r", f"shape {r.shape}", f"have shape {(k, m)}", "one row a student, one column a teacher"
    )
    require(len(times) >= 1, "times", f"shape {times.shape}", "hold at least one time", "pass e.g. [1.0]")
    require(max_steps >= 1, "max_steps", max_steps, "be at least 1", "use 100000")
    dtype = q.dtype
    tolerance = (1e-6 if dtype == jnp.float32 else 1e-10) if tolerance is None else tolerance
    at = constrain("times", times, ascending, "be finite, ascending and >= 0", "sort them")
    eta = positive("step_size", step_size, "pass a step, e.g. 0.1")
    variance = nonnegative("noise", noise, "pass a variance")
    allowed = positive("tolerance", tolerance, "use 1e-6")
    c = jnp.block([[q, r.astype(dtype)], [r.T.astype(dtype), t.astype(dtype)]])
    require(
        holds(lambda v: v, _admissible(c, activation)),
        "q",
        q,
        "form a covariance [[q, r], [r.T, t]]" + (" without zeros on its diagonal" if activation == "relu" else ""),
        "compute all three from vectors, J @ J.T / d, J @ B.T / d, B @ B.T / d",
    )
    numbers = (jnp.asarray(value, dtype) for value in (eta, variance, at, allowed))
    return _online(c, *numbers, students=k, activation=activation, max_steps=max_steps)


@partial(jax.jit, static_argnames="activation")
def _admissible(c: Array, activation: str) -> Any:
    """Whether a matrix is symmetric and positive semidefinite up to round-off."""
    c = jax.lax.stop_gradient(c)
    c = c / power_of_two(c)
    rounding = 10 * len(c) * float(jnp.finfo(c.dtype).eps)
    size = jnp.max(jnp.abs(c))
    symmetric = (jnp.abs(c - c.T) <= rounding * size).all()
    eigenvalues = jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(c), c, jnp.zeros_like(c)))
    least = 0 if activation == "relu" else -1
    return symmetric & jnp.isfinite(c).all() & (eigenvalues >= -rounding * size).all() & (jnp.diagonal(c) > least).all()


@partial(jax.jit, static_argnames=("students", "activation", "max_steps"))
def _online(
    c: Array, eta: Array, noise: Array, times: Array, tolerance: Array,
    *, students: int, activation: str, max_steps: int,
) -> Overlaps:  # fmt: skip
    ok = _admissible(c, activation) & jnp.isfinite(jnp.stack([eta, noise, tolerance, *times])).all()
    # relu is homogeneous: in units of the covariance nothing depends on its scale
    unit = power_of_two(c) if activation == "relu" else jnp.ones_like(eta)
    c, noise = c / unit, noise / unit
    k, fields = students, len(c)
    sign = jnp.asarray(np.where(np.arange(fields) < k, -1.0, 1.0), c.dtype)

    def joint(state: Array) -> Array:
        upper = state.reshape(k, fields)
        q, r = (upper[:, :k] + upper[:, :k].T) / 2, upper[:, k:]
        return jnp.block([[q, r], [r.T, c[k:, k:]]])

    def field(state: Array) -> Array:
        found = _INTEGRALS[activation](joint(state), k)
        drive = eta * jnp.einsum("ajl,l->aj", found.drive, sign, precision="highest")
        second = jnp.einsum("abcd,c,d->ab", found.push, sign, sign, precision="highest") + noise * found.slopes
        own = drive[:, :k] + drive[:, :k].T + eta**2 * second
        return jnp.concatenate([own, drive[:, k:]], axis=1).ravel()

    def error(state: Array) -> Array:
        pair = _INTEGRALS[activation](joint(state), k).pair
        total = jnp.einsum("cd,c,d->", pair, sign, sign, precision="highest") / 2
        return jnp.where(total < 0, jnp.zeros_like(total), total)

    start = jnp.where(ok, c[:k], jnp.full_like(c[:k], jnp.nan)).ravel()
    path = integrate(field, start, jnp.where(ok, times, jnp.zeros_like(times)), tolerance, max_steps)
    upper = unit * path.states.reshape(-1, k, fields)
    values = (unit * jax.lax.map(error, path.states), upper[:, :, :k], upper[:, :, k:])
    status = status_where((~ok, Status.INVALID_INPUT), (path.exhausted.any(), Status.NOT_CONVERGED))
    return Overlaps(*values, finite_status(values, status))
