"""Double descent in time: gradient flow of least squares, solved exactly, and its mean risk."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, constrain, nonnegative, require
from jaxtheory.guarded import power_of_two
from jaxtheory.kernels.matrix_functions import Action, evolve
from jaxtheory.results import Status


class FlowRisk(NamedTuple):
    """Mean squared errors along the flow, free of label noise: excess = bias + variance."""

    bias: Float[Array, " times"]
    variance: Float[Array, " times"]
    excess: Float[Array, " times"]


@boundary
def linear_flow(
    features: Float[Array, "n p"], targets: Float[Array, "n *outputs"], times: Float[Array, " times"]
) -> Float[Array, "times p *outputs"]:
    r"""Coefficients of least squares along gradient flow from zero, exactly, at any times.

        β̇ = −Xᵀ(Xβ − y)/n,   β(t) = V diag((1 − e^(−wt))/w) Vᵀ Xᵀy/n,   XᵀX/n = V diag(w) Vᵀ

    As t → ∞ it is the min-norm solution. Gradient descent of ½‖Xβ − y‖²/n with a small step η is at t = η · steps.

    Args:
        features: X, n ≥ 1 points. targets: y, [n] or [n, outputs]. times: t ≥ 0, finite.

    Returns:
        β at each time. Directions whose w is below the rounding m ε max w, m = min(n, p), grow like t until it could be
        seen that they end, and are left out of later times. First derivatives are exact, also at repeated w; second
        derivatives in X need distinct w and are NaN otherwise.

    Raises:
        ValueError: a time that is negative or not finite, data that are not finite (NaN inside `jit`), rows that do
            not match.

    Cost: one eigendecomposition of XᵀX or XXᵀ, whichever is smaller, then O(np) a time and output.
    Source: Ali, Kolter, Tibshirani (2019), equation 6.

    >>> f"{linear_flow(jnp.eye(1), jnp.ones(1), jnp.array([1.0]))[0, 0]:.4f}"
    '0.6321'
    """
    rows = len(features) >= 1 and features.shape[1] >= 1
    require(rows, "features", features.shape, "be [n, p] with n, p >= 1", "pass one row a training point")
    fits = targets.ndim in (1, 2) and len(targets) == len(features)
    require(fits, "targets", targets.shape, f"have {len(features)} rows", "pass one row a point")
    dtype = jnp.result_type(features, targets)
    features, targets = (
        constrain(name, value, lambda v: abs(v) < jnp.inf, "be finite", "drop or fill what is missing").astype(dtype)
        for name, value in (("features", features), ("targets", targets))
    )
    return _linear_flow(features, targets, _checked("times", times).astype(dtype))


@jax.jit
@jax.default_matmul_precision("highest")
def _linear_flow(features: Array, targets: Array, times: Array) -> Array:
    samples, width = features.shape
    outputs = targets.reshape(samples, -1)
    unit = power_of_two(features)
    x = features / unit
    if width <= samples:
        gram, start, back = x.T @ x / samples, x.T @ outputs / samples, jnp.eye(width, dtype=x.dtype)
    else:
        gram, start, back = x @ x.T / samples, outputs / samples, x.T
    path, status = evolve(_growth, _moved, Action(gram, start, back), times, (unit,), None)
    usable = (status == Status.OK) | (status == Status.ILL_CONDITIONED)  # directions at rounding level are left out
    path = jnp.where(usable, path, jnp.nan)
    return path.reshape(len(times), width, *targets.shape[1:])


def _growth(values: Array, kept: Array, time: Array, unit: Array) -> tuple[Array, Array]:
    """Nothing, and (1 − e^(−wt))/w for w = values · unit², times the unit."""
    rounding = values.shape[0] * float(jnp.finfo(values.dtype).eps) * jax.lax.stop_gradient(values.max())
    slow, fast = values * (unit * time) * unit, kept & (values * (unit * time) * unit > 1)
    linear = unit * time * _mean_decay(jnp.where(fast, 1, slow))
    unseen = ~kept & (rounding * (unit * time) * unit > 1)
    ended = -jnp.expm1(-jnp.where(fast, slow, 1)) / jnp.where(fast, values, 1) / unit
    return jnp.zeros_like(values), jnp.where(fast, ended, jnp.where(unseen, 0, linear))


def _mean_decay(z: Array) -> Array:
    """(1 − e^(−z))/z for 0 ≤ z ≤ 1."""
    small = z < 1e-2
    usual = jnp.where(small, 1, z)
    series = 1 - z / 2 * (1 - z / 3 * (1 - z / 4 * (1 - z / 5 * (1 - z / 6 * (1 - z / 7)))))
    return jnp.where(small, series, -jnp.expm1(-usual) / usual)


def _moved(left: Array, moved: Array, extras: None) -> Array:
    return moved


@boundary
def flow_risk(
    eigs: Float[Array, " modes"],
    beta: Float[Array, " modes"],
    n: float | Float[Array, ""],
    noise: float | Float[Array, ""],
    times: Float[Array, " times"],
) -> FlowRisk:
    r"""Mean excess risk of `linear_flow` on a design with XᵀX/n = Σ = diag(λ), over the label noise.

        bias = Σ_i λ_i β_i² e^(−2 λ_i t),   variance = (σ²/n) Σ_i (1 − e^(−λ_i t))²

    Each mode has a U of its own, from λβ² down to where signal and noise balance, and up to σ²/n. Weak modes that are
    fast and strong ones that are slow put two such U's one behind the other: two descents in one run. For a random
    design it is the limit n ≫ p.

    Args:
        eigs: λ_i ≥ 0. beta: β. n: samples ≥ modes. noise: σ² ≥ 0. times: t ≥ 0, finite.

    Raises:
        ValueError: n < modes, arguments that are negative or not finite (NaN inside `jit`).

    Cost: O(times · modes). Source: Heckel and Yilmaz (2021), theorem 1, in continuous time.

    >>> risk = flow_risk(jnp.array([1.0, 0.01]), jnp.array([1.0, 10.0]), 10, 5.0, jnp.array([0.0, 1e4]))
    >>> [f"{excess:.2f}" for excess in risk.excess]
    ['2.00', '1.00']
    """
    require(beta.shape == eigs.shape, "beta", beta.shape, f"have the shape of eigs, {eigs.shape}", "pass one each")
    dtype, modes = jnp.result_type(eigs, beta), len(eigs)
    times, eigs, noise = (_checked(*given) for given in (("times", times), ("eigs", eigs), ("noise", noise)))
    beta = constrain("beta", beta, lambda b: abs(b) < jnp.inf, "be finite", "pass coefficients in the eigenbasis")
    hint = "draw more samples, for XᵀX/n = Σ to be possible"
    enough = f"be finite and >= {max(modes, 1)}, the number of modes"
    n = constrain("n", n, lambda count: (count >= max(modes, 1)) & (count < jnp.inf), enough, hint)
    numbers = (jnp.asarray(value, dtype) for value in (eigs, beta, n, noise, times))
    return _flow_risk(*numbers)


@jax.jit
def _flow_risk(eigs: Array, beta: Array, n: Array, noise: Array, times: Array) -> FlowRisk:
    passed = times[:, None] * eigs[None, :]
    bias = jnp.sum((eigs * beta**2)[None, :] * jnp.exp(-2 * passed), axis=1)
    variance = noise / n * jnp.sum(jnp.expm1(-passed) ** 2, axis=1)
    return FlowRisk(bias, variance, bias + variance)


def _checked(name: str, value: Any) -> Any:
    return nonnegative(name, value, "the flow starts at 0" if name == "times" else "check its sign")
