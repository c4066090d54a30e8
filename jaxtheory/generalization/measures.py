"""Every complexity measure of one network on one sample, bare and as a bound with its constants."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import holds, require
from jaxtheory.generalization import bounds, norms
from jaxtheory.generalization.capacity import log_growth, ntk_complexity, vc_dimension
from jaxtheory.generalization.chain import Chain, chain, forward
from jaxtheory.generalization.compression import compressed, cushions
from jaxtheory.generalization.pac_bayes import gaussian_posterior
from jaxtheory.generalization.sharpness import random_direction, worst_direction

SOURCES = {
    "spectral": "Bartlett, Foster, Telgarsky (2017)",
    "frobenius": "Golowich, Rakhlin, Shamir (2018)",
    "path (l2)": "Neyshabur, Tomioka, Srebro (2015)",
    "path (l1)": "Bartlett, Mendelson (2002)",
    "PAC-Bayes spectral": "Neyshabur, Bhojanapalli, Srebro (2018)",
    "inverse margin": "Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020)",
    "parameters": "count",
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

    Returns:
        `Table`; print it. Inside `jit` its numbers are traced, so that networks are measured where they are trained.

    Raises:
        ValueError: what `chain` raises; labels that do not pair with x or are out of range; δ or quantile outside
            (0, 1); a Gram matrix that is not positive definite.

    Cost: one SVD a layer and some passes over the sample; with `key` some hundreds of passes more, and one
    compilation for each shape. Source: each measure names its own, `SOURCES` lists them.

    >>> net = [jnp.eye(2), jnp.eye(2)]
    >>> table = measures(net, (jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([0, 1])))
    >>> [m.name for m in table.measures if not m.vacuous], float(table.empirical)
    ([], 0.0)
    """
    x, y = data
    require(len(x) == len(y), "data", (x.shape, y.shape), "pair inputs and labels", "pass (x, y)")
    for name, value in (("delta", delta), ("quantile", quantile)):
        require(0 < value < 1, name, value, "be within (0, 1)", "a probability")
    modular = not isinstance(model_or_weights, list)
    net = chain(model_or_weights, x[:2] if modular else None)
    start, center = (None if w is None else chain(w, x[:2] if modular else None) for w in (reference, prior))
    center = start if center is None else center
    norms.require_labels(y, net[-1].shape[0])
    values, margin, wrong = _evaluated(net, start, center, x, y, gram, key, delta, quantile)
    definite = holds(np.isfinite, values.get("NTK labels", (0.0,))[0])
    require(definite, "gram", "a matrix without Cholesky factor", "be positive definite", "remove repeated points")
    found = ((name, *values[name], source) for name, source in SOURCES.items() if name in values)
    return Table(tuple(itertools.starmap(Measure, found)), margin, wrong)


@partial(jax.jit, static_argnames=("delta", "quantile"))
def _evaluated(
    net: Chain, start: Chain | None, center: Chain | None, x: Array, y: Array, gram: Array | None, key: Array | None,
    delta: float, quantile: float,
) -> tuple[_Values, Array, Array]:  # fmt: skip
    """Every measure that can be had from what is given, the margin scale, and the error on the sample."""
    sample = _sample(forward(net, x), x, y)
    gamma = jnp.quantile(sample.margins, quantile)
    wrong = (sample.margins <= 0).astype(gamma.dtype).mean()
    values = _norms(net, start, sample, gamma, delta) | _counts(net, sample, wrong, delta)
    if gram is not None:
        values |= _labels(gram, y, sample.classes, delta)
    if key is not None:
        values |= _draws(net, center, (x, y), jnp.maximum(gamma, 1e-6), key, delta)
    return values, gamma, wrong


def _sample(outputs: Array, x: Array, y: Array) -> bounds.Sample:
    flat = x.reshape(len(x), -1)
    lengths = (flat**2).sum(1) + 1  # with the constant unit
    largest = jnp.maximum(jnp.abs(flat).max(), 1)
    margins = norms.margins(outputs, y)
    return bounds.Sample(margins, lengths.sum(), jnp.sqrt(lengths.max()), largest, flat.shape[1] + 1, outputs.shape[1])


def _norms(net: Chain, start: Chain | None, sample: bounds.Sample, gamma: Array, delta: float) -> _Values:
    """What only looks at norms; bare measures are over the margin."""
    scale = jnp.where(gamma > 0, gamma, jnp.nan)
    width, depth = max(max(matrix.shape) for matrix in net), len(net)
    spectral, frobenius = norms.spectral_norms(net), norms.frobenius_norms(net)
    ratio, path, squared = norms.weight_ratio(net, start), norms.l1_path_norm(net), norms.path_norm(net)
    # By Cauchy and Schwarz over the paths to an output, the l1 norm is at most √(paths) times the l2 norm.
    paths = float(np.prod([float(matrix.shape[1]) for matrix in net])) ** 0.5
    return {
        "spectral": (norms.spectral_complexity(net, start) / scale,
                     bounds.spectral(sample, spectral, norms.group_norms(net, start), width, delta)),
        "frobenius": (frobenius.prod() / scale, bounds.frobenius(sample, frobenius, delta)),
        "path (l2)": (squared / scale, bounds.l1_path(sample, squared * paths, depth, delta)),
        "path (l1)": (path / scale, bounds.l1_path(sample, path, depth, delta)),
        "PAC-Bayes spectral": (ratio / scale**2, bounds.pac_bayes_spectral(sample, ratio, width, depth, delta)),
        "inverse margin": _bare(1 / scale**2),
    }  # fmt: skip


def _counts(net: Chain, sample: bounds.Sample, wrong: Array, delta: float) -> _Values:
    """Of the fully connected network with these layers: a convolution has no more patterns than its matrix."""
    sizes = [net[0].shape[1] - 1, *[matrix.shape[0] - 1 for matrix in net[:-1]], net[-1].shape[0]]
    n = len(sample.margins)
    parameters = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    dimension = jnp.asarray(vc_dimension([*sizes[:-1], 1]), wrong.dtype)
    return {
        "parameters": _bare(jnp.asarray(float(parameters), wrong.dtype)),
        "VC dimension": (dimension, bounds.uniform(wrong, log_growth(sizes, 2 * n), n, delta)),
    }


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
    fit = gaussian_posterior(_surrogate, _errors, net, center, x, y, keys[2], delta=delta)
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
    return (norms.margins(forward(net, x), y) <= 0).astype(x.dtype).mean()
