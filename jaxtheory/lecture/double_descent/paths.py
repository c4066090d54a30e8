"""Whole curves over widths as sweeps: the min-norm solution and every ridge on the same draws."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxtheory import sweeps
from jaxtheory.double_descent import WidthPath
from jaxtheory.lecture.study import swept
from jaxtheory.results import Status


def swept_paths(point: partial, ridges: tuple[float, ...], seeds: int, config: Any, name: str) -> dict[str, xr.Dataset]:
    """The min-norm solution and every ridge on the same draws."""
    bare, ridged = f"{name}-min-norm", f"{name}-ridge"
    grid = sweeps.grid(ridge=jnp.asarray(ridges), seed=range(seeds))
    return {
        bare: swept(config, bare, partial(point, ridge=0.0), sweeps.grid(seed=range(seeds))),
        ridged: swept(config, ridged, point, grid, paired=("ridge",)),
    }


def joined(found: dict[str, xr.Dataset], name: str) -> xr.Dataset:
    """Ridge × seed × width, the min-norm solution at ridge 0."""
    bare, ridged = found[f"{name}-min-norm"], found[f"{name}-ridge"]
    both = xr.concat([bare.expand_dims(ridge=np.zeros(1, ridged.ridge.dtype)), ridged], "ridge", data_vars="all")
    return both.assign_coords(width=np.arange(1, both.sizes["width"] + 1))


def named_path(path: WidthPath) -> dict[str, object]:
    """The path as outputs of a sweep; its worst status is kept beside, for one width must not fail the curve."""
    curves = ("train_mse", "test_mse", "test_error", "norm", "loo_mse", "condition")
    fields = {name: sweeps.named(getattr(path, name), "width") for name in curves}
    return fields | {"width_status": sweeps.named(path.status, "width"), "status": jnp.int32(Status.OK)}


def ridge_label(ridge: float) -> str:
    """Of a curve in a legend."""
    return f"ridge {ridge:g}" if ridge else "min-norm (ridge 0)"
