"""The limit of many random features: published values, the Marchenko–Pastur law and drawn features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.results import Status, standard_error
from jaxtheory.scaling import one_pass_equivalent, one_pass_risk

MODES = np.arange(1, 401)


def marchenko_pastur(ratio, step_size, steps):
    """Mean of (1 − γx)^(2t) over the law of WWᵀ [v × v], v/d = `ratio`, and its atom at 0, by the midpoint rule."""
    low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
    angle = (np.arange(20_000) + 0.5) * np.pi / 20_000
    x = (low + high) / 2 + (high - low) / 2 * np.cos(angle)
    mass = ((high - low) / 2 * np.sin(angle)) ** 2 / (2 * np.pi * ratio * x) * np.pi / 20_000
    atom = max(0.0, 1 - 1 / ratio)
    return np.array([atom + mass @ (1 - step_size * x) ** (2 * t) for t in range(steps + 1)]), atom


def test_the_risk_has_the_reference_values(float64):
    """v = 400 modes j^(−2), target j^(−0.3), d = 100, γ = 0.2, B = 1: seven digits, computed from moments."""
    found = one_pass_equivalent(MODES**-2.0, MODES**-0.3, 100, batch=1, step_size=0.2, steps=500)
    assert found.status == Status.OK
    np.testing.assert_allclose(found.risk[np.array([10, 100, 500])], [0.2599522, 0.0456011, 0.0157655], rtol=5e-6)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_isotropic_data_give_the_marchenko_pastur_law(ratio, float64):
    """Gradient descent on 400 equal modes: the mean of (1 − γλ)^(2t); at ratio 1 the spectrum reaches 0."""
    expected, atom = marchenko_pastur(ratio, 0.15, 500)
    target = np.full(400, 400**-0.5)
    found = one_pass_equivalent(np.ones(400), target, 400 / ratio, batch=np.inf, step_size=0.15, steps=500)
    assert found.status == Status.OK
    np.testing.assert_allclose(found.risk, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.floor, atom, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_the_mean_over_drawn_features_is_the_limit(key):
    """60 draws of 30 features of 60 modes, steps and batches that vary: within 3/d of the limit and 4 errors."""
    i = np.arange(1, 61)
    plan = {"batch": np.linspace(1, 5, 50), "step_size": np.linspace(0.3, 0.1, 50), "steps": 50}
    drawn = jax.random.normal(key, (60, 60, 30)) / 30**0.5
    risk = jax.lax.map(lambda w: one_pass_risk(w, i**-1.6, i**-0.4, **plan).risk, drawn)
    found = one_pass_equivalent(i**-1.6, i**-0.4, 30, **plan)
    assert found.status == Status.OK
    allowed = 4 * standard_error(risk) + 3 / 30 * found.risk
    assert (jnp.abs(risk.mean(axis=0) - found.risk) < allowed).all()


def test_float32_follows_float64_over_long_schedules():
    """Σγ λ_max = 1e4 and 8 decades of λγ."""
    plan = {"batch": 1.0, "step_size": np.geomspace(0.3, 3e3, 500), "steps": 500}
    eigs = MODES**-2.0 * 1e-4
    single = one_pass_equivalent(eigs, MODES**-0.3, 100, **plan)
    with jax.enable_x64(True):
        double = one_pass_equivalent(eigs, MODES**-0.3, 100, **plan)
    assert single.status == double.status == Status.OK
    np.testing.assert_allclose(single.risk, double.risk, rtol=1e-4)


def test_steps_next_to_divergence_are_not_ok():
    found = one_pass_equivalent(MODES**-2.0, MODES**-0.3, 100, batch=1, step_size=1.0, steps=500)
    assert found.status == Status.ILL_CONDITIONED


def test_endless_features_are_the_data_themselves():
    """d = 1e8: W Wᵀ is the identity, so that K has the eigenvalues of H."""
    plan = {"batch": 2, "step_size": 0.3, "steps": 500}
    found = one_pass_equivalent(MODES**-2.0, MODES**-0.5, 1e8, **plan)
    expected = one_pass_risk(np.eye(400), MODES**-2.0, MODES**-0.5, **plan)
    np.testing.assert_allclose(found.risk, expected.risk, rtol=2e-5)


def test_targets_whose_power_underflows_are_not_ok():
    found = one_pass_equivalent(MODES**-2.0, MODES**-0.5 * 1e-25, 100, batch=1, step_size=0.1, steps=500)
    assert found.status == Status.NOT_FINITE


def test_no_signal_has_no_risk():
    found = one_pass_equivalent(MODES**-2.0, 0.0 * MODES, 100, batch=1, step_size=0.1, steps=500)
    assert found.status == Status.OK
    np.testing.assert_array_equal(found.risk, np.zeros(501))
