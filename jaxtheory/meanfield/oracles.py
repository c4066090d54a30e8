"""Exact laws that a correct flow must reproduce, computed without particles."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, known, nonnegative, positive, quantity, require
from jaxtheory.losses import Loss
from jaxtheory.meanfield.functionals import Unit, sample_losses, targets
from jaxtheory.meanfield.normalizers import evenly_spaced
from jaxtheory.results import Status, status_where
from jaxtheory.transport import psd

Number = float | Float[Array, ""]


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


@boundary
def linear_gaussian(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    *,
    ridge: Number,
    temperature: Number,
    particles: int,
    step_size: Number,
) -> LinearGaussian:
    r"""Stationary law of Langevin with the unit ⟨x, θ⟩, exact at finite N and at a finite Euler step.

        F = ‖Xm − y‖²/2n + (λ'/2) E|θ|²,   M = XᵀX/n + λ'I,   mean: M⁻¹Xᵀy/n
        Cov(m̄) = (λ/N) [M(I − ηM/2)]⁻¹
        Cov(θ_i) = Cov(m̄) + (1 − 1/N) λ/[λ'(1 − ηλ'/2)] I

    Args:
        x, y: data. ridge: λ' > 0, of `quadratic(ridge)`. temperature: λ ≥ 0. particles: N ≥ 1.
        step_size: η; 0 gives the continuous-time law.

    Raises:
        ValueError: ridge ≤ 0, λ < 0, N < 1, no data; η < 0, or at or above 2 over the largest eigenvalue of M, where
            Euler diverges (values inside `jit`: NaN).

    Cost: O(n d² + d³). The unit of this law is `neuron("identity")`. Source: the fixed point of the step's covariance,
    e.g. Mandt, Hoffman, Blei (2017), equation 15.

    >>> law = linear_gaussian(jnp.eye(2), jnp.ones(2), ridge=0.5, temperature=0.1, particles=10, step_size=0.0)
    >>> f"{law.mean[0]:.2f} {law.mean_covariance[0, 0]:.3f} {law.particle_covariance[0, 0]:.3f}"
    '0.50 0.010 0.190'
    """
    require(len(x) == len(y) > 0, "y", y.shape, f"hold one target for each of {len(x)} >= 1 points", "pair them")
    require(not known(particles) or particles >= 1, "particles", particles, "be >= 1", "count the particles")
    ridge = jnp.asarray(positive("ridge", ridge, "use e.g. ridge=0.1 for a stationary law"), x.dtype)
    temperature = jnp.asarray(nonnegative("temperature", temperature, "use 0.0 for the gradient flow"), x.dtype)
    dot = partial(jnp.matmul, precision="highest")
    hessian = dot(x.T, x) / len(x) + ridge * jnp.eye(x.shape[1], dtype=x.dtype)
    step = _stable(jnp.asarray(step_size, x.dtype), jnp.linalg.eigvalsh(jax.lax.stop_gradient(hessian))[-1])
    mean = jnp.linalg.solve(hessian, dot(x.T, y) / len(x))
    center = temperature / particles * psd.symmetric(jnp.linalg.inv(hessian - step / 2 * dot(hessian, hessian)))
    spread = (1 - 1 / particles) * temperature / (ridge * (1 - step * ridge / 2))
    return LinearGaussian(mean, center, center + spread * jnp.eye(len(mean), dtype=x.dtype))


def _stable(step: Array, curvature: Array) -> Array:
    """The step size; where Euler diverges, an error outside `jit` and NaN inside."""
    good = (step >= 0) & (step * curvature < 2)
    wish = f"be >= 0 and < 2/{curvature}, the largest curvature"
    require(not known(good) or bool(good), "step_size", step, wish, "use a smaller step")
    return jnp.where(good, step, jnp.nan)


@boundary
def gibbs_fixed_point(
    unit: Unit,
    x: Float[Array, "n ..."],
    y: Float[Array, " n"] | Int[Array, " n"],
    *,
    ridge: Number,
    temperature: Number,
    grid: Any,
    loss: str | Loss = "squared",
    tolerance: Number | None = None,
) -> Gibbs:
    r"""The minimizer of R(μ) + (ridge/2)E|θ|² − λ Ent(μ), by quadrature over θ and Newton on the outputs.

        f* = ∫h dμ*,   μ* ∝ exp(−λ⁻¹ [(1/n) Σ_k ∂ℓ(f*_k, y_k) h(x_k; θ) + ridge |θ|²/2])
        C = Cov_{μ*}(h),   N Cov(f_N) → C (I + D C/(nλ))⁻¹,   D = diag ∂²ℓ   (stationary, N → ∞, step → 0)

    Args:
        unit: scalar h(x, θ), θ of shape [1] or [2]. x, y: n data points. ridge: > 0. temperature: λ > 0.
        grid: equally spaced nodes for each coordinate of θ (one array [G], or a tuple of one or two).
        loss: convex in the prediction.
        tolerance: on ‖f − E h‖_∞; 100 eps of the dtype by default.

    Returns:
        `Gibbs`: f*, C, the predicted N Cov(f_N), the density of μ* at the nodes ([G] or [G1 G2]), the residual
        recomputed at f* (at least the rounding of f*). NOT_CONVERGED above the tolerance; ILL_CONDITIONED where the
        grid is too short (the density at its edge exceeds √eps of the largest) or too coarse (every second node changes
        E h by more than √eps of the largest |h|, or the tolerance).

    Raises:
        ValueError: a grid that is not equally spaced or has more than two coordinates, a unit that is not a scalar,
            ridge ≤ 0 or λ ≤ 0 (values inside `jit`: NOT_FINITE).

    Differentiable in data, ridge and temperature, by Newton steps at the solution. Cost: G n memory, G n² + n³ flops an
    iteration, ten or so. Trapezoid sums converge faster than any power of the spacing for smooth units.
    Source: Nitanda, Wu, Suzuki (2022), section 3; fluctuations by linear response.

    >>> fixed = gibbs_fixed_point(lambda x, theta: x * theta[0], jnp.ones(1), jnp.ones(1), ridge=1.0, temperature=0.5,
    ...                           grid=jnp.linspace(-6.0, 6.0, 101))
    >>> f"{fixed.outputs[0]:.3f} {fixed.covariance[0, 0]:.3f}", int(fixed.status)
    ('0.500 0.500', 0)
    """
    axes = _axes(grid, x.dtype)
    require(len(x) == len(y) > 0, "y", y.shape, f"hold one target for each of {len(x)} >= 1 points", "pair them")
    hint = "use e.g. 0.1: the density needs both"
    confinement, heat = (positive(k, v, hint) for k, v in (("ridge", ridge), ("temperature", temperature)))
    default = float(100 * jnp.finfo(x.dtype).eps)
    limit = default if tolerance is None else positive("tolerance", tolerance, f"use e.g. tolerance={default:.1e}")
    theta = jax.ShapeDtypeStruct((len(axes),), x.dtype)
    shape = jax.eval_shape(unit, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), theta).shape
    require(shape == (), "unit", shape, "give one number", "sum or pick one of its outputs")
    confinement, heat, limit = (jnp.asarray(value, x.dtype) for value in (confinement, heat, limit))
    return _gibbs(unit, loss, x, y, axes, ridge=confinement, temperature=heat, limit=limit)


def _axes(grid: Any, dtype: Any) -> tuple[Array, ...]:
    several = isinstance(grid, (tuple, list)) and any(jnp.ndim(axis) > 0 for axis in grid)
    axes = [jnp.asarray(quantity("grid", axis, dtype), dtype) for axis in (grid if several else [grid])]
    require(len(axes) in (1, 2), "grid", len(axes), "have one or two coordinates", "simulate in higher dimension")
    for axis in axes:
        require(axis.ndim == 1 and len(axis) >= 5, "grid", axis.shape, "be [points], at least 5", "use jnp.linspace")
    wish = "be increasing and equally spaced"
    return tuple(constrain("grid", axis, evenly_spaced, wish, "use jnp.linspace") for axis in axes)


@partial(jax.jit, static_argnums=(0, 1))
def _gibbs(
    unit: Unit, loss: str | Loss, x: Array, y: Array, axes: tuple[Array, ...], *, ridge: Array, temperature: Array,
    limit: Array,
) -> Gibbs:  # fmt: skip
    nodes = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    values = jax.vmap(lambda theta: jax.vmap(lambda point: unit(point, theta))(x))(nodes)
    confining = ridge / 2 * (nodes**2).sum(1)
    dot = partial(jnp.matmul, precision="highest")
    slopes = jax.grad(lambda f: sample_losses(loss, f, targets(y, f)).sum())

    def law(f: Array) -> Array:
        return jax.nn.softmax(-(dot(values, slopes(f)) / len(x) + confining) / temperature)

    def gap(f: Array) -> Array:
        return f - dot(law(f), values)

    def spread(f: Array) -> Array:
        mass = law(f)
        centered = values - dot(mass, values)[None]
        return dot(centered.T * mass[None], centered)

    def response(f: Array) -> Array:
        curvature = jax.jvp(slopes, (f,), (jnp.ones_like(f),))[1]  # the loss acts sample by sample
        return jnp.eye(len(f), dtype=f.dtype) + spread(f) * curvature[None] / (len(x) * temperature)

    f = jax.lax.stop_gradient(_newton(gap, response, jnp.zeros(len(x), x.dtype), limit))
    for _ in range(2):  # each step doubles the order of the derivatives that are right
        f = f - jnp.linalg.solve(response(f), gap(f))
    # C (I + DC/nλ)⁻¹ = (I + CD/nλ)⁻¹ C
    covariance = spread(f)
    fluctuation = jnp.linalg.solve(response(f), covariance)
    density = law(f).reshape([len(axis) for axis in axes])
    residual = jnp.maximum(jnp.abs(gap(f)).max(), jnp.finfo(x.dtype).eps * jnp.abs(f).max())
    cell = jnp.stack([axis[1] - axis[0] for axis in axes]).prod()
    found = Gibbs(f, covariance, fluctuation, density / cell, residual, jnp.int32(Status.OK))
    return found._replace(status=_stated(found, density, values, limit))


def _stated(found: Gibbs, density: Array, values: Array, limit: Array) -> Array:
    """The status: all is finite, the equation is solved, and the grid holds the density and resolves it."""
    small = jnp.sqrt(jnp.finfo(density.dtype).eps)
    short = _edge(density) > small * density.max()
    coarse = _coarsening(density, values) > jnp.maximum(small * jnp.abs(values).max(), limit)
    lost = ~jnp.stack([jnp.isfinite(field).all() for field in found[:-1]]).all()
    return status_where(
        (lost, Status.NOT_FINITE),
        (~(found.residual <= limit), Status.NOT_CONVERGED),
        (short | coarse, Status.ILL_CONDITIONED),
    )


def _coarsening(density: Array, values: Array) -> Array:
    """How much E h changes where only every second node of each axis is kept."""
    kept = jnp.zeros_like(density).at[(slice(None, None, 2),) * density.ndim].set(1.0)
    thinned = (density * kept).ravel() / (density * kept).sum()
    return jnp.abs(jnp.matmul(density.ravel() - thinned, values, precision="highest")).max()


def _newton(gap: Callable[[Array], Array], slope: Callable[[Array], Array], start: Array, limit: Array) -> Array:
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


@boundary
def jko_gaussian(
    mean: Float[Array, " k"],
    covariance: Float[Array, "k k"],
    *,
    stiffness: Float[Array, "k k"],
    center: Float[Array, " k"],
    temperature: Number,
    step_size: Number,
) -> Moments:
    r"""One JKO step of ½∫(θ − c)ᵀK(θ − c) dμ − λ Ent(μ) from a Gaussian, which stays Gaussian; exact for any τ.

        minimize W₂²(ν, μ)/(2τ) + F(ν):   B = I + τK,   m' = B⁻¹(m + τKc)
        Σ' = B^(−½) Y B^(−½),   Y = ½ [P + 2τλ + (P² + 4τλP)^½],   P = B^(−½) Σ B^(−½)

    In one dimension with c = 0: s' = [s + √(s² + 4λτ(1 + τκ))] / (2(1 + τκ)). The fixed point is λK⁻¹.

    Args:
        mean, covariance: of μ; the covariance positive semidefinite. stiffness: K, positive semidefinite.
        center: c. temperature: λ ≥ 0. step_size: τ > 0, of any length.

    Returns:
        `Moments` after the step; NaN where a matrix has an eigenvalue below −√eps of its largest.

    Raises:
        ValueError: shapes that do not fit, λ < 0 or τ ≤ 0 (NaN inside `jit`).

    Differentiable twice, also at repeated eigenvalues. Cost: about ten decompositions of d × d matrices.
    Source: Jordan, Kinderlehrer, Otto (1998); Wibisono (2018), section 4; the form for matrices that do not commute
    follows from the first-order condition (I − T)/τ + K = λΣ'⁻¹ with TΣ'T = Σ.

    >>> step = jko_gaussian(jnp.ones(1), jnp.eye(1), stiffness=jnp.eye(1), center=jnp.zeros(1), temperature=1.0,
    ...                     step_size=1.0)
    >>> f"{step.mean[0]:.2f} {step.covariance[0, 0]:.2f}"
    '0.50 1.00'
    """
    _require_fit(len(mean), covariance=covariance, stiffness=stiffness, center=center)
    heat = nonnegative("temperature", temperature, "use 0.0 for the gradient flow")
    tau = positive("step_size", step_size, "use any positive length")
    return _jko(mean, covariance, stiffness, center, jnp.asarray(heat, mean.dtype), jnp.asarray(tau, mean.dtype))


@jax.jit
def _jko(m: Array, covariance: Array, stiffness: Array, center: Array, heat: Array, tau: Array) -> Moments:
    identity = jnp.eye(len(m), dtype=m.dtype)
    shrink = jnp.linalg.inv(psd.root(identity + tau * stiffness))
    p, h = psd.symmetric(psd.product(shrink, covariance, shrink)), tau * heat
    # (P² + 4hP)^½ = P + 4h P^½ S⁻¹ with S = P^½ + (P + 4h)^½, which commute, so that no square of P is rooted
    low = psd.root(p)
    share = psd.sylvester(low + psd.root(p + 4 * h * identity), 2 * low)
    grown = p + h * identity + 2 * h * share
    shifted = m + tau * psd.product(stiffness, center)
    return Moments(psd.product(shrink, psd.product(shrink, shifted)), psd.symmetric(psd.product(shrink, grown, shrink)))


def _require_fit(size: int, **arrays: Array) -> None:
    require(size >= 1, "mean", size, "have at least one component", "pass vectors of one dimension")
    for name, value in arrays.items():
        wish = f"fit the mean of length {size}"
        require(value.shape == (size,) * value.ndim, name, value.shape, wish, "pass [d] vectors and [d, d] matrices")


@boundary(static=("steps",))
def svgd_gaussian(
    mean: Float[Array, " k"],
    covariance: Float[Array, "k k"],
    *,
    precision: Float[Array, "k k"],
    center: Float[Array, " k"],
    step_size: Number,
    steps: int,
) -> Moments:
    r"""Moments of SVGD with the kernel xᵀy + 1 on the target N(c, Q⁻¹): closed and exact for any number of particles.

        A = I − Q(Σ + (m − c)mᵀ),   m' = m + η(Am − Q(m − c)),   Σ' = (I + ηA) Σ (I + ηA)ᵀ

    Args:
        mean, covariance: of the particles (divided by N). precision: Q. center: c. step_size: η > 0. steps: ≥ 0.

    Returns:
        `Moments` after the steps.

    Raises:
        ValueError: shapes that do not fit, η ≤ 0 (NaN inside `jit`), steps < 0.

    Cost: O(steps · d³). Source: Liu, Wang (2018), theorem 3.5; Liu et al. (2023).

    >>> one = jnp.eye(1)
    >>> after = svgd_gaussian(jnp.ones(1), one, precision=one, center=jnp.zeros(1), step_size=0.1, steps=1)
    >>> f"{after.mean[0]:.2f} {after.covariance[0, 0]:.2f}"
    '0.80 0.81'
    """
    _require_fit(len(mean), covariance=covariance, precision=precision, center=center)
    require(steps >= 0, "steps", steps, "be >= 0", "count steps, not time")
    eta = jnp.asarray(positive("step_size", step_size, "use e.g. step_size=0.1"), mean.dtype)
    return _svgd(mean, covariance, precision, center, eta, steps)


@partial(jax.jit, static_argnums=5)
def _svgd(mean: Array, covariance: Array, precision: Array, center: Array, eta: Array, steps: int) -> Moments:
    identity, dot = jnp.eye(len(mean), dtype=mean.dtype), partial(jnp.matmul, precision="highest")

    def step(moments: Moments, _: None) -> tuple[Moments, None]:
        m, sigma = moments
        affine = identity - dot(precision, sigma + jnp.outer(m - center, m))
        turned = identity + eta * affine
        return Moments(dot(turned, m) - eta * dot(precision, m - center), dot(dot(turned, sigma), turned.T)), None

    return jax.lax.scan(step, Moments(mean, covariance), length=steps)[0]
