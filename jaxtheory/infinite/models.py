"""Networks in whatever way they are written: functions, modules of Flax (linen and NNX) and of Equinox."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.tree_util import PyTreeDef
from jaxtyping import PyTree

from jaxtheory.checks import require
from jaxtheory.infinite import inputs
from jaxtheory.infinite.prior import named_leaves
from jaxtheory.programs.models import is_module, split_nnx
from jaxtheory.programs.sizes import resized, sizes

_HINT = "pass model.apply, the module itself, or a function of (params, x)"


Shapes = list[tuple[int, ...]]  # of parameters
Network = Callable[[PyTree, PyTree], PyTree]  # of parameters and a batch of inputs


class Model(NamedTuple):
    """A network as a function of (params, x), and the paths, shapes and dtypes of its parameters."""

    written: object
    network: Network
    tree: PyTreeDef
    paths: list[str]
    shapes: Shapes
    dtypes: list[np.dtype]
    inputs: PyTreeDef

    def trace(self, given: inputs.Spec, length: int = 1) -> ClosedJaxpr:
        """The jaxpr at a batch of examples, in their precision; products of known numbers keep it."""
        real = inputs.numbers(given)
        params = self.tree.unflatten(
            [
                jax.ShapeDtypeStruct(s, real if jnp.issubdtype(d, jnp.floating) else d)
                for s, d in zip(self.shapes, self.dtypes, strict=True)
            ]
        )
        with jax.default_matmul_precision("highest"):
            return jax.make_jaxpr(self.network)(params, inputs.structs(given, self.inputs, length))

    def at_widths(self, after: Shapes, x: PyTree) -> "Model":
        """The network with its parameters at other widths; a linen module with those attributes that are widths."""
        if not is_module(self.written, "flax.linen"):
            return self._replace(shapes=after)
        widths = {m for p, q in zip(self.shapes, after, strict=True) for m, k in zip(p, q, strict=True) if m != k}
        larger = {place: 2 * size for place, size in sizes(self.written).items() if size in widths}
        module = resized(self.written, larger)
        return self._replace(network=module.apply, shapes=[leaf.shape for leaf in jax.tree.leaves(_linen(module, x))])


def model_of(f: object, params: PyTree, x: PyTree) -> Model:
    """What is read of a network for a batch like x."""
    network, shapes = function_of(f, params, x)
    leaves, tree = jax.tree.flatten(shapes)
    paths = [path for path, _ in named_leaves(shapes)]
    return Model(f, network, tree, paths, [p.shape for p in leaves], [p.dtype for p in leaves], jax.tree.structure(x))


def function_of(f: object, params: PyTree, x: PyTree) -> tuple[Network, PyTree]:
    """f as a function of (params, x), and the shapes of its parameters."""
    if is_module(f, "flax.nnx"):
        return _nnx(f)
    if is_module(f, "flax.linen") and hasattr(f, "apply"):
        return f.apply, _shapes(params if params is not None else _linen(f, x))
    require(callable(f), "f", repr(f), "be a function f(params, x), or a module of Flax or Equinox", _HINT)
    assert callable(f)
    if params is None and is_module(f, "equinox"):
        return _of_arrays(lambda module, x: jax.vmap(module)(x), f)
    return _of_arrays(f, params)


def _shapes(params: PyTree) -> PyTree:
    return jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(jnp.shape(p), p.dtype if hasattr(p, "dtype") else jnp.result_type(p)), params
    )


def _of_arrays(f: Network, params: PyTree) -> tuple[Network, PyTree]:
    """f as a function of the parameters alone: functions, strings and, in a module, numbers in `params` are its own."""
    module = any(is_module(node, "equinox") for node in _nodes(params))
    leaves, tree = jax.tree.flatten(params)
    free = [hasattr(p, "dtype") or (not module and isinstance(p, int | float)) for p in leaves]
    if all(free):
        return f, _shapes(params)
    require(any(free) or not leaves, "params", repr(params)[:60], "hold arrays or their shapes", _HINT)

    def network(arrays: PyTree, x: PyTree) -> PyTree:
        given = iter(jax.tree.leaves(arrays))
        return f(jax.tree.unflatten(tree, [next(given) if own else p for p, own in zip(leaves, free, strict=True)]), x)

    held = [p if own else None for p, own in zip(leaves, free, strict=True)]
    return network, _shapes(jax.tree.unflatten(tree, held))


def _nodes(params: PyTree) -> list[object]:
    """A pytree's nodes down to the first module."""
    found: list[object] = []

    def visit(node: object) -> bool:
        found.append(node)
        return is_module(node, "equinox")

    jax.tree.leaves(params, is_leaf=visit)
    return found


def _linen(module: Any, x: PyTree) -> PyTree:
    """The shapes of a module's variables at inputs like x."""
    single = lambda leaf: jnp.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype  # noqa: E731
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), single(leaf)), x)
    return jax.eval_shape(module.init, jax.random.key(0), example)


def _nnx(module: object) -> tuple[Network, PyTree]:
    """A module's parameters are its `nnx.Param`s; all else is a constant of the function."""
    merged, params, state = split_nnx(module)
    return lambda values, x: merged(values, state)(x), _shapes(params)
