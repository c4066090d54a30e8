"""Laws that hold exactly: what a right flow must reproduce, computed without any particle."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import holds, require
from jaxtheory.meanfield.functionals import Loss, Unit, squared_loss
from jaxtheory.results import Status, status_where


class LinearGaussian(NamedTuple):
    """Stationary law of particles of the linear unit: that of their mean, and that of one of them."""

    mean: Float[Array, " d"]
    mean_covariance: Float[Array, "d d"]
    particle_covariance: Float[Array, "d d"]


class Gibbs(NamedTuple):
    """The proximal Gibbs fixed point μ* on n data points, and the fluctuations of N particles about it."""

    outputs: Float[Array, " n"]
    covariance: Float[Array, "n n"]
    fluctuation: Float[Array, "n n"]
    density: Float[Array, "..."]
    residual: Float[Array, ""]
    status: Int[Array, ""]


class Moments(NamedTuple):
    """Mean and covariance of a Gaussian or of a cloud."""

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]


def linear_gaussian(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    ridge: float,
    temperature: float,
    particles: int,
    step_size: float,
) -> LinearGaussian:
    r"""Stationary law of Langevin with the unit ⟨x, θ⟩, exact at finite N and at a finite Euler step.

        F = ‖Xm − y‖²/2n + (λ'/2) E|θ|²,   M = XᵀX/n + λ'I,   mean: M⁻¹Xᵀy/n
        Cov(m̄) = (λ/N) [M(I − ηM/2)]⁻¹
        Cov(θ_i) = Cov(m̄) + (1 − 1/N) λ/[λ'(1 − ηλ'/2)] I

    Args:
        x, y: data. ridge: λ' > 0, of `quadratic(ridge)`. temperature: λ ≥ 0. particles: N ≥ 1.
        step_size: η; 0 gives the continuous-time law.

    Raises:
        ValueError: ridge ≤ 0, λ < 0, N < 1; or η at or above 2 over the largest eigenvalue of M, where Euler diverges.

    Cost: one eigendecomposition, O(n d² + d³). The unit of this law is `neuron("identity")`.

    >>> law = linear_gaussian(jnp.eye(2), jnp.ones(2), ridge=0.5, temperature=0.1, particles=10, step_size=0.0)
    >>> f"{law.mean[0]:.2f} {law.mean_covariance[0, 0]:.3f} {law.particle_covariance[0, 0]:.3f}"
    '0.50 0.010 0.190'
    """
    require(holds(lambda r: r > 0, ridge), "ridge", ridge, "be > 0 for a stationary law", "regularize")
    require(holds(lambda t: t >= 0, temperature), "temperature", temperature, "be >= 0", "it multiplies an entropy")
    require(particles >= 1, "particles", particles, "be >= 1", "count the particles")
    hessian = jnp.matmul(x.T, x, precision="highest") / len(x) + ridge * jnp.eye(x.shape[1], dtype=x.dtype)
    values, vectors = jnp.linalg.eigh(hessian)
    stable = holds(lambda top: 0 <= step_size * top < 2, values[-1])
    require(stable, "step_size", step_size, f"be >= 0 and < 2/{values[-1]}, the largest curvature", "shorten the step")
    spectral = partial(_conjugated, vectors)
    mean = jnp.matmul(spectral(1 / values), jnp.matmul(x.T, y, precision="highest") / len(x), precision="highest")
    center = spectral(temperature / particles / (values * (1 - step_size * values / 2)))
    spread = (1 - 1 / particles) * temperature / (ridge * (1 - step_size * ridge / 2))
    return LinearGaussian(mean, center, center + spread * jnp.eye(len(mean), dtype=x.dtype))


def _conjugated(vectors: Array, values: Array) -> Array:
    return jnp.matmul(vectors * values[None], vectors.T, precision="highest")


def gibbs_fixed_point(
    unit: Unit,
    x: Float[Array, "n ..."],
    y: Float[Array, " n"],
    *,
    ridge: float,
    temperature: float,
    grid: Float[Array, " points"] | tuple[Float[Array, " points"], ...],
    loss: Loss = squared_loss,
    tolerance: float | None = None,
) -> Gibbs:
    r"""The minimizer of R(μ) + (ridge/2)E|θ|² − λ Ent(μ), by quadrature over θ and Newton on the outputs.

        f* = ∫h dμ*,   μ* ∝ exp(−λ⁻¹ [(1/n) Σ_k ∂ℓ(f*_k, y_k) h(x_k; θ) + ridge |θ|²/2])
        C = Cov_{μ*}(h),   N Cov(f_N) → C (I + D C/(nλ))⁻¹,   D = diag ∂²ℓ   (stationary, N → ∞, step → 0)

    Args:
        unit: scalar h(x, θ), θ of shape [1] or [2]. x, y: n data points. ridge: > 0. temperature: λ > 0.
        grid: equally spaced nodes for each coordinate of θ (one array, or a tuple of one or two).
        loss: convex in the prediction. tolerance: on ‖f − E h‖_∞; 100 eps of the dtype by default.

    Returns:
        `Gibbs`: f*, C, the predicted N Cov(f_N), the density of μ* at the nodes ([G] or [G1 G2]), the residual
        recomputed at f*. NOT_CONVERGED above the tolerance; ILL_CONDITIONED where the density at the grid's edge
        exceeds √eps of its largest value, so that the grid is too short.

    Raises:
        ValueError: a grid that is not equally spaced or has more than two coordinates, ridge ≤ 0 or λ ≤ 0.

    Cost: G n memory, G n² + n³ flops an iteration, ten or so. Trapezoid sums converge faster than any power of the
    spacing for smooth units. Source: Nitanda, Wu, Suzuki (2022), section 3; fluctuations by linear response.
    """
    axes = grid if isinstance(grid, tuple) else (grid,)
    require(len(axes) in (1, 2), "grid", len(axes), "have one or two coordinates", "simulate in higher dimension")
    for name, value in (("ridge", ridge), ("temperature", temperature)):
        require(holds(lambda v: v > 0, value), name, value, "be > 0 for a density", "the fixed point needs both")
    for axis in axes:
        even = holds(lambda a: abs(a[1:] - a[:-1] - (a[-1] - a[0]) / (len(a) - 1)).max() < 1e-4 * (a[1] - a[0]), axis)
        require(even and len(axis) > 2, "grid", axis, "be increasing and equally spaced", "use jnp.linspace")
    limit = float(100 * jnp.finfo(x.dtype).eps) if tolerance is None else tolerance
    return _gibbs(unit, loss, x, y, jnp.asarray(ridge, x.dtype), jnp.asarray(temperature, x.dtype), axes, limit)


@partial(jax.jit, static_argnums=(0, 1, 7))
def _gibbs(
    unit: Unit, loss: Loss, x: Array, y: Array, ridge: Array, temperature: Array, axes: tuple[Array, ...], limit: float
) -> Gibbs:
    nodes = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    values = jax.vmap(lambda theta: jax.vmap(lambda point: unit(point, theta))(x))(nodes)
    confining = ridge / 2 * (nodes**2).sum(1)
    dot = partial(jnp.matmul, precision="highest")

    def law(f: Array) -> Array:
        slopes = jax.vmap(jax.grad(loss))(f, y) / len(x)
        return jax.nn.softmax(-(dot(values, slopes) + confining) / temperature)

    def gap(f: Array) -> Array:
        return f - dot(law(f), values)

    def spread(f: Array) -> Array:
        mass = law(f)
        centered = values - dot(mass, values)[None]
        return dot(centered.T * mass[None], centered)

    def response(f: Array) -> Array:
        curvature = jax.vmap(jax.grad(jax.grad(loss)))(f, y)
        return jnp.eye(len(f), dtype=f.dtype) + spread(f) * curvature[None] / (len(x) * temperature)

    f = _newton(gap, response, jnp.zeros_like(y), limit)
    # C (I + DC/nλ)⁻¹ = (I + CD/nλ)⁻¹ C
    fluctuation = jnp.linalg.solve(response(f), spread(f))
    density = law(f).reshape([len(axis) for axis in axes])
    residual = jnp.abs(gap(f)).max()
    short = _edge(density) > jnp.sqrt(jnp.finfo(x.dtype).eps) * density.max()
    lost = ~(jnp.isfinite(residual) & jnp.isfinite(fluctuation).all())
    faults = (lost, Status.NOT_FINITE), (residual > limit, Status.NOT_CONVERGED), (short, Status.ILL_CONDITIONED)
    cell = jnp.stack([axis[1] - axis[0] for axis in axes]).prod()
    return Gibbs(f, spread(f), fluctuation, density / cell, residual, status_where(*faults))


def _newton(gap: Callable[[Array], Array], slope: Callable[[Array], Array], start: Array, limit: float) -> Array:
    """Newton's method; of eight step lengths, each half the one before, the one that leaves the smallest gap."""
    lengths = 0.5 ** jnp.arange(8, dtype=start.dtype)

    def step(state: tuple[Array, Array]) -> tuple[Array, Array]:
        f, count = state
        trials = f[None] - lengths[:, None] * jnp.linalg.solve(slope(f), gap(f))[None]
        best = trials[jnp.argmin((jax.vmap(gap)(trials) ** 2).sum(1))]
        return best, count + 1

    def unsettled(state: tuple[Array, Array]) -> Array:
        # Far below the limit, which the recomputed residual must meet.
        return (jnp.abs(gap(state[0])).max() > limit / 10) & (state[1] < 100)

    return jax.lax.while_loop(unsettled, step, (start, jnp.int32(0)))[0]


def _edge(density: Array) -> Array:
    sides = itertools.product(range(density.ndim), (0, -1))
    return jnp.stack([jnp.take(density, side, axis=axis).max() for axis, side in sides]).max()


@jax.jit
def jko_gaussian(
    mean: Float[Array, " d"],
    covariance: Float[Array, "d d"],
    *,
    stiffness: Float[Array, "d d"],
    center: Float[Array, " d"],
    temperature: Any,
    step_size: Any,
) -> Moments:
    r"""One JKO step of ½∫(θ − c)ᵀK(θ − c) dμ − λ Ent(μ) from a Gaussian, which stays Gaussian; exact for any τ.

        minimize W₂²(ν, μ)/(2τ) + F(ν):   B = I + τK,   m' = B⁻¹(m + τKc)
        Σ' = B^(−½) Y B^(−½),   Y = ½ [P + 2τλ + (P² + 4τλP)^½],   P = B^(−½) Σ B^(−½)

    In one dimension with c = 0: s' = [s + √(s² + 4λτ(1 + τκ))] / (2(1 + τκ)). The fixed point is λK⁻¹.

    Args:
        mean, covariance: of μ; the covariance positive semidefinite. stiffness: K, positive semidefinite.
        center: c. temperature: λ ≥ 0. step_size: τ > 0, of any length.

    Returns:
        `Moments` after the step.

    Cost: two eigendecompositions. Source: Jordan, Kinderlehrer, Otto (1998); Wibisono (2018), section 4; the form for
    matrices that do not commute follows from the first-order condition (I − T)/τ + K = λΣ'⁻¹ with TΣ'T = Σ.

    >>> step = jko_gaussian(jnp.ones(1), jnp.eye(1), stiffness=jnp.eye(1), center=jnp.zeros(1), temperature=1.0,
    ...                     step_size=1.0)
    >>> f"{step.mean[0]:.2f} {step.covariance[0, 0]:.2f}"
    '0.50 1.00'
    """
    dot = partial(jnp.matmul, precision="highest")
    tau = jnp.asarray(step_size, mean.dtype)
    values, vectors = jnp.linalg.eigh(stiffness)
    root = _conjugated(vectors, 1 / jnp.sqrt(1 + tau * values))
    shifted = mean + tau * dot(stiffness, center)
    p, q = jnp.linalg.eigh(dot(dot(root, covariance), root))
    p = jnp.maximum(p, 0.0)
    heat = tau * jnp.asarray(temperature, mean.dtype)
    grown = _conjugated(q, (p + 2 * heat + jnp.sqrt(p * p + 4 * heat * p)) / 2)
    return Moments(dot(root, dot(root, shifted)), dot(dot(root, grown), root))


@partial(jax.jit, static_argnames="steps")
def svgd_gaussian(
    mean: Float[Array, " d"],
    covariance: Float[Array, "d d"],
    *,
    precision: Float[Array, "d d"],
    center: Float[Array, " d"],
    step_size: Any,
    steps: int,
) -> Moments:
    r"""Moments of SVGD with the kernel xᵀy + 1 on the target N(c, Q⁻¹): closed and exact for any number of particles.

        A = I − Q(Σ + (m − c)mᵀ),   m' = m + η(Am − Q(m − c)),   Σ' = (I + ηA) Σ (I + ηA)ᵀ

    Args:
        mean, covariance: of the particles (divided by N). precision: Q. center: c. step_size: η. steps: ≥ 0.

    Returns:
        `Moments` after the steps. Cost: O(steps · d³). Source: Liu, Wang (2018), theorem 3.5; Liu et al. (2024).

    >>> one = jnp.eye(1)
    >>> after = svgd_gaussian(jnp.ones(1), one, precision=one, center=jnp.zeros(1), step_size=0.1, steps=1)
    >>> f"{after.mean[0]:.2f} {after.covariance[0, 0]:.2f}"
    '0.80 0.81'
    """
    dot = partial(jnp.matmul, precision="highest")
    identity, eta = jnp.eye(len(mean), dtype=mean.dtype), jnp.asarray(step_size, mean.dtype)

    def step(moments: Moments, _: None) -> tuple[Moments, None]:
        m, sigma = moments
        affine = identity - dot(precision, sigma + jnp.outer(m - center, m))
        turned = identity + eta * affine
        return Moments(dot(turned, m) - eta * dot(precision, m - center), dot(dot(turned, sigma), turned.T)), None

    return jax.lax.scan(step, Moments(mean, covariance), length=steps)[0]
