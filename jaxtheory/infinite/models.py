"""Networks in whatever way they are written: plain functions, Flax linen modules, Flax NNX modules."""

import dataclasses
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
    if _is_linen(f):
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
        return nnx.merge(graph, values, *others, copy=True)(x)  # its counters and averages are this call's own

    return apply, _shapes(params)


def flax_error() -> type[Exception]:
    """What Flax raises where parameters are not those that a module holds."""
    from flax.errors import FlaxError

    return FlaxError


def widened(f: Any, before: Any, after: Any, x: Any) -> tuple[Any, Any] | None:
    """A linen module with every attribute that is a width doubled, in modules that it holds too, and its shapes.

    The widths are those axes of parameters that differ `after` from `before`. None for anything else: an NNX module is
    made already, and widths that are written into a method are out of reach.
    """
    if not _is_linen(f):
        return None
    widths = {m for p, q in zip(before, after, strict=True) for m, n in zip(p, q, strict=True) if m != n}
    module = _doubled(f, widths)
    return module.apply, [leaf.shape for leaf in jax.tree.leaves(_linen(module, x))]


def _is_linen(f: Any) -> bool:
    kinds = {f"{base.__module__}.{base.__name__}" for base in type(f).__mro__}
    return any(kind.startswith("flax.linen.") and kind.endswith(".Module") for kind in kinds)


def _doubled(value: Any, widths: set[int]) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_doubled(v, widths) for v in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return 2 * value if value in widths else value
    if not _is_linen(value):
        return value
    names = [field.name for field in dataclasses.fields(value) if field.name not in ("parent", "name")]
    return value.clone(**{name: _doubled(getattr(value, name), widths) for name in names})
