"""Time the empirical tangent kernel against neural-tangents 0.6.5 in one run, after compilation.

    pip install --no-deps neural-tangents==0.6.5 frozendict
    python scripts/benchmark_ntk.py --out runs/benchmark_ntk.json

Its implementations 1 (Jacobian contraction) and 2 (NTK-vector products) run through `jaxtheory.interop`; its structured
derivatives do not run on current JAX. `--sizes` computes large kernels instead, each in a process of its own, and tells
seconds and peak memory.
"""

import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro

from jaxtheory import empirical
from jaxtheory.interop import neural_tangents

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Config:
    """What to time."""

    cases: tuple[str, ...] = ("mlp n=256 o=1", "mlp n=128 o=10", "cnn n=64 o=1", "cnn n=64 o=10")
    """Which of the cases, by name."""
    implementations: tuple[int, ...] = (2, 1)
    """neural-tangents' implementations to time against; empty to time ours alone."""
    repeats: int = 3
    """Runs after compilation; the fastest counts."""
    sizes: tuple[str, ...] = ()
    """Which of the large kernels to compute instead, by name: "mlp", "cnn", "resnet"."""
    out: Path = field(default_factory=lambda: Path("runs/benchmark_ntk.json"))
    """Where the table is saved."""


class Timing(NamedTuple):
    """Seconds to compile, seconds of the fastest run, bytes of temporaries."""

    compile_seconds: float
    run_seconds: float
    temporary_bytes: int


class Case(NamedTuple):
    """A network, its parameters and its inputs."""

    f: Function
    params: Any
    x: jax.Array


def mlp(n: int, outputs: int) -> Case:
    """Three hidden ReLU layers of width 512 on 784 inputs."""
    sizes = (784, 512, 512, 512, outputs)
    keys = jax.random.split(jax.random.key(0), len(sizes))
    layers = list(zip(keys, sizes, sizes[1:], strict=False))
    params = [(jax.random.normal(k, (a, b)) / a**0.5, jnp.zeros(b)) for k, a, b in layers]

    def f(params: Any, x: jax.Array) -> jax.Array:
        for weight, bias in params[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        return x @ params[-1][0] + params[-1][1]

    return Case(f, params, jax.random.normal(keys[-1], (n, sizes[0])))


def cnn(n: int, outputs: int) -> Case:
    """Three 3x3 ReLU convolutions of 64 channels on 16x16x3 images, global average pooling."""
    sizes = (3, 64, 64, 64)
    keys = jax.random.split(jax.random.key(0), 5)
    layers = list(zip(keys, sizes, sizes[1:], strict=False))
    params = [(jax.random.normal(k, (3, 3, a, b)) / (9 * a) ** 0.5, jnp.zeros(b)) for k, a, b in layers]
    params.append((jax.random.normal(keys[3], (64, outputs)) / 8, jnp.zeros(outputs)))

    def f(params: Any, x: jax.Array) -> jax.Array:
        for kernel, bias in params[:-1]:
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + bias)
        return x.mean((1, 2)) @ params[-1][0] + params[-1][1]

    return Case(f, params, jax.random.normal(keys[4], (n, 16, 16, 3)))


def resnet(n: int, outputs: int) -> Case:
    """A stem and three residual blocks of two 3x3 convolutions of 32 channels on 16x16x3 images, pooling, a head."""
    keys = jax.random.split(jax.random.key(0), 9)
    sizes = (3, *[32] * 7)
    kernels = [
        jax.random.normal(k, (3, 3, a, b)) / (9 * a) ** 0.5 for k, a, b in zip(keys, sizes, sizes[1:], strict=False)
    ]
    params = {"kernels": kernels, "head": jax.random.normal(keys[7], (32, outputs)) / 32**0.5}

    def conv(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def f(params: Any, x: jax.Array) -> jax.Array:
        x = conv(params["kernels"][0], x)
        for first, second in zip(params["kernels"][1::2], params["kernels"][2::2], strict=True):
            x = x + conv(second, jax.nn.relu(conv(first, jax.nn.relu(x))))
        return x.mean((1, 2)) @ params["head"]

    return Case(f, params, jax.random.normal(keys[8], (n, 16, 16, 3)))


CASES: dict[str, Callable[[], Case]] = {
    "mlp n=256 o=1": lambda: mlp(256, 1),
    "mlp n=128 o=10": lambda: mlp(128, 10),
    "cnn n=64 o=1": lambda: cnn(64, 1),
    "cnn n=64 o=10": lambda: cnn(64, 10),
}


SIZES: dict[str, Callable[[], Case]] = {
    "mlp": lambda: mlp(4000, 10),
    "cnn": lambda: cnn(1000, 1),
    "resnet": lambda: resnet(1000, 1),
}


def measure(kernel: Function, case: Case, repeats: int) -> tuple[Timing, jax.Array]:
    """Compile once, run `repeats` times."""
    start = time.perf_counter()
    compiled = jax.jit(kernel).lower(case.params, case.x).compile()
    built = time.perf_counter() - start
    seconds, memory = [], compiled.memory_analysis()
    assert memory is not None
    for _ in range(repeats):
        start = time.perf_counter()
        result = jax.block_until_ready(compiled(case.params, case.x))
        seconds.append(time.perf_counter() - start)
    return Timing(built, min(seconds), memory.temp_size_in_bytes), result


def peer(implementation: int) -> Callable[[Case], Function]:
    """neural-tangents' kernel by one of its implementations."""
    nt = neural_tangents.load()
    how = nt.NtkImplementation(implementation)

    def build(case: Case) -> Function:
        kernel = nt.empirical_ntk_fn(lambda p, x: case.f(p, x), trace_axes=(), vmap_axes=0, implementation=how)
        return lambda params, x: kernel(x, None, params)

    return build


def large(name: str) -> dict[str, Any]:
    """One trace kernel at size: seconds, compilation included, peak memory of the process, and a check of one row."""
    case = SIZES[name]()
    start = time.perf_counter()
    kernel = jax.block_until_ready(empirical.ntk(case.f, case.params, case.x, output="trace"))
    seconds = time.perf_counter() - start
    row = empirical.ntk(case.f, case.params, case.x[:1], case.x[:50], output="trace", method="jacobian")
    difference = float(jnp.linalg.norm(kernel[:1, :50] - row) / jnp.linalg.norm(row))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"case": name, "n": len(kernel), "seconds": seconds, "peak_gib": peak, "difference": difference}


def main(config: Config) -> None:
    """Run the cases, print the table, save it."""
    if config.sizes:
        for name in config.sizes:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(large, (name,)), flush=True)
        return
    rows = []
    for name in config.cases:
        case = CASES[name]()
        ours, kernel = measure(partial(empirical.ntk, case.f), case, config.repeats)
        rows.append({"case": name, "what": "jaxtheory", **ours._asdict(), "ratio": 1.0, "difference": 0.0})
        print_row(rows[-1])
        for implementation in config.implementations:
            theirs, other = measure(peer(implementation)(case), case, 1 if implementation == 2 else config.repeats)
            difference = float(jnp.linalg.norm((other - kernel).ravel()) / jnp.linalg.norm(kernel.ravel()))
            ratio = theirs.run_seconds / ours.run_seconds
            what = f"neural-tangents {implementation}"
            rows.append({"case": name, "what": what, **theirs._asdict(), "ratio": ratio, "difference": difference})
            print_row(rows[-1])
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps({"jax": jax.__version__, "device": str(jax.devices()[0]), "rows": rows}, indent=1))
    print(f"saved {config.out}")


def print_row(row: dict[str, Any]) -> None:
    """One line a measurement; `ratio` is how many times longer than ours it ran."""
    print(
        f"{row['case']:<16}{row['what']:<20}compile {row['compile_seconds']:6.2f} s  run {row['run_seconds']:8.4f} s  "
        f"{row['temporary_bytes'] / 1e6:8.1f} MB  ratio {row['ratio']:7.1f}  difference {row['difference']:.1e}",
        flush=True,
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
