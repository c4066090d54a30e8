"""Data, an independent simulation of networks, and a comparison within the errors of both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxtheory.feature_learning.solution import Estimate

X = np.float32(2**0.5) * np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], np.float32)
Y = np.array([1.0, -1.0, 0.5], np.float32)
TEST = np.array([[1.0, 1.0], [-1.0, 0.3]], np.float32)
TRAINING = {"richness": 1.0, "step_size": 0.2, "steps": 15, "record_every": 5}


def bound(estimate: Estimate, level: float = 0.01) -> np.ndarray:
    """The simultaneous bound of all entries of an estimate: Student's law of 8 groups, Bonferroni's correction."""
    return scipy.stats.t.ppf(1 - level / 2 / np.size(estimate.value), 7) * np.asarray(estimate.standard_error) + 1e-6


def excess(found: Estimate, drawn, level: float = 0.01) -> float:
    """The largest distance of an estimate from the mean of networks [networks ...], in units of the bound of both."""
    other = np.var(drawn, axis=0, ddof=1) / len(drawn)
    error = np.sqrt(np.square(found.standard_error) + other)
    return float(np.max(np.abs(np.mean(drawn, axis=0) - found.value) / bound(Estimate(found.value, error), level)))


def descend(params, points, y, *, activation, richness, step_size, steps, record_every):
    """Outputs of one network on all points at the recorded times, less those at the start, written by hand.

    h = W x/√d, W h/√N, f = w·φ/(γ0 N), steps η γ0² N on the squared loss of the first len(y) points.
    """
    width = len(params[0])

    def outputs(params):
        h = points @ params[0].T / points.shape[1] ** 0.5
        for weight in params[1:-1]:
            h = activation(h) @ weight.T / width**0.5
        return activation(h) @ params[-1] / (richness * width)

    first = outputs(params)

    def loss(params):
        return jnp.sum(((outputs(params) - first)[: len(y)] - y) ** 2) / 2

    def one(params, _):
        slopes = jax.grad(loss)(params)
        return jax.tree.map(lambda w, g: w - step_size * richness**2 * width * g, params, slopes), None

    records = [jnp.zeros_like(first)]
    for _ in range(steps // record_every):
        params, _ = jax.lax.scan(one, params, length=record_every)
        records.append(outputs(params) - first)
    return jnp.stack(records)


def networks(key, count, width, depth, points, y, **training):
    """`descend` of independent networks with standard Gaussian weights."""

    def one(key):
        keys = jax.random.split(key, depth + 1)
        hidden = [jax.random.normal(k, (width, width)) for k in keys[1:depth]]
        first = jax.random.normal(keys[0], (width, points.shape[1]))
        return descend([first, *hidden, jax.random.normal(keys[depth], (width,))], points, y, **training)

    return jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, count))
