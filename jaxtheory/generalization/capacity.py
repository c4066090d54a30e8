r"""Capacities that do not look at the weights: VC dimension of ReLU networks, Rademacher complexity of kernel balls.

>>> import jax, jax.numpy as jnp
>>> vc_dimension([2, 3, 1]) > 13
True
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from jaxtheory.checks import holds, require
from jaxtheory.results import standard_error

_ENUMERABLE = 16  # points whose 2^15 sign vectors are all tried
_BLOCK = 1024


class Rademacher(NamedTuple):
    """The complexity, its standard error (0 where exact), and the interval that theory puts it in."""

    value: Float[Array, ""]
    standard_error: Float[Array, ""]
    lower: Float[Array, ""]
    upper: Float[Array, ""]


def vc_dimension(layer_sizes: Sequence[int]) -> float:
    r"""Upper bound on the VC dimension of fully connected ReLU networks with biases and one sign output.

        L + L̄ W log₂(4eR log₂(2eR)),  W = Σ (d_{i−1} + 1) d_i,  L̄ = (1/W) Σ_i W_i,  R = Σ i d_i

    with W_i the number of parameters up to layer i, layers counted from 1 to L.

    Args:
        layer_sizes: d_0 (inputs), d_1, …, d_L.

    Raises:
        ValueError: fewer than two sizes, or a size < 1.

    Source: Bartlett, Harvey, Liaw, Mehrabian (2019), Theorem 7, with one breakpoint.

    >>> f"{vc_dimension([2, 3, 1]):.3f}"
    '178.374'
    """
    _check_sizes(layer_sizes)
    cumulative, units = _counts(layer_sizes)
    depth = len(units)
    r = sum((i + 1) * k for i, k in enumerate(units))
    return float(depth + cumulative.sum() * np.log2(4 * np.e * r * np.log2(2 * np.e * r)))


def log_growth(layer_sizes: Sequence[int], samples: int) -> float:
    r"""ln of how many ways a network of K = d_L classes can be right or wrong on m points: the decisions are signs of
    the K(K−1)/2 differences of its outputs, polynomials of degree i in the W_i parameters up to layer i on each piece.

        ln Π ≤ Σ_i min{ m k_i ln 2,  ln 2 + W_i ln(2e m k_i i / W_i) },  k_L = K(K − 1)/2

    Args:
        layer_sizes: d_0, …, d_L = K ≥ 2.
        samples: m.

    Source: Bartlett, Harvey, Liaw, Mehrabian (2019), proof of Theorem 7 (Warren's lemma layer by layer).

    >>> log_growth([2, 3, 2], 10) < 28
    True
    """
    _check_sizes(layer_sizes)
    require(layer_sizes[-1] >= 2, "layer_sizes", layer_sizes, "end with at least two classes", "one output a class")
    cumulative, units = _counts(layer_sizes)
    units[-1] = units[-1] * (units[-1] - 1) // 2
    total = 0.0
    for level, (k, w) in enumerate(zip(units, cumulative, strict=True), start=1):
        conditions = samples * k
        # Warren's lemma asks for at least as many polynomials as parameters.
        warren = np.log(2) + w * np.log(2 * np.e * conditions * level / w) if conditions >= w else np.inf
        total += min(conditions * np.log(2), warren)
    return float(total)


def _counts(sizes: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    parameters = [(a + 1) * b for a, b in itertools.pairwise(sizes)]
    return np.cumsum(parameters), list(sizes[1:])


def _check_sizes(sizes: Sequence[int]) -> None:
    require(len(sizes) >= 2, "layer_sizes", sizes, "hold inputs and at least one layer", "add the output size")
    require(min(sizes) >= 1, "layer_sizes", sizes, "hold positive sizes", "remove empty layers")


def rademacher(gram: Float[Array, "n n"], radius: float, key: Key[Array, ""], *, draws: int = 4096) -> Rademacher:
    r"""Empirical Rademacher complexity of a ball of functions ‖f‖ ≤ B in the Hilbert space of a kernel.

        R = (B/n) E_σ √(σᵀ K σ),  B √(tr K) / (√2 n) ≤ R ≤ B √(tr K) / n

    For linear functions K = XXᵀ and √tr K = ‖X‖_F. Up to 16 points all signs are tried, which is exact.

    Args:
        gram: K.
        radius: B ≥ 0.
        key: of the signs.
        draws: how many sign vectors, where they are not all tried.

    Returns:
        `Rademacher`.

    Raises:
        ValueError: a negative radius or diagonal.

    Cost: O(draws · n²), blocks of 1,024 draws. Source: Bartlett and Mendelson (2002), Lemma 22; the lower end, the
    Khintchine-Kahane inequality with its best constant (Latała and Oleszkiewicz 1994).

    >>> f"{rademacher(jnp.eye(4), 1.0, jax.random.key(0)).value:.3f}"
    '0.500'
    """
    n = len(gram)
    require(radius >= 0, "radius", radius, "be >= 0", "a ball has a radius")
    require(holds(lambda d: d >= 0, jnp.diag(gram)), "gram", "a negative diagonal", "be a kernel matrix", "check it")
    length = jnp.sqrt(jnp.trace(gram)) * radius / n
    if n <= _ENUMERABLE:
        # σ and −σ give the same: the first sign is +1.
        codes = jnp.arange(2 ** (n - 1), dtype=jnp.int32)[:, None] >> jnp.arange(n - 1, dtype=jnp.int32)[None, :]
        signs = jnp.concatenate([jnp.ones((len(codes), 1), gram.dtype), (1 - 2 * (codes & 1)).astype(gram.dtype)], 1)
        value = _lengths(gram, signs).mean() * radius / n
        return Rademacher(value, jnp.zeros_like(value), length / jnp.sqrt(2).astype(gram.dtype), length)
    keys = jax.random.split(key, -(-draws // _BLOCK))
    block = lambda k: _lengths(gram, jax.random.rademacher(k, (_BLOCK, n), gram.dtype))  # noqa: E731
    values = lax.map(block, keys).ravel() * radius / n
    return Rademacher(values.mean(), standard_error(values), length / jnp.sqrt(2).astype(gram.dtype), length)


def _lengths(gram: Array, signs: Array) -> Array:
    products = jnp.matmul(signs, gram, precision="highest")
    return jnp.sqrt(jnp.maximum((products * signs).sum(1), 0))


def ntk_complexity(gram: Float[Array, "n n"], y: Float[Array, "n *outputs"]) -> Float[Array, ""]:
    r"""√(2 yᵀ H⁻¹ y / n), the label complexity under an NTK: small where labels lie along leading eigenvectors.

    Args:
        gram: H, positive definite.
        y: labels; several outputs are summed.

    Returns:
        The complexity; NaN where H is not positive definite to round-off.

    Raises:
        ValueError: a Gram matrix that is not positive definite (outside jit).

    Cost: one Cholesky, n³/3. Source: Arora, Du, Hu, Li, Wang (2019), Theorem 5.1.

    >>> f"{ntk_complexity(2 * jnp.eye(2), jnp.ones(2)):.3f}"
    '1.000'
    """
    columns = y.reshape(len(y), -1)
    factor = jnp.linalg.cholesky(gram)
    definite = holds(np.isfinite, factor)
    require(definite, "gram", "a matrix without Cholesky factor", "be positive definite", "remove repeated points")
    white = jax.scipy.linalg.solve_triangular(factor, columns, lower=True)
    return jnp.sqrt(2 * (white**2).sum() / len(y))
