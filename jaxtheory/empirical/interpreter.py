"""Run a planned jaxpr again, with a tap on the output of every linear use of a parameter."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array

from jaxtheory.empirical.analysis import Bias, Branches, Inside, Path, Plan, Scale, Tap, Turns
from jaxtheory.empirical.convolution import convolve
from jaxtheory.empirical.rules import Use
from jaxtheory.programs.calls import Atom, Equation, bind, scan_sections

Taps = dict[Path, Array]
Scales = list[Array | None]  # of values that are views: their scalar factor so far, or None for 1
# what a use's path is followed by to name the scalar factor of its bias, if it has one
BIAS = -1


class Run(NamedTuple):
    """The result of a run: outputs, the scales of those that are views, and what taps kept."""

    outputs: list[Any]
    scales: Scales
    kept: Taps


class Probes(NamedTuple):
    """Zeros in the shape of each tapped output, loops in front (only those below `depth`), and the uses to tap."""

    zeros: Taps
    uses: dict[Path, Use]
    depth: int = 0

    def below(self, path: Path) -> "Probes":
        """Those inside the call, loop or branches at this equation."""
        return self._replace(zeros={p: zero for p, zero in self.zeros.items() if p[: len(path)] == path})


@jax.custom_jvp
def tap(value: Array, probe: Array) -> Array:
    """`value`, whose derivative in `probe` is the identity: the cotangent of the probe is that of the value."""
    return value


@tap.defjvp
def _tap_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[0], tangents[0] + tangents[1]


def run(plan: Plan, inputs: list[Any], scales: Scales, probes: Probes) -> Run:
    """Evaluate a plan.

    Args:
        plan: from `analyse`.
        inputs: values of the jaxpr's inputs.
        scales: for each input that is a view, its scalar factor so far, or None for 1.
        probes: what is tapped.

    Returns:
        The outputs, the scales of outputs that are views, and each tapped use's other operand, scaled.
    """
    env: dict[Atom, Any] = dict(zip(plan.jaxpr.constvars, plan.consts, strict=True))
    env.update(zip(plan.jaxpr.invars, inputs, strict=True))
    factor: dict[Atom, Array | None] = dict(zip(plan.jaxpr.invars, scales, strict=True))
    kept: Taps = {}

    def read(atom: Atom) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    def scale_of(atom: Atom) -> Array | None:
        return None if isinstance(atom, Literal) else factor.get(atom)

    for equation, action in zip(plan.jaxpr.eqns, plan.actions, strict=True):
        values = [read(v) for v in equation.invars]
        match action:
            case Inside() | Turns() | Branches():
                given = [scale_of(v) for v in equation.invars]
                outs, out_scales, acts = _nested(equation, action, values, given, probes)
                kept.update(acts)
                factor.update(zip(equation.outvars, out_scales, strict=True))
            case Tap(path, operand) if path in probes.uses:
                value = _evaluate(equation, values)[0]
                scale, zero = scale_of(equation.invars[operand]), probes.zeros[path]
                kept[path], probe = _operand_and_probe(probes.uses[path], values, scale, zero)
                outs = [tap(value, probe)]
            case Scale(operand, other, op):
                outs = _evaluate(equation, values)
                number = None if other is None else read(other)
                factor[equation.outvars[0]] = _rescale(scale_of(equation.invars[operand]), number, op, outs[0])
            case Bias(path, operand) if path in probes.uses:
                outs, scale = _evaluate(equation, values), scale_of(equation.invars[operand])
                if scale is not None:
                    kept[(*path, BIAS)] = scale.astype(outs[0].dtype)
            case _:
                outs = _evaluate(equation, values)
        env.update(zip(equation.outvars, outs, strict=True))
    return Run([read(v) for v in plan.jaxpr.outvars], [scale_of(v) for v in plan.jaxpr.outvars], kept)


def _evaluate(equation: Equation, values: list[Any]) -> list[Any]:
    return convolve(equation, values) if equation.primitive.name == "conv_general_dilated" else bind(equation, values)


def _operand_and_probe(use: Use, values: list[Any], scale: Array | None, probe: Array) -> tuple[Array, Array]:
    """The other operand and the probe, one of them times the view's scalar factor."""
    other = values[1 - use.operand]
    if scale is None:
        return other, probe
    if use.kind == "gather":
        return other, probe * scale.astype(probe.dtype)
    return other * scale.astype(other.dtype), probe


def _rescale(scale: Array | None, other: Any, op: str, out: Array) -> Array | None:
    if op in ("mul", "div"):
        number = jnp.asarray(other, out.dtype).reshape(())
        number = number if op == "mul" else 1 / number
        return number if scale is None else scale * number
    if op == "neg":
        return -jnp.ones((), out.dtype) if scale is None else -scale
    return scale


def _nested(
    equation: Equation, action: Inside | Turns | Branches, values: list[Any], scales: Scales, probes: Probes
) -> Run:
    own = probes.below(action.path)
    if isinstance(action, Turns):
        return _scan(equation, action.plan, values, scales, own)
    if isinstance(action, Branches):
        return _cond(equation, action.plans, values, scales, own)
    if not action.remat:
        return run(action.plan, values, scales, own)

    def body(values: list[Any], scales: Scales, zeros: Taps) -> Run:
        return run(action.plan, values, scales, own._replace(zeros=zeros))

    policy, prevent = equation.params.get("policy"), equation.params.get("prevent_cse", True)
    return jax.checkpoint(body, policy=policy, prevent_cse=prevent)(values, scales, own.zeros)


def _scan(equation: Equation, plan: Plan, values: list[Any], scales: Scales, probes: Probes) -> Run:
    consts, carries = scan_sections(equation.params)
    fixed, start, stacked = values[:consts], values[consts : consts + carries], values[consts + carries :]

    def body(carry: list[Any], turn: tuple[list[Any], Taps]) -> tuple[list[Any], tuple[list[Any], Taps]]:
        inside = Probes(turn[1], probes.uses, probes.depth + 1)
        outs, _, kept = run(plan, [*fixed, *carry, *turn[0]], scales, inside)
        return outs[:carries], (outs[carries:], kept)

    how = {name: equation.params[name] for name in ("length", "reverse", "unroll")}
    last, (rest, kept) = jax.lax.scan(body, start, (stacked, probes.zeros), **how)
    return Run([*last, *rest], [None] * len(equation.outvars), kept)


def _cond(equation: Equation, plans: tuple[Plan, ...], values: list[Any], scales: Scales, probes: Probes) -> Run:
    uses, depth = probes.uses, probes.depth
    biased = {action.path for plan in plans for action in _actions(plan) if isinstance(action, Bias)}
    shapes = {p: (*uses[p].loops[depth:], *uses[p].other.shape) for p in probes.zeros}
    dtypes = {p: uses[p].other.dtype for p in probes.zeros}
    for p in [p for p in probes.zeros if p in biased]:
        shapes[(*p, BIAS)], dtypes[(*p, BIAS)] = uses[p].loops[depth:], uses[p].out.dtype

    def branch(plan: Plan) -> Any:
        def taken(values: list[Any], zeros: Taps) -> tuple[list[Any], Taps]:
            outs, _, kept = run(plan, values, scales[1:], probes._replace(zeros=zeros))
            # zeros where nothing was used, and the factor one of biases that were not scaled
            absent = {p: jnp.full(shapes[p], p[-1] == BIAS, dtypes[p]) for p in shapes if p not in kept}
            return outs, {**kept, **absent}

        return taken

    outs, kept = jax.lax.switch(values[0].astype("int32"), [branch(p) for p in plans], values[1:], probes.zeros)
    return Run(outs, [None] * len(equation.outvars), kept)


def _actions(plan: Plan) -> Iterator[Scale | Tap | Bias]:
    """All actions of a plan, nested ones included."""
    for action in plan.actions:
        if isinstance(action, Branches):
            for inner in action.plans:
                yield from _actions(inner)
        elif isinstance(action, Inside | Turns):
            yield from _actions(action.plan)
        elif action is not None:
            yield action
