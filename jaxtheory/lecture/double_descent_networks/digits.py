"""Networks on digits: the curve over widths, and what label noise, weight decay, stopping, ensembles and data do."""

from functools import partial

import jax
import numpy as np
import optax
import xarray as xr
from matplotlib.axes import Axes

from jaxtheory import data, figures, networks
from jaxtheory.lecture.claims import Claim, Claims, averages, negative
from jaxtheory.lecture.double_descent_networks.config import Config
from jaxtheory.lecture.panels import draw_joined
from jaxtheory.lecture.study import Study, kept

CLASSES = 10


def predict(config: Config) -> Claims:
    """Differences of test losses, or of their logarithms, that the phenomenon makes negative."""
    belkin, nakkiran = "Belkin et al. (2019)", "Nakkiran et al. (2020)"
    ascoli = "d'Ascoli et al. (2020)"
    signs = {
        "second_descent": ("widths: log loss of the widest network minus that at nK parameters", belkin),
        "modern": ("widths: lowest log loss beyond nK parameters minus lowest before", belkin),
        "clean_peak": ("label noise: log loss at nK parameters without it minus with it", nakkiran),
        "decay": ("weight decay: log loss at nK parameters with it minus without", "Krogh, Hertz (1992)"),
        "early_stopping": ("early stopping: lowest log loss over time at nK parameters minus the last", nakkiran),
        "ensemble": ("ensemble of the seeds: its log loss at nK parameters minus one network's", ascoli),
        "more_data": ("samples: log loss with fewest images minus with most, 2nK parameters", nakkiran),
    }  # fmt: skip
    pixels = {"digits": 64, "mnist": 784}[config.images]
    ratios = [((pixels + 1) * w + (w + 1) * CLASSES) / (config.samples * CLASSES) for w in sorted(config.widths)]
    latest = next((ratio for ratio in ratios if ratio >= 1), ratios[-1])
    below = Claim(
        "peak_ratio", "widths: parameters at the peak over nK, no later than the first width with nK", belkin, latest,
        "theory: nK equations are met by nK parameters; rounding", tolerance=1e-6, relation="<=",
    )  # fmt: skip
    return Claims((below, *(negative(name, statement, source) for name, (statement, source) in signs.items())), {})


def measure(config: Config) -> xr.Dataset:
    """Networks of every width on digits, over label noise, weight decay, samples and time."""
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
    whole = noisy.assign(
        clean_loss=clean.test_loss.isel(step=-1, drop=True), decay_loss=weak.test_loss.isel(step=-1, drop=True),
        samples_loss=by_samples,
    )  # fmt: skip
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
    target = np.asarray(data.one_hot(split.y_test, CLASSES))
    return run.dataset.assign(ensemble_loss=("width", ((mean - target) ** 2).sum(axis=-1).mean(axis=-1)))


def _claims(whole: xr.Dataset, config: Config) -> dict[str, float]:
    """The measured side of every claim; differences are taken seed by seed, at places of the theory or other seeds."""
    logs = whole[["test_loss", "clean_loss", "decay_loss", "samples_loss", "ensemble_loss"]].map(np.log)
    most = int(whole.samples.max())
    places = [_first(whole.parameters.values, CLASSES * n) for n in (config.samples, 2 * most)]
    seeds = [_differences(logs, seed, *places) for seed in range(logs.sizes["seed"])]
    found = {name: np.array([one[name] for one in seeds]) for name in seeds[0]}
    measured = averages(found, None)
    top = int(logs.test_loss.isel(step=-1).mean("seed").values[1:-1].argmax()) + 1
    return measured | {"peak_ratio": float(whole.parameters[top]) / (config.samples * CLASSES)}


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


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test losses over the number of parameters, and what lowers their peak."""
    count = dataset.attrs["samples"] * CLASSES
    ratio, last = dataset.parameters.values / count, dataset.test_loss.isel(step=-1)
    kinds = {
        "label noise": last, "no label noise": dataset.clean_loss, "weight decay": dataset.decay_loss,
        "stopped early": dataset.test_loss.isel(step=dataset.test_loss.mean("seed").argmin("step")),
    }  # fmt: skip
    for color, (label, values) in zip(figures.PALETTE, kinds.items(), strict=False):
        draw_joined(ax, ratio, values, "seed", label=label, color=color)
    ax.plot(ratio, dataset.ensemble_loss.values, "s--", color=figures.PALETTE[4], label="ensemble of seeds")
    figures.threshold(ax, 1.0, "parameters $= nK$")
    title = f"networks on n = {dataset.attrs['samples']:,} digits"
    figures.label_axes(ax, "parameters / (n K)", "test squared error", title, xscale="log", yscale="log")
    ax.set_ylim(top=12 * float(last.mean("seed").max()))  # room for the legend
    figures.ticks_at(ax.xaxis, ratio)


STUDY = Study("digits", predict, measure, draw)
