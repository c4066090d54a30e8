"""Every complexity measure of one network on one sample, bare and as a bound with its constants."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import require
from jaxtheory.generalization import bounds, norms
from jaxtheory.generalization.capacity import log_growth, ntk_complexity, vc_dimension
from jaxtheory.generalization.chain import Chain, chain, forward
from jaxtheory.generalization.compression import compressed, cushions
from jaxtheory.generalization.pac_bayes import gaussian_posterior
from jaxtheory.generalization.sharpness import random_direction, worst_direction


class Measure(NamedTuple):
    """A complexity: what it is worth bare (normalized by the margin where it scales with the outputs), the bound on
    the error that it gives with all constants (NaN where it is no bound), and whether that bound says nothing."""

    name: str
    measure: float
    bound: float
    source: str

    @property
    def vacuous(self) -> bool:
        """Whether the bound is at least the error of always being wrong."""
        return not self.bound < 1


class Table(NamedTuple):
    """The measures of a network, its margin scale and its error on the sample."""

    measures: tuple[Measure, ...]
    margin: float
    empirical: float

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
    gram: Float[Array, "n n"] | None = None,
    key: Key[Array, ""] | None = None,
    delta: float = 0.05,
    quantile: float = 0.1,
) -> Table:
    r"""Norm-based, counting, compression, PAC-Bayes, label and sharpness measures of a trained ReLU classifier.

    Args:
        model_or_weights: anything `chain` takes.
        data: (x, y) that it was trained on; y are labels.
        reference: its initialization, in the same form; distances are measured from it, by default from zero. As a
            PAC-Bayes prior it must not depend on the data.
        gram: an NTK on x, for the label complexity of Arora et al. (2019).
        key: for the measures that draw: compression, sharpness, and the optimized PAC-Bayes bound (which trains, and
            needs `reference`). Without it they are left out.
        delta: each bound holds with probability 1 − δ, on its own.
        quantile: the margin γ of bare measures is this quantile of the sample's margins; bounds choose their own.

    Returns:
        `Table`; print it.

    Raises:
        ValueError: what `chain` raises; y that does not pair with x; δ or quantile outside (0, 1).

    Cost: one SVD a layer and some passes over the sample; with `key` some hundreds of passes more.
    Source: each measure names its own.

    >>> net = [jnp.eye(2), jnp.eye(2)]
    >>> table = measures(net, (jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([0, 1])))
    >>> [m.name for m in table.measures if not m.vacuous], table.empirical
    ([], 0.0)
    """
    x, y = data
    require(len(x) == len(y), "data", (x.shape, y.shape), "pair inputs and labels", "pass (x, y)")
    for name, value in (("delta", delta), ("quantile", quantile)):
        require(0 < value < 1, name, value, "be within (0, 1)", "a probability")
    modular = not isinstance(model_or_weights, list)
    net = chain(model_or_weights, x[:2] if modular else None)
    start = None if reference is None else chain(reference, x[:2] if modular else None)
    outputs = forward(net, x)
    sample = _sample(outputs, x, y)
    gamma = float(np.quantile(sample.margins, quantile))
    wrong = float((sample.margins <= 0).mean())
    rows = [*_norm_rows(net, start, sample, max(gamma, 0.0), delta), *_counting_rows(net, sample, wrong, delta)]
    if gram is not None:
        rows.append(_label_row(gram, y, sample.classes, delta))
    if key is not None:
        rows += _drawing_rows(net, start, (x, y), max(gamma, 1e-6), key, delta)
    return Table(tuple(rows), gamma, wrong)


def _sample(outputs: Array, x: Array, y: Array) -> bounds.Sample:
    flat = np.asarray(x.reshape(len(x), -1), float)
    lengths = (flat**2).sum(1) + 1  # with the constant unit
    margins = np.asarray(norms.margins(outputs, y), float)
    largest = max(float(np.abs(flat).max()), 1.0)
    return bounds.Sample(
        margins, float(lengths.sum()), float(lengths.max() ** 0.5), largest, flat.shape[1] + 1, outputs.shape[1]
    )


def _norm_rows(net: Chain, start: Chain | None, sample: bounds.Sample, gamma: float, delta: float) -> list[Measure]:
    """What only looks at norms; bare measures are over the margin."""
    scale = gamma if gamma > 0 else float("nan")
    width = max(max(matrix.shape) for matrix in net)
    spectral, groups, frobenius = (
        np.asarray(values, float)
        for values in (norms.spectral_norms(net), norms.group_norms(net, start), norms.frobenius_norms(net))
    )
    ratio, path = float(norms.weight_ratio(net, start)), float(norms.l1_path_norm(net))
    # By Cauchy and Schwarz over the paths to an output, the l1 norm is at most √(paths) times the l2 norm.
    squared, paths = float(norms.path_norm(net)), float(np.prod([float(matrix.shape[1]) for matrix in net]))
    rows = [
        ("spectral", float(norms.spectral_complexity(net, start)) / scale,
         bounds.spectral(sample, spectral, groups, width, delta), "Bartlett, Foster, Telgarsky (2017)"),
        ("frobenius", float(np.prod(frobenius)) / scale, bounds.frobenius(sample, frobenius, delta),
         "Golowich, Rakhlin, Shamir (2018)"),
        ("path (l2)", squared / scale, bounds.l1_path(sample, squared * np.sqrt(paths), len(net), delta),
         "Neyshabur, Tomioka, Srebro (2015)"),
        ("path (l1)", path / scale, bounds.l1_path(sample, path, len(net), delta), "Bartlett, Mendelson (2002)"),
        ("PAC-Bayes spectral", ratio / scale**2,
         bounds.pac_bayes_spectral(sample, ratio, width, len(net), delta), "Neyshabur et al. (2018)"),
        ("inverse margin", 1 / scale**2, float("nan"), "Jiang et al. (2020)"),
    ]  # fmt: skip
    return [Measure(*row) for row in rows]


def _counting_rows(net: Chain, sample: bounds.Sample, wrong: float, delta: float) -> list[Measure]:
    """Of the fully connected network with these layers: a convolution has no more patterns than its matrix."""
    sizes = [net[0].shape[1] - 1, *[matrix.shape[0] - 1 for matrix in net[:-1]], net[-1].shape[0]]
    n = len(sample.margins)
    growth = log_growth(sizes, 2 * n)
    parameters = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    source = "Bartlett, Harvey, Liaw, Mehrabian (2019)"
    return [
        Measure("parameters", float(parameters), float("nan"), "count"),
        Measure("VC dimension", vc_dimension([*sizes[:-1], 1]), bounds.uniform(wrong, growth, n, delta), source),
    ]


def _label_row(gram: Array, y: Array, classes: int, delta: float) -> Measure:
    value = float(ntk_complexity(gram, jax.nn.one_hot(y, classes, dtype=gram.dtype)))
    bound = bounds.kernel_ball(value, float(jnp.trace(gram)), len(y), classes, delta)
    return Measure("NTK labels", value, bound, "Arora, Du, Hu, Li, Wang (2019)")


def _drawing_rows(
    net: Chain, start: Chain | None, data: tuple[Array, Array], gamma: float, key: Array, delta: float
) -> list[Measure]:
    (x, y), keys = data, jax.random.split(key, 3)
    held = cushions(net, x[:256], gamma)
    small = compressed(net, x, y, keys[0], delta=delta)
    loss = lambda weights: _cross_entropy(weights, x, y)  # noqa: E731
    rows = [
        Measure("compression", float(held.complexity), float(small.bound), "Arora, Ge, Neyshabur, Zhang (2018)"),
        Measure("sharpness (worst)", float(worst_direction(loss, net, 0.05)), float("nan"), "Foret et al. (2021)"),
        Measure("sharpness (random)", float(random_direction(loss, net, 0.01, keys[1], draws=32).mean), float("nan"),
                "Neyshabur et al. (2017)"),
    ]  # fmt: skip
    if start is None:
        return rows
    fit = gaussian_posterior(_surrogate, _errors, net, start, x, y, keys[2], delta=delta)
    return [*rows, Measure("PAC-Bayes-kl", float(fit.divergence), float(fit.bound), "Dziugaite, Roy (2017)")]


def _cross_entropy(net: Chain, x: Array, y: Array) -> Array:
    log_shares = jax.nn.log_softmax(forward(net, x))
    return -jnp.take_along_axis(log_shares, y[:, None], axis=1).mean()


def _surrogate(net: Chain, x: Array, y: Array) -> Array:
    """Cross-entropy in bits of K classes, an upper bound of the error up to the factor log₂ K."""
    classes = net[-1].shape[0]
    return _cross_entropy(net, x, y) / jnp.log(jnp.asarray(classes, x.dtype))


def _errors(net: Chain, x: Array, y: Array) -> Array:
    return (norms.margins(forward(net, x), y) <= 0).astype(x.dtype).mean()
