r"""Plain multilayer networks in two functions, `init` and `apply`, in any abc parameterization.

    h_1 = W_1 x + β_1 v_1,  h_{l+1} = W_{l+1} φ(h_l) + β_{l+1} v_{l+1},  f = α h_{L+1},

with W_l = n^(−a_l) w_l and w_l ~ N(0, σ_w² n^(−2 b_l) / d_in[l = 1]).

Networks are nested: each initial weight depends on the key, its layer, its row and its column alone. A narrow network
begins as the corner of a wide one, so that one padded to a larger size is the same network, and many widths train
under one `vmap`.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory.checks import holds, require
from jaxtheory.networks.abc import ABC, ntk

Activation = Callable[[Array], Array]


class Layer(NamedTuple):
    """Trained numbers of one layer, before multipliers; `bias` may be None."""

    weight: Float[Array, "d_in d_out"]
    bias: Float[Array, " d_out"] | None


class Multilayer(NamedTuple):
    """A network as two functions, `init(key) -> params` and `apply(params, x) -> outputs`, and its rate's factor.

    `mask` is None, or, for a padded network, a tree like `params` that is False where there is only padding.
    """

    init: Callable[[Any], PyTree]
    apply: Callable[[Any, Any], Any]
    rate: Any
    mask: PyTree | None = None


def multilayer(
    inputs: int,
    width: int | Int[Array, ""],
    outputs: int,
    *,
    hidden_layers: int = 1,
    activation: Activation = jax.nn.relu,
    abc: ABC | None = None,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
    bias_start: float = 1.0,
    output_scale: float | Float[Array, ""] = 1.0,
    dtype: Any = jnp.float32,
    padded: int | None = None,
) -> Multilayer:
    r"""A fully connected network of equal hidden widths n.

    Args:
        inputs, width, outputs: d_in, n and o. With `padded`, n may be traced.
        hidden_layers: L; there are L + 1 weight matrices.
        activation: φ, entrywise.
        abc: exponents for L + 1 layers; by default `ntk(L + 1)`.
        weight_variance: σ_w², 2 to keep the size of ReLU layers.
        bias_variance: σ_b² ; 0 leaves biases out. Biases are N(0, 1) times σ_b, in every parameterization.
        bias_start: standard deviation of v_l at the start in place of 1; 0 for biases that are trained from zero.
        output_scale: α, large for lazy and small for rich training (Chizat, Oyallon, Bach 2019).
        padded: array size of the hidden layers, ≥ n. Units beyond n start at zero, pass nothing on and get gradients
            that are exactly zero; multipliers, variances and draws are those of n. Train with `mask` to hold them
            under any optimizer.

    Returns:
        `Multilayer`; train `params` at the rate η · `rate`, which is η n^(−c).

    Source: Yang and Hu (2021), section 3; Jacot, Gabriel, Hongler (2018) for the default.

    >>> net = multilayer(3, 16, 2, hidden_layers=2)
    >>> net.apply(net.init(jax.random.key(0)), jnp.ones((5, 3))).shape
    (5, 2)
    >>> wide = multilayer(3, 16, 2, hidden_layers=2, padded=20).init(jax.random.key(0))
    >>> bool((wide[1].weight[:16, :16] == net.init(jax.random.key(0))[1].weight).all())
    True
    """
    layers = hidden_layers + 1
    exponents = ntk(layers) if abc is None else abc
    size: Any = width if padded is None else padded
    _check(inputs, width, outputs, size, layers, exponents)
    _check_variances(weight_variance, bias_variance)
    shapes = (inputs, *[size] * hidden_layers, outputs)
    spread = [(weight_variance / (inputs if l == 0 else 1)) ** 0.5 for l in range(layers)]  # noqa: E741
    power = partial(_power, width, dtype)
    multipliers = [power(-a) for a in exponents.a]
    deviations = [power(-b) * s for b, s in zip(exponents.b, spread, strict=True)]
    mask = None if padded is None else _mask(shapes, width, bias_variance > 0)

    def init(key: Key[Array, ""]) -> list[Layer]:
        start = bias_start if bias_variance > 0 else None
        keys = jax.random.split(key, layers)
        drawn = [_layer(k, shapes[i : i + 2], deviations[i], start, dtype) for i, k in enumerate(keys)]
        return drawn if mask is None else jax.tree.map(lambda m, w: jnp.where(m, w, jnp.zeros_like(w)), mask, drawn)

    def apply(params: list[Layer], x: Float[Array, "n d_in"]) -> Float[Array, "n outputs"]:
        h = _affine(params[0], x, multipliers[0], bias_variance**0.5)
        for layer, multiplier in zip(params[1:], multipliers[1:], strict=True):
            h = _affine(layer, _live(activation(h), width, padded), multiplier, bias_variance**0.5)
        return output_scale * h

    return Multilayer(init, apply, power(-exponents.c), mask)


def nested_normal(
    key: Key[Array, ""], shape: tuple[int, int], dtype: Any = jnp.float32
) -> Float[Array, "rows columns"]:
    """Standard Gaussians whose entry (i, j) depends on the key, i and j alone, whatever the shape.

    Rows have keys of their own; in a row a longer draw begins with the shorter one, as it does under threefry, JAX's
    default generator, in its partitionable form, the default since 0.5.

    >>> small, large = (nested_normal(jax.random.key(0), shape) for shape in ((2, 3), (4, 5)))
    >>> bool((large[:2, :3] == small).all())
    True
    """
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
    # LLVM unrolls the generator over short rows, at five times the compile time of long ones that are cut.
    columns = max(shape[1], 32)
    return jax.vmap(lambda row: jax.random.normal(row, (columns,), dtype))(keys)[:, : shape[1]]


def _check(inputs: int, width: Any, outputs: int, size: Any, layers: int, exponents: ABC) -> None:
    matches = len(exponents.a) == len(exponents.b) == layers
    require(matches, "abc", exponents, f"have one exponent for each of {layers} layers", "build it with that number")
    for name, value in (("inputs", inputs), ("width", width), ("outputs", outputs)):
        require(holds(lambda v: v >= 1, value), name, value, "be >= 1", "use a positive size")
    fits = not isinstance(size, jax.Array) and holds(lambda v: v <= size, width)
    require(fits, "padded", size, f"be a number >= width, {width}", "pad to the largest width of the bucket")


def _check_variances(weight: float, bias: float) -> None:
    for name, variance in (("weight_variance", weight), ("bias_variance", bias)):
        require(holds(lambda v: v >= 0, variance), name, variance, "be >= 0", "pass σ², not −σ")


def _power(width: int | Array, dtype: Any, exponent: float) -> float | Array:
    """n^exponent: a number where n is one, for it then rounds as Python does."""
    return jnp.asarray(width, dtype) ** exponent if isinstance(width, jax.Array) else float(width) ** exponent


def _mask(shapes: tuple[int, ...], width: int | Array, biased: bool) -> list[Layer]:
    """True on the units of every layer that are not padding."""
    live = [_units(size, width if 0 < i < len(shapes) - 1 else size) for i, size in enumerate(shapes)]
    return [Layer(a[:, None] & b[None, :], b if biased else None) for a, b in itertools.pairwise(live)]


def _layer(key: Array, shape: tuple[int, ...], deviation: Any, bias_start: float | None, dtype: Any) -> Layer:
    weight_key, bias_key = jax.random.split(key)
    weight = deviation * nested_normal(weight_key, (shape[0], shape[1]), dtype)
    if bias_start is None:
        return Layer(weight, None)
    if bias_start == 0:
        return Layer(weight, jnp.zeros(shape[1:], dtype))
    return Layer(weight, bias_start * nested_normal(bias_key, (1, shape[1]), dtype)[0])


def _live(h: Array, width: int | Array, padded: int | None) -> Array:
    """Activations with nothing in the padding, where φ(0) may be something."""
    return h if padded is None else jnp.where(_units(padded, width)[None, :], h, jnp.zeros_like(h))


def _units(size: int, width: int | Array) -> Array:
    """Which of `size` units are among the first `width`."""
    return jnp.arange(size, dtype=jnp.result_type(width)) < width


def _affine(layer: Layer, x: Array, multiplier: Any, bias_scale: float) -> Array:
    h = multiplier * jnp.matmul(x, layer.weight, precision="highest")
    return h if layer.bias is None else h + bias_scale * layer.bias[None, :]
