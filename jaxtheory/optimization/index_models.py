r"""Single- and multi-index models: exponents that set the sample complexity, population flow, and SGD on the sphere.

A target f(x) = σ(⟨θ, x⟩) of x ~ N(0, I_d) is learned by w on the unit sphere; only the overlap m = ⟨w, θ⟩ matters. It
starts at m ~ d^{−1/2}, and the first Hermite coefficient of σ that is not zero decides how fast it leaves.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory.activations import hermite_coefficients, resolve
from jaxtheory.checks import boundary, constrain, known, positive, require, within
from jaxtheory.guarded import power_of_two
from jaxtheory.optimization.runge_kutta import ascending, integrate
from jaxtheory.results import Status, finite_status, status_where

Number = float | Float[Array, ""]


class OverlapPath(NamedTuple):
    """Overlap ⟨w, θ⟩ at each time."""

    overlap: Float[Array, " times"]
    status: Int[Array, ""]


class Escape(NamedTuple):
    """Samples until |⟨w, θ⟩| ≥ `target`, and the overlap then; NOT_CONVERGED where `max_steps` came first."""

    samples: Int[Array, ""]
    overlap: Float[Array, ""]
    status: Int[Array, ""]


@boundary(static=("degree", "tolerance"))
def information_exponent(link: str | Any, *, degree: int = 32, tolerance: float = 1e-8) -> int:
    r"""The lowest k ≥ 1 with E[σ(G) He_k(G)] ≠ 0: the order at which the loss of a single-index model sees θ.

    Online SGD needs about d samples for k = 1, d log d for k = 2 and d^{k−1} for k ≥ 3, up to logarithms.

    Args:
        link: σ, a name or an elementwise function, as in `activations.expectation`.
        degree: the highest k that is tried.
        tolerance: orthonormal coefficients below it times √E σ² count as 0.

    Raises:
        ValueError: no coefficient up to `degree`, e.g. of a constant; as `activations.hermite_coefficients`.

    Cost: that of `activations.hermite_coefficients`. Source: Ben Arous, Gheissari, Jagannath (2021), "Online stochastic
    gradient descent on non-convex losses from high-dimensional inference".

    >>> information_exponent("relu"), information_exponent(jnp.abs), information_exponent(lambda x: x**3 - 3 * x)
    (1, 2, 3)
    """
    require(0 < tolerance < 1, "tolerance", tolerance, "lie in (0, 1)", "pass e.g. 1e-8")
    require(degree >= 1, "degree", degree, "be at least 1", "pass e.g. 32")
    coefficients = abs(hermite_coefficients(link, degree))
    size = math.sqrt(float(np.sum(coefficients**2)))
    found = np.flatnonzero(coefficients[1:] > tolerance * size)
    wish = f"have a Hermite coefficient of degree 1..{degree}"
    require(len(found) > 0, "link", link, wish, "a constant has none; raise degree")
    return int(found[0]) + 1


@boundary
def leap_exponent(exponents: Int[Array, "terms variables"]) -> int:
    r"""The leap of a multi-index model: the most new degrees that any term needs, over the best order of its terms.

    A polynomial Σ c_S Π_i He_{S_i}(x_i) with terms S ∈ ℕ^r has the leap

        min over orders of max over j of Σ {S_j[i] : i in no support of an earlier term},

    at least 1. For one variable it is the information exponent. SGD on a network whose neurons know these axes, as on
    the hypercube, picks up the variables in such an order and needs about d^{max(leap − 1, 1)} samples. Gaussian inputs
    have no axes: there the largest leap over all rotations counts, `isotropic_leap`.

    Args:
        exponents: a row S for each Hermite coefficient that is not zero; rows of zeros (constants) are ignored.

    Raises:
        ValueError: no row, negative entries, or traced numbers.

    Cost: O(terms² variables) on the host: the term with the fewest new degrees is always next, which is optimal since a
    term only becomes cheaper. Source: Abbe, Boix-Adsera, Misiakiewicz (2023), "SGD learning on neural networks: leap
    complexity and saddle-to-saddle dynamics".

    >>> leap_exponent([[1, 0, 0], [1, 1, 0], [1, 1, 1]]), leap_exponent([[1, 1, 1]]), leap_exponent([[1, 0], [1, 2]])
    (1, 3, 2)
    """
    require(known(exponents), "exponents", exponents, "be known, not traced", "call it outside jit")
    terms = np.asarray(exponents)
    require(bool((terms >= 0).all()), "exponents", exponents, "be >= 0", "pass degrees of Hermite polynomials")
    left = [term for term in terms if term.any()]
    require(len(left) > 0, "exponents", exponents, "hold a term that is not constant", "pass a row for each term")
    seen, leap = np.zeros(terms.shape[1], bool), 1
    while left:
        new = [int(term[~seen].sum()) for term in left]
        first = int(np.argmin(new))
        leap = max(leap, new[first])
        seen = seen | (left.pop(first) > 0)
    return leap


@boundary(static=("max_steps",))
def overlap_flow(
    teacher: Float[Array, " degrees"],
    student: Float[Array, " degrees"],
    start: Number,
    times: Float[Array, " times"],
    *,
    tolerance: Number | None = None,
    max_steps: int = 100_000,
) -> OverlapPath:
    r"""Overlap m under spherical gradient flow of the population loss ½ E(σ(⟨θ, x⟩) − g(⟨w, x⟩))².

        ṁ = (1 − m²) Σ_k k a_k b_k m^{k−1},   a_k, b_k the orthonormal Hermite coefficients of σ and g

    Online SGD of step η has m(ηn) after n samples where η is small. From m ~ d^{−1/2} the flow leaves after a time of
    order 1 for k = 1, log d for k = 2 and d^{k/2 − 1} for k ≥ 3.

    Args:
        teacher, student: a_0, a_1, … and b_0, b_1, …, e.g. of `activations.hermite_coefficients`.
        start: m(0) in [−1, 1]. times: ≥ 0, ascending.
        tolerance: local error of a step, relative to |m(0)| + |m|; 1e-6 in float32 and 1e-10 in float64 by default.
        max_steps: between two times.

    Returns:
        `OverlapPath`; NOT_CONVERGED with NaN from the first time that was not reached. Derivatives in forward mode.

    Raises:
        ValueError: lengths that differ, numbers out of range (outside jit; NaN and a status inside).

    Cost: 7 · degrees operations a step. Source: Ben Arous, Gheissari, Jagannath (2021).

    >>> path = overlap_flow([0.0, 1.0], [0.0, 1.0], 0.0, [0.5, 1.0])
    >>> [f"{m:.4f}" for m in path.overlap], f"{np.tanh(0.5):.4f}"
    (['0.4621', '0.7616'], '0.4621')
    """
    same = teacher.shape == student.shape and len(teacher) >= 1
    require(same, "student", f"shape {student.shape}", f"have the shape of teacher, {teacher.shape}", "pad with zeros")
    require(len(times) >= 1, "times", f"shape {times.shape}", "hold at least one time", "pass e.g. [1.0]")
    require(max_steps >= 1, "max_steps", max_steps, "be at least 1", "use 100000")
    dtype = teacher.dtype
    tolerance = (1e-6 if dtype == jnp.float32 else 1e-10) if tolerance is None else tolerance
    m = within("start", start, -1.0, 1.0, "pass a cosine, e.g. 1/√d")
    at = constrain("times", times, ascending, "be finite, ascending and >= 0", "sort them")
    allowed = positive("tolerance", tolerance, "use 1e-6")
    finite = lambda v: (v > -np.inf) & (v < np.inf)  # noqa: E731
    wish, hint = "be finite", "pass Hermite coefficients of square-integrable functions"
    a, b = (constrain(n, v, finite, wish, hint) for n, v in (("teacher", teacher), ("student", student)))
    numbers = (jnp.asarray(value, dtype) for value in (a, b, m, at, allowed))
    return _overlap_flow(*numbers, max_steps)


@partial(jax.jit, static_argnames="max_steps")
def _overlap_flow(
    teacher: Array, student: Array, start: Array, times: Array, tolerance: Array, max_steps: int
) -> OverlapPath:
    ok = jnp.isfinite(jnp.concatenate([teacher, student, times, jnp.stack([start, tolerance])])).all()
    slopes = jnp.arange(1, len(teacher), dtype=teacher.dtype) * teacher[1:] * student[1:]
    # from a small start a small error grows as the overlap does: absolute errors are in units of the start
    unit = power_of_two(start)
    field = lambda v: (1 - (unit * v) ** 2) * jnp.polyval(slopes[::-1], unit * v) / unit  # noqa: E731
    begin = jnp.where(ok, start / unit, jnp.full_like(start, jnp.nan))
    path = integrate(field, begin[None], jnp.where(ok, times, jnp.zeros_like(times)), tolerance, max_steps)
    overlap = unit * path.states[:, 0]
    status = status_where((~ok, Status.INVALID_INPUT), (path.exhausted.any(), Status.NOT_CONVERGED))
    return OverlapPath(overlap, finite_status(overlap, status))


@boundary(static=("dim", "max_steps"))
def escape_samples(
    key: Key[Array, ""],
    link: str | Any,
    *,
    dim: int,
    step_size: Number,
    start: Number | None = None,
    target: Number = 0.5,
    max_steps: int = 10_000_000,
) -> Escape:
    r"""Samples that online SGD on the sphere needs until |⟨w, θ⟩| ≥ target; vmap over keys for a mean.

        w ← (w + η e σ'(⟨w, x⟩)(x − ⟨w, x⟩w)) / ‖·‖,   e = σ(⟨θ, x⟩) − σ(⟨w, x⟩),   x ~ N(0, I_d)

    The overlap is a Markov chain in ⟨θ, x⟩, the part of x along w across θ, and the squared length of the rest, which
    is χ² with d − 2 degrees of freedom: a step costs O(1) in any dimension and has the exact distribution.

    Args:
        link: σ, a name or an elementwise function. dim: d ≥ 3.
        step_size: η > 0; δ/d with δ of order 1 for k ≤ 2 and d^{1 − k/2} for larger k (`information_exponent`).
        start: ⟨w, θ⟩ at first, d^{−1/2} by default, that of a random direction. target: in (0, 1].
        max_steps: give up there.

    Returns:
        `Escape`; no derivatives. INVALID_INPUT inside jit for what is refused outside.

    Raises:
        ValueError: d < 3, numbers out of range (outside jit).

    Cost: samples · O(1). Source: Ben Arous, Gheissari, Jagannath (2021).

    >>> run = escape_samples(jax.random.key(0), lambda x: x, dim=100, step_size=0.01)
    >>> bool(30 < run.samples < 100), bool(run.overlap >= 0.5)
    (True, True)
    """
    require(dim >= 3, "dim", dim, "be at least 3", "pass the dimension of the inputs")
    require(1 <= max_steps < 2**31, "max_steps", max_steps, "lie in 1..2^31 - 1", "steps are counted by int32")
    m = within("start", dim**-0.5 if start is None else start, -1.0, 1.0, "pass a cosine, e.g. 1/√d")
    eta = positive("step_size", step_size, "pass e.g. 0.1 / dim")
    wish = "lie in (0, 1]"
    goal = constrain("target", target, lambda v: (v > 0) & (v <= 1), wish, "pass e.g. target=0.5")
    numbers = (jnp.asarray(value, float) for value in (eta, m, goal, dim - 2))
    return _escape(key, *numbers, link=resolve(link), max_steps=max_steps)


@partial(jax.jit, static_argnames=("link", "max_steps"))
def _escape(
    key: Array, eta: Array, start: Array, target: Array, rest: Array, *, link: Callable[[Array], Array], max_steps: int
) -> Escape:
    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        m, count = state
        plane, across = jax.random.split(jax.random.fold_in(key, count))
        along, beside = jax.random.normal(plane, (2,), m.dtype)
        length = along**2 + beside**2 + jax.random.chisquare(across, rest, (), m.dtype)
        field = m * along + jnp.sqrt(1 - m**2) * beside
        value, slope = jax.jvp(link, (field,), (jnp.ones_like(field),))
        move = eta * (link(along) - value) * slope
        moved = (m + move * (along - field * m)) / jnp.sqrt(1 + move**2 * (length - field**2))
        return jnp.clip(moved, -1, 1), count + 1

    # NaN ends the loop
    going = lambda state: (jnp.abs(state[0]) < target) & (state[1] < max_steps)  # noqa: E731
    m, count = lax.while_loop(going, step, (start, jnp.int32(0)))
    invalid = jnp.isnan(jnp.stack([eta, start, target])).any()
    status = status_where((invalid, Status.INVALID_INPUT), (jnp.abs(m) < target, Status.NOT_CONVERGED))
    overlap = jnp.where(invalid, jnp.full_like(m, jnp.nan), m)
    return Escape(count, overlap, finite_status(overlap, status))
