"""What every result carries: a status, a recomputed residual, a standard error, a fitted slope.

One enum says how a computation ended, everywhere in the package; it travels through `jit` as an int32.

>>> f"{fit_slope(jnp.array([10.0, 100.0, 1000.0]), jnp.array([1.0, 0.1, 0.01])).slope:.4f}"
'-1.0000'
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.checks import boundary, constrain, holds, known, quantity, require
from jaxtheory.guarded import norm, power_of_two


class Status(enum.IntEnum):
    """How a computation ended. A result whose status is `OK` is finite; `explain` says what each code means."""

    NOT_COMPUTED = -1
    OK = 0
    NOT_FINITE = 1
    NOT_CONVERGED = 2
    ILL_CONDITIONED = 3
    INVALID_INPUT = 4
    TIMED_OUT = 5

    @property
    def meaning(self) -> str:
        """What happened, in one sentence."""
        return _EXPLAINED[self][0]

    @property
    def remedy(self) -> str:
        """What to try next, in one sentence."""
        return _EXPLAINED[self][1]


_EXPLAINED = {
    Status.NOT_COMPUTED: (
        "this point of a sweep has not been computed yet",
        "call the same sweep again; it continues where it stopped",
    ),
    Status.OK: (
        "the result is finite and accurate to what its docstring promises",
        "nothing needs to be done",
    ),
    Status.NOT_FINITE: (
        "a number of the result is NaN or infinite although the arguments were valid",
        "scale the inputs, use float64 (jax.enable_x64), or look for a step size or a rate that is too large",
    ),
    Status.NOT_CONVERGED: (
        "an iteration stopped before it met its tolerance",
        "allow more iterations, loosen the tolerance, or start from a better point; the residual says how far it is",
    ),
    Status.ILL_CONDITIONED: (
        "rounding decides digits that matter: the problem is too close to singular for its dtype",
        "use float64 (jax.enable_x64), a larger ridge, or remove duplicate and dependent rows",
    ),
    Status.INVALID_INPUT: (
        "an argument lies outside the valid range that the docstring states, or is NaN",
        "call the function outside jit, where the error names the argument and the requirement",
    ),
    Status.TIMED_OUT: (
        "a point of a sweep took longer than its time_limit",
        'raise time_limit and call again with retry="failed"',
    ),
}


def explain(status: Int[Array, "..."] | Status | int) -> str:
    """What a status, or an array of them, means and what to do about it.

    Args:
        status: a code from a result's `status` field, outside jit; an array is counted code by code.

    Returns:
        One line for each code that occurs: how often (in an array), its name, its meaning and a remedy.

    Raises:
        ValueError: a code that no status has, or a traced one.

    Cost: one pass, on the host.

    >>> print(explain(2))
    NOT_CONVERGED: an iteration stopped before it met its tolerance; allow more iterations, loosen the tolerance,
    or start from a better point; the residual says how far it is.
    >>> print(explain(jnp.array([0, 0, 5])))
    2 of 3 OK: the result is finite and accurate to what its docstring promises; nothing needs to be done.
    1 of 3 TIMED_OUT: a point of a sweep took longer than its time_limit; raise time_limit and call again with
    retry="failed".
    """
    action = "pass the status field of a result; inside jit return it and explain it outside"
    require(known(status), "status", status, "be known, not traced", action)
    codes = np.asarray(status)
    require(
        bool(np.isin(codes, [int(s) for s in Status]).all() and codes.dtype.kind in "iu"),
        "status",
        status,
        "hold codes of Status",
        action,
    )
    found, counts = np.unique(codes, return_counts=True)
    share = [f"{count} of {codes.size} " if codes.ndim else "" for count in counts]
    return "\n".join(
        f"{part}{Status(code).name}: {Status(code).meaning}; {Status(code).remedy}."
        for part, code in zip(share, found, strict=True)
    )


class Estimate(NamedTuple):
    """A mean of random draws and its standard error, of one shape."""

    value: Float[Array, "..."]
    standard_error: Float[Array, "..."]


class Slope(NamedTuple):
    """The power law y ≈ exp(intercept) · x^slope, with the standard error of its exponent."""

    slope: Float[Array, ""]
    intercept: Float[Array, ""]
    standard_error: Float[Array, ""]


def status_where(*conditions: tuple[Array | bool, Status]) -> Int[Array, "..."]:
    """The status of the first condition that holds, elementwise, or `OK` where none does.

    Args:
        conditions: pairs (where, status), the most telling first; `where` broadcasts.

    Returns:
        int32 array of the common shape. Cost: one `select` a condition.

    Raises:
        ValueError: no condition, or one that is no pair of a truth value and a status.

    >>> status_where((jnp.array([True, False]), Status.NOT_FINITE))
    Array([1, 0], dtype=int32)
    """
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Status) for pair in conditions)
    wish, hint = "be pairs (where, status), at least one", "e.g. (jnp.isnan(x), Status.NOT_FINITE)"
    require(pairs and len(conditions) > 0, "conditions", conditions, wish, hint)
    wheres = jnp.broadcast_arrays(*(_truth(where) for where, _ in conditions))
    codes = [jnp.int32(status) for _, status in conditions]
    found = wheres[-1].astype(jnp.int32) * codes[-1]
    # not jnp.select, which fails under vmap over a mesh of explicit axes
    for where, code in zip(wheres[-2::-1], codes[-2::-1], strict=True):
        found = jnp.where(where, code, found)
    return found


def _truth(where: Array | bool) -> Array:
    """A condition as booleans; numbers other than 0 are true."""
    array = where if isinstance(where, jax.Array) else jnp.asarray(quantity("where", where))
    return array if array.dtype == jnp.bool_ else array != 0


def finite_status(values: PyTree[Array], status: Int[Array, ""] | None = None) -> Int[Array, ""]:
    """`status` (or `OK`), turned into `NOT_FINITE` where it says `OK` and a value is NaN or infinite.

    Args:
        values: any pytree of arrays; integers and booleans are always finite.
        status: what the computation said of itself.

    Returns:
        A scalar int32. Cost: one pass over `values`.

    Raises:
        ValueError: a leaf that is neither an array nor a number.

    >>> int(finite_status({"risk": jnp.array([1.0, jnp.nan])}))
    1
    """
    for leaf in jax.tree.leaves(values):
        number = isinstance(leaf, (bool, int, float, complex, np.generic, np.ndarray, jax.Array))
        require(number, "values", type(leaf).__name__, "hold arrays or numbers", "leave out what is none")
    inexact = [leaf for leaf in jax.tree.leaves(values) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    finite = jnp.array([jnp.isfinite(leaf).all() for leaf in inexact]).all() if inexact else jnp.array(True)
    said = jnp.int32(Status.OK) if status is None else jnp.asarray(status, jnp.int32)
    return jnp.where((said == Status.OK) & ~finite, jnp.int32(Status.NOT_FINITE), said)


@boundary
def relative_residual(product: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, ""]:
    r"""‖Ax − b‖ / ‖b‖ from the recomputed product Ax, so that no solver vouches for itself.

    Args:
        product: A x, computed anew from the solution.
        target: b, the same shape.

    Returns:
        The ratio of Frobenius norms; ‖Ax‖ itself where b = 0.

    >>> f"{relative_residual(jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])):.4f}"
    '0.7071'
    """
    require(
        product.shape == target.shape,
        "product",
        product.shape,
        f"have the shape of target, {target.shape}",
        "pass A @ x and b",
    )
    unit = power_of_two(target)  # so that the quotient is that of numbers of order one
    scale = norm(target / unit)
    return norm((product - target) / unit) / jnp.where(scale > 0, scale, jnp.ones_like(scale))


@boundary
def standard_error(samples: Float[Array, "..."], axis: int = 0) -> Float[Array, "..."]:
    r"""Standard error of the mean of independent samples: √(Σ(x − x̄)² / (n − 1)) / √n along `axis`.

    Args:
        samples: n ≥ 2 independent values along `axis`.
        axis: the axis of the samples.

    Returns:
        `samples` without `axis`.

    Raises:
        ValueError: fewer than two samples, which have no spread.

    >>> f"{standard_error(jnp.array([1.0, 2.0, 3.0])):.4f}"
    '0.5774'
    """
    require(samples.ndim >= 1, "samples", samples, "have an axis of samples", "stack them")
    count = samples.shape[axis]
    require(count >= 2, "samples", count, "hold at least two values along axis", "measure with more seeds")
    unit = power_of_two(samples, axis=axis, keepdims=True)
    scaled = samples / unit
    apart = scaled - jax.lax.stop_gradient(jax.lax.slice_in_dim(scaled, 0, 1, axis=axis))  # a mean is rounded
    spread = norm(apart - jnp.mean(apart, axis=axis, keepdims=True), axis=axis)
    return spread * jnp.squeeze(unit, axis) / (count * (count - 1)) ** 0.5


@boundary
def fit_slope(x: Float[Array, " n"], y: Float[Array, " n"], error: Float[Array, " n"] | None = None) -> Slope:
    r"""Exponent of a power law: least squares of log y on log x, with the exponent's standard error.

    With u = log x, weights w_i and ū, v̄ the weighted means of u and v = log y:

        slope = Σ w (u − ū)(v − v̄) / Σ w (u − ū)²,   intercept = v̄ − slope · ū

    Without `error`, w = 1 and the standard error is √(RSS / (n − 2) / Σ(u − ū)²). With `error` (the
    standard error of each y), w = (y/error)², by the delta method, and the standard error is (Σ w (u − ū)²)^(−1/2).

    Args:
        x, y: n ≥ 3 positive values (n ≥ 2 with `error`), any units; the slope has none.
        error: positive standard errors of y.

    Raises:
        ValueError: too few points, x that are all equal, or values that have no logarithm (outside jit; inside, the
            slope is NaN).

    Cost: O(n). Source: Draper and Smith (1998), Applied Regression Analysis, sections 1.3 and 9.2.

    >>> law = fit_slope(jnp.array([1.0, 2.0, 4.0]), jnp.array([3.0, 12.0, 48.0]))
    >>> f"{law.slope:.3f} {jnp.exp(law.intercept):.3f}"
    '2.000 3.000'
    """
    for name, other in (("y", y), ("error", error)):
        shape = x.shape if other is None else other.shape
        require(shape == x.shape, name, shape, f"have the shape of x, {x.shape}", "pass one for each x")
    least = 3 if error is None else 2
    require(len(x) >= least, "x", len(x), f"hold at least {least} points", "measure at more sizes")
    differ = jnp.max(x) > jnp.min(x)
    require(holds(lambda found: found, differ | jnp.isnan(x).any()), "x", x, "hold two sizes", "measure at more sizes")
    (u, u_first), (v, v_first) = _logarithms(_positive("x", x)), _logarithms(_positive("y", y))
    ratio = jnp.ones_like(v) if error is None else y / _positive("error", error)
    unit = power_of_two(ratio)
    weight = (ratio / unit) ** 2
    u_mean, v_mean = (weight * u).sum() / weight.sum(), (weight * v).sum() / weight.sum()
    spread = (weight * (u - u_mean) ** 2).sum()
    spread = jnp.where(differ, spread, jnp.nan)  # rounding of the mean is no spread
    slope = (weight * (u - u_mean) * (v - v_mean)).sum() / spread
    residual = v - v_mean - slope * (u - u_mean)
    variance = (residual**2).sum() / (len(x) - 2) if error is None else jnp.ones_like(spread)
    return Slope(slope, v_first + v_mean - slope * (u_first + u_mean), jnp.sqrt(variance / spread) / unit)


def _logarithms(values: Array) -> tuple[Array, Array]:
    """Logarithms of the ratios to the first value, exact where these are close to 1, and the logarithm of the first."""
    first = values[0]
    near = jnp.abs(values - first) <= first / 2  # where the difference is exact
    share = jnp.where(near, values - first, jnp.zeros_like(values)) / first
    start = jnp.log(first)
    return jnp.where(near, jnp.log1p(share), jnp.log(values) - start), start


def _positive(name: str, values: Array) -> Array:
    return constrain(name, values, lambda v: v > 0, "be positive to have a logarithm", "drop those points")
