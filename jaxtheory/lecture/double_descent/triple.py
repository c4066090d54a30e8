"""Triple descent: tanh features peak where samples equal dimensions, and again where they equal features."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import data, figures
from jaxtheory.kernels import random_features
from jaxtheory.lecture.claims import Claim, Claims, averages, negative, statistical
from jaxtheory.lecture.double_descent.laws import (
    FEATURES,
    LAMBDAS,
    NOISE,
    TESTS,
    Laws,
    draw_series,
    ridge_inverse,
)
from jaxtheory.lecture.study import Study


def predict(config: Any) -> Claims:
    """Places and heights of the peaks, and the differences that the law makes negative."""
    laws = Laws.of(config)
    n = np.geomspace(0.2, 28, 300) * laws.dimension
    curves = {f"triple {lam:g}": np.asarray(laws.triple(jnp.asarray(n, float), lam)) for lam in LAMBDAS}
    named = {name: [float(v) for v in values] for name, values in {"triple n": n, **curves}.items()}
    signs = {
        "triple_first": "triple descent: excess risk at fewest samples minus at the linear peak",
        "triple_second": "triple descent: excess risk in the valley minus at the nonlinear peak",
        "triple_gone": "triple descent, λ = 0.01: excess risk at that peak minus in the valley",
    }
    return Claims(
        (*_about_triple(laws), *(negative(key, what, "d'Ascoli et al.") for key, what in signs.items())), named
    )


def measure(config: Any) -> xr.Dataset:
    """Ridge regression on random tanh features, averaged over targets and label noise exactly, draw by draw."""
    laws = Laws.of(config)
    found = xr.DataArray(
        _risks(laws),
        {"law_n": laws.triple_samples(), "law_lambda": list(LAMBDAS)},
        ("law_n", "law_seed", "law_lambda"),
    )
    small, large = (found.sel(law_lambda=lam) for lam in LAMBDAS)
    first, valley, second = laws.turns()
    values = {
        "triple_linear": small.sel(law_n=first),
        "triple_valley": small.sel(law_n=valley),
        "triple_nonlinear": small.sel(law_n=second),
        "triple_first": small.isel(law_n=0) - small.sel(law_n=first),
        "triple_second": small.sel(law_n=valley) - small.sel(law_n=second),
        "triple_gone": large.sel(law_n=second) - large.sel(law_n=valley),
    }
    for name, peak in (("linear", first), ("nonlinear", second)):
        values[f"triple_{name}_place"] = small.sel(law_n=laws.beside(peak)) - small.sel(law_n=peak)
    dataset = xr.Dataset({"law_triple": found}, attrs={"law_dimension": laws.dimension})
    return dataset.assign(averages(values, "law_seed"))


def _about_triple(laws: Laws) -> list[Claim]:
    """Where the peaks are and how high."""
    named = dict(zip(("linear peak", "valley between", "nonlinear peak"), laws.turns(), strict=True))
    source = "d'Ascoli, Sagun, Biroli (2020)"
    claims = [
        negative(f"triple_{peak}_place",
                 f"triple descent: excess risk at the higher neighbour minus at the {peak} peak", source)
        for peak in ("linear", "nonlinear")
    ]  # fmt: skip
    lam = LAMBDAS[0]
    for name, n in named.items():
        excess = float(laws.triple(float(n), lam))
        moved = (laws.triple(n + 1.0, lam), laws.triple(n, lam, d=1.0), laws.triple(n, lam, width=1.0))
        remainder = excess / laws.dimension + sum(abs(float(other) - excess) for other in moved)
        claims.append(
            statistical(f"triple_{name.split()[0]}", f"triple descent: excess risk at the {name}",
                        "Mei, Montanari (2022)", excess, "theory: finite size, 1/d and one n, d, N more",
                        tolerance=remainder, rival=(float(laws.triple(n, lam, noise=0.0)), "labels without noise"))
        )  # fmt: skip
    return claims


def _risks(laws: Laws) -> np.ndarray:
    """[n, draw, λ]: a program for the n below the number of features, and one for the others."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(laws.seed), 1), laws.seeds)
    grid = np.array(laws.triple_samples())
    parts = [grid[grid < FEATURES * laws.dimension], grid[grid >= FEATURES * laws.dimension]]
    found = [_random_features(keys, jnp.asarray(part), int(part[-1]), laws) for part in parts if len(part)]
    return np.concatenate([np.moveaxis(np.asarray(part), 1, 0) for part in found])


@partial(jax.jit, static_argnames=("most", "laws"))
def _random_features(
    keys: Key[Array, " draws"], sizes: Int[Array, " sizes"], most: int, laws: Laws
) -> Float[Array, "draws sizes lambdas"]:
    """Excess risk of ridge regression on random tanh features, for every n ≤ `most` and both λ on the same draws."""
    d = laws.dimension
    cases = jnp.repeat(sizes, len(LAMBDAS)), jnp.tile(jnp.asarray(LAMBDAS, laws.dtype), len(sizes))

    def draw(key: PRNGKeyArray) -> Array:
        points, weights = jax.random.split(key)
        x = data.sphere(most + TESTS, d, points, dtype=laws.dtype).x
        z = random_features(x, FEATURES * d, weights, activation="tanh", weights="sphere")

        def excess(case: tuple[Array, Array]) -> Array:
            n, lam = case
            design = jnp.where(jnp.arange(most)[:, None] < n, z[:most], 0)
            smoother = z[most:] @ ridge_inverse(design, n * FEATURES * lam)  # n N λ/d
            bias = ((x[most:] - smoother @ x[:most]) ** 2).sum() / (d * TESTS)
            return bias + NOISE * (smoother**2).sum() / TESTS

        return jax.lax.map(excess, cases).reshape(len(sizes), len(LAMBDAS))

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(draw, keys)  # one after another: batched decompositions gain nothing


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Excess risk over samples per dimension, for both λ."""
    for index, lam in enumerate(LAMBDAS):
        label = f"$\\lambda = 10^{{{round(np.log10(lam))}}}$"
        values = dataset.law_triple.isel(law_lambda=index)
        laws = ("triple n", f"triple {lam:g}", dataset.attrs["law_dimension"])
        draw_series(ax, claims.curves, laws, values, over="law_n", label=label, index=index)
    for x, name in ((1.0, "$n = d$"), (float(FEATURES), "$n = N$")):
        figures.threshold(ax, x, name)
    title = "triple descent: tanh, $N = 10d$"
    figures.label_axes(ax, "samples per dimension, $n/d$", "excess risk", title, xscale="log", yscale="log")


STUDY = Study("triple", predict, measure, draw)
