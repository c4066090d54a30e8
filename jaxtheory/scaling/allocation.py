"""How to spend a budget of compute by a fitted scaling law."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, positive
from jaxtheory.results import Status, finite_status
from jaxtheory.scaling.law import Coefficients, ScalingLaw, interval


class Spending(NamedTuple):
    """Parameters and tokens for each budget, and the loss that the law gives them."""

    params: Float[Array, "..."]
    tokens: Float[Array, "..."]
    loss: Float[Array, "..."]


class Allocation(NamedTuple):
    """The best spending of each budget [budgets], and the ends of its bootstrap intervals."""

    estimate: Spending
    low: Spending
    high: Spending
    status: Int[Array, ""]


@boundary
def allocate(
    law: ScalingLaw,
    compute: Float[Array, " budgets"],
    *,
    cost: float | Float[Array, ""] = 6.0,
    level: float | Float[Array, ""] = 0.95,
) -> Allocation:
    r"""Parameters and tokens of least loss for each budget C = `cost` · N · D, with bootstrap intervals.

        N = G (C/cost)^(β/(α + β)),   D = (C/cost)^(α/(α + β)) / G,   G = (αA/(βB))^(1/(α + β))

    where A α N^(−α) = B β D^(−β). The intervals are percentiles over the resampled fits of the law.

    Args:
        law: from `fit_scaling_law`.
        compute: C > 0; 6 N D counts the operations of a transformer.
        cost: operations per parameter and token > 0. level: of the intervals, in (0, 1).

    Returns:
        `Allocation`; its status is that of the law, or NOT_FINITE.

    Raises:
        ValueError: numbers that are not positive and finite (INVALID_INPUT inside `jit`).

    Cost: O(budgets · resamples). Source: Hoffmann et al. (2022), equation 4.

    >>> from jaxtheory.scaling import fit_scaling_law
    >>> n, d = (axis.ravel() for axis in jnp.meshgrid(jnp.geomspace(1e7, 1e10, 7), jnp.geomspace(1e9, 1e12, 7)))
    >>> law = fit_scaling_law(n, d, 1.8 + 500 / n**0.35 + 500 / d**0.35, key=jax.random.key(0), resamples=100)
    >>> best = allocate(law, jnp.array([6e20])).estimate
    >>> f"{best.params[0]:.1e} {best.tokens[0]:.1e}"
    '1.0e+10 1.0e+10'
    """
    dtype = jnp.promote_types(compute.dtype, law.objective.dtype)
    compute = positive("compute", compute, "pass the number of operations").astype(dtype)
    cost = jnp.asarray(positive("cost", cost, "e.g. cost=6.0"), dtype)
    level = constrain("level", level, lambda q: (q > 0) & (q < 1), "lie in (0, 1)", "e.g. level=0.95")
    law = jax.tree.map(lambda v: v.astype(dtype) if jnp.issubdtype(v.dtype, jnp.floating) else v, law)
    return _allocate(law, compute, cost, jnp.asarray(level, dtype))


@jax.jit
def _allocate(law: ScalingLaw, compute: Array, cost: Array, level: Array) -> Allocation:
    budget = jnp.log(compute) - jnp.log(cost)

    def spend(by: Coefficients) -> Spending:
        a, b = jnp.log(by.params_scale), jnp.log(by.tokens_scale)
        alpha, beta = by.params_exponent, by.tokens_exponent
        balance = (jnp.log(alpha) + a - jnp.log(beta) - b) / (alpha + beta)
        n = balance + budget * (beta / (alpha + beta))
        d = budget - n
        return Spending(jnp.exp(n), jnp.exp(d), by.floor + jnp.exp(a - alpha * n) + jnp.exp(b - beta * d))

    estimate, samples = spend(law.estimate), jax.vmap(spend)(law.samples)
    low, high = interval(samples, level)
    valid = ~jnp.isnan(jnp.append(compute, jnp.stack([cost, level]))).any()
    estimate, low, high = jax.tree.map(lambda value: jnp.where(valid, value, jnp.nan), (estimate, low, high))
    status = finite_status((estimate, low, high), law.status)
    return Allocation(estimate, low, high, jnp.where(valid, status, jnp.int32(Status.INVALID_INPUT)))
