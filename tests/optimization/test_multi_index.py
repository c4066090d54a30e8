"""Leaps of functions against those known by hand and their rotations; flows of one neuron against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.integrate import solve_ivp

from jaxtheory.optimization import teacher_student
from jaxtheory.results import Status

# function, variables, the order that each direction costs
LEAPS = [
    (lambda x: x[0] * x[1], 2, [2, 2]),
    # axes would do with leap 1, but only the sum of the variables is seen at first
    (lambda x: x[0] + x[1] + x[2] + x[0] * x[1] * x[2], 3, [1, 2, 2]),
    (lambda x: x[1] + x[0] ** 3 - 3 * x[0], 2, [1, 3]),
    (lambda x: jnp.cos(0.6 * x[0] + 0.8 * x[2]), 3, [2]),
    (lambda x: jnp.tanh(x[0]) * x[1] + x[0], 2, [1, 1]),
]


@pytest.mark.parametrize(("function", "variables", "degrees"), LEAPS)
def test_leaps_known_by_hand_do_not_depend_on_the_basis(function, variables, degrees):
    """In a random basis the same orders, and directions that span the rotated ones."""
    plain = teacher_student.isotropic_leap(function, variables, degree=4)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(variables, variables)))[0]
    turned = teacher_student.isotropic_leap(lambda x: function(jnp.asarray(turn) @ x), variables, degree=4)
    for found in (plain, turned):
        assert found.degrees.tolist() == degrees
        assert found.exponent == max(degrees)
        np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(len(degrees)), atol=1e-12)
    for order in set(degrees):
        one, two = (found.directions[found.degrees == order] for found in (plain, turned))
        np.testing.assert_allclose(turn.T @ one.T @ one @ turn, two.T @ two, atol=1e-8)


def test_one_variable_has_the_information_exponent():
    for link, exponent in ((jnp.cos, 2), (lambda x: x**3 - 3 * x, 3)):
        assert teacher_student.isotropic_leap(lambda x, link=link: link(x[0]), 1).exponent == exponent


def test_functions_without_resolved_or_nonzero_coefficients_are_refused():
    """A kink converges like a power of the nodes, and serves at a larger tolerance."""
    kink = lambda x: jnp.abs(x[0]) + x[1]  # noqa: E731
    with pytest.raises(ValueError, match="function must have Hermite coefficients that are found"):
        teacher_student.isotropic_leap(kink, 2)
    assert teacher_student.isotropic_leap(kink, 2, tolerance=0.05).degrees.tolist() == [1, 2]
    with pytest.raises(ValueError, match="function must have a Hermite coefficient"):
        teacher_student.isotropic_leap(lambda x: 0 * x[0] + 1.0, 2)


def test_a_flow_of_one_degree_is_closed(float64):
    """h = x₀x₁ from m₀ = m₁: |m|²/(1 − |m|²) grows by e^{2√2 t}."""
    times, m0 = np.array([0.0, 0.3, 2.0]), 0.05
    both = np.full(2, m0)
    two = teacher_student.multi_index_flow([[1, 1]], [1.0], [0.0, 0.0, 1.0], both, times).overlaps
    odds = 2 * m0**2 / (1 - 2 * m0**2) * np.exp(2 * 2**0.5 * times)
    np.testing.assert_allclose(two, np.sqrt(odds / (1 + odds) / 2)[:, None] * np.ones(2), rtol=1e-8)


def test_the_flow_is_that_of_a_neuron_on_the_population_loss(float64):
    """h = x₀ + x₀(x₁² − 1) in d = 3, student x + x³: descent of w on the sphere, the loss by quadrature."""
    nodes, weights = hermegauss(8)
    x = np.stack(np.meshgrid(*[nodes] * 3, indexing="ij"), -1).reshape(-1, 3)
    p = np.prod(np.stack(np.meshgrid(*[weights / weights.sum()] * 3, indexing="ij"), -1).reshape(-1, 3), axis=1)
    target = x[:, 0] + x[:, 0] * (x[:, 1] ** 2 - 1)

    def move(_, w):
        slope = (p * target * (1 + 3 * (x @ w) ** 2)) @ x
        return slope - w * (w @ slope)

    w0 = np.array([0.1, 0.2, np.sqrt(0.95)])
    times = np.array([0.1, 0.5, 2.0])
    expected = solve_ivp(move, (0, 2), w0, t_eval=times, rtol=1e-10, atol=1e-12).y[:2].T
    # x + x³ = 4x + √6 he₃; x₀(x₁² − 1) = √2 he₁he₂
    found = teacher_student.multi_index_flow([[1, 0], [1, 2]], [1.0, 2**0.5], [0.0, 4.0, 0.0, 6**0.5], w0[:2], times)
    assert found.status == Status.OK
    np.testing.assert_allclose(found.overlaps, expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exponents": [[1, -1]]}, "exponents must be integers >= 0"),
        ({"coefficients": [1.0, 2.0]}, "coefficients must have shape"),
        ({"student": [0.0, 1.0]}, "student must have more than 2 entries"),
        ({"start": [0.1]}, "start must have shape"),
        ({"start": [0.9, 0.9]}, "start must have norm at most 1"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_by_name(changed, message, unchecked):
    given = {"exponents": [[1, 1]], "coefficients": [1.0], "student": [0.0, 0.0, 1.0], "start": [0.1, 0.1]}
    with pytest.raises(ValueError, match=message):
        teacher_student.multi_index_flow(**given | changed, times=[1.0])
