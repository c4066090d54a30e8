"""Learning curves of kernel ridge regression from a spectrum: deterministic equivalents and their rates."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, nonnegative, positive, require
from jaxtheory.guarded import over
from jaxtheory.kernels.functions import widest
from jaxtheory.kernels.scales import common_unit
from jaxtheory.kernels.spectra import as_spectrum
from jaxtheory.results import Status, finite_status, status_where

_HALVINGS = 40  # of an interval of log κ no longer than 2^11, before two Newton steps


class LearningCurve(NamedTuple):
    """Predicted errors at every n. `test` and `train` are mean squared errors that include the noise.

    `learnability` L_i in [0, 1] of each mode; `conserved` = Σ m_i L_i + (ridge + tail)/κ, which equals n.
    """

    test: Float[Array, " sizes"]
    train: Float[Array, " sizes"]
    kappa: Float[Array, " sizes"]
    learnability: Float[Array, "sizes modes"]
    conserved: Float[Array, " sizes"]
    status: Int[Array, " sizes"]


@boundary
def learning_curve(
    eigs: Float[Array, " modes"],
    coefficients: Float[Array, " modes"],
    n: float | Float[Array, "..."],
    ridge: float | Float[Array, ""],
    noise: float | Float[Array, ""],
    *,
    multiplicity: Float[Array, " modes"] | None = None,
    tail: float | Float[Array, ""] = 0.0,
    unlearnable: float | Float[Array, ""] = 0.0,
) -> LearningCurve:
    r"""Test and train error of kernel ridge regression on n samples, K + ridge I with K unnormalized.

    For a kernel Σ λ_i φ_i φ_i with E φ_i² = 1, a target Σ v_i φ_i and label noise σ², κ solves

        Σ m_i λ_i/(λ_i + κ) + δ/κ = n,   δ = ridge + tail,   L_i = λ_i/(λ_i + κ),
        test = n [Σ (1 − L_i)² v_i² + u + σ²] / (Σ m_i L_i (1 − L_i) + δ/κ),   train = (ridge/(n κ))² test

    whose denominator is the published n − Σ m_i L_i² without its cancellation. First and second derivatives, forward
    and reverse, are exact, at ridge 0 from above; infinite at ridge 0 and n equal to the number of modes.

    Args:
        eigs: λ ≥ 0, over any number of decades; below 0 by rounding is 0.
        coefficients: v; v_i² is the power of the whole eigenspace of λ_i.
        n: sample sizes > 0, [sizes] or one number. ridge: ≥ 0. noise: σ² ≥ 0.
        multiplicity: m_i ≥ 0, 1 by default.
        tail: the trace Σ λ_i of the modes that were left out, which act as a ridge.
        unlearnable: u, the target's power in those modes.

    Returns:
        `LearningCurve`; NOT_FINITE where the error is infinite (n equal to the number of modes without a ridge) or
        cannot be represented, ILL_CONDITIONED where κ cannot be found to √ε in this dtype, or
        n exceeds the number of modes because eigenvalues underflowed to 0.

    Raises:
        ValueError: negative eigenvalues, multiplicities, ridge, noise, tail or n, or numbers that are not finite (NaN
            inside jit).

    Cost: 45 passes over the modes for each n; memory sizes · modes.
    Source: Simon, Dickens, Karkada, DeWeese (2023), equations 4-8; Bordelon, Canatar, Pehlevan (2020).

    >>> curve = learning_curve(jnp.ones(10), jnp.ones(10), jnp.array([5.0]), 0.0, 0.0)
    >>> f"{curve.test[0]:.3f} {curve.learnability[0, 0]:.3f}"
    '5.000 0.500'
    """
    counts = jnp.ones_like(eigs) if multiplicity is None else multiplicity
    for name, values in (("coefficients", coefficients), ("multiplicity", counts)):
        require(
            values.shape == eigs.shape, name, values.shape, f"have the shape of eigs, {eigs.shape}", "pass one each"
        )
    dtype = widest(eigs.dtype, coefficients.dtype, counts.dtype)
    sizes = jnp.atleast_1d(jnp.asarray(positive("n", n, "count the samples"), dtype))
    require(sizes.ndim == 1, "n", f"shape {sizes.shape}", "be one number or an array [sizes]", "use n.ravel()")
    counts = nonnegative("multiplicity", counts, "count the modes of each eigenvalue")
    given = {"ridge": ridge, "noise": noise, "tail": tail, "unlearnable": unlearnable}
    numbers = [jnp.asarray(nonnegative(name, value, "use 0.0 for none"), dtype) for name, value in given.items()]
    arrays = (array.astype(dtype) for array in (as_spectrum(eigs), coefficients, counts))
    return _curve(*arrays, sizes, _Levels(*numbers))


@boundary
def effective_regularization(
    eigs: Float[Array, " modes"],
    multiplicity: Float[Array, " modes"],
    n: float | Float[Array, ""],
    ridge: float | Float[Array, ""],
) -> Float[Array, ""]:
    r"""κ ≥ 0 with Σ m_i λ_i/(λ_i + κ) + ridge/κ = n.

    κ lies in [ridge/n, (Σ m λ + ridge)/n]; it is 0 without a ridge for n at least the number of positive modes. By
    bisection of log κ and two Newton steps, which carry first and second derivatives; the one in the ridge at ridge 0
    is that from above.

    Args:
        eigs: λ ≥ 0. multiplicity: m ≥ 0. n: > 0. ridge: ≥ 0.

    Raises:
        ValueError: numbers out of these ranges or not finite (NaN inside jit).

    Returns:
        κ; NaN where it cannot be found to √ε in this dtype. Cost: 45 passes over the modes.

    >>> f"{effective_regularization(jnp.ones(10), jnp.ones(10), 5.0, 0.0):.4f}"
    '1.0000'
    """
    alike = multiplicity.shape == eigs.shape
    require(alike, "multiplicity", multiplicity.shape, f"have the shape of eigs, {eigs.shape}", "pass one each")
    dtype = widest(eigs.dtype, multiplicity.dtype)
    n = jnp.asarray(positive("n", n, "count the samples"), dtype)
    ridge = jnp.asarray(nonnegative("ridge", ridge, "use 0.0 for none"), dtype)
    counts = nonnegative("multiplicity", multiplicity, "count the modes of each eigenvalue").astype(dtype)
    found = _regularization(as_spectrum(eigs).astype(dtype), counts, n, ridge)
    return jnp.where(found.reliable, found.kappa, jnp.full_like(found.kappa, jnp.nan))


@boundary(static=("capacity", "source"))
def optimal_rate(capacity: float, source: float) -> tuple[float, float]:
    r"""Exponents (of the excess risk, of λ) in n for noisy ridge regression: n^(−2rb/(2rb+1)) at λ ~ n^(−b/(2rb+1)).

    Eigenvalues i^(−b), b = `capacity` > 1; source condition r > 0 (r = 1/2: the target lies in the RKHS), saturating at
    r = 1. The ridge on the unnormalized Gram is n λ. A Sobolev target and kernel of smoothness s on the line: b = 2s,
    r = 1/2, exponent −2s/(2s + 1).

    Raises ValueError for b ≤ 1 or r ≤ 0. Cost: none.
    Source: Caponnetto and De Vito (2007), Theorem 1; Cui, Loureiro, Krzakala, Zdeborová (2021), section 4.

    >>> optimal_rate(2.0, 0.5)[0]
    -0.6666666666666666
    """
    _require_exponents(capacity, source)
    r = min(source, 1.0)
    return -2 * r * capacity / (2 * r * capacity + 1), -capacity / (2 * r * capacity + 1)


@boundary(static=("capacity", "source"))
def noiseless_rate(capacity: float, source: float) -> float:
    r"""Exponent of the test error in n without noise and with a vanishing ridge: n^(−2b min(r, 1)).

    Letters and errors as in `optimal_rate`. Source: Cui, Loureiro, Krzakala, Zdeborová (2021), section 4.

    >>> noiseless_rate(1.5, 0.5)
    -1.5
    """
    _require_exponents(capacity, source)
    return -2 * capacity * min(source, 1.0)


def _require_exponents(capacity: float, source: float) -> None:
    summable = 1 < capacity < math.inf
    require(summable, "capacity", capacity, "exceed 1 for a finite trace", "use the exponent b of λ_i = i^(-b)")
    require(source > 0, "source", source, "be > 0", "use 0.5 for a target in the RKHS")


class _Regularization(NamedTuple):
    """κ; `held` = δ/κ, or its limit n − Σ m where κ = 0; and whether κ is known to √ε."""

    kappa: Float[Array, ""]
    held: Float[Array, ""]
    reliable: Array


@jax.jit
def _regularization(eigs: Array, counts: Array, n: Array, ridge: Array) -> _Regularization:
    """In units of the largest of λ and δ."""
    unit = common_unit(eigs, ridge)
    eigs, ridge = eigs / unit, ridge / unit
    live = (eigs > 0) & (counts > 0)
    modes = jnp.sum(jnp.where(live, counts, 0))
    enough = (ridge == 0) & (modes <= n)
    root = _newton(eigs, counts, n, ridge, _bisect(eigs, counts, n, ridge, jnp.maximum(modes - n, 0) / n))
    # κ (n − Σ m + Σ m κ/(λ + κ)) = δ, by two substitutions from δ = 0
    first = over(ridge, n - modes)
    held = n - modes + jnp.sum(jnp.where(live, counts * _share(first, eigs), 0))
    held = n - modes + jnp.sum(jnp.where(live, counts * _share(over(ridge, held), eigs), 0))
    kappa = jnp.where(enough, over(ridge, held), root)
    held = jnp.where(enough, held, over(ridge, root))
    excess, slope = _excess(eigs, counts, n, ridge, jnp.where(enough, jnp.ones_like(root), root))
    close = jnp.abs(excess) <= -slope * float(jnp.finfo(eigs.dtype).eps) ** 0.5
    seen = kappa * unit >= float(jnp.finfo(eigs.dtype).tiny)
    # eigenvalues next to the smallest number, and zeros beyond: the rest of the spectrum underflowed
    tiny, eps = float(jnp.finfo(eigs.dtype).tiny), float(jnp.finfo(eigs.dtype).eps)
    lost = ((eigs <= 0) & (counts > 0)).any() & (jnp.min(jnp.where(live, eigs, jnp.inf)) * unit < tiny / eps)
    finite = jnp.isfinite(jnp.sum(eigs) + jnp.sum(counts) + n + ridge)
    return _Regularization(kappa * unit, held, finite & jnp.where(enough, ~lost, close & seen))


def _bisect(eigs: Array, counts: Array, n: Array, ridge: Array, spare: Array) -> Array:
    """κ between bounds, without derivatives."""
    eigs, counts, n, ridge, spare = jax.lax.stop_gradient((eigs, counts, n, ridge, spare))
    largest = (jnp.sum(counts * eigs) + ridge) / n
    smallest = jnp.min(jnp.where((eigs > 0) & (counts > 0), eigs, jnp.inf))
    least = jnp.maximum(ridge / n, jnp.where(spare > 0, smallest * spare, 0))
    usual = (least > 0) & jnp.isfinite(largest)
    ends = (jnp.where(usual, least, jnp.ones_like(least)), jnp.where(usual, largest, jnp.ones_like(least)))

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2
        above = _excess(eigs, counts, n, ridge, jnp.exp(middle))[0] > 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, _HALVINGS, halve, tuple(map(jnp.log, ends)))
    return jnp.exp((low + high) / 2)


def _newton(eigs: Array, counts: Array, n: Array, ridge: Array, kappa: Array) -> Array:
    """Two Newton steps in log κ: each doubles the digits, and the order of the derivatives, of its start."""
    for _ in range(2):
        excess, slope = _excess(eigs, counts, n, ridge, kappa)
        kappa = kappa * jnp.exp(-excess / jnp.where(slope == 0, -jnp.ones_like(slope), slope))
    return kappa


def _excess(eigs: Array, counts: Array, n: Array, ridge: Array, kappa: Array) -> tuple[Array, Array]:
    """Σ m L + δ/κ − n and its derivative in log κ; learned modes are counted and what they miss is subtracted."""
    learned = eigs > kappa
    share, rest = _share(eigs, kappa), _share(kappa, eigs)
    counted = jnp.sum(jnp.where(learned, counts, 0)) - n
    small = jnp.sum(jnp.where(learned, -counts * rest, counts * share))
    return counted + (small + ridge / kappa), -(jnp.sum(counts * share * rest) + ridge / kappa)


def _share(part: Array, other: Array) -> Array:
    """part/(part + other), and 0 where both are 0."""
    return over(part, part + other)


class _Levels(NamedTuple):
    """Ridge, variance of the noise, trace of the modes left out, and the target's power in them."""

    ridge: Array
    noise: Array
    tail: Array
    rest: Array


@jax.jit
def _curve(eigs: Array, coefficients: Array, counts: Array, n: Array, levels: _Levels) -> LearningCurve:
    ridge, noise, tail, rest = levels

    def at(n: Array) -> LearningCurve:
        found = _regularization(eigs, counts, n, ridge + tail)
        share = _share(eigs, found.kappa)
        missed = jnp.where(eigs > 0, _share(found.kappa, eigs), jnp.ones_like(eigs))
        left = jnp.sum(counts * share * missed) + found.held
        power = jnp.sum(missed**2 * coefficients**2) + rest + noise
        test = jnp.where(left > 0, n / jnp.where(left > 0, left, 1), jnp.inf) * power
        # more samples than modes and no ridge: the fit is a projection that leaves 1 − p/n of the residual
        held = jnp.where(found.kappa > 0, over(ridge, found.kappa), found.held)
        train = (held / n) ** 2 * test
        vanished = (power < float(jnp.finfo(eigs.dtype).tiny)) & ((missed > 0) & (coefficients != 0)).any()
        conserved = jnp.sum(counts * share) + found.held
        status = status_where((vanished, Status.NOT_FINITE), (~found.reliable, Status.ILL_CONDITIONED))
        status = finite_status((test, train, found.kappa, share, conserved), status)
        return LearningCurve(test, train, found.kappa, share, conserved, status)

    return jax.vmap(at)(n)
