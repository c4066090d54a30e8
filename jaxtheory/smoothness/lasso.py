r"""Sparse estimation over a dictionary prepared in advance: lasso, basis pursuit, and the network that the answer is.

The dictionary must hold every atom that a target may need; its size is exponential in the dimension
(`bspline.dictionary_size`). A network chooses its atoms after it has seen the data.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.checks import boundary, known, nonnegative, require
from jaxtheory.results import Status, finite_status, relative_residual, status_where
from jaxtheory.smoothness.bspline_networks import SplineSum, relu_sum
from jaxtheory.smoothness.multipliers import solve_certified

_GROWTH = 10.0  # of the proximal parameter, from one outer step to the next
_INNER = 12  # Newton steps before the next outer step, at most
_HALVINGS = 20  # of the line search, exact on a piecewise linear slope
_ROUNDS = 100  # of the method of multipliers; some suffice where the equations can be met


class Lasso(NamedTuple):
    """Coefficients, the fit, and the duality gap relative to the objective, which bounds the excess of the latter."""

    coefficients: Float[Array, " atoms"]
    fitted: Float[Array, " n"]
    gap: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("steps",))
def lasso(
    design: Float[Array, "n atoms"], y: Float[Array, " n"], penalty: float | Float[Array, ""], *, steps: int = 300
) -> Lasso:
    r"""Minimize ½‖y − A b‖² + λ Σ_i ‖a_i‖ |b_i| by the proximal point method, its steps by semismooth Newton.

        b ← argmin_b ½‖y − A b‖² + λ Σ_i ‖a_i‖ |b_i| + ‖b − b_old‖²/2τ,   τ = 1, 10, 100, …

    Columns are scaled to norm 1, so that λ = σ √(2 log atoms) is the universal choice whatever the atoms' sizes;
    columns of zeros get the coefficient 0. Nested and repeated atoms do not slow it down: some tens of Newton steps.
    Where λ is far below the data, whose rounding hides it, the answer is found and certified through the dual: as λ → 0
    it is the least-squares fit of least Σ_i ‖a_i‖ |b_i|.

    Args:
        design: A. y: observations. penalty: λ ≥ 0; at 0 it is least squares. steps: of Newton's method, at most.

    Returns:
        `Lasso`; `status` is `NOT_CONVERGED` where the gap is above 2√eps. Derivatives are those on the support of b:
        where an atom is about to enter or to leave they are one-sided, and where atoms on the support depend on each
        other they are of least norm.

    Raises:
        ValueError: shapes that differ, no atom, steps < 1, λ < 0 (outside jit; NaN inside).

    Cost: a Newton step takes k² atoms + k³/3 flops with k = min(n, atoms), memory k² + k atoms; derivatives atoms³; at
    penalties that rounding hides some singular value decompositions.
    vmaps over y and λ. Source: Tibshirani (1996); Li, Sun, Toh (2018), algorithm SSNAL.

    >>> [f"{b:.3f}" for b in lasso(jnp.eye(2), jnp.array([3.0, 0.5]), 1.0).coefficients]
    ['2.000', '0.000']
    """
    require(design.shape[0] == len(y), "y", len(y), f"have one entry for each of {design.shape[0]} rows", "pair them")
    require(min(design.shape) >= 1, "design", design.shape, "hold a row and an atom", "pass a dictionary and data")
    require(steps >= 1, "steps", steps, "be >= 1", "allow some steps")
    level = nonnegative("penalty", penalty, "use 0 for least squares")
    return _lasso(design, y, jnp.asarray(level, y.dtype), steps)


@partial(jax.jit, static_argnames="steps")
def _lasso(design: Array, y: Array, penalty: Array, steps: int) -> Lasso:
    norms = guarded.norm(design, axis=0)
    zero = norms == 0
    unit = design / jnp.where(zero, jnp.ones_like(norms), norms)[None, :]
    scale = guarded.power_of_two(y)
    target, level = y / scale, penalty / scale
    b, gap = _solution(unit, target, level, steps)
    fitted = jnp.matmul(unit, b, precision="highest")
    slow = status_where((gap > 2 * jnp.finfo(y.dtype).eps ** 0.5, Status.NOT_CONVERGED))
    coefficients = b / jnp.where(zero, jnp.ones_like(norms), norms) * scale
    return Lasso(coefficients, fitted * scale, gap, finite_status((coefficients, gap), slow))


@partial(jax.custom_jvp, nondiff_argnums=(3,))
def _solution(unit: Array, y: Array, penalty: Array, steps: int) -> tuple[Array, Array]:
    """b for columns of norm 1 or 0, and its gap; the triangular factor of a tall A holds what counts."""
    matrix, target = unit, y
    if unit.shape[0] > unit.shape[1]:
        q, matrix = jnp.linalg.qr(unit)
        target = jnp.matmul(q.T, y, precision="highest")
    found = solve_certified(
        matrix,
        target,
        penalty,
        lambda target, level: _proximal_points(matrix, target, level, steps),
        lambda b: _gap(unit, y, penalty, b),
        rounds=steps,
        enough=float(jnp.finfo(y.dtype).eps) ** 0.5,
    )
    return found.b, found.gap


@_solution.defjvp
def _solution_jvp(steps: int, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> Any:
    """On the support, Aᵀ(y − A b) = λ sgn b: a linear system, differentiated."""
    unit, y, penalty = primals
    unit_dot, y_dot, penalty_dot = tangents
    b, gap = _solution(unit, y, penalty, steps)
    active = (b != 0).astype(b.dtype)
    columns, moved = unit * active[None, :], unit_dot * active[None, :]
    gram = jnp.matmul(columns.T, columns, precision="highest")
    residual = y - jnp.matmul(columns, b, precision="highest")
    forced = y_dot - jnp.matmul(moved, b, precision="highest")
    right = jnp.matmul(moved.T, residual, precision="highest") + jnp.matmul(columns.T, forced, precision="highest")
    inverse = jnp.linalg.pinv(gram, hermitian=True)
    moved = active * jnp.matmul(inverse, right - penalty_dot * jnp.sign(b), precision="highest")
    return (b, gap), (moved, jnp.zeros_like(gap))


class _State(NamedTuple):
    """Where the iteration stands: b_old, the dual point ξ (−residual at the end), τ, counts, and the best b so far."""

    b: Array
    dual: Array
    tau: Array
    inner: Array
    step: Array
    best: Array
    gap: Array


def _proximal_points(unit: Array, y: Array, penalty: Array, steps: int) -> Array:
    # well below what is accepted
    enough = jnp.finfo(y.dtype).eps ** 0.5 / 4
    nothing = jnp.zeros_like(unit[0])
    count = jnp.zeros((), jnp.int32)
    start = _State(nothing, -y, jnp.ones_like(penalty), count, count, nothing, _gap(unit, y, penalty, nothing))
    going = lambda state: (state.gap > enough) & (state.step < steps)  # noqa: E731
    return jax.lax.while_loop(going, lambda state: _advance(state, unit, y, penalty), start).best


def _advance(state: _State, unit: Array, y: Array, penalty: Array) -> _State:
    """One Newton step on the dual of the proximal problem, ξ ↦ ½‖ξ‖² + ⟨y, ξ⟩ + ‖b(ξ)‖²/2τ."""
    tau, level = state.tau, state.tau * penalty
    moved = state.b - tau * jnp.matmul(state.dual, unit, precision="highest")
    primal = _soft(moved, level)
    active = jnp.abs(moved) > level
    columns = unit * active.astype(y.dtype)[None, :]
    hessian = jnp.eye(len(y), dtype=y.dtype) + tau * jnp.matmul(columns, columns.T, precision="highest")
    factor = (jnp.linalg.cholesky(hessian), True)
    candidate = _refined(unit, y, penalty, primal, active, tau, factor=factor)
    gap = _gap(unit, y, penalty, candidate)

    gradient = y + state.dual - jnp.matmul(unit, primal, precision="highest")
    direction = -jax.scipy.linalg.cho_solve(factor, gradient)
    across = jnp.matmul(direction, unit, precision="highest")
    constant = jnp.dot(direction, y + state.dual, precision="highest")
    square = jnp.dot(direction, direction, precision="highest")

    def slope(length: Array) -> Array:
        inside = _soft(moved - tau * length * across, level)
        return constant + length * square - jnp.dot(across, inside, precision="highest")

    dual = state.dual + _step_length(slope, jnp.ones_like(tau)) * direction
    following = _soft(state.b - tau * jnp.matmul(dual, unit, precision="highest"), level)
    left = guarded.norm(y + dual - jnp.matmul(unit, following, precision="highest"))
    eps = jnp.finfo(y.dtype).eps
    solved = left <= jnp.maximum(0.2 * guarded.norm(following - state.b) / jnp.sqrt(tau), 16 * eps * guarded.norm(y))
    solved = solved | (state.inner >= _INNER)
    better = gap < state.gap
    return _State(
        b=jnp.where(solved, following, state.b),
        dual=dual,
        tau=jnp.where(solved, jnp.minimum(_GROWTH * tau, eps**-0.5), tau),
        inner=jnp.where(solved, 0, state.inner + 1),
        step=state.step + 1,
        best=jnp.where(better, candidate, state.best),
        gap=jnp.where(better, gap, state.gap),
    )


def _soft(values: Array, level: Array) -> Array:
    return values - jnp.clip(values, -level, level)


def _step_length(slope: Callable[[Array], Array], one: Array) -> Array:
    """The zero of an increasing slope on [0, 1], or 1 where it is negative throughout."""

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        past = slope(middle) > 0
        return jnp.where(past, ends[0], middle), jnp.where(past, middle, ends[1])

    found = jax.lax.fori_loop(0, _HALVINGS, halve, (0 * one, one))[1]
    return jnp.where(slope(one) <= 0, one, found)


def _refined(unit: Array, y: Array, penalty: Array, b: Array, active: Array, tau: Array, *, factor: Any) -> Array:
    """b moved on its support towards Aᵀ(y − A b) = λ sgn b, from the residual: free of the rounding of τ Aᵀξ.

    The proximal step (I/τ + AᵀA)^{-1} q = τ(q − τ Aᵀ(I + τ A Aᵀ)^{-1} A q) on the columns in use.
    """
    residual = y - jnp.matmul(unit, b, precision="highest")
    violation = jnp.matmul(residual, unit, precision="highest") - penalty * jnp.sign(b)
    q = jnp.where(active, violation, jnp.zeros_like(b))
    inside = jax.scipy.linalg.cho_solve(factor, jnp.matmul(unit, q, precision="highest"))
    step = tau * (q - tau * jnp.matmul(inside, unit, precision="highest"))
    moved = b + jnp.where(active, step, jnp.zeros_like(b))
    return jnp.where(moved * jnp.sign(b) > 0, moved, jnp.zeros_like(b))


def _gap(unit: Array, y: Array, penalty: Array, b: Array) -> Array:
    r"""The duality gap at the residual r scaled into the dual ball by s, or by 0, over the objective.

        objective − minimum ≤ ½(1 − s)²‖r‖² + Σ_i (λ|b_i| − s b_i ⟨a_i, r⟩),   max_i |⟨s a_i, r⟩| ≤ λ + rounding

    No term is negative, so nothing cancels. Objectives below ε² ‖y‖² count as that much, and at λ = 0, where nothing
    else is left of them than the rounding of y, those below 256 ε^{3/2} ‖y‖².
    """
    residual = y - jnp.matmul(unit, b, precision="highest")
    inner = jnp.matmul(residual, unit, precision="highest")
    eps = jnp.finfo(y.dtype).eps
    rounding = 4 * eps * guarded.norm(y)
    largest = jnp.abs(inner).max()
    inside = largest <= penalty + rounding
    share = jnp.where(inside, jnp.ones_like(largest), (penalty + rounding) / jnp.where(inside, 1, largest))
    square = jnp.sum(residual**2) / 2
    gap = (1 - share) ** 2 * square + jnp.abs(penalty * jnp.abs(b) - share * b * inner).sum()
    objective = square + penalty * jnp.abs(b).sum()
    whole = objective + jnp.where(penalty > 0, eps**2, 256 * eps**1.5) * jnp.sum(y**2)
    return jnp.minimum(gap, objective) / jnp.where(whole == 0, 1, whole)


class BasisPursuit(NamedTuple):
    """The solution, ‖A b − y‖/‖y‖, and the duality gap relative to Σ|b_i|, a bound of the excess of the latter."""

    coefficients: Float[Array, " atoms"]
    residual: Float[Array, ""]
    gap: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("steps",))
def basis_pursuit(design: Float[Array, "n atoms"], y: Float[Array, " n"], *, steps: int = 300) -> BasisPursuit:
    r"""Minimize Σ_i |b_i| subject to A b = y, by the method of multipliers.

        b ← argmin_b ½‖z − A b‖² + λ Σ_i |b_i|,   z ← y + (z − A b)

    Errors of a step are forgotten by the next one, and some steps suffice, so λ (0.001 of max |Aᵀy|) does not matter.
    At the end A b = y is solved on the support.

    Args:
        design: A. y: observations, in the range of A. steps: of Newton's method, at most, in each of the minimizations.

    Returns:
        `BasisPursuit`; `status` is `NOT_CONVERGED` where the residual or the gap is above 2√eps, as where y is not in
        the range of A. Where there are many solutions, one. Derivatives are those on the support of b.

    Raises:
        ValueError: shapes that differ, no atom, steps < 1.

    Cost: that of `lasso` at a small penalty, several times, and of a singular value decomposition of A. vmaps over y.
    Source: Chen, Donoho, Saunders (1998); Yin, Osher, Goldfarb, Darbon (2008), sections 3 and 5.

    >>> found = basis_pursuit(jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 2.0]]), jnp.array([1.0, 1.0]))
    >>> [f"{b:.3f}" for b in found.coefficients]
    ['0.000', '0.000', '0.500']
    """
    require(design.shape[0] == len(y), "y", len(y), f"have one entry for each of {design.shape[0]} rows", "pair them")
    require(min(design.shape) >= 1, "design", design.shape, "hold a row and an atom", "pass a dictionary and data")
    require(steps >= 1, "steps", steps, "be >= 1", "allow some steps")
    return _basis_pursuit(design, y, steps)


@partial(jax.jit, static_argnames="steps")
def _basis_pursuit(design: Array, y: Array, steps: int) -> BasisPursuit:
    size, scale = guarded.power_of_two(design), guarded.power_of_two(y)
    unit, target = design / size, y / scale
    b = _multipliers(jax.lax.stop_gradient(unit), jax.lax.stop_gradient(target), steps)
    fixed = jax.lax.stop_gradient((unit, target))
    large = jnp.abs(b[0]) > 4 * jnp.finfo(y.dtype).eps ** 0.5 * jnp.abs(b[0]).max()
    enough = 2 * jnp.finfo(y.dtype).eps ** 0.5
    trimmed = _on_support(*fixed, b[0], large)
    exact = _missed(*fixed, trimmed) <= 64 * jnp.finfo(y.dtype).eps
    kept = jnp.where(exact & (_pursuit_gap(*fixed, trimmed, b[1]) <= enough), large, b[0] != 0)
    found = _on_support(unit, target, b[0], kept)
    at = jax.lax.stop_gradient(found)
    gap, residual = _pursuit_gap(*fixed, at, b[1]), _missed(*fixed, at)
    coefficients = found * scale / size
    slow = status_where(((gap > enough) | (residual > enough), Status.NOT_CONVERGED))
    finite = jnp.isfinite(design).all() & jnp.isfinite(y).all()
    status = jnp.where(finite, finite_status((coefficients, gap, residual), slow), jnp.int32(Status.NOT_FINITE))
    return BasisPursuit(coefficients, residual, gap, status)


def _on_support(unit: Array, y: Array, start: Array, support: Array) -> Array:
    """Entries on the support with A b = y: from `start` twice, so that second derivatives are right too."""
    kept = support.astype(y.dtype)
    inverse, b = jnp.linalg.pinv(unit * kept[None, :]), start * kept
    for _ in range(2):
        b = b + kept * jnp.matmul(inverse, y - jnp.matmul(unit, b, precision="highest"), precision="highest")
    return b


def _missed(unit: Array, y: Array, b: Array) -> Array:
    return relative_residual(jnp.matmul(unit, b, precision="highest"), y)


def _multipliers(unit: Array, y: Array, steps: int) -> tuple[Array, Array]:
    """b, and the dual point ν = (z − A b)/λ with |Aᵀν| ≤ 1."""
    largest = jnp.abs(jnp.matmul(y, unit, precision="highest")).max()
    penalty = 1e-3 * jnp.where(largest > 0, largest, jnp.ones_like(largest))
    eps = jnp.finfo(y.dtype).eps

    def round_(state: tuple[Array, ...]) -> tuple[Array, ...]:
        count, z = state[0], state[1]
        b = _proximal_points(unit, z, penalty, steps)
        missed = y - jnp.matmul(unit, b, precision="highest")
        left = z - jnp.matmul(unit, b, precision="highest")
        gap = _pursuit_gap(unit, y, b, left / penalty)
        done = (guarded.norm(missed) <= 64 * eps * guarded.norm(y)) & (gap <= eps**0.5 / 4)
        return count + 1, y + left, b, left / penalty, done

    start: tuple[Array, ...] = (
        jnp.zeros((), jnp.int32),
        y,
        jnp.zeros_like(unit[0]),
        jnp.zeros_like(y),
        jnp.zeros((), bool),
    )
    found = jax.lax.while_loop(lambda state: ~state[4] & (state[0] < _ROUNDS), round_, start)
    return found[2], found[3]


def _pursuit_gap(unit: Array, y: Array, b: Array, dual: Array) -> Array:
    r"""Σ_i(|b_i| − s b_i ⟨a_i, ν⟩) + |⟨sν, A b − y⟩|, s ν in the dual ball, over Σ|b_i|."""
    inner = jnp.matmul(dual, unit, precision="highest")
    share = 1 / jnp.maximum(jnp.abs(inner).max(), 1.0)
    missed = jnp.matmul(unit, b, precision="highest") - y
    total = jnp.abs(b).sum()
    gap = (jnp.abs(b) - share * b * inner).sum() + share * jnp.abs(jnp.dot(dual, missed, precision="highest"))
    return gap / jnp.where(total > 0, total, jnp.ones_like(total))


@boundary(static=("order", "levels", "accuracy"))
def lasso_network(coefficients: Float[Array, " atoms"], order: int, levels: int, accuracy: float) -> SplineSum:
    r"""The ReLU network that is the estimator Σ b_i N_m(2^j x − k), from its nonzero coefficients.

    Args:
        coefficients: over `bspline.dictionary(x, order, levels)`, known outside jit. accuracy: of each B-spline.

    Raises:
        ValueError: another number of coefficients, none that is not 0, NaN, or traced coefficients.

    Source: Suzuki (2019), proof of Theorem 2: the network holds the N-term sum that the estimator needs.

    >>> lasso_network(jnp.array([0.0, 1.0, 0.0, 2.0, 0.0]), 1, 1, 0.1).weights.tolist()
    [1.0, 2.0]
    """
    action = "build the network outside jit: its size depends on them"
    require(known(coefficients), "coefficients", coefficients, "be known, not traced", action)
    places = [(2.0**j, float(k)) for j in range(levels + 1) for k in range(-order, 2**j)]
    size = len(coefficients)
    require(size == len(places), "coefficients", size, f"be {len(places)}, one an atom", "take those of `lasso`")
    finite = bool(jnp.isfinite(coefficients).all())
    require(finite, "coefficients", "NaN or infinity", "be finite", "look at the status of `lasso`")
    kept = jnp.flatnonzero(coefficients)
    require(len(kept) > 0, "coefficients", "all 0", "hold one that is not 0", "lower the penalty")
    scales, shifts = jnp.asarray(places, coefficients.dtype)[kept].T
    return relu_sum(coefficients[kept], scales, shifts[:, None], order, accuracy)
