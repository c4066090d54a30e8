"""Single- and multi-index models against closed flows, SGD in all coordinates, and exponents known by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.lecture.teacher_student.exponents import LINKS, PUSH
from jaxtheory.optimization import teacher_student
from jaxtheory.results import Status

HERMITE = {2: lambda x: (x**2 - 1) / 2**0.5, 3: lambda x: (x**3 - 3 * x) / 6**0.5}


def test_exponents_of_links_known_by_hand():
    """tanh is odd, |x| even; x² − 1 and x³ − 3x are Hermite; x⁴ − 6x² has no second degree."""
    links = {1: ("tanh", lambda x: x**3), 2: (jnp.cos, HERMITE[2]), 3: (HERMITE[3],), 4: (lambda x: x**4 - 6 * x**2,)}
    for exponent, functions in links.items():
        assert [teacher_student.information_exponent(f) for f in functions] == [exponent] * len(functions)
    with pytest.raises(ValueError, match="link must have a Hermite coefficient"):
        teacher_student.information_exponent(lambda x: 0 * x + 1.0)


def test_leap_is_the_best_over_all_orders():
    """Against the definition, over every order of up to five random terms."""
    draws = np.random.default_rng(0)
    for _ in range(50):
        terms = draws.integers(0, 3, size=(draws.integers(1, 6), 4)) * draws.integers(0, 2, size=(1, 4))
        terms = [term for term in terms if term.any()] or [np.array([0, 1, 0, 0])]
        best = np.inf
        for order in itertools.permutations(terms):
            seen, worst = np.zeros(4, bool), 1
            for term in order:
                worst, seen = max(worst, term[~seen].sum()), seen | (term > 0)
            best = min(best, worst)
        assert teacher_student.leap_exponent(np.array(terms)) == best


def test_flows_of_one_degree_are_closed(float64):
    """m = tanh(t + artanh m₀) for degree 1; m²/(1 − m²) grows by e^{4t} for degree 2."""
    times, m0 = np.array([0.0, 0.3, 2.0]), 0.05
    flow = jax.jit(teacher_student.overlap_flow)
    one, two = (flow(np.eye(3)[k], np.eye(3)[k], m0, times).overlap for k in (1, 2))
    odds = m0**2 / (1 - m0**2) * np.exp(4 * times)
    np.testing.assert_allclose(one, np.tanh(times + np.arctanh(m0)), rtol=1e-8)
    np.testing.assert_allclose(two, np.sqrt(odds / (1 + odds)), rtol=1e-8)


def test_an_overlap_leaves_a_tiny_start_on_time():
    """m/√(1 − m²) grows as e^(2t) for k = 2, from 1e-8 in float32: errors are relative to m."""
    time = np.log(1e8) / 2
    path = teacher_student.overlap_flow([0.0, 0.0, 1.0], [0.0, 0.0, 1.0], 1e-8, [time / 2, time])
    np.testing.assert_allclose(path.overlap, [1e-4, 0.5**0.5], rtol=3e-5)


def test_the_reduced_chain_has_the_distribution_of_sgd_in_all_coordinates(key):
    """Overlap after 40 samples of He₂ in d = 8, mean and mean square over 4000 runs, within 4 standard errors."""
    d, steps, eta, runs, m0 = 8, 40, 0.03, 4000, 0.5
    draws = np.random.default_rng(0)
    w = np.tile([m0, (1 - m0**2) ** 0.5] + [0.0] * (d - 2), (runs, 1))
    for _ in range(steps):
        x = draws.normal(size=(runs, d))
        field = (w * x).sum(axis=1)
        move = eta * (x[:, 0] ** 2 - field**2) / 2**0.5 * 2**0.5 * field
        w = w + move[:, None] * (x - field[:, None] * w)
        w /= np.linalg.norm(w, axis=1, keepdims=True)
    one = lambda k: teacher_student.escape_samples(  # noqa: E731
        k, HERMITE[2], dim=d, step_size=eta, start=m0, target=1.0, max_steps=steps
    )
    found = jax.jit(jax.vmap(one))(jax.random.split(key, runs))
    assert (found.status == Status.NOT_CONVERGED).all()
    for power in (1, 2):
        a, b = np.asarray(found.overlap, float) ** power, w[:, 0] ** power
        assert abs(a.mean() - b.mean()) < 4 * np.sqrt((a.var() + b.var()) / runs)


def mean_and_law(key, k, dim, step_size, start, runs):
    """Mean and standard error of the samples of many runs, the law, and one step over the start."""
    options = {"dim": dim, "step_size": step_size, "start": start}
    one = lambda s: teacher_student.escape_samples(s, LINKS[k], **options)  # noqa: E731
    samples = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, runs)).samples, float)
    law = float(teacher_student.mean_escape_samples(LINKS[k], **options))
    return samples.mean(), samples.std() / runs**0.5, law, step_size * PUSH[k] ** 0.5 / start


@pytest.mark.parametrize(
    ("k", "dim", "step_size", "start"),
    [
        (2, 16, 0.05 / 16, 0.3),
        pytest.param(1, 64, 0.2 / 64, 0.125, marks=pytest.mark.slow),
        pytest.param(3, 16, 0.02 / 64, 0.4, marks=pytest.mark.slow),
    ],
)
def test_the_mean_of_escape_times_is_that_of_the_diffusion(k, dim, step_size, start, key):
    """Means of 200 runs: within 4 standard errors and the law's own error."""
    mean, error, law, step = mean_and_law(key, k, dim, step_size, start, 200)
    assert abs(mean - law) < 4 * error + step * law, (mean, error, law)


def test_the_law_of_escape_is_the_flow_at_small_steps():
    """(artanh ½ − artanh m₀)/η for k = 1, to the order of ηd, and of the variance of the overlap over its square."""
    dim, m0, eta = 20, 0.25, 1e-5
    law = teacher_student.mean_escape_samples(LINKS[1], dim=dim, step_size=eta, start=m0)
    flow = (np.arctanh(0.5) - np.arctanh(m0)) / eta
    np.testing.assert_allclose(law, flow, rtol=3e-3)
    assert teacher_student.mean_escape_samples(LINKS[1], dim=dim, step_size=eta, start=0.75) == 0


def test_the_pushes_at_random_starts_are_known(float64):
    """E (σ(a) − σ(f))² σ'(f)² of independent a and f, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    weights = weights / weights.sum()
    for k, link in LINKS.items():
        slope = np.asarray(jax.vmap(jax.grad(link))(nodes))
        gaps = np.asarray(link(nodes))[:, None] - np.asarray(link(nodes))[None]
        np.testing.assert_allclose(weights @ (gaps * slope) ** 2 @ weights, PUSH[k], rtol=1e-9)
