"""Lassos at penalties far below the data, by proximal steps on the dual: near basis pursuit, where they are few."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.guarded import dot

PENALTY = 1e-3  # of max |Aᵀy|: that of each step
_ROUNDS = 100  # some suffice where the dual solution is a vertex
_ROUNDING = 64  # of ε‖y‖, within which y is met

T = TypeVar("T")
Solve = Callable[[Array, Array], Array]  # (target, penalty) -> coefficients


class Certified(NamedTuple):
    """Coefficients and the dual point that bounds their excess, relative to the objective, by `gap`."""

    b: Float[Array, " atoms"]
    dual: Float[Array, " n"]
    gap: Float[Array, ""]


class Norm(NamedTuple):
    """What a lasso penalizes, Σ_g w_g ‖b_g‖: weights and norms of each column's group, and an exact solver.

    `on_support` gives, from y, the penalty and a b, coefficients on the support of b and their residual.
    """

    weights: Float[Array, " atoms"]
    sizes: Callable[[Array], Array]
    on_support: Callable[[Array, Array, Array], tuple[Array, Array]]


class _Round(NamedTuple):
    """Rounds so far, the next target, the part of y that A reaches, what no b changes, and the best answer."""

    done: Int[Array, ""]
    target: Float[Array, " n"]
    inside: Float[Array, " n"]
    beyond: Float[Array, ""]
    best: Certified


def solve_certified(
    unit: Float[Array, "n atoms"], y: Float[Array, " n"], penalty: Float[Array, ""],
    solve: Solve, gap: Callable[[Array], Array], *, rounds: int, enough: float, norm: Norm | None = None,
) -> Certified:  # fmt: skip
    r"""Minimize ½‖y − A b‖² + λ Σ|b_i|: by `solve`, and for λ far below Λ = 0.001 max |Aᵀy| from lassos at Λ.

        b ← argmin_b ½‖z − A b‖² + Λ Σ|b_i|,   ω ← z − A b,   z = (y + ω)/(1 + λ/Λ)

    are proximal steps on the dual, with y projected on the range of A, and (1 + λ/Λ) b and (λ/Λ) ω the solution and its
    residual at the end. After each step the optimality conditions are solved on the support of b too. They start where
    `gap` of the first answer exceeds `enough`, or rounding of Aᵀ(y − A b), 4 ε‖y‖, more than that share of λ. Groups
    have a `norm` of theirs in the place of |b_i|.

    Source: Yin, Osher, Goldfarb, Darbon (2008), sections 3 and 5, for λ = 0; Rockafellar (1976) for proximal steps.

    >>> soft = lambda z, penalty: jnp.maximum(z - penalty, 0)
    >>> given = jnp.eye(1), jnp.ones(1), jnp.float32(1e-9)
    >>> found = solve_certified(*given, soft, lambda b: jnp.float32(1.0), rounds=9, enough=1e-4)
    >>> bool(found.gap < 1e-4), float(found.b[0])
    (True, 1.0)
    """
    if norm is None:
        norm = Norm(jnp.ones_like(unit[0]), jnp.abs, lambda y, penalty, b: _on_support(unit, y, penalty, b))
    largest = PENALTY * (norm.sizes(dot(y, unit)) / norm.weights).max()
    largest = jnp.where(largest > 0, largest, jnp.ones_like(largest))
    share = penalty / largest
    finite = jnp.isfinite(unit).all() & jnp.isfinite(y).all()  # decompositions of what is not may not end
    possible = finite & (penalty > 0) & (share < 1)
    small = (penalty > 0) & (4 * float(jnp.finfo(y.dtype).eps) * guarded.norm(y) > enough * penalty)

    def round_(state: _Round) -> _Round:
        """The first answers for y at λ, the others for what A reaches at Λ: `solve` is compiled once."""
        first = state.done == 0
        b = solve(state.target, jnp.where(first, penalty, largest))
        found = gap(b)
        found = jnp.where(small & (found >= 0), jnp.ones_like(found), found)
        best = _chosen(first, Certified(b, jnp.zeros_like(y), found), state.best)
        needed = possible & (best.gap > enough)
        inside = _once(needed & first, lambda _: _reached(unit, y), state.inside)
        beyond = jnp.where(first, _square(y - inside, y), state.beyond)
        left = jnp.where(first, inside, state.target) - dot(unit, b)
        scaled, dual = jnp.where(first, b, (1 + share) * b), jnp.where(first, left, share * left)

        def certified(best: Certified) -> Certified:
            answers = [(scaled, dual), norm.on_support(inside, penalty, b)]
            both = jax.tree.map(lambda *parts: jnp.stack(parts), *answers)
            bounds = jax.lax.map(
                lambda answer: certified_gap(unit, inside, penalty, *answer, beyond=beyond, norm=norm), both
            )
            for answer, bound in zip(answers, bounds, strict=True):
                best = _better(Certified(*answer, bound), best)
            return best

        best = _once(needed, certified, best)
        omega = jnp.where(first, jnp.zeros_like(left), left)
        return _Round(state.done + 1, (inside + omega) / (1 + share), inside, beyond, best)

    none = Certified(jnp.zeros_like(unit[0]), jnp.zeros_like(y), jnp.zeros_like(penalty))
    begin = _Round(jnp.int32(0), y, jnp.zeros_like(y), jnp.zeros_like(penalty), none)

    def more(state: _Round) -> Array:
        left = possible & (state.best.gap > enough) & (state.done < min(rounds, _ROUNDS))
        return (state.done == 0) | left

    return jax.lax.while_loop(more, round_, begin).best


def _once(wanted: Array, change: Callable[[T], T], start: T) -> T:
    """`change(start)` if wanted; by a loop, for conditions run both sides in a batch."""
    states = jnp.zeros((), bool), start
    return jax.lax.while_loop(lambda s: wanted & ~s[0], lambda s: (jnp.ones_like(s[0]), change(s[1])), states)[1]


def certified_gap(unit: Array, y: Array, penalty: Array, b: Array, dual: Array, *, beyond: Array, norm: Norm) -> Array:
    r"""The duality gap ½‖y − A b − sν‖² + Σ_i (λ|b_i| − s b_i ⟨a_i, ν⟩), s ν in the dual ball, over the objective.

    No term is negative, so none cancels at a small λ. y counts as met where it is to rounding, and `beyond` is the part
    of the objective that no b changes.
    """
    inner, sizes = dot(dual, unit), norm.sizes(b)
    slopes = norm.weights * jnp.where(sizes > 0, b / jnp.where(sizes > 0, sizes, jnp.ones_like(sizes)), 0)
    top = (norm.sizes(inner) / norm.weights).max()
    share = jnp.where(top > penalty, penalty / jnp.where(top > 0, top, jnp.ones_like(top)), jnp.ones_like(top))
    missed = y - dot(unit, b)
    gap = _square(missed - share * dual, y) + jnp.abs(b * (penalty * slopes - share * inner)).sum()
    objective = _square(missed, y) + beyond + penalty * (b * slopes).sum()
    return jnp.minimum(gap, objective) / jnp.where(objective > 0, objective, jnp.ones_like(objective))


def _square(part: Array, y: Array) -> Array:
    """½‖part‖², or 0 where the part of y is rounding."""
    allowed = _ROUNDING * float(jnp.finfo(y.dtype).eps) * guarded.norm(y)
    return jnp.where(guarded.norm(part) <= allowed, jnp.zeros_like(allowed), jnp.sum(part**2) / 2)


def _reached(unit: Array, y: Array) -> Array:
    """The projection of y on the range of A."""
    frame, sizes, _ = jnp.linalg.svd(unit, full_matrices=False)
    seen = sizes > max(unit.shape) * float(jnp.finfo(y.dtype).eps) * sizes[0]
    frame = frame * seen[None, :].astype(y.dtype)
    return dot(frame, dot(y, frame))


def _on_support(unit: Array, y: Array, penalty: Array, b: Array) -> tuple[Array, Array]:
    """A_S⁺y − λ (A_SᵀA_S)⁻¹ s on the support and signs of b, and its residual, without what rounding leaves of y."""
    signs = jnp.sign(b)
    kept = jnp.abs(signs)
    inverse = kept[:, None] * jnp.linalg.pinv(unit * kept[None, :])  # rounding fills the rows of zero columns
    plain = dot(inverse, y)
    plain = plain + dot(inverse, y - dot(unit, plain))
    left, along = y - dot(unit, plain), dot(signs, inverse)
    met = guarded.norm(left) <= _ROUNDING * float(jnp.finfo(y.dtype).eps) * guarded.norm(y)
    dual = penalty * along + jnp.where(met, jnp.zeros_like(left), left)
    return plain - penalty * dot(inverse, along), dual


def _better(one: Certified, other: Certified) -> Certified:
    return _chosen(one.gap < other.gap, one, other)


def _chosen(which: Array, one: Certified, other: Certified) -> Certified:
    return jax.tree.map(lambda a, b: jnp.where(which, a, b), one, other)
