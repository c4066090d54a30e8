"""An adaptive Runge-Kutta pair for small autonomous systems, differentiable in forward mode."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxtheory.kernels.integrators import dormand_prince, judged


class Path(NamedTuple):
    """States at the times, NaN from the first that was not reached, and where the steps did not suffice for it."""

    states: Float[Array, "times n"]
    exhausted: Bool[Array, " times"]


class _Course(NamedTuple):
    """Progress of an integration: state, time, next step size, steps since the last recorded time."""

    state: Array
    now: Array
    size: Array
    steps: Array


def integrate(
    field: Callable[[Array], Array],
    start: Float[Array, " n"],
    times: Float[Array, " times"],
    tolerance: float | Float[Array, ""],
    max_steps: int,
) -> Path:
    r"""Solve ẏ = field(y), y(0) = start, by Dormand-Prince 5(4) with adaptive steps.

    Args:
        field: of a vector [n]. start: y(0). times: ascending, ≥ 0.
        tolerance: local error of a step, relative to 1 + |y|.
        max_steps: between two times.

    Derivatives are those of the steps taken, at fixed step sizes, in forward mode. Cost: 7 fields a step.
    Source: Dormand and Prince (1980), their pair of orders 5 and 4.

    >>> path = integrate(lambda y: -y, jnp.ones(1), jnp.array([0.0, 1.0]), 1e-6, 100)
    >>> f"{path.states[1, 0]:.4f}"
    '0.3679'
    """

    def advance(course: _Course, stop: Array) -> tuple[_Course, tuple[Array, Array]]:
        going = lambda c: (c.now < stop) & (c.steps < max_steps) & (c.size > 0)  # noqa: E731
        step = lambda c: _step(field, c, stop, tolerance)  # noqa: E731
        course = lax.while_loop(going, step, course._replace(steps=jnp.zeros_like(course.steps)))
        reached = (course.now >= stop) & jnp.isfinite(course.state).all()
        state = jnp.where(reached, course.state, jnp.full_like(course.state, jnp.nan))
        return course._replace(state=state), (state, ~reached & (course.steps >= max_steps))

    begin = _Course(start, jnp.zeros_like(times, shape=()), lax.stop_gradient(times[-1]) / 100, jnp.int32(0))
    return Path(*lax.scan(advance, begin, times)[1])


def _step(field: Callable[[Array], Array], course: _Course, stop: Array, tolerance: float | Array) -> _Course:
    """One attempt, kept where its error is allowed; a step that is not finite is tried again five times shorter."""
    state, now, size, steps = course
    last = now + size >= stop
    used = jnp.where(last, stop - now, size)

    new, gap = dormand_prince(field, state, used)
    accepted, factor = judged(state, new, gap, tolerance)
    following = jnp.where(accepted & last, jnp.maximum(size, used * factor), used * factor)
    # below round-off of the time nothing moves any more: give up
    stuck = ~accepted & (used < 4 * jnp.finfo(now.dtype).eps * stop)
    following = lax.stop_gradient(jnp.where(stuck, jnp.zeros_like(following), following))
    after = jnp.where(last, stop, now + used)
    return _Course(jnp.where(accepted, new, state), jnp.where(accepted, after, now), following, steps + 1)


def ascending(times: Any) -> Any:
    """Where times are finite, at least 0 and in order, as predicate of `constrain`."""
    return (times >= 0) & (times < np.inf) & (times[1:] >= times[:-1]).all()
