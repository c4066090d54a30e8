"""Calls inside a program whose mesh has Explicit axes: they compute with Auto axes, and their results do not tell.

`jax.vmap` over an axis of examples or seeds that is split over an Explicit axis batches a call whose own arrays are
whole. JAX then knows the placement of every intermediate array, and refuses loops that begin with a number, indexing
by batched numbers and reshapes, for which it asks the author of the loop for one. With Auto axes the compiler divides
the batch instead.
"""

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

_NUMBERS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex, str)


def with_auto_axes(function: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The call, with Auto axes where the mesh in use has Explicit ones and its traced arrays are whole.

    Calls of functions that close over traced arrays, and those that return functions, are made as they are, since a
    closure brings the axes along.

    >>> with_auto_axes(lambda x: x + 1, (1,), {})
    2
    """
    mesh: Any = jax.sharding.get_abstract_mesh()
    if not mesh.empty and (AxisType.Explicit not in mesh.axis_types or AxisType.Manual in mesh.axis_types):
        return function(*args, **named)
    leaves, tree = jax.tree.flatten((args, named))
    if mesh.empty:  # none is set: that of the arrays
        meshes = [jax.typeof(leaf).sharding.mesh for leaf in leaves if isinstance(leaf, jax.core.Tracer)]
        mesh = next((m for m in meshes if AxisType.Explicit in m.axis_types), None)
        if mesh is None:
            return function(*args, **named)
        with jax.sharding.use_abstract_mesh(mesh):
            return with_auto_axes(function, args, named)
    arrays = [leaf for leaf in leaves if _is_placed(leaf)]
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in arrays)
    if not traced or any(map(_is_split, arrays)) or any(map(_refers_to_axes, leaves)):
        return function(*args, **named)
    rest: dict[str, Any] = {}

    def computed(arrays: list[jax.Array]) -> list[jax.Array]:
        given = iter(arrays)
        args, named = jax.tree.unflatten(tree, [next(given) if _is_placed(leaf) else leaf for leaf in leaves])
        found, rest["tree"] = jax.tree.flatten(function(*args, **named))
        rest["found"] = [None if isinstance(leaf, jax.Array) else leaf for leaf in found]
        return [leaf for leaf in found if isinstance(leaf, jax.Array)]

    values = iter(jax.sharding.auto_axes(computed, out_sharding=PartitionSpec())(arrays))
    if not all(leaf is None or isinstance(leaf, _NUMBERS) for leaf in rest["found"]):
        return function(*args, **named)
    return jax.tree.unflatten(rest["tree"], [next(values) if leaf is None else leaf for leaf in rest["found"]])


def _is_placed(leaf: object) -> bool:
    """Whether a leaf is traced or lies on a mesh; other arrays stay known numbers."""
    return isinstance(leaf, jax.Array) and not jax.typeof(leaf).sharding.mesh.empty


def _is_split(array: jax.Array) -> bool:
    return any(part is not None for part in jax.typeof(array).sharding.spec)


def _refers_to_axes(leaf: object) -> bool:
    """Whether a leaf is a mesh, or a function that closes over traced arrays."""
    return isinstance(leaf, Mesh) or (not isinstance(leaf, _NUMBERS) and any(_traced_inside(leaf, set())))


def _traced_inside(value: object, seen: set[int]) -> Iterator[bool]:
    """True for each traced array that a function, an object or a tree of them holds."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, jax.core.Tracer):
        yield True
        return
    held: list[object] = []
    if isinstance(value, types.FunctionType):
        held += [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        held += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    elif isinstance(value, types.MethodType):
        held += [value.__self__, value.__func__]
    elif isinstance(value, functools.partial):
        held += [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, (tuple, list)):
        held += value
    elif isinstance(value, dict):
        held += value.values()
    elif not isinstance(value, (*_NUMBERS, type, types.ModuleType, types.BuiltinFunctionType)):
        held += [getattr(value, "__wrapped__", None), *getattr(value, "__dict__", {}).values()]
    for part in held:
        yield from _traced_inside(part, seen)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that is assigned later
        return False
