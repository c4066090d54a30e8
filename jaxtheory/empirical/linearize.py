r"""Networks replaced by their Taylor polynomial in the parameters, and how fast the kernel leaves its first order.

A linearized network trains in weight space by `networks.train`, as any function of its parameters does, and in function
space by `kernels.gradient_flow` or `kernels.gradient_descent` on its tangent kernel.
"""

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

    @jax.default_matmul_precision("highest")
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


@jax.default_matmul_precision("highest")
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
