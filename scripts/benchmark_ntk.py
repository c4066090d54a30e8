"""Time the empirical tangent kernel against neural-tangents 0.6.5 in one run, after compilation.

    pip install --no-deps neural-tangents==0.6.5 frozendict
    python scripts/benchmark_ntk.py --out runs/benchmark_ntk.json

neural-tangents does not import on current JAX; the names it misses are put back only while it is imported, enough for
its implementations 1 (Jacobian contraction) and 2 (NTK-vector products). Its structured derivatives do not run.
"""

import contextlib
import importlib
import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.extend.core as jec
import jax.interpreters.ad
import jax.numpy as jnp
import tyro

from jaxtheory import empirical

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


CASES: dict[str, Callable[[], Case]] = {
    "mlp n=256 o=1": lambda: mlp(256, 1),
    "mlp n=128 o=10": lambda: mlp(128, 10),
    "cnn n=64 o=1": lambda: cnn(64, 1),
    "cnn n=64 o=10": lambda: cnn(64, 10),
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


@contextlib.contextmanager
def restored_names() -> Iterator[None]:
    """The names of JAX that neural-tangents 0.6.5 imports and current JAX has dropped; gone again afterwards."""
    public = {name: getattr(jec, name) for name in ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var", "ClosedJaxpr")}
    shapes = dict.fromkeys(("DShapedArray", "AbstractValue"), jax.core.ShapedArray)
    names = {(jax.core, name): value for name, value in {**public, **shapes, "Value": Any}.items()}
    names |= {(jax.interpreters.ad, "zeros_like_p"): None, (jax.lax, "device_put_p"): None}
    names[jax.core, "eval_context"] = contextlib.nullcontext
    added = [key for key in names if not hasattr(*key)]
    for module, name in added:
        setattr(module, name, names[module, name])
    absent = {
        # the TensorFlow front end is not wanted here
        "neural_tangents.experimental": types.ModuleType("neural_tangents.experimental"),
        "jax.util": types.ModuleType("jax.util"),
    }
    vars(absent["jax.util"]).update(
        safe_map=lambda f, *xs: list(map(f, *xs)), safe_zip=lambda *xs: list(zip(*xs, strict=True))
    )
    sys.modules.update(absent)
    try:
        yield
    finally:
        for module, name in added:
            delattr(module, name)
        for name in absent:
            del sys.modules[name]


def neural_tangents() -> Any:
    """neural_tangents, imported on a JAX it does not know."""
    with restored_names():
        return importlib.import_module("neural_tangents")


def peer(implementation: int) -> Callable[[Case], Function]:
    """neural-tangents' kernel by one of its implementations."""
    nt = neural_tangents()
    how = nt.NtkImplementation(implementation)

    def build(case: Case) -> Function:
        kernel = nt.empirical_ntk_fn(lambda p, x: case.f(p, x), trace_axes=(), vmap_axes=0, implementation=how)
        return lambda params, x: kernel(x, None, params)

    return build


def main(config: Config) -> None:
    """Run the cases, print the table, save it."""
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
