"""Kill a sweep with SIGKILL at random moments, again and again, and count what was lost or wrong: nothing should be.

    python scripts/kill_sweeps.py --kills 200

A killed run is started again on the same store until it ends; every commit that is seen on the way, and every finished
store, is held against a run that was left alone.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
import xarray as xr

from jaxtheory import sweeps


def point(ridge: jax.Array, seed: jax.Array, key: jax.Array) -> dict[str, object]:
    path = jnp.tanh(ridge * jax.random.normal(key, (1000,)))
    return {"bits": jax.random.bits(key), "path": sweeps.named(path, "time")}


def sweep(out: Path, ridges: int = 30, seeds: int = 30, shard: str | None = None) -> None:
    """30 chunks of 30 points, each computed in blocks of 5."""
    grid = sweeps.grid(ridge=[float(i) for i in range(ridges)], seed=range(seeds))
    sweeps.run(point, grid, out=out, block=5, key=7, progress=False, shard=shard)


def started(work: Callable[[], None]) -> int:
    """A process of its own; forked before any device is touched, so that it costs the run and not the imports."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # whatever it is, it must not go on as the parent
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def ended_within(child: int, seconds: float) -> bool:
    """Whether the process ended by itself in this time; else it is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if status:
                raise RuntimeError(f"a run that was not killed ended with status {status}")
            return True
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def committed(out: Path, whole: xr.Dataset) -> int:
    """Points committed so far, every one of them as in the whole.

    Raises:
        RuntimeError: one of them is not.
    """
    if not out.exists():
        return 0
    found = xr.open_zarr(out, chunks=None, consolidated=False).load()
    done = found.status.values >= 0
    for name in whole:
        if not np.array_equal(found[name].values[done], whole[name].values[done]):
            raise RuntimeError(f"{out} holds committed points that are wrong in {name}")
    return int(done.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs to survive")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    root, draw = Path(tempfile.mkdtemp(prefix="kill-sweeps-")), random.Random(options.seed)
    for name in ("whole.zarr", "timed.zarr"):  # the second finds what the first compiled, as the killed ones will
        start = time.monotonic()
        ended_within(started(partial(sweep, root / name)), 600)
    longest, whole = time.monotonic() - start, xr.open_zarr(root / "whole.zarr", chunks=None).load()
    kills, stores, before, began = 0, 0, 0, time.monotonic()
    tqdm.tqdm.set_lock(threading.RLock())  # its own is one for all forked processes, and a killed one may hold it
    with tqdm.tqdm(total=options.kills, desc="kills") as bar:
        while kills < options.kills:
            out = root / f"{stores}.zarr"
            finished = ended_within(started(partial(sweep, out)), draw.uniform(0, longest))
            now = committed(out, whole)
            if now < before:
                raise RuntimeError(f"{before} points of {out} were committed, now {now}")
            stores, before, kills = stores + finished, 0 if finished else now, kills + (not finished)
            bar.update(not finished)
    seconds = time.monotonic() - began
    print(f"{kills} kills in {seconds:.0f} s, {stores} stores finished, no committed point lost or wrong")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
