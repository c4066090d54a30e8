r"""Kernels and random features on the sphere in high dimension: the risk falls in steps, a degree at a time.

A dot-product kernel has one eigenvalue for each degree k of spherical harmonics, with multiplicity N(d, k) ~ d^k/k!. So
n samples with d^ℓ ≪ n ≪ d^(ℓ+1) determine the parts of the target of degree ≤ ℓ and nothing above.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, nonnegative, positive, quantity, require
from jaxtheory.double_descent.asymptotics import Number, times
from jaxtheory.double_descent.spectral import balance, common, judged, powers
from jaxtheory.kernels import SphereSpectrum


class SphereRisk(NamedTuple):
    """Mean squared errors with label noise included, and the learned fraction L_k in [0, 1] of each degree."""

    test: Float[Array, "..."]
    train: Float[Array, "..."]
    learned: Float[Array, "... degrees"]
    status: Int[Array, "..."]


@boundary
def sphere_risk(
    spectrum: SphereSpectrum,
    power: Float[Array, " degrees"],
    n: Number,
    width: Number,
    ridge: Number,
    noise: Number,
    *,
    trace: float | Float[Array, ""],
    unlearnable: float | Float[Array, ""] = 0.0,
) -> SphereRisk:
    r"""Risk of ridge regression with a dot-product kernel, or `width` random features of it, on the uniform sphere.

        y = Σ_k f_k(x) + ε,   E f_k² = power_k,   Kernel(x, x') = κ(⟨x, x'⟩) = Σ_k λ_k Σ_j Y_kj(x) Y_kj(x')

    With multiplicities m_k, tail = trace − Σ m_k λ_k, L_k = λ_k/(λ_k + γ), ΣL = Σ m_k L_k + tail/γ, γ > 0 and the left
    over features p = width − ΣL and samples r = n − ΣL solve p r = width · ridge/γ, p − r = width − n; then with
    s = Σ m_k L_k (1 − L_k) + tail/γ,

        test = n [Σ (1 − L_k)((1 − L_k) p + s) power_k + (p + s)(u + σ²)] / (p r + s (p + r)),   train = (r/n)² test

    At width = ∞ this is the learning curve of the kernel itself. Random features σ(⟨w_j, x⟩)/√width with w_j uniform on
    a sphere have λ_k = ξ_k² and trace E σ², where ξ_k are `kernels.sphere_eigenvalues` of t ↦ σ(|w| t).

    Args:
        spectrum: λ_k and m_k, k = 0.., from `kernels.sphere_eigenvalues`; what does not exceed its error counts as 0.
        power: power_k ≥ 0 of the target, as many as the spectrum has degrees.
        n: samples > 0. width: features > 0, or infinity for the kernel. ridge: ≥ 0, added to the unnormalized Gram
            matrix. noise: σ² ≥ 0. The four broadcast.
        trace: κ(1) = Σ m_k λ_k over all degrees; what the degrees left out hold acts as a ridge.
        unlearnable: u ≥ 0, the target's power in the degrees left out.

    Returns:
        `SphereRisk`; NOT_FINITE where the risk is infinite: width = n, or n = Σ m_k, without a ridge.

    Raises:
        ValueError: shapes, negative arguments, n or width not positive (INVALID_INPUT inside `jit`).

    Accuracy: that of a deterministic equivalent: relative corrections of order 1/n and 1/width; the features' harmonics
    count as Gaussian.

    Cost: 64 passes over the degrees a point.
    Source: Mei, Misiakiewicz, Montanari (2022) for the sphere; Simon, Karkada, Ghosh, Belkin (2023) for the equivalent.

    >>> from jaxtheory import kernels
    >>> with jax.enable_x64(True):
    ...     linear = kernels.sphere_eigenvalues(jnp.exp, 100, 3)
    ...     risk = sphere_risk(linear, jnp.array([0, 1, 1, 0.0]), jnp.array([10.0, 1e3, 1e5]), jnp.inf, 0.0, 0.0,
    ...                        trace=jnp.exp(1.0))
    >>> [f"{test:.2f}" for test in risk.test]
    ['2.11', '0.93', '0.00']
    """
    fields = {name: jnp.asarray(quantity(f"spectrum.{name}", value)) for name, value in spectrum._asdict().items()}
    for name, values in {**fields, "power": power}.items():
        degrees = fields["eigenvalues"].shape
        require(
            values.shape == degrees, name, f"shape {values.shape}", f"have the shape {degrees}", "pass one a degree"
        )
    dtype = jnp.result_type(power, fields["eigenvalues"])
    eigs, counts, error = (values.astype(dtype) for values in fields.values())
    eigs = jnp.where(jnp.abs(eigs) <= error, jnp.zeros_like(eigs), eigs)
    eigs = nonnegative("eigenvalues", eigs, "use kernels.sphere_eigenvalues of a positive semidefinite kernel")
    counts = nonnegative("multiplicity", counts, "use kernels.sphere_eigenvalues")
    power = nonnegative("power", power, "pass the mean squares of the parts of each degree").astype(dtype)
    n = positive("n", n, "count the samples, and take the limit in width only")
    width = constrain("width", width, lambda v: v > 0, "be > 0", "count the features, or pass infinity for the kernel")
    numbers = common(eigs, n, width, *powers(ridge=ridge, noise=noise))
    trace = jnp.asarray(positive("trace", trace, "pass κ(1)"), dtype)
    rest = jnp.asarray(nonnegative("unlearnable", unlearnable, "use 0.0 for none"), dtype)
    return _sphere_risk(eigs, counts, power, *numbers[:2], trace=trace, beyond=rest, ridge=numbers[2], noise=numbers[3])


@jax.jit
def _sphere_risk(
    eigs: Array, counts: Array, power: Array, n: Array, width: Array, *, trace: Array, beyond: Array, ridge: Array,
    noise: Array,
) -> SphereRisk:  # fmt: skip
    held = jnp.sum(counts * eigs)
    # what is left of the trace is rounding where it is below that of the sum
    tail = jnp.where(trace - held > 4 * float(jnp.finfo(eigs.dtype).eps) * trace, trace - held, 0 * trace)
    legal = jnp.isfinite(jnp.sum(eigs) + jnp.sum(counts) + jnp.sum(power) + trace + beyond)

    def one(n: Array, width: Array, ridge: Array, noise: Array) -> tuple[Array, ...]:
        at = balance(eigs, n, width, ridge, tail, counts)
        missed = jnp.sum(at.rest * (at.rest + at.lost * at.learned) * power)
        test = times(missed + beyond + noise, at.inflation)
        train = jnp.where(at.samples > 0, (at.samples / n) ** 2 * test, 0)
        valid = (n > 0) & (width > 0) & (ridge >= 0) & (noise >= 0) & legal
        return tuple(judged(SphereRisk(test, train, at.learned, at.status), valid, at.status))

    found = jnp.vectorize(one, signature="(),(),(),()->(),(),(k),()")(n, width, ridge, noise)
    return SphereRisk(*found)


@boundary
def staircase(power: Float[Array, " degrees"], samples: Number, width: Number = jnp.inf) -> Float[Array, "..."]:
    r"""Limit d → ∞ of the excess risk of a kernel, or of random features, on the sphere: n = d^samples, N = d^width.

        excess → Σ_{k > ℓ} power_k,   ℓ = ⌊min(samples, width)⌋

    for a kernel all of whose eigenvalues are positive, any ridge of the order of the tail or below, and exponents that
    are no integers and differ. At an integer the risk moves from the step below to the step returned, as n/d^ℓ grows;
    `sphere_risk` is the risk there, and at finite d.

    Args:
        power: E f_k² ≥ 0 of the target's parts of degree k = 0, 1, …
        samples, width: exponents ≥ 0; infinity is the limit in which that number is not what limits. They broadcast.

    Returns:
        The excess risk, without label noise. Raises ValueError for negative arguments (NaN inside `jit`).

    Cost: one pass. Source: Ghorbani, Mei, Misiakiewicz, Montanari (2021), the results on kernel ridge regression and
    random features; Mei, Misiakiewicz, Montanari (2022) for both finite.

    >>> staircase(jnp.array([0.0, 1.0, 0.5, 0.25]), jnp.array([0.5, 1.5, 2.5]))
    Array([1.75, 0.75, 0.25], dtype=float32)
    """
    power = nonnegative("power", power, "pass the mean squares of the parts of each degree")
    exponents = []
    for name, value in (("samples", samples), ("width", width)):
        checked = constrain(name, value, lambda v: v >= 0, "be >= 0", "pass the exponent of the dimension, e.g. 1.5")
        exponents.append(jnp.asarray(checked, power.dtype))
    degree = jnp.arange(power.shape[0], dtype=power.dtype)

    def left(samples: Array, width: Array) -> Array:
        both = jnp.minimum(samples, width)
        above = jnp.sum(jnp.where(degree > jnp.floor(both), power, jnp.zeros_like(power)))
        return jnp.where(jnp.isnan(both + power.sum()), jnp.full_like(above, jnp.nan), above)

    return jnp.vectorize(left)(*exponents)
