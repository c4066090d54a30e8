"""Plans of a limit: the program as a graph of random vectors, and the averages that its kernels need, in order."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxtheory.infinite import inputs
from jaxtheory.infinite.errors import NoLimitError, Site
from jaxtheory.infinite.evaluation.outputs import Output, output
from jaxtheory.infinite.evaluation.ties import require_untied
from jaxtheory.infinite.evaluation.widths import Probe, probes, read_all
from jaxtheory.infinite.graph import whole
from jaxtheory.infinite.graph.arrays import Average
from jaxtheory.infinite.graph.nodes import Deterministic, Node, Record, Use
from jaxtheory.infinite.graph.views import Leaf
from jaxtheory.infinite.monte_carlo import MonteCarlo
from jaxtheory.infinite.prior import Role
from jaxtheory.infinite.schedule import (
    Answers,
    Computation,
    Item,
    Sampling,
    Schedule,
    Sides,
    Want,
    demand,
    det_item,
    entry,
    pair_item,
    planner,
    run,
)
from jaxtheory.infinite.trace import Context, relative_deviation
from jaxtheory.programs.calls import Program

P = ParamSpec("P")
T = TypeVar("T")


class Settings(NamedTuple):
    """How a kernel is computed: precision, whether with its tangent, the scale of activations, Monte Carlo.

    `shared_draws`: examples share the masks that the program draws. `equal`: kernels hold equal positions only.
    `output`: the place of the kernel's array among those that the network returns.
    """

    dtype: np.dtype
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
    of `uses`, None where these cannot be had; `constants` are sites of numbers that differ between hidden channels,
    `factors` paths of parameters that multiply random values.
    """

    pair: Callable[..., tuple[Array, Array]]
    diagonal: Callable[..., tuple[Array, Array]]
    entries: int
    sizes: Callable[[list[Array]], tuple[Array, Array | None]]
    probes: list[Probe]
    uses: list[Use]
    constants: list[Site]
    factors: set[str]
    output: Output
    visited: list[Node]
    decision: Decision
    loops: int


def outside(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call a function in another thread, outside of all traces, so that constants of the program are computed now."""
    x64 = jnp.result_type(float) == jnp.float64

    def call() -> T:
        with jax.enable_x64(x64), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return function(*arguments, **named)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def compile_plans(closed: Program, decision: Decision, given: inputs.Spec, settings: Settings) -> Compiled:
    """The plans of both kernels, with loops kept as loops or, where these have no limit, written out turn by turn."""
    if decision.rolled:
        context = _context(decision, settings, True)
        try:
            return _compile(context, closed, decision, given, settings)
        except NoLimitError:
            if not context.loops:
                raise
    unrolled = decision._replace(rolled=False)
    return _compile(_context(unrolled, settings, False), closed, unrolled, given, settings)


def _context(decision: Decision, settings: Settings, rolled: bool) -> Context:
    record = Record(decision.powers, decision.assumed)
    context = Context(rolled, settings.draws is not None, record, decision.widths)
    context.graph.shared_draws = settings.shared_draws
    return context


def _compile(context: Context, closed: Program, decision: Decision, given: inputs.Spec, settings: Settings) -> Compiled:
    key = Deterministic((), ())
    examples = [Deterministic((1, *shape), (True, *(m == 1 for m in shape))) for shape, _ in given]
    values = context.walk(closed, [*map(whole, decision.leaves), *examples])
    out = output(values, settings.output, settings.equal)
    known = _Inputs(examples, key)
    cross, uses = _plan(context, out, known, (1, 2), settings), context.graph.record.uses
    own, measurable = _own_plan(context, out, known, settings, uses)
    visited = list({id(x): x for x in (*cross.visited, *own.visited)}.values())
    require_untied(visited)
    chosen = probes(context.graph, own.root, own.schedule.tasks, settings.scale)
    fixed_key = None if settings.draws is None else settings.draws.key

    def sizes(example: list[Array]) -> tuple[Array, Array | None]:
        answers = own.run([example], fixed_key)
        found = [relative_deviation(use, lambda x: _deviation(answers, x)) for use in uses] if measurable else []
        compared = read_all(chosen, answers, settings.dtype)
        return compared, jnp.stack([jnp.asarray(u) for u in found]) if found else None

    return Compiled(
        lambda x, y, k: cross.answer((x, y), k, settings),
        lambda x, k: own.answer([x], k, settings),
        _largest(context, cross, settings),
        sizes, chosen, uses, context.graph.constants, context.graph.factors, out, visited, decision,
        context.loops,
    )  # fmt: skip


def _largest(context: Context, cross: "_KernelPlan", settings: Settings) -> int:
    drawn = settings.draws is not None and (context.graph.scores or context.graph.ordinals)
    several = settings.draws.samples * settings.draws.groups if settings.draws is not None and drawn else 1
    return several * max(_entries(t.item, t.mask) for t in cross.schedule.tasks if t.item.kind == "pair")


def _entries(item: Item, mask: Want) -> int:
    assert isinstance(mask, tuple)
    return math.prod(m ** (1 + both) for m, both in zip(item.node.index, mask, strict=True))


def _deviation(answers: Answers, node: Node) -> float | Array:
    """The root mean square of a node's channels."""
    kernel = entry(answers[pair_item(node, node, (1, 1))]).kernel
    return 0.0 if kernel is None else jnp.sqrt(jnp.abs(kernel).mean())


class _Inputs(NamedTuple):
    """The quantities that a schedule is given: the arrays of an example, leaf by leaf, and the key of draws."""

    examples: list[Deterministic]
    key: Deterministic

    def hold(self, item: Item) -> bool:
        """Whether a request is for one of them."""
        return item.a is self.key or any(item.a is det for det in self.examples)


class _KernelPlan(NamedTuple):
    """The schedule of one entry of a kernel: its request, the inputs that are given, and the nodes on the way."""

    root: Item
    inputs: _Inputs
    output: Output
    schedule: Schedule
    visited: list[Node]

    def run(self, examples: Sequence[Sequence[Array]], key: Array | None) -> Answers:
        """All values; the arrays of each example with their batch axes."""
        values: Answers = {
            det_item(det, side): array
            for side, arrays in enumerate(examples, 1)
            for det, array in zip(self.inputs.examples, arrays, strict=True)
        }
        values[det_item(self.inputs.key, 0)] = key
        given = self.schedule.given
        return run(self.schedule.tasks, {item: v for item, v in values.items() if item in given}, given)

    def answer(self, examples: Sequence[PyTree], key: Array | None, settings: Settings) -> tuple[Array, Array]:
        """Kernel and tangent of examples without batch axis."""
        arrays = [[leaf[None] for leaf in jax.tree.leaves(example)] for example in examples]
        found = entry(self.run(arrays, key)[self.root])
        rank = len(self.output.node.index) * (1 if self.output.equal else 2)

        def laid(part: Average) -> Array:
            return self.output.laid(jnp.zeros((1,) * rank, settings.dtype) if part is None else part)

        return laid(found.kernel), laid(found.tangent)


def _plan(
    context: Context, out: Output, known: _Inputs, sides: Sides, settings: Settings, others: Sequence[Node] = ()
) -> _KernelPlan:
    """The averages that the kernel of a node needs, and the variances of `others`."""
    sampling = None if settings.draws is None else Sampling(known.key, settings.draws.samples)
    computation = Computation(context.graph, sides, settings.tangent, settings.dtype, settings.scale, sampling)
    root = pair_item(out.node, out.node, sides)
    wanted: dict[Item, Want] = {pair_item(x, x, sides): (False,) * len(x.index) for x in others}
    wanted[root] = out.mask
    schedule = demand(wanted, planner(computation), known.hold)
    return _KernelPlan(root, known, out, schedule, computation.visited)


def _own_plan(
    context: Context, out: Output, known: _Inputs, settings: Settings, uses: list[Use]
) -> tuple[_KernelPlan, bool]:
    """The plan of an example with itself, with the variances that decide on `uses`, unless loops hide them."""
    others = list({x.number: x for use in uses for x in use.nodes}.values())
    try:
        return _plan(context, out, known, (1, 1), settings, others), True
    except NoLimitError:
        return _plan(context, out, known, (1, 1), settings), False
