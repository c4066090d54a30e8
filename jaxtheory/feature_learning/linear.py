r"""Deep linear networks: the limit without sampling, and the flow of finite networks from any start."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.ode import odeint
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, nonnegative, quantity, require
from jaxtheory.feature_learning.dynamics import Setup
from jaxtheory.feature_learning.problem import Problem, problem
from jaxtheory.feature_learning.solution import Kernels, moved
from jaxtheory.feature_learning.solver import Course, arrange, run, status_of
from jaxtheory.losses import Loss
from jaxtheory.results import Status, finite_status, status_where

_STEPS = 100_000  # between two times


class LinearSolution(NamedTuple):
    """The course of training of deep linear networks in the limit; fields as in `Solution`, without sampling error.

    A `movement` below about 32 ε of its kernel, as that of nearly lazy training in float32, is rounding.
    """

    times: Int[Array, " records"]
    predictions: Float[Array, "records n ..."]
    test_predictions: Float[Array, "records m ..."] | None
    kernels: Kernels
    movement: Kernels
    status: Int[Array, ""]


class LinearFlow(NamedTuple):
    """Products W_N ⋯ W_1 at each time, and the largest relative change of a conserved matrix, which is 0 exactly."""

    products: Float[Array, "t outputs inputs"]
    residual: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("depth", "steps", "outputs", "record_every"))
def linear(
    x: Float[Array, "n d"],
    y: Float[Array, "n ..."] | Int[Array, "n ..."],
    *,
    depth: int,
    richness: float,
    step_size: float,
    steps: int,
    loss: str | Loss = "squared",
    outputs: int | None = None,
    momentum: float = 0.0,
    batches: Int[Array, "steps batch"] | None = None,
    test_x: Float[Array, "m d"] | None = None,
    record_every: int | None = None,
) -> LinearSolution:
    r"""`solve` for φ(h) = h, without sampling: the limit's kernels obey equations of matrices.

    All fields of a layer are linear in independent standard Gaussian vectors, whose inner products are those of
    coordinates. The program is `solve`'s, with a coordinate axis in the place of each Gaussian vector: the state holds
    the matrices of coefficients, with which Φ^l = C C ᵀ and the responses follow exactly. With one datum of
    |x|² = d, L = 1 and η → 0,

        Δ̇ = −2 √(1 + γ0² (y − Δ)²) Δ,     Δ = y − f.

    Args, Raises: as `solve`.

    Returns:
        `LinearSolution`, exact but for rounding: directions less than 32 ε in mean square of a field are dropped.

    Cost: 20 L K³ flops and 8 L K² numbers, K = steps · batch (at least n).
    Source: Bordelon and Pehlevan (2022), section 4 and appendix F; Saxe, McClelland, Ganguli (2014).

    >>> run = linear(jnp.ones((1, 1)), jnp.ones(1), depth=1, richness=2.0, step_size=0.01, steps=50)
    >>> f"{1 - run.predictions[-1, 0]:.2f}"
    '0.26'
    """
    given = problem(
        x, y, depth=depth, activation="identity", richness=richness, step_size=step_size, momentum=momentum,
        steps=steps, record_every=record_every, loss=loss, outputs=outputs, batches=batches, test_x=test_x,
    )  # fmt: skip
    setup = arrange(given, depth, "axes", 0, 0)
    axes = 2 * setup.rows + setup.outputs + len(x) * (1 + setup.outputs)
    begin = jax.random.split(jax.random.key(0), 1)
    return run(setup._replace(samples=axes), given, begin, groups=1, mesh=None, summary=_exact)


def _exact(setup: Setup, given: Problem, course: Course) -> LinearSolution:
    readings = jax.tree.map(lambda leaf: leaf[0], course.readings)
    kernels = Kernels(readings.features, readings.gradients, readings.tangent)
    predictions = readings.predictions.reshape(-1, len(given.data.x), *given.plan.shape)
    test = readings.test.reshape(-1, len(given.data.test), *given.plan.shape) if len(given.data.test) else None
    movement = Kernels(*(kernel[0] for kernel in moved(Kernels(*(kernel[None] for kernel in kernels)))))
    times = jnp.arange(0, given.plan.steps + 1, given.plan.every, dtype=jnp.int32)
    found = predictions, test, kernels, movement
    return LinearSolution(times, *found, status_of(given, found))


@boundary
def linear_modes(
    singular_values: Float[Array, " d"],
    times: Float[Array, " t"],
    *,
    start: float | Float[Array, ""],
    imbalance: float | Float[Array, ""] = 0.0,
) -> Float[Array, "t d"]:
    r"""Modes σ = ab of a linear network with one hidden layer under the flow of ½(ab − s)² from an aligned start.

        ȧ = b(s − ab),  ḃ = a(s − ab):    σ̇ = √(λ² + 4σ²) (s − σ),   λ = |a² − b²| constant

    With ρ = √(λ² + 4s²), e = e^(−ρt), m = (1 − e)/ρ and p = σ + √(σ² + λ²/4), which obeys ṗ = −(p − p₊)(p − p₋),

        p = (p₀(p₊ m + e) + m λ²/4) / (e + m (p₀ − p₋)),   p_± = s ± ρ/2,   σ = (p − λ²/4p)/2.

    λ = 0 is the balanced start and its logistic curve. In the limit of infinite width, with |x|² = d and whitened
    inputs, γ0 f has λ = 2, σ(0) = 0 and s = γ0 y.

    Args:
        singular_values: s ≥ 0. times: t ≥ 0. start: σ(0) ≥ 0. imbalance: λ ≥ 0.

    Returns:
        σ at each time, for each singular value; the origin is a fixed point for λ = 0.

    Raises:
        ValueError: negative arguments (NaN inside jit).

    Cost: t · d evaluations. Source: Saxe, McClelland, Ganguli (2014), equations 8 and 12 and appendix A.

    >>> linear_modes(jnp.array([1.0]), jnp.array([0.5]), start=0.0, imbalance=2.0).round(4)
    Array([[0.6619]], dtype=float32)
    """
    s = nonnegative("singular_values", singular_values, "flip the sign of a singular vector")[None, :]
    t = nonnegative("times", times, "pass times from the start on")[:, None].astype(s.dtype)
    sigma = jnp.asarray(nonnegative("start", start, "flip the sign of a mode"), s.dtype)
    spread = jnp.asarray(nonnegative("imbalance", imbalance, "pass |a² − b²|"), s.dtype) / 2
    return _mode(s, t, sigma, spread)


@jax.jit
def _mode(s: Array, t: Array, start: Array, spread: Array) -> Array:
    def above(value: Array) -> Array:
        """p − λ/2 of σ, without cancellation."""
        return value + value * _quotient(value, _length(value, spread) + spread, 1.0)

    rho = 2 * _length(s, spread)
    clock = jnp.where(rho > 0, -jnp.expm1(-rho * t) / jnp.where(rho > 0, rho, 1), t)
    apart = above(start) + spread + guarded.over(spread**2, s + rho / 2)
    # both parts of the quotient in units of p₀ − p₋, beside which e^(−ρt) may be below the smallest number
    unit = guarded.power_of_two(apart[None], axis=0)
    decay = (jnp.exp(-rho * t / 2) / jnp.sqrt(unit)) ** 2
    below = decay + clock * (apart / unit)
    least = jnp.finfo(below.dtype).tiny  # 0 where the mode starts at the origin, and stays there
    grown = (decay * above(start) + clock * above(s) * (apart / unit)) / jnp.maximum(below, least)
    return grown * _quotient(grown + 2 * spread, 2 * (grown + spread), 0.5)


def _length(a: Array, b: Array) -> Array:
    """√(a² + b²) at any scale; unlike jnp.hypot with second derivatives at a = b."""
    a, b = jnp.broadcast_arrays(a, b)
    unit = guarded.power_of_two(jnp.stack([a, b]), axis=0)
    return unit * guarded.root((a / unit) ** 2 + (b / unit) ** 2)


def _quotient(numerator: Array, denominator: Array, limit: float) -> Array:
    """The quotient of numbers ≥ 0, and its limit for a balanced mode that starts at 0, where both are."""
    empty = denominator == 0
    quotient = numerator / jnp.where(empty, jnp.ones_like(denominator), denominator)
    return jnp.where(empty, jnp.full_like(quotient, limit), quotient)


@boundary(static=("tolerance",))
def linear_flow(
    weights: Any, target: Float[Array, "outputs inputs"], times: Float[Array, " t"], *, tolerance: float | None = None
) -> LinearFlow:
    r"""The product W_N ⋯ W_1 of a deep linear network under the flow of ½‖W_N ⋯ W_1 − Y‖², from any start.

        Ẇ_l = (W_N ⋯ W_{l+1})ᵀ (Y − W_N ⋯ W_1) (W_{l−1} ⋯ W_1)ᵀ,   W_{l+1}ᵀW_{l+1} − W_l W_lᵀ constant,

    balanced (the constants are 0) or not, aligned with the singular vectors of Y or not. Aligned starts with N = 2
    have the closed form `linear_modes`.

    Args:
        weights: W_1, …, W_N, a list of matrices [out, in]. target: Y, the correlation of outputs and whitened inputs.
        times: ascending, ≥ 0, finite.
        tolerance: of a step, relative to the weights and to the largest at the start; by default 1e-10 in float64,
            1e-6 in float32.

    Returns:
        `LinearFlow`; NOT_CONVERGED where the constants have changed by more than √tolerance, as where 100,000 steps did
        not reach the next time: a step is at most about 3 over the largest curvature.

    Raises:
        ValueError: weights that do not multiply, times that descend or are infinite.

    Cost: adaptive Runge-Kutta steps of order 5, 7 gradients each. Reverse-mode derivatives only.
    Source: Saxe, McClelland, Ganguli (2014); Fukumizu (1998) for balanced starts that are not aligned.

    >>> flow = linear_flow([jnp.array([[1.0]]), jnp.array([[0.0]])], jnp.array([[1.0]]), jnp.array([1.0]))
    >>> f"{flow.products[0, 0, 0]:.4f} {linear_modes([1.0], [1.0], start=0.0, imbalance=1.0)[0, 0]:.4f}"
    '0.7378 0.7378'
    """
    several = isinstance(weights, (list, tuple)) and len(weights) >= 1
    require(several, "weights", type(weights).__name__, "be a list of matrices", "pass [W_1, …, W_N], each [out, in]")
    layers = [jnp.asarray(quantity("weights", weight), target.dtype) for weight in weights]
    shapes = [weight.shape for weight in layers]
    chain = [target.shape[1], *(shape[0] for shape in shapes if len(shape) == 2)]
    fits = len(chain) == len(shapes) + 1 > 1 and shapes == list(zip(chain[1:], chain[:-1], strict=True))
    require(fits and chain[-1] == target.shape[0], "weights", shapes, f"multiply to {target.shape}", "pass [out, in]")
    forward = constrain("times", times, _ascends, "be finite and ascend from 0", "sort them")
    relative = (1e-10 if target.dtype == jnp.float64 else 1e-6) if tolerance is None else float(tolerance)
    require(relative > 0, "tolerance", tolerance, "be > 0", "use 1e-6, or None")
    return _flow(layers, target, forward.astype(target.dtype), relative)


@partial(jax.jit, static_argnums=3)
def _flow(layers: list[Array], target: Array, times: Array, tolerance: float) -> LinearFlow:
    from_start = jnp.concatenate([jnp.zeros((1,), times.dtype), times])
    # from a small start a small error grows as the weights do: absolute errors are in units of the start
    unit = guarded.power_of_two(jnp.concatenate([weight.ravel() for weight in layers]))

    def slope(scaled: list[Array], _: Array, unit: Array, target: Array) -> list[Array]:
        gradient = jax.grad(lambda w: jnp.sum((_product(w) - target) ** 2) / 2)([unit * each for each in scaled])
        return [-each / unit for each in gradient]

    start = [weight / unit for weight in layers]
    path = odeint(slope, start, from_start, unit, target, rtol=tolerance, atol=tolerance, mxstep=_STEPS)
    path = [unit * weight for weight in path]
    products = jax.vmap(_product)(path)[1:]
    held = [jnp.matmul(b.mT, b, precision="highest") - jnp.matmul(a, a.mT, precision="highest")
            for a, b in itertools.pairwise(path)]  # fmt: skip
    size = sum(jnp.sum(weight[0] ** 2) for weight in path) + jnp.sum(jnp.abs(target))
    changes = [jnp.abs(constant - constant[:1]).max() for constant in held]
    residual = jnp.stack([*changes, jnp.zeros((), target.dtype)]).max() / jnp.where(size > 0, size, 1)
    loose = residual > jnp.sqrt(jnp.asarray(tolerance, target.dtype))
    status = finite_status((products, residual), status_where((loose, Status.NOT_CONVERGED)))
    return LinearFlow(products, residual, status)


def _ascends(times: Any) -> Any:
    return (jnp.diff(times, prepend=0.0) >= 0) & (times < jnp.inf)


def _product(layers: list[Array]) -> Array:
    """W_N ⋯ W_1."""
    found = layers[0]
    for layer in layers[1:]:
        found = jnp.matmul(layer, found, precision="highest")
    return found
