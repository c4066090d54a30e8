"""What a sweep must not take for the same, change on the way, or fail on without naming the argument."""

import collections
import functools
import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweeps.common import run

from jaxtheory import sweeps
from jaxtheory.sweeps.content import NoContentError, digest

X = [1.0, 2.0]


def straight_through(gain, rule):
    """The sign, with a derivative that is a rule's alone."""
    act = rule(jnp.sign)
    if rule is jax.custom_jvp:
        act.defjvp(lambda primals, tangents: (act(*primals), gain * tangents[0]))
    else:
        act.defvjp(lambda x: (act(x), None), lambda _, cotangent: (gain * cotangent,))
    return act


def attributed(kind, gain):
    """Something equal in all but an attribute."""
    made = kind()
    made.gain = gain
    return made


class Slotted:
    __slots__ = ("__hidden", "shown")

    def __init__(self, hidden):
        self.shown, self.__hidden = 1, hidden


class Terse(int):
    def __repr__(self):
        return "Terse"


class Rated:
    """A class whose instances are its properties."""

    def __init__(self, rate):
        self.rate = rate

    @property
    def double(self):
        return 2 * self.rate

    @functools.cached_property
    def triple(self):
        return 3 * self.rate


def of_module(gain):
    """A function that calls one in a module of the user's."""
    module = types.ModuleType("jaxtheory_example_of_a_user")
    module.act = eval(f"lambda x: {gain} * x")
    return types.FunctionType((lambda x: acts.act(x)).__code__, {"acts": module})


CONTENTS = {
    "derivative rule": lambda gain: straight_through(gain, jax.custom_jvp),
    "pullback": lambda gain: straight_through(gain, jax.custom_vjp),
    "attribute of a function": lambda gain: attributed(lambda: lambda x: x, gain),
    "module": of_module,
    "mapped axis": lambda gain: jax.vmap(jnp.dot, in_axes=(0, gain)),
    "deque": lambda gain: collections.deque([gain, 1]),
    "attribute of a list": lambda gain: attributed(type("Listed", (list,), {}), gain),
    "attribute of a dict": lambda gain: attributed(type("Mapped", (dict,), {}), gain),
    "attribute of a text": lambda gain: attributed(type("Text", (str,), {}), gain),
    "default of a dict": lambda gain: collections.defaultdict(lambda: gain),
    "order": lambda gain: collections.OrderedDict([(gain, 0), (1 - gain, 0)]),
    "number behind a repr": Terse,
    "private slot": Slotted,
    "exception": lambda gain: attributed(lambda: ValueError(gain), 0),
    "mask": lambda gain: np.ma.array([1, 2], mask=[gain, 1]),
    "field names": lambda gain: np.zeros(1, [(f"a{gain}", "f4")]),
    "object with properties": Rated,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_differs_in_its_content_is_another_value(name):
    made = CONTENTS[name]
    assert digest(made(0)) == digest(made(0)) != digest(made(1))


def test_a_compiled_function_that_hides_what_it_does_has_no_content():
    with pytest.raises(NoContentError, match="has no content"):
        digest(np.frompyfunc(lambda x: x + 1, 1, 1))


BAD_AXES = {
    "booleans beside numbers": (lambda: sweeps.grid(x=[True, 2]), "x must hold numbers or booleans"),
    "an integer that a float changes": (lambda: sweeps.grid(x=[2**53 + 1, 0.5]), "x must hold integers that fit"),
    "keys": (lambda: sweeps.grid(x=jax.random.split(jax.random.key(0), 2)), r"write x=range\(10\)"),
    "a masked value": (lambda: sweeps.grid(x=np.ma.array(X, mask=[0, 1])), "x must hold no masked values"),
    "labels of one text": (lambda: sweeps.grid(x={1: 0.5, "1": 0.25}), "x must have distinct labels"),
    "a long range": (lambda: sweeps.grid(x=range(10**12)), "x must hold at most"),
    "a traced value": (lambda: jax.jit(lambda v: sweeps.grid(x=[v, 1.0]))(2.0), "x must be known"),
    "other lengths": (lambda: sweeps.grid(sweeps.Zipped({"x": X, "y": [1.0]})), "axes must have one length"),
    "a slash": (lambda: sweeps.grid(**{"a/b": X}), "axis must be named by a word"),
    "no name": (lambda: sweeps.grid(**{"": X}), "axis must be named by a word"),
}


@pytest.mark.parametrize("name", BAD_AXES)
def test_axes_that_would_change_or_fail_in_the_store_are_refused_by_name(name):
    call, match = BAD_AXES[name]
    with pytest.raises(ValueError, match=match):
        call()


def test_zero_dimensional_arrays_are_numbers_of_an_axis():
    assert sweeps.grid(x=[np.array(1.0), np.array(2.0)]).axes["x"].tolist() == X


BAD_CALLS = {
    "static of no names": ({"static": 5}, "static must be names of axes"),
    "paired of None": ({"paired": None}, "paired must be names of axes"),
    "nested names": ({"static": [["x"]]}, "static must be names of axes"),
    "a shard of no store": ({"shard": "0/2"}, "out must be a store that shards fill"),
    "block=True": ({"block": True}, "block must be at least one point"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_arguments_of_run_are_refused_by_name(name):
    options, match = BAD_CALLS[name]
    with pytest.raises(ValueError, match=match):
        # without the check of annotations that the tests add
        inspect.unwrap(sweeps.run)(lambda x, key: {"a": x}, sweeps.grid(x=X), **options)


BAD_OUTPUTS = {
    "an integer beyond 32 bits": (lambda: 2**40, "a must be an integer that JAX holds"),
    "a wide float": (lambda: np.longdouble(1), "a must have a dtype that NumPy knows"),
    "a label that is the status": (lambda: sweeps.named(np.ones(2), "t", status=("t", X)), "a must have coordinates"),
    "a dimension that is the status": (lambda: sweeps.named(np.ones(2), "status"), "a must have dimensions"),
    "a label with a slash": (lambda: sweeps.named(np.ones(2), "t", **{"u/v": ("t", X)}), "coordinate must be named"),
    "a masked output": (lambda: sweeps.named(np.ma.array(X, mask=[0, 1]), "t"), "array must hold no masked"),
    "a masked label": (lambda: sweeps.named(np.ones(2), "t", t=np.ma.array(X, mask=[0, 1])), "t must hold no masked"),
}


@pytest.mark.parametrize("name", BAD_OUTPUTS)
def test_outputs_that_a_store_cannot_hold_are_refused_by_name(name):
    made, match = BAD_OUTPUTS[name]
    with pytest.raises(ValueError, match=match):
        run(lambda x, key: {"a": made()}, sweeps.grid(x=[1.0]), vmap=False)


CALLED = {
    "other names": lambda x: {"a": 1.0} if x < 2 else {"b": 1.0},
    "another shape": lambda x: {"a": sweeps.named(np.ones(int(x)), "t")},
    "another label": lambda x: {"a": sweeps.named(np.ones(2), "t", t=[0.0, x])},
    "a fraction after an integer": lambda x: {"a": 1 if x < 2 else 1.5},
    "a number that overflows": lambda x: {"a": np.float32(1) if x < 2 else np.float64(1e300)},
    "a complex number after a real one": lambda x: {"a": 1.0 if x < 2 else 1j},
}


@pytest.mark.parametrize("name", CALLED)
def test_a_called_point_whose_outputs_do_not_fit_is_marked_and_its_error_kept(name, tmp_path):
    def point(x, key):
        return CALLED[name](x)

    found = run(point, sweeps.grid(x=X), out=tmp_path / "a.zarr", vmap=False)
    assert found.status.values.tolist() == [0, 4]
    assert "ValueError" in sweeps.status(tmp_path / "a.zarr").errors["x=2.0"]


def test_a_called_point_may_return_numbers_that_fit():
    found = run(lambda x, key: {"a": 0.5 if x < 2 else 3}, sweeps.grid(x=X), vmap=False)
    assert found.a.values.tolist() == [0.5, 3.0]
    assert found.status.values.tolist() == [0, 0]


def test_a_called_point_that_returns_other_outputs_when_continued_is_marked(tmp_path):
    out = tmp_path / "a.zarr"
    run(lambda x, key: {"a": 1.0}, sweeps.grid(x=X), out=out, vmap=False, version=1)
    found = run(lambda x, key: {"b": 2.0}, sweeps.grid(x=[*X, 3.0]), out=out, vmap=False, version=1)
    assert found.status.values.tolist() == [0, 0, 4]


def test_a_status_without_a_name_counts_as_failed(tmp_path):
    run(lambda x, key: {"a": x, "status": 77}, sweeps.grid(x=X), out=tmp_path / "a.zarr")
    assert sweeps.status(tmp_path / "a.zarr").failed == {"status 77": 2}


def test_a_path_with_brackets_is_tidied_as_any_other(tmp_path):
    def point(x, key, checkpoint):
        checkpoint.save({"x": np.float64(x)})
        return {"a": x}

    out = tmp_path / "rate=[0.1]" / "a.zarr"
    run(point, sweeps.grid(x=X), out=out, vmap=False, version=1)
    assert [path.name for path in out.parent.iterdir()] == ["a.zarr"]
    stale = out / "a" / "c" / "0.partial"
    stale.write_bytes(b"")
    run(point, sweeps.grid(x=X), out=out, vmap=False, version=1)
    assert not stale.exists()
