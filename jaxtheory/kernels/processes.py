"""Gaussian processes: the exact posterior and the log marginal likelihood, both differentiable."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxtheory.checks import known, require
from jaxtheory.kernels.functions import Kernel, as_kernel, asymmetric, require_problem
from jaxtheory.kernels.solvers import Factor, cholesky_solve, differentiable_cholesky
from jaxtheory.results import Status, finite_status, status_where


class Posterior(NamedTuple):
    """Mean and covariance of the latent function at the test points (add the noise for observations)."""

    mean: Float[Array, "m ..."]
    covariance: Float[Array, "m m"]
    jitter: Float[Array, ""]
    status: Int[Array, ""]


def posterior(
    kernel: Kernel | Shaped[Array, "p p"],
    x: Shaped[Array, "n ..."],
    y: Float[Array, "n ..."],
    noise: Any,
    x_test: Shaped[Array, "m ..."],
) -> Posterior:
    r"""Posterior of f ~ GP(0, kernel) given y = f(x) + ε, Var ε = `noise`.

        mean = K_* (K + σ² I)⁻¹ y,   covariance = K_** − K_* (K + σ² I)⁻¹ K_*ᵀ

    Args:
        kernel: a kernel function, or a Gram matrix over all points, with x and x_test indices into it.
        x, y: n observations, [n] or [n outputs] that share the kernel.
        noise: σ² ≥ 0, a variance.
        x_test: m points.

    Returns:
        `Posterior`; status ILL_CONDITIONED where jitter was added, INVALID_INPUT with NaN where K is not a covariance.

    Raises:
        ValueError: mismatched shapes, a negative noise.

    Cost: 2 n³/3 + n² m flops, memory 3 n² + n m + m². Source: Rasmussen and Williams (2006), equations 2.23-2.24.

    >>> from jaxtheory.kernels.functions import gaussian
    >>> found = posterior(gaussian(), jnp.zeros((1, 1)), jnp.ones(1), 1.0, jnp.zeros((1, 1)))
    >>> f"{found.mean[0]:.2f} {found.covariance[0, 0]:.2f}"
    '0.50 0.50'
    """
    wrapped, x = as_kernel(kernel, x)
    _check(wrapped, x, y, noise)
    return _posterior(wrapped, x, y, jnp.asarray(noise, y.dtype), x_test)


def log_marginal_likelihood(
    kernel: Kernel | Shaped[Array, "p p"], x: Shaped[Array, "n ..."] | None, y: Float[Array, "n ..."], noise: Any
) -> Float[Array, ""]:
    r"""log p(y | x) = −½ yᵀ (K + σ² I)⁻¹ y − ½ log det(K + σ² I) − (n/2) log 2π, summed over outputs.

    Differentiable in the kernel's parameters, x, y and the noise. NaN where K + σ² I is not positive definite even with
    jitter of √ε of its mean diagonal.

    Cost: 2 n³/3 flops, 3 n² memory. Source: Rasmussen and Williams (2006), equation 2.30.

    >>> f"{log_marginal_likelihood(jnp.eye(1), None, jnp.zeros(1), 1.0):.4f}"
    '-1.2655'
    """
    wrapped, x = as_kernel(kernel, x)
    _check(wrapped, x, y, noise)
    return _evidence(wrapped, x, y.reshape(y.shape[0], -1), jnp.asarray(noise, y.dtype))


def _check(kernel: Any, x: Array, y: Array, noise: Any) -> None:
    require_problem(kernel, x, y)
    if known(noise):
        require(not float(noise) < 0, "noise", noise, "be a variance, >= 0", "use 0.0 for exact observations")


def _factor(kernel: Any, x: Array, noise: Array) -> tuple[Factor, Array]:
    gram = kernel(x, x)
    factor = differentiable_cholesky(gram + noise * jnp.eye(x.shape[0], dtype=gram.dtype))
    rough = asymmetric(gram, gram.T)
    lower = jnp.where(rough, jnp.full_like(factor.lower, jnp.nan), factor.lower)
    return Factor(lower, factor.jitter), jnp.isfinite(gram).all()


@jax.jit
def _posterior(kernel: Any, x: Array, y: Array, noise: Array, x_test: Array) -> Posterior:
    factor, finite = _factor(kernel, x, noise)
    cross = kernel(x_test, x)
    whitened = jax.scipy.linalg.solve_triangular(factor.lower, cross.T, lower=True)
    weights = cholesky_solve(factor.lower, y.reshape(y.shape[0], -1))
    mean = jnp.matmul(cross, weights, precision="highest").reshape(x_test.shape[0], *y.shape[1:])
    covariance = kernel(x_test, x_test) - jnp.matmul(whitened.T, whitened, precision="highest")
    status = status_where(
        (~finite | ~jnp.isfinite(y).all(), Status.NOT_FINITE),
        (~jnp.isfinite(factor.lower).all(), Status.INVALID_INPUT),
        (factor.jitter > 0, Status.ILL_CONDITIONED),
    )
    return Posterior(mean, covariance, factor.jitter, finite_status((mean, covariance), status))


@jax.jit
def _evidence(kernel: Any, x: Array, y: Array, noise: Array) -> Array:
    lower = _factor(kernel, x, noise)[0].lower
    whitened = jax.scipy.linalg.solve_triangular(lower, y, lower=True)
    volume = jnp.sum(jnp.log(jnp.diagonal(lower)))
    return -0.5 * jnp.sum(whitened**2) - y.shape[1] * (volume + 0.5 * y.shape[0] * math.log(2 * math.pi))
