"""Wide two-layer networks against the residual that the spectrum of their kernel predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxtheory.optimization import overparametrized
from jaxtheory.results import Status

STEPS = 60
ETA = 0.5


@pytest.fixture(scope="module")
def data():
    """Six unit vectors of the plane, no two parallel, and labels."""
    angles = np.array([0.1, 0.9, 1.7, 2.6, 3.9, 5.2])
    x = np.stack([np.cos(angles), np.sin(angles)], 1)
    return jnp.asarray(x, jnp.float32), jnp.array([1.0, -0.5, 0.75, 0.25, -1.0, 0.5])


def network_path(key, x, y, width):
    """‖y − u_k‖ of gradient descent on the first layer, k = 0..STEPS, and y − u_0."""
    first, second = jax.random.split(key)
    w = jax.random.normal(first, (width, x.shape[1]))
    a = jax.random.rademacher(second, (width,), jnp.float32) / width**0.5
    outputs = lambda w: jnp.matmul(jax.nn.relu(jnp.matmul(x, w.T, precision="highest")), a, precision="highest")  # noqa: E731

    def step(w, _):
        left = y - outputs(w)
        slope = jax.grad(lambda w: ((y - outputs(w)) ** 2).sum() / 2)(w)
        return w - ETA * slope, left

    left = jax.lax.scan(step, w, length=STEPS + 1)[1]
    return jnp.sqrt((left**2).sum(1)), left[0]


@pytest.mark.slow
def test_the_gram_matrix_is_a_mean_over_weights(data, key):
    """x·x' times the share of 200,000 Gaussian weights that see both points: within 4.5 standard errors."""
    x, _ = data
    active = np.asarray(jnp.matmul(x, jax.random.normal(key, (2, 200_000)))) > 0
    share = (active[:, None] & active[None]).mean(-1)
    products = np.asarray(x) @ np.asarray(x).T
    gap = np.abs(np.asarray(overparametrized.relu_gram(x)) - products * share)
    assert (gap <= np.abs(products) * 4.5 * np.sqrt(0.25 / 200_000) + 1e-6).all()


@pytest.mark.slow
def test_the_decay_is_that_of_the_spectrum(data, float64):
    """Against the recursion r ← r − ηHr, also for several outputs; the bound by λ_0 holds at a small step."""
    x, y = (np.asarray(v, float) for v in data)
    H = np.asarray(overparametrized.relu_gram(jnp.asarray(x)))
    both = np.stack([y, y[::-1]], 1)
    found = overparametrized.residual_decay(H, both, step_size=ETA, steps=jnp.array([0, 1, 7, 50]))
    left, norms = both, []
    for _ in range(51):
        norms.append(np.linalg.norm(left))
        left = left - ETA * H @ left
    np.testing.assert_allclose(found.norms, np.array(norms)[[0, 1, 7, 50]], rtol=1e-12)
    np.testing.assert_allclose(found.smallest, np.linalg.eigvalsh(H)[0], rtol=1e-10)
    np.testing.assert_allclose(found.bounds, norms[0] * (1 - ETA * found.smallest / 2) ** (np.array([0, 1, 7, 50]) / 2))
    assert (found.norms <= found.bounds * (1 + 1e-12)).all()
    bad = overparametrized.residual_decay(
        jnp.diag(jnp.array([1.0, -1.0])), jnp.ones(2), step_size=ETA, steps=jnp.array([1])
    )
    assert int(bad.status) == Status.INVALID_INPUT


def test_networks_approach_the_prediction_with_their_width(data):
    """The largest deviation over 60 steps falls as m^(−1/2): rival exponents 0 and −1 are rejected.

    Root mean squares over 16 networks of each width, so each has a relative error of about 1/√32 (of Gaussians), and
    the slope over a factor of 64 an error of √2 · 0.18/log 64 = 0.06: 4 errors are 0.25.
    """
    x, y = data
    H = overparametrized.relu_gram(x)
    steps = jnp.arange(STEPS + 1)

    def deviation(width):
        def both(key):
            path, first = network_path(key, x, y, width)
            return path - overparametrized.residual_decay(H, first, step_size=ETA, steps=steps).norms

        keys = jax.random.split(jax.random.key(width), 16)
        gaps = jax.jit(lambda keys: jax.lax.map(both, keys))(keys)
        return float(jnp.sqrt((jnp.abs(gaps).max(1) ** 2).mean()))

    wide, narrow = deviation(8192), deviation(128)
    slope = np.log(wide / narrow) / np.log(64)
    assert abs(slope + 0.5) < 0.25
    assert wide < 0.02 * float(jnp.linalg.norm(y))


def test_the_threshold_has_the_exponents_of_the_theorems():
    """Ratios alone: n⁶ and n⁷, λ⁻⁴, δ⁻³ and δ⁻⁴, κ⁻², ε⁻²."""
    base = {"smallest": 0.1, "failure": 0.2, "accuracy": 0.1, "scale": 0.5}
    asked = lambda rule, n=10, **changed: float(overparametrized.width_threshold(n, **base | changed, rule=rule))  # noqa: E731
    expected = {"convergence": (64, 16, 8, 1, 1), "trajectory": (128, 16, 16, 4, 4)}
    for rule, ratios in expected.items():
        halved = [{"smallest": 0.05}, {"failure": 0.1}, {"scale": 0.25}, {"accuracy": 0.05}]
        found = [asked(rule, 20) / asked(rule), *(asked(rule, **h) / asked(rule) for h in halved)]
        np.testing.assert_allclose(found, ratios, rtol=1e-5)


def test_errors_name_the_argument(unchecked):
    H = jnp.eye(2)
    wrong = [
        (
            lambda: overparametrized.residual_decay(H, jnp.ones(3), step_size=0.1, steps=jnp.array([1])),
            "residual must pair",
        ),
        (
            lambda: overparametrized.residual_decay(H, jnp.ones(2), step_size=0.0, steps=jnp.array([1])),
            "step_size must be",
        ),
        (lambda: overparametrized.width_threshold(0, 0.1), "samples must be"),
        (lambda: overparametrized.width_threshold(3, 0.0), "smallest must be"),
        (lambda: overparametrized.width_threshold(3, 0.1, failure=1.5), "failure must lie"),
        (lambda: overparametrized.width_threshold(3, 0.1, rule="other"), "rule must be"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()
