"""The feature-learning limit beside networks that predict it as precisely: seconds and megabytes at equal error.

    python scripts/benchmark_feature_learning.py                    # 16 digits, 12 steps, 8,192 samples
    python scripts/benchmark_feature_learning.py --samples 65536    # an eighth of the variance

The error is the root mean square over test points of a prediction after training. That of `solve` is its own standard
error. Networks of width N err by c/N in the mean and by σ/√N each; c and σ are measured here, at the narrow and at the
wide width of this script. The cheapest way to an error ε is then R networks of width N with c/N = ε/√2 and
σ²/(N R) = ε²/2; the other way is one network of width (σ/ε)², whose seconds and megabytes follow from its flops, at the
rate of the wide networks, and from its matrices, three of N² numbers in float32.
"""

import argparse
import math
from typing import Any

import jax
import numpy as np

from jaxtheory import feature_learning
from jaxtheory.benchmark.timing import in_turns
from jaxtheory.lecture.feature_learning import problems

NARROW, WIDE, COUNT, GROUPS = 16, 256, 32, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=8192, help="of the limit")
    parser.add_argument("--richness", type=float, default=1.0)
    parser.add_argument("--batches", type=int, default=64, help="of narrow networks, for c; 32 networks each")
    options = parser.parse_args()
    given = problems.digits(16, 16)
    shared = {"depth": 2, "richness": options.richness, "step_size": 0.05, "steps": 12, "record_every": 1}
    shared |= {"test_x": given.test_x}

    def limit(seed: int = 0) -> Any:
        key = jax.random.key(seed)
        return feature_learning.solve(given.x, given.y, key=key, samples=options.samples, fields=1024, **shared)

    def networks(width: int, seed: int = 0) -> Any:
        key = jax.random.key(1 + seed)
        return feature_learning.networks(given.x, given.y, width=width, count=COUNT, key=key, centered=True, **shared)

    theory = np.mean([np.asarray(limit(seed).test_predictions.value[-1]) for seed in range(4)], axis=0)
    error = rms(np.asarray(limit().test_predictions.standard_error[-1]))
    ends = lambda width, count: np.concatenate(  # noqa: E731
        [np.asarray(networks(width, seed).test_predictions[:, -1]) for seed in range(count)]
    )
    narrow, wide = ends(NARROW, options.batches), ends(WIDE, 4)
    bias, scatter = NARROW * rms(narrow.mean(0) - theory), WIDE**0.5 * rms(wide.std(0, ddof=1))
    width = math.ceil(2**0.5 * bias / error)
    count = math.ceil(2 * scatter**2 / (width * error**2))
    alone = math.ceil((scatter / error) ** 2)
    seconds = in_turns([limit, lambda: networks(WIDE), lambda: networks(width)], 3)[:, 1:].min(axis=1)
    rows = len(given.x) * shared["steps"]
    report = {
        "the limit": (seconds[0], 4 * 4 * options.samples / GROUPS * rows, "", error),
        f"{count} networks of width {width}": (seconds[2] / COUNT * count, 3 * 4 * width**2, "", error),
        f"one network of width {alone:,}": (
            seconds[1] / COUNT * (alone / WIDE) ** 2, 3 * 4 * alone**2, " (from its flops)", error
        ),
    }  # fmt: skip
    print(f"JAX {jax.__version__} on {jax.devices()[0].device_kind}; c = {bias:.2f}, sigma = {scatter:.2f}, float32")
    for name, (spent, memory, how, reached) in report.items():
        print(f"{name:>32}: {spent:8.2f} s, {memory / 2**20:8.2f} MB of matrices, error {reached:.1e}{how}")


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(values**2)))


if __name__ == "__main__":
    main()
