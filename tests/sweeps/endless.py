"""Child of test_limits: a sweep one of whose points never ends."""

from typing import Any

import jax
import numpy as np
import xarray

from jaxtheory import sweeps


def endless(x, key):
    """Never comes back at x = 2."""
    stuck = jax.lax.while_loop(lambda s: (x == 2) & (s[0] >= 0), lambda s: (s[0], s[1] + 1), (x * 1.0, 0))
    return {"square": x**2, "turns": stuck[1]}


def main(out: str) -> dict[str, Any]:
    error = None
    try:
        sweeps.run(endless, sweeps.grid(x=np.arange(9.0)), out=out, block=1, time_limit=1.0, progress=False)
    except TimeoutError as raised:
        error = str(raised)
    ds = xarray.open_zarr(out, chunks=None)
    square = [None if np.isnan(value) else value for value in ds.square.values.tolist()]
    return {"error": error, "status": ds.status.values.tolist(), "square": square}
