r"""Networks replaced by their Taylor polynomial in the parameters, trained in weights or in function space."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import require
from jaxtheory.empirical.kernel import ntk

Function = Callable[[Any, Any], Any]


class Drift(NamedTuple):
    """The kernel, its velocity under gradient flow, and the relative speed ‖Θ̇‖ / ‖Θ‖, per unit of time."""

    kernel: Float[Array, "n1 n2 *outputs"]
    velocity: Float[Array, "n1 n2 *outputs"]
    speed: Float[Array, ""]


class Trajectory(NamedTuple):
    """Parameters, outputs on the training inputs before each step, and the loss there."""

    params: PyTree
    outputs: Float[Array, "steps n *out"]
    loss: Float[Array, " steps"]


def linearize(f: Function, params: PyTree) -> Function:
    """f_lin(θ, x) = f(θ₀, x) + ∂f(θ₀, x)/∂θ · (θ − θ₀), with θ₀ = `params`.

    Cost: one forward-mode pass. Source: Lee et al. (2019), equation 7.

    >>> flat = linearize(lambda w, x: x * w**2, jnp.float32(1.0))
    >>> print(flat(jnp.float32(3.0), jnp.float32(2.0)))
    10.0
    """
    return taylor(f, params, 1)


def taylor(f: Function, params: PyTree, degree: int) -> Function:
    """The Taylor polynomial of f in its parameters around `params`: Σ_{k≤degree} ∂ᵏf(θ₀)[θ − θ₀, …] / k!.

    Cost: degree + 1 nested forward-mode derivatives, up to 2^degree passes.

    >>> cubic = taylor(lambda w, x: x * w**2, jnp.float32(1.0), 2)
    >>> print(cubic(jnp.float32(3.0), jnp.float32(2.0)))
    18.0
    """
    require(degree >= 0, "degree", degree, "be >= 0", "use 1 for the linearization")

    def polynomial(moved: PyTree, x: PyTree) -> Any:
        step = jax.tree.map(jnp.subtract, moved, params)
        term: Callable[[PyTree], Any] = lambda p: f(p, x)  # noqa: E731
        total, factorial = term(params), 1.0
        for k in range(1, degree + 1):
            term = _along(term, step)
            factorial *= k
            total = jax.tree.map(lambda a, b, c=factorial: a + b / c, total, term(params))
        return total

    return polynomial


def _along(function: Callable[[PyTree], Any], step: PyTree) -> Callable[[PyTree], Any]:
    return lambda p: jax.jvp(function, (p,), (step,))[1]


def ntk_drift(
    f: Function, params: PyTree, x: PyTree, residual: Float[Array, "n ..."], *, output: Any = "full"
) -> Drift:
    r"""How fast the kernel itself moves under gradient flow: the first correction of the neural tangent hierarchy.

    With θ̇ = −Jᵀ r (the flow of ½ Σ (f − y)², no 1/n), Θ̇ = ∂Θ/∂θ · θ̇ = −Σ_k K⁽³⁾(·, ·, x_k) r_k.

    Args:
        residual: f(params, x) − y at the training inputs x.
        output: as in `ntk`.

    Cost: one forward-mode derivative of `ntk`. Source: Huang and Yau (2020), equation 1.5.
    """
    _, pull = jax.vjp(lambda p: f(p, x), params)
    velocity = jax.tree.map(jnp.negative, pull(residual)[0])
    kernel, moved = jax.jvp(lambda p: ntk(f, p, x, output=output), (params,), (velocity,))
    return Drift(kernel, moved, jnp.linalg.norm(moved.ravel()) / jnp.linalg.norm(kernel.ravel()))


def function_space_flow(
    kernel: Float[Array, "n n"], outputs: Float[Array, " n"], targets: Float[Array, " n"], times: Float[Array, " times"]
) -> Float[Array, "times n"]:
    r"""Training outputs of the linearized network under gradient flow: f_t − y = exp(−Θt)(f₀ − y).

    The loss is ½ Σ (f − y)², no 1/n: divide t by n for the mean.

    Cost: one eigendecomposition, O(n³). Source: Lee et al. (2019), equation 9.

    >>> f = function_space_flow(jnp.eye(1), jnp.array([1.0]), jnp.array([0.0]), jnp.array([0.0, 1.0]))
    >>> print([f"{v:.4f}" for v in f.ravel()])
    ['1.0000', '0.3679']
    """
    values, vectors = jnp.linalg.eigh(kernel)
    start = vectors.T @ (outputs - targets)
    decay = jnp.exp(-times[:, None] * jnp.clip(values, 0)[None, :])
    return targets[None, :] + jnp.einsum("tk,nk->tn", decay * start[None, :], vectors, precision="highest")


def train(
    f: Function, params: PyTree, x: PyTree, targets: Float[Array, "n ..."], optimizer: Any, steps: int
) -> Trajectory:
    """Full-batch training of ½ Σ (f − y)² in weight space with an optax optimizer; f may be `linearize(f, params)`.

    Plain gradient descent converges where its step is under 2 / λ_max(Θ) of this loss.
    """

    def loss(params: PyTree) -> tuple[Array, Array]:
        out = f(params, x)
        return 0.5 * jnp.sum((out - targets) ** 2), out

    def step(carry: tuple[PyTree, Any], _: None) -> tuple[tuple[PyTree, Any], tuple[Array, Array]]:
        params, state = carry
        (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return (jax.tree.map(jnp.add, params, updates), state), (out, value)

    (last, _), (outputs, losses) = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return Trajectory(last, outputs, losses)
