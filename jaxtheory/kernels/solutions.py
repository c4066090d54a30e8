"""Solutions of the linear equations that every eigenmode of a tangent kernel obeys during training.

Each takes an eigenvalue λ, whether it is above rounding (`kept`), a time and its rates, and returns what is left of the
mode, u_t/u_0, and the gain (1 − u_t/u_0)/λ. Both are smooth in λ at 0 and at critical damping, for derivatives.

A mode that starts at rest has coefficients a = −(1 − u_t/u_0)/λ u_0; one that starts at u = 0 with the velocity ȧ = 1,
or a_0 − a_{−1} = 1, has the coefficient s (`…_response`). Velocities follow from these (`…_speed`, `…_fading`).
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.guarded import polynomial


def exponential(
    values: Float[Array, " n"], kept: Array, time: Float[Array, ""], rate: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Of u̇ = −ηλu: e^(−ηλt) and ηt ψ₀(ηλt); a null direction never moves, and at infinity gains nothing.

    >>> [f"{part[0]:.4f}" for part in exponential(jnp.ones(1), jnp.array([True]), jnp.float32(1.0), jnp.float32(1.0))]
    ['0.3679', '0.6321']
    """
    stopped = jnp.isinf(time)
    t = jnp.where(stopped, jnp.zeros_like(time), time)
    exponent = rate * values * t
    safe = jnp.where(kept, values, jnp.ones_like(values))
    rest, gain = jnp.exp(-exponent), rate * t * decay(0, exponent)
    null = jnp.where(kept, jnp.zeros_like(values), jnp.ones_like(values))
    return jnp.where(stopped, null, rest), jnp.where(stopped, (1 - null) / safe, gain)


def heavy_ball(
    values: Float[Array, " n"],
    kept: Array,
    time: Float[Array, ""],
    rate: Float[Array, ""],
    friction: Float[Array, ""],
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Of ü + γu̇ + ηλu = 0, u̇(0) = 0, with ω² = γ²/4 − ηλ, slow root r = −ηλ/(γ/2 + ω) and D = t ψ₀(2ωt).

    Overdamped u = e^(rt)(1 − rD), from which 1 − u has no cancellation at small λ; next to critical damping Stumpff's
    functions of z = ω²t², u = e^(−γt/2) (c₀(z) + γt/2 c₁(z)), have no root of ω²; beyond, damped cosines.

    >>> one = jnp.float32(1.0)
    >>> f"{heavy_ball(jnp.ones(1), jnp.array([True]), one, one, 2 * one)[0][0]:.4f}"
    '0.7358'
    """
    return _heavy_ball(values, kept, time, rate, friction)[:2]


def heavy_ball_response(
    values: Float[Array, " n"], kept: Array, time: Float[Array, ""], rate: Float[Array, ""], friction: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """λ s and s, where s̈ + γṡ + ηλs = 0, s(0) = 0, ṡ(0) = 1; s(∞) = 1/γ in a null direction.

    >>> one = jnp.float32(1.0)
    >>> f"{heavy_ball_response(jnp.ones(1), jnp.array([True]), one, one, 2 * one)[1][0]:.4f}"
    '0.3679'
    """
    response = _heavy_ball(values, kept, time, rate, friction)[2]
    return values * response, response


def heavy_ball_speed(
    values: Float[Array, " n"], kept: Array, time: Float[Array, ""], rate: Float[Array, ""], friction: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The velocity −ηs of the coefficient of u_0, and the velocity ṡ = u_t/u_0 − γs of that of ȧ_0.

    >>> one = jnp.float32(1.0)
    >>> f"{heavy_ball_speed(jnp.ones(1), jnp.array([True]), one, one, 2 * one)[0][0]:.4f}"
    '-0.3679'
    """
    left, _, response = _heavy_ball(values, kept, time, rate, friction)
    return -rate * response, left - friction * response


def heavy_ball_fading(
    values: Float[Array, " n"], kept: Array, time: Float[Array, ""], rate: Float[Array, ""], friction: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """`heavy_ball_speed` in the other order.

    >>> one = jnp.float32(1.0)
    >>> f"{heavy_ball_fading(jnp.ones(1), jnp.array([True]), 0 * one, one, 2 * one)[0][0]:.1f}"
    '1.0'
    """
    return heavy_ball_speed(values, kept, time, rate, friction)[::-1]


def _heavy_ball(values: Array, kept: Array, time: Array, rate: Array, friction: Array) -> tuple[Array, Array, Array]:
    """What is left of u_0, its gain, and the response s."""
    stopped = jnp.isinf(time)
    t = jnp.where(stopped, jnp.zeros_like(time), time)
    half = friction / 2
    square = half**2 - rate * values
    near = (jnp.abs(square) <= half**2 / 4) & (jnp.abs(square) * t**2 <= 1)
    over = ~near & (square > 0)
    one = jnp.ones_like(values)
    omega = jnp.sqrt(jnp.where(over, square, one))
    pull, safe = rate / (half + omega), jnp.where(kept, values, one)
    delay, slow = t * decay(0, 2 * omega * t), pull * values * t
    over_left = jnp.exp(-slow) * (1 + pull * values * delay)
    over_gain = pull * (t * decay(0, slow) - delay * jnp.exp(-slow))
    turning = jnp.sqrt(jnp.where(near | over, one, -square))
    sine = jnp.exp(-half * t) * jnp.sin(turning * t) / turning
    damped = jnp.exp(-half * t) * jnp.cos(turning * t) + half * sine
    z = jnp.where(near, square * t**2, jnp.zeros_like(square))
    drift = jnp.exp(-half * t) * t * stumpff(1, z)
    critical = jnp.exp(-half * t) * stumpff(0, z) + half * drift
    left = jnp.where(over, over_left, jnp.where(near, critical, damped))
    gain = jnp.where(over, over_gain, (1 - left) / safe)
    response = jnp.where(over, jnp.exp(-slow) * delay, jnp.where(near, drift, sine))
    null = jnp.where(kept, jnp.zeros_like(values), one)
    at_rest = (null, (1 - null) / safe, null / friction)
    moving = (left, gain, response)
    return tuple(jnp.where(stopped, a, b) for a, b in zip(at_rest, moving, strict=True))  # type: ignore[return-value]


def powers(
    values: Float[Array, " n"], kept: Array, step: Int[Array, ""], rate: Float[Array, ""], momentum: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Of discrete steps: g = (1 − u)/λ obeys g' = η + (1 + μ − ηλ) g − μ g₋, exactly also at λ = 0.

    >>> half = jnp.float32(0.5)
    >>> f"{powers(jnp.ones(1), jnp.array([True]), jnp.int32(2), half, 0 * half)[0][0]:.4f}"
    '0.2500'
    """
    gain = _from_rest(values, step, rate, momentum)[0]
    return 1 - values * gain, gain


def powers_response(
    values: Float[Array, " n"], kept: Array, step: Int[Array, ""], rate: Float[Array, ""], momentum: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """λ s and s, where s' = (1 + μ − ηλ) s − μ s₋, s_0 = 0, s_{−1} = −1.

    >>> half = jnp.float32(0.5)
    >>> float(powers_response(jnp.zeros(1), jnp.array([False]), jnp.int32(2), half, half)[1][0])
    0.75
    """
    response = _from_push(values, step, rate, momentum)[0]
    return values * response, response


def powers_speed(
    values: Float[Array, " n"], kept: Array, step: Int[Array, ""], rate: Float[Array, ""], momentum: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The last updates of the coefficients of u_0 and of a_0 − a_{−1}.

    >>> half = jnp.float32(0.5)
    >>> float(powers_speed(jnp.ones(1), jnp.array([True]), jnp.int32(2), half, 0 * half)[0][0])
    -0.25
    """
    return -_from_rest(values, step, rate, momentum)[1], _from_push(values, step, rate, momentum)[1]


def powers_fading(
    values: Float[Array, " n"], kept: Array, step: Int[Array, ""], rate: Float[Array, ""], momentum: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """`powers_speed` in the other order.

    >>> half = jnp.float32(0.5)
    >>> float(powers_fading(jnp.zeros(1), jnp.array([False]), jnp.int32(2), half, half)[0][0])
    0.25
    """
    return powers_speed(values, kept, step, rate, momentum)[::-1]


def _from_rest(values: Array, step: Array, rate: Array, momentum: Array) -> tuple[Array, Array]:
    """(g_k, g_k − g_{k−1}) from g_0 = g_{−1} = 0."""
    still, source = jnp.zeros_like(values), rate * jnp.ones_like(values)
    return _powers(values, step, rate, momentum, (still, still), (source, source))


def _from_push(values: Array, step: Array, rate: Array, momentum: Array) -> tuple[Array, Array]:
    """(s_k, s_k − s_{k−1}) from s_0 = 0, s_{−1} = −1."""
    still = jnp.zeros_like(values)
    return _powers(values, step, rate, momentum, (still, jnp.ones_like(values)), (still, still))


def _powers(
    values: Array, step: Array, rate: Array, momentum: Array, begin: tuple[Array, Array], source: tuple[Array, Array]
) -> tuple[Array, Array]:
    """(x, v) after k steps of v' = μ v − ηλ x + c, x' = x + v', by squarings of the step I + F.

    What is squared is F = (I + F)^m − I, since the 1 would swallow a small ηλ: (I + F)² − I = 2F + F².
    """
    one = jnp.ones_like(values)

    def moved(f: Sequence[Array], x: Array, v: Array) -> tuple[Array, Array]:
        return f[0] * x + f[1] * v, f[2] * x + f[3] * v

    def bit(i: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, v, c, d, *f = state
        place = i.astype(step.dtype)
        used, more = (step >> place) & 1 == 1, (step >> place) > 1
        across, along = moved(f, x, v)
        x, v = jnp.where(used, x + (across + c), x), jnp.where(used, v + (along + d), v)
        # no further squaring than the step needs: the powers of a diverging mode overflow
        across, along = moved(f, c, d)
        columns = moved(f, f[0], f[2]), moved(f, f[1], f[3])
        twice = (2 * c + across, 2 * d + along, *(2 * old + new for old, new in zip(f, _rows(columns), strict=True)))
        return x, v, *(jnp.where(more, new, old) for new, old in zip(twice, (c, d, *f), strict=True))

    start = (*begin, *source, -rate * values, momentum * one, -rate * values, (momentum - 1) * one)
    bits = jnp.iinfo(step.dtype).bits - 1
    found = jax.lax.fori_loop(0, bits, bit, start)
    return found[0], found[1]


def _rows(columns: tuple[tuple[Array, Array], tuple[Array, Array]]) -> tuple[Array, ...]:
    (a, c), (b, d) = columns
    return a, b, c, d


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def decay(k: int, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """ψ_k(x) = ∫₀¹ s^k e^(−xs) ds for x ≥ 0, so that ψ_k' = −ψ_{k+1}; ψ₀ = (1 − e^(−x))/x.

    A series below 1, the recursion ψ_k = (k ψ_{k−1} − e^(−x))/x above.

    >>> f"{decay(0, jnp.float32(0.0)):.1f} {decay(1, jnp.float32(0.0)):.1f}"
    '1.0 0.5'
    """
    small = x < 1
    near, far = jnp.where(small, x, jnp.zeros_like(x)), jnp.where(small, jnp.ones_like(x), x)
    series = polynomial([(-1) ** j / (math.factorial(j) * (j + k + 1)) for j in range(20)], near)
    found = -jnp.expm1(-far) / far
    for order in range(1, k + 1):
        found = (order * found - jnp.exp(-far)) / far
    return jnp.where(small, series, found)


@decay.defjvp
def _decay_jvp(k: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return decay(k, primals[0]), -decay(k + 1, primals[0]) * tangents[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def stumpff(k: int, z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Stumpff's c_k(z) = Σ_j z^j/(k + 2j)! for |z| ≤ 1: c₀ = cosh √z, c₁ = sinh √z/√z, c_k' = (c_{k+1} − k c_{k+2})/2.

    >>> f"{stumpff(0, jnp.float32(1.0)):.4f}"
    '1.5431'
    """
    return polynomial([1 / math.factorial(k + 2 * j) for j in range(10)], z)


@stumpff.defjvp
def _stumpff_jvp(k: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (z,) = primals
    return stumpff(k, z), (stumpff(k + 1, z) - k * stumpff(k + 2, z)) / 2 * tangents[0]
