"""Where arrays lie on a mesh of devices, of one process or of several: split by rows, or whole on each.

On a mesh of several processes every process makes the same call with the same arrays, as if it were alone. What comes
back split is a global array of which each process holds its own rows;
`jax.experimental.multihost_utils.process_allgather(found, tiled=True)` brings all of them to every process.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxtheory.checks import require

P = ParamSpec("P")
T = TypeVar("T")


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


def automatic(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, computed with Auto axes where its arrays, or the mesh in use, have Explicit ones.

    Arrays stay where they are; results lie on the Explicit mesh again. Inside `jit` axes keep their types, and an array
    that is split over an Explicit axis there is refused.

    Raises:
        ValueError: a traced array that is split over an Explicit axis.

    >>> automatic(lambda x: x[:1] + 1)(np.ones(2))
    array([2.])
    """

    @wraps(function)
    def run(*args: P.args, **named: P.kwargs) -> T:
        leaves = jax.tree.leaves((args, named))
        for leaf in leaves:
            _require_automatic(leaf)
        meshes = [_explicit_in_use(), *(sharding.mesh for sharding in map(_named, leaves) if sharding is not None)]
        mesh = next((m for m in meshes if isinstance(m, Mesh) and AxisType.Explicit in m.axis_types), None)
        if mesh is None or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*args, **named)
        twin = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
        args, named = _moved((args, named), mesh, twin)
        with jax.set_mesh(None):
            found = function(*args, **named)
        return cast(T, _moved(found, twin, mesh))

    return run


def _explicit_in_use() -> Mesh | None:
    """The mesh that is set, where it has Explicit axes; none inside `jit`, where axes keep their types."""
    if AxisType.Explicit not in jax.sharding.get_abstract_mesh().axis_types:
        return None
    try:
        return jax.sharding.get_mesh()
    except ValueError:  # inside jit
        return None


def _named(leaf: object) -> NamedSharding | None:
    """How an array lies on a mesh, if it does and is not traced."""
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
        return None
    return leaf.sharding if isinstance(leaf.sharding, NamedSharding) else None


def _moved(tree: PyTree, start: Mesh, end: Mesh) -> PyTree:
    """Arrays of one mesh on another of the same devices and axes, where they are: nothing is copied."""

    def move(leaf: object) -> object:
        sharding = _named(leaf)
        if sharding is None or sharding.mesh != start:
            return leaf
        return jax.device_put(leaf, NamedSharding(end, sharding.spec))

    return jax.tree.map(move, tree)


def _require_automatic(leaf: object) -> None:
    """Raise for a traced array that is split over an Explicit axis."""
    if isinstance(leaf, jax.core.Tracer):
        sharding = jax.typeof(leaf).sharding
        kinds = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True))
        names = [name for part in sharding.spec for name in (part if isinstance(part, tuple) else (part,)) if name]
        split_over = [name for name in names if kinds[name] == AxisType.Explicit]
        hint = "call it outside jit, or inside jax.sharding.auto_axes"
        require(not split_over, "arrays inside jit", f"{jax.typeof(leaf)}", "be split over Auto axes alone", hint)
