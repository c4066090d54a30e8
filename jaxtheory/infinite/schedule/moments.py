"""The calculus: how each average over channels follows from others.

For nodes a and b on two examples, with φ elementwise, W a weight of variance σ² and learning-rate weight w,

    E[φ(g) ψ(g')] and E[φ'(g) ψ'(g')] ⟨∂g, ∂g'⟩   from the covariance of the Gaussians g and g',
    E[(Wa)(Wb)'] = σ² Σ E[a b'],   ⟨∂Wa, ∂Wb'⟩ = w Σ E[a b'] + σ² Σ ⟨∂a, ∂b'⟩,

sums and linear maps go through, and a product of independent factors is the product of their averages.
"""

from functools import partial

from jax import lax

from jaxtheory.activations.duals import unchecked_dual, unchecked_pair
from jaxtheory.infinite.errors import refuse
from jaxtheory.infinite.graph import RolledLoop, joints
from jaxtheory.infinite.graph import nodes as n
from jaxtheory.infinite.graph.arrays import ZERO, Average, Entry, Mask, as_left, as_right, left, product, right, total
from jaxtheory.infinite.graph.expressions import IDENTITY, Expression, as_function
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Deterministic, HeadNumbers, HeadValues, Made, Mean, Node, Pair, Scores
from jaxtheory.infinite.schedule import coordinates, fields, heads, scores
from jaxtheory.infinite.schedule.atoms import ATOMS
from jaxtheory.infinite.schedule.computation import Computation, Given, mean_of, plan_of, quantity, variance
from jaxtheory.infinite.schedule.linear import LINEAR, Where
from jaxtheory.infinite.schedule.means import MEANS
from jaxtheory.infinite.schedule.products import factor_groups
from jaxtheory.infinite.schedule.requests import Answer, Drawn, Item, Need, Plan, Planner, Sides, Want, average, made
from jaxtheory.infinite.schedule.rolled import outcome, plan_loop

_SMALL = 1024  # pairs, below which a program is all overhead


def planner(c: Computation) -> Planner:
    """What each request of a computation needs, and how it is computed."""
    return partial(_plan, c)


def _plan(c: Computation, item: Item, mask: Want) -> Plan:
    if item.kind == "det":
        return _deterministic(c, item.det, item.sides[0])
    if item.kind == "mean":
        return _mean(c, item.node, item.sides[0])
    if item.kind == "scores":
        return scores.plan(c, item) if isinstance(item.det.needs[0], Scores) else heads.plan(c, item)
    if item.kind == "loop":
        assert isinstance(item.a, RolledLoop)
        return plan_loop(c, planner(c), item.a, mask)
    a, b = item.pair
    assert isinstance(mask, tuple)
    if item.kind == "kernel":
        return plan_of(lambda given: given.entries[0].kernel, pairs=[c.ask(a, b, item.sides, mask)])
    c.visited += [a, b]
    return _pair(c, a, b, item.sides, mask)


# deterministic quantities and means


def _deterministic(c: Computation, det: Deterministic, side: int) -> Plan:
    if det.value is not None:
        return Plan([], lambda _: det.value)
    if det.make is None:
        loop = det.needs[0]
        assert isinstance(loop, RolledLoop)
        return outcome(loop, quantity(det, side), None)
    if any(det.copies):
        return _from_draws(c, det, side)
    make = det.make

    def assemble(values: list[Answer]) -> Answer:
        return make([_number(c, need, value) for need, value in zip(det.needs, values, strict=True)])

    return Plan([_need(need, side) for need in det.needs], assemble)


def _from_draws(c: Computation, det: Deterministic, side: int) -> Plan:
    """A quantity that is made of draws of scores."""
    assert det.make is not None
    make = scores.derivative(det.make)
    if isinstance(det.needs[0], Scores | HeadValues | HeadNumbers):
        item = Item("scores", det, None, c.sides)
        return Plan([(item, None)], lambda values: make([values[0][side]] if isinstance(values[0], dict) else []))

    def assemble(values: list[Answer]) -> Answer:
        pairs = zip(det.needs, values, strict=True)
        return make([value if isinstance(value, Drawn) else _number(c, need, value) for need, value in pairs])

    return Plan([_need(need, side) for need in det.needs], assemble)


def _need(need: n.Need, side: int) -> Need:
    if isinstance(need, Deterministic):
        return quantity(need, side), None
    if isinstance(need, Mean):
        return mean_of(need.node, side), None
    assert isinstance(need, Pair)
    return Item("kernel", need.a, need.b, (side, side)), need.mask


def _number(c: Computation, need: n.Need, answer: Answer) -> Made:
    """An answer as an array; what is zero as zeros."""
    if isinstance(need, Deterministic):
        return made(answer)
    found = average(answer)
    if found is not None:
        return found
    if isinstance(need, Pair):
        return c.zeros(need.mask)
    assert isinstance(need, Mean)
    return c.zeros((False,) * len(need.node.index))


def _mean(c: Computation, node: Node, side: int) -> Plan:
    if node.centered:
        return Plan([], lambda _: None)
    if isinstance(node, n.LoopCarry):
        return outcome(_loop(node), mean_of(node, side), None)
    rule = MEANS.get(type(node))
    if rule is None:
        refuse(node.site, "its average over channels is not known", "keep loops free of it")
    return rule(c, node, side)


def _loop(node: n.LoopCarry) -> RolledLoop:
    assert isinstance(node.loop, RolledLoop)
    return node.loop


# pairs


def _pair(c: Computation, a: Node, b: Node, sides: Sides, mask: Mask) -> Plan:
    if c.graph.independent(a, b):
        return _independent(c, a, b, sides, mask)
    if _apart(c, a, b) or _apart(c, b, a):
        return Plan([], lambda _: ZERO)
    nonlinear = [x for x in (a, b) if isinstance(x, n.Function | n.Product)]
    for x in nonlinear:
        if x.drawn:
            refuse(x.site, "it is between values that drawn scores mix and their weights", "apply it after them")
    if nonlinear and all(isinstance(x, n.Function) or (x.gaussian and not x.zero) for x in (a, b)):
        return _dual(c, a, b, sides, mask)
    functions = joints.as_joint_functions(c.graph, a, b)
    if functions is not None:
        rule = coordinates.pair if joints.separate(c.graph, *functions) else fields.pair
        return rule(c, *functions, sides, mask)
    for kind, linear in LINEAR.items():
        if isinstance(a, kind) and not (isinstance(b, kind) and b.order > a.order):
            return linear(c, a, b, Where(sides, mask, True))
        if isinstance(b, kind):
            return linear(c, b, a, Where(sides, mask, False))
    if only(n.Product, nonlinear):
        return _products(c, a, b, sides, mask)
    if isinstance(a, n.Field) or isinstance(b, n.Field):
        return fields.pair(c, a, b, sides, mask)
    return _atoms(c, a, b, sides, mask)


def _atoms(c: Computation, a: Node, b: Node, sides: Sides, mask: Mask) -> Plan:
    """Nodes that are not made of others, or carried by a loop."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, n.LoopCarry) and x.out:
            same = isinstance(y, n.LoopCarry) and y.loop is x.loop
            if same or y.order < (x.loop.number, 1):
                return outcome(_loop(x), Item("pair", a, b, sides), mask)
    rule = ATOMS.get(type(a)) if type(a) is type(b) else None
    if rule is None and c.graph.draws and any(isinstance(x, n.Function | n.JointFunction) for x in (a, b)):
        return fields.pair(c, a, b, sides, mask)
    if rule is None:
        refuse(a.site, f"what it shares with {b.site.operation} at {b.site.place} is not known", "untie them")
    return rule(c, a, b, sides, mask)


def _apart(c: Computation, a: Node, b: Node) -> bool:
    """Whether a is a sum with weights of its own in each channel, of mean 0, that b does not depend on."""
    return isinstance(a, n.LinearLayer) and a.taps is not None and c.graph.independent(a.taps, b)


def _independent(c: Computation, a: Node, b: Node, sides: Sides, mask: Mask) -> Plan:
    if a.centered or b.centered:
        return Plan([], lambda _: ZERO)

    def make(given: Given) -> Entry:
        first, second = given.averages
        return Entry(product([left(first, mask), right(second, mask)]), None)

    return plan_of(make, averages=[mean_of(a, sides[0]), mean_of(b, sides[1])])


def _as_function(node: Node) -> tuple[Expression, Node]:
    """A function and the Gaussian that it is of; a Gaussian is the identity of itself."""
    return (node.expression, node.root) if isinstance(node, n.Function) else (IDENTITY, node)


def _dual(c: Computation, a: Node, b: Node, sides: Sides, mask: Mask) -> Plan:
    """Elementwise functions of Gaussians."""
    (phi, g), (psi, h) = _as_function(a), _as_function(b)
    wanted, functions = c.moving(sides), (as_function(phi), as_function(psi))
    try:
        both, value = unchecked_pair(*functions, c.scale), unchecked_dual(*functions, c.scale)
    except ValueError as error:
        at = a.site if isinstance(a, n.Function) else b.site
        refuse(at, f"the averages of its function are not known ({error})", "use a smoother activation")

    def make(given: Given) -> Entry:
        cross, own, other = given.entries
        zero = c.zeros(mask)
        first = zero if own.kernel is None else as_left(own.kernel, mask)
        second = zero if other.kernel is None else as_right(other.kernel, mask)
        covariance = zero if cross.kernel is None else cross.kernel
        if covariance.size > _SMALL:  # or layers are fused into one loop, which the compiler then cannot vectorize
            first, covariance, second = lax.optimization_barrier((first, covariance, second))
        if not wanted or cross.tangent is None:
            return Entry(value(first, covariance, second), None)
        kernel, derivative = both(first, covariance, second)
        return Entry(kernel, derivative * cross.tangent)

    return plan_of(make, pairs=[c.ask(g, h, sides, mask), variance(g, sides[0]), variance(h, sides[1])])


def _products(c: Computation, a: Node, b: Node, sides: Sides, mask: Mask) -> Plan:
    """Products of groups of factors, each independent of the others."""
    groups = factor_groups(c.graph, a, b)
    asked = [c.ask(x[0], y[0], sides, mask) for x, y in groups if x and y]
    alone = [(mean_of((x or y)[0], sides[0] if x else sides[1]), bool(x)) for x, y in groups if not (x and y)]

    def make(given: Given) -> Entry:
        means = zip(given.averages, (is_left for _, is_left in alone), strict=True)
        outer = [left(v, mask) if is_left else right(v, mask) for v, is_left in means]
        kernels = [entry.kernel for entry in given.entries] + outer
        tangents: list[Average] = []
        for i, entry in enumerate(given.entries):
            tangents.append(product([entry.tangent, *kernels[:i], *kernels[i + 1 :]]))
        return Entry(product(kernels), total(tangents))

    return plan_of(make, pairs=asked, averages=[item for item, _ in alone])
