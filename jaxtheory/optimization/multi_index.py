r"""Multi-index models: which directions online SGD finds first, at which order, and the flow of one neuron on them.

A target f(x) = h(Wx) of x ~ N(0, I_d), with r orthonormal rows W, is seen by a neuron w through m = Ww alone.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int

from jaxtheory.checks import boundary, constrain, known, positive, require, returned
from jaxtheory.guarded import power_of_two
from jaxtheory.optimization.runge_kutta import ascending, integrate
from jaxtheory.results import Status, finite_status, status_where

Number = float | Float[Array, ""]
_POINTS = 2**18  # of the tensor quadrature
_NODES = 64  # of each variable, at most


class Leap(NamedTuple):
    """The leap of a function; the directions it depends on, in the order of learning; the order that each costs."""

    exponent: int
    degrees: Int[np.ndarray, " directions"]
    directions: Float64[np.ndarray, "directions variables"]


class OverlapVectors(NamedTuple):
    """Overlaps m = Ww with the directions of the target at each time."""

    overlaps: Float[Array, "times variables"]
    status: Int[Array, ""]


@boundary(static=("variables", "degree", "tolerance"))
def isotropic_leap(function: Callable[..., Any], variables: int, *, degree: int = 6, tolerance: float = 1e-6) -> Leap:
    r"""The leap of a multi-index function of Gaussian inputs, which does not depend on the basis.

    Where SGD has no preferred axes, the leap is the largest of `leap_exponent` over all rotations of the variables.
    With U the span of the directions learned so far, it is found by

        T_k(x_U) = E[h(x) He_k(x_⊥) | x_U],   k the lowest order with T_k ≠ 0,
        U ← U + the smallest subspace V that holds all tensors T_k(x_U)

    until no T_k is left; the leap is the largest k. Online SGD needs about d^{max(leap − 1, 1)} samples.

    Args:
        function: h, of one point [r], a scalar; smooth, since its Hermite coefficients are found by tensor quadrature.
        variables: r, 1 to 6.
        degree: the highest total degree of the Hermite polynomials. Directions that h shows above it are not found.
        tolerance: orthonormal coefficients below it times √E h² count as 0.

    Returns:
        `Leap`, on the host: `directions` has orthonormal rows, those of one `degrees` in arbitrary rotation.

    Raises:
        ValueError: a function whose coefficients up to `degree` are all 0 or are not found to `tolerance`; counts out
            of range.

    Cost: up to r rounds of 2^18 values of h. Source: Abbe, Boix-Adsera, Misiakiewicz (2023), "SGD learning on neural
    networks: leap complexity and saddle-to-saddle dynamics"; by subspaces: Bietti, Bruna, Pillaud-Vivien (2023), "On
    learning Gaussian multi-index models with gradient flow".

    >>> isotropic_leap(lambda x: x[0] + x[0] * x[1], 2).degrees.tolist()
    [1, 1]
    >>> isotropic_leap(lambda x: x[0] + x[1] + x[2] + x[0] * x[1] * x[2], 3).degrees.tolist()
    [1, 2, 2]
    """
    require(1 <= variables <= 6, "variables", variables, "lie in 1..6", "drop the variables that do not matter")
    require(degree >= 1, "degree", degree, "be at least 1", "pass e.g. 6")
    require(0 < tolerance < 1, "tolerance", tolerance, "lie in (0, 1)", "pass e.g. 1e-6")
    nodes = min(_NODES, int(_POINTS ** (1 / variables) + 1e-9))
    wish = f"be below {nodes - 1}, which the quadrature of {variables} variables resolves"
    require(degree < nodes - 1, "degree", degree, wish, "lower it")
    basis, degrees = np.eye(variables), list[int]()
    while len(degrees) < variables:
        coefficients, size = _expand(function, basis, degree, nodes, tolerance)
        order, found = _unlearned(coefficients, len(degrees), tolerance * size)
        if order == 0:
            break
        # the rows of `found` after the first `rank` are a basis of what is left
        basis[len(degrees) :] = found.rows @ basis[len(degrees) :]
        degrees += [order] * found.rank
    wish = f"have a Hermite coefficient of degree 1..{degree}"
    require(len(degrees) > 0, "function", function, wish, "a constant has none; raise degree")
    return Leap(max(degrees), np.array(degrees), basis[: len(degrees)])


class _Split(NamedTuple):
    """An orthonormal basis of the directions not yet learned, the first `rank` of which are learned next."""

    rows: np.ndarray
    rank: int


def _expand(
    function: Callable[..., Any], basis: np.ndarray, degree: int, nodes: int, tolerance: float
) -> tuple[np.ndarray, float]:
    """Orthonormal Hermite coefficients of h(Bᵀz) in z up to a total degree [degree + 1, …], and √E h²."""
    rules = [_rule(function, basis, degree, count) for count in (nodes, nodes - 1)]
    (found, size), (again, _) = rules
    resolved = bool(np.isfinite(size) and np.abs(found - again).max() <= tolerance * size)
    hint = "pass a smooth function of one point that returns a number, or a larger tolerance, e.g. 1e-2"
    require(resolved, "function", function, f"have Hermite coefficients that are found to {tolerance:g}", hint)
    return found, size


def _rule(function: Callable[..., Any], basis: np.ndarray, degree: int, count: int) -> tuple[np.ndarray, float]:
    """Coefficients and root mean square by Gauss and Hermite's rule with `count` nodes a variable."""
    variables = len(basis)
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / math.sqrt(2 * math.pi)
    grid = np.stack(np.meshgrid(*[nodes] * variables, indexing="ij"), axis=-1)
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        points = jnp.asarray(grid.reshape(-1, variables) @ basis)
        values = np.asarray(jax.vmap(lambda x: returned("function", function(x), (), whole=float))(points))
    values = values.reshape(grid.shape[:-1])
    scale = np.array([math.sqrt(math.factorial(k)) for k in range(degree + 1)])
    polynomials = np.polynomial.hermite_e.hermevander(nodes, degree) / scale * weights[:, None]
    coefficients, second = values, values**2
    for _ in range(variables):  # each turn takes the first axis and appends its degree
        coefficients = np.tensordot(coefficients, polynomials, axes=(0, 0))
        second = np.tensordot(second, weights, axes=(0, 0))
    total = np.indices(coefficients.shape).sum(0)
    return np.where(total <= degree, coefficients, 0), math.sqrt(float(second))


def _unlearned(coefficients: np.ndarray, learned: int, least: float) -> tuple[int, _Split]:
    """The lowest order ≥ 1 in the variables after the first `learned`, 0 where there is none, and its directions."""
    left = coefficients.ndim - learned
    terms = np.argwhere(np.abs(coefficients) > 0)
    values, orders = coefficients[tuple(terms.T)], terms[:, learned:].sum(1)
    shown = orders[(np.abs(values) > least) & (orders >= 1)]
    if len(shown) == 0:
        return 0, _Split(np.eye(left), 0)
    order = int(shown.min())
    # column (S, R) of the unfolded tensor has the entries c_{S, R + e_i}, weighted by how often R occurs in it
    columns: dict[tuple[int, ...], np.ndarray] = {}
    for term, value in zip(terms[orders == order], values[orders == order], strict=True):
        for i in range(left):
            if term[learned + i]:
                rest = term.copy()
                rest[learned + i] -= 1
                column = columns.setdefault(tuple(rest.tolist()), np.zeros(left))
                column[i] = value * math.sqrt(term[learned + i] / order)
    rows, sizes, _ = np.linalg.svd(np.stack([*columns.values(), np.zeros(left)], axis=1))
    signs = np.where(rows[np.abs(rows).argmax(0), np.arange(left)] < 0, -1.0, 1.0)
    return order, _Split((rows * signs).T, max(1, int((sizes > least).sum())))


@boundary(static=("max_steps",))
def multi_index_flow(
    exponents: Any,
    coefficients: Float[Array, " terms"],
    student: Float[Array, " degrees"],
    start: Float[Array, " variables"],
    times: Float[Array, " times"],
    *,
    tolerance: Number | None = None,
    max_steps: int = 100_000,
) -> OverlapVectors:
    r"""Overlaps m = Ww of one neuron g(⟨w, x⟩) under spherical gradient flow of ½ E(h(Wx) − g(⟨w, x⟩))².

        h = Σ_S c_S Π_i he_{S_i},   P(m) = Σ_S c_S b_{|S|} √(|S|!/S!) m^S,   ṁ = (I − mmᵀ) ∇P(m)

    with orthonormal Hermite polynomials he_k and coefficients b_k of g. For one variable it is `overlap_flow`. A leap
    shows as a plateau: near m = 0 a term of degree k moves m at the speed m^{k−1}.

    Args:
        exponents: integers ≥ 0 [terms, variables], not traced: a row S for each term of h. coefficients: c_S.
        student: b_0, b_1, …, at least to the highest |S|, e.g. of `activations.hermite_coefficients`.
        start: m(0) with ‖m‖ ≤ 1. times: ≥ 0, ascending.
        tolerance: local error of a step, relative to max|m(0)| + |m|; 1e-6 in float32 and 1e-10 in float64 by default.
        max_steps: between two times.

    Returns:
        `OverlapVectors`; NOT_CONVERGED with NaN from the first time that was not reached. Derivatives in forward mode.

    Raises:
        ValueError: shapes that do not fit, negative or traced exponents; numbers out of range (outside jit; NaN and a
            status inside).

    Cost: 7 · terms · variables operations a step. Source: Abbe, Boix-Adsera, Misiakiewicz (2023), "SGD learning on
    neural networks: leap complexity and saddle-to-saddle dynamics"; in one variable Ben Arous et al. (2021).

    >>> terms, both = [[1, 0], [1, 1]], [0.0, 1.0, 1.0]
    >>> path = multi_index_flow(terms, [1.0, 1.0], both, [0.01, 0.01], [1.0, 4.0])
    >>> [[f"{value:.2f}" for value in m] for m in path.overlaps]
    [['0.78', '0.44'], ['0.83', '0.55']]
    """
    require(known(exponents), "exponents", exponents, "be known, not traced", "they shape the program")
    terms = np.asarray(exponents)
    whole = terms.ndim == 2 and terms.dtype.kind in "iu" and bool((terms >= 0).all())
    hint = "pass a row of degrees of Hermite polynomials for each term"
    require(whole, "exponents", exponents, "be integers >= 0 with two axes", hint)
    fits = len(coefficients) == len(terms) >= 1
    require(fits, "coefficients", f"shape {coefficients.shape}", f"have shape ({len(terms)},)", "one each term")
    variables = terms.shape[1]
    fits = start.shape == (variables,) and variables >= 1
    require(fits, "start", f"shape {start.shape}", f"have shape ({variables},)", "one overlap each variable")
    highest = int(terms.sum(1).max())
    wish = f"have more than {highest} entries, the highest degree of a term"
    require(len(student) > highest, "student", f"shape {student.shape}", wish, "pad with zeros")
    require(len(times) >= 1, "times", f"shape {times.shape}", "hold at least one time", "pass e.g. [1.0]")
    require(max_steps >= 1, "max_steps", max_steps, "be at least 1", "use 100000")
    dtype = coefficients.dtype
    tolerance = (1e-6 if dtype == jnp.float32 else 1e-10) if tolerance is None else tolerance
    slack = 1 + 10 * float(jnp.finfo(dtype).eps)
    m = constrain("start", start, lambda v: (v**2).sum() <= slack, "have norm at most 1", "pass Ww of unit vectors")
    at = constrain("times", times, ascending, "be finite, ascending and >= 0", "sort them")
    allowed = positive("tolerance", tolerance, "use 1e-6")
    finite = lambda v: (v > -np.inf) & (v < np.inf)  # noqa: E731
    given = (("coefficients", coefficients), ("student", student))
    c, b = (constrain(n, v, finite, "be finite", "pass Hermite coefficients") for n, v in given)
    numbers = (jnp.asarray(value, dtype) for value in (c, b, m, at, allowed))
    return _multi_index_flow(*numbers, terms=tuple(map(tuple, terms.tolist())), max_steps=max_steps)


@partial(jax.jit, static_argnames=("terms", "max_steps"))
def _multi_index_flow(
    coefficients: Array,
    student: Array,
    start: Array,
    times: Array,
    tolerance: Array,
    *,
    terms: tuple[tuple[int, ...], ...],
    max_steps: int,
) -> OverlapVectors:
    numbers = (coefficients, student, start, times, tolerance[None])
    ok = jnp.isfinite(jnp.concatenate(numbers)).all()
    powers = np.array(terms)
    total = powers.sum(1)
    ways = [math.sqrt(math.factorial(sum(term)) / math.prod(map(math.factorial, term))) for term in terms]
    weights = coefficients * student[total] * jnp.asarray(ways, coefficients.dtype)
    # from a small start a small error grows as the overlaps do: absolute errors are in units of the start
    unit = power_of_two(start)

    def potential(m: Array) -> Array:
        table = jnp.stack(list(itertools.accumulate([m] * powers.max(), jnp.multiply, initial=jnp.ones_like(m))))
        return jnp.dot(weights, jnp.prod(table[powers, np.arange(len(m))[None]], axis=1), precision="highest")

    def field(v: Array) -> Array:
        m = unit * v
        slope = jax.grad(potential)(m)
        return (slope - m * jnp.dot(m, slope, precision="highest")) / unit

    begin = jnp.where(ok, start / unit, jnp.full_like(start, jnp.nan))
    path = integrate(field, begin, jnp.where(ok, times, jnp.zeros_like(times)), tolerance, max_steps)
    overlaps = unit * path.states
    status = status_where((~ok, Status.INVALID_INPUT), (path.exhausted.any(), Status.NOT_CONVERGED))
    return OverlapVectors(overlaps, finite_status(overlaps, status))
