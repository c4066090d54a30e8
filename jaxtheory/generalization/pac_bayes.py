r"""PAC-Bayes: the inverse of the binary relative entropy, and a bound with a Gaussian posterior fitted to the data."""

import functools
from collections.abc import Callable
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
        p within [q, 1]. At c = 0, where p = q, ∂p/∂q = 1 and ∂p/∂c = ∞; at q = 0 < c, ∂p/∂q = ∞; at q = 1 both are 0.
        NaN where an argument is out of range (inside jit).

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
    q, c = primals
    p, s = _solved(q, c)
    one, far, none = jnp.ones_like(q), s == jnp.inf, s == 0
    at = jnp.where(far | none, one, s)
    slope = jnp.exp(-at) / -jnp.expm1(-at)  # 1 / (e^s − 1)
    gap = jnp.where(far, one, -(1 - q) * jnp.expm1(-at))  # p − q
    length = at + jnp.where(q == 0, jnp.inf, jnp.log1p(gap / jnp.where(q == 0, one, q)))  # ln(p/q) + s
    by_c = jnp.where(none, jnp.inf, jnp.where(far, 0, p * slope))
    by_q = jnp.where(none, 1, jnp.where(far, 0, p * slope * length))
    s_by_c = jnp.where(none, jnp.inf, jnp.where(far, 0, p / gap))
    s_by_q = jnp.where(none | far, 0, (length * p + jnp.expm1(-at)) / gap)
    moves = [jnp.zeros_like(q), jnp.zeros_like(q)]
    for tangent, slopes in zip(tangents, ((by_q, s_by_q), (by_c, s_by_c)), strict=True):
        if not isinstance(tangent, SymbolicZero):
            moves = [move + slope * tangent for move, slope in zip(moves, slopes, strict=True)]
    return (p, s), tuple(moves)


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
