"""Networks that are splines: B-splines of a function where it is rough, written down as ReLU networks."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes

from jaxtheory import figures
from jaxtheory.expressivity import relu_network as rn
from jaxtheory.lecture.besov.balls import BLUE, RED
from jaxtheory.lecture.claims import Claim, Claims, averaged, statistical
from jaxtheory.lecture.study import Study
from jaxtheory.results import fit_slope
from jaxtheory.smoothness import approximation, besov, bspline, signals, wavelets
from jaxtheory.smoothness.approximation import SplineTerms
from jaxtheory.smoothness.lasso import lasso, lasso_network

ORDER, ACCURACY = 3, 1e-6  # of the explicit networks
TERMS = np.array([16, 32, 64, 128])
LEVELS = 10  # of the functions that they approximate
_BLOCKS = 256  # of a network, at most: terms and their copies on the circle
_DRAWS = 12


def predict(config: Any) -> Claims:
    """The rate, the depth, and the accuracy of a lasso written as a network."""
    bound = bspline.suzuki_bound(ORDER, ACCURACY)
    first, last = TERMS[[0, -1]]
    remainder = math.log((1 + LEVELS / first) / (1 + LEVELS / last)) / math.log(last / first)
    lost = -0.5 * math.log1p(-((last / 2**LEVELS) ** 2)) / math.log(last / first)
    claims = (
        statistical("network", "B^1_{1,∞} as explicit ReLU networks of N splines: exponent of the error",
                    "Suzuki (2019), Prop. 1", -1.0, "theory: spikes at every level, the finest missing",
                    tolerance=remainder + lost, rival=(-0.5, "linear methods")),
        Claim("network_depth", "depth of that network", "Suzuki (2019), Lemma 1", float(bound.depth),
              "theory: an upper bound", relation="<="),
        Claim("network_gap", "the lasso's explicit network minus the lasso, sup, over Σ|b| · accuracy",
              "Suzuki (2019), Lemma 1", 1.0, "theory: an upper bound", relation="<="),
    )  # fmt: skip
    return Claims(claims, {})


def measure(config: Any) -> xr.Dataset:
    """Errors of explicit networks by size, the size of the largest, and of dictionaries that are fixed in advance."""
    key = jax.random.key(config.seed)
    errors, slopes, audit = network_errors(key)
    scalars = averaged("network", slopes, None)
    scalars |= {"network_depth": float(audit.depth), "network_gap": lasso_as_network(key)}
    sizes = [bspline.dictionary_size(ORDER, 5, dim) for dim in range(1, 7)]
    fields = {"spline_error": ("terms", errors), "dictionary": ("dimension", sizes)}
    return xr.Dataset(fields | scalars, {"terms": TERMS, "dimension": np.arange(1, 7)})


def network_errors(key: PRNGKeyArray) -> tuple[Float[np.ndarray, " sizes"], Float[np.ndarray, " draws"], rn.Audit]:
    """L² errors of explicit networks of N splines on points of B^1_{1,∞}, an exponent a draw, the largest's size."""
    block = bspline.relu_network(ORDER, ACCURACY)
    x = jnp.arange(2.0**LEVELS, dtype=jnp.float64)[:, None] / 2**LEVELS
    errors = []
    for k in jax.random.split(key, _DRAWS):
        c = besov.sample(k, 1.0, 1.0, math.inf, LEVELS, dtype=jnp.float64)
        f = wavelets.idwt(c, "db4") * 2 ** (LEVELS / 2)
        terms, source = on_the_circle(approximation.spline_terms(f, ORDER), int(TERMS[-1]))
        outputs = np.cumsum(np.asarray(_blocks(block, terms, x)), axis=0)
        last = [np.flatnonzero(source < size)[-1] for size in TERMS]
        errors.append(np.sqrt(((outputs[last] - np.asarray(f)) ** 2).mean(axis=1)))
    drawn = jnp.asarray(np.array(errors))
    slopes = jax.vmap(lambda e: fit_slope(jnp.asarray(TERMS, float), e).slope)(drawn)
    audit = bspline.audit_sum(bspline.SplineSum(block, terms.scales, terms.shifts[:, None], terms.weights))
    return np.array(drawn.mean(axis=0)), np.asarray(slopes), audit


def on_the_circle(terms: SplineTerms, count: int) -> tuple[SplineTerms, np.ndarray]:
    """The first `count` terms and their copies that meet (0, 1), padded with weight 0, and whose copy each is.

    >>> spline = SplineTerms(jnp.ones(1), jnp.ones(1) * 4, -jnp.ones(1))
    >>> copies, source = on_the_circle(spline, 1)
    >>> copies.shifts[:2].tolist(), source[:3].tolist()
    ([-1.0, 3.0], [0, 0, 256])
    """
    weights, scales, shifts = (np.asarray(part[:count], float) for part in terms)
    moved = shifts[:, None] + scales[:, None] * np.arange(ORDER + 2)[None, :]
    source, copy = np.nonzero((moved < scales[:, None]) & (moved + ORDER + 1 > 0))
    pad = (0, _BLOCKS - len(source))
    table = [np.pad(part, pad) for part in (weights[source], scales[source], moved[source, copy])]
    return SplineTerms(*map(jnp.asarray, table)), np.pad(source, pad, constant_values=_BLOCKS)


@jax.jit
def _blocks(block: rn.Network, terms: SplineTerms, x: Float[Array, "n 1"]) -> Float[Array, "blocks n"]:
    """Each block's part of the network's output: partial sums are the networks of fewer terms."""
    return jax.lax.map(lambda t: t.weights * rn.evaluate(block, t.scales * x - t.shifts)[:, 0], terms)


def lasso_as_network(key: PRNGKeyArray, octave: int = 6) -> float:
    """Largest distance of the lasso's explicit network from the lasso's estimate, over Σ|b| · accuracy."""
    n = 2**octave
    t = (jnp.arange(n, dtype=jnp.float64) + 0.5) / n
    y = signals.heavisine(t) + jax.random.normal(key, (n,), t.dtype)
    fit = lasso(bspline.dictionary(t, ORDER, octave - 1), y, 2.0, steps=400)
    net = lasso_network(fit.coefficients, ORDER, octave - 1, ACCURACY)
    x = jax.random.uniform(key, (500,), t.dtype)  # off the grid: at dyadic points the product gadgets are exact
    estimate = jnp.matmul(bspline.dictionary(x, ORDER, octave - 1), fit.coefficients, precision="highest")
    gap = jnp.abs(bspline.evaluate_sum(net, x[:, None]) - estimate).max()
    return float(gap / (ACCURACY * jnp.abs(fit.coefficients).sum()))


def draw(ax: Axes, dataset: xr.Dataset, claims: Claims) -> None:
    """Error over the number of splines, beside the atoms of a fixed dictionary."""
    size, error = dataset.terms.values, dataset.spline_error.values
    middle = np.exp(np.log(error * size).mean())
    figures.theory_line(ax, size, middle / size, label="$N^{-s}$, $s = 1$", color=BLUE)
    figures.points(ax, size, error, label="ReLU network of $N$ splines", color=RED)
    lines = [
        f"$d={d}$: {atoms:,}" for d, atoms in zip(dataset.dimension.values[:4], dataset.dictionary.values, strict=False)
    ]
    ax.text(0.04, 0.05, "atoms of a fixed dictionary\n" + "\n".join(lines), transform=ax.transAxes, fontsize=11)
    figures.label_axes(ax, "splines $N$", "$L^2$ error", "explicit networks in $B^1_{1,∞}$", xscale="log", yscale="log")
    figures.ticks_at(ax.xaxis, size)


STUDY = Study("networks", predict, measure, draw)
