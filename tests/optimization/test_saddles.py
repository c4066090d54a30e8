"""Escape from saddles against a run written out in numpy, published constants, and expectations in closed form."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jaxtheory.optimization import exit_time, mean_exit_time, octopus, saddles
from jaxtheory.results import Status

TAU = float(np.e)
GRADIENT = {"tau": TAU, "gamma": 1.0, "method": "gradient_descent"}
POINTS = [[0.3, 0.1, -0.2], [-3.0, 0.4, 0.1], [7.0, -2.0, 0.5], [9.0, 10.0, 4.4], [9.0, -9.9, 12.0]]


def reference_value(x, L, g, tau):
    """The landscape by its cases, one coordinate at a time."""
    a, d = np.abs(x), len(x)
    i = next((j for j in range(d) if a[j] <= 2 * tau), d)
    value = sum(L * (a[j] - 4 * tau) ** 2 for j in range(i)) - i * (37 * L / 6 + 13 * g / 6) * tau**2
    if i == d:
        return value
    if a[i] <= tau:
        return value - g * a[i] ** 2 + L * sum(a[j] ** 2 for j in range(i + 1, d))
    s, v = a[i] - tau, (a[i] - 2 * tau) / tau
    value += -g * a[i] ** 2 + (10 * g - 14 * L) / (3 * tau) * s**3 + (5 * L - 3 * g) / (2 * tau**2) * s**4
    if i + 1 < d:
        value += (-g - (L + g) * (10 * v**3 + 15 * v**4 + 6 * v**5)) * a[i + 1] ** 2
    return value + L * sum(a[j] ** 2 for j in range(i + 2, d))


def reference_slope(x, L, g, tau):
    """Central differences of each case are exact enough only off the joins, so the gradient is written out."""
    a, d = np.abs(x), len(x)
    slope = 2 * L * a
    i = next((j for j in range(d) if a[j] <= 2 * tau), d)
    slope[:i] = 2 * L * (a[:i] - 4 * tau)
    if i < d and a[i] <= tau:
        slope[i] = -2 * g * a[i]
    elif i < d:
        s, v = a[i] - tau, (a[i] - 2 * tau) / tau
        slope[i] = -2 * g * a[i] + (10 * g - 14 * L) / tau * s**2 + 2 * (5 * L - 3 * g) / tau**2 * s**3
        if i + 1 < d:
            slope[i] -= (L + g) / tau * (30 * v**2 + 60 * v**3 + 30 * v**4) * a[i + 1] ** 2
            slope[i + 1] = 2 * (-g - (L + g) * (10 * v**3 + 15 * v**4 + 6 * v**5)) * a[i + 1]
    return slope * np.sign(x)


def reference_run(x, L, tolerance):
    times, step = np.full(len(x), np.nan), 0
    while np.isnan(times).any() or np.linalg.norm(reference_slope(x, L, 1.0, TAU)) > tolerance:
        x, step = x - reference_slope(x, L, 1.0, TAU) / (4 * L), step + 1
        times = np.where(np.isnan(times) & (np.cumprod(np.abs(x) > 2 * TAU) == 1), step, times)
    return times, step


def start(key, dim, max_dim):
    draw, _ = jax.random.split(key)
    return np.asarray(jax.random.uniform(draw, (max_dim,), jnp.float32, -1, 1), float)[-dim:]


@pytest.mark.parametrize(
    "point", [[0.3, 0.1, -0.2], [-3.0, 0.4, 0.1], [7.0, -2.0, 0.5], [9.0, 10.0, 4.4], [9.0, -9.9, 12.0]]
)
def test_value_and_gradient_are_those_of_the_cases(point, float64):
    L, gamma = 1.5, 0.7
    x = jnp.array(point)
    value, gradient = jax.value_and_grad(lambda p: octopus(p, L=L, gamma=gamma, tau=TAU))(x)
    assert float(value) == pytest.approx(reference_value(np.array(point), L, gamma, TAU), rel=1e-13)
    np.testing.assert_allclose(gradient, reference_slope(np.array(point), L, gamma, TAU), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("L", [1.0, 3.0])
def test_cases_join_twice_differentiably(L, float64):
    """Value, gradient and Hessian on both sides of a join differ by their slopes times the step, 1e-9."""
    f = lambda p: octopus(p, L=L, gamma=1.0, tau=TAU)  # noqa: E731
    derivatives = jax.jit(lambda p: (f(p), jax.grad(f)(p), jax.hessian(f)(p)))
    for join in (TAU, 2 * TAU):
        below, above = (derivatives(jnp.array([4 * TAU, join + side, 0.3])) for side in (-1e-9, 1e-9))
        for one, other in zip(below, above, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-6)


@pytest.mark.smoke
def test_hessian_at_a_saddle_has_one_negative_direction(float64):
    """At (4τ, 0, 0): 2L along what is behind and ahead, −2γ along the way out."""
    hessian = jax.hessian(lambda p: octopus(p, L=2.0, gamma=0.5, tau=TAU))(jnp.array([4 * TAU, 0.0, 0.0]))
    np.testing.assert_allclose(hessian, np.diag([4.0, -1.0, 4.0]), atol=1e-12)


def test_outside_the_tube_there_is_no_value(float64):
    outside = jnp.array([[0.1, 2 * TAU], [6.1 * TAU, 0.0]])
    assert jnp.isnan(jax.vmap(lambda p: octopus(p, L=1.0, gamma=1.0, tau=TAU))(outside)).all()


@pytest.mark.parametrize("L", [1.0, 1.5, 3.0])
def test_counted_iterations_are_those_of_a_run(L, float64):
    """Each time, to the iteration, as long as plain float64 does not underflow."""
    for seed in range(4):
        key = jax.random.key(seed)
        run = saddles.escape_times(key, dim=3, max_dim=5, L=L, **GRADIENT)
        times, total = reference_run(start(key, 3, 5), L, 1e-6)
        np.testing.assert_array_equal(run.times[:3], times)
        assert np.isnan(run.times[3:]).all()
        assert (int(run.total), int(run.status)) == (total, Status.OK)


@pytest.mark.parametrize("L", [pytest.param(1.0, marks=pytest.mark.slow), 1.5, 3.0])
def test_ratio_of_times_is_that_of_theory(L, float64):
    runs = jax.vmap(lambda k: saddles.escape_times(k, dim=12, L=L, **GRADIENT))(
        jax.random.split(jax.random.key(1), 500)
    )
    ratio = runs.times[:, -1] / runs.times[:, -2]
    assert abs(float(ratio.mean()) / saddles.growth(L, 1.0, 1 / (4 * L)) - 1) < 0.02
    assert (runs.status == Status.OK).all()


def test_time_is_exponential_in_dimension_over_thousands_of_seeds(float64):
    """All dimensions and seeds in one program: two more saddles cost the square of the ratio, to 2% a saddle."""
    dims, keys = jnp.array([10, 12]), jax.random.split(jax.random.key(6), 2000)
    run = lambda d, key: saddles.escape_times(key, dim=d, max_dim=12, L=1.0, **GRADIENT)  # noqa: E731
    runs = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(dims, keys)
    assert (runs.status == Status.OK).all()
    last = np.stack([runs.times[0, :, 9], runs.times[1, :, 11]])
    mean, error = last.mean(1), last.std(1) / np.sqrt(2000)
    allowed = 0.04 + 4 * np.hypot(*(error / mean))
    assert abs(mean[1] / mean[0] / saddles.growth(1.0, 1.0, 0.25) ** 2 - 1) < allowed


def test_a_count_that_rounding_could_change_says_so(float64):
    run = saddles.escape_times(jax.random.key(1), dim=40, L=1.0, **GRADIENT)
    assert int(run.status) == Status.ILL_CONDITIONED


@pytest.mark.slow
def test_perturbed_descent_is_linear_in_dimension_in_one_program():
    """One program for all dimensions; the steps each saddle costs do not grow: their slope in d is within 4 errors."""
    dims = jnp.array([4, 8, 12])

    def total(dim, key):
        return saddles.escape_times(key, dim=dim, max_dim=12, L=1.0, gamma=1.0, tau=TAU, method="perturbed")

    keys = jax.random.split(jax.random.key(2), 60)
    runs = jax.vmap(jax.vmap(total, (None, 0)), (0, None))(dims, keys)
    assert (runs.status == Status.OK).all()
    first, second = (runs.total[i + 1] - runs.total[i] for i in (0, 1))
    difference = second - first  # the same starts' draws differ, so their spread is that of independent runs
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(60)


def test_naive_float32_never_returns():
    """Waiting coordinates underflow after some 126 halvings: the run stops for a reason that is not the theory's."""
    run = saddles.escape_times(
        jax.random.key(3), dim=8, L=1.0, gamma=1.0, tau=TAU, method="naive", max_steps=2000, tolerance=1e-4
    )
    assert int(run.status) == Status.NOT_CONVERGED
    assert np.isfinite(run.times[:3]).all()
    assert np.isnan(run.times[5:]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "noise"), [("sgd", 1e-2), ("langevin", 1e-4)])
def test_lasting_noise_escapes(method, noise):
    runs = jax.vmap(
        lambda k: saddles.escape_times(k, dim=8, L=1.0, gamma=1.0, tau=TAU, method=method, noise=noise, max_steps=4000)
    )(jax.random.split(jax.random.key(4), 8))
    assert (runs.status == Status.OK).all()
    assert (runs.total < 400).all()


def test_exit_time_is_dawsons_integral():
    """The expectation against mpmath, and the mean of simulated exits within 2% and 4 standard errors."""
    noise = 1e-3
    end = mpmath.sqrt(1 / (2 * mpmath.mpf(noise)))
    dawson = lambda u: mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(-u * u) * mpmath.erfi(u)  # noqa: E731
    expected = float(2 * mpmath.quad(dawson, mpmath.linspace(0, end, 12)))
    assert mean_exit_time(1.0, noise) == pytest.approx(expected, rel=1e-10)
    runs = jax.vmap(lambda k: exit_time(k, gamma=1.0, noise=noise))(jax.random.split(jax.random.key(5), 4000))
    assert (runs.status == Status.OK).all()
    assert abs(float(runs.time.mean()) - expected) < 0.02 * expected
    assert abs(float(runs.time.mean()) - expected) < 4 * float(runs.time.std()) / np.sqrt(4000) + 0.01 * expected


def test_proved_constants_shrink_with_the_accuracy():
    loose, tight = (saddles.theory_constants(4.0, 10.0, e, 100.0, 10, 0.1) for e in (1e-2, 1e-4))
    chi = 3 * np.log(10 * 4 * 100 / (1e-4**2 * 0.1))
    assert tight.threshold == pytest.approx(1e-4 / chi**2)
    assert tight.interval == pytest.approx(chi * 4 / np.sqrt(10 * 1e-4))
    assert tight.decrease < loose.decrease


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"L": 0.0}, "L"),
        ({"gamma": -1.0}, "gamma"),
        ({"tau": 0.5}, "tau"),
        ({"step_size": 0.6}, "step_size"),
        ({"dim": 0}, "dim"),
        ({"dim": 7, "max_dim": 5}, "dim"),
        ({"noise": -1.0}, "noise"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_bad_arguments_are_named(change, named, float64):
    good = {"dim": 3, "L": 1.0, **GRADIENT}
    with pytest.raises(ValueError, match=f"^{named} must"):
        saddles.escape_times(jax.random.key(0), **{**good, **change})


@pytest.mark.parametrize(
    ("shape", "message"),
    [("dim", "^max_dim must be given where dim is traced"), ("max_steps", "^max_steps must be known when")],
)
def test_numbers_that_shape_the_program_are_not_traced(shape, message):
    """`dim` is the length of the answer where `max_dim` is not given."""
    good = {"dim": 3, "L": 1.0, **GRADIENT, "method": "perturbed"}
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda value: saddles.escape_times(jax.random.key(0), **{**good, shape: value}))(3)


def test_counting_needs_64_bits():
    with pytest.raises(ValueError, match=r"^method must .* enable x64"):
        saddles.escape_times(jax.random.key(0), dim=3, L=1.0, **GRADIENT)
