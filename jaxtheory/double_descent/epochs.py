"""Double descent in time: gradient flow of least squares, solved exactly, and its mean risk."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import holds, require
from jaxtheory.double_descent.asymptotics import Number


class FlowRisk(NamedTuple):
    """Mean squared errors along the flow, free of label noise: excess = bias + variance."""

    bias: Float[Array, " times"]
    variance: Float[Array, " times"]
    excess: Float[Array, " times"]


def linear_flow(
    features: Float[Array, "n p"], targets: Float[Array, "n *outputs"], times: Float[Array, " times"]
) -> Float[Array, "times p *outputs"]:
    r"""Coefficients of least squares along gradient flow from zero, exactly, at any times.

        β̇ = −Xᵀ(Xβ − y)/n,   β(t) = V diag((1 − e^(−wt))/w) Vᵀ Xᵀy/n,   XᵀX/n = V diag(w) Vᵀ

    As t → ∞ it is the min-norm solution. Gradient descent of ½‖Xβ − y‖²/n with a small step η is at t = η · steps.

    Args:
        features: X. targets: y. times: t ≥ 0.

    Returns:
        β at each time.

    Raises:
        ValueError: a negative or NaN time.

    Cost: one eigendecomposition of p × p, then O(p²) a time and output.
    Source: Ali, Kolter, Tibshirani (2019), equation 6.

    >>> f"{linear_flow(jnp.eye(1), jnp.ones(1), jnp.array([1.0]))[0, 0]:.4f}"
    '0.6321'
    """
    _check_times(times)
    return _linear_flow(features, targets, times)


@jax.jit
@jax.default_matmul_precision("highest")
def _linear_flow(features: Array, targets: Array, times: Array) -> Array:
    samples = len(features)
    rates, vectors = jnp.linalg.eigh(features.T @ features / samples)
    rates = jnp.maximum(rates, 0)
    pull = vectors.T @ (features.T @ targets.reshape(samples, -1)) / samples
    moving = rates[None, :] > 0
    decay = -jnp.expm1(-times[:, None] * rates[None, :])
    gain = jnp.where(moving, decay / jnp.where(moving, rates[None, :], 1), times[:, None])
    path = jnp.einsum("pm,tm,mo->tpo", vectors, gain, pull)
    return path.reshape(len(times), features.shape[1], *targets.shape[1:])


def flow_risk(
    eigs: Float[Array, " modes"],
    beta: Float[Array, " modes"],
    n: Number,
    noise: Number,
    times: Float[Array, " times"],
) -> FlowRisk:
    r"""Mean excess risk of `linear_flow` on a design with XᵀX/n = Σ = diag(λ), over the label noise.

        bias = Σ_i λ_i β_i² e^(−2 λ_i t),   variance = (σ²/n) Σ_i (1 − e^(−λ_i t))²

    Each mode has a U of its own, from λβ² down to where signal and noise balance, and up to σ²/n. Weak modes that are
    fast and strong ones that are slow put two such U's one behind the other: two descents in one run. For a random
    design it is the limit n ≫ p.

    Args:
        eigs: λ_i ≥ 0. beta: β. n: samples ≥ modes. noise: σ² ≥ 0. times: t ≥ 0.

    Raises:
        ValueError: n < modes, negative arguments.

    Cost: O(times · modes). Source: Heckel and Yilmaz (2021), theorem 1, in continuous time.

    >>> risk = flow_risk(jnp.array([1.0, 0.01]), jnp.array([1.0, 10.0]), 10, 5.0, jnp.array([0.0, 1e4]))
    >>> [f"{excess:.2f}" for excess in risk.excess]
    ['2.00', '1.00']
    """
    _check_times(times)
    for name, value in (("eigs", eigs), ("noise", noise)):
        require(holds(lambda v: (v >= 0) & np.isfinite(v), value), name, value, "be finite and >= 0", "check its sign")
    full = holds(lambda count: count >= len(eigs), n)
    require(full, "n", n, f"be >= {len(eigs)}, the number of modes", "draw more samples, for XᵀX/n = Σ to be possible")
    left = jnp.exp(-times[:, None] * eigs[None, :])
    bias = jnp.sum((eigs * beta**2)[None, :] * left**2, axis=1)
    variance = jnp.asarray(noise / n, eigs.dtype) * jnp.sum(jnp.expm1(-times[:, None] * eigs[None, :]) ** 2, axis=1)
    return FlowRisk(bias, variance, bias + variance)


def _check_times(times: Array) -> None:
    require(holds(lambda t: t >= 0, times), "times", times, "be >= 0", "the flow starts at 0")
