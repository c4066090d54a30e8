"""Grids of points, run in sharded, resumable blocks; results as labelled arrays.

A point is a pure function `point(ridge, noise, seed, key) -> dict of arrays`; `run` vmaps it over a grid of named
axes, shards each block over the devices of a mesh, and keeps what is done in a Zarr v3 store that a second call
continues, and a call with more values extends. A point's randomness depends on the key and on the values of its axes,
never on the rest of the grid, blocks or devices. The store is a folder or a URL; the processes of `jax.distributed`, or
the runs of a job array with `shard="i/n"`, fill it together.

- the grid: `grid`, of axes that vary freely, together (`zipped`), or at random (`random`, of laws such as `uniform` and
  `log_uniform`)
- running: `run`, whose points return arrays, `named` along their dimensions; `Progress`, what a callback is given;
  `Checkpoint`, where a long point keeps its progress
- stores: `merge` several into one; `status` of one that may be running, also `jaxtheory sweep status PATH`
- results: `variance_components`, how much of the variance each seed axis and each interaction causes

>>> import jax, jax.numpy as jnp
>>> from jaxtheory import sweeps
>>> def risk(ridge, seed, key):
...     return {"risk": ridge + 0.0 * jax.random.normal(key), "path": sweeps.named(ridge * jnp.arange(3.0), "time")}
>>> ds = sweeps.run(risk, sweeps.grid(ridge=[0.5, 2.0], seed=range(4)), key=0, progress=False)
>>> dict(ds.sizes), f"{float(ds.risk.sel(ridge=2.0, seed=1)):.1f}", int(ds.status.max())
({'ridge': 2, 'seed': 4, 'time': 3}, '2.0', 0)
"""

from typing import TYPE_CHECKING

from jaxtheory._lazy import lazy

if TYPE_CHECKING:
    from jaxtheory.sweeps.axes import Grid, Zipped, grid, zipped
    from jaxtheory.sweeps.checkpoint import Checkpoint
    from jaxtheory.sweeps.components import variance_components
    from jaxtheory.sweeps.driver import run
    from jaxtheory.sweeps.filling import Progress
    from jaxtheory.sweeps.laws import log_uniform, random, uniform
    from jaxtheory.sweeps.merging import merge
    from jaxtheory.sweeps.outputs import Named, named
    from jaxtheory.sweeps.watching import Report, status

__all__ = [
    "Checkpoint",
    "Grid",
    "Named",
    "Progress",
    "Report",
    "Zipped",
    "grid",
    "log_uniform",
    "merge",
    "named",
    "random",
    "run",
    "status",
    "uniform",
    "variance_components",
    "zipped",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "axes": (
            "Grid",
            "Zipped",
            "grid",
            "zipped",
        ),
        "checkpoint": ("Checkpoint",),
        "components": ("variance_components",),
        "driver": ("run",),
        "filling": ("Progress",),
        "laws": (
            "log_uniform",
            "random",
            "uniform",
        ),
        "merging": ("merge",),
        "outputs": (
            "Named",
            "named",
        ),
        "watching": (
            "Report",
            "status",
        ),
    },
)
