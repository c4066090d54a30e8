"""Signal and noise of the gradients of single examples."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import Checked, boundary, labels_or_targets, quantity, require
from jaxtheory.guarded import norm


class GradientSignal(NamedTuple):
    """‖ḡ‖ of the mean gradient, the total variance tr Σ of one example's, and the noise scale tr Σ/‖ḡ‖²."""

    norm: Float[Array, ""]
    variance: Float[Array, ""]
    noise_scale: Float[Array, ""]


@boundary(static=("loss",))
def gradient_signal(
    loss: Callable[[Any, Array, Array], Array], params: PyTree, x: Float[Array, "n ..."], y: Array
) -> GradientSignal:
    r"""ḡ = (1/n) Σ g_i and tr Σ̂ = (1/(n − 1)) Σ ‖g_i − ḡ‖², g_i = ∇L(w; x_i, y_i).

    A batch of B examples has a gradient of mean ḡ and variance about tr Σ/B: beyond B = tr Σ/‖ḡ‖², the noise scale,
    larger batches help little. The variance at the end of training is one of the measures that Jiang et al. compare.

    Args:
        loss: mean loss (params, x, y) of a batch, here of one example each.
        params: w, any pytree of arrays.
        x, y: n ≥ 2 examples.

    Returns:
        `GradientSignal`; the noise scale is infinite where the mean gradient is 0, and NaN where all gradients are.

    Raises:
        ValueError: fewer than two examples, another number of labels, or a loss that is not one number.

    Cost: 2n gradients, memory of one. Source: McCandlish, Kaplan, Amodei (2018), section 2.2, for the noise scale;
    Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), for the variance as a measure.

    >>> found = gradient_signal(lambda w, x, y: ((x @ w - y) ** 2).mean() / 2, jnp.zeros(1), jnp.ones((2, 1)),
    ...                         jnp.array([1.0, 3.0]))
    >>> [f"{value:.3f}" for value in found]
    ['2.000', '2.000', '0.500']
    """
    labels = labels_or_targets("y", y)
    require(len(x) >= 2, "x", x.shape, "hold at least two examples", "pass the sample")
    require(labels.shape[:1] == x.shape[:1], "y", labels.shape, f"pair with {len(x)} examples", "pass (x, y)")
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(quantity("params", leaf)), params))
    require(flat.size > 0, "params", params, "hold at least one number", "pass the trained parameters")
    one = Checked("loss", lambda w, a, b: loss(unravel(w), a[None], b[None]))
    return _signal(jax.grad(one), flat, x, labels)


@jax.default_matmul_precision("highest")  # of the loss's own products
def _signal(gradient: Callable[..., Array], flat: Array, x: Array, y: Array) -> GradientSignal:
    def add(total: Array, example: tuple[Array, Array]) -> tuple[Array, None]:
        return total + gradient(flat, *example) / len(x), None

    mean = lax.scan(add, jnp.zeros_like(flat), (x, y))[0]
    deviations = lax.map(partial(_deviation, gradient, flat, mean), (x, y))
    length, spread = norm(mean), norm(deviations) / (len(x) - 1) ** 0.5
    return GradientSignal(length, spread**2, (spread / length) ** 2)


def _deviation(gradient: Callable[..., Array], flat: Array, mean: Array, example: tuple[Array, Array]) -> Array:
    return norm(gradient(flat, *example) - mean)
