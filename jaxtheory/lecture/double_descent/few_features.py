"""Least squares on p of D Gaussian features: more data hurts, more features help, by a law exact at every size."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.lecture.claims import Claim, Claims, averages, negative, statistical
from jaxtheory.lecture.double_descent.laws import (
    MANY,
    SMALL_NOISE,
    Laws,
    draw_series,
    ridge_inverse,
)
from jaxtheory.lecture.study import Study


def predict(config: Any) -> Claims:
    """Exact risks at single sizes, the limit under a ridge, and the differences that the laws make negative."""
    laws = Laws.of(config)
    over, seen = np.arange(max(2, laws.dimension // 6), 3 * laws.dimension + 1), np.arange(2, 2 * laws.dimension + 1)
    curves: dict[str, Any] = {
        "samples n": over,
        "features p": seen,
        "samples": laws.finite(laws.dimension, jnp.asarray(over)),
        "samples ridge": laws.ridged(jnp.asarray(over, float), laws.dimension),
        "features": laws.finite(jnp.asarray(seen), laws.fixed),
    }
    signs = (
        negative("samples_harm", "samples: excess risk at 0.5p minus at 0.8p: more data hurts", "Nakkiran (2019)"),
        negative("samples_help", "samples, best ridge: excess risk at 0.8p minus at 0.5p",
                 "Nakkiran et al. (2021), Thm 1"),
        negative("features_second", "features: lowest excess risk at p > n minus lowest at p < n",
                 "Belkin, Hsu, Xu (2020)"),
    )  # fmt: skip
    drawn = {name: np.asarray(law, float).tolist() for name, law in curves.items()}
    return Claims((*_about_exact(laws), *signs), drawn)


def measure(config: Any) -> xr.Dataset:
    """Min-norm and ridged fits of Gaussian features, averaged over label noise exactly, draw by draw."""
    laws = Laws.of(config)
    over, seen = _sizes(laws)
    risks = _risks(laws, [(n, laws.dimension) for n in over] + [(laws.fixed, p) for p in seen])
    dataset = xr.Dataset(
        {
            "law_samples": (("law_over", "law_draw", "law_kind"), risks[: len(over)]),
            "law_features": (("law_p", "law_draw"), risks[len(over) :, :, 0]),
        },
        coords={"law_over": over, "law_p": seen},
        attrs={"law_dimension": laws.dimension, "law_fixed": laws.fixed},
    )
    return dataset.assign(_claimed(dataset, laws))


def _sizes(laws: Laws) -> tuple[list[int], list[int]]:
    return laws.sizes(laws.dimension), laws.sizes(laws.fixed)


def _claimed(dataset: xr.Dataset, laws: Laws) -> dict[str, float]:
    few, near, many = (laws.sizes(laws.dimension)[i] for i in (1, 2, -2))
    bare, ridged = (dataset.law_samples.isel(law_kind=kind) for kind in (0, 1))
    features = dataset.law_features
    lowest = [
        part.isel(law_p=int(jnp.argmin(laws.finite(jnp.asarray(part.law_p.values), laws.fixed))))  # by the law
        for part in (features.sel(law_p=slice(laws.fixed, None)), features.sel(law_p=slice(None, laws.fixed)))
    ]
    values = {
        "samples_few": bare.sel(law_over=few),
        "samples_many": bare.sel(law_over=many),
        "samples_ridge": ridged.sel(law_over=near),
        "samples_harm": bare.sel(law_over=few) - bare.sel(law_over=near),
        "samples_help": ridged.sel(law_over=near) - ridged.sel(law_over=few),
        "features_all": features.isel(law_p=-1),
        "features_second": lowest[0] - lowest[1],
    }
    return averages(values, "law_draw")


def _about_exact(laws: Laws) -> list[Claim]:
    """Single sizes of Gaussian features: exact but for rounding, and the limit under a ridge."""
    d, half, double = laws.dimension, laws.sizes(laws.dimension)[1], laws.sizes(laws.dimension)[-2]
    exact = {
        "samples_few": (f"samples: excess risk without ridge at n = {half / d:.2g}p", d, half),
        "samples_many": (f"samples: excess risk without ridge at n = {double / d:.2g}p", d, double),
        "features_all": ("features: excess risk where the fit sees all", 2 * d, laws.fixed),
    }
    source, basis = "Belkin, Hsu, Xu (2020), Thm 1", "exact at this size"
    claims = [
        statistical(name, statement, source, float(laws.finite(p, n)), basis,
                    rival=(laws.signal(p, n), "the seen signal alone"))
        for name, (statement, p, n) in exact.items()
    ]  # fmt: skip
    near = laws.sizes(d)[2]
    at, more, wider = (float(laws.ridged(float(n), float(p))) for n, p in ((near, d), (near + 1, d), (near, d + 1)))
    remainder = at / d + abs(more - at) + abs(wider - at)
    ridged = statistical(
        "samples_ridge", f"samples: excess risk at n = {near / d:.2g}p under the best ridge",
        "Hastie et al. (2022), misspecified", at, "theory: finite size, 1/p and one n, p more", tolerance=remainder,
        rival=(float(laws.finite(d, near)), "no ridge"),
    )  # fmt: skip
    return [*claims, ridged]


def _risks(laws: Laws, sizes: list[tuple[int, int]]) -> np.ndarray:
    """[size, draw, ridge]: a program for the sizes (n, p) with n < p, and one for the others."""
    keys = jax.random.split(jax.random.key(laws.seed), MANY * laws.seeds)
    pairs = np.array(sizes)
    wide = pairs[:, 0] < pairs[:, 1]
    found = np.empty((len(pairs), len(keys), 2), laws.dtype)
    for group in (wide, ~wide):
        rows, columns = map(int, pairs[group].max(axis=0))
        found[group] = np.moveaxis(_gaussian_features(keys, jnp.asarray(pairs[group]), rows, columns, laws), 1, 0)
    return found


@partial(jax.jit, static_argnames=("rows", "columns", "laws"))
def _gaussian_features(
    keys: Key[Array, " draws"], sizes: Int[Array, "sizes 2"], rows: int, columns: int, laws: Laws
) -> Float[Array, "draws sizes 2"]:
    """Excess risk of n ≤ `rows` samples of p ≤ `columns` of 2d features, without ridge and under the best for p = d."""
    whole = 2 * laws.dimension
    cases = jnp.repeat(sizes, 2, axis=0), jnp.tile(jnp.asarray([0.0, laws.ridge], laws.dtype), len(sizes))

    def draw(key: PRNGKeyArray) -> Array:
        x = jax.random.normal(key, (rows, whole), laws.dtype)
        beta = jnp.full(whole, whole**-0.5, x.dtype)

        def excess(case: tuple[Array, Array]) -> Array:
            (n, p), ridge = case
            seen = jnp.where(jnp.arange(whole) < p, beta, 0)
            live = (jnp.arange(rows)[:, None] < n) & (jnp.arange(columns)[None] < p)
            solve = ridge_inverse(jnp.where(live, x[:, :columns], 0), ridge)
            error = solve @ (x @ beta) - seen[:columns]
            return (error**2).sum() + ((beta - seen) ** 2).sum() + SMALL_NOISE * (solve**2).sum()

        return jax.lax.map(excess, cases).reshape(len(sizes), 2)

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(draw, keys)


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Excess risk over samples per feature, without ridge and under the best one."""
    for index, (name, label) in enumerate((("samples", "min-norm"), ("samples ridge", "best ridge"))):
        values, laws = dataset.law_samples.isel(law_kind=index), ("samples n", name, dataset.attrs["law_dimension"])
        draw_series(ax, claims.curves, laws, values, over="law_over", label=label, index=index)
    figures.threshold(ax, 1.0, "$n = p$")
    figures.label_axes(ax, "samples per feature, $n/p$", "excess risk", "more data hurts", yscale="log")
    ax.set_ylim(0.4, 20)


def draw_features(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Excess risk over features seen per sample."""
    laws = ("features p", "features", dataset.attrs["law_fixed"])
    draw_series(ax, claims.curves, laws, dataset.law_features, over="law_p", label="min-norm", index=0)
    figures.threshold(ax, 1.0, "$p = n$")
    title = f"p of D = {2 * dataset.attrs['law_dimension']} Gaussian features"
    figures.label_axes(ax, "features seen per sample, $p/n$", "excess risk", title, yscale="log")
    ax.set_ylim(0.4, 20)


STUDY = Study("features", predict, measure, draw)
