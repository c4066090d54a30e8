"""Flax modules as plain functions `f(params, x)`, with everything that is not trained held fixed and named."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, PyTree

from jaxtheory.checks import require


@dataclass(frozen=True, eq=False)
class Frozen:
    """A model with part of its state fixed: `f(params, x)`. `fixed` names what was held, by path."""

    apply: Callable[..., Any]
    state: PyTree

    def __call__(self, params: PyTree, x: PyTree) -> Any:
        """Outputs at these parameters."""
        return self.apply(params, self.state, x)

    @property
    def fixed(self) -> dict[str, Array]:
        """Every array that is not a parameter, by its path in the model."""
        if isinstance(self.state, dict) and not any(isinstance(v, dict) for v in self.state.values()):
            return dict(self.state)
        leaves = jax.tree_util.tree_flatten_with_path(self.state)[0]
        return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def from_nnx(module: Any) -> tuple[Frozen, PyTree]:
    """`(f, params)` of a flax.nnx module, in inference: BatchNorm uses its statistics, dropout is off.

    Args:
        module: any nnx.Module of one argument; it is not changed. Its `nnx.Param` are the parameters.

    >>> from flax import nnx
    >>> f, params = from_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> f(params, jax.numpy.ones((4, 2))).shape, f.fixed
    ((4, 3), {})
    """
    from flax import nnx

    require(isinstance(module, nnx.Module), "module", type(module).__name__, "be a flax.nnx.Module", "see from_linen")
    copy = nnx.clone(module)
    copy.eval()
    split: Any = nnx.split(copy, nnx.Param, ...)
    graph, params, state = split

    def apply(params: PyTree, state: PyTree, x: PyTree) -> Any:
        return nnx.merge(graph, params, state)(x)

    return Frozen(apply, state), params


def from_linen(module: Any, variables: PyTree, **options: Any) -> tuple[Frozen, PyTree]:
    """`(f, params)` of a flax.linen module and its variables.

    Args:
        module: a linen Module; `options` (for example train=False) are passed to its call, with no collection mutable.
        variables: from `module.init`; the collection "params" is differentiated, all others are held fixed.

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

    def apply(params: PyTree, state: PyTree, x: PyTree) -> Any:
        return module.apply({"params": params, **state}, x, **options)

    return Frozen(apply, state), variables["params"]


def filter_params(
    f: Callable[[Any, Any], Any], params: PyTree, keep: Callable[[str, Array], bool]
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

    def apply(kept: PyTree, rest: PyTree, x: PyTree) -> Any:
        both = {**rest, **kept}
        return f(jax.tree.unflatten(tree, [both[name] for name in named]), x)

    return Frozen(apply, rest), kept
