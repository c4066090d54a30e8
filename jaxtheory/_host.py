"""What is known on the host: numbers, sequences of Python numbers or names, floating dtypes."""

import operator
import typing
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Numbers = jax.Array | np.ndarray
_NOUNS = {int: "integers", float: "numbers", str: "names"}
_EXAMPLES = {int: "(64, 128)", float: "(1.0, 2.0)", str: '("a", "b")'}


class Entries(NamedTuple):
    """What `tuple[float, ...]` or `tuple[int, int]` asks for: a type, and a length if one is said."""

    kind: type
    length: int | None

    @classmethod
    def of(cls, annotation: Any) -> "Entries | None":
        """The entries of an annotation; None where it is no sequence of numbers or names.

        >>> Entries.of(tuple[float, ...])
        Entries(kind=<class 'float'>, length=None)
        """
        origin, kinds = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is not tuple or not kinds or kinds[0] not in _NOUNS:
            return None
        if kinds[1:] == (Ellipsis,):
            return cls(kinds[0], None)
        return cls(kinds[0], len(kinds)) if set(kinds) == {kinds[0]} else None

    def convert(self, value: object) -> tuple[Any, ...] | None:
        """`value` as a tuple of Python numbers or names; None where it is none, or holds traced numbers.

        >>> Entries(int, None).convert(np.array([3, 4])), Entries(int, None).convert([0.5])
        ((3, 4), None)
        """
        if not isinstance(value, (list, tuple, range, np.ndarray, jax.Array)) or getattr(value, "ndim", 1) != 1:
            return None
        try:
            entries = tuple(map(self._entry, value))
        except (TypeError, ValueError, OverflowError):
            return None
        return entries if self.length in (None, len(entries)) else None

    def _entry(self, entry: Any) -> Any:
        if is_masked(entry):
            raise TypeError
        if self.kind is str or isinstance(entry, str):
            if self.kind is not str or not isinstance(entry, str):
                raise TypeError
            return str(entry)
        if self.kind is float:
            return float(entry)
        if jnp.result_type(entry) == jnp.bool_:
            raise TypeError
        return operator.index(entry)

    @property
    def wanted(self) -> str:
        """What to pass, for an error."""
        return f"a tuple of {'' if self.length is None else f'{self.length} '}{_NOUNS[self.kind]}"

    @property
    def example(self) -> str:
        """A value, for an error."""
        return _EXAMPLES[self.kind]


def floating_dtype(name: str, value: Any) -> np.dtype:
    """A floating dtype; None is the default float.

    Raises:
        ValueError: what is no dtype, or no floating one; float64 while 64-bit types are off, which JAX would narrow.

    >>> str(floating_dtype("dtype", "float32"))
    'float32'
    """
    if value is None:
        return jnp.result_type(float)
    try:
        found = jnp.dtype(value)
    except (TypeError, ValueError):
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        text = repr(value) if found is None else found.name
        raise ValueError(f"{name} must be a floating type, got {name}={text:.60}; use {name}='float32'.")
    if found.name == "float64" and not jax.config.read("jax_enable_x64"):
        wish, action = (
            "be at most 32 bits wide while 64-bit types are off",
            'call jax.config.update("jax_enable_x64", True)',
        )
        raise ValueError(f"{name} must {wish}, got {name}=float64; {action} first.")
    return found


def host_numbers(name: str, value: object, axes: int | None = None) -> np.ndarray:
    """Real numbers that are known, in float64 on the host.

    Args:
        name: the argument's name, for the error.
        value: an array or nested lists of numbers.
        axes: how many axes it must have; any number if None.

    Raises:
        ValueError: traced numbers, what is no array of real numbers, or another number of axes.

    >>> host_numbers("knots", [0, 1]).tolist()
    [0.0, 1.0]
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise ValueError(f"{name} must be known outside jit, got {name}=traced numbers; call it before what is traced.")
    wanted = "numbers" if axes is None else f"numbers with {axes} axes"
    array = as_array(value)
    if array is None or not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(
            f"{name} must be {wanted}, got {name}={short(value)}; pass an array or a list of real numbers."
        )
    if axes not in (None, array.ndim):
        raise ValueError(f"{name} must be {wanted}, got shape {array.shape}; reshape it.")
    return np.asarray(array).astype(np.float64)


def integers(name: str, value: Any) -> jax.Array:
    """Integers as an array, refused where the type that JAX gives them cannot hold them.

    >>> str(integers("labels", [1, 2]))
    '[1 2]'
    """
    if isinstance(value, jax.Array):
        return value
    given = np.asarray(value) if not isinstance(value, int) else np.asarray(value, object)
    wanted = jax.dtypes.canonicalize_dtype(given.dtype if given.dtype.kind in "iu" else int)
    if given.dtype.kind in "iuO" and given.size:
        low, high = int(given.min()), int(given.max())
        limits = np.iinfo(wanted)
        if low < limits.min or high > limits.max:
            action = 'call jax.config.update("jax_enable_x64", True), or pass smaller ones'
            raise ValueError(f"{name} must be integers within {wanted.name}, got {low} to {high}; {action}.")
    return jnp.asarray(value)


def labels_or_targets(name: str, value: object) -> jax.Array:
    """An array of real numbers in their own dtype: labels stay integers, targets floating.

    Raises:
        ValueError: what is no array of numbers, and integers that JAX's type cannot hold.

    >>> str(labels_or_targets("y", [0, 1]).dtype)
    'int32'
    """
    array = as_array(value)
    if array is None or not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"{name} must be labels or targets, got {name}={short(value)}; pass an array of numbers.")
    return integers(name, array) if jnp.issubdtype(array.dtype, jnp.integer) else jnp.asarray(array)


def require_arrays(name: str, tree: object) -> None:
    """Raise unless every leaf of a pytree is an array, a number or a key, and there is one.

    >>> require_arrays("x", None)
    Traceback (most recent call last):
    ValueError: x must be arrays, got x=None; pass one array, or a dict or a tuple of arrays.
    """
    leaves = jax.tree.leaves(tree)
    if not leaves or any(as_array(leaf) is None for leaf in leaves):
        raise ValueError(
            f"{name} must be arrays, got {name}={short(tree)}; pass one array, or a dict or a tuple of arrays."
        )


def as_array(value: object) -> Numbers | None:
    """Any array, or a list that may hold tracers, as a NumPy or JAX array; None for what is no array of numbers.

    Masked entries are no numbers.
    """
    if isinstance(value, jax.Array):
        return value
    leaves = jax.tree.leaves(value)
    if any(map(is_masked, leaves)):
        return None
    try:
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        array = jnp.asarray(value) if traced else np.asarray(value)
    except (TypeError, ValueError):
        return None
    return None if array.dtype.kind in "OSUMm" else array


def is_masked(value: object) -> bool:
    """Whether an array of NumPy has masked entries, which NumPy turns into NaN in a list and shows as they are beneath.

    >>> is_masked(np.ma.masked), is_masked(np.ma.array([1.0], mask=[False]))
    (True, False)
    """
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.getmaskarray(value).any())


def short(value: object) -> str:
    """A value for an error, on one line; its type where it is long.

    >>> short([1, 2]), short("x" * 100)
    ('[1, 2]', 'str')
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{type(value).__name__}"
