r"""Noise stability of a network and what it buys: cushions, and a bound from weights that were really compressed.

Both take the `Chain` of matrices of a ReLU network, in the coordinates (x, 1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import boundary, positive, require
from jaxtheory.generalization.chain import Chain, forward, matrices, preactivations
from jaxtheory.generalization.norms import labels, margins, share_wrong
from jaxtheory.guarded import norm


class Cushions(NamedTuple):
    """Layer cushions μ_l, interlayer cushions μ_{l→}, activation contraction c, and the complexity they make."""

    layer: Float[Array, " layers"]
    interlayer: Float[Array, " layers"]
    contraction: Float[Array, ""]
    complexity: Float[Array, ""]


class Compressed(NamedTuple):
    """Errors on the sample after keeping k coefficients a layer, and the bound at the best k."""

    coefficients: Int[Array, " budgets"]
    empirical: Float[Array, " budgets"]
    bound: Float[Array, ""]


@boundary
def cushions(net: Chain, x: Float[Array, "n ..."], margin: float | Float[Array, ""]) -> Cushions:
    r"""How much a network damps noise compared with its signal, at its worst sample point.

        μ_l   = min_x ‖A_l φ(z_{l−1})‖ / (‖A_l‖_F ‖φ(z_{l−1})‖)
        μ_{l→} = min_{m ≥ l} min_x ‖J_x^{l,m} z_l‖ / (‖J_x^{l,m}‖_F ‖z_l‖),  J = A_m D_{m−1} ⋯ A_{l+1} D_l
        c     = max_{l,x} ‖z_l‖ / ‖φ(z_l)‖,   complexity = c² L² max_x ‖f(x)‖² Σ 1/(μ_l² μ_{l→}²) / γ²

    where D are the 0-1 matrices of the active units. For ReLU networks J z_l is z_m itself, exactly. Quotients
    0/0, which any cushion allows, count as 1.

    Args:
        net: A_1, …, A_L.
        x: sample points.
        margin: γ > 0.

    Returns:
        `Cushions`; J at m = l is the identity with cushion 1/√width. NaN where the margin is not positive (inside jit).

    Raises:
        ValueError: γ ≤ 0, no examples, or inputs of another size.

    Cost: n L² products of matrices. Source: Arora, Ge, Neyshabur, Zhang (2018), definitions 3 to 5, Theorem 4.1.

    >>> found = cushions((jnp.eye(2), jnp.eye(2)), jnp.array([[1.0]]), 1.0)
    >>> print(found.layer.round(4), found.contraction)
    [0.7071 0.7071] 1.0
    """
    require(len(x) >= 1, "x", x.shape, "hold at least one example", "pass the sample")
    margin = positive("margin", margin, "take a quantile of the positive margins")
    return _cushions(matrices("net", net), x, margin)


@jax.jit
def _cushions(net: Chain, x: Array, margin: Array | float) -> Cushions:
    z = preactivations(net, x)
    flat = x.reshape(len(x), -1)
    inputs = [jnp.concatenate([flat, jnp.ones_like(flat[:, :1])], 1), *[jax.nn.relu(v) for v in z[:-1]]]
    lengths = [norm(v, axis=1) for v in inputs]
    layer = jnp.stack([
        _ratio(norm(out, axis=1), norm(matrix) * length).min()
        for matrix, out, length in zip(net, z, lengths, strict=True)
    ])  # fmt: skip
    interlayer = jnp.stack([_interlayer(net, z, index) for index in range(len(net))])
    kept = [_ratio(norm(v, axis=1), norm(jax.nn.relu(v), axis=1)) for v in z[:-1]]
    contraction = jnp.stack([ratio.max() for ratio in kept]).max() if kept else jnp.ones_like(layer[0])
    size = (norm(z[-1], axis=1).max() / margin * contraction * len(net)) ** 2
    return Cushions(layer, interlayer, contraction, size * (1 / (layer * interlayer) ** 2).sum())


def _ratio(part: Array, whole: Array) -> Array:
    """The quotient, and 1 for 0/0."""
    nothing = (part == 0) & (whole == 0)
    return jnp.where(nothing, 1, part / jnp.where(nothing, 1, whole))


def _interlayer(net: Chain, z: list[Array], start: int) -> Array:
    def one(values: list[Array]) -> Array:
        here = values[start]
        jacobian, own = jnp.eye(here.shape[0], dtype=here.dtype), norm(here)
        cushion = 1 / jnp.sqrt(jnp.asarray(here.shape[0], here.dtype))
        for step in range(start + 1, len(net)):
            active = jnp.where((values[step - 1] > 0)[None, :], net[step], 0)
            jacobian = jnp.matmul(active, jacobian, precision="highest")
            ratio = _ratio(norm(values[step]), norm(jacobian) * own)
            cushion = jnp.minimum(cushion, ratio)
        return cushion

    return lax.map(one, z, batch_size=64).min()


@boundary(static=("delta",))
def compressed(
    net: Chain, x: Float[Array, "n ..."], y: Int[Array, " n"], key: Key[Array, ""], *,
    budgets: tuple[int, ...] = (64, 256, 1024, 4096), delta: float = 0.05,
) -> Compressed:  # fmt: skip
    r"""A bound on the error of a network whose every layer was replaced by k random projections of it.

        Â = (1/k) Σ_{j ≤ k} ⟨A, S_j⟩ S_j,  S_j of random signs fixed by the key before the data are seen

    The compressed network is given by kL numbers of b bits, so it is one of 2^{bkL}, and with probability 1 − δ

        error ≤ min_k  error on the sample + √((b k L ln 2 + ln(budgets/δ)) / 2n)

    with b = 32 for weights in float32 and 64 in float64.

    Args:
        net: A_1, …, A_L.
        x, y: the sample.
        key: of the signs, the "helper string", which does not count.
        budgets: the different k ≥ 1 that are tried; each costs a share of δ, and larger ones begin with the signs of
            smaller ones.
        delta: δ.

    Returns:
        `Compressed`, by increasing k. The bound is of the compressed network, and vacuous (> 1) unless bkL ≪ n. NaN
        where a margin is not finite.

    Raises:
        ValueError: δ outside (0, 1), no budget or one < 1, no examples, labels out of range or of another number.

    Cost: max k · Σ d_in d_out, and a pass over the sample for each budget. Source: Arora, Ge, Neyshabur, Zhang
    (2018), algorithm 1 and Theorem 2.1 with its constants: Hoeffding's inequality and a union bound.

    >>> found = compressed((jnp.eye(2)[:1] * 3, jnp.ones((2, 1))), jnp.ones((4, 1)), jnp.zeros(4, int),
    ...                    jax.random.key(0), budgets=(8,))
    >>> found.empirical.shape, bool(found.bound > 1)
    ((1,), True)
    """
    require(0 < delta < 1, "delta", delta, "lie within (0, 1)", "pass e.g. delta=0.05")
    whole = all(isinstance(k, (int, np.integer)) and not isinstance(k, bool) and 1 <= k < 2**31 for k in budgets)
    fine = whole and len(budgets) > 0
    require(fine, "budgets", budgets, "hold integers >= 1", "keep at least one coefficient a layer")
    require(len(x) >= 1, "x", x.shape, "hold at least one example", "pass the sample")
    net = matrices("net", net)
    y = labels(y, len(x), net[-1].shape[0])
    n, depth, budgets = len(x), len(net), tuple(sorted({int(k) for k in budgets}))
    errors, bits = _errors(net, x, y, key, jnp.array(budgets, jnp.int32)), jnp.finfo(net[0].dtype).bits
    prices = [np.sqrt((bits * k * depth * np.log(2) + np.log(len(budgets) / delta)) / (2 * n)) for k in budgets]
    return Compressed(jnp.array(budgets, jnp.int32), errors, (errors + jnp.asarray(prices, errors.dtype)).min())


@jax.jit
def _errors(net: Chain, x: Array, y: Array, key: Array, budgets: Array) -> Array:
    """On the sample, of the network that each budget leaves."""
    flat, unravel = ravel_pytree(net)
    layer = jnp.repeat(jnp.arange(len(net)), np.array([m.size for m in net]), total_repeat_length=flat.size)

    def add(j: Array, total: Array) -> Array:
        signs = _signs(jax.random.fold_in(key, j), flat.size, flat.dtype)
        return total + jax.ops.segment_sum(flat * signs, layer, len(net), indices_are_sorted=True)[layer] * signs

    def upto(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
        begun, total = carry
        total = lax.fori_loop(begun, k, add, total)
        small = _with_units(unravel(total / k.astype(flat.dtype)))
        return (k, total), share_wrong(margins(forward(small, x), y))

    return lax.scan(upto, (jnp.zeros_like(budgets[0]), jnp.zeros_like(flat)), budgets)[1]


def _signs(key: Array, count: int, dtype: jnp.dtype) -> Array:
    """As many random signs, 32 to a word."""
    words = jax.random.bits(key, (-(-count // 32), 1), jnp.uint32)
    bits = (words >> jnp.arange(32, dtype=jnp.uint32)[None]) & 1
    return 1 - 2 * bits.ravel()[:count].astype(dtype)


def _with_units(net: Chain) -> Chain:
    """The rows (0, …, 0, 1) below all layers but the last, which are no weights."""
    return (*(m.at[-1].set(0).at[-1, -1].set(1) for m in net[:-1]), net[-1])
