"""Gaussian processes: the exact posterior and the log marginal likelihood, both differentiable."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxtheory.checks import boundary, nonnegative, require
from jaxtheory.guarded import dot, power_of_two
from jaxtheory.kernels.functions import Kernel
from jaxtheory.kernels.matrix_functions import covariance
from jaxtheory.kernels.problems import as_kernel, as_points, as_problem, asymmetric, in_dtype
from jaxtheory.kernels.scales import as_columns, common_unit, lost, mean_square, worst_residual
from jaxtheory.kernels.solvers import cholesky_solve, differentiable_cholesky
from jaxtheory.results import Status, finite_status, status_where


class Posterior(NamedTuple):
    """Mean and covariance of the latent function at the test points (add the noise for observations)."""

    mean: Float[Array, "m ..."]
    covariance: Float[Array, "m m"]
    jitter: Float[Array, ""]
    status: Int[Array, ""]


class Evidence(NamedTuple):
    """log p(y | x), the estimated rounding error of it, and the jitter that was added to the diagonal."""

    value: Float[Array, ""]
    error: Float[Array, ""]
    jitter: Float[Array, ""]
    status: Int[Array, ""]


@boundary
def posterior(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."],
    y: Float[Array, "n ..."],
    noise: float | Float[Array, "..."],
    x_test: Shaped[Array, "m ..."],
) -> Posterior:
    r"""Posterior of f ~ GP(0, kernel) given y = f(x) + ε, Var ε = `noise`.

        mean = K_* (K + σ² I)⁻¹ y,   covariance = K_** − K_* (K + σ² I)⁻¹ K_*ᵀ

    Differentiable to any order in the kernel's parameters, x, y, the noise and x_test; the jitter is held fixed.

    Args:
        kernel: a kernel function, or a Gram matrix over all points, with x and x_test indices into it.
        x, y: n observations, [n] or [n outputs] that share the kernel.
        noise: σ² ≥ 0, a variance, or [n], one for each observation.
        x_test: m points.

    Returns:
        `Posterior`; status ILL_CONDITIONED where jitter was added or the weights of the mean miss their equation by
        more than √ε, INVALID_INPUT with NaN where K is not a covariance, NOT_FINITE for NaN and infinity. Variances
        that rounding made negative are 0.

    Raises:
        ValueError: mismatched shapes, a negative noise (NaN inside jit).

    Cost: 2 n³/3 + n² m flops, memory 3 n² + n m + m². Source: Rasmussen and Williams (2006), equations 2.23-2.24.

    >>> from jaxtheory.kernels.functions import gaussian
    >>> found = posterior(gaussian(), jnp.zeros((1, 1)), jnp.ones(1), 1.0, jnp.zeros((1, 1)))
    >>> f"{found.mean[0]:.2f} {found.covariance[0, 0]:.2f}"
    '0.50 0.50'
    """
    wrapped, x = as_kernel(kernel, x)
    x, y = as_problem(wrapped, x, y)
    x_test = in_dtype(as_points(wrapped, x_test, "x_test"), y.dtype)
    alike = x_test.shape[1:] == x.shape[1:]
    require(alike, "x_test", x_test.shape, f"hold points like those of x, {x.shape}", "use the same columns")
    found = _posterior(wrapped, x, as_columns(y), _noise(noise, y), x_test)
    return found._replace(mean=found.mean.reshape(x_test.shape[0], *y.shape[1:]))


@boundary
def log_marginal_likelihood(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."] | None,
    y: Float[Array, "n ..."],
    noise: float | Float[Array, "..."],
) -> Evidence:
    r"""log p(y | x) = −½ yᵀ (K + σ² I)⁻¹ y − ½ log det(K + σ² I) − (n/2) log 2π, summed over outputs.

    The value is differentiable to any order in the kernel's parameters, x, y and the noise; the jitter is held fixed.
    Its error is that of entries of K + σ² I = A rounded at random, of standard deviation s = ε max A_ii / 2:

        error = s (o ‖A⁻¹‖_F/√2 + ‖α‖² /√2) + ¼ o s² (tr A⁻¹)²,   α = A⁻¹ y, o outputs

    with the norm and the trace estimated by random vectors.

    Args:
        kernel, x, y, noise: as in `posterior`; x is None for a Gram matrix.

    Returns:
        `Evidence`; status OK where the error is below √ε of the terms' sizes, ILL_CONDITIONED where it is not or jitter
        was added (use float64, or a larger noise), INVALID_INPUT with NaN where K is not a covariance, NOT_FINITE for
        NaN and infinity.

    Raises:
        ValueError: mismatched shapes, a negative noise (NaN inside jit).

    Cost: 2 n³/3 flops, 3 n² memory. Source: Rasmussen and Williams (2006), equation 2.30.

    >>> f"{log_marginal_likelihood(jnp.eye(1), None, jnp.zeros(1), 1.0).value:.4f}"
    '-1.2655'
    """
    wrapped, x = as_kernel(kernel, x)
    x, y = as_problem(wrapped, x, y)
    return _evidence(wrapped, x, as_columns(y), _noise(noise, y))


class _Factored(NamedTuple):
    """A = (K + σ² I)/unit and its factor; `finite` tells of K, `covariance` whether it is one."""

    matrix: Float[Array, "n n"]
    lower: Float[Array, "n n"]
    jitter: Float[Array, ""]
    unit: Float[Array, ""]
    finite: Bool[Array, ""]
    covariance: Bool[Array, ""]


def _noise(noise: Any, y: Array) -> Array:
    """The variance as a number, or as a column."""
    n, shape = y.shape[0], jnp.shape(noise)
    hint = f"pass one, or one for each of the {n} observations"
    require(shape in ((), (n,)), "noise", f"shape {shape}", f"be one number or {n} numbers", hint)
    noise = nonnegative("noise", noise, "pass a variance, 0.0 for exact observations")
    return jnp.asarray(noise, y.dtype).reshape(shape if shape == () else (n, 1))


def _factored(kernel: Kernel, x: Array, noise: Array) -> _Factored:
    gram = kernel(x, x).astype(noise.dtype)
    unit = common_unit(jnp.diagonal(gram), noise)
    matrix = gram / unit + noise / unit * jnp.eye(x.shape[0], dtype=gram.dtype)
    factor = differentiable_cholesky(matrix)
    sound = jnp.isfinite(factor.lower).all() & ~asymmetric(gram / unit, gram.T / unit)
    lower = jnp.where(sound, factor.lower, jnp.full_like(factor.lower, jnp.nan))
    finite = jnp.isfinite(gram).all() & jnp.isfinite(noise).all()
    return _Factored(matrix, lower, factor.jitter, unit, finite, sound)


@jax.jit
def _posterior(kernel: Kernel, x: Array, y: Array, noise: Array, x_test: Array) -> Posterior:
    found, units = _factored(kernel, x, noise), power_of_two(y, axis=0, keepdims=True)
    cross = kernel(x_test, x).astype(y.dtype)
    whitened = jax.scipy.linalg.solve_triangular(found.lower, cross.T / found.unit, lower=True)
    right = y / units
    weights = cholesky_solve(found.lower, right)
    # the equation without the jitter, as iterative refinement solves it
    weights = weights + cholesky_solve(found.lower, right - dot(found.matrix, weights))
    scaled = dot(cross / found.unit, weights)
    mean = scaled * units
    spread = covariance(kernel(x_test, x_test).astype(y.dtype) - dot(whitened.T, whitened) * found.unit)
    missed = ~(worst_residual(dot(found.matrix, weights), right) <= float(jnp.finfo(y.dtype).eps) ** 0.5)
    status = status_where(
        (~found.finite | ~jnp.isfinite(y).all() | lost(scaled, mean), Status.NOT_FINITE),
        (~found.covariance, Status.INVALID_INPUT),
        ((found.jitter > 0) | missed, Status.ILL_CONDITIONED),
    )
    return Posterior(mean, spread, found.jitter * found.unit, finite_status((mean, spread), status))


@jax.jit
def _evidence(kernel: Kernel, x: Array, y: Array, noise: Array) -> Evidence:
    found, units = _factored(kernel, x, noise), power_of_two(y, axis=0, keepdims=True)
    (n, outputs), eps = y.shape, float(jnp.finfo(y.dtype).eps)
    whitened = jax.scipy.linalg.solve_triangular(found.lower, y / units, lower=True)
    squares, _ = mean_square(jnp.sum(whitened**2, axis=0), units[0])
    misfit = 0.5 * outputs * squares / found.unit
    constant = 0.5 * n * (math.log(2 * math.pi) + jnp.log(found.unit))
    volume = jnp.sum(jnp.log(jnp.diagonal(found.lower)))
    value = -misfit - outputs * (volume + constant)
    size = jnp.abs(misfit) + outputs * (jnp.sum(jnp.abs(jnp.log(jnp.diagonal(found.lower)))) + jnp.abs(constant))
    error = jax.lax.stop_gradient(_rounding(found, whitened, units, eps))
    status = status_where(
        (~found.finite | ~jnp.isfinite(y).all(), Status.NOT_FINITE),
        (~found.covariance, Status.INVALID_INPUT),
        ((found.jitter > 0) | ~(error <= eps**0.5 * size), Status.ILL_CONDITIONED),
    )
    return Evidence(value, error, found.jitter * found.unit, finite_status((value, error), status))


def _rounding(found: _Factored, whitened: Array, units: Array, eps: float) -> Array:
    """The error of `log_marginal_likelihood`."""

    def back(v: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(found.lower, v, lower=True, trans=1)

    n, outputs = whitened.shape
    probes = jax.random.rademacher(jax.random.key(2), (n, 8), whitened.dtype)
    half = jax.scipy.linalg.solve_triangular(found.lower, probes, lower=True)
    trace, frobenius = jnp.mean(jnp.sum(half**2, axis=0)), jnp.sqrt(jnp.mean(jnp.sum(back(half) ** 2, axis=0)))
    weights, _ = mean_square(jnp.sum(back(whitened) ** 2, axis=0), units[0])
    spread = eps / 2 * jnp.diagonal(found.matrix).max()
    first = spread * (outputs * frobenius + outputs * weights / found.unit) / math.sqrt(2)
    return first + outputs * (spread * trace) ** 2 / 4
