"""The coordinate check: changes of activations do not depend on width under maximal update alone."""

from typing import Any

import jax
import numpy as np
import optax
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.feature_learning import transfer
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study
from jaxtheory.networks import parameterization

_SOURCE = "Yang et al. (2022), Tensor Programs V"
_STREAM = 4  # of random numbers, beside those of the other studies
_EXPONENTS = {"maximal": 0.0, "standard": 1.0}  # of the first step of Adam, of weights whose inputs grow
_LAYERS = {"hidden": "hidden layer", "out": "readout"}
_MARKERS = {"hidden": "o", "out": "s"}
_FLAT = 0.1  # slopes of finite widths bend by this much
_RATE = 2.0**-8
_STEPS = 3


def predict(config: Any) -> Claims:
    """Exponents of what one step of Adam changes in the hidden layer and the readout, W → W + ΔW at fixed inputs."""
    claims = [
        statistical(f"coordinates_{layer}_{rule}",
                    f"coordinates: exponent of ΔW x in width, {name}, {transfer.TITLES[rule]}", _SOURCE, exponent,
                    "theory: 0.1 at these widths", tolerance=_FLAT,
                    rival=(1 - exponent, "that of the other parameterization"))
        for rule, exponent in _EXPONENTS.items() for layer, name in _LAYERS.items()
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def measure(config: Any) -> xr.Dataset:
    """Sizes of own changes at the first step, and their exponents over the upper half of the widths."""
    key = jax.random.fold_in(jax.random.key(config.seed), _STREAM)
    sizes, errors = [], []
    scalars: dict[str, float] = {}
    for rule in transfer.RULES:
        found = _check(config, rule, key).isel(step=0).set_index(parameter="parameter").sel(parameter=list(_LAYERS))
        for layer in _LAYERS:
            slope, error = (found[name].sel(parameter=layer) for name in ("own_change_slope", "own_change_slope_error"))
            scalars |= estimated(f"coordinates_{layer}_{rule}", slope, error, config.seeds)
        size, spread = mean_and_error(found.own_change.transpose("parameter", "width", "seed").values, -1)
        sizes.append(size)
        errors.append(spread)
    dims = ("check_rule", "layer", "check_width")
    arrays = {"coordinate": (dims, np.array(sizes)), "coordinate_se": (dims, np.array(errors))}
    coords = {
        "check_rule": transfer.names_of(transfer.RULES),
        "layer": transfer.names_of(_LAYERS),
        "check_width": list(config.check_widths),
    }
    return xr.Dataset({**arrays, **scalars}, coords)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Sizes against width, with lines of the exponents through the widest; a colour a rule, a marker a layer."""
    widths = dataset.check_width.values
    for color, rule in zip(figures.PALETTE, transfer.RULES, strict=False):
        for layer, marker in _MARKERS.items():
            taken = dataset.sel(check_rule=rule, layer=layer)
            line = taken.coordinate.values[-1] * (widths / widths[-1]) ** _EXPONENTS[rule]
            label = transfer.TITLES[rule] if layer == "hidden" else None
            figures.theory_line(ax, widths, line, color=color, label=label)
            figures.points(ax, widths, taken.coordinate.values, taken.coordinate_se.values, color=color, marker=marker)
    for layer, marker in _MARKERS.items():
        ax.plot([], [], marker, color="#777777", label=_LAYERS[layer])
    figures.label_axes(
        ax, "width", r"root mean square of $\Delta W\,x$", "coordinate check, one step of Adam", xscale="log",
        yscale="log",
    )  # fmt: skip
    figures.ticks_at(ax.xaxis, widths)
    ax.set_ylim(top=4 * float(dataset.coordinate.max()))  # room for the legend


def _check(config: Any, rule: str, key: jax.Array) -> xr.Dataset:
    given = transfer.model("mlp", config.examples, config.seed)
    at = lambda width: transfer.parameterized(rule, given, width)  # noqa: E731

    def make(width: int) -> Any:
        return (lambda key: at(width).start(key, given.shapes(width))), given.apply

    return parameterization.coordinate_check(
        make, config.check_widths, given.batch, lambda width: at(width).optimizer(optax.adam, _RATE, eps=1e-12), _STEPS,
        key=key, loss=given.risk, seeds=config.seeds,
    )  # fmt: skip


STUDY = Study("coordinates", predict, measure, draw)
