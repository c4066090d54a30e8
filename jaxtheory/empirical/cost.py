"""What each method costs, in flops and bytes, per leaf and in all; and the blocks that keep memory under a bound.

Counts are of multiply-adds times two, for the whole call. They rank methods; they do not predict seconds.
Source: Novak, Sohl-Dickstein, Schoenholz (2022), table 1.
"""

import math
from typing import NamedTuple

from jaxtheory.empirical.blocks import Tiles
from jaxtheory.empirical.factored import Group, Tied, parts_of
from jaxtheory.empirical.outputs import Spec, directions, numbered
from jaxtheory.empirical.strategies import NEAR, Problem, choose, chosen, groups
from jaxtheory.empirical.structured import Portion, Structure, differentiated, everything
from jaxtheory.programs.flops import forward_flops

# Never hold more than this unasked, and do not stream to save less than that.
LARGEST_BOUND, SMALLEST_BOUND = 2**30, 128_000_000
# Gradients that are held while few directions are swept at a time: about a cache.
SWEPT = 8_000_000
# Flops that a processor does while it moves one number from memory, and bytes of its cache.
FAR, CACHE = 48, 2**25
# How much slower the gradients of a convolution's kernel run an example at a time, which compilers do by groups; and in
# a loop.
GROUPED, LOOPED = 4, 16
CONVOLUTIONS = frozenset({"conv_general_dilated"})
METHODS = ("structured", "jacobian", "directions", "products")
# Of the memory, what the factors of one sweep may fill; the rest is for blocks copied out and activations.
SHARES = (0.75, 0.62, 0.45, 0.3)
# Flops of all pairs below which no half is left out: the loop takes longer to compile than it saves on a few cores.
LOOP_FLOPS = 1e11


class MethodCost(NamedTuple):
    """Flops and peak bytes of one method with its blocks; `work`, flops and moved numbers in flops, ranks methods."""

    flops: float
    bytes: float
    work: float


def count(shape: tuple[int, ...]) -> int:
    """Entries of a leaf."""
    return math.prod(shape)


def differentiated_size(found: Structure) -> int:
    """Entries of the leaves whose Jacobian is taken as JAX takes it."""
    pairs = zip(found.shapes, found.leaves, strict=True)
    return sum(count(shape) for shape, leaf in pairs if leaf.rule in ("direct", "fallback"))


def parameters(found: Structure) -> int:
    """P, the number of parameters."""
    return sum(math.prod(shape) for shape in found.shapes)


def bound(found: Structure, problem: Problem, memory: float | None = None) -> float:
    """The bound on temporary memory, as given or by default, within 128 MB and 1 GiB.

    By default a quarter of the larger input's Jacobians, and where directions add up or stand alone no more than twice
    the gradients of one direction: what a loop over directions holds.
    """
    if memory is not None:
        return float(memory)
    gradients = max(problem.n1, problem.n2) * parameters(found) * problem.itemsize
    share = directions(problem.spec) / 4
    share = min(share, 2) if problem.spec.paired or problem.spec.kept == 1 else share
    return float(min(max(gradients * share, SMALLEST_BOUND), LARGEST_BOUND))


def working_bound(found: Structure, problem: Problem, memory: float | None = None) -> float:
    """What blocks are sized for: the model of memory leaves out small buffers, a fifth of the bound at most."""
    return 0.8 * bound(found, problem, memory)


class Footprint(NamedTuple):
    """Bytes held an example, needed while an example's factors are made (all, or one group's), and needed a pair."""

    held: float
    transient: float
    alone: float
    pair: float


def footprint(found: Structure, problem: Problem, method: str) -> Footprint:
    """Bytes of one method, from the sizes of activations, factors and Jacobians."""
    o, size, spec = directions(problem.spec), parameters(found), problem.spec
    activations = found.findings.total + 3 * o * found.findings.largest
    if method in ("jacobian", "directions"):
        return _bytes(problem, o * size, o * size + activations, o * size + activations, 2 * spec.block)
    if method == "products":
        total = found.findings.total
        return _bytes(problem, total, total + o * size, total + o * size, 2 * spec.block * spec.traced**2)
    costs, direct = chosen(found, problem), differentiated_size(found)
    each = [part for group in groups(found) for part in parts_of(group)]
    raw = [g.sizes.rows * g.sizes.batch * (o * g.sizes.outputs + g.sizes.inputs) for g in each if g.kind != "gather"]
    held = o * direct + sum(c.example_size for c in costs)
    transient = activations + held + sum(raw)
    alone = activations + 2 * max(raw, default=0)
    return _bytes(problem, held, transient, alone, 2 * spec.block + max((c.pair_size for c in costs), default=0))


def _bytes(problem: Problem, *sizes: int | float) -> Footprint:
    return Footprint(*(float(problem.itemsize * size) for size in sizes))


def tiles(cost: Footprint, problem: Problem, limit: float, strips: int) -> Tiles:
    """The largest blocks whose factors and intermediates stay under `limit`, the result itself not counted."""
    n1, n2 = problem.n1, problem.n2
    strips = min(n1, strips) if problem.same else 1
    for chunk in _halvings(max(n1, n2)):
        found = Tiles(-(-n1 // strips), chunk, True)
        if peak(cost, problem, found) <= limit:
            return found
    best = Tiles(1, 1, False)
    for rows in _halvings(-(-n1 // 3) if problem.same else n1):
        for chunk in _halvings(min(rows, n2)):
            need = rows * cost.held + chunk * (cost.transient + cost.held) + rows * chunk * cost.pair
            if need <= limit:
                return Tiles(rows, chunk, False)
    return best


def _halvings(n: int) -> list[int]:
    sizes = [n]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


class Schedule(NamedTuple):
    """Blocks, the portions of the parameters that are swept one after another, and the peak bytes of temporaries.

    `part` is the output directions of one sweep, as many of those traced over and of those kept as it says.
    """

    tiles: Tiles
    portions: tuple[Portion, ...]
    bytes: float
    part: Spec

    @property
    def sweeps(self) -> int:
        """How often the derivatives are taken."""
        return sum(portion.sweeps for portion in self.portions)


def schedule(found: Structure, problem: Problem, method: str, limit: float) -> Schedule:
    """In strips, half of whose pairs are left out; in one piece where that saves too little, if it fits as well."""
    strips = 8 if problem.n1 >= 512 else 4
    looped = _schedule(found, problem, method, limit, strips)
    if not problem.same or problem.pairs * pair_flops(found, problem, method) > LOOP_FLOPS:
        return looped
    whole = _schedule(found, problem, method, limit, 1)
    return whole if whole.tiles.cached and whole.sweeps <= looped.sweeps else looped


def _schedule(found: Structure, problem: Problem, method: str, limit: float, strips: int) -> Schedule:
    """Hold all factors if they fit; else hold those of one portion of the parameters at a time; else stream columns."""
    cost = footprint(found, problem, method)
    used = tiles(cost, problem, limit, strips)
    whole = Schedule(used, (everything(found),), peak(cost, problem, used), problem.spec)
    if method != "structured" or used.cached:
        return whole
    swept = [plan for share in SHARES if (plan := _swept(found, problem, cost, limit, share, strips)) is not None]
    best = min(swept, key=lambda plan: plan.sweeps, default=whole)
    return best if best.sweeps < 2 * repeats(problem, used) else whole


def _swept(
    found: Structure, problem: Problem, cost: Footprint, limit: float, share: float, strips: int
) -> Schedule | None:
    """Portions whose factors fill this share of the memory, if what is left holds the intermediates."""
    portions = _portions(found, problem, share * limit)
    lighter = cost._replace(held=share * limit / problem.examples, transient=cost.alone)
    split = tiles(lighter, problem, limit, 8 if strips > 1 else 1)
    return Schedule(split, portions, peak(lighter, problem, split), problem.spec) if portions and split.cached else None


def _portions(found: Structure, problem: Problem, held: float) -> tuple[Portion, ...]:
    """Portions whose factors for all examples stay under `held` bytes; none if a leaf cannot be cut that small."""
    room = held / (problem.examples * problem.itemsize)
    every = groups(found)
    held_by = {group: choose(group, problem).example_size for group in every}
    small = tuple(group for group in every if held_by[group] <= room / 4 or isinstance(group, Tied))
    direct = tuple(differentiated(found))
    rest = sum(held_by[g] for g in small) + directions(problem.spec) * differentiated_size(found)
    cut = [_cut(g, held_by[g], room) for g in every if isinstance(g, Group) and g not in small]
    if rest > room or any(portion is None for portion in cut):
        return ()
    first = (Portion(small, direct),) if small or direct else ()
    return (*first, *(portion for portion in cut if portion is not None))


def _cut(group: Group, size: int | float, room: float) -> Portion | None:
    """One group, as few equal slices of its output channels as fit, two at least: a loop frees what it held."""
    outputs = group.sizes.outputs
    widths = [w for w in range(max(outputs // 2, 1), 0, -1) if outputs % w == 0 and size * w / outputs <= room]
    return Portion((group,), (), widths[0], outputs // widths[0]) if widths else None


def peak(cost: Footprint, problem: Problem, used: Tiles) -> float:
    """Bytes of temporaries of a call with these blocks, the result not counted."""
    if used.cached:
        # blocks are copied out of what is held, and so is the second operand of what is not a product of matrices;
        # rows meet blocks of as many columns, or all of them
        columns = used.rows if problem.same else problem.n2
        copied = 2 * used.rows if problem.same and used.rows < problem.n1 else used.rows * (not problem.spec.plain)
        held = problem.examples + copied
        return held * cost.held + used.columns * cost.transient + used.rows * columns * cost.pair
    return used.rows * cost.held + used.columns * (cost.transient + cost.held) + used.rows * used.columns * cost.pair


def repeats(problem: Problem, used: Tiles) -> float:
    """How often the derivatives of an example are taken: columns again for every strip of rows."""
    if used.cached:
        return 1.0
    strips = -(-problem.n1 // used.rows)
    wide = strips // 2 + 1 if problem.same else -(-problem.n2 // used.rows)
    return float((problem.n1 + strips * wide * used.rows) / problem.examples)


def pair_flops(found: Structure, problem: Problem, method: str) -> float:
    """Flops of contracting the factors of one pair of examples."""
    if method == "products":
        return math.inf
    if method in ("jacobian", "directions"):
        return 2.0 * problem.products * parameters(found)
    return float(2 * problem.products * differentiated_size(found) + sum(c.pair_flops for c in chosen(found, problem)))


def method_cost(
    found: Structure, forward: float, problem: Problem, method: str, limit: float, tiles: Tiles | None = None
) -> tuple[MethodCost, Schedule]:
    """Costs of a method as it would be scheduled: as many directions a sweep as leave the least work within `limit`.

    With `tiles`, these blocks are used.
    """
    costs = []
    for part in _parts(found, problem, method):
        sub = of_part(problem, part)
        used = schedule(found, sub, method, limit) if tiles is None else _given(found, sub, method, tiles)
        costs.append((_cost(found, forward, problem, sub, method, used), used))
        if used.bytes <= (min(limit, CACHE) if tiles is None and method in ("structured", "directions") else limit):
            break
    fitting = [cost for cost in costs if cost[1].bytes <= limit]
    return min(fitting, key=lambda cost: cost[0].work) if fitting else min(costs, key=lambda cost: cost[0].bytes)


def of_part(problem: Problem, part: Spec) -> Problem:
    """Sizes of one sweep; between two different sets of directions the kernel of one input is not symmetric."""
    crossed = part.kept < problem.spec.kept and not problem.spec.paired
    return problem._replace(spec=part, same=problem.same and not crossed)


def _given(found: Structure, problem: Problem, method: str, tiles: Tiles) -> Schedule:
    needed = peak(footprint(found, problem, method), problem, tiles)
    return Schedule(tiles, (everything(found),), needed, problem.spec)


def _parts(found: Structure, problem: Problem, method: str) -> list[Spec]:
    """Directions of one sweep: all, then fewer and fewer; those traced over first, as their parts only add up."""
    spec = problem.spec
    parts = [spec._replace(traced=t) for t in _halvings(spec.traced)]
    if spec.paired:
        parts = [spec._replace(kept=k) for k in _halvings(spec.kept)]
    elif spec.kept > 1:
        parts += [spec._replace(traced=1, kept=k) for k in _halvings(spec.kept)[1:]]
    if method != "directions":
        return parts
    example = max(problem.n1, problem.n2) * (parameters(found) + found.findings.largest) * problem.itemsize
    few = max(SWEPT / example, 1)
    least = 1 if spec.paired else spec.kept
    return [part for part in parts if directions(part) <= max(few, least)]


def _cost(found: Structure, forward: float, problem: Problem, part: Problem, method: str, used: Schedule) -> MethodCost:
    """Costs of all sweeps over parts of the directions."""
    traced, kept, _ = numbered(problem.spec, part.spec).shape
    rounds = traced * kept * (1 if problem.spec.paired else kept)
    flops, slower, moved = _counts(found, forward, part, method, used, rounds)
    work = flops + slower + moved * (FAR if used.bytes > CACHE else NEAR)
    return MethodCost(rounds * flops, used.bytes, rounds * work)


def _counts(
    found: Structure, forward: float, part: Problem, method: str, used: Schedule, rounds: int
) -> tuple[float, float, float]:
    """Of one of the sweeps: flops, flops of equal time that slow programs add, and numbers moved."""
    o, total, examples = directions(part.spec), found.findings.total, part.examples * repeats(part, used.tiles)
    if method == "products":
        flops = (3 * part.pairs + 2 * part.n2) * o * forward
        return flops, flops, 2.0 * o * (part.n2 * parameters(found) + part.pairs * total)
    # what does not depend on the direction is taken out of the loop over directions
    once = 1 / rounds if used.tiles.columns >= part.n1 else 1.0
    pairs = part.pairs * pair_flops(found, part, method)
    convolutions = examples * o * forward_flops(found.findings.plan.jaxpr, CONVOLUTIONS)
    if method in ("jacobian", "directions"):
        slower = (GROUPED if rounds == 1 else LOOPED) - 1
        moved = examples * o * (total + 2 * parameters(found))
        return examples * (once + 2 * o) * forward + pairs, slower * convolutions, moved
    costs = chosen(found, part)
    flops = examples * (used.sweeps * (once + o) * forward + sum(c.example_flops for c in costs)) + pairs
    held = o * differentiated_size(found) + sum(c.example_size for c in costs)
    copied = 2 * part.pairs * sum(c.pair_size for c in costs)
    return flops, convolutions if rounds > 1 else 0.0, used.sweeps * examples * o * total + 2 * examples * held + copied
