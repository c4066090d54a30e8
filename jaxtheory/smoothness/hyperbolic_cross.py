r"""Hyperbolic crosses: frequencies k ∈ N^d with k_1 ⋯ k_d ≤ N, the natural index set of mixed smoothness.

How many there are, and how much energy a product function has beyond them, are sums over the product's value n: the
Dirichlet convolution (a * b)(n) = Σ_{k | n} a(k) b(n/k) takes one dimension after another, exactly.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory.checks import require


class Projection(NamedTuple):
    """Samples of the projection, and the number of frequencies it keeps."""

    samples: Float[Array, "..."]
    terms: Int[Array, ""]


def size(budget: int, dim: int) -> int:
    r"""Number of k ∈ N^d with Πk_i ≤ N: Σ_{n ≤ N} τ_d(n), τ_d the ordered factorizations into d factors. Exact.

    Args: budget: N ≥ 1. dim: d ≥ 1. Raises: ValueError. Cost: O(d N log N).

    Source: Dung, Temlyakov, Ullrich (2018), section 2.3.

    >>> [size(budget, 2) for budget in (10, 100, 1000)], [size(budget, 3) for budget in (10, 100, 1000)]
    ([27, 482, 7069], [53, 1471, 29425])
    """
    _check(budget, dim)
    return int(dirichlet_power(np.ones(budget, dtype=object), dim).sum())


def _check(budget: int, dim: int) -> None:
    require(budget >= 1, "budget", budget, "be >= 1", "the frequency (1, …, 1) has product 1")
    require(dim >= 1, "dim", dim, "be >= 1", "name the number of variables")


def dirichlet_power(values: np.ndarray, dim: int) -> np.ndarray:
    """The d-fold Dirichlet convolution of a(1), …, a(N) with itself, up to N.

    >>> dirichlet_power(np.ones(6), 2).tolist()
    [1.0, 2.0, 2.0, 3.0, 2.0, 4.0]
    """
    power = values.copy()
    for _ in range(dim - 1):
        following = np.zeros_like(power)
        for k in range(1, len(values) + 1):
            following[k - 1 :: k] += values[k - 1] * power[: len(values) // k]
        power = following
    return power


def indices(budget: int, dim: int) -> Int[np.ndarray, "terms d"]:
    """All k ∈ N^d with Πk_i ≤ N, in lexicographic order.

    Raises: ValueError, as `size`. Cost: memory d · size integers.

    >>> indices(3, 2).tolist()
    [[1, 1], [1, 2], [1, 3], [2, 1], [3, 1]]
    """
    _check(budget, dim)
    rows, left = np.zeros((1, 0), int), np.array([budget])
    for _ in range(dim):
        start = np.repeat(np.cumsum(left) - left, left)
        k = np.arange(len(start)) - start + 1
        rows = np.concatenate([np.repeat(rows, left, axis=0), k[:, None]], axis=1)
        left = np.repeat(left, left) // k
    return rows


def product_error(energies: Float[np.ndarray, " frequencies"], budget: int, dim: int) -> float:
    r"""L² error of the hyperbolic-cross projection of f(x_1) ⋯ f(x_d): (E^d − Σ_{Πk ≤ N} Πe_{k_i})^{1/2}.

    Args: energies: e_k = |f̂_k|², k = 1 … K ≥ N, of all the energy E = Σe. budget: N. dim: d.

    Raises: ValueError: fewer than N energies. Cost: O(d N log N).

    >>> round(product_error(np.array([1.0, 0.25]), 1, 2), 4)
    0.75
    """
    _check(budget, dim)
    require(len(energies) >= budget, "energies", len(energies), f"number >= {budget}", "list the frequencies up to N")
    inside = dirichlet_power(np.asarray(energies[:budget], float), dim).sum()
    return float(np.sqrt(max(energies.sum() ** dim - inside, 0.0)))


@partial(jax.jit, static_argnames="budget")
def project(x: Float[Array, "..."], budget: int) -> Projection:
    """Samples on a regular grid of the torus, with only the frequencies with Π max(1, |k_i|) ≤ N left.

    Args: x: f on the grid, any dimension and sides. budget: N ≥ 1.

    Raises: ValueError: N < 1. Cost: two FFTs. Source: Dung, Temlyakov, Ullrich (2018), section 4.

    >>> int(project(jnp.zeros((8, 8)), 1).terms)
    9
    """
    require(budget >= 1, "budget", budget, "be >= 1", "1 keeps the frequencies −1, 0 and 1")
    axes = [np.maximum(1, np.abs(np.fft.fftfreq(n, 1 / n))) for n in x.shape]
    kept = jnp.asarray(np.prod(np.stack(np.meshgrid(*axes, indexing="ij")), axis=0) <= budget)
    spectrum = jnp.fft.fftn(x)
    samples = jnp.fft.ifftn(jnp.where(kept, spectrum, jnp.zeros_like(spectrum))).real
    return Projection(samples.astype(x.dtype), kept.sum())
