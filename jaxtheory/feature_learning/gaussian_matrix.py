r"""A large Gaussian matrix, known only by the products that were taken with it.

W has independent N(0, 1) entries and M rows and columns. With ⟨a, b⟩ = (1/M) Σ_i a_i b_i, the law of W/√M given its
products with some inputs and, transposed, with some cotangents is that of

    W/√M = (1/M) [ Σ_k ε_k φ̂_kᵀ + Σ_j ĝ_j ε'_jᵀ ],     ⟨φ̂_k, φ̂_l⟩ = δ_kl,   ⟨ĝ_j, ĝ_l⟩ = δ_jl,

where φ̂ is an orthonormal basis of the inputs and ĝ one of the cotangents in the order in which they came, and ε_k and
ε'_j are standard Gaussian vectors drawn when they came, ε_k orthogonal to the ĝ_j so far, ε'_j to the φ̂_k so far. So
a product with a further input φ is

    W φ/√M = Σ_k ε_k ⟨φ̂_k, φ⟩ + Σ_j ĝ_j ⟨ε'_j, φ⟩ + ε_new ‖φ − Σ_k φ̂_k ⟨φ̂_k, φ⟩‖,

and a transposed one the same with the roles exchanged. Nothing is inverted: an input in the span of earlier ones has no
new direction and needs no jitter. Training adds Σ_jk U_jk ĝ_j φ̂_kᵀ / M, since every update is an outer product of a
cotangent and an input.

Source: Bolthausen (2014), section 3; Bayati and Montanari (2011), lemma 10 (conditioning of a Gaussian matrix).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.guarded import dot

Rows = Float[Array, "rows M"]
Frame = Float[Array, "blocks width M"]
Coordinates = Float[Array, "blocks width rows"]


class GaussianMatrix(NamedTuple):
    """W/√M with its updates U, in blocks of rows of which the first `filled` are in use.

    `inputs` is φ̂, `images` ε, `cotangents` ĝ and `pullbacks` ε'. `trained` is U and `velocity` that of its momentum.
    """

    inputs: Frame
    images: Frame
    cotangents: Frame
    pullbacks: Frame
    trained: Float[Array, "blocks blocks width width"]
    velocity: Float[Array, "blocks blocks width width"]
    filled: Int[Array, ""]


class Product(NamedTuple):
    """W φ/√M for rows φ, with what it adds to the matrix: new directions, their images, and the rows' coordinates."""

    image: Rows
    directions: Rows
    noise: Rows
    known: Coordinates
    new: Float[Array, "rows rows"]


class Basis(NamedTuple):
    """`rows` = `factor` @ `vectors`; the vectors are orthonormal in ⟨·, ·⟩, or 0 where a row adds no direction."""

    vectors: Rows
    factor: Float[Array, "rows rows"]


def empty(rows: int, width: int, samples: int, dtype: jnp.dtype) -> GaussianMatrix:
    """A matrix of M = `samples` rows of which nothing is known, with room for products in blocks of `width`."""
    blocks = -(-rows // width)
    frame = jnp.zeros((blocks, width, samples), dtype)
    trained = jnp.zeros((blocks, blocks, width, width), dtype)
    return GaussianMatrix(frame, frame, frame, frame, trained, trained, jnp.zeros((), jnp.int32))


def grown(matrix: GaussianMatrix, rows: int) -> GaussianMatrix:
    """The same matrix with room for at least so many products."""
    blocks, width, _ = matrix.inputs.shape
    more = max(0, -(-rows // width) - blocks)

    def padded(frame: Array) -> Array:
        return jnp.pad(frame, [(0, more), (0, 0), (0, 0)])

    def squared(part: Array) -> Array:
        return jnp.pad(part, [(0, more), (0, more), (0, 0), (0, 0)])

    return GaussianMatrix(
        padded(matrix.inputs), padded(matrix.images), padded(matrix.cotangents), padded(matrix.pullbacks),
        squared(matrix.trained), squared(matrix.velocity), matrix.filled,
    )  # fmt: skip


def transpose(matrix: GaussianMatrix) -> GaussianMatrix:
    """Wᵀ/√M: inputs and cotangents exchange their roles."""
    trained, velocity = (part.transpose(1, 0, 3, 2) for part in (matrix.trained, matrix.velocity))
    return GaussianMatrix(
        matrix.cotangents, matrix.pullbacks, matrix.inputs, matrix.images, trained, velocity, matrix.filled
    )


def multiply(matrix: GaussianMatrix, rows: Rows, noise: Rows) -> Product:
    """W φ/√M for each row φ, given everything known of W.

    Args:
        matrix: what is known of W. rows: φ, on the side of the inputs.
        noise: for each row a standard Gaussian vector on the side of the cotangents, orthogonal to those known.

    Cost: 16 · filled · rows · M flops; memory a few times rows · M.
    """
    unit = size(rows)
    rows = rows / unit
    known, responses = inner(matrix, (matrix.inputs, matrix.pullbacks), rows)
    residual = rows - combine(matrix, (matrix.inputs,), (known,))
    # the second pass makes what is left orthogonal to the basis to round-off, however little it is
    (correction,) = inner(matrix, (matrix.inputs,), residual)
    residual = residual - combine(matrix, (matrix.inputs,), (correction,))
    known = known + correction
    basis = orthonormal(residual, mean_square(rows))
    responses = responses + _trained_product(matrix, known)
    image = combine(matrix, (matrix.images, matrix.cotangents), (known, responses)) + dot(basis.factor, noise)
    return Product(unit * image, basis.vectors, noise, known * unit[None, None, :, 0], basis.factor * unit)


def remember(matrix: GaussianMatrix, product: Product) -> tuple[GaussianMatrix, Coordinates]:
    """The matrix that knows a product, whose number of rows divides a block, and the rows' coordinates in φ̂.

    The next product goes to the same place until `update` is called.
    """
    width = matrix.inputs.shape[1]
    place = matrix.filled // width, matrix.filled % width, jnp.zeros((), jnp.int32)
    used = jnp.any(product.directions != 0, axis=1, keepdims=True)
    noise = jnp.where(used, product.noise, jnp.zeros_like(product.noise))
    inputs = lax.dynamic_update_slice(matrix.inputs, product.directions[None], place)
    images = lax.dynamic_update_slice(matrix.images, noise[None], place)
    coordinates = lax.dynamic_update_slice(product.known, product.new.T[None], place)
    return matrix._replace(inputs=inputs, images=images), coordinates


def pull_back(matrix: GaussianMatrix, rows: Rows, noise: Rows, product: Product) -> Product:
    """Wᵀ g/√M for each row g, given what is known of W and one product more that is not remembered."""
    noise = noise - project(product.directions, noise)
    found = multiply(transpose(matrix), rows, noise)
    return found._replace(image=found.image + dot(mean_product(rows, product.noise), product.directions))


def update(
    matrix: GaussianMatrix, cotangents: Coordinates, inputs: Coordinates, rate: Array, momentum: Array
) -> GaussianMatrix:
    """One step of heavy-ball descent: velocity ← momentum · velocity + Σ g φᵀ, U ← U + rate · velocity."""
    count = blocks(matrix)

    def block(index: int | Array, velocity: Array) -> Array:
        j, k = (0, 0) if len(matrix.inputs) == 1 else (index // count, index % count)
        moved = momentum * velocity[j, k] + dot(cotangents[j], inputs[k].T)
        return velocity.at[j, k].set(moved)

    velocity = _each(matrix, count * count, block, matrix.velocity)
    filled = matrix.filled + cotangents.shape[2]
    return matrix._replace(trained=matrix.trained + rate * velocity, velocity=velocity, filled=filled)


def inner(matrix: GaussianMatrix, frames: tuple[Frame, ...], rows: Rows) -> tuple[Coordinates, ...]:
    """⟨frame_k, rows_i⟩ for each frame of the matrix, 0 where it is not filled."""
    start = jnp.zeros((*frames[0].shape[:2], len(rows)), rows.dtype)

    def block(j: int | Array, out: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(part.at[j].set(mean_product(frame[j], rows)) for part, frame in zip(out, frames, strict=True))

    # block by block: the bits do not depend on how much room there is
    return _each(matrix, blocks(matrix), block, tuple(start for _ in frames))


def combine(matrix: GaussianMatrix, frames: tuple[Frame, ...], coordinates: tuple[Coordinates, ...]) -> Rows:
    """Σ_k coordinates_ki frame_k over the filled rows of each frame of the matrix."""

    def block(j: int | Array, out: Array) -> Array:
        for frame, part in zip(frames, coordinates, strict=True):
            out = out + dot(part[j].T, frame[j])
        return out

    start = jnp.zeros((coordinates[0].shape[2], frames[0].shape[2]), frames[0].dtype)
    return _each(matrix, blocks(matrix), block, start)


def blocks(matrix: GaussianMatrix) -> Array:
    """How many blocks are in use, that of the next product among them."""
    count, width, _ = matrix.inputs.shape
    return jnp.minimum(matrix.filled // width + 1, count)


def orthonormal(rows: Rows, scale: Float[Array, " rows"]) -> Basis:
    """An orthonormal basis of the rows, one after the other, by Cholesky QR twice.

    Args:
        rows: at most as large as `scale`.
        scale: mean squares; a row adds a direction if what it has outside the earlier ones is more than 32 ε of it, in
            mean square. The rest is dropped.
    """
    least = 32 * jnp.finfo(rows.dtype).eps * scale
    first, inverse = _dropping_cholesky(mean_product(rows, rows), least)
    vectors = dot(inverse, rows)
    second, inverse = _dropping_cholesky(mean_product(vectors, vectors), jnp.full_like(least, 0.25))
    return Basis(dot(inverse, vectors), dot(first, second))


def project(basis: Float[Array, "basis M"], rows: Rows) -> Rows:
    """The projection of rows on orthonormal (or zero) ones."""
    return dot(mean_product(rows, basis), basis)


def mean_product(a: Rows, b: Float[Array, "others M"]) -> Float[Array, "rows others"]:
    """⟨a_i, b_j⟩."""
    return dot(a, b.T) / a.shape[1]


def mean_square(rows: Rows) -> Float[Array, " rows"]:
    """⟨a_i, a_i⟩."""
    return jnp.mean(rows * rows, axis=1)


def size(rows: Rows) -> Float[Array, "rows 1"]:
    """The largest entry of each row, 1 where it is 0: slopes of the loss may be tiny, and their squares nothing."""
    largest = jnp.max(jnp.abs(lax.stop_gradient(rows)), axis=1, keepdims=True)
    return jnp.where(largest == 0, jnp.ones_like(largest), largest)


def _trained_product(matrix: GaussianMatrix, known: Coordinates) -> Coordinates:
    """U times coordinates."""
    count = blocks(matrix)

    def block(index: int | Array, out: Array) -> Array:
        j, k = (0, 0) if len(matrix.inputs) == 1 else (index // count, index % count)
        return out.at[j].add(dot(matrix.trained[j, k], known[k]))

    return _each(matrix, count * count, block, jnp.zeros_like(known))


def _each(matrix: GaussianMatrix, count: Array, body: Callable[[PyTree, PyTree], PyTree], start: PyTree) -> PyTree:
    """The loop over blocks; one block needs none, and compiles faster."""
    return body(0, start) if len(matrix.inputs) == 1 else lax.fori_loop(jnp.int32(0), count, body, start)


def _dropping_cholesky(gram: Float[Array, "rows rows"], least: Float[Array, " rows"]) -> tuple[Array, Array]:
    """The lower factor and its inverse on its range.

    Where a pivot is at most `least`, a column of the factor and a row of the inverse are 0; a pivot that is NaN stays.
    """
    index = jnp.arange(len(gram))
    identity = jnp.eye(len(gram), dtype=gram.dtype)

    def column(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        factor, inverse = state
        rest = gram[:, j] - dot(factor, factor[j])
        dropped = rest[j] <= least[j]
        root = jnp.sqrt(jnp.where(dropped, jnp.ones_like(rest[j]), rest[j]))
        below = jnp.where(dropped | (index < j), jnp.zeros_like(rest), rest / root)
        row = (identity[j] - dot(factor[j], inverse)) / root
        return factor.at[:, j].set(below), inverse.at[j].set(jnp.where(dropped, jnp.zeros_like(row), row))

    return lax.fori_loop(0, len(gram), column, (jnp.zeros_like(gram), jnp.zeros_like(gram)))
