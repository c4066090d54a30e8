"""Killed anywhere, or told to end, and run again, a sweep leaves the same bytes as one that was left alone."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps.common import content

HERE = Path(__file__).parent
CHUNKS, FILES = 12, 5
DRAW = random.Random(2024)


def planned(each):
    """Kills after the first commit: inside a chunk write, between data and status, at any moment."""
    return {
        **{f"temporary{i}": [("temporary", DRAW.randint(1, (CHUNKS - 1) * FILES))] for i in each},
        **{f"torn{i}": [("torn", DRAW.randint(1, (CHUNKS - 1) * FILES))] for i in each},
        **{f"between{i}": [("between", DRAW.randint(1, CHUNKS - 1))] for i in each},
        **{f"moment{i}": [("moment", DRAW.uniform(0.0, 0.2))] for i in each},
    }


PLANS = planned(range(1))
MANY = planned(range(1, 5))
# Before anything is committed, and one store killed again and again.
MORE = {
    **{f"creation{i}": [("creation", i)] for i in (1, 4, 9)},
    "terminated": [("terminated", 3)],
    "often": [("creation", 8), ("torn", 4), ("between", 2), ("temporary", 5), ("between", 1)],
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MANY | MORE]


def killed(where, plans):
    """Where the stores are, and what each kill left."""
    if not hasattr(os, "fork"):
        pytest.skip("forks")
    command = [sys.executable, "-W", "ignore", str(HERE / "killed.py"), str(where), json.dumps(plans)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert sorted(path.name for path in where.iterdir()) == sorted(["uninterrupted", *plans]), "something is left"
    return where, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return killed(tmp_path_factory.mktemp("killed"), PLANS)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return killed(tmp_path_factory.mktemp("killed"), MANY | MORE)


@pytest.fixture
def runs(name, request):
    return request.getfixturevalue("few" if name in PLANS else "many")


@pytest.mark.parametrize("name", [*PLANS, *SLOW])
def test_killed_and_resumed_equals_uninterrupted(runs, name):
    where, report = runs
    assert report["resumed"] == 0
    meant = signal.SIGTERM if name == "terminated" else signal.SIGKILL
    assert [left["signal"] for left in report[name]] == [meant] * len(report[name])
    assert content(where / name) == content(where / "uninterrupted")


@pytest.mark.parametrize("name", [*PLANS, *SLOW[: len(MANY)]])
def test_the_kill_struck_where_it_was_meant_to(runs, name):
    left = runs[1][name][0]
    assert left["committed"] >= 1
    if left["mode"] != "moment":
        assert left["committed"] < CHUNKS
    if left["mode"] == "temporary":
        assert (left["temporary"], left["torn"]) == (1, 0)
    if left["mode"] == "torn":
        assert (left["temporary"], left["torn"]) == (0, 1)
    if left["mode"] == "between":
        assert left["written"] == left["committed"] + 1
