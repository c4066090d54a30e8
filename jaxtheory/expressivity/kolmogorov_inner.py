r"""The inner function ψ of Kolmogorov's superposition, on numbers with finitely many digits and in exact integers."""

import functools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float64

from jaxtheory.checks import boundary, require

Variant = Literal["koppen", "sprecher"]
_LARGEST_TABLE = 2**21


class Table(NamedTuple):
    """ψ at j γ^(−k), j = 0..γ^k: numerators (Python integers) over one denominator."""

    numerators: np.ndarray
    denominator: int


@boundary(static=("r", "dim"))
def beta(r: int, dim: int) -> int:
    """β(r) = (n^r − 1)/(n − 1) = 1 + n + … + n^(r−1), an exact integer.

    Args:
        r: ≥ 0. dim: n ≥ 1.

    Raises:
        ValueError: numbers out of range.

    >>> [beta(r, 2) for r in (1, 2, 3)]
    [1, 3, 7]
    """
    require(r >= 0, "r", r, "be >= 0", "count the digits")
    require(dim >= 1, "dim", dim, "be >= 1", "name the number of variables")
    return sum(dim**i for i in range(r))


@boundary(static=("dim", "base", "digits"))
@functools.lru_cache(maxsize=16)
def inner_table(dim: int, base: int, digits: int, variant: Variant = "koppen") -> Table:
    r"""ψ_k at all k-digit numbers of [0, 1], exactly. With i the last digit of d:

        ψ_1(d) = d;   i < γ−1: ψ_k(d) = ψ_{k−1}(d − iγ^(−k)) + iγ^(−β(k));
        i = γ−1: ψ_k(d) = ½[ψ_k(d − γ^(−k)) + ψ_{k−1}(d + γ^(−k))]                                   (Köppen)

    "sprecher" is the function of Sprecher (1996), ψ(d) = Σ_r ĩ_r 2^(−m_r) γ^(−β(r−m_r)), which is not monotone from
    k = 5 on; it is here to show that, and nothing is built on it.

    Args:
        dim: n ≥ 2. base: γ ≥ 3. digits: k ≥ 1. variant: which ψ.

    Returns:
        `Table`, read-only; Köppen's numerators increase strictly, by at least 2^k over a denominator 2^k γ^β(k).

    Raises:
        ValueError: γ^k > 2^21, numbers out of range. Cost: γ^k operations on integers of β(k) log2 γ bits, kept.

    Source: Braun and Griebel (2009), equations (2.7) and (2.2).

    >>> table = inner_table(2, 10, 2)
    >>> Fraction(int(table.numerators[58]), table.denominator)
    Fraction(127, 250)
    """
    require_grid(dim, base, digits)
    denominator = 2**digits * base ** beta(digits, dim)
    if variant == "sprecher":
        return _read_only(_sprecher(dim, base, digits), denominator)
    values = np.array([j * (denominator // base) for j in range(base + 1)], object)
    for k in range(2, digits + 1):
        step = denominator // base ** beta(k, dim)
        rows = values[:-1, None] + step * np.arange(base).astype(object)[None, :]
        rows[:, -1] = (rows[:, -2] + values[1:]) // 2
        values = np.append(rows.ravel(), denominator)
    return _read_only(values, denominator)


def _read_only(numerators: np.ndarray, denominator: int) -> Table:
    numerators.flags.writeable = False  # the table is kept
    return Table(numerators, denominator)


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


@boundary(static=("dim", "base", "digits"))
def inner(
    x: str | float | Fraction | Sequence[Any] | np.ndarray | Array,
    *,
    dim: int,
    base: int = 10,
    digits: int | None = None,
    variant: Variant = "koppen",
) -> Float64[np.ndarray, "..."]:
    """ψ at numbers with finitely many digits in base γ, each value the exact one rounded to float64.

    Args:
        x: a decimal string, a Fraction, a sequence of these, or floats on the grid; any real, by ψ(x + 1) = ψ(x) + 1.
        dim: n ≥ 2. base: γ ≥ 3.
        digits: k; by default the fewest that hold x, which must be given for floats.

    Returns:
        float64 of the shape of x. Neighbours are told apart in float64 up to γ^β(k) ≈ 1e16: k ≤ 4 for n = 2, γ = 10;
        the integers of `inner_table` have no such limit.

    Raises:
        ValueError: x has more than `digits` digits, is no number or traced, floats without `digits`, or γ^k > 2^21.

    Cost: that of `inner_table`, which is kept. Source: Köppen (2002); Braun and Griebel (2009), equation (2.7).

    >>> inner(["0.58", "0.599"], dim=2).tolist()
    [0.508, 0.5770004]
    """
    require(not isinstance(x, jax.core.Tracer), "x", x, "be known, not traced", "call it outside jit")
    try:
        numbers = np.asarray(x)
    except ValueError as error:
        raise ValueError(
            f"x must be numbers, got a {type(x).__name__} of rows that differ; pass equal rows."
        ) from error
    floats = numbers.dtype.kind in "fiub"
    exact = [] if floats else [_fraction(v) for v in np.asarray(x, object).ravel()]
    require(not floats or digits is not None, "digits", digits, "be given for floats", "use strings or Fractions")
    longest = max((_digits(v, base) for v in exact), default=1)
    used = longest if digits is None else digits
    require_grid(dim, base, used)
    require(longest <= used, "x", f"{longest} digits", f"have at most {used}", "raise digits")
    cells = base**used
    indices = _round_to_grid(numbers, cells) if floats else [int(v * cells) for v in exact]
    numerators, one = inner_table(dim, base, used, variant)
    values = [(numerators[i % cells] + (i // cells) * one) / one for i in indices]
    return np.array(values, float).reshape(numbers.shape)


def _fraction(number: Any) -> Fraction:
    try:
        return Fraction(number)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        action = 'pass strings like "0.58", or Fractions'
        raise ValueError(f"x must be decimal numbers, got x={number!r}; {action}.") from error


def _round_to_grid(numbers: np.ndarray, cells: int) -> list[int]:
    scaled = np.asarray(numbers, float).ravel() * cells
    require(bool(np.isfinite(scaled).all()), "x", "NaN or infinity", "be finite", "pass numbers")
    off = float(np.abs(scaled - np.rint(scaled)).max(initial=0.0))
    require(off < 1e-3, "x", f"off by {off:.1e} of a cell", f"lie on the grid of {cells} cells", "round it there")
    return [int(i) for i in np.rint(scaled)]


def _digits(x: Fraction, base: int) -> int:
    """The number of digits of a fraction in a base, 1 at least; 64 where it does not end sooner."""
    return next((k for k in range(1, 64) if (x * base**k).denominator == 1), 64)


def require_grid(dim: int, base: int, digits: int) -> None:
    """Raise unless a table of ψ of these sizes exists."""
    require(dim >= 2, "dim", dim, "be >= 2", "a function of one variable needs no superposition")
    require(base >= 3, "base", base, "be >= 3", "the theorem needs base >= 2 dim + 2")
    require(digits >= 1, "digits", digits, "be >= 1", "name the number of digits")
    most = max(k for k in range(1, 22) if base**k <= _LARGEST_TABLE)
    require(digits <= most, "digits", digits, f"be <= {most} in base {base}, a table of 2^21", "use fewer digits")
