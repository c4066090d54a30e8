r"""Noise stability of a network and what it buys: cushions, and a bound from weights that were really compressed.

Both take the `Chain` of matrices of a ReLU network, in the coordinates (x, 1).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxtheory.checks import require
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


def cushions(net: Chain, x: Float[Array, "n ..."], margin: float) -> Cushions:
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
    require(margin > 0, "margin", margin, "be > 0", "take a quantile of the positive margins")
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
        budgets: the k that are tried; each costs a share of δ.
        delta: δ.

    Returns:
        `Compressed`. The bound is of the compressed network, and vacuous (> 1) unless 32kL ≪ n.

    Raises:
        ValueError: δ outside (0, 1), or a budget < 1.

    Cost: Σ k Σ d_in d_out. Source: Arora, Ge, Neyshabur, Zhang (2018), algorithm 1 and Theorem 2.1 with its
    constants: Hoeffding's inequality and a union bound.
    """
    require(0 < delta < 1, "delta", delta, "be within (0, 1)", "0.05 for 95% confidence")
    require(min(budgets) >= 1, "budgets", budgets, "be >= 1", "keep a coefficient a layer")
    n, depth = len(x), len(net)
    errors = jnp.stack([_error_at(net, x, y, key, k) for k in budgets])
    prices = [np.sqrt((_BITS * k * depth * np.log(2) + np.log(len(budgets) / delta)) / (2 * n)) for k in budgets]
    return Compressed(jnp.array(budgets), errors, (errors + jnp.asarray(prices, errors.dtype)).min())


@partial(jax.jit, static_argnames="k")
def _error_at(net: Chain, x: Array, y: Array, key: Array, k: int) -> Array:
    keys = jax.random.split(key, len(net))
    small = tuple(_project(matrix, keys[i], k, keep=i < len(net) - 1) for i, matrix in enumerate(net))
    return (margins(forward(small, x), y) <= 0).astype(x.dtype).mean()


def _project(matrix: Array, key: Array, k: int, *, keep: bool) -> Array:
    def add(j: Array, total: Array) -> Array:
        signs = jax.random.rademacher(jax.random.fold_in(key, j), matrix.shape, matrix.dtype)
        return total + (matrix * signs).sum() * signs

    projected = lax.fori_loop(0, k, add, jnp.zeros_like(matrix)) / k
    return projected.at[-1].set(matrix[-1]) if keep else projected  # the constant unit is no weight
