"""Run a planned jaxpr again, with a tap on the output of every linear use of a parameter."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array

from jaxtheory.empirical.analysis import Path, Plan
from jaxtheory.empirical.convolution import convolve
from jaxtheory.empirical.rules import Use
from jaxtheory.programs.calls import bind, scan_sections

Taps = dict[Path, Array]
# what a use's path is followed by to name the scalar factor of its bias, if it has one
BIAS = -1


@jax.custom_jvp
def tap(value: Array, probe: Array) -> Array:
    """`value`, whose derivative in `probe` is the identity: the cotangent of the probe is that of the value."""
    return value


@tap.defjvp
def _tap_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[0], tangents[0] + tangents[1]


def run(
    plan: Plan, inputs: list[Any], scales: list[Any], probes: Taps, uses: dict[Path, Use], depth: int = 0
) -> tuple[list[Any], list[Any], Taps]:
    """Evaluate a plan.

    Args:
        plan: from `analyse`.
        inputs: values of the jaxpr's inputs.
        scales: for each input that is a view, its scalar factor so far, or None for 1.
        probes: zeros in the shape of each tapped output, loops in front (only those below `depth`).
        uses: the uses to tap.
        depth: how many loops enclose this jaxpr.

    Returns:
        The outputs, the scales of outputs that are views, and each tapped use's other operand, scaled.
    """
    env: dict[Any, Any] = dict(zip(plan.jaxpr.constvars, plan.consts, strict=True))
    env.update(zip(plan.jaxpr.invars, inputs, strict=True))
    factor: dict[Any, Any] = dict(zip(plan.jaxpr.invars, scales, strict=True))
    kept: Taps = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else env[atom]

    def scale_of(atom: Any) -> Any:
        return None if isinstance(atom, Literal) else factor.get(atom)

    for equation, action in zip(plan.jaxpr.eqns, plan.actions, strict=True):
        values = [read(v) for v in equation.invars]
        kind = None if action is None else action[0]
        if kind in _NESTED:
            given = [scale_of(v) for v in equation.invars]
            outs, out_scales, acts = _NESTED[kind](equation, action, values, given, probes, uses, depth)
            kept.update(acts)
            factor.update(zip(equation.outvars, out_scales, strict=True))
        elif equation.primitive.name == "conv_general_dilated":
            outs = convolve(equation, values)
        else:
            outs = bind(equation, values)
        if kind == "scale":
            other = None if action[2] is None else read(action[2])
            factor[equation.outvars[0]] = _rescaled(scale_of(equation.invars[action[1]]), other, action[3], outs[0])
        if kind == "use" and action[1] in uses:
            other, probe = _tapped(uses[action[1]], values, scale_of(equation.invars[action[2]]), probes[action[1]])
            kept[action[1]], outs = other, [tap(outs[0], probe)]
        if kind == "bias" and action[1] in uses and scale_of(equation.invars[action[2]]) is not None:
            kept[(*action[1], BIAS)] = scale_of(equation.invars[action[2]]).astype(outs[0].dtype)
        env.update(zip(equation.outvars, outs, strict=True))
    return [read(v) for v in plan.jaxpr.outvars], [scale_of(v) for v in plan.jaxpr.outvars], kept


def _tapped(use: Use, values: list[Any], scale: Any, probe: Array) -> tuple[Array, Array]:
    """The other operand and the probe, one of them times the view's scalar factor."""
    other = values[1 - use.operand]
    if scale is None:
        return other, probe
    return (
        (other, probe * scale.astype(probe.dtype))
        if use.kind == "gather"
        else (other * scale.astype(other.dtype), probe)
    )


def _rescaled(scale: Any, other: Any, op: str, out: Array) -> Any:
    if op in ("mul", "div"):
        number = jnp.asarray(other, out.dtype).reshape(())
        number = number if op == "mul" else 1 / number
        return number if scale is None else scale * number
    if op == "neg":
        return -jnp.ones((), out.dtype) if scale is None else -scale
    return scale


def _inline(
    equation: Any, action: Any, values: list[Any], scales: list[Any], probes: Taps, uses: Any, depth: int
) -> Any:
    return run(action[2], values, scales, _below(probes, action[1]), uses, depth)


def _remat(
    equation: Any, action: Any, values: list[Any], scales: list[Any], probes: Taps, uses: Any, depth: int
) -> Any:
    def body(values: list[Any], scales: list[Any], probes: Taps) -> Any:
        return run(action[2], values, scales, probes, uses, depth)

    policy, prevent = equation.params.get("policy"), equation.params.get("prevent_cse", True)
    return jax.checkpoint(body, policy=policy, prevent_cse=prevent)(values, scales, _below(probes, action[1]))


def _scan(equation: Any, action: Any, values: list[Any], scales: list[Any], probes: Taps, uses: Any, depth: int) -> Any:
    consts, carries = scan_sections(equation.params)
    fixed, start, stacked = values[:consts], values[consts : consts + carries], values[consts + carries :]

    def body(carry: list[Any], turn: tuple[list[Any], Taps]) -> tuple[list[Any], tuple[list[Any], Taps]]:
        outs, _, kept = run(action[2], [*fixed, *carry, *turn[0]], scales, turn[1], uses, depth + 1)
        return outs[:carries], (outs[carries:], kept)

    turns = (stacked, _below(probes, action[1]))
    how = {name: equation.params[name] for name in ("length", "reverse", "unroll")}
    last, (rest, kept) = jax.lax.scan(body, start, turns, **how)
    return [*last, *rest], [None] * len(equation.outvars), kept


def _cond(equation: Any, action: Any, values: list[Any], scales: list[Any], probes: Taps, uses: Any, depth: int) -> Any:
    inside = _below(probes, action[1])
    biased = {act[1] for plan in action[2] for act in _actions(plan) if act[0] == "bias"}
    shapes = {p: (*uses[p].loops[depth:], *uses[p].other.shape) for p in inside}
    dtypes = {p: uses[p].other.dtype for p in inside}
    for p in [p for p in inside if p in biased]:
        shapes[(*p, BIAS)], dtypes[(*p, BIAS)] = uses[p].loops[depth:], uses[p].out.dtype

    def branch(plan: Plan) -> Any:
        def taken(values: list[Any], probes: Taps) -> Any:
            outs, _, kept = run(plan, values, scales[1:], probes, uses, depth)
            # zeros where nothing was used, and the factor one of biases that were not scaled
            absent = {p: jnp.full(shapes[p], p[-1] == BIAS, dtypes[p]) for p in shapes if p not in kept}
            return outs, {**kept, **absent}

        return taken

    outs, kept = jax.lax.switch(values[0].astype("int32"), [branch(p) for p in action[2]], values[1:], inside)
    return outs, [None] * len(equation.outvars), kept


def _actions(plan: Plan) -> list[Any]:
    """All actions of a plan, nested ones included."""
    found = [action for action in plan.actions if action is not None]
    inner = [sub for a in found if a[0] in _NESTED for sub in (a[2] if a[0] == "cond" else [a[2]])]
    return found + [action for sub in inner for action in _actions(sub)]


def _below(probes: Taps, path: Path) -> Taps:
    return {p: probe for p, probe in probes.items() if p[: len(path)] == path}


_NESTED = {"inline": _inline, "remat": _remat, "scan": _scan, "cond": _cond}
