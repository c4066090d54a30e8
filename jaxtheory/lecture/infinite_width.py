"""Infinite width: empirical tangent kernels of four architectures converge on their limits, and depth has a phase.

The limit is taken of the network that is drawn, by program transformation; the phase diagram says how deep a signal
travels; and a Gaussian process with the limit of a Flax CNN classifies digits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key, PyTree
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxtheory import data, empirical, figures, infinite, kernels
from jaxtheory.infinite import phase
from jaxtheory.infinite.corrections import relu_moments
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged, estimated
from jaxtheory.lecture.study import BaseConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import fit_slope, standard_error

_INPUTS, _DIMENSION = 6, 4
_SIGMA_W, _SIGMA_B = 1.4, 0.2
_ORDER, _CHAOS, _BIAS = (0.7, 1.0, 1.2), 2.5, 0.3  # σ_w on either side of the edge for tanh with σ_b = 0.3
_LAYERS = 20
_APART = 1e-3  # 1 − c of two inputs that come together
_NOISE = 0.1
_Architecture = Literal["tanh MLP", "residual MLP", "ReLU CNN", "tanh RNN"]


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the three parts."""

    out: Path = field(default=Path("runs/infinite_width"), compare=False)
    """folder for predictions, data, table and figure; an interrupted run continues there"""
    x64: bool = False
    """compute in float64"""
    architectures: tuple[_Architecture, ...] = ("tanh MLP", "residual MLP", "ReLU CNN", "tanh RNN")
    """networks whose kernels are drawn"""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """widths at which empirical kernels are drawn"""
    draws: int = 400
    """networks a width; squared distances scatter by 1 to 2 times their mean, which leaves .02 in the exponent"""
    deep_width: int = 512
    """width of the deep networks"""
    deep_draws: int = 24
    """deep networks"""
    images: int = 400
    """digits that the Gaussian process is trained on"""
    splits: int = 12
    """random choices of them"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        large = replace(quick, preset="paper", widths=(64, 128, 256, 512, 1024, 2048), deep_width=4096)
        return replace(large, deep_draws=50, images=1200, splits=12) if preset == "paper" else quick


class _Network(NamedTuple):
    """f(params, x), and the shapes of its parameters at a width."""

    f: Callable[[Any, Array], Array]
    shapes: Callable[[int], dict[str, tuple[int, ...]]]
    example: tuple[int, ...]


def _mlp(p: Any, x: Array) -> Array:
    h = jnp.tanh(x @ p["w1"] + p["b1"][None])
    return jnp.tanh(h @ p["w2"] + p["b2"][None]) @ p["w3"]


def _residual(p: Any, x: Array) -> Array:
    h = x @ p["w0"]
    h = h + jax.nn.relu(h) @ p["w1"]
    return (h + jax.nn.gelu(h, approximate=False) @ p["w2"]) @ p["w3"]


def _cnn(p: Any, x: Array) -> Array:
    convolve = partial(
        jax.lax.conv_general_dilated, window_strides=(1,), padding="SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    h = jax.nn.relu(convolve(x[..., None], p["k1"]))
    return jax.nn.relu(convolve(h, p["k2"])).mean(1) @ p["w"]


def _recurrent(p: Any, x: Array) -> Array:
    """One matrix for every step; the letters of an input are its coordinates."""

    def step(h: Array, letter: Array) -> tuple[Array, None]:
        return jnp.tanh(h @ p["w"] + letter[:, None] @ p["u"] + p["b"][None]), None

    start = jnp.zeros((x.shape[0], p["w"].shape[0]), x.dtype)
    return jax.lax.scan(step, start, x.T)[0] @ p["o"]


_NETWORKS = {
    "tanh MLP": _Network(
        _mlp,
        lambda n: {"w1": (_DIMENSION, n), "b1": (n,), "w2": (n, n), "b2": (n,), "w3": (n, 1)},
        (_DIMENSION,),
    ),
    "residual MLP": _Network(
        _residual, lambda n: {"w0": (_DIMENSION, n), "w1": (n, n), "w2": (n, n), "w3": (n, 1)}, (_DIMENSION,)
    ),
    "ReLU CNN": _Network(_cnn, lambda n: {"k1": (3, 1, n), "k2": (3, n, n), "w": (n, 1)}, (_DIMENSION,)),
    "tanh RNN": _Network(_recurrent, lambda n: {"w": (n, n), "u": (1, n), "b": (n,), "o": (n, 1)}, (_DIMENSION,)),
}


def _slug(name: str) -> str:
    return name.lower().replace(" ", "_")


def predict(config: Config) -> Claims:
    """What the theory says of fluctuations, of depth, and of the process."""
    slopes = [
        Claim(
            f"slope_{_slug(name)}", f"{name}: exponent in width of the distance of a drawn NTK from the limit",
            "Huang, Yau (2020), Thm 2.1", -0.5, "theory: next order in 1/width at these widths; 4.5 standard errors",
            tolerance=_next_order(config.widths),
            standard_errors=SIGNIFICANT, rival=-1.0, rival_law="no fluctuation, bias 1/n",
        )
        for name in config.architectures
    ]  # fmt: skip
    spreads = jnp.linspace(0.5, 2.8, 70)
    grid = phase.diagram("tanh", spreads, jnp.asarray([_BIAS]))
    curves = {
        "sigma_w": spreads.tolist(),
        "depth": grid.correlation_depth[:, 0].tolist(),
        "edge": [float(phase.critical_point("tanh", _BIAS).sigma_w)],
        "bias": np.linspace(0.0, 1.0, 21).tolist(),
        "line": [float(phase.critical_point("tanh", b).sigma_w) for b in np.linspace(0.0, 1.0, 21)],
    }
    orders = [_about_order(sigma_w, config) for sigma_w in _ORDER]
    return Claims((*slopes, *orders, _about_chaos(config), *_about_digits()), curves)


def _next_order(widths: tuple[int, ...]) -> float:
    """What two ReLU layers add to the exponent: fourth moments, so squared distances, grow by 1 + 5/width in each."""
    growth = [relu_moments((width, width)).features ** 0.5 for width in widths]
    return -float(np.polyfit(np.log(widths), np.log(growth), 1)[0])


def _about_order(sigma_w: float, config: Config) -> Claim:
    chi = phase.fixed_point("tanh", sigma_w, _BIAS).chi_one
    return Claim(
        f"rate_{sigma_w:g}", f"deep tanh networks, σ_w = {sigma_w:g}: rate at which two inputs come together, log χ₁",
        "Schoenholz et al. (2017), eq. 9", float(jnp.log(chi)),
        "theory: second order in 1 − c and 1/width; 4.5 standard errors", tolerance=_APART + 2 / config.deep_width,
        standard_errors=SIGNIFICANT, rival=2 * float(np.log(sigma_w)), rival_law="the same network without tanh",
    )  # fmt: skip


def _about_chaos(config: Config) -> Claim:
    point = phase.fixed_point("tanh", _CHAOS, _BIAS)
    return Claim(
        "chaos", f"deep tanh networks, σ_w = {_CHAOS:g}: correlation that they end at, c*",
        "Poole et al. (2016), eq. 7", float(point.correlation),
        "theory: 1/width over the layers remembered; 4.5 standard errors",
        tolerance=float(point.correlation_depth) / config.deep_width, standard_errors=SIGNIFICANT, rival=1.0,
        rival_law="order: inputs come together",
    )  # fmt: skip


def _about_digits() -> tuple[Claim, ...]:
    return (
        Claim(
            "gp_gain", "digits: error of the process with the CNN's limit minus that of a linear kernel",
            "Novak et al. (2019), section 4", 0.0, "significance: 4.5 standard errors below",
            standard_errors=-SIGNIFICANT,
            relation="<=",
        ),
    )  # fmt: skip


def measure(config: Config) -> xr.Dataset:
    """Drawn kernels at every width, deep networks in both phases, and processes on digits."""
    keys = jax.random.split(jax.random.key(config.seed), 3)
    dtype = jnp.float64 if config.x64 else jnp.float32
    errors = np.stack([_distances(_NETWORKS[name], config, keys[0], dtype) for name in config.architectures])
    numbers = [list(_NETWORKS).index(name) for name in config.architectures]  # zarr has no stable format for words
    names = {"network": numbers, "width": list(config.widths), "draw": np.arange(config.draws)}
    dataset = xr.Dataset({"distance": (("network", "width", "draw"), errors)}, names)
    named = zip(config.architectures, dataset.distance, strict=True)
    slopes = {key: value for name, distance in named for key, value in _slope(name, distance).items()}
    depth = _deep(config, keys[1], dtype)
    return dataset.assign(slopes | depth | _process(config, keys[2], dtype))


def _standardized(network: _Network, width: int) -> tuple[Callable[[Any, Array], Array], PyTree]:
    """The network as a function of standard Gaussian parameters, and their shapes."""
    law, shapes = infinite.prior.ntk(_SIGMA_W, _SIGMA_B), network.shapes(width)
    scales = {name: float(law(name, shape).variance) ** 0.5 for name, shape in shapes.items()}
    return lambda raw, x: network.f({name: scales[name] * leaf for name, leaf in raw.items()}, x), shapes


def _distances(network: _Network, config: Config, key: Key[Array, ""], dtype: Any) -> np.ndarray:
    """Relative distance of every drawn tangent kernel from the limit, widths × draws."""
    x = jax.random.normal(jax.random.fold_in(key, 1), (_INPUTS, *network.example), dtype)
    shapes = {name: jax.ShapeDtypeStruct(s, dtype) for name, s in network.shapes(config.widths[0]).items()}
    exact = infinite.limit(network.f, shapes, x, prior=infinite.prior.ntk(_SIGMA_W, _SIGMA_B)).ntk(x)
    rows = []
    for width in config.widths:
        f, shape = _standardized(network, width)

        def distance(key: Key[Array, ""], f: Any = f, shape: Any = shape) -> Array:
            raw = {n: jax.random.normal(jax.random.fold_in(key, i), s, dtype) for i, (n, s) in enumerate(shape.items())}
            drawn = empirical.ntk(f, raw, x).reshape(exact.shape)
            return jnp.linalg.norm((drawn - exact).ravel()) / jnp.linalg.norm(exact.ravel())

        draw_keys = jax.random.split(jax.random.fold_in(key, width), config.draws)
        rows.append(np.asarray(jax.lax.map(jax.jit(distance), draw_keys)))
    return np.stack(rows)


def _slope(name: str, distance: xr.DataArray) -> dict[str, float]:
    """Exponent of the root mean square over draws, whose standard error is that of a mean, halved."""
    squares = jnp.asarray(distance.values**2).T
    mean = squares.mean(0)
    law = fit_slope(
        jnp.asarray(distance.width.values, mean.dtype), jnp.sqrt(mean), standard_error(squares) / (2 * jnp.sqrt(mean))
    )
    return estimated(f"slope_{_slug(name)}", law.slope, law.standard_error, len(squares))


def _deep(config: Config, key: Key[Array, ""], dtype: Any) -> dict[str, float]:
    """Rates of approach in the ordered phase, final correlation in the chaotic one."""
    measured: dict[str, float] = {}
    for sigma_w, apart in (*((order, _APART) for order in _ORDER), (_CHAOS, 0.5)):
        variance = float(phase.fixed_point("tanh", sigma_w, _BIAS).variance)
        run = partial(_gaps, sigma_w=sigma_w, variance=variance, apart=apart, width=config.deep_width, dtype=dtype)
        gaps = jax.lax.map(run, jax.random.split(jax.random.fold_in(key, int(10 * sigma_w)), config.deep_draws))
        rates = jnp.log(gaps[:, -1] / gaps[:, 0]) / (_LAYERS - 1)
        measured |= (
            averaged("chaos", 1 - gaps[:, -1], None)
            if sigma_w == _CHAOS
            else averaged(f"rate_{sigma_w:g}", rates, None)
        )
    return measured


def _gaps(
    key: Key[Array, ""], *, sigma_w: float, variance: float, apart: float, width: int, dtype: Any
) -> Float[Array, " layers"]:
    """1 − c of two inputs in every layer of one network, c of the pre-activations, kept as a difference."""
    first, *rest = jax.random.split(key, _LAYERS + 1)
    u, v = jax.random.normal(first, (2, width), dtype)
    two = jnp.stack([u, (1 - apart) * u + (1 - (1 - apart) ** 2) ** 0.5 * v]) * variance**0.5

    def layer(z: Array, key: Key[Array, ""]) -> tuple[Array, Array]:
        weights = jax.random.normal(key, (width + 1, width), dtype)
        z = jnp.matmul(jnp.tanh(z), weights[:-1], precision="highest") * (sigma_w / width**0.5) + _BIAS * weights[-1:]
        return z, ((z[0] - z[1]) ** 2).sum() / (z**2).sum()

    return jax.lax.scan(layer, two, jnp.stack(rest))[1]


class _DigitsCNN(nn.Module):
    """Two convolutions and a flattened readout, as anybody writes them."""

    width: int = 64

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))


def _process(config: Config, key: Key[Array, ""], dtype: Any) -> dict[str, float]:
    """Misclassification of Gaussian processes on digits, the CNN's limit and a linear kernel on the same splits."""
    wrong = []
    for each in jax.random.split(key, config.splits):
        split = data.digits(config.images, key=each, dtype=jnp.dtype(dtype).name)
        x, x_test = (part.reshape(-1, 8, 8, 1) for part in (split.x, split.x_test[:400]))
        model = _DigitsCNN()
        shapes = jax.eval_shape(model.init, key, x[:1])
        kernel = infinite.limit(model, shapes, x[:1], prior=infinite.prior.ntk(2**0.5, 0.1)).nngp
        linear = kernels.polynomial(1)
        targets = data.one_hot(split.y, 10, dtype=x.dtype) - jnp.asarray(0.1, x.dtype)
        flat, flat_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
        pairs = ((kernel, x, x_test), (linear, flat, flat_test))
        wrong.append([_misclassified(k, a, targets, b, split.y_test[:400]) for k, a, b in pairs])
    cnn, line = np.asarray(wrong).T
    return averaged("gp_gain", jnp.asarray(cnn - line), None) | {
        "gp_error": float(cnn.mean()),
        "linear_error": float(line.mean()),
    }


def _misclassified(kernel: Any, x: Array, y: Array, x_test: Array, labels: Array) -> float:
    """Of the posterior mean, with noise a tenth of the mean variance."""
    gram, cross = kernel(x, x), kernel(x_test, x)
    level = float(jnp.diagonal(gram).mean()) * _NOISE
    weights = jnp.linalg.solve(gram + level * jnp.eye(len(gram), dtype=gram.dtype), y)
    return float((jnp.matmul(cross, weights, precision="highest").argmax(1) != labels).mean())


def draw(dataset: xr.Dataset, claims: Claims) -> Figure:
    """Distance against width, the phase diagram, and the depth over which correlation travels."""
    figure, (convergence, plane, depth) = figures.canvas(columns=3, panel=(5.6, 4.8))
    width = dataset.width.values.astype(float)
    for color, number, distance in zip(figures.PALETTE, dataset.network.values, dataset.distance, strict=False):
        squares = distance.values**2
        root = np.sqrt(squares.mean(1))
        error = squares.std(1, ddof=1) / np.sqrt(squares.shape[1]) / (2 * root)
        figures.points(convergence, width, root, error, color=color, label=list(_NETWORKS)[number])
        level = np.exp(np.log(root * np.sqrt(width)).mean())
        figures.theory_line(convergence, width, level / np.sqrt(width), color=color)
    title = "drawn NTK → limit; lines: width$^{-1/2}$"
    figures.label_axes(
        convergence,
        "width $n$",
        r"$\|\hat\Theta_n-\Theta_\infty\| / \|\Theta_\infty\|$",
        title,
        xscale="log",
        yscale="log",
    )
    figures.ticks_at(convergence.xaxis, width)
    _draw_plane(plane, claims)
    figures.theory_line(depth, claims.curves["sigma_w"], claims.curves["depth"], label=r"$\xi_c$, theory")
    rates, errors = (np.array([float(dataset[f"rate_{w:g}{end}"]) for w in _ORDER]) for end in ("", "_error"))
    figures.points(
        depth, np.array(_ORDER), -1 / rates, errors / rates**2, label="drawn networks", color=figures.PALETTE[1]
    )
    figures.threshold(depth, claims.curves["edge"][0], r"$\chi_1 = 1$")
    figures.label_axes(
        depth, r"$\sigma_w$", r"depth scale $\xi_c$ (layers)", rf"tanh, $\sigma_b = {_BIAS:g}$", yscale="log"
    )
    return figure


def _draw_plane(ax: Axes, claims: Claims) -> None:
    """The edge of chaos, and where the deep networks were drawn."""
    figures.theory_line(ax, claims.curves["line"], claims.curves["bias"], label=r"edge of chaos, $\chi_1 = 1$")
    figures.points(ax, [*_ORDER, _CHAOS], [_BIAS] * (len(_ORDER) + 1), label="deep networks", color=figures.PALETTE[1])
    ax.annotate("order", (1.05, 0.75), fontsize=14)
    ax.annotate("chaos", (2.3, 0.12), fontsize=14)
    figures.label_axes(ax, r"$\sigma_w$", r"$\sigma_b$", "phase diagram of tanh")


TOPIC = Topic("infinite-width", Config, predict, measure, draw)
