"""Modules of Flax, Equinox and Haiku as plain functions `f(params, x)`; what is not trained is held fixed and named.

Several inputs: a dictionary x is passed by keyword where the module's call has arguments of those names, and a tuple is
spread over the arguments of a call that requires more than one. Any other x is the one argument.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, PyTree

from jaxtheory.checks import require

Select = Callable[[PyTree], PyTree]


def is_module(value: object, library: str) -> bool:
    """Whether a value is a module of "flax.nnx", "flax.linen" or "equinox", which need not be installed."""
    kinds = (f"{base.__module__}.{base.__name__}" for base in type(value).__mro__)
    return any(kind.startswith(f"{library}.") and kind.endswith("Module") for kind in kinds)


@dataclass(frozen=True, eq=False)
class Frozen:
    """A model with part of its state fixed: `f(params, x)`. `fixed` names what was held, by path."""

    apply: Callable[[PyTree, PyTree, PyTree], PyTree]
    state: PyTree

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """Outputs at these parameters."""
        return self.apply(params, self.state, x)

    @property
    def fixed(self) -> dict[str, Array]:
        """Every array that is not a parameter, by its path in the model."""
        if isinstance(self.state, dict) and not any(isinstance(v, dict) for v in self.state.values()):
            return dict(self.state)
        leaves = jax.tree_util.tree_flatten_with_path(self.state)[0]
        return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if hasattr(leaf, "dtype")}


def from_nnx(module: Any, *, wrt: Any = None, select: Select | None = None, **call: Any) -> tuple[Frozen, PyTree]:
    """`(f, params)` of a flax.nnx module, in inference: BatchNorm uses its statistics, dropout is off.

    Args:
        module: any nnx.Module; it is not changed.
        wrt: an nnx filter of what is differentiated, for example `nnx.LoRAParam`; `nnx.Param` by default.
        select: of what the module returns, the one array that counts, for a tuple or a dictionary of outputs.
        call: keyword arguments of each call.

    Raises:
        ValueError: no flax.nnx.Module; nothing that `wrt` selects.

    >>> from flax import nnx
    >>> f, params = from_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> f(params, jax.numpy.ones((4, 2))).shape, f.fixed
    ((4, 3), {})
    """
    from flax import nnx

    require(isinstance(module, nnx.Module), "module", type(module).__name__, "be a flax.nnx.Module", "see from_linen")
    copy = nnx.clone(module)
    copy.eval()
    merged, params, state = split_nnx(copy, wrt)
    require(bool(jax.tree.leaves(params)), "wrt", wrt, "select parameters of the module", "pass a filter of nnx.state")

    def apply(params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        return _called(merged(params, state), type(module).__call__, x, select, call)

    return Frozen(apply, state), params


def split_nnx(module: Any, wrt: Any = None) -> tuple[Callable[[PyTree, PyTree], Any], PyTree, PyTree]:
    """A flax.nnx module as (merge, params, state): merge(params, state) is the module at other values.

    Each merged module is a copy, so that what a call writes (statistics, counters, caches) does not leave it.
    """
    from flax import nnx

    split: PyTree = nnx.split(module, nnx.Param if wrt is None else wrt, ...)
    graph, params, state = split
    return lambda params, state: nnx.merge(graph, params, state, copy=True), params, state


def from_linen(module: Any, variables: PyTree, *, select: Select | None = None, **call: Any) -> tuple[Frozen, PyTree]:
    """`(f, params)` of a flax.linen module and its variables.

    Args:
        module: a linen Module.
        variables: from `module.init`; the collection "params" is differentiated, all others are held fixed.
        select: of what the module returns, the one array that counts.
        call: keyword arguments of each call, for example train=False or rngs={"dropout": key}. No collection is
            mutable.

    >>> import flax.linen as nn
    >>> module = nn.Dense(3)
    >>> f, params = from_linen(module, module.init(jax.random.key(0), jax.numpy.ones((1, 2))))
    >>> f(params, jax.numpy.ones((4, 2))).shape
    (4, 3)
    """
    require(
        "params" in variables, "variables", list(variables), "hold a collection 'params'", "pass what init returned"
    )
    state = {name: value for name, value in variables.items() if name != "params"}
    signature = type(module).__call__

    def apply(params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        bound = lambda *inputs, **named: module.apply({"params": params, **state}, *inputs, **named)  # noqa: E731
        return _called(bound, signature, x, select, call)

    return Frozen(apply, state), variables["params"]


def from_equinox(model: Any, *, select: Select | None = None, **call: Any) -> tuple[Frozen, PyTree]:
    """`(f, params)` of an Equinox model of one example, over batches and in inference mode.

    Args:
        model: an equinox.Module; its floating-point arrays are the parameters, all else is held fixed.
        select: of what the model returns for one example, the one array that counts.
        call: keyword arguments of each call.

    Raises:
        ValueError: no equinox.Module.

    >>> import equinox as eqx
    >>> f, params = from_equinox(eqx.nn.Linear(2, 3, key=jax.random.key(0)))
    >>> f(params, jax.numpy.ones((4, 2))).shape
    (4, 3)
    """
    import equinox as eqx

    require(isinstance(model, eqx.Module), "model", type(model).__name__, "be an equinox.Module", "see from_linen")
    params, rest = eqx.partition(eqx.nn.inference_mode(model), eqx.is_inexact_array)
    arrays, static = eqx.partition(rest, eqx.is_array)

    def apply(params: PyTree, arrays: PyTree, x: PyTree) -> PyTree:
        whole = eqx.combine(params, arrays, static)
        return jax.vmap(lambda one: _called(whole, type(model).__call__, one, select, call))(x)

    return Frozen(apply, arrays), params


def from_haiku(
    transformed: Any,
    params: PyTree,
    state: PyTree | None = None,
    *,
    rng: Any = None,
    select: Select | None = None,
    **call: Any,
) -> tuple[Frozen, PyTree]:
    """`(f, params)` of a function that `haiku.transform` or `haiku.transform_with_state` made.

    Args:
        transformed: the pair of `init` and `apply`.
        params, state: what `init` returned; state is held fixed.
        rng: the key of each call, the same every time; None for functions that draw nothing.
        select: of what the function returns, the one array that counts.
        call: keyword arguments of each call, for example is_training=False. A tuple of inputs is always spread.

    Raises:
        ValueError: no pair of `init` and `apply`.

    >>> import haiku as hk
    >>> net = hk.transform(lambda x: hk.Linear(3)(x))
    >>> f, params = from_haiku(net, net.init(jax.random.key(0), jax.numpy.ones((1, 2))))
    >>> f(params, jax.numpy.ones((4, 2))).shape
    (4, 3)
    """
    made = callable(getattr(transformed, "apply", None)) and callable(getattr(transformed, "init", None))
    require(made, "transformed", type(transformed).__name__, "have init and apply", "pass what haiku.transform returns")
    with_state = type(transformed).__name__ == "TransformedWithState"

    def apply(params: PyTree, state: PyTree, x: PyTree) -> PyTree:
        def bound(*inputs: PyTree, **named: PyTree) -> PyTree:
            if with_state:
                return transformed.apply(params, state, rng, *inputs, **named)[0]
            return transformed.apply(params, rng, *inputs, **named)

        return _called(bound, None, x, select, call)

    return Frozen(apply, {} if state is None else state), params


def filter_params(
    f: Callable[[PyTree, PyTree], PyTree], params: PyTree, keep: Callable[[str, Array], bool]
) -> tuple[Frozen, dict[str, Array]]:
    """Count only some parameters: `keep(path, leaf)` says which; the others are held fixed.

    Returns:
        (f, params) with params a dict from path to leaf; `f.fixed` names the rest.

    >>> params = {"w": jax.numpy.ones((2, 1)), "b": jax.numpy.ones(1)}
    >>> f, kept = filter_params(lambda p, x: x @ p["w"] + p["b"], params, lambda path, _: "w" in path)
    >>> f"{list(kept)[0]} counts; held fixed: {list(f.state)[0]}"
    "['w'] counts; held fixed: ['b']"
    """
    tree = jax.tree.structure(params)
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    kept = {name: leaf for name, leaf in named.items() if keep(name, leaf)}
    require(bool(kept), "keep", list(named), "keep at least one of these parameters", "match a path")
    rest = {name: leaf for name, leaf in named.items() if name not in kept}

    def apply(kept: PyTree, rest: PyTree, x: PyTree) -> PyTree:
        both = {**rest, **kept}
        return f(jax.tree.unflatten(tree, [both[name] for name in named]), x)

    return Frozen(apply, rest), kept


def _called(
    module: Callable[..., PyTree],
    signature: Callable[..., PyTree] | None,
    x: PyTree,
    select: Select | None,
    call: dict[str, Any],
) -> PyTree:
    """The array that counts of the module's outputs at x, passed as the call's `signature` says (None: unknown)."""
    if isinstance(x, dict) and signature is not None and set(x) <= set(inspect.signature(signature).parameters):
        out = module(**x, **call)
    elif isinstance(x, tuple) and (signature is None or _requires_several(signature, call)):
        out = module(*x, **call)
    else:
        out = module(x, **call)
    return out if select is None else select(out)


def _requires_several(signature: Callable[..., PyTree], call: dict[str, Any]) -> bool:
    """Whether a module's call has more than one argument without a default, `self` and those given left out."""
    parameters = list(inspect.signature(signature).parameters.values())[1:]
    positional = [
        p for p in parameters if p.name not in call and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    required = [p for p in positional if p.default is p.empty]
    return len(required) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
