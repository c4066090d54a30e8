r"""Curvature of a loss in parameter space: Gauss-Newton and Fisher operators, never formed, and influence functions.

Vectors are flat, [P], in the order of `jax.flatten_util.ravel_pytree(params)`, so that `top_eigenpairs`, `trace` and
`spectral_density` take these operators with shape (P,). With J the Jacobian of all outputs and H the Hessians of the
losses by the outputs, Gauss-Newton is G = JᵀHJ / n; the kernel weighted by the loss, H^½ J Jᵀ H^½, has n times its
nonzero eigenvalues.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PyTree

from jaxtheory import losses, placement
from jaxtheory.checks import boundary, positive, quantity, require
from jaxtheory.empirical.operator import Operator
from jaxtheory.empirical.validation import Function, prepared
from jaxtheory.guarded import norm, over
from jaxtheory.losses import Loss
from jaxtheory.results import Status, finite_status, status_where
from jaxtheory.transport import psd

Targets = Float[Array, "n ..."] | Int[Array, "n ..."]


class Influence(NamedTuple):
    """Influence of each training example on each test loss [m, n], relative residuals of the solves [m], a status."""

    values: Float[Array, "m n"]
    residual: Float[Array, " m"]
    status: Int[Array, ""]


@boundary
@placement.automatic
@jax.default_matmul_precision("highest")
def ggn_operator(f: Function, params: PyTree, x: PyTree, y: Targets, *, loss: str | Loss = "squared") -> Operator:
    r"""v ↦ G v, G = (1/n) Σ_i J_iᵀ H_i J_i, the generalized Gauss-Newton matrix; v of shape [P].

    J_i = ∂f(x_i)/∂θ and H_i = ∂²ℓ(f(x_i), y_i)/∂f². For the squared loss, and for logistic loss and cross-entropy with
    f the logits, G is the Fisher information of the model at these inputs. Where f interpolates, and where f is linear
    in θ, G is the Hessian of the mean loss.

    Args:
        f: `f(params, x) -> outputs`, examples first; it may use the whole batch at once.
        params: a pytree of floating-point arrays of P numbers in all.
        x: n examples, an array or a pytree of arrays.
        y: their n targets or labels, as the loss takes them.
        loss: a name of `losses`, or a function ℓ(prediction, target) of one sample, convex for G ≥ 0.

    Raises:
        ValueError: as `ntk`; a vector that is not [P]; targets that the loss does not take.

    Cost: one forward- and one reverse-mode pass over the batch a product; memory of one gradient of the batch.
    Source: Schraudolph (2002), section 2; Martens (2020), section 9.

    >>> g = ggn_operator(lambda w, x: x @ w, jnp.zeros(2), jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.zeros(2))
    >>> print(g(jnp.array([1.0, 1.0])))
    [0.5 2. ]
    """
    f, params, x, _ = prepared(f, params, x, None, "whole", name="x")
    flat, unravel = ravel_pytree(params)
    out, push = jax.linearize(lambda p: f(unravel(p), x), flat)
    pull = jax.linear_transpose(push, flat)
    slope = lambda prediction: losses.slopes(loss, prediction, y)  # noqa: E731
    unit = _one_if_finite(losses.values(loss, out, y))

    def product(v: Array) -> Array:
        moved = unit * push(_vector(v, flat))
        return pull(jax.jvp(slope, (out,), (moved,))[1])[0] / len(out)

    return placement.automatic(product)


@boundary
@placement.automatic
@jax.default_matmul_precision("highest")
def empirical_fisher_operator(
    f: Function, params: PyTree, x: PyTree, y: Targets, *, loss: str | Loss = "cross_entropy"
) -> Operator:
    r"""v ↦ (1/n) Σ_i g_i g_iᵀ v with g_i = ∇_θ ℓ(f(x_i), y_i) at the given targets; v of shape [P].

    Not the Fisher information, which averages over targets drawn from the model (`ggn_operator` of a logarithmic
    loss): this one vanishes where f interpolates.

    Args, Raises: as `ggn_operator`; no example may depend on another.
    Cost: one forward- and one reverse-mode pass over the batch a product.
    Source: Kunstner, Balles, Hennig (2019), equation 3.

    >>> f = lambda w, x: x @ w
    >>> fisher = empirical_fisher_operator(f, jnp.zeros(2), jnp.eye(2), jnp.array([1.0, 3.0]), loss="squared")
    >>> print(fisher(jnp.array([1.0, 1.0])))
    [0.5 4.5]
    """
    f, params, x, _ = prepared(f, params, x, None, "each", name="x")
    flat, unravel = ravel_pytree(params)
    out, push = jax.linearize(lambda p: losses.values(loss, f(unravel(p), x), y), flat)
    pull = jax.linear_transpose(push, flat)
    return placement.automatic(lambda v: pull(push(_vector(v, flat)))[0] / len(out))


@boundary
@placement.automatic
@jax.default_matmul_precision("highest")
def weighted_ntk_operator(
    f: Function, params: PyTree, x: PyTree, y: Targets, *, loss: str | Loss = "cross_entropy"
) -> Operator:
    r"""v ↦ H^½ J Jᵀ H^½ v: the tangent kernel weighted by a loss, v of the shape of the outputs, [n] or [n, o].

    Its nonzero eigenvalues are n times those of `ggn_operator`; the slowest of them set how fast gradient flow fits.

    Args: as `ggn_operator`, with outputs [n] or [n, o] and a convex loss: a negative eigenvalue of H counts as 0.
    Raises: as `ggn_operator`; outputs of more axes.
    Differentiable in params where H ≥ 0, also where H is singular, as a softmax's is.
    Cost: as `ntk_operator`, and o³ flops an example once. Source: Papyan (2019), section 4.

    >>> theta = weighted_ntk_operator(lambda w, x: x @ w, jnp.zeros(2), jnp.eye(2), jnp.array([1, 0]), loss="logistic")
    >>> print(theta(jnp.array([1.0, 0.0])))
    [0.25 0.  ]
    """
    f, params, x, _ = prepared(f, params, x, None, "whole", name="x")
    out, push = jax.linearize(lambda p: f(p, x), params)
    pull = jax.linear_transpose(push, params)
    hint = "flatten them to one axis"
    require(out.ndim <= 2, "f", f"outputs of shape {out.shape}", "have at most one axis of outputs", hint)
    width = out.size // len(out)
    curvature = losses.curvatures(loss, out, y).reshape(len(out), width, width)
    root = jax.vmap(_positive_root)(_one_if_finite(losses.values(loss, out, y)) * curvature)

    def product(v: Array) -> Array:
        v = jnp.asarray(quantity("v", v, out.dtype)).astype(out.dtype)
        require(v.shape == out.shape, "v", v.shape, f"have the shape of the outputs, {out.shape}", "reshape it")
        return _weigh(root, push(pull(_weigh(root, v))[0]))

    return placement.automatic(product)


@jax.custom_jvp
def _positive_root(matrix: Float[Array, "o o"]) -> Float[Array, "o o"]:
    """H^½ with negative eigenvalues as 0; its derivative, for H ≥ 0, solves R dR + dR R = dH."""
    values, vectors = jnp.linalg.eigh(matrix)
    return psd.product(vectors * jnp.sqrt(jnp.maximum(values, 0))[None], vectors.T)


@_positive_root.defjvp
def _positive_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    found = _positive_root(primals[0])
    return found, psd.sylvester(found, psd.symmetric(tangents[0]))


def _weigh(root: Float[Array, "n o o"], v: Array) -> Array:
    return jnp.einsum("nij,nj->ni", root, v.reshape(len(v), -1), precision="highest").reshape(v.shape)


@boundary
@placement.automatic
@jax.default_matmul_precision("highest")
def influence(
    f: Function,
    params: PyTree,
    x: PyTree,
    y: Targets,
    x_test: PyTree,
    y_test: Float[Array, "m ..."] | Int[Array, "m ..."],
    *,
    damping: float,
    loss: str | Loss = "squared",
    max_steps: int = 1000,
) -> Influence:
    r"""How removing a training example changes each test loss, to first order, by influence functions.

        values_ji = ∇ℓ(test_j)ᵀ (G + damping·I)⁻¹ ∇ℓ(train_i)

    Removing example i from the mean training loss, and its minimizer with it, changes the loss of test example j by
    values_ji / n + O(1/n²); giving it more weight lowers test losses where the value is positive.

    Args:
        f, params, x, y, loss: as in `ggn_operator`, whose G stands for the Hessian; params are a minimum.
        x_test, y_test: m test examples and their targets.
        damping: added to G, positive; the strength of weight decay, ½·damping·|θ|² beside the mean loss, if there was.
        max_steps: of conjugate gradients for a test example.

    Returns:
        `Influence`, with residuals recomputed; NOT_CONVERGED where one exceeds 10⁻⁴ (float32) or 10⁻⁸ (float64).

    Raises:
        ValueError: as `ggn_operator`; a damping that is not positive.

    Cost: for each test example as many products with G as steps (about √(λ_max/damping) · log 1/ε), taken one test
    example after another: memory of one gradient of the batch, and 6 vectors [P].
    Source: Koh and Liang (2017), equation 2; Bae et al. (2022) for G in place of the Hessian.

    >>> f, w, x, y = lambda w, x: x @ w, jnp.array([0.6]), jnp.array([[1.0], [2.0]]), jnp.array([1.0, 1.0])
    >>> found = influence(f, w, x, y, jnp.array([[1.0]]), jnp.array([2.0]), damping=1e-6)
    >>> print(found.values.round(3), int(found.status))
    [[ 0.224 -0.224]] 0
    """
    _require_pairs(x_test, y_test)
    damping = positive(
        "damping", damping, "use the weight decay of the training, or a small share of the largest eigenvalue"
    )
    require(max_steps >= 1, "max_steps", max_steps, "be >= 1", "allow a few hundred")
    product = ggn_operator(f, params, x, y, loss=loss)
    x = prepared(f, params, x, None, "each", name="x")[2]
    f, params, x_test, _ = prepared(f, params, x_test, None, "each", name="x_test")
    flat, unravel = ravel_pytree(params)
    train = lambda p: losses.values(loss, f(unravel(p), x), y)  # noqa: E731
    _, push = jax.linearize(train, flat)
    apply = lambda v: product(v) + damping * v  # noqa: E731
    tolerance = 1e-4 if flat.dtype == jnp.float32 else 1e-8

    def one(example: PyTree, target: Array) -> tuple[Array, Array]:
        batch = jax.tree.map(lambda a: a[None], example)
        gradient = jax.grad(lambda p: losses.values(loss, f(unravel(p), batch), target[None])[0])(flat)
        scale = norm(gradient)
        unit = over(gradient, scale)
        solved = jax.scipy.sparse.linalg.cg(apply, unit, tol=tolerance / 10, maxiter=max_steps)[0]
        return scale * push(solved), norm(apply(solved) - unit)

    values, residual = jax.lax.map(lambda pair: one(*pair), (x_test, y_test))
    return Influence(
        values, residual, finite_status(values, status_where((~(residual <= tolerance).all(), Status.NOT_CONVERGED)))
    )


def _one_if_finite(values: Array) -> Array:
    """1, or NaN where a loss is not finite: a curvature may not depend on the targets, but needs valid ones."""
    return jnp.where(jnp.isfinite(values).all(), jnp.ones((), values.dtype), jnp.full((), jnp.nan, values.dtype))


def _require_pairs(x_test: PyTree, y_test: Array) -> None:
    counts = [np.shape(leaf)[:1] for leaf in (*jax.tree.leaves(x_test), y_test)]
    hint = "pass one target for each test example"
    require(len(set(counts)) == 1, "y_test", np.shape(y_test), f"be as many as x_test, {counts[0]}", hint)


def _vector(v: ArrayLike, like: Array) -> Array:
    v = jnp.asarray(quantity("v", v, like.dtype)).astype(like.dtype)
    hint = "flatten it by jax.flatten_util.ravel_pytree"
    require(v.shape == like.shape, "v", v.shape, f"be a flat vector of the {like.size} parameters", hint)
    return v
