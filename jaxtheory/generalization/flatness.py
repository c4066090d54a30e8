"""Flatness of the loss relative to the weights of a layer, which rescaling neurons or layers does not change."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxtheory.checks import Checked, boundary, require


@boundary(static=("loss",))
def relative_flatness(
    loss: Callable[[Array], Array], weight: Float[Array, "inputs outputs"], *, batch: int = 64
) -> Float[Array, ""]:
    r"""κ = Σ_{s,s'} ⟨w_s, w_{s'}⟩ tr H_{s,s'}, w_s the weights into neuron s, H_{s,s'} = ∂²L/∂w_s ∂w_{s'}.

    With independent standard normal entries of A, E L(W + σ A W) − L(W) is σ² κ/2 to second order: how much the loss
    rises when the features h of the layer become h + σ h A. Weights are perturbed in units of themselves, so κ is the
    same at (c W, V/c) for a ReLU layer W and its successor V, where the trace of the Hessian is not.

    Args:
        loss: L(W), one number, twice differentiable; the other layers are part of it.
        weight: W, the layer h ↦ h W.
        batch: Hessian-vector products at once, ≥ 1.

    Returns:
        κ; it may be negative away from a minimum.

    Raises:
        ValueError: an empty layer, or a loss that is not one number.

    Cost: inputs · outputs Hessian-vector products, memory of `batch`. Source: Petzka, Kamp, Adilova, Sminchisescu,
    Boley (2021), relative flatness by the trace.

    For least squares, L = mean ‖x W − y‖², it is ridge's penalty times 2 E‖x‖²:

    >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    >>> float(relative_flatness(lambda w: jnp.mean(jnp.sum((x @ w - 1) ** 2, axis=1)), jnp.array([[1.0], [3.0]])))
    50.0
    """
    require(weight.size >= 1, "weight", weight.shape, "hold at least one number", "pass the matrix of a layer")
    require(batch >= 1, "batch", batch, "be >= 1", "use the default")
    loss = Checked("loss", loss)
    with jax.default_matmul_precision("highest"):  # of the loss's own products
        return _relative_flatness(loss, weight, batch)


def _relative_flatness(loss: Callable[[Array], Array], weight: Array, batch: int) -> Array:
    gram = jnp.matmul(weight.T, weight)
    inputs, outputs = weight.shape
    product = jax.linearize(jax.grad(loss), weight)[1]  # with the Hessian

    def entry(index: Array) -> Array:
        """Σ_{s'} ⟨w_s, w_{s'}⟩ ∂²L/∂W_ts ∂W_ts'."""
        t, s = index // outputs, index % outputs
        direction = jnp.zeros_like(weight).at[t, s].set(1)
        return jnp.vdot(gram[s], product(direction)[t])

    return lax.map(entry, jnp.arange(inputs * outputs), batch_size=min(batch, inputs * outputs)).sum()
