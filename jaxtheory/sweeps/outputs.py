"""What a point returns: scalars as they are, arrays with the names of their dimensions, and always a status."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.checks import require
from jaxtheory.results import finite_status


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["dims"])
@dataclass(frozen=True)
class Named:
    """An array that knows the names of its dimensions; a pytree, so that it passes through `vmap` and `jit`."""

    array: Any
    dims: tuple[str, ...]


class Variable(NamedTuple):
    """Dimensions, shape and dtype of one output of one point."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = ", ".join(f"{dim}={size}" for dim, size in zip(self.dims, self.shape, strict=True))
        return f"{self.dtype}[{sizes}]"


def named(array: Any, *dims: str) -> Named:
    """`array` with a name for each of its dimensions, for a point to return.

    Args:
        array: any shape, the same at every point of the sweep.
        dims: one name a dimension, none of them an axis of the grid or the name of an output.

    Raises:
        ValueError: not one distinct name a dimension.

    >>> named(jnp.zeros((3, 2)), "width", "class").dims
    ('width', 'class')
    """
    shape = jnp.shape(array)
    one_each = len(dims) == len(shape) and len(set(dims)) == len(dims)
    require(one_each, "dims", dims, f"be one distinct name for each dimension of shape {shape}", "name them all")
    return Named(jnp.asarray(array), dims)


def one_point(
    point: Callable[..., Any], static: dict[str, Any], axes: Sequence[str]
) -> Callable[..., dict[str, Named]]:
    """`point` at one place of the grid, with its own key, its outputs checked and its status added."""

    def evaluate(values: dict[str, jax.Array], index: jax.Array, key: jax.Array) -> dict[str, Named]:
        returned = point(**static, **values, key=jax.random.fold_in(key, index))
        outputs = _checked(returned, axes)
        said = outputs.pop("status", None)
        status = finite_status([output.array for output in outputs.values()], None if said is None else said.array)
        return outputs | {"status": Named(status, ())}

    return evaluate


def schema(shapes: dict[str, Named]) -> dict[str, Variable]:
    """Dimensions, shape and dtype of each output, from `jax.eval_shape` of `one_point`."""
    return {
        name: Variable(output.dims, tuple(output.array.shape), str(output.array.dtype))
        for name, output in sorted(shapes.items())
    }


def _checked(returned: Any, axes: Sequence[str]) -> dict[str, Named]:
    hint = 'return {"risk": risk}'
    require(isinstance(returned, dict), "point", type(returned).__name__, "return a dict of arrays", hint)
    require(len(returned) > 0, "point", returned, "return at least one output", hint)
    outputs = {name: _output(name, value) for name, value in returned.items()}
    _check_names(outputs, axes)
    return outputs


def _output(name: Any, value: Any) -> Named:
    require(isinstance(name, str) and name.isidentifier(), "output", name, "be named by an identifier", "rename it")
    require(
        not isinstance(value, dict | list | tuple | str | None), name, value, "be an array", "return each array by name"
    )
    output = value if isinstance(value, Named) else Named(jnp.asarray(value), ())
    shape, hint = output.array.shape, f"return sweeps.named({name}, ...) with a name for each dimension"
    require(len(shape) == len(output.dims), name, shape, "be a scalar or have named dimensions", hint)
    require(0 not in shape, name, shape, "hold at least one value", "drop the output")
    storable = np.dtype(output.array.dtype).isbuiltin == 1 if not _is_key(output.array) else False
    require(storable, name, output.array.dtype, "have a dtype that NumPy knows", "return it as float32 (or key_data)")
    return output


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def _check_names(outputs: dict[str, Named], axes: Sequence[str]) -> None:
    sizes: dict[str, int] = {}
    for name, output in outputs.items():
        free = name not in axes and name not in ("provenance", "key")
        require(free, "output", name, f"not share its name with an axis, {tuple(axes)}, or the store", "rename it")
        for dim, size in zip(output.dims, output.array.shape, strict=True):
            hint = "rename the dimension"
            require(dim not in axes and dim not in outputs, name, dim, "have dimensions of their own names", hint)
            same = sizes.setdefault(dim, size) == size
            require(same, name, f"{dim}={size}", f"agree with {dim}={sizes[dim]} of another output", hint)
    status = outputs.get("status")
    if status is not None:
        integer = status.dims == () and jnp.issubdtype(status.array.dtype, jnp.integer)
        require(
            integer,
            "status",
            f"{status.array.dtype}{status.dims}",
            "be an integer scalar",
            "return a results.Status code",
        )
