"""Entropic transport in the log domain and in blocks, and the Sinkhorn divergence, for any cost."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.checks import Checked, boundary, positive, require
from jaxtheory.guarded import divided, power_of_two
from jaxtheory.results import Status, status_where
from jaxtheory.transport.blocks import Pairs, Problem, mean_cost, power_cost, squared_cost
from jaxtheory.transport.costs import Number, masses, normalized, power, require_same_space, vanished, weighted_sum
from jaxtheory.transport.potentials import Loop, marginal_error, potentials, stationary_value

Cost = Callable[[Array, Array], Array]


class Potentials(NamedTuple):
    """Dual potentials, in units of the cost. The plan is P_ij = a_i b_j exp((f_i + g_j − c_ij)/ε)."""

    f: Float[Array, " n"]
    g: Float[Array, " m"]


class Entropic(NamedTuple):
    """An entropic transport cost, the potentials, and the marginal error recomputed from them."""

    cost: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    iterations: Int[Array, ""]
    potentials: Potentials


class DivergencePotentials(NamedTuple):
    """The potentials of (x, y), and the one of (x, x) and of (y, y)."""

    cross: Potentials
    x: Float[Array, " n"]
    y: Float[Array, " m"]


class Divergence(NamedTuple):
    """A Sinkhorn divergence; `residual` is the largest marginal error and `iterations` the sum of three solves."""

    cost: Float[Array, ""]
    residual: Float[Array, ""]
    status: Int[Array, ""]
    iterations: Int[Array, ""]
    potentials: DivergencePotentials


@boundary(static=("max_iterations", "block"))
def entropic(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    *,
    epsilon: Number,
    p: Number = 2.0,
    cost: Cost | None = None,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
    penalty: Number | None = None,
    start: Potentials | None = None,
    tolerance: Number = 1e-3,
    max_iterations: int = 2000,
    block: int | None = None,
) -> Entropic:
    r"""Entropic transport cost OT_ε between weighted clouds, by Sinkhorn's iteration in the log domain.

        OT_ε(a, b) = min_P ⟨P, C⟩ + ε KL(P ‖ a ⊗ b)   over plans with P1 = a, Pᵀ1 = b
                   = max_{f, g} ⟨a, f⟩ + ⟨b, g⟩ − ε (Σ_ij a_i b_j exp((f_i + g_j − c_ij)/ε) − 1)

    With a penalty ρ the marginals are free, + ρ KL(P1 ‖ a) + ρ KL(Pᵀ1 ‖ b), KL(p ‖ q) = Σ p log(p/q) − p + q, and
    ⟨a, f⟩ becomes −ρ ⟨a, exp(−f/ρ) − 1⟩.

    Args:
        x, y: n and m points.
        epsilon: ε > 0, in units of the cost; it may be traced, as may p and the penalty.
        p: of the cost |x − y|^p, > 0.
        cost: c(x_i, y_j) of two points [d], in place of p; derivatives reach what it closes over. Define it once: each
            new function is compiled.
        x_weights, y_weights: a and b, ≥ 0, equal by default; normalized here, but for a penalty, which compares masses.
        penalty: ρ > 0, in units of the cost; None for marginals that are constraints.
        start: potentials to start from, e.g. those of a larger ε or of the last step.
        tolerance: largest residual of an answer that passes.
        max_iterations: of two updates each.
        block: pairs held at once; by default 2^18, and 2^24 on an accelerator.

    Returns:
        `Entropic`; `residual` is ‖P1 − a‖₁ + ‖Pᵀ1 − b‖₁ (with a penalty, the distance to a exp(−f/ρ) and b exp(−g/ρ),
        over the mean mass), with NOT_CONVERGED above `tolerance`; NOT_FINITE; ILL_CONDITIONED where the cost is too
        small for its dtype, or the mean cost of all pairs below √eps of ε, which it is computed in units of.
        The potentials satisfy ⟨a, f⟩ = ⟨b, g⟩ without a penalty.

    Raises:
        ValueError: ε, p, ρ or tolerance ≤ 0, negative weights (inside `jit`: NOT_FINITE); weights or a start of another
            length; p beside a cost.

    Differentiable in points, weights, ε, p and ρ: the first derivative of the cost is that of the dual at the
    potentials, the second and those of the potentials solve the linearized equations by conjugate gradients.
    Cost: n m (d + exp) twice an iteration; memory n + m and a block, also in reverse mode.
    Source: Cuturi (2013); Chizat, Peyré, Schmitzer, Vialard (2018); Séjourné, Vialard, Peyré (2022), whose translation
    of the potentials makes large penalties as fast as constraints; Feydy et al. (2019).

    >>> found = entropic(jnp.zeros((2, 1)), jnp.ones((3, 1)), epsilon=0.1, p=1.0)
    >>> f"{found.cost:.3f}", int(found.status)
    ('1.000', 0)
    """
    problem, pairs = _stated(x, y, epsilon, p, cost, a=x_weights, b=y_weights, penalty=penalty, block=block)
    if start is not None:
        start = Potentials(*(_started(problem.x, start.f), _started(problem.y, start.g)))
    return _entropic(problem, _accuracy(problem, tolerance), start, pairs, _count(max_iterations))


@boundary(static=("max_iterations", "block"))
def sinkhorn(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    *,
    epsilon: Number,
    p: Number = 2.0,
    cost: Cost | None = None,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
    penalty: Number | None = None,
    start: DivergencePotentials | None = None,
    tolerance: Number = 1e-3,
    max_iterations: int = 2000,
    block: int | None = None,
) -> Divergence:
    r"""Sinkhorn divergence S_ε(x, y) = OT_ε(x, y) − (OT_ε(x, x) + OT_ε(y, y))/2, + ε/2 (Σa − Σb)² with a penalty.

    S_ε → W_p^p as ε → 0 and is 0 at x = y for every ε; for p = 2 the bias is O(ε²).

    Args:
        cost: symmetric, c(u, v) = c(v, u).
        start: the `potentials` of an earlier answer.
        max_iterations: of each of three solves.
        x, y, epsilon, p, x_weights, y_weights, penalty, tolerance, block: as in `entropic`.

    Returns:
        `Divergence`, with the statuses of `entropic`.

    Raises:
        ValueError: as `entropic`.

    Derivatives as those of `entropic`. Cost: three of its solves, of n m, n² and m² pairs.
    Source: Feydy et al. (2019); Séjourné et al. (2019) with a penalty.

    >>> found = sinkhorn(jnp.zeros((2, 1)), jnp.ones((2, 1)), epsilon=0.1)
    >>> f"{found.cost:.3f}", int(found.status)
    ('1.000', 0)
    """
    problem, pairs = _stated(x, y, epsilon, p, cost, a=x_weights, b=y_weights, penalty=penalty, block=block)
    if start is not None:
        cross = Potentials(_started(problem.x, start.cross.f), _started(problem.y, start.cross.g))
        start = DivergencePotentials(cross, _started(problem.x, start.x), _started(problem.y, start.y))
    return _divergence(problem, _accuracy(problem, tolerance), start, pairs, _count(max_iterations))


def _stated(
    x: Array, y: Array, epsilon: Any, p: Any, cost: Cost | None, *, a: Any, b: Any, penalty: Any, block: int | None
) -> tuple[Problem, Pairs]:
    """The arguments as a checked problem of one dtype."""
    require_same_space(x, y)
    require(block is None or block >= 1, "block", block, "be >= 1 pair", "use None for a block that fits the cache")
    dtype = jnp.result_type(x, y)
    x, y = x.astype(dtype), y.astype(dtype)
    epsilon = jnp.asarray(positive("epsilon", epsilon, "use exact() for the unregularized cost"), dtype)
    a, b = masses("x_weights", a, len(x), dtype), masses("y_weights", b, len(y), dtype)
    if penalty is None:
        a, b = normalized(a), normalized(b)
    else:
        penalty = jnp.asarray(positive("penalty", penalty, "use None for marginals that are constraints"), dtype)
    pairs, parameters = _pairs(cost, p, x, y, block)
    return Problem(x, y, a, b, epsilon, penalty, parameters), pairs


class _Given(NamedTuple):
    """A cost of two points as its author wrote it; traced numbers in it have become parameters."""

    cost: Callable[..., Array]
    turned: bool

    def __call__(self, point: Array, others: Array, parameters: PyTree) -> Array:
        def one(other: Array) -> Array:
            pair = (other, point) if self.turned else (point, other)
            return self.cost(*pair, *parameters).astype(point.dtype)

        return jax.vmap(one, in_axes=1)(others)


def _pairs(cost: Cost | None, p: Any, x: Array, y: Array, block: int | None) -> tuple[Pairs, Any]:
    """The costs of pairs and their parameters."""
    usual = isinstance(p, float) and p == 2.0
    if cost is None:
        order = None if usual else jnp.asarray(positive("p", p, "use p=1.0 or p=2.0"), x.dtype)
        function = squared_cost if usual else power_cost
        return Pairs(function, function, block), order
    require(usual, "p", p, "be left out beside a cost", "put the power into the cost")
    cost = Checked("cost", cost)
    lifted, parameters = jax.closure_convert(cost, x[0], y[0])
    given: Any = lifted if parameters else cost  # the same function again is the same program again
    forth: Any = _Given(given, False)
    back: Any = _Given(given, True)
    return Pairs(forth, back, block), tuple(parameters)


def _started(points: Array, potential: Array) -> Array:
    found = jnp.asarray(potential, points.dtype)
    hint = "pass the potentials of an answer for as many points"
    require(found.shape == (len(points),), "start", found.shape, f"hold one number for each of {len(points)}", hint)
    return found


def _accuracy(problem: Problem, tolerance: Any) -> Array:
    return jnp.asarray(positive("tolerance", tolerance, "use e.g. tolerance=1e-3"), problem.x.dtype)


def _count(iterations: int) -> int:
    require(iterations >= 1, "max_iterations", iterations, "be >= 1", "use 2000")
    return iterations


class _Unit(NamedTuple):
    """The unit of a problem's costs, as two factors, since their product may be out of range."""

    first: Array
    second: Array

    def measure(self, cost: Array) -> Array:
        """A cost in this unit."""
        return divided(cost, self.first, self.second)

    def joined(self, number: Array) -> Array:
        """The cost of a number of units."""
        return number * self.first * self.second


def _scaled(problem: Problem, pairs: Pairs) -> tuple[Problem, _Unit]:
    """The problem for points of order one, and the unit of its costs; a given cost keeps its units."""
    one = jnp.ones_like(problem.epsilon)
    if pairs.cost not in (squared_cost, power_cost):
        return problem, _Unit(one, one)
    length = power_of_two(jnp.concatenate([problem.x, problem.y]))
    unit = _Unit(length, length)
    if problem.parameters is not None:
        half = jnp.floor(problem.parameters / 2)  # whole, so that the factors of a whole p are powers of two
        unit = _Unit(power(length, half), power(length, problem.parameters - half))
    penalty = None if problem.penalty is None else unit.measure(problem.penalty)
    epsilon = unit.measure(problem.epsilon)
    return problem._replace(x=problem.x / length, y=problem.y / length, epsilon=epsilon, penalty=penalty), unit


class _Solution(NamedTuple):
    value: Array
    residual: Array
    iterations: Array
    F: Array
    G: Array


def _solved(
    pairs: Pairs, loop: Loop, problem: Problem, tolerance: Array, start: tuple[Array, Array] | None
) -> _Solution:
    """A solution from potentials in units of ε."""
    start = (jnp.zeros_like(problem.a), jnp.zeros_like(problem.b)) if start is None else start
    F, G, count = potentials(pairs, loop, problem, tolerance, start)
    value = stationary_value(pairs, problem, F, G)
    residual = marginal_error(pairs, problem, F, G)
    if problem.penalty is None:  # f + c and g − c are as good
        shift = (weighted_sum(problem.a, F) - weighted_sum(problem.b, G)) / 2
        F, G = F - shift, G + shift
    return _Solution(value, residual, count, F, G)


@partial(jax.jit, static_argnums=(3, 4))
def _entropic(given: Problem, tolerance: Array, start: Potentials | None, pairs: Pairs, iterations: int) -> Entropic:
    problem, unit = _scaled(given, pairs)
    begun = None if start is None else tuple(unit.measure(f) / problem.epsilon for f in start)
    found = _solved(pairs, Loop(iterations, False), problem, tolerance, begun)  # type: ignore[arg-type]
    f, g = (unit.joined(problem.epsilon * F) for F in (found.F, found.G))
    cost = unit.joined(found.value)
    visible = jnp.abs(found.value) > 100 * jnp.finfo(cost.dtype).eps * problem.epsilon
    faults = _faults((cost, f, g), found.residual, tolerance, vanished(cost, visible), _drowned(pairs, problem))
    return Entropic(cost, found.residual, faults, found.iterations, Potentials(f, g))


def _drowned(pairs: Pairs, problem: Problem) -> tuple[Array, Status]:
    """The fault of costs that are lost in ε: the dual is ε times numbers of order one, each with its rounding."""
    held, rounding = mean_cost(pairs, problem), float(jnp.finfo(problem.x.dtype).eps)
    return (held > 0) & (problem.epsilon * rounding**0.5 > held), Status.ILL_CONDITIONED


def _faults(numbers: tuple[Array, ...], residual: Array, tolerance: Array, *others: tuple[Array, Status]) -> Array:
    lost = ~(jnp.isfinite(residual) & jnp.stack([jnp.isfinite(number).all() for number in numbers]).all())
    return status_where((lost, Status.NOT_FINITE), (~(residual <= tolerance), Status.NOT_CONVERGED), *others)


@partial(jax.jit, static_argnums=(3, 4))
def _divergence(
    given: Problem, tolerance: Array, start: DivergencePotentials | None, pairs: Pairs, iterations: int
) -> Divergence:
    problem, unit = _scaled(given, pairs)
    begun = jax.tree.map(lambda f: unit.measure(f) / problem.epsilon, start)
    left, right = problem._replace(y=problem.x, b=problem.a), problem._replace(x=problem.y, a=problem.b)
    cross = _solved(pairs, Loop(iterations, False), problem, tolerance, begun and tuple(begun.cross))
    own = Loop(iterations, True)
    first = _solved(pairs, own, left, tolerance, begun and (begun.x, begun.x))
    second = _solved(pairs, own, right, tolerance, begun and (begun.y, begun.y))
    value = cross.value - (first.value + second.value) / 2
    if problem.penalty is not None:
        value = value + problem.epsilon / 2 * (problem.a.sum() - problem.b.sum()) ** 2
    cost, residual = unit.joined(value), jnp.maximum(cross.residual, jnp.maximum(first.residual, second.residual))
    # below its rounding the divergence is 0 in any units
    small = vanished(cost, jnp.abs(value) > 100 * jnp.finfo(cost.dtype).eps * jnp.abs(cross.value))
    f, g, own_x, own_y = (unit.joined(problem.epsilon * F) for F in (cross.F, cross.G, first.F, second.F))
    status = _faults((cost, f, g, own_x, own_y), residual, tolerance, small, _drowned(pairs, problem))
    count = cross.iterations + first.iterations + second.iterations
    return Divergence(cost, residual, status, count, DivergencePotentials(Potentials(f, g), own_x, own_y))
