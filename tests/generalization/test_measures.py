"""Every measure of three trained networks against formulas written out in numpy, and exact invariances."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from generalization.written_out import as_matrices, numpy_margins, numpy_outputs, sum_over_paths
from tolerances import assert_close

from jaxtheory import data
from jaxtheory import generalization as gen
from jaxtheory.generalization import bounds
from jaxtheory.networks import train


@pytest.mark.slow
def test_chain_computes_what_the_network_computes(trained, sample):
    assert_close(gen.forward(gen.chain(trained[0]), sample[0]), numpy_outputs(trained[0], sample[0]), dtype="float32")


@pytest.mark.slow
def test_bare_measures_are_those_written_out(trained, sample):
    weights, start = trained
    table = gen.measures(weights, sample, reference=start)
    found = {m.name: m.measure for m in table.measures}
    matrices, initial = as_matrices(weights), as_matrices(start)
    margins = numpy_margins(numpy_outputs(weights, sample[0]), sample[1])
    gamma = np.quantile(margins, 0.1)
    s = [np.linalg.svd(a)[1][0] for a in matrices]
    gaps = [a - m for a, m in zip(matrices, initial, strict=True)]
    groups = [sum(np.sqrt((row**2).sum()) for row in gap) for gap in gaps]
    expected = {
        "spectral": np.prod(s) * sum((g / n) ** (2 / 3) for g, n in zip(groups, s, strict=True)) ** 1.5 / gamma,
        "frobenius": np.prod([np.sqrt((a**2).sum()) for a in matrices]) / gamma,
        "path (l2)": np.sqrt(sum_over_paths([a**2 for a in matrices]).sum()) / gamma,
        "path (l1)": sum_over_paths([np.abs(a) for a in matrices]).max() / gamma,
        "PAC-Bayes spectral": sum(((g * np.prod(s) / n) ** 2).sum() for g, n in zip(gaps, s, strict=True)) / gamma**2,
        "inverse margin": gamma**-2,
        "parameters": sum(w.size + b.size for w, b in weights),
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=2e-4), name  # float32 against float64, γ a difference of outputs
    assert table.empirical == (margins <= 0).mean()


@pytest.mark.slow
def test_bounds_are_those_written_out(trained, sample):
    """Each bound rebuilt by direct loops over its grid of margins."""
    weights, start = trained
    x, y = (np.asarray(v, float) for v in sample)
    matrices, initial = as_matrices(weights), as_matrices(start)
    n, depth = len(x), len(matrices)
    margins = numpy_margins(numpy_outputs(weights, x), y.astype(int))
    square, delta = (x**2).sum() + n, 0.05
    found = {m.name: m.bound for m in gen.measures(weights, sample, reference=start).measures}

    def best(complexity, price):
        options = []
        for j in range(-400, 80):
            gamma = 2 ** (j / 4)
            if gamma <= margins.max():
                cost = price + np.log(2 * (abs(j) + 1) * (abs(j) + 2))
                tail = 3 * np.sqrt((np.log(2 / delta) + cost) / (2 * n))
                options.append((margins <= gamma).mean() + complexity / gamma + tail)
        return min(options)

    s = [np.linalg.svd(a)[1][0] for a in matrices]
    b = [sum(np.linalg.norm(row) for row in a - m) for a, m in zip(matrices, initial, strict=True)]
    cells = [np.ceil(depth * v) for v in (*s, *b)]
    up = [c / depth for c in cells]
    r = np.prod(up[:depth]) * sum((q / p) ** (2 / 3) for p, q in zip(up[:depth], up[depth:], strict=True)) ** 1.5
    width = max(max(a.shape) for a in matrices)
    rate = 72 * np.sqrt(square) * np.sqrt(np.log(2 * width**2)) * np.log(n) / n
    spectral = 8 / n**1.5 + best(rate * r, sum(np.log(c * (c + 1)) for c in cells))
    assert found["spectral"] == pytest.approx(spectral, rel=1e-3)
    product = np.prod([np.linalg.norm(a) for a in matrices])
    level = np.ceil(4 * np.log2(product))
    single = np.sqrt(square) * (np.sqrt(2 * np.log(2) * depth) + 1) * 2 ** (level / 4) / n
    frobenius = best(4 * 10 * single, np.log(2 * (abs(level) + 1) * (abs(level) + 2)))
    assert found["frobenius"] == pytest.approx(frobenius, rel=1e-3)
    ones = np.prod([float(a.shape[1]) for a in matrices])
    norms = {"path (l1)": sum_over_paths([np.abs(a) for a in matrices]).max(),
             "path (l2)": np.sqrt(sum_over_paths([a**2 for a in matrices]).sum() * ones)}  # fmt: skip
    for name, norm in norms.items():
        level = np.ceil(4 * np.log2(norm))
        single = 2 ** (depth - 1) * 2 ** (level / 4) * max(np.abs(x).max(), 1) * np.sqrt(2 * np.log(2 * 65) / n)
        expected = best(4 * 10 * single, np.log(2 * (abs(level) + 1) * (abs(level) + 2)))
        assert found[name] == pytest.approx(expected, rel=1e-3), name
    cells = [np.ceil(depth * np.log2(v)) for v in s]
    lower = [2 ** ((c - 1) / depth) for c in cells]
    assert all(v <= norm <= v * 2 ** (1 / depth) for v, norm in zip(lower, s, strict=True))
    radius = np.sqrt((x**2).sum(1).max() + 1)
    options = []
    for j in range(-400, 80):
        if 2 ** (j / 4) <= margins.max():
            # outputs move by e B Π‖A‖ Σ‖U_l‖/‖A_l‖, with ‖U_l‖ up to its deviation times √(2h ln 4hL)
            most = np.e * radius * np.prod(lower) * 2 * depth * np.sqrt(2 * width * np.log(4 * width * depth))
            deviations = [2 ** (j / 4) / 4 / most * v for v in lower]
            parts = [np.sum((a - m) ** 2) / (2 * v**2) for a, m, v in zip(matrices, initial, deviations, strict=True)]
            union = np.prod([2 * (abs(c) + 1) * (abs(c) + 2) for c in (*cells, j)])
            empirical = (margins <= 2 ** (j / 4)).mean()
            options.append(empirical + 4 * np.sqrt((sum(parts) + np.log(6 * n * union / delta)) / (n - 1)))
    assert found["PAC-Bayes spectral"] == pytest.approx(min(options), rel=1e-3)


@pytest.mark.slow
def test_every_bound_covers_the_test_error(trained, sample):
    """Bounds hold with probability 1 − δ each; true test error on the rest of the digits is far below."""
    split = data.digits(train=200)
    wrong = (numpy_margins(numpy_outputs(trained[0], split.x_test), split.y_test) <= 0).mean()
    table = gen.measures(trained[0], sample, reference=trained[1], key=jax.random.key(0))
    checked = [m for m in table.measures if np.isfinite(m.bound)]
    assert len(checked) >= 7
    assert all(m.bound >= wrong for m in checked)


@pytest.mark.slow
def test_rescaling_units_changes_nothing(float64):
    """ReLU networks without biases: one layer times 7, the next over 7, to 1e-12."""
    rng = np.random.default_rng(0)
    plain = [jnp.asarray(rng.normal(size=s)) for s in ((5, 8), (8, 6), (6, 3))]
    scaled = [7.0 * plain[0], plain[1] / 7.0, plain[2]]
    bare = [tuple(w.T for w in weights) for weights in (plain, scaled)]
    for measure in (gen.spectral_complexity, gen.path_norm, gen.l1_path_norm, gen.weight_ratio):
        assert float(measure(bare[1])) == pytest.approx(float(measure(bare[0])), rel=1e-12)


def test_path_norm_is_the_sum_over_paths(float64):
    """By enumerating every path of a small network."""
    rng = np.random.default_rng(1)
    a, b, c = (rng.normal(size=s) for s in ((3, 2), (4, 3), (2, 4)))
    paths = [
        (c[k, j] * b[j, i] * a[i, h]) ** 2 for k, j, i, h in itertools.product(range(2), range(4), range(3), range(2))
    ]
    assert float(gen.path_norm((jnp.asarray(a), jnp.asarray(b), jnp.asarray(c)))) == pytest.approx(np.sqrt(sum(paths)))


class ConvNet(nnx.Module):
    def __init__(self, rngs, stride=2):
        self.conv = nnx.Conv(1, 3, (3, 3), strides=stride, padding="SAME", rngs=rngs)
        self.head = nnx.Linear(3 * 16, 4, rngs=rngs)

    def __call__(self, x):
        h = jax.nn.relu(self.conv(x))
        return self.head(h.reshape(len(h), -1))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Conv(3, (3, 3), strides=2)(x))
        return nn.Dense(4)(h.reshape(len(h), -1))


@pytest.mark.slow
def test_convolutions_are_their_true_operators():
    """The matrix of a strided, padded convolution, from SciPy-free loops over its window."""
    x = jax.random.normal(jax.random.key(0), (6, 8, 8, 1))
    net = ConvNet(nnx.Rngs(0))
    net.conv.bias[...] = jnp.array([0.3, -0.2, 0.1])
    matrices = gen.chain(net, x)
    assert_close(gen.forward(matrices, x), net(x), condition=10)
    kernel, dense = np.asarray(net.conv.kernel[...]), np.zeros((4 * 4 * 3, 64))
    for i, j, channel in itertools.product(range(4), range(4), range(3)):
        for u, v in itertools.product(range(3), range(3)):
            if 2 * i + u < 8 and 2 * j + v < 8:  # SAME at stride 2 pads below and to the right
                dense[(i * 4 + j) * 3 + channel, (2 * i + u) * 8 + 2 * j + v] = kernel[u, v, 0, channel]
    assert_close(matrices[0][:-1, :-1], dense.astype("float32"))
    whole = np.zeros((49, 65))
    whole[:-1, :-1], whole[:-1, -1], whole[-1, -1] = dense, np.tile([0.3, -0.2, 0.1], 16), 1
    assert_close(gen.spectral_norms(matrices)[0], np.float32(np.linalg.norm(whole, 2)))


@pytest.mark.slow
def test_modules_are_measured_as_weights_are():
    """The table of a Flax module has the margin of its own outputs."""
    x, y = jax.random.normal(jax.random.key(0), (6, 8, 8, 1)), jnp.arange(6) % 4
    net = ConvNet(nnx.Rngs(0))
    expected = np.quantile(numpy_margins(np.asarray(net(x)), np.asarray(y)), 0.1)
    assert_close(gen.measures(net, (x, y)).margin, np.float32(expected), condition=100)


@pytest.mark.slow
@pytest.mark.smoke
def test_linen_and_nnx_give_the_same_chain():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    module = LinenNet()
    variables = module.init(jax.random.key(1), x)
    matrices = gen.chain((module, variables), x)
    assert [m.shape for m in matrices] == [(49, 65), (4, 49)]
    assert_close(gen.forward(matrices, x), module.apply(variables, x), condition=10)


class Pooled(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.head = nnx.Conv(1, 3, (3, 3), rngs=rngs), nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.conv(x)).mean((1, 2)))


class Normalized(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(5, 6, rngs=rngs), nnx.LayerNorm(6, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.first(x))


class Smooth(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(5, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))


@pytest.mark.parametrize(
    ("model", "x", "named"),
    [
        (Pooled, jnp.ones((2, 8, 8, 1)), "inputs"),
        (Normalized, jnp.ones((2, 5)), "LayerNorm"),
        (Smooth, jnp.ones((2, 5)), "other activations"),
    ],
)
def test_models_that_are_no_chain_are_refused(model, x, named):
    with pytest.raises(ValueError, match=rf"^model must .*{named}"):
        gen.chain(model(nnx.Rngs(0)), x)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: gen.chain([jnp.full((2, 2), jnp.nan)]), "model"),
        (lambda: gen.chain([jnp.ones((2, 3)), jnp.ones((4, 1))]), "model"),
        (lambda: gen.chain([]), "model"),
        (lambda: gen.chain(ConvNet(nnx.Rngs(0))), "x"),
        (lambda: gen.measures([jnp.eye(2)], (jnp.ones((3, 2)), jnp.zeros(2, int))), "data"),
        (lambda: gen.measures([jnp.eye(2)], (jnp.ones((2, 2)), jnp.zeros(2, int)), delta=0.0), "delta"),
        (lambda: gen.measures([jnp.eye(2)], (jnp.ones((2, 2)), jnp.array([0, 5]))), "y"),
        (lambda: gen.measures([jnp.eye(2)], (jnp.ones((2, 2)), jnp.zeros(2, int)), gram=-jnp.eye(2)), "gram"),
        (lambda: gen.spectral_complexity((jnp.eye(2),), (jnp.eye(3),)), "reference"),
        (lambda: gen.cushions((jnp.eye(3)[:2],), jnp.ones((1, 2)), 0.0), "margin"),
        (lambda: gen.worst_direction(lambda w: w @ w, jnp.ones(2), 0.0), "radius"),
        (lambda: gen.random_direction(lambda w: w @ w, jnp.ones(2), -1.0, jax.random.key(0)), "deviation"),
    ],
)
def test_bad_arguments_are_named(call, named, unchecked):
    with pytest.raises(ValueError, match=f"^{named} must"):
        call()


def test_compressed_weights_are_unbiased_projections():
    """More coefficients come nearer: the error of a projection falls as ‖A‖ √(d/k); with k ≫ d it keeps the labels."""
    net = gen.chain([jnp.eye(2) * 3.0, jnp.eye(2)])
    x, y = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1])
    found = gen.compressed(net, x, y, jax.random.key(0), budgets=(4096,))
    assert float(found.empirical[0]) == 0.0
    price = np.sqrt((32 * 4096 * 2 * np.log(2) + np.log(1 / 0.05)) / 4)
    assert float(found.bound) == pytest.approx(price, rel=1e-5)


def test_sharpness_of_a_quadratic(float64):
    """Worst direction at most ρ²λ_max/2 at the minimum's neighbour; random direction σ² tr H/2."""
    h = jnp.diag(jnp.array([4.0, 1.0, 0.5]))
    loss = lambda w: w @ h @ w / 2  # noqa: E731
    start = jnp.array([1e-6, 1e-6, 1e-6])
    worst = gen.worst_direction(loss, start, 0.1, ascents=40)
    assert float(worst) == pytest.approx(0.1**2 * 4 / 2, rel=1e-4)
    rise = gen.random_direction(loss, jnp.zeros(3), 0.1, jax.random.key(0), draws=2000)
    assert abs(float(rise.mean) - 0.01 * 5.5 / 2) < 4 * float(rise.standard_error)


@pytest.mark.smoke
def test_vacuous_bounds_say_so():
    rows = [gen.Measure("a", 1.0, value, "") for value in (0.5, 1.0, float("nan"), float("inf"))]
    assert [m.vacuous for m in rows] == [False, True, True, True]


@pytest.mark.slow
def test_pac_bayes_beats_counting_on_an_easy_task():
    """Two well-separated classes, 2,000 points: the fitted posterior certifies what counting cannot."""
    x = jax.random.normal(jax.random.key(0), (2000, 2)) * 0.3 + jnp.array([[2.0, 0.0]])
    y = jnp.arange(2000) % 2
    x = jnp.where((y == 1)[:, None], -x, x)
    start = [jax.random.normal(jax.random.key(1), (2, 8)) * 0.5, jax.random.normal(jax.random.key(2), (8, 2)) * 0.3]

    def loss(weights):
        return -jnp.take_along_axis(jax.nn.log_softmax(gen.forward(gen.chain(weights), x)), y[:, None], 1).mean()

    run = jax.jit(lambda w: train(loss, w, optimizer=optax.adam(1e-2), steps=60, record_every=60))(start)
    table = gen.measures(run.params, (x, y), reference=start, key=jax.random.key(3))
    found = {m.name: m for m in table.measures}
    assert found["PAC-Bayes-kl"].bound < 0.2
    assert found["PAC-Bayes-kl"].bound < found["VC dimension"].bound


def test_uniform_bound_is_vapniks():
    assert float(bounds.uniform(jnp.array(0.1), 50.0, 1000, 0.05)) == pytest.approx(
        0.1 + np.sqrt(8 * (50 + np.log(80)) / 1000)
    )
