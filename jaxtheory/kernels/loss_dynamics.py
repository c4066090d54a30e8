"""The lazy regime under any differentiable loss, which has no closed form: integrated flows and repeated steps.

Outputs stay f = f_0 + Θ a with one coefficient for each training output, so that one equation serves training and test
points: ȧ = −η ∇ℓ(f) for gradient flow, ä + γ ȧ = −η ∇ℓ(f) with friction.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxtheory import losses
from jaxtheory.guarded import dot, power_of_two
from jaxtheory.kernels.integrators import integrate, repeat
from jaxtheory.kernels.problems import asymmetric
from jaxtheory.kernels.trajectories import Setup, TrainingState, Trajectory
from jaxtheory.losses import Loss
from jaxtheory.results import Status, finite_status, status_where


@partial(jax.jit, static_argnames=("loss", "max_steps"))
def flow(
    loss: Loss,
    given: Setup,
    rate: Float[Array, ""],
    friction: Float[Array, ""] | None,
    times: Float[Array, " t"],
    *,
    tolerance: Float[Array, ""],
    max_steps: int,
) -> Trajectory:
    """Gradient flow, or heavy-ball flow where there is a friction, at ascending finite `times`.

    >>> from jaxtheory.kernels.trajectories import setup
    >>> one = jnp.ones(())
    >>> given = setup(jnp.eye(1), jnp.ones(1), None, None, None)
    >>> run = flow(losses.squared, given, one, None, jnp.ones(1), tolerance=1e-5 * one, max_steps=1000)
    >>> f"{run.train[0, 0]:.4f}"
    '0.6321'
    """
    # an error of a moves the outputs by Θ times as much: a is measured in units of 1/Θ
    unit = power_of_two(jnp.abs(given.ntk).sum(axis=1))
    still = jnp.zeros_like(given.columns(given.y))
    velocity = still if given.velocity is None else unit * given.columns(given.velocity)
    start = still[None] if friction is None else jnp.stack([still, velocity])
    parameters = (given.ntk / unit, given.y, given.start, unit * rate, friction)
    found = integrate(partial(_field, loss), max_steps, parameters, start, times, tolerance)
    states, numbers = found.states / unit, (given, rate, friction, times, tolerance)
    status = _status(loss, given, numbers, ~found.reached.all())
    return _trajectory(given, states[:, 0], None if friction is None else states[-1, 1], status)


@partial(jax.jit, static_argnames=("loss", "length"))
def descend(
    loss: Loss, given: Setup, rate: Float[Array, ""], momentum: Float[Array, ""], steps: Int[Array, " t"], length: int
) -> Trajectory:
    """Gradient descent with momentum after each number of `steps`, none more than `length` after the one before.

    >>> from jaxtheory.kernels.trajectories import setup
    >>> given = setup(jnp.eye(1), jnp.ones(1), None, None, None)
    >>> descend(losses.squared, given, jnp.float32(0.5), jnp.float32(0.0), jnp.array([2]), 2).train[0]
    Array([0.75], dtype=float32)
    """

    def step(_: Array, state: PyTree) -> PyTree:
        coefficients, velocity = state
        velocity = momentum * velocity - rate * _slopes(loss, given.ntk, given.y, given.start, coefficients)
        return coefficients + velocity, velocity

    def advance(carry: PyTree, step_index: Array) -> PyTree:
        state, done = carry
        state = repeat(step, state, step_index - done, length)
        return (state, step_index), state

    still = jnp.zeros_like(given.columns(given.y))
    velocity = still if given.velocity is None else given.columns(given.velocity)
    order = jnp.argsort(steps)
    ahead = steps[order]
    found = jax.lax.scan(advance, ((still, velocity), jnp.zeros_like(ahead[0])), ahead)[1]
    coefficients, velocities = (each[jnp.argsort(order)] for each in found)
    beyond = (jnp.diff(ahead, prepend=0) > length).any()
    negative = (steps < 0).any()
    status = _status(loss, given, (given, rate, momentum), beyond | negative, negative)
    return _trajectory(given, coefficients, velocities[-1], status)


def _slopes(loss: Loss, ntk: Array, y: Array, start: Array, coefficients: Array) -> Array:
    """∂ℓ/∂f at f = f_0 + Θ a, as columns."""
    outputs = start + dot(ntk, coefficients).reshape(y.shape)
    return losses.slopes(loss, outputs, y).reshape(coefficients.shape)


def _field(loss: Loss, parameters: PyTree, state: Array) -> Array:
    ntk, y, start, rate, friction = parameters
    force = -rate * _slopes(loss, ntk, y, start, state[0])
    return force[None] if friction is None else jnp.stack([state[1], force - friction * state[1]])


def _status(loss: Loss, given: Setup, numbers: PyTree, unfinished: Bool[Array, ""], refused: Any = False) -> Array:
    ntk, y = given.ntk, given.y
    rough = asymmetric(ntk, ntk.T) | (jnp.diagonal(ntk) < 0).any() | refused
    if loss is losses.cross_entropy:
        total = y.sum(axis=-1) if y.ndim > 1 else y + jax.nn.relu(1 - y)
        rough = rough | (y < 0).any() | (jnp.abs(total - 1) > 1e-3).any()
    if loss is losses.logistic or loss is losses.hinge:
        rough = rough | (jnp.abs(y) != 1).any()
    return status_where(
        (finite_status(numbers) != Status.OK, Status.NOT_FINITE),
        (rough, Status.INVALID_INPUT),
        (unfinished, Status.NOT_CONVERGED),
    )


def _trajectory(given: Setup, coefficients: Array, velocity: Array | None, status: Array) -> Trajectory:
    """Outputs f_0 + Θ a and f*_0 + Θ* a from coefficients [t N c]."""
    usable = (status == Status.OK) | (status == Status.NOT_CONVERGED)
    coefficients = jnp.where(usable, coefficients, jnp.full_like(coefficients, jnp.nan))
    count, test = coefficients.shape[0], None
    moved = jnp.einsum("mn,tno->tmo", given.ntk, coefficients, precision="highest")
    train = given.start[None] + moved.reshape(count, *given.y.shape)
    if given.cross is not None:
        moved = jnp.einsum("mn,tno->tmo", given.cross, coefficients, precision="highest")
        test = moved.reshape(count, *given.test_shape)
        test = test if given.test_start is None else given.test_start[None] + test
    if velocity is not None:
        velocity = jnp.where(usable, velocity, jnp.full_like(velocity, jnp.nan)).reshape(given.y.shape)
    state = TrainingState(train[-1], None if test is None else test[-1], velocity)
    return Trajectory(train, test, finite_status((train, test, velocity), status), state)
