"""Grids of points, run in sharded, resumable blocks; results as labelled arrays.

A point is a pure function `point(ridge, noise, seed, key) -> dict of arrays`; `run` vmaps it over a grid of named
axes, shards each block over the devices of a mesh, and keeps what is done in a Zarr v3 store that a second call
continues. A point's randomness depends on the key and on its place in the grid, never on blocks or devices. The
store is a folder or a URL; the processes of `jax.distributed`, or the runs of a job array with `shard="i/n"`, fill it
together.

>>> import jax, jax.numpy as jnp
>>> from jaxtheory import sweeps
>>> def risk(ridge, seed, key):
...     return {"risk": ridge + 0.0 * jax.random.normal(key), "path": sweeps.named(ridge * jnp.arange(3.0), "time")}
>>> ds = sweeps.run(risk, sweeps.grid(ridge=[0.5, 2.0], seed=range(4)), key=0, progress=False)
>>> dict(ds.sizes), f"{float(ds.risk.sel(ridge=2.0, seed=1)):.1f}", int(ds.status.max())
({'ridge': 2, 'seed': 4, 'time': 3}, '2.0', 0)
"""

from jaxtheory.sweeps.axes import Grid, grid
from jaxtheory.sweeps.driver import run
from jaxtheory.sweeps.outputs import Named, named

__all__ = ["Grid", "Named", "grid", "named", "run"]
