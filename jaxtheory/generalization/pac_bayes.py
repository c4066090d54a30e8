r"""PAC-Bayes: the inverse of the binary relative entropy, and a bound with a Gaussian posterior fitted to the data."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory.checks import holds, require
from jaxtheory.networks import train
from jaxtheory.results import Status

_GRID, _SCALE = 100.0, 0.1  # prior variances are _SCALE · exp(−j/_GRID), j = 1, 2, …


class Certificate(NamedTuple):
    """A bound on the error of the randomized classifier: its error on the sample, relative entropy, and the bound; and
    the Gaussian that it draws its weights from, as trees like the weights."""

    bound: Float[Array, ""]
    empirical: Float[Array, ""]
    divergence: Float[Array, ""]
    prior_variance: Float[Array, ""]
    mean: PyTree
    variance: PyTree
    status: Int[Array, ""]


def kl_inverse(q: Float[Array, "..."] | float, c: Float[Array, "..."] | float) -> Float[Array, "..."]:
    r"""The largest p with kl(q‖p) = q ln(q/p) + (1 − q) ln((1 − q)/(1 − p)) ≤ c.

    Args:
        q: within [0, 1].
        c: ≥ 0.

    Returns:
        p within [q, 1], to round-off.

    Raises:
        ValueError: arguments out of range (outside jit).

    Cost: 60 bisections and 3 Newton steps. Source: Langford and Caruana (2002), equation 2.

    >>> f"{kl_inverse(0.0, 0.1):.6f} {kl_inverse(0.1, 0.05):.6f}"
    '0.095163 0.220079'
    """
    require(holds(lambda v: (v >= 0) & (v <= 1), q), "q", q, "be within [0, 1]", "pass an error rate")
    require(holds(lambda v: v >= 0, c), "c", c, "be >= 0", "a relative entropy is not negative")
    dtype = jnp.result_type(float)
    return _kl_inverse(*jnp.broadcast_arrays(jnp.asarray(q, dtype), jnp.asarray(c, dtype)))


@jax.jit
def _kl_inverse(q: Array, c: Array) -> Array:
    def entropy(p: Array) -> Array:
        first, second = jax.scipy.special.xlogy(q, q / p), jax.scipy.special.xlogy(1 - q, (1 - q) / (1 - p))
        return first + second

    def bisect(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        inside = entropy(middle) <= c
        return jnp.where(inside, middle, ends[0]), jnp.where(inside, ends[1], middle)

    low, _ = lax.fori_loop(0, 60, bisect, (q, jnp.ones_like(q)))
    return jnp.where(c == 0, q, low)


def gaussian_posterior(
    loss: Callable[[Any, Array, Array], Array],
    wrong: Callable[[Any, Array, Array], Array],
    params: PyTree,
    prior: PyTree,
    x: Float[Array, "n ..."],
    y: Array,
    key: Key[Array, ""],
    *,
    delta: float = 0.05,
    steps: int = 500,
    rate: float = 1e-2,
    draws: int = 256,
) -> Certificate:
    r"""A bound on the error of weights drawn from a Gaussian N(w, diag s) whose mean and variances are optimized.

        kl(L̂(Q) ‖ L(Q)) ≤ (KL(Q‖P_λ) + ln(2√n/δ_λ)) / n,  P_λ = N(w₀, λI),  λ = 0.1 e^{−j/100},  δ_λ = 6δ/(π²j²)

    holds for all posteriors Q and all j at once with probability 1 − δ/2 over the sample, whatever the optimization
    did; L̂(Q) itself is bounded from `draws` samples with the other δ/2. Minimized: the surrogate loss plus
    √((KL + ln(2√n/δ_λ))/2n).

    Args:
        loss: mean surrogate loss (params, x, y), an upper bound of the 0-1 loss up to a factor; differentiable.
        wrong: mean 0-1 loss (params, x, y).
        params: w, where the posterior starts.
        prior: w₀, chosen without the sample: the initialization.
        x, y: the sample.
        key: of the noise in optimization and of the final draws.
        delta: δ, the probability that the bound fails.
        steps, rate: of Adam.
        draws: of the posterior for L̂(Q).

    Returns:
        `Certificate`; status `NOT_FINITE` where the optimization diverged.

    Raises:
        ValueError: δ outside (0, 1), params and prior of different structure.

    Cost: steps + draws passes over the sample. Source: Dziugaite and Roy (2017), section 3, with the bound of Maurer
    (2004), Theorem 5.
    """
    require(0 < delta < 1, "delta", delta, "be within (0, 1)", "0.05 for 95% confidence")
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (params, prior)]
    require(shapes[0] == shapes[1], "prior", shapes[1], f"have the shapes of params, {shapes[0]}", "the initialization")
    return _gaussian_posterior(loss, wrong, params, prior, x, y, key, delta, steps, rate, draws)


@partial(jax.jit, static_argnames=("loss", "wrong", "delta", "steps", "rate", "draws"))
def _gaussian_posterior(
    loss: Callable, wrong: Callable, params: PyTree, prior: PyTree, x: Array, y: Array, key: Array,
    delta: float, steps: int, rate: float, draws: int,
) -> Certificate:  # fmt: skip
    mean, unravel = ravel_pytree(params)
    center, _ = ravel_pytree(prior)
    fit_key, draw_key = jax.random.split(key)
    budget = partial(_complexity, center=center, samples=len(x), delta=delta)

    def objective(posterior: tuple[Array, Array, Array], key: Array) -> Array:
        w, log_s, log_lam = posterior
        noisy = w + jnp.exp(log_s / 2) * jax.random.normal(key, w.shape, w.dtype)
        return loss(unravel(noisy), x, y) + jnp.sqrt(jnp.maximum(budget(posterior, jnp.exp(log_lam))[0], 0) / 2)

    small = jnp.log(jnp.maximum(jnp.abs(mean) / 10, 1e-3)) * 2
    start = (mean, small, jnp.full((), -6.0, mean.dtype))
    fit = train(objective, start, optimizer=optax.adam(rate), steps=steps, record_every=steps, key=fit_key)
    w, log_s, log_lam = fit.params
    # Onto the grid, from below: the prior must be one of those fixed before the sample was seen.
    level = jnp.maximum(jnp.ceil(_GRID * (np.log(_SCALE) - log_lam)), 1)
    lam = _SCALE * jnp.exp(-level / _GRID)
    rate_bound, divergence = budget(fit.params, lam)

    def one(key: Array) -> Array:
        return wrong(unravel(w + jnp.exp(log_s / 2) * jax.random.normal(key, w.shape, w.dtype)), x, y)

    errors = lax.map(one, jax.random.split(draw_key, draws))
    empirical = _kl_inverse(errors.mean(), jnp.asarray(np.log(4 / delta) / draws, mean.dtype))
    bound = _kl_inverse(empirical, rate_bound)
    status = jnp.where(jnp.isfinite(bound), fit.status, jnp.int32(Status.NOT_FINITE))
    return Certificate(bound, errors.mean(), divergence, lam, unravel(w), unravel(jnp.exp(log_s)), status)


def _complexity(
    posterior: tuple[Array, Array, Array], lam: Array, *, center: Array, samples: int, delta: float
) -> tuple[Array, Array]:
    """(KL + ln(2√n/δ_λ))/n with δ_λ = 6(δ/2)/(π²j²), j = 100 ln(0.1/λ); and KL."""
    w, log_s, _ = posterior
    terms = jnp.exp(log_s) / lam - 1 + (w - center) ** 2 / lam + jnp.log(lam) - log_s
    divergence = terms.sum() / 2
    level = jnp.maximum(_GRID * (np.log(_SCALE) - jnp.log(lam)), 1)
    price = np.log(2 * np.sqrt(samples)) + jnp.log(np.pi**2 * level**2 / (3 * delta))
    return (divergence + price) / samples, divergence
