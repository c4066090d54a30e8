"""Particle-steps per second of mean-field flows, beside the machine's own ceilings and a plain gradient, in one run.

    python scripts/benchmark_meanfield.py                       # N = 20,000 particles, 1,000 points, d = 100
    python scripts/benchmark_meanfield.py --particles 1000000   # the size that no N x n array fits

The bound of a step is three products of N n d multiply-adds (outputs, outputs again, gradient), two tanh for each
particle and point, and for Langevin d normal draws a particle, at this machine's measured rates: of
a product of square matrices, and of tanh of 256 particles at a time, which stay in the cache. The plain gradient is
`jax.grad` of the loss as it is written on a blackboard: one product and one tanh fewer, and N n activations to hold.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxtheory import meanfield
from jaxtheory.benchmark.timing import in_turns

_SIDE = 2048  # of the matrices whose product is a machine's best


def plain_step(theta: Array, x: Array, y: Array, step: float) -> Array:
    """One gradient step of the unblocked loss."""

    def loss(t: Array) -> Array:
        return ((jnp.tanh(x @ t.T).mean(1) - y) ** 2).mean() / 2

    return theta - step * len(theta) * jax.grad(loss)(theta)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--particles", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--dimension", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10, help="steps of one timed run")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs; the best counts")
    parser.add_argument("--block", type=int, default=None, help="particles at once; None is the library's choice")
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain gradient, which holds N x n")
    options = parser.parse_args()
    count, n, d = options.particles, options.samples, options.dimension
    keys = jax.random.split(jax.random.key(0), 3)
    x, theta = jax.random.normal(keys[0], (n, d)), jax.random.normal(keys[1], (count, d)) / d**0.5
    y = jnp.sin(x[:, 0])
    F = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, y, block=options.block)
    flows = {
        "gradient": meanfield.gradient_flow(F, 0.1),
        "langevin": meanfield.langevin(F, 1e-3, 0.1),
        "kinetic": meanfield.kinetic(F, 1e-3, 0.1),
    }
    rows = min(count, 4096) // 256 * 256
    square = jax.random.normal(keys[1], (_SIDE, _SIDE))
    product = jax.jit(partial(jnp.matmul, precision="highest"))
    few = x @ theta[:256].T
    tanh = jax.jit(lambda v: jax.lax.fori_loop(0, rows // 256, lambda _, v: jnp.tanh(v), v))
    draw = jax.jit(lambda key: jax.random.normal(key, (rows, d)))
    runs: dict[str, Callable[[], Any]] = {
        "matmul": lambda: product(square, square),
        "tanh": lambda: tanh(few),
        "normal": lambda: draw(keys[2]),
    }
    for name, flow in flows.items():
        runs[name] = partial(meanfield.simulate, flow, theta, steps=options.steps, key=keys[2])
    if not options.no_plain:
        plain = jax.jit(lambda t: jax.lax.fori_loop(0, options.steps, lambda _, s: plain_step(s, x, y, 0.1), t))
        runs["plain jax.grad"] = partial(plain, theta)
    best = in_turns(list(runs.values()), options.repeats)[:, 1:].min(axis=1).tolist()
    seconds = dict(zip(runs, best, strict=True))
    report(seconds, (count, n, d), rows, options.steps)


def report(seconds: dict[str, float], sizes: tuple[int, int, int], rows: int, steps: int) -> None:
    """Rates, the bound that the ceilings give, and each flow's share of it."""
    count, n, d = sizes
    product = seconds.pop("matmul") * n * d / _SIDE**3  # of one particle, as the next
    tanh, draw = (seconds.pop(name) / rows for name in ("tanh", "normal"))
    print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}; N = {count:,}, n = {n:,}, d = {d}, float32")
    print(f"ceilings: matmul {2e-9 * n * d / product:.1f} Gflop/s, tanh {1e-9 * n / tanh:.3f} G/s, ", end="")
    print(f"normal {1e-9 * d / draw:.3f} G/s")
    for name, spent in seconds.items():
        products, calls = (2, 1) if name.startswith("plain") else (3, 2)
        draws = name in ("langevin", "kinetic")
        bound = products * product + calls * tanh + draws * draw
        each = spent / steps / count
        print(f"{name:>15}: {1 / each:12,.0f} particle-steps/s, {bound / each:5.0%} of its bound ", end="")
        print(f"({products} products, {calls} tanh, {int(draws)} normal)")


if __name__ == "__main__":
    main()
