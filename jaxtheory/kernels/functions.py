"""Kernel functions: factories that return `kernel(x1, x2) -> [n1 n2]`.

Each kernel is a `jax.tree_util.Partial`, so its parameters are leaves of a pytree: changing a bandwidth does not
compile again, and gradients reach it. Points are [n d], or [n] for [n, 1]; integers are computed with as floats.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from jaxtheory.activations.angle import angle
from jaxtheory.checks import boundary, holds, nonnegative, positive, quantity, require
from jaxtheory.guarded import norm, over, root
from jaxtheory.kernels.scales import common_unit

Kernel = Callable[..., Array]
_LENGTH = "use a length scale of the data, e.g. bandwidth=1.0"


@boundary
def gaussian(bandwidth: float | Float[Array, "..."] = 1.0) -> Kernel:
    r"""Gaussian kernel exp(−½ Σ_k ((x_k − x'_k)/ℓ_k)²).

    scikit-learn's `rbf` with gamma = 1/(2ℓ²).

    Args:
        bandwidth: ℓ > 0 in the units of x: one number, or [d], one for each dimension.

    Raises:
        ValueError: ℓ not positive and finite (NaN inside jit), or of another length than the points.

    Valid at any scale of x/ℓ; see `squared_distances` for its rounding. Cost: 2 n1 n2 d flops, n1 n2 memory.
    Source: Rasmussen and Williams (2006), equations 4.9 and 5.2.

    >>> f"{gaussian(1.0)(jnp.array([[0.0]]), jnp.array([[1.0]]))[0, 0]:.4f}"
    '0.6065'
    """
    return Partial(_gaussian, bandwidth=_lengths(bandwidth))


def laplace(bandwidth: float | Float[Array, "..."] = 1.0) -> Kernel:
    r"""Laplace kernel exp(−r), r = √(Σ_k ((x_k − x'_k)/ℓ_k)²): the Matérn kernel of smoothness 1/2.

    The distance is Euclidean (scikit-learn's `laplacian` takes the ℓ¹ distance: another kernel in dimension ≥ 2). It
    has no derivative in x at coincident points, where 0 is returned. Arguments, errors and cost as in `gaussian`.
    Source: Rasmussen and Williams (2006), equation 4.18.

    >>> f"{laplace(2.0)(jnp.array([[0.0]]), jnp.array([[1.0]]))[0, 0]:.4f}"
    '0.6065'
    """
    return matern(0.5, bandwidth)


@boundary(static=("smoothness",))
def matern(smoothness: float, bandwidth: float | Float[Array, "..."] = 1.0) -> Kernel:
    r"""Matérn kernel with ν = `smoothness` in {1/2, 3/2, 5/2} and z = √(2ν Σ_k ((x_k − x'_k)/ℓ_k)²).

        ν = 1/2: e^(−z),   ν = 3/2: (1 + z) e^(−z),   ν = 5/2: (1 + z + z²/3) e^(−z)

    First and second derivatives are exact at coincident points for ν = 3/2 and 5/2: there the Hessian in x is −3/ℓ² I
    and −5/(3ℓ²) I.

    Args:
        smoothness: ν, static.
        bandwidth: ℓ > 0 in the units of x: one number, or [d], one for each dimension.

    Raises:
        ValueError: another ν, ℓ not positive and finite (NaN inside jit), or of another length than the points.

    Cost: as `gaussian`. Source: Rasmussen and Williams (2006), equations 4.14-4.17.

    >>> f"{matern(1.5)(jnp.array([[0.0]]), jnp.array([[1.0]]))[0, 0]:.4f}"
    '0.4834'
    """
    hint = "use gaussian() for a smooth kernel"
    require(smoothness in _MATERN, "smoothness", smoothness, "be 0.5, 1.5 or 2.5", hint)
    return Partial(_MATERN[smoothness], bandwidth=_lengths(bandwidth))


@boundary(static=("order",))
def arc_cosine(order: int = 1) -> Kernel:
    r"""Arc-cosine kernel 2 E[φ(w·x) φ(w·x')], φ(z) = max(z, 0)^order, w ~ N(0, I), order in {0, 1, 2}.

        k = ‖x‖^order ‖x'‖^order J(θ) / π,  θ the angle,  J₀ = π − θ,  J₁ = sin θ + (π − θ) cos θ,
        J₂ = 3 sin θ cos θ + (π − θ)(1 + 2 cos² θ)

    Order 1 has k(x, x) = ‖x‖²: the covariance of a wide ReLU layer with He weights. A zero input has the angle π/2 and
    no derivative (0 is returned); order 0 has no derivative where x and x' are parallel.

    Raises ValueError for another order. Cost: 2 n1 n2 d flops, n1 n2 memory.
    Source: Cho and Saul (2009), equations 3-8.

    >>> f"{arc_cosine(1)(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]))[0, 0]:.4f}"
    '0.3183'
    """
    require(order in _ARC_COSINE, "order", order, "be 0, 1 or 2", "use order=1 for a ReLU layer")
    return Partial(_ARC_COSINE[order])


@boundary(static=("degree",))
def polynomial(degree: int, offset: float | Float[Array, ""] = 1.0, scale: float | Float[Array, ""] = 1.0) -> Kernel:
    r"""Polynomial kernel (scale · x·x' + offset)^degree, degree ≥ 1, offset ≥ 0 and scale > 0.

    Raises ValueError outside that range, where the kernel is not positive semidefinite (NaN inside jit).
    Cost: 2 n1 n2 d flops, n1 n2 memory. Source: Schölkopf and Smola (2002), section 2.1.

    >>> f"{polynomial(2)(jnp.array([[1.0]]), jnp.array([[2.0]]))[0, 0]:.1f}"
    '9.0'
    """
    require(degree >= 1, "degree", degree, "be at least 1", "use degree=1 for the linear kernel")
    scale = positive("scale", scale, "use scale=1.0")
    offset = nonnegative("offset", offset, "use offset=0.0 for a homogeneous kernel")
    # one function object for each degree, so that jit recognises a kernel that is built again
    return Partial(_POLYNOMIAL.setdefault(degree, partial(_polynomial, degree)), offset=offset, scale=scale)


@boundary
def precomputed(gram: Float[Array, "p p"]) -> Kernel:
    """A Gram matrix as a kernel function of integer indices: kernel(i, j) = gram[i][:, j].

    With the Gram of training and test points together, fit on some indices and predict on others.

    Raises:
        ValueError: a matrix that is not square; when called, indices that are no integers or outside 0..p − 1 (NaN
            inside jit).

    Cost: n1 n2 memory.

    >>> f"{precomputed(jnp.eye(3))(jnp.array([0, 1]), jnp.array([1])).ravel()}"
    '[0. 1.]'
    """
    require(gram.shape[0] == gram.shape[1], "gram", gram.shape, "be square", "pass K(x, x)")
    return Partial(_indexed, gram)


def is_indexed(kernel: Any) -> bool:
    """Whether a kernel takes indices, as those of `precomputed` do.

    >>> is_indexed(precomputed(jnp.eye(2))), is_indexed(gaussian())
    (True, False)
    """
    return isinstance(kernel, Partial) and kernel.func is _indexed


def widest(*dtypes: Any) -> Any:
    """float64 if it is among the dtypes, else float32: what numbers of all of them are computed in.

    >>> widest(jnp.bfloat16, jnp.float32)
    dtype('float32')
    """
    return jnp.dtype("float64") if jnp.dtype("float64") in map(jnp.dtype, dtypes) else jnp.dtype("float32")


def squared_distances(x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"]) -> Float[Array, "n1 n2"]:
    """‖x − x'‖² for all pairs; coincident points have distance exactly 0, whatever the rounding.

    Up to d = 4 from differences. Beyond, ‖u‖² + ‖u'‖² − 2 u·u' of the points about the mean c of x1, at the highest
    matmul precision; a value below its own rounding error, 8 ε (‖x − c‖² + ‖x' − c‖²), is 0. First and second
    derivatives are those of differences.

    >>> f"{squared_distances(jnp.array([[0.0]]), jnp.array([[3.0]]))[0, 0]:.1f}"
    '9.0'
    """
    if x1.shape[1] <= 4:
        return jnp.sum((x1[:, None] - x2[None]) ** 2, axis=-1)
    unit = common_unit(x1, x2)  # squares of large numbers overflow
    u1, u2 = x1 / unit, x2 / unit
    usual = jnp.where(jnp.isfinite(u1), u1, jnp.zeros_like(u1))
    centre = jax.lax.stop_gradient(jnp.sum(usual, axis=0, keepdims=True) / max(x1.shape[0], 1))
    u1, u2 = u1 - centre, u2 - centre
    scale = jnp.sum(u1**2, axis=1)[:, None] + jnp.sum(u2**2, axis=1)[None]
    squares = scale - 2 * jnp.matmul(u1, u2.T, precision="highest")
    noise = jnp.where(squares <= 8 * float(jnp.finfo(x1.dtype).eps) * scale, squares, jnp.zeros_like(squares))
    # the value becomes 0 and the derivatives stay
    return (squares - jax.lax.stop_gradient(noise)) * unit * unit


def _lengths(bandwidth: Any) -> Any:
    shape = jnp.shape(bandwidth)
    require(len(shape) <= 1, "bandwidth", shape, "be one number or one for each dimension", "use jax.vmap for several")
    return positive("bandwidth", bandwidth, _LENGTH)


def pair_of_points(x1: Any, x2: Any) -> tuple[Array, Array]:
    """Two sets of points [n d] of one floating dtype; [n] is [n, 1]."""
    floating = [x.dtype for x in (x1, x2) if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)]
    dtype = widest(*floating) if floating else jnp.result_type(float)
    one, other = (jnp.asarray(quantity(name, x)).astype(dtype) for name, x in (("x1", x1), ("x2", x2)))
    one, other = (x[:, None] if x.ndim == 1 else x for x in (one, other))
    for name, x in (("x1", one), ("x2", other)):
        require(x.ndim == 2, name, f"shape {x.shape}", "hold points [n d]", "reshape it, e.g. by x.reshape(len(x), -1)")
    alike = other.shape[1] == one.shape[1]
    require(alike, "x2", f"shape {other.shape}", f"hold points of {one.shape[1]} coordinates", "use the same columns")
    return one, other


def _scaled_squares(x1: Any, x2: Any, bandwidth: Any) -> Array:
    x1, x2 = pair_of_points(x1, x2)
    lengths = jnp.asarray(bandwidth, x1.dtype)
    fits = lengths.shape in ((), x1.shape[1:])
    require(fits, "bandwidth", f"shape {lengths.shape}", f"be one number or {x1.shape[1]} numbers", "pass one each")
    lengths = lengths if lengths.ndim == 0 else lengths[None]
    return squared_distances(x1 / lengths, x2 / lengths)


@jax.jit
def _gaussian(x1: Array, x2: Array, bandwidth: Any) -> Array:
    return jnp.exp(-_scaled_squares(x1, x2, bandwidth) / 2)


@jax.jit
def _matern12(x1: Array, x2: Array, bandwidth: Any) -> Array:
    return _matern(0, _scaled_squares(x1, x2, bandwidth))


@jax.jit
def _matern32(x1: Array, x2: Array, bandwidth: Any) -> Array:
    return _matern(1, 3 * _scaled_squares(x1, x2, bandwidth))


@jax.jit
def _matern52(x1: Array, x2: Array, bandwidth: Any) -> Array:
    return _matern(2, 5 * _scaled_squares(x1, x2, bandwidth))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _matern(order: int, square: Array) -> Array:
    """m₀ = e^(−z), m₁ = (1 + z) e^(−z), m₂ = (1 + z + z²/3) e^(−z) at z = √square.

    Their derivatives in z² are −m₀/(2z), −m₀/2 and −m₁/6, with no quotient at z = 0 but in the first.
    """
    z = root(square)
    return [jnp.ones_like(z), 1 + z, 1 + z + z**2 / 3][order] * jnp.exp(-z)


@_matern.defjvp
def _matern_jvp(order: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (square,), (tangent,) = primals, tangents
    value = _matern(order, square)
    slope = over(value, 2 * root(square)) if order == 0 else _matern(order - 1, square) / (2, 6)[order - 1]
    return value, -slope * tangent


@partial(jax.jit, static_argnames="order")
def _arc_cosine(x1: Array, x2: Array, order: int) -> Array:
    x1, x2 = pair_of_points(x1, x2)
    size1, size2 = (norm(x, axis=1, keepdims=True) for x in (x1, x2))
    cosine = jnp.matmul(over(x1, size1), over(x2, size2).T, precision="highest")
    # parallel within rounding is parallel; the derivative is that of the unchanged cosine
    parallel = jnp.abs(cosine) >= 1 - 8 * float(jnp.finfo(cosine.dtype).eps)
    cosine = cosine + jax.lax.stop_gradient(jnp.where(parallel, jnp.sign(cosine) - cosine, jnp.zeros_like(cosine)))
    return (size1 * size2.T) ** order * _angular(order, cosine) / math.pi


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _angular(order: int, cosine: Array) -> Array:
    """J of `arc_cosine` as a function of cos θ: J₁' = J₀, J₂' = 4 J₁, J₀' = 1/sin θ (0 where sin θ = 0)."""
    sine = root((1 - cosine) * (1 + cosine))
    rest = math.pi / 2 + angle(cosine, sine)
    if order == 0:
        return rest
    return sine + rest * cosine if order == 1 else 3 * sine * cosine + rest * (1 + 2 * cosine**2)


@_angular.defjvp
def _angular_jvp(order: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (cosine,), (tangent,) = primals, tangents
    if order == 0:
        slope = over(jnp.ones_like(cosine), root((1 - cosine) * (1 + cosine)))
    else:
        slope = order**2 * _angular(order - 1, cosine)
    return _angular(order, cosine), slope * tangent


@partial(jax.jit, static_argnums=0)
def _polynomial(degree: int, x1: Array, x2: Array, offset: Any, scale: Any) -> Array:
    x1, x2 = pair_of_points(x1, x2)
    offset, scale = jnp.asarray(offset, x1.dtype), jnp.asarray(scale, x1.dtype)
    return (scale * jnp.matmul(x1, x2.T, precision="highest") + offset) ** degree


def as_indices(name: str, values: Any, size: int) -> Int[Array, " n"]:
    """Indices into a Gram matrix of `size` points: integers [n]; those outside become `size` inside jit.

    >>> as_indices("x", [0, 2], 3)
    Array([0, 2], dtype=int32)
    """
    quantity(name, values)
    values = jnp.asarray(values)
    whole = jnp.issubdtype(values.dtype, jnp.integer) and values.ndim == 1
    what, hint = f"{values.dtype} of shape {values.shape}", "pass integers, or a kernel function of points"
    require(whole, name, what, "hold indices [n] into the Gram matrix", hint)
    inside = holds(lambda i: (i >= 0) & (i < size), values)
    require(inside, name, values, f"hold indices in 0..{size - 1}", "pass the Gram matrix of all points")
    values = values.astype(int)
    return jnp.where((values >= 0) & (values < size), values, size)


def _indexed(gram: Float[Array, "p p"], rows: Int[Array, " n1"], columns: Int[Array, " n2"]) -> Array:
    rows, columns = (as_indices(name, i, gram.shape[0]) for name, i in (("x1", rows), ("x2", columns)))
    return gram.at[rows].get(mode="fill", fill_value=jnp.nan).at[:, columns].get(mode="fill", fill_value=jnp.nan)


_MATERN = {0.5: _matern12, 1.5: _matern32, 2.5: _matern52}
_ARC_COSINE = {order: partial(_arc_cosine, order=order) for order in (0, 1, 2)}
_POLYNOMIAL: dict[int, Callable[..., Array]] = {}
