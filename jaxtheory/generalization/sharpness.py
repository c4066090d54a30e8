"""How much the loss rises around a minimum: in the worst direction, and in a random one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory.checks import require
from jaxtheory.results import standard_error


class Rise(NamedTuple):
    """The mean rise of the loss and its standard error."""

    mean: Float[Array, ""]
    standard_error: Float[Array, ""]


def worst_direction(
    loss: Callable[[Any], Array], params: PyTree, radius: float, *, ascents: int = 1
) -> Float[Array, ""]:
    r"""max_{‖ε‖ ≤ ρ} L(w + ε) − L(w), by `ascents` normalized gradient steps to the sphere (one is SAM's).

    A lower bound of the maximum. Raises ValueError for a radius or a number of ascents that is not positive.

    Cost: `ascents` gradients. Source: Foret, Kleiner, Mobahi, Neyshabur (2021), equation 2.

    >>> float(worst_direction(lambda w: w @ w, jnp.array([3.0, 4.0]), 1.0))
    11.0
    """
    require(radius > 0, "radius", radius, "be > 0", "0.05 is customary")
    require(ascents >= 1, "ascents", ascents, "be >= 1", "one is the approximation of SAM")
    flat, unravel = ravel_pytree(params)
    value = lambda w: loss(unravel(w))  # noqa: E731

    def ascend(_: Array, offset: Array) -> Array:
        slope = jax.grad(value)(flat + offset)
        length = jnp.linalg.norm(slope)
        return radius * slope / jnp.where(length > 0, length, 1)

    return value(flat + lax.fori_loop(0, ascents, ascend, jnp.zeros_like(flat))) - value(flat)


def random_direction(
    loss: Callable[[Any], Array], params: PyTree, deviation: float, key: Key[Array, ""], *, draws: int = 64
) -> Rise:
    r"""E L(w + σξ) − L(w), ξ ~ N(0, I): to second order σ² tr(∇²L)/2. `deviation` is σ, not σ².

    Raises ValueError for σ ≤ 0 or fewer than two draws. Cost: `draws` losses.
    Source: Neyshabur, Bhojanapalli, McAllester, Srebro (2017), section 3.

    >>> rise = random_direction(lambda w: w @ w, jnp.zeros(2), 0.1, jax.random.key(0), draws=4000)
    >>> bool(abs(rise.mean - 0.02) < 4 * rise.standard_error)
    True
    """
    require(deviation > 0, "deviation", deviation, "be > 0", "pass a standard deviation")
    flat, unravel = ravel_pytree(params)
    here = loss(params)
    one = lambda k: loss(unravel(flat + deviation * jax.random.normal(k, flat.shape, flat.dtype))) - here  # noqa: E731
    rises = lax.map(one, jax.random.split(key, draws))
    return Rise(rises.mean(), standard_error(rises))
