"""Losses against their formulas in numpy and mpmath, with the first two derivatives, at every size of the margin."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from tolerances import assert_close, tolerance

from jaxtheory import losses, meanfield

RNG = np.random.default_rng(3)
OUTPUTS = RNG.normal(size=(6, 4))
LABELS = np.array([0, 3, 1, 1, 2, 0])
ONE_HOT = np.eye(4)[LABELS]
SHARES = np.exp(OUTPUTS) / np.exp(OUTPUTS).sum(1, keepdims=True)
SIGMOID = 1 / (1 + np.exp(-OUTPUTS))
TARGETS = RNG.dirichlet(np.ones(4), size=6)


def diagonal(values):
    return np.einsum("ni,ij->nij", values, np.eye(values.shape[1]))


# loss, targets: value, slope and curvature of six samples with four outputs
FORMULAS = {
    "squared": (
        TARGETS,
        ((OUTPUTS - TARGETS) ** 2).sum(1) / 2,
        OUTPUTS - TARGETS,
        diagonal(np.ones((6, 4))),
    ),
    "squared label": (LABELS, ((OUTPUTS - ONE_HOT) ** 2).sum(1) / 2, OUTPUTS - ONE_HOT, diagonal(np.ones((6, 4)))),
    "logistic": (
        2 * ONE_HOT - 1,
        np.log1p(np.exp((1 - 2 * ONE_HOT) * OUTPUTS)).sum(1),
        SIGMOID - ONE_HOT,
        diagonal(SIGMOID * (1 - SIGMOID)),
    ),
    "cross_entropy": (
        TARGETS,
        -(TARGETS * np.log(SHARES)).sum(1),
        SHARES - TARGETS,
        diagonal(SHARES) - SHARES[:, :, None] * SHARES[:, None, :],
    ),
    "hinge": (
        2 * ONE_HOT - 1,
        np.maximum(0, 1 - (2 * ONE_HOT - 1) * OUTPUTS).sum(1),
        -(2 * ONE_HOT - 1) * ((2 * ONE_HOT - 1) * OUTPUTS < 1),
        np.zeros((6, 4, 4)),
    ),
}


@pytest.mark.parametrize("case", FORMULAS)
@pytest.mark.first_case
def test_values_slopes_and_curvatures_are_the_formulas(case, float64):
    name = case.split()[0]
    targets, value, slope, curvature = FORMULAS[case]
    outputs, targets = jnp.asarray(OUTPUTS, float64), jnp.asarray(targets)
    assert_close(losses.values(name, outputs, targets), value)
    assert_close(losses.slopes(name, outputs, targets), slope)
    assert np.abs(losses.curvatures(name, outputs, targets) - curvature).max() <= tolerance(float64)


@pytest.mark.parametrize("name", ["logistic", "cross_entropy"])
def test_a_label_is_its_encoding(name, float64):
    """One against the rest for the logistic loss, a one-hot target for cross-entropy."""
    encoded = 2 * ONE_HOT - 1 if name == "logistic" else ONE_HOT
    found = losses.values(name, OUTPUTS, LABELS)
    assert_close(found, np.asarray(losses.values(name, OUTPUTS, encoded)))


def test_the_hinge_of_a_class_is_the_margin_to_its_best_rival(float64):
    """max(0, 1 + max_{j≠k} f_j − f_k), and its subgradient e_rival − e_own where it is positive."""
    rivals = np.where(ONE_HOT > 0, -np.inf, OUTPUTS)
    margin = (OUTPUTS * ONE_HOT).sum(1) - rivals.max(1)
    assert_close(losses.values("hinge", OUTPUTS, LABELS), np.maximum(0, 1 - margin))
    slope = (np.eye(4)[rivals.argmax(1)] - ONE_HOT) * (margin < 1)[:, None]
    assert_close(losses.slopes("hinge", OUTPUTS, LABELS), slope)


@pytest.mark.parametrize("f", [-700.0, -30.0, -1e-9, 0.0, 2.0, 40.0, 700.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_one_output_keeps_its_digits_at_every_margin(f, sign, float64):
    """Against 50 digits; a label of one output counts by its sign, 0 and −1 alike."""
    with mpmath.workdps(50):
        exact = float(mpmath.log1p(mpmath.exp(-sign * mpmath.mpf(f))))
        slope = float(-sign / (1 + mpmath.exp(sign * mpmath.mpf(f))))
    prediction, probability = jnp.asarray(f, float64), jnp.asarray((1 + sign) / 2, float64)
    found = [losses.logistic(prediction, jnp.asarray(float(sign), float64)), losses.logistic(prediction, sign)]
    found += [losses.logistic(prediction, max(sign, 0)), losses.cross_entropy(prediction, sign)]
    found += [losses.cross_entropy(prediction, probability)]
    np.testing.assert_allclose(found, exact, rtol=tolerance(float64))
    np.testing.assert_allclose(jax.grad(losses.logistic)(prediction, sign), slope, rtol=tolerance(float64, 1e3))


@pytest.mark.usefixtures("unchecked")
def test_booleans_are_labels():
    outputs = jnp.array([0.5, -2.0])
    assert_close(losses.values("logistic", outputs, outputs > 0), np.log1p(np.exp([-0.5, -2.0])))
    assert_close(losses.squared(outputs, True), np.array(0.5 * (0.25 + 9)))


def test_hinge_is_flat_at_its_kink():
    """The derivative of the flat side; JAX's maximum would give the mean of both sides."""
    assert jax.grad(losses.hinge)(1.0, 1.0) == 0.0
    assert jax.grad(losses.hinge)(0.999, 1.0) == -1.0


def test_the_losses_of_mean_field_are_these():
    f, y = jnp.array([0.3, -2.0]), jnp.array([1.0, -1.0])
    assert losses.squared(f, y) == meanfield.squared_loss(f, y)
    assert_close(losses.logistic(f, y), np.asarray(meanfield.logistic_loss(f, y)))


def test_labels_out_of_range_are_refused_outside_jit_and_nan_inside():
    with pytest.raises(ValueError, match=r"target must be a class in 0\.\.3, got target=4"):
        losses.cross_entropy(jnp.zeros(4), 4)
    for name in ("squared", "logistic", "cross_entropy", "hinge"):
        function = jax.jit(losses.resolve(name))
        assert np.isnan(function(jnp.zeros(4), 4)), name
        assert np.isnan(function(jnp.zeros(4), -1)), name


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(ValueError, match=r"loss must be a function or one of squared, .* got loss='mse'"):
        losses.resolve("mse")
    with pytest.raises(ValueError, match=r"target must have the shape of prediction, \(3,\)"):
        losses.squared(jnp.zeros(3), jnp.zeros(2))
    with pytest.raises(ValueError, match=r"targets must hold one target for each of 3 samples"):
        losses.values("hinge", jnp.zeros(3), jnp.zeros(2))


@pytest.mark.parametrize(
    ("name", "target", "hint"),
    [("logistic", 0.0, "2 y - 1"), ("hinge", 0.5, "2 y - 1"), ("cross_entropy", -1.0, r"\(1 \+ y\) / 2")],
)
def test_targets_of_another_encoding_are_refused(name, target, hint):
    """0 and 1 for -1 and 1, and the reverse: a value outside jit, NaN inside, without harm to other samples."""
    with pytest.raises(ValueError, match=f"target must be .*{hint}"):
        losses.resolve(name)(jnp.float32(0.3), jnp.float32(target))
    found = jax.jit(lambda y: losses.values(name, jnp.array([0.3, 0.3]), y))(jnp.array([target, 1.0]))
    np.testing.assert_array_equal(jnp.isnan(found), [True, False])
