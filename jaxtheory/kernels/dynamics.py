"""Training dynamics of the lazy regime: flow, heavy ball, discrete steps, infinite ensembles.

The loss is L = Σ ℓ(f, y), summed over samples, so that gradient flow at rate η is ḟ = −η Θ ∇ℓ(f). Of the squared loss
½ (f − y)² everything is in closed form; other losses are integrated. For a mean over n samples pass η/n. Kernels are
[n n] where all outputs share one, and [n n o o] or its matrix [n o, n o] (`matrix_layout`) where outputs couple.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import losses
from jaxtheory.checks import boundary, holds, known, positive, require, within
from jaxtheory.guarded import dot
from jaxtheory.kernels import solutions
from jaxtheory.kernels.functions import widest
from jaxtheory.kernels.layouts import coupled
from jaxtheory.kernels.loss_dynamics import descend, flow
from jaxtheory.kernels.matrix_functions import Action, Solution, covariance, evolve
from jaxtheory.kernels.problems import asymmetric
from jaxtheory.kernels.solutions import exponential
from jaxtheory.kernels.trajectories import Setup, TrainingState, Trajectory, as_times, setup
from jaxtheory.losses import Loss
from jaxtheory.results import Status, finite_status


class Ensemble(NamedTuple):
    """Mean and covariance at every time over infinitely wide networks that differ in their initial weights."""

    mean: Float[Array, "t m ..."]
    covariance: Float[Array, "t m m"]
    status: Int[Array, ""]


@boundary
def gradient_flow(
    ntk_train: Float[Array, "p p ..."],
    y: Float[Array, "n ..."],
    *,
    learning_rate: float | Float[Array, ""],
    times: float | Float[Array, "..."],
    friction: float | Float[Array, ""] | None = None,
    initial: Float[Array, "n ..."] | None = None,
    ntk_test: Float[Array, "q p ..."] | None = None,
    initial_test: Float[Array, "m ..."] | None = None,
    loss: str | Loss = "squared",
    state: TrainingState | None = None,
    tolerance: float | Float[Array, ""] = 1e-5,
    max_steps: int = 20_000,
) -> Trajectory:
    r"""Outputs under gradient flow, or heavy-ball flow, at all `times`; infinity included for the squared loss.

        flow:        u̇ = −η Θ u,            u = f − y:   f_t = y + e^(−ηΘt) (f_0 − y)
        heavy ball:  ü + γ u̇ + η Θ u = 0,   u̇(0) = 0, friction γ > 0
        test points: f*_t = f*_0 + Θ* Θ⁻¹ (I − u_t u_0⁻¹) (y − f_0)
        other losses: f_t = f_0 + Θ a_t, f*_t = f*_0 + Θ* a_t, ä + γ ȧ = −η ∇ℓ(f_0 + Θ a) (without ä: ȧ = …)

    (I − u_t u_0⁻¹)/λ is evaluated without cancellation, so that null directions of Θ are as exact as the others.
    Derivatives: first, forward and reverse, in every argument, also at repeated eigenvalues of Θ; second ones in Θ need
    distinct eigenvalues and are NaN otherwise. At infinite times the rank of Θ is held fixed. Those of other losses are
    of every order, to the accuracy of `tolerance`; under vmap of the kernel or the targets they cost `max_steps` steps.

    Args:
        ntk_train: Θ(x, x), [n n], [n o, n o] or [n n o o]. ntk_test: Θ(x_test, x) in the same layout.
        y: targets. initial, initial_test: f_0 at the training and test points, 0 by default.
        learning_rate: η > 0. times: [t] or one number, ≥ 0; `inf` is allowed for the squared loss, others need finite
            times in ascending order.
        friction: γ of heavy-ball flow; None is gradient flow. Heavy-ball SGD with momentum μ and step h is near
            γ = (1 − μ)/√h, η = 1, t = k √h.
        loss: "squared", "cross_entropy" (rows of probabilities), "logistic" (±1), or a function ℓ(f_i, y_i) of one
            example's outputs, continuously differentiable in f_i.
        state: `Trajectory.state` of a run that this one continues at time 0, in place of initial outputs.
        tolerance, max_steps: of other losses than the squared: local error of a, relative, and absolute in units of
            1/max_i Σ_j |Θ_ij|, and the most steps between two times (each bounded by stability, about
            3/(η λ_max(Θ) sup ℓ″)).

    Returns:
        `Trajectory`; status INVALID_INPUT with NaN for an indefinite or asymmetric Θ, labels of the cross-entropy that
        are no probabilities, or labels other than ±1 of the logistic loss; ILL_CONDITIONED where, of the squared loss,
        a random change of Θ of the size of its rounding, ε λ_max, moves the outputs by more than 1 %, as for times
        beyond 0.01/(η ε λ_max) where u_0 has parts in directions of small eigenvalues; NOT_CONVERGED with NaN from the
        first time that `max_steps` did not reach; NOT_FINITE for NaN or infinite outputs, among them those of rates and
        times that are refused outside jit.

    Raises:
        ValueError: shapes, η ≤ 0, negative times, friction ≤ 0; both `state` and initial outputs.

    Cost: one eigendecomposition (≈ 9 n³ flops, 2 n² memory), then 4 n (n + m) o a time; other losses 6 products
    2 n² o a step. Coupled outputs: n o in the place of n, and 1 in that of o.
    Source: Lee et al. (2019), equations 8-11; Polyak (1964) for the heavy ball.

    >>> path = gradient_flow(jnp.eye(1), jnp.ones(1), learning_rate=1.0, times=jnp.array([0.0, 1.0, jnp.inf]))
    >>> f"{path.train[1, 0]:.4f} {path.train[2, 0]:.4f}"
    '0.6321 1.0000'
    """
    given = setup(ntk_train, y, initial, ntk_test, initial_test, state)
    dtype, each = given.y.dtype, losses.resolve(loss)
    rate = jnp.asarray(positive("learning_rate", learning_rate, "pass the rate of the flow, e.g. 1.0"), dtype)
    if friction is not None:
        friction = jnp.asarray(positive("friction", friction, "use None for gradient flow"), dtype)
    require(max_steps >= 1, "max_steps", max_steps, "be at least 1", "use 20000")
    tolerance = jnp.asarray(positive("tolerance", tolerance, "use 1e-5"), dtype)
    if each is not losses.squared:
        at = as_times(times, dtype, ascending=True)
        return flow(each, given, rate, friction, at, tolerance=tolerance, max_steps=max_steps)
    at = as_times(times, dtype)
    if friction is None:
        return _closed(_FLOW, given._replace(velocity=None), at, (rate,))
    return _closed(_HEAVY_BALL, given, at, (rate, friction))


@boundary
def gradient_descent(
    ntk_train: Float[Array, "p p ..."],
    y: Float[Array, "n ..."],
    *,
    learning_rate: float | Float[Array, ""],
    steps: int | Int[Array, "..."],
    momentum: float | Float[Array, ""] = 0.0,
    initial: Float[Array, "n ..."] | None = None,
    ntk_test: Float[Array, "q p ..."] | None = None,
    initial_test: Float[Array, "m ..."] | None = None,
    loss: str | Loss = "squared",
    state: TrainingState | None = None,
    max_steps: int = 20_000,
) -> Trajectory:
    r"""Outputs after k steps of gradient descent with momentum μ, for every k in `steps`.

        θ_{k+1} = θ_k − η ∇L + μ (θ_k − θ_{k−1}):   u_{k+1} = (1 + μ − ηλ) u_k − μ u_{k−1},   u_0 = u_{−1}

    for each eigenvalue λ of Θ of the squared loss, by 31 squarings of the recursion, whatever k, which resolve steps
    of any size. It converges for ηλ < 2(1 + μ) (`max_learning_rate`); beyond, the trajectory diverges, and where it
    overflows the status is NOT_FINITE. Of other losses every step is computed:

        v_{k+1} = μ v_k − η ∇ℓ(f_k),   a_{k+1} = a_k + v_{k+1},   f_k = f_0 + Θ a_k

    Args:
        steps: [t] integers or one, ≥ 0.
        momentum: μ in [0, 1].
        max_steps: of other losses than the squared, where `steps` are traced: a bound of the number of steps.
        the others: as `gradient_flow`; optax.sgd(η, momentum=μ) is this recursion.

    Returns, Raises, Derivatives: as `gradient_flow`.

    Cost: one eigendecomposition, then 31 · 80 n + 4 n (n + m) o flops a step asked for; other losses one product
    2 n² o a step, and twice √steps states [n o] in reverse mode.
    Source: Polyak (1964); Lee et al. (2019), section 2.2.

    >>> path = gradient_descent(jnp.eye(1), jnp.ones(1), learning_rate=0.5, steps=jnp.array([0, 1, 2]))
    >>> f"{path.train[:, 0]}"
    '[0.   0.5  0.75]'
    """
    given = setup(ntk_train, y, initial, ntk_test, initial_test, state)
    dtype, each = given.y.dtype, losses.resolve(loss)
    rate = positive("learning_rate", learning_rate, "pass the step size, below 2/λ_max of the kernel")
    momentum = within("momentum", momentum, 0.0, 1.0, "use 0.0 for plain gradient descent")
    steps = jnp.atleast_1d(jnp.asarray(steps))
    steps = steps if jnp.issubdtype(steps.dtype, jnp.integer) else steps.astype(int)
    one = steps.ndim == 1 and steps.size >= 1
    require(one, "steps", f"shape {steps.shape}", "be one number or an array [t]", "use steps.ravel()")
    sound = holds(lambda k: k >= 0, steps)
    require(sound, "steps", steps, "be >= 0", "start at 0")
    require(max_steps >= 1, "max_steps", max_steps, "be at least 1", "use 20000")
    if each is not losses.squared:
        numbers = (jnp.asarray(number, dtype) for number in (rate, momentum))
        return descend(each, given, *numbers, steps, _longest(steps, max_steps))
    # a negative step inside jit: NaN by its rates
    rates = tuple(jnp.where((steps >= 0).all(), jnp.asarray(number, dtype), jnp.nan) for number in (rate, momentum))
    return _closed(_DESCENT, given, steps, rates)


def _longest(steps: Array, bound: int) -> int:
    """A static bound, a power of two, of the number of steps between two of those asked for; `bound` where unknown."""
    if not known(steps):
        return bound
    ahead = sorted(steps.tolist())
    gaps = [after - before for before, after in zip([0, *ahead], ahead, strict=False)]
    return 1 << max(max(gaps) - 1, 0).bit_length()


@boundary
def ensemble_flow(
    ntk_train: Float[Array, "p p ..."],
    ntk_test: Float[Array, "q p ..."],
    nngp_train: Float[Array, "p p ..."],
    nngp_test: Float[Array, "q p ..."],
    nngp_test_test: Float[Array, "q q ..."],
    y: Float[Array, "n ..."],
    *,
    learning_rate: float | Float[Array, ""],
    times: float | Float[Array, "..."],
) -> Ensemble:
    r"""Mean and covariance of infinitely many networks trained by gradient flow from NNGP initial outputs.

    With G_t = Θ* Θ⁻¹ (I − e^(−ηΘt)), K the NNGP kernel:

        mean = G_t y,   covariance = K** + G_t K G_tᵀ − G_t K*ᵀ − K* G_tᵀ

    Args:
        ntk_train, ntk_test: Θ(x, x), Θ(x_test, x).
        nngp_train, nngp_test, nngp_test_test: K(x, x), K(x_test, x), K(x_test, x_test).
        y: targets, [n] or [n outputs]. learning_rate, times: as in `gradient_flow`.
        All kernels in one layout: [n m], or [n o, m o] or [n m o o] where outputs couple.

    Returns:
        `Ensemble`; its status and derivatives as in `gradient_flow`. Variances below 0 by rounding are 0. Where outputs
        couple the covariance is [t, m o, m o].

    Raises:
        ValueError: shapes, η ≤ 0, negative times.

    Cost: one eigendecomposition and 4 n² (n + m) + 4 n m² flops a time; memory 4 n² + t m².
    Source: Lee et al. (2019), equations 14-16 (Corollary 1).

    >>> one = jnp.eye(1)
    >>> found = ensemble_flow(one, one, one, one, one, jnp.ones(1), learning_rate=1.0, times=jnp.array([0.0, jnp.inf]))
    >>> f"{found.mean[:, 0]} {found.covariance[:, 0, 0]}"
    '[0. 1.] [1. 0.]'
    """
    outputs = math.prod(y.shape[1:])
    given, ntk_test = setup(ntk_train, y, None, ntk_test, None), coupled("ntk_test", ntk_test, outputs)
    m, n = ntk_test.shape
    shapes = {"nngp_train": (nngp_train, (n, n)), "nngp_test": (nngp_test, (m, n))}
    nngp = []
    for name, (block, shape) in (shapes | {"nngp_test_test": (nngp_test_test, (m, m))}).items():
        nngp.append(coupled(name, block, outputs))
        require(nngp[-1].shape == shape, name, f"shape {nngp[-1].shape}", f"have the shape {shape}", "check the points")
    dtype = widest(*(each.dtype for each in (given.y, *nngp)))
    rate = jnp.asarray(positive("learning_rate", learning_rate, "pass the rate of the flow, e.g. 1.0"), dtype)
    blocks = (given.ntk, ntk_test, *nngp, given.columns(given.y))
    cast = tuple(each.astype(dtype) for each in blocks)
    mean, spread, status = _ensemble(cast[:2], cast[2:], rate, as_times(times, dtype))
    return Ensemble(mean.reshape(mean.shape[0], *given.test_shape), spread, status)


class _Solutions(NamedTuple):
    """What is left of u_0 and its gain; the response to ȧ_0; the velocities due to both (see `solutions`)."""

    position: Solution
    response: Solution | None = None
    speed: Solution | None = None
    fading: Solution | None = None


_FLOW = _Solutions(exponential)
_HEAVY_BALL = _Solutions(
    solutions.heavy_ball, solutions.heavy_ball_response, solutions.heavy_ball_speed, solutions.heavy_ball_fading
)
_DESCENT = _Solutions(solutions.powers, solutions.powers_response, solutions.powers_speed, solutions.powers_fading)


@partial(jax.jit, static_argnums=0)
def _closed(modes: _Solutions, given: Setup, times: Array, rates: tuple[Array, ...]) -> Trajectory:
    """The squared loss by the eigenpairs of Θ."""
    ntk, cross, start = given.ntk, given.cross, given.columns(given.start - given.y)
    (left, gained), status = evolve(modes.position, _both, Action(ntk, start, cross), times, rates, None)
    moved = None if gained is None else -gained
    velocity = None if given.velocity is None else given.columns(given.velocity)
    if velocity is not None and modes.response is not None:
        (shift, test_shift), response = evolve(modes.response, _both, Action(ntk, velocity, cross), times, rates, None)
        left, moved = left + shift, None if moved is None else moved + test_shift
        status = jnp.where(status == Status.OK, response, status)
    train = given.y[None] + left.reshape(times.shape[0], *given.y.shape)
    test = None if moved is None else moved.reshape(times.shape[0], *given.test_shape)
    test = test if given.test_start is None or test is None else given.test_start[None] + test
    final = None
    if modes.speed is not None and modes.fading is not None:
        final = evolve(modes.speed, _both, Action(ntk, start, None), times[-1:], rates, None)[0][0]
        if velocity is not None:
            final = final + evolve(modes.fading, _both, Action(ntk, velocity, None), times[-1:], rates, None)[0][0]
        final = final.reshape(given.y.shape)
    state = TrainingState(train[-1], None if test is None else test[-1], final)
    return Trajectory(train, test, finite_status((train, test, final), status), state)


def _both(left: Array, gained: Array | None, extras: None) -> tuple[Array, Array | None]:
    return left, gained


@jax.jit
def _ensemble(
    tangent: tuple[Array, Array], extras: tuple[Array, Array, Array, Array], rate: Array, times: Array
) -> tuple[Array, Array, Array]:
    """From Θ and its rows at the test points; K, its rows and block there, and y."""
    (ntk, cross), (nngp, _, nngp_test, _) = tangent, extras
    action = Action(ntk, jnp.eye(ntk.shape[0], dtype=ntk.dtype), cross)
    (mean, spread), status = evolve(exponential, _moments, action, times, (rate,), extras)
    rough = asymmetric(nngp, nngp.T) | asymmetric(nngp_test, nngp_test.T)
    status = jnp.where((status == Status.OK) & rough, jnp.int32(Status.INVALID_INPUT), status)
    return mean, spread, finite_status((mean, spread), status)


def _moments(left: Array, g: Array, extras: tuple[Array, ...]) -> tuple[Array, Array]:
    """G y and K** + G K Gᵀ − G K*ᵀ − K* Gᵀ."""
    nngp, cross, test, y = extras
    mixed = dot(g, cross.T)
    found = test + dot(dot(g, nngp), g.T) - mixed - mixed.T
    return jnp.tensordot(g, y, 1, precision="highest"), covariance(found)
