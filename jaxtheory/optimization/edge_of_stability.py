r"""Gradient descent at large steps: where it is stable, how sharpness is measured, and what it does at the edge.

>>> stability_threshold(0.1)
20.0
>>> top = sharpness(lambda w: jnp.sum(jnp.array([1.0, 3.0]) * w**2) / 2, jnp.ones(2), jax.random.key(0))
>>> f"{top.value:.4f}"
'3.0000'
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxtheory.checks import Checked, boundary, constrain, positive, quantity, require
from jaxtheory.optimization.central import AdaptiveFlow, CentralFlow, central_flow, rmsprop_flow
from jaxtheory.optimization.oscillations import steady_curvature
from jaxtheory.results import Status, finite_status, status_where
from jaxtheory.spectra import top_eigenpairs

__all__ = [
    "AdaptiveFlow",
    "Catapult",
    "CentralFlow",
    "Sharpness",
    "catapult",
    "central_flow",
    "rmsprop_flow",
    "sharpness",
    "stability_threshold",
    "steady_curvature",
]

Number = float | Float[Array, ""]


class Sharpness(NamedTuple):
    """Largest eigenvalue of a Hessian, its unit eigenvector shaped like the parameters, relative residual, status."""

    value: Float[Array, ""]
    direction: PyTree
    residual: Float[Array, ""]
    status: Int[Array, ""]


class Catapult(NamedTuple):
    """Output and curvature at steps 0, 1, …, `steps`; NOT_FINITE where they diverge."""

    output: Float[Array, " steps_1"]
    curvature: Float[Array, " steps_1"]
    status: Int[Array, ""]


@boundary(static=("steps",))
def sharpness(loss: Callable[..., Any], params: PyTree, key: Key[Array, ""], *, steps: int = 40) -> Sharpness:
    r"""λ_max(∇²L) at the parameters, by Lanczos on Hessian-vector products: an observer of any training loop.

    Args:
        loss: `loss(params)`, a scalar, twice differentiable.
        params: a pytree of floating-point arrays, P numbers in all.
        key: of the first vector.
        steps: of Lanczos, at most P of them are made.

    Returns:
        `Sharpness`; the eigenvector's largest entry is positive. The residual ‖Hv − λv‖/max|λ| is recomputed, and an
        eigenvalue lies within it. NOT_CONVERGED where it exceeds √ε, e.g. where a gap is small: take more steps. The
        first derivative of `value` is right, vᵀ(dH)v, where the eigenvalue is simple; that of `direction` is 0.

    Raises:
        ValueError: no parameters, a loss that is not a scalar, steps < 1.

    Cost: steps + 1 Hessian-vector products, 4 · steps² · P flops, steps · P numbers.
    Source: Golub and Van Loan (2013), section 10.1; as an observer, Cohen et al. (2021).

    >>> found = sharpness(lambda p: p["a"] ** 2 + jnp.sum(p["b"] ** 4), {"a": 1.0, "b": jnp.ones(2)}, jax.random.key(0))
    >>> f"{found.value:.3f}"
    '12.000'
    """
    params = jax.tree.map(lambda leaf: jnp.asarray(quantity("params", leaf)), params)
    flat, unravel = ravel_pytree(params)
    require(flat.size >= 1, "params", params, "hold at least one number", "pass the parameters of a model")
    require(steps >= 1, "steps", steps, "be at least 1", "pass e.g. 40")
    value = Checked("loss", lambda p: loss(unravel(p)))
    jax.eval_shape(value, flat)
    product = lambda p, v: jax.jvp(jax.grad(value), (p,), (v,))[1]  # noqa: E731
    still = lax.stop_gradient(flat)
    pair = top_eigenpairs(partial(product, still), flat.shape, 1, key, steps=min(steps, flat.size))
    vector = lax.stop_gradient(pair.vectors[0])
    vector = jnp.where(vector[jnp.argmax(jnp.abs(vector))] < 0, -vector, vector)
    top = jnp.dot(vector, product(flat, vector), precision="highest")
    found = (top, vector, lax.stop_gradient(pair.residual[0]))
    return Sharpness(top, unravel(vector), found[2], finite_status(found, pair.status))


@boundary
def stability_threshold(
    step_size: Number,
    *,
    optimizer: Literal["gradient_descent", "momentum", "nesterov", "adam"] = "gradient_descent",
    beta: Number = 0.9,
) -> Number:
    r"""The largest curvature at which an optimizer of step η is stable on a quadratic.

        gradient_descent: w ← w − ηg                                        2/η
        momentum: v ← βv + g, w ← w − ηv                                    2(1 + β)/η
        nesterov: v ← βv + g, w ← w − η(g + βv)                             2(1 + β)/((1 + 2β)η)
        adam: v ← βv + (1 − β)g, w ← w − ηP⁻¹v, P = diag(√ν + ε)            2(1 + β)/((1 − β)η), of P⁻¹H

    With slowly moving P, Adam is the momentum method of step (1 − β)η on the preconditioned Hessian: 38/η at β = 0.9.
    Each is where the roots of the optimizer's recursion on an eigenvector leave the unit disc, through −1.

    Args:
        step_size: η > 0.
        beta: β of the momentum, in [0, 1); not used by gradient descent. β₁ of Adam.

    Raises:
        ValueError: numbers out of range (outside jit; NaN inside).

    Source: Cohen, Kaur, Li, Kolter, Talwalkar (2021), "Gradient descent on neural networks typically occurs at the edge
    of stability"; Adam: Cohen et al. (2022), "Adaptive gradient methods at the edge of stability".

    >>> stability_threshold(1.0, optimizer="momentum"), round(stability_threshold(1.0, optimizer="adam"), 4)
    (3.8, 38.0)
    """
    eta = positive("step_size", step_size, "pass a step, e.g. 0.1")
    b = constrain("beta", beta, lambda v: (v >= 0) & (v < 1), "lie in [0, 1)", "pass e.g. beta=0.9")
    factor = {
        "gradient_descent": 2 + 0 * b,
        "momentum": 2 * (1 + b),
        "nesterov": 2 * (1 + b) / (1 + 2 * b),
        "adam": 2 * (1 + b) / (1 - b),
    }[optimizer]
    return factor / eta


@boundary(static=("steps",))
def catapult(output: Number, curvature: Number, *, step_size: Number, width: Number, steps: int) -> Catapult:
    r"""Gradient descent on ½f², f = ⟨u, v⟩/√n, exactly: a recursion of two numbers at any width n.

        f ← f (1 − ηλ + η²f²/n),   λ ← λ + (ηf²/n)(ηλ − 4),   λ = (‖u‖² + ‖v‖²)/n

    λ is the curvature, the NTK. For η < 2/λ the loss falls and λ hardly moves; for 2/λ < η < 4/λ the loss first rises
    until it is of order n, λ falls below 2/η, and then the loss falls (the catapult); beyond 4/λ both diverge.

    Args:
        output: f at step 0. curvature: λ at step 0, at least 2|f|/√n.
        step_size: η > 0. width: n > 0.
        steps: at least 0.

    Returns:
        `Catapult`, NOT_FINITE where the numbers overflow, INVALID_INPUT inside jit for what is refused outside.

    Raises:
        ValueError: numbers out of range (outside jit).

    Cost: O(steps). Source: Lewkowycz, Bahri, Dyer, Sohl-Dickstein, Gur-Ari (2020), "The large learning rate phase
    of deep learning: the catapult mechanism".

    >>> run = catapult(1.0, 2.0, step_size=1.5, width=100.0, steps=50)
    >>> bool(run.output.max() > 3), bool(run.curvature[-1] < 2 / 1.5), bool(abs(run.output[-1]) < 1e-3)
    (True, True, True)
    """
    require(steps >= 0, "steps", steps, "be at least 0", "count the steps")
    eta = positive("step_size", step_size, "pass a step, e.g. 3 / curvature")
    n = positive("width", width, "pass the number of hidden units")
    wish, hint = "be finite", "pass the output at initialization"
    f = constrain("output", output, lambda v: (v > -jnp.inf) & (v < jnp.inf), wish, hint)
    lam = positive("curvature", curvature, "pass (‖u‖² + ‖v‖²)/n")
    numbers = [jnp.asarray(value, float) for value in (f, lam, eta, n)]
    dtype = jnp.result_type(*numbers)
    f, lam, eta, n = (value.astype(dtype) for value in numbers)
    wish, hint = "be at least 2|output|/√width", "⟨u, v⟩ is at most (‖u‖² + ‖v‖²)/2"
    slack = 1 + 10 * float(jnp.finfo(dtype).eps)
    least = 2 * jnp.abs(f) / jnp.sqrt(n)
    gap = constrain("curvature", lam * slack - least, lambda v: v >= 0, wish, hint)
    return _catapult(f, jnp.where(jnp.isnan(gap), gap, lam), eta, n, steps)


@partial(jax.jit, static_argnames="steps")
def _catapult(f: Array, lam: Array, eta: Array, n: Array, steps: int) -> Catapult:
    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        f, lam = state
        share = eta * f**2 / n
        new = (f * (1 - eta * lam + eta * share), lam + share * (eta * lam - 4))
        return new, new

    later = lax.scan(step, (f, lam), None, length=steps)[1]
    outputs, curvatures = (jnp.concatenate([v[None], rest]) for v, rest in zip((f, lam), later, strict=True))
    invalid = jnp.isnan(jnp.stack([f, lam, eta, n])).any()
    status = finite_status((outputs, curvatures), status_where((invalid, Status.INVALID_INPUT)))
    return Catapult(outputs, curvatures, status)
