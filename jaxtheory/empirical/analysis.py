"""A pass over the jaxpr of one example that finds every equation in which a parameter enters linearly.

The pass follows each parameter leaf as a `View` through rearrangements and scalar factors, into jit, remat, custom
rules, cond and scan, up to the equations that use it. It leaves a `Plan`: what to do at each equation when the program
is run again with probes on the outputs of those uses. Everything else is left as JAX has it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxtheory.empirical import views
from jaxtheory.empirical.rules import Use, bias_shape, dot_spec, reads_gather
from jaxtheory.empirical.views import View
from jaxtheory.programs.calls import (
    CALLS,
    CUSTOM,
    REMAT,
    Atom,
    Body,
    Equation,
    Program,
    body_of,
    opened,
    scan_sections,
)
from jaxtheory.programs.custom import rule_agrees

_ELEMENTWISE = frozenset(
    [
        *("add", "add_any", "sub", "mul", "div", "neg", "select_n", "reduce_sum"),
        *("broadcast_in_dim", "convert_element_type", "concatenate", "pad", "squeeze"),
        *("complex", "real", "imag"),
    ]
)
_SAME = frozenset({"convert_element_type", "copy", "copy_p", "reduce_precision", "optimization_barrier"})

Path = tuple[int, ...]


class Scale(NamedTuple):
    """The output is the view in operand `operand`, rearranged, or scaled by the number `other`: "mul", "div", "neg"."""

    operand: int
    other: Atom | None
    op: str


class Tap(NamedTuple):
    """The use of a parameter, its operand `operand`: the output gets a probe."""

    path: Path
    operand: int


class Bias(NamedTuple):
    """Operand `operand` is a bias that shares the probe of the use at `path`."""

    path: Path
    operand: int


class Inside(NamedTuple):
    """A function that is called; `remat`: whose intermediates are computed again in the backward pass."""

    path: Path
    plan: "Plan"
    remat: bool


class Turns(NamedTuple):
    """A scan."""

    path: Path
    plan: "Plan"


class Branches(NamedTuple):
    """A cond."""

    path: Path
    plans: "tuple[Plan, ...]"


Action = Scale | Tap | Bias | Inside | Turns | Branches


class Plan(NamedTuple):
    """What to do at each equation of one jaxpr: an action, or None to evaluate it as it is."""

    jaxpr: Body
    consts: tuple[Any, ...]
    actions: tuple[Action | None, ...]


class Event(NamedTuple):
    """A parameter leaf met an equation that is not one of the rules."""

    leaf: int
    primitive: str
    linear: bool


class Findings(NamedTuple):
    """Everything the pass saw: the plan to run, uses by path, events, and activations in numbers: largest and all."""

    plan: Plan
    uses: dict[Path, Use]
    events: tuple[Event, ...]
    biases: dict[Path, View]
    largest: int
    total: int


class _Context(NamedTuple):
    """What all jaxprs of one program share."""

    uses: dict[Path, Use]
    events: list[Event]
    sizes: list[int]
    biases: dict[Path, View]


def analyse(closed: ClosedJaxpr, leaves: int) -> Findings:
    """Follow the first `leaves` inputs of a jaxpr (the parameters; the rest is one example).

    Cost: one look at each equation, at trace time; no arithmetic but the check of custom derivative rules.
    """
    context = _Context({}, [], [1], {})
    shapes = [v.aval.shape for v in closed.jaxpr.invars[:leaves]]
    # a leaf without entries has no derivatives to find
    inputs: list[View | None] = [views.whole(i, shape) if math.prod(shape) else None for i, shape in enumerate(shapes)]
    rest = len(closed.jaxpr.invars) - leaves
    plan, out_views, _ = _walk(closed, [*inputs, *[None] * rest], [False] * leaves + [True] * rest, _Place(), context)
    context.events.extend(Event(view.leaf, "output", True) for view in out_views if view is not None)
    largest, total = max(context.sizes), sum(context.sizes)
    return Findings(plan, context.uses, tuple(context.events), context.biases, largest, total)


class _Place(NamedTuple):
    """Where a jaxpr stands: the lengths of the loops around it, and the numbers of the equations that call it."""

    loops: tuple[int, ...] = ()
    path: Path = ()


class _Scope(NamedTuple):
    """What is known of the variables of one jaxpr."""

    place: _Place
    context: _Context
    consumers: dict[Atom, int]
    views: dict[Atom, View]
    data: dict[Atom, bool]
    uniform: dict[Atom, Atom]
    produced: dict[Atom, Path]

    def view(self, atom: Atom) -> View | None:
        """The parameter that an atom is a view of."""
        return None if isinstance(atom, Literal) else self.views.get(atom)

    def moves(self, atom: Atom) -> bool:
        """Whether an atom depends on the example."""
        return not isinstance(atom, Literal) and self.data.get(atom, False)

    def scalar(self, atom: Atom) -> Atom | None:
        """The size-one atom that `atom` repeats, or None."""
        if np.prod(np.shape(atom.val) if isinstance(atom, Literal) else atom.aval.shape) == 1:
            return atom
        return None if isinstance(atom, Literal) else self.uniform.get(atom)

    def record(self, atoms: Iterable[Atom], name: str) -> None:
        """Note that these parameters met an equation that is not one of the rules."""
        found = [view for view in map(self.view, atoms) if view is not None]
        self.context.events.extend(Event(view.leaf, name, name in _ELEMENTWISE) for view in found)

    def lose(self, equation: Equation, found: Iterable[View | None]) -> None:
        """Note the parameters that a nested jaxpr returns as they are, where something reads them afterwards."""
        read = [view for var, view in zip(equation.outvars, found, strict=True) if self.consumers.get(var)]
        name = equation.primitive.name
        self.context.events.extend(Event(view.leaf, name, False) for view in read if view is not None)

    def give(self, equation: Equation, found: list[View | None], moves: list[bool]) -> None:
        """Note what a nested jaxpr returns."""
        for var, view, moved in zip(equation.outvars, found, moves, strict=True):
            self.data[var] = moved
            if view is not None:
                self.views[var] = view


def _walk(
    jaxpr: Program, inputs: list[View | None], moving: list[bool], place: _Place, context: _Context
) -> tuple[Plan, list[View | None], list[bool]]:
    body, consts = opened(jaxpr)
    scope = _Scope(place, context, _consumers(body), {}, {}, {}, {})
    for var, view, moves in zip(body.invars, inputs, moving, strict=True):
        scope.data[var] = moves
        if view is not None:
            scope.views[var] = view
    actions = []
    for number, equation in enumerate(body.eqns):
        actions.append(_action(equation, scope, (*place.path, number)))
        _note_sizes(equation, scope)
    out_views = [scope.view(v) for v in body.outvars]
    return Plan(body, consts, tuple(actions)), out_views, [scope.moves(v) for v in body.outvars]


def _consumers(body: Body) -> dict[Atom, int]:
    """How many times each variable is read."""
    atoms = [atom for equation in body.eqns for atom in equation.invars] + list(body.outvars)
    return dict(Counter(atom for atom in atoms if not isinstance(atom, Literal)))


def _note_sizes(equation: Equation, scope: _Scope) -> None:
    moves = any(scope.moves(v) for v in equation.invars)
    for var in equation.outvars:
        scope.data[var] = scope.data.get(var, False) or moves
        if scope.data[var] and hasattr(var.aval, "size"):
            scope.context.sizes.append(var.aval.size * math.prod(scope.place.loops))
    if equation.primitive.name in ("broadcast_in_dim", "reshape"):
        source = scope.scalar(equation.invars[0])
        if source is not None:
            scope.uniform[equation.outvars[0]] = source


def _action(equation: Equation, scope: _Scope, path: Path) -> Action | None:
    if not any(scope.view(v) is not None for v in equation.invars):
        return None
    name = equation.primitive.name
    if _constant(equation):
        return None
    if name == "scan" and equation.params["length"] == 0:
        scope.record(equation.invars, "a scan of length 0")
        return None
    if name in _NESTED:
        return _NESTED[name](equation, scope, path)
    moved = _rearrange(equation, scope)
    if moved is not None:
        return moved
    use = _use(equation, scope)
    if use is not None:
        scope.context.uses[path] = use
        scope.produced[equation.outvars[0]] = path
        # a product of two parameters: the second one is left to plain differentiation
        extra = [v for i, v in enumerate(equation.invars) if i != use.operand]
        scope.record(extra, "a product with another parameter")
        return Tap(path, use.operand)
    bias = _bias(equation, scope) if name == "add" else None
    if bias is None and name != "stop_gradient":
        scope.record(equation.invars, name)
    return bias


def _constant(equation: Equation) -> bool:
    """Whether no output has a derivative: empty arrays, integers and booleans."""
    avals = [v.aval for v in equation.outvars]
    return all(getattr(a, "size", 1) == 0 or not jnp.issubdtype(a.dtype, jnp.inexact) for a in avals)


def _rearrange(equation: Equation, scope: _Scope) -> Scale | None:
    """Follow a view through an equation that only rearranges or rescales it."""
    name, params, atom = equation.primitive.name, equation.params, equation.invars[0]
    view, out = scope.view(atom), equation.outvars[0]
    shape = out.aval.shape
    if name in ("mul", "div"):
        return _rescale(equation, scope)
    if view is None:
        return None
    if len(equation.invars) > 1 or not jnp.issubdtype(out.aval.dtype, jnp.floating):
        return None  # several values in one barrier; complex numbers, whose derivatives are of their real parts
    if name in _SAME or name == "neg":
        scope.views[out] = view
        return Scale(0, None, name)
    if name == "transpose":
        scope.views[out] = views.transposed(view, params["permutation"])
    elif name in ("reshape", "squeeze", "expand_dims", "broadcast_in_dim", "tile"):
        if out.aval.size != atom.aval.size or _reorders(name, params):
            return None
        scope.views[out] = view if shape == view.shape else views.rearranged(view, "reshape", shape, shape)
    elif name == "rev":
        scope.views[out] = views.rearranged(view, "rev", tuple(params["dimensions"]), shape)
    elif name == "slice":
        strides = params["strides"] or (1,) * len(shape)
        limits = tuple(zip(params["start_indices"], params["limit_indices"], strides, strict=True))
        scope.views[out] = views.rearranged(view, "slice", limits, shape)
    else:
        return None
    return Scale(0, None, "same")


def _reorders(name: str, params: dict[str, Any]) -> bool:
    return name == "reshape" and params.get("dimensions") is not None


def _rescale(equation: Equation, scope: _Scope) -> Scale | None:
    """W c and W / c, with c one number, are W up to a factor."""
    for i in (0, 1) if equation.primitive.name == "mul" else (0,):
        view, other = scope.view(equation.invars[i]), scope.scalar(equation.invars[1 - i])
        same_shape = view is not None and equation.outvars[0].aval.shape == view.shape
        if view is not None and same_shape and other is not None and scope.view(other) is None:
            scope.views[equation.outvars[0]] = view
            return Scale(i, other, equation.primitive.name)
    return None


def _use(equation: Equation, scope: _Scope) -> Use | None:
    name, params, loops = equation.primitive.name, equation.params, scope.place.loops
    out = jax.ShapeDtypeStruct(equation.outvars[0].aval.shape, equation.outvars[0].aval.dtype)
    atoms = equation.invars
    if not jnp.issubdtype(out.dtype, jnp.floating):
        return None
    if name == "dot_general":
        operand = 0 if scope.view(atoms[0]) is not None else 1
        view, other = scope.view(atoms[operand]), _aval(atoms[1 - operand])
        assert view is not None
        return Use(name, view, operand, loops, dot_spec(params, operand, view, len(other.shape)), other, out)
    if name == "conv_general_dilated" and scope.view(atoms[0]) is None and params["batch_group_count"] == 1:
        view = scope.view(atoms[1])
        return None if view is None else Use(name, view, 1, loops, params, _aval(atoms[0]), out)
    if name == "gather":
        view = scope.view(atoms[0])
        if view is not None and reads_gather(params, view):
            return Use(name, view, 0, loops, params, _aval(atoms[1]), out)
    return None


def _bias(equation: Equation, scope: _Scope) -> Bias | None:
    """W a + b: where nothing else reads W a, the bias shares the cotangent of W: one more input, always 1."""
    uses = scope.context.uses
    for i in (0, 1):
        view, other = scope.view(equation.invars[i]), equation.invars[1 - i]
        path = None if isinstance(other, Literal) else scope.produced.get(other)
        if view is None or path is None or scope.consumers[other] != 1 or uses[path].kind == "gather":
            continue
        use = uses[path]
        same_turns = {loop for loop, _ in view.bound} == {loop for loop, _ in use.view.bound}
        if same_turns and view.shape == bias_shape(use):
            scope.context.biases[path] = view
            return Bias(path, i)
    return None


def _aval(atom: Atom) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def _call(equation: Equation, scope: _Scope, path: Path) -> Inside | None:
    name, inputs = equation.primitive.name, [scope.view(v) for v in equation.invars]
    if name in CUSTOM and not rule_agrees(equation, [i for i, view in enumerate(inputs) if view is not None]):
        scope.record(equation.invars, f"{name} with a derivative that is not its function's")
        return None
    moving = [scope.moves(v) for v in equation.invars]
    plan, outs, moves = _walk(body_of(equation), inputs, moving, scope.place._replace(path=path), scope.context)
    scope.give(equation, outs, moves)
    return Inside(path, plan, name in REMAT)


def _cond(equation: Equation, scope: _Scope, path: Path) -> Branches:
    scope.record(equation.invars[:1], "the predicate of cond")
    inputs, moving = [scope.view(v) for v in equation.invars[1:]], [scope.moves(v) for v in equation.invars[1:]]
    walked = [
        _walk(branch, inputs, moving, scope.place._replace(path=(*path, i)), scope.context)
        for i, branch in enumerate(equation.params["branches"])
    ]
    for _, outs, _ in walked:
        scope.lose(equation, outs)
    moves = [any(each) for each in zip(*(m for _, _, m in walked), strict=True)]
    scope.give(equation, [None] * len(moves), moves)
    return Branches(path, tuple(plan for plan, _, _ in walked))


def _scan(equation: Equation, scope: _Scope, path: Path) -> Turns:
    inputs, moving = [scope.view(v) for v in equation.invars], [scope.moves(v) for v in equation.invars]
    consts, carry = scan_sections(equation.params)
    loops = scope.place.loops
    scope.record(equation.invars[consts : consts + carry], "the carry of a scan")
    stacked = [None if v is None else views.sliced_by_loop(v, len(loops)) for v in inputs[consts + carry :]]
    inner: list[View | None] = [*inputs[:consts], *[None] * carry, *stacked]
    moves_in = [*moving[:consts], *[True] * carry, *moving[consts + carry :]]
    place = _Place((*loops, equation.params["length"]), path)
    plan, outs, _ = _walk(equation.params["jaxpr"], inner, moves_in, place, scope.context)
    scope.lose(equation, outs)
    scope.give(equation, [None] * len(outs), [True] * len(outs))
    return Turns(path, plan)


_NESTED: dict[str, Callable[[Equation, _Scope, Path], Action | None]] = {
    **dict.fromkeys(CALLS, _call),
    "scan": _scan,
    "cond": _cond,
}
