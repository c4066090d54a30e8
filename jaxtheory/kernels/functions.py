"""Kernel functions: factories that return `kernel(x1, x2) -> [n1 n2]`.

Each kernel is a `jax.tree_util.Partial`, so its parameters are leaves of a pytree: changing a bandwidth does not
compile again, and gradients reach it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, Int

from jaxtheory.activations.angle import angle
from jaxtheory.checks import known, require
from jaxtheory.guarded import root

Kernel = Callable[..., Array]
Scalar = float | Float[Array, ""]


def gaussian(bandwidth: Scalar = 1.0) -> Kernel:
    r"""Gaussian kernel exp(−‖x − x'‖² / (2 ℓ²)), ℓ = `bandwidth` > 0 in the units of x.

    scikit-learn's `rbf` with gamma = 1/(2ℓ²). Cost: 2 n1 n2 d flops, n1 n2 memory.
    Source: Rasmussen and Williams (2006), equation 4.9.

    >>> f"{gaussian(1.0)(jnp.array([[0.0]]), jnp.array([[1.0]]))[0, 0]:.4f}"
    '0.6065'
    """
    _require_positive("bandwidth", bandwidth)
    return Partial(_gaussian, bandwidth=bandwidth)


def laplace(bandwidth: Scalar = 1.0) -> Kernel:
    r"""Laplace kernel exp(−‖x − x'‖₂ / ℓ), the Matérn kernel of smoothness 1/2.

    The distance is Euclidean (scikit-learn's `laplacian` takes the ℓ¹ distance: another kernel in dimension ≥ 2).
    Raises ValueError for ℓ ≤ 0. Source: Rasmussen and Williams (2006), equation 4.18.

    >>> f"{laplace(2.0)(jnp.array([[0.0]]), jnp.array([[1.0]]))[0, 0]:.4f}"
    '0.6065'
    """
    return matern(0.5, bandwidth)


def matern(smoothness: float, bandwidth: Scalar = 1.0) -> Kernel:
    r"""Matérn kernel with ν = `smoothness` in {1/2, 3/2, 5/2} and z = √(2ν) ‖x − x'‖ / ℓ.

        ν = 1/2: e^(−z),   ν = 3/2: (1 + z) e^(−z),   ν = 5/2: (1 + z + z²/3) e^(−z)

    Raises ValueError for another ν or for ℓ ≤ 0. Source: Rasmussen and Williams (2006), equations 4.14-4.17.

    >>> f"{matern(1.5)(jnp.array([[0.0]]), jnp.array([[1.0]]))[0, 0]:.4f}"
    '0.4834'
    """
    require(smoothness in _MATERN, "smoothness", smoothness, "be 0.5, 1.5 or 2.5", "use gaussian() for infinity")
    _require_positive("bandwidth", bandwidth)
    return Partial(_MATERN[smoothness], bandwidth=bandwidth)


def arc_cosine(order: int = 1) -> Kernel:
    r"""Arc-cosine kernel 2 E[φ(w·x) φ(w·x')], φ(z) = max(z, 0)^order, w ~ N(0, I), order in {0, 1, 2}.

        k = ‖x‖^order ‖x'‖^order J(θ) / π,  θ the angle,  J₀ = π − θ,  J₁ = sin θ + (π − θ) cos θ,
        J₂ = 3 sin θ cos θ + (π − θ)(1 + 2 cos² θ)

    Order 1 has k(x, x) = ‖x‖²: the covariance of a wide ReLU layer with He weights. A zero input has the angle π/2.
    Source: Cho and Saul (2009), equations 3-8.

    >>> f"{arc_cosine(1)(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]))[0, 0]:.4f}"
    '0.3183'
    """
    require(order in _ANGULAR, "order", order, "be 0, 1 or 2", "those have the closed forms of Cho and Saul")
    return Partial(_ARC_COSINE[order])


def polynomial(degree: int, offset: Scalar = 1.0, scale: Scalar = 1.0) -> Kernel:
    r"""Polynomial kernel (scale · x·x' + offset)^degree, degree ≥ 1, offset ≥ 0 and scale > 0.

    Raises ValueError outside that range, where the kernel is not positive semidefinite.
    Source: Schölkopf and Smola (2002), section 2.1.

    >>> f"{polynomial(2)(jnp.array([[1.0]]), jnp.array([[2.0]]))[0, 0]:.1f}"
    '9.0'
    """
    require(degree >= 1, "degree", degree, "be at least 1", "degree 1 is the linear kernel")
    _require_positive("scale", scale)
    if known(offset):
        require(float(offset) >= 0, "offset", offset, "be >= 0 for a positive kernel", "use offset=0.0")
    return Partial(_POLYNOMIAL.setdefault(degree, partial(_polynomial, degree)), offset=offset, scale=scale)


def precomputed(gram: Float[Array, "n n"]) -> Kernel:
    """A Gram matrix as a kernel function of integer indices: kernel(i, j) = gram[i][:, j].

    With the Gram of training and test points together, fit on some indices and predict on others.

    >>> f"{precomputed(jnp.eye(3))(jnp.array([0, 1]), jnp.array([1])).ravel()}"
    '[0. 1.]'
    """
    require(gram.ndim == 2 and gram.shape[0] == gram.shape[1], "gram", gram.shape, "be square", "pass K(x, x)")
    return Partial(_indexed, gram)


def as_kernel(kernel: Kernel | Array, x: Array | None) -> tuple[Any, Array]:
    """The pytree kernel and its points, whether `kernel` is a function, or a Gram matrix (then x = None or indices)."""
    if not callable(kernel):
        gram = jnp.asarray(kernel)
        return precomputed(gram), jnp.arange(gram.shape[0]) if x is None else jnp.asarray(x)
    require(x is not None, "x", None, "hold the points of a kernel function", "only a Gram matrix goes without x")
    return kernel if isinstance(kernel, Partial) else Partial(kernel), jnp.asarray(x)


def require_problem(kernel: Any, x: Array, y: Array) -> None:
    """The eager shape checks of a regression: points, as many targets, a kernel of all pairs."""
    require(x.shape[0] >= 1, "x", x.shape, "hold at least one point", "pass data")
    require(x.shape[0] == y.shape[0], "y", y.shape, f"have {x.shape[0]} rows, one a point", "check x and y")
    shape, square = jax.eval_shape(kernel, x, x).shape, (x.shape[0], x.shape[0])
    require(shape == square, "kernel(x, x)", shape, f"have the shape {square}", "return one number a pair of points")


def asymmetric(one: Float[Array, "n m"], other: Float[Array, "n m"]) -> Bool[Array, ""]:
    """Whether ‖A − B‖ > √ε ‖A‖: more than rounding, which a distance's square root makes √ε, lets K differ from Kᵀ.

    A and B are K and Kᵀ, or their products with one random vector.

    >>> bool(asymmetric(jnp.ones((1, 2)), jnp.zeros((1, 2))))
    True
    """
    return jnp.linalg.norm(one - other) > float(jnp.finfo(one.dtype).eps) ** 0.5 * jnp.linalg.norm(one)


def squared_distances(x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"]) -> Float[Array, "n1 n2"]:
    """‖x − x'‖² for all pairs; coincident points have distance exactly 0, whatever the rounding.

    Up to d = 4 from differences. Beyond, ‖x‖² + ‖x'‖² − 2 x·x' at the highest matmul precision, where a value below its
    own rounding error, 8 ε (‖x‖² + ‖x'‖²), is 0: centre data that lie far from the origin.

    >>> f"{squared_distances(jnp.array([[0.0]]), jnp.array([[3.0]]))[0, 0]:.1f}"
    '9.0'
    """
    if x1.shape[1] <= 4:
        return jnp.sum((x1[:, None] - x2[None]) ** 2, axis=-1)
    scale = jnp.sum(x1**2, axis=1)[:, None] + jnp.sum(x2**2, axis=1)[None]
    squares = scale - 2 * jnp.matmul(x1, x2.T, precision="highest")
    return jnp.where(squares <= 8 * float(jnp.finfo(x1.dtype).eps) * scale, jnp.zeros_like(squares), squares)


def _distances(x1: Array, x2: Array, bandwidth: Any) -> Array:
    squares = squared_distances(x1, x2)
    return root(squares) / bandwidth


def _gaussian(x1: Array, x2: Array, bandwidth: Any) -> Array:
    return jnp.exp(-squared_distances(x1, x2) / (2 * bandwidth**2))


def _matern12(x1: Array, x2: Array, bandwidth: Any) -> Array:
    return jnp.exp(-_distances(x1, x2, bandwidth))


def _matern32(x1: Array, x2: Array, bandwidth: Any) -> Array:
    z = math.sqrt(3) * _distances(x1, x2, bandwidth)
    return (1 + z) * jnp.exp(-z)


def _matern52(x1: Array, x2: Array, bandwidth: Any) -> Array:
    z = math.sqrt(5) * _distances(x1, x2, bandwidth)
    return (1 + z + z**2 / 3) * jnp.exp(-z)


def _arc_cosine(x1: Array, x2: Array, *, order: int) -> Array:
    norms = jnp.linalg.norm(x1, axis=1)[:, None] * jnp.linalg.norm(x2, axis=1)[None]
    products = jnp.matmul(x1, x2.T, precision="highest")
    cosine = jnp.clip(products / jnp.where(norms == 0, jnp.ones_like(norms), norms), -1, 1)
    # the angle from the sine's square root: arccos has an infinite derivative at the diagonal, where sin θ = 0
    sine = root((1 - cosine) * (1 + cosine))
    return norms**order * _ANGULAR[order](math.pi / 2 + angle(cosine, sine), sine, cosine) / math.pi


def _polynomial(degree: int, x1: Array, x2: Array, offset: Any, scale: Any) -> Array:
    return (scale * jnp.matmul(x1, x2.T, precision="highest") + offset) ** degree


def _indexed(gram: Float[Array, "n n"], rows: Int[Array, " n1"], columns: Int[Array, " n2"]) -> Array:
    return gram[rows][:, columns]


def _require_positive(name: str, value: Any) -> None:
    if known(value):
        require(float(value) > 0, name, value, "be > 0", "use a length scale of the data")


_MATERN = {0.5: _matern12, 1.5: _matern32, 2.5: _matern52}
_ANGULAR: dict[int, Callable[[Array, Array, Array], Array]] = {  # of π − θ, sin θ, cos θ
    0: lambda rest, sine, cosine: rest,
    1: lambda rest, sine, cosine: sine + rest * cosine,
    2: lambda rest, sine, cosine: 3 * sine * cosine + rest * (1 + 2 * cosine**2),
}
# One function object for each order or degree, so that jit recognises a kernel that is built again.
_ARC_COSINE = {order: partial(_arc_cosine, order=order) for order in _ANGULAR}
_POLYNOMIAL: dict[int, Callable[..., Array]] = {}
