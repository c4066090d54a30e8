r"""Expectations over the labels of a linear teacher: P(y = 1 | x) = p(ρ G), G = ⟨x, β⟩/‖β‖ normal.

A loss of the margin sees the labels through S = yG only, whose density is φ(S) (p(ρS) + 1 − p(−ρS)) = 2 φ(S) p(ρS).
Integrals are Gauss-Legendre on panels that are short where the integrand is sharp.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array

Link = Literal["logistic", "probit"]

_EDGE = 9.0  # beyond it a standard normal has 1e-19
_GROWING = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])


def chance(x: Array, link: Link) -> Array:
    """P(y = 1) at the logit or probit x."""
    return jax.nn.sigmoid(x) if link == "logistic" else ndtr(x)


def density(x: Array) -> Array:
    """φ(x)."""
    return jnp.exp(-(x**2) / 2) / float(np.sqrt(2 * np.pi))


def ramp(x: Array) -> Array:
    """E (x − Z)₊, Z standard normal."""
    return x * ndtr(x) + density(x)


def squared_ramp(x: Array) -> Array:
    """E (x − Z)₊²."""
    return (x**2 + 1) * ndtr(x) + x * density(x)


def panels(like: Array, order: int, *sharp: tuple[Array, Array]) -> tuple[Array, Array]:
    """Nodes and weights on [−9, 9], with panels that double from 1/`steepness` around each `centre`.

    Args:
        like: of the dtype. order: nodes a panel.
        sharp: pairs (centre, steepness ≥ 0) of one shape; panels carry no derivatives.

    Returns:
        Nodes and weights of the measure dx, [*shape of the centres, nodes].
    """
    uniform = np.linspace(-_EDGE, _EDGE, 19)
    breaks = []
    for centre, steepness in jax.lax.stop_gradient(sharp):
        steps = _row(np.concatenate([-_GROWING[::-1], [0.0], _GROWING]), centre)
        apart = jnp.minimum(1 / jnp.maximum(steepness, float(1 / _EDGE)), _EDGE)
        breaks.append(jnp.clip(centre[..., None] + apart[..., None] * steps, -_EDGE, _EDGE))
    shape = jnp.broadcast_shapes(*(b.shape[:-1] for b in breaks))
    breaks = [jnp.broadcast_to(b, (*shape, b.shape[-1])) for b in (_row(uniform, breaks[0][..., 0]), *breaks)]
    ends = jnp.sort(jnp.concatenate(breaks, axis=-1), axis=-1)
    node, weight = (_row(v, ends) for v in np.polynomial.legendre.leggauss(order))
    middle, half = (ends[..., 1:] + ends[..., :-1]) / 2, (ends[..., 1:] - ends[..., :-1]) / 2
    nodes = middle[..., None] + half[..., None] * node
    weights = half[..., None] * weight
    return nodes.reshape(*shape, -1), weights.reshape(*shape, -1)


def _row(values: np.ndarray, like: Array) -> Array:
    """The values along one more axis than `like` has."""
    return jnp.asarray(values, like.dtype).reshape((1,) * like.ndim + (-1,))


def aligned(signal: Array, link: Link, centre: Array, steepness: Array) -> tuple[Array, Array]:
    """Nodes S and weights of E over S = yG, for functions that are sharp around a centre."""
    nodes, weights = panels(signal, 12, (jnp.zeros_like(signal), signal), (centre, steepness))
    return nodes, weights * 2 * density(nodes) * chance(signal * nodes, link)
