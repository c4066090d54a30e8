"""At initialization the kernel of a network of width m fluctuates as m^(−1/2) around its limit."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import empirical, figures, sweeps
from jaxtheory.infinite.corrections import relu_pair_moments
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.ntk.problems import draw as draw_network
from jaxtheory.lecture.ntk.problems import shallow
from jaxtheory.lecture.powers import exponent
from jaxtheory.lecture.study import Study, prefixed, swept

_COSINE = 0.5  # of the two unit inputs whose kernel is drawn


def predict(config: Any) -> Claims:
    """Mean and standard deviation of the kernel, and the exponent of width in the latter."""
    mean, deviation = relu_pair_moments(_COSINE)
    active = (1 - np.arccos(_COSINE) / np.pi) / 2  # of units, for both inputs
    signs = float((deviation**2 - 8 * _COSINE**2 * active) ** 0.5)  # E a⁴ = 1 for 3 in E (2a² cos θ)² active
    claims = (
        statistical("mean", "start: mean kernel at cosine 1/2, narrowest ReLU network", "Cho, Saul (2009), eqs. 3-8",
                    mean, over="over draws",
                    rival=(float(mean - 2 * _COSINE * active), "the last layer's part alone")),
        statistical("deviation", "start: standard deviation · √width, all widths", "Cho, Saul (2009), eqs. 3-8",
                    deviation, over="over draws", rival=(signs, "a last layer of signs")),
        statistical("deviation_slope", "start: exponent of width in the deviation", "Jacot et al. (2018), Thm 1", -0.5,
                    over="of the fit", rival=(-1.0, "a spread of order 1/width")),
    )  # fmt: skip
    return Claims(claims, {"sd": [deviation / m**0.5 for m in config.widths], "mean": [mean]})


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Networks of every width."""
    grid = sweeps.grid(width=config.widths)
    return {"start": swept(config, "start", partial(_start, draws=config.draws), grid, static="width")}


def _start(width: int, key: PRNGKeyArray, *, draws: int) -> dict[str, Any]:
    """Mean and spread of the kernel of two inputs over independent networks."""
    x = jnp.array([[1.0, 0.0], [_COSINE, (1 - _COSINE**2) ** 0.5]])
    init = partial(draw_network, width, 2, x.dtype)
    average = empirical.mean_ntk(init, partial(shallow, "relu"), x[:1], x[1:], key, draws)
    error = average.standard_error[0, 0]
    return {"mean": average.kernel[0, 0], "standard_error": error, "deviation": error * draws**0.5}


def measure(config: Any) -> xr.Dataset:
    """The kernel's mean at the narrowest width, its deviation over all of them and that deviation's exponent."""
    start = sweep(config)["start"]
    widths, deviations, narrow = start.width.values, start.deviation.values, start.isel(width=0)
    # the sample deviation of nearly normal draws is known to 1/√(2(N − 1)) of it
    relative = (2 * (config.draws - 1)) ** -0.5
    scaled = float((deviations * np.sqrt(widths)).mean())
    return prefixed("start", start).assign(
        estimated("mean", narrow["mean"], narrow.standard_error, config.draws)
        | estimated("deviation", scaled, scaled * relative / len(widths) ** 0.5, config.draws)
        | exponent("deviation_slope", widths, deviations, relative * deviations, config.draws)
    )


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The standard deviation of one entry over width."""
    widths, seen, law = dataset.start_width.values, dataset.start_deviation.values, claims.curves["sd"]
    error = seen / (2 * float(dataset.deviation_draws)) ** 0.5
    label = f"predicted: ${law[0] * float(widths[0]) ** 0.5:.3f}\\,/\\sqrt{{m}}$"
    figures.theory_line(ax, widths, law, label=label)
    figures.points(ax, widths, seen, error, label="measured", color=figures.PALETTE[1])
    title = "at the start: $\\Theta$ fluctuates"
    figures.label_axes(ax, "width $m$", "standard deviation of $\\Theta(x, x')$", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, widths)


STUDY = Study("start", predict, measure, draw, sweep)
