"""Time every method of the empirical tangent kernel, and plain JAX code, on small networks of many architectures.

    python scripts/benchmark_zoo.py --out runs/benchmark_zoo.json

One row a network: the method that `auto` takes, its time over that of the best way, seconds of each (the median of warm
runs taken in turns), and bytes of temporaries. "plain" is vmap(jacrev) and an einsum, as a user writes it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from zoo import ARCHITECTURES, Draws

from jaxtheory import empirical
from jaxtheory.benchmark.timing import in_turns

WAYS = ("plain", "auto", "structured", "jacobian", "directions")


@dataclass(frozen=True)
class Config:
    """What to time."""

    names: tuple[str, ...] = ()
    """Which architectures, by name; empty for all."""
    ways: tuple[str, ...] = WAYS
    """Which ways to compute the kernel."""
    output: str = "trace"
    """Which entries of the kernel."""
    repeats: int = 7
    """Warm runs of each."""
    out: Path = field(default_factory=lambda: Path("runs/benchmark_zoo.json"))
    """Where the table is saved."""


def plain(f: Any, output: str, params: Any, x: jax.Array) -> jax.Array:
    """vmap(jacrev) and an einsum: the trace (a mean), the diagonal, or the full kernel."""
    jacobians = jax.tree.leaves(jax.vmap(lambda one: jax.jacrev(lambda p: f(p, one[None])[0])(params))(x))
    shape = jax.eval_shape(f, params, x).shape[1:]
    flat = [j.reshape(len(x), int(np.prod(shape)), -1) for j in jacobians]
    letters = {"trace": "ikp,jkp->ij", "diagonal": "ikp,jkp->ijk", "full": "ikp,jlp->ijkl"}[output]
    total = sum(jnp.einsum(letters, j, j, precision="highest") for j in flat)
    return jnp.asarray(total / (np.prod(shape) if output == "trace" else 1)).reshape(len(x), len(x), -1)


def ways(f: Any, output: str) -> dict[str, Callable[..., jax.Array]]:
    """Each way to compute the kernel, as a function of params and x."""

    def by(method: str) -> Callable[..., jax.Array]:
        return lambda p, x: empirical.ntk(f, p, x, output=output, method=method).reshape(len(x), len(x), -1)

    named = {method: by(method) for method in ("auto", "structured", "jacobian", "directions", "products")}
    return {"plain": partial(plain, f, output), **named}


def measure(name: str, config: Config) -> dict[str, Any]:
    """One architecture: seconds and temporaries of each way, the ratio of auto to the best, the largest difference."""
    f, params, x = ARCHITECTURES[name](Draws())
    params, x = jax.tree.map(jnp.asarray, (params, x))
    chosen = empirical.explain(f, params, x, output=config.output)
    every = ways(f, config.output)
    compiled = {way: jax.jit(every[way]).lower(params, x).compile() for way in config.ways}
    seconds = in_turns([partial(run, params, x) for run in compiled.values()], config.repeats)[:, 1:]
    medians = dict(zip(compiled, np.median(seconds, axis=1).tolist(), strict=True))
    kernels = [np.asarray(run(params, x), np.float64) for run in compiled.values()]
    spread = max(float(np.abs(k - kernels[-1]).max() / np.abs(kernels[-1]).max()) for k in kernels)
    memory = {way: getattr(run.memory_analysis(), "temp_size_in_bytes", 0) for way, run in compiled.items()}
    best = min(time for way, time in medians.items() if way != "auto")
    return {"name": name, "chosen": chosen.chosen, "directions": chosen.directions, "fallbacks": len(chosen.fallbacks),
            "ratio": medians["auto"] / best if "auto" in medians else None, "seconds": medians, "temporaries": memory,
            "difference": spread}  # fmt: skip


def main(config: Config) -> None:
    """Measure all, print a table, save it."""
    rows = []
    print(
        f"{'network':<28}{'chosen':<12}{'auto/best':>9}  " + "".join(f"{w:>22}" for w in config.ways) + "  difference"
    )
    for name in config.names or tuple(ARCHITECTURES):
        row = measure(name, config)
        cells = [f"{row['seconds'][w] * 1e3:>10.1f} ms{row['temporaries'][w] / 1e6:>6.1f} MB" for w in config.ways]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        head = f"{name:<28}{row['chosen']:<12}{ratio:>9}  "
        print(head + "".join(f"{cell:>22}" for cell in cells) + f"  {row['difference']:.0e}", flush=True)
        rows.append(row)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"jax": jax.__version__, "device": str(jax.devices()[0]), "output": config.output, "rows": rows}
    config.out.write_text(json.dumps(told, indent=1))
    print(f"saved {config.out}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
