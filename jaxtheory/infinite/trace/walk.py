"""Reads a jaxpr, with its parameters Gaussian, into deterministic quantities and random channel vectors."""

import contextlib
from collections.abc import Iterator
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal
from jax.typing import ArrayLike

from jaxtheory.infinite.errors import UNKNOWN, Site, refuse, site
from jaxtheory.infinite.graph import (
    Blocks,
    ChannelArray,
    Complex,
    Graph,
    Outer,
    Param,
    Value,
    derive,
    known,
    unknown,
    views,
)
from jaxtheory.infinite.graph.kinds import only
from jaxtheory.infinite.graph.nodes import Deterministic, Record
from jaxtheory.infinite.trace import arithmetic
from jaxtheory.infinite.trace.blocks import by_blocks
from jaxtheory.infinite.trace.complex_numbers import by_parts, pair
from jaxtheory.infinite.trace.concatenation import RULES as CONCATENATIONS
from jaxtheory.infinite.trace.contraction import dot
from jaxtheory.infinite.trace.convolutions import convolution
from jaxtheory.infinite.trace.elementwise import RULES as ELEMENTWISE
from jaxtheory.infinite.trace.extrema import RULES as EXTREMA
from jaxtheory.infinite.trace.heads import drawn_beside_scores
from jaxtheory.infinite.trace.loops import scan
from jaxtheory.infinite.trace.movement import RULES as MOVES
from jaxtheory.infinite.trace.outer import of_outer
from jaxtheory.infinite.trace.powers import twice
from jaxtheory.infinite.trace.program import require_derivative
from jaxtheory.infinite.trace.reductions import RULES as REDUCTIONS
from jaxtheory.infinite.trace.rules import Rewriting, Rule, part_of
from jaxtheory.infinite.trace.scatters import RULES as SCATTERS
from jaxtheory.infinite.trace.sources import law
from jaxtheory.infinite.trace.stacking import stack
from jaxtheory.infinite.trace.tiling import tile
from jaxtheory.programs.calls import CALLS, CUSTOM, Atom, Equation, Program, body_of, opened

_COUNTED = {"convert_element_type", "integer_pow", "pow", "mul", "div", *CALLS}
_SUMS = ("add", "add_any", "sub")
_BENDING = ("exp", "exp2", "expm1", "tanh", "logistic", "erf", "sin", "cos")
_WHY = {
    "argmax": ("the place of the largest channel is no average over channels", ""),
    "fft": (
        "Fourier coefficients of random values are complex numbers",
        "multiply positions by the real matrix of a filter, irfft(rfft(eye(n), axis=0) * filter, n, axis=0)",
    ),
    "svd": (
        "the singular values of random or trainable arrays are no averages over channels",
        "divide a weight by the number that its norm tends to, (1 + sqrt(outputs / inputs)) times the root of inputs"
        " times its variance",
    ),
}
_REPLACE = "replace it, e.g. by average pooling, a mean or an elementwise function"


def _require_real(where: Site, equation: Equation, values: list[Value]) -> None:
    """Raise where integers or booleans among the parameters, as masks, are computed with."""
    for value, atom in zip(values, equation.invars, strict=True):
        if isinstance(value, Param) and not jnp.issubdtype(atom.aval.dtype, jnp.inexact):
            reason = f"parameter {value.leaf.path} is of type {atom.aval.dtype.name}, and no Gaussian"
            refuse(where, reason, "keep it out of params: bind it to f, e.g. by functools.partial")


class Context:
    """What a walk shares: the graph of parameter numbers, whether loops stay loops, and widths.

    Where `widths` are given, numbers of the program that are powers of one are read as those of twice the width.
    """

    def __init__(
        self, rolled: bool, draws: bool = False, record: Record | None = None, widths: frozenset[int] = frozenset()
    ) -> None:
        self.graph = Graph(draws, Record() if record is None else record)
        self.widths = widths
        self.rolled = rolled
        self.loops = 0
        self.line = UNKNOWN

    def walk(self, closed: Program, inputs: list[Value]) -> list[Value]:
        """The outputs of a jaxpr."""
        body, consts = opened(closed)
        env: dict[Atom, Value] = dict(
            zip(body.constvars, (constant(self._at_twice_the_width(c, True)) for c in consts), strict=True)
        )
        env.update(zip(body.invars, inputs, strict=True))

        def read(atom: Atom, counted: bool = False) -> Value:
            if not isinstance(atom, Literal):
                return env[atom]
            return known(np.asarray(self._at_twice_the_width(atom.val, counted)))

        for equation in body.eqns:
            values = [read(v, equation.primitive.name in _COUNTED) for v in equation.invars]
            env.update(zip(equation.outvars, self.equation(equation, values), strict=True))
        return [read(v) for v in body.outvars]

    def _at_twice_the_width(self, value: ArrayLike, counted: bool) -> ArrayLike:
        """A constant of the program, or, where it is a power of a width, that power of twice the width.

        Integers are taken for widths only where they are `counted`, that is computed with, not indices.
        """
        if not self.widths or isinstance(value, jax.core.Tracer) or np.ndim(value):
            return value
        dtype = np.asarray(value).dtype
        real = jnp.issubdtype(dtype, jnp.floating) or (counted and jnp.issubdtype(dtype, jnp.integer))
        return twice(value, self.widths) if real else value

    def equation(self, equation: Equation, values: list[Value], known_site: Site | None = None) -> list[Value]:
        """The outputs of one equation, which stands where it says, or where the operation that it is part of does."""
        name = equation.primitive.name
        if name in CALLS:
            if name in CUSTOM and not all(isinstance(v, Deterministic) for v in values):
                require_derivative(equation)
            return self._inside(equation, body_of(equation), values)
        if all(0 in v.aval.shape for v in equation.outvars):  # as jnp.pad makes where it pads by nothing
            return [known(np.zeros(v.aval.shape, v.aval.dtype)) for v in equation.outvars]
        if any(isinstance(v, Deterministic) and (v.noise or any(v.copies)) for v in values):
            values = [_as_numbers(v) for v in values]
        dets = only(Deterministic, values)
        if len(dets) == len(values):
            if name in _BENDING:
                self.graph.arguments += [(self._site(equation), v) for v in dets if v.value is None]
            if name in ("mul", "select_n") and any(v.value is None and not v.random for v in dets):
                self._require_no_mask(equation, dets)
            return [*arithmetic.apply(equation, dets)]
        where = known_site or self._site(equation)
        self._require_no_draw(where, name, values)
        _require_real(where, equation, values)
        added = (
            tuple(node for v in values if isinstance(v, ChannelArray) for node, _ in v.pieces) if name in _SUMS else ()
        )
        values = [arithmetic.limiting_value(where, v, added) if isinstance(v, Deterministic) else v for v in values]
        if name != "dot_general" and any(isinstance(v, Deterministic) and any(v.copies) for v in values):
            return self._beside_scores(where, equation, values)
        if name == "scan" and not only(Outer, values):
            with self._within(equation):
                return scan(self, equation, values)
        if name == "cond":
            return self._cond(equation, values)
        return self._rule(where, equation, values)

    def _beside_scores(self, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
        """An operation of drawn scores with random values that each head has of its own, as position biases."""
        drawn, shape = None, equation.outvars[0].aval.shape
        if equation.primitive.name in ELEMENTWISE:
            drawn = drawn_beside_scores(self.graph, where, values, shape)
        if drawn is None:
            self._refuse_scores(where, values)
        return [*arithmetic.apply(equation, drawn)]

    def _refuse_scores(self, where: Site, values: list[Value]) -> NoReturn:
        """Scores that are drawn meet something that is random itself."""
        paths = sorted({v.leaf.path for v in values if isinstance(v, Param)})
        if paths:
            hint = f"give {paths[0]} variance 0 and weight 0 in the prior, which makes it the constant `mean`"
            refuse(where, f"its scores are drawn and meet the parameter {paths[0]}", hint)
        hint = "use them as attention weights"
        refuse(where, "its scores are drawn and do more than mix tokens", hint)

    def _inside(self, equation: Equation, body: Program, values: list[Value]) -> list[Value]:
        """A function that is called."""
        with self._within(equation):
            return self.walk(body, values)

    @contextlib.contextmanager
    def _within(self, equation: Equation) -> Iterator[None]:
        """Inside a function or a loop, whose equations may have lost the line that calls it."""
        line, before = site(equation).line, self.line
        self.line = before if line == UNKNOWN else line
        yield
        self.line = before

    def _site(self, equation: Equation) -> Site:
        where = site(equation)
        return where._replace(line=self.line) if where.line == UNKNOWN else where

    def _require_no_draw(self, where: Site, name: str, values: list[Value]) -> None:
        """Raise where a random value meets numbers that the program draws, as a dropout mask."""
        drawn = [v for v in only(Deterministic, values) if v.random]
        met = bool(only(ChannelArray, values)) or name in ELEMENTWISE or not self.graph.shared_draws
        if met and drawn and not (name in ELEMENTWISE and all(v.source for v in drawn)):
            reason = (
                "it is given numbers that the program draws with a key of its own, and the limit would be that draw's"
            )
            refuse(where, reason, "switch dropout off (deterministic=True, inference)")

    def _require_no_mask(self, equation: Equation, dets: list[Deterministic]) -> None:
        """Raise where zeros and other numbers that the program draws multiply the inputs."""
        sources = [v.source for v in dets if v.random and v.source is not None]
        steps = [law(source.draw.width, (source.make,)) for source in sources]
        if any(found is not None and any(not step.values.any() for step in found) for found in steps):
            reason = "it masks inputs by what the program draws with a key, and the limit would be that draw's"
            refuse(
                self._site(equation), reason, "switch dropout off (deterministic=True), or mask the inputs beforehand"
            )

    def _rule(self, where: Site, equation: Equation, values: list[Value]) -> list[Value]:
        name = equation.primitive.name
        rule = _rule_of(name, values)
        if rule is None:
            reason, hint = _WHY.get(name, ("this operation is not handled for random or trainable values", ""))
            refuse(where, reason, hint or _REPLACE)
        outs = rule(self.graph, where, equation, values)
        return self._rewritten(where, equation, outs) if isinstance(outs, Rewriting) else outs

    def _rewritten(self, where: Site, equation: Equation, rewriting: Rewriting) -> list[Value]:
        """The outputs of an operation that is rewritten as others, all at its own line."""
        body, _ = opened(rewriting.program)
        env: dict[Atom, Value] = dict(zip(body.invars, rewriting.inputs, strict=True))
        for each in body.eqns:
            values = [known(np.asarray(v.val)) if isinstance(v, Literal) else env[v] for v in each.invars]
            env.update(zip(each.outvars, self.equation(part_of(equation, each), values, where), strict=True))
        return rewriting.pack([env[v] for v in body.outvars])

    def _cond(self, equation: Equation, values: list[Value]) -> list[Value]:
        choice = values[0]
        if not isinstance(choice, Deterministic) or choice.value is None:
            refuse(
                site(equation), "which branch is taken depends on the example", "use jnp.where, or a static condition"
            )
        index = int(np.clip(int(np.asarray(choice.value).reshape(())), 0, len(equation.params["branches"]) - 1))
        return self.walk(equation.params["branches"][index], values[1:])


def constant(value: ArrayLike) -> Deterministic:
    """A constant of a jaxpr: known, unless it is traced by an outer transformation."""
    if isinstance(value, jax.core.Tracer):
        return unknown(value)
    return known(value if isinstance(value, jax.Array) else np.asarray(value))


_RULES: dict[str, Rule] = {
    "dot_general": dot,
    "conv_general_dilated": convolution,
    "tile": tile,
    "stack": stack,
    **ELEMENTWISE,
    **MOVES,
    **CONCATENATIONS,
    **SCATTERS,
    **EXTREMA,
    **REDUCTIONS,
    "complex": pair,
}


def _rule_of(name: str, values: list[Value]) -> Rule | None:
    """The rule of a primitive; operations on concatenated parameters go block by block, on complex arrays by parts."""
    if only(Outer, values):
        return of_outer
    if only(Complex, values):
        return by_parts
    return by_blocks if only(Blocks, values) else _RULES.get(name)


def _as_numbers(value: Value) -> Value:
    """A parameter that does not vary, as a temperature or a position bias of scores, as the numbers that it is."""
    if not isinstance(value, Param) or value.scale.shape:
        return value
    leaf = value.leaf
    if not (views.is_zero(leaf.variance) and views.is_zero(leaf.weight)):
        return value
    shape = value.shape
    return derive((value.scale,), shape, (True,) * len(shape), lambda v: jnp.full((1,) * len(shape), leaf.mean * v[0]))
