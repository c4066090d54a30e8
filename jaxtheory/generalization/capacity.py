r"""Capacities that do not look at the weights: VC dimension of ReLU networks, Rademacher complexity of kernel balls.

>>> import jax, jax.numpy as jnp
>>> vc_dimension([2, 3, 1]) > 13
True
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from jaxtheory.checks import boundary, constrain, holds, known, nonnegative, require
from jaxtheory.guarded import power_of_two, root
from jaxtheory.results import standard_error

_ENUMERABLE = 16  # points whose 2^15 sign vectors are all tried
_BLOCK = 1024


class Rademacher(NamedTuple):
    """The complexity, its standard error (0 where exact), and the interval that theory puts it in."""

    value: Float[Array, ""]
    standard_error: Float[Array, ""]
    lower: Float[Array, ""]
    upper: Float[Array, ""]


@boundary
def vc_dimension(layer_sizes: Sequence[int]) -> float:
    r"""Upper bound on the VC dimension of fully connected ReLU networks with biases and one sign output.

        L + L̄ W log₂(4eR log₂(2eR)),  W = Σ (d_{i−1} + 1) d_i,  L̄ = (1/W) Σ_i W_i,  R = Σ i d_i

    with W_i the number of parameters up to layer i, layers counted from 1 to L.

    Args:
        layer_sizes: d_0 (inputs), d_1, …, d_L, integers.

    Raises:
        ValueError: fewer than two sizes, or a size that is no integer >= 1.

    Cost: O(L). Source: Bartlett, Harvey, Liaw, Mehrabian (2019), Theorem 7, with one breakpoint.

    >>> f"{vc_dimension([2, 3, 1]):.3f}"
    '178.374'
    """
    cumulative, units = _counts(_sizes(layer_sizes))
    r = float(sum((i + 1) * k for i, k in enumerate(units)))
    return float(len(units) + float(sum(cumulative)) * np.log2(4 * np.e * r * np.log2(2 * np.e * r)))


@boundary(static=("samples",))
def log_growth(layer_sizes: Sequence[int], samples: int) -> float:
    r"""ln of how many ways a network of K = d_L classes can be right or wrong on m points: the decisions are signs of
    the K(K−1)/2 differences of its outputs, polynomials of degree i in the W_i parameters up to layer i on each piece.

        ln Π ≤ Σ_i min{ m k_i ln 2,  ln 2 + W_i ln(2e m k_i i / W_i) },  k_L = K(K − 1)/2

    Args:
        layer_sizes: d_0, …, d_L = K ≥ 2, integers.
        samples: m ≥ 1.

    Raises:
        ValueError: sizes or a number of samples that are no integers >= 1, or fewer than two classes.

    Cost: O(L). Source: Bartlett, Harvey, Liaw, Mehrabian (2019), proof of Theorem 7 (Warren's lemma layer by layer).

    >>> log_growth([2, 3, 2], 10) < 28
    True
    """
    sizes = _sizes(layer_sizes)
    require(sizes[-1] >= 2, "layer_sizes", sizes, "end with at least two classes", "use one output a class")
    require(samples >= 1, "samples", samples, "be >= 1", "pass the number of points")
    cumulative, units = _counts(sizes)
    units[-1] = units[-1] * (units[-1] - 1) // 2
    total = 0.0
    for level, (k, w) in enumerate(zip(units, cumulative, strict=True), start=1):
        conditions = samples * k
        # Warren's lemma asks for at least as many polynomials as parameters.
        warren = np.log(2) + w * np.log(2 * np.e * level * (conditions / w)) if conditions >= w else np.inf
        total += min(conditions * np.log(2), warren)
    return float(total)


def _counts(sizes: list[int]) -> tuple[list[int], list[int]]:
    """Parameters up to each layer, and units, in integers of any size."""
    parameters = [(a + 1) * b for a, b in itertools.pairwise(sizes)]
    return list(itertools.accumulate(parameters)), sizes[1:]


def _sizes(sizes: Sequence[int]) -> list[int]:
    hint = "pass integers, the inputs first, e.g. [2, 3, 1]"
    several = isinstance(sizes, (list, tuple, np.ndarray)) and len(sizes) >= 2
    require(several, "layer_sizes", sizes, "be a list of inputs and at least one layer", hint)
    whole = known(*sizes) and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in sizes)
    require(whole and min(sizes) >= 1, "layer_sizes", sizes, "hold integers >= 1", hint)
    return [int(n) for n in sizes]


@boundary(static=("draws",))
def rademacher(
    gram: Float[Array, "n n"], radius: float | Float[Array, ""], key: Key[Array, ""], *, draws: int = 4096
) -> Rademacher:
    r"""Empirical Rademacher complexity of a ball of functions ‖f‖ ≤ B in the Hilbert space of a kernel.

        R = (B/n) E_σ √(σᵀ K σ),  B √(tr K) / (√2 n) ≤ R ≤ B √(tr K) / n

    For linear functions K = XXᵀ and √tr K = ‖X‖_F. Up to 16 points all signs are tried, which is exact.

    Args:
        gram: K, n ≥ 1 points.
        radius: B ≥ 0.
        key: of the signs.
        draws: how many sign vectors (rounded up to blocks of 1,024), where they are not all tried.

    Returns:
        `Rademacher`; of an asymmetric K, that of its symmetric part. NaN (inside jit) where the radius or the diagonal
        is negative, or σᵀKσ is for one of the signs, beyond rounding.

    Raises:
        ValueError: a matrix that is not square or finite, one that signs show to be indefinite, a negative radius or
            diagonal, fewer than two draws.

    Cost: O(draws · n²), blocks of 1,024 draws. Source: Bartlett and Mendelson (2002), Lemma 22; the lower end, the
    Khintchine-Kahane inequality with its best constant (Latała and Oleszkiewicz 1994).

    >>> f"{rademacher(jnp.eye(4), 1.0, jax.random.key(0)).value:.3f}"
    '0.500'
    """
    n = len(gram)
    _require_square(gram)
    require(draws >= 2, "draws", draws, "be >= 2 for a standard error", "draw more sign vectors")
    radius = nonnegative("radius", radius, "pass the radius of a ball")
    gram = constrain("gram", gram, np.isfinite if known(gram) else jnp.isfinite, "be finite", "check the points")
    valid = constrain("gram", jnp.diag(gram), lambda d: d >= 0, "have a diagonal >= 0", "pass a kernel matrix")
    gram = jnp.fill_diagonal(gram, valid, inplace=False)
    # lengths are taken in a unit whose root is a power of two
    half = power_of_two(jnp.sqrt(power_of_two(gram)))
    gram, radius = gram / half / half, radius * half
    length = jnp.sqrt(jnp.trace(gram)) * radius / n
    if n <= _ENUMERABLE:
        # σ and −σ give the same: the first sign is +1.
        codes = jnp.arange(2 ** (n - 1), dtype=jnp.int32)[:, None] >> jnp.arange(n - 1, dtype=jnp.int32)[None, :]
        signs = jnp.concatenate([jnp.ones((len(codes), 1), gram.dtype), (1 - 2 * (codes & 1)).astype(gram.dtype)], 1)
        value = _lengths(gram, signs).mean() * radius / n
        _require_definite(value, radius)
        return Rademacher(value, jnp.zeros_like(value), length / np.sqrt(2), length)
    keys = jax.random.split(key, -(-draws // _BLOCK))
    block = lambda k: _lengths(gram, jax.random.rademacher(k, (_BLOCK, n), gram.dtype))  # noqa: E731
    values = lax.map(block, keys).ravel() * radius / n
    _require_definite(values, radius)
    return Rademacher(values.mean(), standard_error(values), length / np.sqrt(2), length)


def _require_definite(lengths: Array, radius: Array | float) -> None:
    definite = holds(np.isfinite, lengths) or not holds(np.isfinite, radius)
    require(definite, "gram", "a matrix with negative eigenvalues", "be positive semidefinite", "pass kernel(x, x)")


def _lengths(gram: Array, signs: Array) -> Array:
    """√(σᵀKσ); a value that is negative beyond rounding is none of a kernel's."""
    squares = (jnp.matmul(signs, gram, precision="highest") * signs).sum(1)
    rounding = 8 * jnp.finfo(gram.dtype).eps * len(gram) * jnp.trace(gram)
    bad = jax.lax.stop_gradient(squares < -rounding)
    return jnp.where(bad, jnp.nan, root(squares))


def _require_square(gram: Array) -> None:
    square = gram.shape[0] == gram.shape[1] >= 1
    require(square, "gram", gram.shape, "be a square matrix of at least one point", "pass kernel(x, x)")


@boundary
def ntk_complexity(gram: Float[Array, "n n"], y: Float[Array, "n *outputs"]) -> Float[Array, ""]:
    r"""√(2 yᵀ H⁻¹ y / n), the label complexity under an NTK: small where labels lie along leading eigenvectors.

    Args:
        gram: H, symmetric and positive definite, its condition number times the rounding unit far below 1.
        y: real labels, or one-hot; several outputs are summed.

    Returns:
        The complexity; NaN where H is not positive definite to round-off, or so nearly singular that rounding may
        change the complexity by more than one part in a thousand.

    Raises:
        ValueError: a Gram matrix of that kind (outside jit), shapes that do not pair.

    Cost: one Cholesky, n³/3, and four products. Source: Arora, Du, Hu, Li, Wang (2019), Theorem 5.1.

    >>> f"{ntk_complexity(2 * jnp.eye(2), jnp.ones(2)):.3f}"
    '1.000'
    """
    _require_square(gram)
    require(len(y) == len(gram), "y", y.shape, f"pair with the {len(gram)} points of gram", "pass one label a point")
    found = _ntk_complexity(gram, y.reshape(len(y), -1))
    definite = holds(np.isfinite, found) or not holds(np.isfinite, y)
    hint = "remove repeated points, add a ridge, or use float64"
    require(definite, "gram", "a matrix too near a singular one", "be positive definite beyond rounding", hint)
    return found


def _ntk_complexity(gram: Array, y: Array) -> Array:
    scale, size = power_of_two(gram), power_of_two(y)
    matrix, columns = gram / scale, y / size
    factor = jnp.linalg.cholesky(matrix)

    def solve(b: Array) -> Array:
        return jax.scipy.linalg.cho_solve((factor, True), b)

    product, inner = (partial(f, precision="highest") for f in (jnp.matmul, jnp.vdot))
    alpha = solve(columns)
    alpha = alpha + solve(columns - product(matrix, alpha))
    residual = columns - product(matrix, alpha)
    # yᵀH⁻¹y = 2yᵀα − αᵀHα + rᵀH⁻¹r, r = y − Hα
    value = inner(columns, alpha) + inner(alpha, residual)
    rounding = jnp.finfo(y.dtype).eps * inner(jnp.abs(alpha), product(jnp.abs(matrix), jnp.abs(alpha)))
    error = jnp.abs(inner(residual, solve(residual))) + rounding
    right = jnp.isfinite(value) & (value >= 0) & (error <= 1e-3 * value)
    # the root of the unit is a power of two times 1 or √2
    found = size * jnp.sqrt(2 * jnp.where(right, value, jnp.nan) / len(y)) / jnp.sqrt(scale)
    return jnp.where((columns == 0).all() & jnp.isfinite(factor).all(), jnp.zeros_like(found), found)
