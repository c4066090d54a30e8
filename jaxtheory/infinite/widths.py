"""Whether a network has a limit at all: the same program at twice the width has the same kernel."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite import nodes as n
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.nodes import Node
from jaxtheory.infinite.views import Parts

Shapes = list[tuple[int, ...]]


def doubled(shapes: Shapes, output: Node, visited: list[Node]) -> Shapes:
    """Shapes of parameters with every axis of hidden channels twice as long."""
    ends = _ends(output)
    wide: set[tuple[int, int]] = set()
    for node in visited:
        if isinstance(node, n.Use):
            inputs = [x for x, _ in node.pieces if not isinstance(x, n.Fixed)]
            wide |= _axes(node.key.leaf, shapes, node.key.rest) if inputs else set()
        if isinstance(node, n.Use | n.Vector | n.Lookup) and not any(node is e for e in ends):
            wide |= _axes(node.key.leaf, shapes, (node.key.free,))
    return [tuple(m * 2 if (i, a) in wide else m for a, m in enumerate(s)) for i, s in enumerate(shapes)]


def _ends(output: Node) -> list[Node]:
    """The parameters whose channels are those of the output."""
    found: list[Node] = []
    stack, seen = [output], set()
    while stack:
        node = stack.pop()
        if node.number in seen:
            continue
        seen.add(node.number)
        if isinstance(node, n.Use | n.Vector | n.Lookup):
            found.append(node)
            continue
        stack += node.parts
    return found


def _axes(leaf: int, shapes: Shapes, roles: tuple[Parts, ...]) -> set[tuple[int, int]]:
    """The axis of a leaf to which the fastest part of the last role belongs."""
    parts = [part for parts in roles[-1:] for part in parts if part[1]]
    strides = [math.prod(shapes[leaf][a + 1 :]) for a in range(len(shapes[leaf]))]
    axes = [
        a for a, s in enumerate(strides) if parts and shapes[leaf][a] > 1 and s <= parts[-1][1] < s * shapes[leaf][a]
    ]
    return {(leaf, axes[0])} if axes else set()


def require_width_free(narrow: Any, wide: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Raise where a layer's variance at one input is not the same at both widths, naming the first such layer."""
    rng = np.random.default_rng(0)
    integers = not jnp.issubdtype(dtype, jnp.floating)
    x = jnp.zeros(shape, dtype) if integers else jnp.asarray(rng.standard_normal(shape), dtype)
    ours, theirs = (np.asarray(jax.jit(plan.sizes)(x)) for plan in (narrow, wide))
    if len(ours) != len(theirs):
        return
    off = np.abs(theirs - ours) > 1e-2 * np.abs(ours)
    if off.any():
        first = int(np.argmax(off))
        ratio = theirs[first] / ours[first] if ours[first] else math.inf
        reason = f"at twice the width its variance is {ratio:.3g} times as large, a power of the width"
        hint = "scale its weights by 1/sqrt(fan_in), in the prior or in the function; or pass check_width=False"
        refuse(narrow.nodes[first].site, reason, hint)
