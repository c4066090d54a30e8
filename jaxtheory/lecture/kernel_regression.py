"""Kernel regression: the learning curve of real digits from one spectrum, and the rate of a Sobolev ball.

A kernel's eigenvalues and the target's coefficients in its eigenfunctions predict test error, training error and
degrees of freedom at every sample size, before any regression is solved; on the circle, where the eigenvalues are
k^(−2s), the best ridge makes the error fall as n^(−2s/(2s+1)).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray

from jaxtheory import data, empirical, kernels, sweeps
from jaxtheory.lecture.claims import SIGNIFICANT, Claim, Claims, averaged, estimated
from jaxtheory.lecture.kernel_regression_figure import draw
from jaxtheory.lecture.topic import Topic
from jaxtheory.results import Status, fit_slope

_IMAGES, _CLASSES = 5000, 10
_ORDER, _PROBES = 60, 8  # of the stochastic Lanczos quadrature
_MODES, _GRID = 400, 2048  # frequencies of the target on the circle, and points at which its error is integrated
_NOISE = 0.25
_FAR, _FAR_MODES = (1e6, 1e8), 50_000  # samples between which the deterministic slope is taken: 460 modes are learned
_NAMES = ("Laplace", "arc-cosine", "NTK", "finite NTK")


@dataclass(frozen=True)
class Config:
    """Sizes of the digits panels and of the circle panel."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: about a minute on two cores; paper: the published sizes, for an accelerator"""
    out: Path = field(default=Path("runs/kernel_regression"), compare=False)
    """folder for predictions, sweeps, data, table and figure; an interrupted run continues there"""
    shard: str | None = field(default=None, compare=False)
    """i/n: only this share of the sweeps' points, for a job array; a run without it draws and judges"""
    seed: int = 0
    """of every random draw"""
    x64: bool = True
    """compute in float64"""
    images: int = 1500
    """the population, on which the error is taken: so many of MNIST's 5,000 digits"""
    sizes: tuple[int, ...] = (10, 20, 40, 80, 150)
    """training sizes n, drawn with replacement; the claims want n ≤ images/10, as if the population were a continuum"""
    ridge: float = 0.1
    """δ, added to the unnormalized Gram of inputs of norm 1"""
    width: int = 512
    """of the two-layer network whose empirical NTK is the fourth kernel"""
    seeds: int = 16
    """independent training sets"""
    smoothness: tuple[int, ...] = (1, 2)
    """s of the Sobolev spaces on the circle: 1, 2 or both"""
    circle_sizes: tuple[int, ...] = (30, 100, 300, 1000)
    """training sizes on the circle"""
    circle_seeds: int = 20
    """independent training sets on the circle"""

    @classmethod
    def of(cls, preset: str) -> "Config":
        """The configuration of a preset."""
        quick = cls()
        published = replace(quick, preset="paper", images=_IMAGES, sizes=(20, 50, 120, 250, 500), width=4096)
        return replace(published, seeds=60, circle_seeds=100) if preset == "paper" else quick


class Population(NamedTuple):
    """Images of norm 1, and their centred one-hot labels, scaled so that predicting the mean has error 1."""

    x: Array
    y: Array

    @classmethod
    def of(cls, config: Config) -> "Population":
        split = data.mnist5k(train=config.images, dtype="float64" if config.x64 else "float32")
        targets = data.one_hot(split.y, _CLASSES, dtype=split.x.dtype)
        targets = targets - targets.mean(axis=0, keepdims=True)
        x = split.x / jnp.linalg.norm(split.x, axis=1, keepdims=True)
        return cls(x, targets / jnp.sqrt((targets**2).sum(axis=1).mean()))


def kernel_functions(config: Config) -> dict[str, Callable[..., Array]]:
    """The four kernels of the digits: two of the kernel room, and the NTK at infinite and at finite width.

    The network is v·relu(√2 W x)/√m with standard normal entries; its NTK is κ₁ + ⟨x, x'⟩ κ₀ at m = ∞.
    """
    first, second = jax.random.split(jax.random.key(config.seed))
    dtype = jnp.dtype("float64" if config.x64 else "float32")
    weights = jax.random.normal(first, (784, config.width), dtype), jax.random.normal(second, (config.width,), dtype)
    finite = empirical.kernel_fn(_network, weights)
    return dict(zip(_NAMES, (kernels.laplace(1.0), kernels.arc_cosine(1), _relu_ntk, finite), strict=True))


def _network(weights: tuple[Array, Array], x: Array) -> Array:
    return jax.nn.relu(jnp.sqrt(2 / len(weights[1])).astype(x.dtype) * (x @ weights[0])) @ weights[1]


def _relu_ntk(x1: Array, x2: Array) -> Array:
    inner = jnp.matmul(x1, x2.T, precision="highest")
    return kernels.arc_cosine(1)(x1, x2) + inner * kernels.arc_cosine(0)(x1, x2)


def predict(config: Config) -> Claims:
    """What the spectrum of each kernel says of regressions that have not been run."""
    population, functions = Population.of(config), kernel_functions(config)
    sizes = np.geomspace(config.sizes[0], config.sizes[-1], 40)
    curves: dict[str, list[float]] = {"n": sizes.tolist()}
    claims: list[Claim] = []
    for name, kernel in functions.items():
        eigs, coefficients = _modes(kernel, population)
        curve = kernels.learning_curve(eigs, coefficients, jnp.asarray(sizes, eigs.dtype), config.ridge, 0.0)
        curves |= {f"{name} test": curve.test.tolist(), f"{name} eigenvalues": eigs.tolist()}
        claims += _digits_claims(name, eigs, coefficients, config)
    claims += _order_claims({claim.name: claim.predicted for claim in claims}, config)
    for s in config.smoothness:
        at = jnp.geomspace(config.circle_sizes[0], config.circle_sizes[-1], 40)
        curves |= {"circle n": at.tolist(), f"circle {s}": _circle_curve(s, at).tolist()}
        claims += _circle_claims(s, config)
    return Claims(tuple(claims), curves)


def _modes(kernel: Callable[..., Array], population: Population) -> tuple[Array, Array]:
    """Eigenvalues of K/M, descending, and the norms of the targets' coefficients, over the M images."""
    values, vectors = jnp.linalg.eigh(kernels.gram(kernel, population.x))
    power = jnp.sum(jnp.matmul(vectors.T, population.y, precision="highest") ** 2, axis=1)
    count = len(population.x)
    return jnp.maximum(values[::-1], 0) / count, jnp.sqrt(power[::-1] / count)


def _digits_claims(name: str, eigs: Array, coefficients: Array, config: Config) -> list[Claim]:
    n, images = config.sizes[-1], config.images
    curve = kernels.learning_curve(eigs, coefficients, jnp.asarray([float(n)], eigs.dtype), config.ridge, 0.0)
    source, basis = "Simon et al. (2023), eq. 4-8", "theory: relative remainder n^(−1/2); 4.5 standard errors"
    used = n - config.ridge / float(curve.kappa[0])
    ridge = 10 * float(config.ridge * images / n)
    counted = float(kernels.degrees_of_freedom(images * eigs, ridge))
    quadrature = images * math.exp(-4 * _ORDER / math.sqrt(1 + images * float(eigs[0]) / ridge))
    return [
        Claim(
            f"{name} test", f"digits, {name}: test error at n = {n}", source, float(curve.test[0]), basis,
            tolerance=float(curve.test[0]) * n**-0.5, standard_errors=SIGNIFICANT,
        ),
        Claim(
            f"{name} used", f"digits, {name}: degrees of freedom of the fit at n = {n}", source, used, basis,
            tolerance=used * n**-0.5, standard_errors=SIGNIFICANT, rival=float(n), rival_law="interpolation, all n",
        ),
        Claim(
            f"{name} trace", f"digits, {name}: N({ridge:.2g}) of all images, by Lanczos quadrature",
            "Ubaru, Chen, Saad (2017), Thm 4.1", counted, "theory: n exp(−4 order/√condition); 4.5 standard errors",
            tolerance=quadrature, standard_errors=SIGNIFICANT,
        ),
    ]  # fmt: skip


def _order_claims(predicted: dict[str, float], config: Config) -> list[Claim]:
    """Differences between kernels on the same training sets, of neighbours in the predicted order.

    They reject one curve for both kernels of a pair. Kernels closer than 2% of their errors are left out.
    """
    errors = {name: predicted[f"{name} test"] for name in _NAMES}
    order = sorted(_NAMES, key=lambda name: errors[name])
    pairs = [(a, b) for a, b in itertools.pairwise(order) if errors[b] - errors[a] > 0.02 * errors[b]]
    return [
        Claim(
            f"{better} less {worse}", f"digits, pairs: test error of {better} minus that of {worse}, same images",
            "Simon et al. (2023), eq. 4-8", errors[better] - errors[worse],
            "theory: relative remainder n^(−1/2); 4.5 standard errors over pairs",
            tolerance=(errors[worse] - errors[better]) * config.sizes[-1] ** -0.5,
            standard_errors=SIGNIFICANT, rival=0.0,
            rival_law="one curve for both kernels",
        )
        for better, worse in pairs
    ]  # fmt: skip


def _circle_curve(s: int, n: Array, modes: int = _MODES) -> Array:
    """The deterministic excess risk on the circle at λ = n^(−2s/(2s+1)), of a target of so many frequencies."""
    k = jnp.arange(1, modes + 1, dtype=n.dtype)
    eigs = jnp.concatenate([jnp.ones(1, n.dtype), k ** (-2.0 * s)])
    coefficients = jnp.concatenate([jnp.zeros(1, n.dtype), k ** (-s - 0.5)])
    counts = jnp.concatenate([jnp.ones(1, n.dtype), jnp.full_like(k, 2)])
    tail = 2 * (_zeta(2 * s) - float(jnp.sum(k ** (-2.0 * s))))

    def excess(at: Array) -> Array:
        curve = kernels.learning_curve(
            eigs, coefficients, at[None], _ridge(s, at), _NOISE, multiplicity=counts, tail=tail
        )
        return curve.test[0] - _NOISE

    return jax.lax.map(excess, n)


def _ridge(s: int, n: Any) -> Any:
    return n ** (1 + kernels.optimal_rate(2.0 * s, 0.5)[1])


def _zeta(order: int) -> float:
    return {2: math.pi**2 / 6, 4: math.pi**4 / 90}[order]


def _circle_claims(s: int, config: Config) -> list[Claim]:
    n = config.circle_sizes[-1]
    excess = float(_circle_curve(s, jnp.asarray([float(n)]))[0])
    rate = kernels.optimal_rate(2.0 * s, 0.5)[0]
    return [
        Claim(
            f"rate {s}", f"circle, s = {s}: slope of the deterministic risk", "Caponnetto, De Vito (2007), Thm 1", rate,
            "theory: next order n^(−1/(2s+1))", tolerance=_FAR[0] ** (-1 / (2 * s + 1)),
            kind="formula", rival=kernels.optimal_rate(2.0 * (3 - s), 0.5)[0], rival_law=f"that of s = {3 - s}",
        ),
        Claim(
            f"circle {s}", f"circle, s = {s}: excess risk at n = {n}", "Simon et al. (2023), eq. 4-8", excess,
            "theory: relative remainder n^(−1/2); 4.5 standard errors", tolerance=excess * n**-0.5,
            standard_errors=SIGNIFICANT,
        ),
    ]  # fmt: skip


def measure(config: Config) -> xr.Dataset:
    """Kernel ridge regressions on digits and on the circle, over seeds, and the traces of the digits' kernels."""
    swept = sweep(config)
    names = np.array(_NAMES, np.dtypes.StringDType())
    fits = swept["digits"].assign_coords(kernel=names, size=list(config.sizes))
    circle = swept["circle"].assign_coords(circle_size=list(config.circle_sizes))
    both = fits.merge(circle.rename({name: f"circle_{name}" for name in ("seed", "status")}))
    traces = _traces(config, Population.of(config), kernel_functions(config))
    scalars = _fit_scalars(fits) | _trace_scalars(traces) | _circle_scalars(circle, config)
    return both.merge(traces).assign(scalars).assign_attrs(ridge=config.ridge, images=config.images)


def sweep(config: Config) -> dict[str, xr.Dataset]:
    """The regressions on digits, of every kernel and size, and those on the circle."""
    run = partial(sweeps.run, shard=config.shard)
    point = partial(_digits, config=config, population=Population.of(config), functions=kernel_functions(config))
    digits = run(point, sweeps.grid(seed=range(config.seeds)), out=config.out / "digits.zarr", key=config.seed)
    grid = sweeps.grid(s=list(config.smoothness), seed=range(config.circle_seeds))
    point = partial(_circle, sizes=config.circle_sizes, x64=config.x64)
    circle = run(point, grid, out=config.out / "circle.zarr", key=config.seed + 1, static=("s",))
    return {"digits": digits, "circle": circle}


def _digits(
    seed: Array, key: PRNGKeyArray, *, config: Config, population: Population, functions: dict[str, Callable]
) -> dict[str, object]:
    """Every kernel at every size on nested samples, independent and uniform, as the theory has them; errors on all."""
    drawn = jax.random.randint(key, (config.sizes[-1],), 0, config.images)
    x, y = jax.lax.optimization_barrier((population.x, population.y))  # or the compiler folds kernels of constants
    fits = []
    for kernel in functions.values():
        columns = kernel(x, x[drawn])
        fits.append(_stacked([_regression(n, config.ridge)(columns, drawn, y) for n in config.sizes]))
    fields = dict(zip(("test", "used"), _stacked(fits), strict=True))
    return {name: sweeps.named(values, "kernel", "size") for name, values in fields.items()}


def _stacked(parts: list[tuple[Array, ...]]) -> tuple[Array, ...]:
    return tuple(jnp.stack(column) for column in zip(*parts, strict=True))


def _regression(n: int, ridge: float) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """Fit on the first n images drawn, whose kernel columns are given: test error, degrees of freedom."""

    # one seed after another: the matrices of all of them would fill a small machine's memory
    @jax.custom_batching.sequential_vmap
    def fit(columns: Array, drawn: Array, y: Array) -> tuple[Array, Array]:
        seen = drawn[:n]
        path = kernels.ridge_path(columns[seen, :n], None, y[seen], jnp.asarray([ridge], y.dtype))
        predicted = jnp.matmul(columns[:, :n], path.alpha[0], precision="highest")
        error = jnp.sum((predicted - y) ** 2, axis=1).mean()
        good = jnp.where(path.status[0] == Status.OK, 1.0, jnp.nan).astype(y.dtype)
        return error * good, path.degrees_of_freedom[0]

    return fit


def _circle(s: int, seed: Array, key: PRNGKeyArray, *, sizes: tuple[int, ...], x64: bool) -> dict[str, object]:
    """Regressions with the periodic spline kernel of a target at the edge of the Sobolev ball, in noise."""
    dtype = jnp.dtype("float64" if x64 else "float32")
    draws = jax.random.split(key, 3)
    x = jax.random.uniform(draws[0], (sizes[-1], 1), dtype)
    noise = _NOISE**0.5 * jax.random.normal(draws[1], (sizes[-1],), dtype)
    k, phase = jnp.arange(1, _MODES + 1, dtype=dtype), 2 * math.pi * jax.random.uniform(draws[2], (_MODES,), dtype)

    def target(x: Array) -> Array:
        return math.sqrt(2) * jnp.cos(2 * math.pi * x * k[None] + phase[None]) @ k ** (-s - 0.5)

    at = (jnp.arange(_GRID, dtype=dtype) / _GRID)[:, None]
    truth, y = target(at), target(x) + noise
    errors = [_excess(s, n)(x, y, at, truth) for n in sizes]
    return {"excess": sweeps.named(jnp.stack(errors), "circle_size")}


def _excess(s: int, n: int) -> Callable[..., Array]:
    @jax.custom_batching.sequential_vmap
    def excess(x: Array, y: Array, at: Array, truth: Array) -> Array:
        model = kernels.fit(_SPLINES[s], x[:n], y[:n], _ridge(s, float(n)), solver="cholesky")
        return jnp.mean((kernels.predict(model, at) - truth) ** 2)

    return excess


def _spline(s: int, x1: Array, x2: Array) -> Array:
    """1 + Σ_k 2 cos 2πk(x − x') / k^(2s), by Bernoulli's polynomial of degree 2s."""
    d = jnp.mod(x1[:, None, 0] - x2[None, :, 0], 1.0)
    bernoulli = d * (d - 1) + 1 / 6 if s == 1 else (d * (d - 1)) ** 2 - 1 / 30
    return 1 + (-1) ** (s - 1) * (2 * math.pi) ** (2 * s) / math.factorial(2 * s) * bernoulli


_SPLINES = {s: partial(_spline, s) for s in (1, 2)}


def _traces(config: Config, population: Population, functions: dict[str, Callable[..., Array]]) -> xr.Dataset:
    """N(ridge) of the Gram matrix of all images at several ridges, by stochastic Lanczos quadrature."""
    at = config.ridge * config.images / config.sizes[-1] * np.array([1.0, 10.0, 100.0, 1000.0])
    found = []
    for i, kernel in enumerate(functions.values()):
        key, gram = jax.random.fold_in(jax.random.key(config.seed), i), kernels.gram(kernel, population.x)
        density = kernels.lanczos_density(gram, None, key, order=min(_ORDER, config.images - 1), probes=_PROBES)
        found.append([kernels.spectral_sum(density, partial(_share, ridge=ridge)) for ridge in at])
    mean, error = (np.array([[float(one[j]) for one in row] for row in found]) for j in range(2))
    dims = ("kernel", "trace_ridge")
    return xr.Dataset({"trace": (dims, mean), "trace_error": (dims, error)}, {"trace_ridge": at})


def _share(values: Array, *, ridge: float) -> Array:
    return values / (values + ridge)


def _fit_scalars(fits: xr.Dataset) -> dict[str, float]:
    last = fits.isel(size=-1)
    pairs = {f"{a} less {b}": last.test.sel(kernel=a) - last.test.sel(kernel=b)
             for a, b in itertools.permutations(_NAMES, 2)}  # fmt: skip
    found = {key: value for name, values in pairs.items() for key, value in averaged(name, values).items()}
    return found | {
        key: value
        for name in fits.kernel.values.tolist()
        for field in ("test", "used")
        for key, value in averaged(f"{name} {field}", last[field].sel(kernel=name)).items()
    }


def _trace_scalars(traces: xr.Dataset) -> dict[str, float]:
    first = traces.isel(trace_ridge=1)
    return {
        key: value
        for i, name in enumerate(_NAMES)
        for key, value in estimated(f"{name} trace", first.trace[i], first.trace_error[i], _PROBES).items()
    }


def _circle_scalars(circle: xr.Dataset, config: Config) -> dict[str, float]:
    scalars: dict[str, float] = {}
    far = jnp.geomspace(*_FAR, 8)
    for s in config.smoothness:
        scalars |= averaged(f"circle {s}", circle.excess.sel(s=s).isel(circle_size=-1))
        scalars[f"rate {s}"] = float(fit_slope(far, _circle_curve(s, far, _FAR_MODES)).slope)
    return scalars


TOPIC = Topic("kernel-regression", Config, predict, measure, draw, sweep)
