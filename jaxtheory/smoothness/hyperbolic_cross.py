r"""Hyperbolic crosses: frequencies k ∈ N^d with k_1 ⋯ k_d ≤ N, the natural index set of mixed smoothness.

How many there are, and how much energy a product function has beyond them, are sums over the product's value n: the
Dirichlet convolution (a * b)(n) = Σ_{k | n} a(k) b(n/k) takes one dimension after another, exactly.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxtheory import guarded
from jaxtheory.checks import boundary, host_numbers, require
from jaxtheory.smoothness.dyadic_cells import require_dim


class Projection(NamedTuple):
    """Samples of the projection, and the number of frequencies it keeps."""

    samples: Float[Array, "..."]
    terms: Int[Array, ""]


@boundary(static=("budget", "dim"))
def size(budget: int, dim: int) -> int:
    r"""Number of k ∈ N^d with Πk_i ≤ N: Σ_{n ≤ N} τ_d(n), τ_d the ordered factorizations into d factors. Exact.

    Args:
        budget: N ≥ 1. dim: d ≥ 1.

    Raises:
        ValueError: N or d below 1. Cost: O(d N log N).

    Source: Dung, Temlyakov, Ullrich (2018), section 2.3.

    >>> [size(budget, 2) for budget in (10, 100, 1000)], [size(budget, 3) for budget in (10, 100, 1000)]
    ([27, 482, 7069], [53, 1471, 29425])
    """
    _require_cross(budget, dim)
    return int(dirichlet_power(np.ones(budget, dtype=object), dim).sum())


def _require_cross(budget: int, dim: int) -> None:
    require(budget >= 1, "budget", budget, "be >= 1", "the frequency (1, …, 1) has product 1")
    require_dim(dim)


@boundary(static=("dim",))
def dirichlet_power(values: Any, dim: int) -> np.ndarray:
    """The d-fold Dirichlet convolution of a(1), …, a(N) with itself, up to N.

    Args:
        values: a(1), …, a(N), as floats, or Python integers in an object array, for which the result is exact.
        dim: d ≥ 1.

    Raises:
        ValueError: d < 1. Cost: O(d N log N) on the host.

    >>> dirichlet_power(np.ones(6), 2).tolist()
    [1.0, 2.0, 2.0, 3.0, 2.0, 4.0]
    """
    require_dim(dim)
    exact = isinstance(values, np.ndarray) and values.dtype == object and all(isinstance(a, int) for a in values.flat)
    first = values if exact else host_numbers("values", values, axes=1)
    power = first.copy()
    for _ in range(dim - 1):
        following = np.zeros_like(power)
        for k in range(1, len(first) + 1):
            following[k - 1 :: k] += first[k - 1] * power[: len(first) // k]
        power = following
    return power


@boundary(static=("budget", "dim"))
def indices(budget: int, dim: int) -> Int[np.ndarray, "terms d"]:
    """All k ∈ N^d with Πk_i ≤ N, in lexicographic order.

    Args:
        budget: N ≥ 1. dim: d ≥ 1.

    Raises:
        ValueError: N or d below 1. Cost: memory d · size integers.

    >>> indices(3, 2).tolist()
    [[1, 1], [1, 2], [1, 3], [2, 1], [3, 1]]
    """
    _require_cross(budget, dim)
    rows, left = np.zeros((1, 0), int), np.array([budget])
    for _ in range(dim):
        start = np.repeat(np.cumsum(left) - left, left)
        k = np.arange(len(start)) - start + 1
        rows = np.concatenate([np.repeat(rows, left, axis=0), k[:, None]], axis=1)
        left = np.repeat(left, left) // k
    return rows


@boundary(static=("budget", "dim"))
def product_error(energies: Any, budget: int, dim: int) -> float:
    r"""L² error of the hyperbolic-cross projection of f(x_1) ⋯ f(x_d): (E^d − Σ_{Πk ≤ N} Πe_{k_i})^{1/2}.

    Summed over what is beyond the cross, T_d(m) = E^{d−1} Σ_{k>m} e_k + Σ_{k≤m} e_k T_{d−1}(⌊m/k⌋), so that small
    errors keep their digits.

    Args:
        energies: e_k = |f̂_k|² ≥ 0, k = 1 … K ≥ N, of all the energy E = Σe. budget: N. dim: d.

    Raises:
        ValueError: fewer than N energies, or negative ones. Cost: O(d N log N) on the host, in float64.

    >>> round(product_error(np.array([1.0, 0.25]), 1, 2), 4)
    0.75
    """
    _require_cross(budget, dim)
    e = host_numbers("energies", energies, axes=1)
    require(len(e) >= budget, "energies", len(e), f"number >= {budget}", "list the frequencies up to N")
    valid = bool(((e >= 0) & (e < np.inf)).all())
    require(valid, "energies", energies, "be >= 0 and finite", "pass squares of coefficients")
    unit = e.max() if e.max() > 0 else 1.0
    beyond = np.append(np.cumsum((e / unit)[::-1])[::-1], 0.0)  # entry m sums the frequencies k > m
    reach = sorted({budget // k for k in range(1, budget + 1)})
    left = beyond[: budget + 1].copy()
    for d in range(1, dim):
        following = left.copy()
        for m in reach:
            following[m] = beyond[0] ** d * beyond[m] + (e[:m] / unit) @ left[m // np.arange(1, m + 1)]
        left = following
    return float(np.sqrt(left[budget]) * unit ** (dim / 2))


@boundary(static=("budget",))
@partial(jax.jit, static_argnames="budget")
def project(x: Float[Array, "..."], budget: int) -> Projection:
    """Samples on a regular grid of the torus, with only the frequencies with Π max(1, |k_i|) ≤ N left.

    Args:
        x: f on the grid, any dimension d ≥ 1 and sides. budget: N ≥ 1.

    Raises:
        ValueError: N < 1, or no samples. Cost: two FFTs. Source: Dung, Temlyakov, Ullrich (2018), section 4.

    >>> int(project(jnp.zeros((8, 8)), 1).terms)
    9
    """
    require(budget >= 1, "budget", budget, "be >= 1", "1 keeps the frequencies −1, 0 and 1")
    require(x.ndim >= 1 and x.size >= 1, "x", x.shape, "hold samples on a grid", "pass an array of samples")
    axes = [np.maximum(1, np.abs(np.fft.fftfreq(n, 1 / n))) for n in x.shape]
    kept = jnp.asarray(np.prod(np.stack(np.meshgrid(*axes, indexing="ij")), axis=0) <= budget)
    unit = guarded.power_of_two(x)
    spectrum = jnp.fft.fftn(x / unit)
    samples = jnp.fft.ifftn(jnp.where(kept, spectrum, jnp.zeros_like(spectrum))).real
    finite = jnp.isfinite(x).all()  # what is left out must not hide it
    return Projection(jnp.where(finite, samples.astype(x.dtype) * unit, jnp.nan), kept.sum())
