r"""PAC-Bayes: the inverse of the binary relative entropy, and a bound with a Gaussian posterior fitted to the data."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory.checks import boundary, constrain, labels_or_targets, quantity, require, returned, within
from jaxtheory.networks import train
from jaxtheory.results import Status, finite_status

_GRID, _SCALE = 100.0, 0.1  # prior variances are _SCALE · exp(−j/_GRID), j = 1, 2, …


class Certificate(NamedTuple):
    """A bound on the error of the randomized classifier: its error on the sample, its relative entropy, and the bound;
    and the Gaussian that its weights are drawn from, as trees like the weights."""

    bound: Float[Array, ""]
    empirical: Float[Array, ""]
    divergence: Float[Array, ""]
    prior_variance: Float[Array, ""]
    mean: PyTree
    variance: PyTree
    status: Int[Array, ""]


@boundary
def kl_inverse(q: Float[Array, "..."] | float, c: Float[Array, "..."] | float) -> Float[Array, "..."]:
    r"""The largest p with kl(q‖p) = q ln(q/p) + (1 − q) ln((1 − q)/(1 − p)) ≤ c.

    Solved for s = ln((1 − q)/(1 − p)), in which kl is increasing, convex and a sum of positive terms: p − q is right to
    round-off however small c is. Derivatives are those of the equation, to any order:

        ∂p/∂c = p / (e^s − 1),   ∂p/∂q = p (ln(p/q) + s) / (e^s − 1)

    Args:
        q: within [0, 1].
        c: ≥ 0; may be ∞, where p = 1.

    Returns:
        p within [q, 1]. At q = 0, p = 1 − e^(−c), ∂p/∂q = ∞ and ∂²p/∂q² = ∂²p/∂q∂c = −∞ where c > 0. At c = 0, p = q,
        ∂p/∂c = ∞ and ∂²p/∂c² = −∞ where 0 < q < 1, and ∂²p/∂q∂c is ∞ below q = ½, −4/3 there and −∞ above. At q = 1 and
        at c = ∞, p = 1. Of third derivatives at these ends only those in c at q = 0 are right. NaN where an argument is
        out of range (inside jit).

    Raises:
        ValueError: arguments out of range (outside jit).

    Cost: 70 Newton steps. Source: Langford and Caruana (2002), equation 2.

    >>> f"{kl_inverse(0.0, 0.1):.6f} {kl_inverse(0.1, 0.05):.6f}"
    '0.095163 0.220079'
    """
    rate = within("q", jnp.asarray(q), 0.0, 1.0, "pass an error rate")
    level = constrain(
        "c", jnp.asarray(c), lambda v: v >= 0, "be >= 0", "pass a relative entropy, which is not negative"
    )
    dtype = jnp.result_type(rate, level)
    return _kl_inverse(*jnp.broadcast_arrays(rate.astype(dtype), level.astype(dtype)))


@jax.jit
def _kl_inverse(q: Array, c: Array) -> Array:
    return _solved(q, c)[0]


@jax.custom_jvp
def _solved(q: Array, c: Array) -> tuple[Array, Array]:
    """p and s = ln((1 − q)/(1 − p)), by Newton's method from above, which is monotone since kl is convex in s."""
    inner = (q > 0) & (q < 1) & (c > 0) & (c / (1 - q) < jnp.inf)
    at, level = jnp.where(inner, q, 0.5), jnp.where(inner, c, 1.0)

    def step(_: Any, s: Array) -> Array:
        gap = -(1 - at) * jnp.expm1(-s)  # p − q
        excess = (1 - at) * _exp_rest(s) - at * _log_rest(gap / at) - level
        # where the difference is rounding, the root is far below
        return jnp.where(gap > 0, jnp.maximum(s - excess * (at + gap) / gap, 1e-3 * s), s)

    # kl ≥ (1 − q)(s − 1), and Pinsker's kl ≥ 2 (p − q)² where that says something
    wide = jnp.sqrt(level / 2) / (1 - at)
    near = -jnp.log1p(-jnp.where(wide < 1, wide, 0))
    start = jnp.where(wide < 1, jnp.minimum(near, 1 + level / (1 - at)), 1 + level / (1 - at))
    s = lax.fori_loop(0, 70, step, start)
    # q = 0: kl = −ln(1 − p); c = 0: p = q; q = 1, c = ∞ or s > c/(1 − q) beyond the dtype: p = 1
    s = jnp.where(inner, s, jnp.where((q == 0) | (c == 0), c, jnp.inf))
    p = jnp.where(s == jnp.inf, 1, q - (1 - q) * jnp.expm1(-jnp.where(s == jnp.inf, 1, s)))
    bad = jnp.isnan(q) | jnp.isnan(c)
    return jnp.where(bad, jnp.nan, p), jnp.where(bad, jnp.nan, s)


def _exp_rest(s: Array) -> Array:
    """e^(−s) − 1 + s without cancellation."""
    small = jnp.where(s < 0.5, s, 0)
    series = functools.reduce(lambda total, k: 1 - small / k * total, range(20, 2, -1), jnp.ones_like(s))
    return jnp.where(s < 0.5, small**2 / 2 * series, jnp.expm1(-s) + s)


def _log_rest(x: Array) -> Array:
    """ln(1 + x) − x for x ≥ 0 without cancellation: 2 artanh(r) − x with r = x/(2 + x)."""
    small = jnp.where(x < 0.5, x, 0)
    r = small / (2 + small)
    series = functools.reduce(lambda total, k: 1 / k + r**2 * total, range(27, 1, -2), jnp.zeros_like(x))
    return jnp.where(x < 0.5, -small * r + 2 * r**3 * series, jnp.log1p(x) - x)


@partial(_solved.defjvp, symbolic_zeros=True)
def _solved_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    # slope · tangent as m · (b · tangent): ∞ is b · b, so that ∞ · 0 = 0 and the product is linear
    inner = _inside(*primals)[2]
    scale = jnp.where(inner, 1, _large(primals[0]))
    scaled = [t if isinstance(t, SymbolicZero) else scale * t for t in tangents]
    return _solved(*primals), _moved(_slopes(*primals), scaled)


def _large(q: Array) -> Array:
    """b, a power of 2 whose square is infinite and whose inverse is not 0."""
    return jnp.full_like(q, 2.0 ** int(0.6 * jnp.finfo(q.dtype).maxexp))


def _at_end(slope: Array) -> Array:
    """slope / b at the ends, b for ∞."""
    large = _large(slope)
    return jnp.where(jnp.isinf(slope), jnp.sign(slope) * large, slope / large)


def _moved(slopes: tuple[tuple[Array, ...], ...], tangents: Sequence[Any]) -> tuple[Array, ...]:
    """Σ of slopes by q and by c times their tangents."""
    moves = [jnp.zeros_like(slope) for slope in slopes[0]]
    for tangent, each in zip(tangents, slopes, strict=True):
        if not isinstance(tangent, SymbolicZero):
            moves = [move + slope * tangent for move, slope in zip(moves, each, strict=True)]
    return tuple(moves)


@jax.custom_jvp
def _slopes(q: Array, c: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Derivatives of p and s by q, and by c; at the ends of p = 1 − e^(−c), q or 1, over b."""
    at, level, inner = _inside(q, c)
    (by_q, s_by_q), (by_c, s_by_c) = _inner_slopes(at, level)
    one, none = jnp.ones_like(q), jnp.zeros_like(q)
    end_q = jnp.where(c == 0, one, jnp.where((q == 0) & (c < jnp.inf), jnp.inf, none))
    end_c = jnp.where(q == 0, jnp.exp(-c), jnp.where((c == 0) & (q < 1), jnp.inf, none))
    lost = jnp.where(jnp.isnan(q) | jnp.isnan(c), jnp.nan, none)
    by_q, by_c = jnp.where(inner, by_q, _at_end(end_q)), jnp.where(inner, by_c, _at_end(end_c))
    return (by_q + lost, s_by_q + lost), (by_c + lost, s_by_c + lost)


@partial(_slopes.defjvp, symbolic_zeros=True)
def _slopes_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    q, c = primals
    at, level, inner = _inside(q, c)
    one, none = jnp.ones_like(q), jnp.zeros_like(q)
    (by_qq, s_by_qq), (by_cq, s_by_cq) = jax.jvp(_inner_slopes, (at, level), (one, none))[1]
    (by_qc, s_by_qc), (by_cc, s_by_cc) = jax.jvp(_inner_slopes, (at, level), (none, one))[1]
    # p(q, 0) = q, p(1, c) = p(q, ∞) = 1, p(0, c) = 1 − e^(−c); near c = 0: p = q + √(2 q (1 − q) c) + ⅔ (1 − 2q) c
    start, zero = c == 0, (q == 0) & (c < jnp.inf)
    turning = jnp.where(q == 0.5, -4 / 3, jnp.where(q < 0.5, jnp.inf, -jnp.inf * one))
    mixed = _at_end(jnp.where(start, turning, jnp.where(zero, -jnp.inf, none)))
    end_qq = _at_end(jnp.where(zero & ~start, -jnp.inf, none))
    end_cc = _at_end(jnp.where(zero, -jnp.exp(-c), jnp.where(start & (q < 1), -jnp.inf, none)))
    by_q = tuple(jnp.where(inner, a, b) for a, b in ((by_qq, end_qq), (by_cq, mixed)))
    by_c = tuple(jnp.where(inner, a, b) for a, b in ((by_qc, mixed), (by_cc, end_cc)))
    moved = _moved(((*by_q, s_by_qq, s_by_cq), (*by_c, s_by_qc, s_by_cc)), tangents)
    return _slopes(q, c), ((moved[0], moved[2]), (moved[1], moved[3]))


def _inside(q: Array, c: Array) -> tuple[Array, Array, Array]:
    """The arguments where both are inside of their ranges, others elsewhere, and where that is."""
    inner = (q > 0) & (q < 1) & (c > 0) & (_solved(q, c)[1] < jnp.inf)
    return jnp.where(inner, q, 0.5), jnp.where(inner, c, 1.0), inner


def _inner_slopes(q: Array, c: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    p, s = _solved(q, c)
    slope = jnp.exp(-s) / -jnp.expm1(-s)  # 1 / (e^s − 1)
    gap = -(1 - q) * jnp.expm1(-s)  # p − q
    far = gap > q
    near = jnp.log1p(jnp.where(far, 0, gap) / jnp.where(far, 1, q))
    length = s + jnp.where(far, jnp.log(jnp.where(far, p, 1)) - jnp.log(jnp.where(far, q, 1)), near)  # ln(p/q) + s
    return (p * slope * length, (length * p + jnp.expm1(-s)) / gap), (p * slope, p / gap)


@boundary(static=("delta", "steps", "rate", "draws"))
def gaussian_posterior(
    loss: Callable[[Any, Array, Array], Array],
    wrong: Callable[[Any, Array, Array], Array],
    params: PyTree,
    prior: PyTree,
    x: Float[Array, "n ..."],
    y: Array,
    *,
    key: Key[Array, ""],
    delta: float = 0.05,
    steps: int = 500,
    rate: float = 1e-2,
    draws: int = 256,
) -> Certificate:
    r"""A bound on the error of weights drawn from a Gaussian N(w, diag s) whose mean and variances are optimized.

        kl(L̂(Q) ‖ L(Q)) ≤ (KL(Q‖P_λ) + ln(2√n/δ_j)) / n,  P_λ = N(w₀, λI),  λ = 0.1 e^{−j/100},  δ_j = 3δ/(π²j²)

    holds for all posteriors Q and all j ≥ 1 at once with probability 1 − Σδ_j = 1 − δ/2 over the sample, whatever the
    optimization did; L̂(Q) itself is bounded from `draws` samples with the other δ/2. Minimized: the surrogate loss plus
    √((KL + ln(2√n/δ_j))/2n).

    Args:
        loss: mean surrogate loss (params, x, y), an upper bound of the 0-1 loss up to a factor; differentiable.
        wrong: mean 0-1 loss (params, x, y), within [0, 1].
        params: w, where the posterior starts.
        prior: w₀, chosen without the sample, e.g. the initialization; the same tree as `params`.
        x, y: the sample.
        key: of the noise in optimization and of the final draws.
        delta: δ, the probability that the bound fails.
        steps, rate: of Adam, ≥ 1 and > 0.
        draws: of the posterior for L̂(Q), ≥ 1.

    Returns:
        `Certificate`; status `NOT_FINITE` where a field is not finite, `INVALID_INPUT` where `wrong` leaves [0, 1].

    Raises:
        ValueError: δ outside (0, 1), params and prior of different structure or shapes, no examples, counts < 1.

    Cost: steps + draws passes over the sample. Source: Dziugaite and Roy (2017), section 3, with the bound of Maurer
    (2004), Theorem 5.

    >>> x = jnp.linspace(-1.0, 1.0, 400)[:, None]
    >>> loss = lambda w, x, y: jnp.logaddexp(0.0, -y * (x @ w)).mean() / jnp.log(2.0)
    >>> wrong = lambda w, x, y: (y * (x @ w) <= 0).astype(x.dtype).mean()
    >>> start, prior, key = jnp.array([4.0]), jnp.zeros(1), jax.random.key(0)
    >>> found = gaussian_posterior(loss, wrong, start, prior, x, jnp.sign(x[:, 0]), key=key)
    >>> bool(found.bound < 0.3)
    True
    """
    require(0 < delta < 1, "delta", delta, "lie within (0, 1)", "pass e.g. delta=0.05")
    require(len(x) >= 1, "x", x.shape, "hold at least one example", "pass the sample")
    require(steps >= 1 and draws >= 1, "steps, draws", (steps, draws), "be >= 1", "pass e.g. steps=500, draws=256")
    require(0 < rate < np.inf, "rate", rate, "be positive and finite", "pass e.g. rate=0.01")
    params, prior = (
        jax.tree.map(partial(quantity, name), tree) for name, tree in (("params", params), ("prior", prior))
    )
    told, wanted = (str(jax.tree.map(jnp.shape, tree)) for tree in (prior, params))
    require(told == wanted, "prior", told, f"have the shapes of params, {wanted}", "pass the initialization")
    targets = labels_or_targets("y", y)
    require(targets.shape[:1] == x.shape[:1], "y", targets.shape, f"pair with {len(x)} examples", "pass (x, y)")
    return _gaussian_posterior(
        loss, wrong, params, prior, x, targets, key=key, delta=delta, steps=steps, rate=rate, draws=draws
    )


@partial(jax.jit, static_argnames=("loss", "wrong", "delta", "steps", "rate", "draws"))
@jax.default_matmul_precision("highest")  # of a classifier's own products
def _gaussian_posterior(
    loss: Callable, wrong: Callable, params: PyTree, prior: PyTree, x: Array, y: Array, *, key: Array,
    delta: float, steps: int, rate: float, draws: int,
) -> Certificate:  # fmt: skip
    mean, unravel = ravel_pytree(params)
    center, _ = ravel_pytree(prior)
    fit_key, draw_key = jax.random.split(key)
    budget = partial(_complexity, center=center, samples=len(x), delta=delta)

    def objective(posterior: tuple[Array, Array, Array], key: Array) -> Array:
        w, log_s, log_lam = posterior
        noisy = w + jnp.exp(log_s / 2) * jax.random.normal(key, w.shape, w.dtype)
        level = jnp.maximum(_GRID * (np.log(_SCALE) - log_lam), 1)
        return returned("loss", loss(unravel(noisy), x, y), ()) + jnp.sqrt(
            jnp.maximum(budget((w, log_s), level)[0], 0) / 2
        )

    small = jnp.log(jnp.maximum(jnp.abs(mean) / 10, 1e-3)) * 2
    start = (mean, small, jnp.full((), -6.0, mean.dtype))
    fit = train(objective, start, optimizer=optax.adam(rate), steps=steps, record_every=steps, key=fit_key)
    w, log_s, log_lam = fit.params
    # Onto the grid, from below: the prior must be one of those fixed before the sample was seen.
    level = jnp.maximum(jnp.ceil(_GRID * (np.log(_SCALE) - log_lam)), 1)
    rate_bound, divergence = budget((w, log_s), level)

    def one(key: Array) -> Array:
        drawn = w + jnp.exp(log_s / 2) * jax.random.normal(key, w.shape, w.dtype)
        return returned("wrong", wrong(unravel(drawn), x, y), (), whole=w.dtype)

    errors = lax.map(one, jax.random.split(draw_key, draws))
    rates = ((errors >= 0) & (errors <= 1)).all()
    empirical = _kl_inverse(errors.mean(), jnp.asarray(np.log(4 / delta) / draws, errors.dtype))
    bound = _kl_inverse(empirical.astype(mean.dtype), rate_bound)
    fields = (bound, errors.mean(), divergence, _SCALE * jnp.exp(-level / _GRID), unravel(w), unravel(jnp.exp(log_s)))
    status = jnp.where(rates | jnp.isnan(errors).any(), fit.status, jnp.int32(Status.INVALID_INPUT))
    return Certificate(*fields, finite_status(fields, status))


def _complexity(
    posterior: tuple[Array, Array], level: Array, *, center: Array, samples: int, delta: float
) -> tuple[Array, Array]:
    """(KL + ln(2√n/δ_j))/n with δ_j = 3δ/(π²j²), whose sum is δ/2, at the level j; and KL."""
    (w, log_s), log_lam = posterior, np.log(_SCALE) - level / _GRID
    ratio = log_s - log_lam
    divergence = (jnp.expm1(ratio) - ratio + (w - center) ** 2 * jnp.exp(-log_lam)).sum() / 2
    price = np.log(2 * np.sqrt(samples)) + jnp.log(np.pi**2 * level**2 / (3 * delta))
    return (divergence + price) / samples, divergence
