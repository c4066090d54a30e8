"""Argument checks: name, requirement, value, fix.

Three steps at every public boundary, in this order:

1. `@boundary` converts arguments to what the annotations say: lists, NumPy arrays, integers and booleans that stand for
   quantities become floating-point arrays, and what cannot be converted is refused by name.
2. `require` raises on what can be seen without a number (shapes, options), traced or not.
3. `constrain` and its short forms `positive`, `nonnegative`, `within` check values: outside `jit` they raise, inside
   `jit` they replace a forbidden value by NaN, so that nothing computed from it is finite.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxtheory._host import short
from jaxtheory.conversion import boundary, host_numbers, labels_or_targets, quantity, require_arrays

__all__ = [
    "Checked", "boundary", "constrain", "holds", "host_numbers", "keep_nan", "known", "labels_or_targets",
    "nonnegative", "positive", "quantity", "require", "require_arrays", "returned", "within",
]  # fmt: skip

T = TypeVar("T")
Predicate = Callable[[Any], ArrayLike]  # elementwise, of a NumPy or JAX array


def known(*values: object) -> bool:
    """Whether the numbers can be read now: True outside `jit`, False for tracers and for arrays of other hosts.

    >>> known(1.0), jax.jit(lambda x: x * known(x))(2.0)
    (True, Array(0., dtype=float32, weak_type=True))
    """
    leaves = jax.tree.leaves(values)
    return all(not isinstance(leaf, jax.core.Tracer) and getattr(leaf, "is_fully_addressable", True) for leaf in leaves)


def holds(predicate: Callable[..., ArrayLike], *values: object) -> bool:
    """Whether `predicate(*values)` is true everywhere; True where the numbers cannot be read now.

    The predicate gets numpy arrays, since JAX would trace it inside a caller's `jit` or `shard_map`.

    >>> holds(lambda x: x > 0, np.array([1.0, -1.0])), jax.jit(lambda x: x * holds(lambda y: y > 0, x))(-2.0)
    (False, Array(-2., dtype=float32, weak_type=True))
    """
    return not known(*values) or bool(np.all(predicate(*map(np.asarray, values))))


def require(ok: bool, name: str, value: object, requirement: str, hint: str) -> None:
    """Raise a `ValueError` that names the argument, its requirement, its value and an action, unless `ok`.

    >>> require(False, "ridge", -0.001, "be >= 0 to define a regression", "use ridge=0.0 for the min-norm solution")
    Traceback (most recent call last):
    ValueError: ridge must be >= 0 ... got ridge=-0.001; use ridge=0.0 for the min-norm solution.
    """
    if not ok:
        raise ValueError(f"{name} must {requirement}, got {name}={value}; {hint}.")


def constrain(name: str, value: T, predicate: Predicate, requirement: str, hint: str) -> T:
    """The value where `predicate` holds elementwise; elsewhere a ValueError outside `jit`, NaN inside.

    Args:
        name, requirement, hint: as in `require`.
        value: a number or an array of floats; NaN never satisfies an inequality, so it is refused too.
        predicate: elementwise, of numpy or JAX arrays.

    >>> jax.jit(lambda b: constrain("bandwidth", b, lambda v: v > 0, "be > 0", "use 1.0"))(-1.0)
    Array(nan, dtype=float32, weak_type=True)
    """
    if known(value):
        require(holds(predicate, value), name, value, requirement, hint)
        return value
    array = jnp.asarray(value)  # a tracer, which stays one
    return cast(T, jnp.where(predicate(array), array, jnp.full_like(array, jnp.nan)))


def positive(name: str, value: T, hint: str) -> T:
    """`constrain` to 0 < value < ∞.

    >>> positive("bandwidth", 0.0, "use a length scale of the data")
    Traceback (most recent call last):
    ValueError: bandwidth must be positive and finite, got bandwidth=0.0; use a length scale of the data.
    """
    return constrain(name, value, lambda v: (v > 0) & (v < np.inf), "be positive and finite", hint)


def nonnegative(name: str, value: T, hint: str) -> T:
    """`constrain` to 0 ≤ value < ∞.

    >>> nonnegative("noise", 0.5, "pass a variance")
    0.5
    """
    return constrain(name, value, lambda v: (v >= 0) & (v < np.inf), "be >= 0 and finite", hint)


def within(name: str, value: T, low: float, high: float, hint: str) -> T:
    """`constrain` to low ≤ value ≤ high.

    >>> within("delta", 1.5, 0.0, 1.0, "pass a probability, e.g. delta=0.05")
    Traceback (most recent call last):
    ValueError: delta must lie in [0.0, 1.0], got delta=1.5; pass a probability, e.g. delta=0.05.
    """
    return constrain(name, value, lambda v: (v >= low) & (v <= high), f"lie in [{low}, {high}]", hint)


def keep_nan(x: Array, value: Array) -> Array:
    """The value of an elementwise function at x, in x's dtype, and NaN where x is: a step would make a number of NaN.

    >>> keep_nan(jnp.array([jnp.nan, 2.0]), jnp.array([False, True]))
    Array([nan,  1.], dtype=float32)
    """
    return jnp.where(jnp.isnan(x), x, value.astype(x.dtype))


def returned(
    name: str, value: object, shape: tuple[Any, ...] | None = None, *, whole: DTypeLike | None = None
) -> Array:
    """What a function of the user's returned, as an array of real numbers of a known shape.

    Args:
        name: the function's, for the error.
        value: its result, traced or not.
        shape: what it must have, with `...` at the end for any further axes; None allows all shapes.
        whole: the dtype that integers and booleans get; None refuses them, where derivatives are taken.

    Raises:
        ValueError: None, text, several arrays, complex numbers, another shape.

    >>> returned("loss", np.float32(0.5), ())
    Array(0.5, dtype=float32)
    >>> returned("loss", None, ())
    Traceback (most recent call last):
    ValueError: loss must return one real number, got loss=None; end it by `return` and its value.
    """
    several = "real numbers in one array" if shape is None else f"real numbers of shape {_shown(shape)}"
    wish = f"return {'one real number' if shape == () else several}"
    if not isinstance(value, (bool, int, float, np.generic, np.ndarray, jax.Array)):
        hint = "end it by `return` and its value" if value is None else "return an array of jax.numpy"
        parts = "return one of its parts" if isinstance(value, (tuple, list, dict)) else hint
        require(False, name, short(value), wish, parts)
    array = jnp.asarray(value)
    floating, number = (jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.number))
    if not floating:
        usable = whole is not None and not jnp.issubdtype(array.dtype, jnp.complexfloating)
        real = "return its real part, or its modulus" if number and whole is not None else "make it floating"
        require(usable and (number or array.dtype == jnp.bool_), name, array.dtype.name, wish, real)
        array = array.astype(whole)
    hint = "sum it, or take its mean" if shape == () else "return an array of this shape"
    leading = shape[:-1] if shape is not None and shape[-1:] == (...,) else None
    fits = shape in (None, array.shape) or (leading is not None and array.shape[: len(leading)] == leading)
    require(fits, name, f"shape {list(array.shape)}", wish, hint)
    return array


def _shown(shape: tuple[Any, ...]) -> str:
    return f"[{' '.join('...' if size is ... else str(size) for size in shape)}]"


@dataclasses.dataclass(frozen=True)
class Checked:
    """A function of the user's, every result of which goes through `returned`; equal, and hashed, as the function is.

    `shape`: "number" is one number, "same" the shape of the last argument, "pairs" [n1 n2] of the last two, "several"
    [n1 n2 ...], "any" all. With `whole`, integers and booleans take the floating type of the arguments, or the default.

    >>> Checked("activation", lambda x: x > 0, "same", whole=True)(jnp.ones(2))
    Array([1., 1.], dtype=float32)
    """

    name: str
    function: Callable[..., Any]
    shape: Literal["number", "same", "pairs", "several", "any"] = "number"
    whole: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Array:
        value, shape = self.function(*args, **kwargs), _SHAPES[self.shape](*args)
        return returned(self.name, value, shape, whole=_floating(args) if self.whole else None)


def _floating(args: Any) -> DTypeLike:
    """The widest floating type of the arguments, or the default."""
    given = [leaf.dtype for leaf in jax.tree.leaves(args) if hasattr(leaf, "dtype")]
    floating = [dtype for dtype in given if jnp.issubdtype(dtype, jnp.floating)]
    return max(floating, key=lambda dtype: dtype.itemsize) if floating else jnp.result_type(float)


_SHAPES: dict[str, Callable[..., tuple[Any, ...] | None]] = {
    "any": lambda *args: None,
    "number": lambda *args: (),
    "same": lambda *args: jnp.shape(args[-1]),
    "pairs": lambda *args: (len(args[-2]), len(args[-1])),
    "several": lambda *args: (len(args[-2]), len(args[-1]), ...),
}
