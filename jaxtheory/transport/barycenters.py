"""Wasserstein barycenters that are formulas or small fixed points: of measures on the line, and of Gaussians."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, positive, require
from jaxtheory.guarded import norm, power_of_two
from jaxtheory.results import Status, status_where
from jaxtheory.transport import psd
from jaxtheory.transport.costs import Number, given_masses, normalized, uniform
from jaxtheory.transport.gaussian import symmetric
from jaxtheory.transport.line import index, quantiles


class LineBarycenter(NamedTuple):
    """Points in ascending order and their masses."""

    points: Float[Array, " s"]
    masses: Float[Array, " s"]


class GaussianBarycenter(NamedTuple):
    """Mean and covariance, and ‖Σ_i λ_i T_i − 1‖ with T_i the optimal map to each Gaussian, 0 at the barycenter."""

    mean: Float[Array, " k"]
    covariance: Float[Array, "k k"]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    status: Int[Array, ""]


@boundary
def line_barycenter(
    samples: Float[Array, "r n"],
    weights: Float[Array, " r"] | None = None,
    *,
    masses: Float[Array, "r n"] | None = None,
) -> LineBarycenter:
    r"""The W₂ barycenter of r measures on the line: its quantile function is the mean Σ_i λ_i F_i⁻¹ of theirs.

    Args:
        samples: n numbers of each measure. weights: λ ≥ 0, normalized here; equal by default.
        masses: of the numbers, ≥ 0, normalized in each row; equal by default.

    Returns:
        `LineBarycenter` of n points for equal masses, and of r n points otherwise; NaN where a weight or a mass is not
        valid.

    Raises:
        ValueError: no measures or numbers, shapes that do not fit, negative weights or masses (NaN inside `jit`).

    Differentiable where the order of the numbers is. Cost: r n log(r n). Source: Agueh, Carlier (2011), section 6.1.

    >>> line_barycenter(jnp.array([[1.0, 0.0], [4.0, 3.0]]), jnp.array([2.0, 1.0])).points
    Array([1., 2.], dtype=float32)
    """
    count = samples.shape[0]
    require(samples.size >= 1, "samples", samples.shape, "hold at least one number", "pass one measure a row")
    given = given_masses("weights", weights, count, samples.dtype)
    shares = uniform(count, samples.dtype) if given is None else given
    if masses is None:
        unit = power_of_two(samples)  # so that no product with a share leaves the dtype
        points = unit * jnp.matmul(shares, jnp.sort(samples / unit, axis=1), precision="highest")
        points = jnp.where(jnp.isfinite(samples).all(), points, jnp.nan)
        return LineBarycenter(points, uniform(len(points), samples.dtype))
    require(masses.shape == samples.shape, "masses", masses.shape, f"fit samples, {samples.shape}", "give one to each")
    masses = constrain("masses", masses, lambda v: (v >= 0) & (v < jnp.inf), "be >= 0 and finite", "pass masses")
    return _merged(samples, shares, masses)


@jax.jit
def _merged(samples: Array, shares: Array, masses: Array) -> LineBarycenter:
    points, edges = jax.vmap(quantiles)(samples, jax.vmap(normalized)(masses))
    merged = jnp.sort(edges.ravel())
    left = jnp.concatenate([jnp.zeros_like(merged[:1]), merged[:-1]])
    middle = (left + merged) / 2  # all quantile functions are constant between the edges
    levels = jax.vmap(lambda x, e: x[index(e, middle)])(points, edges)
    unit = power_of_two(samples)
    mean = unit * jnp.matmul(shares, levels / unit, precision="highest")
    return LineBarycenter(jnp.where(jnp.isfinite(samples).all(), mean, jnp.nan), merged - left)


@boundary(static=("max_iterations",))
def gaussian_barycenter(
    means: Float[Array, "r k"],
    covariances: Float[Array, "r k k"],
    weights: Float[Array, " r"] | None = None,
    *,
    tolerance: Number = 1e-4,
    max_iterations: int = 200,
) -> GaussianBarycenter:
    r"""The W₂ barycenter of r Gaussians, a Gaussian: m = Σ_i λ_i m_i, and S with Σ_i λ_i (S^½ A_i S^½)^½ = S.

    By S ← T S T with T = Σ_i λ_i T_i and T_i = S^(−½) (S^½ A_i S^½)^½ S^(−½), each step of which lowers the mean W₂².

    Args:
        means, covariances: m_i and A_i, positive definite. weights: λ ≥ 0, normalized here; equal by default.
        tolerance: largest residual ‖T − 1‖ of an answer that passes. max_iterations: ≥ 1.

    Returns:
        `GaussianBarycenter`, its residual recomputed; NOT_FINITE (also for singular covariances), NOT_CONVERGED.

    Raises:
        ValueError: shapes that do not fit, matrices that are not symmetric, negative weights (NOT_FINITE in
            `jit`).

    Derivatives are implicit, by one solve of size d². Cost: r + 2 decompositions of d × d matrices an iteration.
    Source: Agueh, Carlier (2011); Álvarez-Esteban, del Barrio, Cuesta-Albertos, Matrán (2016).

    >>> found = gaussian_barycenter(jnp.array([[0.0], [2.0]]), jnp.array([[[1.0]], [[9.0]]]))
    >>> f"{found.mean[0]:.2f} {found.covariance[0, 0]:.2f}"
    '1.00 4.00'
    """
    count, size = means.shape
    require(means.size >= 1, "means", means.shape, "hold at least one Gaussian", "pass one mean a row")
    wish = f"have shape {(count, size, size)}"
    require(covariances.shape == (count, size, size), "covariances", covariances.shape, wish, "pass one a mean")
    require(max_iterations >= 1, "max_iterations", max_iterations, "be >= 1", "use 200")
    given = given_masses("weights", weights, count, means.dtype)
    shares = uniform(count, means.dtype) if given is None else given
    covariances = jnp.stack([symmetric("covariances", one) for one in covariances])
    accuracy = jnp.asarray(positive("tolerance", tolerance, "use e.g. tolerance=1e-4"), means.dtype)
    return _gaussian(means, covariances, shares, accuracy, max_iterations)


@partial(jax.jit, static_argnums=4)
def _gaussian(means: Array, given: Array, shares: Array, tolerance: Array, iterations: int) -> GaussianBarycenter:
    unit = power_of_two(given)
    matrices = given / unit
    size = means.shape[1]

    def mapped(s: Array) -> Array:
        """The mean of the optimal maps from S."""
        inverse = jnp.linalg.inv(psd.root(s))
        return psd.product(inverse, _overlap(s, matrices, shares), inverse)

    def iterate(_: object, start: Array) -> tuple[Array, Array]:
        def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            s, _, count = state
            t = mapped(s)
            return psd.symmetric(psd.product(t, s, t)), _distance(t), count + 1

        def unsettled(state: tuple[Array, Array, Array]) -> Array:
            return (state[1] > tolerance / 2) & (state[2] < iterations)

        first = start, jnp.full_like(tolerance, jnp.inf), jnp.int32(0)
        s, _, count = jax.lax.while_loop(unsettled, step, first)
        return s, count.astype(s.dtype)  # the derivative of an integer has another type

    def equation(s: Array) -> Array:
        return s - _overlap(s, matrices, shares)

    def tangent(linear: object, right: Array) -> Array:
        system = jax.jacfwd(linear)(jnp.zeros_like(right)).reshape(size * size, size * size)  # type: ignore[arg-type]
        return jnp.linalg.solve(system, right.ravel()).reshape(size, size)

    start = jnp.tensordot(shares, matrices, 1, precision="highest")
    s, count = jax.lax.custom_root(equation, start, iterate, tangent, has_aux=True)
    residual = jax.lax.stop_gradient(_distance(mapped(s)))
    mean, covariance = jnp.matmul(shares, means, precision="highest"), unit * s
    lost = ~(jnp.isfinite(mean).all() & jnp.isfinite(covariance).all() & jnp.isfinite(residual))
    faults = (lost, Status.NOT_FINITE), (~(residual <= tolerance), Status.NOT_CONVERGED)
    return GaussianBarycenter(mean, covariance, residual, count.astype(jnp.int32), status_where(*faults))


def _overlap(s: Array, matrices: Array, shares: Array) -> Array:
    """Σ_i λ_i (S^½ A_i S^½)^½."""
    half = psd.root(s)
    roots = jax.vmap(lambda a: psd.root(psd.symmetric(psd.product(half, a, half))))(matrices)
    return jnp.tensordot(shares, roots, 1, precision="highest")


def _distance(t: Array) -> Array:
    return norm(t - jnp.eye(len(t), dtype=t.dtype))
