"""Equations whose operands are all deterministic: what they give, and what their noise, copies and draws become."""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.conversion import Numbers
from jaxtheory.infinite.errors import Site, refuse, site
from jaxtheory.infinite.graph import (
    bundle,
    derive,
    full,
    groups,
    is_key,
    is_random,
    known,
    known_values,
    ones,
    reshape,
    transpose,
)
from jaxtheory.infinite.graph.nodes import Deterministic, Flags, Node, Noise, Shape
from jaxtheory.infinite.trace.binding import bind
from jaxtheory.infinite.trace.fluctuations import merge_noise, scale_noise, verdict
from jaxtheory.infinite.trace.heads import numbers_of_heads
from jaxtheory.infinite.trace.kinks import with_kinks
from jaxtheory.infinite.trace.sources import draw_source, output_source
from jaxtheory.programs.calls import Equation

_ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp complex conj convert_element_type copy
copy_p cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log
log1p logistic lt max min mul ne neg nextafter not or pow real reduce_precision rem round rsqrt select_n sign sin sinh
sqrt square stop_gradient sub tan tanh xor shift_left shift_right_logical shift_right_arithmetic optimization_barrier
bitcast_convert_type
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())


DRAWS = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform", "random_gamma")
_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")


def apply(equation: Equation, operands: list[Deterministic]) -> list[Deterministic]:
    """The outputs of an equation whose inputs are all deterministic."""
    name = equation.primitive.name
    if name in DRAWS:
        source = draw_source(equation, operands)
        return [replace(out, random=True, source=source) for out in _outputs(equation, operands)]
    noises = [d.noise for d in operands if d.noise is not None]
    if not noises and name in (*ELEMENTWISE, *_REARRANGEMENTS) and any(d.random for d in operands):
        source = output_source(equation, operands)
        return [replace(out, source=source) for out in _outputs(equation, operands)]
    if not noises or name not in _LINEAR:
        return _outputs(equation, [limiting_value(site(equation), d) for d in operands])
    noise = _noise_of_product(name, functools.reduce(merge_noise, noises), operands)
    outs = _outputs(equation, operands)
    if not any(d.drawn for d in operands):
        return [replace(out, noise=noise, drawn=None) for out in outs]
    draws = _outputs(equation, [d.drawn or d for d in operands])
    return [replace(out, noise=noise, drawn=drawn) for out, drawn in zip(outs, draws, strict=True)]


def limiting_value(where: Site, det: Deterministic, addends: tuple[Node, ...] = ()) -> Deterministic:
    """What a quantity is in the limit: itself, or draws of it where it keeps fluctuating however many channels.

    `addends` are the random vectors that it is added to.
    """
    if det.noise is None:
        return det
    found = verdict(det.noise, addends)
    if found == "vanishes":
        return replace(det, noise=None, drawn=None)
    if found == "grows":
        reason = "it is given a sum over channels that averages to zero but grows with the width"
        refuse(where, reason, "divide by the number of channels before it (attention: scores / d, or queries / d)")
    if det.drawn is None:
        reason = "it is given a sum over channels that averages to zero but keeps fluctuating in the limit"
        opt_in = ", or draw the scores: pass monte_carlo=MonteCarlo(key)" if det.noise.drawable else ""
        refuse(where, reason, "divide by the number of channels (attention: scores / d, not / sqrt(d))" + opt_in)
    return det.drawn


def _outputs(equation: Equation, operands: list[Deterministic]) -> list[Deterministic]:
    """The outputs of an equation, with the axes of independent copies that its operands have."""
    if not any(any(d.copies) for d in operands):
        return _plain_outputs(equation, operands)
    if equation.primitive.name in ELEMENTWISE:
        operands = numbers_of_heads(site(equation), operands, len(equation.outvars[0].aval.shape))
    outs = [replace(out, copies=copy_axes(equation, operands)) for out in _plain_outputs(equation, operands)]
    return [with_kinks(equation, operands, out) for out in outs]


def copy_axes(equation: Equation, operands: list[Deterministic]) -> Flags:
    """Axes of independent copies of an output."""
    name, shape = equation.primitive.name, equation.outvars[0].aval.shape
    flags = operands[0].copies or (False,) * len(operands[0].shape)
    if name in ELEMENTWISE:
        every = [d.copies for d in operands if len(d.copies) == len(shape)]
        return tuple(any(marks) for marks in zip(*every, strict=True))
    if name == "transpose":
        return tuple(flags[i] for i in equation.params["permutation"])
    if name == "broadcast_in_dim":
        places = dict(zip(equation.params["broadcast_dimensions"], flags, strict=True))
        return tuple(places.get(i, False) for i in range(len(shape)))
    if name in _REDUCTIONS and not any(flags[i] for i in equation.params["axes"]):
        return tuple(f for i, f in enumerate(flags) if i not in equation.params["axes"])
    if name in ("reshape", "squeeze", "expand_dims"):
        return _regroup_copies(equation, operands[0].shape, flags, shape)
    if name == "slice" and all(not f or n == m for f, n, m in zip(flags, operands[0].shape, shape, strict=True)):
        return flags
    refuse(
        site(equation), "it mixes or picks heads whose scores keep fluctuating", "use softmax over keys, head by head"
    )


def _regroup_copies(equation: Equation, old: Shape, flags: Flags, new: Shape) -> Flags:
    out = [False] * len(new)
    for before, after in groups(old, new):
        if any(flags[i] for i in before):
            wide = [j for j in after if new[j] > 1]
            whole = all(flags[i] for i in before if old[i] > 1)  # heads in groups are heads
            if not whole and (len(wide) != 1 or sum(old[i] > 1 for i in before) != 1):
                refuse(site(equation), "it merges or splits heads whose scores keep fluctuating", "keep heads an axis")
            for j in wide:
                out[j] = True
    return tuple(out)


_LINEAR_WORDS = """
add add_any sub neg mul div max min convert_element_type copy stop_gradient select_n broadcast_in_dim transpose
reshape squeeze expand_dims slice reduce_sum reduce_max reduce_min concatenate dot_general
"""
_LINEAR = frozenset(_LINEAR_WORDS.split())


def _noise_of_product(name: str, noise: Noise, operands: list[Deterministic]) -> Noise:
    """Times the known number, or root mean square of the numbers, that a sum is multiplied with or divided by."""
    others = [d for d in operands if d.noise is None and d.value is not None]
    if name not in ("mul", "div") or len(others) != 1:
        return noise
    values = np.asarray(others[0].value, np.float64)
    with np.errstate(divide="ignore"):
        factors = values if name == "mul" else 1 / values
    finite = factors[np.isfinite(factors)]
    return scale_noise(noise, float(np.sqrt(np.mean(finite**2)))) if finite.size else noise


def _plain_outputs(equation: Equation, operands: list[Deterministic]) -> list[Deterministic]:
    name = equation.primitive.name
    if name in ELEMENTWISE:
        return [_elementwise(equation, operands)]
    if name in _REARRANGEMENTS:
        return [_REARRANGEMENTS[name](equation, *operands)]
    if name in _REDUCTIONS:
        return [_reduction(equation, operands[0])]
    return _opaque(equation, operands)


def _elementwise(equation: Equation, operands: list[Deterministic]) -> Deterministic:
    shape = equation.outvars[0].aval.shape
    uniform = tuple(all(not d.shape or d.uniform[i] for d in operands) for i in range(len(shape)))
    target = tuple(1 if u else n for u, n in zip(uniform, shape, strict=True))

    def make(values: list[Numbers]) -> jax.Array:
        arrays = [
            jnp.broadcast_to(jnp.asarray(v).reshape((1,) * (len(target) - v.ndim) + v.shape), target) for v in values
        ]
        return bind(equation, arrays)[0]

    return derive(tuple(operands), shape, uniform, make)


def _broadcast(equation: Equation, operand: Deterministic, *_: Deterministic) -> Deterministic:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    uniform, short = [True] * len(shape), [1] * len(shape)
    for axis, place in enumerate(places):
        uniform[place] = operand.uniform[axis]
        short[place] = 1 if operand.uniform[axis] else shape[place]
    return derive((operand,), shape, tuple(uniform), lambda v: jnp.asarray(v[0]).reshape(short))


def _transpose(equation: Equation, operand: Deterministic) -> Deterministic:
    return transpose(operand, equation.params["permutation"])


def _reshape(equation: Equation, operand: Deterministic, *_: Deterministic) -> Deterministic:
    return reshape(operand, equation.outvars[0].aval.shape)


def _slice(equation: Equation, operand: Deterministic) -> Deterministic:
    p, shape = equation.params, equation.outvars[0].aval.shape
    strides = p["strides"] or (1,) * len(shape)
    where = tuple(
        slice(0, 1) if u else slice(a, b, s)
        for u, a, b, s in zip(operand.uniform, p["start_indices"], p["limit_indices"], strides, strict=True)
    )
    flags = tuple(u or n == 1 for u, n in zip(operand.uniform, shape, strict=True))
    return derive((operand,), shape, flags, lambda v: v[0][where])


_REARRANGEMENTS: dict[str, Callable[..., Deterministic]] = {
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "slice": _slice,
}


def _reduction(equation: Equation, operand: Deterministic) -> Deterministic:
    axes = equation.params["axes"]
    wide = tuple(
        n if i in axes or not u else 1 for i, (n, u) in enumerate(zip(operand.shape, operand.uniform, strict=True))
    )
    kept = [i for i in range(len(operand.shape)) if i not in axes]
    shape, uniform = tuple(operand.shape[i] for i in kept), tuple(operand.uniform[i] for i in kept)
    return derive((operand,), shape, uniform, lambda v: bind(equation, [full(jnp.asarray(v[0]), wide)])[0])


def _opaque(equation: Equation, operands: list[Deterministic]) -> list[Deterministic]:
    """Any other primitive, on whole arrays; one that gives several arrays is evaluated once for all of them."""
    shapes, needs = [d.shape for d in operands], tuple(operands)

    def every(values: list[Numbers]) -> list[jax.Array]:
        whole = [v if is_key(v) else full(jnp.asarray(v), s) for v, s in zip(values, shapes, strict=True)]
        return bind(equation, whole)

    outs, values = [v.aval.shape for v in equation.outvars], known_values(needs)
    if len(outs) == 1:
        return [derive(needs, outs[0], ones(outs[0]), lambda v: every(v)[0])]
    if values is not None:
        return [replace(known(value), random=is_random(needs)) for value in every(values)]
    return bundle(needs, outs, every)
