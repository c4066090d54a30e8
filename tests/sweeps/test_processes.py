"""Several processes fill one store with the bytes of one process, whoever dies on the way."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps.common import content

HERE = Path(__file__).parent
CHUNKS = 12

ALONE = {"one": [{"processes": 1}]}
# Stores filled by several processes at once.
TOGETHER = {
    "two": [{"processes": 2}],
    "four": [{"processes": 4}],
    "array": [{"processes": 3, "shards": True}],
}
# One process dies at its second commit; then another number of processes goes on.
DEATHS = {
    "a-member": [{"processes": 4, "kill": [2, 2]}, {"processes": 2}],
    "the-coordinator": [{"processes": 2, "kill": [0, 2]}, {"processes": 3}],
    "a-shard": [{"processes": 2, "shards": True, "kill": [1, 2]}, {"processes": 1}],
}


def ran(where, plans):
    """What became of every process of every run."""
    command = [sys.executable, "-W", "ignore", str(HERE / "processes.py"), str(where), json.dumps(plans)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.smoke
def test_two_processes_leave_the_bytes_of_one(tmp_path):
    plans = ALONE | {"two": TOGETHER["two"], "array": [{"processes": 2, "shards": True}]}
    report, errors = ran(tmp_path, plans)
    for name in ("two", "array"):
        assert report[name][-1]["codes"] == [0, 0], errors[-4000:]
        assert content(tmp_path / name) == content(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("name", TOGETHER)
def test_any_number_of_processes_leaves_the_bytes_of_one(name, tmp_path):
    report, errors = ran(tmp_path, ALONE | {name: TOGETHER[name]})
    assert set(report[name][0]["codes"]) == {0}, errors[-4000:]
    assert content(tmp_path / name) == content(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("name", DEATHS)
def test_a_death_costs_its_own_chunks_and_any_number_of_processes_does_them(name, tmp_path):
    report, errors = ran(tmp_path, ALONE | {name: DEATHS[name]})
    first, second = report[name]
    dead = DEATHS[name][0]["kill"][0]
    assert first["codes"][dead] == -signal.SIGKILL
    assert "hung" not in first["codes"]
    assert 1 <= first["committed"] < CHUNKS
    assert set(second["codes"]) == {0}, errors[-4000:]
    assert content(tmp_path / name) == content(tmp_path / "one")
