"""Central flows of gradient descent and RMSProp: the smooth paths around which runs at the edge oscillate."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory.checks import Checked, boundary, constrain, nonnegative, positive, quantity, require
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
        covariance: Σ of the oscillation in the eigenvectors of the Hessian at w, in their order.
        status: see `central_flow`.
    """

    params: PyTree
    loss: Float[Array, " records"]
    mean_loss: Float[Array, " records"]
    squared_gradient: Float[Array, " records"]
    sharpness: Float[Array, "records k"]
    covariance: Float[Array, "records k k"]
    status: Int[Array, ""]


class AdaptiveFlow(NamedTuple):
    """The flow of RMSProp after 0, 1, …, steps steps, and what it predicts of a run near it.

    Attributes:
        params: w, with a first axis of records.
        second_moment: ν, likewise.
        loss: L(w), on the flow itself.
        mean_loss: L(w) + tr PΣ/η, the average over the oscillation.
        squared_gradient: ‖∇L(w)‖² + 4 tr P²Σ/η², the average of the squared gradient.
        sharpness: largest eigenvalues of P⁻¹∇²L at w, descending.
        covariance: X of Σ = U X Uᵀ, in eigenvectors with UᵀPU = I.
        status: see `rmsprop_flow`.
    """

    params: PyTree
    second_moment: PyTree
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
    thousand. The path takes steps · P (1 + k) numbers. No derivatives.
    Source: Cohen, Damian, Talwalkar, Kolter, Lee (2024), "Understanding optimization in deep learning with central
    flows"; one direction: Damian, Nichani, Lee (2023), "Self-stabilization".

    >>> edge = central_flow(lambda w: w[1] * w[0] ** 2 / 2 - 0.5 * w[1], jnp.array([0.0, 1.0]), step_size=1.0, steps=9)
    >>> [f"{value:.2f}" for value in (edge.sharpness[1, 0], edge.sharpness[-1, 0], edge.covariance[-1, 0, 0])]
    ['1.50', '2.00', '1.00']
    """
    given = _given(loss, params, step_size, steps, directions, substeps)
    still = _Scaling(jnp.ones_like(given.start), jnp.zeros_like(given.eta), jnp.zeros_like(given.eta))
    path = _path(given, still)
    fields = (jax.vmap(given.unravel)(path.states), *_averages(given, path))
    return CentralFlow(*fields, _status(given, path, fields))


@boundary(static=("steps", "directions", "substeps"))
def rmsprop_flow(
    loss: Callable[..., Any],
    params: PyTree,
    *,
    step_size: Number,
    steps: int,
    decay: Number = 0.99,
    eps: Number = 1e-8,
    second_moment: PyTree | None = None,
    directions: int = 1,
    substeps: int = 4,
) -> AdaptiveFlow:
    r"""The time-averaged path of RMSProp at its edge of stability, in units of its steps.

        RMSProp: ν ← βν + (1 − β) ∇L², w ← w − η P⁻¹∇L, P = diag √(ν + ε)      (`optax.rmsprop`, β = `decay`)
        dw/dt = −η P⁻¹ m,   m = ∇L + ½ ∇⟨Σ, ∇²L⟩
        dν/dt = ((1 − β)/β) (m² + (4/η²) (ν + ε) ∘ diag Σ − ν)

    Σ = U X Uᵀ on the k = `directions` top eigenvectors of P⁻¹∇²L, UᵀPU = I, with X ⪰ 0, Z ⪰ 0, ⟨X, Z⟩ = 0 and
    Z = Uᵀ((2/η) P − ∇²L)U a substep later: no eigenvalue of P⁻¹∇²L passes 2/η, and only those at 2/η oscillate. An
    oscillation lowers that eigenvalue in two ways, by its force ½∇⟨Σ, ∇²L⟩ and by the growth of ν under its gradient,
    so that the problem is again a convex quadratic. On a quadratic loss the second way acts alone: √ν falls to ηh/2 in
    a direction of curvature h and Σ = η²/4, whatever the start.

    Cohen et al. have ∇L² where this has m². Both forces are of one order in the oscillation, and at the edge they
    cancel along ∇⟨Σ, ∇²L⟩: ν follows what is left. For L = yx²/2 − by with Σ near 2b RMSProp moves y by η a step, as
    this flow does; the flow with ∇L² moves it by a fraction of η.

    Args:
        loss: `loss(params)`, a scalar, three times differentiable.
        params: a pytree of P floating-point numbers where P⁻¹∇²L is at most 2/η.
        step_size: η > 0 of RMSProp.
        steps: of RMSProp that are followed.
        decay: β in [1/2, 1). The law is that of slow ν: its error is of first order in 1 − β.
        eps: ε ≥ 0, under the root.
        second_moment: ν at the start, shaped like the parameters and not negative; the squared gradient there if None,
            as after a first step with bias correction.
        directions: k, as many eigenvalues as may reach 2/η.
        substeps: of the integration, at least 2; its error is of first order in 1/substeps.

    Returns:
        `AdaptiveFlow`. INVALID_INPUT where the preconditioned start is sharper than 2/η by more than 1 %,
        NOT_CONVERGED where the flow is later by more than 5 %, NOT_FINITE where it diverges.

    Raises:
        ValueError: counts out of range, a loss that is not a scalar, another structure of ν, numbers out of range
            (outside jit).

    Cost: that of `central_flow`. No derivatives.
    Source: Cohen, Damian, Talwalkar, Kolter, Lee (2024), "Understanding optimization in deep learning with central
    flows", section on RMSProp.

    >>> options = {"step_size": 0.1, "decay": 0.95, "steps": 120}
    >>> flow = rmsprop_flow(lambda w: w**2, jnp.array(0.0), second_moment=jnp.array(1.0), **options)
    >>> f"{flow.second_moment[-1]:.4f} {flow.sharpness[-1, 0]:.2f}"  # (ηh/2)², 2/η
    '0.0100 20.00'
    """
    given = _given(loss, params, step_size, steps, directions, substeps)
    beta = constrain("decay", decay, lambda v: (v >= 0.5) & (v < 1), "lie in [1/2, 1)", "pass e.g. decay=0.99")
    beta, small = (jnp.asarray(v, given.start.dtype) for v in (beta, nonnegative("eps", eps, "pass e.g. eps=1e-8")))
    if second_moment is None:
        squares = jax.grad(given.value)(given.start) ** 2
    else:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(second_moment)]
        expected = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
        require(shapes == expected, "second_moment", shapes, f"have the shapes {expected}", "pass ν of the parameters")
        squares = ravel_pytree(jax.tree.map(jnp.asarray, second_moment))[0].astype(given.start.dtype)
        squares = constrain("second_moment", squares, lambda v: v >= 0, "be at least 0", "pass an average of squares")
    path = _path(given, _Scaling(squares, (1 - beta) / beta, small))
    tree = jax.vmap(given.unravel)
    fields = (tree(path.states), tree(path.squares), *_averages(given, path))
    return AdaptiveFlow(*fields, _status(given, path, fields))


class _Given(NamedTuple):
    """A loss of a vector, the way back to a pytree, and the numbers of a flow."""

    value: Callable[[Array], Array]
    unravel: Callable[[Array], PyTree]
    start: Array
    eta: Array
    steps: int
    directions: int
    substeps: int


class _Scaling(NamedTuple):
    """ν of P = diag √(ν + ε), its rate in a step (0: it stays), and ε."""

    squares: Array
    rate: Array
    eps: Array

    @property
    def root(self) -> Array:
        return jnp.sqrt(self.squares + self.eps)


_State = tuple[Array, Array, Array, Array]  # w, ν, X, V


class _Path(NamedTuple):
    """States, ν and Σ = V X Vᵀ after 0, 1, …, steps steps, P there, and the sharpness of the first."""

    states: Array
    squares: Array
    covariance: Array
    basis: Array
    roots: Array
    first: Array


def _given(
    loss: Callable[..., Any], params: PyTree, step_size: Number, steps: int, directions: int, substeps: int
) -> _Given:
    params = jax.tree.map(lambda leaf: jnp.asarray(quantity("params", leaf)), params)
    flat, unravel = ravel_pytree(params)
    eta = jnp.asarray(positive("step_size", step_size, "pass the step of the descent"), flat.dtype)
    require(steps >= 1, "steps", steps, "be at least 1", "count steps of gradient descent")
    require(substeps >= 2, "substeps", substeps, "be at least 2 for stability", "use 4")
    wish = f"lie in 1..{flat.size}, the number of parameters"
    require(1 <= directions <= flat.size, "directions", directions, wish, "use 1 to 3")
    value = Checked("loss", lambda p: loss(unravel(p)))
    jax.eval_shape(value, flat)
    return _Given(value, unravel, flat, eta, steps, directions, substeps)


def _averages(given: _Given, path: _Path) -> tuple[Array, Array, Array, Array, Array]:
    """Loss on the flow, its mean, the mean squared gradient, top eigenvalues, covariance in their eigenvectors."""

    def observe(record: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        w, root, x, basis = record
        loss, gradient = jax.value_and_grad(given.value)(w)
        top, u = _top(given, w, root)
        spread = _diagonal(basis, x)
        return (
            loss,
            jnp.sum(gradient**2) + 4 / given.eta**2 * jnp.sum(root**2 * spread),
            top,
            _turned(x, basis, u, root),
        )

    losses, squared, sharp, turned = lax.map(observe, (path.states, path.roots, path.covariance, path.basis))
    spread = jnp.trace(path.covariance, axis1=1, axis2=2)
    return losses, losses + spread / given.eta, squared, sharp, turned


def _status(given: _Given, path: _Path, fields: PyTree) -> Int[Array, ""]:
    limit, sharp = 2 / given.eta, fields[-2]
    invalid = jnp.isnan(given.eta) | ~jnp.isfinite(given.start).all() | jnp.isnan(path.squares[0]).any()
    status = status_where(
        (invalid | (path.first > 1.01 * limit), Status.INVALID_INPUT),
        (~jnp.isfinite(path.states).all(), Status.NOT_FINITE),
        ((sharp > 1.05 * limit).any(), Status.NOT_CONVERGED),
    )
    return finite_status(fields, status)


def _top(given: _Given, w: Array, root: Array) -> tuple[Array, Array]:
    """The largest eigenvalues of P⁻¹∇²L, descending, and their eigenvectors u [P k], uᵀPu = 1."""
    half = 1 / jnp.sqrt(root)
    values, vectors = jnp.linalg.eigh(half[:, None] * jax.hessian(given.value)(w) * half[None])
    k = given.directions
    return values[::-1][:k], half[:, None] * vectors[:, ::-1][:, :k]


def _turned(x: Array, basis: Array, u: Array, root: Array) -> Array:
    """X of Σ = V X Vᵀ in the eigenvectors u, which turn freely where eigenvalues are equal."""
    turn = jnp.matmul(u.T * root[None], basis, precision="highest")
    return jnp.linalg.multi_dot([turn, x, turn.T], precision="highest")


def _diagonal(u: Array, x: Array) -> Array:
    """The diagonal of U X Uᵀ."""
    return jnp.einsum("pi,ij,pj->p", u, x, u, precision="highest")


def _path(given: _Given, scaling: _Scaling) -> _Path:
    eta, dt = given.eta, 1 / given.substeps
    k, start = given.directions, given.start
    gradient_of = jax.grad(given.value)
    dot = partial(jnp.einsum, precision="highest")

    def move(state: _State, _: None) -> tuple[_State, Array]:
        w, squares, x, basis = state
        now = scaling._replace(squares=squares)
        root, rate = now.root, now.rate
        top, u = _top(given, w, root)
        x = _turned(x, basis, u, root)
        gradient = gradient_of(w)
        # ∇(u_iᵀ H u_j): third derivatives along pairs of eigenvectors
        third = jax.jacrev(lambda p: _projected_hessian(given.value, p, u))(w)
        mean = gradient + dot("ij,ijp->p", x, third) / 2  # a substep old, as explicit Euler has it
        slack = jnp.diag(2 / eta - top) + dt * eta * dot("ijp,p->ij", third, gradient / root)
        slack = slack + dt / eta * rate * dot("pi,p,pj->ij", u, (mean**2 - squares) / root, u)
        gram = dt * eta / 2 * dot("ijp,p,klp->ijkl", third, 1 / root, third)
        gram = gram + 4 * dt / eta**3 * rate * dot("p,pi,pj,pk,pl->ijkl", root, u, u, u, u)
        x = _complement(slack, gram, x)
        force = gradient + dot("ij,ijp->p", x, third) / 2
        grown = squares + dt * rate * (mean**2 + 4 / eta**2 * root**2 * _diagonal(u, x) - squares)
        return (w - dt * eta * force / root, grown, x, u), top[0]

    def step(state: _State, _: None) -> tuple[_State, PyTree]:
        new, sharp = lax.scan(move, state, None, length=given.substeps)
        return new, (*new, sharp[0])

    first = (start, scaling.squares, jnp.zeros((k, k), start.dtype), jnp.zeros((len(start), k), start.dtype))
    *later, sharp = lax.scan(step, first, None, length=given.steps)[1]
    states, squares, x, basis = (jnp.concatenate([a[None], b]) for a, b in zip(first, later, strict=True))
    return _Path(states, squares, x, basis, scaling._replace(squares=squares).root, sharp[0])


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
