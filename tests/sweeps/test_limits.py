"""Limits of the machine: a full disk, no more memory, a point that never ends, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps.common import content

from jaxtheory.results import Status

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space and file size")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Where the stores are, and what became of each run."""
    where = tmp_path_factory.mktemp("limits")
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(HERE / "limited.py"), str(where)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return where, {file.stem: json.loads(file.read_text()) for file in where.glob("*.json")}


def test_a_full_disk_is_named_and_loses_nothing(reports):
    """A file size limit, set after two commits, makes the kernel refuse the next write."""
    where, report = reports[0], reports[1]["full"]
    assert str(where / "full.zarr") in report["error"]
    assert "while writing the sweep's store (what is committed is kept" in report["error"]
    assert report["committed"] >= 2
    assert report["recomputed"] == report["chunks"] - report["committed"]
    assert content(where / "full.zarr") == content(where / "roomy.zarr")


def test_memory_that_runs_out_halves_the_block(reports):
    """An address space limit makes XLA's allocations fail for real."""
    report = reports[1]["memory"]
    assert report["warned"][0] == "out of memory with blocks of 32 points: continuing with 16"
    assert report["block"] < 32
    assert report["right"]
    assert report["environments"][0]["block"] == 32
    assert report["environments"][-1]["block"] == report["block"]
    assert "one point a device does not fit in memory" in report["error"]


def test_a_point_that_never_ends_is_marked_and_the_next_run_goes_on_behind_it(reports):
    """In a process that ends although its device is busy for ever; then in another."""
    report, again = reports[1]["endless"], reports[1]["again"]
    assert report["error"].startswith("1 points of chunk (0,) took longer than 1.0 s a block; run again")
    assert report["status"] == [0, 0, Status.TIMED_OUT] + [-1] * 6
    assert report["square"] == [0.0, 1.0, None] + [None] * 6
    assert again["error"] is None
    assert again["status"] == [0, 0, Status.TIMED_OUT, 0, 0, 0, 0, 0, 0]
    assert again["square"] == [0.0, 1.0, None, *(float(x**2) for x in range(3, 9))]
