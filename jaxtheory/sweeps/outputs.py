"""What a point returns: scalars as they are, arrays with the names of their dimensions, and always a status."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from jaxtheory.checks import known, require
from jaxtheory.results import Status, finite_status
from jaxtheory.sweeps.axes import require_name


class Label(NamedTuple):
    """Values along dimensions of an output, as bytes: they can be compared, and be part of a tree's structure."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    data: Any

    @classmethod
    def of(cls, name: str, dims: tuple[str, ...], values: object) -> "Label":
        """The label that holds an array of numbers or strings."""
        hint = "pass numbers or strings that are the same at every point"
        require(known(values), name, "traced values", "be known", hint)
        _require_unmasked(name, values)
        array = np.asarray(values)
        usual = array.dtype.kind in "biufUT" and array.dtype != np.float16
        require(usual, name, array.dtype, "be real numbers or strings", hint)
        strings = array.dtype.kind in "UT"
        data = tuple(array.ravel().tolist()) if strings else array.tobytes()
        return cls(name, dims, array.shape, "string" if strings else str(array.dtype), data)

    @property
    def values(self) -> np.ndarray:
        """The array again."""
        if self.dtype == "string":
            return np.array(self.data, np.dtypes.StringDType()).reshape(self.shape)
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(self.dims)}] {self.values.ravel().tolist()}"


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["dims", "labels"])
@dataclass(frozen=True)
class Named:
    """An array that knows its dimensions' names and labels; a pytree, so that it passes through `vmap` and `jit`."""

    array: Any
    dims: tuple[str, ...]
    labels: tuple[Label, ...] = ()


class Variable(NamedTuple):
    """Dimensions, shape and dtype of one output of one point."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        sizes = ", ".join(f"{dim}={size}" for dim, size in zip(self.dims, self.shape, strict=True))
        return f"{self.dtype}[{sizes}]"


class Schema(NamedTuple):
    """All outputs of a point, and the labels of their dimensions."""

    variables: dict[str, Variable]
    labels: dict[str, Label]

    def shown(self) -> dict[str, str]:
        """As words, for comparison and for errors."""
        kinds = {name: str(variable) for name, variable in self.variables.items()}
        return kinds | {f"coordinate {name}": str(label) for name, label in self.labels.items()}


def named(array: Any, *dims: str, **coordinates: Any) -> Named:
    """`array` with a name for each of its dimensions, for a point to return.

    Args:
        array: any shape, the same at every point of the sweep.
        dims: one name a dimension, none of them an axis of the grid or the name of an output.
        coordinates: values along a dimension under its name, or under another as a pair (dims, values): known numbers
            or strings, the same at every point; they become coordinates of the result.

    Raises:
        ValueError: not one distinct name a dimension, or coordinates that are traced or of another length.

    >>> risk = named(jnp.zeros((3, 2)), "width", "class", width=[8, 16, 32], parameters=("width", [100, 200, 400]))
    >>> risk.dims, [label.name for label in risk.labels]
    (('width', 'class'), ['parameters', 'width'])
    """
    try:
        shape = jnp.shape(array)
    except (TypeError, ValueError) as error:
        found = type(array).__name__
        raise ValueError(f"array must be an array of numbers, got {found}; pass rows of equal lengths.") from error
    one_each = len(dims) == len(shape) and len(set(dims)) == len(dims) and all(isinstance(dim, str) for dim in dims)
    require(one_each, "dims", dims, f"be one distinct name for each dimension of shape {shape}", "name them all")
    _require_unmasked("array", array)
    sizes = dict(zip(dims, shape, strict=True))
    labels = [_label(name, values, sizes) for name, values in sorted(coordinates.items())]
    return Named(array if isinstance(array, np.ndarray) else jnp.asarray(array), dims, tuple(labels))


def _require_unmasked(name: str, values: object) -> None:
    masked = isinstance(values, np.ma.MaskedArray) and bool(np.ma.getmaskarray(values).any())
    require(not masked, name, values, "hold no masked values", "pass its filled(np.nan)")


def _label(name: str, given: Any, sizes: dict[str, int]) -> Label:
    pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str | tuple) and name not in sizes
    along, values = given if pair else (name, given)
    dims = (along,) if isinstance(along, str) else tuple(along)
    hint = f'write {name}=("width", values) for values along the dimension "width"'
    require(all(dim in sizes for dim in dims), name, dims, f"lie along the dimensions {tuple(sizes)}", hint)
    label = Label.of(name, dims, list(values) if isinstance(values, range) else values)
    wanted = tuple(sizes[dim] for dim in dims)
    require(
        label.shape == wanted, name, label.shape, f"have the shape {wanted} of its dimensions", "pass one value each"
    )
    return label


def mapped_point(
    point: Callable[..., Any], static: dict[str, Any], axes: Sequence[str]
) -> Callable[..., dict[str, Named]]:
    """`point` at one place of the grid, traced: with its own key, its outputs checked and its status added."""

    def evaluate(values: dict[str, jax.Array], words: jax.Array, key: jax.Array) -> dict[str, Named]:
        return settled(point(**static, **values, key=folded(key, words)), axes)

    return evaluate


def folded(key: jax.Array, words: jax.Array) -> jax.Array:
    """fold_in(... fold_in(key, w₁) ..., w_k), in a loop, which compiles sooner than k copies."""
    return jax.lax.scan(lambda inner, word: (jax.random.fold_in(inner, word), None), key, words)[0]


def called_point(point: Callable[..., Any], axes: Sequence[str], **arguments: object) -> dict[str, Named]:
    """`point` called as it is; its outputs as NumPy arrays."""
    outputs = settled(point(**arguments), axes, _finite_on_host)
    return {name: Named(np.asarray(output.array), output.dims, output.labels) for name, output in outputs.items()}


def _finite_on_host(values: Sequence[Any], status: Any) -> np.ndarray:
    """`finite_status` of arrays of any precision."""
    code = Status.OK if status is None else int(status)
    require(abs(code) < 2**31, "status", code, "be integers of 32 bits", "return results.Status codes")
    said = np.int32(code)
    inexact = [np.asarray(value) for value in values if jnp.issubdtype(value.dtype, jnp.inexact)]
    finite = all(bool(np.isfinite(value).all()) for value in inexact)
    return np.asarray(said if finite or said != Status.OK else Status.NOT_FINITE, np.int32)


def settled(returned: object, axes: Sequence[str], judged: Callable[..., Any] = finite_status) -> dict[str, Named]:
    """A point's outputs, checked, with the scalar status of all of them.

    An array under "status", and integer outputs whose names end in "_status", say how parts of the point ended; unless
    the point gives a scalar status itself, the worst of them, the largest code, is the point's.
    """
    outputs = _checked(returned, axes)
    said = outputs.pop("status", None)
    if said is not None and said.dims:
        outputs["status_by_" + "_".join(said.dims)] = said
    parts = [output.array for name, output in outputs.items() if _is_status(name, output)]
    if said is not None and not said.dims:
        own = said.array
    else:
        own = jnp.stack([jnp.max(part).astype(jnp.int32) for part in parts]).max() if parts else None
    status = judged([output.array for output in outputs.values()], own)
    return outputs | {"status": Named(status, ())}


def _is_status(name: str, output: Named) -> bool:
    return (name.endswith("_status") or name.startswith("status_by_")) and jnp.issubdtype(
        output.array.dtype, jnp.integer
    )


def schema(shapes: dict[str, Named]) -> Schema:
    """Dimensions, shape and dtype of each output, and all labels, from outputs or their `jax.eval_shape`."""
    variables = {
        name: Variable(output.dims, tuple(output.array.shape), str(output.array.dtype))
        for name, output in sorted(shapes.items())
    }
    labels = {label.name: label for _, output in sorted(shapes.items()) for label in output.labels}
    return Schema(variables, dict(sorted(labels.items())))


def cast(found: dict[str, Named], wanted: Schema) -> dict[str, np.ndarray]:
    """One point's outputs as the arrays that a store holds, with an axis in front.

    Raises:
        ValueError: other names, dimensions or labels, or numbers that the store's dtypes do not hold.
    """
    own = schema(found)
    hint = "return the same names, shapes and coordinates at every point; pad to one shape"
    shapes = {name: variable[:2] for name, variable in own.variables.items()}
    same = shapes == {name: variable[:2] for name, variable in wanted.variables.items()} and own.labels == wanted.labels
    require(same, "point", own.shown(), f"return what it does at the first values, {wanted.shown()}", hint)
    made = {}
    for name, output in found.items():
        array, dtype = output.array, np.dtype(wanted.variables[name].dtype)
        wish = f"fit in {dtype}, as it is at the first values"
        action = "return it in one dtype at every point, e.g. np.float64(value)"
        require(np.can_cast(array.dtype, dtype, "same_kind"), name, array, wish, action)
        with np.errstate(over="ignore"):
            stored = array.astype(dtype)
        kept = np.isfinite(stored) == np.isfinite(array) if dtype.kind in "fc" else stored == array
        require(bool(np.all(kept)), name, array, wish, action)
        made[name] = stored[None]
    return made


def _checked(returned: Any, axes: Sequence[str]) -> dict[str, Named]:
    if isinstance(returned, xarray.Dataset):
        returned = _of_dataset(returned)
    hint = 'return {"risk": risk}'
    require(isinstance(returned, dict), "point", type(returned).__name__, "return a dict of arrays", hint)
    require(len(returned) > 0, "point", returned, "return at least one output", hint)
    outputs = {name: _output(name, value) for name, value in returned.items()}
    _check_names(outputs, axes)
    return outputs


def _of_dataset(dataset: xarray.Dataset) -> dict[str, Named]:
    """The variables of a dataset with its coordinates, as `networks.train_widths` returns one."""
    found = {}
    for name, array in dataset.items():
        coordinates = {
            str(label): (tuple(map(str, values.dims)), values.values) if label not in array.dims else values.values
            for label, values in array.coords.items()
            if values.dims
        }
        found[str(name)] = named(array.values, *map(str, array.dims), **coordinates)
    return found


def _output(name: Any, value: Any) -> Named:
    require(isinstance(name, str) and name.isidentifier(), "output", name, "be named by an identifier", "rename it")
    require(
        not isinstance(value, dict | list | tuple | str | None), name, value, "be an array", "return each array by name"
    )
    _require_unmasked(name, value)
    output = (
        value if isinstance(value, Named) else Named(value if hasattr(value, "dtype") else _number(name, value), ())
    )
    shape, hint = output.array.shape, f"return sweeps.named({name}, ...) with a name for each dimension"
    require(len(shape) == len(output.dims), name, shape, "be a scalar or have named dimensions", hint)
    require(0 not in shape, name, shape, "hold at least one value", "drop the output")
    storable = np.dtype(output.array.dtype).isbuiltin == 1 if not _is_key(output.array) else False
    kind, size = (np.dtype(output.array.dtype).kind, np.dtype(output.array.dtype).itemsize) if storable else ("", 0)
    storable = kind in tuple("biufc") and size <= (16 if kind == "c" else 8)
    require(storable, name, output.array.dtype, "have a dtype that NumPy knows", "return it as float32 (or key_data)")
    return output


def _number(name: str, value: object) -> jax.Array:
    """A Python number, or what JAX takes for one, in JAX's default dtype."""
    try:
        return jnp.asarray(value)
    except OverflowError as error:
        raise ValueError(
            f"{name} must be an integer that JAX holds ({error}), got {name}={value}; return a float."
        ) from error


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def _check_names(outputs: dict[str, Named], axes: Sequence[str]) -> None:
    sizes: dict[str, int] = {}
    labels: dict[str, Label] = {}
    taken = {*axes, *outputs, "status"}
    for name, output in outputs.items():
        free = name not in axes and name not in ("provenance", "key")
        require(free, "output", name, f"not share its name with an axis, {tuple(axes)}, or the store", "rename it")
        for dim, size in zip(output.dims, output.array.shape, strict=True):
            hint = "rename the dimension"
            require(dim not in taken, name, dim, "have dimensions of their own names", hint)
            require_name("dimension", dim)
            same = sizes.setdefault(dim, size) == size
            require(same, name, f"{dim}={size}", f"agree with {dim}={sizes[dim]} of another output", hint)
        for label in output.labels:
            same = label.name not in taken and label.name != "provenance"
            require(same, name, label.name, "have coordinates of their own names", "rename the coordinate")
            require_name("coordinate", label.name)
            same = labels.setdefault(label.name, label) == label
            require(same, name, label.name, f"agree with {label.name} of another output", "pass the same values")
    for label in labels.values():
        own = label.name not in sizes or label.dims == (label.name,)
        require(own, "coordinate", label.name, "not share its name with another dimension", "rename the coordinate")
    _check_status(outputs)


def _check_status(outputs: dict[str, Named]) -> None:
    status = outputs.get("status")
    if status is not None:
        whole = jnp.issubdtype(status.array.dtype, jnp.integer)
        found = f"{status.array.dtype}{status.dims}"
        require(whole, "status", found, "be integers", "return results.Status codes")
        taken = "status_by_" + "_".join(status.dims)
        require(taken not in outputs, "output", taken, "be free for the status of arrays", "rename it")
