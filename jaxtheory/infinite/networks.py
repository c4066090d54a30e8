r"""Ready networks as plain functions with their priors: the quick way to a limit, and networks to train.

>>> import jax.numpy as jnp
>>> kernel = mlp(depth=3, activation="relu", sigma_w=2**0.5, sigma_b=0.0).ntk
>>> kernel(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]))
Array([[4.]], dtype=float32)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxtheory.activations import resolve
from jaxtheory.checks import require
from jaxtheory.infinite.prior import Moments, Prior, Scalar, named_leaves, ntk
from jaxtheory.infinite.transform import Both, Limit, limit

Activation = str | Callable[[Array], Array]


class Network(NamedTuple):
    """A network and its limit.

    `shapes(example, width)` are those of its parameters for examples of a shape, `apply(params, x)` its values, `prior`
    the law of its parameters; `nngp`, `ntk` and `both` are kernel functions of inputs of any shape.
    """

    apply: Callable[[Any, Array], Array]
    shapes: Callable[[tuple[int, ...], int], Any]
    prior: Prior
    nngp: Callable[..., Float[Array, "n1 n2"]]
    ntk: Callable[..., Float[Array, "n1 n2"]]
    both: Callable[..., Both]

    def init(self, key: Array, example: tuple[int, ...], width: int, dtype: Any = jnp.float32) -> Any:
        """Parameters drawn from the prior."""
        shapes = _structs(self.shapes(example, width), dtype)
        leaves, structure = jax.tree.flatten(shapes)
        tree: Any = structure
        moments: list[Moments] = [self.prior(path, leaf.shape) for path, leaf in named_leaves(shapes)]
        keys = jax.random.split(key, len(leaves))
        draws = [
            jnp.asarray(m.mean, dtype)
            + jnp.sqrt(jnp.asarray(m.variance, dtype)) * jax.random.normal(k, leaf.shape, dtype)
            for m, leaf, k in zip(moments, leaves, keys, strict=True)
        ]
        return tree.unflatten(draws)


_WIDTH = 64  # of the program that is read; the limit does not depend on it
_NHWC = ("NHWC", "HWIO", "NHWC")


def mlp(
    depth: int = 3, activation: Activation = "relu", sigma_w: Scalar = 1.0, sigma_b: Scalar = 0.0, *, scale: float = 3.0
) -> Network:
    r"""Fully connected network with `depth` hidden layers, all but the first in one scan; NTK parameterization.

        h_1 = W_0 x + b_0,   h_{l+1} = W_l φ(h_l) + b_l,   W ~ N(0, σ_w²/fan_in), b ~ N(0, σ_b²)

    Args:
        depth: hidden layers, ≥ 1.
        activation: φ, a name or an elementwise function.
        sigma_w, sigma_b: standard deviations; gradients with respect to them flow through the kernels.
        scale: see `limit`.

    Raises:
        ValueError: depth < 1.

    Source: Lee et al. (2018); Jacot, Gabriel and Hongler (2018).

    >>> mlp(2, "erf", 1.5, 0.05).ntk(jnp.ones((2, 3)), jnp.ones((1, 3))).shape
    (2, 1)
    """
    require(depth >= 1, "depth", depth, "be >= 1", "count hidden layers")
    phi = resolve(activation)

    def apply(p: Any, x: Array) -> Array:
        def step(h: Array, layer: Any) -> tuple[Array, None]:
            return _dense(layer, phi(h)), None

        return _dense(p["out"], phi(lax.scan(step, _dense(p["in"], x), p["hidden"])[0]))

    def shapes(example: tuple[int, ...], width: int) -> Any:
        return {
            "in": {"kernel": (example[-1], width), "bias": (width,)},
            "hidden": {"kernel": (depth - 1, width, width), "bias": (depth - 1, width)},
            "out": {"kernel": (width, 1), "bias": (1,)},
        }

    return _network(apply, shapes, _layered(sigma_w, sigma_b), scale)


def resnet_mlp(
    blocks: int = 3,
    activation: Activation = "relu",
    sigma_w: Scalar = 1.0,
    sigma_b: Scalar = 0.0,
    *,
    scale: float = 3.0,
) -> Network:
    r"""Residual network h ← h + (W φ(h) + b)/√blocks, `blocks` times in one scan, with a last activation and readout.

    Source: He et al. (2016), identity mappings; Hayou et al. (2021) for the 1/√blocks that keeps depth stable.

    >>> resnet_mlp(4).nngp(jnp.ones((2, 3)), jnp.ones((1, 3))).shape
    (2, 1)
    """
    require(blocks >= 1, "blocks", blocks, "be >= 1", "use mlp for a network without blocks")
    phi = resolve(activation)

    def apply(p: Any, x: Array) -> Array:
        def step(h: Array, layer: Any) -> tuple[Array, None]:
            return h + _dense(layer, phi(h)) / jnp.asarray(blocks**0.5, h.dtype), None

        return _dense(p["out"], phi(lax.scan(step, _dense(p["in"], x), p["hidden"])[0]))

    def shapes(example: tuple[int, ...], width: int) -> Any:
        return {
            "in": {"kernel": (example[-1], width), "bias": (width,)},
            "hidden": {"kernel": (blocks, width, width), "bias": (blocks, width)},
            "out": {"kernel": (width, 1), "bias": (1,)},
        }

    return _network(apply, shapes, _layered(sigma_w, sigma_b), scale)


def cnn(
    depth: int = 3,
    activation: Activation = "relu",
    sigma_w: Scalar = 1.0,
    sigma_b: Scalar = 0.0,
    *,
    head: Literal["gap", "flatten", "vec"] = "gap",
    scale: float = 3.0,
) -> Network:
    r"""`depth` layers of 3 × 3 convolutions (SAME) of images [n h w c], with a head.

    Heads: "gap" averages over all pixels before the readout, "flatten" gives each pixel its own readout weights, "vec"
    reads the averages of 2 × 2 windows, flattened.

    Source: Novak et al. (2019); Garriga-Alonso et al. (2019); Arora et al. (2019).

    >>> cnn(2, head="flatten").ntk(jnp.ones((2, 4, 4, 1)), jnp.ones((1, 4, 4, 1))).shape
    (2, 1)
    """
    require(depth >= 1, "depth", depth, "be >= 1", "count convolutions")
    require(head in _HEADS, "head", repr(head), "be 'gap', 'flatten' or 'vec'", "pool and read out by hand otherwise")
    phi = resolve(activation)

    def apply(p: Any, x: Array) -> Array:
        def step(h: Array, layer: Any) -> tuple[Array, None]:
            return _conv(layer, phi(h)), None

        h = phi(lax.scan(step, _conv(p["in"], x), p["hidden"])[0])
        return _dense(p["out"], _HEADS[head](h))

    def shapes(example: tuple[int, ...], width: int) -> Any:
        height, breadth, channels = example
        pixels = {"gap": 1, "flatten": height * breadth, "vec": (height // 2) * (breadth // 2)}[head]
        return {
            "in": {"kernel": (3, 3, channels, width), "bias": (width,)},
            "hidden": {"kernel": (depth - 1, 3, 3, width, width), "bias": (depth - 1, width)},
            "out": {"kernel": (pixels * width, 1), "bias": (1,)},
        }

    return _network(apply, shapes, _layered(sigma_w, sigma_b), scale)


def myrtle(
    depth: Literal[5, 7, 10] = 5, activation: Activation = "relu", sigma_w: Scalar = 2**0.5, sigma_b: Scalar = 0.0
) -> Network:
    """The Myrtle network of 5, 7 or 10 layers: 3 × 3 convolutions, three 2 × 2 average poolings, and a global one.

    Images [n h w c] with h and w divisible by 8. Source: Shankar et al. (2020), Neural kernels without tangents.

    >>> myrtle(5).ntk(jnp.ones((1, 8, 8, 1)), jnp.ones((1, 8, 8, 1))).shape
    (1, 1)
    """
    require(depth in _MYRTLE, "depth", depth, "be 5, 7 or 10", "those are the published networks")
    phi, stages = resolve(activation), _MYRTLE[depth]

    def apply(p: Any, x: Array) -> Array:
        layers = iter(p["convolutions"])
        for count in stages:
            for _ in range(count):
                x = phi(_conv(next(layers), x))
            x = _pooled(x)
        return _dense(p["out"], _mean(x))

    def shapes(example: tuple[int, ...], width: int) -> Any:
        inputs = [example[-1], *[width] * (depth - 2)]
        convolutions = [{"kernel": (3, 3, m, width), "bias": (width,)} for m in inputs]
        return {"convolutions": convolutions, "out": {"kernel": (width, 1), "bias": (1,)}}

    return _network(apply, shapes, ntk(sigma_w, sigma_b), 3.0)


def attention(
    heads: int = 4, activation: Activation = "relu", sigma_w: Scalar = 1.0, sigma_b: Scalar = 0.0, *, scale: float = 3.0
) -> Network:
    r"""One block of softmax attention with tied queries and keys, scores divided by d, over tokens [n t c].

        A = softmax(q qᵀ/d),   h ← h + [A v]_heads W_o,   h ← h + W φ(h) + b,   f = mean over tokens, read out

    Source: Hron et al. (2020), Infinite attention, section 3 (the d^(−1) limit).

    >>> attention().nngp(jnp.ones((2, 3, 4)), jnp.ones((1, 3, 4))).shape
    (2, 1)
    """
    phi = resolve(activation)

    def apply(p: Any, x: Array) -> Array:
        h = _dense(p["in"], x)
        q, v = (_product("btc,chd->bthd", h, p[name]["kernel"]) for name in ("query", "value"))
        scores = _product("bthd,bshd->bhts", q, q) / jnp.asarray(q.shape[-1], q.dtype)
        mixed = _product("bhts,bshd->bthd", jax.nn.softmax(scores, axis=-1), v)
        h = h + _product("bthd,hdc->btc", mixed, p["project"]["kernel"])
        h = h + _dense(p["feed"], phi(h))
        return _dense(p["out"], phi(h).mean(1))

    def shapes(example: tuple[int, ...], width: int) -> Any:
        dense = {"kernel": (width, width), "bias": (width,)}
        split = {"kernel": (width, heads, width)}
        return {
            "in": {"kernel": (example[-1], width), "bias": (width,)},
            "query": split,
            "value": split,
            "project": {"kernel": (heads, width, width)},
            "feed": dense,
            "out": {"kernel": (width, 1), "bias": (1,)},
        }

    def prior(path: str, shape: tuple[int, ...]) -> Moments:
        # a query's fan-in is the first axis alone: the heads are outputs
        return ntk(sigma_w, sigma_b)(path, shape[:1] + shape[2:] if path[:5] in ("query", "value") else shape)

    return _network(apply, shapes, prior, scale)


def _layered(sigma_w: Scalar, sigma_b: Scalar) -> Prior:
    """The NTK prior, with the layers of a scan in front of the axes of each."""
    plain = ntk(sigma_w, sigma_b)
    return lambda path, shape: plain(path, shape[1:] if path.startswith("hidden") else shape)


def _network(apply: Callable[..., Array], shapes: Callable[..., Any], prior: Prior, scale: float) -> Network:
    known: dict[tuple[tuple[int, ...], Any], Limit] = {}

    def of(x: Array) -> Limit:
        key = (x.shape[1:], jnp.result_type(x))
        if key not in known:
            structs = _structs(shapes(x.shape[1:], _WIDTH), key[1])
            example = jax.ShapeDtypeStruct((1, *key[0]), key[1])
            known[key] = limit(apply, structs, example, prior=prior, scale=scale, check_width=False)
        return known[key]

    def nngp(x1: Array, x2: Array | None = None) -> Array:
        return of(x1).nngp(x1, x2)

    def tangent(x1: Array, x2: Array | None = None) -> Array:
        return of(x1).ntk(x1, x2)

    def both(x1: Array, x2: Array | None = None) -> Both:
        return of(x1).both(x1, x2)

    return Network(apply, shapes, prior, nngp, tangent, both)


def _structs(shapes: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s, dtype), shapes, is_leaf=lambda s: isinstance(s, tuple))


_product = partial(jnp.einsum, precision="highest")


def _dense(layer: Any, x: Array) -> Array:
    return jnp.matmul(x, layer["kernel"], precision="highest") + layer["bias"].reshape((1,) * (x.ndim - 1) + (-1,))


def _conv(layer: Any, x: Array) -> Array:
    h = lax.conv_general_dilated(x, layer["kernel"], (1, 1), "SAME", dimension_numbers=_NHWC, precision="highest")
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
