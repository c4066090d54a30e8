"""The other flows against the law each was made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory import kernels, meanfield
from jaxtheory.meanfield import Cloud, interacting, oracles
from jaxtheory.results import Status

X = jnp.array([[1.2, 0.3], [-0.4, 1.0], [0.2, -1.1]])
Y = jnp.array([0.8, -0.5, 0.3])


def run(flow, start, steps, seed=0):
    return meanfield.simulate(flow, start, steps=steps, key=jax.random.key(seed)).state.cloud


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_integrators_have_their_order(method, order, float64):
    """θ̇ = −θ³ from 1 has θ(t) = (1 + 2t)^(−1/2): halving the step divides the error by 2^order, within 10%."""
    F = meanfield.potential(lambda theta: (theta**4).sum() / 4)
    ends = [
        float(run(meanfield.gradient_flow(F, 1 / n, method=method), jnp.ones((1, 1)), n).particles[0, 0])
        for n in (64, 128)
    ]
    errors = [abs(end - 3**-0.5) for end in ends]
    assert 0.9 * 2**order < errors[0] / errors[1] < 1.1 * 2**order


@pytest.mark.slow
def test_annealing_follows_its_schedule(key):
    """Independent particles in a well: v' = (1 − η)² v + 2 η λ_k exactly, within 4 standard errors of 20,000."""
    flow = meanfield.langevin(meanfield.quadratic(1.0), lambda k: 1.0 / (1.0 + k.astype(jnp.float32)), 0.2)
    variance = 0.0
    for k in range(30):
        variance = 0.64 * variance + 0.4 / (1 + k)
    measured = float(run(flow, jnp.zeros((20_000, 1)), 30).particles.var())
    assert abs(measured - variance) < 4 * variance * np.sqrt(2 / 20_000)


def linear_problem():
    x, y = X.astype(float), Y.astype(float)
    return meanfield.risk(meanfield.neuron("identity"), meanfield.squared_loss, x, y) + meanfield.quadratic(0.1)


def gradient_draws(estimator, cloud, memory, count=4000):
    draw = lambda k: estimator.gradient(cloud, memory, k, jnp.int32(1))[0]  # noqa: E731
    return jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(5), count))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stochastic", "svrg"])
@pytest.mark.first_case
def test_estimates_of_the_gradient_are_unbiased(name):
    """Within 4 standard errors, at particles that are not where svrg's anchor is."""
    F = linear_problem()
    anchor, cloud = (meanfield.as_cloud(jax.random.normal(jax.random.key(k), (4, 2))) for k in (0, 1))
    estimator = meanfield.stochastic(F, 2) if name == "stochastic" else meanfield.svrg(F, 2, 1000)
    draws = gradient_draws(estimator, cloud, estimator.init(anchor))
    error = draws.std(0) / np.sqrt(len(draws))
    assert (jnp.abs(draws.mean(0) - meanfield.wasserstein_gradient(F)(cloud)) < 4 * error).all()


def test_svrg_has_no_noise_at_its_anchor_and_reaches_the_minimum(float64):
    """Its steps converge at a fixed step size to the minimizer M⁻¹Xᵀy/n, where plain stochastic gradients do not."""
    F = linear_problem()
    x, y = np.asarray(X, float), np.asarray(Y, float)
    target = np.linalg.solve(x.T @ x / 3 + 0.1 * np.eye(2), x.T @ y / 3)
    gaps = {}
    for name, drift in (("svrg", meanfield.svrg(F, 1, 10)), ("stochastic", meanfield.stochastic(F, 1))):
        flow = meanfield.gradient_flow(drift, 0.2)
        gaps[name] = float(jnp.abs(run(flow, jnp.zeros((3, 2)), 1500).particles - target[None]).max())
    assert gaps["svrg"] < 1e-10
    assert gaps["stochastic"] > 1e-3


@pytest.mark.slow
def test_dual_averaging_ends_at_the_gibbs_fixed_point():
    """10,000 particles: outputs at f* of oracle B, within 4 standard errors of a mean of N units and O(step)."""
    unit, x = meanfield.neuron("tanh"), X[:, :1]
    drift = meanfield.dual_averaged(
        unit, meanfield.squared_loss, x, Y, regularizer=meanfield.quadratic(0.5), inner_steps=10
    )
    cloud = run(meanfield.langevin(drift, 0.3, 0.05), jnp.zeros((10_000, 1)), 1500)
    with jax.enable_x64(True):
        fixed = oracles.gibbs_fixed_point(
            unit, x.astype(float), Y.astype(float), ridge=0.5, temperature=0.3, grid=jnp.linspace(-8.0, 8.0, 201)
        )
        outputs, spread = np.asarray(fixed.outputs), np.sqrt(np.diag(fixed.covariance))
    # Euler's stationary variance is off by ηλ'/4 = .6%, and |∂f/∂(variance)| ≤ its relative change times sd(h).
    allowed = 4 * spread / 100 + 0.00625 * spread
    assert (np.abs(np.asarray(meanfield.predict(unit, cloud, x)) - outputs) < allowed).all()


def test_fisher_rao_weights_a_fixed_potential_exactly(key, float64):
    theta = jax.random.normal(key, (9, 1))
    flow = meanfield.fisher_rao(meanfield.potential(lambda t: t[0] ** 2), 0.1)
    tilted = jnp.exp(-0.7 * theta[:, 0] ** 2)
    np.testing.assert_allclose(run(flow, theta, 7).weights, tilted / tilted.sum(), rtol=1e-12)


@pytest.mark.slow
def test_birth_and_death_is_fisher_rao_on_average(key):
    """Particles fixed at two places: the share at the lower follows e^(−tV), within 4 standard errors of 200 runs."""
    theta = jnp.concatenate([jnp.zeros((30, 1)), jnp.ones((70, 1))])
    flow = meanfield.birth_death(meanfield.potential(lambda t: t[0]), 0.25)
    keys = jax.random.split(key, 200)
    share = jax.jit(
        jax.vmap(lambda k: 1 - meanfield.simulate(flow, theta, steps=4, key=k).state.cloud.particles.mean())
    )
    shares = share(keys)
    expected = 0.3 / (0.3 + 0.7 * np.exp(-1.0))
    # Four roundings of counts out of 100, by systematic draws, and the bias of a ratio of second order in them.
    assert abs(float(shares.mean()) - expected) < 4 * float(shares.std()) / np.sqrt(200) + 4 * 0.25 / 100**2
    assert float(shares.std()) > 0


def test_birth_and_death_moves_with_its_base():
    """Rate 0 leaves every particle one offspring, so what is left is the flow that moves them."""
    mover = meanfield.gradient_flow(meanfield.quadratic(1.0), 0.5)
    flow = meanfield.birth_death(meanfield.quadratic(1.0), 0.0, base=mover)
    start = jnp.arange(1.0, 9.0)[:, None]
    np.testing.assert_array_equal(np.sort(run(flow, start, 2).particles[:, 0]), start[:, 0] / 4)


def dirichlet(x, theta):
    """Dirichlet kernel of 4 frequencies on the circle."""
    return 1 + 2 * jnp.cos(2 * jnp.pi * jnp.arange(1, 5, dtype=x.dtype) * (x - theta)).sum()


@pytest.mark.slow
def test_the_conic_flow_certifies_a_sparse_deconvolution(float64):
    """5 spikes, m = 30: at the end J' ≥ 0 on a fine grid and J' = 0 on the support, to 1e-3 of the penalty λ."""
    x = jnp.linspace(0, 1, 64, endpoint=False)
    places, masses = jnp.array([0.1, 0.3, 0.45, 0.7, 0.9]), jnp.array([1.0, 0.6, 0.9, 1.2, 0.7])
    observed = jax.vmap(lambda p: masses @ jax.vmap(lambda t: dirichlet(p, t))(places))(x)
    lam = 0.2
    J = meanfield.risk(lambda p, t: dirichlet(p, t[0]), meanfield.squared_loss, x, observed)
    J = J + meanfield.potential(lambda t: jnp.full((), lam))
    start = Cloud((jnp.arange(30.0)[:, None] + 0.5) / 30, jnp.full(30, 1 / 30))
    cloud = run(meanfield.conic(J, 0.005, 2e-4), start, 6000)
    seen = meanfield.observables.dual_certificate(J, cloud, jnp.linspace(0, 1, 1000, endpoint=False)[:, None])
    assert float(seen.lowest) > -1e-3 * lam
    assert float(seen.on_support) < 1e-3 * lam


def test_consensus_contracts_at_its_rate(key):
    """α = 0: V shrinks by (1 − λη)² + dσ²η a step, less the mean's own share of the noise, within 4 standard errors."""
    drift, noise, step, steps, count, dimension = 1.0, 0.5, 0.1, 10, 20_000, 3
    flow = meanfield.consensus(lambda theta: theta @ theta, drift=drift, noise=noise, sharpness=0.0, step_size=step)
    start = jax.random.normal(key, (count, dimension))
    end = run(flow, start, steps).particles
    spread = lambda t: np.asarray(((t - t.mean(0, keepdims=True)) ** 2).sum(1))  # noqa: E731
    factor = ((1 - drift * step) ** 2 + dimension * noise**2 * step) ** steps
    assert abs(spread(end).mean() - factor * spread(start).mean()) < 4 * spread(end).std() / np.sqrt(count) + 1e-3


@pytest.mark.slow
def test_consensus_finds_a_minimum_that_gradients_do_not(key):
    """Rastrigin in 4 dimensions: anisotropic noise and a sharp weight settle at the global minimum 1."""

    def rastrigin(theta):
        z = theta - 1
        return (z**2 - 10 * jnp.cos(2 * jnp.pi * z) + 10).sum()

    flow = meanfield.consensus(rastrigin, drift=1.0, noise=5.0, sharpness=30.0, step_size=0.01, diffusion="anisotropic")
    start = 3 * jax.random.normal(key, (2000, 4))
    np.testing.assert_allclose(run(flow, start, 1500).particles.mean(0), np.ones(4), atol=0.05)


def test_stein_without_a_kernel_gradient_is_kernel_gradient_descent(key, float64):
    """One step against the sums of Liu and Wang's equation 8, weights included."""
    theta = jax.random.normal(key, (6, 2))
    weights = jnp.arange(1.0, 7.0) / 21
    flow = meanfield.stein(meanfield.quadratic(1.0), kernels.gaussian(0.8), 0.5, 0.1, block=4)
    moved = run(flow, Cloud(theta, weights), 1).particles
    t = np.asarray(theta)
    gaps = t[:, None] - t[None]
    k = np.exp(-(gaps**2).sum(-1) / 1.28)
    pull = np.einsum("j,ji,jd->id", weights, k, -t) + 0.5 * np.einsum("j,ji,jid->id", weights, k, -gaps / 0.64)
    np.testing.assert_allclose(moved, t + 0.1 * pull, atol=1e-12)


def test_a_massless_particle_stays():
    """Its velocity is 0, not 0/0."""
    cloud = Cloud(jnp.ones((2, 1)), jnp.array([1.0, 0.0]))
    np.testing.assert_array_equal(meanfield.wasserstein_gradient(meanfield.quadratic(1.0))(cloud), [[1.0], [0.0]])


def test_flows_say_what_is_wrong(unchecked):
    F, kernel = meanfield.quadratic(1.0), kernels.gaussian(1.0)
    settings = {"drift": 1.0, "noise": 1.0, "sharpness": 1.0, "step_size": 0.1}
    wrong = [
        (lambda: meanfield.conic(F, -1.0, 0.1), "weight_rate must be >= 0"),
        (lambda: meanfield.fisher_rao(F, -1.0), "rate must be >= 0"),
        (lambda: meanfield.birth_death(F, -1.0), "rate must be >= 0"),
        (lambda: meanfield.stein(F, kernel, -1.0, 0.1), "temperature must be >= 0"),
        (lambda: meanfield.stein(F, kernel, 1.0, 0.0), "step_size must be positive"),
        (lambda: meanfield.consensus(F, **settings | {"drift": 0.0}), "drift must be positive"),
        (lambda: meanfield.consensus(F, **settings | {"noise": -1.0}), "noise must be >= 0"),
        (lambda: meanfield.consensus(F, **settings, diffusion="none"), "diffusion must be one of"),
        (
            lambda: meanfield.dual_averaged(
                meanfield.neuron("tanh"), meanfield.squared_loss, X, Y, regularizer=F, inner_steps=0
            ),
            "inner_steps must be >= 1",
        ),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()


def test_offspring_inherit_velocity_and_gradient(float64):
    """From rest in a well, v/θ is one number for all particles, and so it stays for their copies (no noise)."""
    V = meanfield.potential(lambda theta: (theta**2).sum() / 2)
    base = meanfield.kinetic(V, 0.0, 0.3)
    flow = meanfield.birth_death(V, 1.0, base=base)
    start = jnp.linspace(0.5, 3.0, 12)[:, None]
    state = meanfield.simulate(flow, start, steps=3, key=jax.random.key(3)).state
    ratio = state.memory.base.velocity / state.cloud.particles
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-12)
    np.testing.assert_allclose(state.memory.base.gradient, state.cloud.particles, rtol=1e-12)
    assert len(np.unique(state.cloud.particles)) < 12  # some died


def test_variance_reduced_gradients_stay_unbiased_where_particles_are_born():
    """The anchor is a measure with its weights; offspring use their ancestor's part of it. Within 4 standard errors."""
    F = linear_problem()
    anchor = meanfield.as_cloud(jax.random.normal(jax.random.key(0), (4, 2)), jnp.array([0.4, 0.1, 0.3, 0.2]))
    estimator = meanfield.svrg(F, 2, 1000)
    parents = jnp.array([0, 0, 2, 3], jnp.int32)
    memory = estimator.resample(estimator.resample(estimator.init(anchor), jnp.arange(4, dtype=jnp.int32)), parents)
    cloud = meanfield.as_cloud(anchor.particles[parents] + 0.1)
    draws = gradient_draws(estimator, cloud, memory)
    error = draws.std(0) / np.sqrt(len(draws))
    assert (jnp.abs(draws.mean(0) - meanfield.wasserstein_gradient(F)(cloud)) < 4 * error).all()
    at_anchor = gradient_draws(estimator, anchor, estimator.init(anchor), 2)
    np.testing.assert_allclose(at_anchor[0], at_anchor[1], atol=1e-6)


def test_a_memory_without_a_rule_for_offspring_is_refused():
    rest = meanfield.gradient_flow(meanfield.quadratic(1.0), 0.1)
    counting = meanfield.Flow(lambda cloud: jnp.zeros(()), rest.step)
    flow = meanfield.birth_death(meanfield.quadratic(1.0), 0.1, base=counting)
    with pytest.raises(ValueError, match="resample must be given for a flow with a memory"):
        flow.init(meanfield.as_cloud(jnp.ones((3, 1))))


@pytest.mark.slow
def test_a_million_offspring_are_their_means_rounded(key):
    """Each count is N w rounded up or down, in float32 at N = 2^20 + 7, whatever the running sums."""
    count = 2**20 + 7
    weights = jax.random.uniform(key, (count,), minval=0.5, maxval=1.5)
    expected = np.asarray(weights, np.float64) / np.asarray(weights, np.float64).sum() * count
    for w, mean in ((weights, expected), (jnp.ones(count), np.ones(count))):
        counts = np.bincount(np.asarray(jax.jit(interacting._systematic)(w, key)), minlength=count)
        assert np.abs(counts - mean).max() < 1 + 1e-3
        assert counts.sum() == count


def test_massless_particles_do_not_decide(key):
    """The lowest V belongs to a particle of weight 0: the others' tilts are relative to the lowest of theirs."""
    cloud = Cloud(jnp.array([[200.0], [201.0], [0.0]]), jnp.array([0.5, 0.5, 0.0]))
    V = meanfield.potential(lambda theta: theta[0])
    share = np.exp(-1.0) / (1 + np.exp(-1.0))
    np.testing.assert_allclose(run(meanfield.fisher_rao(V, 1.0), cloud, 1).weights, [1 - share, share, 0.0], rtol=1e-5)
    settings = {"drift": 1.0, "noise": 0.0, "sharpness": 1.0, "step_size": 1.0}
    moved = run(meanfield.consensus(lambda theta: theta[0], **settings), cloud, 1).particles
    np.testing.assert_allclose(moved, np.full((3, 1), 200 + share), rtol=1e-6)


def test_a_vanishing_mass_moves_no_particle_out_of_the_numbers():
    """Weights below the smallest normal number have no inverse: their particles stay."""
    cloud = Cloud(jnp.array([[1.0], [2.0]]), jnp.array([1.0, 1e-40]))
    slope = meanfield.wasserstein_gradient(meanfield.quadratic(1.0))(cloud)
    np.testing.assert_array_equal(slope, [[1.0], [0.0]])


def test_a_schedule_of_step_sizes_is_followed_by_every_flow():
    """A constant schedule takes the steps of the number; one that turns negative ends in NaN, which the status says."""
    F, start = meanfield.quadratic(1.0), jnp.ones((4, 1))
    pair = [
        run(meanfield.kinetic(F, 0.5, size), start, 3).particles for size in (0.1, lambda k: jnp.full((), 0.1, float))
    ]
    np.testing.assert_array_equal(*pair)
    backward = meanfield.gradient_flow(F, lambda k: 0.1 - 0.1 * k.astype(float))
    ended = meanfield.simulate(backward, start, steps=3, key=jax.random.key(0))
    assert (int(ended.status), int(ended.diverged_at)) == (Status.NOT_FINITE, 2)


def test_a_schedule_of_rates_is_followed_step_by_step():
    """Masses w ∝ e^(−4 Σ α_k V) of the conic flow, w ∝ e^(−Σ ρ_k V) of Fisher and Rao's, with α_k = ρ_k = 1/(1 + k)."""
    V, start, rate = (
        meanfield.potential(lambda t: t[0] / 4),
        jnp.array([[0.0], [1.0]]),
        lambda k: 1 / (1 + k.astype(float)),
    )
    masses = run(meanfield.conic(V, rate, 0.0), start, 3).weights
    np.testing.assert_allclose(masses, [0.5, 0.5 * np.exp(-11 / 6)], rtol=1e-6)
    weights = run(meanfield.fisher_rao(V, rate), start, 3).weights
    np.testing.assert_allclose(weights[1] / weights[0], np.exp(-11 / 24), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["birth_death", "stein", "consensus", "jko"])
@pytest.mark.first_case
def test_a_constant_schedule_is_its_number(name):
    F, kernel, start = meanfield.quadratic(1.0), kernels.gaussian(1.0), jnp.arange(1.0, 9.0)[:, None]
    settings = {"drift": 1.0, "noise": 0.1, "sharpness": 1.0}
    made = {
        "birth_death": lambda size: meanfield.birth_death(F, size),
        "stein": lambda size: meanfield.stein(F, kernel, 1.0, size),
        "consensus": lambda size: meanfield.consensus(lambda t: t @ t, **settings, step_size=size),
        "jko": lambda size: meanfield.jko(F, size),
    }[name]
    pair = [run(made(size), start, 2).particles for size in (0.1, lambda k: 0.1)]
    np.testing.assert_array_equal(*pair)
    backward = run(made(lambda k: -0.1), start, 1)
    assert np.isnan(backward.weights[:, None] * backward.particles).all()


def test_dual_averaging_takes_integer_labels_and_no_regularizer():
    unit, start = meanfield.neuron("tanh"), jnp.linspace(-1.0, 1.0, 4)[:, None]
    labels = jnp.array([1, -1, 1])

    def ended(y, regularizer):
        drift = meanfield.dual_averaged(
            unit, meanfield.logistic_loss, X[:, :1], y, regularizer=regularizer, inner_steps=2
        )
        return run(meanfield.gradient_flow(drift, 0.5), start, 4).particles

    plain = ended(labels.astype(float), meanfield.quadratic(0.0))
    np.testing.assert_allclose(ended(labels, None), plain, atol=1e-6)
    assert float(jnp.abs(plain - start).max()) > 0.01
