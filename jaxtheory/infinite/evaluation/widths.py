"""Whether a network has a limit at all: the same program at twice the width has the same kernel.

Compared are numbers at one generic input. Of the output, its variance. Of an elementwise function φ of a Gaussian of
variance q, the ratio q E[φ'²]/E[φ²], which a factor that is taken back later does not change where φ is homogeneous,
and which tells a saturating φ from one that is not. Of averages that enter exp, tanh and the like, their size.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory.activations.duals import unchecked_pair
from jaxtheory.infinite.errors import Site, refuse
from jaxtheory.infinite.graph import Graph
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.expressions import as_function
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Node
from jaxtheory.infinite.graph.views import Parts
from jaxtheory.infinite.graph.windows import Window
from jaxtheory.infinite.models import Shapes
from jaxtheory.infinite.schedule import Answers, Item, Task, array, det_item, entry, pair_item

_SAME = 1e-2
_LARGE = 1e4  # what hides an attention score is larger


Reader = Callable[[Answers], tuple[Array, Array]]


class Probe(NamedTuple):
    """What is compared at one place: number, and the variance (or size) that its error message tells."""

    site: Site
    node: Node | None
    read: Reader


def probes(graph: Graph, output: Item, schedule: Sequence[Task], scale: float) -> list[Probe]:
    """What decides whether the output is free of the width, in the order of the program."""
    items = {task.item for task in schedule}
    functions = {item.a for item in items if item.kind == "pair" and item.a is item.b}
    found: list[tuple[tuple[int, int], Probe]] = [
        (f.order, Probe(f.site, f.root, _function(f, scale, output))) for f in functions if isinstance(f, n.Function)
    ]
    averages = [(where, det) for where, det in graph.arguments if det_item(det, 1) in items]
    found += [(det.order, Probe(where, None, _average(det_item(det, 1)))) for where, det in averages]
    found.append((output.node.order, Probe(output.node.site, output.node, _variance(output))))
    return [probe for _, probe in sorted(found, key=lambda pair: pair[0])]


def _variance(item: Item) -> Reader:
    def read(values: Answers) -> tuple[Array, Array]:
        kernel = entry(values[item]).kernel
        size = jnp.zeros(()) if kernel is None else jnp.abs(kernel).mean()
        return size, size

    return read


def _function(node: n.Function, scale: float, output: Item) -> Reader:
    function, below = as_function(node.expression), pair_item(node.root, node.root, output.sides)

    def read(values: Answers) -> tuple[Array, Array]:
        q = entry(values[below]).kernel
        if q is None:
            return jnp.zeros(()), jnp.zeros(())
        pair = unchecked_pair(function, function, scale)(q, q, q)
        size = jnp.abs(pair.value).mean()
        return (q * pair.derivative).mean() / jnp.where(size > 0, size, 1.0), q.mean()

    return read


def _average(item: Item) -> Reader:
    def read(values: Answers) -> tuple[Array, Array]:
        size = jnp.abs(jnp.asarray(array(values[item])))
        mean = jnp.where(size < _LARGE, size, 0).mean()
        return mean, mean

    return read


def read_all(chosen: list[Probe], values: Answers, dtype: np.dtype) -> Array:
    """The numbers of all places, [places 2]."""
    return jnp.stack([jnp.stack([jnp.asarray(v, dtype).reshape(()) for v in probe.read(values)]) for probe in chosen])


class Difference(NamedTuple):
    """The first place that depends on the width, and how many times as large it is at twice the width."""

    site: Site
    node: Node | None
    ratio: float


def difference(chosen: list[Probe], narrow: np.ndarray, wide: np.ndarray) -> Difference | None:
    """None where both widths have the same numbers; of programs of other structure the outputs alone are compared."""
    if len(narrow) != len(wide):
        chosen, narrow, wide = chosen[-1:], narrow[-1:], wide[-1:]
    # beyond the scale of an activation there are only variances to compare
    seen = np.isfinite(narrow[:, 0]) & np.isfinite(wide[:, 0])
    ours, theirs = (np.where(seen, part[:, 0], part[:, 1]) for part in (narrow, wide))
    off = np.isfinite(ours) & ~(np.abs(theirs - ours) <= _SAME * np.abs(ours))
    if not off.any():
        return None
    first = int(np.argmax(off))
    ratio = narrow[first, 1] and wide[first, 1] / narrow[first, 1]
    return Difference(chosen[first].site, chosen[first].node, float(ratio) if narrow[first, 1] else math.inf)


def refuse_width(found: Difference, paths: list[str]) -> None:
    """Raise, naming the place and the weights that it is made of."""
    what = "its variance" if found.node is not None else "what it is given"
    named = [] if found.node is None else sorted({paths[leaf] for leaf in _leaves(found.node)})
    weights = f" (weight {', '.join(named)})" if named else ""
    reason = f"at twice the width {what} is {found.ratio:.3g} times as large, a power of the width{weights}"
    hint = "scale weights by 1/sqrt(fan_in), in the prior or by their shapes; or pass check_width=False"
    refuse(found.site, reason, hint)


def _leaves(node: Node) -> set[int]:
    """The weights and parameters that a node is made of directly."""
    return {end.key.leaf for end in _ends(node)}


def wider_shapes(shapes: Shapes, output: Node, visited: list[Node]) -> list[Shapes]:
    """Shapes of parameters with every axis of hidden channels twice as long: candidates, the best first.

    The roles of parameters say which axes these are. Parameters that the output does not depend on have no role: their
    axes, and in the last candidate all axes, are recognized by their sizes.
    """
    ends = _ends(output)
    wide: set[tuple[int, int]] = set()
    fixed: set[tuple[int, int]] = set()
    for node in visited:
        if isinstance(node, n.LinearLayer):
            inputs = [x for x, _ in node.pieces if not isinstance(x, n.DeterministicVector)]
            (wide if inputs else fixed).update(_fan_in_axis(node, shapes))
        if isinstance(node, n.Random):
            end = any(node is e for e in ends)
            (fixed if end else wide).update(_axes(node.key.leaf, shapes, node.key.free))
    every = {(i, a) for i, shape in enumerate(shapes) for a in range(len(shape))}
    sizes, seen = (
        {shapes[i][a] for i, a in wide},
        {node.key.leaf for node in visited if isinstance(node, n.Random | n.Mask)},
    )
    alike = {(i, a) for i, a in every if shapes[i][a] in sizes}
    chosen = [wide, wide | {(i, a) for i, a in alike if i not in seen}, alike - fixed | wide]
    return [
        [tuple(m * 2 if (i, a) in axes else m for a, m in enumerate(s)) for i, s in enumerate(shapes)]
        for axes in chosen
    ]


def widths_between(before: Shapes, after: Shapes, fan_ins: list[tuple[int, tuple[int, ...]]]) -> frozenset[int]:
    """The widths that differ between two lists of shapes: axes, and fan-ins of several, given by leaf and axes."""
    found = {m for p, q in zip(before, after, strict=True) for m, k in zip(p, q, strict=True) if m != k}
    for leaf, axes in fan_ins:
        if any(before[leaf][a] != after[leaf][a] for a in axes):
            found.add(math.prod(before[leaf][a] for a in axes))
    return frozenset(found)


def _ends(output: Node) -> list[n.Random]:
    """The parameters whose channels are those of a node."""
    found: list[n.Random] = []
    stack, seen = [output], set()
    while stack:
        node = stack.pop()
        if node.number in seen:
            continue
        seen.add(node.number)
        if isinstance(node, n.Random):
            found.append(node)
            continue
        stack += node.parts
    return found


def _fan_in_axis(use: n.LinearLayer, shapes: Shapes) -> set[tuple[int, int]]:
    """The axis of channels among those that a weight contracts: the last of a convolution, else the fastest.

    A convolution of each channel by itself has none: its last axis has size one.
    """
    if only(Window, use.roles):
        return _axes(use.key.leaf, shapes, use.key.rest[-1])
    rest = [parts for parts in use.key.rest if any(stride for _, stride in parts)]
    return _axes(use.key.leaf, shapes, min(rest, key=lambda parts: min(s for _, s in parts if s))) if rest else set()


def _axes(leaf: int, shapes: Shapes, parts: Parts) -> set[tuple[int, int]]:
    """The axis of a leaf to which the fastest of some parts belongs."""
    real = [part for part in parts if part[1]]
    strides = [math.prod(shapes[leaf][a + 1 :]) for a in range(len(shapes[leaf]))]
    axes = [a for a, s in enumerate(strides) if real and shapes[leaf][a] > 1 and s <= real[-1][1] < s * shapes[leaf][a]]
    return {(leaf, axes[0])} if axes else set()
