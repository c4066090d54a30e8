"""Networks on digits: bounds against the gaps that they bound, and which measures order networks rightly."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import data, figures, kernels, sweeps
from jaxtheory import generalization as gen
from jaxtheory.lecture.claims import Claim, Claims, averaged, estimated, positive, statistical
from jaxtheory.lecture.panels import mean_and_error
from jaxtheory.lecture.study import Study
from jaxtheory.networks import minibatch, train

_AXES = ("width", "depth", "batch", "noise")
_NAMES = tuple(gen.SOURCES)
# What the theorem bounds is the error of the network itself, or that of one made from it or for the same labels.
_OWN = ("spectral", "frobenius", "path (l2)", "path (l1)", "PAC-Bayes spectral", "VC dimension")
_BOUNDS = (*_OWN, "NTK labels", "compression", "PAC-Bayes-kl")
_OVER_MARGIN = (*_OWN[:5], "NTK labels")
_DELTA, _CLASSES = 0.05, 10
_SIGNS = 4096  # of the Rademacher complexity
_HELD_OUT = 100  # images on which a network's error is observed and bounded


def predict(config: Any) -> Claims:
    """A bound that is not vacuous holds as often as it says; the others are vacuous; random labels cost more."""
    mean, moved = _gaussian_signs(_digits(config).x)
    rows = [
        statistical("held_out", f"share of networks whose test error is below its bound from {_HELD_OUT} images",
                    "Langford (2005), test set bound", 1 - _DELTA, "theory: fails with probability 0.05", relation=">=",
                    rival=(0.5, "the observed error as its own bound")),
        Claim("vacuous", "smallest bound on its own error that training data gives any network",
              "each bound's theorem, with its constants", 1.0, "definition: no error is larger", relation=">=",
              rival=1 - 1 / _CLASSES, rival_law="a bound below the error of guessing"),
        positive("labels", "NTK label complexity, random labels minus true ones", "Arora et al. (2019), Thm 5.1"),
        positive("dearer", "median log of spectral complexity over margin, random minus true labels",
                 "Bartlett, Foster, Telgarsky (2017), sec. 2"),
        statistical("ordered",
                    "Kendall's tau with the gap along label noise: mean of six measures of norms over margins",
                    "Neyshabur, Bhojanapalli, McAllester, Srebro (2017)", 1.0, "theory: rises and falls with the noise",
                    over="over seeds", rival=(0.0, "that of the number of parameters")),
        statistical("rademacher", "Rademacher complexity of linear functions over B‖X‖_F/n",
                    "Bartlett, Mendelson (2002)", mean, "theory: variance of signs for that of Gaussians",
                    over="over signs", tolerance=moved, rival=(1.0, "Jensen's bound with equality")),
    ]  # fmt: skip
    return Claims(tuple(rows), {})


def _gaussian_signs(x: Array) -> tuple[float, float]:
    """E √(gᵀKg)/√tr K for Gaussian g in place of signs, K = XXᵀ, and what signs may change: Σ K_ii²/4(tr K)².

    With the eigenvalues λ of K/tr K, E √Q = π^(−1/2) ∫ (1 − Π (1 + 2λu²)^(−1/2)) u^(−2) du; in log u by sums, which
    converge faster than any power of the spacing. Signs have the mean of Q, and less variance by 2 Σ K_ii².
    """
    lengths = np.linalg.norm(np.asarray(x, float), axis=1)
    values = np.linalg.svd(np.asarray(x, float), compute_uv=False) ** 2 / (lengths**2).sum()
    u = np.exp(np.linspace(-20, 20, 2001))
    share = -np.expm1(-0.5 * np.log1p(2 * np.outer(u**2, values)).sum(1)) / u
    mean = float(share.sum() * 40 / 2000 / np.sqrt(np.pi))
    return mean, float((lengths**4).sum() / (lengths**2).sum() ** 2 / 4)


def _digits(config: Any) -> data.Split:
    dtype = "float64" if config.x64 else "float32"
    return data.digits(train=config.samples, key=jax.random.key(config.seed), dtype=dtype)


def measure(config: Any) -> xr.Dataset:
    """Train the grid of networks, and hold every measure and bound against the true generalization gap."""
    digits = _digits(config)
    axes = {"width": config.widths, "depth": config.depths, "noise": config.noises, "seed": range(config.seeds)}
    networks: Any = sweeps.run(
        partial(_networks, config=config, digits=digits, gram=_tangent_gram(digits.x)), sweeps.grid(**axes),
        out=config.out / "networks.zarr", key=config.seed, static=("width", "depth"),
        paired=("width", "depth", "noise"),
    ).load()  # fmt: skip
    names = {"name": _words(_NAMES), "bounded": _words(_BOUNDS)}
    networks = networks.assign_coords(batch=list(config.batches), **names)
    networks = networks.assign(_ranking(networks))
    return networks.assign(_rademacher(digits.x, config.seed) | _claims(networks))


def _words(names: tuple[str, ...]) -> np.ndarray:
    return np.array(names, np.dtypes.StringDType())


def _networks(
    width: int, depth: int, noise: Array, seed: Array, key: PRNGKeyArray, *,
    config: Any, digits: data.Split, gram: Array,
) -> dict[str, Any]:  # fmt: skip
    """One network for each batch size, trained; errors, bare measures and bounds. Labels are the seed's at any size."""
    flips, test_flips, init, batches, draws = jax.random.split(key, 5)
    y = data.flip_labels(digits.y, noise, flips, classes=_CLASSES)
    y_test = data.flip_labels(digits.y_test, noise, test_flips, classes=_CLASSES)
    start = _he((digits.x.shape[1], *[width] * depth, _CLASSES), init, digits.x.dtype)
    fits = [_trained(start, digits.x, y, size, config.steps, batches) for size in config.batches]
    # One after another under vmap: singular values that are batched may wait for each other on CPU.
    row = jax.custom_batching.sequential_vmap(partial(_row, digits=digits, gram=gram))
    every = jax.vmap(row, (0, None, None, None, 0))
    keys = jax.random.split(draws, len(fits))
    found = every(jax.tree.map(lambda *w: jnp.stack(w), *fits), start, y, y_test, keys)
    dims = {"measure": ("batch", "name"), "bound": ("batch", "bounded")}
    return {name: sweeps.named(values, *dims.get(name, ("batch",))) for name, values in found.items()}


def _trained(weights: list[Array], x: Array, y: Array, batch: int, steps: int, key: Array) -> list[Array]:
    """By Adam on the cross-entropy."""

    def loss(weights: list[Array], key: Array) -> Array:
        picked = minibatch(key, len(y), min(batch, len(y)))
        return _cross_entropy(weights, x[picked], y[picked])

    return train(loss, weights, optimizer=optax.adam(3e-3), steps=steps, record_every=steps, key=key).params


def _he(sizes: tuple[int, ...], key: Array, dtype: Any) -> list[Array]:
    """Weights without biases, of variance 2 over the fan-in."""
    shapes = list(itertools.pairwise(sizes))
    keys = jax.random.split(key, len(shapes))
    return [jax.random.normal(k, s, dtype) * np.sqrt(2 / s[0]) for k, s in zip(keys, shapes, strict=True)]


def _outputs(weights: list[Array], x: Array) -> Array:
    h = x
    for weight in weights[:-1]:
        h = jax.nn.relu(h @ weight)
    return h @ weights[-1]


def _cross_entropy(weights: list[Array], x: Array, y: Array) -> Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(_outputs(weights, x)), y[:, None], axis=1).mean()


def _row(
    weights: list[Array], start: list[Array], y: Array, y_test: Array, key: Array, *, digits: data.Split, gram: Array
) -> dict[str, Any]:
    """Measures without a positive margin to divide by are NaN, and the status of their network says so."""
    inner, picked = jax.random.split(key)
    table = gen.measures(weights, (digits.x, y), prior=start, gram=gram, key=inner, delta=_DELTA)
    found = {m.name: m for m in table.measures}
    wrong = (gen.margins(_outputs(weights, digits.x_test), y_test) <= 0).astype(table.empirical.dtype)
    observed = jax.random.choice(picked, wrong, (_HELD_OUT,), replace=False).mean()
    return {
        "train_error": table.empirical,
        "test_error": wrong.mean(),
        "held_out_bound": gen.kl_inverse(observed, np.log(1 / _DELTA) / _HELD_OUT),
        "measure": jnp.stack([found[name].measure for name in _NAMES]),
        "bound": jnp.stack([found[name].bound for name in _BOUNDS]),
    }


def _tangent_gram(x: Array) -> Array:
    """The first layer's NTK of an infinitely wide ReLU network of two layers, on inputs of length one."""
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    inner = jnp.matmul(x, x.T, precision="highest")
    return kernels.arc_cosine(order=0)(x, x) * inner + 1e-4 * jnp.eye(len(x), dtype=x.dtype)


def _ranking(networks: xr.Dataset) -> dict[str, Any]:
    """Granulated Kendall's tau of each measure, with its interval over seeds, and each seed's tau along the noise."""
    order = ("seed", *_AXES)
    gap = (networks.test_error - networks.train_error).transpose(*order).values
    measures = [networks.measure.sel(name=name).transpose(*order).values for name in _NAMES]
    found = [gen.rank(values, gap, _AXES) for values in measures]
    noise = [
        [gen.rank(one[None], true[None], _AXES, draws=1).along["noise"] for one, true in zip(values, gap, strict=True)]
        for values in measures
    ]
    values = {
        "psi": [ranking.granulated for ranking in found],
        "psi_low": [ranking.interval[0] for ranking in found],
        "psi_high": [ranking.interval[1] for ranking in found],
    }
    return {name: ("name", np.array(value)) for name, value in values.items()} | {"tau": (("name", "seed"), noise)}


def _rademacher(x: Array, seed: int) -> dict[str, float]:
    """Of linear functions on the same inputs, over its upper end."""
    linear = gen.rademacher(jnp.matmul(x, x.T, precision="highest"), 1.0, jax.random.key(seed), draws=_SIGNS)
    return estimated("rademacher", linear.value / linear.upper, linear.standard_error / linear.upper, _SIGNS)


def _claims(networks: xr.Dataset) -> dict[str, float]:
    labels = networks.measure.sel(name="NTK labels").mean(["width", "depth", "batch"])
    spectral: Any = np.log(networks.measure.sel(name="spectral"))
    dearer = spectral.isel(noise=-1) - spectral.isel(noise=0)
    dearer = dearer.where(np.isfinite(dearer).all("seed")).median(["width", "depth", "batch"])  # of the same for all
    covered = (networks.held_out_bound >= networks.test_error).stack(network=networks.test_error.dims)
    return {
        "vacuous": float(networks.bound.sel(bounded=list(_OWN)).min()),
        **averaged("held_out", covered, "network"),
        **averaged("labels", labels.isel(noise=-1) - labels.isel(noise=0)),
        **averaged("dearer", dearer),
        **averaged("ordered", networks.tau.sel(name=list(_OVER_MARGIN)).mean("name")),
    }


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """A point for each kind of network: means over seeds of the gap and of the bound's logarithm."""
    law = np.linspace(1e-2, 1, 100)
    figures.theory_line(ax, law, law, color="#222222", label="bound = gap")
    gap, over = dataset.test_error - dataset.train_error, np.log(dataset.bound - dataset.train_error)
    for name, tone, marker in zip(_BOUNDS, (*figures.PALETTE, "#777777"), "os^vDP*X<", strict=True):
        values: Any = np.exp(over.sel(bounded=name).mean("seed"))
        figures.points(ax, gap.mean("seed").values.ravel(), values.transpose(*gap.mean("seed").dims).values.ravel(),
                       color=tone, marker=marker, label=name)  # fmt: skip
    ax.axhline(1, color="#777777", linestyle=":", linewidth=1.3)
    ax.annotate("vacuous above", (0.36, 1.1), fontsize=11, color="#555555", ha="right", va="bottom")
    title = "bounds hold, and most say nothing"
    figures.label_axes(ax, "true gap: test minus training error", "bound on the gap, all constants", title,
                       yscale="log")  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(1e-2, 1e6))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=10)


def draw_ranks(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Granulated rank correlations of every measure with the gap."""
    order = np.argsort(dataset.psi.values)
    psi, low, high = (dataset[name].values[order] for name in ("psi", "psi_low", "psi_high"))
    places = np.arange(len(order))
    ax.errorbar(psi, places, xerr=[psi - low, high - psi], fmt="o", capsize=3, color=figures.PALETTE[0])
    ax.axvline(0, color="#777777", linestyle=":", linewidth=1.3)
    figures.label_axes(ax, "granulated Kendall $\\Psi$, 95% over seeds", "", "which measures follow the gap")
    ax.set_yticks(places, [_NAMES[i] for i in order], fontsize=10)


def draw_labels(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Both complexities rise with the share of labels replaced."""
    labels = {"NTK labels": "NTK label complexity", "spectral": "spectral complexity / margin"}
    for (name, label), color, marker in zip(labels.items(), figures.PALETTE, "os", strict=False):
        values = dataset.measure.sel(name=name).median(["width", "depth", "batch"])
        ratio = values / values.isel(noise=0)
        mean, error = mean_and_error(ratio, "seed")
        ax.plot(dataset.noise, mean, color=color, linewidth=1.0)
        figures.points(ax, dataset.noise, mean, error, color=color, marker=marker, label=label)
    figures.label_axes(ax, "share of labels replaced", "over that of the true labels", "random labels cost more",
                       yscale="log")  # fmt: skip
    ax.set_xticks(dataset.noise.values)
    ax.legend(loc="lower right")


STUDY = Study("digits", predict, measure, draw)
