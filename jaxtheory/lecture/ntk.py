"""The tangent kernel: its law at initialization, how far training moves it, and training as learning it.

At finite width the kernel fluctuates as width^(−1/2) around its limit, and the wider the network the less it moves, so
that wide networks train as linear models whose largest eigendirections are learned first. Networks that do learn
features end as a kernel machine too: that of the kernel they have learned.

Two of the settings are chosen for what they show. How far the kernel moves is measured on orthogonal inputs, where the
upper bound width^(−1/2) is reached by ReLU networks (in general position they move less). The learned kernel is set
against fixed ones on digits beside pixels of pure noise (on plain digits the best fixed one wins).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, PRNGKeyArray

from jaxtheory import data, empirical, kernels, networks, sweeps
from jaxtheory.lecture.claims import averaged, estimated
from jaxtheory.lecture.ntk_claims import COSINE, predict
from jaxtheory.lecture.ntk_figure import draw
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import fit_slope

_POINTS = 8  # orthogonal inputs, in as many dimensions, of the drift experiment
_BLOCKS = ((1, 3), (3, 7), (7, 15), (15, 31))  # ranks of the eigenvectors that are followed together
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh}


@dataclass(frozen=True)
class Config:
    """Sizes of the four experiments."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: about a minute on two cores; paper: wider networks, more draws, for an accelerator"""
    out: Path = field(default=Path("runs/ntk"), compare=False)
    """folder for predictions, sweeps, data, table and figure; an interrupted run continues there"""
    shard: str | None = field(default=None, compare=False)
    """i/n: only this share of the sweeps' points, for a job array; a run without it draws and judges"""
    seed: int = 0
    """of every random draw"""
    x64: bool = False
    """compute in float64"""
    widths: tuple[int, ...] = (64, 256, 1024, 4096)
    """hidden units of the networks drawn at initialization"""
    draws: int = 1000
    """networks of each width"""
    drift_widths: tuple[int, ...] = (1024, 4096, 16384)
    """hidden units of the networks trained to see how far their kernel moves"""
    drift_seeds: int = 128
    """trained networks of each width and activation"""
    lazy_widths: tuple[int, ...] = (256, 1024, 4096)
    """hidden units of the networks trained beside their linearization"""
    lazy_seeds: int = 16
    """networks of each width; each its own digits"""
    lazy_samples: int = 64
    """digits that they train on"""
    lazy_steps: int = 400
    """of gradient descent"""
    samples: int = 500
    """digits that the feature-learning network trains on"""
    noise_pixels: int = 192
    """pixels of pure noise beside the 64 of a digit"""
    rich_width: int = 256
    """hidden units of its two layers"""
    rich_steps: int = 240
    """of gradient descent, a multiple of 6"""
    rich_seeds: int = 10
    """independent digits, noise and networks"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        wide = replace(quick, preset="paper", widths=(64, 256, 1024, 4096, 16384), draws=10000, drift_seeds=256)
        wide = replace(wide, drift_widths=(1024, 4096, 16384, 65536), lazy_widths=(256, 1024, 4096, 16384))
        wide = replace(wide, lazy_seeds=16, samples=1000, rich_width=1024, rich_seeds=20)
        return wide if preset == "paper" else quick


def measure(config: Config) -> xr.Dataset:
    """The tangent kernel at initialization, in training, beside the linearization, and as it is learned."""
    swept = sweep(config)
    parts = [ds.rename({n: f"{name}_{n}" for n in (*ds.data_vars, *ds.dims)}) for name, ds in swept.items()]
    start, drift, lazy, rich = (swept[name] for name in ("start", "drift", "lazy", "rich"))
    measured = _start_claims(start, config) | _drift_claims(drift) | _lazy_claims(lazy) | _rich_claims(rich)
    return xr.merge(parts).assign(measured).assign_attrs(draws=config.draws)


def sweep(config: Config) -> dict[str, xr.Dataset]:
    """The four experiments: at initialization, drift in training, beside the linearization, features learned."""

    def run(name: str, point: Callable[..., Any], grid: sweeps.Grid, **options: Any) -> xr.Dataset:
        out = config.out / f"{name}.zarr"
        return sweeps.run(point, grid, out=out, key=config.seed, shard=config.shard, **options)

    start = sweeps.grid(width=config.widths)
    drift = sweeps.grid(activation=list(_ACTIVATIONS), width=config.drift_widths, seed=range(config.drift_seeds))
    lazy = sweeps.grid(width=config.lazy_widths, seed=range(config.lazy_seeds))
    rich = sweeps.grid(seed=range(config.rich_seeds))
    return {
        "start": run("start", partial(_start, draws=config.draws), start, static="width"),
        "drift": run("drift", _drift, drift, static=("activation", "width"), block=config.drift_seeds),
        "lazy": run("lazy", partial(_lazy, config=config), lazy, static="width"),
        "rich": run("rich", partial(_rich, config=config), rich, block=1),
    }


def _shallow(activation: str, params: tuple[Array, Array], x: Array) -> Array:
    """f(x) = √(2/m) Σ_j a_j φ(w_j·x)."""
    return jnp.sqrt(2 / jnp.asarray(len(params[1]), x.dtype)) * (_ACTIVATIONS[activation](x @ params[0]) @ params[1])


def _draw(width: int, dimension: int, dtype: Any, key: PRNGKeyArray) -> tuple[Array, Array]:
    inner, outer = jax.random.split(key)
    return jax.random.normal(inner, (dimension, width), dtype), jax.random.normal(outer, (width, 1), dtype)


def _start(width: int, key: PRNGKeyArray, *, draws: int) -> dict[str, Any]:
    """Mean and spread of the kernel of two inputs over independent networks."""
    x = jnp.array([[1.0, 0.0], [COSINE, (1 - COSINE**2) ** 0.5]])
    init = partial(_draw, width, 2, x.dtype)
    average = empirical.mean_ntk(init, partial(_shallow, "relu"), x[:1], x[1:], key, draws)
    error = average.standard_error[0, 0]
    return {"mean": average.kernel[0, 0], "standard_error": error, "deviation": error * draws**0.5}


def _drift(activation: str, width: int, seed: Array, key: PRNGKeyArray) -> dict[str, Any]:
    """How far kernel and parameters move while orthogonal inputs are fitted, relative to where they began."""
    x = jnp.eye(_POINTS)
    y = jnp.where(jnp.arange(_POINTS) % 2 == 0, 1.0, -1.0)[:, None].astype(x.dtype)
    f = partial(_shallow, activation)
    params = _draw(width, _POINTS, x.dtype, key)
    fit = networks.train(lambda p: 0.5 * jnp.sum((f(p, x) - y) ** 2), params, optimizer=optax.sgd(0.2), steps=100)
    before, after = (empirical.ntk(f, p, x, output="trace", method="structured") for p in (params, fit.params))
    moved = optax.tree.norm(jax.tree.map(jnp.subtract, fit.params, params)) / optax.tree.norm(params)
    return {"kernel": jnp.linalg.norm(after - before) / jnp.linalg.norm(before), "parameters": moved}


def _parity(y: Array, dtype: Any) -> Array:
    return jnp.where(y % 2 == 0, 1, -1).astype(dtype)


def _digits(train: int, key: PRNGKeyArray, config: Config) -> tuple[Array, Array, Array, Array]:
    """Centered 8x8 digits of mean squared pixel 1, even against odd, cut at random by `key`."""
    whole = data.digits(train, dtype="float64" if config.x64 else "float32")
    x, y = jnp.concatenate([whole.x, whole.x_test]), jnp.concatenate([whole.y, whole.y_test])
    order = jax.random.permutation(key, len(x))
    x = x - x.mean(0, keepdims=True)
    x, y = (x / jnp.sqrt((x**2).mean()))[order], _parity(y, x.dtype)[order]
    return x[:train], y[:train], x[train:], y[train:]


def _alone(function: Callable[[PRNGKeyArray], Any]) -> Callable[[PRNGKeyArray], Any]:
    """One seed after another under vmap: eigendecompositions that are batched may wait for each other on CPU."""
    return jax.custom_batching.sequential_vmap(function)


def _lazy(width: int, seed: Array, key: PRNGKeyArray, *, config: Config) -> dict[str, Any]:
    """A network and its linearization under the same gradient descent; components of the error by eigenvectors."""
    found = _alone(partial(_beside_linearization, width, config))(key)
    dims = {"network": ("step", "block"), "kernel": ("step", "block"), "eigenvalues": ("rank",), "steps": ("step",)}
    return {name: sweeps.named(value, *dims[name]) if name in dims else value for name, value in found.items()}


def _beside_linearization(width: int, config: Config, key: PRNGKeyArray) -> dict[str, Array]:
    draw, cut = jax.random.split(key)
    x, y, x_test, _ = _digits(config.lazy_samples, cut, config)
    x, x_test, f = x / 8, x_test[: 4 * config.lazy_samples] / 8, partial(_shallow, "relu")  # mean square norm 1
    params = _draw(width, x.shape[1], x.dtype, draw)
    theta, cross = (empirical.ntk(f, params, a, x, output="trace", method="structured") for a in (x, x_test))
    values, vectors = jnp.linalg.eigh(theta)
    rate = 1 / values[-1]
    run = partial(_descend, params, x, x_test, y, rate, config.lazy_steps)
    seen, seen_test = run(f)
    flat = run(empirical.linearize(f, params))[0]
    steps = jnp.arange(config.lazy_steps + 1)
    law = kernels.gradient_descent(
        theta, y, learning_rate=rate, steps=steps, initial=f(params, x)[:, 0], ntk_test=cross,
        initial_test=f(params, x_test)[:, 0],
    )  # fmt: skip
    assert law.test is not None
    gap = jnp.sqrt(((seen_test - law.test) ** 2).mean(1)).max() / jnp.sqrt((law.test**2).mean())
    shares = [_shares((outputs - y[None]) @ vectors[:, ::-1]) for outputs in (seen, law.train)]
    round_off = jnp.linalg.norm(flat - law.train) / jnp.linalg.norm(law.train)
    curves = {"network": shares[0], "kernel": shares[1], "eigenvalues": values[::-1] * rate, "steps": steps}
    return {"gap": gap, "round_off": round_off, **curves}


def _descend(
    params: Any, x: Array, x_test: Array, y: Array, rate: Any, steps: int, f: Callable[..., Array]
) -> tuple[Array, Array]:
    """Outputs on training and test inputs before training and after every step of gradient descent."""
    both = jnp.concatenate([x, x_test])
    outputs = lambda p: f(p, both)[:, 0]  # noqa: E731
    loss = lambda p: 0.5 * jnp.sum((f(p, x)[:, 0] - y) ** 2)  # noqa: E731
    records = networks.train(loss, params, optimizer=optax.sgd(rate), steps=steps, record=outputs).records
    whole = jnp.concatenate([outputs(params)[None], records])
    return whole[:, : len(x)], whole[:, len(x) :]


def _shares(components: Array) -> Array:
    """The part of each block's initial error that is left, [steps, blocks]."""
    energy = jnp.stack([(components[:, low:high] ** 2).sum(1) for low, high in _BLOCKS], axis=1)
    return jnp.sqrt(energy / energy[:1])


def _rich(seed: Array, key: PRNGKeyArray, *, config: Config) -> dict[str, Any]:
    """A network that learns features of noisy digits; its kernel at seven times, as a regression kernel."""
    found = _alone(partial(_learning_features, config))(key)
    return {name: sweeps.named(value, "kernel" if name == "fixed" else "time") for name, value in found.items()}


def _learning_features(config: Config, key: PRNGKeyArray) -> dict[str, Array]:
    cut, draw, *hiss = jax.random.split(key, 4)
    x, y, x_test, y_test = _digits(config.samples, cut, config)
    sets = [
        jnp.concatenate([a, jax.random.normal(k, (len(a), config.noise_pixels), a.dtype)], axis=1)
        for k, a in zip(hiss, (x, x_test[:1000]), strict=True)
    ]
    inputs, every = 64 + config.noise_pixels, config.rich_steps // 6
    net = networks.multilayer(
        inputs, config.rich_width, 1, hidden_layers=2, abc=networks.mup(3), weight_variance=2.0, output_scale=0.1,
        dtype=x.dtype,
    )  # fmt: skip
    error = partial(_regress, sets[0], sets[1], y, y_test[:1000])

    def look(params: Any) -> dict[str, Array]:
        wrong = jnp.mean((net.apply(params, sets[1])[:, 0] > 0) != (y_test[:1000] > 0))
        theta = empirical.kernel_fn(net.apply, params, method="structured")
        gram = theta(sets[0])
        aligned = empirical.centered_alignment(gram, jnp.outer(y, y))
        return {"network": wrong, "ntk": error(theta, gram), "alignment": aligned}

    params = net.init(draw)
    loss = lambda p: 0.5 * jnp.mean((net.apply(p, sets[0])[:, 0] - y) ** 2)  # noqa: E731
    how = {"optimizer": optax.sgd(0.5), "steps": config.rich_steps, "record": look, "record_every": every}
    later, first = networks.train(loss, params, **how).records, look(params)
    curves = {name: jnp.append(first[name], later[name]) for name in first}
    # in the order of `ntk_figure.FIXED`; bandwidths are the inputs' root mean square norm
    fixed = [kernels.gaussian(inputs**0.5), kernels.laplace(inputs**0.5), kernels.arc_cosine(1)]
    return {**curves, "fixed": jnp.stack([error(k, k(sets[0], sets[0])) for k in fixed])}


def _regress(x: Array, x_test: Array, y: Array, y_test: Array, kernel: Callable[..., Array], gram: Array) -> Array:
    """Test misclassification of kernel ridge regression, the ridge chosen by leave-one-out on the training set."""
    ridges = jnp.logspace(-5, 1, 13, dtype=gram.dtype) * jnp.trace(gram) / len(gram)
    path = kernels.ridge_path((gram + gram.T) / 2, None, y, ridges)
    alpha = path.alpha[jnp.argmin(path.leave_one_out)]
    return jnp.mean((kernel(x_test, x) @ alpha > 0) != (y_test > 0))


def _start_claims(start: xr.Dataset, config: Config) -> dict[str, float]:
    narrow, deviations = start.isel(width=0), start.deviation.values
    # the sample deviation of nearly normal draws is known to 1/√(2(N − 1)) of it
    relative = (2 * (config.draws - 1)) ** -0.5
    scaled = float((deviations * np.sqrt(start.width.values)).mean())
    slope = _slope(start.width.values, deviations, relative * deviations, "deviation_slope", config.draws)
    spread = estimated("deviation", scaled, scaled * relative / len(deviations) ** 0.5, config.draws)
    return estimated("mean", narrow["mean"], narrow.standard_error, config.draws) | spread | slope


def _drift_claims(drift: xr.Dataset) -> dict[str, float]:
    chosen = {f"drift_{name}": drift.kernel.sel(activation=name) for name in _ACTIVATIONS}
    chosen["drift_parameters"] = drift.parameters.sel(activation="relu")
    return {k: v for name, values in chosen.items() for k, v in _width_slope(values, name).items()}


def _lazy_claims(lazy: xr.Dataset) -> dict[str, float]:
    wide = lazy.isel(width=-1)
    rates = [
        [_rate(wide[name].isel(seed=s), wide.steps.isel(seed=s)) for s in wide.seed] for name in ("kernel", "network")
    ]
    slopes = [np.polyfit(np.log(law), np.log(seen), 1)[0] for law, seen in zip(*rates, strict=True)]
    order = averaged("order", xr.DataArray(slopes, dims="seed"))
    return {**_width_slope(lazy.gap, "gap_slope"), "round_off": float(lazy.round_off.max()), **order}


def _rate(shares: xr.DataArray, steps: xr.DataArray) -> np.ndarray:
    """1 / the first step at which each block's error is halved, linear between steps."""
    found = []
    for block in range(shares.sizes["block"]):
        curve = shares.isel(block=block).values
        after = int(np.argmax(curve < 0.5)) if (curve < 0.5).any() else len(curve) - 1
        part = (curve[after - 1] - 0.5) / (curve[after - 1] - curve[after])
        found.append(float(steps[after - 1] + part * (steps[after] - steps[after - 1])))
    return 1 / np.array(found)


def _rich_claims(rich: xr.Dataset) -> dict[str, float]:
    learned = rich.ntk.isel(time=-1)
    best = rich.fixed.isel(kernel=int(rich.fixed.mean("seed").values.argmin()))
    differences = {
        "alignment_growth": rich.alignment.isel(time=-1) - rich.alignment.isel(time=0),
        "learned_less_initial": learned - rich.ntk.isel(time=0),
        "learned_less_fixed": learned - best,
        "learned_less_network": learned - rich.network.isel(time=-1),
    }
    return {k: v for name, values in differences.items() for k, v in averaged(name, values).items()}


def _width_slope(values: xr.DataArray, name: str) -> dict[str, float]:
    """The exponent of width in the root mean square over seeds, with errors by the delta method."""
    squares = values.values**2
    mean, error = squares.mean(-1), squares.std(-1, ddof=1) / squares.shape[-1] ** 0.5
    return _slope(values.width.values, np.sqrt(mean), error / (2 * np.sqrt(mean)), name, squares.shape[-1])


def _slope(x: np.ndarray, y: np.ndarray, error: np.ndarray, name: str, draws: int) -> dict[str, float]:
    fit = fit_slope(*(jnp.asarray(v, jnp.float32) for v in (x, y, error)))
    return estimated(name, fit.slope, fit.standard_error, draws)


TOPIC = Topic("ntk", Config, predict, measure, draw, sweep)
