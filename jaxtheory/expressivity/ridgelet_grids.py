"""Nodes and weights of the ridgelet transform's integrals over neurons (a, b)."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxtheory.checks import boundary, require


class Grid(NamedTuple):
    """Nodes (a, b) and the weights of da db."""

    a: Float[Array, "k d"]
    b: Float[Array, " k"]
    weights: Float[Array, " k"]
    cell: tuple[float, float]
    """spacings of |a| and of b"""


class PolarGrid(NamedTuple):
    """Directions × scales × offsets of the plane, and the same nodes one after the other."""

    directions: Float[Array, "u 2"]
    scales: Float[Array, " r"]
    offsets: Float[Array, " o"]
    nodes: Grid


@boundary(static=("scale", "reach", "dim", "step", "offset_step", "angles"))
def grid(
    scale: float, reach: float, *, dim: int = 1, step: float = 0.1, offset_step: float = 0.5, angles: int = 48
) -> Grid:
    r"""Nodes (a, b) with |a| ≤ A and |b| ≤ A R + 8, uniform, in the plane or in polar coordinates.

    Args:
        scale: A > 0; `retained` gives what is lost beyond. reach: R ≥ 0, the largest |x| where f is not 0.
        dim: 1, or 2 (polar in a). step: of a, in (0, A]. offset_step: of b; 1/2 serves G'''' and 1/4 G^(6).
        angles: of the polar grid, ≥ 1.

    Raises:
        ValueError: dim > 2, where grids are too large: sample instead; numbers out of range or traced.

    Cost: 2 A (A R + 8)/(step · offset_step) nodes, times A · angles/2 in the plane.

    >>> grid(2.0, 1.0).a.shape
    (1600, 1)
    """
    require(dim in (1, 2), "dim", dim, "be 1 or 2", "in higher dimension draw (a, b) at random")
    _check_sizes(scale=scale, step=step, offset_step=offset_step, angles=float(angles))
    require(0 <= reach < math.inf, "reach", reach, "be >= 0 and finite", "pass the largest |x|")
    require(step <= scale, "step", step, f"be <= scale = {scale}", "use a smaller step")
    count = round(scale / step)
    radius = (np.arange(count) + 0.5) * scale / count
    turns = np.linspace(0, 2 * np.pi, 2 if dim == 1 else angles, endpoint=False)
    unit = np.stack([np.cos(turns), np.sin(turns)][:dim], axis=1)
    cone = np.full_like(radius, scale / count) if dim == 1 else radius * (scale / count) * 2 * np.pi / angles
    bound = math.ceil((scale * reach + 8) / offset_step)
    a = (radius[:, None, None] * unit[None]).reshape(-1, dim)
    # Offsets turn with a by the golden ratio: on a fixed grid of b the kinks of all neurons at x = 0 fall on nodes, and
    # their errors of order step² add up instead of averaging out.
    turn = np.arange(len(a)) * (5**0.5 - 1) / 2 % 1
    b = (np.arange(-bound, bound)[None, :] + turn[:, None]) * offset_step
    weights = np.repeat(np.repeat(cone, len(unit)), b.shape[1]) * offset_step
    dtype = jnp.zeros(0).dtype
    nodes = jnp.asarray(np.repeat(a, b.shape[1], axis=0), dtype), jnp.asarray(b.ravel(), dtype)
    return Grid(*nodes, jnp.asarray(weights, dtype), (scale / count, offset_step))


@boundary(static=("scale", "reach", "radii", "angles", "offset_step", "shift"))
def polar_grid(
    scale: float, reach: float, *, radii: int, angles: int, offset_step: float = 0.5, shift: float = 0.5
) -> PolarGrid:
    r"""Nodes (r u, b) of the plane as a product of directions, scales and offsets, for `transform_slices`.

        u = (cos φ, sin φ), φ = 2π i/angles;   r = (j + ½) A/radii;   b = (k + shift) offset_step, |b| ≤ A R + 9

    One Fourier slice serves all scales and offsets of a direction, so that an image is transformed on many more nodes
    than `grid` would allow. `nodes` is the same grid for `reconstruct`, in the order of the raveled [u r o] spectrum.

    Args:
        scale: A > 0, the largest |a|. reach: R ≥ 0, the largest |x| where f is not 0. radii, angles: ≥ 1.
        offset_step: of b; 1/2 serves G'''' and 1/4 G^(6).
        shift: in [0, 1). Offsets are the same for all neurons here, so that errors of the rectangle rule at kinks that
            fall on one x add up; for ReLU and kinks at x = 0 they vanish at shift ½ − √(1/12) = 0.2113.

    Raises:
        ValueError: numbers out of range or traced.

    Cost: 2 angles · radii · (A R + 9)/offset_step nodes. Source: Sonoda and Murata (2017), in polar coordinates.

    >>> polar = polar_grid(9.0, 1.0, radii=3, angles=8)
    >>> polar.directions.shape, polar.scales.tolist(), polar.nodes.a.shape
    ((8, 2), [1.5, 4.5, 7.5], (1728, 2))
    """
    _check_sizes(scale=scale, offset_step=offset_step)
    require(0 <= reach < math.inf, "reach", reach, "be >= 0 and finite", "pass the largest |x|")
    for name, count in (("radii", radii), ("angles", angles)):
        require(count >= 1, name, count, "be >= 1", "pass a number of nodes")
    require(0 <= shift < 1, "shift", shift, "lie in [0, 1)", "pass a fraction of offset_step")
    turn = np.linspace(0, 2 * np.pi, angles, endpoint=False)
    unit = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    radius = (np.arange(radii) + 0.5) * scale / radii
    bound = math.ceil((scale * reach + 9) / offset_step)
    b = (np.arange(-bound, bound) + shift) * offset_step
    cone = radius * (scale / radii) * (2 * np.pi / angles) * offset_step
    a = np.repeat((unit[:, None] * radius[None, :, None]).reshape(-1, 2), len(b), axis=0)
    offsets, weights = np.tile(b, angles * radii), np.repeat(np.tile(cone, angles), len(b))
    dtype = jnp.zeros(0).dtype
    ends, u, r, o = (jnp.asarray(part, dtype) for part in (a, unit, radius, b))
    cell = (scale / radii, offset_step)
    return PolarGrid(u, r, o, Grid(ends, jnp.asarray(offsets, dtype), jnp.asarray(weights, dtype), cell))


def _check_sizes(**sizes: float) -> None:
    for name, value in sizes.items():
        require(0 < value < math.inf, name, value, "be > 0 and finite", "see its meaning above")
