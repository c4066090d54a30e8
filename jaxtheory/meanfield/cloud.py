"""A measure as a weighted cloud of particles, and the two sums over it that everything else is made of.

`mean` is ∫φ dμ and `pair_mean` is ∬k dμ dμ. Both run in blocks that the reverse pass computes again, so that neither
the value nor the gradient ever holds a number for each particle and each component of φ; on a mesh, `mean` costs one
all-reduce of φ's size, and `pair_mean` sends blocks of particles around a ring.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from jaxtheory import placement
from jaxtheory.checks import holds, require

AXIS = "particles"
_SHARDED, _EVERYWHERE = PartitionSpec(AXIS), PartitionSpec()
# Values of φ held at once: as many as stay in a core's cache; accelerators want enough work for a launch.
_CPU_VALUES, _ACCELERATOR_VALUES = 2**18, 2**24


@partial(jax.tree_util.register_dataclass, data_fields=("particles", "weights"), meta_fields=("mesh",))
@dataclass(frozen=True)
class Cloud:
    """The measure Σ_i w_i δ(θ_i): `particles` is a pytree whose leaves are [N, ...], `weights` is [N].

    `mesh` (one axis, "particles") says over which devices the leading axes are split; None is one device.
    """

    # Transformations put specs and axis numbers in place of arrays, so the fields' types are not checked.
    particles: Any
    weights: Any
    mesh: Mesh | None = None

    @property
    def size(self) -> int:
        """N, the number of particles."""
        return len(self.weights)


def as_cloud(particles: Cloud | PyTree[Array], weights: Array | None = None, mesh: Mesh | None = None) -> Cloud:
    """The cloud of these particles: weights 1/N unless given, split over the devices of `mesh`, if any.

    Args:
        particles: an array [N, ...], or a pytree of them with one N; a `Cloud` is returned as it is.
        weights: [N], ≥ 0; they need not sum to one.
        mesh: whatever its axes, all its devices are used, be they of several processes that make the same call.

    Raises:
        ValueError: leaves of different N, no particles, negative weights, or N not a multiple of the devices.

    >>> as_cloud(jnp.zeros((4, 2))).weights
    Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    cloud = particles if isinstance(particles, Cloud) else Cloud(particles, _weights(particles, weights))
    return cloud if mesh is None else _placed(cloud, mesh)


def _weights(particles: PyTree[Array], weights: Array | None) -> Array:
    leaves = jax.tree.leaves(particles)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    count = shapes[0][0] if shapes and shapes[0] else 0
    same = count > 0 and all(shape[:1] == (count,) for shape in shapes)
    require(same, "particles", shapes, "be arrays [N, ...] with one N >= 1", "stack the particles on the first axis")
    floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    require(floating, "particles", [leaf.dtype for leaf in leaves], "be floating, to move", "use astype(float)")
    if weights is None:
        return jnp.full(count, 1 / count, leaves[0].dtype)
    good = weights.shape == (count,) and holds(lambda w: w >= 0, weights)
    require(good, "weights", weights, f"be {count} numbers >= 0, one a particle", "put signs into the unit")
    return weights


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


def mean(cloud: Cloud, feature: Callable[[PyTree[Array]], PyTree[Array]], *, block: int | None = None) -> PyTree[Array]:
    r"""The integral of a feature over the cloud: ∫φ dμ = Σ_i w_i φ(θ_i).

    Differentiable in particles and weights, forward and backward, to any order. Particles go through in blocks; the
    reverse pass evaluates φ again instead of keeping it, unless one block holds them all.

    Args:
        cloud: N particles.
        feature: φ of one particle, an array or pytree of arrays with m numbers in all.
        block: particles at once; by default as many as make 2^18 numbers of φ (2^24 on an accelerator).

    Returns:
        The value of φ's shape, the same on all devices.

    Raises:
        ValueError: block < 1.

    Cost: N evaluations of φ; the gradient evaluates φ once more and its reverse once. Memory block · m beside the
    particles. On a mesh: one all-reduce of m numbers, none for the gradient.

    >>> f"{mean(as_cloud(jnp.array([1.0, 3.0])), jnp.square):.1f}"
    '5.0'
    """
    require(block is None or block >= 1, "block", block, "be >= 1 particle", "use None for a block that fits the cache")
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), cloud.particles)
    numbers = sum(math.prod(out.shape) for out in jax.tree.leaves(jax.eval_shape(feature, one)))
    values = _CPU_VALUES if jax.default_backend() == "cpu" else _ACCELERATOR_VALUES
    rows = block or max(1, values // max(numbers, 1))
    total = partial(_blocked, partial(_weighted_sum, jax.vmap(feature)), rows)
    if cloud.mesh is None:
        return total((cloud.particles, cloud.weights))
    summed = jax.shard_map(
        lambda part: lax.psum(total(part), AXIS), mesh=cloud.mesh, in_specs=(_SHARDED,), out_specs=_EVERYWHERE
    )
    return summed((cloud.particles, cloud.weights))


def _weighted_sum(features: Callable[[PyTree[Array]], PyTree[Array]], part: tuple[PyTree[Array], Array]) -> Any:
    particles, weights = part
    return jax.tree.map(lambda v: jnp.tensordot(weights, v, 1, precision="highest"), features(particles))


def _blocked(term: Callable[[Any], Any], rows: int, part: Any) -> Any:
    """Sum of `term` over blocks of the leading axis; the first block, which may be short, seeds the carry."""
    count = len(jax.tree.leaves(part)[0])
    if count <= rows:
        return term(part)
    short = count % rows or rows
    again = jax.checkpoint(term, prevent_cse=False)
    first = jax.checkpoint(term)(jax.tree.map(lambda leaf: leaf[:short], part))
    rest = jax.tree.map(lambda leaf: leaf[short:].reshape(-1, rows, *leaf.shape[1:]), part)
    return lax.scan(lambda total, one: (jax.tree.map(jnp.add, total, again(one)), None), first, rest)[0]


def pair_mean(
    cloud: Cloud, kernel: Callable[[Array, Array], Float[Array, "n1 n2"]], *, block: int | None = None
) -> Float[Array, ""]:
    r"""The double integral of a kernel over the cloud: ∬k dμ dμ = Σ_ij w_i w_j k(θ_i, θ_j).

    Args:
        cloud: N particles that are one array [N, d].
        kernel: k(x1 [n1 d], x2 [n2 d]) -> [n1 n2], as those of `jaxtheory.kernels`; it need not be symmetric.
        block: rows of the kernel matrix at once.

    Raises:
        ValueError: particles that are not one array [N, d].

    Cost: N² kernel entries, twice more in the gradient; memory block · N/devices entries. On a mesh of D devices, the
    particles go once around a ring: D − 1 messages of N/D · (d + 1) numbers from each, as many again for the gradient,
    which keeps the N · d numbers that came by.

    >>> f"{pair_mean(as_cloud(jnp.array([[1.0], [3.0]])), lambda x, y: x @ y.T):.1f}"
    '4.0'
    """
    require_rows(cloud)
    if cloud.mesh is None:
        return _pairs(kernel, block, *[(cloud.particles, cloud.weights)] * 2)
    pairs = partial(_pairs, kernel, block)
    ring = jax.shard_map(
        lambda mine: lax.psum(around(pairs, cloud.mesh, mine, mine), AXIS),
        mesh=cloud.mesh,
        in_specs=(_SHARDED,),
        out_specs=_EVERYWHERE,
    )
    return ring((cloud.particles, cloud.weights))


def require_rows(cloud: Cloud) -> None:
    """A kernel acts on rows: the particles must be one array [N, d]."""
    leaves = jax.tree.leaves(cloud.particles)
    one = len(leaves) == 1 and leaves[0].ndim == 2
    require(one, "particles", [leaf.shape for leaf in leaves], "be one array [N, d] for a kernel", "stack their parts")


def _pairs(kernel: Callable[[Array, Array], Array], block: int | None, left: Any, right: Any) -> Array:
    def term(part: tuple[Array, Array]) -> Array:
        rows = jnp.matmul(kernel(part[0], right[0]), right[1], precision="highest")
        return jnp.vdot(part[1], rows, precision="highest")

    return _blocked(term, block or max(1, _CPU_VALUES // len(right[1])), left)


def around(pairs: Callable[[Any, Any], Any], mesh: Mesh | None, mine: Any, shown: Any) -> Any:
    """Sum of pairs(mine, block) over the blocks `shown` by all devices, handed around a ring inside `shard_map`."""
    first = pairs(mine, shown)
    if mesh is None:
        return first
    onward = [(device, (device + 1) % mesh.size) for device in range(mesh.size)]

    def turn(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        total, visitor = carry
        visitor = lax.ppermute(visitor, AXIS, onward)
        return (jax.tree.map(jnp.add, total, pairs(mine, visitor)), visitor), None

    (total, _), _ = lax.scan(turn, (first, shown), length=mesh.size - 1)
    return total
