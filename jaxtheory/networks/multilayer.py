r"""Plain multilayer networks in two functions, `init` and `apply`, in any abc parameterization.

    h_1 = W_1 x + β_1 v_1,  h_{l+1} = W_{l+1} φ(h_l) + β_{l+1} v_{l+1},  f = α h_{L+1},

with W_l = n^(−a_l) w_l and w_l ~ N(0, σ_w² n^(−2 b_l) / d_in[l = 1]).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory.checks import require
from jaxtheory.networks.abc import ABC, ntk

Activation = Callable[[Array], Array]


class Layer(NamedTuple):
    """Trained numbers of one layer, before multipliers; `bias` may be None."""

    weight: Float[Array, "d_in d_out"]
    bias: Float[Array, " d_out"] | None


class Multilayer(NamedTuple):
    """A network as two functions, `init(key) -> params` and `apply(params, x) -> outputs`, and its rate's factor."""

    init: Callable[[Any], PyTree]
    apply: Callable[[Any, Any], Any]
    rate: float


def multilayer(
    inputs: int,
    width: int,
    outputs: int,
    *,
    hidden_layers: int = 1,
    activation: Activation = jax.nn.relu,
    abc: ABC | None = None,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    output_scale: float = 1.0,
    dtype: Any = jnp.float32,
) -> Multilayer:
    r"""A fully connected network of equal hidden widths n.

    Args:
        inputs, width, outputs: d_in, n and o.
        hidden_layers: L; there are L + 1 weight matrices.
        activation: φ, entrywise.
        abc: exponents for L + 1 layers; by default `ntk(L + 1)`.
        weight_variance: σ_w², 2 to keep the size of ReLU layers.
        bias_variance: σ_b² ; 0 leaves biases out. Biases are N(0, 1) times σ_b, in every parameterization.
        output_scale: α, large for lazy and small for rich training (Chizat, Oyallon, Bach 2019).

    Returns:
        `Multilayer`; train `params` at the rate η · `rate`, which is η n^(−c).

    Source: Yang and Hu (2021), section 3; Jacot, Gabriel, Hongler (2018) for the default.

    >>> net = multilayer(3, 16, 2, hidden_layers=2)
    >>> net.apply(net.init(jax.random.key(0)), jnp.ones((5, 3))).shape
    (5, 2)
    """
    layers = hidden_layers + 1
    exponents = ntk(layers) if abc is None else abc
    matches = len(exponents.a) == len(exponents.b) == layers
    require(matches, "abc", exponents, f"have one exponent for each of {layers} layers", "build it with that number")
    for name, size in (("inputs", inputs), ("width", width), ("outputs", outputs)):
        require(size >= 1, name, size, "be >= 1", "use a positive size")
    sizes = (inputs, *[width] * hidden_layers, outputs)
    spread = [(weight_variance / (inputs if l == 0 else 1)) ** 0.5 for l in range(layers)]  # noqa: E741
    multipliers = [float(width) ** -a for a in exponents.a]
    deviations = [float(width) ** -b * s for b, s in zip(exponents.b, spread, strict=True)]

    def init(key: Key[Array, ""]) -> list[Layer]:
        return [
            _layer(k, sizes[i : i + 2], deviations[i], bias_variance > 0, dtype)
            for i, k in enumerate(jax.random.split(key, layers))
        ]

    def apply(params: list[Layer], x: Float[Array, "n d_in"]) -> Float[Array, "n outputs"]:
        h = _affine(params[0], x, multipliers[0], bias_variance**0.5)
        for layer, multiplier in zip(params[1:], multipliers[1:], strict=True):
            h = _affine(layer, activation(h), multiplier, bias_variance**0.5)
        return output_scale * h

    return Multilayer(init, apply, float(width) ** -exponents.c)


def _layer(key: Array, sizes: tuple[int, ...], deviation: float, biased: bool, dtype: Any) -> Layer:
    weight_key, bias_key = jax.random.split(key)
    weight = deviation * jax.random.normal(weight_key, sizes, dtype)
    return Layer(weight, jax.random.normal(bias_key, sizes[1:], dtype) if biased else None)


def _affine(layer: Layer, x: Array, multiplier: float, bias_scale: float) -> Array:
    h = multiplier * (x @ layer.weight)
    return h if layer.bias is None else h + bias_scale * layer.bias[None, :]
