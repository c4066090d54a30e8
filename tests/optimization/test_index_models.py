"""Single- and multi-index models against closed flows, SGD in all coordinates, and exponents known by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def flow_time(k, dims):
    """∫ dm / (k m^{k−1} (1 − m²)) from d^{−1/2} to 1/2, of order log d for k = 2 and d^{k/2 − 1} above."""
    primitive = {2: lambda m: np.log(m / np.sqrt(1 - m**2)) / 2, 3: lambda m: (np.arctanh(m) - 1 / m) / 3}[k]
    return primitive(0.5) - primitive(dims**-0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("k", "rival"), [(2, 3), (3, 2)])
def test_samples_to_escape_grow_as_the_information_exponent_says(k, rival, key):
    """d/δ times the time of the flow, d log d for k = 2 and d² for k = 3: the slope of the median, not the rival."""
    dims = np.array([8, 16, 32, 64])
    deltas = {2: 0.05 * np.ones(4), 3: 0.08 * dims**-0.5}
    medians = []
    for d, step in zip(dims.tolist(), deltas[k] / dims, strict=True):
        options = {"dim": d, "step_size": step, "max_steps": 40 * d**2}
        one = lambda s, options=options: teacher_student.escape_samples(s, HERMITE[k], **options)  # noqa: E731
        medians.append(np.median(jax.jit(jax.vmap(one))(jax.random.split(key, 32)).samples))
    laws = [dims / deltas[j] * flow_time(j, dims) for j in (k, rival)]
    slope, predicted, other = (np.polyfit(np.log(dims), np.log(n), 1)[0] for n in (medians, *laws))
    # a median of 32 first passages has a relative error of about 0.2, and ln 8 spans the dimensions: 0.1 in the slope
    assert abs(slope - predicted) < 0.35, (slope, predicted, medians)
    assert abs(slope - other) > 0.35, (slope, other)
