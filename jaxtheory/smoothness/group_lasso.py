r"""Sparse estimation where coefficients enter in groups: the bands of a wavelet level, the values of one variable."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.checks import boundary, holds, nonnegative, require
from jaxtheory.results import Status, finite_status, status_where
from jaxtheory.smoothness.multipliers import Norm, solve_certified

_NEWTON = 4  # steps of it on the groups in use, after each minimization


class GroupLasso(NamedTuple):
    """Coefficients, the fit, and the duality gap relative to the objective, which bounds the excess of the latter."""

    coefficients: Float[Array, " atoms"]
    fitted: Float[Array, " n"]
    gap: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("steps",))
def group_lasso(
    design: Float[Array, "n atoms"],
    y: Float[Array, " n"],
    groups: Int[Array, " atoms"],
    penalty: float | Float[Array, ""],
    *,
    steps: int = 5000,
) -> GroupLasso:
    r"""Minimize ½‖y − A b‖² + λ Σ_g √|g| ‖b_g‖: whole groups of coefficients enter or stay 0.

    Accelerated proximal gradient steps with restarts find the groups; two Newton steps on them give the digits. At
    penalties far below the data they take turns with proximal steps on the dual, as in `lasso`, and the gap is that of
    a dual point which does not lose its digits.

    Args:
        design: A, used as it is: unlike in `lasso`, columns are not scaled. y: observations.
        groups: a label in 0 … atoms − 1 for each column; equal labels form a group.
        penalty: λ ≥ 0; groups of one column give the lasso with Σ|b_i|. steps: of the gradient method, at most.

    Returns:
        `GroupLasso`; `status` is `NOT_CONVERGED` where the gap is above 2√eps. Derivatives are those on the active
        groups: where a group is about to enter or to leave they are one-sided.

    Raises:
        ValueError: shapes that differ, no atom, labels out of range, steps < 1, λ < 0 (outside jit; NaN inside).

    Cost: 4 n atoms flops a step, and ≈ 10 atoms³ for the Newton steps; λ below 0.001 max_g ‖A_gᵀy‖/√|g| costs that
    some times. vmaps over y and λ.
    Source: Yuan and Lin (2006); Beck and Teboulle (2009), with the restarts of O'Donoghue and Candès (2015);
    Rockafellar (1976) for proximal steps on the dual.

    >>> found = group_lasso(jnp.eye(3), jnp.array([3.0, 4.0, 0.5]), jnp.array([0, 0, 1]), 1.0)
    >>> [f"{b:.3f}" for b in found.coefficients]
    ['2.151', '2.869', '0.000']
    """
    atoms = design.shape[1]
    require(design.shape[0] == len(y), "y", len(y), f"have one entry for each of {design.shape[0]} rows", "pair them")
    require(min(design.shape) >= 1, "design", design.shape, "hold a row and an atom", "pass a dictionary and data")
    require(len(groups) == atoms, "groups", len(groups), f"have one label for each of {atoms} columns", "label all")
    inside = holds(lambda g: (g >= 0) & (g < atoms), groups)
    require(inside, "groups", groups, f"lie in 0..{atoms - 1}", "number the groups from 0")
    require(steps >= 1, "steps", steps, "be >= 1", "allow some steps")
    level = nonnegative("penalty", penalty, "use 0 for least squares")
    return _group_lasso(design, y, groups, jnp.asarray(level, y.dtype), steps)


class _Problem(NamedTuple):
    """A, y and the threshold λ√|g| of each column's group, with the labels."""

    design: Array
    y: Array
    labels: Array
    level: Array


@partial(jax.jit, static_argnames="steps")
def _group_lasso(design: Array, y: Array, labels: Array, penalty: Array, steps: int) -> GroupLasso:
    # decompositions of what is not finite may not end
    finite = jnp.isfinite(design).all() & jnp.isfinite(y).all()
    design, y = (jnp.where(finite, given, jnp.zeros_like(given)) for given in (design, y))
    size, scale = guarded.power_of_two(design), guarded.power_of_two(y)
    labels = labels.astype(jnp.int32)
    outside = ((labels < 0) | (labels >= len(labels))).any()
    kept = jnp.clip(labels, 0, len(labels) - 1)
    counts = jax.ops.segment_sum(jnp.ones(len(labels), y.dtype), kept, len(labels))[kept]
    level, weights = guarded.divided(penalty, scale, size), jnp.sqrt(counts)
    problem = _Problem(design / size, y / scale, kept, level * weights)
    fixed, level, weights = jax.lax.stop_gradient((problem, level, weights))
    enough = 2 * float(jnp.finfo(y.dtype).eps) ** 0.5
    start = solve_certified(
        fixed.design,
        fixed.y,
        level,
        lambda target, level: _accelerated(fixed._replace(y=target, level=level * weights), steps),
        lambda b: _gap(fixed, b),
        rounds=steps,
        enough=enough / 2,
        norm=Norm(weights, partial(_norms, fixed), partial(_on_groups, fixed, weights)),
    )
    found = _newton(problem, _newton(problem, start.b))
    after = _gap(fixed, jax.lax.stop_gradient(found))
    # at a small penalty the residual of y has lost the digits that a Newton step needs: its derivatives stay
    lost = 4 * float(jnp.finfo(y.dtype).eps) * guarded.norm(fixed.y) > enough / 2 * level
    better = (after <= jnp.maximum(start.gap, enough)) & ~lost
    found = jnp.where(better, found, start.b + (found - jax.lax.stop_gradient(found)))
    gap = jnp.where(better, after, start.gap)
    fitted = jnp.matmul(problem.design, found, precision="highest") * scale
    coefficients = found * scale / size
    coefficients, fitted, gap = (
        jnp.where(finite, part, jnp.full_like(part, jnp.nan)) for part in (coefficients, fitted, gap)
    )
    slow = status_where((outside, Status.INVALID_INPUT), (gap > enough, Status.NOT_CONVERGED))
    return GroupLasso(coefficients, fitted, gap, finite_status((coefficients, fitted, gap), slow))


def _norms(problem: _Problem, values: Array) -> Array:
    """‖v_g‖ for each column's group, at any scale of the entries."""
    atoms = len(problem.labels)
    unit = guarded.power_of_two(values)
    total = jax.ops.segment_sum((values / unit) ** 2, problem.labels, atoms)
    return unit * guarded.root(total)[problem.labels]


def _accelerated(problem: _Problem, steps: int) -> Array:
    """b by proximal gradients with momentum, restarted where it points against the step."""
    a, y = problem.design, problem.y
    gram = jnp.matmul(a, a.T, precision="highest") if len(y) <= a.shape[1] else jnp.matmul(a.T, a, precision="highest")
    largest = jnp.linalg.eigvalsh(gram)[-1]
    rate = 1 / jnp.where(largest > 0, largest * (1 + 1e-3), jnp.ones_like(largest))
    enough = jnp.finfo(y.dtype).eps ** 0.5 / 4

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        b, ahead, momentum, count, _ = state
        missed = y - jnp.matmul(a, ahead, precision="highest")
        moved = ahead + rate * jnp.matmul(missed, a, precision="highest")
        norms = _norms(problem, moved)
        factor = guarded.over(jnp.maximum(norms - rate * problem.level, 0), norms)
        following = moved * factor
        against = jnp.dot(ahead - following, following - b, precision="highest") > 0
        grown = jnp.where(against, jnp.ones_like(momentum), (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2)
        share = jnp.where(against, jnp.zeros_like(momentum), (momentum - 1) / grown)
        return following, following + share * (following - b), grown, count + 1, _gap(problem, following)

    nothing = jnp.zeros_like(a[0])
    start: tuple[Array, ...] = (
        nothing,
        nothing,
        jnp.ones_like(largest),
        jnp.zeros((), jnp.int32),
        _gap(problem, nothing),
    )
    going = lambda state: (state[4] > enough) & (state[3] < steps)  # noqa: E731
    return jax.lax.while_loop(going, step, start)[0]


def _on_groups(problem: _Problem, weights: Array, y: Array, penalty: Array, b: Array) -> tuple[Array, Array]:
    """Newton steps on the groups of b towards A_gᵀ(y − A b) = λ_g b_g/‖b_g‖, and the residual at the end.

    In the singular vectors of the columns in use: where those are dependent, what A does not see of b minimizes
    Σ λ_g ‖b_g‖, whatever λ is, so that no small number is added to a large one.
    """
    atoms, eps = len(problem.labels), float(jnp.finfo(y.dtype).eps)
    active = (_norms(problem, b) > 0).astype(b.dtype)
    columns = problem.design * active[None, :]
    frame, sizes, rows = jnp.linalg.svd(columns, full_matrices=True)
    count = len(sizes)
    seen = sizes > max(columns.shape) * eps * sizes[0]
    inverse = jnp.where(seen, 1 / jnp.where(seen, sizes, jnp.ones_like(sizes)), jnp.zeros_like(sizes))
    frame, missing = frame[:, :count], jnp.zeros(atoms - count, bool)
    inside, inverse = jnp.concatenate([seen, missing]), jnp.concatenate([inverse, missing.astype(b.dtype)])
    same = (problem.labels[:, None] == problem.labels[None, :]).astype(b.dtype)
    product = partial(jnp.matmul, precision="highest")
    # A⁺y in the basis of the rows
    plain = jnp.concatenate([product(y, frame), missing.astype(b.dtype)]) * inverse

    def slopes(b: Array) -> tuple[Array, Array, Array]:
        norms = _norms(problem, b)
        direction, curvature = guarded.over(b, norms), guarded.over(weights, norms)
        across = jnp.diag(curvature) - curvature[:, None] * direction[:, None] * direction[None, :] * same
        return weights * direction, across * active[:, None] * active[None, :], norms

    def step(b: Array, _: None) -> tuple[Array, None]:
        slope, across, norms = slopes(b)
        turned = product(product(rows, across), rows.T)
        # seen: b + λ (AᵀA)⁻¹ slope = A⁺y; unseen: the slope is 0
        scaled = jnp.where(inside, penalty * inverse**2, jnp.ones_like(inverse))
        left = jnp.where(inside, product(rows, b) - plain, jnp.zeros_like(plain)) + scaled * product(rows, slope)
        hessian = jnp.diag(inside.astype(b.dtype)) + scaled[:, None] * turned
        move = product(product(jnp.linalg.pinv(hessian), left), rows) * active
        shorter = jnp.minimum(1, 0.5 / jnp.maximum((_norms(problem, move) * guarded.over(active, norms)).max(), 0.5))
        return b - shorter * move, None

    b = jax.lax.scan(step, b, length=_NEWTON)[0]
    slope = product(rows, slopes(b)[0])
    outside = y - product(frame, jnp.where(seen, product(y, frame), jnp.zeros_like(sizes)))
    met = guarded.norm(outside) <= 64 * eps * guarded.norm(y)
    dual = penalty * product(frame, (inverse * slope)[:count]) + jnp.where(met, jnp.zeros_like(outside), outside)
    return b, dual


def _newton(problem: _Problem, b: Array) -> Array:
    """One Newton step on the active groups; it makes one more derivative right."""
    a, _, labels, level = problem
    norms = _norms(problem, b)
    active = (jax.lax.stop_gradient(norms) > 0).astype(b.dtype)
    direction = guarded.over(b, norms)
    curvature = guarded.over(level, norms)
    columns = a * active[None, :]
    same = (labels[:, None] == labels[None, :]).astype(b.dtype)
    across = jnp.diag(curvature) - curvature[:, None] * direction[:, None] * direction[None, :] * same
    hessian = jnp.matmul(columns.T, columns, precision="highest") + across * active[:, None] * active[None, :]
    missed = problem.y - jnp.matmul(a, b, precision="highest")
    gradient = active * (level * direction - jnp.matmul(missed, a, precision="highest"))
    return b - active * jnp.matmul(jnp.linalg.pinv(hessian, hermitian=True), gradient, precision="highest")


def _gap(problem: _Problem, b: Array) -> Array:
    r"""½(1 − s)²‖r‖² + Σ_g (λ_g‖b_g‖ − s⟨b_g, A_gᵀr⟩) over the objective, s r in the dual ball ‖A_gᵀ r‖ ≤ λ_g."""
    a, y, _, level = problem
    residual = y - jnp.matmul(a, b, precision="highest")
    inner = jnp.matmul(residual, a, precision="highest")
    eps = jnp.finfo(y.dtype).eps
    rounding = 4 * eps * guarded.norm(y)
    norms, sizes = _norms(problem, b), _norms(problem, inner)
    top = level + rounding
    above = sizes > top
    share = jnp.where(above, top / jnp.where(above, sizes, jnp.ones_like(sizes)), jnp.ones_like(sizes)).min()
    square = jnp.sum(residual**2) / 2
    direction = guarded.over(b, norms)
    gap = (1 - share) ** 2 * square + jnp.abs(jnp.sum(direction * (level * b - share * norms * inner)))
    objective = square + jnp.sum(level * direction * b)
    whole = objective + 256 * eps**1.5 * jnp.sum(y**2)
    return jnp.minimum(gap, objective) / jnp.where(whole == 0, jnp.ones_like(whole), whole)
