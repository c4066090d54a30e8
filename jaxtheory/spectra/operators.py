"""Trace, diagonal, top eigenpairs and density of states of a symmetric operator."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, require
from jaxtheory.guarded import norm, orthogonal, over, power_of_two
from jaxtheory.results import Estimate, Status, finite_status, standard_error, status_where

Operator = Callable[[Array], Array]


class Eigenpairs(NamedTuple):
    """Top eigenvalues, largest first, eigenvectors [k, *shape], recomputed relative residuals, and a status."""

    values: Float[Array, " k"]
    vectors: Float[Array, "k ..."]
    residual: Float[Array, " k"]
    status: Int[Array, ""]


class Density(NamedTuple):
    """A spectral density as weighted nodes: ∫ h dμ ≈ Σ weights h(nodes) for each probe, weights summing to one."""

    nodes: Float[Array, "probes steps"]
    weights: Float[Array, "probes steps"]


@boundary(static=("probes",))
def trace(operator: Operator, shape: tuple[int, ...], key: Key[Array, ""], probes: int = 32) -> Estimate:
    """Hutchinson's estimate of tr Θ: the mean of zᵀΘz over random signs z, of variance 2 Σ_{i≠j} Θ_ij² / probes.

    Args:
        operator: a symmetric product of arrays of shape `shape`.
        shape: of its vectors.
        key: of the signs.
        probes: random vectors, at least 2.

    Raises:
        ValueError: fewer than two probes, or an operator that does not map arrays of `shape` to such arrays.

    Cost: `probes` products. Source: Hutchinson (1990).

    >>> estimate = trace(lambda v: jnp.array([1.0, 2.0]) * v, (2,), jax.random.key(0))
    >>> print(estimate.value, estimate.standard_error)
    3.0 0.0
    """
    shape = _sizes(shape)
    apply, dtype = _read(operator, shape)
    values = jax.lax.map(lambda z: jnp.vdot(z, apply(z), precision="highest"), _signs(key, probes, shape, dtype))
    return Estimate(values.mean(), standard_error(values))


@boundary(static=("probes",))
def diagonal(operator: Operator, shape: tuple[int, ...], key: Key[Array, ""], probes: int = 32) -> Estimate:
    """The diagonal of Θ: the mean of z ∘ Θz over random signs z, of variance Σ_{j≠i} Θ_ij² / probes at i.

    Args, Raises: as `trace`. Cost: `probes` products. Source: Bekas, Kokiopoulou, Saad (2007).

    >>> print(diagonal(lambda v: jnp.array([1.0, 2.0]) * v, (2,), jax.random.key(0)).value)
    [1. 2.]
    """
    shape = _sizes(shape)
    apply, dtype = _read(operator, shape)
    values = jax.lax.map(lambda z: z * apply(z), _signs(key, probes, shape, dtype))
    return Estimate(values.mean(0), standard_error(values))


@boundary(static=("count", "steps"))
def top_eigenpairs(
    operator: Operator, shape: tuple[int, ...], count: int, key: Key[Array, ""], steps: int | None = None
) -> Eigenpairs:
    """The `count` largest eigenpairs of a symmetric operator, repeated eigenvalues as often as they occur.

    By Lanczos with bands: the space is spanned by products with `count` random vectors, since one vector alone meets
    one eigenvector of each eigenvalue; full reorthogonalization, and a new random vector where the space is exhausted.

    Args:
        operator: a symmetric product of arrays of shape `shape`.
        shape: of its vectors.
        count: eigenpairs.
        key: of the first vectors.
        steps: dimension of the space, by default min(size, max(2·count + 20, 8·count)).

    Returns:
        Eigenpairs with residuals ‖Θu − λu‖ / max |λ|, within which each value is one of Θ; NOT_CONVERGED where one
        exceeds √eps, NOT_FINITE where a product is not finite.

    Raises:
        ValueError: a count that is not within 1..steps, or steps above the number of entries.

    Cost: steps + count products, 4 · steps² · size flops, 2 · steps · size numbers.
    Source: Golub and Van Loan (2013), section 10.3.6; Ruhe (1979).

    >>> pairs = top_eigenpairs(lambda v: jnp.array([3.0, 5.0, 5.0, 1.0]) * v, (4,), 2, jax.random.key(0))
    >>> print(pairs.values.round(4))
    [5. 5.]
    """
    shape = _sizes(shape)
    apply, dtype = _read(operator, shape)
    size = math.prod(shape)
    steps = min(size, max(2 * count + 20, 8 * count)) if steps is None else steps
    wish = f"be within 1..steps={steps} <= {size}"
    require(1 <= count <= steps <= size, "count", count, wish, "lower count or raise steps")
    first, key = jax.random.split(key)
    starts = jax.random.normal(first, (count, size), dtype)
    basis, moved = _band(lambda v: apply(v.reshape(shape)).ravel(), starts, key, steps)
    found, inner = _eigh(_projected(basis, moved))
    top, ritz = found[::-1][:count], inner[:, ::-1][:, :count]
    vectors = jnp.matmul(ritz.T, basis, precision="highest")
    error = jax.lax.map(lambda v: apply(v.reshape(shape)).ravel(), vectors) - top[:, None] * vectors
    residual = over(norm(error, axis=1), jnp.abs(found).max())
    # NaN does not count as small
    status = status_where((~(residual.max() <= jnp.finfo(dtype).eps ** 0.5), Status.NOT_CONVERGED))
    status = jnp.where(jnp.isfinite(moved).all(), status, Status.NOT_FINITE).astype(jnp.int32)
    return Eigenpairs(top, vectors.reshape(count, *shape), residual, finite_status((top, vectors, residual), status))


@boundary(static=("probes", "steps"))
def spectral_density(
    operator: Operator, shape: tuple[int, ...], key: Key[Array, ""], probes: int = 8, steps: int = 32
) -> Density:
    """Stochastic Lanczos quadrature: Gauss nodes of the spectral measure seen by random signs.

    Args:
        operator, shape, key: as in `trace`.
        probes: random vectors, at least 1.
        steps: nodes of each, at most as many as entries; quadrature is exact for polynomials of degree 2·steps − 1.

    Returns:
        `Density`: tr h(Θ) is the mean over probes of `size` Σ weights h(nodes).

    Cost: probes · steps products. Source: Ubaru, Chen, Saad (2017).

    >>> density = spectral_density(lambda v: 3.0 * v, (5,), jax.random.key(0), probes=2)
    >>> print((density.weights * density.nodes).sum(1).round(4))
    [3. 3.]
    """
    shape = _sizes(shape)
    apply, dtype = _read(operator, shape)
    size = math.prod(shape)
    require(probes >= 1, "probes", probes, "be >= 1", "draw a random vector")
    require(steps >= 1, "steps", steps, "be >= 1", "take 32 nodes")
    steps = min(steps, size)

    return quadrature(lambda v: apply(v.reshape(shape)).ravel(), size, dtype, key, probes, steps)


def quadrature(apply: Operator, size: int, dtype: DTypeLike, key: Array, probes: int, steps: int) -> Density:
    """Gauss nodes and weights of products with flat vectors, for arguments that were checked."""

    def one(turn: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, moved = _band(apply, turn[0][None], turn[1], steps)
        nodes, vectors = _eigh(_projected(basis, moved))
        return nodes, vectors[0] ** 2

    signs = jax.random.rademacher(key, (probes, size), jnp.float32).astype(dtype)
    return Density(*jax.lax.map(one, (signs, jax.random.split(jax.random.fold_in(key, 1), probes))))


def _sizes(shape: object) -> tuple[int, ...]:
    """The shape as a tuple; one number is a shape too."""
    found = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    whole = all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in found)
    require(whole, "shape", shape, "hold positive integers", "pass the shape of the operator's vectors")
    return tuple(int(n) for n in found)


def _read(operator: Operator, shape: tuple[int, ...]) -> tuple[Operator, Any]:
    """The operator with results of its own type, at least float32, and that type."""
    out = _image(operator, shape)
    told = getattr(out, "shape", type(out).__name__)
    same = told == tuple(shape) and jnp.issubdtype(out.dtype, jnp.floating)
    hint = "correct shape"
    if jnp.issubdtype(getattr(out, "dtype", jnp.float32), jnp.complexfloating):
        told, hint = f"{told} of {out.dtype}", "let it act on real and imaginary parts, e.g. along a last axis of two"
    require(same, "operator", told, f"map float arrays of shape {shape} to such arrays", hint)
    dtype = out.dtype if jnp.finfo(out.dtype).bits >= 32 else jnp.dtype(jnp.float32)
    return (lambda v: operator(v).astype(dtype)), dtype


def _image(operator: Operator, shape: tuple[int, ...]) -> Any:
    """Shape and type of a product with the widest enabled float that the operator accepts."""
    failed: Exception | None = None
    for dtype in (jnp.float64, jnp.float32) if jax.config.read("jax_enable_x64") else (jnp.float32,):
        try:
            return jax.eval_shape(operator, jax.ShapeDtypeStruct(shape, dtype))
        except Exception as error:
            failed = error
    told = f"{type(failed).__name__} for shape {shape}"
    raise ValueError(f"operator must map float arrays of `shape` to such arrays, got {told}; correct it.") from failed


def _signs(key: Array, probes: int, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    require(probes >= 2, "probes", probes, "be >= 2 for a standard error", "draw more random vectors")
    return jax.random.rademacher(key, (probes, *shape), jnp.float32).astype(dtype)


def _eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues and vectors of a symmetric matrix at any scale."""
    unit = power_of_two(matrix)
    values, vectors = jnp.linalg.eigh(matrix / unit)
    return values * unit, vectors


def _projected(basis: Array, moved: Array) -> Array:
    """The operator in the basis, symmetric to the bit."""
    projected = jnp.matmul(basis, moved.T, precision="highest")
    return (projected + projected.T) / 2


def _band(apply: Operator, starts: Float[Array, "width size"], key: Array, steps: int) -> tuple[Array, Array]:
    """An orthonormal basis [steps, size] of products with `starts`, and its own products."""
    (width, size), dtype = starts.shape, starts.dtype
    keys = jax.random.split(key, steps)
    basis = jnp.zeros((steps, size), dtype)

    def extend(basis: Array, vector: Array, place: Array | int, key: Array) -> Array:
        """The next vector is what `vector` adds to the basis, or a random one if that is rounding."""
        vector = vector / power_of_two(vector)  # what is left of a small product must not underflow
        kept = orthogonal(basis, vector)
        empty = ~(norm(kept) > 100 * jnp.finfo(dtype).eps * norm(vector))
        fresh = orthogonal(basis, jax.random.normal(key, (size,), dtype))
        chosen = jnp.where(empty & jnp.isfinite(vector).all(), fresh, kept)
        return basis.at[place].set(chosen / norm(chosen), mode="drop")

    for place in range(width):
        basis = extend(basis, starts[place], place, keys[place])

    def step(basis: Array, turn: tuple[Array, Array]) -> tuple[Array, Array]:
        number, key = turn
        moved = apply(basis[number])
        return extend(basis, moved, number + width, key), moved

    ahead = jnp.roll(keys, -width, axis=0)  # the key of place number + width
    return jax.lax.scan(step, basis, (jnp.arange(steps), ahead))
