"""The infinite-width limit of a network as it is written."""

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PyTree

from jaxtheory.checks import known, require
from jaxtheory.infinite.demand import Item, demand, det_item, run
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.errors import NoLimitError, Site, refuse
from jaxtheory.infinite.layout import Rand
from jaxtheory.infinite.models import flax_shape_error, function_of
from jaxtheory.infinite.moments import Calculus
from jaxtheory.infinite.nodes import Node, Use
from jaxtheory.infinite.prior import Prior, named_leaves
from jaxtheory.infinite.program import require_apart
from jaxtheory.infinite.shared import require_untied
from jaxtheory.infinite.views import Leaf, whole
from jaxtheory.infinite.walk import Context
from jaxtheory.infinite.widths import doubled, require_width_free
from jaxtheory.kernels.gram import gram

_ENTRIES = 2**17  # of the largest array of one block: it stays in a core's cache


class Both(NamedTuple):
    """The two kernels of one pass."""

    nngp: Float[Array, "n1 n2"]
    ntk: Float[Array, "n1 n2"]


class Limit(NamedTuple):
    """Kernel functions of the limit: `nngp(x1, x2)`, `ntk(x1, x2)`, `both(x1, x2)`; without x2, of x1 with itself."""

    nngp: Callable[..., Float[Array, "n1 n2"]]
    ntk: Callable[..., Float[Array, "n1 n2"]]
    both: Callable[..., Both]


class _Compiled(NamedTuple):
    """Kernel and tangent of a pair of examples, and of one with itself; the size of the largest array that they need.

    And for one example, sizes of the variances of all `nodes`; which parameters serve where.
    """

    pair: Callable[..., tuple[Array, Array]]
    diagonal: Callable[[Any], tuple[Array, Array]]
    entries: int
    sizes: Callable[[Any], Array]
    nodes: list[Node]
    output: Node
    visited: list[Node]


def limit(
    f: Any,
    params: PyTree[Any],
    x: Num[Any, "n ..."],
    *,
    prior: Prior,
    scale: float = 3.0,
    check_width: bool = True,
) -> Limit:
    r"""The infinite-width limit of a network: covariance of its outputs at initialization, and its NTK.

        nngp(x, x') = lim E[f_i(x) f_i(x')],   ntk(x, x') = lim Σ_θ weight_θ ∂_θ f_i(x) ∂_θ f_i(x')

    for one output channel i. The program is read as it is (its jaxpr at batch size one), with its parameters Gaussian:
    an axis that a weight makes is an axis of channels, and averages over channels are replaced by expectations. What
    the program computes besides (shapes, masks, positions, normalization by averages) stays what it is.

    Args:
        f: a function f(params, x) of a batch, with one array [n channels] as its value; or a Flax module (linen, or
            NNX, which brings its parameters: pass params=None).
        params: parameters, or their shapes (`jax.eval_shape` of an initializer): only shapes and paths are used.
        x: a batch of inputs, or its shape; the kernels take inputs of any shape that f takes.
        prior: (path, shape) -> `Moments`; see `jaxtheory.infinite.prior`.
        scale: the largest standard deviation of pre-activations for which activations without a closed form are exact.
        check_width: also read the program at twice its width, where that can be done, and compare.

    Returns:
        `Limit`, of functions of (x1, x2 = None): jittable, differentiable, in the precision of the inputs. Without x2
        the matrix is symmetric, half of it is computed, and its diagonal has correlation 1 exactly.

    Raises:
        NoLimitError: an operation has no limit or none that is known here: named, with the line of the user's program.

    Cost: for each pair of examples what a layer needs of its places: one number for dense layers and flattened images,
        one for each pair of pixels under global pooling or attention. Depth in a `lax.scan` stays one.
    Source: Neal (1996); Lee et al. (2018); Jacot, Gabriel and Hongler (2018); Yang (2019, 2020), Tensor Programs I, II.

    >>> f = lambda p, x: jax.nn.relu(x @ p["in"]) @ p["out"]
    >>> shapes = {"in": jax.ShapeDtypeStruct((3, 64), "float32"), "out": jax.ShapeDtypeStruct((64, 1), "float32")}
    >>> from jaxtheory.infinite import prior
    >>> kernels = limit(f, shapes, jnp.ones((1, 3)), prior=prior.ntk(sigma_w=2**0.5))
    >>> kernels.both(jnp.ones((1, 3)))
    Both(nngp=Array([[2.]], dtype=float32), ntk=Array([[4.]], dtype=float32))
    """
    network, shapes = function_of(f, params, x)
    leaves, structure = jax.tree.flatten(shapes)
    tree: Any = structure
    paths = [path for path, _ in named_leaves(shapes)]
    moments = [prior(path, leaf.shape) for path, leaf in zip(paths, leaves, strict=True)]

    @functools.cache
    def compiled(shape: tuple[int, ...], dtype: Any, tangent: bool, x64: bool) -> _Compiled:
        structs = tree.unflatten([jax.ShapeDtypeStruct(p.shape, _dtype(p.dtype, dtype)) for p in leaves])
        with jax.default_matmul_precision("highest"):  # of products of known arrays, which the limit keeps
            closed = jax.make_jaxpr(network)(structs, jax.ShapeDtypeStruct((1, *shape), dtype))
        known = [Leaf(i, path, p.shape, *m) for i, (path, p, m) in enumerate(zip(paths, leaves, moments, strict=True))]
        return _outside(_compile, closed, known, (1, *shape), _numbers(dtype), tangent, scale)

    def ready(shape: tuple[int, ...], dtype: Any, tangent: bool) -> _Compiled:
        return compiled(shape, dtype, tangent, jnp.result_type(float) == jnp.float64)

    require_apart(network, tree.unflatten([jax.ShapeDtypeStruct(p.shape, _dtype(p.dtype, x.dtype)) for p in leaves]), x)
    made = ready(x.shape[1:], jnp.dtype(x.dtype), True)
    if check_width:
        _check_width(network, tree, leaves, paths, prior, made, x, scale)
    return _kernels(ready)


def _check_width(
    network: Any, tree: Any, leaves: Any, paths: Any, prior: Prior, made: _Compiled, x: Any, scale: float
) -> None:
    """The program at twice its width, if it can be traced there, has the same variances."""
    shapes = doubled([p.shape for p in leaves], made.output, made.visited)
    structs = [jax.ShapeDtypeStruct(s, _dtype(p.dtype, x.dtype)) for s, p in zip(shapes, leaves, strict=True)]
    moments = [prior(path, s) for path, s in zip(paths, shapes, strict=True)]
    if not all(known(m) for m in moments):
        return
    shape = (1, *x.shape[1:])
    try:
        closed = jax.make_jaxpr(network)(tree.unflatten(structs), jax.ShapeDtypeStruct(shape, x.dtype))
    except (TypeError, ValueError, flax_shape_error()):
        return  # a module that holds its widths cannot be widened from outside
    wide_leaves = [Leaf(i, path, s, *m) for i, (path, s, m) in enumerate(zip(paths, shapes, moments, strict=True))]
    wide = _outside(_compile, closed, wide_leaves, shape, _numbers(x.dtype), False, scale)
    _outside(require_width_free, made, wide, shape, x.dtype)


def _dtype(own: Any, inputs: Any) -> Any:
    """Parameters in the precision of the inputs, as far as both are real."""
    return inputs if jnp.issubdtype(own, jnp.floating) and jnp.issubdtype(inputs, jnp.floating) else own


def _numbers(dtype: Any) -> Any:
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)


def _outside(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread of its own, where nobody traces, so that constants of the program are computed now."""
    x64 = jnp.result_type(float) == jnp.float64

    def call() -> Any:
        with jax.enable_x64(x64), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*arguments)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def _compile(
    closed: Any, leaves: list[Leaf], shape: tuple[int, ...], dtype: Any, tangent: bool, scale: float
) -> _Compiled:
    """Loops as loops, or, where that does not do, turn by turn."""
    context = Context(rolled=True)
    try:
        return _planned(context, closed, leaves, shape, dtype, tangent, scale)
    except NoLimitError:
        if not context.loops:
            raise
    return _planned(Context(rolled=False), closed, leaves, shape, dtype, tangent, scale)


def _planned(
    context: Context, closed: Any, leaves: list[Leaf], shape: tuple[int, ...], dtype: Any, tangent: bool, scale: float
) -> _Compiled:
    x = Det(shape, tuple(m == 1 for m in shape), (), None)
    node = _output(context.walk(closed, [*map(whole, leaves), x]))
    cross, own = (_plan(context, node, x, sides, tangent, dtype, scale) for sides in ((1, 2), (1, 1)))
    require_untied(v for v in cross.visited if isinstance(v, Use))
    alone = [item for item, _, _ in own.schedule if item.kind == "pair" and item.a is item.b]

    def sizes(example: Array) -> Array:
        values = own.run([example])
        return jnp.stack(
            [jnp.zeros((), dtype) if values[i][0] is None else jnp.abs(values[i][0]).mean() for i in alone]
        )

    largest = max(_entries(item, m) for item, m, _ in cross.schedule if item.kind == "pair")
    pair, diagonal = (lambda *x: cross.answer(x, dtype)), (lambda x: own.answer([x], dtype))
    return _Compiled(pair, diagonal, largest, sizes, [item.a for item in alone], node, cross.visited)


class _Planned(NamedTuple):
    """What is computed for one entry, from what."""

    root: Item
    x: Det
    schedule: list[Any]
    given: Any
    visited: list[Node]

    def run(self, examples: Any) -> dict[Item, Any]:
        """All values; examples with their batch axis."""
        inputs = {det_item(self.x, side): value for side, value in enumerate(examples, 1)}
        return run(self.schedule, {item: v for item, v in inputs.items() if item in self.given}, self.given)

    def answer(self, examples: Any, dtype: Any) -> tuple[Array, Array]:
        """Kernel and tangent of examples without batch axis."""
        values = self.run([example[None] for example in examples])[self.root]
        zero = jnp.zeros((), dtype)
        return tuple(zero if v is None else v.reshape(()) for v in values)  # type: ignore[return-value]


def _plan(context: Context, node: Node, x: Det, sides: Any, tangent: bool, dtype: Any, scale: float) -> _Planned:
    calculus = Calculus(context.graph, sides if tangent else None, dtype, scale)
    root = Item("pair", node, node, sides)
    schedule, given = demand({root: (False,) * len(node.index)}, calculus.plan, lambda item: item.a is x)
    return _Planned(root, x, schedule, given, list({id(v): v for v in calculus.visited}.values()))


def _entries(item: Item, mask: Any) -> int:
    return math.prod(m ** (1 + both) for m, both in zip(item.a.index, mask, strict=True))


def _output(outputs: list[Any]) -> Any:
    where = Site("the output", "the end of f")
    if len(outputs) != 1 or not isinstance(outputs[0], Rand):
        refuse(where, "it is not one array of random channels", "return one array, made by a layer of weights")
    rand = outputs[0]
    if len(rand.pieces) > 1 or any(f.kind != "c" for factors in rand.axes for f in factors):
        refuse(
            where, f"it has places or unlike channels, shape {rand.shape}", "pool or flatten, and return [n channels]"
        )
    return rand.node


def _kernels(ready: Callable[..., _Compiled]) -> Limit:
    def rows(x1: Array, x2: Array, tangent: bool) -> tuple[Array, Array]:
        require(x1.shape[1:] == x2.shape[1:], "x2", x2.shape, f"hold examples of shape {x1.shape[1:]}", "check x2")
        pair = ready(x1.shape[1:], jnp.result_type(x1), tangent).pair
        return jax.vmap(jax.vmap(pair, (None, 0)), (0, None))(x1, x2)

    def kernel(which: slice | int) -> Callable[..., Array]:
        def chosen(parts: tuple[Array, Array]) -> Array:
            return jnp.stack(parts, -1)[..., which] if isinstance(which, slice) else parts[which]

        tangent = which != 0

        def pairs(x1: Array, x2: Array) -> Array:
            return chosen(rows(x1, x2, tangent))

        @jax.jit
        def whole_matrix(x1: Array, x2: Array | None = None) -> Array:
            plan = ready(x1.shape[1:], jnp.result_type(x1), tangent)
            matrix = gram(pairs, x1, x2, block=max(1, math.isqrt(_ENTRIES // plan.entries)))
            if x2 is not None:
                return matrix
            # equal examples have correlation 1 exactly, which their product as two examples would miss by √eps in angle
            places = jnp.arange(x1.shape[0])
            return matrix.at[places, places].set(chosen(jax.vmap(plan.diagonal)(x1)))

        return whole_matrix

    nngp, ntk, stacked = kernel(0), kernel(1), kernel(slice(None))

    def both(x1: Array, x2: Array | None = None) -> Both:
        parts = stacked(x1, x2)
        return Both(parts[..., 0], parts[..., 1])

    return Limit(nngp, ntk, both)
