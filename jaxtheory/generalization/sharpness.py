"""How much the loss rises around a minimum: in the worst direction, and in a random one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key, PyTree

from jaxtheory.checks import Checked, boundary, positive, quantity, require
from jaxtheory.guarded import norm
from jaxtheory.results import standard_error


class Rise(NamedTuple):
    """The mean rise of the loss and its standard error."""

    mean: Float[Array, ""]
    standard_error: Float[Array, ""]


@boundary(static=("ascents",))
def worst_direction(
    loss: Callable[[Any], Array], params: PyTree, radius: float | Float[Array, ""], *, ascents: int = 1
) -> Float[Array, ""]:
    r"""max_{‖ε‖ ≤ ρ} L(w + ε) − L(w), by `ascents` normalized gradient steps to the sphere (one is SAM's).

    Args:
        loss: L(params), one number.
        params: w, any pytree of arrays.
        radius: ρ > 0.
        ascents: ≥ 1.

    Returns:
        A lower bound of the maximum; 0 where the gradient is 0; a difference of losses, to rounding of L(w). NaN where
        the radius is not positive (inside jit).

    Raises:
        ValueError: a radius or a number of ascents that is not positive; a loss that is not one number.

    Cost: `ascents` gradients. Source: Foret, Kleiner, Mobahi, Neyshabur (2021), equation 2.

    >>> float(worst_direction(lambda w: w @ w, jnp.array([3.0, 4.0]), 1.0))
    11.0
    """
    radius = positive("radius", radius, "pass e.g. radius=0.05")
    require(ascents >= 1, "ascents", ascents, "be >= 1", "use 1, the approximation of SAM")
    flat, value = _flat(loss, params)

    def ascend(_: Array, offset: Array) -> Array:
        slope = jax.grad(value)(flat + offset)
        length = norm(slope)
        return slope / jnp.where(length == 0, 1, length) * radius

    return value(flat + lax.fori_loop(0, ascents, ascend, jnp.zeros_like(flat))) - value(flat)


@boundary(static=("draws",))
def random_direction(
    loss: Callable[[Any], Array],
    params: PyTree,
    deviation: float | Float[Array, ""],
    key: Key[Array, ""],
    *,
    draws: int = 64,
) -> Rise:
    r"""E L(w + σξ) − L(w), ξ ~ N(0, I): to second order σ² tr(∇²L)/2.

    Args:
        loss: L(params), one number.
        params: w, any pytree of arrays.
        deviation: σ > 0, not σ².
        key: of the draws.
        draws: ≥ 2.

    Returns:
        `Rise`, of differences of losses, to rounding of L(w); NaN where σ is not positive (inside jit).

    Raises:
        ValueError: σ ≤ 0, fewer than two draws, or a loss that is not one number.

    Cost: `draws` losses. Source: Neyshabur, Bhojanapalli, McAllester, Srebro (2017), section 3.

    >>> rise = random_direction(lambda w: w @ w, jnp.zeros(2), 0.1, jax.random.key(0), draws=4000)
    >>> bool(abs(rise.mean - 0.02) < 4 * rise.standard_error)
    True
    """
    deviation = positive("deviation", deviation, "pass a standard deviation, e.g. 0.01")
    require(draws >= 2, "draws", draws, "be >= 2 for a standard error", "draw more directions")
    flat, value = _flat(loss, params)
    here = value(flat)
    one = lambda k: value(flat + deviation * jax.random.normal(k, flat.shape, flat.dtype)) - here  # noqa: E731
    rises = lax.map(one, jax.random.split(key, draws))
    return Rise(rises.mean(), standard_error(rises))


def _flat(loss: Callable[[Any], Array], params: PyTree) -> tuple[Array, Callable[[Array], Array]]:
    """The parameters as one vector, and the loss of such a vector."""
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(quantity("params", leaf)), params))
    require(flat.size > 0, "params", params, "hold at least one number", "pass the trained parameters")
    return flat, Checked("loss", lambda w: loss(unravel(w)))
