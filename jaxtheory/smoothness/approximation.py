r"""How well N numbers describe a function: the first N coefficients, the best N, and the best N B-splines.

In an orthonormal basis the squared error is the sum of the squares that are left out, so all N come from one
cumulative sum. `results.fit_slope` turns errors at stated octaves into exponents.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory import guarded
from jaxtheory.checks import boundary, quantity, require
from jaxtheory.smoothness.bspline import cardinal
from jaxtheory.smoothness.dyadic_cells import require_dim
from jaxtheory.smoothness.wavelets import Coefficients, floating, ravel


class SplineTerms(NamedTuple):
    """A multilevel B-spline expansion Σ c_i N_m(2^{j_i} x − k_i) on the circle, largest terms in L² first."""

    weights: Float[Array, " terms"]
    scales: Float[Array, " terms"]
    shifts: Float[Array, " terms"]


class Rates(NamedTuple):
    """Exponents of a class, as positive numbers: error N^{−…} in L², risk n^{−…} in L² squared."""

    linear_error: float
    adaptive_error: float
    linear_risk: float
    adaptive_risk: float


@boundary
@jax.jit
def linear_errors(coefficients: Coefficients) -> Float[Array, " levels"]:
    r"""L² errors of the first N coefficients, coarse levels first, at the N where a level ends.

    For a ball of a Besov space this projection attains the linear widths: no N-dimensional space does better than
    N^{−(s − (1/p − 1/2)_+)} (d = 1).

    Returns:
        Entry i is the error without the levels i, i + 1, …: of N = size of approximation and i levels
        (`linear_terms`). The last, 0, is left out.

    Cost: one pass. Source: DeVore (1998), section 3.

    >>> c = Coefficients(jnp.ones(1), (jnp.full((1, 1), 3.0), jnp.full((1, 2), 2.0**1.5)))
    >>> linear_errors(c).round(4).tolist()
    [5.0, 4.0]
    """
    approximation, details = floating(coefficients)
    norms = jnp.stack([jnp.zeros((), approximation.dtype), *(guarded.norm(detail) for detail in details)])[1:]
    unit = guarded.power_of_two(norms)
    return unit * guarded.root(jnp.cumsum((norms / unit)[::-1] ** 2)[::-1])


@boundary
def linear_terms(coefficients: Coefficients) -> np.ndarray:
    """N of each entry of `linear_errors`, from the shapes alone.

    >>> linear_terms(Coefficients(jnp.ones(1), (jnp.ones((1, 1)), jnp.ones((1, 2))))).tolist()
    [1, 2]
    """
    sizes = [np.size(coefficients.approximation), *map(np.size, coefficients.details)]
    return np.cumsum(sizes)[:-1]


@boundary
@jax.jit
def n_term_errors(coefficients: Coefficients) -> Float[Array, " terms"]:
    r"""L² errors of the best N coefficients, for every N = 1 … n − 1: entry N − 1 is (Σ_{i>N} |c|²_(i))^{1/2}.

    For B^s_{p,q} with s > (1/p − 1/2)_+ d it falls as N^{−s/d}, whatever p. Coefficients that are not finite give NaN.

    Cost: one sort. Source: DeVore, Jawerth, Popov (1992); DeVore (1998), section 7.

    >>> n_term_errors(Coefficients(jnp.zeros(1), (jnp.full((1, 1), 4.0), jnp.array([[0.0, 3.0]])))).tolist()
    [3.0, 0.0, 0.0]
    """
    values = ravel(coefficients)
    unit = guarded.power_of_two(values)
    errors = unit * guarded.root(jnp.cumsum(jnp.sort((values / unit) ** 2))[-2::-1])
    return jnp.where(jnp.isfinite(values).all(), errors, jnp.full_like(errors, jnp.nan))


@boundary(static=("order",))
@partial(jax.jit, static_argnames="order")
def spline_terms(x: Float[Array, " n"], order: int) -> SplineTerms:
    r"""The multilevel B-spline expansion of samples on the circle: Σ_j (S_j − S_{j−1}) f, sorted by size in L².

    S_j f is the spline of order m with knots 2^{−j} Z that interpolates f at its knots; what level j adds to it is
    written in level-j splines by N_m(x) = 2^{−m} Σ_i C(m + 1, i) N_m(2x − i). The N largest terms, measured by
    |c_{jk}| 2^{−j/2}, make the nonlinear approximation of DeVore and Popov, with knots where f needs them.

    Args:
        x: f(i/n), n = 2^J. order: m ≥ 1, odd (interpolation at the knots is singular for even m).

    Returns:
        `SplineTerms`, all 2n − 1 of them; each shift is in −m … 2^j − 1 − m, and stands for its periodic copies.

    Raises:
        ValueError: n no power of two, or m even. Cost: O(n log n).

    Source: DeVore and Popov (1988), Theorem 4.1; Suzuki (2019), Proposition 1.

    >>> spline_terms(jnp.sin(2 * jnp.pi * jnp.arange(8) / 8), 3).weights.shape
    (15,)
    """
    n = len(x)
    require(n >= 1 and n & (n - 1) == 0, "x", n, "be a power of two of samples", "resample")
    require(order >= 1 and order % 2 == 1, "order", order, "be odd and >= 1", "use 1 for hats or 3 for cubic splines")
    before, weights, scales, shifts = None, [], [], []
    for j in range(int(math.log2(n)) + 1):
        here = _interpolant(x[:: n >> j], order)
        weights.append(here if before is None else here - _refined(before, order))
        scales.append(jnp.full(2**j, 2.0**j, x.dtype))
        shifts.append(jnp.arange(2**j, dtype=x.dtype) - order)
        before = here
    terms = SplineTerms(*map(jnp.concatenate, (weights, scales, shifts)))
    largest = jnp.argsort(-jnp.abs(terms.weights) / jnp.sqrt(terms.scales))
    return jax.tree.map(lambda part: part[largest], terms)


def _interpolant(values: Array, order: int) -> Array:
    """c with Σ_k c_k N_m(i − k + m) = f_i on the circle; shifted so that index k − m starts at its support."""
    n = len(values)
    taps = cardinal(jnp.arange(1, order + 1, dtype=values.dtype)[:, None], order)
    mask = jnp.zeros_like(values).at[(order - np.arange(1, order + 1)) % n].add(taps)
    # f_i = Σ_k c_k N_m(i − (k − m)): the correlation of c with the taps N_m(m − l) at l = k − i
    spectrum = jnp.fft.fft(values) / jnp.conj(jnp.fft.fft(mask))
    return jnp.fft.ifft(spectrum).real.astype(values.dtype)


def _refined(coarse: Array, order: int) -> Array:
    """The same spline in B-splines of half the width: shift k becomes shifts 2k + i."""
    n = 2 * len(coarse)
    fine = jnp.zeros(n, coarse.dtype)
    start = 2 * (np.arange(len(coarse)) - order) + order  # index of shift 2k, as shifts begin at −m
    for i in range(order + 2):
        fine = fine.at[(start + i) % n].add(math.comb(order + 1, i) / 2**order * coarse)
    return fine


@boundary(static=("order", "copies"))
@partial(jax.jit, static_argnames=("order", "copies"))
def evaluate_terms(
    terms: SplineTerms, x: Float[Array, " n"], order: int, *, copies: int | None = None
) -> Float[Array, " n"]:
    """Σ c_i N_m(2^{j_i} x − k_i) on the circle: each term and its copies 1, 2, … periods to the right.

    Args:
        terms: any number of them. x: points of the circle, read modulo 1. order: m ≥ 1.
        copies: how many periods; all m that can overlap by default, of which fine terms need fewer.

    Raises:
        ValueError: a negative order or number of copies. Cost: O(terms · n · copies), memory O(n).

    >>> x = jnp.arange(8) / 8
    >>> terms = spline_terms(jnp.cos(2 * jnp.pi * x), 3)
    >>> bool(jnp.allclose(evaluate_terms(terms, x, 3), jnp.cos(2 * jnp.pi * x), atol=1e-5))
    True
    """
    periods = order if copies is None else copies
    require(periods >= 0, "copies", copies, "be >= 0", "leave it out for all overlaps")
    places = x - jnp.floor(x)
    moved = places[None, :] - jnp.arange(periods + 1, dtype=x.dtype)[:, None]

    @jax.checkpoint
    def add(total: Array, term: SplineTerms) -> tuple[Array, None]:
        values = cardinal((term.scales * moved - term.shifts).ravel()[:, None], order)
        return total + term.weights * values.reshape(moved.shape).sum(axis=0), None

    parts = SplineTerms(*(jnp.asarray(quantity("terms", part), x.dtype) for part in terms))
    return jax.lax.scan(add, jnp.zeros_like(x), parts)[0]


@boundary(static=("s", "p", "dim"))
def rates(s: float, p: float, *, dim: int = 1) -> Rates:
    r"""The exponents of B^s_{p,q}([0, 1]^d): what linear methods reach, and what adaptive ones do.

        errors: s/d − (1/p − 1/2)_+  and  s/d;   risks: 2s'/(2s' + d) with s' = s − d(1/p − 1/2)_+,  and  2s/(2s + d).

    Args:
        s: smoothness. p: in (0, ∞]. dim: d ≥ 1.

    Raises:
        ValueError: s ≤ d(1/p − 1/2)_+, where functions are not square-integrable; p ≤ 0; dim < 1; traced numbers.

    Source: Donoho and Johnstone (1998), Theorems 1 and 7; Suzuki (2019), Theorem 2 and section 4.

    >>> rates(1.0, 1.0)
    Rates(linear_error=0.5, adaptive_error=1.0, linear_risk=0.5, adaptive_risk=0.6666666666666666)
    """
    require(p > 0, "p", p, "lie in (0, inf]", "use math.inf for the sup norm")
    require_dim(dim)
    lost = dim * max(0.0, 1 / p - 0.5)
    wish = f"be > d(1/p − 1/2)_+ = {lost:g}, and finite"
    require(lost < s < math.inf, "s", s, wish, "ask for more smoothness or a larger p")
    linear = s - lost
    return Rates(linear / dim, s / dim, 2 * linear / (2 * linear + dim), 2 * s / (2 * s + dim))
