"""Networks in whatever way they are written: plain functions, Flax linen modules, Flax NNX modules."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxtheory.checks import require


def function_of(f: Any, params: Any, x: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """f as a function of (params, x), and the shapes of its parameters."""
    kinds = {f"{base.__module__}.{base.__name__}" for base in type(f).__mro__}
    if any(kind.startswith("flax.nnx.") and kind.endswith(".Module") for kind in kinds):
        return _nnx(f)
    if any(kind.startswith("flax.linen.") and kind.endswith(".Module") for kind in kinds):
        return f.apply, _shapes(params if params is not None else _linen(f, x))
    require(callable(f), "f", f, "be a function f(params, x) or a Flax module", "pass model.apply or the module itself")
    return f, _shapes(params)


def _shapes(params: Any) -> Any:
    return jax.tree.map(
        lambda p: jax.ShapeDtypeStruct(jnp.shape(p), p.dtype if hasattr(p, "dtype") else jnp.result_type(p)), params
    )


def _linen(module: Any, x: Any) -> Any:
    """The shapes of a module's variables at an input like x."""
    single = jnp.float32 if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype
    example = jax.ShapeDtypeStruct((1, *x.shape[1:]), single)
    return jax.eval_shape(module.init, jax.random.key(0), example)


def _nnx(module: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """A module's parameters are its `nnx.Param`s; all else is a constant of the function."""
    from flax import nnx

    graph, params, *others = nnx.split(module, nnx.Param, ...)

    def apply(values: Any, x: Any) -> Any:
        return nnx.merge(graph, values, *others)(x)

    return apply, _shapes(params)


def flax_shape_error() -> type[Exception]:
    """What Flax raises where parameters do not have the shapes that a module holds."""
    from flax.errors import ScopeParamShapeError

    return ScopeParamShapeError
