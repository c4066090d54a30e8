r"""Spectral pruning: hidden units that the others of their layer can stand in for, and what leaving them out costs.

Layer l of a ReLU network has the features h_l (its units) and, over a sample, their covariance Σ_l. Few units J span
what the layer computes if the degrees of freedom N_l(λ) = tr Σ_l (Σ_l + λ)^{−1} are few, whatever the width.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, positive, require
from jaxtheory.generalization.bounds import uniform
from jaxtheory.generalization.capacity import log_growth
from jaxtheory.generalization.chain import Chain, forward, matrices, preactivations
from jaxtheory.generalization.norms import labels, margins, share_wrong
from jaxtheory.guarded import dot, norm, power_of_two


class Pruned(NamedTuple):
    """The smaller network, the units it keeps in each hidden layer, and what it costs on the sample.

    `losses` are of each hidden layer, `change` is ‖f − f♯‖_n, which they make at most `change_bound`; `empirical` is
    the error of the smaller network on the sample, and `bound` one of its error with probability 1 − δ.
    """

    net: Chain
    kept: tuple[Int[Array, " units"], ...]
    losses: Float[Array, " hidden"]
    change: Float[Array, ""]
    change_bound: Float[Array, ""]
    empirical: Float[Array, ""]
    bound: Float[Array, ""]


@boundary
def feature_freedom(net: Chain, x: Float[Array, "n ..."], ridge: float | Float[Array, ""]) -> Float[Array, " hidden"]:
    r"""Degrees of freedom N_l = tr Σ_l (Σ_l + λ_l)^{−1} of each hidden layer, λ_l = ridge · tr Σ_l.

    Σ_l = (1/n) Σ_i (h_l(x_i) − h̄_l)(h_l(x_i) − h̄_l)ᵀ, since a constant unit is always at hand. With probability 1 − δ
    5 N_l log(16 N_l/δ) units (`kernels.features_needed`) drawn by their leverage are enough for a squared loss of at
    most 4 λ_l ‖A_{l+1}‖_F² in the next layer.

    Args:
        net: A_1, …, A_L, of L − 1 hidden layers. x: n ≥ 1 examples. ridge: > 0, relative to the total variance.

    Returns:
        N_l, between 0 (constant features) and the number of units.

    Raises:
        ValueError: no examples, inputs of another size, ridge ≤ 0 (outside jit; NaN inside).

    Cost: a pass over the sample and the singular values of [n, width] matrices.
    Source: Suzuki, Abe, Murata, Horiuchi, Ito, Wachi, Hirai, Yukishima, Nishimura (2020), section 3.

    >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> net = (jnp.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), jnp.ones((2, 3)))
    >>> feature_freedom(net, x, 1.0).tolist()
    [0.5]
    """
    require(len(x) >= 1, "x", x.shape, "hold at least one example", "pass the sample")
    layers = matrices("net", net)
    given = positive("ridge", ridge, "pass a share of the variance, e.g. 0.01")
    return _freedom(layers, x, jnp.asarray(given, layers[0].dtype))


@jax.jit
def _freedom(net: Chain, x: Array, ridge: Array) -> Array:
    found = [_effective(jnp.linalg.svd(_centered(h)[0], compute_uv=False), ridge) for h in _hidden(net, x)]
    return jnp.stack([*found, jnp.zeros_like(net[0][0, 0])])[:-1]


def _effective(values: Array, ridge: Array) -> Array:
    shares = (values / jnp.where(norm(values) > 0, norm(values), jnp.ones_like(values[0]))) ** 2
    return jnp.sum(shares / (shares + ridge))


def _hidden(net: Chain, x: Array) -> list[Array]:
    """Units of the hidden layers, [n, units] each, without the constant one."""
    return [jax.nn.relu(z)[:, :-1] for z in preactivations(net, x)[:-1]]


def _centered(features: Array) -> tuple[Array, Array]:
    """Features less their means, over a power of two, and the means."""
    mean = features.mean(axis=0, keepdims=True)
    return (features - mean) / power_of_two(features), mean[0]


@boundary(static=("widths", "delta"))
def spectral_pruning(
    net: Chain,
    x: Float[Array, "n ..."],
    y: Int[Array, " n"],
    widths: Sequence[int],
    *,
    key: Key[Array, ""] | None = None,
    ridge: float | Float[Array, ""] = 1e-3,
    delta: float = 0.05,
) -> Pruned:
    r"""A trained network with fewer units, which replace the others of their layer by least squares on a sample.

        f♯: A♯_{l+1} = (A_{l+1} B_l)_J',   B_l = argmin_B ‖h_l − B (h_l)_J‖_n,   J, J' the units kept in layers l, l + 1

    Units are kept one after the other, each time the one that leaves the least of ‖A_{l+1}(h_l − B_l (h_l)_J)‖_n, or,
    with a `key`, drawn by their leverage without replacement. Since ReLU is 1-Lipschitz, the losses
    ℓ_l = ‖(A_{l+1})_J' (h_l − B_l (h_l)_J)‖_n add up to

        ‖f − f♯‖_n ≤ e_L,   e_1 = 0,   e_{l+1} = ℓ_l + ‖(A_{l+1} B_l)_J'‖_σ e_l  (without the constant unit),

    up to rounding, and f♯ is one of the networks of its widths, chosen among Π_l m_l vectors of widths, so that with
    probability 1 − δ

        error ≤ error on the sample + √(8 (ln Π(2n) + Σ_l ln m_l + ln(4/δ))/n),   Π the growth function.

    Args:
        net: A_1, …, A_L, with widths m_l fixed before the sample is seen. x, y: the sample.
        widths: units to keep in each hidden layer, in 1 … m_l; the constant unit comes on top.
        key: of the draws; None for the greedy choice. ridge: of the leverages, as in `feature_freedom`.
        delta: δ.

    Returns:
        `Pruned`; units are in increasing order. Where fewer units are enough, others fill up the widths.
        NaN where an activation is not finite. Derivatives are not those of the choice, and need independent units.

    Raises:
        ValueError: another number of widths, widths out of range, labels, no examples, ridge ≤ 0 (outside jit; NaN
            inside), δ outside (0, 1).

    Cost: for each unit kept 2 n m_l (1 + d_out) flops, and a least-squares problem of its layer.
    Source: Suzuki, Abe, Murata, Horiuchi, Ito, Wachi, Hirai, Yukishima, Nishimura (2020), sections 3 and 4; Vapnik
    (1998), Theorem 4.4, for the bound of the error.

    >>> net = (jnp.array([[1.0, 0.5], [2.0, 1.0], [0.0, 1.0]]), jnp.array([[1.0, 2.0, 0.0], [-1.0, 1.0, 1.0]]))
    >>> found = spectral_pruning(net, jnp.array([[1.0], [2.0], [-1.0]]), jnp.array([0, 0, 1]), (1,))
    >>> found.net[0].shape, bool(found.change < 1e-5)
    ((2, 2), True)
    """
    require(len(x) >= 1, "x", x.shape, "hold at least one example", "pass the sample")
    require(0 < delta < 1, "delta", delta, "lie within (0, 1)", "pass e.g. delta=0.05")
    layers = matrices("net", net)
    sizes = [layer.shape[0] - 1 for layer in layers[:-1]]
    listed = isinstance(widths, (tuple, list, range, np.ndarray, jax.Array)) and np.ndim(widths) == 1
    require(listed, "widths", widths, f"be a sequence, one for each hidden layer, of at most {sizes}", "pass a tuple")
    whole = all(isinstance(k, (int, np.integer)) and not isinstance(k, bool) for k in widths)
    fits = whole and len(widths) == len(sizes) and all(1 <= k <= m for k, m in zip(widths, sizes, strict=False))
    require(fits, "widths", tuple(widths), f"be one for each hidden layer, within 1..{sizes}", "keep at least one unit")
    given = jnp.asarray(positive("ridge", ridge, "pass a share of the variance, e.g. 0.01"), layers[0].dtype)
    y = labels(y, len(x), layers[-1].shape[0])
    widths = tuple(int(k) for k in widths)
    kept, small, losses, change, limit, wrong = _pruned(layers, x, y, key, given, widths)
    counts = [layers[0].shape[1] - 1, *widths, layers[-1].shape[0]]
    growth = log_growth(counts, 2 * len(x)) + sum(map(math.log, sizes))
    return Pruned(small, kept, losses, change, limit, wrong, uniform(wrong, growth, len(x), delta))


@partial(jax.jit, static_argnames="widths")
def _pruned(
    net: Chain, x: Array, y: Array, key: Array | None, ridge: Array, widths: tuple[int, ...]
) -> tuple[tuple[Array, ...], Chain, Array, Array, Array, Array]:
    hidden = _hidden(net, x)
    keys = [None] * len(widths) if key is None else list(jax.random.split(key, max(len(widths), 1)))
    choices = [
        _greedy(h, after, k) if one is None else _drawn(one, h, ridge, k)
        for one, h, after, k in zip(keys, hidden, net[1:], widths, strict=False)
    ]
    rows = [*(jnp.append(choice, layer.shape[0] - 1) for choice, layer in zip(choices, net, strict=False)),
            jnp.arange(net[-1].shape[0])]  # fmt: skip
    # a ridge that is NaN counts where nothing is drawn, too
    small, losses, limit = [net[0][rows[0]] + 0 * ridge], [], jnp.zeros_like(net[0][0, 0])
    for h, layer, choice, following in zip(hidden, net[1:], choices, rows[1:], strict=True):
        weights = layer[following]
        stands, left = _replaced(h, choice)
        merged = dot(weights, stands)
        losses.append(norm(dot(left, weights[:, :-1].T)) / len(x) ** 0.5)
        limit = losses[-1] + jnp.linalg.norm(merged[:, :-1], 2) * limit
        small.append(merged)
    outputs, smaller = forward(net, x), forward(tuple(small), x)
    change = norm(outputs - smaller) / len(x) ** 0.5
    lost = jnp.stack([*losses, jnp.zeros_like(limit)])[:-1]
    return tuple(choices), tuple(small), lost, change, limit, share_wrong(margins(smaller, y))


def _greedy(features: Array, after: Array, count: int) -> Array:
    """Units that leave the least of what the next layer reads, one after the other, in increasing order."""
    rest = _centered(features)[0]
    sizes = norm(rest, axis=0)
    rounding = 16 * len(rest) * jnp.finfo(rest.dtype).eps * sizes
    reading = after[:, :-1] / power_of_two(after[:, :-1])

    def keep(step: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        rest, free, chosen = state
        lengths = norm(rest, axis=0)
        unit = rest / jnp.where(lengths > rounding, lengths, jnp.full_like(lengths, jnp.inf))[None, :]
        gains = norm(dot(unit.T, dot(rest, reading.T)), axis=1)
        best = jnp.argmax(jnp.where(free, gains, jnp.full_like(gains, -1.0)))
        direction = jnp.take(unit, best, axis=1)
        for _ in range(2):  # so that rounding does not bring it back
            rest = rest - direction[:, None] * dot(direction, rest)[None, :]
        return rest, free.at[best].set(False), chosen.at[step].set(best.astype(jnp.int32))

    start = (rest, jnp.ones(rest.shape[1], bool), jnp.zeros(count, jnp.int32))
    return jnp.sort(lax.fori_loop(0, count, keep, start)[2])


def _drawn(key: Array, features: Array, ridge: Array, count: int) -> Array:
    """Units by leverage, without replacement: they include as many drawn with it."""
    centered = _centered(features)[0]
    _, values, rows = jnp.linalg.svd(centered, full_matrices=False)
    shares = (values / jnp.where(norm(values) > 0, norm(values), jnp.ones_like(values[0]))) ** 2
    scores = jnp.sum((shares / (shares + ridge))[:, None] * rows**2, axis=0)
    usual = jnp.where(scores.sum() > 0, scores, jnp.ones_like(scores))
    chosen = jax.random.choice(key, len(usual), (count,), replace=False, p=usual / usual.sum())
    return jnp.sort(chosen.astype(jnp.int32))


def _replaced(features: Array, choice: Array) -> tuple[Array, Array]:
    """B with (h, 1) ≈ B (h_J, 1) by least squares, and what is left of h."""
    unit = power_of_two(features)
    centered, mean = _centered(features)
    part = centered[:, choice]
    weights = jnp.linalg.lstsq(part, centered)[0].T
    offset = mean - dot(weights, mean[choice])
    zero = jnp.zeros_like(weights[:1])
    stands = jnp.concatenate([jnp.concatenate([weights, zero]), jnp.append(offset, 1.0)[:, None]], axis=1)
    return stands, (centered - dot(part, weights.T)) * unit
