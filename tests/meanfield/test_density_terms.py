"""Functionals as vectors, estimators in flows of the weights, and birth and death with the term of the density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import kernels, meanfield
from jaxtheory.meanfield import Cloud

X = jnp.array([[1.2, 0.3], [-0.4, 1.0], [0.2, -1.1]])
Y = jnp.array([0.8, -0.5, 0.3])
RISK = meanfield.risk(meanfield.neuron("tanh"), "squared", X, Y)
CLOUD = Cloud(jnp.array([[0.5, -1.0], [1.5, 0.25], [-0.75, 0.5], [0.0, 2.0]]), jnp.array([0.4, 0.1, 0.3, 0.2]))


def same_place(x, y):
    """1 where two points of a line coincide, 0 elsewhere."""
    return (x[:, :1] == y[None, :, 0]).astype(x.dtype)


def test_functionals_are_vectors(unchecked):
    """Values, gradients and stochastic versions are linear."""
    well = meanfield.quadratic(1.0)
    mixed = sum([RISK, -well / 2, 3.0 * well]) - RISK * 0.25
    np.testing.assert_allclose(mixed(CLOUD), 0.75 * RISK(CLOUD) + 2.5 * well(CLOUD), rtol=2e-6)
    gradient = lambda F: np.asarray(meanfield.wasserstein_gradient(F)(CLOUD))  # noqa: E731
    np.testing.assert_allclose(gradient(RISK - well), gradient(RISK) - gradient(well), atol=1e-6)
    batch = jnp.array([0, 2])
    np.testing.assert_allclose((RISK - well).subset(batch)(CLOUD), RISK.subset(batch)(CLOUD) - well(CLOUD), rtol=2e-6)
    for wrong, message in (
        (lambda: well - 1.0, "other must be"),
        (lambda: 1 + well, "other must be"),
        (lambda: well / 0, "scale must not"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


@pytest.mark.parametrize("name", ["stochastic", "svrg"])
@pytest.mark.slow
def test_estimates_of_the_variation_are_unbiased(name):
    """Within 4.5 standard errors, away from the anchor; at the anchor, svrg has no noise."""
    estimator = meanfield.stochastic(RISK, 2) if name == "stochastic" else meanfield.svrg(RISK, 2, 1000)
    memory = estimator.init(CLOUD)
    moved = Cloud(CLOUD.particles + 0.1, CLOUD.weights)
    draw = lambda k: estimator.slopes(moved, memory, k, jnp.int32(1))[0][1]  # noqa: E731
    draws = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(5), 4000)))
    exact = np.asarray(meanfield.first_variation(RISK)(moved, moved.particles))
    assert (np.abs(draws.mean(0) - exact) < 4.5 * draws.std(0) / np.sqrt(4000)).all()
    if name == "svrg":
        np.testing.assert_allclose(
            estimator.slopes(CLOUD, memory, jax.random.key(0), jnp.int32(1))[0][1],
            meanfield.first_variation(RISK)(CLOUD, CLOUD.particles),
            atol=1e-6,
        )


@pytest.mark.slow
def test_flows_of_weights_and_stein_take_estimators(unchecked):
    """Of one sample every draw is the exact flow; an estimator without slopes is refused by name."""
    one = meanfield.risk(meanfield.neuron("tanh"), "squared", X[:1], Y[:1])
    makes = {
        "conic": lambda F: meanfield.conic(F, 0.5, 0.1),
        "fisher_rao": lambda F: meanfield.fisher_rao(F, 0.5),
        "birth_death": lambda F: meanfield.birth_death(F, 5.0),
        "stein": lambda F: meanfield.stein(F, kernels.gaussian(1.0), 0.5, 0.1),
    }
    for name, make in makes.items():
        ends = []
        for drift in (one, meanfield.stochastic(one, 1), meanfield.svrg(one, 1, 3)):
            flow, key = make(drift), jax.random.key(2)
            ends.append(flow.step(CLOUD, flow.init(CLOUD), key, jnp.int32(1))[0])
        for other in ends[1:]:
            np.testing.assert_allclose(other.particles, ends[0].particles, atol=2e-6, err_msg=name)
            np.testing.assert_allclose(other.weights, ends[0].weights, atol=2e-6, err_msg=name)
    bare = meanfield.Estimator(lambda cloud: (), meanfield.exact(one).gradient)
    meanfield.stein(bare, kernels.gaussian(1.0), 0.5, 0.1)
    with pytest.raises(ValueError, match="slopes must be given"):
        meanfield.conic(bare, 0.5, 0.1)


def test_weights_descend_the_free_energy_exactly(float64):
    """Two places, r the log-ratio of their shares: r' = r − t (ΔV + λ r), at rest where r = −ΔV/λ (Gibbs)."""
    theta = jnp.array([[0.0], [0.0], [1.0]])  # two particles share a place
    start = Cloud(theta, jnp.array([0.1, 0.2, 0.7]))
    energy = meanfield.potential(lambda t: 0.8 * t[0])
    flow = meanfield.fisher_rao(energy, 0.25, temperature=0.5, kernel=same_place)
    ratio = np.log(0.7 / 0.3)
    for steps in (1, 5):
        found = meanfield.simulate(flow, start, steps=steps, key=jax.random.key(0)).state.cloud.weights
        expected = ratio
        for _ in range(steps):
            expected = expected - 0.25 * (0.8 + 0.5 * expected)
        np.testing.assert_allclose(np.log(found[2] / (found[0] + found[1])), expected, rtol=1e-11)
    end = meanfield.simulate(flow, start, steps=400, key=jax.random.key(0)).state.cloud.weights
    np.testing.assert_allclose(np.log(end[2] / (end[0] + end[1])), -0.8 / 0.5, rtol=1e-10)


@pytest.mark.slow
def test_births_and_deaths_with_a_density_settle_at_gibbs_shares(key):
    """Without it all would go to the lower place; with it the share of the upper is e^(−ΔV/λ)/(1 + e^(−ΔV/λ)).

    Counts are rounded once a step and pulled back by the factor 1 − tλ: 4.5 rounding deviations of a stationary
    autoregression, and a whole count for a draw that rounds systematically.
    """
    theta = jnp.concatenate([jnp.zeros((700, 1)), jnp.ones((300, 1))])
    energy = meanfield.potential(lambda t: t[0])
    flow = meanfield.birth_death(energy, 0.2, temperature=1.0, kernel=same_place)
    share = meanfield.simulate(flow, theta, steps=60, key=key).state.cloud.particles.mean()
    gibbs = np.exp(-1.0) / (1 + np.exp(-1.0))
    assert abs(float(share) - gibbs) < (4.5 * 0.5 / np.sqrt(1 - 0.8**2) + 1) / 1000
    plain = meanfield.birth_death(energy, 0.2)
    assert float(meanfield.simulate(plain, theta, steps=60, key=key).state.cloud.particles.mean()) < 0.02


def test_entropy_needs_both_temperature_and_kernel(unchecked):
    for arguments in ({"temperature": 1.0}, {"kernel": same_place}):
        for make in (meanfield.fisher_rao, meanfield.birth_death):
            with pytest.raises(ValueError, match="must come with the other"):
                make(RISK, 0.1, **arguments)
    with pytest.raises(ValueError, match="temperature must be >= 0"):
        meanfield.fisher_rao(RISK, 0.1, temperature=-1.0, kernel=same_place)
