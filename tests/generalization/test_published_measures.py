"""Margins of all layers, the signal of gradients and learned priors, against NumPy and against what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import generalization as gen

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)), RNG.integers(0, 3, 12)
WEIGHTS = [(RNG.normal(size=(3, 5)), RNG.normal(size=5)), (RNG.normal(size=(5, 4)), RNG.normal(size=4)),
           (RNG.normal(size=(4, 3)), RNG.normal(size=3))]  # fmt: skip


def outputs_from(layer, h):
    """What follows a layer, on one example, in NumPy."""
    for i, (w, b) in enumerate(WEIGHTS[layer:], layer):
        h = h @ w + b
        h = np.maximum(h, 0) if i < len(WEIGHTS) - 1 else h
    return h


def test_margins_of_layers_are_first_order_distances(float64):
    """Outputs over their numerical slope at every layer; and spreads."""
    found = gen.layer_margins(gen.chain(WEIGHTS), X, Y)
    hidden = X
    for layer, (w, b) in enumerate(WEIGHTS):
        for i, h in enumerate(hidden):
            values = outputs_from(layer, h)
            other = max((j for j in range(3) if j != Y[i]), key=lambda j: values[j])
            gap = lambda h: outputs_from(layer, h)[Y[i]] - outputs_from(layer, h)[other]  # noqa: B023, E731
            slope = [(gap(h + e) - gap(h - e)) / 2e-6 for e in 1e-6 * np.eye(len(h))]
            length = np.linalg.norm(slope)
            expected = gap(h) / length if length else np.copysign(np.inf, gap(h))
            np.testing.assert_allclose(found.distances[layer, i], expected, rtol=1e-6)
        spread = np.sqrt(((hidden - hidden.mean(axis=0)) ** 2).sum(axis=1).mean())
        np.testing.assert_allclose(found.spreads[layer], spread, rtol=1e-12)
        hidden = np.maximum(hidden @ w + b, 0)


def test_equal_outputs_are_at_distance_0_and_others_of_a_dead_layer_at_infinity():
    x, y = jnp.asarray([[1.0, 0.5], [-1.0, 2.0]]), jnp.array([0, 1])
    ties = gen.chain([(jnp.ones((2, 3)), None), (jnp.zeros((3, 2)), None)])
    assert (gen.layer_margins(ties, x, y).distances == 0).all()
    dead = gen.chain([(jnp.zeros((2, 3)), None), (jnp.ones((3, 2)), jnp.array([1.0, 0.0]))])
    assert gen.layer_margins(dead, x, y).distances[0].tolist() == [np.inf, -np.inf]


def test_normalized_margins_do_not_depend_on_the_scale_of_a_layer(float64):
    """The first layer times 8, the second divided by 8: a ReLU network computes the same."""
    (first, bias), *rest = WEIGHTS
    scaled = [(8 * first, 8 * bias), (rest[0][0] / 8, rest[0][1]), *rest[1:]]
    one, other = (gen.layer_margins(gen.chain(net), X, Y) for net in (WEIGHTS, scaled))
    np.testing.assert_allclose(*(m.distances / m.spreads[:, None] for m in (one, other)), rtol=1e-12)
    np.testing.assert_allclose(other.spreads[1], 8 * one.spreads[1], rtol=1e-12)


def test_the_signal_of_gradients_is_that_of_their_covariance(float64):
    """Of least squares, whose gradients are (x·w − y) x."""
    w, y = RNG.normal(size=3), RNG.normal(size=12)
    gradients = (X @ w - y)[:, None] * X
    found = gen.gradient_signal(lambda w, x, y: jnp.mean((x @ w - y) ** 2) / 2, jnp.asarray(w), X, jnp.asarray(y))
    mean, variance = np.linalg.norm(gradients.mean(axis=0)), np.trace(np.cov(gradients.T))
    np.testing.assert_allclose(found, [mean, variance, variance / mean**2], rtol=1e-10)


def logistic(w, x, y):
    return jnp.logaddexp(0.0, -y * (x @ w)).mean() / jnp.log(2.0)


def mistakes(w, x, y):
    return (y * (x @ w) <= 0).astype(x.dtype).mean()


@pytest.fixture(scope="module")
def clouds():
    x = RNG.normal(size=(400, 10)).astype(np.float32)
    y = np.sign(x[:, 0] + 0.3 * RNG.normal(size=400)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(y)


def test_a_learned_prior_never_sees_what_the_bound_counts(clouds):
    """`learn` gets the first part alone; the certificate is that of the second part with the learned centre."""
    x, y = clouds
    seen = []

    def learn(x, y):
        seen.append(len(x))
        return 2 * jnp.mean(x * y[:, None], axis=0)

    settings = {"steps": 20, "draws": 16}
    found = gen.learned_prior(logistic, mistakes, learn, x, y, jax.random.key(0), share=0.25, **settings)
    assert seen == [100]
    center = 2 * jnp.mean(x[:100] * y[:100, None], axis=0)
    settings["key"] = jax.random.key(0)
    direct = gen.gaussian_posterior(logistic, mistakes, center, center, x[100:], y[100:], **settings)
    np.testing.assert_allclose(found.bound, direct.bound, rtol=1e-6)
    assert found.empirical < found.bound < 1


@pytest.mark.slow
def test_a_learned_prior_is_nearer_and_its_bound_smaller(clouds):
    """Against the prior at 0 on all of the data, from the same start: half of the examples, a tenth of the KL."""
    x, y = clouds
    learn = lambda x, y: 4 * jnp.mean(x * y[:, None], axis=0)  # noqa: E731
    start = learn(x, y)
    half = gen.learned_prior(logistic, mistakes, learn, x, y, jax.random.key(0), params=start, steps=300)
    fixed = gen.gaussian_posterior(logistic, mistakes, start, jnp.zeros(10), x, y, key=jax.random.key(0), steps=300)
    assert half.divergence < fixed.divergence / 3
    assert half.bound < fixed.bound


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gen.layer_margins(gen.chain(WEIGHTS[:1]), X, Y + 5), "y must hold labels within"),
        (lambda: gen.gradient_signal(lambda w, x, y: w, jnp.zeros(2), X, jnp.zeros(12)), "loss must return one real"),
        (lambda: gen.gradient_signal(logistic, jnp.zeros(3), X[:1], jnp.ones(1)), "x must hold at least two"),
        (lambda: gen.learned_prior(logistic, mistakes, lambda x, y: x[0], X[:2], jnp.ones(2), jax.random.key(0),
                                   share=0.1), "share must leave at least one"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
