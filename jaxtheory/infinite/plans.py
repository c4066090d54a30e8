"""Plans of a limit: the program as a graph of random vectors, and the averages that its kernels need, in order."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxtheory.infinite import inputs
from jaxtheory.infinite.demand import Item, demand, det_item, run
from jaxtheory.infinite.determined import Det
from jaxtheory.infinite.errors import NoLimitError, Site
from jaxtheory.infinite.fluctuations import Record, Use
from jaxtheory.infinite.moments import Calculus
from jaxtheory.infinite.monte_carlo import MonteCarlo, Sampling
from jaxtheory.infinite.nodes import Node
from jaxtheory.infinite.outputs import Output, output
from jaxtheory.infinite.prior import Role
from jaxtheory.infinite.shared import require_untied
from jaxtheory.infinite.views import Leaf, whole
from jaxtheory.infinite.walk import Context
from jaxtheory.infinite.widths import Probe, probes, read_all


class Settings(NamedTuple):
    """Of a computation: precision, tangents or not, scale of activations, Monte Carlo; whether examples share masks.

    Then whether kernels hold equal positions only, and which of the arrays that the network returns they are of.
    """

    dtype: Any
    tangent: bool
    scale: float
    draws: MonteCarlo | None
    shared_draws: bool = True
    equal: bool = False
    output: int = 0


class Decision(NamedTuple):
    """What is known of a network before it is computed.

    Moments of its parameters and their roles by path; powers of the width of sums that average to zero, or that all
    are `assumed` to vanish; whether loops stay loops; widths of which numbers of the program are powers.
    """

    leaves: list[Leaf]
    roles: dict[str, Role]
    powers: tuple[float, ...] | None = None
    assumed: bool = False
    rolled: bool = True
    widths: frozenset[int] = frozenset()


class Compiled(NamedTuple):
    """Kernel and tangent of a pair of examples, and of one with itself; the size of the largest array that they need.

    Each takes the key of its draws last (None without any). `sizes` of an example are the numbers of `probes` [k 2] and
    of `uses`, None where these cannot be had; `constants` are sites of numbers that differ between hidden channels.
    """

    pair: Callable[..., tuple[Array, Array]]
    diagonal: Callable[..., tuple[Array, Array]]
    entries: int
    sizes: Callable[[Any], tuple[Array, Array | None]]
    probes: list[Probe]
    uses: list[Use]
    constants: list[Site]
    output: Output
    visited: list[Node]
    decision: Decision
    loops: int


def outside(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a thread of its own, where nobody traces, so that constants of the program are computed now."""
    x64 = jnp.result_type(float) == jnp.float64

    def call() -> Any:
        with jax.enable_x64(x64), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*arguments)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def compile_plans(closed: Any, decision: Decision, given: inputs.Spec, settings: Settings) -> Compiled:
    """Loops as loops, or, where that does not do, turn by turn."""
    if decision.rolled:
        context = _context(decision, settings, True)
        try:
            return _compiled(context, closed, decision, given, settings)
        except NoLimitError:
            if not context.loops:
                raise
    turned = decision._replace(rolled=False)
    return _compiled(_context(turned, settings, False), closed, turned, given, settings)


def _context(decision: Decision, settings: Settings, rolled: bool) -> Context:
    record = Record(decision.powers, decision.assumed)
    context = Context(rolled, settings.draws is not None, record, decision.widths)
    context.graph.shared_draws = settings.shared_draws
    return context


def _compiled(context: Context, closed: Any, decision: Decision, given: inputs.Spec, settings: Settings) -> Compiled:
    key = Det((), (), (), None)
    examples = [Det((1, *shape), (True, *(m == 1 for m in shape)), (), None) for shape, _ in given]
    values = context.walk(closed, [*map(whole, decision.leaves), *examples])
    out = output(values, settings.output, settings.equal)
    cross, uses = _plan(context, out, (examples, key), (1, 2), settings), context.graph.record.uses
    own, measurable = _own_plan(context, out, (examples, key), settings, uses)
    visited = list({id(x): x for x in (*cross.visited, *own.visited)}.values())
    require_untied(visited)
    chosen = probes(context.graph, own.root, own.schedule, settings.scale)
    fixed = None if settings.draws is None else settings.draws.key

    def sizes(example: list[Array]) -> tuple[Array, Array | None]:
        values = own.run([example], fixed)
        found = [use.size(lambda x: _deviation(values, x)) for use in uses] if measurable else []
        compared = read_all(chosen, values, settings.dtype)
        return compared, jnp.stack([jnp.asarray(u) for u in found]) if found else None

    return Compiled(
        lambda x, y, k: cross.answer((x, y), k, settings),
        lambda x, k: own.answer([x], k, settings),
        _largest(context, cross, settings),
        sizes, chosen, uses, context.graph.constants, out, visited, decision, context.loops,
    )  # fmt: skip


def _largest(context: Context, cross: "_Planned", settings: Settings) -> int:
    drawn = settings.draws is not None and (context.graph.scores or context.graph.variables)
    several = settings.draws.samples * settings.draws.groups if settings.draws is not None and drawn else 1
    return several * max(_entries(item, m) for item, m, _ in cross.schedule if item.kind == "pair")


def _entries(item: Item, mask: Any) -> int:
    return math.prod(m ** (1 + both) for m, both in zip(item.a.index, mask, strict=True))


def _deviation(values: dict[Item, Any], node: Node) -> Any:
    """The root mean square of a node's channels."""
    kernel = values[Item("pair", node, node, (1, 1))][0]
    return 0.0 if kernel is None else jnp.sqrt(jnp.abs(kernel).mean())


class _Planned(NamedTuple):
    """What is computed for one entry, from what: inputs and the key of draws."""

    root: Item
    inputs: tuple[list[Det], Det]
    output: Output
    schedule: list[Any]
    given: Any
    visited: list[Node]

    def run(self, examples: Any, key: Any) -> dict[Item, Any]:
        """All values; the arrays of each example with their batch axes."""
        dets, drawn = self.inputs
        values = {
            det_item(det, side): array
            for side, arrays in enumerate(examples, 1)
            for det, array in zip(dets, arrays, strict=True)
        }
        values[det_item(drawn, 0)] = key
        return run(self.schedule, {item: v for item, v in values.items() if item in self.given}, self.given)

    def answer(self, examples: Any, key: Any, settings: Settings) -> tuple[Array, Array]:
        """Kernel and tangent of examples without batch axis."""
        arrays = [[leaf[None] for leaf in jax.tree.leaves(example)] for example in examples]
        values = self.run(arrays, key)[self.root]
        zero = jnp.zeros((1,) * len(self.output.node.index) * (1 if self.output.equal else 2), settings.dtype)
        return tuple(self.output.laid(zero if v is None else v) for v in values)  # type: ignore[return-value]


def _plan(
    context: Context, out: Output, given: Any, sides: Any, settings: Settings, others: tuple[Node, ...] = ()
) -> _Planned:
    """The averages that the kernel of a node needs, and the variances of `others`."""
    sampling = None if settings.draws is None else Sampling(given[1], settings.draws.samples)
    calculus = Calculus(context.graph, sides, settings.tangent, settings.dtype, settings.scale, sampling)
    root = Item("pair", out.node, out.node, sides)
    wanted = {Item("pair", x, x, sides): (False,) * len(x.index) for x in others}
    wanted[root] = out.mask
    known_items = (*given[0], given[1])
    schedule, leaves = demand(wanted, calculus.plan, lambda item: any(item.a is det for det in known_items))
    return _Planned(root, given, out, schedule, leaves, calculus.visited)


def _own_plan(context: Context, out: Output, given: Any, settings: Settings, uses: list[Use]) -> tuple[_Planned, bool]:
    """The plan of an example with itself, with the variances that decide on `uses`, unless loops hide them."""
    others = tuple({x.number: x for use in uses for x in use.nodes}.values())
    try:
        return _plan(context, out, given, (1, 1), settings, others), True
    except NoLimitError:
        return _plan(context, out, given, (1, 1), settings), False
