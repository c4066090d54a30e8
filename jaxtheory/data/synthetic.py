"""Inputs and teachers whose law is known, so that a learning curve has a formula to lie on."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from jaxtheory.checks import Checked, boundary, keep_nan, nonnegative, positive, require


class Inputs(NamedTuple):
    """Points on a sphere, one a row, and its radius."""

    x: Float[Array, "samples features"]
    radius: Float[Array, ""]


class Regression(NamedTuple):
    """Points, one a row, their noisy targets, and the targets without the noise."""

    x: Float[Array, "samples features"]
    y: Float[Array, " samples"]
    signal: Float[Array, " samples"]


@boundary
def gaussian_linear(
    samples: int,
    coefficients: Float[Array, " features"],
    key: Key[Array, ""],
    *,
    spectrum: Float[Array, " features"] | None = None,
    noise: float | Float[Array, ""] = 0.0,
) -> Regression:
    r"""The Gaussian linear model: y_i = ⟨x_i, β⟩ + ε_i with x_i ~ N(0, diag(λ)) and ε_i ~ N(0, σ²).

    The targets have mean 0 and variance Σ_k λ_k β_k² + σ².

    Args:
        samples: n ≥ 1, static under jit.
        coefficients: β [features]; its dtype is the result's.
        key: a longer draw is another draw, not an extension.
        spectrum: λ [features], each ≥ 0, the variances of the features; all 1 when None.
        noise: σ² ≥ 0, the variance of the label noise; may be traced.

    Returns:
        `Regression`: x [n, features], y [n], signal [n] = x β. NaN where, inside jit, a variance is negative.

    Raises:
        ValueError: no samples, a spectrum of another length, a negative or NaN variance (outside jit).

    Cost: O(n · features). Source: Hastie, Montanari, Rosset, Tibshirani (2022), section 2.

    >>> draw = gaussian_linear(40, jnp.full(100, 0.1), jax.random.key(0), noise=0.04)
    >>> draw.x.shape, draw.y.shape
    ((40, 100), (40,))
    """
    variances = jnp.ones_like(coefficients) if spectrum is None else spectrum
    require(samples >= 1, "samples", samples, "be >= 1", "draw at least one point")
    wish = f"have one variance for each of the {coefficients.size} coefficients"
    require(variances.shape == coefficients.shape, "spectrum", f"shape {variances.shape}", wish, "pair them")
    variances, dtype = _variance("spectrum", variances), coefficients.dtype
    noise = jnp.asarray(_variance("noise", noise), dtype)
    return _gaussian_linear(samples, coefficients, key, variances.astype(dtype), noise)


@partial(jax.jit, static_argnames="samples")
def _gaussian_linear(
    samples: int, coefficients: Array, key: Key[Array, ""], spectrum: Array, noise: Array
) -> Regression:
    inputs, errors = jax.random.split(key)
    x = jax.random.normal(inputs, (samples, len(coefficients)), coefficients.dtype) * jnp.sqrt(spectrum)[None]
    signal = jnp.matmul(x, coefficients, precision="highest")
    return Regression(x, signal + jnp.sqrt(noise) * jax.random.normal(errors, (samples,), x.dtype), signal)


@boundary
def sphere(
    samples: int,
    features: int,
    key: Key[Array, ""],
    *,
    radius: float | Float[Array, ""] | None = None,
    dtype: DTypeLike = "float32",
) -> Inputs:
    """Points uniform on the sphere of radius √d in d dimensions: mean 0, covariance exactly the identity.

    These are the inputs of Mei and Montanari. A point is r g / ‖g‖ with g standard Gaussian.

    Args:
        samples: n ≥ 1, static under jit.
        features: d ≥ 1, static under jit; in one dimension the points are ±r.
        key: a longer draw is another draw, not an extension.
        radius: r > 0, √d when None; the covariance is then (r²/d) I. May be traced.
        dtype: of the points.

    Returns:
        `Inputs`: x [n, d], every row of norm r to round-off, and r.

    Raises:
        ValueError: no samples or features, a radius that is not positive, a dtype that is not available.

    Cost: O(n · d). Source: Mei and Montanari (2022), section 1; Muller (1959) for the normalized Gaussian.

    >>> f"{(sphere(3, 16, jax.random.key(0)).x ** 2).sum(1).mean():.4f}"
    '16.0000'
    """
    require(samples >= 1, "samples", samples, "be >= 1", "draw at least one point")
    require(features >= 1, "features", features, "be >= 1", "a sphere needs a dimension")
    length = math.sqrt(features) if radius is None else positive("radius", radius, "leave it out for √d")
    return _sphere(samples, features, key, jnp.asarray(length, dtype))


@partial(jax.jit, static_argnames=("samples", "features"))
def _sphere(samples: int, features: int, key: Key[Array, ""], radius: Array) -> Inputs:
    gaussian = jax.random.normal(key, (samples, features), radius.dtype)
    return Inputs(radius * gaussian / jnp.linalg.norm(gaussian, axis=1, keepdims=True), radius)


@boundary
def random_teacher(
    x: Float[Array, "n d"],
    width: int,
    key: Key[Array, ""],
    *,
    activation: Callable[[Array], Array],
    noise: float | Float[Array, ""] = 0.0,
) -> Regression:
    r"""Targets from a random two-layer network: y_i = m^(−1/2) Σ_j a_j φ(⟨w_j, x_i⟩ / √d) + ε_i.

    The entries of a [m] and w [m, d] are standard Gaussian, ε_i ~ N(0, σ²). Over teachers the signal has mean 0
    and variance E φ(g)² with g ~ N(0, ‖x_i‖²/d): of order one for inputs of norm √d (`sphere`).
    One key is one teacher, whatever the inputs; draw training and test points in one call, then `split` them,
    for a second call with the same key repeats the noise.

    Args:
        x: [n, d] inputs, or [n] for [n, 1]; their dtype is the result's.
        width: m ≥ 1, static under jit.
        key: of the teacher and of the noise.
        activation: φ, any elementwise function of an array; each new function object is compiled anew.
        noise: σ² ≥ 0, the variance of the label noise; may be traced.

    Returns:
        `Regression`: x as given, y [n], signal [n].

    Raises:
        ValueError: inputs that are not [n, d], no width, a negative or NaN variance (outside jit).

    Cost: O(n · d · m) flops; memory n · m + d · m numbers. Source: the teacher of Goldt et al. (2019).

    >>> x = sphere(5, 10, jax.random.key(0)).x
    >>> random_teacher(x, 20, jax.random.key(1), activation=jnp.tanh).signal.shape
    (5,)
    """
    require(x.shape[1] >= 1, "x", f"shape {x.shape}", "have at least one feature", "pass one point a row")
    require(width >= 1, "width", width, "be >= 1", "a teacher needs a neuron")
    activation = Checked("activation", activation, "same", whole=True)
    return _random_teacher(x, width, key, activation, jnp.asarray(_variance("noise", noise), x.dtype))


@partial(jax.jit, static_argnames=("width", "activation"))
def _random_teacher(
    x: Array, width: int, key: Key[Array, ""], activation: Callable[[Array], Array], noise: Array
) -> Regression:
    inner_key, outer_key, noise_key = jax.random.split(key, 3)
    inner = jax.random.normal(inner_key, (x.shape[1], width), x.dtype)
    outer = jax.random.normal(outer_key, (width,), x.dtype)
    inside = jnp.matmul(x, inner, precision="highest") / jnp.sqrt(jnp.asarray(x.shape[1], x.dtype))
    hidden = keep_nan(inside, activation(inside))
    signal = jnp.matmul(hidden, outer, precision="highest") / jnp.sqrt(jnp.asarray(width, x.dtype))
    return Regression(x, signal + jnp.sqrt(noise) * jax.random.normal(noise_key, signal.shape, x.dtype), signal)


def _variance(name: str, values: Any) -> Any:
    return nonnegative(name, values, "pass a variance, σ²")
