"""How fast this device is, and how much of that the main computation of each room reaches, in one run.

    python scripts/benchmark.py                  # a minute on two cores
    python scripts/benchmark.py --preset large   # for an accelerator

First the device's own ceilings, as measured: products of square matrices in float32 at the highest precision, which
everything here asks for, at the default one (TF32 or bfloat16 passes on an accelerator) and in float64, and the bytes a
second of x + y. Then, for each computation, the flops of its algorithm's products and the bytes of its arguments and
results, both from the sizes. The last column is the time that these would take at the ceilings, the larger of the two,
over the time it took. What keeps it from 100% is work that is neither: exponentials and angles, factorizations, small
products, and arrays that are read twice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import tyro
from timing import in_turns

from jaxtheory import empirical, infinite, kernels, meanfield, networks
from jaxtheory.double_descent import width_path


@dataclass(frozen=True)
class Sizes:
    """Of every computation."""

    matrix: int = 2048
    """rows and columns of the products that give the ceiling"""
    vector: int = 2**25
    """numbers that are added for the ceiling of bandwidth"""
    gram: tuple[int, int] = (4096, 512)
    """points and their dimension"""
    infinite: tuple[int, int, int] = (1000, 256, 3)
    """points, their dimension, hidden layers"""
    empirical: tuple[int, int] = (192, 512)
    """points, and width of three hidden layers, which is also the dimension"""
    path: tuple[int, int] = (300, 1500)
    """samples and as many test points; largest width"""
    particles: tuple[int, int, int, int] = (20_000, 500, 100, 5)
    """particles, points, their dimension, steps"""
    widths: tuple[int, ...] = tuple(range(64, 257, 32))
    """of the networks that are trained together"""
    training: tuple[int, int, int, int] = (500, 64, 4, 50)
    """samples and as many test points, their dimension, seeds, steps"""


LARGE = Sizes(
    matrix=16384, vector=2**28, gram=(32768, 1024), infinite=(16384, 1024, 3), empirical=(1024, 2048),
    path=(2000, 12000), particles=(1_000_000, 1000, 100, 20), widths=tuple(range(128, 1025, 64)),
    training=(4000, 784, 8, 200),
)  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What to run."""

    preset: Literal["small", "large"] = "small"
    """sizes: a minute on two cores, or for an accelerator"""
    repeats: int = 3
    """warm runs, of which the fastest counts"""


class Work(NamedTuple):
    """A computation, the flops of its products, and the bytes of its arguments and results."""

    run: Callable[[], Any]
    flops: float
    bytes: float


def normal(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def product(size: int, precision: str, x64: bool = False) -> Work:
    """Of two square matrices."""

    def run() -> jax.Array:
        with jax.enable_x64(x64):
            return multiply(a, a)

    multiply = partial(jnp.matmul, precision=precision)
    with jax.enable_x64(x64):
        a = jax.random.normal(jax.random.key(0), (size, size), float)
    return Work(run, 2 * size**3, 3 * a.nbytes)


def addition(size: int) -> Work:
    x, y = normal(0, size), normal(1, size)
    add = jax.jit(jnp.add)
    return Work(lambda: add(x, y), 0, 3 * x.nbytes)


def gram(n: int, dim: int) -> Work:
    x = normal(0, n, dim)
    kernel = jax.jit(kernels.gaussian(dim**0.5))
    return Work(lambda: kernel(x, x), 2 * n**2 * dim, 2 * x.nbytes + 4 * n**2)


def infinite_ntk(n: int, dim: int, depth: int) -> Work:
    x, kernel = normal(0, n, dim), infinite.mlp(depth, "relu", 2**0.5, 0.1).ntk
    return Work(lambda: kernel(x, x + 1), 2 * n**2 * dim, 2 * x.nbytes + 4 * n**2)


def empirical_ntk(n: int, width: int) -> Work:
    x, net = normal(0, n, width), networks.multilayer(width, width, 1, hidden_layers=3)
    params = net.init(jax.random.key(1))
    table = empirical.explain(net.apply, params, x)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((params, x)))
    return Work(lambda: empirical.ntk(net.apply, params, x), table.methods[table.chosen].flops, size + 4 * n**2)


def every_width(n: int, widths: int) -> Work:
    x, y, tests = normal(0, n, widths), normal(1, n), normal(2, n, widths)
    flops = (13 * n**2 + 8 * 2 * n * n) * widths
    return Work(lambda: width_path(x, y, tests, y), flops, 2 * x.nbytes + 2 * y.nbytes + 4 * 8 * widths)


def particle_flow(count: int, n: int, dim: int, steps: int) -> Work:
    x, start = normal(0, n, dim), normal(1, count, dim) / dim**0.5
    F = meanfield.risk(meanfield.neuron("tanh"), meanfield.squared_loss, x, jnp.sin(x[:, 0]))
    run = partial(meanfield.simulate, meanfield.gradient_flow(F, 0.1), start, steps=steps, key=jax.random.key(2))
    return Work(run, steps * 3 * 2 * count * n * dim, steps * 2 * start.nbytes)


def training(widths: tuple[int, ...], n: int, dim: int, seeds: int, steps: int) -> Work:
    """Three products of each layer a step, forward and backward to weights and to inputs, but not to the data."""
    x, y, adam = normal(0, n, dim), normal(1, n, 10), optax.adam(1e-3)
    train = partial(networks.train_widths, x, y, x, y, mesh=jax.make_mesh((1,), ("points",), devices=jax.devices()[:1]))
    run = partial(train, widths=widths, seeds=seeds, optimizer=adam, steps=steps, record_every=steps)
    flops = seeds * steps * sum(2 * n * width * (2 * dim + 3 * 10) for width in widths)
    numbers = seeds * sum(width * (dim + 11) + 10 for width in widths)
    return Work(run, flops, steps * 2 * 3 * 4 * numbers)  # parameters and two moments, read and written


def ceilings(sizes: Sizes, repeats: int) -> tuple[float, float]:
    """Print what the device does at its best; flops a second at the highest precision, and bytes a second."""
    n = sizes.matrix
    works = [product(n, "highest"), product(n, "default"), product(n, "highest", x64=True), addition(sizes.vector)]
    seconds = in_turns([work.run for work in works], repeats)[:, 1:].min(axis=1)
    highest, default, double = (work.flops / best for work, best in zip(works[:3], seconds[:3], strict=True))
    bandwidth = works[3].bytes / seconds[3]
    print(f"ceilings of products: float32 {highest / 1e9:,.0f} Gflop/s at the highest precision, ", end="")
    print(f"{default / 1e9:,.0f} at the default; float64 {double / 1e9:,.0f}; bandwidth {bandwidth / 1e9:,.1f} GB/s")
    return highest, bandwidth


def main(config: Config) -> None:
    """Print the ceilings, then a row for each computation."""
    sizes = LARGE if config.preset == "large" else Sizes()
    device = jax.devices()[0]
    print(f"one of {len(jax.devices())} × {device.device_kind} ({device.platform}), JAX {jax.__version__}")
    rate, bandwidth = ceilings(sizes, config.repeats)
    works = {
        f"Gram matrix, Gaussian {sizes.gram}": gram(*sizes.gram),
        f"infinite-width NTK {sizes.infinite}": infinite_ntk(*sizes.infinite),
        f"empirical NTK {sizes.empirical}": empirical_ntk(*sizes.empirical),
        f"least squares at every width {sizes.path}": every_width(*sizes.path),
        f"particle flow {sizes.particles}": particle_flow(*sizes.particles),
        f"training {len(sizes.widths)} widths {sizes.training}": training(sizes.widths, *sizes.training),
    }
    print(f"\n{'float32':<48}{'cold s':>9}{'warm s':>10}{'Gflop/s':>10}{'GB/s':>9}{'of the ceilings':>17}")
    for name, work in works.items():
        ((cold, *warm),) = in_turns([work.run], config.repeats)
        best = min(warm)
        share = max(work.flops / rate, work.bytes / bandwidth) / best
        row = f"{name:<48}{cold:>9.2f}{best:>10.4f}{work.flops / best / 1e9:>10,.1f}"
        print(f"{row}{work.bytes / best / 1e9:>9,.2f}{share:>17.1%}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
