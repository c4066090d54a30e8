"""Margins in every layer: how far, to first order, what a layer computes is from the decision boundary."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory.checks import boundary, require
from jaxtheory.generalization.chain import Chain, matrices, preactivations
from jaxtheory.generalization.norms import labels, margins
from jaxtheory.guarded import norm


class LayerMargins(NamedTuple):
    """Signed distances of each example in the input and in each hidden layer, and the spread of what is there.

    `distances / spreads[:, None]` does not depend on the scale of a layer; its quartiles are the features from which
    Jiang et al. predict the generalization gap.
    """

    distances: Float[Array, "layers n"]
    spreads: Float[Array, " layers"]


@boundary
def layer_margins(net: Chain, x: Float[Array, "n ..."], y: Int[Array, " n"]) -> LayerMargins:
    r"""(f_y − f_j)/‖∇_{h_l}(f_y − f_j)‖, j the largest other class, h_0 = x and h_l = φ(A_l h_{l−1}), l < L.

    It is the distance of h_l from where both outputs are equal, of the outputs linearized at h_l: positive where the
    prediction is right. The constant unit does not count as a coordinate. The spread is √((1/n) Σ_i ‖h_l,i − h̄_l‖²).

    Args:
        net: A_1, …, A_L. x: n inputs. y: labels.

    Returns:
        `LayerMargins`, L layers; a distance is infinite where the outputs do not depend on the layer at all, and 0
        where both outputs are equal. At a kink the derivative of the ReLU is 0.

    Raises:
        ValueError: what `margins` and `forward` raise.

    Cost: a forward and a backward pass. Source: Elsayed, Krishnan, Mobahi, Regan, Bengio (2018), for the distance;
    Jiang, Krishnan, Mobahi, Bengio (2019), for the layers and the spread.

    >>> found = layer_margins((jnp.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]),), jnp.array([[1.0, 0.5]]), jnp.array([0]))
    >>> found.distances.tolist()
    [[1.0]]
    """
    layers = matrices("net", net)
    classes = layers[-1].shape[0]
    require(classes >= 2, "net", classes, "have at least two outputs", "use one output a class")
    return _layer_margins(layers, x, labels(y, len(x), classes))


@jax.jit
def _layer_margins(layers: Chain, x: Array, y: Array) -> LayerMargins:
    before = preactivations(layers, x)
    classes = before[-1].shape[1]
    chosen = jnp.arange(classes, dtype=y.dtype)[None, :] == y[:, None]
    other = jnp.argmax(jnp.where(chosen, -jnp.inf, before[-1]), axis=1)
    hidden = [x.reshape(len(x), -1).astype(before[-1].dtype), *(jax.nn.relu(z)[:, :-1] for z in before[:-1])]
    slope = chosen.astype(before[-1].dtype) - jax.nn.one_hot(other, classes, dtype=before[-1].dtype)
    slopes = []
    for layer, z in zip(reversed(layers), [*before[-2::-1], None], strict=True):
        slope = jnp.matmul(slope, layer.astype(slope.dtype), precision="highest")
        slopes.append(norm(slope[:, :-1], axis=1))
        slope = slope if z is None else jnp.where(z > 0, slope, jnp.zeros_like(slope))
    margin, steep = margins(before[-1], y)[None, :], jnp.stack(slopes[::-1])
    distances = margin / jnp.where((margin == 0) & (steep == 0), jnp.ones_like(steep), steep)
    spreads = [norm(h - h.mean(axis=0, keepdims=True)) / len(h) ** 0.5 for h in hidden]
    return LayerMargins(distances, jnp.stack(spreads))
