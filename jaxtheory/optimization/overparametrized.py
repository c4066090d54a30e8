r"""Gradient descent on wide two-layer networks: the residual from the spectrum of a kernel, and the width it needs.

The network is f(x) = m^(−1/2) Σ_r a_r max(w_r·x, 0) with fixed signs a_r, and weights w_r ~ N(0, κ² I) that are trained
on the loss ‖y − u‖²/2, u its outputs on n points. At large m the kernel of the outputs hardly moves from its limit H.

>>> H = relu_gram(jnp.eye(2))
>>> residual_decay(H, jnp.array([1.0, 0.0]), step_size=0.5, steps=jnp.array([0, 1, 2])).norms
Array([1.    , 0.75  , 0.5625], dtype=float32)
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxtheory import kernels
from jaxtheory.checks import boundary, positive, require, within
from jaxtheory.guarded import norm
from jaxtheory.results import finite_status

__all__ = ["Decay", "relu_gram", "residual_decay", "width_threshold"]

Number = float | Float[Array, ""]


class Decay(NamedTuple):
    """‖y − u_k‖ at each k, a bound by the least eigenvalue alone, that eigenvalue, and the kernel's status."""

    norms: Float[Array, " t"]
    bounds: Float[Array, " t"]
    smallest: Float[Array, ""]
    status: Int[Array, ""]


@boundary
def relu_gram(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    r"""The tangent kernel of the first layer of a two-layer ReLU network of infinite width, at its initialization.

        H_ij = x_i·x_j P(w·x_i > 0, w·x_j > 0) = x_i·x_j (π − θ_ij)/2π,   θ the angle, w ~ N(0, I)

    It is positive definite where no two points are parallel.

    Args:
        x: n ≥ 1 points; the theorems take unit norms.

    Raises:
        ValueError: no points.

    Cost: 2 n² d flops, memory n². Source: Du, Zhai, Póczos, Singh (2019); Arora, Du, Hu, Li, Wang (2019).

    >>> relu_gram(jnp.eye(2))
    Array([[0.5, 0. ],
           [0. , 0.5]], dtype=float32)
    """
    require(len(x) >= 1, "x", x.shape, "hold at least one point", "pass the data as [n, d]")
    products = jnp.matmul(x, x.T, precision="highest")
    return products * kernels.arc_cosine(0)(x, x) / 2


@boundary
def residual_decay(
    gram: Float[Array, "n n"],
    residual: Float[Array, "n *outputs"],
    *,
    step_size: Number,
    steps: Int[Array, " t"],
) -> Decay:
    r"""The size of the residual along gradient descent on ‖y − u‖²/2 where the kernel of the outputs stays.

        ‖y − u_k‖ = √(Σ_i (1 − ηλ_i)^(2k) (v_i·(y − u_0))²) ≤ max_i |1 − ηλ_i|^k ‖y − u_0‖

    with the eigenpairs (λ_i, v_i) of H. A network of width m differs from it by O(m^(−1/2)): its kernel at the start is
    not its limit, and moves. `bounds` is (1 − ηλ_0/2)^(k/2) ‖y − u_0‖, λ_0 the least eigenvalue, which
    networks above the threshold of width obey at steps η of order λ_0/n² (Du et al.).

    Args:
        gram: H, symmetric and positive semidefinite, e.g. `relu_gram(x)` or a network's own tangent kernel.
        residual: y − u_0 at initialization; several outputs share H.
        step_size: η > 0; for a loss that is divided by n, η/n.
        steps: k ≥ 0, any numbers of steps.

    Returns:
        `Decay`; status as `kernels.gradient_descent` (INVALID_INPUT for an indefinite H), NOT_FINITE beyond 2/λ where
        it overflows. Norms are exact to rounding of ‖y − u_0‖.

    Raises:
        ValueError: shapes that do not pair, η ≤ 0, negative steps (outside `jit`; not OK inside).

    Cost: one eigendecomposition, and 2 n² flops a number of steps. Derivatives are exact at repeated eigenvalues.
    Source: Arora, Du, Hu, Li, Wang (2019, Fine-grained analysis of optimization and generalization for
    overparameterized two-layer neural networks), with y in place of y − u_0 for a small κ; the bound: Du, Zhai, Póczos,
    Singh (2019, Gradient descent provably optimizes over-parameterized neural networks).

    >>> residual_decay(jnp.diag(jnp.array([1.0, 0.5])), jnp.ones(2), step_size=1.0, steps=jnp.array([1])).norms
    Array([0.5], dtype=float32)
    """
    wish = f"pair with the {len(gram)} points of gram"
    require(len(residual) == len(gram) >= 1, "residual", residual.shape, wish, "pass y - u_0 at the same points")
    eta = jnp.asarray(positive("step_size", step_size, "pass a step below 2/λ_max of the kernel"), residual.dtype)
    columns = residual.reshape(len(residual), -1)
    still = jnp.zeros_like(columns)
    run = kernels.gradient_descent(gram, still, learning_rate=eta, steps=steps, initial=columns)
    norms = jax.vmap(norm)(run.train)
    smallest = jnp.linalg.eigvalsh((gram + gram.T) / 2)[0]
    factor = jnp.maximum(1 - eta * jnp.maximum(smallest, 0) / 2, 0)
    bounds = norm(columns) * jnp.exp(steps.astype(eta.dtype) / 2 * jnp.log(factor))
    return Decay(norms, bounds, smallest, finite_status((norms, bounds, smallest), run.status))


@boundary(static=("samples", "rule"))
def width_threshold(
    samples: int,
    smallest: Number,
    *,
    failure: Number = 0.1,
    accuracy: Number = 0.1,
    scale: Number = 1.0,
    rule: Literal["convergence", "trajectory"] = "convergence",
) -> Float[Array, ""]:
    r"""How the width that the theorems ask for grows: an order, whose constant in front the papers leave open (here 1).

        convergence: n⁶ / (λ_0⁴ δ³), so that ‖y − u_k‖² ≤ (1 − ηλ_0/2)^k ‖y − u_0‖² with probability 1 − δ
        trajectory:  n⁷ / (λ_0⁴ κ² δ⁴ ε²), so that ‖y − u_k‖ is that of `residual_decay` of y, within ε

    Both for unit inputs, |y_i| = O(1), steps η of order λ_0/n², and the second for κ of order εδ/√n at most. The
    exponents are the papers'; the number has no meaning but in ratios, and networks in practice need far less.

    Args:
        samples: n ≥ 1. smallest: λ_0 > 0, the least eigenvalue of H. failure: 0 < δ ≤ 1.
        accuracy: ε > 0. scale: κ > 0, the standard deviation of the weights at initialization.
        rule: which theorem; "convergence" does not depend on ε and κ.

    Raises:
        ValueError: numbers out of range (NaN inside `jit`).

    Cost: O(1). Source: Du, Zhai, Póczos, Singh (2019); Arora, Du, Hu, Li, Wang (2019).

    >>> float(width_threshold(2, 0.5, failure=1.0))
    1024.0
    """
    require(samples >= 1, "samples", samples, "be >= 1", "pass the number of points")
    least = jnp.asarray(
        positive("smallest", smallest, "pass the least eigenvalue of a positive definite kernel"), float
    )
    chance = within("failure", positive("failure", failure, "pass e.g. 0.1"), 0.0, 1.0, "pass a probability, e.g. 0.1")
    error = positive("accuracy", accuracy, "pass e.g. accuracy=0.1")
    spread = positive("scale", scale, "pass the standard deviation of the weights")
    if rule == "convergence":
        return samples**2 * (samples / least) ** 4 / chance**3 + 0 * (error * spread)
    return samples**3 * (samples / least) ** 4 / chance**2 / (spread * error * chance) ** 2
