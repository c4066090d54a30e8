r"""Plain multilayer networks in two functions, `init` and `apply`, in any abc parameterization.

    h_1 = W_1 x + β_1 v_1,  h_{l+1} = W_{l+1} φ(h_l) + β_{l+1} v_{l+1},  f = α h_{L+1},

with W_l = n^(−a_l) w_l and w_l ~ N(0, σ_w² n^(−2 b_l) / d_in[l = 1]).

Networks are nested: each initial weight depends on the key, its layer, its row and its column alone. A narrow network
begins as the corner of a wide one, so that one padded to a larger size is the same network, and many widths train
under one `vmap`.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory.activations.named import elementwise
from jaxtheory.checks import boundary, holds, nonnegative, require
from jaxtheory.networks.abc import ABC, ntk

Activation = str | Callable[[Array], Array]
Width = int | Array  # known, or traced
Number = float | Array
_JOINT = 2**22  # numbers drawn at once, at most: a second copy of larger layers would count


@runtime_checkable
class Draw(Protocol):
    """What networks of all widths start from, of a key."""

    def __call__(self, key: Array, /) -> PyTree:
        """One draw."""
        ...


class Layer(NamedTuple):
    """Trained numbers of one layer, before multipliers; `bias` may be None."""

    weight: Float[Array, "d_in d_out"]
    bias: Float[Array, " d_out"] | None


class Multilayer(NamedTuple):
    """A network as two functions, `init(key) -> params` and `apply(params, x) -> outputs`, and its rate's factor.

    `mask` is None, or, for a padded network, a tree like `params` that is False where there is only padding. `init` is
    `start` of the network's standard Gaussian `draws(key)`; those of a wider network do as well, so that networks of
    many widths may share one draw.
    """

    init: Callable[[Array], PyTree]
    apply: Callable[[PyTree, Array], Array]
    rate: Number
    mask: PyTree | None = None
    draws: Draw | None = None
    start: Callable[[PyTree], PyTree] | None = None


@boundary
def multilayer(
    inputs: int,
    width: int | Int[Array, ""] | Sequence[int],
    outputs: int,
    *,
    hidden_layers: int = 1,
    activation: Activation = "relu",
    abc: ABC | None = None,
    weight_variance: float | Float[Array, ""] = 1.0,
    bias_variance: float | Float[Array, ""] = 0.0,
    bias_start: float = 1.0,
    output_scale: float | Float[Array, ""] = 1.0,
    dtype: DTypeLike = jnp.float32,
    padded: int | None = None,
) -> Multilayer:
    r"""A fully connected network of equal hidden widths n.

    Args:
        inputs, width, outputs: d_in, n and o, one n for all hidden layers. With `padded`, n may be traced.
        hidden_layers: L ≥ 1; there are L + 1 weight matrices.
        activation: φ, a name or an elementwise function.
        abc: exponents for L + 1 layers; by default `ntk(L + 1)`.
        weight_variance: σ_w², 2 to keep the size of ReLU layers.
        bias_variance: σ_b²; the number 0 leaves biases out. Biases are N(0, 1) times σ_b, in every parameterization.
        bias_start: standard deviation of v_l at the start in place of 1; 0 for biases that are trained from zero.
        output_scale: α, large for lazy and small for rich training (Chizat, Oyallon, Bach 2019).
        padded: array size of the hidden layers, ≥ n. Units beyond n start at zero, pass nothing on and get gradients
            that are exactly zero; multipliers, variances and draws are those of n. Train with `mask` to hold them
            under any optimizer.

    Returns:
        `Multilayer`; train `params` at the rate η · `rate`, which is η n^(−c). `apply(params, x)` takes points
        [n d_in], [n] for [n, 1], or one point [d_in].

    Raises:
        ValueError: sizes < 1, several widths, negative variances (NaN inside jit), exponents of another depth, and in
            `apply` points of another dimension.

    Cost: of `apply`, 2 (d_in n + (L − 1) n² + n o) flops a point.
    Source: Yang and Hu (2021), section 3; Jacot, Gabriel, Hongler (2018) for the default.

    >>> net = multilayer(3, 16, 2, hidden_layers=2)
    >>> net.apply(net.init(jax.random.key(0)), jnp.ones((5, 3))).shape
    (5, 2)
    >>> wide = multilayer(3, 16, 2, hidden_layers=2, padded=20).init(jax.random.key(0))
    >>> bool((wide[1].weight[:16, :16] == net.init(jax.random.key(0))[1].weight).all())
    True
    """
    width = _one_width(width)
    require(hidden_layers >= 1, "hidden_layers", hidden_layers, "be >= 1", "count the layers between input and readout")
    phi, exponents = elementwise(activation), (ntk(hidden_layers + 1) if abc is None else abc)
    size = _array_size(width, padded)
    _check({"inputs": inputs, "width": width, "outputs": outputs}, hidden_layers + 1, exponents)
    weight_variance = nonnegative("weight_variance", weight_variance, "pass σ², not −σ")
    bias_variance = nonnegative("bias_variance", bias_variance, "pass σ², not −σ")
    biased = not isinstance(bias_variance, float) or bias_variance > 0
    shapes = (inputs, *[size] * hidden_layers, outputs)
    power = partial(_power, width, dtype)
    multipliers = [power(-a) for a in exponents.a]
    fans = [inputs, *[1] * hidden_layers]
    deviations = [power(-b) * (weight_variance / fan) ** 0.5 for b, fan in zip(exponents.b, fans, strict=True)]
    mask = None if padded is None else _mask(shapes, width, biased)
    start = partial(_started, shapes, deviations, bias_start if biased else None, dtype, mask)

    @boundary
    def apply(params: PyTree, x: Float[Array, "..."]) -> Float[Array, "... outputs"]:
        h = _affine(params[0], examples(x, inputs), multipliers[0], bias_variance**0.5)
        for layer, multiplier in zip(params[1:], multipliers[1:], strict=True):
            h = _affine(layer, _live(phi(h), width, padded), multiplier, bias_variance**0.5)
        return output_scale * h

    draws = Draws(shapes, biased and bool(bias_start), jnp.dtype(dtype))
    return Multilayer(_initializer(draws, start), apply, power(-exponents.c), mask, draws, start)


def _initializer(draws: Draw, start: Callable[[PyTree], PyTree]) -> Callable[[Key[Array, ""]], PyTree]:
    """Parameters from a key, which is checked."""

    @boundary
    def init(key: Key[Array, ""]) -> PyTree:
        return start(draws(key))

    return init


def _started(
    shapes: Sequence[int],
    deviations: list[Number],
    begin: float | None,
    dtype: DTypeLike,
    mask: PyTree | None,
    drawn: Sequence[Layer],
) -> list[Layer]:
    """Parameters from their draws, zero where there is only padding."""
    scales = zip(drawn, itertools.pairwise(shapes), deviations, strict=True)
    made = [_scaled(layer, shape, deviation, begin, dtype) for layer, shape, deviation in scales]
    return made if mask is None else jax.tree.map(lambda m, w: jnp.where(m, w, jnp.zeros_like(w)), mask, made)


def examples(x: Float[Array, "..."], inputs: int) -> Float[Array, "... inputs"]:
    """Points whose last axis holds `inputs` numbers; [n] stands for [n, 1].

    Raises:
        ValueError: another number of features.

    >>> examples(jnp.ones(5), 1).shape
    (5, 1)
    """
    if inputs == 1 and x.ndim == 1:
        return x[:, None]
    fits = x.ndim >= 1 and x.shape[-1] == inputs
    require(fits, "x", f"shape {x.shape}", f"be points [n, {inputs}]", "pass one point a row, of as many numbers")
    return x


@boundary
def nested_normal(
    key: Key[Array, ""], shape: tuple[int, int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "rows columns"]:
    """Standard Gaussians whose entry (i, j) depends on the key, i and j alone, whatever the shape.

    Rows have keys of their own; in a row a longer draw begins with the shorter one, as it does under threefry, JAX's
    default generator, in its partitionable form, the default since 0.5.

    >>> small, large = (nested_normal(jax.random.key(0), shape) for shape in ((2, 3), (4, 5)))
    >>> bool((large[:2, :3] == small).all())
    True
    """
    sizes = len(shape) == 2 and all(size >= 1 for size in shape)
    require(sizes, "shape", shape, "be two sizes >= 1", "pass (rows, columns)")
    rows, columns = shape
    # Short rows compile slowly, at five times the cost of long ones that are cut; and small networks share one program.
    return _nested_normal(key, (max(rows, 32), max(columns, 32)), jnp.dtype(dtype))[:rows, :columns]


@partial(jax.jit, static_argnames=("shape", "dtype"))
def _nested_normal(key: Key[Array, ""], shape: tuple[int, int], dtype: np.dtype) -> Float[Array, "rows columns"]:
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
    return jax.vmap(lambda row: jax.random.normal(row, shape[1:], dtype))(keys)


def _one_width(width: object) -> Width:
    """An integer, known or traced; a list of widths is refused with what to pass instead."""
    if isinstance(width, (list, tuple)):
        hint = f"pass width={width[0] if width else 16}, hidden_layers={max(1, len(width))}"
        require(False, "width", width, "be one number for all hidden layers", hint)
    if isinstance(width, (int, np.integer)) and not isinstance(width, bool):
        return int(width)
    if isinstance(width, jax.Array) and width.ndim == 0 and jnp.issubdtype(width.dtype, jnp.integer):
        return width
    require(False, "width", width, "be an integer", "round or convert it by int(width)")
    raise AssertionError


def _array_size(width: Width, padded: int | None) -> int:
    """Of the hidden layers: the width, or what it is padded to."""
    size = width if padded is None else padded
    fits = not isinstance(size, jax.Array) and holds(lambda v: v <= size, width)
    require(fits, "padded", size, f"be a number >= width, {width}", "pad to the largest width of the bucket")
    return int(size)


def _check(sizes: dict[str, Width], layers: int, exponents: ABC) -> None:
    matches = len(exponents.a) == len(exponents.b) == layers
    require(matches, "abc", exponents, f"have one exponent for each of {layers} layers", "build it with that number")
    for name, value in sizes.items():
        require(holds(lambda v: v >= 1, value), name, value, "be >= 1", "use a positive size")


def _power(width: Width, dtype: DTypeLike, exponent: float) -> Number:
    """n^exponent: a number where n is one, for it then rounds as Python does."""
    return jnp.asarray(width, dtype) ** exponent if isinstance(width, jax.Array) else float(width) ** exponent


def _mask(shapes: tuple[int, ...], width: Width, biased: bool) -> list[Layer]:
    """True on the units of every layer that are not padding."""
    live = [_units(size, width if 0 < i < len(shapes) - 1 else size) for i, size in enumerate(shapes)]
    return [Layer(a[:, None] & b[None, :], b if biased else None) for a, b in itertools.pairwise(live)]


class Draws(NamedTuple):
    """Standard Gaussians for every layer of a network of these sizes; none for biases left out or started at zero."""

    sizes: tuple[int, ...]
    biases: bool
    dtype: np.dtype

    def __call__(self, key: Key[Array, ""]) -> list[Layer]:
        """One draw."""
        shapes = list(itertools.pairwise(self.sizes))
        biases = [(1, shape[1]) for shape in shapes] if self.biases else []
        drawn = _blocks(_layer_keys(key, len(shapes)), shapes + biases, self.dtype)
        vectors = [rows[0] for rows in drawn[len(shapes) :]] if self.biases else [None] * len(shapes)
        return [Layer(*both) for both in zip(drawn, vectors, strict=False)]


@partial(jax.jit, static_argnames="layers")
def _layer_keys(key: Key[Array, ""], layers: int) -> Key[Array, " keys"]:
    """The keys of all weights, then those of all biases."""
    return jax.vmap(jax.random.split)(jax.random.split(key, layers)).T.ravel()


def _blocks(keys: Key[Array, " keys"], shapes: list[tuple[int, int]], dtype: np.dtype) -> list[Array]:
    """`nested_normal` of each shape and its key; rows of one length are drawn by one program, if they are few."""
    lengths = [max(columns, 32) for _, columns in shapes]
    found: dict[int, Array] = {}
    for length in dict.fromkeys(lengths):
        own = [i for i, other in enumerate(lengths) if other == length]
        counts = [shapes[i][0] for i in own]
        if sum(counts) * length > _JOINT:
            found |= {i: nested_normal(keys[i], shapes[i], dtype) for i in own}
            continue
        index, padding = np.concatenate([np.arange(count) for count in counts]), -sum(counts) % 32
        rows = _rows(keys, np.pad(np.repeat(own, counts), (0, padding)), np.pad(index, (0, padding)), length, dtype)
        starts = np.cumsum([0, *counts]).tolist()
        found |= {i: rows[start : start + shapes[i][0], : shapes[i][1]] for i, start in zip(own, starts, strict=False)}
    return [found[i] for i in range(len(shapes))]


@partial(jax.jit, static_argnames=("length", "dtype"))
def _rows(
    keys: Key[Array, " keys"], block: Int[Array, " rows"], index: Int[Array, " rows"], length: int, dtype: np.dtype
) -> Float[Array, "rows length"]:
    """Rows of blocks: Gaussians of the block's key and the row's number in it."""
    return jax.vmap(lambda k, i: jax.random.normal(jax.random.fold_in(k, i), (length,), dtype))(keys[block], index)


class JointDraws(NamedTuple):
    """`Draws` without biases by one loop over the layers: a program that does not grow with them, for every seed.

    All layers are drawn in the largest shape, of which each keeps its corner.
    """

    sizes: tuple[int, ...]
    dtype: DTypeLike

    @property
    def size(self) -> int:
        """How many numbers are drawn."""
        return (len(self.sizes) - 1) * max(self.sizes[:-1]) * max(self.sizes[1:])

    def __call__(self, key: Key[Array, ""]) -> list[Layer]:
        """One draw."""
        largest = max(self.sizes[:-1]), max(self.sizes[1:])
        layers = list(itertools.pairwise(self.sizes))
        weights = jax.lax.map(
            lambda own: nested_normal(jax.random.split(own)[0], largest, self.dtype),
            jax.random.split(key, len(layers)),
        )
        return [Layer(weight[:above, :below], None) for weight, (above, below) in zip(weights, layers, strict=True)]


def _scaled(
    layer: Layer, shape: tuple[int, int], deviation: Number, bias_start: float | None, dtype: DTypeLike
) -> Layer:
    """The corner of a draw as the parameters of one layer."""
    weight = deviation * layer.weight[: shape[0], : shape[1]]
    if bias_start is None:
        return Layer(weight, None)
    drawn = jnp.zeros(shape[1], dtype) if layer.bias is None else bias_start * layer.bias[: shape[1]]
    return Layer(weight, drawn)


def _live(h: Array, width: Width, padded: int | None) -> Array:
    """Activations with nothing in the padding, where φ(0) may be something."""
    return h if padded is None else jnp.where(_row(_units(padded, width), h.ndim), h, jnp.zeros_like(h))


def _units(size: int, width: Width) -> Array:
    """Which of `size` units are among the first `width`."""
    return jnp.arange(size, dtype=jnp.result_type(width)) < width


def _affine(layer: Layer, x: Array, multiplier: Number, bias_scale: Number) -> Array:
    h = multiplier * jnp.matmul(x, layer.weight, precision="highest")
    return h if layer.bias is None else h + bias_scale * _row(layer.bias, h.ndim)


def _row(vector: Array, axes: int) -> Array:
    """A vector along the last of so many axes."""
    return vector.reshape((1,) * (axes - 1) + (-1,))
