r"""Where the error of random features comes from: data, initialization, label noise, and their interactions.

The shares of the law of total variance in the proportional limit, and the risk of averages over several draws.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, positive, within
from jaxtheory.double_descent.asymptotics import Number, times
from jaxtheory.double_descent.spectral import Balance, balance, common, is_legal, judged, of_ridge, powers, spectrum


class Components(NamedTuple):
    """Squared bias of the mean over all draws, the variance that each set of sources adds, and their sum, `excess`."""

    bias: Float[Array, "..."]
    data: Float[Array, "..."]
    features: Float[Array, "..."]
    data_features: Float[Array, "..."]
    data_noise: Float[Array, "..."]
    data_features_noise: Float[Array, "..."]
    excess: Float[Array, "..."]
    status: Int[Array, "..."]


class Ensemble(NamedTuple):
    """Mean squared error E(f̄(x) − f(x))² of an average of predictors at a fresh point, free of label noise."""

    excess: Float[Array, "..."]
    status: Int[Array, "..."]


@boundary
def variance_components(
    eigs: Float[Array, " modes"],
    beta: Float[Array, " modes"],
    n: Number,
    width: Number,
    lam: Number,
    noise: Number,
    *,
    tail: Number = 0.0,
) -> Components:
    r"""Shares of data X, features F and label noise ε in the error of ridge regression on random features.

        z = Fx,  F_ij ~ N(0, 1/width),  y = ⟨x, β⟩ + ε,  â = argmin (1/n)‖y − Za‖² + lam ‖a‖²

    With L_i = λ_i/(λ_i + κ), d₁ = ΣL_i + tail/κ, d₂ = ΣL_i² and w_i = λ_i β_i²,

        lam = κ (1 − d₁/n)(1 − d₁/width),   ρ = (1 − d₁/width)/(1 − d₂/width),
        g = d₂/n,  h = (d₁ − ρ (d₁ − d₂))/n,   bias = Σ w_i (1 − L_i)²,  E = Σ w_i (1 − L_i)(1 − ρ L_i),
        features = E − bias,   data = bias g/(1 − g),   data_features = E/(1 − h) − bias − data − features,
        data_noise = σ² g/(1 − g),   data_features_noise = σ² h/(1 − h) − data_noise,   excess = (E + σ²)/(1 − h) − σ²

    computed in sums of positive terms. A share of several sources is the part of the variance that none of them has
    alone (sum over subsets of the law of total variance). Noise acts through the data only: the shares of noise alone
    and of features with noise are 0. At the interpolation threshold width = n the interactions carry the peak.

    Averaging over many features leaves bias + data + data_noise, the risk of the kernel with the ridge
    κ (1 − d₁/n); see `ensemble_risk`. At width = ∞ it is the kernel itself, `general_covariance`.

    Args:
        eigs: λ_i ≥ 0, the eigenvalues of the covariance of x, or of a kernel. beta: β in its eigenbasis.
        n: samples > 0. width: features > 0, or infinity. lam: ≥ 0. noise: σ² ≥ 0.
        tail: the sum of infinitely many negligible eigenvalues, without signal: μ*² of an activation, whose linear
            part has d eigenvalues μ₁²/d. All but eigs and beta broadcast; the dtype is that of eigs.

    Returns:
        `Components`; NOT_FINITE where a share is infinite: width = n without a ridge.

    Raises:
        ValueError: negative arguments, n or width not positive (outside `jit`; inside, INVALID_INPUT).

    Cost: 64 passes over the modes a point. Source: Adlam and Pennington (2020), Lin and Dobriban (2021), d'Ascoli,
    Refinetti, Biroli, Krzakala (2020); for any spectrum through Simon, Karkada, Ghosh, Belkin (2023).

    >>> i = jnp.arange(1, 401, dtype=jnp.float32)
    >>> parts = variance_components(i**-1.2, i**-0.3, 150, 150, 1e-3, 0.25)
    >>> [f"{part:.4f}" for part in (parts.data, parts.features, parts.data_features, parts.data_features_noise)]
    ['0.0132', '0.0368', '0.0535', '0.1386']
    """
    eigs, beta, numbers, _ = _arguments(eigs, beta, n=n, width=width, lam=lam, noise=noise, tail=tail)
    return _variance_components(eigs, beta, numbers)


@boundary
def ensemble_risk(
    eigs: Float[Array, " modes"],
    beta: Float[Array, " modes"],
    n: Number,
    width: Number,
    lam: Number,
    noise: Number,
    *,
    members: Number = 1.0,
    bags: Number = 1.0,
    overlap: Number = 0.0,
    tail: Number = 0.0,
) -> Ensemble:
    r"""Risk of the average of members × bags random-feature regressions: every draw of features on every training set.

    Two predictors share their features or not, and the part c of their training sets. In the notation of
    `variance_components` the mean product of their errors is

        same features: (E + c σ² h)/(1 − c h),   other features: (bias + c σ² g)/(1 − c g),

    c = 1 on the same set and `overlap` on two sets, and the risk is its mean over the pairs. So ensembles divide by
    `members` what features share in, and bagging on separate sets (overlap 0) divides by `bags` what the data share in.

    Args:
        eigs, beta, n, width, lam, noise, tail: as in `variance_components`; n is the size of each training set.
        members: draws of the features, ≥ 1 or infinity. bags: training sets, ≥ 1 or infinity.
        overlap: expected part of a training set that another one shares: 0 for disjoint sets, n/N for random subsets of
            N samples. All but eigs and beta broadcast.

    Returns:
        `Ensemble`; NOT_FINITE where the excess is infinite.

    Raises:
        ValueError: as `variance_components`, members or bags < 1, overlap outside [0, 1].

    Cost: that of `variance_components`. Source: d'Ascoli, Refinetti, Biroli, Krzakala (2020), section 3; Patil, Du,
    Kuchibhotla (2023) for overlapping sets.

    >>> eigs, beta = 1 / jnp.arange(1.0, 101.0), jnp.full(100, 0.5)
    >>> risks = ensemble_risk(eigs, beta, 40, 40, 1e-3, 0.25, members=jnp.array([1.0, 5.0, jnp.inf]))
    >>> bool((jnp.diff(risks.excess) < 0).all())
    True
    """
    hint = "count them, or pass infinity"
    counts = [
        constrain(name, v, lambda c: c >= 1, "be >= 1", hint) for name, v in (("members", members), ("bags", bags))
    ]
    overlap = within("overlap", overlap, 0.0, 1.0, "pass the shared part of two training sets, e.g. n/N")
    eigs, beta, numbers, ensemble = _arguments(
        eigs, beta, *counts, overlap, n=n, width=width, lam=lam, noise=noise, tail=tail
    )
    return _ensemble_risk(eigs, beta, numbers, *ensemble)


class _Numbers(NamedTuple):
    """Arguments of `variance_components` beside the spectrum, of one shape."""

    n: Array
    width: Array
    lam: Array
    noise: Array
    tail: Array


def _arguments(
    eigs: Array, beta: Array, *others: Number, n: Number, width: Number, lam: Number, noise: Number, tail: Number
) -> tuple[Array, Array, _Numbers, list[Array]]:
    eigs, beta = spectrum(eigs, beta)
    n = positive("n", n, "count the samples, and take the limit in width only")
    width = constrain("width", width, lambda v: v > 0, "be > 0", "count the features, or pass infinity for the kernel")
    numbers = common(eigs, n, width, *powers(lam=lam, noise=noise, tail=tail), *others)
    return eigs, beta, _Numbers(*numbers[:5]), numbers[5:]


@jax.jit
def _variance_components(eigs: Array, beta: Array, numbers: _Numbers) -> Components:
    power = eigs * beta**2

    def one(n: Array, width: Array, lam: Array, noise: Array, tail: Array) -> Components:
        at = balance(eigs, n, width, n * lam, tail)
        status = of_ridge(n, lam, at.status)
        bias, features = _missed(at, power)
        learned = jnp.sum(at.learned**2)
        alone = _ratio(learned, at.samples + at.spread)  # g/(1 − g)
        together = (learned + at.spread * at.lost) / n * at.inflation  # h/(1 − h)
        more = _more(at)
        data, data_noise = times(bias, alone), times(noise, alone)
        data_features = times(features, together) + times(bias, more)
        data_features_noise = times(noise, more)
        excess = bias + data + features + data_features + data_noise + data_features_noise
        parts = Components(
            bias, data, features, data_features, data_noise, data_features_noise, excess, jnp.int32(status)
        )
        return judged(parts, _is_valid(eigs, beta, n, width, lam, noise, tail=tail), status)

    return jnp.vectorize(one)(*numbers)


@jax.jit
def _ensemble_risk(
    eigs: Array, beta: Array, numbers: _Numbers, members: Array, bags: Array, overlap: Array
) -> Ensemble:
    power = eigs * beta**2

    def one(members: Array, bags: Array, overlap: Array, *numbers: Array) -> Ensemble:
        n, width, lam, noise, tail = numbers
        at = balance(eigs, n, width, n * lam, tail)
        status = of_ridge(n, lam, at.status)
        bias, features = _missed(at, power)
        learned = jnp.sum(at.learned**2)

        def pair(error: Array, used: Array, kept: Array, shared: Array) -> Array:
            """(error + c σ² u)/(1 − c u), u = used and 1 − u = kept."""
            left = (1 - shared) + shared * kept
            amplified = jnp.where(left > 0, 1 / jnp.where(left > 0, left, 1), jnp.inf)
            return times(error + shared * noise * used, amplified)

        same = bias + features, (learned + at.spread * at.lost) / n, 1 / at.inflation
        other = bias, learned / n, (at.samples + at.spread) / n
        sets = ((1 / bags, jnp.ones_like(overlap)), (1 - 1 / bags, overlap))
        draws = ((1 / members, same), (1 - 1 / members, other))
        pairs = [times(a * b, pair(*kind, shared)) for a, kind in draws for b, shared in sets]
        excess = jnp.sum(jnp.stack(pairs))
        valid = _is_valid(eigs, beta, n, width, lam, noise, tail=tail)
        valid = valid & (members >= 1) & (bags >= 1) & (overlap >= 0) & (overlap <= 1)
        return judged(Ensemble(excess, jnp.int32(status)), valid, status)

    return jnp.vectorize(one)(members, bags, overlap, *numbers)


def _missed(at: Balance, power: Array) -> tuple[Array, Array]:
    """Squared bias Σ w (1 − L)², and the variance (1 − ρ) Σ w L (1 − L) that features add."""
    return jnp.sum(at.rest**2 * power), at.lost * jnp.sum(at.learned * at.rest * power)


def _more(at: Balance) -> Array:
    """h/(1 − h) − g/(1 − g) = s (1 − ρ) inflation/(r + s)."""
    missed = at.spread * at.lost
    return times(missed, jnp.where(missed > 0, at.inflation, 1) * _ratio(jnp.ones_like(missed), at.samples + at.spread))


def _ratio(above: Array, below: Array) -> Array:
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), jnp.where(above > 0, jnp.inf, 0))


def _is_valid(eigs: Array, beta: Array, n: Array, width: Array, lam: Array, noise: Array, *, tail: Array) -> Array:
    return (n > 0) & (width > 0) & (lam >= 0) & (noise >= 0) & (tail >= 0) & is_legal(eigs, beta)
