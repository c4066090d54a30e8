"""A measure as a weighted cloud of particles, and the two sums over it that all other quantities use.

`mean` is ∫φ dμ and `pair_mean` is ∬k dμ dμ. Both run in blocks that the reverse pass computes again, so that neither
the value nor the gradient ever holds a number for each particle and each component of φ; on a mesh, `mean` costs one
all-reduce of φ's size, and `pair_mean` sends blocks of particles around a ring.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import GetAttrKey
from jaxtyping import Array, Float, PyTree

from jaxtheory import placement
from jaxtheory.checks import Checked, boundary, known, nonnegative, quantity, require, require_arrays
from jaxtheory.guarded import power_of_two
from jaxtheory.transport.costs import weighted_sum

AXIS = "particles"
_SHARDED, _EVERYWHERE = PartitionSpec(AXIS), PartitionSpec()
# Values of φ held at once: as many as stay in a core's cache; accelerators want enough work for a launch.
_CPU_VALUES, _ACCELERATOR_VALUES = 2**18, 2**24
_NO_SIGNS = "put signs into the unit: a measure has no negative mass"


@dataclass(frozen=True)
class Cloud:
    """The measure Σ_i w_i δ(θ_i): `particles` is a pytree whose leaves are [N, ...], `weights` is [N].

    `mesh` (one axis, "particles") says over which devices the leading axes are split; None is one device. Weights are
    nonnegative, one for each particle: negative ones raise a ValueError outside `jit` and count as NaN inside.
    """

    # Transformations put specs and axis numbers in place of arrays, so the fields' types are not checked.
    particles: PyTree
    weights: Any
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        if type(self.weights) in (list, tuple):  # not a subclass of tuple, such as a spec
            object.__setattr__(self, "weights", jnp.asarray(quantity("weights", self.weights)))
        arrays = (jax.Array, np.ndarray)
        if not isinstance(self.weights, arrays):
            return
        shape = self.weights.shape  # with axes in front for a batch of clouds
        others = [leaf.shape for leaf in jax.tree.leaves(self.particles) if isinstance(leaf, arrays)]
        same = all(other[: len(shape)] == shape for other in others)
        require(
            same, "weights", shape, f"have the leading axes of the particles, {others}", "give one to each particle"
        )
        if known(self.weights):
            nonnegative("weights", self.weights, _NO_SIGNS)

    @property
    def size(self) -> int:
        """N, the number of particles."""
        return len(self.weights)


def _flatten(cloud: Cloud) -> tuple[tuple[PyTree, PyTree], Any]:
    fields = ("particles", cloud.particles), ("weights", cloud.weights)
    return tuple((GetAttrKey(name), value) for name, value in fields), cloud.mesh  # type: ignore[return-value]


def _unflatten(mesh: Mesh | None, children: Any) -> Cloud:
    # Unchecked: what transformations put together, such as a gradient, need not be a measure.
    cloud = object.__new__(Cloud)
    for name, value in zip(("particles", "weights", "mesh"), (*children, mesh), strict=True):
        object.__setattr__(cloud, name, value)
    return cloud


jax.tree_util.register_pytree_with_keys(Cloud, _flatten, _unflatten)


@boundary
def as_cloud(particles: Cloud | PyTree, weights: Float[Array, " N"] | None = None, mesh: Mesh | None = None) -> Cloud:
    """The cloud of these particles: weights 1/N unless given, split over the devices of `mesh`, if any.

    Args:
        particles: an array [N, ...], or a pytree of them with one N; nested lists of numbers are an array, integers and
            half precision become floats. A `Cloud` keeps its weights.
        weights: [N], ≥ 0; they need not sum to one.
        mesh: whatever its axes, all its devices are used, also those of other processes that make the same call.

    Raises:
        ValueError: leaves of different N, no particles, negative weights (NaN inside `jit`), weights of another length
            or beside a `Cloud`, or N not a multiple of the devices.

    Cost: one pass over the weights.

    >>> as_cloud(jnp.zeros((4, 2))).weights
    Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    cloud = measure("particles", particles, "weights", weights)
    return cloud if mesh is None else _placed(cloud, mesh)


def measure(name: str, particles: Cloud | PyTree, weights_name: str, weights: Any) -> Cloud:
    """`as_cloud` of arguments with other names, for their errors."""
    placed = None
    if isinstance(particles, Cloud):
        require(weights is None, weights_name, weights, "be left out beside a Cloud", "put them into the Cloud")
        particles, weights, placed = particles.particles, particles.weights, particles.mesh
    leaves = floating(name, particles)
    count, dtype = stacked(name, leaves), jax.tree.leaves(leaves)[0].dtype
    if weights is None:
        return Cloud(leaves, jnp.full(count, 1 / count, dtype), placed)
    weights = jnp.asarray(quantity(weights_name, weights, dtype))
    require(
        weights.shape == (count,), weights_name, weights.shape, f"have shape ({count},)", "give one to each particle"
    )
    return Cloud(leaves, nonnegative(weights_name, weights, _NO_SIGNS), placed)


def floating(name: str, tree: PyTree) -> PyTree[Array]:
    """Leaves as floating arrays; a nested list of numbers is one array."""
    numbers = isinstance(tree, (list, tuple)) and all(jnp.ndim(leaf) == 0 for leaf in jax.tree.leaves(tree))
    return jax.tree.map(lambda leaf: jnp.asarray(quantity(name, leaf)), quantity(name, tree) if numbers else tree)


def stacked(name: str, tree: PyTree[Array]) -> int:
    """N, where all leaves are [N, ...] with one N ≥ 1."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(tree)]
    count = shapes[0][0] if shapes and shapes[0] else 0
    same = count > 0 and all(shape[:1] == (count,) for shape in shapes)
    require(same, name, shapes, "be arrays [N, ...] with one N >= 1", "stack the particles on the first axis")
    return count


def probability(cloud: Cloud) -> Cloud:
    """The cloud with its weights divided by their sum."""
    scaled = replace(cloud, weights=cloud.weights / power_of_two(cloud.weights))
    total = summed(scaled, lambda part: weighted_sum(part[1], jnp.ones_like(part[1])), _values())
    return replace(scaled, weights=scaled.weights / total)


def central_moments(cloud: Cloud) -> tuple[Float[Array, " D"], Float[Array, "D D"]]:
    """Mean and covariance of a cloud's rows, weights normalized, in two passes that a common shift does not disturb."""
    law = probability(cloud)
    unit = power_of_two(rows(law))
    held = replace(law, particles=rows(law) / unit)
    # any number near the mean serves as the origin of the second pass, so its derivative is not needed; within the
    # range of the particles, so that those at one place have no spread by rounding
    fixed = lax.stop_gradient(held)
    start = jnp.clip(mean(fixed, lambda row: row), rows(fixed).min(0), rows(fixed).max(0))

    def term(part: tuple[Array, Array]) -> tuple[Array, Array]:
        offset = part[0] - start[None]
        return weighted_sum(part[1], offset), jnp.matmul(offset.T * part[1][None], offset, precision="highest")

    rest, squares = summed(held, term, rows_of(max(len(start), 64)))
    return unit * (start + rest), (squares - rest[:, None] * rest[None]) * unit * unit


def rows(cloud: Cloud) -> Float[Array, "N D"]:
    """The particles as one matrix: the components of all leaves, in the tree's order."""
    return matrix(cloud.particles)


def matrix(tree: PyTree[Array]) -> Float[Array, "N D"]:
    """Leaves [N, ...] as one matrix of N rows."""
    parts = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(tree)]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, 1)


def particles_of(matrix: Float[Array, "M D"], like: PyTree[Array]) -> PyTree[Array]:
    """The rows of a matrix as particles of the structure of `like`: the inverse of `rows`."""
    leaves, structure = jax.tree.flatten(like)
    sizes = [math.prod(leaf.shape[1:]) for leaf in leaves]
    wide = matrix.ndim == 2 and matrix.shape[1] == sum(sizes)
    require(wide, "points", matrix.shape, f"be rows of the particles' {sum(sizes)} numbers", "pass one row a point")
    parts = jnp.split(matrix, np.cumsum(sizes)[:-1], axis=1)
    shaped = [part.reshape(-1, *leaf.shape[1:]).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(structure, shaped)


def _placed(cloud: Cloud, mesh: Mesh) -> Cloud:
    line = placement.line(mesh, AXIS)
    hint = "use a multiple of the number of devices, so that each has as many particles"
    require(cloud.size % line.size == 0, "particles", cloud.size, f"split over {line.size} devices", hint)
    particles, weights = placement.split((cloud.particles, cloud.weights), line)
    return Cloud(particles, weights, line)


def split(tree: PyTree[Array], mesh: Mesh | None) -> PyTree[Array]:
    """The same arrays, their leading axes split over the mesh, if there is one."""
    return tree if mesh is None else placement.split(tree, mesh)


def per_particle(scale: Float[Array, " N"], leaf: Float[Array, "N ..."]) -> Float[Array, "N ..."]:
    """One number a particle times all components of that particle."""
    return scale.reshape(-1, *[1] * (leaf.ndim - 1)) * leaf


@boundary(static=("block",))
def mean(
    cloud: Cloud | PyTree, feature: Callable[[PyTree[Array]], PyTree[Array]], *, block: int | None = None
) -> PyTree[Array]:
    r"""The integral of a feature over the cloud: ∫φ dμ = Σ_i w_i φ(θ_i).

    Differentiable in particles and weights, forward and backward, to any order. Particles go through in blocks; the
    reverse pass evaluates φ again instead of keeping it, unless one block holds them all. Sums are compensated, so
    that their rounding error does not grow with N.

    Args:
        cloud: N particles.
        feature: φ of one particle, an array or pytree of arrays with m numbers in all.
        block: particles at once; by default as many as make 2^18 numbers of φ (2^24 on an accelerator).

    Returns:
        The value of φ's shape, the same on all devices.

    Raises:
        ValueError: block < 1, or a feature that returns no arrays.

    Cost: N evaluations of φ; the gradient evaluates φ once more and its reverse once. Memory block · m beside the
    particles. On a mesh: one all-reduce of m numbers, none for the gradient. Source: compensated sums, Kahan (1965).

    >>> f"{mean(as_cloud(jnp.array([1.0, 3.0])), jnp.square):.1f}"
    '5.0'
    """
    require(block is None or block >= 1, "block", block, "be >= 1 particle", "use None for a block that fits the cache")
    cloud = as_cloud(cloud)

    def checked(theta: PyTree[Array]) -> PyTree[Array]:
        found = feature(theta)
        require_arrays("feature", found)
        return found

    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), cloud.particles)
    numbers = sum(math.prod(out.shape) for out in jax.tree.leaves(jax.eval_shape(checked, one)))

    def term(part: tuple[PyTree[Array], Array]) -> PyTree[Array]:
        return jax.tree.map(partial(weighted_sum, part[1]), jax.vmap(checked)(part[0]))

    return summed(cloud, term, block or max(1, _values() // max(numbers, 1)))


def _values() -> int:
    return _CPU_VALUES if jax.default_backend() == "cpu" else _ACCELERATOR_VALUES


def summed(cloud: Cloud, term: Callable[[PyTree], PyTree[Array]], block: int) -> PyTree[Array]:
    """Sum of term((particles, weights)) over blocks of the cloud and over its devices."""
    total = partial(_blocked, term, block)
    if cloud.mesh is None:
        return total((cloud.particles, cloud.weights))
    over_devices = jax.shard_map(
        lambda part: lax.psum(total(part), AXIS), mesh=cloud.mesh, in_specs=(_SHARDED,), out_specs=_EVERYWHERE
    )
    return over_devices((cloud.particles, cloud.weights))


def _blocked(term: Callable[[PyTree], PyTree], rows: int, part: PyTree) -> PyTree:
    """Compensated sum of `term` over blocks of the leading axis; the first block, which may be short, starts it."""
    count = len(jax.tree.leaves(part)[0])
    if count <= rows:
        return term(part)
    short = count % rows or rows
    again = jax.checkpoint(term, prevent_cse=False)
    first = jax.checkpoint(term)(jax.tree.map(lambda leaf: leaf[:short], part))
    rest = jax.tree.map(lambda leaf: leaf[short:].reshape(-1, rows, *leaf.shape[1:]), part)

    def add(carry: tuple[PyTree, PyTree], one: PyTree) -> tuple[tuple[PyTree, PyTree], None]:
        total, lost = carry
        new = jax.tree.map(jnp.subtract, again(one), lost)
        larger = jax.tree.map(jnp.add, total, new)
        # what the addition rounded away; zero in exact arithmetic
        return (larger, jax.tree.map(lambda c, a, b: (c - a) - b, larger, total, new)), None

    return lax.scan(add, (first, jax.tree.map(lambda leaf: 0 * leaf, first)), rest)[0][0]


@boundary(static=("block",))
def pair_mean(
    cloud: Cloud | PyTree, kernel: Callable[[Array, Array], Float[Array, "n1 n2"]], *, block: int | None = None
) -> Float[Array, ""]:
    r"""The double integral of a kernel over the cloud: ∬k dμ dμ = Σ_ij w_i w_j k(θ_i, θ_j).

    Args:
        cloud: N particles; a kernel sees each as a row of all its d numbers, in the order of the pytree.
        kernel: k(x1 [n1 d], x2 [n2 d]) -> [n1 n2], as those of `jaxtheory.kernels`; it need not be symmetric.
        block: rows of the kernel matrix at once.

    Raises:
        ValueError: block < 1, or a kernel that returns no real numbers [n1 n2].

    Cost: N² kernel entries, twice more in the gradient; memory block · N/devices entries. On a mesh of D devices, the
    particles go once around a ring: D − 1 messages of N/D · (d + 1) numbers from each, as many again for the gradient,
    which keeps the N · d numbers that came by.

    >>> f"{pair_mean(as_cloud(jnp.array([[1.0], [3.0]])), lambda x, y: x @ y.T):.1f}"
    '4.0'
    """
    require(block is None or block >= 1, "block", block, "be >= 1 row", "use None for a block that fits the cache")
    cloud = as_cloud(cloud)
    checked = Checked("kernel", kernel, "pairs", whole=True)
    pairs, mine = partial(_pairs, checked, block), (rows(cloud), cloud.weights)
    if cloud.mesh is None:
        return pairs(mine, mine)
    ring = jax.shard_map(
        lambda mine: lax.psum(around(pairs, cloud.mesh, mine, mine), AXIS),
        mesh=cloud.mesh,
        in_specs=(_SHARDED,),
        out_specs=_EVERYWHERE,
    )
    return ring(mine)


def _pairs(kernel: Callable[[Array, Array], Array], block: int | None, left: PyTree, right: PyTree) -> Array:
    def term(part: tuple[Array, Array]) -> Array:
        with jax.default_matmul_precision("highest"):  # of a kernel's own products
            entries = kernel(part[0], right[0])
        rows = jnp.matmul(entries, right[1], precision="highest")
        return jnp.vdot(part[1], rows, precision="highest")

    return _blocked(term, block or rows_of(len(right[1])), left)


def rows_of(width: int) -> int:
    """As many rows of a matrix with `width` columns as stay in a core's cache."""
    return max(1, _CPU_VALUES // max(width, 1))


def around(pairs: Callable[[PyTree, PyTree], PyTree], mesh: Mesh | None, mine: PyTree, shown: PyTree) -> PyTree:
    """Sum of pairs(mine, block) over the blocks `shown` by all devices, handed around a ring inside `shard_map`."""
    first = pairs(mine, shown)
    if mesh is None:
        return first
    onward = [(device, (device + 1) % mesh.size) for device in range(mesh.size)]

    def turn(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
        total, visitor = carry
        visitor = lax.ppermute(visitor, AXIS, onward)
        return (jax.tree.map(jnp.add, total, pairs(mine, visitor)), visitor), None

    (total, _), _ = lax.scan(turn, (first, shown), length=mesh.size - 1)
    return total
