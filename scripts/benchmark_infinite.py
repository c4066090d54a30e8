"""Times infinite-width kernels against neural-tangents 0.6.5, in one run, compiled and then warm, in turns.

python scripts/benchmark_infinite.py [--n 2000] [--images 128]
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory import data, infinite
from jaxtheory.benchmark.timing import in_turns
from jaxtheory.interop import neural_tangents


def compare(name: str, ours: Callable[[Any], Any], theirs: Callable[[Any], Any], x: Any, repeats: int = 3) -> None:
    """Cold and the best warm time of each, taken in turns, and how far their kernels differ."""
    seconds = in_turns([partial(ours, x), partial(theirs, x)], repeats)
    cold, best = seconds[:, 0].tolist(), seconds[:, 1:].min(axis=1).tolist()
    a, b = np.asarray(ours(x)), np.asarray(theirs(x))
    difference = float(np.abs(a - b).max() / np.abs(b).max())
    row = {"ours": best[0], "theirs": best[1], "ratio": best[1] / best[0], "off": difference}
    told = {k: float(f"{v:.4g}") for k, v in row.items()}
    print(json.dumps({"case": name, **told, "cold": [round(c, 2) for c in cold]}), flush=True)


def alone(name: str, kernel: Callable[[Any], Any], x: Any) -> None:
    """Seconds of a warm run, and the bytes of the matrix and of what it takes to compute it."""
    compiled = jax.jit(kernel).lower(x).compile()
    seconds = in_turns([partial(compiled, x)], 3)[:, 1:].min()
    memory: Any = compiled.memory_analysis()
    size = memory.output_size_in_bytes + memory.temp_size_in_bytes
    print(json.dumps({"case": name, "seconds": float(f"{seconds:.4g}"), "MB": round(size / 1e6)}), flush=True)


def serial(depth: int, layer: Any, head: Any, relu: Any) -> Any:
    """`depth` layers with ReLU, then a head, of neural-tangents."""
    stax = neural_tangents.load().stax
    return stax.serial(*[part for _ in range(depth) for part in (layer, relu)], *head)[2]


def main() -> None:
    """Dense, flattened and pooled networks, digits, and compile times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--pooled", type=int, default=32)
    options = parser.parse_args()
    stax, root2 = neural_tangents.load().stax, 2**0.5
    rng = np.random.default_rng(0)
    dense, relu = stax.Dense(1, root2, 0.1), stax.Relu()
    conv = stax.Conv(1, (3, 3), padding="SAME", W_std=root2, b_std=0.1)

    def peer(kernel_fn: Any) -> Callable[[Any], Any]:
        return jax.jit(lambda x: kernel_fn(x, None, "ntk"))

    x = jnp.asarray(rng.standard_normal((options.n, 64)), jnp.float32)
    mlp = infinite.mlp(30, "relu", root2, 0.1)
    compare(f"mlp depth 30, n={options.n}", mlp.ntk, peer(serial(30, dense, (dense,), relu)), x)
    heads: list[tuple[Any, Any, int]] = [
        ("flatten", stax.Flatten(), options.images),
        ("gap", stax.GlobalAvgPool(), options.pooled),
    ]
    for head, extra, n in heads:
        images = jnp.asarray(rng.standard_normal((n, 8, 8, 3)), jnp.float32)
        ours = infinite.cnn(4, "relu", root2, 0.1, head=head)
        compare(f"cnn depth 4, {head}, n={n}", ours.ntk, peer(serial(4, conv, (extra, dense), relu)), images)
    alone("5,000 digits, depth 3", infinite.mlp(3, "relu", root2, 0.1).ntk, jnp.asarray(data.mnist5k(5000).x))
    for depth in (4, 64):
        deep = infinite.mlp(depth, "relu", root2, 0.1)
        start = time.perf_counter()
        jax.jit(deep.ntk).lower(x[:16]).compile()
        print(
            json.dumps({"case": f"compile, depth {depth}", "seconds": round(time.perf_counter() - start, 3)}),
            flush=True,
        )


if __name__ == "__main__":
    main()
