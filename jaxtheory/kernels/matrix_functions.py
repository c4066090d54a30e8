"""Functions of a Gram matrix by its eigenpairs, with first derivatives that are exact at repeated eigenvalues."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxtheory.guarded import dot, power_of_two
from jaxtheory.kernels.problems import asymmetric
from jaxtheory.results import Status, status_where

# (λ, kept, time, *rates) -> (left, gain): what is left of a mode and (1 − left)/λ, smooth at λ = 0
Solution = Callable[..., tuple[Array, Array]]
_TOLERATED = 1e-2  # of the outputs, by a random change of Θ of the size of its rounding


class Eigenpairs(NamedTuple):
    """K = Q diag(values) Qᵀ, ascending; `kept` marks values above the rounding n ε max|λ|; `status` of K itself."""

    values: Float[Array, " n"]
    vectors: Float[Array, "n n"]
    kept: Bool[Array, " n"]
    status: Int[Array, ""]


def eigenpairs(gram: Float[Array, "n n"]) -> Eigenpairs:
    """Eigenvalues of a Gram matrix with a verdict: NOT_FINITE, or INVALID_INPUT (asymmetric, indefinite).

    Negative eigenvalues within rounding, n ε max|λ|, are set to 0; whatever is refused is NaN.
    Cost: ≈ 9 n³ flops, 2 n² memory.

    >>> int(eigenpairs(jnp.diag(jnp.array([1.0, -1.0]))).status)
    4
    """
    eps, unit = float(jnp.finfo(gram.dtype).eps), power_of_two(gram)
    scaled = gram / unit
    values, vectors = jnp.linalg.eigh((scaled + scaled.T) / 2)
    rounding = gram.shape[0] * eps * jnp.abs(values).max(initial=0)
    indefinite = (values < -10 * rounding).any()
    status = status_where(
        (~jnp.isfinite(gram).all(), Status.NOT_FINITE),
        (asymmetric(scaled, scaled.T) | indefinite, Status.INVALID_INPUT),
    )
    good = status == Status.OK
    kept = values > rounding
    values = jnp.where(good, jnp.maximum(values, 0) * unit, jnp.full_like(values, jnp.nan))
    return Eigenpairs(values, jnp.where(good, vectors, jnp.full_like(vectors, jnp.nan)), kept, status)


def covariance(matrix: Float[Array, "m m"]) -> Float[Array, "m m"]:
    """The symmetric part, with variances that rounding made negative set to 0; derivatives are those of the matrix.

    >>> float(covariance(jnp.array([[-1e-9]]))[0, 0])
    0.0
    """
    even = (matrix + matrix.T) / 2
    below = jnp.minimum(jax.lax.stop_gradient(jnp.diagonal(even)), 0)
    return even - jnp.diag(below)


class Action(NamedTuple):
    """Θ, what a function of it acts on, and C, which maps the result to other points, or None."""

    gram: Float[Array, "n n"]
    start: Float[Array, "n o"]
    cross: Float[Array, "m n"] | None


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def evolve(
    solution: Solution,
    finish: Callable[..., Any],
    action: Action,
    times: Array,
    rates: tuple[Array, ...],
    extras: PyTree,
) -> tuple[Any, Int[Array, ""]]:
    r"""finish(l(Θ) start, C g(Θ) start, extras) at every time, (l, g) = solution(λ, kept, time, *rates); and a status.

    The status is that of `eigenpairs`, or ILL_CONDITIONED where rounding of Θ decides the result (`_decided`).

    The derivative in Θ is that of Daleckii and Krein, with Θ = Q Λ Qᵀ:

        d f(Θ) = Q (F ∘ Qᵀ dΘ Q) Qᵀ,   F_ij = (f(λ_i) − f(λ_j))/(λ_i − λ_j), or f' where they coincide

    so that repeated eigenvalues and null directions do no harm. Second derivatives in Θ need distinct eigenvalues and
    are NaN otherwise. Forward and reverse mode.

    Args:
        solution, finish: static functions.
        action: Θ, what it acts on, and C; finish gets None in the place of C g(Θ) start where C is None.
        times, rates, extras: passed on; times may be integers.

    Cost: one eigendecomposition and 2 n (n + m) o a time; a derivative 4 n³ and 4 n² o a time.
    Source: Higham (2008), Functions of Matrices, theorem 3.11.

    >>> halve = lambda value, kept, time: (0 * value + 0.5, 0 * value)
    >>> action = Action(jnp.eye(1), jnp.ones((1, 1)), None)
    >>> evolve(halve, lambda left, gain, extras: left, action, jnp.ones(1), (), None)[0]
    Array([[[0.5]]], dtype=float32)
    """
    gram, start, cross = action
    pairs = eigenpairs(gram)
    projected = dot(pairs.vectors.T, start)
    lifted = None if cross is None else dot(cross, pairs.vectors)

    def at(time: Array) -> PyTree:
        found, slopes = _with_slopes(solution, pairs, time, rates)
        left, gain = found
        moved = None if lifted is None else dot(lifted, gain[:, None] * projected)
        result = finish(dot(pairs.vectors, left[:, None] * projected), moved, extras)
        return result, _decided(pairs, found, slopes, projected, lifted, jnp.isinf(time))

    result, decided = jax.lax.map(at, times)
    return result, _status(pairs, decided)


@evolve.defjvp
def _evolve_jvp(solution: Solution, finish: Callable[..., Any], primals: PyTree, tangents: PyTree) -> Any:
    (gram, start, cross), times, rates, extras = primals
    (dgram, dstart, dcross), dtimes, drates, dextras = tangents
    pairs = eigenpairs(gram)
    q, values, kept = pairs.vectors, pairs.values, pairs.kept
    rotated = dot(dot(q.T, (dgram + dgram.T) / 2), q)
    projected, dprojected = dot(q.T, start), dot(q.T, dstart)
    lifted = None if cross is None else dot(cross, q)
    close, unit = _coincide(values, kept), power_of_two(values)

    def acted(f: Array, df: Array, slope: Array) -> tuple[Array, Array]:
        """f(Θ) start and its derivative, in the basis Q."""
        turned = dot(_divided(f, slope, values / unit, close) * (rotated / unit), projected)
        return f[:, None] * projected, f[:, None] * dprojected + df[:, None] * projected + turned

    def at(time: Array, dtime: Any) -> PyTree:
        found, dfound = jax.jvp(lambda t, r: solution(values, kept, t, *r), (time, rates), (dtime, drates))
        slopes = _with_slopes(solution, pairs, time, rates)[1]
        decided = _decided(pairs, found, slopes, projected, lifted, jnp.isinf(time))
        (left, dleft), (gain, dgain) = (acted(*each) for each in zip(found, dfound, slopes, strict=True))
        moved = dmoved = None
        if cross is not None:
            moved = dot(cross, dot(q, gain))
            dmoved = dot(dcross, dot(q, gain)) + dot(cross, dot(q, dgain))
        result, dresult = jax.jvp(finish, (dot(q, left), moved, extras), (dot(q, dleft), dmoved, dextras))
        return result, dresult, decided

    if jnp.issubdtype(times.dtype, jnp.integer):
        whole = np.zeros((), jax.dtypes.float0)
        found, dfound, decided = jax.lax.map(lambda time: at(time, whole), times)
    else:
        found, dfound, decided = jax.lax.map(lambda both: at(*both), (times, dtimes))
    return (found, _status(pairs, decided)), (dfound, np.zeros((), jax.dtypes.float0))


def _with_slopes(solution: Solution, pairs: Eigenpairs, time: Array, rates: tuple[Array, ...]) -> tuple[Any, Any]:
    """The solution at the eigenvalues, and its derivative in them times their unit: that of a gain is 1/Θ²."""
    values = pairs.values
    unit = jnp.full_like(values, power_of_two(values))
    return jax.jvp(lambda v: solution(v, pairs.kept, time, *rates), (values,), (unit,))


def _decided(
    pairs: Eigenpairs, found: tuple[Array, Array], slopes: tuple[Array, Array], start: Array, lifted: Array | None,
    stopped: Array,
) -> Bool[Array, ""]:  # fmt: skip
    """Whether rounding decides a result: whether E, of independent entries ε max λ, changes it by more than 1 %.

    By Daleckii and Krein the change of f(Θ) start is Q (F ∘ E) Qᵀ start, of mean square Σ_ij F_ij² (Qᵀ start)_j². After
    an infinite time a mode is learned or is not, which is open for eigenvalues next to the rounding.
    """
    pairs, found, slopes, start, lifted = jax.lax.stop_gradient((pairs, found, slopes, start, lifted))
    unit, weight = power_of_two(pairs.values), power_of_two(start)
    values, near = pairs.values / unit, (start / weight) ** 2
    eps, largest = float(jnp.finfo(values.dtype).eps), values.max(initial=0)
    close = _coincide(values, pairs.kept)
    # left and its slope are numbers, the gain and its slope 1/Θ
    (left, gain), (left_slope, gain_slope) = found, slopes
    moved = eps * largest * _divided(left, left_slope, values, close)
    change = dot(moved**2, near)
    open_ = stopped & pairs.kept & (values <= 10 * len(values) * eps * largest)
    change = change.sum(0) + jnp.where(open_[:, None], near, jnp.zeros_like(near)).sum(0)
    size = jnp.maximum(near.sum(0), dot(left**2, near))
    bad = (change > _TOLERATED**2 * size).any()
    if lifted is not None:
        across = (lifted / power_of_two(lifted)) ** 2
        gain, gain_slope = gain * unit, gain_slope * unit
        top = power_of_two(gain)
        moved = eps * largest * _divided(gain / top, gain_slope / top, values, close)
        change = dot(across, dot(moved**2, near)).sum(0)
        bad = bad | (change > _TOLERATED**2 * dot(across, (gain / top)[:, None] ** 2 * near).sum(0)).any()
    return bad


def _status(pairs: Eigenpairs, decided: Bool[Array, " t"]) -> Int[Array, ""]:
    bad = (pairs.status == Status.OK) & decided.any()
    return jnp.where(bad, jnp.int32(Status.ILL_CONDITIONED), pairs.status)


def _coincide(values: Array, kept: Array) -> Array:
    """Pairs of eigenvalues whose difference is rounding, ε^(1/3) of the larger, and pairs of null directions."""
    gap, larger = jnp.abs(values[:, None] - values[None]), jnp.maximum(values[:, None], values[None])
    null = ~kept[:, None] & ~kept[None]
    return (gap <= float(jnp.finfo(values.dtype).eps) ** (1 / 3) * larger) | null


def _divided(f: Array, slope: Array, values: Array, close: Array) -> Array:
    gap = values[:, None] - values[None]
    quotient = (f[:, None] - f[None]) / jnp.where(close, jnp.ones_like(gap), gap)
    # the mean of both slopes is the divided difference up to the square of the gap
    mean = (slope[:, None] + slope[None]) / 2
    repeated = close & ~jnp.eye(values.shape[0], dtype=bool)
    return jnp.where(close, mean + _without_derivative(values.sum(), repeated.any()), quotient)


@jax.custom_jvp
def _without_derivative(x: Array, where: Array) -> Array:
    """0; with the derivative NaN if `where`."""
    return jnp.zeros_like(x)


@_without_derivative.defjvp
def _without_derivative_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> tuple[Array, Array]:
    x, where = primals
    return jnp.zeros_like(x), jnp.where(where, jnp.nan, 0.0).astype(x.dtype) * tangents[0]
