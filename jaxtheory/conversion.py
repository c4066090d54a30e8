"""Conversion of a public function's arguments to the kinds that its annotations state.

A quantity is a real number that is computed with: `Float[Array, ...]` or `float`. Labels, indices, tokens and counts
are integers: `Int[Array, ...]` or `int`. The annotation decides, once, for callers that pass lists, NumPy arrays or
integers.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, Union, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxtheory._axes import with_auto_axes
from jaxtheory._host import (
    Entries,
    Numbers,
    as_array,
    floating_dtype,
    host_numbers,
    integers,
    labels_or_targets,
    require_arrays,
    short,
)

__all__ = ["Numbers", "boundary", "host_numbers", "labels_or_targets", "quantity", "require_arrays"]

F = TypeVar("F", bound=Callable[..., object])
_COMPUTED = (jnp.dtype("float32"), jnp.dtype("float64"))


@overload
def boundary(function: F) -> F: ...


@overload
def boundary(*, static: tuple[str, ...]) -> Callable[[F], F]: ...


def boundary(function: Any = None, *, static: tuple[str, ...] = ()) -> Any:
    """Convert the arguments of `function` to the kinds that its annotations state, and refuse the rest by name.

    | annotation | accepted | passed on |
    | --- | --- | --- |
    | `Float[Array, "n k"]` | numbers in arrays, lists, tuples; integers, booleans | a floating array of 2 axes |
    | `Float[Array, "n d"]` (last axis named d: points) | the same, and [n] for [n, 1] | the same |
    | `float` (also with `Float[Array, ""]`) | any real number | `float`, or a 0-d floating array |
    | `Int[Array, "n"]`, `int` | integers; not booleans for `int` | an integer array, `int` |
    | `Key[Array, ""]` | keys of `jax.random.key` | the key |
    | `tuple[float, ...]`, `tuple[int, int]`, … | tuples, lists, arrays of known numbers | a tuple |
    | an argument named `dtype` | a floating type, or None for the default float | the type |
    | `bool`, `str`, `Literal`, `Callable`, `Mapping`, a result type | one of those | the same |
    | anything else | everything | the same |

    Integers take the dtype of the floating arrays beside them, or the default float. float16 and bfloat16 are computed
    in float32, and so are the results. `None` passes where the annotation or the default says so.

    Args:
        function: the public function.
        static: names of numbers that shape the program (counts, degrees, exponents); arrays of one number become Python
            numbers, and traced ones are refused.

    Raises:
        ValueError: an argument of another kind or another number of axes, with its name and what to pass.

    >>> from jaxtyping import Array, Float
    >>> @boundary
    ... def norm(x: Float[Array, " n"]) -> Float[Array, ""]:
    ...     return jnp.sqrt(jnp.sum(x**2))
    >>> norm([3, 4])
    Array(5., dtype=float32)
    >>> norm("abc")
    Traceback (most recent call last):
    ValueError: x must be numbers of shape [n], got x='abc'; pass an array or a list of real numbers.
    >>> jax.jit(boundary(static=("n",))(lambda n: jnp.ones(n)))(3)
    Traceback (most recent call last):
    ValueError: n must be known when the program is compiled, got n=...; pass a Python number, or name it in ...
    """
    if function is None:
        return functools.partial(boundary, static=static)
    signature = inspect.signature(function)
    found = {name: _Kind.of(parameter) for name, parameter in signature.parameters.items()}
    kinds = {name: kind for name, kind in found.items() if kind is not None}

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            names = ", ".join(signature.parameters)
            raise TypeError(f"{function.__name__}(): {error}; its arguments are {names}.") from None
        given = {name: value for name, value in bound.arguments.items() if name in kinds}
        dtype = _common_dtype(value for name, value in given.items() if kinds[name].real is not None)
        for name, value in given.items():
            bound.arguments[name] = kinds[name].convert(name, value, dtype)
        for name in static:
            if name in bound.arguments:
                bound.arguments[name] = _known_number(name, bound.arguments[name])
        try:
            return with_auto_axes(function, bound.args, bound.kwargs)
        except jax.errors.JAXTypeError:  # a traced number where a Python number shapes the program
            for name, value in given.items():
                if kinds[name].whole or kinds[name].scalar:
                    _refuse_traced(name, value)
            raise

    return call


def quantity(name: str, value: object, dtype: DTypeLike | None = None) -> float | jax.Array:
    """A real number or array as floats: Python numbers stay Python floats, integers and booleans become floating.

    Args:
        name: the argument's name, for the error.
        value: a number, an array, or nested lists of numbers; float16 and bfloat16 become float32.
        dtype: of what has no floating dtype itself; the default float if None.

    Raises:
        ValueError: strings, None, complex or other values that are no real numbers.

    >>> quantity("x", [1, 2]), quantity("x", True)
    (Array([1., 2.], dtype=float32), 1.0)
    """
    return _real(name, value, dtype, "numbers")


class _Axes(NamedTuple):
    """The number of axes that a jaxtyping annotation allows; `points` if [n] may stand for [n, 1]."""

    least: int
    most: float
    points: bool
    text: str

    @classmethod
    def of(cls, annotation: Any) -> "_Axes":
        named = [getattr(dim, "name", "") for dim in annotation.dims]
        variadic = annotation.index_variadic is not None
        count = len(named) - variadic
        points = not variadic and count == 2 and named[-1] == "d"
        text = f"of shape [{annotation.dim_str.strip()}]" if annotation.dim_str.strip() else "a single number"
        return cls(count, np.inf if variadic else count, points, text)

    def fit(self, name: str, value: jax.Array) -> jax.Array:
        if self.points and value.ndim == 1:
            return value[:, None]
        if not self.least <= value.ndim <= self.most:
            axes = f"{self.least}{'' if self.most == self.least else ' or more'} axes"
            action = "pass one number at a time, or use jax.vmap" if self.most == 0 else f"reshape it to {axes}"
            raise ValueError(f"{name} must be {self.text}, got shape {value.shape}; {action}.")
        return value


class _Kind(NamedTuple):
    """What one argument may be: a real array or number, an integer, or one of `others`."""

    real: _Axes | None
    scalar: bool  # Python floats pass as they are
    integer: _Axes | None
    whole: bool  # Python integers pass
    key: _Axes | None
    options: tuple[object, ...]
    others: tuple[type, ...]
    function: bool
    none: bool
    entries: Entries | None = None
    dtype: bool = False

    @classmethod
    def of(cls, parameter: inspect.Parameter) -> "_Kind | None":
        """The kind of a parameter; None where the annotation allows what cannot be told apart."""
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            return None
        members = _members(parameter.annotation)
        kind = cls(None, False, None, False, None, (), (), False, parameter.default is None)
        if parameter.name == "dtype":
            return kind._replace(dtype=True)
        for member in members:
            extended = kind._add(member)
            if extended is None:
                return None
            kind = extended
        return kind

    def _add(self, member: Any) -> "_Kind | None":
        origin = typing.get_origin(member)
        if member is type(None) or member is None:
            return self._replace(none=True)
        if member is float:
            return self._replace(scalar=True, real=self.real or _Axes(0, 0, False, "a number"))
        if member is int:
            return self._replace(whole=True)
        if origin is Literal:
            return self._replace(options=self.options + typing.get_args(member))
        if (origin is not None and issubclass(origin, Callable)) or member is Callable:  # type: ignore[arg-type]
            return self._replace(function=True)
        entries = Entries.of(member)
        if entries is not None:
            return self._replace(entries=entries)
        names = _array_dtypes(member)
        if names is not None:
            if names == {"prng_key"}:
                return self._replace(key=_Axes.of(member))
            if all("float" in name for name in names):
                return self._replace(real=_Axes.of(member))
            if all(name.startswith(("int", "uint")) for name in names):
                return self._replace(integer=_Axes.of(member))
            return None
        if (isinstance(member, type) and member in (bool, str)) or _is_result(member):
            return self._replace(others=(*self.others, member))
        if origin is Mapping:
            return self._replace(others=(*self.others, Mapping))
        return None

    def convert(self, name: str, value: object, dtype: np.dtype | None) -> object:
        if self.dtype:
            return value if value is None and self.none else floating_dtype(name, value)
        if value is None and self.none:
            return None
        if self.options and isinstance(value, type(self.options[0])):
            if value not in self.options and not self.others:
                listed = ", ".join(map(repr, self.options))
                raise ValueError(f"{name} must be one of {listed}, got {name}={value!r}; choose one of these.")
            return value
        if self.others and isinstance(value, self.others):
            return value
        entries = None if self.entries is None else self.entries.convert(value)
        if entries is not None:
            return entries
        if self.function and callable(value):
            return value
        if self.key is not None and _is_key(value):
            return _keys(name, value, self.key)
        if self.whole and _is_integer_scalar(value):
            return value if isinstance(value, jax.core.Tracer) else int(np.asarray(value))
        if self.integer is not None and _is_integer(value):
            return self.integer.fit(name, integers(name, value))
        if self.real is not None:
            value = _real(name, value, dtype, _described("numbers", self.real))
            return value if isinstance(value, float) and self.scalar else self.real.fit(name, jnp.asarray(value))
        if self.entries is not None:
            for leaf in jax.tree.leaves(value):
                _refuse_traced(name, leaf)
        raise ValueError(f"{name} must be {self._wanted()}, got {name}={short(value)}; {self._action()}.")

    def _wanted(self) -> str:
        wanted = [" or ".join(map(repr, self.options))] if self.options else []
        wanted += [f"a {kind.__name__}" for kind in self.others]
        wanted += ["a function"] if self.function else []
        wanted += ["a random key"] if self.key is not None else []
        wanted += [self.entries.wanted] if self.entries is not None else []
        wanted += ["an integer"] if self.whole else []
        wanted += [_described("integers", self.integer)] if self.integer is not None else []
        return " or ".join(wanted)

    def _action(self) -> str:
        if self.key is not None:
            return "pass jax.random.key(0), or a key split from it"
        if self.entries is not None:
            return f"pass e.g. {self.entries.example}"
        if self.whole or self.integer is not None:
            return "round or convert it by astype(int)"
        if self.function:
            return "pass the function itself, e.g. net.apply"
        return f"pass {self._wanted()}"


def _real(name: str, value: object, dtype: DTypeLike | None, wanted: str) -> float | jax.Array:
    """`value` as a Python float or as a floating array."""
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:
            action = "pass a number of at most 1.8e308"
            bits = int(value).bit_length()
            raise ValueError(f"{name} must be {wanted}, got an integer of {bits} bits; {action}.") from None
    if isinstance(value, jax.Array) and value.dtype in _COMPUTED:
        return value
    array = as_array(value)
    if array is None or not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        action = "pass an array or a list of real numbers"
        raise ValueError(f"{name} must be {wanted}, got {name}={short(value)}; {action}.")
    if isinstance(value, np.generic):
        return float(value)
    if not hasattr(value, "dtype") or not jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.asarray(array, jnp.result_type(float) if dtype is None else dtype)
    array = jnp.asarray(array)
    return array.astype(jnp.float32) if jnp.finfo(array.dtype).bits < 32 else array


def _known_number(name: str, value: object) -> object:
    """A number as a Python number; anything else as it is."""
    _refuse_traced(name, value)
    return value.item() if isinstance(value, (jax.Array, np.ndarray)) and value.ndim == 0 else value


def _refuse_traced(name: str, value: object) -> None:
    if isinstance(value, jax.core.Tracer):
        action = "pass a Python number, or name it in static_argnames of jax.jit"
        raise ValueError(f"{name} must be known when the program is compiled, got {name}={value}; {action}.")


def _common_dtype(values: Iterable[object]) -> np.dtype | None:
    """The dtype of the floating arrays among the arguments, at least float32; None without any."""
    dtypes = {value.dtype for value in values if isinstance(value, (jax.Array, np.ndarray)) and value.ndim}
    floating = [dtype for dtype in dtypes if dtype in _COMPUTED or jnp.issubdtype(dtype, jnp.floating)]
    floating = [
        jax.dtypes.canonicalize_dtype(dtype) for dtype in floating
    ]  # float64 of NumPy, where there is none here
    return max([*floating, _COMPUTED[0]], key=lambda dtype: dtype.itemsize) if floating else None


def _is_integer(value: object) -> bool:
    array = as_array(value)
    return array is not None and (jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == jnp.bool_)


def _is_integer_scalar(value: object) -> bool:
    if isinstance(value, int):  # of any size: counts of neurons exceed 64 bits
        return not isinstance(value, bool)
    array = None if isinstance(value, np.bool_) else as_array(value)
    return array is not None and array.ndim == 0 and _is_integer(value)


def _is_key(value: object) -> bool:
    if not isinstance(value, jax.Array):
        return False
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or (value.dtype == jnp.uint32 and value.ndim >= 1)


def _keys(name: str, value: Any, axes: _Axes) -> Any:
    """One key, or as many axes of keys as stated; a raw key is a row of integers."""
    raw = not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    words = jax.eval_shape(jax.random.PRNGKey, 0).shape[0]
    if raw and value.shape[-1] != words:
        raise ValueError(
            f"{name} must be rows of {words} words if it is raw, got {value.shape}; pass jax.random.key(0)."
        )
    shape = value.shape[:-1] if raw else value.shape
    if not axes.least <= len(shape) <= axes.most:
        wanted = "one random key" if axes.most == 0 else f"random keys {axes.text}"
        raise ValueError(f"{name} must be {wanted}, got keys of shape {shape}; pass one, or map over them by jax.vmap.")
    return value


def _members(annotation: object) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _array_dtypes(member: object) -> set[str] | None:
    """The dtype names of a jaxtyping array annotation; None for anything else."""
    names = getattr(member, "dtypes", None)
    if getattr(member, "dims", None) is None or not isinstance(names, (tuple, list)):
        return None
    return set(names)


def _is_result(member: Any) -> bool:
    return isinstance(member, type) and hasattr(member, "_fields") and member.__module__.startswith("jaxtheory")


def _described(noun: str, axes: _Axes) -> str:
    return axes.text if axes.text.startswith("a ") else f"{noun} {axes.text}"
