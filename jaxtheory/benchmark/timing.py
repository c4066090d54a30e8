"""Seconds of several runs, for the benchmarks beside this file."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


def in_turns(runs: Sequence[Callable[[], Any]], repeats: int, processor: bool = False) -> np.ndarray:
    """Seconds [run, 1 + repeats] of each run, waited for: the first with compilation, the others warm.

    Taken in turns, so that a busy machine slows all alike. With `processor` the last axis is wall and processor time.
    """
    seconds = np.zeros((len(runs), 1 + repeats, 2))
    for repeat in range(1 + repeats):
        for i, run in enumerate(runs):
            wall, spent = time.perf_counter(), time.process_time()
            jax.block_until_ready(run())
            seconds[i, repeat] = time.perf_counter() - wall, time.process_time() - spent
    return seconds if processor else seconds[..., 0]
