"""The abc family: its gauge symmetry to round-off, its feature exponents, and the lazy-to-rich crossover."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxtheory import networks
from jaxtheory.results import fit_slope

STEPS = 20


def outputs_during_training(net, key, x, y, optimizer, steps=STEPS):
    """Outputs after each full-batch step of mean squared error; parameters at the start and at the end."""
    params = net.init(key)
    loss = lambda p: 0.5 * jnp.mean((net.apply(p, x) - y) ** 2)  # noqa: E731
    run = networks.train(loss, params, optimizer=optimizer, steps=steps, record=lambda p: net.apply(p, x))
    return run.records, params, run.params


def data(dtype, n=12, d=4):
    x = jax.random.normal(jax.random.key(1), (n, d), dtype)
    return x, jnp.sin(x[:, :1])


@pytest.mark.parametrize("theta", [0.25, *(pytest.param(theta, marks=pytest.mark.slow) for theta in (-0.5, 1.0))])
@pytest.mark.parametrize(
    ("family", "layers"), [(networks.standard, 3), (networks.ntk, 3), (networks.mup, 3), (networks.mean_field, 2)]
)
@pytest.mark.first_case
def test_gauge_leaves_sgd_unchanged(family, layers, theta, float64, key):
    """(a, b, c) -> (a + theta, b - theta, c - 2 theta): every output of 20 steps agrees to 1e-12."""
    x, y = data(float64)
    runs = []
    for abc in (family(layers), networks.shifted(family(layers), theta)):
        net = networks.multilayer(4, 32, 1, hidden_layers=layers - 1, abc=abc, activation=jnp.tanh, dtype=float64)
        runs.append(outputs_during_training(net, key, x, y, optax.sgd(0.3 * net.rate))[0])
    assert abs(runs[0][-1] - runs[0][0]).max() > 1e-3
    np.testing.assert_allclose(runs[1], runs[0], rtol=0, atol=1e-12 * float(abs(runs[0]).max()))


def test_gauge_of_adam_shifts_the_rate_once(float64, key):
    """With epsilon = 0 Adam sees only signs and ratios of gradients: c -> c - theta."""
    x, y = data(float64)
    runs = []
    for abc in (networks.ntk(3), networks.shifted(networks.ntk(3), 0.5, adam=True)):
        net = networks.multilayer(4, 32, 1, hidden_layers=2, abc=abc, activation=jnp.tanh, dtype=float64)
        runs.append(outputs_during_training(net, key, x, y, optax.adam(0.01 * net.rate, eps=0.0))[0])
    np.testing.assert_allclose(runs[1], runs[0], rtol=0, atol=1e-10 * float(abs(runs[0]).max()))


def test_feature_exponents():
    """Yang and Hu (2021), table 1: standard and ntk are kernel regimes, mean field and muP learn features."""
    for layers in (2, 3, 5):
        # with one hidden layer only the input weights could move features, and they are the slower by another n
        assert networks.feature_exponent(networks.standard(layers)) == (1.5 if layers == 2 else 0.5)
        assert networks.feature_exponent(networks.ntk(layers)) == 0.5
        assert networks.feature_exponent(networks.mup(layers)) == 0.0
    assert networks.feature_exponent(networks.mean_field(2)) == 0.0
    # the exponent is a property of the gauge orbit
    assert networks.feature_exponent(networks.shifted(networks.ntk(4), 0.3)) == pytest.approx(0.5, abs=1e-12)


def test_parameter_displacement_is_inverse_to_the_output_scale(float64, key):
    """Lazy training, output alpha f and loss / alpha^2: displacement obeys alpha^(-1) once alpha sqrt(h) >> 1."""
    x, y = data(float64)
    scales = np.array([2.0, 4.0, 8.0, 16.0])

    @jax.jit
    def displacement(scale):
        net = networks.multilayer(4, 128, 1, activation=jnp.tanh, output_scale=scale, dtype=float64)
        start = net.init(key)
        centered = net._replace(apply=lambda p, x: net.apply(p, x) - net.apply(start, x))
        _, first, last = outputs_during_training(centered, key, x, y, optax.sgd(0.5 / scale**2), steps=300)
        return optax.tree.norm(jax.tree.map(jnp.subtract, last, first))

    fit = fit_slope(jnp.asarray(scales), jnp.asarray([displacement(s) for s in scales]))
    # corrections to the power law are of relative order 1 / (alpha sqrt(h)), at most 1/22 here
    assert abs(fit.slope + 1) < 1 / 22


def test_refuses_exponents_of_another_depth(unchecked):
    with pytest.raises(ValueError, match="one exponent for each of 3 layers"):
        networks.multilayer(2, 8, 1, hidden_layers=2, abc=networks.ntk(2))
    with pytest.raises(ValueError, match="mean-field"):
        networks.mean_field(3)
    with pytest.raises(ValueError, match="width must be >= 1"):
        networks.multilayer(2, 0, 1)
