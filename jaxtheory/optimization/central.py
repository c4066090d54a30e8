"""The central flow of gradient descent: the smooth path that a run at the edge of stability oscillates around."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.checks import boundary, positive, quantity, require
from jaxtheory.guarded import over
from jaxtheory.results import Status, finite_status, status_where

Number = float | Float[Array, ""]
_SWEEPS = 60  # of the complementarity problem, which starts from the solution a substep before


class CentralFlow(NamedTuple):
    """The flow after 0, 1, …, steps steps, and what it predicts of gradient descent near it.

    Attributes:
        params: w, with a first axis of records.
        loss: L(w), on the flow itself.
        mean_loss: L(w) + tr Σ/η, the average over the oscillation.
        squared_gradient: ‖∇L(w)‖² + 4 tr Σ/η², the average of the squared gradient.
        sharpness: largest eigenvalues of the Hessian at w, descending.
        covariance: Σ of the oscillation in the eigenvectors of these.
        status: see `central_flow`.
    """

    params: PyTree
    loss: Float[Array, " records"]
    mean_loss: Float[Array, " records"]
    squared_gradient: Float[Array, " records"]
    sharpness: Float[Array, "records k"]
    covariance: Float[Array, "records k k"]
    status: Int[Array, ""]


@boundary(static=("steps", "directions", "substeps"))
def central_flow(
    loss: Callable[..., Any],
    params: PyTree,
    *,
    step_size: Number,
    steps: int,
    directions: int = 1,
    substeps: int = 4,
) -> CentralFlow:
    r"""The time-averaged path of gradient descent of step η at the edge of stability, in units of its steps.

        dw/dt = −η (∇L + ½ ∇⟨Σ, ∇²L⟩)

    Σ ⪰ 0 lives on the k = `directions` top eigenvectors U of the Hessian. It is the solution of the complementarity
    problem that no eigenvalue passes 2/η and only eigenvalues at 2/η oscillate:

        X ⪰ 0,   Z = (2/η) I − Uᵀ∇²L(w(t + dt))U ⪰ 0,   ⟨X, Z⟩ = 0,   Σ = U X Uᵀ

    With one direction X = −2⟨∇S, ∇L⟩/‖∇S‖² where that is positive and the sharpness S is 2/η, and 0 before. Below the
    edge it is gradient flow. Explicit Euler with `substeps` a step; Z is linear in X over a substep, and the problem is
    the minimum of a convex quadratic over positive semidefinite k × k matrices.

    Args:
        loss: `loss(params)`, a scalar, three times differentiable.
        params: a pytree of P floating-point numbers, with sharpness at most 2/η.
        step_size: η > 0 of the gradient descent.
        steps: of the gradient descent that are followed.
        directions: k, as many eigenvalues as may reach 2/η.
        substeps: of the integration, at least 2; its error is of first order in 1/substeps.

    Returns:
        `CentralFlow`. INVALID_INPUT where the start is sharper than 2/η by more than 1 %, NOT_CONVERGED where the flow
        is later by more than 5 %, e.g. because `substeps` or `directions` is too small; NOT_FINITE where it diverges.

    Raises:
        ValueError: counts out of range, a loss that is not a scalar, a step size that is not positive (outside jit).

    Cost: a dense Hessian and its eigenvectors, P Hessian-vector products and 9 P³ flops, a substep: for P up to a
    thousand. The path takes steps · P numbers. No derivatives.
    Source: Cohen, Damian, Talwalkar, Kolter, Lee (2024), "Understanding optimization in deep learning with central
    flows"; one direction: Damian, Nichani, Lee (2023), "Self-stabilization".

    >>> edge = central_flow(lambda w: w[1] * w[0] ** 2 / 2 - 0.5 * w[1], jnp.array([0.0, 1.0]), step_size=1.0, steps=9)
    >>> [f"{value:.2f}" for value in (edge.sharpness[1, 0], edge.sharpness[-1, 0], edge.covariance[-1, 0, 0])]
    ['1.50', '2.00', '1.00']
    """
    params = jax.tree.map(lambda leaf: jnp.asarray(quantity("params", leaf)), params)
    flat, unravel = ravel_pytree(params)
    eta = jnp.asarray(positive("step_size", step_size, "pass the step of the descent"), flat.dtype)
    require(steps >= 1, "steps", steps, "be at least 1", "count steps of gradient descent")
    require(substeps >= 2, "substeps", substeps, "be at least 2 for stability", "use 4")
    wish = f"lie in 1..{flat.size}, the number of parameters"
    require(1 <= directions <= flat.size, "directions", directions, wish, "use 1 to 3")
    value = lambda p: jnp.asarray(loss(unravel(p)))  # noqa: E731
    shape = jax.eval_shape(value, flat).shape
    require(shape == (), "loss", f"shape {shape}", "return one number", "return a mean over examples")
    states, covariance, first = _path(value, flat, eta, steps, directions, substeps)
    gradient, sharp, losses = lax.map(partial(_observe, value, directions), states)
    spread = jnp.trace(covariance, axis1=1, axis2=2)
    fields = (
        jax.vmap(unravel)(states),
        losses,
        losses + spread / eta,
        gradient + 4 * spread / eta**2,
        sharp,
        covariance,
    )
    status = status_where(
        (jnp.isnan(eta) | ~jnp.isfinite(flat).all() | (first > 1.01 * 2 / eta), Status.INVALID_INPUT),
        (~jnp.isfinite(states).all(), Status.NOT_FINITE),
        ((sharp > 1.05 * 2 / eta).any(), Status.NOT_CONVERGED),
    )
    return CentralFlow(*fields, finite_status(fields, status))


def _observe(value: Callable[[Array], Array], k: int, w: Array) -> tuple[Array, Array, Array]:
    """Squared gradient, top eigenvalues, loss."""
    loss, gradient = jax.value_and_grad(value)(w)
    return jnp.sum(gradient**2), jnp.linalg.eigvalsh(jax.hessian(value)(w))[::-1][:k], loss


def _path(
    value: Callable[[Array], Array], flat: Array, eta: Array, steps: int, k: int, substeps: int
) -> tuple[Array, Array, Array]:
    """States and covariances after 0, 1, …, steps steps, and the sharpness of the first."""
    dt = 1 / substeps

    def move(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        w, x = state
        values, vectors = jnp.linalg.eigh(jax.hessian(value)(w))
        top, u = values[::-1][:k], vectors[:, ::-1][:, :k]
        gradient = jax.grad(value)(w)
        # ∇(u_iᵀ H u_j): third derivatives along pairs of eigenvectors
        third = jax.jacrev(lambda p: _projected_hessian(value, p, u))(w)
        slack = jnp.diag(2 / eta - top) + dt * eta * jnp.dot(third, gradient, precision="highest")
        gram = dt * eta / 2 * jnp.einsum("ijp,klp->ijkl", third, third, precision="highest")
        x = _complement(slack, gram, x)
        force = gradient + jnp.einsum("ij,ijp->p", x, third, precision="highest") / 2
        return (w - dt * eta * force, x), top[0]

    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        new, sharp = lax.scan(move, state, None, length=substeps)
        return new, (*new, sharp[0])

    start = (flat, jnp.zeros((k, k), flat.dtype))
    _, (states, covariances, sharp) = lax.scan(step, start, None, length=steps)
    return jnp.concatenate([flat[None], states]), jnp.concatenate([start[1][None], covariances]), sharp[0]


def _projected_hessian(value: Callable[[Array], Array], w: Array, u: Array) -> Array:
    """Uᵀ∇²L(w)U."""
    moved = jax.vmap(lambda v: jax.jvp(jax.grad(value), (w,), (v,))[1], in_axes=1, out_axes=1)(u)
    return jnp.matmul(u.T, moved, precision="highest")


def _complement(slack: Array, gram: Array, x: Array) -> Array:
    """X ⪰ 0 with slack + gram(X) ⪰ 0 and no overlap of the two: min ⟨slack, X⟩ + ½⟨X, gram(X)⟩ over X ⪰ 0."""
    k = len(slack)
    if k == 1:
        return jnp.maximum(over(-slack, gram[:, :, 0, 0]), jnp.zeros_like(slack))
    bound = jnp.trace(gram.reshape(k * k, k * k))

    def sweep(_: Array | int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        x, ahead, t = state
        slope = slack + jnp.einsum("ijkl,kl->ij", gram, ahead, precision="highest")
        values, vectors = jnp.linalg.eigh(ahead - over(slope + slope.T, 2 * bound))
        new = jnp.matmul(vectors * jnp.maximum(values, jnp.zeros_like(values))[None], vectors.T, precision="highest")
        # restart the momentum where it points uphill
        uphill = jnp.sum((ahead - new) * (new - x)) > 0
        t = jnp.where(uphill, jnp.ones_like(t), t)
        following = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        weight = jnp.where(uphill, jnp.zeros_like(t), (t - 1) / following)
        return new, new + weight * (new - x), following

    return lax.fori_loop(0, _SWEEPS, sweep, (x, x, jnp.ones((), slack.dtype)))[0]
