"""What `ntk` would do: every parameter's rule, every method's flops and memory, as a table."""

from functools import partial
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from jaxtheory import placement
from jaxtheory.checks import boundary, require
from jaxtheory.empirical import cost, parts
from jaxtheory.empirical.factored import Group, Tied, parts_of
from jaxtheory.empirical.kernel import Block, pick, plan, real_parts
from jaxtheory.empirical.outputs import Output, directions, read_output
from jaxtheory.empirical.strategies import GroupCost, Problem, choose
from jaxtheory.empirical.structured import Leaf
from jaxtheory.empirical.validation import Batch, Function, check_block, check_options, prepared


class Row(NamedTuple):
    """One parameter leaf: its rule, where it enters, and its cost.

    The rule is "structured", "merged" (a bias, with its layer), "direct", "fallback" or "unused".
    """

    name: str
    shape: tuple[int, ...]
    rule: str
    detail: str
    flops: float
    bytes: float


class Explanation(NamedTuple):
    """The table of `explain`; `str` of it is what is printed. `bytes`: temporaries of the method chosen."""

    rows: tuple[Row, ...]
    methods: dict[str, cost.MethodCost]
    chosen: str
    rows_per_block: int
    columns_per_block: int
    sweeps: int
    directions: int
    bound: float
    bytes: float

    @property
    def fallbacks(self) -> tuple[Row, ...]:
        """Leaves contracted by their explicit Jacobian because no rule knows them."""
        return tuple(row for row in self.rows if row.rule == "fallback")

    def __str__(self) -> str:
        lines = [f"{'parameter':<28}{'shape':<18}{'rule':<12}{'flops':>10}{'bytes':>10}  detail"]
        lines += [
            f"{r.name:<28}{'x'.join(map(str, r.shape)) or '-':<18}{r.rule:<12}"
            f"{r.flops:>10.1e}{r.bytes:>10.1e}  {r.detail}"
            for r in self.rows
        ]
        lines += [
            "",
            *(
                f"{m:<12}{c.flops:>10.1e} flops{c.bytes:>10.1e} bytes{c.work:>10.1e} work"
                for m, c in self.methods.items()
            ),
        ]
        block = f"blocks of {self.rows_per_block} by {self.columns_per_block}, {self.sweeps} sweep(s)"
        block += f" of {self.directions} output direction(s)"
        needed = f"temporaries of {self.bytes:.1e} bytes, {self.bound:.1e} at most"
        return "\n".join([*lines, f"chosen: {self.chosen}, {block}, {needed}"])


@boundary
@placement.automatic
def explain(
    f: Function,
    params: PyTree,
    x1: PyTree,
    x2: PyTree | None = None,
    *,
    output: Output = "full",
    batch: Batch = "each",
    method: str = "auto",
    block: Block = None,
    memory: float | None = None,
) -> Explanation:
    """How `ntk` with the same arguments treats each parameter, and the costs that `auto` compares.

    Args:
        f, output, method, block, memory: as in `ntk`.
        params, x1, x2: as in `ntk`, or `jax.ShapeDtypeStruct`s in place of arrays.
        batch: "each" or "unchecked", as in `ntk`.

    Returns:
        `Explanation`; print it for the table. A "fallback" row says in `detail` what was not understood; a "direct" row
        is a parameter that enters by elementwise linear operations and whose Jacobian is no larger than a cotangent.

    Cost: one trace of f; nothing is computed.

    >>> import jax.numpy as jnp
    >>> table = explain(lambda w, x: jnp.tanh(x @ w["a"]) @ w["b"], {"a": jnp.ones((2, 3)), "b": jnp.ones((3, 1))},
    ...                 jnp.ones((4, 2)))
    >>> [row.rule for row in table.rows], len(table.fallbacks)
    (['structured', 'structured'], 0)
    """
    given = (params, x1, x2)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(given)):
        same = partial(explain, f, output=output, batch=batch, method=method, block=block, memory=memory)
        traced: list[Explanation] = []
        jax.eval_shape(lambda *arrays: traced.append(same(*arrays)), *given)
        return traced[0]
    require(batch != "whole", "batch", batch, "be 'each' or 'unchecked'", "the whole batch has one method, 'products'")
    block, output = check_options(method, batch, block, memory, None), read_output(output)
    f, params, x1, x2 = prepared(f, params, x1, x2, batch, real=False)
    check_block(block, x1, x2)
    if parts.is_complex(jax.eval_shape(f, params, x1)):
        f, block, x1, x2 = real_parts(f, block, x1, x2, batch)
    found, problem, forward = plan(f, params, x1, x2, output, "auto")
    limit = cost.working_bound(found, problem, memory)
    methods = {m: cost.method_cost(found, forward, problem, m, limit)[0] for m in cost.METHODS}
    chosen, schedule = pick(*plan(f, params, x1, x2, output, method), method, block, memory)
    names = [jax.tree_util.keystr(path) or "params" for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    table = zip(names, found.shapes, found.leaves, strict=True)
    rows = tuple(_row(name, shape, leaf, problem) for name, shape, leaf in table)
    bound = cost.bound(found, problem, memory)
    held = directions(schedule.part)
    return Explanation(rows, methods, chosen, *schedule.tiles[:2], schedule.sweeps, held, bound, schedule.bytes)


def _row(name: str, shape: tuple[int, ...], leaf: Leaf, problem: Problem) -> Row:
    if leaf.rule != "factored":
        size = 0 if leaf.rule in ("unused", "merged") else cost.count(shape)
        flops, held = 2 * problem.pairs * problem.products * size, directions(problem.spec) * size
        return Row(name, shape, leaf.rule, leaf.reason, float(flops), float(problem.examples * held * problem.itemsize))
    costs = [choose(group, problem) for group in leaf.groups]
    work = sum(problem.examples * c.example_flops + problem.pairs * c.pair_flops for c in costs)
    stored = sum(c.example_size for c in costs) * problem.examples * problem.itemsize
    uses = [f"{_told(group)}, {_order(c)}" for group, c in zip(leaf.groups, costs, strict=True)]
    return Row(name, shape, "structured", "; ".join(uses), float(work), float(stored))


def _told(group: Group | Tied) -> str:
    return " tied with ".join(f"{g.kind} x{len(g.paths)}, {g.sizes.rows} rows" for g in parts_of(group))


def _order(chosen: GroupCost) -> str:
    return "rows apart" if chosen.strategy == "rows" else "rows summed first"
