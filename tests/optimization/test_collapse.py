"""Neural collapse against a minimization by scipy, and where decay wins."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from jaxtheory.optimization import neural_collapse

CLASSES, EACH, DIM = 3, 2, 4
LABELS = np.repeat(np.arange(CLASSES), EACH)


def minimum(first, second):
    """Of the objective over W and H, by a quasi-Newton method with gradients of its own."""

    def objective(flat):
        w, h = flat[: CLASSES * DIM].reshape(CLASSES, DIM), flat[CLASSES * DIM :].reshape(DIM, -1)
        logits = w @ h
        total = logsumexp(logits, axis=0)
        slope = (np.exp(logits - total) - np.eye(CLASSES)[:, LABELS]) / len(LABELS)
        value = (
            (total - logits[LABELS, np.arange(len(LABELS))]).mean()
            + first / 2 * (w**2).sum()
            + second / 2 * (h**2).sum()
        )
        return value, np.concatenate([(slope @ h.T + first * w).ravel(), (w.T @ slope + second * h).ravel()])

    start = np.random.default_rng(0).normal(size=CLASSES * DIM + DIM * len(LABELS))
    found = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000})
    w, h = found.x[: CLASSES * DIM].reshape(CLASSES, DIM), found.x[CLASSES * DIM :].reshape(DIM, -1)
    return found.fun, w, h


@pytest.mark.parametrize(("first", "second"), [(0.005, 0.001), (0.2, 0.1), (0.4, 0.2)])
def test_the_minimum_is_the_simplex(first, second, float64):
    """Collapse at two decays with s < 1/3; at the third s > 1/3 and nothing is learned."""
    law = neural_collapse(CLASSES, EACH, weight_decay=first, feature_decay=second)
    value, w, h = minimum(first, second)
    np.testing.assert_allclose(law.objective, value, rtol=1e-9)
    np.testing.assert_allclose(law.weights, (w**2).sum(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(law.features, (h**2).sum(), rtol=1e-5, atol=1e-6)
    logits = w @ h
    np.testing.assert_allclose(logits[0, 0] - logits[1, 0], law.gap, rtol=1e-4, atol=1e-6)
    assert (law.gap > 0) == ((first, second) != (0.4, 0.2))
    if law.gap > 0:
        means = h.reshape(DIM, CLASSES, EACH).mean(2)
        means = means / np.linalg.norm(means, axis=0)
        np.testing.assert_allclose((means.T @ means)[0, 1:], law.cosine, rtol=1e-4)


def test_small_decays_do_not_lose_digits():
    """c = −log s up to (K − 1)s, also where λ_W λ_H leaves the range of float32."""
    found = neural_collapse(2, 1, weight_decay=1e-25, feature_decay=1e-25)
    np.testing.assert_allclose(found.gap, 25 * np.log(10), rtol=1e-6)
