"""Where arrays lie on a mesh of devices, of one process or of several: split by rows, or whole on each.

On a mesh of several processes every process makes the same call with the same arrays, as if it were alone. What comes
back split is a global array of which each process holds its own rows;
`jax.experimental.multihost_utils.process_allgather(found, tiled=True)` brings all of them to every process.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxtheory.checks import require


def line(mesh: Mesh, axis: str) -> Mesh:
    """All devices of a mesh, whatever its shape, along one axis that the compiler may split over freely.

    >>> line(jax.make_mesh((1, 1), ("a", "b")), "rows").axis_names
    ('rows',)
    """
    require(isinstance(mesh, Mesh), "mesh", mesh, "be a jax.sharding.Mesh", "make it by jax.make_mesh")
    return Mesh(np.asarray(mesh.devices).reshape(-1), (axis,), axis_types=(AxisType.Auto,))


def split(tree: PyTree, mesh: Mesh) -> PyTree:
    """The same arrays, their leading axes split over all devices of the mesh; inside `jit` as well.

    >>> split(np.arange(2.0), jax.make_mesh((1,), ("rows",))).sharding.spec
    P('rows',)
    """
    return _placed(tree, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


def whole(tree: PyTree, mesh: Mesh) -> PyTree:
    """The same arrays, all of them on each device of the mesh.

    >>> whole(np.arange(2.0), jax.make_mesh((1,), ("rows",))).sharding.spec
    P()
    """
    return _placed(tree, NamedSharding(mesh, PartitionSpec()))


def require_rows(rows: int, name: str, mesh: Mesh) -> None:
    """Raise unless the devices of a mesh can share `rows` rows equally.

    Raises:
        ValueError: a number of rows that is not a multiple of the devices.

    >>> require_rows(8, "x", jax.make_mesh((1,), ("devices",), devices=jax.devices()[:1]))
    """
    wish = f"have a multiple of {mesh.size} rows, one part a device"
    require(rows % mesh.size == 0, name, f"{rows} rows", wish, "drop the rest")


def _placed(tree: PyTree, sharding: NamedSharding) -> PyTree:
    def put(leaf: ArrayLike) -> jax.Array:
        # inside jit device_put to a mesh says nothing to the compiler; outside, a constraint refuses committed arrays
        traced = isinstance(leaf, jax.core.Tracer)
        return jax.lax.with_sharding_constraint(leaf, sharding) if traced else jax.device_put(leaf, sharding)

    return jax.tree.map(put, tree)
