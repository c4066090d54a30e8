"""How far training moves the kernel: on orthogonal inputs, where the bound width^(−1/2) is reached by ReLU networks.

There what a unit's flip changes is not averaged out. Inputs in general position give a faster fall for ReLU, about
−2/3 at widths 256 to 4096: −1/2 is there a bound.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import empirical, figures, networks, sweeps
from jaxtheory.lecture.claims import Claims, statistical
from jaxtheory.lecture.ntk.problems import ACTIVATIONS, shallow
from jaxtheory.lecture.ntk.problems import draw as draw_network
from jaxtheory.lecture.powers import draw_power, root_exponent
from jaxtheory.lecture.study import Study, prefixed, swept

_POINTS = 8  # orthogonal inputs, in as many dimensions
_SLOPES = {"relu": (-0.5, "-1/2"), "tanh": (-1.0, "-1")}


def predict(config: Any) -> Claims:
    """Exponents of width in the motion of the kernel and of the parameters."""
    first, last = float(config.drift_widths[0]), float(config.drift_widths[-1])
    flips = (first**-0.25 - last**-0.25) / np.log(last / first)  # of a slope, where 1 + m^(−1/4) is the next order
    general = (-2 / 3, "inputs in general position")
    claims = (
        statistical("drift_relu", "orthogonal inputs: exponent of width in the kernel's motion in training, ReLU",
                    "Lee et al. (2019), Thm 2.1", -0.5, "theory: flips of units, next term m^(−1/4) of it",
                    tolerance=float(flips), rival=general),
        statistical("drift_tanh", "orthogonal inputs: the same for tanh, which has no kink to flip",
                    "Dyer, Gur-Ari (2020)", -1.0, "theory: next term m^(−1/2) of it, 1/32 at the least width",
                    tolerance=1 / 32, rival=(-0.5, "that of ReLU")),
        statistical("drift_parameters", "orthogonal inputs: exponent of width in ‖θ_t − θ_0‖ / ‖θ_0‖",
                    "Lee et al. (2019), Thm 2.1", -0.5, "theory: next term m^(−1/2) of it", tolerance=1 / 32,
                    rival=general),
    )  # fmt: skip
    return Claims(claims, {})


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Networks of both activations and every width."""
    grid = sweeps.grid(activation=list(ACTIVATIONS), width=config.drift_widths, seed=range(config.drift_seeds))
    options: dict[str, Any] = {"static": ("activation", "width"), "block": config.drift_seeds}
    return {"drift": swept(config, "drift", _drift, grid, **options)}


def _drift(activation: str, width: int, seed: Array, key: PRNGKeyArray) -> dict[str, Any]:
    """How far kernel and parameters move while orthogonal inputs are fitted, relative to where they began."""
    x = jnp.eye(_POINTS)
    y = jnp.where(jnp.arange(_POINTS) % 2 == 0, 1.0, -1.0)[:, None].astype(x.dtype)
    f = partial(shallow, activation)
    params = draw_network(width, _POINTS, x.dtype, key)
    fit = networks.train(lambda p: 0.5 * jnp.sum((f(p, x) - y) ** 2), params, optimizer=optax.sgd(0.2), steps=100)
    before, after = (empirical.ntk(f, p, x, output="trace", method="structured") for p in (params, fit.params))
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, fit.params, params)) / optax.tree.norm(params)
    return {"kernel": jnp.linalg.norm(after - before) / jnp.linalg.norm(before), "parameters": moved}


def measure(config: Any) -> xr.Dataset:
    """Exponents of width in the root mean square motion over networks."""
    drift = sweep(config)["drift"]
    moved = {f"drift_{name}": drift.kernel.sel(activation=name) for name in ACTIVATIONS}
    moved["drift_parameters"] = drift.parameters.sel(activation="relu")
    dataset = prefixed("drift", drift).rename(drift_parameters="drift_motion")
    return dataset.assign({k: v for name, values in moved.items() for k, v in root_exponent(name, values).items()})


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The kernel's motion over width, a colour an activation."""
    for color, (name, (power, shown)) in zip(figures.PALETTE, _SLOPES.items(), strict=False):
        values = dataset.drift_kernel.sel(drift_activation=name)
        draw_power(ax, values, power, color=color, label=f"$m^{{{shown}}}$ ({name})")
    motion = "$\\|\\Theta_t - \\Theta_0\\|\\, / \\,\\|\\Theta_0\\|$"
    figures.label_axes(ax, "width $m$", motion, "in training: $\\Theta$ moves", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset.drift_width.values)


STUDY = Study("drift", predict, measure, draw, sweep)
