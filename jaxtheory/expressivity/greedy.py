r"""The orthogonal greedy algorithm: shallow networks with a rate, and no training to doubt.

    g_n = argmax_{g ∈ D} |⟨f − f_{n−1}, g⟩|,   f_n = the projection of f on span{g_1, …, g_n}

over the dictionary D of ReLU^k ridge functions. For f in its convex hull the error is O(n^(−1/2 − (2k+1)/(2d))).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import require
from jaxtheory.results import finite_status


class Greedy(NamedTuple):
    """The network x ↦ Σ_i coefficients_i relu(⟨direction_i, x⟩ − offset_i)^k, and its error at every size."""

    directions: Float[Array, "neurons d"]
    offsets: Float[Array, " neurons"]
    coefficients: Float[Array, " neurons"]
    errors: Float[Array, " neurons"]
    """‖f − f_n‖ for n = 1..neurons, in L² of the weights"""
    status: Int[Array, ""]


@partial(jax.jit, static_argnames=("neurons", "power"))
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
    round-off and the error keeps falling where one Gram-Schmidt pass stalls.

    Args:
        x, y: points and values of f; use float64 where errors below 1e-4 ‖f‖ are wanted.
        directions: unit vectors. offsets: t, from below the smallest ⟨u, x⟩ on, so that polynomials are in the span.
        weights: of L², summing to 1; uniform by default.
        neurons: atoms to choose, ≤ n. power: k ≥ 1.

    Returns:
        `Greedy`; `status` is NOT_FINITE if the atoms ran out.

    Raises: ValueError: sizes that make no sense.

    Cost: neurons · u · o · n flops for the inner products, memory n (o + neurons).
    Source: DeVore and Temlyakov (1996); Siegel and Xu (2022), Theorem 1, for the rate.

    >>> x = jnp.linspace(0, 1, 200)[:, None]
    >>> knots = jnp.linspace(-0.1, 1.0, 100)
    >>> f"{fit(x, jnp.abs(x[:, 0] - 0.3), jnp.array([[1.0], [-1.0]]), knots, neurons=20).errors[-1]:.3f}"
    '0.000'
    """
    require(1 <= neurons <= len(y), "neurons", neurons, f"lie in 1..{len(y)}", "use more points")
    require(power >= 1, "power", power, "be >= 1", "steps are not continuous")
    w = jnp.full_like(y, 1 / len(y)) if weights is None else weights
    root = jnp.sqrt(w)

    def step(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        basis, residual = state
        direction, offset = _best(x, root, directions, offsets, residual, power)
        atom = _atom(x, root, direction, offset, power)
        new = _orthonormal(basis, atom)
        basis = basis.at[i].set(new)
        residual = residual - jnp.dot(new, residual, precision="highest") * new
        row = jnp.matmul(basis, atom, precision="highest")
        return (basis, residual), (direction, offset, row, jnp.linalg.norm(residual))

    start = (jnp.zeros((neurons, len(y)), y.dtype) + 0 * y[None, :], y * root)
    (basis, _), (us, ts, rows, errors) = jax.lax.scan(step, start, jnp.arange(neurons))
    # atom_i = Σ_j rows_ij q_j, so Σ c_i atom_i = Σ_j (rowsᵀ c)_j q_j is the projection
    target = jnp.matmul(basis, y * root, precision="highest")
    coefficients = jax.scipy.linalg.solve_triangular(rows, target, trans=1, lower=True)
    return Greedy(us, ts, coefficients, errors, finite_status((coefficients, errors)))


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


def _orthonormal(basis: Array, atom: Array) -> Array:
    """The atom's part orthogonal to the basis, normalized; twice is enough (Kahan, Parlett)."""
    for _ in range(2):
        atom = atom - jnp.matmul(jnp.matmul(basis, atom, precision="highest"), basis, precision="highest")
    return atom / jnp.linalg.norm(atom)


def evaluate(net: Greedy, x: Float[Array, "n d"], *, power: int = 1) -> Float[Array, " n"]:
    """The greedy network at points x.

    >>> one = jnp.ones(1)
    >>> evaluate(Greedy(one[None], one, 3 * one, one, jnp.int32(0)), jnp.array([[2.0]])).tolist()
    [3.0]
    """
    hidden = jax.nn.relu(jnp.matmul(x, net.directions.T, precision="highest") - net.offsets[None, :]) ** power
    return jnp.matmul(hidden, net.coefficients, precision="highest")
