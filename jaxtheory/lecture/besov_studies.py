"""What the topic of Besov spaces measures: risk curves in the ball, estimators of one signal, and explicit networks."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxtheory import kernels, networks
from jaxtheory.expressivity import relu_network as rn
from jaxtheory.results import fit_slope
from jaxtheory.smoothness import approximation, besov, bspline, estimation, signals, wavelets
from jaxtheory.smoothness.approximation import SplineTerms
from jaxtheory.smoothness.lasso import lasso, lasso_network
from jaxtheory.smoothness.wavelets import Coefficients

ORDER, ACCURACY = 3, 1e-6  # of the explicit networks
TERMS = np.array([16, 32, 64, 128])
LEVELS = 10  # of the functions that they approximate
_BLOCKS = 256  # of a network, at most: terms and their copies on the circle
_DRAWS = 12


class Ball(NamedTuple):
    """A ball of B^1_{p,∞} and how its points are drawn."""

    kind: besov.Kind
    p: float


BALLS = {"spiky": Ball("spike+dense", 1.0), "homogeneous": Ball("gaussian", 2.0)}


def ball_risks(octave: Array, seed: Array, key: PRNGKeyArray, *, ball: Ball, levels: int) -> dict[str, Array]:
    """Losses of three rules on one function of the ball from n = 2^octave noisy samples, which see levels < octave."""
    draw, noise = jax.random.split(key)
    truth = besov.sample(draw, 1.0, ball.p, math.inf, levels, ball.kind, dtype=jnp.float64)
    sigma = 2.0 ** (-octave.astype(jnp.float64) / 2)
    noises = jax.random.normal(noise, (2**levels - 1,), jnp.float64)
    pieces = jnp.split(noises, [2**j - 1 for j in range(1, levels)])
    details = tuple(b + sigma * z[None, :] for b, z in zip(truth.details, pieces, strict=True))
    noisy = Coefficients(truth.approximation, details)
    seen = [jnp.asarray(j) < octave for j in range(levels)]

    def loss(estimate: Coefficients) -> Array:
        squares = [jnp.sum((a - b) ** 2) for a, b in zip(estimate.details, truth.details, strict=True)]
        return jnp.sum(jnp.where(jnp.stack(seen), jnp.stack(squares), 0.0))

    best = [jnp.sum(jnp.minimum(b**2, sigma**2)) for b in truth.details]
    return {
        "linear": loss(estimation.linear_oracle(noisy, truth, sigma)),
        "sure": loss(estimation.denoise(noisy, sigma, "sure", coarse=0)),
        "ideal": jnp.sum(jnp.where(jnp.stack(seen), jnp.stack(best), 0.0)),
    }


def exact_linear_risk(octave: int, ball: Ball) -> float:
    """E of "linear" above: a level of m = 2^j has energy 2^{−2j} (Gaussian), or its dense part's and its spike's."""
    m = 2.0 ** np.arange(octave)
    dense = (1 / np.sqrt(m) / (2 * m)) ** 2 * (m - 1 + (1 + m) ** 2)
    energy, noise = (m**-2.0 if ball.kind == "gaussian" else dense), m / 2.0**octave
    return float((energy * noise / (energy + noise)).sum())


def signal_risks(
    octave: int, seed: Array, key: PRNGKeyArray, *, sigma: float, steps: int, width: int
) -> dict[str, Array]:
    """Mean squared errors on HeaviSine with noise, at n = 2^octave samples: every estimator on the same data."""
    n = 2**octave
    noise, start = jax.random.split(key)
    t = (jnp.arange(n, dtype=jnp.float64) + 0.5) / n
    f = signals.heavisine(t)
    y = f + sigma * jax.random.normal(noise, (n,), t.dtype)
    noisy, truth = (wavelets.dwt(v / math.sqrt(n), "db2") for v in (y, f))
    level = sigma / math.sqrt(n)
    back = lambda c: wavelets.idwt(c, "db2") * math.sqrt(n)  # noqa: E731
    loss = lambda fitted: jnp.mean((fitted - f) ** 2)  # noqa: E731
    design = bspline.dictionary(t, 1, octave - 1)
    gram = kernels.laplace(0.2)(t[:, None], t[:, None])
    return {
        "linear": loss(back(estimation.linear_oracle(noisy, truth, level))),
        "ridge": jnp.min(estimation.ridge_risks(gram, f, sigma, jnp.logspace(-3, 4, 40, dtype=t.dtype))),
        "sure": loss(back(estimation.denoise(noisy, level))),
        "lasso": loss(lasso(design, y, sigma * math.sqrt(2 * math.log(design.shape[1])), steps=400).fitted),
        "network": loss(_trained(start, t, y, steps, width)),
    }


def _trained(key: PRNGKeyArray, t: Array, y: Array, steps: int, width: int) -> Array:
    """A ReLU network of two hidden layers by Adam in float32, stopped where a quarter of the samples says."""
    net = networks.multilayer(
        1, width, 1, hidden_layers=2, abc=networks.standard(3), weight_variance=2.0, bias_variance=1.0
    )
    x, scale = (2 * t[:, None] - 1).astype(jnp.float32), jnp.std(y)
    target = (y / scale).astype(jnp.float32)
    held = jnp.arange(len(t)) % 4 == 1
    error = lambda params, where: jnp.mean((net.apply(params, x)[:, 0] - target) ** 2, where=where)  # noqa: E731
    every = steps // 40
    fit = networks.train(
        partial(error, where=~held), net.init(key), optimizer=optax.adam(3e-3), steps=40 * every, record_every=every,
        record=lambda params: (error(params, held), net.apply(params, x)[:, 0]),
    )  # fmt: skip
    scores, outputs = fit.records
    return outputs[jnp.argmin(scores)].astype(y.dtype) * scale


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
