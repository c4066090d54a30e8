"""How fast every width of least squares is, against one decomposition a width in the same run."""

import time
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jaxtheory import data
from jaxtheory.benchmark.timing import in_turns
from jaxtheory.double_descent import WidthPath, width_path
from jaxtheory.kernels import random_features


@dataclass(frozen=True)
class Config:
    """Gaussian features against a loop of numpy.linalg.lstsq, then random features of MNIST."""

    samples: int = 300
    """n of the comparison"""
    width: int = 1500
    """P of the comparison: all widths 1..P"""
    every: int = 10
    """the loop over numpy visits each such width, and its time is scaled up"""
    digits_samples: int = 1000
    """n of the digits"""
    digits_width: int = 6000
    """P of the digits, with ten outputs and all other digits as test points; 0 leaves them out"""
    x64: bool = True
    """compute in float64"""


def timed_path(*arrays: jax.Array) -> tuple[WidthPath, float, float]:
    """The path, seconds with compilation, and the median of three runs without."""
    ((cold, *warm),) = in_turns([partial(width_path, *arrays)], 3).tolist()
    return width_path(*arrays), cold, float(np.median(warm))


def compare(config: Config) -> None:
    """Against the loop: speed, and the largest relative error of the test error."""
    generator, (n, width) = np.random.default_rng(0), (config.samples, config.width)
    features, tests = generator.standard_normal((2, n, width))
    beta = generator.standard_normal(width) / np.sqrt(width)
    targets, truth = features @ beta + generator.standard_normal(n), tests @ beta
    path, cold, warm = timed_path(*(jnp.asarray(a, float) for a in (features, targets, tests, truth)))
    widths = np.unique([*range(1, width + 1, config.every), n - 1, n, n + 1])
    start = time.perf_counter()
    errors = [((tests[:, :p] @ np.linalg.lstsq(features[:, :p], targets)[0] - truth) ** 2).mean() for p in widths]
    loop = (time.perf_counter() - start) * width / len(widths)
    worst = np.abs(np.asarray(path.test_mse, float)[widths - 1] / errors - 1).max()
    print(f"n={n} P={width}: cold {cold:.2f} s, warm {warm:.3f} s")
    print(f"numpy.linalg.lstsq at each width: {loop:.1f} s, {loop / warm:.0f} times the warm run")
    print(f"largest relative difference of the test error, threshold included: {worst:.1e}")


def on_digits(config: Config) -> None:
    """The whole curve on MNIST."""
    split = data.mnist5k(train=config.digits_samples, dtype="float64" if config.x64 else "float32")
    center = split.x.mean(axis=0, keepdims=True)
    x, x_test = (
        random_features(8 * (images - center), config.digits_width, jax.random.key(0), activation="relu")
        for images in (split.x, split.x_test)
    )
    y, y_test = (data.one_hot(labels, 10, x.dtype) for labels in (split.y, split.y_test))
    path, cold, warm = timed_path(x, y, x_test, y_test)
    peak = int(path.width[path.test_mse.argmax()])
    print(f"MNIST n={len(x)} P={x.shape[1]}, {len(x_test)} test points, ten outputs: peak at {peak}")
    print(f"cold {cold:.1f} s, warm {warm:.1f} s")


if __name__ == "__main__":
    options = tyro.cli(Config)
    jax.config.update("jax_enable_x64", options.x64)
    print(f"{jax.devices()[0].device_kind}, {'float64' if options.x64 else 'float32'}")
    compare(options)
    if options.digits_width:
        on_digits(options)
