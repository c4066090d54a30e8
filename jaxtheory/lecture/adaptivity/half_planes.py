"""Trained networks on half-planes, and on a Gaussian field of the same covariance: they adapt, linear methods cannot.

The two classes have one covariance, so every linear estimator has one risk on both, and the best one is known exactly.
Networks see the same points and the same noise, and are stopped where a quarter of the samples says.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, networks, sweeps
from jaxtheory.lecture.adaptivity.config import Config
from jaxtheory.lecture.claims import Claims, negative, positive, statistical
from jaxtheory.lecture.exponents import exponents, log_ratio, minus, named, named_apart, slope
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study, swept
from jaxtheory.smoothness.jumps import half_space_covariance, half_spaces

_DIM, _SIGMA, _TESTS = 2, 0.3, 512
_MANY = 64  # half-planes in the field: Gaussian but for a kurtosis of −2/64
_RIDGES = _SIGMA**2 * 4.0 ** np.arange(-2, 4)
_HELD = 4  # one of so many samples is for validation
_LAYERS, _RATE, _BATCH, _RECORDS = 3, 2e-2, 32, 25


def _points(samples: int) -> tuple[Array, Array]:
    """The design, of which smaller ones are the beginning, and points where risks are measured: uniform in the disc."""
    radius, angle = jax.random.uniform(jax.random.key(17), (2, 16_384 + _TESTS), jnp.float32)
    disc = jnp.sqrt(radius)[:, None] * jnp.stack([jnp.cos(2 * jnp.pi * angle), jnp.sin(2 * jnp.pi * angle)], axis=1)
    return disc[_TESTS : _TESTS + samples], disc[:_TESTS]


@cache
def _linear_law(samples: int) -> float:
    """The exact risk of the best linear estimator at the test points, given the design."""
    x, z = (part.astype(float) for part in _points(samples))
    cross = half_space_covariance(x, z)
    factor = cho_factor(half_space_covariance(x, x) + _SIGMA**2 * jnp.eye(samples))
    return float(1 - jnp.mean(jnp.sum(cross * cho_solve(factor, cross), axis=0)))


def predict(config: Config) -> Claims:
    """The exponents of both arms on half-planes, and what the Gaussian field allows."""
    law = [_linear_law(n) for n in config.samples]
    linear, middle = slope(config.samples, law), float(np.log(config.samples).mean())
    adaptive = "Imaizumi, Fukumizu (2019), Theorem 1, smooth pieces and boundary"
    found = (
        statistical("plane_linear", "half-planes: exponent of the best linear risk (−1/3 as n → ∞)", "Wahba (1990)",
                    linear, "exact at these n", rival=(-1.0, "the adaptive rate")),
        statistical("field_linear", "Gaussian field: the same exponent, since the covariance is the same",
                    "Wahba (1990)", linear, "exact at these n", rival=(-1.0, "the adaptive rate")),
        statistical("plane_network", "half-planes: exponent of a trained network's risk", adaptive, -1.0,
                    "theory: a logarithm, 1/ln n", tolerance=1 / middle, rival=(linear, "the best linear estimator")),
        negative("plane_gain", "half-planes: the network's exponent minus that of tuned kernel regression", adaptive),
        negative("plane_between", "half-planes minus Gaussian field: the network's exponents", adaptive),
        positive("field_bound",
                 f"Gaussian field: log risk of the network over the Bayes risk, n = {config.samples[-1]}",
                 "Wahba (1990)"),
    )  # fmt: skip
    return Claims(found, {"plane_law": law})


def measure(config: Config) -> xr.Dataset:
    """Both sweeps on both classes, and exponents over functions that are the same for every n and estimator."""
    risks = _risks(config)
    found = {name: exponents(config.samples, values) for name, values in risks.items()}
    table: dict[str, Any] = {f"{name}_risks": ((f"{name}_function", "plane_n"), value) for name, value in risks.items()}
    for name in ("plane_linear", "field_linear", "plane_network"):
        table |= named(name, found[name])
    network = found["plane_network"]
    table |= named("plane_gain", minus(network, found["plane_kernel"]))
    table |= named_apart("plane_between", network, found["field_network"])
    table |= named("field_bound", log_ratio(risks["field_network"][:, -1], _linear_law(config.samples[-1])))
    return xr.Dataset(table, {"plane_n": list(config.samples)})


def sweep(config: Config) -> dict[str, xr.Dataset]:
    """Risks of the trained networks, a chunk for each number of samples."""
    design, count = _points(max(config.samples)), _count(config)
    drawn = partial(_drawn, config.seed, config.functions, design=design)
    grid = sweeps.grid(samples=config.samples, function=range(count))
    trained = partial(_network_risk, drawn=drawn, design=design, steps=config.steps, width=config.width)
    return {"networks": swept(config, "networks", trained, grid, paired="samples", block=count)}


def _risks(config: Config) -> dict[str, np.ndarray]:
    """Risks [function, n] of every estimator on both classes, from the same functions, noises and points."""
    count, trained = _count(config), sweep(config)["networks"]
    drawn = partial(_drawn, config.seed, config.functions, design=_points(max(config.samples)))
    arms = {"network": trained.network.load().transpose("function", "samples").values}
    data = jax.jit(jax.vmap(drawn))(jnp.arange(count))
    kernels = np.stack([np.asarray(_kernel_risks(*_points(n), data, n)) for n in config.samples], axis=-1)
    arms |= {"linear": kernels[0], "kernel": kernels[1]}
    parts = {"plane": slice(config.functions), "field": slice(config.functions, None)}
    return {f"{name}_{arm}": values[part] for name, part in parts.items() for arm, values in arms.items()}


def _count(config: Config) -> int:
    """Functions of both classes: half as many Gaussian fields, whose risks scatter less."""
    return config.functions + config.functions // 2


class _Data(NamedTuple):
    """Noisy values at the largest design, and the function at the test points."""

    y: Array
    truth: Array


def _drawn(seed: int, planes: int, function: Array, *, design: tuple[Array, Array]) -> _Data:
    """The function of a number and its noise, whatever the estimator: below `planes` a half-plane, else a field."""
    x, z = design
    function_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), function))
    one, many = (half_spaces(function_key, jnp.concatenate([z, x]), count) for count in (1, _MANY))
    values = jnp.where(function < planes, one, many)
    return _Data(values[_TESTS:] + _SIGMA * jax.random.normal(noise_key, (len(x),), x.dtype), values[:_TESTS])


def _network_risk(
    samples: Array, function: Array, key: PRNGKeyArray,
    *, drawn: Callable[[Array], _Data], design: tuple[Array, Array], steps: int, width: int,
) -> dict[str, Array]:  # fmt: skip
    """A ReLU network by Adam on three quarters of the first n samples, at the step that the last quarter prefers."""
    (y, truth), (x, z) = drawn(function), design
    net = networks.multilayer(_DIM, width, 1, hidden_layers=_LAYERS, abc=networks.standard(_LAYERS + 1),
                              weight_variance=2.0, bias_variance=1.0)  # fmt: skip
    place = jnp.arange(len(x))
    held = (place % _HELD == 1) & (place < samples)

    def loss(params: Any, key: PRNGKeyArray) -> Array:
        place = jax.random.randint(key, (_BATCH,), 0, (_HELD - 1) * (samples // _HELD))
        seen = _HELD * (place // (_HELD - 1)) + jnp.array([0, 2, 3])[place % (_HELD - 1)]
        return jnp.mean((net.apply(params, x[seen])[:, 0] - y[seen]) ** 2)

    def record(params: Any) -> tuple[Array, Array]:
        outputs = net.apply(params, jnp.concatenate([z, x]))[:, 0]
        return jnp.mean((outputs[_TESTS:] - y) ** 2, where=held), jnp.mean((outputs[:_TESTS] - truth) ** 2)

    start, batches = jax.random.split(key)
    every = max(1, steps // _RECORDS)
    schedule = optax.cosine_decay_schedule(_RATE, steps, alpha=0.02)
    fit = networks.train(loss, net.init(start), optimizer=optax.adam(schedule), steps=steps // every * every,
                         key=batches, record=record, record_every=every)  # fmt: skip
    scores, risks = fit.records
    return {"network": risks[jnp.argmin(scores)]}


@partial(jax.jit, static_argnames="samples")
def _kernel_risks(x: Array, z: Array, data: _Data, samples: int) -> Array:
    """[arm, function]: the best linear estimator; that kernel with the ridge that a quarter prefers."""
    place = np.arange(samples)
    fit, held = place[place % _HELD != 1], place[place % _HELD == 1]
    y = data.y[..., :samples]
    outputs = jax.lax.map(lambda r: _regress(x[fit], y[..., fit], jnp.concatenate([z, x[held]]), r),
                          jnp.asarray(_RIDGES, x.dtype))  # fmt: skip
    score = jnp.mean((outputs[..., _TESTS:] - y[None, ..., held]) ** 2, axis=-1)
    risks = jnp.mean((outputs[..., :_TESTS] - data.truth[None]) ** 2, axis=-1)
    tuned = jnp.take_along_axis(risks, jnp.argmin(score, axis=0)[None], axis=0)[0]
    best = _regress(x, y, z, _SIGMA**2)
    return jnp.stack([jnp.mean((best - data.truth) ** 2, axis=-1), tuned])


def _regress(x: Array, y: Array, at: Array, ridge: float | Array) -> Array:
    """Kernel ridge regression of functions [..., n] at other points."""
    factor = cho_factor(half_space_covariance(x, x) + ridge * jnp.eye(len(x), dtype=x.dtype))
    alpha = cho_solve(factor, y.reshape(-1, len(x)).T)
    return jnp.matmul(half_space_covariance(at, x), alpha, precision="highest").T.reshape(*y.shape[:-1], len(at))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Risks over n of all estimators on half-planes, and of the network on the Gaussian field."""
    n = dataset.plane_n.values
    figures.theory_line(ax, n, claims.curves["plane_law"], color=figures.PALETTE[0], label="best linear, exact")
    start = dataset.plane_network_risks.values.mean(axis=0)[0]
    figures.theory_line(ax, n, start * n[0] / n, color=figures.PALETTE[1], linestyle="--", label="$n^{-1}$")
    for name, label, color, marker in (
        ("plane_linear", "best linear, half-planes", figures.PALETTE[0], "o"),
        ("field_linear", "best linear, Gaussian field", figures.PALETTE[0], "s"),
        ("plane_kernel", "kernel ridge, tuned", figures.PALETTE[2], "^"),
        ("field_network", "network, Gaussian field", figures.PALETTE[4], "s"),
        ("plane_network", "network, half-planes", figures.PALETTE[1], "o"),
    ):
        draw_means(ax, n, dataset[f"{name}_risks"].values, color=color, marker=marker, label=label)
    figures.label_axes(ax, "samples $n$", "risk", "one covariance: networks adapt to jumps", xscale="log",
                       yscale="log")  # fmt: skip
    figures.ticks_at(ax.xaxis, np.array(n, float))
    ax.set_ylim(bottom=start * n[0] / n[-1] / 4)  # room for the legend
    ax.legend(loc="lower left", fontsize=9)


STUDY = Study("half-planes", predict, measure, draw, sweep)
