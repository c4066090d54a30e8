"""The network with one hidden layer, and the digits, which several studies share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxtheory import data

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def shallow(activation: str, params: tuple[Array, Array], x: Array) -> Array:
    """f(x) = √(2/m) Σ_j a_j φ(w_j·x)."""
    return jnp.sqrt(2 / jnp.asarray(len(params[1]), x.dtype)) * (ACTIVATIONS[activation](x @ params[0]) @ params[1])


def draw(width: int, dimension: int, dtype: Any, key: PRNGKeyArray) -> tuple[Array, Array]:
    """Standard normal weights."""
    inner, outer = jax.random.split(key)
    return jax.random.normal(inner, (dimension, width), dtype), jax.random.normal(outer, (width, 1), dtype)


def digits(train: int, key: PRNGKeyArray, config: Any) -> tuple[Array, Array, Array, Array]:
    """Centered 8x8 digits of mean squared pixel 1, even against odd, cut at random by `key`."""
    whole = data.digits(train, dtype="float64" if config.x64 else "float32")
    x, y = jnp.concatenate([whole.x, whole.x_test]), jnp.concatenate([whole.y, whole.y_test])
    order = jax.random.permutation(key, len(x))
    x = x - x.mean(0, keepdims=True)
    x, y = (x / jnp.sqrt((x**2).mean()))[order], jnp.where(y % 2 == 0, 1, -1).astype(x.dtype)[order]
    return x[:train], y[:train], x[train:], y[train:]


def alone(function: Callable[[PRNGKeyArray], Any]) -> Callable[[PRNGKeyArray], Any]:
    """One seed after another under vmap: eigendecompositions that are batched may wait for each other on CPU."""
    return jax.custom_batching.sequential_vmap(function)
