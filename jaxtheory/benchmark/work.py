"""A computation to be timed: what it runs, what that costs by its sizes, and who else computes it."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

Run = Callable[[], Any]


class Peer(NamedTuple):
    """Another way to the same numbers; its time is multiplied by `times` where it does a part of the work."""

    run: Run
    times: float = 1.0


class Work(NamedTuple):
    """A computation, the flops of its products, the bytes of its arguments and results, and its peers by name."""

    run: Run
    flops: float
    bytes: float
    peers: dict[str, Peer]


def installed(*libraries: str) -> bool:
    """Whether a peer is there to run beside us."""
    return all(importlib.util.find_spec(name) is not None for name in libraries)


def normal(seed: int, *shape: int) -> Array:
    """Standard normal draws in float32, the same in every run."""
    return jax.random.normal(jax.random.key(seed), shape, "float32")
