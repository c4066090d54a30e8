"""Training dynamics of the lazy regime in closed form: flow, heavy ball, discrete steps, infinite ensembles.

The loss is L = ½ Σ (f − y)², summed over samples and outputs, so that gradient flow at rate η is ḟ = −η Θ (f − y). For
a mean over n samples pass η/n; for NTK Grams of several outputs that couple, pass [n o, n o] and y raveled.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import known, require
from jaxtheory.kernels.ridge_path import eigenpairs
from jaxtheory.results import Status, status_where


class Trajectory(NamedTuple):
    """Outputs at every time: on the training points and, where they were given, on test points (else None)."""

    train: Float[Array, "t n ..."]
    test: Float[Array, "t m ..."] | None
    status: Int[Array, ""]


class Ensemble(NamedTuple):
    """Mean and covariance at every time over infinitely wide networks that differ in their initial weights."""

    mean: Float[Array, "t m ..."]
    covariance: Float[Array, "t m m"]
    status: Int[Array, ""]


def gradient_flow(
    ntk_train: Float[Array, "n n"],
    y: Float[Array, "n ..."],
    *,
    learning_rate: Any,
    times: Float[Array, " t"],
    friction: Any | None = None,
    initial: Float[Array, "n ..."] | None = None,
    ntk_test: Float[Array, "m n"] | None = None,
    initial_test: Float[Array, "m ..."] | None = None,
) -> Trajectory:
    r"""Outputs under gradient flow, or heavy-ball flow, of the squared loss, at all `times`, infinity included.

        flow:        u̇ = −η Θ u,            u = f − y:   f_t = y + e^(−ηΘt) (f_0 − y)
        heavy ball:  ü + γ u̇ + η Θ u = 0,   u̇(0) = 0, friction γ > 0
        test points: f*_t = f*_0 + Θ* Θ⁻¹ (I − u_t u_0⁻¹) (y − f_0)

    (I − u_t u_0⁻¹)/λ is evaluated by `expm1`, so that null directions of Θ are as exact as the others.

    Args:
        ntk_train: Θ(x, x). ntk_test: Θ(x_test, x).
        y: targets. initial, initial_test: f_0 at the training and test points, 0 by default.
        learning_rate: η > 0. times: ≥ 0, `inf` allowed.
        friction: γ of heavy-ball flow; None is gradient flow. Heavy-ball SGD with momentum μ and step h is near
            γ = (1 − μ)/√h, η = 1, t = k √h.

    Returns:
        `Trajectory`; status INVALID_INPUT with NaN for an indefinite or asymmetric Θ.

    Raises:
        ValueError: shapes, η ≤ 0, negative times, friction ≤ 0.

    Cost: one eigendecomposition (≈ 9 n³ flops, 2 n² memory), then 2 n (n + m) o a time.
    Source: Lee et al. (2019), equations 8-11; Polyak (1964) for the heavy ball.

    >>> path = gradient_flow(jnp.eye(1), jnp.ones(1), learning_rate=1.0, times=jnp.array([0.0, 1.0, jnp.inf]))
    >>> f"{path.train[1, 0]:.4f} {path.train[2, 0]:.4f}"
    '0.6321 1.0000'
    """
    _check(ntk_train, y, learning_rate, times, ntk_test)
    if friction is None:
        solution, arguments = _exponential, (jnp.asarray(learning_rate, y.dtype),)
    else:
        if known(friction):
            require(float(friction) > 0, "friction", friction, "be > 0 to come to rest", "use None for gradient flow")
        rates = jnp.asarray(learning_rate, y.dtype), jnp.asarray(friction, y.dtype)
        solution, arguments = _heavy_ball, rates  # type: ignore[assignment]
    return _trajectory(solution, ntk_train, y, initial, ntk_test, initial_test, times, arguments)


def gradient_descent(
    ntk_train: Float[Array, "n n"],
    y: Float[Array, "n ..."],
    *,
    learning_rate: Any,
    steps: Int[Array, " t"],
    momentum: Any = 0.0,
    initial: Float[Array, "n ..."] | None = None,
    ntk_test: Float[Array, "m n"] | None = None,
    initial_test: Float[Array, "m ..."] | None = None,
) -> Trajectory:
    r"""Outputs after k steps of gradient descent with momentum μ on the squared loss, for every k in `steps`.

        θ_{k+1} = θ_k − η ∇L + μ (θ_k − θ_{k−1}):   u_{k+1} = (1 + μ − ηλ) u_k − μ u_{k−1},   u_0 = u_{−1}

    for each eigenvalue λ of Θ, by powers of the recursion's 3×3 matrix (31 squarings, whatever k). It converges for
    ηλ < 2(1 + μ); beyond, the trajectory diverges, and where it overflows the status is NOT_FINITE.

    Args, Returns, Raises: as `gradient_flow`; optax.sgd(η, momentum=μ) is this recursion.

    Cost: one eigendecomposition, then 31 · 54 n + 2 n (n + m) o flops a step asked for.
    Source: Polyak (1964); Lee et al. (2019), section 2.2.

    >>> path = gradient_descent(jnp.eye(1), jnp.ones(1), learning_rate=0.5, steps=jnp.array([0, 1, 2]))
    >>> f"{path.train[:, 0]}"
    '[0.   0.5  0.75]'
    """
    _check(ntk_train, y, learning_rate, steps, ntk_test)
    rates = jnp.asarray(learning_rate, y.dtype), jnp.asarray(momentum, y.dtype)
    return _trajectory(_powers, ntk_train, y, initial, ntk_test, initial_test, steps, rates)


def ensemble_flow(
    ntk_train: Float[Array, "n n"],
    ntk_test: Float[Array, "m n"],
    nngp_train: Float[Array, "n n"],
    nngp_test: Float[Array, "m n"],
    nngp_test_test: Float[Array, "m m"],
    y: Float[Array, "n ..."],
    *,
    learning_rate: Any,
    times: Float[Array, " t"],
) -> Ensemble:
    r"""Mean and covariance of infinitely many networks trained by gradient flow from NNGP initial outputs.

    With G_t = Θ* Θ⁻¹ (I − e^(−ηΘt)), K the NNGP kernel:

        mean = G_t y,   covariance = K** + G_t K G_tᵀ − G_t K*ᵀ − K* G_tᵀ

    Args:
        ntk_train, ntk_test: Θ(x, x), Θ(x_test, x).
        nngp_train, nngp_test, nngp_test_test: K(x, x), K(x_test, x), K(x_test, x_test).
        y: targets, [n] or [n outputs]. learning_rate, times: as in `gradient_flow`.

    Cost: one eigendecomposition and 2 n m (n + 2 m) flops a time; memory 3 n² + t m².
    Source: Lee et al. (2019), equations 14-16 (Corollary 1).

    >>> one = jnp.eye(1)
    >>> found = ensemble_flow(one, one, one, one, one, jnp.ones(1), learning_rate=1.0, times=jnp.array([0.0, jnp.inf]))
    >>> f"{found.mean[:, 0]} {found.covariance[:, 0, 0]}"
    '[0. 1.] [1. 0.]'
    """
    _check(ntk_train, y, learning_rate, times, ntk_test)
    kernels = (ntk_train, ntk_test, nngp_train, nngp_test, nngp_test_test)
    return _ensemble(*kernels, y, jnp.asarray(learning_rate, y.dtype), times)


def _check(ntk_train: Array, y: Array, learning_rate: Any, times: Array, ntk_test: Array | None) -> None:
    n = y.shape[0]
    require(ntk_train.shape == (n, n), "ntk_train", ntk_train.shape, f"be {n} by {n}, as y has {n} rows", "check both")
    if ntk_test is not None:
        require(ntk_test.shape[1] == n, "ntk_test", ntk_test.shape, f"have {n} columns", "pass Θ(x_test, x)")
    if known(learning_rate, times):
        require(float(learning_rate) > 0, "learning_rate", learning_rate, "be > 0", "pass the rate of the flow")
        require(not (np.asarray(times) < 0).any(), "times", times, "be >= 0", "start at 0")


@partial(jax.jit, static_argnums=0)
def _trajectory(
    solution: Callable[..., tuple[Array, Array]],
    ntk: Array,
    y: Array,
    initial: Array | None,
    cross: Array | None,
    initial_test: Array | None,
    times: Array,
    rates: tuple[Array, ...],
) -> Trajectory:
    pairs = eigenpairs(ntk)
    start = jnp.zeros_like(y) if initial is None else initial
    projected = _dot(pairs.vectors.T, (start - y).reshape(y.shape[0], -1))
    lifted = None if cross is None else _dot(cross, pairs.vectors)

    def at(time: Array) -> tuple[Array, Array | None]:
        left, gain = solution(pairs.values, pairs.kept, time, *rates)
        train = y + _dot(pairs.vectors, left[:, None] * projected).reshape(y.shape)
        if lifted is None:
            return train, None
        moved = -_dot(lifted, gain[:, None] * projected).reshape(-1, *y.shape[1:])
        return train, moved if initial_test is None else initial_test + moved

    train, test = jax.lax.map(at, times)
    seen = jnp.isfinite(train).all() & (True if test is None else jnp.isfinite(test).all())
    status = jnp.where(pairs.status == Status.OK, status_where((~seen, Status.NOT_FINITE)), pairs.status)
    return Trajectory(train, test, status)


@jax.jit
def _ensemble(
    ntk: Array, cross: Array, nngp: Array, nngp_cross: Array, nngp_test: Array, y: Array, rate: Array, times: Array
) -> Ensemble:
    pairs = eigenpairs(ntk)
    lifted = _dot(cross, pairs.vectors)

    def at(time: Array) -> tuple[Array, Array]:
        gain = _exponential(pairs.values, pairs.kept, time, rate)[1]
        g = _dot(lifted * gain[None], pairs.vectors.T)
        mixed = _dot(g, nngp_cross.T)
        return jnp.tensordot(g, y, 1, precision="highest"), nngp_test + _dot(_dot(g, nngp), g.T) - mixed - mixed.T

    mean, covariance = jax.lax.map(at, times)
    bad = ~(jnp.isfinite(mean).all() & jnp.isfinite(covariance).all())
    status = jnp.where(pairs.status == Status.OK, status_where((bad, Status.NOT_FINITE)), pairs.status)
    return Ensemble(mean, covariance, status)


def _exponential(values: Array, kept: Array, time: Array, rate: Array) -> tuple[Array, Array]:
    """(u_t/u_0, (1 − u_t/u_0)/λ) of u̇ = −ηλu; a null direction never moves, and at infinity gains nothing."""
    exponent = jnp.where(kept, rate * jnp.where(kept, values, 1) * time, 0)
    finite = jnp.where(jnp.isfinite(time), time, 0)
    gain = jnp.where(kept, -jnp.expm1(-exponent) / jnp.where(kept, values, 1), rate * finite)
    return jnp.exp(-exponent), gain


def _heavy_ball(values: Array, kept: Array, time: Array, rate: Array, friction: Array) -> tuple[Array, Array]:
    """The same for ü + γu̇ + ηλu = 0, u̇(0) = 0: ω² = γ²/4 − ηλ, slow root r = −ηλ/(γ/2 + ω), D = (1 − e^(−2ωt))/2ω.

    Overdamped u = e^(rt)(1 − rD), from which 1 − u has no cancellation at small λ; else damped cosines.
    """
    stopped = jnp.isinf(time)
    t = jnp.where(stopped, 0, time)
    square = friction**2 / 4 - rate * values
    over = square > 0
    omega = jnp.sqrt(jnp.where(over, square, 1))
    pull = rate / (friction / 2 + omega)
    delay, decay = -jnp.expm1(-2 * omega * t) / (2 * omega), jnp.exp(-pull * values * t)
    safe = jnp.where(kept, values, 1)
    idle = pull * (t - delay)
    over_gain = jnp.where(kept, -jnp.expm1(-pull * values * t) / safe - pull * delay * decay, idle)
    turning = jnp.sqrt(jnp.where(over, 1, -square))
    sine = t * jnp.sinc(turning * t / jnp.pi)
    under_left = jnp.exp(-friction * t / 2) * (jnp.cos(turning * t) + friction / 2 * sine)
    left = jnp.where(over, decay * (1 + pull * values * delay), under_left)
    gain = jnp.where(over, over_gain, (1 - under_left) / safe)
    null = jnp.where(kept, 0, 1).astype(values.dtype)
    return jnp.where(stopped, null, left), jnp.where(stopped, (1 - null) / safe, gain)


def _powers(values: Array, kept: Array, step: Array, rate: Array, momentum: Array) -> tuple[Array, Array]:
    """The same for discrete steps: g = (1 − u)/λ obeys g' = η + (1 + μ − ηλ) g − μ g₋, exactly also at λ = 0."""
    one, zero = jnp.ones_like(values), jnp.zeros_like(values)
    row = [1 + momentum - rate * values, -momentum * one, rate * one]
    matrix = jnp.stack([jnp.stack(row, -1), jnp.stack([one, zero, zero], -1), jnp.stack([zero, zero, one], -1)], -2)

    def bit(i: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        vector, power = state
        applied = jnp.einsum("nij,nj->ni", power, vector, precision="highest")
        vector = jnp.where((step >> i) & 1 == 1, applied, vector)
        # no further squaring than the step needs: the powers of a diverging mode overflow
        square = jnp.einsum("nij,njk->nik", power, power, precision="highest")
        return vector, jnp.where(step >> (i + 1) > 0, square, power)

    start = jnp.stack([zero, zero, one], -1)
    gain = jax.lax.fori_loop(0, 31, bit, (start, matrix))[0][:, 0]
    return 1 - values * gain, gain


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
