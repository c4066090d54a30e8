"""Deterministic quantities: inputs and what is computed from them and from averages over channels.

Each is a recipe: what must be known, and how to make an array of it. On axes where it is known to be uniform the array
has size one.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.graph.nodes import Bundle, Deterministic, Flags, Made, Need, Shape

Make = Callable[[list[Numbers]], Numbers]


def known(value: Numbers | np.generic) -> Deterministic:
    """A constant; axes along which it does not change are found."""
    array = value if isinstance(value, jax.Array) and is_key(value) else np.asarray(value)
    if is_key(array) or array.size == 0:
        return Deterministic(array.shape, (False,) * array.ndim, value=array)
    uniform = []
    for axis in range(array.ndim):
        first = array[(slice(None),) * axis + (slice(0, 1),)]
        uniform.append(array.shape[axis] == 1 or bool(np.all(array == first)))
    reduced = array[tuple(slice(0, 1) if u else slice(None) for u in uniform)]
    return Deterministic(array.shape, tuple(uniform), value=np.asarray(reduced))


def number(value: float | np.generic | jax.Array, rank: int = 0) -> Deterministic:
    """One known number, over index axes of size one."""
    return known(np.full((1,) * rank, value))


def is_key(value: Numbers) -> bool:
    """Whether an array holds random keys."""
    return jnp.issubdtype(value.dtype, jax.dtypes.extended)


def unknown(value: jax.Array) -> Deterministic:
    """A value of an outer transformation: the same for every example, but not to be looked at."""
    return Deterministic(value.shape, ones(value.shape), (), lambda _: value)


def ones(shape: Shape) -> Flags:
    """Which axes have size one."""
    return tuple(m == 1 for m in shape)


def derive(needs: tuple[Need, ...], shape: Shape, uniform: Flags, make: Make) -> Deterministic:
    """make(values of needs), computed now if all of them are known; then more axes may be found to be uniform."""
    values = known_values(needs)
    if values is None:
        return Deterministic(shape, uniform, needs, _on_arrays(make), random=is_random(needs))
    found = known(make(values))
    flags = tuple(u or f for u, f in zip(uniform, found.uniform, strict=True))
    return Deterministic(shape, flags, value=found.value, random=is_random(needs))


def spread(needs: tuple[Need, ...], shape: Shape, make: Make) -> Deterministic:
    """make(values of needs), whose array always has its full shape."""
    values, uniform = known_values(needs), (False,) * len(shape)
    if values is None:
        return Deterministic(shape, uniform, needs, _on_arrays(make), random=is_random(needs))
    return Deterministic(shape, uniform, value=np.asarray(make(values)), random=is_random(needs))


def _on_arrays(make: Make) -> Callable[[list[Made]], Numbers]:
    return lambda values: make(_arrays(values))


def _arrays(values: list[Made]) -> list[Numbers]:
    return [v for v in values if not isinstance(v, Bundle)]


def bundle(
    needs: tuple[Need, ...], shapes: list[Shape], make: Callable[[list[Numbers]], list[jax.Array]]
) -> list[Deterministic]:
    """The arrays that make(values of needs) gives together."""
    together = Deterministic((), (), needs, lambda values: Bundle(make(_arrays(values))))

    def part(place: int) -> Callable[[list[Made]], Made]:
        return lambda values: next(v.arrays[place] for v in values if isinstance(v, Bundle))

    random = is_random(needs)
    return [Deterministic(s, ones(s), (together,), part(i), random=random) for i, s in enumerate(shapes)]


def known_values(needs: tuple[Need, ...]) -> list[Numbers] | None:
    """The values of quantities that are all known."""
    values = [need.value for need in needs if isinstance(need, Deterministic) and need.value is not None]
    return values if len(values) == len(needs) else None


def is_random(needs: tuple[Need, ...]) -> bool:
    """Whether one of them is drawn by the program itself."""
    return any(isinstance(need, Deterministic) and need.random for need in needs)


def full(value: Numbers, shape: Shape) -> Numbers:
    """The array without shortened axes."""
    return value if value.shape == shape else jnp.broadcast_to(value, shape)


def product(a: Deterministic, b: Deterministic) -> Deterministic:
    """The product of two coefficients over the same index axes."""
    if a is ONE or b is ONE:
        return b if a is ONE else a
    shape = tuple(max(sizes) for sizes in zip(a.shape, b.shape, strict=True))
    return derive((a, b), shape, ones(shape), lambda v: _times(jnp.asarray(v[0]), jnp.asarray(v[1])))


def _times(a: jax.Array, b: jax.Array) -> jax.Array:
    dtype = a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else b.dtype
    return a.astype(dtype) * b.astype(dtype)


def inverse(det: Deterministic) -> Deterministic:
    """One over a quantity."""
    return derive((det,), det.shape, det.uniform, lambda v: 1 / jnp.asarray(v[0]))


def transpose(operand: Deterministic, order: tuple[int, ...]) -> Deterministic:
    """With its axes in another order."""
    shape, uniform = tuple(operand.shape[i] for i in order), tuple(operand.uniform[i] for i in order)
    return derive((operand,), shape, uniform, lambda v: jnp.transpose(v[0], order))


def reshape(operand: Deterministic, shape: Shape) -> Deterministic:
    """Another shape; groups of axes that are all uniform stay so."""
    uniform, widened = [False] * len(shape), list(operand.shape)
    for old, new in groups(operand.shape, shape):
        flat = all(operand.uniform[i] for i in old)
        for i in new:
            uniform[i] = flat
        if flat:
            for i in old:
                widened[i] = 1
    short = tuple(1 if u else n for u, n in zip(uniform, shape, strict=True))
    flags = tuple(u or n == 1 for u, n in zip(uniform, shape, strict=True))
    return derive((operand,), shape, flags, lambda v: full(jnp.asarray(v[0]), tuple(widened)).reshape(short))


def groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The finest groups of adjacent axes of two shapes that hold as many elements.

    >>> groups((2, 6), (2, 3, 2))
    [([0], [0]), ([1], [1, 2])]
    """
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        left, right, a, b = [], [], 1, 1
        if i < len(old):
            left, a, i = [i], old[i], i + 1
        if j < len(new):
            right, b, j = [j], new[j], j + 1
        while a != b:
            if (a < b and i < len(old)) or j >= len(new):
                left, a, i = [*left, i], a * old[i], i + 1
            else:
                right, b, j = [*right, j], b * new[j], j + 1
        found.append((left, right))
    return found


def size(shape: Shape) -> int:
    """Elements of a shape."""
    return math.prod(shape)


ONE = number(1.0)  # the coefficient of a node that is added as it is
