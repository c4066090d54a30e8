r"""Margins of homogeneous models, and those that any optimizer reaches on separable data.

>>> fit = margin_kkt(lambda w, x: x @ w, jnp.array([3.0, 0.0]), jnp.eye(2)[:1], jnp.ones(1))
>>> f"{fit.stationarity:.3f} {fit.complementarity:.3f} {fit.degree:.1f}"
'0.000 0.000 1.0'
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory import guarded
from jaxtheory.checks import boundary, constrain, quantity, require, returned
from jaxtheory.guarded import over
from jaxtheory.networks.training import relaxed_promotion
from jaxtheory.results import Status, finite_status, status_where


class MarginKKT(NamedTuple):
    """How far parameters are from a point of largest margin.

    Attributes:
        stationarity: ‖θ/‖θ‖ − g/‖g‖‖ with g = Σ w_i y_i ∇f(x_i); 0 at a KKT point, at most 2.
        complementarity: Σ w_i (q_i − q_min)/q_min with q_i = y_i f(x_i); 0 at a KKT point.
        margin: q_min/‖θ‖^L.
        degree: L = ⟨θ, g⟩/Σ w_i q_i, the degree of homogeneity.
        weights: w_i, of sum 1.
        status: NOT_CONVERGED where a point is not on its side, q_min ≤ 0.
    """

    stationarity: Float[Array, ""]
    complementarity: Float[Array, ""]
    margin: Float[Array, ""]
    degree: Float[Array, ""]
    weights: Float[Array, " n"]
    status: Int[Array, ""]


class OptimizerMargins(NamedTuple):
    """Margins min_i y_i⟨w, x_i⟩ over ‖w‖₂ and over ‖w‖_∞ at the recorded steps, and the norm ‖w‖₂."""

    steps: Int[Array, " records"]
    euclidean: Float[Array, " records"]
    largest: Float[Array, " records"]
    norm: Float[Array, " records"]


def _labels(x: Array, y: Array) -> Array:
    require(len(x) == len(y) >= 1, "y", y.shape, f"have one label for each of {len(x)} points", "pair them")
    return constrain("y", y, lambda v: abs(v) == 1, "hold labels +1 and -1", "map the classes to signs")


@boundary
def margin_kkt(model: Callable[..., Any], params: PyTree, x: Float[Array, "n ..."], y: Float[Array, " n"]) -> MarginKKT:
    r"""KKT residuals of the largest margin, min ½‖θ‖² subject to y_i f(θ; x_i) ≥ 1, at any parameters.

    With the weights of the logistic loss, w_i ∝ σ(−q_i), q_i = y_i f(θ; x_i), gradient descent moves along
    g = Σ w_i y_i ∇f(θ; x_i). A multiple of θ is a KKT point, with multipliers proportional to w, where θ is parallel
    to g and only points of least margin carry weight. Along gradient flow on a homogeneous model that separates its
    data both residuals have 0 as a limit point, the second as 1/log(1/loss).

    Args:
        model: `model(params, x)`, one output for each example, homogeneous of some degree in the parameters, e.g. a
            ReLU network without biases.
        params: a pytree of floating-point numbers.
        x: examples. y: ±1.

    Returns:
        `MarginKKT`. No second derivatives where the model has none.

    Raises:
        ValueError: shapes; labels other than ±1 (outside jit; NaN inside).

    Cost: a gradient. Source: Lyu and Li (2020), "Gradient descent maximizes the margin of homogeneous neural networks",
    the approximate KKT conditions.

    >>> model = lambda w, x: w[0] * w[1] * x
    >>> fit = margin_kkt(model, jnp.array([2.0, 2.0]), jnp.array([1.0, 4.0]), jnp.ones(2))
    >>> f"{fit.stationarity:.3f} {fit.degree:.1f} {fit.margin:.2f}"
    '0.000 2.0 0.50'
    """
    labels = _labels(x, y)
    params = jax.tree.map(lambda leaf: jnp.asarray(quantity("params", leaf)), params)
    theta, unravel = ravel_pytree(params)
    labels = labels.astype(theta.dtype)

    def scores(flat: Array) -> Array:
        return labels * returned("model", model(unravel(flat), x), labels.shape)

    q, pull = jax.vjp(scores, theta)
    weights = jax.nn.softmax(jax.nn.log_sigmoid(-q))
    (g,) = pull(weights)
    least, size, slope = q.min(), guarded.norm(theta), guarded.norm(g)
    stationarity = guarded.norm(over(theta, size) - over(g, slope))
    complementarity = over(jnp.sum(weights * (q - least)), least)
    degree = over(jnp.dot(theta, g, precision="highest"), jnp.sum(weights * q))
    margin = least * jnp.exp(-degree * jnp.log(jnp.where(size > 0, size, jnp.ones_like(size))))
    invalid = jnp.isnan(theta).any() | jnp.isnan(labels).any()
    status = status_where((invalid, Status.INVALID_INPUT), (~(least > 0), Status.NOT_CONVERGED))
    found = (stationarity, complementarity, margin, degree, weights)
    return MarginKKT(*found, finite_status(found, status))


@boundary(static=("doublings",))
def optimizer_margins(
    x: Float[Array, "n d"], y: Float[Array, " n"], optimizer: optax.GradientTransformation, *, doublings: int
) -> OptimizerMargins:
    r"""Any optax optimizer from 0 on Σ log(1 + exp(−y_i⟨w, x_i⟩)), recorded at steps 1, 2, 4, …, 2^doublings.

    Gradient descent with momentum has the bias of gradient descent, the largest margin over ‖w‖₂ (`max_margin`); Adam
    that of sign descent, the largest over ‖w‖_∞ (`sign_margin`), while its gradients are large against its ε.

    Args:
        x, y: separable data, labels ±1.
        optimizer: e.g. `optax.sgd(0.1, momentum=0.9)`, `optax.adam(lambda t: 0.1 / (t + 1) ** 0.5, eps=1e-30)`.
        doublings: records − 1, in 0 … 30.

    Returns:
        `OptimizerMargins`, NaN where the run is not finite. Derivatives in forward mode.

    Raises:
        ValueError: labels other than ±1 (outside jit; NaN inside), numbers out of range.

    Cost: 2^doublings steps of O(nd). Source: momentum: Wang, Meng, Zhang, Sun, Chen, Ma, Liu (2022), "Does momentum
    change the implicit regularization on separable data?"; Adam: Zhang, Zou, Cao (2024), "The implicit bias of Adam on
    separable data".

    >>> run = optimizer_margins([[2.0, 1.0], [1.0, 2.0]], [1.0, 1.0], optax.sgd(0.1, momentum=0.9), doublings=2)
    >>> run.steps.tolist(), f"{run.largest[-1]:.2f}"
    ([1, 2, 4], '3.00')
    """
    require(0 <= doublings <= 30, "doublings", doublings, "be within 0..30", "steps are counted by int32")
    signed = _labels(x, y).astype(x.dtype)[:, None] * x

    def step(_: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
        w, state = carry
        scores = jnp.matmul(signed, w, precision="highest")
        slope = -jnp.matmul(jax.nn.sigmoid(-scores), signed, precision="highest")
        with relaxed_promotion():
            move, state = optimizer.update(slope, state, w)
        return (w + move).astype(w.dtype), state

    def record(carry: tuple[Array, Any], count: Array) -> tuple[tuple[Array, Any], tuple[Array, ...]]:
        carry = lax.fori_loop(0, count, step, carry)
        w = carry[0]
        least = jnp.matmul(signed, w, precision="highest").min()
        norm, largest = guarded.norm(w), jnp.max(jnp.abs(w), initial=0)
        return carry, (over(least, norm), over(least, largest), norm)

    steps = 2 ** jnp.arange(doublings + 1, dtype=jnp.int32)
    counts = jnp.diff(steps, prepend=jnp.zeros(1, jnp.int32))
    start = jnp.zeros_like(x[0])
    _, records = lax.scan(record, (start, optimizer.init(start)), counts)
    return OptimizerMargins(steps, *records)
