r"""Groups of uses whose factored Jacobians add up, and the products between groups that read one leaf differently.

Uses of one leaf add up row by row where they contract the same axes of it. A table of embeddings that is also the
matrix of the logits, or a weight and its transpose, makes several groups, whose Jacobians meet in each entry of it.
With m running over its axes, m_c over those that a group contracts and m_f over those it hands to its output, groups A
and B of a pair of examples give, beside their own terms,

    Θ[i, k, j, l] += Σ_{r s} Σ_m a^A_ir[m_c] g^A_ikr[m_f] a^B_js[m_c'] g^B_jls[m_f']

A look-up has a^A one at its index and zero elsewhere, so that B's factors are read at that index. No sum over r or s is
taken before the product over m, and no Jacobian is formed.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import opt_einsum  # type: ignore[import-untyped]
from jaxtyping import Array

from jaxtheory.empirical.analysis import Path
from jaxtheory.empirical.outputs import Spec
from jaxtheory.empirical.rules import Layout, Sizes


class Group(NamedTuple):
    """Uses of one leaf whose factored Jacobians add up row by row; `layout` is None where axes are split."""

    leaf: int
    kind: str
    paths: tuple[Path, ...]
    sizes: Sizes
    bias: int | None
    layout: Layout | None


class Tied(NamedTuple):
    """Groups of one leaf that contract different axes of it."""

    leaf: int
    parts: tuple[Group, ...]

    @property
    def crossed(self) -> tuple[tuple[int, int], ...]:
        """Numbers of every two different parts, in both orders."""
        count = range(len(self.parts))
        return tuple((i, j) for i in count for j in count if i != j)


class Factors(NamedTuple):
    """Of some examples: a [n, rows, batch, inputs] (of a look-up its indices [n, rows]) and g [n, t, k, rows, …]."""

    a: Array
    g: Array


def parts_of(group: Group | Tied) -> tuple[Group, ...]:
    """The groups that a leaf's treatment consists of."""
    return group.parts if isinstance(group, Tied) else (group,)


def can_be_tied(layouts: list[Layout | None]) -> bool:
    """Whether products between all these groups of one leaf have a formula."""
    looked_up = [layout.looked_up for layout in layouts if layout is not None and layout.looked_up is not None]
    return None not in layouts and len(set(looked_up)) == len(looked_up)


def cross(tied: Tied, which: tuple[int, int], spec: Spec, first: Factors, second: Factors) -> Array:
    """The term [n1, k, n2, l] (or [n1, k, n2]) between one part of x1's examples and another part of x2's."""
    one, two = (_layout(tied, number) for number in which)
    operands = [
        *_operands(one, first, two, second.a),
        *_operands(two, second, one, first.a),
    ]
    dtype = first.g.dtype
    return jnp.einsum(
        _formula(spec, one, two), *(o.astype(dtype) for o in operands), precision="highest", optimize="optimal"
    )


def cross_cost(tied: Tied, which: tuple[int, int], spec: Spec, n: int) -> tuple[float, float]:
    """Flops of `cross` a pair of examples, and its largest intermediate, at blocks of n by n."""
    one, two = (_layout(tied, number) for number in which)
    rows = [tied.parts[number].sizes.rows for number in which]
    extents = dict(zip("ijtklrs", (n, n, spec.traced, spec.kept, spec.kept, *rows), strict=True))
    extents |= {_names((axis,)): extent for axis, extent in enumerate(one.extents)}
    formula = _formula(spec, one, two)
    shapes = [tuple(extents[name] for name in term) for term in formula.split("->")[0].split(",")]
    path = opt_einsum.contract_path(formula, *shapes, shapes=True)[1]
    largest = max(float(path.largest_intermediate), *(float(math.prod(shape)) for shape in shapes))
    return float(path.opt_cost) / n**2, largest / n**2


def _layout(tied: Tied, number: int) -> Layout:
    found = tied.parts[number].layout
    assert found is not None
    return found


def _names(axes: tuple[int, ...]) -> str:
    """A capital letter for each axis of the leaf."""
    return "".join(chr(ord("A") + axis) for axis in axes)


def _formula(spec: Spec, one: Layout, two: Layout) -> str:
    """The einsum of `cross`: examples i and j, rows r and s, traced directions t, kept ones k and l."""
    last = "" if spec.paired else spec.letters
    sides = ((one, two, "ir", "itkr", "js"), (two, one, "js", f"jt{spec.letters}s", "ir"))
    terms = []
    for own, other, input_axes, output_axes, index in sides:
        found = [] if own.looked_up is not None else [input_axes + _names(own.batch + own.inputs)]
        found.append(output_axes + _names(own.batch + own.outputs))
        terms += [_read_at(term, other, index) for term in found]
    return f"{','.join(terms)}->ikj{last}"


def _read_at(term: str, other: Layout, index: str) -> str:
    """A term whose axis that the other group looks up is replaced by the examples and rows of its indices."""
    return term if other.looked_up is None else term.replace(_names((other.looked_up,)), index)


def _operands(own: Layout, factors: Factors, other: Layout, index: Array) -> list[Array]:
    """The arrays of one side of `_formula`, in its order."""

    def read(values: Array, lead: int, axes: tuple[int, ...]) -> Array:
        apart = values.reshape(*values.shape[:lead], *(own.extents[axis] for axis in axes))
        if other.looked_up is None or other.looked_up not in axes:
            return apart
        # indices out of range meet cotangents of zero
        return jnp.take(apart, index, axis=lead + axes.index(other.looked_up), mode="clip")

    inputs = [] if own.looked_up is not None else [read(factors.a, 2, own.batch + own.inputs)]
    return [*inputs, read(factors.g, 4, own.batch + own.outputs)]


def summed(group: Group, a: Array, b: Array | None, g: Array, added: bool = False) -> Array:
    """The Jacobian of one group in one example, Σ_r a_r ⊗ g_r: [o, batch, outputs, inputs], a bias's input the last.

    That of a look-up is [o, inputs, outputs]. Where products are `added` over directions too, it is [batch, inputs, o,
    outputs]: with g as it stands, rows before outputs, which is otherwise copied for the product.
    """
    if group.kind == "gather":
        zero = jnp.zeros((g.shape[0], group.sizes.inputs, g.shape[-1]), g.dtype)
        return zero.at[:, a].add(g[:, :, 0])
    if group.bias is not None:
        a = jnp.concatenate([a, _ones(a, b)[..., None]], axis=-1)
    letters = "bcof" if added else "obfc"
    return jnp.einsum(f"rbc,orbf->{letters}", a.astype(g.dtype), g, precision="highest")


def summed_parts(tied: Tied, factors: list[tuple[Array, Array | None, Array]]) -> list[Array]:
    """The Jacobian [o, entries] of a leaf in one example, the sum over its groups, and those of biases with them."""
    every = tuple(range(len(_layout(tied, 0).extents)))
    total, biases = [], []
    for number, (part, (a, b, g)) in enumerate(zip(tied.parts, factors, strict=True)):
        layout = _layout(tied, number)
        looked_up = layout.looked_up is not None
        axes = layout.batch + (layout.inputs + layout.outputs if looked_up else layout.outputs + layout.inputs)
        found = summed(part._replace(bias=None), a, b, g)
        apart = found.reshape(len(found), *(layout.extents[axis] for axis in axes))
        total.append(apart.transpose(0, *(1 + axes.index(axis) for axis in every)).reshape(len(found), -1))
        if part.bias is not None:
            biases.append(jnp.einsum("rb,orbf->obf", _ones(a, b), g, precision="highest").reshape(len(found), -1))
    return [sum(total[1:], total[0]), *biases]


def _ones(a: Array, b: Array | None) -> Array:
    return jnp.ones(a.shape[:2], a.dtype) if b is None else b
