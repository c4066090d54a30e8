"""Time every method of the empirical tangent kernel, and plain JAX code, on small networks of many architectures.

    python scripts/benchmark_zoo.py --out runs/benchmark_zoo.json

One row a network: the method that `auto` takes, its time over that of the best way, seconds of each (the median of warm
runs taken in turns), bytes of temporaries, and seconds until `auto` and plain code are traced and compiled. "plain" is
vmap(jacrev) and an einsum, "loop" gradients of one output after another, as users write them. `auto` runs the program
of the method that it takes.
"""

import json
import time
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

WAYS = ("plain", "loop", "structured", "jacobian", "directions")
# Ways this many times slower than the best in the first warm run are not run again.
HOPELESS = 5


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
    wall: bool = False
    """Whether wall time counts; processor time depends less on what else the machine does."""
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


def loop(f: Any, output: str, params: Any, x: jax.Array) -> jax.Array:
    """A loop over outputs: gradients of all examples, and their products; the trace (a mean), or the diagonal."""
    if output == "full":
        raise ValueError("a loop over outputs has no products between two of them; leave `loop` out of ways.")
    shape = jax.eval_shape(f, params, x).shape[1:]
    o = int(np.prod(shape))

    def of(k: jax.Array) -> jax.Array:
        one = jax.grad(lambda p, example: f(p, example[None])[0].ravel()[k])
        rows = [g.reshape(len(x), -1) for g in jax.tree.leaves(jax.vmap(one, (None, 0))(params, x))]
        return jnp.asarray(sum(jnp.matmul(r, r.T, precision="highest") for r in rows))

    if output == "diagonal":
        return jnp.moveaxis(jax.lax.map(of, jnp.arange(o)), 0, -1)
    total = jax.lax.scan(lambda t, k: (t + of(k), None), jnp.zeros((len(x), len(x))), jnp.arange(o))[0]
    return (total / o)[..., None]


def ways(f: Any, output: str) -> dict[str, Callable[..., jax.Array]]:
    """Each way to compute the kernel, as a function of params and x."""

    def by(method: str) -> Callable[..., jax.Array]:
        return lambda p, x: empirical.ntk(f, p, x, output=output, method=method).reshape(len(x), len(x), -1)

    named = {method: by(method) for method in ("structured", "jacobian", "directions", "products", "auto")}
    return {"plain": partial(plain, f, output), "loop": partial(loop, f, output), **named}


def measure(name: str, config: Config) -> dict[str, Any]:
    """One architecture: seconds and temporaries of each way, the ratio of auto to the best, the largest difference."""
    f, params, x = ARCHITECTURES[name](Draws())
    params, x = jax.tree.map(jnp.asarray, (params, x))
    every = ways(f, config.output)
    compilation = {way: built(every[way], params, x)[1] for way in ("auto", "plain")}
    chosen = empirical.explain(f, params, x, output=config.output)
    compiled = {way: built(every[way], params, x)[0] for way in dict.fromkeys((*config.ways, chosen.chosen))}
    medians = median_seconds(compiled, (params, x), config)
    kernels = [np.asarray(run(params, x), np.float64) for run in compiled.values()]
    spread = max(float(np.abs(k - kernels[-1]).max() / np.abs(kernels[-1]).max()) for k in kernels)
    memory = {way: getattr(run.memory_analysis(), "temp_size_in_bytes", 0) for way, run in compiled.items()}
    best = min(medians.values())
    return {"name": name, "chosen": chosen.chosen, "directions": chosen.directions, "fallbacks": len(chosen.fallbacks),
            "ratio": medians[chosen.chosen] / best, "seconds": medians, "temporaries": memory,
            "compilation": compilation, "difference": spread}  # fmt: skip


def built(run: Callable[..., jax.Array], params: Any, x: jax.Array) -> tuple[Any, float]:
    """The compiled program, and processor seconds to trace and compile it."""
    jax.clear_caches()
    start = time.process_time()
    compiled = jax.jit(run).lower(params, x).compile()
    return compiled, time.process_time() - start


def median_seconds(compiled: dict[str, Any], inputs: tuple[Any, ...], config: Config) -> dict[str, float]:
    """Median seconds of each way; of those that a first warm run finds far behind, the seconds of that run."""

    def seconds(names: list[str], repeats: int) -> np.ndarray:
        runs = [partial(compiled[name], *inputs) for name in names]
        return in_turns(runs, repeats, processor=True)[:, 1:, 0 if config.wall else 1]

    first = dict(zip(compiled, seconds(list(compiled), 1)[:, 0].tolist(), strict=True))
    near = [name for name in compiled if first[name] <= HOPELESS * min(first.values())]
    return first | dict(zip(near, np.median(seconds(near, config.repeats), axis=1).tolist(), strict=True))


def main(config: Config) -> None:
    """Measure all, print a table, save it."""
    rows = []
    print(
        f"{'network':<28}{'chosen':<12}{'auto/best':>9}  "
        + "".join(f"{w:>22}" for w in config.ways)
        + "  compile auto, plain  difference"
    )
    for name in config.names or tuple(ARCHITECTURES):
        row = measure(name, config)
        cells = [f"{row['seconds'][w] * 1e3:>10.1f} ms{row['temporaries'][w] / 1e6:>6.1f} MB" for w in config.ways]
        head = f"{name:<28}{row['chosen']:<12}{row['ratio']:>9.2f}  "
        told = f"{row['compilation']['auto']:>13.2f}{row['compilation']['plain']:>7.2f} s"
        print(head + "".join(f"{cell:>22}" for cell in cells) + told + f"  {row['difference']:.0e}", flush=True)
        rows.append(row)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    saved = {"jax": jax.__version__, "device": str(jax.devices()[0]), "output": config.output, "rows": rows}
    config.out.write_text(json.dumps(saved, indent=1))
    print(f"saved {config.out}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
