"""Learning curves: test error and degrees of freedom of regressions on digits, predicted from one spectrum."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures, kernels, sweeps
from jaxtheory.lecture.claims import Claim, Claims, averages, statistical
from jaxtheory.lecture.kernel_regression.population import NAMES, Population, kernel_functions, modes
from jaxtheory.lecture.panels import draw_means
from jaxtheory.lecture.study import Study, swept
from jaxtheory.results import Status

_SOURCE = "Simon et al. (2023), eq. 4-8"


def predict(config: Any) -> Claims:
    """What the spectrum of each kernel says of regressions that have not been run."""
    sizes = np.geomspace(config.sizes[0], config.sizes[-1], 40)
    curves: dict[str, list[float]] = {"n": sizes.tolist()}
    claims: list[Claim] = []
    for name, (eigs, coefficients) in modes(config).items():
        spectrum = jnp.asarray(eigs), jnp.asarray(coefficients)
        curve = kernels.learning_curve(*spectrum, jnp.asarray(sizes, eigs.dtype), config.ridge, 0.0)
        curves[f"{name} test"] = curve.test.tolist()
        claims += _about_kernel(name, *spectrum, config)
    order = order_claims({claim.name: claim.predicted for claim in claims}, config)
    return Claims((*claims, *order), curves)


def _about_kernel(name: str, eigs: Array, coefficients: Array, config: Any) -> list[Claim]:
    n, basis = config.sizes[-1], "theory: relative remainder n^(−1/2)"
    curve = kernels.learning_curve(eigs, coefficients, jnp.asarray([float(n)], eigs.dtype), config.ridge, 0.0)
    used, bare = n - config.ridge / float(curve.kappa[0]), config.ridge / n
    explicit = float(jnp.sum((bare * coefficients / (eigs + bare)) ** 2))
    return [
        statistical(f"{name} test", f"digits, {name}: test error at n = {n}", _SOURCE, float(curve.test[0]), basis,
                    tolerance=float(curve.test[0]) * n**-0.5, rival=(explicit, "no ridge but the explicit one")),
        statistical(f"{name} used", f"digits, {name}: degrees of freedom of the fit at n = {n}", _SOURCE, used, basis,
                    tolerance=used * n**-0.5, rival=(float(n), "interpolation, all n")),
    ]  # fmt: skip


def order_claims(predicted: dict[str, float], config: Any) -> list[Claim]:
    """Differences between kernels on the same training sets, of neighbours in the predicted order.

    They reject one curve for both kernels of a pair. Kernels closer than 2% of their errors are left out.
    """
    errors = {name: predicted[f"{name} test"] for name in NAMES}
    order = sorted(NAMES, key=lambda name: errors[name])
    pairs = [(a, b) for a, b in itertools.pairwise(order) if errors[b] - errors[a] > 0.02 * errors[b]]
    return [
        statistical(f"{better} less {worse}",
                    f"digits, pairs: test error of {better} minus that of {worse}, same images", _SOURCE,
                    errors[better] - errors[worse], "theory: relative remainder n^(−1/2)", over="over pairs",
                    tolerance=(errors[worse] - errors[better]) * config.sizes[-1] ** -0.5,
                    rival=(0.0, "one curve for both kernels"))
        for better, worse in pairs
    ]  # fmt: skip


def sweep(config: Any) -> dict[str, xr.Dataset]:
    """Regressions of every kernel and size on independent training sets."""
    point = partial(_digits, config=config, population=Population.of(config), functions=kernel_functions(config))
    return {"digits": swept(config, "digits", point, sweeps.grid(seed=range(config.seeds)))}


def _digits(
    seed: Array, key: PRNGKeyArray, *, config: Any, population: Population, functions: dict[str, Callable]
) -> dict[str, object]:
    """Every kernel at every size on nested samples, independent and uniform, as the theory has them; errors on all."""
    drawn = jax.random.randint(key, (config.sizes[-1],), 0, config.images)
    x, y = jax.lax.optimization_barrier((population.x, population.y))  # or the compiler folds kernels of constants
    columns = jnp.stack([kernel(x, x[drawn]) for kernel in functions.values()])
    test, used = _regressions(config.sizes, config.ridge)(columns, drawn, y)
    return {"test": sweeps.named(test, "kernel", "size"), "used": sweeps.named(used, "kernel", "size")}


def _regressions(sizes: tuple[int, ...], ridge: float) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """Fits on the first n images drawn, whose columns of every kernel are given: test errors, degrees of freedom.

    Images beyond n have zeros in the Gram matrix and as targets, so that their coefficients are 0: one program for all.
    """

    # one seed after another: the matrices of all of them would fill a small machine's memory
    @jax.custom_batching.sequential_vmap
    def fits(columns: Array, drawn: Array, y: Array) -> tuple[Array, Array]:
        def fit(case: tuple[Array, Array]) -> tuple[Array, Array]:
            (kernel, n), most = case, len(drawn)
            seen = jnp.arange(most) < n
            gram = jnp.where(seen[:, None] & seen[None], columns[kernel][drawn], 0)
            path = kernels.ridge_path(gram, None, jnp.where(seen[:, None], y[drawn], 0), jnp.asarray([ridge], y.dtype))
            predicted = jnp.matmul(columns[kernel], path.alpha[0], precision="highest")
            error = jnp.sum((predicted - y) ** 2, axis=1).mean()
            good = jnp.where(path.status[0] == Status.OK, 1.0, jnp.nan).astype(y.dtype)
            return error * good, path.degrees_of_freedom[0]

        cases = jnp.repeat(jnp.arange(len(columns)), len(sizes)), jnp.tile(jnp.asarray(sizes), len(columns))
        found = jax.lax.map(fit, cases)
        return found[0].reshape(-1, len(sizes)), found[1].reshape(-1, len(sizes))

    return fits


def measure(config: Any) -> xr.Dataset:
    """Errors and degrees of freedom at the largest size, and differences of errors between kernels."""
    names = np.array(NAMES, np.dtypes.StringDType())
    fits = sweep(config)["digits"].assign_coords(kernel=names, size=list(config.sizes))
    last = fits.isel(size=-1)
    values = {f"{name} {field}": last[field].sel(kernel=name) for name in NAMES for field in ("test", "used")}
    values |= {f"{a} less {b}": last.test.sel(kernel=a) - last.test.sel(kernel=b)
               for a, b in itertools.permutations(NAMES, 2)}  # fmt: skip
    return fits.assign(averages(values))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Test error over the training size, a colour a kernel."""
    for color, name in zip(figures.PALETTE, NAMES, strict=False):
        figures.theory_line(ax, claims.curves["n"], claims.curves[f"{name} test"], color=color, label=name)
        draw_means(ax, dataset["size"], dataset.test.sel(kernel=name), "seed", color=color)
    title = "digits: predicted (lines), measured"
    figures.label_axes(ax, "training images $n$", "test error / variance", title, xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, dataset["size"])


STUDY = Study("digits", predict, measure, draw, sweep)
