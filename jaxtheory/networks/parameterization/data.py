"""What a program makes of its data: numbers that multiply them, sums, scores of attention, norms, residual branches."""

import math
from collections.abc import Iterable
from typing import Any

from jaxtheory.networks.parameterization import views as axis_views
from jaxtheory.networks.parameterization.records import Contraction, Data, Score, Value
from jaxtheory.networks.parameterization.views import LAYOUT
from jaxtheory.programs.calls import Equation

_SCORES = {"sub", "add", "max", "min", "select_n", "convert_element_type"}  # masks and shifts keep a score's scale
_EXPONENTIALS = {"exp", "exp2", "logistic"}
_ROOTS = {"sqrt": 1, "rsqrt": -1}


class Activations:
    """Arrays that depend on data, as one pass over a program meets them.

    `scores`, `branches`, `factors`, `contractions` and `mixtures` are those of `Reading`, the dictionaries by number.
    """

    def __init__(self) -> None:
        self.scores: list[Score] = []
        self.branches: list[tuple[frozenset[int], float]] = []
        self.factors: dict[int, tuple[int, float]] = {}
        self.contractions: dict[int, Contraction] = {}
        self.mixtures: list[tuple[int, tuple[int, ...]]] = []
        self.tokens = 0

    def fresh(self, *sources: Data, leaves: Iterable[int] = (), **known: Any) -> Data:
        """A new array that depends on others."""
        token, self.tokens = self.tokens, self.tokens + 1
        ancestors = 1 << token
        for source in sources:
            ancestors |= source.ancestors
        return Data(token, ancestors, frozenset(leaves).union(*(s.leaves for s in sources)), **known)

    def output(self, equation: Equation, values: list[Value], sources: list[Data], leaves: frozenset[int]) -> Data:
        """What is known of an output that depends on data."""
        name, first = equation.primitive.name, sources[0]
        if name in LAYOUT and len(sources) == 1:
            return first
        if name == "transpose":
            kept = ("scale", "score", "used", "factored", "pair", "sum", "shares", "norm")
            return self.fresh(first, **{name: getattr(first, name) for name in kept})
        if name == "reduce_sum" and len(sources) == 1:
            if first.pair and not leaves:
                return self._contraction(_summed(equation), first.scale, first)
            return self.fresh(first, leaves=leaves, used=first.products)
        if name == "dot_general" and len(sources) == 2:
            return self._product(equation, values, sources)
        numbers = [value.number for value in values if value.number is not None]
        if name == "dot_general" and numbers:  # with ones
            size = math.prod(equation.invars[0].aval.shape[d] for d in equation.params["dimension_numbers"][0][0])
            return self._sum(self.fresh(first), size, first.scale * numbers[0])
        normalized = None if leaves else self._normalized(equation, values, sources)
        if normalized is not None:
            return normalized
        if name in ("mul", "square") and len(sources) == len(equation.invars) and not leaves:
            return self._pair(*sources, *(sources if name == "square" else ()))
        if name == "integer_pow" and equation.params["y"] == 2:
            return self._pair(first, first)
        if name in ("mul", "div") and len(sources) == 1 and not leaves:
            return self._scaled(equation, values, first)
        return self._passed(equation, sources, leaves)

    def summed(self, equation: Equation, source: Data, data: Data) -> Data:
        """A sum of activations that is no use of a parameter: over a width it grows, unless it is a mean."""
        if data.sum is not None or source.shares:
            return data
        return self._sum(data, _summed(equation), source.scale)

    def entered(self, equation: Equation, values: list[Value], leaves: frozenset[int]) -> None:
        """Data meet parameters in a product: the number that they carry is one of the parameters, too."""
        for operand, value in enumerate(values):
            if value.data is None:
                continue
            if not value.data.factored:
                self.factor(leaves, value.data.scale)
            if value.data.parts is not None and value.data.parts[0] in _contracted(equation, operand):
                self.mixtures += [(leaf, value.data.parts[1]) for leaf in sorted(leaves)]

    def factor(self, leaves: Iterable[int], factor: float) -> frozenset[int]:
        """Note that parameters are multiplied by a number, and where that stands."""
        first = max(self.factors, default=-1) + 1
        found = {first + i: (leaf, factor) for i, leaf in enumerate(sorted(leaves))}
        self.factors |= found
        return frozenset(found)

    def _sum(self, data: Data, size: int, scale: float) -> Data:
        self.contractions[data.token] = Contraction(Score(size, scale), frozenset(), False)
        return data._replace(sum=data.token)

    def _drop(self, data: Data) -> None:
        """The sum that data carry needs no factor."""
        if data.sum is not None:
            self.contractions.pop(data.sum, None)

    def _passed(self, equation: Equation, sources: list[Data], leaves: frozenset[int]) -> Data:
        """The output of any other equation: what it keeps of its operands."""
        name, first = equation.primitive.name, sources[0]
        sums = [s.sum for s in sources if s.sum in self.contractions]
        pairs = [index for index in sums if self.contractions[index].pair]
        norm = first.norm if name in _SCORES and len(sources) == 1 else None
        if name in _ROOTS and pairs:
            norm = self.contractions[pairs[0]].score, _ROOTS[name]
        if name in _EXPONENTIALS or name in ("rsqrt", "pow"):  # a score, which has its own rule, or a norm to divide by
            for index in pairs:
                self.contractions.pop(index, None)
        scores = [source.score for source in sources if source.score is not None]
        if name in _EXPONENTIALS and scores:
            self.scores.append(scores[0])
        elif name == "add" and len(sources) == 2:
            self._residual(*sources)
        passed = scores[0] if scores and name in _SCORES else None
        scale = first.scale if name in ("add", "sub", "mul") and len(sources) == 1 else 1.0
        kept = sums if len(sources) == 1 else pairs
        summed = kept[0] if kept and (name in _SCORES or name == "sqrt") else None
        shares = name in ("exp", "exp2") or (name == "div" and first.shares)
        parts = _parts(equation, sources)
        known = {"scale": scale, "score": passed, "sum": summed, "shares": shares, "norm": norm, "parts": parts}
        return self.fresh(*sources, leaves=leaves, **known)

    def _normalized(self, equation: Equation, values: list[Value], sources: list[Data]) -> Data | None:
        """Data over a norm or a sum: entries of h/‖h‖ are of order d^(−1/2), those of h/rms(h) of order 1."""
        name = equation.primitive.name
        if name not in ("mul", "div") or len(sources) != 2:
            return None
        if name == "div":
            for source in sources:  # the quotient of two sums is no sum
                if sources[1].sum is not None:
                    self._drop(source)
        one, other = sources if name == "div" or sources[1].norm else sources[::-1]
        if other.norm is None or other.norm[1] != (1 if name == "div" else -1):
            return None
        size, scale = other.norm[0]
        # of a mean, size · scale is 1 but for a correction of degrees of freedom
        unit = (size * scale) ** -0.5 if size * scale >= size**0.5 else 1.0
        return self.fresh(one, other, scale=one.scale * unit)

    def _product(self, equation: Equation, values: list[Value], sources: list[Data]) -> Data:
        """A contraction of two activations; the sum of a parameter's own use over a batch is none of them."""
        contracted = equation.params["dimension_numbers"][0]
        size = math.prod(equation.invars[0].aval.shape[d] for d in contracted[0])
        found = self._contraction(size, sources[0].scale * sources[1].scale, *sources)
        pairs = zip(values, contracted, strict=True)
        batches = [(v.data.batch, axes) for v, axes in pairs if v.data is not None and v.data.batch is not None]
        if any(axis_views.axes(batch.view, axes) for batch, axes in batches):
            self._drop(found)
        return found

    def _pair(self, one: Data, other: Data) -> Data:
        """The product of two activations."""
        known = {"used": one.used | other.used, "factored": one.factored | other.factored}
        shares = one.shares or other.shares
        return self.fresh(one, other, scale=one.scale * other.scale, pair=True, shares=shares, **known)

    def _contraction(self, size: int, scale: float, *sources: Data) -> Data:
        """A sum of products of activations, which has its own rule: its factors are no factors of a parameter."""
        for index in frozenset().union(*(source.factored for source in sources)):
            self.factors.pop(index, None)
        made = self.fresh(*sources, score=Score(size, scale))
        if any(source.shares for source in sources):  # a mean
            return made
        leaves = frozenset().union(*(source.used for source in sources))
        self.contractions[made.token] = Contraction(Score(size, scale), leaves)
        return made._replace(sum=made.token)

    def _scaled(self, equation: Equation, values: list[Value], data: Data) -> Data:
        other = values[1] if values[0].data is data else values[0]
        if other.number == 0:
            self._drop(data)
        if equation.primitive.name == "div" and values[1].data is data:
            self._drop(data)
            return self.fresh(data, norm=data.norm and (data.norm[0], -data.norm[1]))
        if not other.number:
            return self.fresh(data)
        factor = other.number if equation.primitive.name == "mul" else 1 / other.number
        factored = data.factored | self.factor(data.used, factor)
        score = data.score and data.score._replace(scale=data.score.scale * factor)
        found = self.contractions.get(data.sum) if data.sum is not None else None
        if found is not None and data.sum is not None:
            of_sum = found.score._replace(scale=found.score.scale * factor ** (2 if data.norm else 1))
            self.contractions[data.sum] = found._replace(score=of_sum)
        norm = data.norm and (data.norm[0]._replace(scale=data.norm[0].scale * factor**2), data.norm[1])
        kept = {name: getattr(data, name) for name in ("used", "pair", "sum", "shares", "parts")}
        scale = data.scale if found is not None else data.scale * factor  # a sum has its own
        return self.fresh(data, scale=scale, score=score, factored=factored, norm=norm, **kept)

    def _residual(self, one: Data, other: Data) -> None:
        """h + g(h): the parameters of g that h does not depend on are those of a branch."""
        for skip, branch in ((one, other), (other, one)):
            if branch.ancestors >> skip.token & 1 and branch.leaves - skip.leaves:
                self.branches.append((branch.leaves - skip.leaves, branch.scale))


def _summed(equation: Equation) -> int:
    """How many numbers a sum has."""
    return math.prod(equation.invars[0].aval.shape) // math.prod(equation.outvars[0].aval.shape)


def _contracted(equation: Equation, operand: int) -> tuple[int, ...]:
    """The dimensions of an operand that a product sums over."""
    numbers = equation.params["dimension_numbers"]
    return (numbers.lhs_spec[1],) if hasattr(numbers, "lhs_spec") else numbers[0][operand]


def _parts(equation: Equation, sources: list[Data]) -> tuple[int, tuple[int, ...]] | None:
    """The dimension along which arrays were joined, and their sizes; elementwise functions keep them."""
    if equation.primitive.name == "concatenate" and len(equation.invars) > 1:
        along = equation.params["dimension"]
        return along, tuple(atom.aval.shape[along] for atom in equation.invars)
    same = equation.invars[0].aval.shape == equation.outvars[0].aval.shape
    return sources[0].parts if same and len(sources) == 1 else None
