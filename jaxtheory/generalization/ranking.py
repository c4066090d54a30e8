r"""Does a measure order networks as their gaps do? Kendall's tau, over one knob at a time, with intervals.

>>> import numpy as np
>>> kendall(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]))
1.0
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxtheory.checks import boundary, host_numbers, require


class Ranking(NamedTuple):
    """τ over all pairs, the granulated Ψ, τ along each axis, and the bootstrap interval of Ψ over seeds."""

    tau: float
    granulated: float
    along: dict[str, float]
    interval: tuple[float, float]


def kendall(measure: ArrayLike, gap: ArrayLike) -> float:
    r"""τ = mean over pairs of sign(μ_i − μ_j) sign(g_i − g_j); ties count 0, pairs that are not finite are left out.

    Args:
        measure, gap: [n], numbers that are known: it runs in NumPy, outside jit.

    Returns:
        τ within [−1, 1]; NaN without a finite pair.

    Raises:
        ValueError: shapes that differ, or are not [n]; traced values, or what is not a number.

    Cost: O(n²). Source: Kendall (1938).

    >>> kendall([1, 2, 3], [10, 30, 20])
    0.333...
    """
    measure, gap = host_numbers("measure", measure), host_numbers("gap", gap)
    paired = measure.ndim == 1 and measure.shape == gap.shape
    require(paired, "gap", gap.shape, f"have the shape [n] of measure, {measure.shape}", "pair them")
    kept = np.isfinite(measure) & np.isfinite(gap)
    pairwise = ((v[kept][:, None], v[kept][None, :]) for v in (measure, gap))
    first, second = ((a > b).astype(int) - (a < b) for a, b in pairwise)  # differences may leave float64
    pairs = ~np.eye(kept.sum(), dtype=bool)
    return float((first * second)[pairs].mean()) if kept.sum() > 1 else float("nan")


@boundary(static=("draws", "seed"))
def rank(measure: ArrayLike, gap: ArrayLike, axes: tuple[str, ...], *, draws: int = 500, seed: int = 0) -> Ranking:
    r"""Kendall's τ between a measure and the gap, granulated: Ψ = mean over axes of the mean τ along that axis alone.

    A measure that only follows one knob has a high τ and a low Ψ.

    Args:
        measure, gap: [seeds, axis 1, axis 2, …], one network each; pairs that are not finite are left out.
        axes: names of the axes after the seeds.
        draws: bootstrap samples of the seeds, ≥ 1.
        seed: of the bootstrap.

    Returns:
        `Ranking` with a 95% interval of Ψ; NaN along an axis without a pair of finite values.

    Raises:
        ValueError: shapes that differ, names that repeat or do not count the axes, no networks, or traced values.

    Cost: O(size · largest axis). Source: Jiang, Neyshabur, Mobahi, Krishnan, Bengio (2020), equations 4 and 5.

    >>> rank(np.array([[1.0, 2.0, 3.0]]), np.array([[0.1, 0.3, 0.2]]), ("width",)).along
    {'width': 0.333...}
    """
    measure, gap, axes = host_numbers("measure", measure), host_numbers("gap", gap), tuple(axes)
    require(measure.size > 0, "measure", measure.shape, "hold at least one network", "pass [seeds, axes...]")
    require(draws >= 1, "draws", draws, "be >= 1", "use 500")
    require(measure.shape == gap.shape, "gap", gap.shape, f"have the shape of measure, {measure.shape}", "pair them")
    require(measure.ndim >= 2, "measure", measure.shape, "have an axis after the seeds", "use kendall for [n]")
    named = len(axes) == measure.ndim - 1 and len(set(axes)) == len(axes)
    wish = f"name the {measure.ndim - 1} axes after the seeds, each by its own name"
    require(named, "axes", axes, wish, "give one name an axis")
    require(seed >= 0, "seed", seed, "be >= 0", "use seed=0")
    along = np.array([_along(measure, gap, axis + 1) for axis in range(len(axes))])  # [axes, seeds]
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, measure.shape[0], (draws, measure.shape[0]))
    samples = np.array([_finite_mean(along[:, pick]) for pick in picks])
    finite = samples[np.isfinite(samples)]
    low, high = (float(np.quantile(finite, q)) if finite.size else float("nan") for q in (0.025, 0.975))
    means = {name: _finite_mean(values) for name, values in zip(axes, along, strict=True)}
    tau = _finite_mean([kendall(m.ravel(), g.ravel()) for m, g in zip(measure, gap, strict=True)])
    return Ranking(tau, _finite_mean(list(means.values())), means, (low, high))


def _along(measure: np.ndarray, gap: np.ndarray, axis: int) -> np.ndarray:
    """τ along one axis, averaged over the places of the others, for each seed."""
    lines = [np.moveaxis(v, axis, -1).reshape(v.shape[0], -1, v.shape[axis]) for v in (measure, gap)]
    return np.array(
        [_finite_mean([kendall(m, g) for m, g in zip(*seed, strict=True)]) for seed in zip(*lines, strict=True)]
    )


def _finite_mean(values: ArrayLike) -> float:
    """The mean of what is finite; NaN where nothing is, as along an axis of one place."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
