"""Derivatives of the kl inverse, layers that are 0, layouts of Equinox and Flax, counts, and inputs at the ends."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from flax import nnx
from generalization.written_out import numpy_outputs
from tolerances import assert_close

from jaxtheory import generalization as gen
from jaxtheory.generalization.chain import count_parameters

POINTS = [(0.1, 0.05), (0.5, 1e-6), (0.3, 2.0), (1e-6, 0.01), (0.9, 0.1)]


def exact_inverse(q, c):
    """By bisection in 60 digits."""
    low, high = mpmath.mpf(q), mpmath.mpf(1)
    for _ in range(200):
        p = (low + high) / 2
        excess = q * mpmath.log(q / p) + (1 - q) * mpmath.log((1 - q) / (1 - p)) - c
        low, high = (low, p) if excess > 0 else (p, high)
    return low


def test_kl_inverse_has_the_derivatives_of_its_equation(float64):
    """First and second ones, against differences in 60 digits."""
    at = jnp.array(POINTS)
    inverse = lambda v: gen.kl_inverse(v[0], v[1])  # noqa: E731
    first, second = jax.jit(lambda v: (jax.vmap(jax.grad(inverse))(v), jax.vmap(jax.hessian(inverse))(v)))(at)
    with mpmath.workdps(60):
        for (q, c), slopes, curves in zip(POINTS, first, second, strict=True):
            steps = {"h": mpmath.mpf(10) ** -10 * min(q, c)}
            for order in ((1, 0), (0, 1)):
                expected = float(mpmath.diff(exact_inverse, (q, c), order, **steps))
                assert float(slopes[order.index(1)]) == pytest.approx(expected, rel=1e-9), (q, c, order)
            for order, found in (((2, 0), curves[0, 0]), ((1, 1), curves[0, 1]), ((0, 2), curves[1, 1])):
                expected = float(mpmath.diff(exact_inverse, (q, c), order, **steps))
                assert float(found) == pytest.approx(expected, rel=1e-6), (q, c, order)
    assert np.asarray(first[0]) == pytest.approx([1.332, 1.4294], rel=1e-3)


def test_kl_inverse_at_the_ends(float64):
    """q = 0: p = 1 − e^(−c). c = 0: p = q. q = 1 or c = ∞: p = 1."""
    by_c = jax.grad(gen.kl_inverse, 1)
    assert float(by_c(0.0, 0.1)) == pytest.approx(np.exp(-0.1), rel=1e-14)
    assert float(jax.grad(by_c, 1)(0.0, 0.1)) == pytest.approx(-np.exp(-0.1), rel=1e-13)
    found = gen.kl_inverse(jnp.array([0.2, 1.0, 0.2, 0.0]), jnp.array([0.0, 0.5, jnp.inf, jnp.inf]))
    np.testing.assert_array_equal(found, [0.2, 1.0, 1.0, 1.0])
    assert float(gen.kl_inverse(0.9, 1e308)) == 1  # s is beyond the dtype
    by_q = jax.grad(gen.kl_inverse, 0)
    assert [float(by_q(q, c)) for q, c in ((0.2, 0.0), (1.0, 0.5), (0.0, 0.1))] == [1.0, 0.0, np.inf]
    assert np.isinf(float(by_c(0.2, 0.0)))


INF = np.inf
ENDS = [  # q, c, the slopes by q and c, and the second derivatives qq, qc, cc; one-sided limits of the equation
    (0.0, 0.1, (INF, np.exp(-0.1)), (-INF, -INF, -np.exp(-0.1))),
    (0.0, 0.0, (1, 1), (0, INF, -1)),
    (0.2, 0.0, (1, INF), (0, INF, -INF)),
    (0.5, 0.0, (1, INF), (0, -4 / 3, -INF)),
    (0.8, 0.0, (1, INF), (0, -INF, -INF)),
    (1.0, 0.0, (1, 0), (0, -INF, 0)),
    (1.0, 0.3, (0, 0), (0, 0, 0)),
    (0.3, INF, (0, 0), (0, 0, 0)),
    (0.0, INF, (0, 0), (0, 0, 0)),
]


@pytest.mark.slow
def test_kl_inverse_has_second_derivatives_at_the_ends(float64):
    """Forward over reverse and reverse over reverse, of a vector (q, c); at a tiny q, ∂²p/∂q² = −e^(−c)/q."""
    at = jnp.array([row[:2] for row in ENDS] + [(1e-300, 0.1)])
    inverse = lambda v: gen.kl_inverse(v[0], v[1])  # noqa: E731
    ways = (jax.grad(inverse), jax.hessian(inverse), jax.jacrev(jax.jacrev(inverse)))
    slopes, *curves = jax.jit(lambda v: [jax.vmap(way)(v) for way in ways])(at)
    np.testing.assert_allclose(slopes[:-1], [row[2] for row in ENDS], rtol=1e-13)
    for curve in curves:
        np.testing.assert_allclose(curve[:-1], [[row[3][:2], row[3][1:]] for row in ENDS], rtol=1e-13)
        assert float(curve[-1, 0, 0]) == pytest.approx(-np.exp(-0.1) * 1e300, rel=1e-10)
        assert float(curve[-1, 0, 1]) == pytest.approx(float(curve[-1, 1, 0]), rel=1e-10)


@pytest.mark.slow
def test_a_layer_of_zeros_has_its_measures(float64):
    """Σ_l of what layer l adds, times the norms of the others; with finite derivatives."""
    rng = np.random.default_rng(0)
    net, start = ([rng.normal(size=s) for s in ((4, 4), (3, 4))] for _ in range(2))
    net[1][:] = 0
    norms = [np.linalg.norm(m, 2) for m in net]
    gaps = [a - m for a, m in zip(net, start, strict=True)]
    # what the first layer adds is multiplied by the norm of the second, which is 0
    groups = np.linalg.norm(gaps[1], axis=1).sum() * norms[0]
    net, start = (tuple(map(jnp.asarray, m)) for m in (net, start))
    assert float(gen.spectral_complexity(net, start)) == pytest.approx(groups, rel=1e-12)
    assert float(gen.weight_ratio(net, start)) == pytest.approx((gaps[1] ** 2).sum() * norms[0] ** 2, rel=1e-12)
    assert float(gen.spectral_complexity(net)) == float(gen.weight_ratio(net)) == 0
    slopes = jax.grad(lambda n: gen.spectral_complexity(n, start) + gen.weight_ratio(n) + gen.path_norm(n))(net)
    assert all(bool(jnp.isfinite(s).all()) for s in slopes)


@pytest.mark.slow
def test_equinox_layers_are_outputs_by_inputs():
    """Square layers too, where no shape tells: as a list of layers, and as the module."""
    net = eqx.nn.MLP(3, 2, 3, 2, activation=jax.nn.relu, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (5, 3))
    expected = jax.vmap(net)(x)
    for matrices in (gen.chain(list(net.layers)), gen.chain(net, x)):
        assert_close(gen.forward(matrices, x), expected, condition=10)
    y = expected.argmax(1)
    table = gen.measures(net, (x, y))
    assert float(table.empirical) == 0.0
    assert {m.name: float(m.measure) for m in table.measures}["parameters"] == 12 + 12 + 8
    with pytest.raises(ValueError, match="other activations"):
        gen.chain(eqx.nn.MLP(3, 2, 3, 2, activation=jnp.tanh, key=jax.random.key(0)), x)


def test_tied_layers_are_counted_once_and_dropout_is_off():
    """Two layers with one weight, as Equinox shares it: three matrices, of which two have the same entries."""
    keys = jax.random.split(jax.random.key(0), 3)
    first, second = (eqx.nn.Linear(3, 3, key=key) for key in keys[:2])
    relu = eqx.nn.Lambda(jax.nn.relu)
    net = eqx.nn.Sequential([first, relu, second, relu, eqx.nn.Dropout(0.5), eqx.nn.Linear(3, 2, key=keys[2])])

    class Tied(eqx.Module):
        shared: eqx.nn.Shared

        def __call__(self, x):
            return self.shared()(x)

    tied = Tied(eqx.nn.Shared(net, where=lambda s: s[2].weight, get=lambda s: s[0].weight))
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    rest = [(first.weight.T, first.bias), (first.weight.T, second.bias), (net[5].weight.T, net[5].bias)]
    np.testing.assert_allclose(gen.forward(gen.chain(tied, x), x), numpy_outputs(rest, x), rtol=1e-5, atol=1e-5)
    assert count_parameters(tied) == 9 + 3 + 3 + 8


@pytest.mark.slow
def test_layers_that_cannot_be_seen_are_named(unchecked):
    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            step = nn.scan(
                lambda layer, x, _: (nn.relu(layer(x)), None),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=2,
            )
            return nn.Dense(2)(step(nn.Dense(3), x, None)[0])

    class Tokens(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.Embed(7, 3)(x).reshape(len(x), -1))

    for module, x, message in (
        (Scanned(), jnp.ones((2, 3)), "model must call its layers outside of scan"),
        (Tokens(), jnp.zeros((2, 2), int), r"model must have dense .* got model=.*Embed at"),
    ):
        with pytest.raises(ValueError, match=message):
            gen.chain((module, module.init(jax.random.key(0), x)), x)


def test_layers_of_flax_are_inputs_by_outputs():
    rngs = nnx.Rngs(0)
    layers = [nnx.Linear(3, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)]
    weights = [(layer.kernel[...], layer.bias[...]) for layer in layers]
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    flax = [{"kernel": w, "bias": b} for w, b in weights]
    haiku = [{"w": w, "b": b} for w, b in weights]
    for model in (layers, flax, haiku):
        np.testing.assert_allclose(gen.forward(gen.chain(model), x), numpy_outputs(weights, x), rtol=1e-5, atol=1e-5)


def test_parameters_are_counted_as_they_are_stored():
    """A convolution by its kernel, and no bias where there is none."""
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(nnx.Conv(2, 3, (3, 3), rngs=rngs), nnx.Linear(3, 4, use_bias=False, rngs=rngs))
    assert count_parameters(net) == 3 * 3 * 2 * 3 + 3 + 3 * 4
    assert count_parameters([jnp.eye(2), (jnp.ones((2, 3)), jnp.ones(3))]) == 4 + 9
    conv = eqx.nn.Conv2d(2, 3, 3, key=jax.random.key(0))
    assert count_parameters(eqx.nn.Sequential([conv, eqx.nn.Lambda(jax.nn.relu)])) == 3 * 3 * 2 * 3 + 3


def test_noise_of_the_spectral_certificate_moves_outputs_by_less_than_a_quarter_margin():
    """The proof's step in numpy, with layers of different norms: for half of the draws at least."""
    rng = np.random.default_rng(0)
    net, x = (
        [rng.normal(size=s) * c for s, c in (((8, 6), 5.0), ((8, 8), 0.1), ((3, 8), 2.0))],
        rng.normal(size=(50, 6)),
    )
    norms, width, depth = [np.linalg.norm(m, 2) for m in net], 8, 3
    radius, margin = np.linalg.norm(x, axis=1).max(), 0.1

    def outputs(matrices):
        h = x.T
        for i, matrix in enumerate(matrices):
            h = matrix @ (np.maximum(h, 0) if i else h)
        return h

    size = margin / (4 * np.e * depth * radius * np.prod(norms) * np.sqrt(2 * width * np.log(4 * width * depth)))
    moved = [
        abs(outputs([m + size * s * rng.normal(size=m.shape) for m, s in zip(net, norms, strict=True)]) - outputs(net))
        for _ in range(40)
    ]
    assert np.mean([move.max() <= margin / 4 for move in moved]) >= 0.5


def test_the_radius_of_the_distribution_is_an_assumption(unchecked):
    """The bound grows with it; one below the sample's is refused."""
    net, data = [4 * jnp.eye(2)], (jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.array([0, 1]))
    bounds = [
        {m.name: float(m.bound) for m in gen.measures(net, data, radius=radius).measures}["PAC-Bayes spectral"]
        for radius in (None, 10**0.5, 100.0)
    ]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-6)
    assert bounds[2] > bounds[1]
    with pytest.raises(ValueError, match="radius must be no less than the longest input"):
        gen.measures(net, data, radius=3.0)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_label_complexity_at_any_scale(scale):
    """√(2 yᵀH⁻¹y/n) of H of another unit in float32; and NaN for a matrix that rounding makes singular."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(12, 20)), rng.normal(size=12)
    gram = x @ x.T
    expected = np.sqrt(2 * y @ np.linalg.solve(gram, y) / 12)
    found = gen.ntk_complexity(np.float32(gram * scale), np.float32(y * scale))
    assert float(found) == pytest.approx(expected * scale**0.5, rel=1e-4)
    wide = np.float32(np.diag(scale * np.logspace(0, -9, 12)) + scale)
    assert np.isnan(jax.jit(gen.ntk_complexity)(wide, np.float32(y)))


def test_the_gaussian_posterior_is_told_from_an_error_that_is_no_rate():
    x = jnp.linspace(-1.0, 1.0, 20)[:, None]
    loss = lambda w, x, y: jnp.logaddexp(0.0, -y * (x @ w)).mean()  # noqa: E731
    count = lambda w, x, y: (y * (x @ w) <= 0).astype(x.dtype).sum() + 2  # noqa: E731
    start = (jnp.ones(1), jnp.zeros(1), x, jnp.sign(x[:, 0]))
    found = gen.gaussian_posterior(loss, count, *start, key=jax.random.key(0), steps=2, draws=2)
    assert int(found.status) != 0


@pytest.mark.parametrize("y", [None, "ab", ["a", "b"], [[1.0], [1.0, 2.0]], np.ones(1), np.ones(3)])
def test_labels_that_do_not_pair_are_refused(y, unchecked):
    """One label was broadcast to all examples, and the bound held for another sample."""
    x, w = np.ones((2, 1)), np.zeros(1)
    loss, wrong = (lambda w, x, y: ((x @ w - y) ** 2).mean()), (lambda w, x, y: (y * (x @ w) <= 0).mean())
    with pytest.raises(ValueError, match="y must "):
        gen.gaussian_posterior(loss, wrong, w, w, x, y, key=jax.random.key(0))
    with pytest.raises(ValueError, match="y must "):
        gen.gradient_signal(loss, w, x, y)
    with pytest.raises(ValueError, match="y must "):
        gen.learned_prior(loss, wrong, lambda x, y: w, x, y, jax.random.key(0))
    if not isinstance(y, np.ndarray):
        with pytest.raises(ValueError, match="gap must be numbers"):
            gen.kendall([1.0, 2.0], y)
