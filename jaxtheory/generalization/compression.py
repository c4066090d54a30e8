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

from jaxtheory.checks import holds, require
from jaxtheory.generalization.chain import Chain, forward, preactivations
from jaxtheory.generalization.norms import margins

_BITS = 32  # of a stored coefficient


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


def cushions(net: Chain, x: Float[Array, "n ..."], margin: float | Float[Array, ""]) -> Cushions:
    r"""How much a network damps noise compared with its signal, at its worst sample point.

        μ_l   = min_x ‖A_l φ(z_{l−1})‖ / (‖A_l‖_F ‖φ(z_{l−1})‖)
        μ_{l→} = min_{m ≥ l} min_x ‖J_x^{l,m} z_l‖ / (‖J_x^{l,m}‖_F ‖z_l‖),  J = A_m D_{m−1} ⋯ A_{l+1} D_l
        c     = max_{l,x} ‖z_l‖ / ‖φ(z_l)‖,   complexity = c² L² max_x ‖f(x)‖² Σ 1/(μ_l² μ_{l→}²) / γ²

    where D are the 0-1 matrices of the active units. For ReLU networks J z_l is z_m itself, exactly.

    Args:
        net: A_1, …, A_L.
        x: sample points.
        margin: γ > 0.

    Returns:
        `Cushions`; J at m = l is the identity with cushion 1/√width.

    Raises:
        ValueError: γ ≤ 0.

    Cost: n L² products of matrices. Source: Arora, Ge, Neyshabur, Zhang (2018), definitions 3 to 5, Theorem 4.1.
    """
    require(holds(lambda v: v > 0, margin), "margin", margin, "be > 0", "take a quantile of the positive margins")
    return _cushions(net, x, margin)


@jax.jit
def _cushions(net: Chain, x: Array, margin: Array | float) -> Cushions:
    z = preactivations(net, x)
    flat = x.reshape(len(x), -1)
    inputs = [jnp.concatenate([flat, jnp.ones_like(flat[:, :1])], 1), *[jax.nn.relu(v) for v in z[:-1]]]
    lengths = [jnp.linalg.norm(v, axis=1) for v in inputs]
    layer = jnp.stack([
        (jnp.linalg.norm(out, axis=1) / (jnp.linalg.norm(matrix) * length)).min()
        for matrix, out, length in zip(net, z, lengths, strict=True)
    ])  # fmt: skip
    interlayer = jnp.stack([_interlayer(net, z, index) for index in range(len(net))])
    kept = [jnp.linalg.norm(v, axis=1) / jnp.linalg.norm(jax.nn.relu(v), axis=1) for v in z[:-1]]
    contraction = jnp.stack([ratio.max() for ratio in kept]).max() if kept else jnp.ones_like(layer[0])
    size = (z[-1] ** 2).sum(1).max() * (contraction * len(net)) ** 2
    return Cushions(layer, interlayer, contraction, size * (1 / (layer * interlayer) ** 2).sum() / margin**2)


def _interlayer(net: Chain, z: list[Array], start: int) -> Array:
    def one(values: list[Array]) -> Array:
        here = values[start]
        jacobian, own = jnp.eye(here.shape[0], dtype=here.dtype), jnp.linalg.norm(here)
        cushion = 1 / jnp.sqrt(jnp.asarray(here.shape[0], here.dtype))
        for step in range(start + 1, len(net)):
            active = jnp.where((values[step - 1] > 0)[None, :], net[step], 0)
            jacobian = jnp.matmul(active, jacobian, precision="highest")
            ratio = jnp.linalg.norm(values[step]) / (jnp.linalg.norm(jacobian) * own)
            cushion = jnp.minimum(cushion, ratio)
        return cushion

    return lax.map(one, z, batch_size=64).min()


def compressed(
    net: Chain, x: Float[Array, "n ..."], y: Int[Array, " n"], key: Key[Array, ""], *,
    budgets: tuple[int, ...] = (64, 256, 1024, 4096), delta: float = 0.05,
) -> Compressed:  # fmt: skip
    r"""A bound on the error of a network whose every layer was replaced by k random projections of it.

        Â = (1/k) Σ_{j ≤ k} ⟨A, S_j⟩ S_j,  S_j of random signs fixed by the key before the data are seen

    The compressed network is given by kL numbers of 32 bits, so it is one of 2^{32kL}, and with probability 1 − δ

        error ≤ min_k  error on the sample + √((32 k L ln 2 + ln(budgets/δ)) / 2n)

    Args:
        net: A_1, …, A_L.
        x, y: the sample.
        key: of the signs, the "helper string", which does not count.
        budgets: the k that are tried; each costs a share of δ, and larger ones begin with the signs of smaller ones.
        delta: δ.

    Returns:
        `Compressed`, by increasing k. The bound is of the compressed network, and vacuous (> 1) unless 32kL ≪ n.

    Raises:
        ValueError: δ outside (0, 1), or a budget < 1.

    Cost: max k · Σ d_in d_out, and a pass over the sample for each budget. Source: Arora, Ge, Neyshabur, Zhang
    (2018), algorithm 1 and Theorem 2.1 with its constants: Hoeffding's inequality and a union bound.
    """
    require(0 < delta < 1, "delta", delta, "be within (0, 1)", "0.05 for 95% confidence")
    require(min(budgets) >= 1, "budgets", budgets, "be >= 1", "keep a coefficient a layer")
    n, depth, budgets = len(x), len(net), tuple(sorted(budgets))
    errors = _errors(net, x, y, key, jnp.array(budgets, jnp.int32))
    prices = [np.sqrt((_BITS * k * depth * np.log(2) + np.log(len(budgets) / delta)) / (2 * n)) for k in budgets]
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
        return (k, total), (margins(forward(small, x), y) <= 0).astype(x.dtype).mean()

    return lax.scan(upto, (jnp.zeros_like(budgets[0]), jnp.zeros_like(flat)), budgets)[1]


def _signs(key: Array, count: int, dtype: jnp.dtype) -> Array:
    """As many random signs, 32 to a word."""
    words = jax.random.bits(key, (-(-count // 32), 1), jnp.uint32)
    bits = (words >> jnp.arange(32, dtype=jnp.uint32)[None]) & 1
    return 1 - 2 * bits.ravel()[:count].astype(dtype)


def _with_units(net: Chain) -> Chain:
    """The rows (0, …, 0, 1) below all layers but the last, which are no weights."""
    return (*(m.at[-1].set(0).at[-1, -1].set(1) for m in net[:-1]), net[-1])
