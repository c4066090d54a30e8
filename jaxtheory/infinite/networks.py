r"""Ready networks with their priors and limits: the quick way to a kernel, and networks to train.

They are the networks of `jaxtheory.networks` in the NTK parameterization: W ~ N(0, σ_w²/fan_in), b ~ N(0, σ_b²).

>>> import jax.numpy as jnp
>>> kernel = mlp(depth=3, activation="relu", sigma_w=2**0.5, sigma_b=0.0).ntk
>>> kernel(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]]))
Array([[4.]], dtype=float32)
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import boundary, quantity
from jaxtheory.infinite import inputs
from jaxtheory.infinite.prior import Moments, Prior, Scalar, ntk
from jaxtheory.infinite.transform import Both, Limit, limit
from jaxtheory.networks import architectures
from jaxtheory.networks.architectures import Activation, Architecture

_WIDTH = 64  # of the program that is read; the limit does not depend on it


class Network(NamedTuple):
    """A network and its limit.

    `init(key, example, width)` draws parameters for examples of a shape from `prior` and `apply(params, x)` are its
    values; `nngp`, `ntk` and `both` are kernel functions of inputs of any shape.
    """

    apply: Callable[[PyTree, Array], Array]
    shapes: Callable[[tuple[int, ...], int, int], PyTree]
    init: Callable[..., PyTree]
    prior: Prior
    nngp: Callable[..., Float[Array, "n1 n2"]]
    ntk: Callable[..., Float[Array, "n1 n2"]]
    both: Callable[..., Both]


@boundary
def mlp(
    depth: int = 3, activation: Activation = "relu", sigma_w: Scalar = 1.0, sigma_b: Scalar = 0.0, *, scale: float = 3.0
) -> Network:
    r"""Fully connected network with `depth` hidden layers, all but the first in one scan.

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
    return _network(architectures.mlp(depth, activation), sigma_w, sigma_b, scale)


@boundary
def resnet_mlp(
    blocks: int = 3,
    activation: Activation = "relu",
    sigma_w: Scalar = 1.0,
    sigma_b: Scalar = 0.0,
    *,
    scale: float = 3.0,
) -> Network:
    r"""Residual network h ← h + (W φ(h) + b)/√blocks, `blocks` times in one scan; arguments as `mlp`.

    >>> resnet_mlp(4).nngp(jnp.ones((2, 3)), jnp.ones((1, 3))).shape
    (2, 1)
    """
    return _network(architectures.resnet_mlp(blocks, activation), sigma_w, sigma_b, scale)


@boundary
def cnn(
    depth: int = 3,
    activation: Activation = "relu",
    sigma_w: Scalar = 1.0,
    sigma_b: Scalar = 0.0,
    *,
    head: Literal["gap", "flatten", "vec"] = "gap",
    scale: float = 3.0,
) -> Network:
    r"""`depth` layers of 3 × 3 convolutions (SAME) of images [n h w c], with a head; other arguments as `mlp`.

    Heads: "gap" averages over all pixels before the readout, "flatten" gives each pixel its own readout weights, "vec"
    reads the averages of 2 × 2 windows, flattened.

    Source: Novak et al. (2019); Garriga-Alonso et al. (2019); Arora et al. (2019).

    >>> cnn(2, head="flatten").ntk(jnp.ones((2, 4, 4, 1)), jnp.ones((1, 4, 4, 1))).shape
    (2, 1)
    """
    return _network(architectures.cnn(depth, activation, head=head), sigma_w, sigma_b, scale)


@boundary
def myrtle(
    depth: Literal[5, 7, 10] = 5, activation: Activation = "relu", sigma_w: Scalar = 2**0.5, sigma_b: Scalar = 0.0
) -> Network:
    """The Myrtle network of 5, 7 or 10 layers, of images [n h w c] with h and w divisible by 8.

    Source: Shankar et al. (2020), Neural kernels without tangents.

    >>> myrtle(5).ntk(jnp.ones((1, 8, 8, 1)), jnp.ones((1, 8, 8, 1))).shape
    (1, 1)
    """
    return _network(architectures.myrtle(depth, activation), sigma_w, sigma_b, 3.0)


@boundary
def attention(
    heads: int = 4, activation: Activation = "relu", sigma_w: Scalar = 1.0, sigma_b: Scalar = 0.0, *, scale: float = 3.0
) -> Network:
    r"""One block of softmax attention, scores q qᵀ/d, over tokens [n t c]; arguments as `mlp`.

    Source: Hron et al. (2020), Infinite attention, section 3 (the d^(−1) limit).

    >>> attention().nngp(jnp.ones((2, 3, 4)), jnp.ones((1, 3, 4))).shape
    (2, 1)
    """
    return _network(architectures.attention(heads, activation), sigma_w, sigma_b, scale)


def _network(architecture: Architecture, sigma_w: Scalar, sigma_b: Scalar, scale: float) -> Network:
    known: dict[tuple[tuple[int, ...], np.dtype], Limit] = {}

    def prior(path: str, shape: tuple[int, ...]) -> Moments:
        return ntk(sigma_w, sigma_b)(path, architecture.matrix(path, shape))

    def init(
        key: Array, example: tuple[int, ...], width: int, outputs: int = 1, dtype: DTypeLike = jnp.float32
    ) -> PyTree:
        variances = {"weight_variance": sigma_w**2, "bias_variance": sigma_b**2}
        return architecture.init(key, example, width, outputs, **variances, dtype=dtype)

    def of(x1: PyTree, x2: PyTree = None) -> tuple[Limit, Array, Array | None]:
        same, x1 = x2 is None or x2 is x1, _points("x1", x1)
        key = (x1.shape[1:], x1.dtype)
        if key not in known:
            shapes = jax.eval_shape(lambda k: init(k, key[0], _WIDTH, dtype=key[1]), jax.random.key(0))
            example = jax.ShapeDtypeStruct((1, *key[0]), key[1])
            known[key] = limit(architecture.apply, shapes, example, prior=prior, scale=scale, check_width=False)
        return known[key], x1, None if same else _points("x2", x2)

    def nngp(x1: PyTree, x2: PyTree = None) -> Array:
        kernels, *points = of(x1, x2)
        return kernels.nngp(*points)

    def tangent(x1: PyTree, x2: PyTree = None) -> Array:
        kernels, *points = of(x1, x2)
        return kernels.ntk(*points)

    def both(x1: PyTree, x2: PyTree = None) -> Both:
        kernels, *points = of(x1, x2)
        return kernels.both(*points)

    return Network(architecture.apply, architecture.shapes, init, prior, nngp, tangent, both)


def _points(name: str, x: PyTree) -> Array:
    """A batch of real arrays; numbers [n] are points [n 1]."""
    x = inputs.batch(name, quantity(name, x))
    return x[:, None] if x.ndim == 1 else x
