"""Flows against laws that hold exactly, and those laws against other people's computations of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.optimize
from tolerances import assert_close

from jaxtheory import meanfield
from jaxtheory.meanfield import oracles
from jaxtheory.results import Status

X = jnp.array([[1.2, 0.3], [-0.4, 1.0], [0.2, -1.1]])
Y = jnp.array([0.8, -0.5, 0.3])
TANH = meanfield.neuron("tanh")  # one function, so that programs are compiled once


def final(flow, start, keys, steps):
    """The last particles of one run for each key."""
    return jax.jit(jax.vmap(lambda k: meanfield.simulate(flow, start, steps=steps, key=k).state.cloud.particles))(keys)


def test_langevin_has_the_linear_gaussian_law(key):
    """Oracle A at N = 4 and a step of 1/3 of the stable one, within 3%: 4 standard errors of 40,000 runs."""
    ridge, temperature, particles, step = 0.3, 0.2, 4, 0.8
    F = meanfield.risk(meanfield.neuron("identity"), meanfield.squared_loss, X, Y) + meanfield.quadratic(ridge)
    flow = meanfield.langevin(F, temperature, step)
    runs = final(flow, jnp.zeros((particles, 2)), jax.random.split(key, 40_000), 30)  # .76^30 of the start
    law = oracles.linear_gaussian(X, Y, ridge=ridge, temperature=temperature, particles=particles, step_size=step)
    center = runs.mean(1)
    spread = jnp.sqrt(jnp.diagonal(law.mean_covariance))
    assert (jnp.abs(center.mean(0) - law.mean) < 4 * spread / 200).all()
    for samples, covariance in ((center, law.mean_covariance), (runs[:, 0], law.particle_covariance)):
        measured = np.cov(np.asarray(samples), rowvar=False)
        assert np.abs(measured - np.asarray(covariance)).max() < 0.03 * float(jnp.diagonal(covariance).max())


def test_the_linear_gaussian_law_is_stationary(float64):
    """One Euler step applied to the law of all N particles at once, by dense matrices, gives it back."""
    ridge, temperature, particles, step = 0.3, 0.2, 4, 0.8
    x, y = X.astype(float), Y.astype(float)
    law = oracles.linear_gaussian(x, y, ridge=ridge, temperature=temperature, particles=particles, step_size=step)
    data = np.asarray(x.T @ x) / len(x)
    average = np.full((particles, particles), 1 / particles)
    drift = np.eye(2 * particles) - step * (np.kron(average, data) + ridge * np.eye(2 * particles))
    joint = scipy.linalg.solve_discrete_lyapunov(drift, 2 * temperature * step * np.eye(2 * particles))
    assert_close(law.particle_covariance, joint[:2, :2])
    assert_close(law.mean_covariance, np.kron(average[:1], np.eye(2)) @ joint @ np.kron(average[:1], np.eye(2)).T)
    assert_close(data @ law.mean + ridge * law.mean, np.asarray(x.T @ y) / len(x))


def gibbs(temperature=0.3, ridge=0.5, grid=None, **options):
    x, y = X[:, :1].astype(float), Y.astype(float)
    grid = jnp.linspace(-8.0, 8.0, 201) if grid is None else grid
    return oracles.gibbs_fixed_point(TANH, x, y, ridge=ridge, temperature=temperature, grid=grid, **options)


def test_the_gibbs_fixed_point_is_one_by_another_quadrature(float64):
    """f = E h under its own Gibbs law, integrated by scipy; C from the same; the residual and the density too."""
    fixed = gibbs()
    x, y, f = np.asarray(X[:, 0], float), np.asarray(Y, float), np.asarray(fixed.outputs)

    def density(theta):
        return np.exp(-((f - y) @ np.tanh(x * theta) / 3 + 0.25 * theta**2) / 0.3)

    def expect(g):
        return scipy.integrate.quad(lambda t: g(t) * density(t), -np.inf, np.inf, epsabs=1e-13)[0]

    total = expect(lambda t: 1.0)
    mean = np.array([expect(lambda t, a=a: np.tanh(a * t)) for a in x]) / total
    np.testing.assert_allclose(f, mean, atol=1e-11)
    square = expect(lambda t: np.tanh(x[0] * t) * np.tanh(x[1] * t)) / total
    np.testing.assert_allclose(float(fixed.covariance[0, 1]), square - mean[0] * mean[1], atol=1e-10)
    np.testing.assert_allclose(float(fixed.density[100]), density(0.0) / total, rtol=1e-10)
    assert int(fixed.status) == Status.OK
    assert float(fixed.residual) < 1e-13


def test_the_gibbs_fixed_point_of_the_linear_unit_is_the_gaussian_law(float64):
    """In two dimensions, with fluctuations: for h = ⟨x, θ⟩, N Cov(f_N) = X [λ M⁻¹] Xᵀ by oracle A at step 0."""
    x, y = X.astype(float), Y.astype(float)
    axis = jnp.linspace(-7.0, 7.0, 81)
    unit = meanfield.neuron("identity")
    fixed = oracles.gibbs_fixed_point(unit, x, y, ridge=0.5, temperature=0.3, grid=(axis, axis))
    law = oracles.linear_gaussian(x, y, ridge=0.5, temperature=0.3, particles=1, step_size=0.0)
    assert_close(fixed.outputs, x @ law.mean, condition=100)
    assert_close(fixed.fluctuation, x @ law.mean_covariance @ x.T, condition=100)


def test_a_grid_too_short_and_an_unconverged_answer_say_so(float64):
    assert int(gibbs(grid=jnp.linspace(-1.0, 1.0, 201)).status) == Status.ILL_CONDITIONED
    assert int(gibbs(tolerance=1e-30).status) == Status.NOT_CONVERGED


@pytest.mark.slow
def test_langevin_fluctuates_about_the_gibbs_fixed_point(key):
    """Oracle B: N Cov(f_N) within 5% after extrapolating the step to 0, and f* within the statistical error."""
    with jax.enable_x64(True):
        fixed = jax.tree.map(lambda a: np.asarray(a), gibbs())
    x, particles, seeds, records = X[:, :1], 100, 2000, 12
    unit = meanfield.neuron("tanh")
    F = meanfield.risk(unit, meanfield.squared_loss, x, Y) + meanfield.quadratic(0.5)

    def outputs(step):
        flow = meanfield.langevin(F, 0.3, step)
        every = round(4 / step)
        start = jnp.zeros((particles, 1))

        def one(k):
            observe = lambda cloud: meanfield.predict(unit, cloud, x)  # noqa: E731
            run = meanfield.simulate(flow, start, steps=every * records, key=k, observe=observe, record_every=every)
            return run.records[2:]  # eight and more time units in: e^(−8 · .5) of the start

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, seeds))).reshape(-1, len(Y))

    coarse, fine = (outputs(step) for step in (0.1, 0.05))
    covariance = 2 * np.cov(fine, rowvar=False) - np.cov(coarse, rowvar=False)
    error = np.abs(particles * covariance - fixed.fluctuation).max() / np.diag(fixed.fluctuation).max()
    assert error < 0.05
    mean = 2 * fine.mean(0) - coarse.mean(0)
    # Second order in the fluctuations, whose response is at most 1/(nλ) as |h| ≤ 1; 4 standard errors.
    bias = fixed.fluctuation.max() / particles / (3 * 0.3)
    assert np.abs(mean - fixed.outputs).max() < bias + 4 * np.sqrt(5 * covariance.max() / len(fine))


@pytest.mark.parametrize("step", [0.1, 1.0, 1.9])
def test_baoab_has_the_exact_variance_of_a_gaussian(step, float64):
    """The step's own linear map, read off by derivatives; its stationary position variance is λ/κ to 1e-10."""
    stiffness, temperature, friction = 1.0, 0.7, 0.4
    middle = meanfield.baoab_turn

    def whole(state):
        position, velocity, noise = state
        velocity = velocity - step / 2 * stiffness * position
        position, velocity = middle(
            position, velocity, noise, step_size=step, friction=friction, temperature=temperature
        )
        return jnp.stack([position, velocity - step / 2 * stiffness * position])

    matrix = np.asarray(jax.jacobian(whole)(jnp.zeros(3)))
    stationary = scipy.linalg.solve_discrete_lyapunov(matrix[:, :2], np.outer(matrix[:, 2], matrix[:, 2]))
    assert abs(stationary[0, 0] - temperature / stiffness) < 1e-10
    if step != 1.0:
        return
    # and the flow takes that step: its linear part in the position, from rest, is the map's
    flow = meanfield.kinetic(meanfield.quadratic(stiffness), temperature, step, friction=friction)
    apart = [meanfield.simulate(flow, jnp.array([[q]]), steps=1, key=jax.random.key(0)).state for q in (0.0, 1.0)]
    assert abs(float((apart[1].cloud.particles - apart[0].cloud.particles)[0, 0]) - matrix[0, 0]) < 1e-12
    assert abs(float((apart[1].memory.velocity - apart[0].memory.velocity)[0, 0]) - matrix[1, 0]) < 1e-12


def test_kinetic_langevin_samples_with_the_right_noise(key):
    """20,000 independent particles in a quadratic well: variance λ/κ within 4 standard errors, at a large step."""
    flow = meanfield.kinetic(meanfield.quadratic(2.0), 0.5, 0.9, friction=1.0)
    run = meanfield.simulate(flow, jnp.zeros((20_000, 1)), steps=40, key=key)
    assert abs(float(run.state.cloud.particles.var()) - 0.25) < 4 * 0.25 * np.sqrt(2 / 20_000)


def jko_objective(flat, mean, covariance, stiffness, center, temperature, step):
    """W₂²/(2τ) + F of the Gaussian with this mean and Cholesky factor, by scipy's matrix square roots."""
    moved, factor = flat[:2], np.array([[np.exp(flat[2]), 0], [flat[3], np.exp(flat[4])]])
    new = factor @ factor.T
    root = scipy.linalg.sqrtm(covariance)
    overlap = np.trace(scipy.linalg.sqrtm(root @ new @ root)).real
    distance = ((moved - mean) ** 2).sum() + np.trace(covariance + new) - 2 * overlap
    energy = np.trace(stiffness @ new) / 2 + (moved - center) @ stiffness @ (moved - center) / 2
    return distance / (2 * step) + energy - temperature * (flat[2] + flat[4])


def test_a_jko_step_is_the_minimizer(float64):
    """Against scipy's minimizer of the JKO objective, for a covariance that does not commute with the stiffness."""
    mean, center = np.array([1.0, -0.5]), np.array([0.2, 0.1])
    covariance, stiffness = np.array([[1.0, 0.4], [0.4, 0.6]]), np.array([[2.0, -0.3], [-0.3, 0.5]])
    arguments = (mean, covariance, stiffness, center, 0.7, 0.8)
    found = scipy.optimize.minimize(jko_objective, np.zeros(5), arguments, method="BFGS", options={"gtol": 1e-8}).x
    factor = np.array([[np.exp(found[2]), 0], [found[3], np.exp(found[4])]])
    step = oracles.jko_gaussian(
        *map(jnp.asarray, (mean, covariance)), stiffness=jnp.asarray(stiffness), center=jnp.asarray(center),
        temperature=0.7, step_size=0.8,
    )  # fmt: skip
    # BFGS with differences in place of a gradient stops at about √eps.
    np.testing.assert_allclose(step.mean, found[:2], atol=1e-5)
    np.testing.assert_allclose(step.covariance, factor @ factor.T, atol=1e-5)


def test_jko_ends_at_the_gibbs_law_and_follows_the_flow(float64):
    """Fixed point λK⁻¹, which ends any number of steps; the scalar formula of the step; s(t) of Ornstein-Uhlenbeck."""
    stiffness, start = jnp.diag(jnp.array([2.0, 0.5])), oracles.Moments(jnp.ones(2), jnp.eye(2))

    def run(moments, step, count):
        for _ in range(count):
            moments = oracles.jko_gaussian(
                *moments, stiffness=stiffness, center=jnp.zeros(2), temperature=0.7, step_size=step
            )
        return moments

    assert_close(run(start, 50.0, 12).covariance, 0.7 * jnp.linalg.inv(stiffness))
    tau, kappa, lam = 0.3, 2.0, 0.7
    once = (1 + np.sqrt(1 + 4 * lam * tau * (1 + tau * kappa))) / (2 * (1 + tau * kappa))
    assert_close(run(start, tau, 1).covariance[0, 0], np.float64(once**2))
    exact = 0.35 + 0.65 * np.exp(-4 * 0.2)  # variance at t = .2 along the stiff axis
    errors = [abs(float(run(start, 0.2 / n, n).covariance[0, 0]) - exact) for n in (8, 16)]
    assert 1.8 < errors[0] / errors[1] < 2.2  # order one


def test_svgd_with_the_linear_kernel_has_closed_moments(key, float64):
    """At 7 particles, to 1e-10: the empirical mean and covariance follow their recursion."""
    precision, center = jnp.array([[1.5, 0.3], [0.3, 0.8]]), jnp.array([0.5, -1.0])
    V = meanfield.potential(lambda theta: (theta - center) @ precision @ (theta - center) / 2)
    flow = meanfield.stein(V, lambda a, b: a @ b.T + 1, 1.0, 0.05, block=3)
    start = jax.random.normal(key, (7, 2))
    run = meanfield.simulate(flow, start, steps=100, key=key)
    law = oracles.svgd_gaussian(
        *meanfield.observables.moments(start), precision=precision, center=center, step_size=0.05, steps=100
    )
    measured = meanfield.observables.moments(run.state.cloud)
    np.testing.assert_allclose(measured.mean, law.mean, atol=1e-10)
    np.testing.assert_allclose(measured.covariance, law.covariance, atol=1e-10)


def test_oracles_refuse_what_has_no_law(unchecked):
    good = {"ridge": 0.3, "temperature": 0.2, "particles": 4, "step_size": 0.1}
    for change, message in [
        ({"ridge": 0.0}, "ridge must be positive"),
        ({"temperature": -1.0}, "temperature must be >= 0"),
        ({"particles": 0}, "particles must be >= 1"),
        ({"step_size": 4.0}, "step_size must be >= 0 and < 2/"),
    ]:
        with pytest.raises(ValueError, match=message):
            oracles.linear_gaussian(X, Y, **good | change)
    unit, grid = meanfield.neuron("tanh"), jnp.linspace(-1, 1, 5)
    for change, message in [
        ({"grid": grid**3}, "grid must be increasing and equally spaced"),
        ({"grid": (grid,) * 3}, "grid must have one or two"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            oracles.gibbs_fixed_point(unit, X[:, :1], Y, **{"ridge": 1.0, "temperature": 1.0, "grid": grid} | change)
