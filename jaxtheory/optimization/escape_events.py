"""Gradient descent on the octopus by its events: exact numbers of iterations, most of which are not run.

While coordinate i grows, every later one shrinks by the factor 1 − 2ηL a step, below the smallest float within a
few hundred steps. Their logarithms are exact affine functions of time, so the waiting is a division, and only the
ten or so steps of each turn are walked.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxtheory.optimization.octopus import turn

_LONGEST = 1e6  # steps of one turn that are walked; a turn of the usual steps takes about ten


class _Clock(NamedTuple):
    """Iterations so far, and by how much the next coordinate left the common rate during the last turn."""

    steps: Array
    extra: Array


class _Corner(NamedTuple):
    """A turn in progress: the coordinate in it, the logarithm of the next one, the steps since its start."""

    a: Array
    next_log: Array
    steps: Array


def events(x: Array, *, L: Array, gamma: Array, tau: Array, step_size: Array, tolerance: Array) -> tuple[Array, Array]:
    """Iterations until each coordinate has passed 2τ, and until ‖∇f‖ ≤ tolerance at the minimum.

    Coordinates that start beyond 2τ count as passed. Each costs one division and one short `while_loop`. Times are NaN
    from a turn on that takes more than a million steps.
    """
    shrink, grow = jnp.log1p(-2 * step_size * L), jnp.log1p(2 * step_size * gamma)
    logs = jnp.log(jnp.where(x < 0, -x, x))

    def coordinate(clock: _Clock, log_start: tuple[Array, Array]) -> tuple[_Clock, tuple[Array, Array]]:
        own, following = log_start
        past = own > jnp.log(2 * tau)
        log_a = own + clock.steps * shrink + clock.extra
        wait = jnp.maximum(jnp.floor((jnp.log(tau) - log_a) / grow) + 1, 0)
        begun = clock.steps + wait
        entry = _Corner(jnp.exp(log_a + wait * grow), following + begun * shrink, jnp.zeros_like(begun))
        inside = lambda c: (c.a <= 2 * tau) & (c.steps < _LONGEST)  # noqa: E731
        corner = lax.while_loop(inside, lambda c: _walk(c, L, gamma, tau, step_size), entry)
        corner = corner._replace(steps=jnp.where(corner.a > 2 * tau, corner.steps, jnp.nan))
        after = begun + corner.steps
        extra = corner.next_log - following - after * shrink
        done = _Clock(jnp.where(past, clock.steps, after), jnp.where(past, clock.extra, extra))
        distance = jnp.where(past, x.dtype.type(-jnp.inf), jnp.log(jnp.abs(corner.a - 4 * tau)))
        return done, (done.steps, distance)

    start = _Clock(0 * logs[0], 0 * logs[0])
    # the last coordinate has none after it
    following = jnp.concatenate([logs[1:], jnp.full_like(logs[:1], -jnp.inf)])
    _, (times, distances) = lax.scan(coordinate, start, (logs, following))
    # every passed coordinate approaches 4τ by the same factor a step, so the norm does
    left = 2 * distances + 2 * shrink * (times[-1] - times)
    log_norm = jnp.log(2 * L) + jax.nn.logsumexp(left) / 2
    rest = jnp.maximum(jnp.ceil((jnp.log(tolerance) - log_norm) / shrink), 0)
    return times, times[-1] + rest


def _walk(corner: _Corner, L: Array, gamma: Array, tau: Array, step_size: Array) -> _Corner:
    """One step of gradient descent inside a turn, the next coordinate by its logarithm."""

    def height(a: Array) -> Array:
        bend = turn(a, L=L, gamma=gamma, tau=tau)
        return bend.height + bend.stiffness * jnp.exp(2 * corner.next_log)

    slope = jax.grad(height)(corner.a)
    stiffness = turn(corner.a, L=L, gamma=gamma, tau=tau).stiffness
    moved = corner.a - step_size * slope
    return _Corner(moved, corner.next_log + jnp.log1p(-2 * step_size * stiffness), corner.steps + 1)
