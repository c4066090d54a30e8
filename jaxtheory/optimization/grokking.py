r"""Grokking of linear regression: test accuracy arrives long after training accuracy, at times that are known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, nonnegative, positive, require
from jaxtheory.results import Status, finite_status, status_where

Number = float | Float[Array, ""]
# of the Marchenko-Pastur law: what is beyond holds less than 1e-16 of it
_LOGS, _STEP = np.linspace(-38.0, 14.0, 2048, retstep=True)
_NEWTON = 60  # steps from the left, of which each at least doubles a time that is far off


class Grokking(NamedTuple):
    """Losses and accuracies at the times, the times at which the accuracies reach `level`, and their difference."""

    train_loss: Float[Array, " times"]
    test_loss: Float[Array, " times"]
    train_accuracy: Float[Array, " times"]
    test_accuracy: Float[Array, " times"]
    train_time: Float[Array, ""]
    test_time: Float[Array, ""]
    delay: Float[Array, ""]
    status: Int[Array, ""]


class Spectrum(NamedTuple):
    """Eigenvalues and the share of each of them; the shares sum to 1."""

    eigenvalues: Float[Array, " nodes"]
    weights: Float[Array, " nodes"]


@boundary
def linear_grokking(
    eigenvalues: Float[Array, " d"],
    weights: Float[Array, " d"],
    times: Float[Array, " times"],
    *,
    margin: Number,
    level: Number = 0.95,
) -> Grokking:
    r"""Training and test accuracy of a linear student of a linear teacher under gradient flow, and their delay.

    The flow of (1/2n)‖X(β − β*)‖², x ~ N(0, I_d), from an error with the squared component w_i along eigenvector i
    of XᵀX/n, whose eigenvalue is h_i:

        E_test(t) = Σ_i w_i e^{−2 h_i t},   E_train(t) = Σ_i h_i w_i e^{−2 h_i t}   (mean squared; losses are half)

    A prediction counts as right within a margin ε of its target. On a fresh point the error is Gaussian, so that

        accuracy(t) = erf(ε / √(2 E(t)))

    exactly for the test, and on training points as d grows. Both rise to `level` where E = ½ (ε / erfinv(level))²:
    E_train falls first since small h_i do not count there. Where d is near n, the smallest eigenvalue is near 0, and
    the delay is long although nothing happens between the two times but one exponential decay.

    Args:
        eigenvalues: h ≥ 0, d of them; those of a matrix or, as n → ∞ at a fixed ratio, of `marchenko_pastur`.
        weights: w ≥ 0, e.g. |β₀ − β*|²/d each at a random start.
        times: t ≥ 0, finite.
        margin: ε > 0.
        level: in (0, 1).

    Returns:
        `Grokking`. A time is 0 where the start is right. Where directions with h = 0 keep the test error above the
        level, its time and the delay are inf, with NOT_FINITE.

    Raises:
        ValueError: lengths that differ, numbers out of range (outside jit; NaN and INVALID_INPUT inside).

    Cost: d · (times + 100). Source: Levi, Beck, Bar-Sinai (2023), "Grokking in linear estimators: a solvable model that
    groks without understanding".

    >>> spectrum = marchenko_pastur(0.9)
    >>> found = linear_grokking(*spectrum, jnp.array([0.0, 10.0]), margin=0.05)
    >>> f"{found.train_time:.0f} {found.test_time:.0f}"
    '27 342'
    """
    same = eigenvalues.shape == weights.shape and len(weights) >= 1
    wish = f"have the shape of eigenvalues, {eigenvalues.shape}"
    require(same, "weights", f"shape {weights.shape}", wish, "pair them")
    h = nonnegative("eigenvalues", eigenvalues, "pass those of XᵀX/n")
    w = nonnegative("weights", weights, "pass squared components of β₀ − β*")
    t = nonnegative("times", times, "the flow starts at 0")
    size = positive("margin", margin, "pass the error that counts as right")
    goal = constrain("level", level, lambda v: (v > 0) & (v < 1), "lie in (0, 1)", "pass e.g. 0.95")
    dtype = jnp.result_type(h, w)
    return _linear_grokking(*(jnp.asarray(value, dtype) for value in (h, w, t, size, goal)))


@jax.jit
def _linear_grokking(h: Array, w: Array, times: Array, margin: Array, level: Array) -> Grokking:
    ok = jnp.isfinite(jnp.concatenate([h, w, times, jnp.stack([margin, level])])).all()
    least = (margin / lax.erf_inv(level)) ** 2 / 2
    both = (h * w, w)
    train, test = (jnp.sum(v[None] * jnp.exp(-2 * times[:, None] * h[None]), axis=1) for v in both)
    right = lambda e: lax.erf(margin / jnp.sqrt(2 * e))  # noqa: E731
    first, last = (_time(h, v, least) for v in both)
    fields = train / 2, test / 2, right(train), right(test), first, last, last - first
    loss, gap, seen, fresh, begin, end, delay = (jnp.where(ok, v, jnp.full_like(v, jnp.nan)) for v in fields)
    status = finite_status((loss, gap, begin, delay), status_where((~ok, Status.INVALID_INPUT)))
    return Grokking(loss, gap, seen, fresh, begin, end, delay, status)


def _time(h: Array, v: Array, least: Array) -> Array:
    """The root t of Σ v e^{−2ht} = least, by Newton's method in the logarithm, which is convex."""

    def step(t: Array) -> Array:
        logs = jnp.where(v > 0, jnp.log(jnp.where(v > 0, v, 1)) - 2 * h * t, -jnp.inf)
        top = lax.stop_gradient(jnp.max(logs))
        parts = jnp.exp(logs - top)
        total = jnp.sum(parts)
        # with one Newton step of exact derivatives after the root, derivatives are those of the implicit function
        return t + (jnp.log(total) + top - jnp.log(least)) * total / jnp.sum(2 * h * parts)

    reached = jnp.sum(v) <= least
    ends = jnp.sum(jnp.where(h > 0, 0, v)) < least
    usual = ends & ~reached
    h, v = (jnp.where(usual, value, jnp.ones_like(value)) for value in (h, v))
    least = jnp.where(usual, least, jnp.ones_like(least) * len(v) / 2)
    root = lax.fori_loop(0, _NEWTON, lambda _, t: step(t), jnp.zeros_like(least))
    root = step(step(lax.stop_gradient(root)))
    return jnp.where(reached, jnp.zeros_like(root), jnp.where(ends, root, jnp.full_like(root, jnp.inf)))


@boundary
def marchenko_pastur(aspect: Number) -> Spectrum:
    r"""Nodes and weights of the limit law of the eigenvalues of XᵀX/n, X_ij ~ N(0, 1), d/n → γ.

        √((h₊ − h)(h − h₋))/(2πγh) dh on h± = (1 ± √γ)²,   and for γ > 1 an atom at 0 of mass 1 − 1/γ

    With h = 1 + γ − 2√γ cos ψ it is (2/π) sin²ψ/h dψ. In s = ln tan(ψ/2) its singularities are at |Im s| = π/2 for
    every γ, where the trapezoidal rule converges exponentially: the mass and the moments have an error of rounding,
    1e-12 of their values in float64 and 1e-5 in float32, for γ from 1e-6 to 1e6 and at γ = 1.

    Args:
        aspect: γ > 0.

    Returns:
        `Spectrum` of 2049 nodes, the last of which is the atom.

    Raises:
        ValueError: a ratio that is not positive (outside jit; NaN inside). Cost: O(1). Source: Marchenko and Pastur
        (1967), "Distribution of eigenvalues for some sets of random matrices".

    >>> h, w = marchenko_pastur(2.0)
    >>> f"{jnp.sum(w):.4f} {jnp.sum(w * h):.4f} {jnp.sum(w * h**2):.4f}"  # 1, 1, 1 + γ
    '1.0000 1.0000 3.0000'
    """
    gamma = jnp.asarray(positive("aspect", aspect, "pass d / n"), float)
    return _marchenko_pastur(gamma)


@jax.jit
def _marchenko_pastur(gamma: Array) -> Spectrum:
    root = jnp.sqrt(gamma)
    tangent = jnp.asarray(np.exp(_LOGS), gamma.dtype)  # of ψ/2
    gap = (1 - gamma) / (1 + root)
    above = gap**2 + (1 + root) ** 2 * tangent**2
    nodes = above / (1 + tangent**2)
    shares = (16 * float(_STEP) / np.pi) * tangent * (tangent**2 / above) / (1 + tangent**2) ** 2
    atom = jnp.maximum(1 - 1 / gamma, 0)
    return Spectrum(jnp.append(nodes, jnp.zeros_like(gamma)), jnp.append(shares, atom))
