"""The best learning rate over widths: it stays under maximal update, and moves under the standard parameterization."""

from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures, sweeps
from jaxtheory.lecture.claims import Claims, estimated, statistical
from jaxtheory.lecture.feature_learning import models
from jaxtheory.lecture.feature_learning.models import Model
from jaxtheory.lecture.study import Study
from jaxtheory.networks import parameterization, train
from jaxtheory.networks.parameterization import Parameterization

RULES = {"maximal": parameterization.maximal_update, "standard": parameterization.standard}
TITLES = {"maximal": "maximal update", "standard": "standard"}
_EXPONENTS = {"maximal": 0.0, "standard": -1.0}  # of the best rate of Adam, in width
_DATA = {"mlp": "digits", "transformer": "text"}
_MARKERS = {"mlp": "o", "transformer": "s"}
_SOURCE = "Yang et al. (2022), Tensor Programs V"
_STREAM = 3  # of random numbers, beside those of the other studies


@lru_cache(maxsize=8)
def model(name: str, examples: int, seed: int) -> Model:
    """One of the two models, with its data."""
    if name == "mlp":
        return models.mlp(examples)
    return models.transformer(examples, jax.random.fold_in(jax.random.key(seed), _STREAM))


def parameterized(rule: str, given: Model, width: int) -> Parameterization:
    """The model's parameterization at a width."""
    base, wider = (given.shapes(factor * models.BASE) for factor in (1, 2))
    return RULES[rule](given.apply, base, wider, given.batch[0]).at(given.shapes(width))


def sweep(config: Any, name: str) -> xr.Dataset:
    """Training losses over rules, widths, rates and seeds; rules and rates share their draws."""
    given = model(name, config.examples, config.seed)
    point = partial(_loss, given=given, steps=config.transfer_steps)
    grid = sweeps.grid(
        rule=list(RULES), width=list(config.transfer_widths), rate=list(config.rates), seed=range(config.seeds)
    )
    out, shared = config.out / f"transfer-{name}.zarr", ("rule", "rate")
    run = partial(sweeps.run, out=out, key=config.seed, static=("rule", "width"), paired=shared, progress=False)
    return run(point, grid).load()


def _loss(rate: Array, seed: Array, key: Array, *, rule: str, width: int, given: Model, steps: int) -> dict[str, Array]:
    """The loss after some steps of Adam on one batch, at a learning rate of the base width."""
    how, (x, y) = parameterized(rule, given, width), given.batch
    risk = lambda params: given.risk(given.apply(params, x), y)  # noqa: E731
    optimizer = how.optimizer(optax.adam, rate, eps=1e-12)
    run = train(risk, how.start(key, given.shapes(width)), optimizer=optimizer, steps=steps, record_every=steps)
    return {"loss": risk(run.params)}


def predict(config: Any) -> Claims:
    """Exponents of the best rate in width: 0 under maximal update, −1 under the standard parameterization.

    A hidden layer's update changes its outputs by rate · width, and the network's by rate · width^(3/2) where that
    lines up with a readout of size width^(−1/2), as in the first steps of the transformer: −1 is a bound there.
    """
    octaves = np.log2(config.transfer_widths[-1] / config.transfer_widths[0])
    step = np.log2(config.rates[1] / config.rates[0]) / octaves
    basis = "theory: half a step of the grid of rates over the widths, at either end"
    claims = [
        statistical(f"transfer_{name}_{rule}",
                    f"transfer: exponent of the best rate in width, {TITLES[rule]}, {_DATA[name]}", _SOURCE, exponent,
                    basis, tolerance=float(step), relation="<=" if (name, rule) == ("transformer", "standard") else "=",
                    rival=(-1 - exponent, "that of the other parameterization"))
        for name in config.models for rule, exponent in _EXPONENTS.items()
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def measure(config: Any) -> xr.Dataset:
    """The best rate of each width, between the rates of the grid, and its exponent."""
    widths = np.log2(np.array(config.transfer_widths, float))
    around = widths - widths.mean()
    best, errors = [], []
    scalars: dict[str, Any] = {}
    for name in config.models:
        losses = sweep(config, name).loss.transpose("rule", "seed", "width", "rate").values
        for rule, of_rule in zip(RULES, losses, strict=True):
            value = _best(of_rule, config.rates)
            kept = np.array([_best(one, config.rates) for one in _without(of_rule)])
            slopes = [float(around @ one / (around @ around)) for one in (value, *kept)]
            scalars |= estimated(f"transfer_{name}_{rule}", slopes[0], _spread(slopes[1:]), config.seeds)
            best.append(value)
            errors.append(_spread(kept))
    shape = (len(config.models), len(RULES), len(widths))
    dims = ("model", "transfer_rule", "transfer_width")
    coords = {
        "model": names_of(config.models),
        "transfer_rule": names_of(RULES),
        "transfer_width": list(config.transfer_widths),
    }
    arrays = {"best": (dims, np.reshape(best, shape)), "best_se": (dims, np.reshape(errors, shape))}
    return xr.Dataset({**arrays, **scalars}, coords)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """The best rate against width, with lines of the exponents through the mean of the points."""
    widths = dataset.transfer_width.values
    for color, rule in zip(figures.PALETTE, RULES, strict=False):
        for name in dataset.model.values:
            taken = dataset.sel(model=name, transfer_rule=rule)
            best, error = 2**taken.best.values, 2**taken.best.values * np.log(2) * taken.best_se.values
            if not np.isfinite(best).any():
                continue  # the best rate is at an end of the grid: the claim has failed
            middle = np.exp(np.log(best / widths ** _EXPONENTS[rule]).mean())
            label = TITLES[rule] if name == dataset.model.values[0] else None
            figures.theory_line(ax, widths, middle * widths ** _EXPONENTS[rule], color=color, label=label)
            figures.points(ax, widths, best, error, color=color, marker=_MARKERS[name])
    figures.label_axes(ax, "width", "best learning rate", "transfer of the learning rate", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, widths)


def measure_curves(config: Any) -> xr.Dataset:
    """Mean losses of the first model at each rate."""
    losses = sweep(config, config.models[0]).loss.transpose("rule", "width", "rate", "seed").values
    dims = ("curve_rule", "curve_width", "rate")
    found = {"transfer_loss": (dims, np.exp(np.log(losses).mean(-1)))}
    coords = {"curve_rule": names_of(RULES), "curve_width": list(config.transfer_widths), "rate": list(config.rates)}
    return xr.Dataset(found, coords)


def draw_curves(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Loss against rate, a colour a width; dotted lines are the standard parameterization."""
    rates = dataset.rate.values
    for color, width in zip(figures.PALETTE[2:], dataset.curve_width.values, strict=False):
        for rule, style in zip(RULES, ("-", ":"), strict=True):
            losses = dataset.transfer_loss.sel(curve_width=width, curve_rule=rule).values
            label = f"width {width}" if rule == "maximal" else None
            ax.plot(rates, losses, style, color=color, marker="o", markersize=4, linewidth=1.2, label=label)
    for rule, style in zip(RULES, ("-", ":"), strict=True):
        ax.plot([], [], style, color="#777777", label=TITLES[rule])
    figures.label_axes(ax, "learning rate", "loss", "loss after training, digits", xscale="log", yscale="log")
    shown = dataset.transfer_loss.values[np.isfinite(dataset.transfer_loss.values)]
    ax.set_ylim(top=20 * shown.max() if shown.size else None)  # room for the legend
    ax.legend(loc="upper left", ncols=2)


def names_of(words: Iterable[str]) -> np.ndarray:
    """Words as a coordinate that a store keeps."""
    return np.array(list(words), np.dtypes.StringDType())


def _best(losses: np.ndarray, rates: tuple[float, ...]) -> np.ndarray:
    """log₂ of the best rate at each width, from [seeds widths rates]: the parabola through three points of log loss."""
    octaves, found = np.log2(np.array(rates)), []
    for curve in np.log(losses).mean(0):
        i = int(np.where(np.isfinite(curve), curve, np.inf).argmin())
        if not 0 < i < len(octaves) - 1:
            return np.full(losses.shape[1], np.nan)
        left, middle, right = curve[i - 1 : i + 2]
        shift = (left - right) / (2 * (left - 2 * middle + right)) if np.isfinite(left + right) else 0.0
        found.append(octaves[i] + shift * (octaves[i + 1] - octaves[i]))
    return np.array(found)


def _without(losses: np.ndarray) -> list[np.ndarray]:
    """The losses without each seed in turn."""
    return [np.delete(losses, i, axis=0) for i in range(len(losses))]


def _spread(kept: Any) -> Any:
    """Jackknife standard error of what the seeds without each one give."""
    return np.std(kept, axis=0) * (len(kept) - 1) ** 0.5


STUDY = Study("transfer", predict, measure, draw)
CURVES = Study("curves", lambda config: Claims((), {}), measure_curves, draw_curves)
