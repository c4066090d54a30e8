"""A small tanh network on the principal components of digits, whose sharpness rises while it learns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxtheory import data

_COMPONENTS, _HIDDEN, _TARGET = 6, 8, 2.0


class Problem(NamedTuple):
    """A loss of a vector of parameters, and random starts."""

    loss: Callable[[Array], Array]
    starts: Array


def digits(config: Any) -> Problem:
    """Squared error of a tanh network with outputs ±2 for even and odd digits; a start a row."""
    chosen, drawn = jax.random.split(jax.random.key(config.seed))
    images = data.digits(config.samples, key=chosen, dtype="float64" if config.x64 else "float32")
    x = images.x - images.x.mean(0)[None]
    x = jnp.linalg.svd(x, full_matrices=False)[0][:, :_COMPONENTS] * np.sqrt(config.samples)
    y = jnp.where(images.y % 2 == 0, _TARGET, -_TARGET)

    def loss(flat: Array) -> Array:
        first, bias, last = jnp.split(flat, [_COMPONENTS * _HIDDEN, (_COMPONENTS + 1) * _HIDDEN])
        hidden = jnp.tanh(jnp.matmul(x, first.reshape(_COMPONENTS, _HIDDEN), precision="highest") + bias[None])
        return jnp.mean((jnp.matmul(hidden, last, precision="highest") - y) ** 2) / 2

    starts = 0.5 * jax.random.normal(drawn, (config.starts, (_COMPONENTS + 2) * _HIDDEN), x.dtype)
    return Problem(loss, starts.at[:, _COMPONENTS * _HIDDEN : -_HIDDEN].set(0))


def top_curvature(loss: Callable[[Array], Array], w: Array) -> Array:
    """λ_max of the Hessian, which is small enough to be formed."""
    return jnp.linalg.eigvalsh(jax.hessian(loss)(w))[-1]


class Oscillation(NamedTuple):
    """Steps ±offset around a center in turns, the square ‖offset‖², and offsetᵀ∇²L(center) offset."""

    center: Array
    offset: Array
    square: Array
    bent: Array


def oscillation(loss: Callable[[Array], Array], path: Array) -> Oscillation:
    """That of successive steps [n, P]; a constant drift is left out."""
    before, at, after = path[:-2], path[1:-1], path[2:]
    signs = (-1.0) ** jnp.arange(len(at)).astype(path.dtype)
    center = (before + 2 * at + after).mean(0) / 4
    offset = (signs[:, None] * (2 * at - before - after)).mean(0) / 4
    turned = jax.jvp(jax.grad(loss), (center,), (offset,))[1]
    return Oscillation(center, offset, jnp.sum(offset**2), jnp.sum(offset * turned))
