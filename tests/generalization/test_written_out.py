"""Sharpness, cushions, compression, PAC-Bayes and capacities of three trained networks, written out in numpy."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generalization.written_out import (
    as_matrices,
    loss_and_gradient,
    numpy_margins,
    numpy_outputs,
    share_wrong,
    split_like,
)
from scipy.optimize import brentq

from jaxtheory import generalization as gen
from jaxtheory import kernels

# In double precision, with losses of order 1e-2 to 1 and some thousand operations a number: 1e-16 · 1e2 · √1e5.
ROUND_OFF = 1e-11


@pytest.fixture
def network(trained, sample, float64):
    """Matrices and initial matrices in numpy, the same chains in JAX, and the sample, all in double precision."""
    matrices, start = (as_matrices(weights) for weights in trained)
    chains = [tuple(map(jnp.asarray, net)) for net in (matrices, start)]
    return matrices, start, *chains, np.asarray(sample[0], float), np.asarray(sample[1])


def cross_entropy(net, x, y):
    log_shares = jax.nn.log_softmax(gen.forward(net, x))
    return -jnp.take_along_axis(log_shares, y[:, None], 1).mean()


@pytest.mark.slow
def test_sharpness(network):
    """Ascent along the gradient by hand; and the rises along the same random directions."""
    matrices, _, net, _, x, y = network
    loss = lambda w: cross_entropy(w, jnp.asarray(x), jnp.asarray(y))  # noqa: E731
    here, slope = loss_and_gradient(matrices, x, y)
    length = np.sqrt(sum((g**2).sum() for g in slope))
    risen = [m + 0.05 * g / length for m, g in zip(matrices, slope, strict=True)]
    expected = loss_and_gradient(risen, x, y)[0] - here
    assert float(gen.worst_direction(loss, net, 0.05)) == pytest.approx(expected, rel=ROUND_OFF / (expected / here))
    key, size = jax.random.key(5), sum(m.size for m in matrices)
    rises = []
    for k in jax.random.split(key, 6):
        moved = split_like(0.02 * np.asarray(jax.random.normal(k, (size,), jnp.float64)), matrices)
        rises.append(loss_and_gradient([m + e for m, e in zip(matrices, moved, strict=True)], x, y)[0] - here)
    found = gen.random_direction(loss, net, 0.02, key, draws=6)
    assert float(found.mean) == pytest.approx(np.mean(rises), rel=ROUND_OFF / abs(np.mean(rises) / here))
    assert float(found.standard_error) == pytest.approx(np.std(rises, ddof=1) / np.sqrt(6), rel=1e-8)


def test_cushions(network):
    """Point by point, with the Jacobians as products of masked matrices."""
    matrices, _, net, _, x, _ = network
    x, depth, gamma = x[:20], len(matrices), 0.7
    layer, between, contraction, largest = np.full(depth, np.inf), np.full(depth, np.inf), 0.0, 0.0
    for point in x:
        h, z = np.append(point, 1.0), []
        for i, matrix in enumerate(matrices):
            z.append(matrix @ h)
            cushion = np.linalg.norm(z[i]) / (np.linalg.norm(matrix) * np.linalg.norm(h))
            layer[i], h = min(layer[i], cushion), np.maximum(z[i], 0)
            if i < depth - 1:
                contraction = max(contraction, np.linalg.norm(z[i]) / np.linalg.norm(h))
        largest = max(largest, z[-1] @ z[-1])
        for first in range(depth):
            jacobian = np.eye(len(z[first]))
            for last in range(first, depth):
                if last > first:
                    jacobian = matrices[last] @ np.diag((z[last - 1] > 0) * 1.0) @ jacobian
                out = np.linalg.norm(jacobian @ z[first])
                ratio = out / (np.linalg.norm(jacobian) * np.linalg.norm(z[first]))
                between[first] = min(between[first], ratio)
    found = gen.cushions(net, jnp.asarray(x), gamma)
    complexity = contraction**2 * depth**2 * largest * sum(1 / (layer * between) ** 2) / gamma**2
    np.testing.assert_allclose(found.layer, layer, rtol=ROUND_OFF)
    np.testing.assert_allclose(found.interlayer, between, rtol=ROUND_OFF)
    assert float(found.contraction) == pytest.approx(contraction, rel=ROUND_OFF)
    assert float(found.complexity) == pytest.approx(complexity, rel=10 * ROUND_OFF)


def test_compression(network):
    """The sum over the same sign matrices, one by one, and Hoeffding's bound with its union."""
    matrices, _, net, _, x, y = network
    key, size, depth, n = jax.random.key(6), sum(m.size for m in matrices), len(matrices), len(x)
    budgets, errors, totals = (8, 96), [], [np.zeros_like(m) for m in matrices]
    for j in range(max(budgets)):
        words = np.asarray(jax.random.bits(jax.random.fold_in(key, j), (-(-size // 32), 1), jnp.uint32))
        bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")[:size]
        for i, sign in enumerate(split_like(1.0 - 2.0 * bits, matrices)):
            totals[i] += (matrices[i] * sign).sum() * sign
        if j + 1 in budgets:
            small = [total / (j + 1) for total in totals]
            for one in small[:-1]:
                one[-1] = np.eye(one.shape[1])[-1]
            errors.append(share_wrong(small, x, y))
    found = gen.compressed(net, jnp.asarray(x), jnp.asarray(y), key, budgets=budgets, delta=0.1)
    np.testing.assert_allclose(found.empirical, errors, rtol=1e-14)
    # weights in double precision have 64 bits
    price = [math.sqrt((64 * k * depth * math.log(2) + math.log(2 / 0.1)) / (2 * n)) for k in budgets]
    assert float(found.bound) == pytest.approx(min(e + p for e, p in zip(errors, price, strict=True)), rel=1e-14)


def numpy_kl_inverse(q, c):
    """The root of kl(q‖p) = c above q, by Brent's method in u = −ln(1 − p), since p may be near one."""

    def excess(u):
        first = q * math.log(q / -math.expm1(-u)) if q > 0 else 0.0
        return first + (1 - q) * (math.log1p(-q) + u) - c

    return -math.expm1(-brentq(excess, max(-math.log1p(-q), 1e-300), 1e4, xtol=1e-14))


@pytest.mark.slow
def test_pac_bayes(network):
    """Entropy, union over prior variances and Monte Carlo error of the fitted posterior, from its definition."""
    matrices, start, net, prior, x, y = network
    key, n, draws, delta = jax.random.key(7), len(x), 20, 0.1
    wrong = lambda w, x, y: (gen.margins(gen.forward(w, x), y) <= 0).astype(x.dtype).mean()  # noqa: E731
    fit = gen.gaussian_posterior(
        cross_entropy, wrong, net, prior, jnp.asarray(x), jnp.asarray(y), key=key, delta=delta, steps=300, draws=draws
    )
    w, s, center = (np.concatenate([np.ravel(m) for m in tree]) for tree in (fit.mean, fit.variance, start))
    lam = float(fit.prior_variance)
    j = 100 * math.log(0.1 / lam)
    assert j == pytest.approx(round(j), abs=1e-9)  # one of the priors that were there before the data
    assert round(j) >= 1
    divergence = sum((s + (w - center) ** 2) / lam - 1 - np.log(s / lam)) / 2
    assert float(fit.divergence) == pytest.approx(divergence, rel=ROUND_OFF)
    errors = []
    for k in jax.random.split(jax.random.split(key)[1], draws):
        drawn = w + np.sqrt(s) * np.asarray(jax.random.normal(k, w.shape, jnp.float64))
        errors.append(share_wrong(split_like(drawn, matrices), x, y))
    assert float(fit.empirical) == pytest.approx(np.mean(errors), rel=1e-12)
    sampled = numpy_kl_inverse(np.mean(errors), math.log(2 / (delta / 2)) / draws)
    share = 6 * (delta / 2) / (math.pi**2 * round(j) ** 2)
    bound = numpy_kl_inverse(sampled, (divergence + math.log(2 * math.sqrt(n) / share)) / n)
    assert float(fit.bound) == pytest.approx(bound, abs=1e-9)  # what the inverse is good for
    assert np.mean(errors) < sampled < bound < 1 - 1e-8  # further from one than the tolerance


@pytest.mark.slow
def test_capacities(network, trained, sample):
    """Counting and label bounds of the table: VC dimension, growth function, and a ball of the NTK's space."""
    _, _, _, _, x, y = network
    n, delta, sizes = len(x), 0.05, [64, *[w.shape[1] for w, _ in trained[0]]]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    inner = np.clip(unit @ unit.T, -1, 1)
    gram = inner * (1 - np.arccos(inner) / np.pi) + 1e-4 * np.eye(n)
    weights = [tuple(jnp.asarray(np.asarray(p, float)) for p in pair) for pair in trained[0]]
    ours = kernels.arc_cosine(order=0)(jnp.asarray(unit), jnp.asarray(unit)) * inner + 1e-4 * jnp.eye(n)
    # arccos near 1 halves the digits: an error of √eps on the diagonal's neighbours
    np.testing.assert_allclose(ours, gram, atol=1e-7)
    table = gen.measures(weights, (jnp.asarray(x), jnp.asarray(y)), gram=jnp.asarray(gram), delta=delta)
    found = {m.name: m for m in table.measures}
    labels = np.eye(10)[y]
    squares = np.trace(labels.T @ np.linalg.solve(gram, labels))
    condition = np.linalg.cond(gram) * 2.2e-16 * n
    assert float(found["NTK labels"].measure) == pytest.approx(math.sqrt(2 * squares / n), rel=condition)
    level = math.ceil(4 * math.log2(math.sqrt(squares)))
    spread = 4 * 2 ** (level / 4) * math.sqrt(10 * np.trace(gram)) / n
    price = math.log(2 / delta) + math.log(2 * (abs(level) + 1) * (abs(level) + 2))
    assert float(found["NTK labels"].bound) == pytest.approx(spread + 3 * math.sqrt(price / (2 * n)), rel=1e-12)
    counts = np.cumsum([(a + 1) * b for a, b in itertools.pairwise(sizes)])
    pairs, growth = [*sizes[1:-1], 45], 0.0
    for i, (w, k) in enumerate(zip(counts, pairs, strict=True), 1):
        m = 2 * n * k
        growth += min(m * math.log(2), math.log(2) + w * math.log(2 * math.e * m * i / w) if m >= w else math.inf)
    empirical = (numpy_margins(numpy_outputs(trained[0], x), y) <= 0).mean()
    expected = empirical + math.sqrt(8 * (growth + math.log(4 / delta)) / n)
    assert float(found["VC dimension"].bound) == pytest.approx(expected, rel=1e-12)
    one = [*sizes[:-1], 1]
    counts = np.cumsum([(a + 1) * b for a, b in itertools.pairwise(one)])
    r = sum(i * k for i, k in enumerate(one[1:], 1))
    dimension = len(counts) + counts.sum() * math.log2(4 * math.e * r * math.log2(2 * math.e * r))
    assert float(found["VC dimension"].measure) == pytest.approx(dimension, rel=1e-12)


@pytest.mark.slow
def test_the_table_holds_what_the_functions_give(network):
    """At the radius, deviation and sample that it names, with the keys it splits."""
    _, _, net, prior, x, y = network
    x, y = jnp.asarray(x), jnp.asarray(y)
    rows = [[m[:-1, :-1].T if i < len(w) - 1 else m[:, :-1].T for i, m in enumerate(w)] for w in (net, prior)]
    biases = [[m[:-1, -1] if i < len(w) - 1 else m[:, -1] for i, m in enumerate(w)] for w in (net, prior)]
    model, start = (list(zip(w, b, strict=True)) for w, b in zip(rows, biases, strict=True))
    key = jax.random.key(8)
    table = gen.measures(model, (x, y), prior=start, key=key)
    found = {m.name: m for m in table.measures}
    keys = jax.random.split(key, 3)
    loss = lambda w: cross_entropy(w, x, y)  # noqa: E731
    surrogate = lambda w, x, y: cross_entropy(w, x, y) / math.log(10)  # noqa: E731
    share = lambda w, x, y: (gen.margins(gen.forward(w, x), y) <= 0).astype(x.dtype).mean()  # noqa: E731
    expected = {
        "compression": gen.cushions(net, x, table.margin).complexity,
        "sharpness (worst)": gen.worst_direction(loss, net, 0.05),
        "sharpness (random)": gen.random_direction(loss, net, 0.01, keys[1], draws=32).mean,
    }
    for name, value in expected.items():
        assert float(found[name].measure) == pytest.approx(float(value), rel=1e-8), name
    assert float(found["compression"].bound) == float(gen.compressed(net, x, y, keys[0]).bound)
    fit = gen.gaussian_posterior(surrogate, share, net, prior, x, y, key=keys[2])
    assert float(found["PAC-Bayes-kl"].measure) == pytest.approx(float(fit.divergence), rel=1e-6)
    assert float(found["PAC-Bayes-kl"].bound) == pytest.approx(float(fit.bound), rel=1e-6)
    assert list(found) == [name for name in gen.SOURCES if name != "NTK labels"]
