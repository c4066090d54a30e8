"""Barron constants against SciPy's integrals, the Monte Carlo law against draws, greedy rates against the theorem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats
from tolerances import tolerance

from jaxtheory.expressivity import barron, greedy
from jaxtheory.results import Status, fit_slope


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_gaussian_constant_is_its_radial_integral(dim):
    sphere = 2 * np.pi ** (dim / 2) / special.gamma(dim / 2)
    radial = integrate.quad(lambda r: r**dim * np.exp(-(r**2) / 2), 0, 40)[0]
    assert barron.gaussian_constant(dim) == pytest.approx(sphere * radial / (2 * np.pi) ** (dim / 2), rel=1e-10)
    assert barron.gaussian_constant(dim, 0.5) == pytest.approx(2 * barron.gaussian_constant(dim), rel=1e-12)


@pytest.mark.slow
@pytest.mark.smoke
def test_constant_from_random_frequencies():
    """In 10 dimensions, from a Student proposal whose weights are not flat: within 4 standard errors of 3.084328."""
    rng = np.random.default_rng(0)
    proposal = stats.multivariate_t(np.zeros(10), np.eye(10), df=8, seed=rng)
    xi = proposal.rvs(20_000)
    hat = np.exp(-(xi**2).sum(1) / 2) / (2 * np.pi) ** 5
    value, error = barron.constant(*(jnp.asarray(part, jnp.float32) for part in (xi, hat, proposal.pdf(xi))))
    assert abs(value - 3.084328) < 4 * error
    assert 0 < error < 0.1


@pytest.mark.parametrize("neurons", [5, 50])
def test_monte_carlo_errs_by_exactly_its_law(neurons, key):
    x = jax.random.normal(jax.random.key(1), (30, 4))
    truth = jnp.exp(-(x**2).sum(1) / 2)
    draws = jax.vmap(lambda k: ((barron.monte_carlo(k, x, neurons) - truth) ** 2).mean())(jax.random.split(key, 4000))
    error = draws.std() / len(draws) ** 0.5
    assert abs(draws.mean() - barron.monte_carlo_law(x, neurons)) < 4 * error


@pytest.mark.slow
def test_monte_carlo_is_below_barrons_bound():
    x = jax.random.ball(jax.random.key(0), 5, shape=(500,))
    assert barron.monte_carlo_law(x, 20) <= barron.bound(barron.gaussian_constant(5), 1.0, 20)


def ends():
    return jnp.array([[1.0], [-1.0]])


@pytest.mark.parametrize(("power", "rate"), [(1, -2.0), pytest.param(2, -3.0, marks=pytest.mark.slow)])
def test_greedy_reaches_the_rate_in_one_dimension(power, rate, float64):
    """Slope at most −1/2 − (2k+1)/2, one-sided by 0.15: a smooth target may go faster, never slower."""
    x = jnp.linspace(0, 1, 1500)[:, None]
    f = jnp.sin(2 * jnp.pi * x[:, 0]) * jnp.exp(x[:, 0])
    net = greedy.fit(x, f, ends(), jnp.linspace(-1.02, 1.0, 1011), neurons=64, power=power)
    size = jnp.arange(8.0, 65.0)
    assert fit_slope(size, net.errors[7:]).slope < rate + 0.15
    assert net.status == Status.OK
    gap = greedy.evaluate(net, x, power=power) - f
    np.testing.assert_allclose(jnp.sqrt((gap**2).mean()), net.errors[-1], rtol=1e-6)


@pytest.mark.slow
def test_greedy_reaches_the_rate_in_two_dimensions(float64):
    axis = (np.arange(40) + 0.5) / 20 - 1
    x = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    f = jnp.exp(-2 * (x**2).sum(1)) * jnp.cos(3 * x[:, 0] + x[:, 1])
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    directions = jnp.asarray(np.stack([np.cos(turn), np.sin(turn)], 1))
    net = greedy.fit(x, f, directions, jnp.linspace(-1.5, 1.4, 120), neurons=96)
    assert fit_slope(jnp.arange(16.0, 97.0), net.errors[15:]).slope < -1.25 + 0.15


def test_every_step_is_the_projection(float64):
    """Against numpy's least squares on the chosen atoms, with weights that are not uniform."""
    rng = np.random.default_rng(2)
    x, w = np.sort(rng.uniform(0, 1, 300))[:, None], rng.uniform(0.5, 1.5, 300)
    w, f = w / w.sum(), np.cos(5 * x[:, 0])
    knots = jnp.linspace(-0.1, 1, 60)
    net = greedy.fit(jnp.asarray(x), jnp.asarray(f), ends(), knots, jnp.asarray(w), neurons=6)
    atoms = np.maximum(x @ np.asarray(net.directions).T - np.asarray(net.offsets), 0)
    for n in range(1, 7):
        solved = np.linalg.lstsq(np.sqrt(w)[:, None] * atoms[:, :n], np.sqrt(w) * f)[0]
        error = np.sqrt((w * (f - atoms[:, :n] @ solved) ** 2).sum())
        np.testing.assert_allclose(net.errors[n - 1], error, rtol=1e-9)
    np.testing.assert_allclose(net.coefficients, solved, rtol=1e-6)
    all_atoms = np.sqrt(w) * np.maximum(np.array([[1.0], [-1.0]])[:, None] * x[:, 0] - np.asarray(knots)[:, None], 0)
    first = np.sqrt(w) * np.maximum(x[:, 0] * float(net.directions[0, 0]) - float(net.offsets[0]), 0)
    best = np.abs(all_atoms @ (np.sqrt(w) * f)).max()
    assert abs(first @ (np.sqrt(w) * f)) == pytest.approx(best, rel=tolerance("float64", 10))


def test_greedy_stops_at_the_rank_of_its_dictionary():
    """Three distinct hats in a dictionary with repeated ones: the projection on them, and no neuron beyond."""
    x = np.linspace(0, 1, 40)
    f, knots = np.sin(6 * x), np.array([-1.0, 0.0, 0.5, 0.5, 0.5, 0.0])
    data = [jnp.asarray(part, jnp.float32) for part in (x[:, None], f, np.ones((1, 1)), knots)]
    net = greedy.fit(*data, neurons=6)
    atoms = np.maximum(x[:, None] - knots[None, :3], 0)
    projected = atoms @ np.linalg.lstsq(atoms, f)[0]
    assert net.status == Status.ILL_CONDITIONED
    assert (net.coefficients[3:] == 0).all()
    assert jnp.abs(net.coefficients).max() < 100
    at = greedy.evaluate(net, data[0])
    np.testing.assert_allclose(at, projected, atol=tolerance("float32", 30))
    np.testing.assert_allclose(net.errors[2:], np.sqrt(((f - at) ** 2).mean()), rtol=tolerance("float32", 30))


def test_greedy_in_float32_keeps_falling():
    x = jnp.linspace(0, 1, 500)[:, None]
    net = greedy.fit(x, jnp.sin(6 * x[:, 0]), ends(), jnp.linspace(-1.02, 1.0, 203), neurons=40)
    assert net.errors.dtype == jnp.float32
    assert (jnp.diff(net.errors) <= tolerance("float32")).all()
    assert net.status == Status.OK


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: barron.gaussian_constant(0), "dim must be >= 1"),
        (lambda: barron.bound(1.0, 1.0, 0), "neurons must be >= 1"),
        (lambda: barron.bound(-1.0, 1.0, 1), "constant must be >= 0"),
        (lambda: barron.bound(1.0, 0.0, 1), "radius must be > 0"),
        (lambda: barron.monte_carlo(jax.random.key(0), jnp.ones((2, 1)), 0), "neurons must be >= 1"),
        (lambda: barron.monte_carlo_law(jnp.ones((2, 1)), 0), "neurons must be >= 1"),
        (lambda: barron.constant(jnp.ones((2, 1)), jnp.ones(2), jnp.array([1.0, 0.0])), "density must be > 0"),
        (lambda: greedy.fit(jnp.ones((3, 1)), jnp.ones(3), ends(), jnp.ones(2), neurons=4), "neurons must lie in 1..3"),
        (lambda: greedy.fit(jnp.ones((3, 1)), jnp.ones(3), ends(), jnp.ones(2), neurons=1, power=0), "power must be"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
