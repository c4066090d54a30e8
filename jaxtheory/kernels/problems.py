"""What a method of this room is asked about: a kernel or its Gram matrix, points, targets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float

from jaxtheory import guarded
from jaxtheory.checks import Checked, quantity, require
from jaxtheory.kernels import functions
from jaxtheory.kernels.functions import Kernel, as_indices, is_indexed, precomputed, widest


def as_kernel(kernel: Kernel | Any, x: Any, name: str = "x", *, several: bool = False) -> tuple[Any, Array]:
    """The pytree kernel and its points, for a kernel function, or for a Gram matrix (then x = None, or indices).

    What a function of the user's returns is checked: [n1 n2], or [n1 n2 ...] of `several` kernels at once. Without
    indices a Gram matrix with one number that is not finite is NaN everywhere: a method that looks at some of its
    columns sees it too.

    Raises:
        ValueError: what is neither a kernel function nor a square matrix; points that are missing or no numbers.

    >>> kernel, x = as_kernel(functions.laplace(), [0.0, 1.0])
    >>> x.shape
    (2, 1)
    """
    if not callable(kernel):
        gram = _gram(kernel)
        if x is None:
            gram = jnp.where(jnp.isfinite(gram).all(), gram, jnp.full_like(gram, jnp.nan))
            return precomputed(gram), jnp.arange(gram.shape[0])
        return (wrapped := precomputed(gram)), as_points(wrapped, x, name)
    factory = getattr(kernel, "__module__", "") == functions.__name__ and not isinstance(kernel, Partial)
    require(not factory, "kernel", kernel, "be a kernel function", "call its factory, e.g. kernels.gaussian(1.0)")
    require(
        x is not None, name, None, "hold the points of a kernel function", "pass None for x with a Gram matrix only"
    )
    wrapped = _checked(kernel, several)
    return wrapped, as_points(wrapped, x, name)


def _checked(kernel: Any, several: bool) -> Partial:
    """The kernel as a pytree, with what a function of the user's returns checked."""
    kernel = kernel if isinstance(kernel, Partial) else Partial(kernel)
    if isinstance(kernel.func, Checked) or str(getattr(kernel.func, "__module__", "")).startswith("jaxtheory."):
        return kernel
    checked = Checked("kernel", kernel.func, "several" if several else "pairs", whole=True)
    return Partial(checked, *kernel.args, **kernel.keywords)


def _computes_whole(kernel: Any, x1: Array, x2: Array) -> bool:
    """Whether a kernel of integers computes with them as such."""
    func = getattr(kernel, "func", None)
    if not isinstance(func, Checked):
        return bool(jnp.issubdtype(jnp.result_type(jax.eval_shape(kernel, x1, x2)), jnp.integer))
    kinds = []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        value = func.function(*args, **kwargs)
        kinds.append(getattr(value, "dtype", None))
        return value

    spied = Checked(func.name, recorded, "any", func.whole)  # [n] of integers may yet become [n, 1]
    jax.eval_shape(Partial(spied, *kernel.args, **kernel.keywords), x1, x2)
    return kinds[-1] is not None and bool(jnp.issubdtype(kinds[-1], jnp.integer))


def as_points(kernel: Any, x: Any, name: str = "x", first: Array | None = None) -> Array:
    """Points as a kernel takes them: indices, or numbers with [n] for [n, 1].

    Floating points become at least float32. So do booleans and short or unsigned integers, and all integers where the
    kernel computes with them as such: its values would wrap. Other integers may be tokens and stay. `first` holds the
    points of the kernel's first argument, where `x` are those of its second.

    >>> as_points(functions.gaussian(), [1.0, 2.0]).shape, as_points(functions.gaussian(), [[True]]).dtype
    ((2, 1), dtype('float32'))
    """
    numbers = jnp.asarray(quantity(name, x))
    given = numbers if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating) else jnp.asarray(x)
    if is_indexed(kernel):
        return as_indices(name, given, kernel.args[0].shape[0])
    require(given.ndim >= 1, name, f"shape {given.shape}", "hold points along its first axis", "pass an array [n d]")
    counts = given.dtype in (jnp.int32, jnp.int64)
    if counts and not _computes_whole(kernel, (given if first is None else first)[:1], given[:1]):
        return given
    return numbers[:, None] if numbers.ndim == 1 else numbers


def as_problem(kernel: Any, x: Array, y: Array) -> tuple[Array, Array]:
    """Points and targets of a regression in one dtype, after the checks of their shapes.

    >>> x, y = as_problem(functions.laplace(), jnp.zeros((2, 1)), jnp.ones(2))
    >>> y.dtype
    dtype('float32')
    """
    require(x.shape[0] >= 1, "x", f"shape {x.shape}", "hold at least one point", "pass data")
    require(y.ndim >= 1 and 0 not in y.shape[1:], "y", f"shape {y.shape}", "hold targets [n] or [n o]", "pass data")
    require(x.shape[0] == y.shape[0], "y", y.shape, f"have {x.shape[0]} rows, one a point", "check x and y")
    dtype = widest(_matrix(kernel, x).dtype, y.dtype)
    return in_dtype(x, dtype), y.astype(dtype)


def in_dtype(x: Array, dtype: Any) -> Array:
    """Floating points in a dtype; indices and tokens stay.

    >>> in_dtype(jnp.ones((1, 1), jnp.bfloat16), "float32").dtype, in_dtype(jnp.arange(1), "float32").dtype
    (dtype('float32'), dtype('int32'))
    """
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def asymmetric(one: Float[Array, "n m"], other: Float[Array, "n m"]) -> Bool[Array, ""]:
    """Whether ‖A − B‖ > √ε ‖A‖: more than rounding, which a distance's square root makes √ε, lets K differ from Kᵀ.

    A and B are K and Kᵀ, or their products with one random vector.

    >>> bool(asymmetric(jnp.ones((1, 2)), jnp.zeros((1, 2))))
    True
    """
    return guarded.norm(one - other) > float(jnp.finfo(one.dtype).eps) ** 0.5 * guarded.norm(one)


def _matrix(kernel: Any, x: Array) -> jax.ShapeDtypeStruct:
    """The shape and dtype of kernel(x, x), which must be one number for each pair."""
    found, square = jax.eval_shape(kernel, x, x), (x.shape[0], x.shape[0])
    require(found.shape == square, "kernel(x, x)", found.shape, f"have the shape {square}", "return a number a pair")
    return found


def _gram(kernel: Any) -> Array:
    hint = "pass e.g. kernels.gaussian(1.0), or a square array"
    array = isinstance(kernel, (jax.Array, np.ndarray, list)) or (
        isinstance(kernel, tuple) and not hasattr(kernel, "_fields")
    )
    shown = repr(kernel) if isinstance(kernel, str) else f"a {type(kernel).__name__}"
    require(array, "kernel", shown, "be a function kernel(x1, x2) or a Gram matrix", hint)
    gram = jnp.asarray(quantity("kernel", kernel))
    square = gram.ndim == 2 and gram.shape[0] == gram.shape[1]
    hint = "pass K(x, x), or a kernel function first and the points second"
    require(square, "kernel", f"shape {gram.shape}", "be a square Gram matrix", hint)
    return gram
