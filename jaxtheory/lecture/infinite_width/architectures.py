"""Four networks as anybody writes them: functions of their parameters, with shapes at every width."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

_DIMENSION = 4  # of an input


class Network(NamedTuple):
    """f(params, x), and the shapes of its parameters at a width."""

    f: Callable[[Any, Array], Array]
    shapes: Callable[[int], dict[str, tuple[int, ...]]]
    example: tuple[int, ...]


def _mlp(p: Any, x: Array) -> Array:
    h = jnp.tanh(x @ p["w1"] + p["b1"][None])
    return jnp.tanh(h @ p["w2"] + p["b2"][None]) @ p["w3"]


def _residual(p: Any, x: Array) -> Array:
    h = x @ p["w0"]
    h = h + jax.nn.relu(h) @ p["w1"]
    return (h + jax.nn.gelu(h, approximate=False) @ p["w2"]) @ p["w3"]


def _cnn(p: Any, x: Array) -> Array:
    convolve = partial(
        jax.lax.conv_general_dilated, window_strides=(1,), padding="SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    h = jax.nn.relu(convolve(x[..., None], p["k1"]))
    return jax.nn.relu(convolve(h, p["k2"])).mean(1) @ p["w"]


def _recurrent(p: Any, x: Array) -> Array:
    """One matrix for every step; the letters of an input are its coordinates."""

    def step(h: Array, letter: Array) -> tuple[Array, None]:
        return jnp.tanh(h @ p["w"] + letter[:, None] @ p["u"] + p["b"][None]), None

    start = jnp.zeros((x.shape[0], p["w"].shape[0]), x.dtype)
    return jax.lax.scan(step, start, x.T)[0] @ p["o"]


NETWORKS = {
    "tanh MLP": Network(
        _mlp,
        lambda n: {"w1": (_DIMENSION, n), "b1": (n,), "w2": (n, n), "b2": (n,), "w3": (n, 1)},
        (_DIMENSION,),
    ),
    "residual MLP": Network(
        _residual, lambda n: {"w0": (_DIMENSION, n), "w1": (n, n), "w2": (n, n), "w3": (n, 1)}, (_DIMENSION,)
    ),
    "ReLU CNN": Network(_cnn, lambda n: {"k1": (3, 1, n), "k2": (3, n, n), "w": (n, 1)}, (_DIMENSION,)),
    "tanh RNN": Network(_recurrent, lambda n: {"w": (n, n), "u": (1, n), "b": (n,), "o": (n, 1)}, (_DIMENSION,)),
}
