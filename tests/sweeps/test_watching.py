"""How far a store is, from the outside and on the command line; and what identifies a value."""

import functools
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sweeps.common import plain, run

from jaxtheory import cli, sweeps
from jaxtheory.sweeps.content import NoContentError, digest


@pytest.fixture
def out(tmp_path):
    """A store of 4 chunks of 5 points, two of them done, 10 s apart."""
    grid = sweeps.grid(ridge=[0.1, 1.0, 10.0, 100.0], seed=range(5))
    run(plain, grid, out=tmp_path / "a.zarr", shard="0/2")
    now = time.time()
    for i, ago in ((0, 40.0), (2, 30.0)):
        os.utime(tmp_path / "a.zarr" / "status" / "c" / f"{i}" / "0", (now - ago, now - ago))
    return tmp_path / "a.zarr"


def test_a_report_counts_points_and_measures_their_rate(out):
    report = sweeps.status(out)
    assert (report.total, report.done, report.failed, report.errors) == (20, 10, {}, {})
    assert report.seconds_per_point == pytest.approx(2.0, rel=1e-3)  # 10 s for 5 points
    assert report.seconds_left == pytest.approx(20.0, rel=1e-3)
    assert report.idle == pytest.approx(30.0, abs=5.0)


def test_a_store_is_reported_while_it_is_filled(tmp_path):
    seen = []
    grid = sweeps.grid(ridge=[0.1, 1.0], seed=range(2))
    run(plain, grid, out=tmp_path / "a.zarr", callback=lambda p: seen.append(sweeps.status(tmp_path / "a.zarr").done))
    assert len(seen) == 2
    assert seen[-1] == 4


def test_the_command_prints_it(out, capsys):
    assert cli.main(["sweep", "status", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"{out}: 10 of 20 points done (50.0%), none failed" in shown
    assert "2 s a point (0.5 points/s), 20 s left at that rate" in shown


def test_the_command_says_what_it_cannot_do(tmp_path, capsys):
    assert cli.main(["sweep", "status", str(tmp_path / "nowhere")]) == 1
    assert "path must be a sweep's store" in capsys.readouterr().err
    assert cli.main([]) == 2
    assert "usage: jaxtheory {lecture,sweep,benchmark}" in capsys.readouterr().err
    assert cli.main(["--help"]) == 0
    assert cli.main(["other"]) == 2
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sweep"])
    assert stopped.value.code == 2


def scaled(factor, shift=0.0):
    def act(x):
        return factor * x + shift

    return act


class Recorded:
    """An object of the user's."""

    def __init__(self, value):
        self.value = value


SAME = [
    (lambda: scaled(2.0), lambda: scaled(2.0)),
    (lambda: lambda x: x + 1, lambda: lambda y: y + 1),
    (lambda: functools.partial(scaled, shift=1.0), lambda: functools.partial(scaled, shift=1.0)),
    (lambda: optax.adam(0.1), lambda: optax.adam(0.1)),
    (lambda: np.arange(3), lambda: np.arange(3)),
    (lambda: jnp.arange(3.0), lambda: np.arange(3.0, dtype=np.float32)),
    (lambda: {"a": 1, "b": [2]}, lambda: {"b": [2], "a": 1}),
    (lambda: Recorded([1]), lambda: Recorded([1])),
    (lambda: jax.random.key(1), lambda: jax.random.key(1)),
    (lambda: jax.jit(scaled(2.0)), lambda: jax.jit(scaled(2.0))),
]
OTHER = [
    (lambda: scaled(2.0), lambda: scaled(3.0)),
    (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
    (lambda: functools.partial(scaled, shift=1.0), lambda: functools.partial(scaled, shift=2.0)),
    (lambda: optax.adam(0.1), lambda: optax.adam(0.2)),
    (lambda: optax.adam(0.1), lambda: optax.sgd(0.1)),
    (lambda: np.arange(3), lambda: np.arange(3.0)),
    (lambda: np.zeros((2, 1)), lambda: np.zeros((1, 2))),
    (lambda: 1, lambda: 1.0),
    (lambda: True, lambda: 1),
    (lambda: jnp.tanh, lambda: jnp.sin),
    (lambda: Recorded([1]), lambda: Recorded([2])),
    (lambda: jax.random.key(1), lambda: jax.random.key(2)),
    (lambda: ["ab", "c"], lambda: ["a", "bc"]),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_contents_are_one_value(one, other):
    assert digest(one()) == digest(other())


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_other_contents_are_other_values(one, other):
    assert digest(one()) != digest(other())


def test_what_has_no_content_is_refused_or_counts_as_its_type():
    for value in (object(), (i for i in [1])):
        with pytest.raises(NoContentError, match="has no content that lasts"):
            digest(value)
        digest(value, strict=False)


def test_a_function_that_names_itself_has_a_content():
    def countdown(n):
        return countdown(n - 1) if n else 0

    assert digest(countdown) == digest(countdown)
