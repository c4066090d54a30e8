"""Whole curves over widths as a sweep: the min-norm solution and every ridge on the same draws."""

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
    """The min-norm solution, at ridge 0, and every ridge on the same draws: one program, since the ridge is data."""
    grid = sweeps.grid(ridge=jnp.asarray((0.0, *ridges)), seed=range(seeds))
    return {name: swept(config, name, point, grid, paired=("ridge",))}


def numbered(found: xr.Dataset) -> xr.Dataset:
    """Ridge × seed × width, with the widths as coordinates."""
    return found.assign_coords(width=np.arange(1, found.sizes["width"] + 1))


def named_path(path: WidthPath) -> dict[str, object]:
    """The path as outputs of a sweep; its worst status is kept beside, for one width must not fail the curve."""
    curves = ("train_mse", "test_mse", "test_error", "norm", "loo_mse", "condition")
    fields = {name: sweeps.named(getattr(path, name), "width") for name in curves}
    return fields | {"width_status": sweeps.named(path.status, "width"), "status": jnp.int32(Status.OK)}


def ridge_label(ridge: float) -> str:
    """Of a curve in a legend."""
    return f"ridge {ridge:g}" if ridge else "min-norm (ridge 0)"
