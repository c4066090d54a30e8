r"""Kolmogorov's superposition theorem, constructively and in exact integers (Sprecher; Köppen; Braun and Griebel).

    f(x) = Σ_{q=0}^{m} Φ_q(Σ_p λ_p ψ(x_p + q a)),
    λ_1 = 1,   λ_p = Σ_r γ^(−(p−1)β(r)),   a = 1/(γ(γ−1)),   β(r) = (n^r−1)/(n−1)

for n variables, m ≥ 2n and base γ ≥ m + 2. The inner function ψ and the λ_p do not depend on f. Neighbouring values of
ψ on k digits differ by as little as γ^(−β(k)), beyond float64 already for n = 2, k = 5: so values are integers, and the
jitted evaluation compares them as rows of 28-bit limbs.
"""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from jaxtheory.checks import holds, require
from jaxtheory.expressivity.limbs import BITS, carried, last_at_most, to_limbs

Variant = Literal["koppen", "sprecher"]
_LARGEST_TABLE = 2**21


class Table(NamedTuple):
    """ψ at j γ^(−k), j = 0..γ^k: numerators (Python integers) over one denominator."""

    numerators: np.ndarray
    denominator: int


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


def beta(r: int, dim: int) -> int:
    """β(r) = (n^r − 1)/(n − 1) = 1 + n + … + n^(r−1).

    >>> [beta(r, 2) for r in (1, 2, 3)]
    [1, 3, 7]
    """
    return sum(dim**i for i in range(r))


@functools.lru_cache(maxsize=16)
def inner_table(dim: int, base: int, digits: int, variant: Variant = "koppen") -> Table:
    r"""ψ_k at all k-digit numbers of [0, 1], exactly. With i the last digit of d:

        ψ_1(d) = d;   i < γ−1: ψ_k(d) = ψ_{k−1}(d − iγ^(−k)) + iγ^(−β(k));
        i = γ−1: ψ_k(d) = ½[ψ_k(d − γ^(−k)) + ψ_{k−1}(d + γ^(−k))]                                   (Köppen)

    "sprecher" is the function of Sprecher (1996), ψ(d) = Σ_r ĩ_r 2^(−m_r) γ^(−β(r−m_r)), which is not monotone from
    k = 5 on; it is here to show that, and nothing is built on it.

    Args: dim: n ≥ 2. base: γ ≥ 3. digits: k ≥ 1.

    Returns: `Table`; Köppen's numerators increase strictly, by at least 2^k over a denominator 2^k γ^β(k).

    Raises: ValueError: γ^k > 2^21. Cost: γ^k operations on integers of β(k) log2 γ bits.

    Source: Braun and Griebel (2009), equations (2.7) and (2.2).

    >>> table = inner_table(2, 10, 2)
    >>> Fraction(int(table.numerators[58]), table.denominator)
    Fraction(127, 250)
    """
    _require_grid(dim, base, digits)
    denominator = 2**digits * base ** beta(digits, dim)
    if variant == "sprecher":
        return Table(_sprecher(dim, base, digits), denominator)
    values = np.array([j * (denominator // base) for j in range(base + 1)], object)
    for k in range(2, digits + 1):
        step = denominator // base ** beta(k, dim)
        rows = values[:-1, None] + step * np.arange(base).astype(object)[None, :]
        rows[:, -1] = (rows[:, -2] + values[1:]) // 2
        values = np.append(rows.ravel(), denominator)
    return Table(values, denominator)


def _sprecher(dim: int, base: int, digits: int) -> np.ndarray:
    """Numerators of Sprecher's function: m_r counts the run of digits γ−2, γ−1 before a final γ−1."""
    j = np.arange(base**digits)
    total, run = np.zeros(len(j), object), np.zeros(len(j), int)
    for r in range(1, digits + 1):
        digit = j // base ** (digits - r) % base
        last = (digit == base - 1) & (r > 1)
        m = np.where(last, 1 + run, 0)
        reduced = digit - (base - 2) * last
        power = np.array([2 ** (digits - s) * base ** (beta(digits, dim) - beta(r - s, dim)) for s in range(r)], object)
        total = total + reduced.astype(object) * power[m]
        run = np.where((digit >= base - 2) & (r > 1), run + 1, 0)
    return np.append(total, 2**digits * base ** beta(digits, dim))


def inner(
    x: str | Fraction | Sequence[Any] | Float[np.ndarray, "..."] | Float[Array, "..."],
    *,
    dim: int,
    base: int = 10,
    digits: int | None = None,
    variant: Variant = "koppen",
) -> Float64[np.ndarray, "..."]:
    """ψ at numbers with finitely many digits in base γ, each value the exact one rounded to float64.

    Args:
        x: a decimal string, a Fraction, a sequence of these, or an array of floats on the grid; any real, by
            ψ(x + 1) = ψ(x) + 1.
        dim: n ≥ 2. base: γ ≥ 3.
        digits: k; by default the fewest that hold x, which must be given for floats.

    Returns:
        float64 of the shape of x. Neighbours are told apart in float64 up to γ^β(k) ≈ 1e16: k ≤ 4 for n = 2, γ = 10;
        the integers of `inner_table` have no such limit.

    Raises:
        ValueError: x has more than `digits` digits, floats without `digits`, or γ^k > 2^21.

    Cost: that of `inner_table`, which is kept. Source: Köppen (2002); Braun and Griebel (2009), equation (2.7).

    >>> inner(["0.58", "0.599"], dim=2).tolist()
    [0.508, 0.5770004]
    """
    numbers = np.asarray(x) if isinstance(x, np.ndarray | jax.Array) else np.asarray(x, object)
    floats = numbers.dtype != object
    exact = [] if floats else [Fraction(v) for v in numbers.ravel()]
    require(not floats or digits is not None, "digits", digits, "be given for floats", "use strings or Fractions")
    longest = max((_digits(v, base) for v in exact), default=1)
    used = longest if digits is None else digits
    _require_grid(dim, base, used)
    require(longest <= used, "x", f"{longest} digits", f"have at most {used}", "raise digits")
    cells = base**used
    indices = _round_to_grid(numbers, cells) if floats else [int(v * cells) for v in exact]
    numerators, one = inner_table(dim, base, used, variant)
    values = [(numerators[i % cells] + (i // cells) * one) / one for i in indices]
    return np.array(values, float).reshape(numbers.shape)


def _round_to_grid(numbers: np.ndarray, cells: int) -> list[int]:
    scaled = np.asarray(numbers, float).ravel() * cells
    off = float(np.abs(scaled - np.rint(scaled)).max(initial=0.0))
    require(off < 1e-3, "x", f"off by {off:.1e} of a cell", f"lie on the grid of {cells} cells", "round it there")
    return [int(i) for i in np.rint(scaled)]


def _digits(x: Fraction, base: int) -> int:
    """The number of digits of a fraction in a base, 1 at least; 64 where it does not end sooner."""
    return next((k for k in range(1, 64) if (x * base**k).denominator == 1), 64)


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
        ValueError: too few terms, too small a base, or sizes beyond terms · γ^(nk) = 2^22 or γ^(k+2) = 2^21.

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
    values = np.asarray(f(corners), float)
    require(values.shape == (len(corners),), "f", values.shape, f"return shape ({len(corners)},)", "vectorize it")
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


def step_bound(*, dim: int, terms: int, norm: float, oscillation: float) -> float:
    r"""Bound on sup |f − f_1| of one outer step: (m+1−n)/(m+1) · oscillation + 2n/(m+1) · ‖f‖.

    Args: norm: sup |f|. oscillation: the most f varies between points whose coordinates differ by ≤ γ^(−k).

    Source: for every x all q but n have x in a plateau, whose value is f(d)/(m+1) with |d − x| ≤ γ^(−k); the others add
    between −‖f‖ and ‖f‖ over m + 1, and miss f(x)/(m+1).

    >>> step_bound(dim=2, terms=5, norm=1.0, oscillation=0.0)
    0.8
    """
    return (terms - dim) / terms * oscillation + 2 * dim / terms * norm


def evaluate(superposition: Superposition, x: Float[Array, "n dim"]) -> Float[Array, " n"]:
    r"""f_1(x) = Σ_q Φ_q(Σ_p λ_p ψ(x_p + q a)), x read to k + 2 digits, every comparison in exact integers.

    Args: x: in [0, reach]^dim.

    Raises: ValueError: x outside, where ψ's shifted cubes leave the unit cube.

    Cost: n · terms · log2(cubes) · limbs comparisons, jitted.

    >>> step = superpose(lambda x: x.sum(1), dim=2, digits=1, terms=8)
    >>> f"{evaluate(step, jnp.array([[0.3, 0.5]]))[0]:.2f}"
    '0.80'
    """
    dim, reach = superposition.psi.shape[0], superposition.reach
    require(x.shape[1] == dim, "x", x.shape, f"have {dim} columns", "pass points as rows")
    inside = holds(lambda v, r: (v >= 0) & (v <= r + 1e-6), x, reach)
    require(inside, "x", "a point outside", f"lie in [0, {reach}]", "rescale f to that cube")
    return _evaluate(superposition, x)


def inner_sums(superposition: Superposition, x: Float[Array, "n dim"]) -> Float[Array, "terms n"]:
    """Σ_p λ_p ψ(x_p + q a) for every q, rounded to floats: coordinates of the pictures, not of the comparisons.

    >>> step = superpose(lambda x: x.sum(1), dim=2, digits=1)
    >>> f"{inner_sums(step, jnp.array([[0.5, 0.0]]))[0, 0]:.4f}"
    '0.5000'
    """
    limbs = jax.vmap(lambda shift: _argument(superposition, x, shift))(superposition.shifts)
    one = superposition.psi[0, 0]  # ψ(0) with the unit that keeps numbers positive
    weights = superposition.weights.astype(x.dtype)
    above = jnp.matmul(carried(limbs - one[None, None, :]).astype(x.dtype), weights, precision="highest")
    return above / jnp.dot(one.astype(x.dtype), weights, precision="highest")


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


def _require_grid(dim: int, base: int, digits: int) -> None:
    require(dim >= 2, "dim", dim, "be >= 2", "a function of one variable needs no superposition")
    require(base >= 3, "base", base, "be >= 3", "the theorem needs base >= 2 dim + 2")
    require(digits >= 1, "digits", digits, "be >= 1", "name the number of digits")
    most = max(k for k in range(1, 22) if base**k <= _LARGEST_TABLE)
    require(digits <= most, "digits", digits, f"be <= {most} in base {base}, a table of 2^21", "use fewer digits")


def _require_superposable(dim: int, base: int, terms: int, digits: int) -> None:
    require(terms >= 2 * dim + 1, "terms", terms, f"be >= 2 dim + 1 = {2 * dim + 1}", "add outer functions")
    require(base >= terms + 1, "base", base, f"be >= terms + 1 = {terms + 1}", "use a larger base")
    _require_grid(dim, base, digits + 2)
    size = terms * base ** (dim * digits)
    require(size <= 2**22, "digits", digits, f"give at most 2^22 knots, not {size}", "use fewer digits or variables")
