"""Deterministic quantities: inputs and what is computed from them and from averages over channels.

Each is a recipe: what must be known, and how to make an array of it. On axes where it is known to be uniform the array
has size one.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory.infinite.errors import Site, refuse, site
from jaxtheory.infinite.sources import Source, drawn, followed

COUNTER = itertools.count()

_ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy copy_p cos cosh
digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max
min mul ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt square stop_gradient
sub tan tanh xor shift_left shift_right_logical shift_right_arithmetic optimization_barrier
bitcast_convert_type
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())


DRAWS = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform", "random_gamma")
_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod")


@dataclass(frozen=True, eq=False)
class Det:
    """A deterministic array of `shape`; `make(values of needs)` gives it, of size one on uniform axes.

    `value` is the array where it is known beforehand; `noise` tells of zeros that are averages, and `drawn` is the same
    quantity with draws in their place, where Monte Carlo is asked for. `copies` marks the axes (of heads) along which
    a quantity made of draws has independent copies; its array there has size one and is one of them. `random` marks
    what the program itself draws, with a key that it holds; `source` tells how entries follow from its bits.
    """

    shape: tuple[int, ...]
    uniform: tuple[bool, ...]
    needs: tuple[Any, ...]
    make: Callable[[list[Any]], Any] | None
    value: Any = None
    noise: Any = None
    drawn: "Det | None" = None
    copies: tuple[bool, ...] = ()
    random: bool = False
    source: Source | None = None
    number: int = field(default_factory=COUNTER.__next__)

    @property
    def scalar(self) -> bool:
        return all(self.uniform)


def known(value: Any) -> Det:
    """A constant; axes along which it does not change are found."""
    array = np.asarray(value) if not isinstance(value, jax.Array) or not _is_key(value) else value
    if _is_key(array) or array.size == 0:
        return Det(array.shape, (False,) * array.ndim, (), None, array)
    uniform = []
    for axis in range(array.ndim):
        first = array[(slice(None),) * axis + (slice(0, 1),)]
        uniform.append(array.shape[axis] == 1 or bool(np.all(array == first)))
    reduced = array[tuple(slice(0, 1) if u else slice(None) for u in uniform)]
    return Det(array.shape, tuple(uniform), (), None, reduced)


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.extended)


def unknown(value: Any) -> Det:
    """A value of an outer transformation: the same for every example, but not to be looked at."""
    return Det(value.shape, tuple(n == 1 for n in value.shape), (), lambda _: value)


def derived(needs: tuple[Any, ...], shape: tuple[int, ...], uniform: tuple[bool, ...], make: Callable) -> Det:
    """make(values of needs), computed now if all of them are known; then more axes may be found to be uniform."""
    random = any(isinstance(d, Det) and d.random for d in needs)
    if all(isinstance(d, Det) and d.value is not None for d in needs):
        value = make([d.value for d in needs])
        if isinstance(value, list):
            return Det(shape, uniform, (), None, value, random=random)
        found = known(value)
        flags = tuple(u or f for u, f in zip(uniform, found.uniform, strict=True))
        return Det(shape, flags, (), None, found.value, random=random)
    return Det(shape, uniform, needs, make, random=random)


def spread(needs: tuple[Any, ...], shape: tuple[int, ...], make: Callable) -> Det:
    """make(values of needs), whose array always has its full shape."""
    uniform, random = (False,) * len(shape), any(isinstance(d, Det) and d.random for d in needs)
    if all(isinstance(d, Det) and d.value is not None for d in needs):
        return Det(shape, uniform, (), None, np.asarray(make([d.value for d in needs])), random=random)
    return Det(shape, uniform, needs, make, random=random)


def full(value: Any, shape: tuple[int, ...]) -> Any:
    """The array without shortened axes."""
    return value if value.shape == shape else jnp.broadcast_to(value, shape)


def apply(equation: Any, operands: list[Det]) -> list[Det]:
    """The outputs of an equation whose inputs are all deterministic."""
    name = equation.primitive.name
    if name in DRAWS:
        source = drawn(equation, operands)
        return [replace(out, random=True, source=source) for out in _outcome(equation, operands)]
    noises = [d.noise for d in operands if d.noise is not None]
    if not noises and name in (*ELEMENTWISE, *_KEEPING) and any(d.random for d in operands):
        source = followed(equation, operands, bind, groups)
        return [replace(out, source=source) for out in _outcome(equation, operands)]
    if not noises or name not in _LINEAR:
        return _outcome(equation, [settled(site(equation), d) for d in operands])
    noise = _scaled(name, functools.reduce(lambda a, b: a.joined(b), noises), operands)
    draws: list[Any] = [None] * len(equation.outvars)
    if any(d.drawn for d in operands):
        draws = _outcome(equation, [d.drawn or d for d in operands])
    return [replace(o, noise=noise, drawn=d) for o, d in zip(_outcome(equation, operands), draws, strict=True)]


def settled(where: Site, det: Det, beside: tuple[Any, ...] = ()) -> Det:
    """What a quantity is in the limit: itself, or draws of it where it keeps fluctuating however many channels.

    `beside` are the random vectors that it is added to.
    """
    if det.noise is None:
        return det
    verdict = det.noise.record.verdict(det.noise, beside)
    if verdict == "vanishes":
        return replace(det, noise=None, drawn=None)
    if verdict == "grows":
        reason = "it is given a sum over channels that averages to zero but grows with the width"
        refuse(where, reason, "divide by the number of channels (attention: scores / d)")
    if det.drawn is None:
        reason = "it is given a sum over channels that averages to zero but keeps fluctuating in the limit"
        opt_in = ", or draw the scores: pass monte_carlo=MonteCarlo(key)" if det.noise.drawable else ""
        refuse(where, reason, "divide by the number of channels (attention: scores / d, not / sqrt(d))" + opt_in)
    return det.drawn


def _outcome(equation: Any, operands: list[Det]) -> list[Det]:
    """The outputs of an equation, with the axes of independent copies that its operands have."""
    outs = _applied(equation, operands)
    if not any(any(d.copies) for d in operands):
        return outs
    return [replace(out, copies=copied(equation, operands)) for out in outs]


def copied(equation: Any, operands: list[Det]) -> tuple[bool, ...]:
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
        return _regrouped(equation, operands[0].shape, flags, shape)
    if name == "slice" and all(not f or n == m for f, n, m in zip(flags, operands[0].shape, shape, strict=True)):
        return flags
    refuse(
        site(equation), "it mixes or picks heads whose scores keep fluctuating", "use softmax over keys, head by head"
    )


def _regrouped(equation: Any, old: Any, flags: tuple[bool, ...], new: Any) -> tuple[bool, ...]:
    out = [False] * len(new)
    for before, after in groups(old, new):
        if any(flags[i] for i in before):
            wide = [j for j in after if new[j] > 1]
            if len(wide) != 1 or sum(old[i] > 1 for i in before) != 1:
                refuse(site(equation), "it merges or splits heads whose scores keep fluctuating", "keep heads an axis")
            out[wide[0]] = True
    return tuple(out)


_LINEAR_WORDS = """
add add_any sub neg mul div max min convert_element_type copy stop_gradient select_n broadcast_in_dim transpose
reshape squeeze expand_dims slice reduce_sum reduce_max reduce_min concatenate dot_general
"""
_LINEAR = frozenset(_LINEAR_WORDS.split())


def _scaled(name: str, noise: Any, operands: list[Det]) -> Any:
    """Times the known number, or root mean square of the numbers, that a sum is multiplied with or divided by."""
    others = [d for d in operands if d.noise is None and d.value is not None]
    if name not in ("mul", "div") or len(others) != 1:
        return noise
    values = np.asarray(others[0].value, np.float64)
    with np.errstate(divide="ignore"):
        factors = values if name == "mul" else 1 / values
    finite = factors[np.isfinite(factors)]
    return noise.scaled(float(np.sqrt(np.mean(finite**2)))) if finite.size else noise


def _applied(equation: Any, operands: list[Det]) -> list[Det]:
    name = equation.primitive.name
    if name in ELEMENTWISE:
        return [_elementwise(equation, operands)]
    if name in _KEEPING:
        return [_KEEPING[name](equation, *operands)]
    if name in _REDUCTIONS:
        return [_reduction(equation, operands[0])]
    return _opaque(equation, operands)


def _elementwise(equation: Any, operands: list[Det]) -> Det:
    shape = equation.outvars[0].aval.shape
    aligned = [d if d.shape else _raised(d, len(shape)) for d in operands]
    uniform = tuple(all(d.uniform[i] for d in aligned) for i in range(len(shape)))
    target = tuple(1 if u else n for u, n in zip(uniform, shape, strict=True))

    def make(values: list[Any]) -> Any:
        arrays = [
            jnp.broadcast_to(jnp.asarray(v).reshape((1,) * (len(target) - v.ndim) + v.shape), target) for v in values
        ]
        return bind(equation, arrays)[0]

    return derived(tuple(operands), shape, uniform, make)


def _raised(det: Det, rank: int) -> Det:
    return Det((1,) * rank, (True,) * rank, det.needs, det.make, det.value)


def _broadcast(equation: Any, operand: Det, *_: Det) -> Det:
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    uniform, short = [True] * len(shape), [1] * len(shape)
    for axis, place in enumerate(places):
        uniform[place] = operand.uniform[axis]
        short[place] = 1 if operand.uniform[axis] else shape[place]
    return derived((operand,), shape, tuple(uniform), lambda v: jnp.asarray(v[0]).reshape(short))


def _transpose(equation: Any, operand: Det) -> Det:
    order = equation.params["permutation"]
    shape, uniform = (tuple(x[i] for i in order) for x in (operand.shape, operand.uniform))
    return derived((operand,), shape, uniform, lambda v: jnp.transpose(v[0], order))


def _reshape(equation: Any, operand: Det, *_: Det) -> Det:
    return reshaped(operand, equation.outvars[0].aval.shape)


def reshaped(operand: Det, shape: tuple[int, ...]) -> Det:
    """Another shape; groups of axes that are all uniform stay so."""
    uniform, widened = [False] * len(shape), list(operand.shape)
    for old, new in groups(operand.shape, shape):
        flat = all(operand.uniform[i] for i in old)
        for i in new:
            uniform[i] = flat
        if flat:
            for i in old:
                widened[i] = 1
    short = tuple(1 if u else n for u, n in zip(uniform, shape, strict=True))
    flags = tuple(u or n == 1 for u, n in zip(uniform, shape, strict=True))
    return derived((operand,), shape, flags, lambda v: full(jnp.asarray(v[0]), tuple(widened)).reshape(short))


def groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The finest groups of adjacent axes of two shapes that hold as many elements.

    >>> groups((2, 6), (2, 3, 2))
    [([0], [0]), ([1], [1, 2])]
    """
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        left, right, a, b = [], [], 1, 1
        if i < len(old):
            left, a, i = [i], old[i], i + 1
        if j < len(new):
            right, b, j = [j], new[j], j + 1
        while a != b:
            if (a < b and i < len(old)) or j >= len(new):
                left, a, i = [*left, i], a * old[i], i + 1
            else:
                right, b, j = [*right, j], b * new[j], j + 1
        found.append((left, right))
    return found


def _squeeze(equation: Any, operand: Det) -> Det:
    return reshaped(operand, equation.outvars[0].aval.shape)


def _slice(equation: Any, operand: Det) -> Det:
    p, shape = equation.params, equation.outvars[0].aval.shape
    strides = p["strides"] or (1,) * len(shape)
    where = tuple(
        slice(0, 1) if u else slice(a, b, s)
        for u, a, b, s in zip(operand.uniform, p["start_indices"], p["limit_indices"], strides, strict=True)
    )
    flags = tuple(u or n == 1 for u, n in zip(operand.uniform, shape, strict=True))
    return derived((operand,), shape, flags, lambda v: v[0][where])


_KEEPING: dict[str, Callable[..., Det]] = {
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _squeeze,
    "slice": _slice,
}


def _reduction(equation: Any, operand: Det) -> Det:
    axes = equation.params["axes"]
    wide = tuple(
        n if i in axes or not u else 1 for i, (n, u) in enumerate(zip(operand.shape, operand.uniform, strict=True))
    )
    kept = [i for i in range(len(operand.shape)) if i not in axes]
    shape, uniform = tuple(operand.shape[i] for i in kept), tuple(operand.uniform[i] for i in kept)
    return derived((operand,), shape, uniform, lambda v: bind(equation, [full(jnp.asarray(v[0]), wide)])[0])


def _opaque(equation: Any, operands: list[Det]) -> list[Det]:
    """Any other primitive, on whole arrays."""
    shapes = [d.shape for d in operands]

    def make(values: list[Any]) -> Any:
        return bind(
            equation, [v if _is_key(v) else full(jnp.asarray(v), s) for v, s in zip(values, shapes, strict=True)]
        )

    outs = [v.aval for v in equation.outvars]
    flags = [tuple(n == 1 for n in a.shape) for a in outs]
    if len(outs) == 1:
        return [derived(tuple(operands), outs[0].shape, flags[0], lambda v: make(v)[0])]
    every = derived(tuple(operands), (), (), make)
    return [
        derived((every,), a.shape, f, lambda v, i=i: v[0][i]) for i, (a, f) in enumerate(zip(outs, flags, strict=True))
    ]


def bind(equation: Any, values: list[Any]) -> list[Any]:
    """Evaluate one equation, on values in the precision that it was traced in, but at least in single precision."""
    params = equation.primitive.get_bind_params(at_least_single(equation.params))
    out = equation.primitive.bind(
        *(_cast(v, x.aval.dtype) for v, x in zip(values, equation.invars, strict=True)), **params
    )
    return list(out) if equation.primitive.multiple_results else [out]


def at_least_single(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters of an equation with float32 in place of the halves: the limit follows numbers, not their rounding."""
    names = ("new_dtype", "preferred_element_type", "dtype")
    return {k: _wide(v) if k in names and v is not None else v for k, v in params.items()}


def _wide(dtype: Any) -> Any:
    half = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if half else dtype


def _cast(value: Any, dtype: Any) -> Any:
    floating = all(jnp.issubdtype(d, jnp.floating) for d in (value.dtype, dtype))
    return value.astype(_wide(dtype)) if floating else value


def size(shape: tuple[int, ...]) -> int:
    """Elements of a shape."""
    return math.prod(shape)
