"""The table of rates by function class: the exponent of the L² error in N, for linear and for adaptive approximation.

Each class is one row: what the theory says of both arms, and a measurement of both on a function that is extremal, or
typical, for the class.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxtheory.results import fit_slope
from jaxtheory.smoothness import approximation, besov, mixed, signals, wavelets
from jaxtheory.smoothness.wavelets import Coefficients

_DRAWS = 6


class Row(NamedTuple):
    """A class: the exponents of both arms, how far finite N may move them, who proved it, and their nearest rivals."""

    name: str
    label: str
    linear: float
    adaptive: float
    linear_remainder: float
    adaptive_remainder: float
    source: str
    rivals: tuple[float, float]
    """exponents of the nearest other classes, or of the other arm: linear, adaptive"""


class Measured(NamedTuple):
    """Fitted exponents, linear and adaptive: one a draw, one in all where nothing is drawn, NaN of a lower bound."""

    linear: np.ndarray
    adaptive: np.ndarray


def rows(levels: int) -> tuple[Row, ...]:
    """What the theory says, for functions of 2^levels samples."""
    cut, finer = partial(_cut, levels), levels - int(_octaves(levels)[0])
    one, spikes, jump = (_shift(extra, rate, levels) for extra, rate in ((1, 1.0), (finer, 1.0), (7 * finer, 2.0)))
    edge, log = 1 / math.log(2.0**15), _mixed_remainder()
    besov_source = "DeVore, Jawerth, Popov (1992), Thm 3"
    mixed_source = "Dung, Temlyakov, Ullrich (2018), Thm 4.3.1"
    return (
        Row("holder", "Hölder $C^1$", -1.0, -1.0, cut(1.0), cut(1.0) + one, "DeVore (1998), Thm 3.1", (-0.5, -0.5)),
        Row("sobolev", "Sobolev $H^1$", -1.0, -1.0, cut(1.0), cut(1.0) + one, "DeVore (1998), section 3", (-0.5, -0.5)),
        Row("besov", "Besov $B^1_{1,∞}$", -0.5, -1.0, cut(0.5), cut(1.0) + spikes, besov_source, (-1.0, -0.5)),
        Row(
            "piecewise",
            "piecewise $C^2$, a jump",
            -0.5,
            -2.0,
            cut(0.5),
            cut(2.0) + jump,
            "DeVore (1998), section 7",
            (-1.0, -1.0),
        ),
        Row("disc", "2-D, smooth edge", -0.25, -0.5, edge, edge, "Donoho (1999), section 2", (-0.5, -0.25)),
        Row("mixed", "mixed, $d = 5$ (of $N$/logs)", -0.2, -1.0, 0.01, log, mixed_source, (-1 / 3, -0.5)),
        Row("barron", "Barron, $d = 10$", -0.1, -0.5, 0.0, 0.0, "Barron (1993), Thms 1 and 6", (-0.5, -0.6)),
    )


def _cut(levels: int, rate: float) -> float:
    """What missing levels take from the slope of N^{−rate}: the last error is short by (1 − 4^{−rate · left})^{1/2}."""
    octaves = _octaves(levels)
    lost = -0.5 * math.log1p(-(4.0 ** (-rate * (levels - octaves[-1]))))
    return lost / (math.log(2) * (octaves[-1] - octaves[0]))


def _octaves(levels: int) -> np.ndarray:
    return np.arange(levels - 7, levels - 3)


def _shift(terms: int, rate: float, levels: int) -> float:
    """What `terms` of the N, spent on spikes of finer levels, take from a slope: at worst they are lost where a level
    of equal coefficients ends, and there the error falls as N to the power 1 − 4^rate."""
    first, last = 2.0 ** _octaves(levels)[[0, -1]]
    return (4**rate - 1) * (math.log1p(terms / first) - math.log1p(terms / last)) / math.log(last / first)


def _mixed_remainder(dim: int = 5, s: float = 1.0, u: float = 0.5, n: int = 30) -> float:
    """Of log N for n = log2 of the last block, where N = 2^n n^{d−1}/(d − 1)!, at the first of the levels fitted."""
    log_terms = n * math.log(2) + (dim - 1) * math.log(n) - math.lgamma(dim)
    return (dim - 1) * (s + u) * abs(1 / (n * math.log(2) + dim - 1) - 1 / log_terms)


def measure(key: PRNGKeyArray, levels: int) -> dict[str, Measured]:
    """Every row, measured: fitted exponents of independent draws."""
    draws: dict[str, Callable[[Array], Coefficients]] = {
        "holder": lambda k: besov.sample(k, 1.0, math.inf, math.inf, levels, dtype=jnp.float64),
        "sobolev": lambda k: besov.sample(k, 1.0, 2.0, math.inf, levels, "gaussian", dtype=jnp.float64),
        "besov": lambda k: besov.sample(k, 1.0, 1.0, math.inf, levels, dtype=jnp.float64),
        "piecewise": lambda k: _with_jump(k, levels),
    }
    keys = jax.random.split(key, _DRAWS)
    table = {}
    for name, draw in draws.items():
        both = jax.jit(jax.vmap(lambda k, draw=draw: _slopes(draw(k), levels)))(keys)
        table[name] = Measured(*map(np.asarray, both))
    return table | {"disc": _disc(), "mixed": _mixed(), "barron": _barron(key)}


def _with_jump(key: PRNGKeyArray, levels: int) -> Coefficients:
    """A function of B^2_{2,∞} with a jump of 1 at a random place, in db4."""
    place, smooth = jax.random.split(key)
    t = jnp.arange(2**levels, dtype=jnp.float64) / 2**levels
    step = jnp.where(t >= jax.random.uniform(place, (), jnp.float64), 1.0, 0.0) / 2 ** (levels / 2)
    rough = besov.sample(smooth, 2.0, 2.0, math.inf, levels, "gaussian", dtype=jnp.float64)
    return jax.tree.map(jnp.add, wavelets.dwt(step, "db4"), rough)


def _slopes(c: Coefficients, levels: int) -> tuple[Array, Array]:
    octaves = _octaves(levels)
    linear, terms = approximation.linear_errors(c)[octaves], 2.0 ** jnp.asarray(octaves, float)
    adaptive = approximation.n_term_errors(c)[2**octaves - 1]
    return fit_slope(terms, linear).slope, fit_slope(terms, adaptive).slope


def _only(x: Array, errors: Array) -> np.ndarray:
    """The exponent of one curve."""
    return np.asarray(fit_slope(x, errors).slope)[None]


def _disc(size: int = 1024, radius: float = 0.3) -> Measured:
    """Frequencies of the disc's indicator in order, against Haar's best; errors are square roots of energies."""
    image = signals.disc(size, radius, center=(0.497, 0.513))
    energy = np.abs(np.fft.fft2(image) / image.size) ** 2
    k = np.abs(np.fft.fftfreq(size, 1 / size))
    reach = np.maximum(k[:, None], k[None, :])
    cuts = 2 ** np.arange(2, 7)
    tails = np.sqrt([math.pi * radius**2 - energy[reach <= cut].sum() for cut in cuts])
    squares = jnp.sort(wavelets.ravel(wavelets.dwt(jnp.asarray(image) / size, "haar")) ** 2)[::-1]
    terms = 2 ** np.arange(6, 12)
    errors = jnp.sqrt(math.pi * radius**2 - jnp.cumsum(squares)[terms - 1])  # of the disc, not of its pixels
    return Measured(
        _only(jnp.asarray((2.0 * cuts + 1) ** 2), jnp.asarray(tails)), _only(jnp.asarray(terms, float), errors)
    )


def _mixed(dim: int = 5) -> Measured:
    """Energies 4^{−j}, the worst of MB^1_{2,∞}: the full grid against the cross, N after its logarithms."""
    energies = 4.0 ** -np.arange(70)
    full, cross = (rule(energies, 45, dim) for rule in (mixed.isotropic_errors, mixed.cross_errors))
    terms = mixed.effective_terms(cross.terms[30:], dim, u=0.5)
    fit = lambda x, y: _only(jnp.asarray(x), jnp.asarray(y))  # noqa: E731
    return Measured(fit(full.terms[5:15], full.errors[5:15]), fit(terms, cross.errors[30:]))


def _barron(key: PRNGKeyArray, dim: int = 10, points: int = 400) -> Measured:
    """exp(−|x|²/2) = E cos(ω·x) as the mean of n random ridge functions: E‖f − f_n‖² is exactly proportional to 1/n."""
    inputs, frequencies = jax.random.split(key)
    x = jax.random.normal(inputs, (points, dim), jnp.float64) / math.sqrt(dim)
    target = jnp.exp(-jnp.sum(x**2, axis=1) / 2)
    widths = np.array([16, 32, 64, 128, 256])

    def squares(k: Array) -> Array:
        waves = jnp.cos(jnp.matmul(x, jax.random.normal(k, (dim, int(widths[-1])), x.dtype), precision="highest"))
        means = jnp.cumsum(waves, axis=1)[:, widths - 1] / jnp.asarray(widths, x.dtype)[None, :]
        return jnp.mean((means - target[:, None]) ** 2, axis=0)

    drawn = jax.jit(jax.vmap(squares))(jax.random.split(frequencies, 160)).reshape(20, 8, -1).mean(axis=1)
    slopes = jax.vmap(lambda y: fit_slope(jnp.asarray(widths, y.dtype), y).slope)(drawn)
    return Measured(np.array([math.nan]), np.asarray(slopes) / 2)
