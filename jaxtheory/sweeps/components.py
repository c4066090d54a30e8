"""Where the variance of a sweep comes from: components of a crossed design, unbiased, with standard errors."""

import itertools
from collections.abc import Sequence

import numpy as np
import xarray

from jaxtheory.checks import require

_LEAST = 3  # levels, for a variance to have an error


def variance_components(
    dataset: xarray.Dataset, dims: str | Sequence[str], *, average: str | Sequence[str] = ()
) -> xarray.Dataset:
    r"""Shares of the sources `dims`, and of all their interactions, in the variance of what a crossed sweep measured.

        f = μ + Σ_U f_U,  U ≠ ∅ a set of sources,   E f² = μ² + Σ_U V_U,  V_U = E f_U²

    where f_U depends on the draws of U and averages to 0 over each of them (the law of total variance, sum over
    subsets). With n_i levels of source i, the mean over the levels of S of the square of the mean over the others has
    the expectation Σ_U V_U Π_{i ∈ U∖S} 1/n_i, μ² = V_∅; the V that solve these equations for the measured squares are
    unbiased. They may be negative where a share is small.

    If f is an error, prediction − target at a test point, V_∅ is the squared bias: the measured counterpart of
    `double_descent.variance_components`, with the data's and the initialization's seeds as axes of the sweep:

        sweeps.run(lambda data, features: {"error": fit(key(data), key(features))}, sweeps.grid(data=..., features=...))

    Args:
        dataset: of `run`, or any other whose numeric variables have all of `dims`; variables without them are left out.
        dims: the sources, dimensions of at least 3 independent draws each. Every level of one meets all of the others.
        average: dimensions to average the components over, e.g. test points. Others remain.

    Returns:
        For each variable x: `x`, [component, ...], and `x_standard_error`. `component` is "mean" (μ²), each source, and
        each set of sources, e.g. "data:features". The standard errors are those of a mean whose cells are clustered by
        the levels of each source: right to first order in 1/levels, and too large for components that are nearly 0.

    Raises:
        ValueError: dimensions that are missing or have fewer than 3 levels, values that are not finite.

    Cost: 2^k copies of the values, for k sources. Computed in float64 on the host.
    Source: Searle, Casella, McCulloch (1992), chapter 4; Lin and Dobriban (2021); Cameron, Gelbach,
    Miller (2011) for the errors.

    >>> rows, columns = np.arange(4.0), np.array([0.0, 2.0, 4.0])
    >>> sums = xarray.Dataset({"x": (("data", "features"), rows[:, None] + columns)})
    >>> variance_components(sums, ("data", "features")).x.round(3).values.tolist()  # mean², and variances 5/3, 4, 0
    [10.5, 1.667, 4.0, 0.0]
    """
    dims, average = _names("dims", dims), _names("average", average)
    _require_levels(dataset, dims, average)
    subsets = [set(s) for size in range(len(dims) + 1) for s in itertools.combinations(dims, size)]
    labels = [":".join(dim for dim in dims if dim in subset) or "mean" for subset in subsets]
    found: dict[str, xarray.DataArray] = {}
    for name, values in dataset.data_vars.items():
        if not set(dims) <= set(values.dims) or values.dtype.kind not in "fiub" or name == "status":
            continue
        over = [dim for dim in average if dim in values.dims]
        values = values.transpose(*dims, *over, ...).astype(np.float64)
        finite = bool(np.isfinite(values).all())
        require(finite, str(name), "a value that is not finite", "be finite", "drop failed points, or retry them")
        share, error = _estimated(values.values, len(dims), len(over), [[d in s for d in dims] for s in subsets])
        rest = [dim for dim in values.dims if dim not in (*dims, *over)]
        kept = {str(dim): values.coords[dim] for dim in rest if dim in values.coords}
        coords = {"component": labels, **kept}
        found[str(name)] = xarray.DataArray(share, coords, ("component", *rest))
        found[f"{name}_standard_error"] = xarray.DataArray(error, coords, ("component", *rest))
    require(bool(found), "dataset", list(dataset.data_vars), f"have a numeric variable along {dims}", "name its axes")
    return xarray.Dataset(found)


def _names(argument: str, given: str | Sequence[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, (tuple, list)) else ()
    usual = isinstance(given, (str, tuple, list)) and all(isinstance(name, str) for name in names)
    require(usual, argument, repr(given), "be names of dimensions", f'write {argument}=("data", "features")')
    return names


def _require_levels(dataset: xarray.Dataset, dims: tuple[str, ...], average: tuple[str, ...]) -> None:
    require(isinstance(dataset, xarray.Dataset), "dataset", type(dataset), "be an xarray.Dataset", "pass that of run")
    several = len(dims) > 0 and len(set(dims) | set(average)) == len(dims) + len(average)
    require(several, "dims", (*dims, *average), "name each dimension once", "pass e.g. ('data', 'features')")
    for dim in (*dims, *average):
        require(dim in dataset.sizes, "dims", dim, f"be among {tuple(dataset.sizes)}", "name axes of the sweep")
    for dim in dims:
        levels = dataset.sizes[dim]
        require(levels >= _LEAST, "dims", f"{dim} of {levels}", f"have >= {_LEAST} levels", "draw more seeds")


def _estimated(
    values: np.ndarray, sources: int, averaged: int, subsets: list[list[bool]]
) -> tuple[np.ndarray, np.ndarray]:
    """Components [subsets, rest] and standard errors; of differences from one offset, so that none is lost to it."""
    axes, shape = tuple(range(sources)), values.shape
    offset = np.asarray(values.mean(axis=axes))
    apart = values - offset
    means = [apart.mean(axis=tuple(a for a in axes if not subset[a]), keepdims=True) for subset in subsets]
    # the mean over the levels of S of squares sees V_U by the factor 1/n for each source of U outside S
    solve = np.linalg.inv([[_seen(shape, s, u) for u in subsets] for s in subsets])
    shares = np.tensordot(solve, [(mean**2).mean(axis=axes) for mean in means], 1)
    # how a share changes with the weight of one cell of the table
    change = np.tensordot(solve, [2 * apart * mean - mean**2 for mean in means], 1)
    shares[0] += offset**2
    change[0] += 2 * offset * apart
    over = tuple(range(1, 1 + averaged))
    shares = np.asarray(shares.mean(axis=over))
    change = change.mean(axis=tuple(range(1 + sources, 1 + sources + averaged)))
    change = change - change.mean(axis=tuple(range(1, 1 + sources)), keepdims=True)
    return shares, np.sqrt(_clustered(change, sources, subsets[1:]))


def _clustered(change: np.ndarray, sources: int, subsets: list[list[bool]]) -> np.ndarray:
    """Variance of the mean of `change` over a table whose levels are drawn, each source's for all cells at once."""
    total, single = [], []
    for subset in subsets:
        over = tuple(1 + axis for axis in range(sources) if not subset[axis])
        groups = np.prod([n for n, kept in zip(change.shape[1:], subset, strict=False) if kept])
        squares = change.mean(axis=over, keepdims=True) ** 2
        found = squares.mean(axis=tuple(range(1, 1 + sources))) / (groups - 1)
        total.append(found if sum(subset) % 2 else -found)
        single += [found] if sum(subset) == 1 else []
    return np.asarray(np.maximum(np.sum(total, axis=0), np.max(single, axis=0)))


def _seen(shape: tuple[int, ...], subset: list[bool], component: list[bool]) -> float:
    outside = [n for n, kept, used in zip(shape, subset, component, strict=False) if used and not kept]
    return float(1 / np.prod(outside, initial=1.0))
