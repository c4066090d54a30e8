"""Exact laws of double descent beside their simulation: three descents of one curve, more data, more features.

Random tanh features have two peaks over the number of samples: one where samples equal dimensions, which the noise
alone makes, and one where they equal features, which a small ridge removes. Least squares on p of D Gaussian
features has the law in closed form, at every n and p; what it does not see is noise to it.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Key, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import data, figures
from jaxtheory.double_descent import finite_gaussian, isotropic, mei_montanari
from jaxtheory.kernels import random_features
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged

_FEATURES, _NOISE, _TESTS = 10, 5.0, 300  # of the triple descent: N/d, and the noise of a signal of power 1
_LAMBDAS = (1e-6, 1e-2)
_SMALL_NOISE = 0.1  # of Gaussian features, with a signal of power 1
_MANY = 16  # draws of Gaussian features for one of random features


class Laws(NamedTuple):
    """Sizes: d, draws of the random features, seed and dtype. Gaussian features: D = 2d, of which a fit sees p."""

    dimension: int
    seeds: int
    seed: int
    dtype: str

    def triple(self, samples: Array | float | int, lam: float, d: float = 0.0, width: float = 0.0) -> Array:
        """Excess risk of N = 10d tanh features at n = `samples`; with `d` dimensions and `width` features more."""
        dimension, features = self.dimension + d, _FEATURES * self.dimension + width
        ratios = features / dimension, samples / dimension
        return mei_montanari(*ratios, lam, activation="tanh", signal=1.0, noise=_NOISE).excess

    def finite(self, p: Array | int, n: Array | int) -> Array:
        """Excess risk of the min-norm solution on p of 2d Gaussian features, exact at every size."""
        size = 2 * self.dimension
        return finite_gaussian(p, n, jnp.full(size, size**-0.5), _SMALL_NOISE).excess

    def signal(self, p: int, n: int) -> float:
        """What is left of `finite` without noise of labels and without the features that are not seen."""
        size = 2 * self.dimension
        seen = jnp.where(jnp.arange(size) < p, size**-0.5, 0.0)
        return float(finite_gaussian(p, n, seen, 0.0).excess)

    def ridged(self, n: Array | float, p: float | int) -> Array:
        """Excess risk of half of the features, p of them, under the ridge that is best at every n."""
        powers = {"signal": 0.5, "unseen": 0.5, "noise": _SMALL_NOISE}
        return isotropic(p / n, lam=self.ridge / n, **powers).excess

    @property
    def ridge(self) -> float:
        """n λ* = (noise + unseen) p/signal, added to the unnormalized Gram: the same number for every n."""
        return (_SMALL_NOISE + 0.5) * self.dimension / 0.5

    @property
    def fixed(self) -> int:
        """Samples of the panel over features."""
        return 2 * self.dimension // 3

    def turns(self) -> tuple[int, int, int]:
        """Samples at the linear peak, in the valley behind it and at the nonlinear peak, by the law."""
        n = np.arange(self.dimension // 5, 20 * self.dimension)
        risk = np.asarray(self.triple(jnp.asarray(n, float), _LAMBDAS[0]))
        first = int(risk[n < 3 * self.dimension].argmax())
        second = int(np.where(n > 5 * self.dimension, risk, -np.inf).argmax())
        return int(n[first]), int(n[first + risk[first:second].argmin()]), int(n[second])

    def triple_samples(self) -> list[int]:
        """Where the triple descent is measured: so far apart that the law's peaks are told from their neighbours."""
        others = (round(q * self.dimension) for q in (0.25, 0.5, 1.8, 7.0, 14.0, 25.0))
        return sorted({*others, *self.turns()})

    def beside(self, peak: int) -> int:
        """Of the two measured n next to a peak, the one that is higher by the law."""
        grid = self.triple_samples()
        i = grid.index(peak)
        return max((grid[i - 1], grid[i + 1]), key=lambda n: float(self.triple(float(n), _LAMBDAS[0])))

    def sizes(self, turn: int) -> list[int]:
        """Sizes n or p of Gaussian features, off the `turn` at which one equals the other and draws have no mean."""
        return sorted({round(q * turn) for q in (0.25, 0.5, 0.8, 1.25, 2.0, 3.0)})


def predict(laws: Laws) -> Claims:
    """Places and heights of the peaks, exact risks at single sizes, and what rises or falls."""
    n = np.geomspace(0.2, 28, 300) * laws.dimension
    over = np.arange(max(2, laws.dimension // 6), 3 * laws.dimension + 1)
    seen = np.arange(2, 2 * laws.dimension + 1)
    curves = {"triple n": n, "samples n": over, "features p": seen}
    curves |= {f"triple {lam:g}": np.asarray(laws.triple(jnp.asarray(n, float), lam)) for lam in _LAMBDAS}
    curves["samples"] = np.asarray(laws.finite(laws.dimension, jnp.asarray(over)))
    curves["samples ridge"] = np.asarray(laws.ridged(jnp.asarray(over, float), laws.dimension))
    curves["features"] = np.asarray(laws.finite(jnp.asarray(seen), laws.fixed))
    claims = (*_about_triple(laws), *_about_exact(laws), *_about_signs())
    return Claims(claims, {name: [float(v) for v in values] for name, values in curves.items()})


def _about_triple(laws: Laws) -> list[Claim]:
    """Where the peaks are and how high."""
    named = dict(zip(("linear peak", "valley between", "nonlinear peak"), laws.turns(), strict=True))
    source = "d'Ascoli, Sagun, Biroli (2020)"
    claims = [
        Claim(
            f"triple_{peak}_place", f"triple descent: excess risk at the higher neighbour minus at the {peak} peak",
            source, 0.0, "significance: 4.5 standard errors below", standard_errors=-SIGNIFICANT, relation="<=",
        )
        for peak in ("linear", "nonlinear")
    ]  # fmt: skip
    lam = _LAMBDAS[0]
    for name, n in named.items():
        excess = float(laws.triple(float(n), lam))
        moved = (laws.triple(n + 1.0, lam), laws.triple(n, lam, d=1.0), laws.triple(n, lam, width=1.0))
        remainder = excess / laws.dimension + sum(abs(float(other) - excess) for other in moved)
        claims.append(
            Claim(
                f"triple_{name.split()[0]}", f"triple descent: excess risk at the {name}", "Mei, Montanari (2022)",
                excess, "theory: finite size, 1/d and one n, d, N more; 4.5 standard errors", tolerance=remainder,
                standard_errors=SIGNIFICANT,
            )
        )  # fmt: skip
    return claims


def _about_exact(laws: Laws) -> list[Claim]:
    """Single sizes of Gaussian features: exact but for rounding, and the limit under a ridge."""
    d, half, double = laws.dimension, laws.sizes(laws.dimension)[1], laws.sizes(laws.dimension)[-2]
    exact = {
        "samples_few": (f"samples: excess risk without ridge at n = {half / d:.2g}p", d, half),
        "samples_many": (f"samples: excess risk without ridge at n = {double / d:.2g}p", d, double),
        "features_all": ("features: excess risk where the fit sees all", 2 * d, laws.fixed),
    }
    source, basis = "Belkin, Hsu, Xu (2020), Thm 1", "exact at this size; 4.5 standard errors"
    claims = [
        Claim(name, statement, source, float(laws.finite(p, n)), basis, standard_errors=SIGNIFICANT,
              rival=laws.signal(p, n), rival_law="the seen signal alone")
        for name, (statement, p, n) in exact.items()
    ]  # fmt: skip
    near = laws.sizes(d)[2]
    at, more, wider = (float(laws.ridged(float(n), float(p))) for n, p in ((near, d), (near + 1, d), (near, d + 1)))
    remainder = at / d + abs(more - at) + abs(wider - at)
    ridged = Claim(
        "samples_ridge", f"samples: excess risk at n = {near / d:.2g}p under the best ridge",
        "Hastie et al. (2022), misspecified", at,
        "theory: finite size, 1/p and one n, p more; 4.5 standard errors", tolerance=remainder,
        standard_errors=SIGNIFICANT,
    )  # fmt: skip
    return [*claims, ridged]


def _about_signs() -> list[Claim]:
    """Differences that the laws make negative."""
    signs = {
        "triple_first": ("triple descent: excess risk at fewest samples minus at the linear peak", "d'Ascoli et al."),
        "triple_second": ("triple descent: excess risk in the valley minus at the nonlinear peak", "d'Ascoli et al."),
        "triple_gone": ("triple descent, λ = 0.01: excess risk at that peak minus in the valley", "d'Ascoli et al."),
        "samples_harm": ("samples: excess risk at 0.5p minus at 0.8p: more data hurts", "Nakkiran (2019)"),
        "samples_help": ("samples, best ridge: excess risk at 0.8p minus at 0.5p", "Nakkiran et al. (2021), Thm 1"),
        "features_second": ("features: lowest excess risk at p > n minus lowest at p < n", "Belkin, Hsu, Xu (2020)"),
    }
    basis = "significance: 4.5 standard errors below"
    return [Claim(n, s, src, 0.0, basis, standard_errors=-SIGNIFICANT, relation="<=") for n, (s, src) in signs.items()]


def measure(laws: Laws) -> xr.Dataset:
    """Every panel by simulation, averaged over targets and label noise exactly, draw by draw."""
    key, draws = jax.random.key(laws.seed), _MANY * laws.seeds
    many, few = jax.random.split(key, draws), jax.random.split(jax.random.fold_in(key, 1), laws.seeds)
    grid, over, seen = laws.triple_samples(), laws.sizes(laws.dimension), laws.sizes(laws.fixed)
    triple = [_random_features(few, n, laws) for n in grid]
    samples = [_gaussian_features(many, n, laws.dimension, laws) for n in over]
    features = [_gaussian_features(many, laws.fixed, p, laws)[:, 0] for p in seen]
    dataset = xr.Dataset(
        {
            "law_triple": (("law_n", "law_seed", "law_lambda"), np.stack(triple)),
            "law_samples": (("law_over", "law_draw", "law_kind"), np.stack(samples)),
            "law_features": (("law_p", "law_draw"), np.stack(features)),
        },
        coords={"law_n": grid, "law_over": over, "law_p": seen, "law_lambda": list(_LAMBDAS)},
        attrs={"law_dimension": laws.dimension, "law_fixed": laws.fixed},
    )
    return dataset.assign(_measured(dataset, laws))


@partial(jax.jit, static_argnames=("samples", "laws"))
def _random_features(keys: Key[Array, " draws"], samples: int, laws: Laws) -> Float[Array, "draws lambdas"]:
    """Excess risk of ridge regression on random tanh features, for both λ on the same draws."""
    d = laws.dimension

    def draw(key: PRNGKeyArray) -> Array:
        points, weights = jax.random.split(key)
        x = data.sphere(samples + _TESTS, d, points, dtype=laws.dtype).x
        z = random_features(x, _FEATURES * d, weights, activation="tanh", weights="sphere")

        def excess(lam: float) -> Array:
            ridge = samples * _FEATURES * lam  # n N λ/d
            smoother = z[samples:] @ ridge_inverse(z[:samples], ridge)
            bias = ((x[samples:] - smoother @ x[:samples]) ** 2).sum() / (d * _TESTS)
            return bias + _NOISE * (smoother**2).sum() / _TESTS

        return jnp.stack([excess(lam) for lam in _LAMBDAS])

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(draw, keys)  # one after another: batched decompositions gain nothing


@partial(jax.jit, static_argnames=("samples", "p", "laws"))
def _gaussian_features(keys: Key[Array, " draws"], samples: int, p: int, laws: Laws) -> Float[Array, "draws 2"]:
    """Excess risk of the first p of 2d Gaussian features, without ridge and under the best for p = d."""
    size = 2 * laws.dimension

    def draw(key: PRNGKeyArray) -> Array:
        x = jax.random.normal(key, (samples, size), laws.dtype)
        beta = jnp.full(size, size**-0.5, x.dtype)

        def excess(ridge: float) -> Array:
            solve = ridge_inverse(x[:, :p], ridge)
            error = solve @ (x @ beta) - beta[:p]
            return (error**2).sum() + (beta[p:] ** 2).sum() + _SMALL_NOISE * (solve**2).sum()

        return jnp.stack([excess(0.0), excess(laws.ridge)])

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(draw, keys)


def ridge_inverse(design: Float[Array, "n p"], ridge: float) -> Float[Array, "p n"]:
    """(AᵀA + ridge·I)⁻¹Aᵀ from a QR of A above √ridge·I, with the condition of A itself; ridge 0 is min-norm."""
    rows, columns = design.shape
    if rows < columns:
        return ridge_inverse(design.T, ridge).T
    slack = ridge**0.5 * jnp.eye(columns, dtype=design.dtype)
    orthogonal, triangle = jnp.linalg.qr(jnp.concatenate([design, slack]))
    return solve_triangular(triangle, orthogonal[:rows].T)


def _measured(dataset: xr.Dataset, laws: Laws) -> dict[str, float]:
    """The measured side of the claims."""
    triple = dataset.law_triple.rename(law_seed="draw")
    samples, features = (dataset[name].rename(law_draw="draw") for name in ("law_samples", "law_features"))
    small, large = (triple.sel(law_lambda=lam) for lam in _LAMBDAS)
    first, valley, second = laws.turns()
    few, near, many = (laws.sizes(laws.dimension)[i] for i in (1, 2, -2))
    bare, ridged = samples.isel(law_kind=0), samples.isel(law_kind=1)
    lowest = [
        part.isel(law_p=int(jnp.argmin(laws.finite(jnp.asarray(part.law_p.values), laws.fixed))))  # by the law
        for part in (features.sel(law_p=slice(laws.fixed, None)), features.sel(law_p=slice(None, laws.fixed)))
    ]
    values = {
        "triple_linear": small.sel(law_n=first),
        "triple_valley": small.sel(law_n=valley),
        "triple_nonlinear": small.sel(law_n=second),
        "triple_first": small.isel(law_n=0) - small.sel(law_n=first),
        "triple_second": small.sel(law_n=valley) - small.sel(law_n=second),
        "triple_gone": large.sel(law_n=second) - large.sel(law_n=valley),
        "samples_few": bare.sel(law_over=few),
        "samples_many": bare.sel(law_over=many),
        "samples_ridge": ridged.sel(law_over=near),
        "samples_harm": bare.sel(law_over=few) - bare.sel(law_over=near),
        "samples_help": ridged.sel(law_over=near) - ridged.sel(law_over=few),
        "features_all": features.isel(law_p=-1),
        "features_second": lowest[0] - lowest[1],
    }
    for name, peak in (("linear", first), ("nonlinear", second)):
        values[f"triple_{name}_place"] = small.sel(law_n=laws.beside(peak)) - small.sel(law_n=peak)
    return {name: number for key, value in values.items() for name, number in averaged(key, value, "draw").items()}


def draw(axes: Sequence[Axes], dataset: xr.Dataset, claims: Claims) -> None:
    """Triple descent over n/d; more data over n/p; more features over p/n: laws as lines, simulation as points."""
    triple, samples, features = axes
    d, n = dataset.attrs["law_dimension"], dataset.attrs["law_fixed"]
    for index, lam in enumerate(_LAMBDAS):
        label = f"$\\lambda = 10^{{{round(np.log10(lam))}}}$"
        values = dataset.law_triple.isel(law_lambda=index)
        _series(triple, claims.curves, "triple n", f"triple {lam:g}", d, values, "law_n", label, index)
    for x, name in ((1.0, "$n = d$"), (float(_FEATURES), "$n = N$")):
        figures.threshold(triple, x, name)
    for index, (name, label) in enumerate((("samples", "min-norm"), ("samples ridge", "best ridge"))):
        values = dataset.law_samples.isel(law_kind=index)
        _series(samples, claims.curves, "samples n", name, d, values, "law_over", label, index)
    _series(features, claims.curves, "features p", "features", n, dataset.law_features, "law_p", "min-norm", 0)
    figures.threshold(samples, 1.0, "$n = p$")
    figures.threshold(features, 1.0, "$p = n$")
    figures.label_axes(
        triple, "samples per dimension, $n/d$", "excess risk", "triple descent: tanh, $N = 10d$", xscale="log",
        yscale="log",
    )  # fmt: skip
    figures.label_axes(samples, "samples per feature, $n/p$", "excess risk", "more data hurts", yscale="log")
    title = f"p of D = {2 * d} Gaussian features"
    figures.label_axes(features, "features seen per sample, $p/n$", "excess risk", title, yscale="log")
    for ax in (samples, features):
        ax.set_ylim(0.4, 20)


def _series(
    ax: Axes, curves: dict[str, list[float]], x: str, y: str, unit: int, values: xr.DataArray, over: str, label: str,
    index: int,
) -> None:  # fmt: skip
    """One law and its points, over sizes in units of `unit`."""
    color = figures.PALETTE[index]
    figures.theory_line(ax, np.array(curves[x]) / unit, curves[y], color=color, label=label)
    draws = str(values.dims[1])
    error = values.std(draws, ddof=1).values / np.sqrt(values.sizes[draws])
    figures.points(ax, values[over].values / unit, values.mean(draws).values, error, color=color)
