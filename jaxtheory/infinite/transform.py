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
from jaxtheory.infinite.models import flax_error, function_of, widened
from jaxtheory.infinite.moments import Calculus
from jaxtheory.infinite.monte_carlo import MonteCarlo, Sampling
from jaxtheory.infinite.nodes import Node, Sum, Use
from jaxtheory.infinite.prior import Prior, named_leaves
from jaxtheory.infinite.program import require_apart
from jaxtheory.infinite.shared import require_untied
from jaxtheory.infinite.views import Leaf, whole
from jaxtheory.infinite.walk import Context
from jaxtheory.infinite.widths import doubled, require_width_free
from jaxtheory.kernels.gram import gram

_ENTRIES = 2**16  # of the largest array of one block: it stays in a core's cache


class Both(NamedTuple):
    """The two kernels of one pass."""

    nngp: Float[Array, "n1 n2"]
    ntk: Float[Array, "n1 n2"]


class Estimate(NamedTuple):
    """The two kernels and their standard errors, which are zero where nothing is drawn."""

    nngp: Float[Array, "n1 n2"]
    ntk: Float[Array, "n1 n2"]
    nngp_error: Float[Array, "n1 n2"]
    ntk_error: Float[Array, "n1 n2"]


class Limit(NamedTuple):
    """Kernel functions of the limit: `nngp(x1, x2)`, `ntk(x1, x2)`, `both(x1, x2)`; without x2, of x1 with itself.

    `estimate(x1, x2)` gives both with their standard errors, for limits that are drawn by Monte Carlo.
    """

    nngp: Callable[..., Float[Array, "n1 n2"]]
    ntk: Callable[..., Float[Array, "n1 n2"]]
    both: Callable[..., Both]
    estimate: Callable[..., Estimate]


class _Compiled(NamedTuple):
    """Kernel and tangent of a pair of examples, and of one with itself; the size of the largest array that they need.

    Each takes the key of its draws last (None without any). And for one example, sizes of the variances of all
    `nodes`; which parameters serve where.
    """

    pair: Callable[..., tuple[Array, Array]]
    diagonal: Callable[..., tuple[Array, Array]]
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
    monte_carlo: MonteCarlo | None = None,
) -> Limit:
    r"""The infinite-width limit of a network: covariance of its outputs at initialization, and its NTK.

        nngp(x, x') = lim E[f_i(x) f_i(x')],   ntk(x, x') = lim Σ_θ weight_θ ∂_θ f_i(x) ∂_θ f_i(x')

    for one output channel i. The program is read as it is (its jaxpr at batch size one), with its parameters Gaussian:
    an axis that a weight makes is an axis of channels, and averages over channels are replaced by expectations. What
    the program computes besides (shapes, masks, positions, normalization by averages) stays what it is.
    Where channels have several axes, sums over those that are fewer than the channels kept (heads, members of an
    ensemble, groups of eight) add independent copies, and sums over the last and longest are averages. Heads and group
    normalization are therefore read at widths of at least the square of their number; shapes are enough.

    Args:
        f: a function f(params, x) of a batch, with one array [n channels] as its value; or a Flax module (linen, or
            NNX, which brings its parameters: pass params=None).
        params: parameters, or their shapes (`jax.eval_shape` of an initializer): only shapes and paths are used.
        x: a batch of inputs, or its shape; the kernels take inputs of any shape that f takes.
        prior: (path, shape) -> `Moments`; see `jaxtheory.infinite.prior`.
        scale: the largest standard deviation of pre-activations for which activations without a closed form are exact.
        check_width: also read the program at twice its width, and compare: a function of its parameters' shapes, or a
            linen module whose widths are attributes. Widths written into methods, and NNX modules, cannot be changed.
        monte_carlo: draw what has no closed form: attention scores that keep fluctuating, as in softmax(q kᵀ/√d),
            where the kernels are those of many heads; and nonlinearities of several Gaussians, as in relu(x + f(x)).
            `estimate` has the standard errors. Every entry uses the same key. Positive semidefinite up to the errors.

    Returns:
        `Limit`, of functions of (x1, x2 = None): jittable, differentiable, in the precision of the inputs. Without x2
        the matrix is symmetric, half of it is computed, and its diagonal has correlation 1 exactly.

    Raises:
        NoLimitError: an operation has no limit or none that is known here: named, with the line of the user's program.

    Cost: for each pair of examples what a layer needs of its places: one number for dense layers and flattened images,
        one for each pair of pixels under global pooling or attention. Depth in a `lax.scan` stays one.
    Source: Neal (1996); Lee et al. (2018); Jacot, Gabriel and Hongler (2018); Yang (2019, 2020), Tensor Programs I, II;
        Hron et al. (2020), Infinite attention, for the scores over √d.

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
    draws = None if monte_carlo is None else monte_carlo.checked()

    @functools.cache
    def compiled(shape: tuple[int, ...], dtype: Any, tangent: bool, x64: bool) -> _Compiled:
        structs = tree.unflatten([jax.ShapeDtypeStruct(p.shape, _dtype(p.dtype, dtype)) for p in leaves])
        with jax.default_matmul_precision("highest"):  # of products of known arrays, which the limit keeps
            closed = jax.make_jaxpr(network)(structs, jax.ShapeDtypeStruct((1, *shape), dtype))
        known = [Leaf(i, path, p.shape, *m) for i, (path, p, m) in enumerate(zip(paths, leaves, moments, strict=True))]
        settings = _Settings(_numbers(dtype), tangent, scale, draws)
        return _outside(_compile, closed, known, (1, *shape), settings)

    def ready(shape: tuple[int, ...], dtype: Any, tangent: bool) -> _Compiled:
        return compiled(shape, dtype, tangent, jnp.result_type(float) == jnp.float64)

    require_apart(network, tree.unflatten([jax.ShapeDtypeStruct(p.shape, _dtype(p.dtype, x.dtype)) for p in leaves]), x)
    made = ready(x.shape[1:], jnp.dtype(x.dtype), True)
    if check_width:
        _check_width(f, network, tree, leaves, paths, prior, made, x, scale, draws)
    return _kernels(ready, draws)


def _check_width(
    f: Any,
    network: Any,
    tree: Any,
    leaves: Any,
    paths: Any,
    prior: Prior,
    made: _Compiled,
    x: Any,
    scale: float,
    draws: MonteCarlo | None,
) -> None:
    """The program at twice its width, if it can be traced there, has the same variances."""
    before, after = [p.shape for p in leaves], doubled([p.shape for p in leaves], made.output, made.visited)
    try:
        wide_network, shapes = widened(f, before, after, x) or (network, after)
        moments = [prior(path, s) for path, s in zip(paths, shapes, strict=True)]
        if not all(known(m) for m in moments):
            return
        structs = [jax.ShapeDtypeStruct(s, _dtype(p.dtype, x.dtype)) for s, p in zip(shapes, leaves, strict=True)]
        shape = (1, *x.shape[1:])
        closed = jax.make_jaxpr(wide_network)(tree.unflatten(structs), jax.ShapeDtypeStruct(shape, x.dtype))
    except (TypeError, ValueError, flax_error()):
        return  # widths that are written into a module's methods cannot be changed from outside
    wide_leaves = [Leaf(i, path, s, *m) for i, (path, s, m) in enumerate(zip(paths, shapes, moments, strict=True))]
    wide = _outside(_compile, closed, wide_leaves, shape, _Settings(_numbers(x.dtype), False, scale, draws))
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


class _Settings(NamedTuple):
    """Of a computation: precision, whether tangents are wanted, the scale of activations, how scores are drawn."""

    dtype: Any
    tangent: bool
    scale: float
    draws: MonteCarlo | None


def _compile(closed: Any, leaves: list[Leaf], shape: tuple[int, ...], settings: _Settings) -> _Compiled:
    """Loops as loops, or, where that does not do, turn by turn."""
    draws = settings.draws is not None
    context = Context(rolled=True, draws=draws)
    try:
        return _planned(context, closed, leaves, shape, settings)
    except NoLimitError:
        if not context.loops:
            raise
    return _planned(Context(rolled=False, draws=draws), closed, leaves, shape, settings)


def _planned(
    context: Context, closed: Any, leaves: list[Leaf], shape: tuple[int, ...], settings: _Settings
) -> _Compiled:
    key, x = Det((), (), (), None), Det(shape, tuple(m == 1 for m in shape), (), None)
    node = _output(context.walk(closed, [*map(whole, leaves), x]))
    cross, own = (_plan(context, node, (x, key), sides, settings) for sides in ((1, 2), (1, 1)))
    require_untied(v for v in cross.visited if isinstance(v, Use))
    alone = [item for item, _, _ in own.schedule if item.kind == "pair" and item.a is item.b and not _multiple(item.a)]
    fixed = None if settings.draws is None else settings.draws.key

    def sizes(example: Array) -> Array:
        values = own.run([example], fixed)
        zero = jnp.zeros((), settings.dtype)
        return jnp.stack([zero if values[i][0] is None else jnp.abs(values[i][0]).mean() for i in alone])

    largest = max(_entries(item, m) for item, m, _ in cross.schedule if item.kind == "pair")
    largest *= (
        settings.draws.samples * settings.draws.groups
        if settings.draws and (context.graph.scores or context.graph.variables)
        else 1
    )
    pair, diagonal = (lambda x, y, k: cross.answer((x, y), k, settings)), (lambda x, k: own.answer([x], k, settings))
    return _Compiled(pair, diagonal, largest, sizes, [item.a for item in alone], node, cross.visited)


def _multiple(node: Node) -> bool:
    """Whether a node is a number times another: a power of the width in it may be meant, as in queries over √d."""
    return isinstance(node, Sum) and len(node.terms) == 1


class _Planned(NamedTuple):
    """What is computed for one entry, from what: an input and the key of draws."""

    root: Item
    inputs: tuple[Det, Det]
    schedule: list[Any]
    given: Any
    visited: list[Node]

    def run(self, examples: Any, key: Any) -> dict[Item, Any]:
        """All values; examples with their batch axis."""
        inputs = {det_item(self.inputs[0], side): value for side, value in enumerate(examples, 1)}
        inputs[det_item(self.inputs[1], 0)] = key
        return run(self.schedule, {item: v for item, v in inputs.items() if item in self.given}, self.given)

    def answer(self, examples: Any, key: Any, settings: _Settings) -> tuple[Array, Array]:
        """Kernel and tangent of examples without batch axis."""
        values = self.run([example[None] for example in examples], key)[self.root]
        zero = jnp.zeros((), settings.dtype)
        return tuple(zero if v is None else v.reshape(()) for v in values)  # type: ignore[return-value]


def _plan(context: Context, node: Node, inputs: tuple[Det, Det], sides: Any, settings: _Settings) -> _Planned:
    sampling = None if settings.draws is None else Sampling(inputs[1], settings.draws.samples)
    calculus = Calculus(context.graph, sides, settings.tangent, settings.dtype, settings.scale, sampling)
    root = Item("pair", node, node, sides)
    wanted = {root: (False,) * len(node.index)}
    schedule, given = demand(wanted, calculus.plan, lambda item: any(item.a is known for known in inputs))
    return _Planned(root, inputs, schedule, given, list({id(v): v for v in calculus.visited}.values()))


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
    if rand.node.drawn:
        refuse(
            where, "it depends on the scores of one head, which are drawn", "read out all heads by a layer of weights"
        )
    return rand.node


def _over_groups(entry: Callable[..., tuple[Array, Array]], draws: MonteCarlo | None) -> Callable[..., Any]:
    """Kernel, tangent and their standard errors, from independent groups of draws if there are any."""

    def estimated(*examples: Array) -> tuple[Array, ...]:
        if draws is None:
            kernel, tangent = entry(*examples, None)
            return kernel, tangent, jnp.zeros_like(kernel), jnp.zeros_like(tangent)
        keys = jax.random.split(draws.key, draws.groups)
        groups = jax.vmap(lambda key: entry(*examples, key))(keys)
        return *(g.mean(0) for g in groups), *(g.std(0, ddof=1) / draws.groups**0.5 for g in groups)

    return estimated


def _kernels(ready: Callable[..., _Compiled], draws: MonteCarlo | None) -> Limit:
    def rows(x1: Array, x2: Array, tangent: bool) -> tuple[Array, ...]:
        require(x1.shape[1:] == x2.shape[1:], "x2", x2.shape, f"hold examples of shape {x1.shape[1:]}", "check x2")
        pair = _over_groups(ready(x1.shape[1:], jnp.result_type(x1), tangent).pair, draws)
        return jax.vmap(jax.vmap(pair, (None, 0)), (0, None))(x1, x2)

    def kernel(which: tuple[int, ...] | int) -> Callable[..., Array]:
        def chosen(parts: tuple[Array, ...]) -> Array:
            return parts[which] if isinstance(which, int) else jnp.stack([parts[i] for i in which], -1)

        tangent = which != 0

        def pairs(x1: Array, x2: Array) -> Array:
            return chosen(rows(x1, x2, tangent))

        @jax.jit
        def whole_matrix(x1: Array, x2: Array | None = None) -> Array:
            plan = ready(x1.shape[1:], jnp.result_type(x1), tangent)
            matrix = gram(pairs, x1, x2, block=max(1, math.isqrt(_ENTRIES // plan.entries)))
            if x2 is not None:
                return matrix
            if draws is not None:  # a pair and its mirror image draw one normal matrix in two orders of tokens
                matrix = (matrix + jnp.swapaxes(matrix, 0, 1)) / 2
            # equal examples have correlation 1 exactly, which their product as two examples would miss by √eps in angle
            places = jnp.arange(x1.shape[0])
            return matrix.at[places, places].set(chosen(jax.vmap(_over_groups(plan.diagonal, draws))(x1)))

        return whole_matrix

    nngp, ntk, two, four = kernel(0), kernel(1), kernel((0, 1)), kernel((0, 1, 2, 3))

    def both(x1: Array, x2: Array | None = None) -> Both:
        return Both(*jnp.moveaxis(two(x1, x2), -1, 0))

    def estimate(x1: Array, x2: Array | None = None) -> Estimate:
        return Estimate(*jnp.moveaxis(four(x1, x2), -1, 0))

    return Limit(nngp, ntk, both, estimate)
