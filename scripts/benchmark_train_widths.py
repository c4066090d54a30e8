"""Networks trained a second: padded and vmapped in buckets, against a program for each width, over seeds or for each.

Seconds of processor, which other work on the machine changes less than seconds of the clock; all ways in turns.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from jaxtheory import data, networks

Run = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Config:
    """One hidden layer on the 8x8 digits, full-batch Adam, squared error."""

    widths: tuple[int, ...] = tuple(range(4, 64, 4))
    """hidden units"""
    seeds: int = 4
    """networks of each width"""
    steps: int = 500
    """of Adam"""
    samples: int = 250
    """training images; the others test"""
    rate: float = 3e-3
    """of Adam"""
    repeats: int = 3
    """of every way, each time compiled anew"""


def padded(config: Config, split: data.Split, adam: optax.GradientTransformation) -> Run:
    """Test losses [width, seed] by `train_widths`."""

    def run() -> np.ndarray:
        sweep = networks.train_widths(
            *split, widths=config.widths, seeds=config.seeds, optimizer=adam, steps=config.steps, mesh=None
        )
        return sweep.dataset.test_loss.values[:, :, -1]

    return run


def vmapped(config: Config, split: data.Split, adam: optax.GradientTransformation) -> Run:
    """The same networks of their own size, width after width, all seeds of one at once."""
    programs = [jax.jit(jax.vmap(_program(width, config, split, adam))) for width in config.widths]
    return lambda: np.array([program(jnp.arange(config.seeds, dtype=jnp.int32)) for program in programs])


def looped(config: Config, split: data.Split, adam: optax.GradientTransformation) -> Run:
    """The same, width after width and seed after seed; each width is jitted once."""
    programs = [jax.jit(_program(width, config, split, adam)) for width in config.widths]
    return lambda: np.array([[program(jnp.int32(seed)) for seed in range(config.seeds)] for program in programs])


def _program(
    width: int, config: Config, split: data.Split, adam: optax.GradientTransformation
) -> Callable[[jax.Array], jax.Array]:
    target, test = (data.one_hot(labels, 10) for labels in (split.y, split.y_test))
    abc = networks.standard(2)._replace(c=0.0)
    net = networks.multilayer(split.x.shape[1], width, 10, abc=abc, bias_variance=1.0, bias_start=0.0)

    def loss(params: list[networks.Layer], x: jax.Array, y: jax.Array) -> jax.Array:
        return ((net.apply(params, x) - y) ** 2).sum(axis=1).mean()

    def run(seed: jax.Array) -> jax.Array:
        start = net.init(jax.random.split(jax.random.key(seed), 3)[0])
        trained = networks.train(
            lambda params: loss(params, split.x, target), start, optimizer=adam, steps=config.steps,
            record_every=config.steps,
        )  # fmt: skip
        return loss(trained.params, split.x_test, test)

    return run


WAYS = {"padded, in buckets": padded, "a vmap over seeds": vmapped, "one run after another": looped}


def timed(run: Run) -> tuple[np.ndarray, float, float]:
    """The losses, processor seconds of the first call and of the second."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        losses = jax.block_until_ready(run())
        seconds.append(time.process_time() - start)
    return losses, seconds[0], seconds[1]


def main(config: Config) -> None:
    """Run all ways in turns, print the medians."""
    split, adam = data.digits(train=config.samples), optax.adam(config.rate)
    small = replace(config, widths=(2,), seeds=1, steps=1)
    for way in WAYS.values():
        way(small, split, adam)()  # what is imported or made once a process
    losses: dict[str, np.ndarray] = {}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(config.repeats):
        for name, way in WAYS.items():
            jax.clear_caches()
            losses[name], cold, warm = timed(way(config, split, adam))
            seconds[name].append((cold, warm))
    models = len(config.widths) * config.seeds
    print(f"{models} networks, {config.steps} steps, {jax.device_count()} × {jax.devices()[0].device_kind}")
    ours, ours_cold, ours_warm = losses["padded, in buckets"], *np.median(seconds["padded, in buckets"], axis=0)
    for name, each in seconds.items():
        cold, warm = np.median(each, axis=0)
        worst = np.abs(ours / losses[name] - 1).max()
        print(
            f"{name:<22} processor s with compilation {cold:6.2f}, {cold / ours_cold:.2f} × ours; without {warm:6.2f}, "
            f"{warm / ours_warm:.2f} × ours; largest relative difference of a test loss {worst:.1e}"
        )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
