"""Loops of unknown length with derivatives of every kind: repeated steps, and an adaptive Runge-Kutta method."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

# Dormand and Prince (1980), table 2: stages, whose last row is the solution of order five, and order five minus four.
_STAGES = np.array(
    [
        (0, 0, 0, 0, 0, 0, 0),
        (1 / 5, 0, 0, 0, 0, 0, 0),
        (3 / 40, 9 / 40, 0, 0, 0, 0, 0),
        (44 / 45, -56 / 15, 32 / 9, 0, 0, 0, 0),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0, 0),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0, 0),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
    ]
)
_ERROR = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])


def dormand_prince(field: Callable[[Array], Array], state: Array, size: Array) -> tuple[Array, Array]:
    """The state of ẋ = field(x) after one step of order five, and its difference from that of order four.

    The field is traced once, in a scan over the seven stages: seven copies of a large one take a minute to compile.
    """

    def stage(slopes: Array, entry: tuple[Array, Array]) -> tuple[Array, Array]:
        row, i = entry
        at = state + size * jnp.tensordot(row, slopes, 1, precision="highest")
        return slopes.at[i].set(field(at)), at

    rows = (jnp.asarray(_STAGES, state.dtype), jnp.arange(7))
    slopes, points = jax.lax.scan(stage, jnp.zeros((7, *state.shape), state.dtype), rows)
    return points[-1], size * jnp.tensordot(jnp.asarray(_ERROR, state.dtype), slopes, 1, precision="highest")


def judged(state: Array, new: Array, gap: Array, tolerance: float | Array) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether the root mean square of gap/(tolerance (1 + |x|)) is at most 1, and the next size over this one.

    A step that is not finite is refused, and the next is five times shorter.
    """
    allowed = tolerance * (1 + jnp.maximum(jnp.abs(state), jnp.abs(new)))
    error = jax.lax.stop_gradient(jnp.sqrt(jnp.mean((gap / allowed) ** 2)))
    error = jnp.where(jnp.isfinite(error) & jnp.isfinite(new).all(), error, jnp.full_like(error, jnp.inf))
    return error <= 1, jnp.clip(0.9 * jnp.maximum(error, 1e-8) ** -0.2, 0.2, 5.0)


def repeat(step: Callable[[Array, PyTree], PyTree], state: PyTree, count: Int[Array, ""], length: int) -> PyTree:
    """step(i, state) for i = 0..count−1, count ≤ `length`, in two nested scans that skip what is not needed.

    Reverse mode keeps 2 √length states. Under vmap over `count` all `length` steps are computed.

    >>> float(repeat(lambda i, x: 2 * x, jnp.float32(1.0), jnp.int32(3), 10))
    8.0
    """
    inner, count = max(1, math.isqrt(length)), jnp.clip(count, 0, length).astype(jnp.int32)
    saved = jax.checkpoint(step)

    def one(state: PyTree, i: Array) -> tuple[PyTree, None]:
        return jax.lax.cond(i < count, saved, lambda i, state: state, i, state), None

    @jax.checkpoint
    def run(first: Array, state: PyTree) -> PyTree:
        return jax.lax.scan(one, state, first + jnp.arange(inner, dtype=jnp.int32))[0]

    def block(state: PyTree, first: Array) -> tuple[PyTree, None]:
        return jax.lax.cond(first < count, run, lambda first, state: state, first, state), None

    firsts = inner * jnp.arange(-(-length // inner), dtype=jnp.int32)
    return jax.lax.scan(block, state, firsts)[0]


class Integrated(NamedTuple):
    """States at every time (NaN where not reached), the accepted steps as shares of each interval, and their number."""

    states: Float[Array, "t ..."]
    reached: Bool[Array, " t"]
    shares: Float[Array, "t steps"]
    steps: Int[Array, " t"]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def integrate(
    field: Callable[[PyTree, Array], Array],
    max_steps: int,
    parameters: PyTree,
    state: Float[Array, "..."],
    times: Float[Array, " t"],
    tolerance: Float[Array, ""],
) -> Integrated:
    """ẋ = field(parameters, x) from time 0 to all `times` (ascending) by Dormand-Prince 5(4) with adaptive steps.

    Derivatives, forward and reverse, of any order, are those of the steps that were accepted, with their lengths as
    fixed shares of each interval. Reverse mode keeps t + 2 √max_steps states.

    >>> one = jnp.float32(1.0)
    >>> f"{integrate(lambda rate, x: -rate * x, 100, one, one, jnp.ones(1), one * 1e-5).states[0]:.4f}"
    '0.3679'
    """

    def advance(carry: tuple[Array, Array], time: Array) -> tuple[tuple[Array, Array], Integrated]:
        found = _advance(partial(field, parameters), *carry, time, tolerance, max_steps)
        return (found.states, time), found

    return jax.lax.scan(advance, (state, jnp.zeros_like(times[0])), times)[1]


@integrate.defjvp
def _integrate_jvp(field: Any, max_steps: int, primals: PyTree, tangents: PyTree) -> tuple[Integrated, Integrated]:
    found = integrate(field, max_steps, *primals)
    shares, steps = jax.lax.stop_gradient((found.shares, found.steps))

    def again(parameters: PyTree, state: Array, times: Array) -> Array:
        @jax.checkpoint
        def interval(state: Array, start: Array, stop: Array, shares: Array, steps: Array) -> Array:
            def step(i: Array, state: Array) -> Array:
                return dormand_prince(partial(field, parameters), state, shares[i] * (stop - start))[0]

            return repeat(step, state, steps, max_steps)

        def advance(carry: tuple[Array, Array], each: PyTree) -> tuple[tuple[Array, Array], Array]:
            time, *rest = each
            state = interval(*carry, time, *rest)
            return (state, time), state

        return jax.lax.scan(advance, (state, jnp.zeros_like(times[0])), (times, shares, steps))[1]

    tangent = jax.jvp(again, primals[:3], tangents[:3])[1]
    none = [np.zeros(each.shape, jax.dtypes.float0) for each in (found.reached, found.steps)]
    return found, Integrated(tangent, none[0], jnp.zeros_like(found.shares), none[1])  # type: ignore[arg-type]


def _advance(
    field: Callable[[Array], Array], state: Array, start: Array, stop: Array, tolerance: Array, max_steps: int
) -> Integrated:
    """From `start` to `stop`: the state, whether it was reached, and the steps."""
    span = jnp.where(stop > start, stop - start, jnp.ones_like(stop))

    def going(carry: PyTree) -> Array:
        _, now, size, tried, _, _ = carry
        return (now < stop) & (tried < max_steps) & jnp.isfinite(size)

    def attempt(carry: PyTree) -> PyTree:
        state, now, size, tried, shares, steps = carry
        last = now + size >= stop
        used = jnp.where(last, stop - now, size)
        new, gap = dormand_prince(field, state, used)
        accepted, factor = judged(state, new, gap, tolerance)
        now = jnp.where(accepted, jnp.where(last, stop, now + used), now)
        shares = shares.at[steps].set(jnp.where(accepted, used / span, shares[steps]))
        state, steps = jnp.where(accepted, new, state), steps + accepted.astype(jnp.int32)
        return state, now, jnp.maximum(used * factor, 1e-30), tried + 1, shares, steps

    zero = jnp.int32(0)
    begin = (state, start, jnp.maximum(stop - start, 0) / 100, zero, jnp.zeros(max_steps, state.dtype), zero)
    state, now, _, _, shares, steps = jax.lax.while_loop(going, attempt, begin)
    reached = (now >= stop) & jnp.isfinite(state).all()
    return Integrated(jnp.where(reached, state, jnp.full_like(state, jnp.nan)), reached, shares, steps)
