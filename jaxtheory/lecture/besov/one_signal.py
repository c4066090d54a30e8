"""Five estimators of one signal, HeaviSine in noise, a trained network among them."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, kernels, networks, sweeps
from jaxtheory.lecture.besov.balls import BLUE, GREEN, PINK, RED
from jaxtheory.lecture.claims import Claims
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study, prefixed, swept
from jaxtheory.smoothness import bspline, estimation, signals, wavelets
from jaxtheory.smoothness.lasso import lasso

_NOISE = 1.0  # of the signal, whose standard deviation is 3
_RULES = {
    "linear": ("best linear, by level", BLUE, "o"),
    "ridge": ("kernel ridge, best ridge", figures.PALETTE[5], "s"),
    "sure": ("wavelets, SureShrink", RED, "o"),
    "lasso": ("lasso on B-splines", GREEN, "^"),
    "network": ("trained ReLU network", PINK, "D"),
}


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Every estimator on the same data, over octaves and noises."""
    point = partial(signal_risks, sigma=_NOISE, steps=config.steps, width=config.width)
    first, last = config.signal_octaves
    grid = sweeps.grid(octave=np.arange(first, last + 1), seed=range(config.signal_replicates))
    return {"signal": swept(config, "signal", point, grid, static="octave").load()}


def measure(config: Any) -> xr.Dataset:
    """Mean squared errors, to be seen beside each other: nothing is claimed of them."""
    return prefixed("signal", sweep(config)["signal"])


def predict(config: Any) -> Claims:
    """No claim: one signal has no rate."""
    return Claims((), {})


def signal_risks(
    octave: int, seed: Array, key: PRNGKeyArray, *, sigma: float, steps: int, width: int
) -> dict[str, Array]:
    """Mean squared errors on HeaviSine with noise, at n = 2^octave samples: every estimator on the same data."""
    n = 2**octave
    noise, start = jax.random.split(key)
    t = (jnp.arange(n, dtype=jnp.float64) + 0.5) / n
    f = signals.heavisine(t)
    y = f + sigma * jax.random.normal(noise, (n,), t.dtype)
    noisy, truth = (wavelets.dwt(v / math.sqrt(n), "db2") for v in (y, f))
    level = sigma / math.sqrt(n)
    back = lambda c: wavelets.idwt(c, "db2") * math.sqrt(n)  # noqa: E731
    loss = lambda fitted: jnp.mean((fitted - f) ** 2)  # noqa: E731
    design = bspline.dictionary(t, 1, octave - 1)
    gram = kernels.laplace(0.2)(t[:, None], t[:, None])
    return {
        "linear": loss(back(estimation.linear_oracle(noisy, truth, level))),
        "ridge": jnp.min(estimation.ridge_risks(gram, f, sigma, jnp.logspace(-3, 4, 40, dtype=t.dtype))),
        "sure": loss(back(estimation.denoise(noisy, level))),
        "lasso": loss(lasso(design, y, sigma * math.sqrt(2 * math.log(design.shape[1])), steps=400).fitted),
        "network": loss(_trained(start, t, y, steps, width)),
    }


def _trained(key: PRNGKeyArray, t: Array, y: Array, steps: int, width: int) -> Array:
    """A ReLU network of two hidden layers by Adam in float32, stopped where a quarter of the samples says."""
    net = networks.multilayer(
        1, width, 1, hidden_layers=2, abc=networks.standard(3), weight_variance=2.0, bias_variance=1.0
    )
    x, scale = (2 * t[:, None] - 1).astype(jnp.float32), jnp.std(y)
    target = (y / scale).astype(jnp.float32)
    held = jnp.arange(len(t)) % 4 == 1
    error = lambda params, where: jnp.mean((net.apply(params, x)[:, 0] - target) ** 2, where=where)  # noqa: E731
    every = steps // 40
    fit = networks.train(
        partial(error, where=~held), net.init(key), optimizer=optax.adam(3e-3), steps=40 * every, record_every=every,
        record=lambda params: (error(params, held), net.apply(params, x)[:, 0]),
    )  # fmt: skip
    scores, outputs = fit.records
    return outputs[jnp.argmin(scores)].astype(y.dtype) * scale


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Mean squared error over samples, a colour an estimator."""
    n = 2.0**dataset.signal_octave.values
    for rule, (label, color, marker) in _RULES.items():
        risk = dataset[f"signal_{rule}"].transpose("signal_seed", "signal_octave").values
        ax.plot(n, risk.mean(0), color=color, linewidth=1, alpha=0.6)
        draw_means(ax, n, risk, label=label, color=color, marker=marker)
    title = "HeaviSine, noise 1: five estimators"
    figures.label_axes(ax, "samples $n$", "mean squared error", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, n)
    ax.set_ylim(bottom=0.015)
    ax.legend(loc="lower left")


STUDY = Study("one signal", predict, measure, draw, sweep)
