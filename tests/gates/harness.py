"""The gates that every public function passes, and the table entries they read.

A room's table is a list of `Entry` in `tests/gates/test_<room>.py`; its class inherits `Gates`, and `conftest.py` runs
each gate on each entry that declares what the gate needs. A public name without an entry fails `test_complete.py`.
"""

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.results import Status

FLOATS = ("quantity", "number", "points", "tree")
TRACED = (*FLOATS, "integers", "key")


class Arg(NamedTuple):
    """One argument of an entry: its kind and a valid value (floats as NumPy float64)."""

    kind: str
    value: Any


def quantity(value: Any) -> Arg:
    """A real array that is computed with."""
    return Arg("quantity", np.asarray(value, np.float64))


def points(value: Any) -> Arg:
    """Points [n d]; a function that takes them takes [n] for [n, 1]."""
    return Arg("points", np.asarray(value, np.float64))


def number(value: float) -> Arg:
    """One real number that may be traced."""
    return Arg("number", float(value))


def tree(value: Any) -> Arg:
    """A pytree of real arrays, e.g. the parameters of a network."""
    return Arg("tree", jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), value))


def integers(value: Any) -> Arg:
    """Labels, indices or tokens: an integer array that may be traced."""
    return Arg("integers", np.asarray(value, np.int32))


def key(seed: int = 0) -> Arg:
    """A random key."""
    return Arg("key", seed)


def static(value: Any) -> Arg:
    """Counts, options, functions, static numbers: passed as they are."""
    return Arg("static", value)


class Derivative(NamedTuple):
    """Derivatives in `args` at a point: `at` replaces values there (float64), e.g. by coincident points.

    `order` 1 checks jvp and grad against differences, 2 also the Hessian; `reason` says why an order is missing.
    """

    args: tuple[str, ...]
    at: Mapping[str, Any] = {}
    order: int = 2
    output: Callable[[Any], Any] = lambda result: result
    condition: float = 1.0
    step: float = 1e-4
    reverse: bool = True
    reason: str = ""


class Entry(NamedTuple):
    """A public function, valid arguments, and what it promises.

    Attributes:
        name: "room.function" or "room.module.function".
        function: the public function, or a closure over it that takes `args` by name.
        args: name -> Arg; or a function of n, the number of examples, for the gate of small sizes.
        invalid: name -> values that are refused outside `jit` and give NaN or a bad status inside.
        ignores: arguments whose NaN or infinity need not reach the result, each with its reason.
        at_infinity: arguments that may be infinite, with the reason.
        infinite: output fields that may be infinite where the status is OK, with the reason.
        integer_values: name -> integers in range of the function, where rounding the value is not.
        scale: argument -> {field: degree}; the result at c = 2^±83 in float32 is c^degree times that at 1, bit for bit.
        scale_condition: 0 asks for the same bits; otherwise, where logarithms or powers of the scale are taken, the
            condition number of the equality.
        shift: tuples of arguments -> fields that do not change when a constant is added to all of them.
        permute: argument -> {field: axis or None}: permuting the first axis permutes the field or leaves it.
        derivatives: see `Derivative`.
        condition: float32 and float64 agree to `condition` rounding errors (see `tolerances`).
        jit: False with a reason in `skip` where a function runs outside `jit` only.
        skip: gate -> reason.
        slow: all gates of the entry belong to the slow set.
    """

    name: str
    function: Callable[..., Any]
    args: Mapping[str, Arg] | Callable[[int], Mapping[str, Arg]]
    invalid: Mapping[str, tuple[Any, ...]] = {}
    ignores: Mapping[str, str] = {}
    at_infinity: Mapping[str, str] = {}
    infinite: Mapping[str, str] = {}
    integer_values: Mapping[str, Any] = {}
    scale: Mapping[str, Mapping[str, int]] = {}
    scale_condition: float = 0.0
    shift: Mapping[tuple[str, ...], tuple[str, ...]] = {}
    permute: Mapping[str, Mapping[str, int | None]] = {}
    derivatives: tuple[Derivative, ...] = ()
    condition: float = 100.0
    skip: Mapping[str, str] = {}
    slow: bool = False

    @property
    def arguments(self) -> Mapping[str, Arg]:
        """The valid arguments, at the default number of examples."""
        return self.args(5) if callable(self.args) else self.args


def concrete(arg: Arg, dtype: Any = np.float32) -> Any:
    """An argument as a caller passes it."""
    if arg.kind == "number":
        return arg.value
    if arg.kind in ("quantity", "points", "tree"):
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), arg.value)
    if arg.kind == "integers":
        return jnp.asarray(arg.value)
    return jax.random.key(arg.value) if arg.kind == "key" else arg.value


def values(entry: Entry, dtype: Any = np.float32, **changed: Any) -> dict[str, Any]:
    """All arguments, with some replaced."""
    return {name: concrete(arg, dtype) for name, arg in entry.arguments.items()} | changed


def call(entry: Entry, arguments: Mapping[str, Any], jit: bool = False) -> Any:
    """The result; with `jit`, of one compiled program for each entry, dtype and set of shapes."""
    if not jit:
        return entry.function(**arguments)
    traced = {name: value for name, value in arguments.items() if entry.arguments[name].kind in TRACED}
    fixed = {name: value for name, value in arguments.items() if name not in traced}
    return _jitted(entry.name, entry.function, _Held(fixed))(traced)


class _Held:
    """Static arguments compared by identity of their values."""

    def __init__(self, fixed: dict[str, Any]) -> None:
        self.fixed = fixed

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.fixed)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Held) or set(self.fixed) != set(other.fixed):
            return False
        return all(value is other.fixed[name] for name, value in self.fixed.items())


@functools.lru_cache(maxsize=8)
def _jitted(name: str, function: Callable[..., Any], held: _Held) -> Any:
    # only arrays leave a compiled function
    def arrays(traced: dict[str, Any]) -> Any:
        return fields(function(**traced, **held.fixed))

    return jax.jit(arrays)


def fields(result: Any) -> dict[str, Any]:
    """The arrays of a result by name: `status`, `alpha`, ...; "" for a single array."""
    if isinstance(result, dict) and all(isinstance(name, str) for name in result):
        return {name: value for name, value in result.items() if _numeric(value)}
    leaves = jax.tree_util.tree_flatten_with_path(result)[0]
    return {_name(path): leaf for path, leaf in leaves if _numeric(leaf)}


def _numeric(leaf: Any) -> bool:
    return isinstance(leaf, (bool, int, float, np.ndarray, np.generic, jax.Array)) and not _is_key(leaf)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _name(path: Any) -> str:
    return ".".join(str(getattr(p, "name", getattr(p, "key", getattr(p, "idx", p)))) for p in path)


def statuses(found: Mapping[str, Any]) -> list[np.ndarray]:
    """Every status in a result."""
    return [np.asarray(value) for name, value in found.items() if name.split(".")[-1] == "status"]


def floats(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The floating fields."""
    arrays = {name: np.asarray(value) for name, value in found.items()}
    return {name: value for name, value in arrays.items() if np.issubdtype(value.dtype, np.inexact)}


def silent(entry: Entry, found: Mapping[str, Any]) -> bool:
    """Whether a result made from bad input claims to be right: all statuses OK, or without one everything finite."""
    if statuses(found):
        return all((status == Status.OK).all() for status in statuses(found))
    return all(np.isfinite(value).all() for value in floats(found).values())


def outcome(entry: Entry, arguments: Mapping[str, Any], jit: bool = False) -> dict[str, Any] | None:
    """The fields of the result, or None where a ValueError or TypeError says what to pass; raw errors propagate."""
    try:
        return fields(call(entry, arguments, jit))
    except (ValueError, TypeError) as error:
        if not is_named(error):
            raise AssertionError(f"{entry.name}: the error does not say what to pass: {error!r}") from error
        return None


def is_named(error: Exception) -> bool:
    """Whether an error names what must change: "<argument> must <requirement>, got <value>; <action>."."""
    text = str(error)
    return all(word in text for word in (" must ", "got ", ";")) or getattr(error, "is_named", False)


def poisoned(value: Any, bad: float) -> Any:
    """`value` with one entry replaced."""
    if isinstance(value, float):
        return bad
    leaves, structure = jax.tree.flatten(value)
    which = max(range(len(leaves)), key=lambda i: leaves[i].size)
    leaves[which] = leaves[which].ravel().at[leaves[which].size // 2].set(bad).reshape(leaves[which].shape)
    return jax.tree.unflatten(structure, leaves)


def assert_same(entry: Entry, found: Mapping[str, Any], expected: Mapping[str, Any], rtol: float, what: str) -> None:
    """Equal fields, to `rtol` of each field's norm; 0 asks for the same bits."""
    assert set(found) == set(expected), (entry.name, what, set(found) ^ set(expected))
    for name, value in expected.items():
        one, other = np.asarray(found[name]), np.asarray(value)
        assert one.shape == other.shape, (entry.name, what, name, one.shape, other.shape)
        if rtol == 0 or not np.issubdtype(other.dtype, np.inexact):
            np.testing.assert_array_equal(one, other, err_msg=f"{entry.name} {what}: {name}")
        else:
            scale = np.abs(other[np.isfinite(other)]).max(initial=1e-300)
            np.testing.assert_allclose(one, other, rtol=0, atol=rtol * scale, err_msg=f"{entry.name} {what}: {name}")


def float_args(entry: Entry) -> Iterator[tuple[str, Arg]]:
    """The arguments that hold real numbers."""
    return ((name, arg) for name, arg in entry.arguments.items() if arg.kind in FLOATS)


def rng(entry: Entry) -> np.random.Generator:
    """Draws that depend on the entry's name alone."""
    return np.random.default_rng(zlib.crc32(entry.name.encode()))


def gate(name: str, needs: Callable[[Entry], Any] = lambda entry: True, slow: bool = False) -> Any:
    """Mark a method of `Gates`: which entries it runs on, and whether it belongs to the slow set."""

    def mark(method: Any) -> Any:
        method.gate, method.needs, method.slow = name, needs, slow
        return pytest.mark.slow(method) if slow else method

    return mark
