"""The lazy regime under cross-entropy, which has no closed form: an adaptive Runge-Kutta integration."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, constrain, positive, require
from jaxtheory.kernels.dynamics import Trajectory, in_one_dtype
from jaxtheory.kernels.problems import asymmetric
from jaxtheory.results import Status, finite_status, status_where

# Dormand and Prince (1980), table 2: stages, fifth order, and fifth minus fourth.
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


@boundary(static=("max_steps",))
def cross_entropy_flow(
    ntk_train: Float[Array, "n n"],
    labels: Float[Array, "n o"],
    *,
    learning_rate: float | Float[Array, ""],
    times: float | Float[Array, "..."],
    initial: Float[Array, "n o"] | None = None,
    ntk_test: Float[Array, "m n"] | None = None,
    initial_test: Float[Array, "m o"] | None = None,
    tolerance: float | Float[Array, ""] = 1e-5,
    max_steps: int = 20_000,
) -> Trajectory:
    r"""Logits under gradient flow of the summed cross-entropy −Σ y log softmax(f), with a constant NTK.

        ḟ = η Θ (y − softmax f):   f_t = f_0 + Θ a_t,   f*_t = f*_0 + Θ* a_t,   ȧ = η (y − softmax(f_0 + Θ a))

    so that one equation in a [n o] serves training and test points. Dormand-Prince 5(4) with adaptive steps.

    Args:
        ntk_train, ntk_test: Θ(x, x), Θ(x_test, x).
        labels: rows of probabilities (one-hot labels). initial, initial_test: logits at time 0, 0 by default.
        learning_rate: η > 0. times: [t] or one number; finite, ≥ 0, ascending.
        tolerance: relative and absolute local error of a.
        max_steps: between two consecutive times; a step is bounded by stability, about 3/(η λ_max(Θ)).

    Returns:
        `Trajectory`; NOT_CONVERGED (with NaN from there on) where `max_steps` did not reach a time, INVALID_INPUT with
        NaN for an asymmetric Θ, one with a negative diagonal entry, or rows of labels that are no probabilities;
        NOT_FINITE for NaN and infinity, among them those of rates and times that are refused outside jit.

    Raises:
        ValueError: shapes, η ≤ 0, times that descend or are infinite (separable data have no limit).

    Derivatives: in forward mode.

    Cost: 6 products 2 n² o a step; memory n² + (8 + t) n o.
    Source: Lee et al. (2019), section 2.2; Dormand and Prince (1980).

    >>> path = cross_entropy_flow(jnp.eye(1), jnp.array([[1.0, 0.0]]), learning_rate=1.0, times=jnp.array([0.0, 1.0]))
    >>> f"{path.train[1, 0, 0]:.4f}"
    '0.3960'
    """
    require(labels.ndim == 2, "labels", f"shape {labels.shape}", "hold a row for each point", "use jax.nn.one_hot")
    arrays = in_one_dtype(ntk_train, labels, initial, ntk_test, initial_test, name="labels")
    dtype = arrays[1].dtype
    at = jnp.atleast_1d(jnp.asarray(times, dtype))
    require(at.ndim == 1, "times", f"shape {at.shape}", "be one number or an array [t]", "use times.ravel()")
    require(max_steps >= 1, "max_steps", max_steps, "be at least 1", "use 20000")
    requirement, hint = "be finite, ascending and >= 0", "separable data have no limit in time; sort them"
    at = constrain("times", at, _ascending, requirement, hint)
    rate = positive("learning_rate", learning_rate, "pass the rate of the flow, e.g. 1.0")
    tolerance = positive("tolerance", tolerance, "use 1e-5")
    return _flow(*arrays, jnp.asarray(rate, dtype), at, jnp.asarray(tolerance, dtype), max_steps)


def _ascending(times: Any) -> Any:
    ahead = times[1:] >= times[:-1]
    return (times >= 0) & (times < np.inf) & ahead.all()


@partial(jax.jit, static_argnames="max_steps")
def _flow(
    ntk: Array,
    labels: Array,
    initial: Array,
    cross: Array | None,
    initial_test: Array | None,
    rate: Array,
    times: Array,
    tolerance: Array,
    max_steps: int,
) -> Trajectory:
    def field(a: Array) -> Array:
        return rate * (labels - jax.nn.softmax(initial + _dot(ntk, a)))

    def advance(state: tuple[Array, Array], time: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        a, reached = _integrate(field, *state, time, tolerance, max_steps)
        return (a, time), (a, reached)

    a, reached = jax.lax.scan(advance, (jnp.zeros_like(labels), jnp.zeros_like(times[0])), times)[1]
    rough = asymmetric(ntk, ntk.T) | (jnp.diagonal(ntk) < 0).any()
    unlikely = (labels < 0).any() | (jnp.abs(jnp.sum(labels, axis=1) - 1) > 1e-3).any()
    numbers = (ntk, labels, initial, rate, times, tolerance)
    status = status_where(
        (finite_status(numbers) != Status.OK, Status.NOT_FINITE),
        (rough | unlikely, Status.INVALID_INPUT),
        (~reached.all(), Status.NOT_CONVERGED),
    )
    a = jnp.where((status == Status.OK) | (status == Status.NOT_CONVERGED), a, jnp.nan)
    test = None if cross is None else jnp.einsum("mn,tno->tmo", cross, a, precision="highest")
    if test is not None and initial_test is not None:
        test = test + initial_test[None]
    train = initial[None] + jnp.einsum("mn,tno->tmo", ntk, a, precision="highest")
    return Trajectory(train, test, finite_status((train, test), status))


def _integrate(
    field: Callable[[Array], Array], a: Array, start: Array, stop: Array, tolerance: Any, max_steps: int
) -> tuple[Array, Array]:
    """Dormand-Prince from `start` to `stop` (autonomous): the state, NaN if not reached, and whether it was."""

    def going(state: Any) -> Array:
        _, now, size, steps = state
        return (now < stop) & (steps < max_steps) & jnp.isfinite(size)

    def step(state: Any) -> Any:
        a, now, size, steps = state
        last = now + size >= stop
        used = jnp.where(last, stop - now, size)
        slopes = [field(a)]
        for row in _STAGES:
            new = a + used * sum((w * k for w, k in zip(row, slopes, strict=True)), jnp.zeros_like(a))
            slopes.append(field(new))
        gap = used * sum((w * k for w, k in zip(_ERROR, slopes, strict=True)), jnp.zeros_like(a))
        allowed = tolerance * (1 + jnp.maximum(jnp.abs(a), jnp.abs(new)))
        error = jnp.sqrt(jnp.mean((gap / allowed) ** 2))
        accepted = error <= 1
        factor = jnp.clip(0.9 * jnp.maximum(error, 1e-8) ** -0.2, 0.2, 5.0)
        now = jnp.where(accepted, jnp.where(last, stop, now + used), now)
        return jnp.where(accepted, new, a), now, jnp.maximum(used * factor, 1e-30), steps + 1

    first = jnp.maximum(stop - start, 0) / 100
    a, now, _, _ = jax.lax.while_loop(going, step, (a, start, first, jnp.int32(0)))
    reached = (now >= stop) & jnp.isfinite(a).all()
    return jnp.where(reached, a, jnp.full_like(a, jnp.nan)), reached


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
