"""Checks of a function, its parameters and its examples, before a tangent kernel is computed."""

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from jaxtheory._host import as_array
from jaxtheory.checks import require
from jaxtheory.empirical import parts
from jaxtheory.programs import mixing
from jaxtheory.programs.loops import while_loops
from jaxtheory.programs.models import is_module

T = TypeVar("T")

METHODS = ("auto", "structured", "jacobian", "directions", "products")
BATCHES = ("each", "whole", "unchecked")

Batch = Literal["each", "whole", "unchecked"]
Function = Callable[[PyTree, PyTree], Array]


def check_options(method: str, batch: str, block: Any, memory: Any, mesh: Mesh | None) -> Any:
    """Check the options of `ntk`; return `block` as a pair of integers or None."""
    require(method in METHODS, "method", method, f"be one of {METHODS}", "choose one of these")
    require(mesh is None or isinstance(mesh, Mesh), "mesh", mesh, "be a jax.sharding.Mesh", "make it by jax.make_mesh")
    number = memory is None or (isinstance(memory, (int, float)) and 0 < memory < float("inf"))
    require(number, "memory", memory, "be positive", "pass bytes, for example 2**30")
    check_batch(batch)
    if batch == "whole":
        fits = method in ("auto", "products")
        require(fits, "method", method, "be 'auto' or 'products' for the whole batch", "leave it out")
        require(block is None, "block", block, "be None for the whole batch", "bound memory by `memory`")
    if block is None:
        return None
    pair = tuple(block) if isinstance(block, (tuple, list)) else (block, block)
    whole = len(pair) == 2 and all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in pair)
    require(whole, "block", block, "be an integer or two", "pass examples a block, for example 64")
    return tuple(int(n) for n in pair)


def check_block(block: Any, x1: PyTree, x2: PyTree | None) -> None:
    """A block is no larger than the examples."""
    if block is not None:
        n1, n2 = (len(jax.tree.leaves(x)[0]) for x in (x1, x1 if x2 is None else x2))
        fits = 1 <= block[0] <= n1 and 1 <= block[1] <= n2
        require(fits, "block", block, f"lie within the {n1} by {n2} examples", "pass a smaller block")


def check_batch(batch: str) -> None:
    """One of the ways to read a function of a batch."""
    require(batch in BATCHES, "batch", batch, f"be one of {BATCHES}", "choose one of these")


def require_function(f: object) -> None:
    """f can be called with parameters and examples; models are told what to pass instead."""
    wrapped = type(f).__module__.startswith("equinox._")  # filter_jit and the like, which are functions
    if is_module(f, "flax.nnx") or is_module(f, "flax.linen"):
        hint = "pass what empirical.from_linen or empirical.from_nnx returns"
    elif is_module(f, "equinox") and not wrapped:
        hint = "split it by eqx.partition, and pass lambda p, x: jax.vmap(eqx.combine(p, rest))(x)"
    elif callable(f):
        return _require_two(f)
    else:
        hint = "pass net.apply" if callable(getattr(f, "apply", None)) else "pass the function itself, e.g. net.apply"
    require(False, "f", type(f).__name__, "be a function f(params, x)", hint)


def _require_two(f: Callable[..., object]) -> None:
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return  # a function that does not say
    try:
        signature.bind(None, None)
    except TypeError:
        hint = "bind its other arguments, e.g. by functools.partial, or by hk.without_apply_rng"
        require(False, "f", f"a function of {signature}", "be a function f(params, x)", hint)


def parameters(params: PyTree, real: bool = True) -> PyTree:
    """The parameters as arrays, those of half precision in float32; complex ones unless `real`.

    Raises:
        ValueError: no leaves, or a leaf that is not floating-point, with its path.
    """
    require(bool(jax.tree.leaves(params)), "params", params, "hold at least one array", "pass what to differentiate in")

    def read(path: tuple[Hashable, ...], leaf: object) -> Array:
        kind = _dtype(leaf)
        told = type(leaf).__name__ if kind is None else kind.name
        hint = "keep other leaves out by empirical.filter_params, or by eqx.partition(model, eqx.is_inexact_array)"
        pair = kind is not None and jnp.issubdtype(kind, jnp.complexfloating)
        hint = "pass real and imaginary parts, and use lax.complex(real, imag) in f" if pair else hint
        floating = kind is not None and jnp.issubdtype(kind, jnp.floating if real else jnp.inexact)
        require(floating, "params" + jax.tree_util.keystr(path), told, "be a floating-point array", hint)
        return _single(leaf)

    return jax.tree_util.tree_map_with_path(read, params)


def examples(name: str, x: PyTree) -> PyTree:
    """Arrays with examples first; nested lists of numbers are one array, and half precision is read in float32."""
    leaves = jax.tree.leaves(x)
    kinds = [_dtype(leaf) for leaf in leaves]
    hint = "pass an array, or a pytree of arrays, with examples first"
    require(bool(leaves) and all(kind is not None for kind in kinds), name, _told(x), "hold arrays of numbers", hint)
    if isinstance(x, (list, tuple)) and all(not np.ndim(leaf) for leaf in leaves):
        array = _stacked(x)
        require(array is not None, name, _told(x), "be one array if it is a list of numbers", hint)
        return _single(array)
    counts = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves}
    told = [np.shape(leaf) for leaf in leaves]
    wish = "hold one number of examples >= 1 along the first axis of each array"
    require(len(counts) == 1 and 0 not in counts, name, f"shapes {told}", wish, "pass x[None] for one example")
    return jax.tree.map(_single, x)


@dataclass(frozen=True)
class Alone:
    """f of one example at a time, whatever f does with several."""

    f: Function

    def __call__(self, params: PyTree, x: PyTree) -> Array:
        """Outputs of every example, from batches of one."""
        return jax.vmap(lambda one: self.f(params, jax.tree.map(lambda a: a[None], one))[0])(x)


def prepared(
    f: Function, params: PyTree, x1: PyTree, x2: PyTree | None, batch: Batch, *, name: str = "x1", real: bool = True
) -> tuple[Function, PyTree, PyTree, PyTree | None]:
    """f, parameters and examples as they are computed with: all parameters real, and the outputs too if `real`.

    Raises:
        ValueError: f is no function of parameters and a batch, mixes the examples of a batch (with `batch` "each"), or
            is not differentiable in reverse mode; complex numbers if `real`; and as `parameters` and `examples`.
    """
    require_function(f)
    check_batch(batch)
    params, x1 = parameters(params, real), examples(name, x1)
    x2 = None if x2 is None else examples("x2", x2)
    if any(map(parts.is_complex, jax.tree.leaves(params))):
        f, params = parts.OfParts(f), parts.split(params)
    check_output(f, params, x1, name, real)
    if x2 is not None:
        check_output(f, params, x2, "x2", real)
    if batch == "whole":
        _check_loops(jax.make_jaxpr(f)(params, x1), params)
        return f, params, x1, x2
    if batch == "unchecked":
        f = Alone(f)
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), x1)
    _check_size(lambda: _check_loops(jax.make_jaxpr(f)(params, one), params), 1)
    if batch == "each":
        _check_alone(f, params, x1)
    return f, params, x1, x2


def check_output(f: Function, params: PyTree, x: PyTree, name: str, real: bool = True) -> None:
    """f(params, x) is one array of floats, or of complex numbers unless `real`, with the examples first."""
    count, shapes = len(jax.tree.leaves(x)[0]), [leaf.shape for leaf in jax.tree.leaves(x)]
    try:
        out = jax.eval_shape(f, params, x)
    except Exception as error:
        told = f"{type(error).__name__} ({str(error).strip().splitlines()[0] if str(error).strip() else ''})"
        wish = f"be accepted by f(params, {name})"
        hint = f"pass {name}[None] if it is one example, or another shape; if params or f is wrong, correct it"
        raise ValueError(f"{name} must {wish}, got {told} for arrays of shapes {shapes}; {hint}.") from error
    require(isinstance(out, jax.ShapeDtypeStruct), "f", jax.tree.structure(out), "return one array", "select an output")
    hint = f"return f(params, x)[None] of a single output, or pass {name}[None] if it is one example"
    require(out.shape[:1] == (count,), "f", f"{out.shape} for {count} examples", "have a batch axis first", hint)
    floating = jnp.issubdtype(out.dtype, jnp.floating if real else jnp.inexact)
    stacked = "return jnp.stack([y.real, y.imag], -1) of complex outputs y"
    hint = stacked if jnp.issubdtype(out.dtype, jnp.complexfloating) else "return floating-point outputs"
    require(floating, "f", out.dtype.name, "have floating-point outputs", hint)
    require(out.size > 0, "f", f"shape {out.shape}", "return at least one number an example", "select an output")


def _check_size(trace: Callable[[], T], count: int | str) -> T:
    """What `trace` returns; a function that takes no other number of examples is refused by name."""
    try:
        return trace()
    except ValueError as error:
        if " must " in str(error) and "; " in str(error):
            raise
        failed: Exception = error
    except Exception as error:
        failed = error
    told = f"{type(failed).__name__} for a batch of {count}"
    hint = "pass x1[None] if x1 is one example, or batch='whole' if f needs the batch as it is"
    raise ValueError(f"f must take any number of examples, got {told}; {hint}.") from failed


def _check_alone(f: Function, params: PyTree, x: PyTree) -> None:
    found = _check_size(lambda: mixing.find(f, params, x), "2 or 3")
    if found is not None:
        told = f"{found.site.operation} at {found.site.place}, which {found.reason}"
        hint = (
            "pass batch='whole' for the kernel of the function of the batch, batch='unchecked' for that of batches of "
            "one, or a function without it, as a model in inference"
        )
        require(False, "f", told, "map each example on its own", hint)


def _check_loops(program: ClosedJaxpr, params: PyTree) -> None:
    """No loop of unknown length stands between parameters and outputs."""
    count, inputs = len(jax.tree.leaves(params)), len(program.jaxpr.invars)
    hint = "use lax.scan or lax.fori_loop with static bounds"
    bad = while_loops(program, [i < count for i in range(inputs)])[1]
    require(not bad, "f", "a while loop", "be differentiable in params in reverse mode", hint)


def _dtype(leaf: object) -> np.dtype | None:
    """The dtype of an array or a number; None for anything else."""
    if isinstance(leaf, (bool, int, float, complex)):
        return jnp.result_type(leaf)
    array = as_array(leaf)
    return None if array is None else array.dtype


def _single(leaf: object) -> Array:
    """An array, read in float32 where it is of half precision."""
    kind = _dtype(leaf)
    if kind is not None and jnp.issubdtype(kind, jax.dtypes.extended):
        return cast(Array, leaf)
    array = jnp.asarray(cast(ArrayLike, as_array(leaf)))
    half = jnp.issubdtype(array.dtype, jnp.floating) and jnp.finfo(array.dtype).bits < 32
    return array.astype(jnp.float32) if half else array


def _stacked(x: PyTree) -> ArrayLike | None:
    """A nested list of numbers as an array; None if it is ragged."""
    try:
        return jnp.asarray(x) if any(isinstance(v, jax.Array) for v in jax.tree.leaves(x)) else np.asarray(x)
    except (TypeError, ValueError):
        return None


def _told(x: object) -> str:
    text = repr(x)
    return text if len(text) <= 60 else type(x).__name__
