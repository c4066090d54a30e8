r"""The orthogonal greedy algorithm: shallow networks with a rate, and no training to doubt.

    g_n = argmax_{g ∈ D} |⟨f − f_{n−1}, g⟩|,   f_n = the projection of f on span{g_1, …, g_n}

over the dictionary D of ReLU^k ridge functions. For f in its convex hull the error is O(n^(−1/2 − (2k+1)/(2d))).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.checks import boundary, nonnegative, require
from jaxtheory.results import Status, finite_status, status_where


class Greedy(NamedTuple):
    """The network x ↦ Σ_i coefficients_i relu(⟨direction_i, x⟩ − offset_i)^k, and its error at every size.

    `status` is `ILL_CONDITIONED` where the atoms ran out before the error did: the coefficients of the neurons that
    were not found are 0, and the errors stay where they are.
    """

    directions: Float[Array, "neurons d"]
    offsets: Float[Array, " neurons"]
    coefficients: Float[Array, " neurons"]
    errors: Float[Array, " neurons"]
    """‖f − f_n‖ for n = 1..neurons, in L² of the weights"""
    status: Int[Array, ""]


@boundary(static=("neurons", "power"))
def fit(
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    directions: Float[Array, "u d"],
    offsets: Float[Array, " o"],
    weights: Float[Array, " n"] | None = None,
    *,
    neurons: int,
    power: int = 1,
) -> Greedy:
    r"""Orthogonal greedy approximation of y by `neurons` atoms relu(⟨u, x⟩ − t)^power of a u × o dictionary.

    Each new atom is orthogonalized twice against the orthonormal ones before it, so that the basis stays orthogonal to
    round-off and the error keeps falling where one Gram-Schmidt pass stalls. An atom that lies in their span up to
    ε^(2/3) of its size is not taken, which bounds the coefficients; none after it is.

    Args:
        x, y: points and values of f; use float64 where errors below 1e-4 ‖f‖ are wanted.
        directions: unit vectors. offsets: t, from below the smallest ⟨u, x⟩ on, so that polynomials are in the span.
        weights: of L², ≥ 0, summing to 1; uniform by default.
        neurons: atoms to choose, ≤ n. power: k ≥ 1.

    Returns:
        `Greedy`; the last error is recomputed from the network, and `status` is ILL_CONDITIONED where the two differ.

    Raises:
        ValueError: sizes that do not fit or are traced; negative weights (outside jit; NOT_FINITE inside).

    Cost: neurons · u · o · n flops for the inner products, memory n (o + neurons).
    Source: DeVore and Temlyakov (1996); Siegel and Xu (2022), Theorem 1, for the rate.

    >>> x = jnp.linspace(0, 1, 200)[:, None]
    >>> knots = jnp.linspace(-0.1, 1.0, 100)
    >>> f"{fit(x, jnp.abs(x[:, 0] - 0.3), jnp.array([[1.0], [-1.0]]), knots, neurons=20).errors[-1]:.3f}"
    '0.000'
    """
    require(len(x) == len(y), "y", y.shape, f"have one value for each of {len(x)} points", "pair them")
    require(1 <= neurons <= len(y), "neurons", neurons, f"lie in 1..{len(y)}", "use more points")
    require(power >= 1, "power", power, "be >= 1", "steps are not continuous")
    fits = directions.shape[1] == x.shape[1] and len(directions) >= 1
    require(fits, "directions", directions.shape, f"be rows of {x.shape[1]} entries, at least one", "as x")
    require(len(offsets) >= 1, "offsets", offsets.shape, "hold an offset", "pass a grid, e.g. jnp.linspace(-1, 1, 100)")
    w = jnp.full_like(y, 1 / len(y)) if weights is None else nonnegative("weights", weights, "pass those of L²")
    require(w.shape == y.shape, "weights", w.shape, f"have one entry for each of {len(y)} points", "pair them")
    return _fit(x, y, directions, offsets, w, neurons, power=power)


class _Chosen(NamedTuple):
    """What one step leaves: the atom, its inner products with the basis, the error, and whether it was taken."""

    direction: Array
    offset: Array
    row: Array
    error: Array
    taken: Array


@partial(jax.jit, static_argnames=("neurons", "power"))
def _fit(
    x: Array, y: Array, directions: Array, offsets: Array, weights: Array, neurons: int, *, power: int
) -> Greedy:  # fmt: skip
    root, scale = jnp.sqrt(weights), guarded.power_of_two(y)
    target = y / scale * root
    eps = jnp.finfo(y.dtype).eps

    def step(state: tuple[Array, Array, Array], i: Array) -> tuple[tuple[Array, Array, Array], _Chosen]:
        basis, residual, going = state
        direction, offset = _best(x, root, directions, offsets, residual, power)
        atom = _atom(x, root, direction, offset, power)
        new, share = _orthonormal(basis, atom)
        going = going & (share > eps ** (2 / 3))
        new = jnp.where(going, new, jnp.zeros_like(new))
        basis = basis.at[i].set(new)
        # against the whole basis: what rounding leaves along large atoms would be chosen again
        residual = guarded.orthogonal(basis, residual)
        row = jnp.where(going, jnp.matmul(basis, atom, precision="highest"), (jnp.arange(neurons) == i).astype(y.dtype))
        return (basis, residual, going), _Chosen(direction, offset, row, guarded.norm(residual), going)

    start = (jnp.zeros((neurons, len(y)), y.dtype) + 0 * y[None, :], target, jnp.array(True))
    (basis, _, _), chosen = jax.lax.scan(step, start, jnp.arange(neurons))
    # atom_i = Σ_j rows_ij q_j, so Σ c_i atom_i = Σ_j (rowsᵀ c)_j q_j is the projection
    products = jnp.matmul(basis, target, precision="highest")
    coefficients = jax.scipy.linalg.solve_triangular(chosen.row, products, trans=1, lower=True)
    net = Greedy(chosen.direction, chosen.offset, coefficients, chosen.error, jnp.int32(Status.OK))
    recomputed = guarded.norm(target - _evaluate(net, x, power) * root)
    round_off = 100 * eps * guarded.norm(target)
    rough = jnp.abs(recomputed - chosen.error[-1]) > 10 * round_off + 0.01 * recomputed
    short = ~chosen.taken[-1] & (chosen.error[-1] > round_off)
    errors = chosen.error.at[-1].set(recomputed) * scale
    status = finite_status((coefficients * scale, errors), status_where((rough | short, Status.ILL_CONDITIONED)))
    return net._replace(coefficients=coefficients * scale, errors=errors, status=status)


def _atom(x: Array, root: Array, direction: Array, offset: Array, power: int) -> Array:
    return jax.nn.relu(jnp.matmul(x, direction, precision="highest") - offset) ** power * root


def _best(
    x: Array, root: Array, directions: Array, offsets: Array, residual: Array, power: int
) -> tuple[Array, Array]:  # fmt: skip
    """Direction and offset of the atom with the largest inner product."""

    def along(direction: Array) -> tuple[Array, Array]:
        atoms = jax.vmap(lambda offset: _atom(x, root, direction, offset, power))(offsets)
        # not divided by ‖g‖: the theorem's rule, and at n = 64 half the error of the normalized one
        score = jnp.abs(jnp.matmul(atoms, residual, precision="highest"))
        return score.max(), score.argmax()

    scores, places = jax.lax.map(along, directions)
    chosen = scores.argmax()
    return directions[chosen], offsets[places[chosen]]


def _orthonormal(basis: Array, atom: Array) -> tuple[Array, Array]:
    """The part of the atom orthogonal to the basis, normalized, and its share of the atom."""
    part = guarded.orthogonal(basis, atom)
    size, whole = guarded.norm(part), guarded.norm(atom)
    return part / jnp.where(size > 0, size, 1), size / jnp.where(whole > 0, whole, 1)


@boundary(static=("power",))
def evaluate(net: Greedy, x: Float[Array, "n d"], *, power: int = 1) -> Float[Array, " n"]:
    """The greedy network at points x.

    Args:
        net: from `fit`. x: n points. power: k ≥ 1, that of the fit.

    Raises:
        ValueError: points of another dimension, power < 1. Cost: 2 n · neurons · d flops.

    >>> one = jnp.ones(1)
    >>> evaluate(Greedy(one[None], one, 3 * one, one, jnp.int32(0)), jnp.array([[2.0]])).tolist()
    [3.0]
    """
    dim = net.directions.shape[1]
    require(x.shape[1] == dim, "x", x.shape, f"have {dim} columns", "pass points as rows")
    require(power >= 1, "power", power, "be >= 1", "use that of the fit")
    return _evaluate(net, x, power)


def _evaluate(net: Greedy, x: Array, power: int) -> Array:
    hidden = jax.nn.relu(jnp.matmul(x, net.directions.T, precision="highest") - net.offsets[None, :]) ** power
    return jnp.matmul(hidden, net.coefficients, precision="highest")
