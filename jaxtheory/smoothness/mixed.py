r"""Mixed smoothness in tensor wavelets, up to dimension 10: norms, points of the ball, and errors in closed form.

Blocks j ∈ N_0^d hold the 2^{|j|_1} coefficients of ψ_{j_1 k_1} ⊗ … ⊗ ψ_{j_d k_d}, flat and in the order of
`sparse_grid.blocks(levels, dim)`, all blocks with |j|_1 < levels:

    ‖β‖ = (Σ_j [2^{|j|_1 (s + 1/2 − 1/p)} ‖β_j‖_p]^q)^{1/q}.
"""

import functools
import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, host_numbers, require
from jaxtheory.smoothness import sparse_grid
from jaxtheory.smoothness.besov import Kind, block_norms, check_exponents, level_weights, lp_norm, unit_blocks
from jaxtheory.smoothness.dyadic_cells import require_dim


class Errors(NamedTuple):
    """Numbers of terms, and L² errors of the projections that keep them."""

    terms: np.ndarray
    errors: np.ndarray


@boundary(static=("s", "p", "q", "levels", "dim"))
@partial(jax.jit, static_argnames=("s", "p", "q", "levels", "dim"))
def norm(values: Float[Array, " terms"], s: float, p: float, q: float, *, levels: int, dim: int) -> Float[Array, ""]:
    """The norm of MB^s_{p,q} of flat coefficients, the equation above.

    Args:
        values: [sparse_grid.size(levels, dim)]. s: smoothness. p, q: in (0, ∞]. levels, dim: ≥ 1.

    Raises:
        ValueError: exponents out of range or traced, weights beyond the dtype, another number of values.

    Cost: one pass. Derivatives as those of `besov.norm`.

    Source: Dung, Temlyakov, Ullrich (2018), section 3.3; Suzuki (2019), section 3.2 (m-Besov).

    >>> f"{norm(jnp.ones(5), 1.0, 2.0, 2.0, levels=2, dim=2):.4f}"
    '4.1231'
    """
    check_exponents(p, q)
    total = sparse_grid.size(levels, dim)
    require(len(values) == total, "values", len(values), f"number {total}", "order them as sparse_grid.blocks does")
    counts, weights = _blocks(s, p, levels, dim, values.dtype)
    return lp_norm(block_norms(values, counts, p) * jnp.asarray(weights, values.dtype), q)


def _blocks(s: float, p: float, levels: int, dim: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Size and weight of each block."""
    require(math.isfinite(s), "s", s, "be finite", "pass a smoothness, e.g. s=1.0")
    totals = sparse_grid.blocks(levels, dim)[0].sum(axis=1)
    return 2**totals, level_weights(totals * (s + 0.5 - 1 / p), s, dtype)


@boundary(static=("s", "p", "q", "levels", "dim"))
@partial(jax.jit, static_argnames=("s", "p", "q", "levels", "dim", "kind", "dtype"))
def sample(
    key: Key[Array, ""],
    s: float,
    p: float,
    q: float,
    levels: int,
    dim: int,
    *,
    kind: Kind = "gaussian",
    dtype: Any = jnp.float32,
) -> Float[Array, " terms"]:
    """A random point of the unit sphere of MB^s_{p,q}: each block as a level of `besov.sample`, all of one norm.

    Args:
        key, s, p, q: as in `besov.sample`. levels, dim: ≥ 1. kind: as there. dtype: of the coefficients.

    Raises:
        ValueError: exponents, levels, dim or kind out of range; traced ones. Cost: one draw a coefficient.

    Source: Dung, Temlyakov, Ullrich (2018), section 7.2 (extremal functions of lower bounds).

    >>> f"{norm(sample(jax.random.key(0), 1.0, 2.0, 2.0, 3, 2), 1.0, 2.0, 2.0, levels=3, dim=2):.4f}"
    '1.0000'
    """
    check_exponents(p, q)
    require(levels >= 1, "levels", levels, "be >= 1", "draw at least one block")
    counts, weights = _blocks(s, p, levels, dim, dtype)
    return unit_blocks(key, counts, p, kind, dtype, np.log2(weights) + np.log2(len(counts)) / q)


@boundary(static=("levels", "dim"))
def cross_errors(energies: Any, levels: int, dim: int) -> Errors:
    r"""Errors of the hyperbolic-cross projections of f(x_1) ⋯ f(x_d) onto |j|_1 < n, n = 1 … levels.

    The energy at |j|_1 = k is the k-th entry of the d-fold convolution power of the 1-D energies, so no dimension is
    too large.

    Args:
        energies: e_j = ‖β_j‖² ≥ 0 of f at levels 0 … J − 1; what is beyond counts as 0. levels: ≤ J − 1. dim: d ≥ 1.

    Raises:
        ValueError: more levels than energies, negative energies. Cost: d convolutions on the host, in float64.

    >>> cross_errors(np.array([1.0, 0.25, 0.0625]), 2, 2).errors.round(4).tolist()
    [0.8501, 0.4719]
    """
    e, unit = _energies(energies, levels, dim)
    total = functools.reduce(np.convolve, [e] * dim)
    tails = np.cumsum(total[::-1])[::-1]
    sizes = [sparse_grid.size(n, dim) for n in range(1, levels + 1)]
    return Errors(np.array(sizes, float), np.sqrt(tails[1 : levels + 1]) * unit ** (dim / 2))


@boundary(static=("levels", "dim"))
def isotropic_errors(energies: Any, levels: int, dim: int) -> Errors:
    r"""Errors of the full-grid projections onto max_i j_i < n: (E^d − E_{<n}^d)^{1/2} with (2^n − 1)^d terms.

    Args:
        energies, levels, dim: as in `cross_errors`.

    Raises:
        ValueError: as there. Cost: O(J).

    >>> isotropic_errors(np.array([1.0, 0.25, 0.0625]), 2, 2).terms.tolist()
    [1.0, 9.0]
    """
    e, unit = _energies(energies, levels, dim)
    share = np.cumsum(e[::-1])[::-1][1 : levels + 1] / max(e.sum(), 1e-300)
    # 1 − (1 − x)^d, also where a share is 1
    left = np.where(share < 1, -np.expm1(dim * np.log1p(-np.where(share < 1, share, 0.0))), 1.0)
    return Errors((2.0 ** np.arange(1, levels + 1) - 1) ** dim, np.sqrt(e.sum() ** dim * left) * unit ** (dim / 2))


def _energies(energies: Any, levels: int, dim: int) -> tuple[np.ndarray, float]:
    """Energies over the largest, and that one."""
    require_dim(dim)
    e = host_numbers("energies", energies, axes=1)
    enough = 1 <= levels < len(e)
    require(enough, "levels", levels, f"lie in 1..{len(e) - 1}", "give the energies of finer levels too")
    valid = bool(((e >= 0) & (e < np.inf)).all())
    require(valid, "energies", energies, "be >= 0 and finite", "pass squares of coefficients")
    unit = float(e.max()) if e.max() > 0 else 1.0
    return e / unit, unit


@boundary(static=("dim", "s", "u"))
def effective_terms(terms: Any, dim: int, *, s: float = 1.0, u: float = 0.0) -> np.ndarray:
    r"""N/(log N)^{(d−1)(s+u)/s}: the error of mixed smoothness s is this to the power −s, N^{−s}(log N)^{(d−1)(s+u)}.

    Fitting a power law in N alone "refutes" the theorem in every dimension above 1. u = (1/2 − 1/q)_+ for L² errors of
    the ball of MB^s_{2,q}.

    Args:
        terms: N > 1. dim: d ≥ 1. s: > 0. u: ≥ 0.

    Raises:
        ValueError: N ≤ 1, which has no logarithm to divide by; numbers out of range.

    Source: Temlyakov (1993), chapter III; Dung, Temlyakov, Ullrich (2018), Theorem 4.3.1.

    >>> effective_terms(np.array([np.e**2]), 2).round(4).tolist()
    [3.6945]
    """
    sizes = host_numbers("terms", terms)
    require(bool((sizes > 1).all()), "terms", terms, "be > 1", "drop the first sizes")
    for name, value, least, strict in (("dim", dim, 1, False), ("s", s, 0, True), ("u", u, 0, False)):
        fits = value > least if strict else value >= least
        require(fits, name, value, f"be {'>' if strict else '>='} {least}", "see the equation above")
    return sizes / np.log(sizes) ** ((dim - 1) * (s + u) / s)
