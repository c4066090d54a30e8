"""Many widths at once: each is its unpadded twin, padding stays zero, programs are few, runs continue."""

import itertools
import math
from functools import partial

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from conftest import relaxed_promotion

from jaxtheory import data, networks
from jaxtheory.networks import fitting
from jaxtheory.networks.buckets import WASTE, buckets, waste
from jaxtheory.results import Status

WIDTHS = [7, 8]
ADAMW = optax.adamw(optax.cosine_decay_schedule(0.01, 60), weight_decay=0.02)


def points(dtype=jnp.float32, n=30, d=4, classes=3):
    """Three Gaussian clusters, for training and for testing."""
    x = jax.random.normal(jax.random.key(1), (n, d), dtype)
    y = jnp.arange(n) % classes
    x = x + 1.5 * jnp.eye(classes, d, dtype=dtype)[y]
    return x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :]


def sweep(dtype=jnp.float32, **options):
    defaults = {"widths": WIDTHS, "seeds": 2, "optimizer": ADAMW, "steps": 60, "record_every": 20, "label_noise": 0.2}
    return networks.train_widths(*points(dtype), **(defaults | options))


def softened(x):
    return jax.nn.softplus(x)  # φ(0) ≠ 0


def twin(width, seed, dtype, *, depth, abc, loss, steps=60):
    """A network of its own size, without padding or masks, by a Python loop over optax's own calls."""
    x, y, x_test, y_test = points(dtype)
    start, labels, _ = jax.random.split(jax.random.key(seed), 3)
    net = networks.multilayer(
        4, width, 3, hidden_layers=depth, activation=softened, abc=abc, bias_variance=1.0, bias_start=0.0, dtype=dtype
    )
    noisy = jax.nn.one_hot(data.flip_labels(y, 0.2, labels, classes=3), 3, dtype=dtype)
    params, memory = net.init(start), None

    def objective(params, x, targets):
        out = net.apply(params, x)
        if loss == "xent":
            return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(out), axis=1))
        return jnp.mean(jnp.sum((out - targets) ** 2, axis=1))

    gradient = jax.jit(jax.grad(objective))
    with relaxed_promotion():
        memory = ADAMW.init(params)
        for _ in range(steps):
            updates, memory = ADAMW.update(gradient(params, x, noisy), memory, params)
            params = optax.apply_updates(params, jax.tree.map(lambda u: u * net.rate, updates))
    test = objective(params, x_test, jax.nn.one_hot(y_test, 3, dtype=dtype))
    return params, memory, objective(params, x, noisy), test


@pytest.mark.parametrize(
    ("depth", "abc", "loss"),
    [(1, "standard", "mse"), (2, networks.shifted(networks.mup(3), 0.3), "xent")],
)
def test_a_padded_network_is_its_unpadded_twin(float64, depth, abc, loss):
    """After 60 steps of AdamW: losses, parameters and both moments to 1e-5, relative; and padding exactly zero."""
    run = sweep(float64, depth=depth, parameterization=abc, loss=loss, activation=softened)
    exponents = networks.standard(2)._replace(c=0.0) if abc == "standard" else abc
    assert (run.dataset.padded > run.dataset.width).any()
    models = [(b, i, w, s) for b in run.state for i, (w, s) in enumerate(itertools.product(b.widths, (0, 1)))]
    for bucket, index, width, seed in [model for model in models if model[2:] in ((7, 0), (8, 1))]:
        params, memory, train_loss, test_loss = twin(width, seed, float64, depth=depth, abc=exponents, loss=loss)
        here = run.dataset.sel(width=width, seed=seed).isel(step=-1)
        np.testing.assert_allclose([here.train_loss, here.test_loss], [train_loss, test_loss], rtol=1e-5)
        net = networks.multilayer(4, width, 3, hidden_layers=depth, bias_variance=1.0, padded=bucket.widths[-1])
        adam, *_ = jax.tree.leaves(bucket.training.optimizer, is_leaf=lambda s: isinstance(s, optax.ScaleByAdamState))
        for theirs, ours in ((params, bucket.params), (memory[0].mu, adam.mu), (memory[0].nu, adam.nu)):
            for a, b, live in zip(*map(jax.tree.leaves, (theirs, ours, net.mask)), strict=True):
                np.testing.assert_allclose(b[index][live], a.ravel(), rtol=1e-5, atol=1e-5 * float(abs(a).max()))
                assert not b[index][~live].any()


def test_padding_is_silent_whatever_it_holds(float64):
    """ε = 0 makes 0/0 of Adam's step for a gradient that is exactly zero; the mask holds padding all the same."""
    run = sweep(float64, optimizer=optax.adam(0.01, eps=0.0))
    assert not run.dataset.status.any()
    assert np.isfinite(run.dataset.test_loss).all()


@pytest.mark.parametrize("depth", [1, 3])
def test_buckets_are_few_and_waste_little(depth):
    """Fewest groups with under 30% of waste, against every partition; never above the bound."""
    rng = np.random.default_rng(depth)
    cost = lambda w: 20 * w + (depth - 1) * w**2  # noqa: E731
    for _ in range(40):
        widths = sorted(rng.choice(np.arange(1, 60), 7, replace=False).tolist())
        groups = buckets(widths, cost)
        most = math.ceil(math.log(widths[-1] / widths[0]) / math.log(1.3)) + 1
        assert [w for group in groups for w in group] == widths
        assert len(groups) <= most
        allowed = {
            cuts: waste([widths[a:b] for a, b in itertools.pairwise((0, *cuts, 7))], cost)
            for k in range(7)
            for cuts in itertools.combinations(range(1, 7), k)
            if k + 1 <= most
        }
        if waste(groups, cost) < WASTE:
            assert len(groups) == min(len(c) + 1 for c, share in allowed.items() if share < WASTE)
        else:
            assert depth > 1
            assert waste(groups, cost) == pytest.approx(min(allowed.values()))


def test_a_compiled_bucket_needs_the_stated_memory(monkeypatch):
    """Networks times parameters times (2 + 2 for Adam), held twice (given and returned), and the activations beside."""
    n, m, depth, width, models = 300, 100, 2, 12, 6
    programs = []

    def analyzed(*arguments):
        programs.append(program.lower(*arguments).compile().memory_analysis())
        return program(*arguments)

    program = fitting.train_models
    monkeypatch.setattr(fitting, "train_models", analyzed)
    x = jax.random.normal(jax.random.key(0), (n + m, 4))
    y = jnp.sin(x[:, :1])
    mesh = jax.make_mesh((1,), ("points",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    networks.train_widths(
        x[:n], y[:n], x[n:], y[n:], widths=[width], seeds=models, optimizer=optax.adam(0.01), steps=1, depth=depth,
        mesh=mesh,
    )  # fmt: skip
    (memory,) = programs
    parameters = 5 * width + (width + 1) * width + (width + 1)
    state, activations = 4 * models * 4 * parameters, 4 * models * 4 * depth * (n + m) * width
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    assert 3 / 4 * 2 * state < held - x.nbytes - y.nbytes < 2 * state
    assert activations / 8 < memory.temp_size_in_bytes < activations + state


def test_one_compilation_a_bucket_and_none_the_second_time():
    """Counted by JAX's own events, for seven widths over a factor of 15."""
    compiled = []

    def listen(event, duration, **kwargs):
        if event.endswith("backend_compile_duration") and "train_models" in kwargs.get("fun_name", ""):
            compiled.append(kwargs["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    widths = [2, 3, 8, 9, 10, 11, 30]
    options = {"widths": widths, "optimizer": optax.sgd(0.01), "steps": 2, "record_every": 1}
    first = sweep(**options)
    groups = len(set(first.dataset.padded.values))
    assert len(compiled) == groups <= math.ceil(math.log(15) / math.log(1.3)) + 1
    assert first.dataset.attrs["waste"] < WASTE
    sweep(**(options | {"seeds": [5, 6], "label_noise": 0.5}))
    assert len(compiled) == groups


@pytest.mark.smoke
def test_a_sweep_cut_in_two_has_the_same_bits():
    """Minibatches and Adam's memory continue; so do the records' steps."""
    whole = sweep(batch_size=4)
    first = sweep(batch_size=4, steps=20)
    second = sweep(batch_size=4, steps=40, state=first.state)
    both = xr.concat(
        [first.dataset, second.dataset], "step", data_vars="minimal", join="exact", compat="override", coords="minimal"
    )
    assert both.step.values.tolist() == [20, 40, 60]
    for name in ("train_loss", "test_loss", "train_error", "test_error"):
        np.testing.assert_array_equal(both[name], whole.dataset[name])
    for a, b in zip(jax.tree.leaves(second.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_devices_share_the_networks_and_do_not_talk(float64):
    """Eight devices and one give the same; each holds its own networks, and the program has no collective."""
    from jaxtheory.networks import fitting, widths

    one = sweep(float64, mesh=jax.make_mesh((1,), ("d",), devices=jax.devices()[:1]))
    eight = sweep(float64)
    xr.testing.assert_allclose(one.dataset, eight.dataset, rtol=1e-9)
    task, outputs = fitting.task(*points(float64), 0.2, "mse")
    build = widths.Architecture(4, outputs, 10, 1, jax.nn.relu, networks.ntk(2), 1.0, task.x.dtype)
    recipe = fitting.Recipe(ADAMW, 60, 20, "mse", None, outputs)
    mesh = jax.make_mesh((8,), ("points",), axis_types=(jax.sharding.AxisType.Auto,))
    blank = fitting._blank(build, recipe, 8)
    lowered = fitting.train_models.lower(
        build, recipe, mesh, task, np.array(True), np.arange(1, 9, dtype=np.int32), np.arange(8, dtype=np.int32), blank
    )
    text = lowered.compile().as_text()
    assert not any(word in text for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute"))


def test_seeds_share_labels_across_widths_and_differ_among_themselves(float64):
    """At a rate of zero nothing moves: the loss of a zero readout is the mean square of the one-hot targets."""
    run = sweep(
        float64, optimizer=optax.sgd(0.0), parameterization=networks.ABC((0.0, 40.0), (0.0, 0.0), 0.0), steps=20
    )
    np.testing.assert_allclose(run.dataset.train_loss, 1.0, rtol=1e-12)
    moving = sweep(float64, label_noise=1.0).dataset.isel(step=-1)
    assert (moving.test_error > 0.5).all()  # every label flipped to another class
    assert (moving.train_loss.sel(seed=0) != moving.train_loss.sel(seed=1)).all()


def test_regression_targets_of_one_output(float64):
    x, _, x_test, _ = points(float64)
    y, y_test = x[:, 0] * 0.5, x_test[:, 0] * 0.5
    run = networks.train_widths(x, y, x_test, y_test, widths=[8], seeds=1, optimizer=optax.adam(0.01), steps=400)
    out = run.predict(x_test)
    assert out.shape == (1, 1, 15, 1)
    np.testing.assert_allclose(((out[0, 0, :, 0] - y_test) ** 2).mean(), run.dataset.test_loss[0, 0, 0], rtol=1e-12)
    wrong = (np.sign(out[0, 0, :, 0]) != np.sign(y_test)).mean()
    np.testing.assert_allclose(run.dataset.test_error[0, 0, 0], wrong, rtol=1e-12)
    assert float(run.dataset.train_loss[0, 0, 0]) < 0.02 * float((y**2).mean())


def test_a_rate_too_large_is_a_status():
    run = sweep(optimizer=optax.sgd(1e3), widths=[4, 5])
    assert (run.dataset.status == Status.NOT_FINITE).all()


# --- Flax families ----------------------------------------------------------------------------------------------------


class Convolutional(nnx.Module):
    """Two 3×3 convolutions of `channels`, a stride, an average, a readout."""

    def __init__(self, channels, rngs):
        self.first = nnx.Conv(1, channels, (3, 3), rngs=rngs)
        self.second = nnx.Conv(channels, 2 * channels, (3, 3), strides=2, rngs=rngs)
        self.readout = nnx.Linear(2 * channels, 10, rngs=rngs)

    def __call__(self, x):
        with relaxed_promotion():
            x = nnx.relu(self.second(nnx.relu(self.first(x))))
            return self.readout(x.mean((1, 2)))


def images(n=40):
    split = data.digits(train=n)
    return split.x.reshape(-1, 8, 8, 1), split.y, split.x_test[:50].reshape(-1, 8, 8, 1), split.y_test[:50]


def test_a_family_is_each_module_alone(float64):
    """A small CNN on the digits: each seed against a Python loop with the same optax calls."""
    x, y, x_test, y_test = (v.astype(float64) if v.ndim > 1 else v for v in images())
    adam = optax.adam(0.01)
    run = networks.train_family(Float64, [2], x, y, x_test, y_test, seeds=2, optimizer=adam, steps=6, record_every=3)
    targets = jax.nn.one_hot(y, 10, dtype=float64)
    for width, seed in ((2, 0), (2, 1)):
        start = jax.random.split(jax.random.key(seed), 3)[0]
        graph, params = nnx.split(Float64(width, nnx.Rngs(start)))
        loss = lambda p, graph=graph: jnp.mean(jnp.sum((nnx.merge(graph, p)(x) - targets) ** 2, axis=1))  # noqa: E731
        gradient = jax.jit(jax.grad(loss))
        with relaxed_promotion():
            memory = adam.init(params)
            for _ in range(6):
                updates, memory = adam.update(gradient(params), memory, params)
                params = optax.apply_updates(params, updates)
        here = run.dataset.sel(width=width, seed=seed)
        np.testing.assert_allclose(here.train_loss[-1], loss(params), rtol=1e-9)
        assert int(here.parameters) == sum(leaf.size for leaf in jax.tree.leaves(params))


class Float64(Convolutional):
    """The same in float64, which Flax's layers take as an argument."""

    def __init__(self, channels, rngs):
        make = partial(nnx.Conv, kernel_size=(3, 3), param_dtype=jnp.float64, rngs=rngs)
        self.first, self.second = make(1, channels), make(channels, 2 * channels, strides=2)
        self.readout = nnx.Linear(2 * channels, 10, param_dtype=jnp.float64, rngs=rngs)


class Residual(nnx.Module):
    """A residual network of width k: a stem, blocks of k and 2k channels with group normalization, an average."""

    def __init__(self, k, rngs):
        conv = partial(nnx.Conv, kernel_size=(3, 3), rngs=rngs)
        self.stem = conv(1, k)
        self.norms = nnx.List([nnx.GroupNorm(c, num_groups=1, rngs=rngs) for c in (k, 2 * k)])
        self.inner = nnx.List([conv(k, k), conv(2 * k, 2 * k)])
        self.widen = nnx.Conv(k, 2 * k, (1, 1), strides=2, rngs=rngs)
        self.readout = nnx.Linear(2 * k, 10, rngs=rngs)

    def __call__(self, x):
        with relaxed_promotion():
            x = self.stem(x)
            x = x + self.inner[0](nnx.relu(self.norms[0](x)))
            x = self.widen(x)
            x = x + self.inner[1](nnx.relu(self.norms[1](x)))
            return self.readout(nnx.relu(x).mean((1, 2)))


@pytest.mark.slow
def test_a_residual_network_of_width_k_learns_the_digits():
    """Resumed halfway; chance is an error of 0.9."""
    adam, frames = optax.adam(0.01), images(100)
    train = partial(networks.train_family, Residual, [4], *frames, seeds=2, optimizer=adam, loss="xent", batch_size=25)
    first = train(steps=50)
    second = train(steps=50, state=first.state)
    assert second.dataset.step.values.tolist() == [100]
    assert float(second.dataset.test_error.max()) < 0.5
    assert (second.dataset.train_loss < first.dataset.train_loss.values).all()


class Batchwise(nnx.Module):
    def __init__(self, width, rngs):
        self.norm = nnx.BatchNorm(1, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


# --- Bad input --------------------------------------------------------------------------------------------------------

BAD = {
    r"widths must be distinct and >= 1, got widths=\[0, 4\]": {"widths": [0, 4]},
    r"widths must be whole numbers, got widths=\[2.5\]": {"widths": [2.5]},
    r"widths must be distinct": {"widths": [4, 4]},
    r"seeds must be a positive count": {"seeds": 0},
    r"depth must be >= 1, got depth=0": {"depth": 0},
    r"label_noise must be within \[0, 1\], got label_noise=1.5": {"label_noise": 1.5},
    r"label_noise must be within": {"label_noise": float("nan")},
    r"batch_size must lie in 1..15": {"batch_size": 16},
    r"loss must be \"mse\" or \"xent\", got loss='hinge'": {"loss": "hinge"},
    r"parameterization must be one of standard, ntk, mup": {"parameterization": "pytorch"},
    r"mesh must be a jax.sharding.Mesh, got mesh=16": {"mesh": 16},
    r"activation must be a function or one of": {"activation": "rleu"},
    r"record_every must divide steps": {"record_every": 7},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(unchecked, message):
    with pytest.raises(ValueError, match=message):
        sweep(**BAD[message])


def test_bad_data_is_named(unchecked):
    x, y, x_test, y_test = points()
    go = partial(networks.train_widths, widths=[3], seeds=1, optimizer=ADAMW, steps=20)
    with pytest.raises(ValueError, match="x must be finite"):
        go(x.at[0, 0].set(jnp.nan), y, x_test, y_test)
    with pytest.raises(ValueError, match="y must have at least one for each of 3 classes, got y=2 samples"):
        go(x[:2], y[:2], x_test, y_test)
    with pytest.raises(ValueError, match="y must be labels"):
        go(x, y - 1, x_test, y_test)
    with pytest.raises(ValueError, match='loss must be "mse" for floating targets'):
        go(x, x[:, 0], x_test, x_test[:, 0], loss="xent")
    with pytest.raises(ValueError, match="state must be of the widths and seeds"):
        go(x, y, x_test, y_test, state=sweep(steps=20).state)
    with pytest.raises(ValueError, match=r"make_model must hold parameters alone, got make_model=\['norm.mean'"):
        networks.train_family(Batchwise, [2], x[:, :1], y, x_test[:, :1], y_test, seeds=1, optimizer=ADAMW, steps=2)
    make = lambda width, rngs: nnx.Linear(4, 2, rngs=rngs)  # noqa: E731
    with pytest.raises(ValueError, match="make_model must give 3 outputs"):
        networks.train_family(make, [2], x, y, x_test, y_test, seeds=1, optimizer=ADAMW, steps=2)
