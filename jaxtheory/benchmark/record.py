"""What was measured, kept as JSON after every row: an interrupted run continues, and tables are made of it."""

import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import jax

import jaxtheory
from jaxtheory.benchmark.ceilings import Ceilings
from jaxtheory.benchmark.rows import Sizes
from jaxtheory.checks import require


class Timing(NamedTuple):
    """One row: seconds, work, peers' seconds by name, or why there are none."""

    cold: float
    """with compilation"""
    warm: float
    """median of warm runs"""
    flops: float
    bytes: float
    peers: dict[str, float]
    error: str = ""


class Record(NamedTuple):
    """The device, the versions and the sizes, and what was measured of them."""

    about: dict[str, str]
    ceilings: Ceilings | None
    rows: dict[str, Timing]


def about(preset: str, sizes: Sizes) -> dict[str, str]:
    """What a record is of; records are continued where all of it agrees."""
    device = jax.devices()[0]
    named = f"{len(jax.devices())} x {device.device_kind} ({device.platform})"
    told = {"device": named, "jax": jax.__version__, "jaxtheory": jaxtheory.__version__, "preset": preset}
    return told | {"sizes": json.dumps(asdict(sizes))}


def load(path: Path, what: dict[str, str]) -> Record:
    """The record at a path, empty where there is none.

    Raises:
        ValueError: it is of another device, version or size.
    """
    if not path.exists():
        return Record(what, None, {})
    held = json.loads(path.read_text(encoding="utf-8"))
    differ = {key: (held["about"].get(key), value) for key, value in what.items() if held["about"].get(key) != value}
    hint = "choose another --out, or remove the file to start afresh"
    require(not differ, "out", path, f"hold a benchmark of this device and these versions (differ: {differ})", hint)
    measured = None if held["ceilings"] is None else Ceilings(**held["ceilings"])
    return Record(what, measured, {name: Timing(**row) for name, row in held["rows"].items()})


def save(path: Path, record: Record) -> None:
    """Write a record in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = None if record.ceilings is None else record.ceilings._asdict()
    rows = {name: row._asdict() for name, row in record.rows.items()}
    text = json.dumps({"about": record.about, "ceilings": measured, "rows": rows}, indent=1)
    draft = path.with_suffix(f".{uuid.uuid4().hex}.partial")
    draft.write_text(text + "\n", encoding="utf-8")
    os.replace(draft, path)


def table(record: Record) -> str:
    """The record as a Markdown table.

    >>> row = Timing(1.0, 0.5, 1e9, 1e6, {"numpy": 2.0})
    >>> made = table(Record({"device": "1 x cpu"}, Ceilings(4e9, 4e9, 2e9, 1e9), {"gram": row}))
    >>> print(made.splitlines()[-1])
    | gram | 1.00 | 0.5000 | 2.0 | 0.00 | 50.0 % | numpy: 4.0 times longer |
    """
    lines = [", ".join(f"{value}" if key == "device" else f"{key} {value}" for key, value in record.about.items()), ""]
    if record.ceilings is not None:
        best = record.ceilings
        rates = [f"{rate / 1e9:,.0f}" for rate in best[:3]]
        lines += [
            f"Ceilings of products: float32 {rates[0]} Gflop/s at the highest precision, {rates[1]} at the default; "
            f"float64 {rates[2]}; bandwidth {best.bandwidth / 1e9:,.1f} GB/s.",
            "",
        ]
    lines += ["| float32 | cold s | warm s | Gflop/s | GB/s | of the ceilings | against |", "| --- " * 7 + "|"]
    return "\n".join([*lines, *(_line(name, row, record.ceilings) for name, row in record.rows.items())])


def _line(name: str, row: Timing, best: Ceilings | None) -> str:
    if row.error:
        return f"| {name} | | | | | | {row.error} |"
    share = max(row.flops / best.highest, row.bytes / best.bandwidth) / row.warm if best else float("nan")
    peers = "; ".join(f"{peer}: {seconds / row.warm:.1f} times longer" for peer, seconds in row.peers.items())
    rates = f"{row.flops / row.warm / 1e9:,.1f} | {row.bytes / row.warm / 1e9:,.2f}"
    return f"| {name} | {row.cold:.2f} | {row.warm:.4f} | {rates} | {share:.1%} | {peers} |".replace("%", " %")
