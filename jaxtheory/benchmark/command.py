"""`jaxtheory benchmark`: ceilings, a row for each computation, peers beside them; continued where it was stopped."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tqdm
import tyro

from jaxtheory.benchmark.ceilings import ceilings
from jaxtheory.benchmark.record import Record, Timing, about, load, save, table
from jaxtheory.benchmark.rows import ROWS, SIZES
from jaxtheory.benchmark.timing import in_turns
from jaxtheory.benchmark.work import Peer, Work


@dataclass(frozen=True)
class Benchmark:
    """Time the main computations on this device, beside its ceilings and beside peers; saved after every row."""

    rows: tyro.conf.Positional[tuple[str, ...]] = ()
    """which rows, by name; all by default"""
    preset: Literal["quick", "large"] = "quick"
    """sizes: minutes on two cores, or for an accelerator"""
    out: Path = Path("runs/benchmark")
    """folder: PRESET.json, from which the same command continues, and PRESET.md, the table"""
    repeats: int = 3
    """warm runs, of which the median counts"""
    peers: bool = True
    """run installed peers beside ours"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if every row was measured, 1 if one failed, 2 for wrong arguments, 130 if it was stopped."""
    options = tyro.cli(Benchmark, args=arguments, prog="jaxtheory benchmark")
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown or options.repeats < 1:
        told = f"no row is called {', '.join(unknown)}; the rows are {', '.join(ROWS)}"
        print(told if unknown else "--repeats must be at least 1", file=sys.stderr)
        return 2
    try:
        record = measure(options)
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table(record))
    return 1 if any(row.error for row in record.rows.values()) else 0


def measure(options: Benchmark) -> Record:
    """The record of all rows that are asked for, those of an earlier run included.

    Raises:
        ValueError: `out` holds a record of another device, version or size.
    """
    sizes, path = SIZES[options.preset], options.out / f"{options.preset}.json"
    record = load(path, about(options.preset, sizes))
    if record.ceilings is None:
        record = record._replace(ceilings=ceilings(sizes.matrix, sizes.vector, options.repeats))
        save(path, record)
    left = [name for name in options.rows or ROWS if name not in record.rows or record.rows[name].error]
    for name in tqdm.tqdm(left, desc="rows"):
        try:
            row = timed(ROWS[name](sizes), options.repeats, options.peers)
        except (jax.errors.JaxRuntimeError, MemoryError, ImportError) as error:  # reported in the table
            row = Timing(0.0, 0.0, 0.0, 0.0, {}, f"{type(error).__name__}: {str(error).splitlines()[0][:100]}")
        record.rows[name] = row
        save(path, record)
        path.with_suffix(".md").write_text(table(record) + "\n", encoding="utf-8")
        jax.clear_caches()
    return record


def timed(work: Work, repeats: int, peers: bool = True) -> Timing:
    """Ours and each peer in turns, so that a busy machine slows all alike."""
    others = {name: peer for name, peer in work.peers.items() if _runs(name, peer)} if peers else {}
    seconds = in_turns([work.run, *(peer.run for peer in others.values())], repeats)
    warm = np.median(seconds[:, 1:], axis=1)
    theirs = {name: float(spent * peer.times) for (name, peer), spent in zip(others.items(), warm[1:], strict=True)}
    return Timing(float(seconds[0, 0]), float(warm[0]), work.flops, work.bytes, theirs)


def _runs(name: str, peer: Peer) -> bool:
    """Whether a peer runs here; where it does not, the row is measured without it, and the reason is printed."""
    try:
        jax.block_until_ready(peer.run())
    except Exception as error:  # whatever another library raises
        tqdm.tqdm.write(f"{name} is left out: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr)
        return False
    return True
