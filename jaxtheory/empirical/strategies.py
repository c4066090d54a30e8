"""How each group of uses is contracted, with rows apart or summed into its Jacobian first, and what that costs."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import opt_einsum  # type: ignore[import-untyped]

from jaxtheory.empirical.factored import Group, Tied, cross_cost
from jaxtheory.empirical.outputs import Spec, directions
from jaxtheory.empirical.structured import Leaf, Structure, row_contraction

# Flops that a processor does while it moves one number within its cache.
NEAR = 6
# How many times less work than one product with their Jacobian the many small products of tied groups must be.
SAVED = 2
_CHEAPER = "uses that read it along different axes, cheaper by its Jacobian"
_BLOCK = 8  # examples a side at which paths of products are chosen


class Problem(NamedTuple):
    """Sizes of one call."""

    n1: int
    n2: int
    same: bool
    itemsize: int
    spec: Spec

    @property
    def examples(self) -> int:
        """Examples whose derivatives are needed."""
        return self.n1 if self.same else self.n1 + self.n2

    @property
    def pairs(self) -> int:
        """Pairs of examples, half of them when both inputs are one."""
        return self.n1 * (self.n1 + 1) // 2 if self.same else self.n1 * self.n2

    @property
    def products(self) -> int:
        """Pairs of directions, traced ones included."""
        return self.spec.traced * self.spec.block


class GroupCost(NamedTuple):
    """One way to contract one group: flops an example and a pair; numbers held an example and a pair."""

    strategy: str
    example_flops: int | float
    pair_flops: int | float
    example_size: int | float
    pair_size: int | float


def group_costs(group: Group | Tied, problem: Problem) -> tuple[GroupCost, GroupCost]:
    """Keep rows apart, or sum them into the leaf's Jacobian first."""
    if isinstance(group, Tied):
        return _tied_costs(group, problem)
    rows, batch, inputs, outputs = group.sizes
    o, leaf = directions(problem.spec), batch * inputs * outputs
    gram = rows**2 * batch * (1 if group.kind == "gather" else 2 * inputs)
    flops, largest = _row_path(group, problem)
    held = rows * batch * (o * outputs + (1 if group.kind == "gather" else inputs))
    apart = GroupCost("rows", 0, gram + flops, held, largest + rows**2 * batch)
    # a look-up is summed by a scatter into zeros, anything else by a product
    sums = o * (leaf + rows * outputs) if group.kind == "gather" else 2 * o * rows * leaf
    summed = GroupCost("jacobian", sums, 2 * problem.products * leaf, o * leaf, problem.spec.block)
    return apart, summed


@lru_cache(maxsize=1024)
def _tied_costs(tied: Tied, problem: Problem) -> tuple[GroupCost, GroupCost]:
    """Products between every two parts beside their own, or the sum of their Jacobians."""
    costs = [group_costs(part, problem) for part in tied.parts]
    crossed = [cross_cost(tied, which, problem.spec, _BLOCK) for which in tied.crossed]
    # what the other part is read at is copied out, which takes longer than the products
    flops = sum(apart.pair_flops for apart, _ in costs) + sum(flops + NEAR * size for flops, size in crossed)
    held = sum(apart.example_size for apart, _ in costs)
    largest = max([apart.pair_size for apart, _ in costs] + [size for _, size in crossed])
    o, sizes = directions(problem.spec), [part.sizes for part in tied.parts]
    leaf = max(s.batch * s.inputs * s.outputs for s in sizes)
    sums = sum(summed.example_flops for _, summed in costs) + (len(costs) - 1) * o * leaf
    summed = GroupCost("jacobian", sums, 2 * problem.products * leaf, o * leaf, problem.spec.block)
    return GroupCost("rows", 0, flops, held, largest), summed


@lru_cache(maxsize=4096)
def _row_path(group: Group, problem: Problem) -> tuple[float, float]:
    """Flops and largest intermediate of the row contraction, a pair."""
    rows, batch, _, outputs = group.sizes
    spec, n = problem.spec, _BLOCK
    if rows == batch == 1:
        return 2.0 * problem.products * outputs + spec.block, 2.0 * spec.block
    g = (n, spec.traced, spec.kept, rows, batch, outputs)
    path = opt_einsum.contract_path(row_contraction(group, spec), (n, n, rows, rows, batch), g, g, shapes=True)[1]
    return float(path.opt_cost) / n**2, float(path.largest_intermediate) / n**2


def choose(group: Group | Tied, problem: Problem) -> GroupCost:
    """The strategy with less work in the whole call, of flops and of numbers moved."""
    return min(group_costs(group, problem), key=lambda cost: _work(cost, problem))


def _work(cost: GroupCost, problem: Problem) -> float:
    example, pair = cost.example_flops + NEAR * cost.example_size, cost.pair_flops + NEAR * cost.pair_size
    return float(problem.examples * example + problem.pairs * pair)


def settled(found: Structure, problem: Problem) -> Structure:
    """The structure in which a leaf with tied groups falls back where its Jacobian costs less than their products."""
    tied = [group for group in groups(found) if isinstance(group, Tied)]
    changed: dict[int | None, Leaf] = {}
    for group in tied:
        apart, summed = (_work(cost, problem) for cost in group_costs(group, problem))
        if SAVED * apart > summed:
            changed |= {part.bias: Leaf("direct", "add", ()) for part in group.parts}
            changed[group.leaf] = Leaf("fallback", _CHEAPER, ())
    return found._replace(leaves=tuple(changed.get(i, leaf) for i, leaf in enumerate(found.leaves)))


def chosen(found: Structure, problem: Problem) -> list[GroupCost]:
    """The cheaper strategy's cost of every group."""
    return [choose(group, problem) for group in groups(found)]


def groups(found: Structure) -> list[Group | Tied]:
    """All groups of a function's parameters."""
    return [group for leaf in found.leaves for group in leaf.groups]


def strategies(every: Iterable[Group | Tied], problem: Problem) -> dict[Group | Tied, str]:
    """The cheaper strategy of every group."""
    return {group: choose(group, problem).strategy for group in every}
