r"""Mean time until online SGD on the sphere finds its direction: the exit time of the diffusion of its overlap."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jaxtheory.activations import resolve
from jaxtheory.checks import boundary, constrain, positive, require, within

Number = float | Float[Array, ""]
_CELLS = 2048  # of the overlap's range
_FINER = 4.0  # cells at 0 are sinh(4)/4 = 7 times shorter than the mean, for starts of d^{−1/2}
_NODES = 40  # of Gauss and Hermite's rule in each of two fields
_TOGETHER = 64  # cells whose moments are computed at once


@boundary(static=("dim",))
def mean_escape_samples(
    link: str | Any, *, dim: int, step_size: Number, start: Number | None = None, target: Number = 0.5
) -> Float[Array, ""]:
    r"""Mean samples that online SGD on the sphere needs until |⟨w, θ⟩| ≥ target: the law of `escape_samples`.

    A step moves the overlap m by Δ, with mean b(m) and mean square s(m)², which small steps turn into a diffusion:

        ½ s² u'' + b u' = −1,   u(±target) = 0,   the mean is u(start)

    Noise is in it at all orders: with η = δ d^{−k/2} and the information exponent k the mean is c_k(δ) d^{k−1} for
    large d and k ≥ 3, and of order d log d for k = 2 with η = δ/d.

    Args:
        link: σ, a name or a smooth elementwise function.
        dim: d ≥ 3. step_size: η > 0. start: ⟨w, θ⟩ at first, d^{−1/2} by default. target: in (0, 1).

    Returns:
        u(start), 0 beyond the target, NaN inside jit for what is refused outside. Relative error √E Δ²/start, one step
        over what it changes, and 1e-3 of the grid of 2048 cells.

    Raises:
        ValueError: d < 3, numbers out of range (outside jit).

    Cost: the link at 2048 · 40² points, then O(1) a cell. Source: Ben Arous, Gheissari, Jagannath (2021) for the
    chain; Gardiner (2004), "Handbook of stochastic methods", chapter 5, for exit times.

    >>> f"{mean_escape_samples(lambda x: x, dim=100, step_size=0.01):.0f}"
    '59'
    """
    require(dim >= 3, "dim", dim, "be at least 3", "pass the dimension of the inputs")
    begin = within("start", dim**-0.5 if start is None else start, -1.0, 1.0, "pass a cosine, e.g. 1/√d")
    eta = positive("step_size", step_size, "pass e.g. 0.1 / dim")
    end = constrain("target", target, lambda v: (v > 0) & (v < 1), "lie in (0, 1)", "pass e.g. target=0.5")
    return _mean(*(jnp.asarray(value, float) for value in (eta, begin, end, dim)), resolve(link))


@partial(jax.jit, static_argnames="link")
def _mean(eta: Array, start: Array, target: Array, dim: Array, link: Any) -> Array:
    grid = target * jnp.asarray(np.sinh(_FINER * np.linspace(-1, 1, _CELLS + 1)) / np.sinh(_FINER), eta.dtype)
    drift, square = lax.map(partial(_moments, link, eta, dim), grid[1:-1], batch_size=_TOGETHER)
    inside = _exit_time(drift, square, jnp.diff(grid))
    time = jnp.concatenate([jnp.zeros(1, eta.dtype), inside, jnp.zeros(1, eta.dtype)])
    found = jnp.interp(start, grid, time)
    return jnp.where(jnp.isnan(eta + start + target), jnp.full_like(found, jnp.nan), found)


def _moments(link: Any, eta: Array, dim: Array, m: Array) -> tuple[Array, Array]:
    """Mean and mean square of the move of the overlap in one sample."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    along, beside = (jnp.asarray(axis, m.dtype) for axis in np.meshgrid(nodes, nodes, indexing="ij"))
    chance = jnp.asarray(np.outer(weights, weights) / (2 * np.pi), m.dtype)
    field = m * along + jnp.sqrt(1 - m**2) * beside
    value, slope = jax.jvp(link, (field,), (jnp.ones_like(field),))
    push = eta * (link(along) - value) * slope
    # the squared length of the part across w, its fluctuation left out; a move of O(η) as a difference of its own size
    across = along**2 + beside**2 + (dim - 2) - field**2
    length = jnp.sqrt(1 + push**2 * across)
    move = (push * (along - field * m) - m * push**2 * across / (1 + length)) / length
    return jnp.sum(chance * move), jnp.sum(chance * move**2)


def _exit_time(drift: Array, square: Array, cells: Array) -> Array:
    """Mean exit times of a birth and death chain with the drift and the spread of the diffusion.

    Exponentially fitted rates; only sums of positive numbers, so that round-off stays relative.
    """
    left, right = cells[:-1], cells[1:]
    half = square / (left + right)
    up = half / right * _bernoulli(-2 * drift * right / square)
    down = half / left * _bernoulli(2 * drift * left / square)

    def climb(
        carry: tuple[Array, Array], rates: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Chance to leave at the lower end before the next cell, and the mean time until one of both."""
        lost, time = carry
        rise, fall = rates
        total = rise + fall * lost
        new = (fall * lost / total, (1 + fall * time) / total)
        return new, (rise / total, new[1])

    _, (onward, wait) = lax.scan(climb, (jnp.ones_like(up[0]), jnp.zeros_like(up[0])), (up, down))
    add = lambda after, pair: (pair[1] + pair[0] * after,) * 2  # noqa: E731
    return lax.scan(add, jnp.zeros_like(up[0]), (onward, wait), reverse=True)[1]


def _bernoulli(z: Array) -> Array:
    """z/(e^z − 1), positive."""
    small = jnp.abs(z) < 1e-2
    usual = jnp.where(small, 1, z)
    return jnp.where(small, 1 - z / 2 + z**2 / 12, usual / jnp.expm1(jnp.minimum(usual, 80)))
