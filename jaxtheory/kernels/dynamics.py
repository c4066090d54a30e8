"""Training dynamics of the lazy regime in closed form: flow, heavy ball, discrete steps, infinite ensembles.

The loss is L = ½ Σ (f − y)², summed over samples and outputs, so that gradient flow at rate η is ḟ = −η Θ (f − y). For
a mean over n samples pass η/n; for NTK Grams of several outputs that couple, pass [n o, n o] and y raveled.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, holds, positive, require, within
from jaxtheory.kernels.functions import widest
from jaxtheory.kernels.matrix_functions import Solution, covariance, evolve
from jaxtheory.kernels.problems import asymmetric
from jaxtheory.kernels.solutions import exponential, heavy_ball, powers
from jaxtheory.results import Status, finite_status


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


@boundary
def gradient_flow(
    ntk_train: Float[Array, "n n"],
    y: Float[Array, "n ..."],
    *,
    learning_rate: float | Float[Array, ""],
    times: float | Float[Array, "..."],
    friction: float | Float[Array, ""] | None = None,
    initial: Float[Array, "n ..."] | None = None,
    ntk_test: Float[Array, "m n"] | None = None,
    initial_test: Float[Array, "m ..."] | None = None,
) -> Trajectory:
    r"""Outputs under gradient flow, or heavy-ball flow, of the squared loss, at all `times`, infinity included.

        flow:        u̇ = −η Θ u,            u = f − y:   f_t = y + e^(−ηΘt) (f_0 − y)
        heavy ball:  ü + γ u̇ + η Θ u = 0,   u̇(0) = 0, friction γ > 0
        test points: f*_t = f*_0 + Θ* Θ⁻¹ (I − u_t u_0⁻¹) (y − f_0)

    (I − u_t u_0⁻¹)/λ is evaluated without cancellation, so that null directions of Θ are as exact as the others.
    Derivatives: first, forward and reverse, in every argument, also at repeated eigenvalues of Θ; second ones in Θ need
    distinct eigenvalues and are NaN otherwise. At infinite times the rank of Θ is held fixed.

    Args:
        ntk_train: Θ(x, x). ntk_test: Θ(x_test, x).
        y: targets. initial, initial_test: f_0 at the training and test points, 0 by default.
        learning_rate: η > 0. times: [t] or one number, ≥ 0, `inf` allowed.
        friction: γ of heavy-ball flow; None is gradient flow. Heavy-ball SGD with momentum μ and step h is near
            γ = (1 − μ)/√h, η = 1, t = k √h.

    Returns:
        `Trajectory`; status INVALID_INPUT with NaN for an indefinite or asymmetric Θ, NOT_FINITE for NaN or infinite
        outputs, among them those of rates and times that are refused outside jit.

    Raises:
        ValueError: shapes, η ≤ 0, negative times, friction ≤ 0.

    Cost: one eigendecomposition (≈ 9 n³ flops, 2 n² memory), then 2 n (n + m) o a time.
    Source: Lee et al. (2019), equations 8-11; Polyak (1964) for the heavy ball.

    >>> path = gradient_flow(jnp.eye(1), jnp.ones(1), learning_rate=1.0, times=jnp.array([0.0, 1.0, jnp.inf]))
    >>> f"{path.train[1, 0]:.4f} {path.train[2, 0]:.4f}"
    '0.6321 1.0000'
    """
    arrays = in_one_dtype(ntk_train, y, initial, ntk_test, initial_test)
    rates = [positive("learning_rate", learning_rate, "pass the rate of the flow, e.g. 1.0")]
    if friction is not None:
        rates += [positive("friction", friction, "use None for gradient flow")]
    dtype = arrays[1].dtype
    solution: Solution = exponential if friction is None else heavy_ball
    return _trajectory(solution, *arrays, _times(times, dtype), tuple(jnp.asarray(rate, dtype) for rate in rates))


@boundary
def gradient_descent(
    ntk_train: Float[Array, "n n"],
    y: Float[Array, "n ..."],
    *,
    learning_rate: float | Float[Array, ""],
    steps: int | Int[Array, "..."],
    momentum: float | Float[Array, ""] = 0.0,
    initial: Float[Array, "n ..."] | None = None,
    ntk_test: Float[Array, "m n"] | None = None,
    initial_test: Float[Array, "m ..."] | None = None,
) -> Trajectory:
    r"""Outputs after k steps of gradient descent with momentum μ on the squared loss, for every k in `steps`.

        θ_{k+1} = θ_k − η ∇L + μ (θ_k − θ_{k−1}):   u_{k+1} = (1 + μ − ηλ) u_k − μ u_{k−1},   u_0 = u_{−1}

    for each eigenvalue λ of Θ, by powers of the recursion's 3×3 matrix (31 squarings, whatever k). It converges for
    ηλ < 2(1 + μ); beyond, the trajectory diverges, and where it overflows the status is NOT_FINITE.

    Args:
        steps: [t] integers or one, ≥ 0.
        momentum: μ in [0, 1].
        the others: as `gradient_flow`; optax.sgd(η, momentum=μ) is this recursion.

    Returns, Raises, Derivatives: as `gradient_flow`.

    Cost: one eigendecomposition, then 31 · 54 n + 2 n (n + m) o flops a step asked for.
    Source: Polyak (1964); Lee et al. (2019), section 2.2.

    >>> path = gradient_descent(jnp.eye(1), jnp.ones(1), learning_rate=0.5, steps=jnp.array([0, 1, 2]))
    >>> f"{path.train[:, 0]}"
    '[0.   0.5  0.75]'
    """
    arrays = in_one_dtype(ntk_train, y, initial, ntk_test, initial_test)
    rate = positive("learning_rate", learning_rate, "pass the step size, below 2/λ_max of the kernel")
    momentum = within("momentum", momentum, 0.0, 1.0, "use 0.0 for plain gradient descent")
    steps = jnp.atleast_1d(jnp.asarray(steps))
    steps = steps if jnp.issubdtype(steps.dtype, jnp.integer) else steps.astype(int)
    require(steps.ndim == 1, "steps", f"shape {steps.shape}", "be one number or an array [t]", "use steps.ravel()")
    sound = holds(lambda k: k >= 0, steps)
    require(sound, "steps", steps, "be >= 0", "start at 0")
    dtype = arrays[1].dtype
    # a negative step inside jit: NaN by its rates
    rates = tuple(jnp.where((steps >= 0).all(), jnp.asarray(each, dtype), jnp.nan) for each in (rate, momentum))
    return _trajectory(powers, *arrays, steps, rates)


@boundary
def ensemble_flow(
    ntk_train: Float[Array, "n n"],
    ntk_test: Float[Array, "m n"],
    nngp_train: Float[Array, "n n"],
    nngp_test: Float[Array, "m n"],
    nngp_test_test: Float[Array, "m m"],
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

    Returns:
        `Ensemble`; its status and derivatives as in `gradient_flow`. Variances below 0 by rounding are 0.

    Raises:
        ValueError: shapes, η ≤ 0, negative times.

    Cost: one eigendecomposition and 2 n² (n + m) + 4 n m² flops a time; memory 4 n² + t m².
    Source: Lee et al. (2019), equations 14-16 (Corollary 1).

    >>> one = jnp.eye(1)
    >>> found = ensemble_flow(one, one, one, one, one, jnp.ones(1), learning_rate=1.0, times=jnp.array([0.0, jnp.inf]))
    >>> f"{found.mean[:, 0]} {found.covariance[:, 0, 0]}"
    '[0. 1.] [1. 0.]'
    """
    n, m = y.shape[0], ntk_test.shape[0]
    shapes = {"nngp_train": (nngp_train, (n, n)), "nngp_test": (nngp_test, (m, n))}
    for name, (block, shape) in (shapes | {"nngp_test_test": (nngp_test_test, (m, m))}).items():
        require(block.shape == shape, name, f"shape {block.shape}", f"have the shape {shape}", "check the points")
    ntk, y = in_one_dtype(ntk_train, y, None, ntk_test, None)[:2]
    dtype = widest(*(each.dtype for each in (y, nngp_train, nngp_test, nngp_test_test)))
    rate = jnp.asarray(positive("learning_rate", learning_rate, "pass the rate of the flow, e.g. 1.0"), dtype)
    blocks = (each.astype(dtype) for each in (ntk, ntk_test, nngp_train, nngp_test, nngp_test_test, y))
    return _ensemble(*blocks, rate, _times(times, dtype))


def in_one_dtype(
    ntk: Array, y: Array, initial: Array | None, cross: Array | None, initial_test: Array | None, name: str = "y"
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """The arrays of a trajectory in one dtype, after checks of their shapes; initial outputs are 0 by default.

    >>> [each.dtype for each in in_one_dtype(jnp.eye(1), jnp.ones(1, jnp.bfloat16), None, None, None)[:2]]
    [dtype('float32'), dtype('float32')]
    """
    require(y.ndim >= 1, name, f"shape {y.shape}", "hold a target for each point", "pass an array [n]")
    n = y.shape[0]
    require(ntk.shape == (n, n), "ntk_train", ntk.shape, f"be {n} by {n}, as {name} has {n} rows", "check both")
    require(n >= 1, name, f"shape {y.shape}", "hold at least one target", "pass data")
    start = jnp.zeros_like(y) if initial is None else initial
    require(start.shape == y.shape, "initial", start.shape, f"have the shape of {name}, {y.shape}", "pass f_0(x)")
    if cross is not None:
        require(cross.shape[1] == n, "ntk_test", cross.shape, f"have {n} columns", "pass Θ(x_test, x)")
    if initial_test is not None:
        require(cross is not None, "ntk_test", None, "be given with initial_test", "pass Θ(x_test, x)")
        shape = (cross.shape[0], *y.shape[1:])  # type: ignore[union-attr]
        require(initial_test.shape == shape, "initial_test", initial_test.shape, f"have the shape {shape}", "check it")
    given = (ntk, y, start, cross, initial_test)
    dtype = widest(*(each.dtype for each in given if each is not None))
    return tuple(None if each is None else each.astype(dtype) for each in given)  # type: ignore[return-value]


def _times(times: Any, dtype: Any) -> Float[Array, " t"]:
    times = jnp.atleast_1d(jnp.asarray(times, dtype))
    require(times.ndim == 1, "times", f"shape {times.shape}", "be one number or an array [t]", "use times.ravel()")
    return constrain("times", times, lambda t: t >= 0, "be >= 0", "start at 0")


@partial(jax.jit, static_argnums=0)
def _trajectory(
    solution: Solution,
    ntk: Array,
    y: Array,
    initial: Array,
    cross: Array | None,
    initial_test: Array | None,
    times: Array,
    rates: tuple[Array, ...],
) -> Trajectory:
    n, shape = y.shape[0], y.shape[1:]
    start = (initial - y).reshape(n, math.prod(shape))
    (train, test), status = evolve(solution, _outputs, ntk, start, cross, times, rates, (y, initial_test))
    train = train.reshape(times.shape[0], n, *shape)
    test = None if cross is None else test.reshape(times.shape[0], cross.shape[0], *shape)
    return Trajectory(train, test, finite_status((train, test), status))


def _outputs(left: Array, gained: Array | None, extras: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
    """f_t = y + u_t and f*_t = f*_0 − Θ* (I − u_t u_0⁻¹) Θ⁻¹ u_0."""
    y, initial = extras
    train = y.reshape(left.shape) + left
    if gained is None:
        return train, None
    return train, -gained if initial is None else initial.reshape(gained.shape) - gained


@jax.jit
def _ensemble(
    ntk: Array, cross: Array, nngp: Array, nngp_cross: Array, nngp_test: Array, y: Array, rate: Array, times: Array
) -> Ensemble:
    identity, extras = jnp.eye(ntk.shape[0], dtype=ntk.dtype), (nngp, nngp_cross, nngp_test, y)
    (mean, spread), status = evolve(exponential, _moments, ntk, identity, cross, times, (rate,), extras)
    rough = asymmetric(nngp, nngp.T) | asymmetric(nngp_test, nngp_test.T)
    status = jnp.where((status == Status.OK) & rough, jnp.int32(Status.INVALID_INPUT), status)
    return Ensemble(mean, spread, finite_status((mean, spread), status))


def _moments(left: Array, g: Array, extras: tuple[Array, ...]) -> tuple[Array, Array]:
    """G y and K** + G K Gᵀ − G K*ᵀ − K* Gᵀ."""
    nngp, cross, test, y = extras
    mixed = _dot(g, cross.T)
    found = test + _dot(_dot(g, nngp), g.T) - mixed - mixed.T
    return jnp.tensordot(g, y, 1, precision="highest"), covariance(found)


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
