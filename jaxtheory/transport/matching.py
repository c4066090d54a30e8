"""Exact transport between clouds: matching of equal weights, with a certificate made from the matching alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, constrain, holds, known, positive, require
from jaxtheory.guarded import power_of_two
from jaxtheory.results import Status, status_where
from jaxtheory.transport.costs import Number, Transport, distance_power, power, squared_distances, uniform, vanished
from jaxtheory.transport.line import together
from jaxtheory.transport.program import weighted_cost


@boundary
def exact(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    p: Number = 2.0,
    *,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
) -> Transport:
    r"""Exact W_p^p between two weighted clouds, certified by a dual.

        W_p^p = min_P Σ_ij P_ij |x_i − y_j|^p   over P ≥ 0 with P1 = a, Pᵀ1 = b

    As many points of equal weights on both sides are matched by the Hungarian algorithm on the device. Otherwise HiGHS
    (scipy) solves the linear program on the host, by a callback inside `jit`, and the plan is rebuilt from its basis.

    Args:
        x, y: n and m points. p: > 0, of the Euclidean distance. x_weights, y_weights: a and b, ≥ 0, normalized here;
            equal by default.

    Returns:
        `Transport`; residual is the duality gap over the cost, from potentials that are feasible by construction and
        recomputed from the assignment or basis alone. Status NOT_CONVERGED where it exceeds 100 √n eps (n + m − 1 for n
        with weights), ILL_CONDITIONED where the cost is too small for its dtype.

    Raises:
        ValueError: negative weights, weights of another length (values inside `jit`: NOT_FINITE); p ≤ 0.

    Distances come from differences, so that a common shift costs no digits beyond those that it takes from the points.
    Derivatives are those at a fixed set of pairs, in points, p and given weights; at a coincident pair they are
    0 for p ≤ 1, where the distance has a kink, and the second derivative is infinite for 1 < p < 2, and given as 0.
    Cost: a matching is O(n³) sequential: .03 s at n = 256, .2 s at 512 on one CPU core; n² memory. A program takes
    seconds at 300 points, and n m + (n + m)² numbers.
    Source: Kuhn (1955), the assignment is optax's; Huangfu, Hall (2018), HiGHS. Duality: Villani (2003), theorem 1.3.

    >>> f"{exact(jnp.array([[0.0], [1.0]]), jnp.array([[3.0], [2.0]])).cost:.1f}"
    '4.0'
    >>> f"{exact(jnp.array([[0.0], [1.0]]), jnp.array([[3.0]]), x_weights=jnp.array([1.0, 3.0])).cost:.2f}"
    '5.25'
    """
    x, y, a, b = together(x, y, x_weights, y_weights)
    p = jnp.asarray(positive("p", p, "use p=1.0 or p=2.0"), x.dtype)
    if len(x) == len(y) and all(w is None or (known(w) and holds(_equal, w)) for w in (a, b)):
        return matched_cost(x, y, p)
    a, b = (uniform(len(points), x.dtype) if w is None else w for points, w in ((x, a), (y, b)))
    return weighted_cost(x, y, p, a, b)


def _equal(masses: Any) -> Any:
    return abs(masses * len(masses) - 1) < 4 * np.finfo(masses.dtype).eps * len(masses)


@jax.jit
def matched_cost(x: Array, y: Array, p: Array) -> Transport:
    """The transport of equally many points of equal mass, by the best pairing."""
    unit = power_of_two(jnp.concatenate([x, y]))
    held = jax.lax.stop_gradient((x / unit, y / unit, p))
    costs = power(squared_distances(*held[:2]), held[2] / 2)
    partners = _assigned(costs)
    _, residual, status = certified(costs, partners)
    pairs = distance_power(x - y[partners], p)
    cost = pairs.mean()
    small = vanished(cost, jnp.any(x != y[partners]))
    return Transport(cost, residual, status_where((~jnp.isfinite(cost), Status.NOT_FINITE), *_passed_on(status), small))


def _passed_on(status: Array) -> list[tuple[Array, Status]]:
    return [(status == code, code) for code in (Status.NOT_FINITE, Status.NOT_CONVERGED)]


def _assigned(costs: Array) -> Array:
    """Column of each row in an assignment of least cost."""
    from optax.assignment import hungarian_algorithm  # half a second to import, and only this needs it

    # what is not finite would keep the search from ending
    finite = jnp.where(jnp.isfinite(costs).all(), costs, jnp.zeros_like(costs))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # optax mixes both
        rows, columns = hungarian_algorithm(finite)
    return jnp.zeros_like(columns).at[rows].set(columns)


@boundary
def certified(costs: Float[Array, "n n"], partners: Int[Array, " n"]) -> Transport:
    r"""The mean cost of an assignment, with the gap to a dual bound found from the assignment alone.

    Shortest paths in the graph of exchanges (Bellman-Ford) give potentials v; u_i = min_j (c_ij − v_j) makes the pair
    feasible, so the mean of u + v bounds every assignment from below, whatever the paths did. The gap is the mean
    slack of the matched pairs, c_iσ(i) − v_σ(i) − u_i ≥ 0.

    Args:
        costs: c ≥ 0, [n, n]. partners: the column σ(i) of each row.

    Returns:
        `Transport`; residual is the gap over the mean cost of the assignment, with NOT_CONVERGED above 100 √n eps;
        infinite, with NOT_FINITE, where `partners` is not a permutation.

    Raises:
        ValueError: shapes that do not fit; negative costs (NaN inside `jit`).

    Cost: at most n rounds of n² operations. Source: Villani (2003), theorem 1.3.

    >>> certified(jnp.array([[0.0, 1.0], [1.0, 0.0]]), jnp.array([1, 0])).status == Status.NOT_CONVERGED
    Array(True, dtype=bool)
    """
    count = len(partners)
    require(
        costs.shape == (count, count), "costs", costs.shape, f"have shape {(count, count)}", "pass one partner a row"
    )
    require(count >= 1, "partners", partners.shape, "hold at least one pair", "pass points")
    hint = "pass distances"
    return _certified(constrain("costs", costs, lambda c: c >= 0, "be >= 0", hint), partners)


@jax.jit
def _certified(costs: Array, partners: Array) -> Transport:
    count = len(partners)
    matched = costs[:, partners]  # column k is now the partner of row k
    own = jnp.diagonal(matched)

    def slack(v: Array) -> Array:
        return (own - v)[:, None] - (matched - v[None])

    def shorter(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        v, _, rounds = state
        better = v - jnp.maximum(slack(v).max(0), 0.0)
        return better, (better < v).any(), rounds + 1

    start = (jnp.zeros_like(own), jnp.array(True), jnp.int32(0))
    v, _, _ = jax.lax.while_loop(lambda state: state[1] & (state[2] < count), shorter, start)
    gap, cost = jnp.maximum(slack(v).max(1), 0.0).mean(), own.mean()
    residual = jnp.where(gap > 0, gap / jnp.where(cost > 0, cost, jnp.ones_like(cost)), gap)
    permutation = (jnp.zeros(count, jnp.int32).at[partners].add(1) == 1).all()
    residual = jnp.where(permutation, residual, jnp.inf)
    lost = ~(jnp.isfinite(cost) & jnp.isfinite(residual))
    limit = 100 * count**0.5 * float(jnp.finfo(costs.dtype).eps)
    return Transport(
        cost, residual, status_where((lost, Status.NOT_FINITE), (~(residual <= limit), Status.NOT_CONVERGED))
    )
