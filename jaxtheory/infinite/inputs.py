"""Batches of examples: an array, or a pytree of arrays with one first axis, in the precision of a computation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import PyTreeDef
from jaxtyping import Array, PyTree

from jaxtheory._host import as_array, short
from jaxtheory.checks import require
from jaxtheory.conversion import quantity

Spec = tuple[tuple[tuple[int, ...], np.dtype], ...]  # shape of an example and dtype, leaf by leaf
_HINT = "pass an array [n ...], or a pytree of such arrays; one example x as x[None]"


def batch(name: str, x: PyTree) -> PyTree:
    """A batch with arrays (or shapes) as leaves; lists of numbers are arrays, float16 and bfloat16 become float32.

    Raises:
        ValueError: no array in it, strings and other objects, an array without axes, or batches of different length.
    """
    if isinstance(x, list | tuple) and _plain(x):
        array = as_array(x)
        require(array is not None, name, short(x), "be numbers, in arrays", _HINT)
        x = array
    leaves = jax.tree.leaves(x)
    require(len(leaves) > 0, name, repr(x), "hold at least one array", _HINT)
    x = jax.tree.map(lambda leaf: _array(name, leaf), x)
    lengths = {leaf.shape[0] for leaf in jax.tree.leaves(x)}
    require(len(lengths) == 1, name, f"lengths {sorted(lengths)}", "hold arrays with one common first axis", _HINT)
    return x


def _plain(x: PyTree) -> bool:
    leaves = jax.tree.leaves(x)
    return bool(leaves) and all(isinstance(leaf, bool | int | float | np.generic) for leaf in leaves)


def _array(name: str, leaf: object) -> Array | jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        made: Array | jax.ShapeDtypeStruct = jax.ShapeDtypeStruct(leaf.shape, computed(leaf.dtype))
    else:
        given = as_array(leaf)
        require(given is not None, name, short(leaf), "be numbers, in arrays", _HINT)
        assert given is not None
        real = not hasattr(leaf, "dtype") or jnp.issubdtype(given.dtype, jnp.floating)
        made = jnp.asarray(quantity(name, given) if real else given)
    require(len(made.shape) > 0, name, "a single number", "have a batch axis first", _HINT)
    return made


def computed(dtype: np.dtype) -> np.dtype:
    """The dtype of a computation with such numbers: integers stay, halves are computed in float32."""
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jnp.dtype(jnp.float32) if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32 else dtype


def spec(x: PyTree) -> Spec:
    """Shapes of an example and dtypes."""
    return tuple((tuple(leaf.shape[1:]), jnp.dtype(leaf.dtype)) for leaf in jax.tree.leaves(x))


def numbers(given: Spec) -> np.dtype:
    """The floating dtype of a computation."""
    floating = [dtype for _, dtype in given if jnp.issubdtype(dtype, jnp.floating)]
    return max(floating, key=lambda dtype: dtype.itemsize, default=jnp.result_type(float))


def structs(given: Spec, structure: PyTreeDef, length: int = 1) -> PyTree:
    """A batch of shapes."""
    return structure.unflatten([jax.ShapeDtypeStruct((length, *shape), dtype) for shape, dtype in given])


def rows(x: PyTree, places: Array) -> PyTree:
    """Some examples of a batch."""
    return jax.tree.map(lambda leaf: leaf[places], x)


def places(x: PyTree) -> Array:
    """The numbers of the examples of a batch."""
    return jnp.arange(jax.tree.leaves(x)[0].shape[0])


def like(name: str, x: PyTree, model: PyTree, other: PyTree = None) -> PyTree:
    """A batch for a network that takes batches like `model`, of the shapes of `other`."""
    shapes = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(x))
    require(not shapes, name, "shapes alone", "hold numbers", "pass arrays")
    x = batch(name, x)
    found, wanted = (str(jax.tree.structure(tree)) for tree in (x, model))
    require(found == wanted, name, found, f"have the structure {wanted}", "pass what f takes")
    x = jax.tree.map(lambda leaf, m: leaf[:, None] if leaf.ndim == 1 and m.shape[1:] == (1,) else leaf, x, model)
    if other is not None:
        ours, theirs = spec(x), spec(other)
        wish = [shape for shape, _ in theirs]
        same = [shape for shape, _ in ours] == wish
        held = f"shapes {[leaf.shape for leaf in jax.tree.leaves(x)]}"
        require(same, name, held, f"hold examples of shapes {wish}", "check x2")
        x = jax.tree.map(lambda leaf, o: leaf.astype(jnp.promote_types(leaf.dtype, o.dtype)), x, other)
    return x


def generic(given: Spec) -> list[Array]:
    """One generic example, leaf by leaf, with its batch axis: normal numbers, zeros for integers."""
    rng = np.random.default_rng(0)
    # zeros of NumPy: those of JAX would be traced where the network is first used inside jit
    return [
        jnp.asarray(
            rng.standard_normal((1, *shape)) if jnp.issubdtype(dtype, jnp.floating) else np.zeros((1, *shape)), dtype
        )
        for shape, dtype in given
    ]


def require_batch(trace: Callable[[Spec], object], x: PyTree) -> PyTree:
    """x, or numbers [n] as points [n 1] where a network takes these, by `trace` at a batch of many examples.

    Raises:
        ValueError: the network takes x as one example and not as a batch; its own error where it takes neither.
    """
    try:
        trace(spec(x))
    except Exception:
        shapes = [leaf.shape for leaf in jax.tree.leaves(x)]
        if len(shapes[0]) == len(shapes) == 1 and _takes(trace, (((1,), spec(x)[0][1]),)):
            return jax.tree.map(lambda leaf: _column(leaf), x)
        single = tuple((tuple(leaf.shape), jnp.dtype(leaf.dtype)) for leaf in jax.tree.leaves(x))
        found = f"shape {shapes[0] if len(shapes) == 1 else shapes}, which the network takes as one example"
        require(not _takes(trace, single), "x", found, "have a batch axis first", "pass x[None]")
        raise
    return x


def _takes(trace: Callable[[Spec], object], given: Spec) -> bool:
    try:
        trace(given)
    except Exception:
        return False
    return True


def _column(leaf: Array | jax.ShapeDtypeStruct) -> Array | jax.ShapeDtypeStruct:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((*leaf.shape, 1), leaf.dtype)
    return leaf[:, None]
