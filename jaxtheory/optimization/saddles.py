r"""How many iterations it takes to leave d saddles in a row: exponentially many, or a few dozen each with noise.

>>> import jax
>>> with jax.enable_x64(True):
...     escape = escape_times(jax.random.key(0), dim=3, L=1.0, gamma=1.0, tau=2.72, method="gradient_descent")
...     bool((escape.times[1:] > escape.times[:-1]).all())
True
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, holds, known, nonnegative, positive, require
from jaxtheory.optimization.escape_events import events
from jaxtheory.optimization.octopus import landscape, octopus, waiting
from jaxtheory.results import Status, status_where

Number = float | Float[Array, ""]
Method = Literal["gradient_descent", "naive", "perturbed", "sgd", "langevin"]
_COUNTABLE = 1e13  # beyond, the rounding of log|x| ~ steps · log 2 reaches a thousandth of an iteration's growth


class Perturbation(NamedTuple):
    """When and how far perturbed gradient descent kicks: in a ball of `radius`, `interval` steps apart at least,
    where the gradient is no longer than `threshold`; stop where a kick has not won `decrease` within the interval."""

    step_size: Number
    radius: Number
    threshold: Number
    interval: Number
    decrease: Number


class Escape(NamedTuple):
    """Iterations until saddle j is left (NaN for j ≥ dim or if never), and until the minimum is found.

    `total` is when ‖∇f‖ ≤ tolerance beside the minimum; for methods whose noise never ends, when the last saddle is
    left. Times are whole numbers, in the dtype of the iterates.
    """

    times: Float[Array, " max_dim"]
    total: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("smoothness", "hessian", "accuracy", "gap", "dim", "failure", "c"))
def theory_constants(
    smoothness: float, hessian: float, accuracy: float, gap: float, dim: int, failure: float, *, c: float = 1.0
) -> Perturbation:
    r"""The constants with which perturbed gradient descent is proved to escape.

        χ = 3 max{ln(dℓΔ/(cε²δ)), 4},  η = c/ℓ,  r = √c ε/(χ²ℓ),  g = √c ε/χ²,  f = c √(ε³/ρ)/χ³,  t = χℓ/(c²√(ρε))

    Args:
        smoothness: ℓ, Lipschitz constant of the gradient.
        hessian: ρ, Lipschitz constant of the Hessian.
        accuracy: ε ≤ ℓ²/ρ, the gradient norm asked for.
        gap: Δ ≥ f(x₀) − min f.
        dim: d ≥ 1.
        failure: δ, the probability of failing, in (0, 1).
        c: the absolute constant, small enough.

    Raises:
        ValueError: an argument that is not positive and finite, δ ≥ 1, ε > ℓ²/ρ, or a traced number.

    Source: Jin, Ge, Netrapalli, Kakade, Jordan (2017), algorithm 2.

    >>> theory_constants(4.0, 10.0, 0.01, 100.0, 10, 0.1).step_size
    0.25
    """
    for name, value in (("smoothness", smoothness), ("hessian", hessian), ("accuracy", accuracy), ("gap", gap),
                        ("dim", dim), ("failure", failure), ("c", c)):  # fmt: skip
        require(0 < value < np.inf, name, value, "be > 0 and finite", "see its meaning above")
    require(failure < 1, "failure", failure, "be < 1, a probability", "pass e.g. failure=0.1")
    require(
        accuracy <= smoothness * smoothness / hessian, "accuracy", accuracy, "be <= smoothness²/hessian", "ask for less"
    )
    factors = ((dim, 1), (smoothness, 1), (gap, 1), (c, -1), (accuracy, -2), (failure, -1))
    chi = 3 * max(sum(power * float(np.log(value)) for value, power in factors), 4.0)
    threshold = c**0.5 * accuracy / chi**2
    interval, decrease = (
        chi * smoothness / (c * c * (hessian * accuracy) ** 0.5),
        c * accuracy * (accuracy / hessian) ** 0.5,
    )
    return Perturbation(c / smoothness, threshold / smoothness, threshold, interval, decrease / chi**3)


@boundary
def practical_constants(gamma: Number, step_size: Number) -> Perturbation:
    """The constants of the published experiment: r = e/100, g = γe/100, a kick at most every second step.

    Args:
        gamma: γ > 0. step_size: η > 0.

    Raises:
        ValueError: numbers that are not positive (outside jit; NaN inside).

    Source: Du, Jin, Lee, Jordan, Póczos, Singh (2017), section 5.

    >>> practical_constants(1.0, 0.25).interval
    1.0
    """
    eta, curvature = positive("step_size", step_size, "use 1/(4L)"), positive("gamma", gamma, "use 1.0")
    return Perturbation(eta, float(np.e) / 100, curvature * float(np.e) / 100, 1.0, 0.0)


@boundary(static=("L", "gamma", "step_size"))
def growth(L: float, gamma: float, step_size: float) -> float:
    r"""The limit of T_{j+1}/T_j for gradient descent: 1 + ln(1/(1 − 2ηL)) / ln(1 + 2ηγ).

    Args:
        L, gamma: of the landscape, > 0. step_size: η in (0, 1/(2L)).

    Raises:
        ValueError: numbers out of range or traced.

    Source: Du et al. (2017), Theorem 4.1, with its constant.

    >>> f"{growth(1.0, 1.0, 0.25):.3f} {growth(3.0, 1.0, 1 / 12):.3f}"
    '2.710 5.497'
    """
    landscape(L, gamma, 1.0)
    require(0 < step_size < 1 / (2 * L), "step_size", step_size, f"be within (0, 1/(2L)) for L={L}", "use 1/(4L)")
    return 1 - float(np.log1p(-2 * step_size * L) / np.log1p(2 * step_size * gamma))


@boundary(static=("max_dim", "max_steps"))
def escape_times(
    key: Key[Array, ""],
    *,
    dim: int | Int[Array, ""],
    L: Number,
    gamma: Number,
    tau: Number,
    step_size: Number | None = None,
    method: Method,
    max_dim: int | None = None,
    perturbation: Perturbation | None = None,
    noise: Number = 0.0,
    tolerance: Number | None = None,
    max_steps: int = 100_000,
) -> Escape:
    r"""Iterations to leave each saddle of the octopus from a start drawn uniformly in [−1, 1]^dim.

    * `gradient_descent`: x ← x − η∇f, counted exactly by its events in logarithms, however long it takes.
    * `naive`: the same run step by step in floats, where waiting coordinates underflow to zero and never return.
    * `perturbed`: with a uniform kick in a ball of radius r where ‖∇f‖ is small (see `Perturbation`).
    * `sgd`: x ← x − η(∇f + noise · ξ), ξ ~ N(0, I).
    * `langevin`: x ← x − η∇f + √(2η noise) ξ, where `noise` is the temperature.

    Args:
        key: of the start and the noise; vmap over it for many seeds.
        dim: d, the number of saddles; may be traced (vmap over it too), with `max_dim` given.
        L, gamma, tau: the landscape, see `octopus`; τ ≥ 1 so that the start lies in it. These and the next numbers may
            be traced.
        step_size: η < 1/(2L), by default 1/(4L).
        method: see above.
        max_dim: length of `times`, known outside jit; by default `dim`.
        perturbation: constants of `perturbed`, by default `practical_constants`; its step size is `step_size`.
        noise: of `sgd` and `langevin`, ≥ 0.
        tolerance: of the gradient at the end, by default 1e-6, or 1e-4 in float32, where 4τ has no finer neighbour.
        max_steps: of every method but `gradient_descent`, known outside jit.

    Returns:
        `Escape`; status `NOT_CONVERGED` where `max_steps` was not enough or noise left the tube, `ILL_CONDITIONED`
        where the count exceeds 1e13 and rounding could change it, `INVALID_INPUT` inside jit for constants out of
        range.

    Raises:
        ValueError: constants out of range (outside jit); `max_dim` or `max_steps` traced; `gradient_descent` without
            64-bit types, whose logarithms would not count.

    Cost: `gradient_descent` O(dim) divisions and some ten steps a saddle; others O(steps · max_dim).
    Source: Du et al. (2017), Theorem 4.1, and section 5 for the experiment; Jin et al. (2017).

    >>> runs = escape_times(jax.random.key(0), dim=4, L=1.0, gamma=1.0, tau=2.72, method="perturbed")
    >>> int(runs.status), bool(runs.total < 400)
    (0, True)
    """
    length = _length(dim, max_dim)
    require(max_steps >= 1, "max_steps", max_steps, "be >= 1", "allow some steps")
    wide = jnp.result_type(float) == jnp.float64
    exact = method != "gradient_descent" or wide
    require(exact, "method", method, "have 64-bit types for its logarithms", "enable x64 (jax.enable_x64(True))")
    L, gamma, tau = landscape(L, gamma, tau)
    tau = constrain("tau", tau, lambda v: v >= 1, "be >= 1 so that [-1, 1]^dim lies in the tube", "use the paper's e")
    eta = _step_size(1 / (4 * L) if step_size is None else step_size, L)
    heat = nonnegative("noise", noise, "pass a deviation (sgd) or a temperature (langevin)")
    close = (1e-6 if wide else 1e-4) if tolerance is None else positive("tolerance", tolerance, "use the default")
    constants = tuple(jnp.asarray(c, float) for c in (L, gamma, tau, eta, close, heat))
    kick = practical_constants(gamma, eta) if perturbation is None else perturbation
    kick = Perturbation(*(jnp.asarray(c, float) for c in kick._replace(step_size=eta)))
    return _escape(key, jnp.asarray(dim), constants, kick, length, method, max_steps=max_steps)


def _step_size(step_size: Number, L: Number) -> Number:
    """The step size where it is stable; NaN inside jit where it is not."""
    stable = holds(lambda eta, curvature: (eta > 0) & (2 * curvature * eta < 1), step_size, L)
    require(stable, "step_size", step_size, f"be within (0, 1/(2L)) for L={L}", "use the default 1/(4L)")
    if known(step_size, L):
        return step_size
    return jnp.where((jnp.asarray(step_size) > 0) & (2 * L * step_size < 1), step_size, jnp.nan)


@partial(jax.jit, static_argnames=("length", "method", "max_steps"))
def _escape(
    key: Array, dim: Array, constants: tuple, kick: Perturbation, length: int, method: Method, *, max_steps: int
) -> Escape:
    dtype = jnp.zeros(()).dtype
    L, gamma, tau, eta, tolerance, noise = constants
    start, draws = jax.random.split(key)
    # a landscape of d saddles is one of max_dim saddles whose first ones have been passed: those coordinates rest at 4τ
    live = jnp.arange(length) >= length - dim
    # drawn in float32 whatever the precision, so that runs in both begin at the same point
    drawn = jax.random.uniform(start, (length,), jnp.float32, -1, 1).astype(dtype)
    x = jnp.where(live, drawn, 4 * tau)
    scales = {"L": L, "gamma": gamma, "tau": tau}
    if method == "gradient_descent":
        times, total = events(x, **scales, step_size=eta, tolerance=tolerance)
    else:
        walk = _Walk(method, eta, noise, tolerance, max_steps, kick, live, scales)
        times, total = _simulate(walk, x, draws)
    order = jnp.arange(length)
    times = jnp.where(order < dim, times[(order + length - dim) % length], jnp.nan)
    left = jnp.where(order < dim, jnp.isfinite(times), True).all()
    doubtful = (jnp.nan_to_num(times) > _COUNTABLE).any()
    invalid = jnp.isnan(jnp.stack(constants)).any() | (dim < 1) | (dim > length)
    status = status_where(
        (invalid, Status.INVALID_INPUT),
        (doubtful, Status.ILL_CONDITIONED),
        (~left | ~jnp.isfinite(total), Status.NOT_CONVERGED),
    )
    return Escape(times, total, status)


class _Walk(NamedTuple):
    """A method with its constants; `live` marks the coordinates that noise may move."""

    method: Method
    step_size: Array
    noise: Array
    tolerance: Array
    max_steps: int
    kick: Perturbation
    live: Array
    scales: dict[str, Array]


class _Course(NamedTuple):
    """Progress of a walk: point, step, step of the last kick, when each coordinate passed, whether it is over."""

    x: Array
    step: Array
    kicked: Array
    times: Array
    over: Array


def _simulate(walk: _Walk, x: Array, key: Array) -> tuple[Array, Array]:
    """Step by step until every saddle is left and, for methods without lasting noise, the gradient is small."""
    lasting = walk.method in ("sgd", "langevin")
    passed = jnp.where(walk.live, jnp.nan, jnp.zeros_like(x))
    begin = _Course(x, jnp.int32(0), jnp.int32(-(2**30)), passed, jnp.array(False))

    def body(course: _Course) -> _Course:
        gradient = jax.grad(lambda point: octopus(point, **walk.scales))(course.x)
        small = guarded.norm(gradient)
        moved, kicked = _move(walk, course, gradient, small, jax.random.fold_in(key, course.step))
        step = course.step + 1
        gone = waiting(jnp.abs(moved), walk.scales["tau"])
        newly = jnp.isnan(course.times) & (jnp.arange(x.shape[0]) < gone)
        times = jnp.where(newly, step.astype(x.dtype), course.times)
        arrived = ~jnp.isnan(times).any() & (lasting | (guarded.norm(_slope(moved, walk)) <= walk.tolerance))
        return _Course(moved, step, kicked, times, arrived | ~jnp.isfinite(moved).all())

    end = lax.while_loop(lambda c: ~c.over & (c.step < walk.max_steps), body, begin)
    finished = end.over & jnp.isfinite(end.x).all()
    return end.times, jnp.where(finished, end.step.astype(x.dtype), jnp.nan)


def _slope(x: Array, walk: _Walk) -> Array:
    return jax.grad(lambda point: octopus(point, **walk.scales))(x)


def _move(walk: _Walk, course: _Course, gradient: Array, small: Array, key: Array) -> tuple[Array, Array]:
    """One iteration of the method."""
    x, eta = course.x, walk.step_size
    if walk.method == "naive":
        return x - eta * gradient, course.kicked
    if walk.method == "perturbed":
        # at the minimum nothing is to be escaped: the published stopping rule, here by the height reached
        due = (small <= walk.kick.threshold) & ((course.step - course.kicked).astype(x.dtype) > walk.kick.interval)
        due &= jnp.isnan(course.times).any()
        start = jnp.where(due, x + walk.kick.radius * _in_ball(key, walk.live, x.dtype), x)
        return start - eta * _slope(start, walk), jnp.where(due, course.step, course.kicked)
    xi = jnp.where(walk.live, jax.random.normal(key, x.shape, x.dtype), 0)
    scale = eta * walk.noise if walk.method == "sgd" else jnp.sqrt(2 * eta * walk.noise)
    return x - eta * gradient + scale * xi, course.kicked


def _in_ball(key: Array, live: Array, dtype: jnp.dtype) -> Array:
    """A uniform draw from the unit ball of the live coordinates."""
    direction, radius = jax.random.split(key)
    normal = jnp.where(live, jax.random.normal(direction, live.shape, dtype), 0)
    count = live.sum().astype(dtype)
    return normal / guarded.norm(normal) * jax.random.uniform(radius, (), dtype) ** (1 / count)


def _length(dim: int | Array, max_dim: int | None) -> int:
    """The length of `times`, once dim is found to be within it."""
    sized = known(dim) or max_dim is not None
    require(sized, "max_dim", max_dim, "be given where dim is traced", "pass the largest dim")
    length = int(dim) if max_dim is None else max_dim
    require(length >= 1, "dim" if max_dim is None else "max_dim", length, "be >= 1", "count the saddles")
    within = holds(lambda d: (d >= 1) & (d <= length), dim)
    require(within, "dim", dim, f"be within 1..{length} (max_dim)", "raise max_dim")
    return length
