"""Go through a program on a small batch, and record for every array whose numbers it holds."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from jaxtheory.programs.calls import Atom, Equation, Program, opened, scan_sections, subprograms
from jaxtheory.programs.mixing.facts import (
    LARGEST,
    MIXED,
    SHARED,
    Blame,
    Fact,
    aligned,
    blamed,
    collapse,
    drop,
    examples,
    expand,
    forget,
    in_order,
    is_even,
    join,
    mix,
    numbers,
    shared,
    spread,
    text_token,
)
from jaxtheory.programs.mixing.indexing import INDEXING
from jaxtheory.programs.mixing.rules import REFERENCES, RULES, opaque
from jaxtheory.programs.mixing.shapes import shape_of
from jaxtheory.programs.sites import UNKNOWN, Site, site

_TURNS = 4  # of a loop that are gone through one by one
_PASSES = 8  # until the carry of a longer loop is the same


class Verdict(NamedTuple):
    """Why a function does not act on each example alone; `site` is where."""

    site: Site
    reason: str


# an equation whose outputs belong to examples, the calls it is in, and what its outputs are for the first example
Mark = tuple[Equation, tuple[Equation, ...], int]


class _Context(NamedTuple):
    examples: int
    marks: list[Mark]
    outer: tuple[Equation, ...] = ()  # the equations that call the program at hand


def examine(program: ClosedJaxpr, batched: Sequence[bool], count: int) -> tuple[Fact, list[Mark]]:
    """The record of the program's first output, on a batch of `count` examples.

    Args:
        program: a jaxpr; its outputs have the examples first.
        batched: for each input, whether its first axis is that of the examples.
        count: of the examples, two at least.

    Returns:
        The record, and the equations on the way with what they are for the first example.
    """
    context = _Context(count, [])
    inputs = [
        examples(shape_of(v), text_token(f"input {i}")) if own else shared(shape_of(v), text_token(f"input {i}"))
        for i, (v, own) in enumerate(zip(program.jaxpr.invars, batched, strict=True))
    ]
    return _walk(program, inputs, context)[0], context.marks


def verdict(found: Fact, count: int) -> Verdict | None:
    """What is wrong with an output, or None."""
    rows = expand(found, 0)
    owners, tokens = rows.owner.reshape(count, -1), rows.token.reshape(count, -1)
    place = Site("the output", UNKNOWN)
    if (owners == MIXED).any():
        where = found.blame.mixed or place
        seen = where.operation in _CONTROL or where.operation in RULES or where.operation in INDEXING
        seen = seen and where.operation not in REFERENCES
        return Verdict(where, "combines examples" if seen else "is an operation that is not seen through")
    if not ((owners == SHARED) | (owners == np.arange(count)[:, None])).all():
        return Verdict(found.blame.moved or place, "puts examples into another order")
    if not (tokens == tokens[:1]).all():
        return Verdict(found.blame.uneven or place, "tells examples apart by their place in the batch")
    return None


def differs(first: list[Mark], second: list[Mark]) -> Verdict | None:
    """The equation where the number of examples enters, from the same program on two numbers of examples."""
    names = [[equation.primitive.name for equation, _, _ in marks] for marks in (first, second)]
    if names[0] != names[1]:
        return None
    pairs = zip(first, second, strict=True)
    found = next((mine for mine, yours in pairs if mine[2] != yours[2]), None)
    return None if found is None else Verdict(site(found[0], found[1]), "depends on the number of examples")


def _constant(value: Any, place: int) -> Fact:
    shape = np.shape(value)
    plain = not isinstance(value, jax.core.Tracer) and getattr(value, "is_fully_addressable", True)
    if plain and np.size(value) <= LARGEST and not jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return numbers(np.asarray(value))
    return shared(shape, text_token(f"constant {place}"))


def _walk(program: Program, inputs: Sequence[Fact], context: _Context) -> list[Fact]:
    body, consts = opened(program)
    env: dict[Atom, Fact] = dict(zip(body.invars, inputs, strict=True))
    env |= {var: _constant(value, i) for i, (var, value) in enumerate(zip(body.constvars, consts, strict=True))}

    def read(atom: Atom) -> Fact:
        return _constant(np.asarray(atom.val), 0) if isinstance(atom, Literal) else env[atom]

    for equation in body.eqns:
        facts = [read(atom) for atom in equation.invars]
        outs = _outputs(equation, facts, context._replace(outer=(*context.outer, equation)))
        env |= dict(zip(equation.outvars, (_attributed(equation, facts, out, context) for out in outs), strict=True))
    return [read(atom) for atom in body.outvars]


def _outputs(equation: Equation, facts: list[Fact], context: _Context) -> list[Fact]:
    name, shapes = equation.primitive.name, [shape_of(v) for v in equation.outvars]
    if all(0 in shape for shape in shapes):
        return [shared(shape, text_token("empty"), uniform=True) for shape in shapes]
    if name in _CONTROL:
        return _CONTROL[name](equation, facts, context)
    if name in RULES:
        return RULES[name](equation, facts)
    if name in INDEXING:
        return INDEXING[name](equation, facts)
    inner = _called(equation)
    return opaque(equation, facts) if inner is None else _walk(inner, facts, context)


def _called(equation: Equation) -> Program | None:
    """The program that an equation calls with its own inputs and outputs: jit, remat, custom derivatives."""
    for program in subprograms(equation):
        body, _ = opened(program)
        pairs = ((equation.invars, body.invars), (equation.outvars, body.outvars))
        if all([shape_of(v) for v in mine] == [shape_of(v) for v in theirs] for mine, theirs in pairs):
            return program
    return None


def _attributed(equation: Equation, facts: list[Fact], out: Fact, context: _Context) -> Fact:
    """The output, with this equation blamed for what its inputs were not."""
    mixed, uneven, moved = blamed(facts).after(out.blame)
    here = partial(site, equation, context.outer)
    if mixed is None and (out.owner == MIXED).any():
        mixed = here()
    if uneven is None and not is_even(out):
        uneven = here()
    if moved is None and not in_order(out, context.examples):
        moved = here()
    own = out.token[np.broadcast_to(out.owner, out.token.shape) == 0]
    if own.size:
        token = int(np.bitwise_xor.reduce(mix(own, np.arange(own.size, dtype=np.uint64))))
        context.marks.append((equation, context.outer, token))
    return out._replace(blame=Blame(mixed, uneven, moved))


def _merged(first: Fact, second: Fact) -> Fact:
    """What may be one or the other."""
    return join("either", [forget(first), forget(second)])


def _scan(equation: Equation, facts: list[Fact], context: _Context) -> list[Fact]:
    params = equation.params
    length, body = params["length"], params["jaxpr"]
    consts, carries = scan_sections(params)
    constants, carry, stacked = facts[:consts], facts[consts : consts + carries], facts[consts + carries :]
    if length <= _TURNS or any(_owners_vary(fact) for fact in stacked):
        return _turn_by_turn(equation, body, constants, carry, stacked, context)
    # one record stands for all turns of the loop
    rows = [forget(drop(collapse(fact, [0]), [0])) for fact in stacked]
    carry = [forget(fact) for fact in carry]
    last, outs = _settle(lambda held: _walk(body, [*constants, *held, *rows], context), carry)
    ys = [spread(out, shape_of(v), range(1, len(out.shape) + 1), uniform=False)
          for out, v in zip(outs[carries:], equation.outvars[carries:], strict=True)]  # fmt: skip
    turns = np.uint64(length)
    return [*(fact._replace(token=mix(fact.token, turns)) for fact in last), *ys]


def _owners_vary(fact: Fact) -> bool:
    return bool((fact.owner != fact.owner[:1]).any())


def _turn_by_turn(
    equation: Equation, body: Program, constants: list[Fact], carry: list[Fact], stacked: list[Fact], context: _Context
) -> list[Fact]:
    length = equation.params["length"]
    kept: list[list[Fact]] = []
    order = range(length)[::-1] if equation.params["reverse"] else range(length)
    stacked = [expand(fact, 0) for fact in stacked]
    for turn in order:
        rows = [_row(fact, turn) for fact in stacked]
        outs = _walk(body, [*constants, *carry, *rows], context)
        carry, kept = outs[: len(carry)], [*kept, outs[len(carry) :]]
    kept = kept[::-1] if equation.params["reverse"] else kept
    ys = [_stacked([outs[i] for outs in kept]) for i in range(len(equation.outvars) - len(carry))] if kept else []
    return [*carry, *ys]


def _row(fact: Fact, turn: int) -> Fact:
    grid = (slice(turn, turn + 1) if fact.explicit(0) else slice(None),)
    one = Fact((1, *fact.shape[1:]), fact.owner[grid], fact.token[grid], fact.uniform, None, fact.blame)
    known = None if fact.known is None else fact.known[turn]
    return drop(one, [0])._replace(known=known)


def _stacked(rows: list[Fact]) -> Fact:
    same = aligned(rows)
    owner, token = (np.stack(parts) for parts in zip(*((f.owner, f.token) for f in same), strict=True))
    uniform = tuple(all(flags) for flags in zip(*(fact.uniform for fact in same), strict=True))
    return Fact((len(rows), *same[0].shape), owner, token, (len(rows) == 1, *uniform), None, blamed(same))


def _settle(body: Callable[[list[Fact]], list[Fact]], carry: list[Fact]) -> tuple[list[Fact], list[Fact]]:
    """The carry of a loop of any number of turns, and the outputs of a turn that starts from it."""
    count = len(carry)
    for _ in range(_PASSES):
        outs = body(carry)
        new = [_merged(before, after) for before, after in zip(carry, outs[:count], strict=True)]
        same = all(
            a.owner.shape == b.owner.shape and (a.owner == b.owner).all() and a.uniform == b.uniform
            for a, b in zip(carry, new, strict=True)
        )
        carry = new
        if same:
            return carry, outs
    carry = [fact._replace(owner=np.where(fact.owner == SHARED, SHARED, MIXED)) for fact in carry]
    return carry, body(carry)


def _while(equation: Equation, facts: list[Fact], context: _Context) -> list[Fact]:
    params = equation.params
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    tests, constants, carry = facts[:first], facts[first:second], [forget(fact) for fact in facts[second:]]
    last, _ = _settle(lambda held: _walk(params["body_jaxpr"], [*constants, *held], context), carry)
    (test,) = _walk(params["cond_jaxpr"], [*tests, *last], context)
    # `jax.vmap` of a loop has a test for each entry of the first axes
    return [join("while", [fact, spread(forget(test), fact.shape, range(len(test.shape)))]) for fact in last]


def _cond(equation: Equation, facts: list[Fact], context: _Context) -> list[Fact]:
    branches = [_walk(branch, facts[1:], context) for branch in equation.params["branches"]]
    outs = [functools.reduce(_merged, each) for each in zip(*branches, strict=True)]
    return [join("cond", [out, spread(forget(facts[0]), out.shape, ())]) for out in outs]


def _linear_solve(equation: Equation, facts: list[Fact], context: _Context) -> list[Fact]:
    lengths, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    before = lengths.matvec + lengths.vecmat
    constants, count = facts[before : before + lengths.solve], sum(lengths)
    return _walk(programs.solve, [*constants, *facts[count:]], context)


_CONTROL: dict[str, Callable[[Equation, list[Fact], _Context], list[Fact]]] = {
    "scan": _scan, "while": _while, "cond": _cond,
    "custom_linear_solve": _linear_solve,
}  # fmt: skip
