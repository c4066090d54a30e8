"""Learning of teachers against Monte Carlo integrals, published values, and SGD itself in a thousand dimensions."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy.special import erf

from jaxtheory.optimization import teacher_student
from jaxtheory.optimization.committee import erf_integrals, relu_integrals
from jaxtheory.optimization.runge_kutta import integrate
from jaxtheory.results import Status

UNITS = {
    "erf": (erf_integrals, lambda x: erf(x / 2**0.5), lambda x: (2 / np.pi) ** 0.5 * np.exp(-(x**2) / 2)),
    "relu": (relu_integrals, lambda x: np.maximum(x, 0), lambda x: (x > 0).astype(float)),
}
ONE, Q, R = np.ones((1, 1)), np.eye(2), np.array([[0.3, 0.0], [0.1, 0.2]])
run = jax.jit(teacher_student.online_sgd, static_argnames=("activation", "max_steps"))


@pytest.mark.parametrize("activation", UNITS)
def test_integrals_are_means_over_gaussian_fields(activation, float64):
    """Every one of 176 within 4.5 of its standard errors: all hold but for chance 0.1 %."""
    integrals, g, slope = UNITS[activation]
    draws = np.random.default_rng(0)
    mix = draws.normal(size=(4, 6))
    x = draws.normal(size=(200_000, 6)) @ mix.T / 2
    found = jax.jit(integrals, static_argnums=1)(jnp.asarray(mix @ mix.T / 4), 2)
    values, slopes, n = g(x), slope(x[:, :2]), len(x)
    pairs, steep = np.einsum("nc,nd->ncd", values, values), np.einsum("na,nb->nab", slopes, slopes)
    means = {
        "pair": pairs,
        "drive": np.einsum("na,nj,nc->najc", slopes, x, values),
        "slopes": steep,
        "push": steep[:, :, :, None, None] * pairs[:, None, None],
    }
    for name, samples in means.items():
        error = samples.std(axis=0) / n**0.5
        assert (abs(samples.mean(axis=0) - getattr(found, name)) < 4.5 * error).all(), name


@pytest.mark.parametrize("q", [1.0, 1e4, 1e8])
def test_integrals_of_erf_units_keep_the_one_beside_large_overlaps(q):
    """Three fields, two of them one student of size q, in float32; 1 + q alone rounds to q. Against 60 digits."""
    c = np.float32(np.array([[q, q, 0.25 * q**0.5], [q, q, 0.25 * q**0.5], [0.25 * q**0.5, 0.25 * q**0.5, 1.0]]))
    found = jax.jit(erf_integrals, static_argnums=1)(jnp.asarray(c), 2)
    with mpmath.workdps(60):
        cov = mpmath.matrix(c.astype(float).tolist())
        arcsine = lambda s: mpmath.asin(s[0, 1] / mpmath.sqrt((1 + s[0, 0]) * (1 + s[1, 1])))  # noqa: E731
        low = mpmath.sqrt(1 + 2 * cov[0, 0])
        for i, j in np.ndindex(3, 3):
            pair = mpmath.matrix([[cov[i, i], cov[i, j]], [cov[j, i], cov[j, j]]])
            np.testing.assert_allclose(found.pair[i, j], float(2 / mpmath.pi * arcsine(pair)), rtol=1e-6)
            known = mpmath.matrix([[cov[0, i], cov[0, j]], [cov[1, i], cov[1, j]]])
            given = pair - known.T * mpmath.inverse(mpmath.eye(2) + cov[:2, :2]) * known
            push = float(4 / mpmath.pi**2 * arcsine(given) / low)
            np.testing.assert_allclose(found.push[0, 1, i, j], push, rtol=1e-6)
            drive = 2 / mpmath.pi * (cov[i, j] - cov[0, i] * cov[0, j] / (1 + cov[0, 0]))
            drive = drive / mpmath.sqrt(1 + cov[j, j] - cov[0, j] ** 2 / (1 + cov[0, 0])) / mpmath.sqrt(1 + cov[0, 0])
            np.testing.assert_allclose(found.drive[0, i, j], float(drive), rtol=1e-6)
        np.testing.assert_allclose(found.slopes, float(2 / mpmath.pi / low), rtol=1e-6)


@pytest.mark.parametrize("activation", UNITS)
def test_integrals_of_equal_units_are_those_of_one(activation, float64):
    """Units 0 and 1 are the same field, and so are 2 and 3: singular covariances, without a loss of digits."""
    integrals = jax.jit(UNITS[activation][0], static_argnums=1)
    small = np.array([[1.3, 0.7], [0.7, 0.9]])
    large, index = integrals(jnp.asarray(np.kron(small, np.ones((2, 2)))), 2), np.array([0, 0, 1, 1])
    one = integrals(jnp.asarray(np.kron(small, [[1, 0], [0, 1]])), 2)  # units 0 and 2 carry `small`; 1 and 3 likewise
    keep = np.array([0, 2])
    np.testing.assert_allclose(large.pair, np.asarray(one.pair)[np.ix_(keep, keep)][np.ix_(index, index)], rtol=1e-12)
    push = np.asarray(one.push)[0, 0][np.ix_(keep, keep)][np.ix_(index, index)]
    np.testing.assert_allclose(
        large.push, np.broadcast_to(push, (2, 2, 4, 4)), rtol=1e-12 if activation == "erf" else 3e-7
    )


def test_relu_second_moments_of_one_unit_are_half_those_of_the_field(float64):
    """E 1(a) a² = C/2 and E 1(a) c₊² = E 1(a) c²/2 − … for correlation ±1; the quadrature is exact to round-off."""
    found = jax.jit(relu_integrals, static_argnums=1)(jnp.array([[2.0, -2.0], [-2.0, 2.0]]), 1)
    np.testing.assert_allclose(found.push[0, 0], [[1.0, 0.0], [0.0, 0.0]], atol=1e-7)


def test_values_of_one_erf_student(float64):
    """One student and one teacher: values of an independent integration, to the digits printed."""
    found = run(0.25 * ONE, 0.1 * ONE, ONE, step_size=0.5, times=np.array([2.0, 10.0, 20.0]))
    np.testing.assert_allclose(found.error, [0.0823562, 0.0062954, 0.00092122], rtol=1e-5)
    assert found.status == Status.OK


def test_integration_meets_its_tolerance(float64):
    """A rotation and a decay in closed form, at the recorded times; 0 is the start."""
    times = jnp.array([0.0, 0.5, 0.5, 10.0])
    field = lambda y: jnp.array([-y[1], y[0], -3 * y[2]])  # noqa: E731
    path = integrate(field, jnp.array([1.0, 0.0, 2.0]), times, 1e-10, 10_000)
    exact = np.stack([np.cos(times), np.sin(times), 2 * np.exp(-3 * times)], axis=1)
    np.testing.assert_allclose(path.states, exact, atol=3e-9)
    assert not path.exhausted.any()


def test_specialization_follows_a_plateau_and_symmetric_students_stay_there(float64):
    """Two erf students and teachers: from a small asymmetry the error leaves the plateau; without it never."""
    options = {"step_size": 0.5, "times": np.array([30.0, 60.0, 400.0])}
    apart = run(0.2 * Q, 1e-3 * np.eye(2), Q, **options)
    alike = run(0.2 * np.ones((2, 2)), np.full((2, 2), 1e-3), Q, **options)
    np.testing.assert_allclose(alike.error[1], alike.error[2], rtol=1e-2)
    assert apart.error[2] < 1e-3 * alike.error[2]
    np.testing.assert_allclose(apart.r[-1], np.eye(2), atol=1e-2)
    np.testing.assert_allclose(alike.q[-1], np.full((2, 2), alike.q[-1, 0, 0]), rtol=1e-9)


def test_what_cannot_be_a_covariance_is_refused_and_what_diverges_says_so():
    def one(q, eta, noise):
        options = {"step_size": eta, "noise": noise, "activation": "relu", "max_steps": 2000}
        return run(q, 0.1 * ONE, ONE, times=np.array([1.0, 300.0]), **options)

    assert one(0.25 * ONE, 0.5, 0.0).status == Status.OK
    for arguments in ((0.001 * ONE, 0.5, 0.0), (0.25 * ONE, -0.5, 0.0), (0.25 * ONE, 0.5, -1.0)):
        bad = one(*arguments)
        assert bad.status == Status.INVALID_INPUT
        assert np.isnan(bad.error).all()
    wild = one(0.25 * ONE, 30.0, 0.0)
    assert wild.status in (Status.NOT_FINITE, Status.NOT_CONVERGED)
    assert np.isnan(wild.error[1])
    with pytest.raises(ValueError, match="q must form a covariance"):
        teacher_student.online_sgd(0.001 * ONE, 0.1 * ONE, ONE, step_size=0.5, times=[1.0])


def simulate(key, r, activation, step_size, steps, noise, d, runs):
    """SGD on fresh Gaussian inputs: the mean error and overlap with teachers over the runs, standard errors."""
    g = (lambda x: jax.lax.erf(x / 2**0.5)) if activation == "erf" else jax.nn.relu
    k = len(r)
    teachers = jnp.eye(k, d) * d**0.5  # T = I, R = r, Q = I: students are r B and an own direction
    rest = jnp.asarray(np.linalg.cholesky(np.eye(k) - r @ r.T), jnp.float32)
    students = jnp.asarray(r, jnp.float32) @ teachers + rest @ jnp.eye(k, d, k) * d**0.5

    def one(key):
        def step(j, key):
            draw, label = jax.random.split(key)
            x = jax.random.normal(draw, (d,))
            fields = j @ x / d**0.5
            value, pull = jax.vjp(lambda h: jnp.sum(g(h)), fields)
            e = jnp.sum(g(teachers @ x / d**0.5)) - value + noise**0.5 * jax.random.normal(label)
            return j + step_size / d**0.5 * e * jnp.outer(pull(jnp.ones_like(value))[0], x), None

        j = jax.lax.scan(step, students, jax.random.split(key, steps))[0]
        return j @ j.T / d, j @ teachers.T / d

    samples = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=8))(jax.random.split(key, runs))
    return [(np.mean(s, axis=0), np.std(s, axis=0) / (runs - 1) ** 0.5) for s in map(np.asarray, samples)]


@pytest.mark.slow
@pytest.mark.parametrize("activation", UNITS)
def test_overlaps_are_those_of_sgd_in_a_thousand_dimensions(activation, key):
    """Two students and teachers, noise, a large step: eight overlaps within 4 standard errors and the bias of 1/d."""
    d, steps, runs = 1000, 4000, 40
    measured = simulate(key, R, activation, 0.4, steps, 0.1, d, runs)
    options = {"step_size": 0.4, "noise": 0.1, "activation": activation}
    predicted = run(Q, R, Q, times=np.array([steps / d]), **options)
    for (mean, error), law in zip(measured, (predicted.q[0], predicted.r[0]), strict=True):
        assert (abs(mean - law) < 4 * error + 2 / d).all(), (mean, law, error)
    # without the terms in η² and in the noise the law lies outside
    quiet = run(Q, R, Q, times=np.array([steps / d]), **options | {"noise": 0.0})
    assert (abs(measured[0][0] - quiet.q[0]) > 4 * measured[0][1] + 2 / d).any()
