r"""Fully connected, residual, convolutional and attention networks, as plain functions of their parameters.

Each weight is N(0, σ_w²/fan_in) and each bias N(0, σ_b²) at the start, and every equal layer is a turn of one scan, so
that depth costs no compile time. `multilayer` has the abc family and nested widths instead.

>>> network = cnn(depth=2)
>>> params = network.init(jax.random.key(0), (8, 8, 3), 32, weight_variance=2.0)
>>> network.apply(params, jnp.ones((4, 8, 8, 3))).shape
(4, 1)
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory.activations.named import elementwise
from jaxtheory.checks import boundary, nonnegative, require
from jaxtheory.networks.multilayer import Activation as Activation
from jaxtheory.networks.multilayer import examples

Shape = tuple[int, ...]
Weights = Mapping[str, Array]  # of one layer: its kernel and its bias


class Architecture(NamedTuple):
    """A network at any width.

    `apply(params, x)` are its outputs [n outputs], `shapes(example, width, outputs)` those of its parameters for
    examples of a shape, and `matrix(path, shape)` is the shape of one weight of a parameter: its inputs, whose number
    is the fan-in, then its outputs in the last axis.
    """

    apply: Callable[[PyTree, Array], Array]
    shapes: Callable[[Shape, int, int], PyTree]
    matrix: Callable[[str, Shape], Shape]

    @boundary
    def init(
        self,
        key: Key[Array, ""],
        example: Shape,
        width: int,
        outputs: int = 1,
        *,
        weight_variance: float | Float[Array, ""] = 1.0,
        bias_variance: float | Float[Array, ""] = 0.0,
        dtype: DTypeLike = jnp.float32,
    ) -> PyTree[Float[Array, "..."]]:
        """Weights N(0, weight_variance/fan_in) and biases N(0, bias_variance), for examples of a shape.

        Raises:
            ValueError: sizes < 1, a shape that the network does not take, negative variances (NaN inside jit).
        """
        weight_variance = nonnegative("weight_variance", weight_variance, "pass σ², not −σ")
        bias_variance = nonnegative("bias_variance", bias_variance, "pass σ², not −σ")
        for name, size in (("width", width), ("outputs", outputs)):
            require(size >= 1, name, size, "be >= 1", "use a positive size")
        shapes = self.shapes(_shape(example), width, outputs)
        leaves, structure = jax.tree_util.tree_flatten_with_path(shapes, is_leaf=_is_shape)
        keys = jax.random.split(key, len(leaves))
        drawn = []
        for own, (path, shape) in zip(keys, leaves, strict=True):
            fan_in = self.matrix(jax.tree_util.keystr(path, simple=True, separator="/"), shape)[:-1]
            variance = weight_variance / math.prod(fan_in) if fan_in else bias_variance
            drawn.append(jnp.sqrt(jnp.asarray(variance, dtype)) * jax.random.normal(own, shape, dtype))
        return jax.tree.unflatten(structure, drawn)


@boundary
def mlp(depth: int = 3, activation: Activation = "relu") -> Architecture:
    r"""Fully connected network with `depth` hidden layers, all but the first in one scan.

        h_1 = W_0 x + b_0,   h_{l+1} = W_l φ(h_l) + b_l

    Args:
        depth: hidden layers, ≥ 1.
        activation: φ, a name or an elementwise function.

    Raises:
        ValueError: depth < 1.

    Cost: 2 · width² flops an example and hidden layer. Source: Lee et al. (2018), section 2.

    >>> mlp(2).shapes((3,), 16, 1)["hidden"]["kernel"]
    (1, 16, 16)
    """
    require(depth >= 1, "depth", depth, "be >= 1", "count hidden layers")
    phi = elementwise(activation)

    def layer(h: Array, weights: Weights) -> Array:
        return _dense(weights, phi(h))

    return _deep(layer, depth - 1, phi)


@boundary
def resnet_mlp(blocks: int = 3, activation: Activation = "relu") -> Architecture:
    r"""Residual network h ← h + (W φ(h) + b)/√blocks, `blocks` times in one scan, with a last activation and readout.

    Source: He et al. (2016), identity mappings; Hayou et al. (2021) for the 1/√blocks that keeps depth stable.

    >>> network = resnet_mlp(4)
    >>> network.apply(network.init(jax.random.key(0), (3,), 16), jnp.ones((2, 3))).shape
    (2, 1)
    """
    require(blocks >= 1, "blocks", blocks, "be >= 1", "use mlp for a network without blocks")
    phi = elementwise(activation)

    def block(h: Array, weights: Weights) -> Array:
        return h + _dense(weights, phi(h)) / jnp.asarray(blocks**0.5, h.dtype)

    return _deep(block, blocks, phi)


def _deep(layer: Callable[[Array, Weights], Array], turns: int, phi: Callable[[Array], Array]) -> Architecture:
    """A layer of weights, `turns` equal ones in a scan, and a readout of φ."""

    @boundary
    def apply(p: PyTree, x: Float[Array, "..."]) -> Float[Array, "... outputs"]:
        _require_weights(p, shapes, None, "in")
        x = examples(x, p["in"]["kernel"].shape[0])
        h = lax.scan(lambda h, weights: (layer(h, weights), None), _dense(p["in"], x), p["hidden"])[0]
        return _dense(p["out"], phi(h))

    def shapes(example: Shape, width: int, outputs: int = 1) -> PyTree:
        _require_axes("example", example, ("d",))
        return {
            "in": {"kernel": (example[-1], width), "bias": (width,)},
            "hidden": {"kernel": (turns, width, width), "bias": (turns, width)},
            "out": {"kernel": (width, outputs), "bias": (outputs,)},
        }

    return Architecture(apply, shapes, _without_turns)


@boundary
def cnn(
    depth: int = 3, activation: Activation = "relu", *, head: Literal["gap", "flatten", "vec"] = "gap"
) -> Architecture:
    r"""`depth` layers of 3 × 3 convolutions (SAME) of images [n h w c], with a head.

    Heads: "gap" averages over all pixels before the readout, "flatten" gives each pixel its own readout weights, "vec"
    reads the averages of 2 × 2 windows, flattened. Raises ValueError for depth < 1 or another head.

    Cost: 18 · width² flops a pixel and layer. Source: Novak et al. (2019), section 2.

    >>> network = cnn(2, head="flatten")
    >>> network.apply(network.init(jax.random.key(0), (4, 4, 1), 8), jnp.ones((2, 4, 4, 1))).shape
    (2, 1)
    """
    require(depth >= 1, "depth", depth, "be >= 1", "count convolutions")
    phi = elementwise(activation)

    @boundary
    def apply(p: PyTree, x: Float[Array, "..."]) -> Float[Array, "n outputs"]:
        _require_axes("x", x.shape, ("n", "h", "w", "c"))
        _require_weights(p, shapes, x.shape[1:], "in")

        def step(h: Array, layer: Weights) -> tuple[Array, None]:
            return _conv(layer, phi(h)), None

        h = phi(lax.scan(step, _conv(p["in"], x), p["hidden"])[0])
        return _dense(p["out"], _HEADS[head](h))

    def shapes(example: Shape, width: int, outputs: int = 1) -> PyTree:
        _require_axes("example", example, ("h", "w", "c"))
        height, breadth, channels = example
        large = head != "vec" or min(height, breadth) >= 2
        require(large, "example", example, "be images of 2 × 2 pixels or more for head='vec'", "use head='flatten'")
        pixels = {"gap": 1, "flatten": height * breadth, "vec": (height // 2) * (breadth // 2)}[head]
        return {
            "in": {"kernel": (3, 3, channels, width), "bias": (width,)},
            "hidden": {"kernel": (depth - 1, 3, 3, width, width), "bias": (depth - 1, width)},
            "out": {"kernel": (pixels * width, outputs), "bias": (outputs,)},
        }

    return Architecture(apply, shapes, _without_turns)


@boundary
def myrtle(depth: Literal[5, 7, 10] = 5, activation: Activation = "relu") -> Architecture:
    """The Myrtle network of 5, 7 or 10 layers: 3 × 3 convolutions, three 2 × 2 average poolings, and a global one.

    Images [n h w c] with h and w divisible by 8. Source: Shankar et al. (2020), Neural kernels without tangents.

    >>> len(myrtle(7).shapes((8, 8, 1), 4, 1)["convolutions"])
    6
    """
    phi, stages = elementwise(activation), _MYRTLE[depth]

    @boundary
    def apply(p: PyTree, x: Float[Array, "..."]) -> Float[Array, "n outputs"]:
        _require_axes("x", x.shape, ("n", "h", "w", "c"))
        _require_eighths("x", x.shape[1:])
        _require_weights(p, shapes, x.shape[1:], "convolutions", 0)
        layers = iter(p["convolutions"])
        for count in stages:
            for _ in range(count):
                x = phi(_conv(next(layers), x))
            x = _pooled(x)
        return _dense(p["out"], _mean(x))

    def shapes(example: Shape, width: int, outputs: int = 1) -> PyTree:
        _require_axes("example", example, ("h", "w", "c"))
        _require_eighths("example", example)
        inputs = [example[-1], *[width] * (depth - 2)]
        convolutions = [{"kernel": (3, 3, m, width), "bias": (width,)} for m in inputs]
        return {"convolutions": convolutions, "out": {"kernel": (width, outputs), "bias": (outputs,)}}

    return Architecture(apply, shapes, lambda path, shape: shape)


@boundary
def attention(heads: int = 4, activation: Activation = "relu") -> Architecture:
    r"""One block of softmax attention with tied queries and keys, scores divided by d, over tokens [n t c].

        A = softmax(q qᵀ/d),   h ← h + [A v]_heads W_o,   h ← h + W φ(h) + b,   f = mean over tokens, read out

    Source: Hron et al. (2020), Infinite attention, section 3 (the d^(−1) limit).

    >>> attention().shapes((3, 4), 16, 1)["query"]["kernel"]
    (16, 4, 16)
    """
    require(heads >= 1, "heads", heads, "be >= 1", "use resnet_mlp for a network without attention")
    phi = elementwise(activation)

    @boundary
    def apply(p: PyTree, x: Float[Array, "..."]) -> Float[Array, "n outputs"]:
        _require_axes("x", x.shape, ("n", "t", "c"))
        _require_weights(p, shapes, x.shape[1:], "in")
        h = _dense(p["in"], x)
        q, v = (_product("btc,chd->bthd", h, p[name]["kernel"]) for name in ("query", "value"))
        scores = _product("bthd,bshd->bhts", q, q) / jnp.asarray(q.shape[-1], q.dtype)
        mixed = _product("bhts,bshd->bthd", jax.nn.softmax(scores, axis=-1), v)
        h = h + _product("bthd,hdc->btc", mixed, p["project"]["kernel"])
        h = h + _dense(p["feed"], phi(h))
        return _dense(p["out"], phi(h).mean(1))

    def shapes(example: Shape, width: int, outputs: int = 1) -> PyTree:
        _require_axes("example", example, ("t", "c"))
        split = {"kernel": (width, heads, width)}
        return {
            "in": {"kernel": (example[-1], width), "bias": (width,)},
            "query": split,
            "value": split,
            "project": {"kernel": (heads, width, width)},
            "feed": {"kernel": (width, width), "bias": (width,)},
            "out": {"kernel": (width, outputs), "bias": (outputs,)},
        }

    def matrix(path: str, shape: Shape) -> Shape:
        # of a query or a value only the first axis is summed over: the heads are outputs
        return (shape[0], math.prod(shape[1:])) if path.startswith(("query", "value")) else shape

    return Architecture(apply, shapes, matrix)


def _without_turns(path: str, shape: Shape) -> Shape:
    """Parameters of a scan have its turns in front."""
    return shape[1:] if path.startswith("hidden") else shape


def _shape(example: object) -> Shape:
    """The shape of one example as integers."""
    sizes = tuple(example) if isinstance(example, (tuple, list)) else ()
    sound = len(sizes) > 0 and all(isinstance(size, (int, np.integer)) and size >= 1 for size in sizes)
    require(sound, "example", example, "be the shape of one example", "pass x.shape[1:]")
    return tuple(int(size) for size in sizes)


def _require_axes(name: str, shape: Shape, axes: tuple[str, ...]) -> None:
    hint = "pass a batch, x[None] for one example" if axes[0] == "n" else "pass x.shape[1:]"
    require(len(shape) == len(axes), name, f"shape {tuple(shape)}", f"have the axes [{' '.join(axes)}]", hint)


def _require_weights(
    p: PyTree, shapes: Callable[[Shape, int, int], PyTree], example: Shape | None, *first: str | int
) -> None:
    """Raise unless `p` has the shapes of this network's parameters, at the width and outputs that its ends have."""
    hint = "pass params from this network's init(key, x.shape[1:], width)"
    found = {_path(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(p)[0]}
    ends: list[Any] = [found.get(".".join(map(str, (*end, "kernel")))) for end in (first, ("out",))]
    known = all(getattr(end, "ndim", 0) >= 1 for end in ends)
    require(known, "params", f"{type(p).__name__} of {sorted(found)}", "hold this network's weights", hint)
    example = ends[0].shape[:1] if example is None else example
    wanted = shapes(example, *(end.shape[-1] for end in ends))
    leaves = jax.tree_util.tree_flatten_with_path(wanted, is_leaf=_is_shape)[0]
    expected = {_path(path): shape for path, shape in leaves}
    require(set(found) == set(expected), "params", sorted(found), f"have the leaves {sorted(expected)}", hint)
    for path, shape in expected.items():
        own = getattr(found[path], "shape", None)
        require(own == shape, f"params {path}", own, f"have shape {shape} for examples of shape {example}", hint)


def _path(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _require_eighths(name: str, shape: Shape) -> None:
    divisible = shape[0] % 8 == 0 and shape[1] % 8 == 0
    require(divisible, name, f"shape {tuple(shape)}", "have height and width divisible by 8", "pad the images")


def _is_shape(tree: object) -> bool:
    return isinstance(tree, tuple)


_product = partial(jnp.einsum, precision="highest")
_NHWC = ("NHWC", "HWIO", "NHWC")


def _dense(layer: Weights, x: Array) -> Array:
    return jnp.matmul(x, layer["kernel"], precision="highest") + layer["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def _conv(layer: Weights, x: Array) -> Array:
    dtype = jnp.result_type(x, layer["kernel"])  # as products of matrices have it
    image, kernel = x.astype(dtype), layer["kernel"].astype(dtype)
    h = lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=_NHWC, precision="highest")
    return h + layer["bias"].reshape(1, 1, 1, -1)


def _pooled(x: Array) -> Array:
    window = (1, 2, 2, 1)
    return lax.reduce_window(x, 0.0, lax.add, window, window, "VALID") / jnp.asarray(4.0, x.dtype)


def _mean(x: Array) -> Array:
    return x.mean((1, 2))


def _flat(x: Array) -> Array:
    return x.reshape(x.shape[0], -1)


_HEADS: dict[str, Callable[[Array], Array]] = {"gap": _mean, "flatten": _flat, "vec": lambda x: _flat(_pooled(x))}
_MYRTLE: dict[int, tuple[int, int, int]] = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}
