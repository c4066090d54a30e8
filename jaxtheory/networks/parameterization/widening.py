"""A wider network from one model: which of its sizes are widths, by what doubling each of them does to its program."""

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxtheory.checks import boundary, require, require_arrays
from jaxtheory.networks.parameterization.reading import read
from jaxtheory.networks.parameterization.records import Reading
from jaxtheory.programs.models import is_module, split_nnx
from jaxtheory.programs.sizes import Place, name_of, resized, sizes

_BOUND = 8  # sizes of which all sets are tried


class Widened(NamedTuple):
    """What `maximal_update(apply, params, wider_params, x)` and its like take, from one model.

    `params` and `wider_params` are shapes, those of `wider_params` with the sizes named in `widths` doubled; `apply` is
    the program of either.
    """

    apply: Callable[[PyTree, PyTree], Any]
    params: PyTree
    wider_params: PyTree
    widths: tuple[str, ...]


class _Built(NamedTuple):
    """A model at some sizes: its program, the shapes of its parameters and of its outputs."""

    apply: Callable[[PyTree, PyTree], Any]
    params: PyTree
    outputs: PyTree


@boundary
def widen(model: Any, x: PyTree, *, widths: Sequence[str] | None = None) -> Widened:
    r"""The program of a model and the shapes of its parameters at two widths, for `maximal_update` and its like.

    A size of the model is an attribute that is an integer, also in tuples, lists, dictionaries and modules inside it.
    It is a width if the model with twice that size has the same outputs and the same parameters but for larger axes,
    and some axes that the program keeps grow (the fan-out of a layer) and some that it contracts (the fan-in of the
    next). So numbers of classes, tokens, positions, layers and heads and sizes of filters are no widths. Sizes that
    can only grow together, as those of the layers of a residual network, are doubled together; one that cannot be
    doubled with any others is fixed by the inputs.

    Args:
        model: a Flax linen module; or the constructor of an NNX module with its sizes, `functools.partial(Net,
            width=64)`, to which `rngs` is passed where it has that argument.
        x: inputs or their shapes, one argument of the call.
        widths: the names of the sizes that are widths, as `Widened.widths` has them, e.g. "width" or "features[0]";
            None to find them.

    Returns:
        `Widened`. What is not a parameter (statistics of batch norm) is held at zero in `apply`.

    Raises:
        ValueError: a model of another kind, names that are no sizes of it, no size that is a width, or sizes of which
            it is open whether they are, by name.

    Cost: one abstract evaluation for each size, and for each set of those that cannot grow alone, the largest first.

    >>> import flax.linen as nn
    >>> model = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(64), nn.relu, nn.Dense(10)])
    >>> found = widen(model, jnp.ones((1, 8)))
    >>> found.widths, found.wider_params["layers_2"]["kernel"].shape
    (('layers[0].features', 'layers[2].features'), (64, 128))
    """
    found, build = _nnx(model, x) if isinstance(model, functools.partial) else _linen(model, x)
    names = {name_of(place): place for place in found}
    base = build({})
    if widths is not None:
        unknown = sorted(set(widths) - set(names))
        require(not unknown and len(widths) > 0, "widths", list(widths), "name sizes", f"choose of {list(names)}")
        chosen = tuple(name for name in names if name in set(widths))
    else:
        chosen = _found(base, names, found, build, x)
    wider = build({names[name]: 2 * found[names[name]] for name in chosen})
    shapes = _extents(wider.params)

    def apply(params: PyTree, inputs: PyTree) -> Any:
        return (wider if _extents(params) == shapes else base).apply(params, inputs)

    return Widened(apply, base.params, wider.params, chosen)


def _found(base: _Built, names: dict[str, Place], found: dict[Place, int], build: Any, x: PyTree) -> tuple[str, ...]:
    """Sizes that are widths: alone, or together with others that cannot grow alone."""
    reading = _reading(base, x)

    def grows(chosen: Sequence[str]) -> bool | None:
        return _tried(base, reading, build, {names[name]: 2 * found[names[name]] for name in chosen})

    verdicts = {name: grows([name]) for name in names}
    alone, bound = ([name for name in names if verdicts[name] is verdict] for verdict in (True, None))
    hint = f'say which sizes are widths, e.g. widths=("{next(iter(names), "width")}",)'
    require(len(bound) <= _BOUND, "model", bound, f"have at most {_BOUND} sizes that cannot be doubled alone", hint)
    for count in range(len(bound), -1, -1):  # what grows with no others is fixed by the inputs
        sets = [{*alone, *more} for more in itertools.combinations(bound, count) if alone or more]
        together = [chosen for chosen in sets if grows([*chosen])]
        one = len(together) <= 1
        require(one, "model", list(map(sorted, together)), "have one set of sizes that can be doubled together", hint)
        if together:
            return tuple(name for name in names if name in together[0])
    require(False, "model", list(names), "have a size that is a width", hint)
    raise AssertionError


def _tried(base: _Built, reading: Reading, build: Any, larger: dict[Place, int]) -> bool | None:
    """Whether larger sizes make the network wider; None where they make no network."""
    try:
        made = build(larger)
    except Exception:  # whatever a module raises where its sizes do not fit
        return None
    if _paths(made.params) != _paths(base.params) or made.outputs != base.outputs:
        return False
    kept = contracted = False
    for leaf, (one, other) in enumerate(zip(jax.tree.leaves(base.params), jax.tree.leaves(made.params), strict=True)):
        if len(one.shape) != len(other.shape) or any(a > b for a, b in zip(one.shape, other.shape, strict=True)):
            return False
        grown = {axis for axis, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if a < b}
        uses = [use for use in reading.uses if use.leaf == leaf]
        kept |= any(grown & use.outputs and use.inputs | use.lookup for use in uses)
        contracted |= any(grown & use.inputs for use in uses)
    return kept and contracted


def _reading(base: _Built, x: PyTree) -> Reading:
    return read(jax.make_jaxpr(base.apply)(base.params, _shapes(x)), len(jax.tree.leaves(base.params)))


def _linen(model: Any, x: PyTree) -> tuple[dict[Place, int], Callable[[dict[Place, int]], _Built]]:
    """Sizes of a linen module, and the module with some of them replaced."""
    hint = "for NNX pass functools.partial(Net, width=64); for other programs pass both shapes to maximal_update"
    require(is_module(model, "flax.linen"), "model", type(model).__name__, "be a linen module", hint)

    def build(larger: dict[Place, int]) -> _Built:
        module = resized(model, larger)
        variables = jax.eval_shape(module.init, jax.random.key(0), _shapes(x))
        others = {name: part for name, part in variables.items() if name != "params"}

        def apply(params: PyTree, inputs: PyTree) -> Any:
            held = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), others)
            return module.apply({"params": params, **held}, inputs)

        return _built(apply, variables["params"], x)

    return sizes(model), build


def _nnx(model: functools.partial, x: PyTree) -> tuple[dict[Place, int], Callable[[dict[Place, int]], _Built]]:
    """Sizes among the arguments of a constructor, and the module that it makes of others."""
    from flax import nnx

    kind = isinstance(model.func, type) and issubclass(model.func, nnx.Module)
    hint = "pass functools.partial(Net, width=64) of a class Net(nnx.Module)"
    require(kind, "model", repr(model.func)[:60], "construct an NNX module", hint)
    parameters = list(inspect.signature(model.func.__init__).parameters)[1:]
    given = {**dict(zip(parameters, model.args, strict=False)), **model.keywords}
    given.pop("rngs", None)

    def build(larger: dict[Place, int]) -> _Built:
        arguments = {name: resized(value, larger, (name,)) for name, value in given.items()}

        def make() -> Any:
            own = {"rngs": nnx.Rngs(0)} if "rngs" in parameters else {}
            made = model.func(**arguments, **own)
            made.eval()
            return made

        merged, params, others = split_nnx(nnx.eval_shape(make))

        def apply(params: PyTree, inputs: PyTree) -> Any:
            return merged(params, jax.tree.map(_held, others))(inputs)

        return _built(apply, params, x)

    return sizes(given), build


def _built(apply: Callable[[PyTree, PyTree], Any], params: PyTree, x: PyTree) -> _Built:
    return _Built(apply, params, jax.eval_shape(apply, params, _shapes(x)))


def _paths(params: PyTree) -> list[Any]:
    """Where the arrays are; the structure itself may hold sizes."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [path for path, _ in leaves]


def _shapes(x: PyTree) -> PyTree:
    require_arrays("x", x)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), x)


def _extents(params: PyTree) -> list[tuple[int, ...]]:
    return [tuple(jnp.shape(leaf)) for leaf in jax.tree.leaves(params)]


def _held(leaf: Any) -> Any:
    """Zeros, or a key, in the place of what is no parameter."""
    if not hasattr(leaf, "dtype"):
        return leaf
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), leaf.shape)
    return jnp.zeros(leaf.shape, leaf.dtype)
