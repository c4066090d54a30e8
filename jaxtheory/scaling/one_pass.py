r"""Exact mean risk of one-pass stochastic gradient descent on random features of Gaussian data.

The second moments of the parameters close among themselves, one for each eigenvalue of the features' covariance; heavy
ball adds those of the velocity. Nothing is sampled.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, nonnegative, require
from jaxtheory.guarded import power_of_two
from jaxtheory.results import Status, finite_status

Schedule = float | Float[Array, "..."]


class OnePassRisk(NamedTuple):
    """Mean squared error before the first step and after each; `floor` is the least that any parameters reach."""

    risk: Float[Array, " times"]
    floor: Float[Array, ""]
    status: Int[Array, ""]


class Steps(NamedTuple):
    """Step size, batch size and momentum of each step."""

    step_size: Float[Array, " steps"]
    batch: Float[Array, " steps"]
    momentum: Float[Array, " steps"]


class Modes(NamedTuple):
    """A measure over eigenvalues λ of the features' covariance: nodes, their share of the signal, their number.

    Drawn features have real nodes and one of each; the deterministic equivalent has complex nodes and weights, of which
    the real part of a sum counts. `rest` is the power that does not move.
    """

    eigenvalue: Array
    signal: Array
    number: Array
    rest: Array


@boundary(static=("steps",))
def one_pass_risk(
    features: Float[Array, "modes width"],
    eigs: Float[Array, " modes"],
    target: Float[Array, " modes"],
    *,
    batch: Schedule,
    step_size: Schedule,
    steps: int,
    momentum: Schedule = 0.0,
) -> OnePassRisk:
    r"""Mean risk of one-pass SGD, P(θ) = E(⟨Wᵀx, θ⟩ − ⟨x, b⟩)² on x ~ N(0, H), from θ = 0, over the stream of data.

    Each step averages the gradient of half the squared error over B fresh points and moves by

        v ← μ v − γ g,   θ ← θ + v

    With K = WᵀHW = VΛVᵀ, θ* the best parameters of risk σ² and D_i, C_i, S_i the means of δ_i², δ_i v_i, v_i² for
    δ = Vᵀ(θ − θ*), v = Vᵀv, at P = Σ λ_i D_i + σ²:

        S ← μ²S − 2μγλC + γ²λ²D + (γ²/B)(λ²D + λP),   C ← μC − γλD + S,   D ← D + 2(μC − γλD) + S

    where the C and D on the right are those before the step and S that after it. At μ = 0 this is
    D ← D (1 − 2γλ + γ²λ²(B + 1)/B) + (γ²λ/B) P. An optimizer that sums the gradient over the batch has the step γ/B.

    Args:
        features: W, any numbers. Columns that depend on others to rounding count as such: to 2 max(modes, width) ε.
        eigs: the diagonal of H ≥ 0.
        target: b.
        batch: B ≥ 1; infinity is gradient descent on the risk itself.
        step_size: γ ≥ 0.
        steps: the number of steps, known when the program is compiled.
        momentum: μ in [0, 1]. The three are one number, or an array [steps] for a schedule; all may be traced.

    Returns:
        `OnePassRisk` with `risk` [steps + 1]; NOT_FINITE where the steps are so long that it overflows, or
        where the risk of a target that is not 0 underflows.

    Raises:
        ValueError: shapes that do not agree, arguments out of range or not finite (INVALID_INPUT inside `jit`).

    Accuracy: a few roundings of the initial risk, which small decays do not lose. Derivatives in `features` and `eigs`
    need distinct singular values of H^{1/2}W, and positive `eigs`.

    Cost: one SVD of H^{1/2}W and the singular values of W, then O(steps · min(modes, width)).
    Source: Paquette, Paquette, Xiao, Pennington (2024), whose Volterra equation is the limit γ → 0; moments of
    Gaussians (Isserlis).

    >>> drawn = jax.random.normal(jax.random.key(0), (50, 10)) / 10**0.5
    >>> i = jnp.arange(1, 51, dtype=jnp.float32)
    >>> curve = one_pass_risk(drawn, i**-2.0, i**-0.5, batch=1, step_size=0.2, steps=1000)
    >>> bool(curve.risk[-1] < curve.risk[0] / 10), bool(curve.floor < curve.risk[-1])
    (True, True)
    """
    require(
        features.shape[0] == len(eigs),
        "features",
        features.shape,
        f"have {len(eigs)} rows, one for each of eigs",
        "use W",
    )
    eigs, target = spectrum(eigs, target)
    features = constrain("features", features, lambda w: abs(w) < jnp.inf, "be finite", "pass the matrix W")
    dtype = jnp.result_type(features, eigs)
    plan = schedule(steps, dtype, step_size, batch, momentum)
    return _one_pass_risk(features.astype(dtype), eigs.astype(dtype), target.astype(dtype), plan)


@jax.jit
def _one_pass_risk(features: Array, eigs: Array, target: Array, plan: Steps) -> OnePassRisk:
    root = jnp.sqrt(eigs)
    # singular values, not eigenvalues of K: those below eps of the largest keep their digits
    left, values, _ = jnp.linalg.svd(root[:, None] * features, full_matrices=False)
    # singular vectors beyond the rank are arbitrary
    within = jnp.arange(len(values)) < _rank(features, eigs > 0)
    values, held = jnp.where(within, values, 0), root * target
    seen = jnp.where(within, jnp.sum(left * held[:, None], axis=0), 0)
    floor = jnp.sum((held - jnp.sum(left * seen[None, :], axis=1)) ** 2)
    risk = evolve(Modes(values**2, seen**2, jnp.ones_like(values), floor), plan)
    return judged(OnePassRisk(risk, floor, jnp.int32(Status.OK)), (features, eigs, target, plan), (held != 0).any())


def _rank(features: Array, live: Array) -> Array:
    """Of the features on the modes with a variance, whose sizes do not matter: columns of length 1."""
    seen = jax.lax.stop_gradient(jnp.where(live[:, None], features, 0))
    seen = seen / power_of_two(seen, axis=0, keepdims=True)
    sizes = jnp.linalg.svd(seen, compute_uv=False)
    return jnp.sum(sizes > 2 * max(seen.shape) * float(jnp.finfo(seen.dtype).eps) * sizes[:1])


def evolve(modes: Modes, plan: Steps) -> Array:
    """The risk before the first step and after each: the recursion of `one_pass_risk` times λ."""
    zero = jnp.zeros_like(modes.signal)

    def risk_of(power: Array) -> Array:
        return modes.rest + jnp.sum(jnp.real(power))

    def step(state: tuple[Array, Array, Array, Array], now: Steps) -> tuple[tuple[Array, Array, Array, Array], Array]:
        power, cross, speed, lost = state
        step_size, share, mu = (value.astype(zero.dtype) for value in (now.step_size, 1 / now.batch, now.momentum))
        x = step_size * modes.eigenvalue
        noise = x**2 * share * (power + modes.number * risk_of(power).astype(zero.dtype))
        pull = mu * cross - x * power
        speed_now = mu**2 * speed - 2 * mu * x * cross + x**2 * power + noise
        # a decay far below the rounding of `power` is kept in `lost` until it counts; a large one is a product
        change = 2 * pull + speed_now - lost
        slow = power + change
        fast = (1 - x) ** 2 * power + 2 * mu * (1 - x) * cross + mu**2 * speed + noise
        is_slow = jnp.abs(jax.lax.stop_gradient(x)) < 0.5
        after = jnp.where(is_slow, slow, fast)
        lost = jnp.where(is_slow, (slow - power) - change, zero)
        return (after, pull + speed_now, speed_now, jax.lax.stop_gradient(lost)), risk_of(after)

    _, later = jax.lax.scan(step, (modes.signal, zero, zero, zero), plan)
    return jnp.concatenate([risk_of(modes.signal)[None], later])


def spectrum(eigs: Array, target: Array) -> tuple[Array, Array]:
    """Eigenvalues and target of one dtype, NaN inside `jit` where they are not allowed."""
    require(
        target.shape == eigs.shape, "target", target.shape, f"have the shape of eigs, {eigs.shape}", "pass one each"
    )
    require(len(eigs) >= 1, "eigs", f"shape {eigs.shape}", "hold at least one eigenvalue", "pass a spectrum")
    dtype = jnp.result_type(eigs, target)
    eigs = nonnegative("eigs", eigs, "pass the variances of the data")
    target = constrain("target", target, lambda b: abs(b) < jnp.inf, "be finite", "pass the coefficients b")
    return eigs.astype(dtype), target.astype(dtype)


def schedule(steps: int, dtype: Any, step_size: Schedule, batch: Schedule, momentum: Schedule) -> Steps:
    """The three schedules as arrays [steps]."""
    require(steps >= 0, "steps", steps, "be >= 0", "count the steps")
    batch = constrain("batch", batch, lambda b: b >= 1, "be >= 1", "count the points of a step")
    step_size = nonnegative("step_size", step_size, "use 0.1 / trace for small steps")
    momentum = constrain("momentum", momentum, lambda m: (m >= 0) & (m <= 1), "lie in [0, 1]", "use 0.0 for none")
    plan = []
    for name, value in (("step_size", step_size), ("batch", batch), ("momentum", momentum)):
        values = jnp.asarray(value, dtype)
        fits = values.ndim == 0 or values.shape == (steps,)
        require(fits, name, f"shape {values.shape}", f"be one number or an array [{steps}]", "pass one for each step")
        plan.append(jnp.broadcast_to(values, (steps,)))
    return Steps(*plan)


def judged(found: OnePassRisk, arguments: Any, some_signal: Array) -> OnePassRisk:
    """NaN and INVALID_INPUT where an argument was not allowed; NOT_FINITE where the risk overflows or underflows."""
    lost = some_signal & (found.risk[0] < float(jnp.finfo(found.risk.dtype).tiny))
    found = found._replace(risk=jnp.where(lost, jnp.nan, found.risk))
    valid = ~jnp.array([jnp.isnan(leaf).any() for leaf in jax.tree.leaves(arguments)]).any()
    risk, floor = (jnp.where(valid, value, jnp.nan) for value in found[:2])
    status = jnp.where(valid, finite_status((risk, floor), found.status), jnp.int32(Status.INVALID_INPUT))
    return OnePassRisk(risk, floor, status)
