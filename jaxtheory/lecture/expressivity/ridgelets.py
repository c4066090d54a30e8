"""The ridgelet transform of a wave: an integral whose constant is known, and neurons that follow the spectrum."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array
from matplotlib.axes import Axes

from jaxtheory import figures, networks
from jaxtheory.expressivity import ridgelet
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims
from jaxtheory.lecture.expressivity.images import draw_image
from jaxtheory.lecture.study import Study

_STEP, _OFFSET, _REACH = 0.1, 0.125, 3.0  # of the ridgelet grid in one dimension
_SPECTRUM = (12.0, 48)  # |a| ≤ 12 and cells of the trained network's picture


def predict(config: Any) -> Claims:
    """The blur of a truncated integral, the gain of solved weights, and trained neurons that follow the spectrum."""
    networks = (
        Claim("sampled", "max error of neurons sampled from |T|, outer weights solved, over Monte Carlo's",
              "Sonoda, Murata (2014)", 0.1, "theory: N^(−2) against N^(−1/2), at N = 100 and no constants",
              relation="<=", rival=1.0, rival_law="solving gains nothing"),
        Claim("trained", "rank correlation of |c| with |T(a, b)| over the neurons of trained networks",
              "Sonoda, Ishikawa, Ikeda (2021)", SIGNIFICANT / config.neurons**0.5,
              "statistics: 4.5 standard errors of neurons that ignore the spectrum", relation=">=", rival=0.0,
              rival_law="neurons that ignore the spectrum"),
    )  # fmt: skip
    curves = {"blur": [_blur(scale)[0] for scale in np.geomspace(8, 50, 30)]}
    return Claims((*(_blur_claim(scale) for scale in config.scales), *networks), curves)


def _blur_claim(scale: float) -> Claim:
    error, kinks = _blur(scale)
    return Claim(
        f"blur_{scale:g}", f"relative L² error of the ridgelet integral over |a| ≤ {scale:g}, K not fitted",
        "Sonoda, Murata (2017), Thm 5.6", error, "theory: kinks between nodes, r.m.s. step² max|T|/√720 a row, doubled",
        tolerance=float(np.hypot(error, 2 * kinks)) - error, rival=0.0, rival_law="no blur at any A",
    )  # fmt: skip


def measure(config: Any) -> xr.Dataset:
    """Integrals cut at |a| ≤ A, a sampled network, and trained ones on the spectrum."""
    measured: dict[str, Any] = {f"blur_{scale:g}": _reconstructed(config, scale) for scale in config.scales}
    axis, spectrum = _tanh_spectrum()
    weights = _trained(config)
    measured |= {"trained": _correlation(weights, axis, spectrum), "sampled": _sampled(config)}
    return xr.Dataset({"spectrum": (("a", "b"), spectrum), "weights": (("seed", "neuron", "abc"), weights), **measured})


def _wave(x: Any) -> Any:
    return jnp.exp(-2 * x**2) * jnp.sin(4 * x)


def _blur(scale: float) -> tuple[float, float]:
    """Relative error on [−1, 1] by the law for ReLU with G'''', and the r.m.s. size of errors at kinks."""
    x, points = np.linspace(-4, 4, 801), np.linspace(-1, 1, 201)
    k = np.linspace(-30, 30, 1201)
    hat = np.exp(-1j * k[:, None] * x[None, :]) @ np.asarray(_wave(x)) * (x[1] - x[0])
    lost = hat * (1 - ridgelet.retained("relu", 4, 1, np.abs(k) / scale))
    gap = (np.exp(1j * points[:, None] * k[None, :]) @ lost).real * (k[1] - k[0]) / (2 * np.pi)
    size = float(np.sqrt((np.asarray(_wave(points)) ** 2).mean()))
    largest = 3 / np.sqrt(2 * np.pi) * float(np.abs(np.asarray(_wave(x))).sum()) * (x[1] - x[0])  # sup G'''' ‖f‖₁
    rows = np.sqrt(2 * scale / _STEP) * _STEP * largest / abs(ridgelet.admissibility("relu", 4, 1))
    return float(np.sqrt((gap**2).mean())) / size, float(rows * _OFFSET**2 / np.sqrt(720)) / size


def _reconstructed(config: Any, scale: float) -> float:
    """The measured side: S R f / K on [−1, 1]."""
    x = jnp.linspace(-_REACH, _REACH, 601)
    pairs = ridgelet.grid(scale, _REACH, step=_STEP, offset_step=_OFFSET)
    weights = jnp.full(601, 2 * _REACH / 600, x.dtype)
    spectrum = ridgelet.transform(_wave(x), x[:, None], weights, pairs.a, pairs.b, derivative=4)
    points = jnp.linspace(-1, 1, 201)[:, None]
    constant = ridgelet.admissibility("relu", 4, 1)
    truth = _wave(points[:, 0])
    gap = ridgelet.reconstruct(spectrum, pairs, points, constant, activation="relu") - truth
    return float(jnp.linalg.norm(gap) / jnp.linalg.norm(truth))


def _sampled(config: Any) -> float:
    """Maximal error with solved outer weights, over that with Monte Carlo weights."""
    x, points = jnp.linspace(-_REACH, _REACH, 601), jnp.linspace(-1, 1, 400)[:, None]
    pairs = ridgelet.grid(20.0, _REACH, step=0.2)
    weights = jnp.full(601, 2 * _REACH / 600, x.dtype)
    spectrum = ridgelet.transform(_wave(x), x[:, None], weights, pairs.a, pairs.b, derivative=4)
    truth, constant = _wave(points[:, 0]), ridgelet.admissibility("relu", 4, 1)
    net = ridgelet.sample_network(
        jax.random.key(config.seed), spectrum, pairs, neurons=config.neurons, x=points, values=truth, constant=constant,
        activation="relu",
    )  # fmt: skip
    nets = (net, net._replace(outer=net.monte_carlo))
    solved, plain = (jnp.abs(ridgelet.evaluate(n, points, activation="relu") - truth).max() for n in nets)
    return float(solved / plain)


def _tanh_spectrum() -> tuple[np.ndarray, np.ndarray]:
    """|T(a, b)| of the wave for tanh with G''' on a square of cells, and its axis."""
    reach, cells = _SPECTRUM
    axis = (np.arange(cells) + 0.5) / cells * 2 * reach - reach
    a, b = (jnp.asarray(part.ravel()) for part in np.meshgrid(axis, axis, indexing="ij"))
    x = jnp.linspace(-1, 1, 401, dtype=a.dtype)  # where the network is trained
    weights = jnp.full(401, 2 / 400, a.dtype)
    spectrum = ridgelet.transform(_wave(x), x[:, None], weights, a[:, None], b, derivative=3)
    return axis, np.abs(np.asarray(spectrum)).reshape(cells, cells)


def _trained(config: Any) -> np.ndarray:
    """Weights (a, b, c) of tanh networks trained on the wave: seed × neuron × 3."""
    x = jnp.linspace(-1, 1, 200)
    y = _wave(x)

    def output(params: Array) -> Array:
        return jnp.tanh(x[:, None] * params[None, :, 0] - params[None, :, 1]) @ params[:, 2]

    def start(key: Array) -> Array:
        inner = jax.random.uniform(key, (config.neurons, 2), x.dtype, -_SPECTRUM[0], _SPECTRUM[0])
        return jnp.concatenate([inner, jnp.zeros_like(inner[:, :1])], axis=1)

    def train(key: Array) -> Array:
        optimizer = optax.adam(optax.cosine_decay_schedule(0.003, config.training))
        loss = lambda params: ((output(params) - y) ** 2).mean()  # noqa: E731
        return networks.train(loss, start(key), optimizer=optimizer, steps=config.training).params

    return np.asarray(jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(config.seed), config.seeds)))


def _correlation(neurons: np.ndarray, axis: np.ndarray, spectrum: np.ndarray) -> float:
    """Spearman's rank correlation of |c| and of |T| in the neuron's cell, mean over seeds."""
    place = np.rint((neurons[..., :2] - axis[0]) / (axis[1] - axis[0])).astype(int)
    place = np.clip(place, 0, len(axis) - 1)
    held = spectrum[place[..., 0], place[..., 1]]
    ranks = [np.argsort(np.argsort(part)) for pair in zip(held, np.abs(neurons[..., 2]), strict=True) for part in pair]
    pairs = zip(ranks[::2], ranks[1::2], strict=True)
    return float(np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs]))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Error of the integral over |a| ≤ A, and its law."""
    figures.theory_line(
        ax, np.geomspace(8, 50, 30), claims.curves["blur"], label="law, $K = -2$", color=figures.PALETTE[1]
    )
    scales = [float(name.removeprefix("blur_")) for name in map(str, dataset.data_vars) if name.startswith("blur_")]
    measured = [float(dataset[f"blur_{scale:g}"]) for scale in scales]
    figures.points(ax, scales, measured, label="measured, nothing fitted", color=figures.PALETTE[0])
    title = "ridgelet integral over $|a| \\leq A$"
    figures.label_axes(ax, "$A$", "relative $L^2$ error", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, scales)


def draw_weights(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Trained neurons, as large as their outer weights, on the modulus of the spectrum."""
    reach = _SPECTRUM[0]
    draw_image(
        ax, dataset.spectrum.values, "trained neurons on $|T(a, b)|$", "$a$", "$b$", (-reach, reach, -reach, reach)
    )
    a, b, c = np.moveaxis(dataset.weights.isel(seed=0).values, -1, 0)
    sizes = 60 * np.abs(c) / np.abs(c).max() + 2
    ax.scatter(a, b, s=sizes, color=figures.PALETTE[1], edgecolors="white", linewidths=0.4)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))


STUDY = Study("ridgelets", predict, measure, draw)
