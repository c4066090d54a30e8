"""One equation evaluated on arrays, in at least single precision."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.programs.calls import Equation

_DTYPES = ("new_dtype", "preferred_element_type", "dtype")  # parameters of primitives


def bind(equation: Equation, values: Sequence[Numbers]) -> list[jax.Array]:
    """The outputs of an equation, in the precision that it was traced in, but at least in single precision."""
    params = equation.primitive.get_bind_params(_at_least_single(equation.params))
    given = [_cast(v, x.aval.dtype) for v, x in zip(values, equation.invars, strict=True)]
    out = equation.primitive.bind(*given, **params)
    return list(out) if equation.primitive.multiple_results else [out]


def bind_broadcast(equation: Equation, values: Sequence[Numbers]) -> jax.Array:
    """The output of an elementwise equation on numbers of one rank, whose axes of size one are broadcast."""
    arrays = [jnp.asarray(v) for v in values]
    shape = jnp.broadcast_shapes(*(a.shape for a in arrays))
    return bind(equation, [jnp.broadcast_to(a, shape) for a in arrays])[0]


def _at_least_single(params: Mapping[str, object]) -> dict[str, object]:
    """Parameters of an equation with float32 in place of the halves: the limit follows numbers, not their rounding."""
    return {k: _wide(v) if k in _DTYPES and isinstance(v, np.dtype) else v for k, v in params.items()}


def _wide(dtype: np.dtype) -> np.dtype:
    half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if half else dtype


def _cast(value: Numbers, dtype: object) -> Numbers:
    """Floating numbers in the precision of the equation, or as its integers; keys, of no dtype of NumPy's, as they are.

    Sums of integers with nothing random left in them have been added up as real numbers.
    """
    if not isinstance(dtype, np.dtype) or not isinstance(value.dtype, np.dtype):
        return value
    return value.astype(_wide(dtype)) if jnp.issubdtype(value.dtype, jnp.floating) else value
