"""Models whose best learning rate is followed over widths: a network on digits, a transformer on synthetic text."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import data, losses

BASE = 32  # width at which learning rates are those of the optimizer
_TOKENS, _LENGTH, _HEADS = 16, 12, 4


class Model(NamedTuple):
    """A program of parameters and inputs, the shapes of its parameters at a width, its data and its loss."""

    apply: Callable[[Any, Any], Array]
    shapes: Callable[[int], dict[str, Any]]
    batch: tuple[Array, Array]
    risk: Callable[[Array, Array], Array]


def mlp(images: int) -> Model:
    """Two hidden layers of tanh on all ten digits, by cross-entropy."""
    split = data.digits(train=images)

    def apply(params: Any, x: Float[Array, "n 64"]) -> Float[Array, "n 10"]:
        h = jnp.tanh(x @ params["in"])
        return jnp.tanh(h @ params["hidden"]) @ params["out"]

    sizes = lambda n: {"in": (64, n), "hidden": (n, n), "out": (n, 10)}  # noqa: E731
    return Model(apply, lambda n: _zeros(sizes(n)), (data.standardize(split.x), split.y), _cross_entropy)


def transformer(sentences: int, key: Array) -> Model:
    """One block of attention and one of tanh on sentences of a random Markov chain, by cross-entropy of the next token.

    Scores are divided by d, as maximal update asks: √d of the base width's heads, over d.
    """
    law, draw = jax.random.split(key)
    chances = 2 * jax.random.normal(law, (_TOKENS, _TOKENS), jnp.float32)  # logits of the next token

    def turn(token: Array, key: Array) -> tuple[Array, Array]:
        return jax.random.categorical(key, chances[token]), token

    keys = jax.random.split(draw, (_LENGTH + 1, sentences))
    start = jnp.zeros(sentences, jnp.int32)
    text = jax.lax.scan(jax.vmap(turn), start, keys)[1].T

    def apply(params: Any, tokens: Int[Array, "n t"]) -> Float[Array, "n t v"]:
        h = params["embed"][tokens] + params["position"][None]
        q, k, v = jnp.moveaxis((_normed(h) @ params["qkv"]).reshape(*h.shape[:2], 3, _HEADS, -1), 2, 0)
        scores = jnp.einsum("bthd,bshd->bhts", q, k) * ((BASE / _HEADS) ** 0.5 / q.shape[-1])
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        mixing = jax.nn.softmax(jnp.where(causal[None, None], scores, -1e9))
        h = h + jnp.einsum("bhts,bshd->bthd", mixing, v).reshape(h.shape) @ params["project"]
        h = h + jnp.tanh(_normed(h) @ params["up"]) @ params["down"]
        return _normed(h) @ params["out"]

    def sizes(n: int) -> dict[str, tuple[int, ...]]:
        inner = {"qkv": (n, 3 * n), "project": (n, n), "up": (n, 2 * n), "down": (2 * n, n)}
        return {"embed": (_TOKENS, n), "position": (_LENGTH, n), **inner, "out": (n, _TOKENS)}

    return Model(apply, lambda n: _zeros(sizes(n)), (text[:, :-1], text[:, 1:]), _cross_entropy)


def _zeros(sizes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    return {name: jnp.zeros(size, jnp.float32) for name, size in sizes.items()}


def _cross_entropy(outputs: Array, labels: Array) -> Array:
    return losses.values("cross_entropy", outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1)).mean()


def _normed(h: Array) -> Array:
    """Each token's numbers, centred and of unit size."""
    h = h - h.mean(-1, keepdims=True)
    return h * jax.lax.rsqrt((h**2).mean(-1, keepdims=True) + 1e-5)
