"""Optimal transport between unequal weights as a linear program, on the host, and a plan rebuilt from its basis.

The optimal basis is a spanning tree of the graph of pairs. Given the tree, masses and potentials are linear in weights
and costs, with coefficients −1, 0 and 1, so that the answer is differentiable and does not depend on the solver's
tolerances.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.guarded import power_of_two
from jaxtheory.results import Status, status_where
from jaxtheory.transport.costs import Transport, distance_power, power, squared_distances, vanished, weighted_sum


class _Tree(NamedTuple):
    """Rows and columns of the n + m − 1 pairs of a spanning tree, and the potentials' coefficients in their costs."""

    rows: Int[Array, " t"]
    columns: Int[Array, " t"]
    inverse: Float[Array, "k t"]


@jax.jit
def weighted_cost(x: Array, y: Array, p: Array, a: Array, b: Array) -> Transport:
    """The transport between normalized masses by the optimal tree, with the gap to a feasible dual."""
    unit = power_of_two(jnp.concatenate([x, y]))
    held = jax.lax.stop_gradient((x / unit, y / unit, p, a, b))
    costs = power(squared_distances(*held[:2]), held[2] / 2)
    tree = _tree(costs, *held[3:])
    rows, columns, inverse = tree
    pairs = distance_power(x[rows] - y[columns], p)
    # M c are potentials tight on the tree; Mᵀ (a, b) are the masses that its pairs carry
    plan = jnp.matmul(jnp.concatenate([a, b]), inverse, precision="highest")
    cost = weighted_sum(plan, pairs)
    residual = jax.lax.stop_gradient(_gap(costs, tree, *held[3:], plan))
    limit = 100 * len(pairs) ** 0.5 * float(jnp.finfo(cost.dtype).eps)
    lost = ~(jnp.isfinite(cost) & jnp.isfinite(residual))
    small = vanished(cost, jnp.any((x[rows] != y[columns]) & (plan > limit)[:, None]))
    faults = (lost, Status.NOT_FINITE), (~(residual <= limit), Status.NOT_CONVERGED), small
    return Transport(cost, residual, status_where(*faults))


def _gap(costs: Array, tree: _Tree, a: Array, b: Array, plan: Array) -> Float[Array, ""]:
    """The duality gap over the cost, and the mass below 0 of the plan, at potentials made feasible."""
    rows, columns, inverse = tree
    tight = costs[rows, columns]
    potentials = jnp.matmul(inverse, tight, precision="highest")
    u, v = potentials[: len(a)], potentials[len(a) :]
    violation = jnp.maximum((u[:, None] + v[None] - costs).max(1), 0.0)
    cost, gap = weighted_sum(plan, tight), weighted_sum(a, violation)
    below = -jnp.minimum(plan, 0.0).sum()
    return jnp.where(gap > 0, gap / jnp.where(cost > 0, cost, jnp.ones_like(cost)), gap) + below


def _tree(costs: Array, a: Array, b: Array) -> _Tree:
    """The tree of an optimal plan."""
    n, m = costs.shape
    pairs = jax.ShapeDtypeStruct((n + m - 1,), jnp.int32)
    inverse = jax.ShapeDtypeStruct((n + m, n + m - 1), costs.dtype)
    return _Tree(*jax.pure_callback(_solved, (pairs, pairs, inverse), costs, a, b, vmap_method="sequential"))


def _solved(*arguments: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    costs, a, b = (np.asarray(argument, np.float64) for argument in arguments)
    n, m = costs.shape
    usable = all(np.isfinite(values).all() for values in (costs, a, b))
    plan, slack = _optimum(costs, a, b) if usable else (np.zeros_like(costs), np.zeros_like(costs))
    rows, columns = _spanning(plan, slack)
    incidence = np.zeros((n + m, n + m))
    pair = np.arange(n + m - 1)
    incidence[pair, rows] = incidence[pair, n + columns] = 1
    incidence[-1, 0] = 1  # the first potential is 0
    inverse = np.round(np.linalg.inv(incidence))[:, :-1]
    return rows.astype(np.int32), columns.astype(np.int32), inverse.astype(arguments[0].dtype)


def _optimum(costs: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An optimal basic plan and the slack c − u − v of its dual, by the simplex method of HiGHS."""
    import scipy.optimize  # a quarter of a second to import, and only this needs it
    import scipy.sparse

    n, m = costs.shape
    first = scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m)))
    second = scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m))
    scale = max(costs.max(), np.finfo(float).tiny)
    masses = np.concatenate([a / a.sum(), b / b.sum()]) * max(n, m)  # of order one, for the solver's tolerances
    found = scipy.optimize.linprog(
        costs.ravel() / scale, A_eq=scipy.sparse.vstack([first, second]).tocsr(), b_eq=masses, method="highs-ds"
    )
    if found.x is None:
        return np.zeros_like(costs), np.zeros_like(costs)
    u, v = found.eqlin.marginals[:n], found.eqlin.marginals[n:]
    return found.x.reshape(n, m), costs / scale - u[:, None] - v[None]


def _spanning(plan: np.ndarray, slack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A spanning tree of the pairs that carry mass, completed by the tightest others."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    n, m = plan.shape
    weights = np.where(plan > 1e-9, 1.0, 2.0 + np.maximum(slack, 0.0))
    rows, columns = np.indices((n, m)).reshape(2, -1)
    graph = coo_matrix((weights.ravel(), (rows, n + columns)), shape=(n + m, n + m))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    return np.minimum(tree.row, tree.col), np.maximum(tree.row, tree.col) - n
