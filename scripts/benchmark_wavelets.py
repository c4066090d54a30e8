"""Times the wavelet transform against PyWavelets, in one run, in turns.

python scripts/benchmark_wavelets.py [--signals 64] [--length 16384]
"""

import argparse

import jax
import numpy as np
import pywt

from jaxtheory.benchmark.timing import in_turns
from jaxtheory.smoothness import wavelets


def main() -> None:
    """db4 to its last level, in float32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signals", type=int, default=64)
    parser.add_argument("--length", type=int, default=2**14)
    options = parser.parse_args()
    x = np.random.default_rng(0).standard_normal((options.signals, options.length)).astype(np.float32)
    levels = pywt.dwt_max_level(options.length, "db4")
    ours = jax.jit(jax.vmap(lambda row: wavelets.dwt(row, "db4", levels)))
    seconds = in_turns([lambda: ours(x), lambda: pywt.wavedec(x, "db4", "periodization", levels)], 20)
    own, theirs = np.median(seconds[:, 1:], axis=1)
    print(f"{levels} levels: {1e3 * own:.2f} ms, the first time {seconds[0, 0]:.2f} s")
    print(f"PyWavelets: {1e3 * theirs:.2f} ms, {theirs / own:.1f} times")


if __name__ == "__main__":
    main()
