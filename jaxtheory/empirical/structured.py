r"""Structured derivatives: the kernel from inner products of inputs and of cotangents, leaf by leaf.

Every use of a parameter gives its Jacobian in factored form (`rules`), J_k = Σ_r a_r ⊗ g_kr; for a pair of examples

    Θ[i, k, j, l] = Σ_{r s b} (a_irb · a_jsb) (g_ikrb · g_jlsb)

and for a dense layer (A1 A2ᵀ) ∘ (G1 G2ᵀ). Where rows r are many, summing them first, which forms that one leaf's
Jacobian for the block at hand, is cheaper; `cost` chooses per leaf.
Source: Novak, Sohl-Dickstein, Schoenholz (2022), section 3.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, PyTree

from jaxtheory.empirical import views
from jaxtheory.empirical.analysis import Event, Findings, Path, Plan, analyse
from jaxtheory.empirical.factored import Factors, Group, Tied, can_be_tied, cross, parts_of, summed, summed_parts
from jaxtheory.empirical.interpreter import BIAS, Probes, Taps, run
from jaxtheory.empirical.outputs import Numbers, Spec, cotangents, widened
from jaxtheory.empirical.rules import Use, bias_factor, bound_loops, factors, layout, sizes
from jaxtheory.empirical.validation import Function
from jaxtheory.programs.flops import activations
from jaxtheory.programs.real_products import with_real_products

Shapes = tuple[tuple[int, ...], ...]  # of the leaves


class Portion(NamedTuple):
    """Groups and directly differentiated leaves treated together, `sweeps` times with `width` output channels each.

    Kernels of disjoint channels add up. With one sweep all channels are taken (`width` is 0).
    """

    groups: tuple[Group | Tied, ...]
    direct: tuple[int, ...]
    width: int = 0
    sweeps: int = 1


class Leaf(NamedTuple):
    """How one parameter leaf is treated: rule is "factored", "merged" (a bias), "direct", "fallback" or "unused"."""

    rule: str
    reason: str
    groups: tuple[Group | Tied, ...]


class Structure(NamedTuple):
    """The program of one example, with every leaf's treatment."""

    findings: Findings
    leaves: tuple[Leaf, ...]
    shapes: Shapes
    out_shape: tuple[int, ...]


def one_example(f: Function, params: PyTree, x: PyTree) -> ClosedJaxpr:
    """The jaxpr of f at a batch of one, seen as a function of the leaves and of one example."""
    leaves, tree = jax.tree.leaves(params), jax.tree.structure(params)
    shapes = [jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), x)

    def single(leaves: list[Array], example: PyTree) -> Array:
        return f(jax.tree.unflatten(tree, leaves), jax.tree.map(lambda a: a[None], example))[0]

    return jax.make_jaxpr(single)(shapes, example)


def structure(f: Function, params: PyTree, x: PyTree) -> Structure:
    """Find how each parameter leaf enters f. Cost: one trace, no arithmetic."""
    count = len(jax.tree.leaves(params))
    closed = with_real_products(one_example(f, params, x), count)
    shapes = tuple(v.aval.shape for v in closed.jaxpr.invars[:count])
    findings = analyse(closed, count)
    treated = [_treat(leaf, shapes, findings) for leaf in range(count)]
    merged = {part.bias for leaf in treated for group in leaf.groups for part in parts_of(group)}
    leaves = tuple(
        Leaf("merged", "one more input of its layer", ()) if i in merged else t for i, t in enumerate(treated)
    )
    return Structure(findings, leaves, shapes, closed.jaxpr.outvars[0].aval.shape)


def opaque(f: Function, params: PyTree, x: PyTree) -> Structure:
    """The program of one example without the analysis: every leaf is differentiated as JAX does it."""
    closed = one_example(f, params, x)
    leaves = jax.tree.leaves(params)
    plan = Plan(closed.jaxpr, tuple(closed.consts), (None,) * len(closed.jaxpr.eqns))
    largest, total = activations(closed)
    findings = Findings(plan, {}, (), {}, largest, total)
    leaf = Leaf("fallback", "not analysed", ())
    shapes = tuple(jnp.shape(value) for value in leaves)
    return Structure(findings, (leaf,) * len(leaves), shapes, closed.jaxpr.outvars[0].aval.shape)


def _treat(leaf: int, shapes: Shapes, findings: Findings) -> Leaf:
    shape = shapes[leaf]
    roles: dict[tuple[object, ...], list[Path]] = {}
    for path, use in findings.uses.items():
        if use.view.leaf == leaf:
            roles.setdefault(use.role, []).append(path)
    events = [event for event in findings.events if event.leaf == leaf]
    events += [Event(leaf, "add", True) for other in findings.biases.values() if other.leaf == leaf]
    if events:
        small = math.prod(shape) <= findings.largest and all(event.linear for event in events)
        names = ", ".join(sorted({event.primitive for event in events}))
        return Leaf("direct", names, ()) if small and not roles else Leaf("fallback", f"enters {names}", ())
    by_base: dict[tuple[object, ...], list[Group]] = {}
    for paths in roles.values():
        base = findings.uses[paths[0]].view.chain
        by_base.setdefault(base, []).append(_group(leaf, tuple(paths), findings, shapes))
    first = [findings.uses[groups[0].paths[0]].view for groups in by_base.values()]
    if any(not views.disjoint(shape, v, w) for i, v in enumerate(first) for w in first[:i]):
        return Leaf("fallback", "uses that read overlapping parts of it", ())
    if not all(len(groups) == 1 or can_be_tied([g.layout for g in groups]) for groups in by_base.values()):
        return Leaf("fallback", "uses that read it along different axes", ())
    tied = tuple(groups[0] if len(groups) == 1 else Tied(leaf, tuple(groups)) for groups in by_base.values())
    return Leaf("factored" if tied else "unused", "", tied)


def _group(leaf: int, paths: tuple[Path, ...], findings: Findings, shapes: Shapes) -> Group:
    each, bias = [sizes(findings.uses[path]) for path in paths], _shared_bias(paths, findings, shapes)
    total = each[0]._replace(rows=sum(s.rows for s in each), inputs=each[0].inputs + (bias is not None))
    first = findings.uses[paths[0]]
    return Group(leaf, first.kind, paths, total, bias, layout(first))


def _shared_bias(paths: tuple[Path, ...], findings: Findings, shapes: Shapes) -> int | None:
    """The bias that follows every one of these uses, with its entries in the same order, and nothing else."""
    first = findings.biases.get(paths[0])
    if first is None:
        return None
    found = first.leaf
    everywhere = {path for path, bias in findings.biases.items() if bias.leaf == found}
    other = any(event.leaf == found for event in findings.events)
    if other or everywhere != set(paths) or any(use.view.leaf == found for use in findings.uses.values()):
        return None
    orders = [views.order(shapes[found], findings.biases[p], bound_loops(findings.uses[p])) for p in paths]
    return found if all(np.array_equal(orders[0], other) for other in orders) else None


def differentiated(found: Structure) -> list[int]:
    """Leaves whose Jacobian is taken as JAX takes it."""
    return [i for i, leaf in enumerate(found.leaves) if leaf.rule in ("direct", "fallback")]


def everything(found: Structure) -> Portion:
    """All groups, whole, and all directly differentiated leaves."""
    return Portion(tuple(g for leaf in found.leaves for g in leaf.groups), tuple(differentiated(found)))


class Task(NamedTuple):
    """What is contracted: a program's structure, what is done with rows ("rows" or summed), directions, parameters."""

    found: Structure
    strategies: dict[Group | Tied, str]
    spec: Spec
    portion: Portion


FactoredRows = tuple[Array, Array | None, Array]


class Prepared(NamedTuple):
    """The factors of Jacobians, the examples first.

    `factored`: (a, b, g), [n, rows batch inputs], [n, rows, batch] (a bias's input; None: ones) and
    [n, t k, rows batch outputs]. `jacobian`: [n, t k, entries] for groups whose rows are summed at once and for leaves
    differentiated directly; with k = 1, where products add up over both, [n, t entries] in any order.
    """

    factored: list[FactoredRows]
    jacobian: list[Array]


def prepare(task: Task, leaves: list[Array], sweep: Array | int, numbers: Numbers, x: PyTree) -> Prepared:
    """For every example the factors of its Jacobian along the directions `numbers` (None: all).

    Cost: one forward and `directions(spec)` backward passes an example.
    """
    return jax.vmap(lambda example: _example(task, leaves, sweep, numbers, example))(x)


def _example(task: Task, leaves: list[Array], sweep: Array | int, numbers: Numbers, x: PyTree) -> Prepared:
    found, strategies, spec, portion = task
    uses = {p: found.findings.uses[p] for group in portion.groups for part in parts_of(group) for p in part.paths}
    probes = {p: jnp.zeros((*use.loops, *use.out.shape), use.out.dtype) for p, use in uses.items()}

    def program(probes: Taps, chosen: list[Array]) -> tuple[Array, Taps]:
        values = list(leaves)
        for i, value in zip(portion.direct, chosen, strict=True):
            values[i] = value
        inputs = [*values, *jax.tree.leaves(x)]
        outs, _, kept = run(found.findings.plan, inputs, [None] * len(inputs), Probes(probes, uses))
        return outs[0], kept

    out, pull, kept = jax.vjp(program, probes, [leaves[i] for i in portion.direct], has_aux=True)
    rows = cotangents(spec, out.dtype, numbers)
    g, jacobians = jax.vmap(pull)(rows)
    # axes of what is held are merged: XLA copies it whole where an axis of extent one leaves its layout open
    factored: list[FactoredRows] = []
    reduced = [widened(j) for j in jacobians]
    for group in portion.groups:
        parts = [_factors(part, uses, kept, g) for part in parts_of(group)]
        if portion.width:
            cut = lambda h: jax.lax.dynamic_slice_in_dim(h, sweep * portion.width, portion.width, axis=-1)  # noqa: E731
            parts = [(a, b, cut(h)) for a, b, h in parts]
        if strategies[group] == "rows":
            factored += [(a.ravel(), b, h.reshape(len(h), -1)) for a, b, h in parts]
        else:
            added = spec.kept == 1
            reduced += summed_parts(group, parts) if isinstance(group, Tied) else [summed(group, *parts[0], added)]
    if not factored and not reduced:  # outputs that depend on no parameter
        reduced.append(jnp.zeros((len(rows), 1), widened(rows).dtype))
    flat = [j.ravel() if spec.kept == 1 else j.reshape(len(rows), -1) for j in reduced]
    return Prepared(factored, [jnp.concatenate(flat, axis=-1)] if flat else [])


def _factors(group: Group, uses: dict[Path, Use], kept: Taps, cotangents: Taps) -> tuple[Array, Array | None, Array]:
    """All uses' factors row after row: a [rows, batch, inputs], a bias's input [rows, batch] (None: ones), and g."""
    pairs = [factors(uses[p], kept[p], cotangents[p]) for p in group.paths]
    a, g = (widened(jnp.concatenate([pair[i] for pair in pairs], axis=i)) for i in (0, 1))
    if not any((*p, BIAS) in kept for p in group.paths):
        return a, None, g
    scales = [kept.get((*p, BIAS), jnp.ones(uses[p].loops, g.dtype)) for p in group.paths]
    return a, jnp.concatenate([bias_factor(uses[p], s) for p, s in zip(group.paths, scales, strict=True)]), g


def pair(task: Task, first: Prepared, second: Prepared) -> Array:
    """The block [n1, k, n2, l] (or [n1, k, n2]) of the kernel from the factors of two sets of examples."""
    _, strategies, spec, portion = task
    parts = []
    for j1, j2 in zip(first.jacobian, second.jacobian, strict=True):
        j1, j2 = (j.reshape(len(j), spec.traced, spec.kept, -1) for j in (j1, j2))
        parts.append(inner(spec, j1, j2))
    one, two = iter(first.factored), iter(second.factored)
    for group in portion.groups:
        if strategies[group] == "rows":
            parts += _rows_apart(group, spec, one, two)
    return sum(parts[1:], parts[0])


def _rows_apart(
    group: Group | Tied, spec: Spec, first: Iterator[FactoredRows], second: Iterator[FactoredRows]
) -> list[Array]:
    """The terms of one leaf: each group's own, and those between different groups."""
    terms, held = [], []
    for part, (a1, b1, g1), (a2, b2, g2) in zip(parts_of(group), first, second, strict=False):
        (a1, g1), (a2, g2) = _parts(part, spec, a1, g1), _parts(part, spec, a2, g2)
        held.append((Factors(a1, g1), Factors(a2, g2)))
        terms.append(_contract(part, spec, _gram(part, a1, b1, a2, b2).astype(g1.dtype), g1, g2))
    if isinstance(group, Tied):
        terms += [cross(group, (p, q), spec, held[p][0], held[q][1]) for p, q in group.crossed]
    return terms


def _parts(group: Group, spec: Spec, a: Array, g: Array) -> tuple[Array, Array]:
    """Factors with their axes apart: [n, rows, batch, inputs] (a gather's indices: [n, rows]) and [n, t, k, …]."""
    n, rows, batch = len(a), group.sizes.rows, group.sizes.batch
    apart = a if group.kind == "gather" else a.reshape(n, rows, batch, -1)
    return apart, g.reshape(n, spec.traced, spec.kept, rows, batch, -1)


def _gram(group: Group, a1: Array, b1: Array | None, a2: Array, b2: Array | None) -> Array:
    """Inner products of inputs, [n1, n2, rows, rows, batch]; a bias's input is one more."""
    if group.kind == "gather":
        return (a1[:, None, :, None] == a2[None, :, None, :])[..., None]
    gram = _input_products(a1, a2)
    if group.bias is None:
        return gram
    return gram + (1 if b1 is None or b2 is None else b1[:, None, :, None] * b2[None, :, None])


def _input_products(a1: Array, a2: Array) -> Array:
    if a1.shape[2] > 1:
        return jnp.einsum("irbc,jsbc->ijrsb", a1, a2, precision="highest")
    flat = [a.reshape(-1, a.shape[-1]) for a in (a1, a2)]
    products = jnp.einsum("ic,jc->ij", *flat, precision="highest")
    return products.reshape(*a1.shape[:2], *a2.shape[:2]).transpose(0, 2, 1, 3)[..., None]


def inner(spec: Spec, first: Array, second: Array) -> Array:
    """[n1, t, k, f] with [n2, t, k, f] over t and f: [n1, k, n2, l] or [n1, k, n2].

    Where it is one product of matrices it is written so: XLA copies the second operand of any other.
    """
    if not spec.plain:
        last = spec.letters if not spec.paired else ""
        return jnp.einsum(f"itkf,jt{spec.letters}f->ikj{last}", first, second, precision="highest")
    flat = [part.reshape(len(part) * spec.kept, -1) for part in (first, second)]
    shape = (len(first), spec.kept, len(second), *([] if spec.paired else [spec.kept]))
    return jnp.einsum("ip,jp->ij", *flat, precision="highest").reshape(shape)


def _contract(group: Group, spec: Spec, gram: Array, g1: Array, g2: Array) -> Array:
    if group.sizes.rows == 1 and group.sizes.batch == 1:
        other = inner(spec, g1[..., 0, 0, :], g2[..., 0, 0, :])
        return other * (gram[:, None, :, 0, 0, 0] if spec.paired else gram[:, None, :, 0, 0, 0, None])
    last = spec.letters if not spec.paired else ""
    return jnp.einsum(
        f"ijrsb,itkrbf,jt{spec.letters}sbf->ikj{last}", gram, g1, g2, precision="highest", optimize="optimal"
    )


def row_contraction(group: Group, spec: Spec) -> str:
    """The einsum of `_contract`, for the cost model."""
    return f"ijrsb,itkrbf,jt{spec.letters}sbf->ikj{'' if spec.paired else spec.letters}"
