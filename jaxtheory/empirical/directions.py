"""A loop over parts of the output directions, for outputs whose derivatives do not fit in memory at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxtheory.empirical.outputs import Numbers, Spec, numbered

Kernel = Callable[[Numbers, Numbers], Array]


def over_parts(spec: Spec, part: Spec, kernel: Kernel) -> Array:
    """The kernel [n1, k, n2, l] (or [n1, k, n2]) of all directions from those of parts of them.

    `kernel` takes the numbers of the directions of x1 and of x2, None for all; both are one array where the directions
    are the same. Parts of the directions traced over add up, those of the kept ones stand beside one another.
    """
    if (part.traced, part.kept) == (spec.traced, spec.kept):
        return kernel(None, None)
    numbers = jnp.asarray(numbered(spec, part))
    if numbers.shape[1] == 1:
        return _sum(lambda part: kernel(part, part), numbers[:, 0])
    if spec.paired:
        found = jnp.moveaxis(jax.lax.map(lambda part: kernel(part, part), numbers[0]), 0, 1)
        return found.reshape(found.shape[0], -1, found.shape[-1])[:, : spec.kept]
    every = numbers.swapaxes(0, 1)

    def row(first: Array) -> Array:
        return jax.lax.map(lambda second: _sum(lambda pair: kernel(*pair), jnp.stack([first, second], 1)), every)

    found = jax.lax.map(row, every).transpose(2, 0, 3, 4, 1, 5)
    n1, kept, width, n2 = found.shape[:4]
    return found.reshape(n1, kept * width, n2, kept * width)[:, : spec.kept, :, : spec.kept]


def _sum(kernel: Callable[[Array], Array], parts: Array) -> Array:
    """The sum over parts, one after the other."""
    if len(parts) == 1:
        return kernel(parts[0])
    one = jax.eval_shape(kernel, parts[0])
    total = jnp.zeros(one.shape, one.dtype)
    return jax.lax.scan(lambda total, part: (total + kernel(part), None), total, parts)[0]
