r"""Networks replaced by their Taylor polynomial in the parameters, and how fast the kernel leaves its first order.

A linearized network trains in weight space by `networks.train`, as any function of its parameters does, and in function
space by `kernels.gradient_flow` or `kernels.gradient_descent` on its tangent kernel.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxtheory import placement
from jaxtheory.checks import boundary, require, require_arrays
from jaxtheory.empirical.kernel import ntk
from jaxtheory.empirical.outputs import Output
from jaxtheory.empirical.validation import Batch, Function, parameters, prepared, require_function
from jaxtheory.guarded import norm, power_of_two
from jaxtheory.programs.forward import pushforward


class Drift(NamedTuple):
    """The kernel, its velocity under gradient flow, and the relative speed ‖Θ̇‖ / ‖Θ‖, per unit of time."""

    kernel: Float[Array, "n1 n2 *outputs"]
    velocity: Float[Array, "n1 n2 *outputs"]
    speed: Float[Array, ""]


@boundary
def linearize(f: Function, params: PyTree) -> Function:
    """f_lin(θ, x) = f(θ₀, x) + ∂f(θ₀, x)/∂θ · (θ − θ₀), with θ₀ = `params`.

    Args, Raises: as `taylor`. Cost: one forward-mode pass. Source: Lee et al. (2019), equation 7.

    >>> flat = linearize(lambda w, x: x * w**2, jnp.float32(1.0))
    >>> print(flat(jnp.float32(3.0), jnp.float32(2.0)))
    10.0
    """
    return taylor(f, params, 1)


@boundary(static=("degree",))
def taylor(f: Function, params: PyTree, degree: int) -> Function:
    """The Taylor polynomial of f in its parameters around `params`: Σ_{k≤degree} ∂ᵏf(θ₀)[θ − θ₀, …] / k!.

    Args:
        f: f(params, x), any differentiable function; outputs may be a pytree, and complex.
        params: θ₀, a pytree of floating-point or complex arrays; a complex one counts as two real ones.
        degree: ≥ 0.

    Returns:
        A function of (θ, x), a polynomial in θ; θ and θ₀ are taken in the wider of their types.

    Raises:
        ValueError: a negative degree; params that are not floating-point; θ of another structure or other shapes;
            on evaluation, outputs that are no floating-point or complex arrays.

    Cost: degree + 1 nested forward-mode derivatives, up to 2^degree passes.
    Source: Bai and Lee (2020), section 3 (degree 2).

    >>> parabola = taylor(lambda w, x: x * w**2, jnp.float32(1.0), 2)
    >>> print(parabola(jnp.float32(3.0), jnp.float32(2.0)))
    18.0
    """
    require_function(f)
    require(degree >= 0, "degree", degree, "be >= 0", "use 1 for the linearization")
    center = parameters(params, real=False)

    @jax.default_matmul_precision("highest")
    def polynomial(moved: PyTree, x: PyTree) -> Array:
        start, step = _step(center, moved)
        term: Callable[[PyTree], Array] = lambda p: _inexact(f(p, x))  # noqa: E731
        total, factorial = term(start), 1.0
        for k in range(1, degree + 1):
            term = _along(term, step)
            factorial *= k
            total = jax.tree.map(lambda a, b, c=factorial: a + b / c, total, term(start))
        return total

    return polynomial


def _inexact(outputs: PyTree) -> PyTree:
    """Outputs that can be differentiated."""
    require_arrays("f", outputs)
    whole = [leaf for leaf in jax.tree.leaves(outputs) if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)]
    kinds = [jnp.result_type(leaf).name for leaf in whole]
    require(not whole, "f", kinds, "return floating-point or complex outputs", "make them floating, by astype(float)")
    return outputs


def _step(center: PyTree, moved: PyTree) -> tuple[PyTree, PyTree]:
    """θ₀ and θ − θ₀ in one type."""
    moved = parameters(moved, real=False)
    told, wanted = (str(jax.tree.map(jnp.shape, tree)) for tree in (moved, center))
    same = str(jax.tree.structure(moved)) == str(jax.tree.structure(center)) and told == wanted
    require(same, "params", told, f"have the shapes of the expansion's, {wanted}", "pass a tree like that one")
    start = jax.tree.map(lambda a, b: a.astype(jnp.result_type(a, b)), center, moved)
    return start, jax.tree.map(lambda a, b: b.astype(a.dtype) - a, start, moved)


def _along(function: Callable[[PyTree], Array], step: PyTree) -> Callable[[PyTree], Array]:
    return lambda p: pushforward(function, p)[1](step)


@boundary
@placement.automatic
@jax.default_matmul_precision("highest")
def ntk_drift(
    f: Function,
    params: PyTree,
    x: PyTree,
    residual: Float[Array, "n ..."],
    *,
    output: Output = "full",
    batch: Batch = "each",
) -> Drift:
    r"""How fast the kernel itself moves under gradient flow: the first correction of the neural tangent hierarchy.

    With θ̇ = −Jᵀ r (the flow of ½ Σ (f − y)², no 1/n), Θ̇ = ∂Θ/∂θ · θ̇ = −Σ_k K⁽³⁾(·, ·, x_k) r_k.

    Args:
        f, params, x, output, batch: as in `ntk`.
        residual: f(params, x) − y at the training inputs x, of the shape of the outputs.

    Returns:
        `Drift`; the speed is NaN where the kernel is 0.

    Raises:
        ValueError: as `ntk`; a residual of another shape.

    Cost: one forward-mode derivative of `ntk`. Source: Huang and Yau (2020), equation 1.5.

    >>> drift = ntk_drift(lambda w, x: x * w**2, jnp.array(1.0), jnp.array([1.0]), jnp.array([0.5]))
    >>> print(drift.kernel, drift.velocity, drift.speed)
    [[4.]] [[-8.]] 2.0
    """
    f, params, x, _ = prepared(f, params, x, None, batch, name="x")
    out, pull = jax.vjp(lambda p: f(p, x), params)
    wish = f"have the shape of the outputs, {out.shape}"
    require(residual.shape == out.shape, "residual", residual.shape, wish, "pass f(params, x) - y")
    velocity = jax.tree.map(jnp.negative, pull(residual.astype(out.dtype))[0])
    how: Batch = "whole" if batch == "whole" else "each"
    size = power_of_two(jnp.stack([jnp.abs(leaf).max(initial=0) for leaf in jax.tree.leaves(velocity)]))
    direction = jax.tree.map(lambda leaf: leaf / size.astype(leaf.dtype), velocity)
    kernel, moved = jax.jvp(lambda p: ntk(f, p, x, output=output, batch=how), (params,), (direction,))
    unit, size = power_of_two(kernel), size.astype(kernel.dtype)
    return Drift(kernel, size * moved, size * (norm(moved / unit) / norm(kernel / unit)))
