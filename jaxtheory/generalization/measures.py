"""Every complexity measure of one network on one sample, bare and as a bound with its constants."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, holds, labels_or_targets, positive, quantity, require
from jaxtheory.generalization import bounds, norms
from jaxtheory.generalization.capacity import log_growth, ntk_complexity, vc_dimension
from jaxtheory.generalization.chain import Chain, chain, count_parameters, forward, is_list
from jaxtheory.generalization.compression import compressed, cushions
from jaxtheory.generalization.pac_bayes import gaussian_posterior
from jaxtheory.generalization.sharpness import random_direction, worst_direction
from jaxtheory.guarded import divided, norm

SOURCES = {
    "spectral": "Bartlett, Foster, Telgarsky (2017)",
    "frobenius": "Golowich, Rakhlin, Shamir (2018)",
    "path (l2)": "Neyshabur, Tomioka, Srebro (2015)",
    "path (l1)": "Bartlett, Mendelson (2002)",
    "PAC-Bayes spectral": "Neyshabur, Bhojanapalli, Srebro (2018)",
    "inverse margin": "Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020)",
    "parameters": "count of the numbers that are stored and trained",
    "VC dimension": "Bartlett, Harvey, Liaw, Mehrabian (2019)",
    "NTK labels": "Arora, Du, Hu, Li, Wang (2019)",
    "compression": "Arora, Ge, Neyshabur, Zhang (2018)",
    "sharpness (worst)": "Foret, Kleiner, Mobahi, Neyshabur (2021)",
    "sharpness (random)": "Neyshabur, Bhojanapalli, McAllester, Srebro (2017)",
    "PAC-Bayes-kl": "Dziugaite, Roy (2017)",
}  # fmt: skip
_Values = dict[str, tuple[Array, Array]]  # bare measure and bound, by name


class Measure(NamedTuple):
    """A complexity: what it is worth bare (normalized by the margin where it scales with the outputs), the bound on
    the error that it gives with all constants (NaN where it is no bound), and whether that bound says nothing."""

    name: str
    measure: Float[Array, ""]
    bound: Float[Array, ""]
    source: str

    @property
    def vacuous(self) -> bool:
        """Whether the bound is at least the error of always being wrong."""
        return not self.bound < 1


class Table(NamedTuple):
    """The measures of a network, its margin scale and its error on the sample."""

    measures: tuple[Measure, ...]
    margin: Float[Array, ""]
    empirical: Float[Array, ""]

    def __str__(self) -> str:
        rows = [
            f"{m.name:<22} {m.measure:>12.4g} {m.bound:>12.4g}  {'vacuous' if m.vacuous else ''}" for m in self.measures
        ]
        head = f"error on the sample {self.empirical:.4f}, margin {self.margin:.4g}\n"
        return head + "\n".join([f"{'measure':<22} {'bare':>12} {'bound':>12}", *rows])


@boundary(static=("delta", "quantile"))
def measures(
    model_or_weights: Any,
    data: tuple[Float[Array, "n ..."], Int[Array, " n"]],
    *,
    reference: Any = None,
    prior: Any = None,
    gram: Float[Array, "n n"] | None = None,
    key: Key[Array, ""] | None = None,
    delta: float = 0.05,
    quantile: float = 0.1,
    radius: float | Float[Array, ""] | None = None,
) -> Table:
    r"""Norm-based, counting, compression, PAC-Bayes, label and sharpness measures of a trained ReLU classifier.

    Args:
        model_or_weights: anything `chain` takes.
        data: (x, y) that it was trained on; y are labels.
        reference: its initialization, in the same form; distances are measured from it, by default from zero.
        prior: centre of the PAC-Bayes prior, which must not depend on the data; by default `reference`.
        gram: an NTK on x, for the label complexity of Arora et al. (2019).
        key: for the measures that draw: compression, sharpness, and the optimized PAC-Bayes bound (which trains, and
            needs `prior`). Without it they are left out.
        delta: each bound holds with probability 1 − δ, on its own.
        quantile: the margin γ of bare measures is this quantile of the sample's margins; bounds choose their own.
        radius: of the distribution: no input is longer. The PAC-Bayes spectral bound assumes it; by default the
            longest input of the sample is taken for it.

    Returns:
        `Table`; print it. Inside `jit` its numbers are traced, so that networks are measured where they are trained.
        Bare measures over the margin are NaN where that is not positive.

    Raises:
        ValueError: what `chain` raises; labels that do not pair with x or are out of range; δ or quantile outside
            (0, 1); a Gram matrix that is not positive definite; a radius below the longest input.

    Cost: one SVD a layer and some passes over the sample; with `key` some hundreds of passes more, and one
    compilation for each shape. Source: each measure names its own, `SOURCES` lists them.

    >>> net = [jnp.eye(2), jnp.eye(2)]
    >>> table = measures(net, (jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([0, 1])))
    >>> [m.name for m in table.measures if not m.vacuous], float(table.empirical)
    ([], 0.0)
    """
    x, y = _data(data)
    for name, value in (("delta", delta), ("quantile", quantile)):
        require(0 < value < 1, name, value, "lie within (0, 1)", f"pass e.g. {name}=0.05")
    shown = None if is_list(model_or_weights) else x[:2]
    net = chain(model_or_weights, shown)
    start, center = (None if model is None else chain(model, shown) for model in (reference, prior))
    center = start if center is None else center
    y = norms.labels(y, len(x), net[-1].shape[0])
    limit = _radius(radius, x)
    values, margin, wrong = _evaluated(
        net, start, center, x, y, gram, key=key, radius=limit, delta=delta, quantile=quantile
    )
    definite = holds(np.isfinite, values.get("NTK labels", (0.0,))[0])
    hint = "remove repeated points, add a ridge, or use float64"
    require(definite, "gram", "a matrix too near a singular one", "be positive definite beyond rounding", hint)
    values["parameters"] = _bare(jnp.asarray(float(count_parameters(model_or_weights)), wrong.dtype))
    found = ((name, *values[name], source) for name, source in SOURCES.items() if name in values)
    return Table(tuple(itertools.starmap(Measure, found)), margin, wrong)


def _data(data: Any) -> tuple[Array, Array]:
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    require(pair, "data", type(data).__name__, "be a pair of inputs and labels", "pass (x, y)")
    x, y = jnp.asarray(quantity("data", data[0])), labels_or_targets("data", data[1])
    paired = x.ndim >= 1 and y.ndim == 1 and len(x) == len(y) >= 1
    require(paired, "data", (x.shape, y.shape), "pair at least one input with a label", "pass (x, y)")
    whole = jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == jnp.bool_
    require(whole, "data", f"labels of type {y.dtype}", "have integer labels", "convert them by astype(int)")
    return x, y


def _radius(radius: Any, x: Array) -> Array:
    """The assumed length of the longest input."""
    longest = norm(x.reshape(len(x), -1), axis=1).max()
    if radius is None:
        return longest
    radius = positive("radius", radius, "pass the length of the longest input")
    least = longest * (1 - 8 * float(jnp.finfo(longest.dtype).eps))  # a length is rounded
    told, wish = (radius, longest), "be no less than the longest input of the sample"
    require(holds(lambda r, n: r >= n, radius, least), "radius", told, wish, "pass a larger radius")
    return jnp.where(radius >= least, jnp.maximum(radius, longest), jnp.nan)


@partial(jax.jit, static_argnames=("delta", "quantile"))
def _evaluated(
    net: Chain, start: Chain | None, center: Chain | None, x: Array, y: Array, gram: Array | None, *, key: Array | None,
    radius: Array, delta: float, quantile: float,
) -> tuple[_Values, Array, Array]:  # fmt: skip
    """Every measure that can be had from what is given, the margin scale, and the error on the sample."""
    sample = _sample(forward(net, x), x, y, radius)
    gamma = jnp.quantile(sample.margins, quantile)
    wrong = norms.share_wrong(sample.margins)
    values = _norms(net, start, sample, gamma, delta) | _counts(net, sample, wrong, delta)
    if gram is not None:
        values |= _labels(gram, y, sample.classes, delta)
    if key is not None:
        values |= _draws(net, center, (x, y), jnp.maximum(gamma, 1e-6), key, delta)
    return values, gamma, wrong


def _sample(outputs: Array, x: Array, y: Array, radius: Array) -> bounds.Sample:
    flat = x.reshape(len(x), -1)
    square = ((flat**2).sum(1) + 1).sum()  # with the constant unit
    largest = jnp.maximum(jnp.abs(flat).max(), 1)
    margins = norms.margins(outputs, y)
    return bounds.Sample(margins, square, jnp.sqrt(radius**2 + 1), largest, flat.shape[1] + 1, outputs.shape[1])


def _norms(net: Chain, start: Chain | None, sample: bounds.Sample, gamma: Array, delta: float) -> _Values:
    """What only looks at norms; bare measures are over the margin."""
    scale = jnp.where(gamma > 0, gamma, jnp.nan)
    width, depth = max(max(matrix.shape) for matrix in net), len(net)
    spectral, frobenius = norms.spectral_norms(net), norms.frobenius_norms(net)
    ratio, path, squared = norms.weight_ratio(net, start), norms.l1_path_norm(net), norms.path_norm(net)
    distances = norms.frobenius_norms(tuple(norms.differences(net, start)))
    # By Cauchy and Schwarz over the paths to an output, the l1 norm is at most √(paths) times the l2 norm.
    paths = float(np.prod([float(matrix.shape[1]) for matrix in net])) ** 0.5
    return {
        "spectral": (norms.spectral_complexity(net, start) / scale,
                     bounds.spectral(sample, spectral, norms.group_norms(net, start), width, delta)),
        "frobenius": (frobenius.prod() / scale, bounds.frobenius(sample, frobenius, delta)),
        "path (l2)": (squared / scale, bounds.l1_path(sample, squared * paths, depth, delta)),
        "path (l1)": (path / scale, bounds.l1_path(sample, path, depth, delta)),
        "PAC-Bayes spectral": (divided(ratio, scale, scale),
                               bounds.pac_bayes_spectral(sample, spectral, distances, width, delta)),
        "inverse margin": _bare(1 / scale**2),
    }  # fmt: skip


def _counts(net: Chain, sample: bounds.Sample, wrong: Array, delta: float) -> _Values:
    """Of the fully connected network with these layers: a convolution has no more patterns than its matrix."""
    sizes = [net[0].shape[1] - 1, *[matrix.shape[0] - 1 for matrix in net[:-1]], net[-1].shape[0]]
    n = len(sample.margins)
    dimension = jnp.asarray(vc_dimension([*sizes[:-1], 1]), wrong.dtype)
    return {"VC dimension": (dimension, bounds.uniform(wrong, log_growth(sizes, 2 * n), n, delta))}


def _labels(gram: Array, y: Array, classes: int, delta: float) -> _Values:
    value = ntk_complexity(gram, jax.nn.one_hot(y, classes, dtype=gram.dtype))
    return {"NTK labels": (value, bounds.kernel_ball(value, jnp.trace(gram), len(y), classes, delta))}


def _draws(
    net: Chain, center: Chain | None, data: tuple[Array, Array], gamma: Array, key: Array, delta: float
) -> _Values:
    (x, y), keys = data, jax.random.split(key, 3)
    small = compressed(net, x, y, keys[0], delta=delta)
    loss = lambda weights: _cross_entropy(weights, x, y)  # noqa: E731
    values = {
        "compression": (cushions(net, x[:256], gamma).complexity, small.bound),
        "sharpness (worst)": _bare(worst_direction(loss, net, 0.05)),
        "sharpness (random)": _bare(random_direction(loss, net, 0.01, keys[1], draws=32).mean),
    }
    if center is None:
        return values
    fit = gaussian_posterior(_surrogate, _errors, net, center, x, y, key=keys[2], delta=delta)
    return values | {"PAC-Bayes-kl": (fit.divergence, fit.bound)}


def _bare(value: Array) -> tuple[Array, Array]:
    """A measure that is no bound."""
    return value, jnp.full_like(value, jnp.nan)


def _cross_entropy(net: Chain, x: Array, y: Array) -> Array:
    log_shares = jax.nn.log_softmax(forward(net, x))
    return -jnp.take_along_axis(log_shares, y[:, None], axis=1).mean()


def _surrogate(net: Chain, x: Array, y: Array) -> Array:
    """Cross-entropy in bits of K classes, an upper bound of the error up to the factor log₂ K."""
    classes = net[-1].shape[0]
    return _cross_entropy(net, x, y) / jnp.log(jnp.asarray(classes, x.dtype))


def _errors(net: Chain, x: Array, y: Array) -> Array:
    return norms.share_wrong(norms.margins(forward(net, x), y))
