"""Clouds as the points and weights that `transport` takes."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxtheory.checks import require
from jaxtheory.meanfield.cloud import Cloud, measure, rows


def points_of(
    name: str, points: Cloud | PyTree, weights: object = None
) -> tuple[Float[Array, "n d"], Float[Array, " n"] | None]:
    """The rows of a cloud, an array or a pytree, and their weights; None where they are equal."""
    equal = weights is None and not isinstance(points, Cloud)
    cloud = measure(name, points, f"{name}_weights", weights)
    return rows(cloud), None if equal else cloud.weights


def both(x: Any, y: Any, x_weights: object = None, y_weights: object = None) -> tuple[Array, Array, Any, Any]:
    """Points and weights of two measures on one space, in one dtype."""
    (x, a), (y, b) = points_of("x", x, x_weights), points_of("y", y, y_weights)
    wish = f"have the {x.shape[1]} components of x"
    require(x.shape[1] == y.shape[1], "y", y.shape, wish, "pass points of one space")
    dtype = jnp.result_type(x, y)
    return x.astype(dtype), y.astype(dtype), *(None if w is None else w.astype(dtype) for w in (a, b))
