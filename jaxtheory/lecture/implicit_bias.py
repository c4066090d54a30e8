"""Implicit bias: of all solutions, descent finds a particular one, and theory says which before the run.

Five laws, each as a line with its run as points: early stopping against ridge, the margin's logarithm, the hyperbolic
entropy of diagonal networks, singular values learned one after another, and the stationary covariance of SGD.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import figures
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged
from jaxtheory.lecture.study import BaseConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.networks import train
from jaxtheory.optimization import implicit_bias as bias
from jaxtheory.optimization.landscapes import deep_linear, matrix_factorization

_SUPPORT = ((1.0, 2.0), (1.0, -1.0), (3.0, 2.0), (4.0, -1.0))  # two support vectors, weights 1/3 and 2/3
_SIGNAL = (1.0, -0.7, 0.4)  # of the diagonal network
_MODES, _TINY = (3.0, 2.0, 1.0), 1e-3  # of the deep linear network, and its start
_HORIZON, _MIDWAY = {2: 4.0, 3: 20.0}, 1.6  # times of the runs; when the first value is learned, not the second
_CURVATURES = (1.0, 0.3, 0.05)  # of the quadratic on which SGD settles


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the five panels."""

    out: Path = field(default=Path("runs/implicit_bias"), compare=False)
    """folder for predictions, data, table and figure"""
    doublings: int = 17
    """gradient descent on the separable data runs for 2^doublings steps"""
    scales: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    """α, the size of the diagonal network's start"""
    features: int = 40
    """of the diagonal network, with a quarter as many samples"""
    steps: int = 20_000
    """of the diagonal network"""
    depths: tuple[int, ...] = (2, 3)
    """of the deep linear networks"""
    step_size: float = 2e-3
    """of the deep linear networks"""
    walkers: int = 20_000
    """independent runs of SGD"""
    rates: tuple[float, ...] = (0.1, 0.5, 1.0, 1.5)
    """step sizes of SGD"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        more: dict[str, Any] = {
            "doublings": 22,
            "features": 100,
            "steps": 200_000,
            "step_size": 2e-4,
            "walkers": 1_000_000,
        }
        return replace(cls(), preset="paper", **more) if preset == "paper" else cls()


def predict(config: Config) -> Claims:
    """The limit of each run, and the order of what a finite run misses of it."""
    steps = 2.0**config.doublings
    limit = float(jnp.linalg.norm(_limit_across()))
    claims = [
        Claim("ratio", "stopping against ridge at λ = 1/t: largest ratio of variances", "Ali et al. (2019), Lemma 7",
              bias.flow_ratio(), "theory: curvature between grid points of ln x, 0.03 apart", tolerance=1e-3,
              kind="formula",
              rival=1.0, rival_law="flow and ridge have one variance"),
        Claim("bias", "stopping against ridge at λ = 1/t: largest ratio of biases", "Ali et al. (2019), Thm 1", 1.0,
              "theory: round-off", tolerance=1e-12, relation="<=", kind="formula"),
        Claim("across", "separable: what w keeps across the largest margin", "Soudry et al. (2018), Thm 4", limit,
              "theory: ln²t/t", tolerance=float(np.log(steps)) ** 2 / steps, rival=0.0,
              rival_law="w along the largest margin alone"),
    ]  # fmt: skip
    claims += [_entropy_claim(scale, config) for scale in config.scales]
    claims += [_modes_claim(depth, config) for depth in config.depths]
    symmetric = _modes_claim(2, config)
    claims += [
        symmetric._replace(name="modes_symmetric", statement="factorization XXᵀ: largest error of a singular value"),
        symmetric._replace(name="rank", statement="factorization XXᵀ: effective rank once one value is learned, error"),
    ]
    claims += [
        Claim(f"sgd_{rate:g}", f"SGD, η = {rate:g}: trace of the stationary covariance", "Mandt et al. (2017)",
              float(jnp.trace(_stationary(rate))), "4.5 standard errors over runs", standard_errors=SIGNIFICANT,
              **_flow_rival(rate))
        for rate in config.rates
    ]  # fmt: skip
    return Claims(tuple(claims), {})


def _flow_rival(rate: float) -> dict[str, Any]:
    """The covariance of the stochastic flow, (η/2) H⁻¹Σ, where the step is long enough to tell it from descent's."""
    trace = float((jnp.diagonal(_noise()) / jnp.array(_CURVATURES)).sum()) * rate / 2
    return {"rival": trace, "rival_law": "the flow, steps of size 0"} if rate * max(_CURVATURES) >= 0.25 else {}


def _entropy_claim(scale: float, config: Config) -> Claim:
    """A step η multiplies uv by 1 − 4η²g²: the start of coordinate i shrinks by η ∫4g² ≤ η max|g| arcsinh(β_i/2α²)."""
    x, y = _problem(config)
    beta = bias.hyperbolic_interpolant(x, y, scale=scale).beta
    steepest = float(jnp.abs(jnp.matmul(y, x, precision="highest")).max()) / len(y)
    shortest = jnp.linalg.lstsq(x, y)[0]
    path = float(jnp.arcsinh(jnp.abs(beta).max() / (2 * scale**2)))
    return Claim(
        f"entropy_{scale:g}", f"diagonal network, α = {scale:g}: relative distance from the least entropy",
        "Woodworth et al. (2020), Thm 1", 0.0, "theory: twice the first-order effect of the step",
        tolerance=2 * _diagonal_step(config, scale) * steepest * path,
        rival=float(jnp.linalg.norm(shortest - beta) / jnp.linalg.norm(beta)), rival_law="the least ℓ₂ norm",
    )  # fmt: skip


def _modes_claim(depth: int, config: Config) -> Claim:
    """Euler's method lags by Δt = η/2 ∫ (rate of growth of a factor) = η/2 (1 − 1/N) ln(s/σ₀), plus O(η) at the end."""
    s, p = max(_MODES), np.linspace(0, 1, 1001)
    steepest = (depth * s ** (3 - 2 / depth) * p ** (2 - 2 / depth) * (1 - p)).max()
    lag = config.step_size / 2 * ((1 - 1 / depth) * np.log(s / _TINY) + 1)
    return Claim(
        f"modes_{depth}", f"deep linear, depth {depth}: largest error of a singular value over time",
        "Saxe et al. (2014); Arora et al. (2019)", 0.0, "theory: twice the first-order lag of the step",
        tolerance=float(2 * steepest * lag),
    )  # fmt: skip


def _limit_across() -> Array:
    x, y = jnp.array(_SUPPORT), jnp.ones(len(_SUPPORT))
    return bias.limit_across(bias.max_margin(x, y), x, y)


def _diagonal_step(config: Config, scale: float) -> float:
    """Small against the curvature, which grows with α²; the same flow time for every α but large ones."""
    return 400.0 / config.steps / (1 + 4 * scale**2)


def _stationary(rate: float) -> Array:
    return bias.stationary_covariance(jnp.diag(jnp.array(_CURVATURES)), _noise(), rate)


def _noise() -> Array:
    return jnp.diag(jnp.array(_CURVATURES)) + 0.02


def measure(config: Config) -> xr.Dataset:
    """Stopping against ridge, margins, diagonal and deep linear networks and SGD: each run beside its exact law."""
    parts = [_stopping(config), _margins(config), _diagonal(config), _deep(config), _sgd(config)]
    return xr.merge(parts)


def _stopping(config: Config) -> xr.Dataset:
    """Both estimators' bias and variance in one direction, over x = ht."""
    x = jnp.exp(jnp.arange(-4.0, 4.0, 0.03))
    one = partial(bias.filtered_risk, coefficients=jnp.ones(1), samples=1, noise=1.0)
    flow, ridge = jax.vmap(lambda h: one(h[None], time=1.0))(x), jax.vmap(lambda h: one(h[None], lam=1.0))(x)
    variance, squared = np.asarray(flow.variance / ridge.variance), np.asarray(flow.bias / ridge.bias)
    values = {"variance_ratio": ("x", variance), "bias_ratio": ("x", squared)}
    return xr.Dataset({**values, "ratio": variance.max(), "bias": squared.max()}, {"x": np.asarray(x)})


def _margins(config: Config) -> xr.Dataset:
    x, y = jnp.array(_SUPPORT), jnp.ones(len(_SUPPORT))
    run = partial(bias.margin_path, x, y, step_size=0.1, doublings=config.doublings)
    plain, normalized = run(method="constant"), run(method="normalized")
    distances = {
        "constant": ("time", np.asarray(plain.distance)),
        "normalized": ("time", np.asarray(normalized.distance)),
    }
    return xr.Dataset(
        {**distances, "across": float(jnp.linalg.norm(plain.across[-1]))}, {"time": np.asarray(plain.steps)}
    )


def _problem(config: Config) -> tuple[Array, Array]:
    x = jax.random.normal(jax.random.key(config.seed), (config.features // 4, config.features))
    x = x / jnp.linalg.norm(x, 2) * jnp.sqrt(config.features // 4.0)
    return x, jnp.matmul(x[:, : len(_SIGNAL)], jnp.array(_SIGNAL), precision="highest")


def _diagonal(config: Config) -> xr.Dataset:
    """ℓ₁ norms of the predicted interpolant and of what descent finds, and their distance."""
    x, y = _problem(config)
    scales = jnp.array(config.scales)
    steps = jnp.array([_diagonal_step(config, scale) for scale in config.scales])
    law = jax.vmap(lambda scale: bias.hyperbolic_interpolant(x, y, scale=scale).beta)(scales)
    run = partial(bias.diagonal_descent, x, y, steps=config.steps)
    runs = jax.vmap(lambda scale, step: run(scale=scale, step_size=step)[0])(scales, steps)
    gaps = [float(jnp.linalg.norm(r - b) / jnp.linalg.norm(b)) for r, b in zip(runs, law, strict=True)]
    found = {f"entropy_{scale:g}": gap for scale, gap in zip(config.scales, gaps, strict=True)}
    between = jnp.geomspace(scales.min(), scales.max(), 60)
    curve = jax.vmap(lambda scale: jnp.abs(bias.hyperbolic_interpolant(x, y, scale=scale).beta).sum())(between)
    arrays = {"l1_law": ("alpha", np.asarray(curve)), "l1_run": ("scale", np.asarray(jnp.abs(runs).sum(1)))}
    return xr.Dataset({**arrays, **found}, {"scale": list(config.scales), "alpha": np.asarray(between)})


def _deep(config: Config) -> xr.Dataset:
    """Singular values of the product while gradient descent moves all matrices, and of a symmetric factorization."""
    target = jnp.diag(jnp.array(_MODES))
    deep = [_modes(partial(deep_linear, target=target), _product, depth, config) for depth in config.depths]
    factored = _modes(lambda w: matrix_factorization(w[0], target), lambda w: _product([w[0].T, w[0]]), 2, config)
    error = float(abs(factored.run2 - factored.law2).max())
    # One singular value is learned, the next is not: the law's rank midway, and the run's.
    middle = factored.sel(t2=_MIDWAY, method="nearest")
    ranks = [float(bias.effective_rank(jnp.asarray(middle[name].values))) for name in ("law2", "run2")]
    return xr.merge(deep).assign(modes_symmetric=error, rank=ranks[1] - ranks[0])


def _product(weights: list[Array]) -> Array:
    return jnp.diag(jnp.linalg.multi_dot(weights[::-1], precision="highest"))


def _modes(loss: Any, values: Any, depth: int, config: Config) -> xr.Dataset:
    """One run from the balanced start, with 100 records, beside its law."""
    start = [_TINY ** (1 / depth) * jnp.eye(len(_MODES)) for _ in range(depth)]
    every = int(_HORIZON[min(depth, 3)] / config.step_size) // 100
    fit = partial(train, loss, optimizer=optax.sgd(config.step_size), steps=100 * every, record=values)
    run = np.asarray(jax.jit(partial(fit, record_every=every))(start).records)
    times = config.step_size * every * jnp.arange(1.0, 101.0)
    law = np.asarray(bias.deep_linear_modes(jnp.array(_MODES), depth, _TINY, times))
    names = (f"t{depth}", "mode")
    found = {f"run{depth}": (names, run), f"law{depth}": (names, law), f"modes_{depth}": abs(run - law).max()}
    return xr.Dataset(found, {f"t{depth}": np.asarray(times)})


def _sgd(config: Config) -> xr.Dataset:
    """Independent runs of SGD on a quadratic, long after its slowest time."""
    h, root = jnp.array(_CURVATURES), jnp.linalg.cholesky(_noise())

    @jax.jit
    def settle(rate: Array) -> Array:
        def step(i: Array, theta: Array) -> Array:
            xi = jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), i), theta.shape)
            return theta - rate * (theta * h[None] + jnp.matmul(xi, root.T, precision="highest"))

        last = jax.lax.fori_loop(0, 2000, step, jnp.zeros((config.walkers, len(_CURVATURES))))
        return (last**2).sum(1)

    found = [averaged(f"sgd_{rate:g}", settle(jnp.asarray(rate)), None) for rate in config.rates]
    mean, error, _ = np.array([list(one.values()) for one in found]).T
    scalars = {name: value for one in found for name, value in one.items()}
    arrays = {"trace": ("rate", mean), "trace_error": ("rate", error)}
    return xr.Dataset({**arrays, **scalars}, {"rate": list(config.rates)})


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Five panels: the law as a line, the run as points."""
    figure, axes = figures.canvas(rows=2, columns=3, panel=(5.4, 4.3))
    _draw_stopping(axes[0], dataset)
    _draw_margins(axes[1], dataset)
    scale = dataset.scale.values
    figures.theory_line(axes[2], dataset.alpha, dataset.l1_law, label="least entropy")
    figures.points(axes[2], scale, dataset.l1_run, label="gradient descent")
    figures.label_axes(axes[2], "size of the start, $\\alpha$", "$\\|\\beta\\|_1$ of the interpolant",
                       "sparse from small starts", xscale="log")  # fmt: skip
    for ax, depth in zip(axes[3:5], (2, 3), strict=True):
        if f"law{depth}" in dataset:
            _draw_modes(ax, dataset, depth)
    rates = np.linspace(0.05, max(dataset.rate.values), 80)
    figures.theory_line(axes[5], rates, [float(jnp.trace(_stationary(r))) for r in rates], label="discrete Lyapunov")
    figures.points(axes[5], dataset.rate, dataset.trace, dataset.trace_error, label="SGD")
    figures.label_axes(axes[5], "step size $\\eta$", "trace of the covariance", "where SGD settles")
    return figure


def _draw_stopping(ax: Axes, dataset: xr.Dataset) -> None:
    figures.theory_line(ax, dataset.x, dataset.variance_ratio, label="variance, flow over ridge")
    figures.theory_line(ax, dataset.x, dataset.bias_ratio, label="bias, flow over ridge", linestyle="--")
    ax.axhline(bias.flow_ratio(), color="#777777", linestyle=":", label=f"{bias.flow_ratio():.4f}")
    figures.label_axes(ax, "$x = h\\,t$", "ratio at $\\lambda = 1/t$", "early stopping is nearly ridge", xscale="log")
    ax.set_ylim(-0.1, 2.6)
    ax.legend(loc="upper left")


def _draw_margins(ax: Axes, dataset: xr.Dataset) -> None:
    time = dataset.time.values
    limit = float(jnp.linalg.norm(_limit_across()))
    late = time >= 8
    figures.theory_line(ax, time[late], limit / np.log(time[late]), label="$\\|\\tilde w_\\perp\\| / \\ln t$")
    for method, marker in (("constant", "o"), ("normalized", "s")):
        figures.points(ax, time, dataset[method], label=f"{method} step", marker=marker)
    figures.label_axes(ax, "iteration $t$", "distance from the largest margin", "the speed of a logarithm",
                       xscale="log", yscale="log")  # fmt: skip


def _draw_modes(ax: Axes, dataset: xr.Dataset, depth: int) -> None:
    time = dataset[f"t{depth}"].values
    for mode, color in zip(range(len(_MODES)), figures.PALETTE, strict=False):
        figures.theory_line(ax, time, dataset[f"law{depth}"][:, mode], color=color)
        figures.points(ax, time[::5], dataset[f"run{depth}"][::5, mode], color=color, label=f"$s = {_MODES[mode]:g}$")
    figures.label_axes(ax, "time $t$", "singular value of the product", f"depth {depth}: one after another")


TOPIC = Topic("implicit-bias", Config, predict, measure, draw)
