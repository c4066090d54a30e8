"""Expressivity: random and greedy networks, Kolmogorov's superposition, and the ridgelet transform.

Three answers to what a network of one hidden layer can be: enough random neurons, a fixed inner function with exact
integers, and an integral whose constant is known before anything is fitted.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array

from jaxtheory import data, networks
from jaxtheory.expressivity import barron, greedy, kolmogorov, ridgelet
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged
from jaxtheory.lecture.expressivity_figure import draw
from jaxtheory.lecture.study import BaseConfig
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import fit_slope

_SIZES = (8, 32, 128, 512)  # of Monte Carlo networks
_BASE, _DIGITS = 12, 2  # of the superposition
_ZOOM = (58 / 144, 61 / 144)  # where its cubes are drawn
_STEP, _OFFSET, _REACH = 0.1, 0.125, 3.0  # of the ridgelet grid in one dimension
_IMAGE, _IMAGE_SCALE, _ANGLES = 6, 18.0, 64  # derivative, |a| ≤ A and directions of the digit's transform
_SPECTRUM = (12.0, 48)  # |a| ≤ 12 and cells of the trained network's picture


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Sizes of the three parts."""

    out: Path = field(default=Path("runs/expressivity"), compare=False)
    """folder for predictions, data, table and figure"""
    dims: tuple[int, ...] = (2, 10)
    """dimensions of the Gaussian that random cosines approximate"""
    draws: int = 100
    """random networks of each size"""
    greedy: int = 64
    """neurons of the greedy networks"""
    grid: int = 32
    """points a side of the greedy approximation in two dimensions"""
    terms: tuple[int, ...] = (5, 7, 9, 11)
    """outer functions m + 1 of the superposition"""
    scales: tuple[float, ...] = (10.0, 20.0, 40.0)
    """A: the ridgelet integral is cut at |a| ≤ A"""
    neurons: int = 200
    """of the trained network, and of the sampled one"""
    seeds: int = 4
    """trained networks"""
    training: int = 1500
    """steps of training"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        paper = replace(cls(), preset="paper", draws=2000, greedy=256, grid=64, seeds=16, training=20_000)
        return paper if preset == "paper" else cls()


def predict(config: Config) -> Claims:
    """The exact Monte Carlo law, the greedy rates, one step's bound, and the blur of a truncated ridgelet integral."""
    curves = {f"law {d}": [float(barron.monte_carlo_law(_points(config, d), n)) for n in _SIZES] for d in config.dims}
    curves |= {"blur": [_blur(scale)[0] for scale in np.geomspace(8, 50, 30)]}
    ridge = [_blur_claim(scale) for scale in config.scales]
    steps = [_step_claim(terms) for terms in config.terms]
    return Claims((*_random_claims(config), *_greedy_claims(), *steps, *ridge, *_picture_claims(config)), curves)


def _random_claims(config: Config) -> list[Claim]:
    moments = {d: jnp.exp(-2 * (_points(config, d) ** 2).sum(axis=1)) for d in config.dims}
    second = {d: float((1 + moment).mean() / 2) for d, moment in moments.items()}  # E cos²(ω·x), ω Gaussian
    return [
        Claim(
            f"random_{d}_{n}", f"mean squared error of {n} random cosines, d = {d}", "Barron (1993), Lemma 1, exact",
            float(barron.monte_carlo_law(_points(config, d), n)), "4.5 standard errors over draws",
            standard_errors=SIGNIFICANT, rival=second[d] / n, rival_law="second moment, not variance",
        )
        for d in config.dims for n in _SIZES
    ]  # fmt: skip


def _greedy_claims() -> list[Claim]:
    rates = {"greedy_1_1": (-2.0, 1, 1), "greedy_1_2": (-3.0, 1, 2), "greedy_2_1": (-1.25, 2, 1)}
    basis = "theory: −1/2 − (2k+1)/(2d) asymptotically; 0.15 for sizes that are not"
    return [
        Claim(name, f"exponent of orthogonal greedy networks, d = {d}, ReLU^{k}", "Siegel, Xu (2022), Thm 1", rate,
              basis, tolerance=0.15, relation="<=", rival=rate + 1 / d, rival_law="an activation of one order less")
        for name, (rate, d, k) in rates.items()
    ]  # fmt: skip


def _step_claim(terms: int) -> Claim:
    bound = float(kolmogorov.step_bound(dim=2, terms=terms, norm=1.0, oscillation=_bump_oscillation()))
    return Claim(
        f"superposition_{terms}", f"sup error of one outer step with {terms} outer functions, over sup |f|",
        "Braun, Griebel (2009), Thm 2.1", bound, "theory: all cubes but n hold every point", relation="<=",
    )  # fmt: skip


def _blur_claim(scale: float) -> Claim:
    error, kinks = _blur(scale)
    return Claim(
        f"blur_{scale:g}", f"relative L² error of the ridgelet integral over |a| ≤ {scale:g}, K not fitted",
        "Sonoda, Murata (2017), Thm 5.6", error, "theory: kinks between nodes, r.m.s. step² max|T|/√720 a row, doubled",
        tolerance=float(np.hypot(error, 2 * kinks)) - error, rival=0.0, rival_law="no blur at any A",
    )  # fmt: skip


def _picture_claims(config: Config) -> tuple[Claim, ...]:
    error, kinks = _digit_blur(_digit())
    return (
        Claim("increment", "least increment of ψ on 5 digits, times γ^β(5)", "Köppen (2002)", 1.0, "theory: exact"),
        Claim("sprecher", "falls of Sprecher's ψ on 5 digits", "Köppen (2002)", 1.0, "theory: at least one",
              relation=">="),
        Claim("sampled", "max error of neurons sampled from |T|, outer weights solved, over Monte Carlo's",
              "Sonoda, Murata (2014)", 0.1, "theory: N^(−2) against N^(−1/2), at N = 100 and no constants",
              relation="<=", rival=1.0, rival_law="solving gains nothing"),
        Claim("trained", "rank correlation of |c| with |T(a, b)| over the neurons of trained networks",
              "Sonoda, Ishikawa, Ikeda (2021)", SIGNIFICANT / config.neurons**0.5,
              "statistics: 4.5 standard errors of neurons that ignore the spectrum", relation=">=", rival=0.0,
              rival_law="neurons that ignore the spectrum"),
        Claim("digit", "relative error of a digit's ridgelet integral over |a| ≤ 18, K not fitted",
              "Sonoda, Murata (2017), Thm 5.6", error, "theory: kinks between nodes, r.m.s. as above, doubled",
              tolerance=float(np.hypot(error, 2 * kinks)) - error, rival=0.0, rival_law="no blur at any A"),
    )  # fmt: skip


def _points(config: Config, dim: int) -> Array:
    """Uniform in the unit ball."""
    return jax.random.ball(jax.random.key(config.seed + dim), dim, shape=(200,), dtype=jnp.zeros(0).dtype)


def _random(config: Config, dim: int, neurons: int) -> np.ndarray:
    """Mean squared errors of all draws."""
    x = _points(config, dim)
    truth = jnp.exp(-(x**2).sum(axis=1) / 2)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), neurons), config.draws)
    return np.asarray(jax.lax.map(lambda key: ((barron.monte_carlo(key, x, neurons) - truth) ** 2).mean(), keys))


def _greedy(config: Config) -> dict[str, np.ndarray]:
    """Errors of greedy networks by size: one dimension with ReLU and ReLU², two dimensions with ReLU."""
    x = jnp.linspace(0, 1, 1200)[:, None]
    f = jnp.sin(2 * jnp.pi * x[:, 0]) * jnp.exp(x[:, 0])
    ends, knots = jnp.array([[1.0], [-1.0]]), jnp.linspace(-1.02, 1.0, 1011)
    line = {k: greedy.fit(x, f, ends, knots, neurons=config.greedy, power=k).errors for k in (1, 2)}
    axis = (np.arange(config.grid) + 0.5) / config.grid * 2 - 1
    plane = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2), f.dtype)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    directions = jnp.asarray(np.stack([np.cos(turn), np.sin(turn)], 1), f.dtype)
    target = jnp.exp(-2 * (plane**2).sum(1)) * jnp.cos(3 * plane[:, 0] + plane[:, 1])
    flat = greedy.fit(plane, target, directions, jnp.linspace(-1.5, 1.4, 90), neurons=config.greedy)
    errors = {"greedy_1_1": line[1], "greedy_1_2": line[2], "greedy_2_1": flat.errors}
    return {name: np.asarray(part) for name, part in errors.items()}


def _exponent(errors: np.ndarray) -> float:
    size = jnp.arange(1.0, len(errors) + 1)[7:]
    return float(fit_slope(size, jnp.asarray(errors[7:], size.dtype)).slope)


def _bump(x: Any) -> Any:
    """A smooth function of two variables with sup norm 1 at (0.4, 0.4), where its cosine is 1."""
    return np.exp(-3 * ((x - 0.4) ** 2).sum(-1)) * np.cos(4 * (x[..., 0] - 0.4) + 2 * (x[..., 1] - 0.4))


def _bump_oscillation() -> float:
    """Over a cube of side γ^(−k): its largest ℓ¹ gradient on a fine grid, times the side."""
    axis = np.linspace(0, 1, 401)
    slopes = np.gradient(_bump(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)), axis, axis)
    return float(np.abs(np.array(slopes)).sum(0).max()) * float(_BASE) ** -_DIGITS


def _gaps(terms: int) -> np.ndarray:
    """|f − f_1| on a square of three cubes' width."""
    step = kolmogorov.superpose(_bump, dim=2, base=_BASE, terms=terms, digits=_DIGITS)
    axis = np.linspace(*_ZOOM, 150)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    values = kolmogorov.evaluate(step, jnp.asarray(x, jnp.zeros(0).dtype))
    return np.abs(np.asarray(values) - _bump(x)).reshape(150, 150)


def _superposed(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """f and one step of its superposition on a square grid within reach."""
    step = kolmogorov.superpose(_bump, dim=2, base=_BASE, terms=terms, digits=_DIGITS)
    axis = np.linspace(0, step.reach, 200)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    values = kolmogorov.evaluate(step, jnp.asarray(x, jnp.zeros(0).dtype))
    return _bump(x).reshape(200, 200), np.asarray(values).reshape(200, 200)


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


def _reconstructed(config: Config, scale: float) -> float:
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


def _sampled(config: Config) -> float:
    """Maximal error with solved outer weights, over that with Monte Carlo weights."""
    x, points = jnp.linspace(-_REACH, _REACH, 601), jnp.linspace(-1, 1, 400)[:, None]
    pairs = ridgelet.grid(20.0, _REACH, step=0.2)
    weights = jnp.full(601, 2 * _REACH / 600, x.dtype)
    spectrum = ridgelet.transform(_wave(x), x[:, None], weights, pairs.a, pairs.b, derivative=4)
    truth, constant = _wave(points[:, 0]), ridgelet.admissibility("relu", 4, 1)
    net = ridgelet.sample_network(
        jax.random.key(config.seed), spectrum, pairs, config.neurons, points, truth, constant, activation="relu"
    )
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


def _trained(config: Config) -> np.ndarray:
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


def _digit() -> np.ndarray:
    """The spectrum of a digit on [−1, 1]², smoothed until 28 × 28 samples determine it, on a padded grid."""
    image = np.asarray(data.mnist5k(train=1).x_test[7], float).reshape(28, 28)
    return np.fft.fft2(image, (56, 56)) * np.exp(-((_radius() / 12) ** 2) / 2)


def _radius() -> np.ndarray:
    k = 2 * np.pi * np.fft.fftfreq(56, 2 / 28)
    return np.hypot(k[:, None], k[None, :])


def _digit_blur(spectrum: np.ndarray) -> tuple[float, float]:
    """Relative error by the law, and the r.m.s. of errors at kinks, as in `_blur`."""
    lost = spectrum * (1 - ridgelet.retained("relu", _IMAGE, 2, _radius() / _IMAGE_SCALE))
    smooth, gap = (np.fft.ifft2(part).real[:28, :28] for part in (spectrum, lost))
    largest = 15 / np.sqrt(2 * np.pi) * np.abs(smooth).mean() * 4  # sup |G^(6)| ‖f‖₁
    rows = np.sqrt(_ANGLES * (_scales() ** 2).sum()) * (_IMAGE_SCALE / len(_scales())) * (2 * np.pi / _ANGLES)
    kinks = rows * largest * _OFFSET**2 / np.sqrt(720) / abs(ridgelet.admissibility("relu", _IMAGE, 2))
    return float(np.linalg.norm(gap) / np.linalg.norm(smooth)), float(kinks / np.sqrt((smooth**2).mean()))


def _scales() -> np.ndarray:
    return (np.arange(45) + 0.5) * _IMAGE_SCALE / 45


def _digit_sum() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smoothed digit, |T| by direction and offset at |a| = 9, and S R f / K."""
    step = 2 / 28
    smooth = np.fft.ifft2(_digit()).real[:28, :28]
    axis = (np.arange(28) - 13.5) * step
    x = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2))
    polar = ridgelet.polar_grid(_IMAGE_SCALE, 1.42, radii=45, angles=_ANGLES, offset_step=_OFFSET, shift=0.2113)
    values, cell = jnp.asarray(smooth.ravel(), x.dtype), jnp.full(len(x), step**2, x.dtype)
    product = polar.directions, polar.scales, polar.offsets, jnp.linspace(0, 44, 800)
    spectrum = ridgelet.transform_slices(values, x, cell, *product, derivative=_IMAGE)
    constant = ridgelet.admissibility("relu", _IMAGE, 2)
    got = ridgelet.reconstruct(spectrum.reshape(-1), polar.nodes, x, constant, activation="relu")
    return smooth, np.abs(np.asarray(spectrum[:, 22])), np.asarray(got).reshape(28, 28)


def measure(config: Config) -> xr.Dataset:
    """Expressivity: random and greedy networks, Kolmogorov's superposition, and the ridgelet transform."""
    panels, measured = _measured_networks(config)
    for part in (_measured_superposition(config), _measured_ridgelets(config)):
        panels |= part[0]
        measured |= part[1]
    dataset = xr.Dataset(panels | measured, {"dim": list(config.dims), "size": list(_SIZES)})
    shown = {"zoom": _ZOOM, "base": _BASE, "cell": float(_BASE) ** -_DIGITS, "scales": config.scales}
    return dataset.assign_attrs(shown | {"reach": _SPECTRUM[0], "image_scale": _IMAGE_SCALE})


def _measured_networks(config: Config) -> tuple[dict[str, Any], dict[str, float]]:
    errors = np.array([[_random(config, d, n) for n in _SIZES] for d in config.dims])
    spread = errors.std(-1, ddof=1) / config.draws**0.5
    measured: dict[str, float] = {}
    for i, d in enumerate(config.dims):
        for j, n in enumerate(_SIZES):
            measured |= averaged(f"random_{d}_{n}", errors[i, j], None)
    grown = _greedy(config)
    panels: dict[str, Any] = {"random": (("dim", "size"), errors.mean(-1)), "random_spread": (("dim", "size"), spread)}
    panels |= {f"{name}_errors": ("neurons", values) for name, values in grown.items()}
    return panels, measured | {name: _exponent(values) for name, values in grown.items()}


def _measured_superposition(config: Config) -> tuple[dict[str, Any], dict[str, float]]:
    measured = {}
    for terms in config.terms:
        truth, step = _superposed(terms)
        measured[f"superposition_{terms}"] = float(np.abs(step - truth).max())
    table = kolmogorov.inner_table(2, 10, 5)
    least = int(min(np.diff(table.numerators))) * 10 ** kolmogorov.beta(5, 2)
    falls = np.diff(kolmogorov.inner_table(2, 10, 5, "sprecher").numerators) <= 0
    measured |= {"increment": least / table.denominator, "sprecher": float(falls.sum())}
    psi = (kolmogorov.inner_table(2, 10, 4).numerators / kolmogorov.inner_table(2, 10, 4).denominator).astype(float)
    panels = {"psi": ("place", psi), "target": (("row", "column"), truth), "step": (("row", "column"), step)}
    return panels | {"gaps": (("down", "across"), _gaps(config.terms[0]))}, measured


def _measured_ridgelets(config: Config) -> tuple[dict[str, Any], dict[str, float]]:
    measured: dict[str, float] = {f"blur_{scale:g}": _reconstructed(config, scale) for scale in config.scales}
    axis, spectrum = _tanh_spectrum()
    weights = _trained(config)
    smooth, sinogram, got = _digit_sum()
    error = float(np.linalg.norm(got - smooth) / np.linalg.norm(smooth))
    measured |= {"trained": _correlation(weights, axis, spectrum), "sampled": _sampled(config), "digit": error}
    panels = {
        "spectrum": (("a", "b"), spectrum),
        "weights": (("seed", "neuron", "abc"), weights),
        "digit_image": (("y", "x"), smooth),
        "digit_sum": (("y", "x"), got),
        "sinogram": (("angle", "offset"), sinogram),
    }
    return panels, measured


TOPIC = Topic("expressivity", Config, predict, measure, draw)
