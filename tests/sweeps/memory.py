"""Child of test_limits: a sweep that runs out of address space, and one whose single point does."""

import json
import resource
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxtheory import sweeps

WIDTH = 2048  # a point needs a matrix of 16 MiB


def point(x, key, width=WIDTH):
    places = jnp.linspace(0.0, 1.0, width)
    gram = jnp.cos(x + places[:, None] * places[None])
    return {"quadratic": gram[0] @ (gram @ gram[1])}


def hungry(x, key):
    return point(x, key, 16 * WIDTH)


def main(out: str) -> dict[str, Any]:
    """Leave 400 MiB: enough for a block of 8 points, not for one of 32, nor for one point of 256 times the size."""
    grid = sweeps.grid(x=np.arange(32.0))
    jax.block_until_ready(jax.jit(lambda x: x + 1)(jnp.ones(3)))
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        one_by_one = sweeps.run(point, grid, block=1, progress=False)  # starts every thread while there is room
        resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
        ds = sweeps.run(point, grid, out=out, block=32, progress=False).load()
        try:
            sweeps.run(hungry, grid, block=2, progress=False)
            error = None
        except MemoryError as raised:
            error = str(raised)
    environments = json.loads(ds.attrs["environments"])
    report = {
        "warned": [str(warning.message) for warning in warned],
        "block": environments[-1]["block"],
        "environments": environments,
        "right": bool(np.allclose(ds.quadratic.values, one_by_one.quadratic.values, rtol=1e-5)),
        "error": error,
    }
    return report
