"""Random features: a two-layer network whose first layer stays as it was drawn.

The columns are nested: column j depends on the key and on j alone, so that a narrow draw is the beginning of a
wide one, and a path over widths is a path over prefixes.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from jaxtheory.activations.named import elementwise
from jaxtheory.checks import boundary, constrain, keep_nan, nonnegative, positive, require

Law = Literal["gaussian", "sphere"]


class FeatureWeights(NamedTuple):
    """Directions θ_j, one a row, a standard Gaussian g_j and a phase u_j uniform in [0, 2π) for each feature."""

    directions: Float[Array, "width features"]
    gaussian: Float[Array, " width"]
    phase: Float[Array, " width"]


@boundary(static=("width",))
def random_features(
    x: Float[Array, "samples d"],
    width: int,
    key: Key[Array, ""],
    *,
    activation: str | Callable[[Array], Array],
    scale: float | Float[Array, ""] = 1.0,
    bias: float | Float[Array, ""] = 0.0,
    weights: Law = "gaussian",
) -> Float[Array, "samples {width}"]:
    r"""Features of each point: Z_ij = σ(s ⟨x_i, θ_j⟩ / √d + b g_j), not divided by √width.

    Z Zᵀ / width tends to the kernel E_θ σ(·)σ(·)ᵀ, entry by entry, with an error of order width^(−1/2), so that the
    kernel's ridge is width · ridge of these features (`double_descent.width_ridge`). With inputs
    of norm √d, as `data.sphere` makes them, and `weights="sphere"`, b = 0, s = 1, Z is the design of Mei and Montanari.

    The activation "cos" means random Fourier features: Z_ij = √2 cos(s ⟨x_i, θ_j⟩ / √d + u_j), u_j uniform in
    [0, 2π), whose kernel under Gaussian weights is exp(−s² ‖x − x'‖² / (2d)): length scale √d / s. For the plain
    cosine pass the function `jnp.cos`.

    Args:
        x: [n, d], or [n] for [n, 1]; the result has its dtype. A float64 draw differs from a float32 one.
        width: P ≥ 1, static under jit.
        key: threefry, JAX's default. The same key gives training and test points the same features; the
            first p columns are those of width p, to round-off.
        activation: σ, a name that `activations.resolve` knows or an elementwise function; each new function
            object is compiled anew.
        scale: s > 0, an inverse length scale; may be traced.
        bias: b ≥ 0, the standard deviation of the bias; may be traced.
        weights: the law of θ_j: "gaussian" N(0, I), or "sphere", uniform of norm √d. Static under jit.

    Returns:
        Z [n, P]. Not finite where `x`, `scale` or `bias` is not, inside jit.

    Raises:
        ValueError: inputs that are not finite, no width, an unknown activation or law of the
            weights, a scale ≤ 0, a bias < 0, another kind of key.

    Cost: O(n · d · P) flops; memory n · P + d · P numbers beside the inputs.
    Source: Rahimi and Recht (2007), section 3; Mei and Montanari (2022), section 1.

    >>> x = jnp.array([[1.0, 1.0], [1.0, -1.0]])
    >>> narrow, wide = (random_features(x, p, jax.random.key(0), activation="relu") for p in (3, 8))
    >>> wide.shape, bool(jnp.allclose(wide[:, :3], narrow))
    ((2, 8), True)
    """
    _require_drawable(x.shape[1], width, key)
    hint = "clean the data, for one bad number spoils every feature"
    # a bounded activation would make a finite number of infinity
    x = constrain("x", x, lambda v: abs(v) < np.inf, "be finite", hint)
    scale = positive("scale", scale, "use 1.0 for inputs of norm √d")
    bias = nonnegative("bias", bias, "pass a standard deviation, 0.0 for no bias")
    fourier = isinstance(activation, str) and activation == "cos"
    function = elementwise(activation)
    factor, offset = jnp.asarray(scale, x.dtype), jnp.asarray(bias, x.dtype)
    return _random_features(x, width, key, function, fourier, factor, bias=offset, weights=weights)


@partial(jax.jit, static_argnames=("width", "function", "fourier", "weights"))
def _random_features(
    x: Array,
    width: int,
    key: Key[Array, ""],
    function: Callable[[Array], Array],
    fourier: bool,
    scale: Array,
    *,
    bias: Array,
    weights: Law,
) -> Array:
    drawn = _draw(x.shape[1], width, key, weights, x.dtype)
    projected = jnp.matmul(x, drawn.directions.T, precision="highest") / np.sqrt(x.shape[1]).astype(x.dtype)
    inside = scale * projected + (bias * drawn.gaussian)[None]
    if fourier:
        return np.sqrt(2).astype(x.dtype) * jnp.cos(inside + drawn.phase[None])
    return keep_nan(inside, function(inside))


@boundary(static=("features", "width"))
def feature_weights(
    features: int, width: int, key: Key[Array, ""], *, weights: Law = "gaussian", dtype: DTypeLike = "float32"
) -> FeatureWeights:
    """The random numbers inside `random_features`, nested: row j is drawn from the key and j alone.

    The random bits are equal at every width; the Gaussians made of them are so to the last place or two, because a
    compiler may round a short vector otherwise than a long one.

    Args:
        features: d ≥ 1, static under jit.
        width: P ≥ 1, static under jit.
        key: threefry, JAX's default; the vmapped draws of other generators are not nested.
        weights: "gaussian", N(0, I), or "sphere", uniform of norm √d.
        dtype: floating; available only as far as 64-bit types are on.

    Returns:
        `FeatureWeights`: directions [P, d], a Gaussian [P] and a phase [P].

    Raises:
        ValueError: no width or features, an unknown law of the weights, another kind of key, a dtype that is
            not floating or not available.

    Cost: O(d · P) time and memory.

    >>> drawn = feature_weights(9, 5, jax.random.key(0), weights="sphere")
    >>> [f"{norm:.4f}" for norm in jnp.linalg.norm(drawn.directions, axis=1)]
    ['3.0000', '3.0000', '3.0000', '3.0000', '3.0000']
    """
    _require_drawable(features, width, key)
    return _draw(features, width, key, weights, jnp.dtype(dtype))


@partial(jax.jit, static_argnames=("features", "width", "weights", "dtype"))
def _draw(features: int, width: int, key: Key[Array, ""], weights: Law, dtype: np.dtype) -> FeatureWeights:
    def column(j: Array) -> FeatureWeights:
        along, aside, around = jax.random.split(jax.random.fold_in(key, j), 3)
        theta = jax.random.normal(along, (features,), dtype)
        if weights == "sphere":
            theta = theta * (np.sqrt(features).astype(dtype) / jnp.linalg.norm(theta))
        phase = jax.random.uniform(around, (), dtype, 0.0, 2 * np.pi)
        return FeatureWeights(theta, jax.random.normal(aside, (), dtype), phase)

    return jax.vmap(column)(jnp.arange(width, dtype=jnp.uint32))


def _require_drawable(features: int, width: int, key: Key[Array, ""]) -> None:
    require(features >= 1, "features", features, "be >= 1", "a point needs a coordinate")
    require(width >= 1, "width", width, "be >= 1", "draw at least one feature")
    kind = str(jax.random.key_impl(key))
    require(kind == "threefry2x32", "key", f"a key of {kind}", "be a threefry key", "use jax.random.key(seed)")
