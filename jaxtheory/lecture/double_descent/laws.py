"""Sizes and laws of the panels that are exact: three descents of tanh features, fits of few Gaussian features."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.double_descent import finite_gaussian, isotropic, mei_montanari
from jaxtheory.lecture.panels import draw_means

FEATURES, NOISE, TESTS = 10, 5.0, 300  # of the triple descent: N/d, and the noise of a signal of power 1
LAMBDAS = (1e-6, 1e-2)
SMALL_NOISE = 0.1  # of Gaussian features, with a signal of power 1
MANY = 16  # draws of Gaussian features for one of random features


class Laws(NamedTuple):
    """Sizes: d, draws of the random features, seed and dtype. Gaussian features: D = 2d, of which a fit sees p."""

    dimension: int
    seeds: int
    seed: int
    dtype: str

    @classmethod
    def of(cls, config: Any) -> "Laws":
        """Those of a configuration."""
        return cls(config.law_dimension, config.law_seeds, config.seed, "float64" if config.x64 else "float32")

    def triple(
        self, samples: Array | float | int, lam: float, d: float = 0.0, width: float = 0.0, noise: float = NOISE
    ) -> Array:
        """Excess risk of N = 10d tanh features at n = `samples`; with `d` dimensions and `width` features more."""
        dimension, features = self.dimension + d, FEATURES * self.dimension + width
        ratios = features / dimension, samples / dimension
        return mei_montanari(*ratios, lam, activation="tanh", signal=1.0, noise=noise).excess

    def finite(self, p: Array | int, n: Array | int) -> Array:
        """Excess risk of the min-norm solution on p of 2d Gaussian features, exact at every size."""
        size = 2 * self.dimension
        return finite_gaussian(p, n, jnp.full(size, size**-0.5), SMALL_NOISE).excess

    def signal(self, p: int, n: int) -> float:
        """What is left of `finite` without noise of labels and without the features that are not seen."""
        size = 2 * self.dimension
        seen = jnp.where(jnp.arange(size) < p, size**-0.5, 0.0)
        return float(finite_gaussian(p, n, seen, 0.0).excess)

    def ridged(self, n: Array | float, p: float | int) -> Array:
        """Excess risk of half of the features, p of them, under the ridge that is best at every n."""
        powers = {"signal": 0.5, "unseen": 0.5, "noise": SMALL_NOISE}
        return isotropic(p / n, lam=self.ridge / n, **powers).excess

    @property
    def ridge(self) -> float:
        """n λ* = (noise + unseen) p/signal, added to the unnormalized Gram: the same number for every n."""
        return (SMALL_NOISE + 0.5) * self.dimension / 0.5

    @property
    def fixed(self) -> int:
        """Samples of the panel over features."""
        return 2 * self.dimension // 3

    def turns(self) -> tuple[int, int, int]:
        """Samples at the linear peak, in the valley behind it and at the nonlinear peak, by the law."""
        n = np.arange(self.dimension // 5, 20 * self.dimension)
        risk = np.asarray(self.triple(jnp.asarray(n, float), LAMBDAS[0]))
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
        return max((grid[i - 1], grid[i + 1]), key=lambda n: float(self.triple(float(n), LAMBDAS[0])))

    def sizes(self, turn: int) -> list[int]:
        """Sizes n or p of Gaussian features, off the `turn` at which one equals the other and draws have no mean."""
        return sorted({round(q * turn) for q in (0.25, 0.5, 0.8, 1.25, 2.0, 3.0)})


def ridge_inverse(design: Float[Array, "n p"], ridge: float | Float[Array, ""]) -> Float[Array, "p n"]:
    """(AᵀA + ridge·I)⁻¹Aᵀ from a QR of A above √ridge·I, with the condition of A itself; ridge 0 is min-norm.

    Rows and columns of zeros, which pad a design, have zeros; the others must be independent where ridge is 0.
    """
    rows, columns = design.shape
    if rows < columns:
        return ridge_inverse(design.T, ridge).T
    slack = jnp.diag(jnp.where((design != 0).any(axis=0), ridge**0.5, 1.0).astype(design.dtype))
    orthogonal, triangle = jnp.linalg.qr(jnp.concatenate([design, slack]))
    return solve_triangular(triangle, orthogonal[:rows].T)


def draw_series(
    ax: Axes, curves: dict[str, list[float]], law: tuple[str, str, int], values: xr.DataArray, *, over: str, label: str,
    index: int,
) -> None:  # fmt: skip
    """One law and its points; the law by the names of its sizes and values among `curves`, and the unit of sizes."""
    x, y, unit = law
    color = figures.PALETTE[index]
    figures.theory_line(ax, np.array(curves[x]) / unit, curves[y], color=color, label=label)
    draw_means(ax, values[over].values / unit, values, values.dims[1], color=color)
