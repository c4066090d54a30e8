"""Networks trained a second: padded and vmapped in buckets, against a Python loop with a program for each width."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from jaxtheory import data, networks


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


def padded(config: Config, split: data.Split, adam: optax.GradientTransformation) -> np.ndarray:
    """Test losses [width, seed] by `train_widths`."""
    sweep = networks.train_widths(
        *split, widths=config.widths, seeds=config.seeds, optimizer=adam, steps=config.steps, mesh=None
    )
    return sweep.dataset.test_loss.values[:, :, -1]


def looped(config: Config, split: data.Split, adam: optax.GradientTransformation) -> Callable[[], np.ndarray]:
    """The same networks of their own size, width after width and seed after seed; each width is jitted once."""
    programs = [_program(width, config, split, adam) for width in config.widths]
    return lambda: np.array([[program(jnp.int32(seed)) for seed in range(config.seeds)] for program in programs])


def _program(
    width: int, config: Config, split: data.Split, adam: optax.GradientTransformation
) -> Callable[[jax.Array], jax.Array]:
    target, test = (data.one_hot(labels, 10) for labels in (split.y, split.y_test))
    abc = networks.standard(2)._replace(c=0.0)
    net = networks.multilayer(split.x.shape[1], width, 10, abc=abc, bias_variance=1.0, bias_start=0.0)

    def loss(params: list[networks.Layer], x: jax.Array, y: jax.Array) -> jax.Array:
        return ((net.apply(params, x) - y) ** 2).sum(axis=1).mean()

    @jax.jit
    def run(seed: jax.Array) -> jax.Array:
        start = net.init(jax.random.split(jax.random.key(seed), 3)[0])
        trained = networks.train(
            lambda params: loss(params, split.x, target), start, optimizer=adam, steps=config.steps,
            record_every=config.steps,
        )  # fmt: skip
        return loss(trained.params, split.x_test, test)

    return run


def timed(run: Callable[[], np.ndarray]) -> tuple[np.ndarray, float, float]:
    """The losses, seconds of the first call and of the second."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        losses = jax.block_until_ready(run())
        seconds.append(time.perf_counter() - start)
    return losses, seconds[0], seconds[1]


def main(config: Config) -> None:
    """Run both, print the table."""
    split, adam = data.digits(train=config.samples), optax.adam(config.rate)
    ours, cold, warm = timed(lambda: padded(config, split, adam))
    theirs, loop_cold, loop_warm = timed(looped(config, split, adam))
    models = len(config.widths) * config.seeds
    print(f"{models} networks, {config.steps} steps, {jax.device_count()} × {jax.devices()[0].device_kind}")
    for name, first, second in (("padded, vmapped", cold, warm), ("one program a width", loop_cold, loop_warm)):
        print(
            f"{name:<20} with compilation {models / first:6.2f} networks/s   without {models / second:6.2f} networks/s"
        )
    print(f"ratio with compilation {loop_cold / cold:.2f}, without {loop_warm / warm:.2f}")
    print(f"largest relative difference of a test loss {np.abs(ours / theirs - 1).max():.1e}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
