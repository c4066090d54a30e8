"""The sampled limit against published values, quadrature, finite networks, the lazy limit and the particle flow."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from feature_learning.common import TEST, TRAINING, X, Y, bound, excess, networks

from jaxtheory import feature_learning, infinite, kernels, meanfield
from jaxtheory.infinite import prior
from jaxtheory.results import Status

solve = feature_learning.solve


@functools.cache
def course(depth, seed=0, samples=16_384):
    return solve(X, Y, depth=depth, samples=samples, test_x=TEST, key=jax.random.key(seed), **TRAINING)


def particle_flow(nodes=40):
    """One hidden layer by 40³ Gauss-Hermite nodes of (first weights, readout), in float64 and NumPy alone.

    h(t) = w·x/√2, f = E[a φ(h)]/γ0, and each particle follows its own slope: ẇ = γ0 Δ a φ'(h) x/√2, ȧ = γ0 Δ φ(h).
    """
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / weight.sum()
    grid = np.stack(np.meshgrid(z, z, z, indexing="ij"), -1).reshape(-1, 3)
    mass = np.einsum("i,j,k->ijk", weight, weight, weight).ravel()
    w, a, x = grid[:, :2], grid[:, 2], X.astype(np.float64) / 2**0.5
    records = []
    for step in range(16):
        feature = np.tanh(w @ x.T)
        f = mass @ (a[:, None] * feature)
        if step % 5 == 0:
            records.append((f, np.einsum("i,im,in->mn", mass, feature, feature)))
        push = Y - f
        w, a = w + 0.2 * ((a[:, None] * (1 - feature**2)) * push) @ x, a + 0.2 * feature @ push
    return records


@pytest.mark.slow
def test_one_hidden_layer_is_the_particle_flow_by_quadrature():
    found = course(1)
    for record, (f, features) in enumerate(particle_flow()):
        np.testing.assert_array_less(np.abs(found.predictions.value[record] - f), bound(found.predictions)[record])
        kernel = found.kernels.features
        np.testing.assert_array_less(np.abs(kernel.value[record, 0] - features), bound(kernel)[record, 0])
    assert found.predictions.standard_error.max() < 0.003
    assert int(found.status) == Status.OK


@pytest.mark.slow
def test_published_values_of_two_hidden_layers():
    found = course(2)
    expected = np.array([[0.281, -0.105, -0.130], [0.622, -0.349, -0.096]])
    distance = np.abs(found.predictions.value[np.array([1, 3])] - expected)
    np.testing.assert_array_less(distance, bound(found.predictions)[[1, 3]] + 0.002)
    kernel = found.kernels.features
    distance = np.abs(kernel.value[3, 1, 0] - np.array([0.355, -0.005, -0.075]))
    np.testing.assert_array_less(distance, bound(kernel)[3, 1, 0] + 0.002)
    np.testing.assert_array_equal(found.predictions.value[0], 0)


@pytest.mark.slow
def test_two_hidden_layers_are_the_mean_of_networks_at_training_and_test_points():
    found = course(2)
    points = jnp.concatenate([X, TEST])
    drawn = networks(jax.random.key(7), 32, 500, 2, points, Y, activation=jnp.tanh, **TRAINING)
    assert excess(found.predictions, drawn[:, :, :3]) < 1
    assert excess(found.test_predictions, drawn[:, :, 3:]) < 1


@pytest.mark.slow
def test_error_falls_as_the_root_of_the_samples_and_standard_errors_cover():
    reference = course(2, seed=99, samples=262_144).predictions
    errors = {}
    for samples in (4096, 16_384):
        runs = [course(2, seed, samples).predictions for seed in range(1, 9)]
        distance = np.stack([run.value[1:] - reference.value[1:] for run in runs])
        claimed = np.stack([np.hypot(run.standard_error[1:], reference.standard_error[1:]) for run in runs])
        # 8 · 9 squared t-like quotients with 7 degrees of freedom have mean 1.4; seeds alone are independent
        assert 0.5 < np.mean((distance / claimed) ** 2) < 3.5
        errors[samples] = np.sqrt(np.mean(distance**2))
    # quotient 2 of root mean squares over 8 seeds, each known to about 1/√(2·8) = 25 %
    assert 1.2 < errors[4096] / errors[16_384] < 3.4


@pytest.mark.slow
def test_small_richness_is_gradient_descent_with_the_tangent_kernel():
    def f(params, x):
        h = jnp.tanh(x @ params["first"])
        return jnp.tanh(h @ params["second"]) @ params["third"]

    shapes = {"first": (2, 64), "second": (64, 64), "third": (64, 1)}
    params = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    theta = infinite.limit(f, params, X, prior=prior.ntk()).ntk
    points = jnp.asarray(X)
    lazy = kernels.gradient_descent(
        theta(points), jnp.asarray(Y), learning_rate=0.2, steps=jnp.arange(0, 16, 5), ntk_test=theta(TEST, points)
    )
    found = solve(X, Y, depth=2, samples=16_384, test_x=TEST, key=jax.random.key(3), **{**TRAINING, "richness": 0.01})
    assert int(found.status) == Status.OK
    # the limit is even in γ0, so that its distance is O(γ0²)
    np.testing.assert_array_less(np.abs(found.predictions.value - lazy.train), bound(found.predictions) + 1e-4)
    np.testing.assert_array_less(np.abs(found.test_predictions.value - lazy.test), bound(found.test_predictions) + 1e-4)


@pytest.mark.slow
def test_one_hidden_layer_is_the_particle_simulation():
    points = jnp.asarray(X) / 2**0.5
    risk = meanfield.risk(lambda x, p: p["a"] * jnp.tanh(p["w"] @ x), meanfield.squared_loss, points, jnp.asarray(Y))
    flow = meanfield.gradient_flow(risk, 0.2 * len(Y))
    runs = []
    for seed in range(8):
        first, second = jax.random.split(jax.random.key(seed))
        # opposite readouts on equal first weights: f(0) = 0, as in the limit
        w, a = jax.random.normal(first, (10_000, 2)), jax.random.normal(second, (10_000,))
        start = {"w": jnp.concatenate([w, w]), "a": jnp.concatenate([a, -a])}
        run = meanfield.simulate(
            flow, start, steps=15, key=jax.random.key(0), record_every=5,
            observe=lambda cloud: jnp.tanh(points @ cloud.particles["w"].T) @ cloud.particles["a"] / 20_000,
        )  # fmt: skip
        runs.append(run.records)
    found = course(1).predictions
    later = found._replace(value=found.value[1:], standard_error=found.standard_error[1:])
    assert excess(later, np.stack(runs)) < 1


@pytest.mark.slow
def test_a_run_goes_on_from_its_state_bit_for_bit():
    options = {"depth": 2, "richness": 1.0, "step_size": 0.2, "samples": 8192, "record_every": 25}
    # 50 steps of 3 points fill more than one block of 126 rows
    whole = solve(X, Y, steps=50, key=jax.random.key(0), **options)
    first = solve(X, Y, steps=25, key=jax.random.key(0), **options)
    rest = solve(X, Y, steps=25, state=first.state, **options)
    np.testing.assert_array_equal(rest.times, [25, 50])
    np.testing.assert_array_equal(rest.predictions.value, whole.predictions.value[1:])
    np.testing.assert_array_equal(first.predictions.value, whole.predictions.value[:2])


@pytest.mark.slow
def test_a_mesh_gives_the_same_numbers_on_each_device():
    options = {"depth": 2, "samples": 4096, "key": jax.random.key(0), **TRAINING}
    mesh = jax.make_mesh((8,), ("groups",))
    one, split = solve(X, Y, **options), solve(X, Y, mesh=mesh, **options)
    np.testing.assert_allclose(split.predictions.value, one.predictions.value, rtol=0, atol=2e-6)
    # the same draws; a chain of 15 steps of 4 products over 512 samples, each rounded to √512 ε
    rounding = 15 * 4 * 512**0.5 * np.finfo(np.float32).eps
    np.testing.assert_allclose(split.state.groups.first, one.state.groups.first, rtol=0, atol=rounding)
    assert len(split.state.groups.first.sharding.device_set) == 8


@pytest.mark.slow
def test_degenerate_points_share_their_predictions():
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [2.0, 0.0]], np.float32)
    y = np.array([1.0, -1.0, 0.5, 0.0], np.float32)
    found = solve(x, y, depth=2, richness=1.0, step_size=0.2, steps=5, samples=4096, key=jax.random.key(0))
    assert int(found.status) == Status.OK
    np.testing.assert_allclose(found.predictions.value[:, 0], found.predictions.value[:, 1], atol=1e-5)
    np.testing.assert_array_equal(found.predictions.value[:, 2], 0)


@pytest.mark.slow
def test_fields_start_gaussian_and_become_bimodal():
    found = solve(
        X, 3 * Y, depth=1, richness=4.0, step_size=0.05, steps=40, record_every=40, samples=32_768, fields=4096,
        key=jax.random.key(0),
    )  # fmt: skip
    fields = found.fields.reshape(2, 3, -1)
    assert fields.shape[-1] == 4096
    kurtosis = np.mean(fields**4, -1) / np.mean(fields**2, -1) ** 2 - 3
    error = np.sqrt(24 / 4096)
    assert np.abs(kurtosis[0]).max() < 4 * error
    # two separate modes of equal weight have excess kurtosis −2
    assert kurtosis[1].min() < -1


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"richness": 0.0}, "richness"),
        ({"step_size": -1.0}, "step_size"),
        ({"depth": 0}, "depth"),
        ({"steps": 0}, "steps"),
        ({"record_every": 4}, "record_every"),
        ({"momentum": 1.0}, "momentum"),
        ({"samples": 100}, "samples"),
        ({"samples": 64}, "samples"),
        ({"groups": 1}, "groups"),
        ({"fields": 5000}, "fields"),
        ({"key": None}, "key"),
        ({"y": Y[:2]}, "y"),
        ({"test_x": TEST[:, :1]}, "test_x"),
        ({"batches": np.zeros((3, 2), np.int32)}, "batches"),
        ({"batches": np.full((15, 2), 3, np.int32)}, "batches"),
        ({"loss": "square"}, "loss"),
        ({"activation": "tahn"}, "activation"),
        ({"y": np.array([0, 1, 3]), "outputs": 3, "loss": "cross_entropy"}, "y"),
        ({"y": np.array([0, 1, 2]), "loss": "logistic"}, "y"),
        ({"y": np.array([-1, 0, 1]), "loss": "hinge"}, "y"),
        ({"y": np.array([0.0, 1.0, 1.0]), "loss": "logistic"}, "y"),
        ({"y": np.array([-1.0, 1.0, 1.0]), "loss": "cross_entropy"}, "y"),
    ],
)
def test_wrong_arguments_are_named(changes, name):
    arguments = {"x": X, "y": Y, "depth": 2, "samples": 4096, "key": jax.random.key(0), **TRAINING, **changes}
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        solve(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu", "erf"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_depths_and_activations_against_networks(depth, activation):
    function = {"tanh": jnp.tanh, "relu": jax.nn.relu, "erf": jax.scipy.special.erf}[activation]
    training = {"richness": 1.0, "step_size": 0.2 if activation != "relu" else 0.1, "steps": 12, "record_every": 4}
    found = solve(
        X, Y, depth=depth, activation=activation, samples=131_072, test_x=TEST, key=jax.random.key(0), **training
    )
    points = jnp.concatenate([X, TEST])
    drawn = networks(jax.random.key(7), 48, 1000, depth, points, Y, activation=function, **training)
    assert excess(found.predictions, drawn[:, :, :3]) < 1
    assert excess(found.test_predictions, drawn[:, :, 3:]) < 1


@pytest.mark.slow
def test_minibatches_momentum_and_several_outputs_against_networks():
    batches = jnp.array([[0, 1], [2, 0], [1, 2], [1, 1]] * 3, jnp.int32)
    cases = (
        {"batches": batches, "depth": 2},
        {"momentum": 0.7, "step_size": 0.05, "depth": 2},
        {"y": np.array([0, 2, 1]), "outputs": 3, "loss": "cross_entropy", "depth": 2},
        {"y": np.array([[0, 2.0], [1, 0], [0, 1]], np.float32), "batches": batches, "depth": 3},
        {"y": np.array([-1.0, 1, 1], np.float32), "loss": "hinge", "depth": 2, "activation": "relu"},
    )
    for case in cases:
        arguments = {"x": X, "y": Y, "richness": 1.0, "step_size": 0.2, "steps": 12, "record_every": 4, **case}
        found = solve(samples=32_768, key=jax.random.key(0), **arguments)
        drawn = feature_learning.networks(width=500, count=40, centered=True, key=jax.random.key(1), **arguments)
        assert excess(found.predictions, drawn.predictions, level=0.002) < 1
        for ours, theirs in zip(found.kernels, drawn.kernels, strict=True):
            assert excess(ours, theirs, level=0.002) < 1


@pytest.mark.slow
def test_sizes_and_memory():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 10)).astype(np.float32), rng.normal(size=10).astype(np.float32)
    options = {"depth": 2, "richness": 1.0, "step_size": 0.05, "steps": 15, "samples": 16_384}
    start = time.perf_counter()
    found = solve(x, y, key=jax.random.key(0), **options)
    jax.block_until_ready(found)
    assert time.perf_counter() - start < 60
    assert int(found.status) == Status.OK
    x, y = rng.normal(size=(20, 20)).astype(np.float32), rng.normal(size=20).astype(np.float32)
    found = solve(x, y, key=jax.random.key(0), **{**options, "steps": 30, "step_size": 0.02, "samples": 40_960})
    assert int(found.status) == Status.OK
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(found.state.groups.matrices))
    # the documented 4 S K numbers, in blocks of 120 rows
    assert held < 1.3 * 4 * 4 * 40_960 * 620
