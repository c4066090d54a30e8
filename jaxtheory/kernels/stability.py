"""The largest stable step of gradient descent in the lazy regime."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxtheory import losses
from jaxtheory.checks import boundary, require, within
from jaxtheory.guarded import dot, power_of_two
from jaxtheory.kernels.functions import widest
from jaxtheory.kernels.layouts import coupled
from jaxtheory.kernels.matrix_functions import eigenpairs
from jaxtheory.losses import Loss

# sup of the largest eigenvalue of the second derivative of one example
_CURVATURE: dict[Loss, float] = {losses.squared: 1.0, losses.logistic: 0.25, losses.cross_entropy: 0.5}


@boundary
def max_learning_rate(
    kernel: Float[Array, "p p ..."],
    *,
    loss: str | Loss = "squared",
    momentum: float | Float[Array, ""] = 0.0,
    outputs: Float[Array, "n ..."] | None = None,
    targets: Float[Array, "n ..."] | None = None,
) -> Float[Array, ""]:
    r"""The step size above which gradient descent with momentum on Σ ℓ(f_i, y_i) is unstable, with a constant kernel.

        η_max = 2 (1 + μ) / λ_max(Θ H),   H = diag ∂²ℓ/∂f² at `outputs` and `targets`

    Without outputs, H is replaced by the largest curvature anywhere, c I: 1 of the squared loss, 1/4 of the logistic,
    1/2 of the cross-entropy of a softmax. Every smaller step then converges on a convex loss
    without momentum; with momentum that is shown for the squared loss, and near a minimum for others. For a mean over
    n examples multiply by n.

    Args:
        kernel: Θ(x, x), [n n], or [n o, n o] or [n n o o] where outputs couple.
        loss: as in `gradient_flow`; a function needs `outputs` and `targets`.
        momentum: μ in [0, 1].
        outputs, targets: f and y of the same shape, both or neither.

    Returns:
        η_max; infinite where ΘH has no positive eigenvalue; NaN for a kernel that is asymmetric or indefinite.

    Raises:
        ValueError: shapes, momentum out of its range, a loss without a known curvature and no outputs.

    Derivatives: first, where the largest eigenvalue is simple.

    Cost: one eigendecomposition of Θ; with outputs another one of size n o. Source: Polyak (1964), section 2.

    >>> f"{max_learning_rate(jnp.diag(jnp.array([1.0, 4.0])), momentum=0.5):.2f}"
    '0.75'
    """
    momentum = within("momentum", momentum, 0.0, 1.0, "use 0.0 for plain gradient descent")
    each = losses.resolve(loss)
    both = (outputs is None) == (targets is None)
    require(both, "targets", "one of outputs and targets", "be given with outputs", "pass both or neither")
    if outputs is None or targets is None:
        bounded = any(each is named for named in _CURVATURE)
        require(bounded, "outputs", None, "be given for a loss of unknown curvature", "pass outputs and targets")
        count = math.isqrt(kernel.shape[2] * kernel.shape[3]) if kernel.ndim == 4 else 1
        matrix = coupled("kernel", kernel, count)
        require(matrix.shape[0] == matrix.shape[1] >= 1, "kernel", matrix.shape, "be square", "pass Θ(x, x)")
        return _limit(matrix, jnp.asarray(_CURVATURE[each], matrix.dtype), momentum)
    require(outputs.ndim >= 1 and outputs.size >= 1, "outputs", outputs.shape, "hold one a point", "pass f(x)")
    fits = targets.shape == outputs.shape
    require(fits, "targets", targets.shape, f"have the shape of outputs, {outputs.shape}", "pass one a point")
    return _local(each, kernel, momentum, outputs, targets)


def _limit(matrix: Array, curvature: Array, momentum: Array | float) -> Array:
    """2(1 + μ)/(c λ_max) in units of the kernel."""
    unit = power_of_two(matrix)
    largest = eigenpairs(matrix / unit).values[-1]
    return _quotient(momentum, curvature * largest) / unit


def _local(loss: Loss, kernel: Array, momentum: Array | float, outputs: Array, targets: Array) -> Array:
    n, each = outputs.shape[0], math.prod(outputs.shape[1:])
    matrix = coupled("kernel", kernel, each)
    fits = matrix.shape in ((n, n), (n * each, n * each))
    require(fits, "kernel", matrix.shape, f"be {n} by {n} or {n * each} by {n * each}", "check the outputs")
    dtype = widest(matrix.dtype, outputs.dtype, targets.dtype)
    matrix, outputs, targets = (array.astype(dtype) for array in (matrix, outputs, targets))
    if matrix.shape[0] == n:
        matrix = jnp.kron(matrix, jnp.eye(each, dtype=dtype))
    hessian = losses.curvatures(loss, outputs, targets).reshape(n, each, each)
    unit = power_of_two(matrix)
    matrix = matrix / unit

    def curved(x: Array) -> Array:
        return jnp.einsum("iab,ib...->ia...", hessian, x.reshape(n, each, -1), precision="highest").reshape(x.shape)

    pairs = eigenpairs(jax.lax.stop_gradient(matrix))
    root = pairs.vectors * jnp.sqrt(pairs.values)[None]
    product = dot(root.T, curved(root))
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient((product + product.T) / 2))
    # right and left eigenvectors x, Hx of ΘH, held fixed: the derivative is that of a simple eigenvalue
    right = dot(root, vectors[:, -1])
    left = jax.lax.stop_gradient(curved(right))
    moved = dot(matrix, curved(right))
    finite = jnp.isfinite(outputs).all() & jnp.isfinite(targets).all()
    flat = values[-1] <= 0
    overlap = jnp.where(flat, jnp.ones_like(unit), dot(left, right))
    largest = jnp.where(flat, jnp.zeros_like(unit), dot(left, moved) / overlap)
    return _quotient(momentum, jnp.where(finite, largest, jnp.full_like(largest, jnp.nan))) / unit


def _quotient(momentum: Array | float, largest: Array) -> Array:
    top = 2 * (1 + jnp.asarray(momentum, largest.dtype))
    # NaN stays NaN
    safe = jnp.where(largest <= 0, jnp.ones_like(largest), largest)
    return jnp.where(largest <= 0, jnp.inf, top / safe)
