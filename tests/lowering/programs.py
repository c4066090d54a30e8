"""One representative call of every public function that can be compiled, and what its program holds for an accelerator.

The calls are those of the tables of gates and of the cases for accelerators.
"""

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from accelerator.test_products import DRAWING, PROGRAMS, equations
from gates.harness import TRACED, Entry, concrete, fields

HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
PRODUCTS = ("dot_general", "conv_general_dilated")


class Program(NamedTuple):
    """A function of one tree of arrays, and a function that makes these in a floating dtype."""

    function: Callable[[Any], Any]
    arguments: Callable[[Any], Any]


class Lowered(NamedTuple):
    """What an exported program holds: bytes of StableHLO, names of custom calls, whether any number has 64 bits."""

    bytes: int
    custom_calls: frozenset[str]
    float64: bool


@functools.cache
def programs() -> dict[str, Program]:
    """Name -> program, of all tables."""
    folder = Path(__file__).parents[1] / "gates"
    tables = sorted(path.stem for path in folder.glob("test_*.py") if path.stem != "test_complete")
    entries = [entry for table in tables for entry in importlib.import_module(f"gates.{table}").ENTRIES]
    found = {entry.name: of_entry(entry) for entry in entries if "jit" not in entry.skip}
    found |= {name: of_case(*case) for name, case in (PROGRAMS | DRAWING).items()}
    assert len(found) == len([e for e in entries if "jit" not in e.skip]) + len(PROGRAMS) + len(DRAWING)
    return found


def of_entry(entry: Entry) -> Program:
    """Arrays, numbers and keys are arguments of the program; what is static is held."""
    kinds = {name: arg.kind for name, arg in entry.arguments.items()}

    def arguments(dtype: Any) -> dict[str, Any]:
        made = {name: concrete(arg, dtype) for name, arg in entry.arguments.items() if arg.kind in TRACED}
        return {name: jnp.asarray(value, dtype) if kinds[name] == "number" else value for name, value in made.items()}

    held = {name: arg.value for name, arg in entry.arguments.items() if arg.kind not in TRACED}
    # only arrays leave a program
    return Program(lambda traced: fields(entry.function(**traced, **held)), arguments)


def of_case(function: Callable[..., Any], arrays: tuple[Any, ...]) -> Program:
    """A case for accelerators."""
    return Program(lambda given: function(*given), lambda dtype: jax.tree.map(lambda a: jnp.asarray(a, dtype), arrays))


def traced(name: str, dtype: Any) -> Any:
    """The jaxpr of a program; its caches begin empty, so that no other test decides what it holds."""
    program = programs()[name]
    return jax.jit(lambda given: program.function(given)).trace(program.arguments(dtype)).jaxpr


def lowered(name: str, dtype: Any, platforms: tuple[str, ...]) -> Lowered:
    """The program exported for some platforms, none of which need be here."""
    program = programs()[name]
    exported = jax.export.export(jax.jit(lambda given: program.function(given)), platforms=platforms)
    found = exported(program.arguments(dtype))
    text = found.mlir_module()
    calls = frozenset(re.findall(r"custom_call @([\w.$]+)", text))
    return Lowered(len(found.mlir_module_serialized), calls, bool(re.search(r"\bf64\b|xf64>", text)))


def host_calls(jaxpr: Any) -> set[str]:
    """Primitives that would wait for the host."""
    names = {equation.primitive.name for equation in equations(jaxpr)}
    return {name for name in names if "callback" in name or name in ("infeed", "outfeed")}


def imprecise(jaxpr: Any) -> list[str]:
    """Products of float32 that leave their precision to the accelerator, whose default keeps 10 or fewer of 23 bits."""
    products = [e for e in equations(jaxpr) if e.primitive.name in PRODUCTS and e.invars[0].aval.dtype == jnp.float32]
    return [str(e) for e in products if e.params["precision"] != HIGHEST]


def spread(names: Iterator[str], count: int) -> set[str]:
    """`count` names at equal distances."""
    ordered = sorted(names)
    return {ordered[i * len(ordered) // count] for i in range(count)}
