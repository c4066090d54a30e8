r"""Kolmogorov's superposition theorem, constructively and in exact integers (Sprecher; Köppen; Braun and Griebel).

    f(x) = Σ_{q=0}^{m} Φ_q(Σ_p λ_p ψ(x_p + q a)),
    λ_1 = 1,   λ_p = Σ_r γ^(−(p−1)β(r)),   a = 1/(γ(γ−1)),   β(r) = (n^r−1)/(n−1)

for n variables, m ≥ 2n and base γ ≥ m + 2. The inner function ψ and the λ_p do not depend on f. Neighbouring values of
ψ on k digits differ by as little as γ^(−β(k)), beyond float64 already for n = 2, k = 5: so values are integers, and the
jitted evaluation compares them as rows of 28-bit limbs.
"""

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, holds, host_numbers, nonnegative, require
from jaxtheory.expressivity.kolmogorov_inner import Table, beta, inner, inner_table, require_grid
from jaxtheory.expressivity.limbs import BITS, carried, last_at_most, to_limbs

__all__ = [
    "Superposition",
    "Table",
    "beta",
    "evaluate",
    "inner",
    "inner_sums",
    "inner_table",
    "step_bound",
    "superpose",
]

Number = float | Float[Array, ""]


class Superposition(NamedTuple):
    """One outer step for one f: what `evaluate` needs. Numbers are rows of limbs, the most significant first."""

    psi: Int[Array, "dim fine limbs"]
    """λ_p ψ at every point of the evaluation grid on [0, 2)"""
    knots: Int[Array, "terms cubes limbs"]
    """where the plateau of a cube begins to rise: ξ_d − 1/S, sorted"""
    values: Float[Array, "terms cubes"]
    """f(d) / terms, in the order of the knots"""
    shifts: Int[Array, " terms"]
    """q a on the evaluation grid"""
    weights: Float[Array, " limbs"]
    """a difference of limbs in units of 1/S"""
    plateau: Float[Array, ""]
    """length of a plateau, (γ − 2) b_k, in units of 1/S"""
    resolution: Float[Array, ""]
    """points of the evaluation grid in [0, 1)"""
    reach: float
    """largest x: 1 − m γ^(−k)/(γ − 1); beyond it no cube is left for some q"""


@boundary(static=("dim", "base", "terms", "digits"))
def superpose(
    f: Callable[[np.ndarray], Any], *, dim: int, base: int = 10, terms: int | None = None, digits: int = 2
) -> Superposition:
    r"""The outer functions of one step for f: a sum of m + 1 functions of one variable that is near f everywhere.

        Φ_q = (m+1)^(−1) Σ_d f(d) θ_d,   θ_d(y) = σ(S(y − ξ_d) + 1) − σ(S(y − ξ_d − (γ−2) b_k)),
        ξ_d = Σ_p λ_p ψ(d_p + q Σ_{r=2}^k γ^(−r)),   b_k = Σ_{r>k} γ^(−β(r)) Σ_p λ_p,   σ = clip to [0, 1],

    with the slope S = γ^β(k+1), or more where ramps would reach into the next plateau (k = 1).

    For each q, cubes of side (γ−2)/(γ−1) γ^(−k) go to disjoint intervals; every x lies in a cube for all q but n. Hence
    ‖f − f_1‖ ≤ `step_bound`. A second step would need β(k₂) ≈ 25 digits and γ^(n k₂) cubes: out of reach, by design.

    Args:
        f: takes [cubes, dim] float64 rows in [0, 1], returns [cubes] numbers.
        dim: n ≥ 2; 2 and 3 are practical. base: γ ≥ terms + 1. terms: m + 1 ≥ 2n + 1 (that by default). digits: k.

    Returns:
        `Superposition`, for `evaluate`.

    Raises:
        ValueError: too few terms, too small a base, sizes beyond terms · γ^(nk) = 2^22 or γ^(k+2) = 2^21, values of f
            that are not finite.

    Cost: terms · γ^(nk) numbers of β(k+2) n log2 γ bits, sorted.
    Source: Braun and Griebel (2009), section 3; Köppen (2002).

    >>> step = superpose(lambda x: x.sum(1), dim=2, digits=1)
    >>> step.knots.shape[:2], f"{step.reach:.3f}"
    ((5, 100), '0.956')
    """
    terms = 2 * dim + 1 if terms is None else terms
    _require_superposable(dim, base, terms, digits)
    sums = _Sums.of(dim, base, digits)
    begins = [_corner_sums(sums.inner, q * _shift(base, digits), base, digits, sums.limbs) for q in range(terms)]
    orders = [np.lexsort(sums_q.T[::-1]) for sums_q in begins]
    sorted_sums = np.stack([sums_q[order] for sums_q, order in zip(begins, orders, strict=True)])
    ramp = _ramp(sorted_sums, sums)
    knots = carried(sorted_sums - to_limbs(np.array([ramp], object), sums.limbs))
    corners = np.stack(np.meshgrid(*[np.arange(base**digits) / base**digits] * dim, indexing="ij"), -1).reshape(-1, dim)
    values = host_numbers("f", f(corners))
    require(values.shape == (len(corners),), "f", values.shape, f"return shape ({len(corners)},)", "vectorize it")
    require(bool(np.isfinite(values).all()), "f", "NaN or infinity", "be finite on [0, 1]^dim", "remove its poles")
    dtype = jnp.zeros(0).dtype
    return Superposition(
        psi=jnp.asarray(np.stack([to_limbs(row, sums.limbs) for row in sums.inner]), jnp.int32),
        knots=jnp.asarray(knots, jnp.int32),
        values=jnp.asarray(np.stack([values[order] for order in orders]) / terms, dtype),
        shifts=jnp.asarray([q * _shift(base, digits + 2) for q in range(terms)], jnp.int32),
        weights=jnp.asarray([float(Fraction(2 ** (BITS * i), ramp)) for i in reversed(range(sums.limbs))], dtype),
        plateau=jnp.asarray(float(Fraction(sums.plateau, ramp)), dtype),
        resolution=jnp.asarray(float(base ** (digits + 2)), dtype),
        reach=1 - (terms - 1) / (base - 1) / base**digits,
    )


@boundary(static=("dim", "terms"))
def step_bound(*, dim: int, terms: int, norm: Number, oscillation: Number) -> Number:
    r"""Bound on sup |f − f_1| of one outer step: (m+1−n)/(m+1) · oscillation + 2n/(m+1) · ‖f‖.

    Args:
        dim: n ≥ 1. terms: m + 1 ≥ n. norm: sup |f|. oscillation: the most f varies between points whose coordinates
            differ by ≤ γ^(−k).

    Raises:
        ValueError: sizes out of range; negative numbers (outside jit; NaN inside).

    Source: for every x all q but n have x in a plateau, whose value is f(d)/(m+1) with |d − x| ≤ γ^(−k); the others add
    between −‖f‖ and ‖f‖ over m + 1, and miss f(x)/(m+1).

    >>> step_bound(dim=2, terms=5, norm=1.0, oscillation=0.0)
    0.8
    """
    require(1 <= dim <= terms, "dim", dim, f"lie in 1..{terms}, the terms", "name the number of variables")
    jump = nonnegative("oscillation", oscillation, "pass the modulus of continuity at γ^(−k)")
    return (terms - dim) / terms * jump + 2 * dim / terms * nonnegative("norm", norm, "pass sup |f|")


@boundary
def evaluate(superposition: Superposition, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    r"""f_1(x) = Σ_q Φ_q(Σ_p λ_p ψ(x_p + q a)), x read to k + 2 digits, every comparison in exact integers.

    Args:
        superposition: from `superpose`. x: in [0, reach]^dim.

    Raises:
        ValueError: x outside, where the shifted cubes of ψ leave the unit cube (outside jit; NaN inside).

    Cost: n · terms · log2(cubes) · limbs comparisons, jitted.

    >>> step = superpose(lambda x: x.sum(1), dim=2, digits=1, terms=8)
    >>> f"{evaluate(step, jnp.array([[0.3, 0.5]]))[0]:.2f}"
    '0.80'
    """
    inside = _check_inside(superposition, x)
    values = _evaluate(superposition, jnp.where(inside[:, None], x, jnp.zeros_like(x)))
    return jnp.where(inside, values, jnp.full_like(values, jnp.nan))


def _check_inside(superposition: Superposition, x: Array) -> Array:
    """Which points lie in the cube; outside `jit` all must."""
    dim, reach = superposition.psi.shape[0], superposition.reach
    require(x.shape[1] == dim, "x", x.shape, f"have {dim} columns", "pass points as rows")
    inside = holds(lambda v, r: (v >= 0) & (v <= r + 1e-6), x, reach)
    require(inside, "x", "a point outside", f"lie in [0, {reach}]", "rescale f to that cube")
    return ((x >= 0) & (x <= reach + 1e-6)).all(axis=1)


@boundary
def inner_sums(superposition: Superposition, x: Float[Array, "n d"]) -> Float[Array, "terms n"]:
    """Σ_p λ_p ψ(x_p + q a) for every q, rounded to floats: coordinates of the pictures, not of the comparisons.

    Args:
        superposition, x: as in `evaluate`.

    Raises:
        ValueError: x outside (outside jit; NaN inside). Cost: n · terms · limbs.

    >>> step = superpose(lambda x: x.sum(1), dim=2, digits=1)
    >>> f"{inner_sums(step, jnp.array([[0.5, 0.0]]))[0, 0]:.4f}"
    '0.5000'
    """
    inside = _check_inside(superposition, x)
    points = jnp.where(inside[:, None], x, jnp.zeros_like(x))
    limbs = jax.vmap(lambda shift: _argument(superposition, points, shift))(superposition.shifts)
    one = superposition.psi[0, 0]  # ψ(0) with the unit that keeps numbers positive
    weights = superposition.weights.astype(x.dtype)
    above = jnp.matmul(carried(limbs - one[None, None, :]).astype(x.dtype), weights, precision="highest")
    sums = above / jnp.dot(one.astype(x.dtype), weights, precision="highest")
    return jnp.where(inside[None, :], sums, jnp.full_like(sums, jnp.nan))


@jax.jit
def _evaluate(superposition: Superposition, x: Array) -> Array:
    def term(total: Array, q: tuple[Array, Array, Array]) -> tuple[Array, None]:
        knots, values, shift = q
        y = _argument(superposition, x, shift)
        place = last_at_most(knots, y)
        beyond = (carried(y - knots[place]).astype(total.dtype) * superposition.weights[None, :]).sum(1)
        theta = jnp.clip(beyond, 0, 1) - jnp.clip(beyond - 1 - superposition.plateau, 0, 1)
        return total + jnp.where(place >= 0, values[place] * theta, jnp.zeros_like(theta)), None

    start = (0 * x[:, 0]).astype(superposition.values.dtype)
    return jax.lax.scan(term, start, (superposition.knots, superposition.values, superposition.shifts))[0]


def _argument(superposition: Superposition, x: Array, shift: Array) -> Array:
    """Σ_p λ_p ψ(x_p + q a) as limbs; x is read down to its digits, with a grain for what rounding took."""
    index = jnp.floor(x * superposition.resolution.astype(x.dtype) + 1 / 64).astype(jnp.int32) + shift
    parts = [superposition.psi[p, index[:, p]] for p in range(x.shape[1])]
    return carried(functools.reduce(jnp.add, parts))


class _Sums(NamedTuple):
    """Integers in units of 1/(denominator of ψ · denominator of λ), one unit of 1 added to the first coordinate."""

    inner: list[np.ndarray]
    """λ_p ψ at every point of the evaluation grid on [0, 2)"""
    ramp: int
    """1/S"""
    plateau: int
    """(γ − 2) b_k"""
    limbs: int

    @classmethod
    def of(cls, dim: int, base: int, digits: int) -> "_Sums":
        table = inner_table(dim, base, digits + 2)
        psi = np.concatenate([table.numerators[:-1], table.denominator + table.numerators[:-1]])
        power = [base ** beta(r, dim) for r in range(digits + 3)]
        unit = power[-1] ** (dim - 1)
        lambdas = [unit, *(sum(unit // power[r] ** p for r in range(1, digits + 3)) for p in range(1, dim))]
        one = table.denominator * unit
        limbs = -(-(one.bit_length() + 3) // BITS)
        pad = 2 ** (limbs * BITS - 3 - one.bit_length())  # the first limb is full, so that it alone tells most apart
        inner = [psi * (lam * pad) for lam in lambdas]
        inner[0] = inner[0] + one * pad
        tail = sum(table.denominator // power[r] for r in (digits + 1, digits + 2))
        return cls(inner, one * pad // power[digits + 1], (base - 2) * tail * sum(lambdas) * pad, limbs)


def _shift(base: int, digits: int) -> int:
    """a on the grid of that many digits: Σ_{r=2}^k γ^(k−r)."""
    return int(sum(base ** (digits - r) for r in range(2, digits + 1)))


def _corner_sums(inner: list[np.ndarray], first: int, base: int, digits: int, limbs: int) -> np.ndarray:
    """Limbs of ξ_d for all corners d of k digits, shifted by `first`, the last coordinate varying fastest."""
    parts = [to_limbs(row[:: base**2][first : first + base**digits], limbs) for row in inner]
    total = functools.reduce(lambda a, b: (a[:, None, :] + b[None, :, :]).reshape(-1, limbs), parts)
    return carried(total)


def _ramp(sorted_sums: np.ndarray, sums: "_Sums") -> int:
    """1/S, or less: half of the least room between two plateaus, so that no ramp reaches into another plateau."""
    plateau = to_limbs(np.array([sums.plateau], object), sums.limbs)[0]
    room = carried(sorted_sums[:, 1:] - sorted_sums[:, :-1] - plateau).reshape(-1, sums.limbs)
    for limb in range(sums.limbs):  # the least row, one limb after another
        room = room[room[:, limb] == room[:, limb].min()]
    least = room[0]
    require(int(least[0]) >= 0, "digits", "plateaus that overlap", "separate the cubes", "use a larger base")
    smallest = functools.reduce(lambda total, limb: (total << BITS) + int(limb), least, 0)
    return min(sums.ramp, smallest // 2)


def _require_superposable(dim: int, base: int, terms: int, digits: int) -> None:
    require(terms >= 2 * dim + 1, "terms", terms, f"be >= 2 dim + 1 = {2 * dim + 1}", "add outer functions")
    require(base >= terms + 1, "base", base, f"be >= terms + 1 = {terms + 1}", "use a larger base")
    require(digits >= 1, "digits", digits, "be >= 1", "name the number of digits")
    require_grid(dim, base, digits + 2)
    size = terms * base ** (dim * digits)
    require(size <= 2**22, "digits", digits, f"give at most 2^22 knots, not {size}", "use fewer digits or variables")
