"""Many widths at once: each is its unpadded twin, padding stays zero, programs are few, runs continue."""

import itertools
import math
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from conftest import relaxed_promotion

from jaxtheory import data, networks, sweeps
from jaxtheory.networks import runs
from jaxtheory.networks.buckets import WASTE, buckets, waste
from jaxtheory.networks.multilayer import Draws, JointDraws
from jaxtheory.results import Status

WIDTHS = [7, 8]
ADAMW = optax.adamw(optax.cosine_decay_schedule(0.01, 60), weight_decay=0.02)


@pytest.fixture(autouse=True)
def several_buckets(monkeypatch):
    """Padding alone decides of the buckets: networks as small as these would share one."""
    for name in ("_CALL", "_COMPILATION"):
        monkeypatch.setattr(sys.modules["jaxtheory.networks.widths"], name, 0.0)


def points(dtype=jnp.float32, n=30, d=4, classes=3):
    """Three Gaussian clusters, for training and for testing."""
    x = jax.random.normal(jax.random.key(1), (n, d), dtype)
    y = jnp.arange(n) % classes
    x = x + 1.5 * jnp.eye(classes, d, dtype=dtype)[y]
    return x[: n // 2], y[: n // 2], x[n // 2 :], y[n // 2 :]


def train(dtype=jnp.float32, **options):
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

    @jax.jit
    def step(params, memory):
        with relaxed_promotion():
            updates, memory = ADAMW.update(jax.grad(objective)(params, x, noisy), memory, params)
            return optax.apply_updates(params, jax.tree.map(lambda u: u * net.rate, updates)), memory

    memory = ADAMW.init(params)
    for _ in range(steps):
        params, memory = step(params, memory)
    objective = jax.jit(objective)
    test = objective(params, x_test, jax.nn.one_hot(y_test, 3, dtype=dtype))
    return params, memory, objective(params, x, noisy), test


RICH = networks.shifted(networks.mup(3), 0.3)
DEEP = {"depth": 2, "parameterization": RICH, "loss": "xent", "activation": softened}


@pytest.fixture(scope="module")
def deep():
    """Two hidden layers, cross-entropy, a rate that depends on width, in float64."""
    with jax.enable_x64(True):
        return train(jnp.float64, **DEEP)


def assert_twins(run, width, seed, **how):
    """After 60 steps of AdamW: losses, parameters and both moments to 1e-5, relative; and padding exactly zero."""
    (bucket,) = run.state
    index = 2 * bucket.widths.index(width) + seed
    params, memory, train_loss, test_loss = twin(width, seed, jnp.float64, **how)
    here = run.dataset.sel(width=width, seed=seed).isel(step=-1)
    np.testing.assert_allclose([here.train_loss, here.test_loss], [train_loss, test_loss], rtol=1e-5)
    net = networks.multilayer(4, width, 3, hidden_layers=how["depth"], bias_variance=1.0, padded=bucket.widths[-1])
    adam, *_ = jax.tree.leaves(bucket.training.optimizer, is_leaf=lambda s: isinstance(s, optax.ScaleByAdamState))
    for theirs, ours in ((params, bucket.params), (memory[0].mu, adam.mu), (memory[0].nu, adam.nu)):
        for a, b, live in zip(*map(jax.tree.leaves, (theirs, ours, net.mask)), strict=True):
            a, b, live = np.asarray(a), np.asarray(b)[index], np.asarray(live)
            np.testing.assert_allclose(b[live], a.ravel(), rtol=1e-5, atol=1e-5 * float(abs(a).max()))
            assert not b[~live].any()


@pytest.mark.slow
def test_a_padded_network_is_its_unpadded_twin(float64, deep):
    assert (deep.dataset.padded > deep.dataset.width).any()
    assert_twins(deep, 7, 0, depth=2, abc=RICH, loss="xent")


@pytest.mark.slow
def test_every_padded_network_is_its_unpadded_twin(float64, deep):
    assert_twins(deep, 8, 1, depth=2, abc=RICH, loss="xent")
    run = train(float64, depth=1, activation=softened)
    for width, seed in ((7, 0), (8, 1)):
        assert_twins(run, width, seed, depth=1, abc=networks.standard(2)._replace(c=0.0), loss="mse")


@pytest.mark.slow
def test_padding_is_silent_whatever_it_holds(float64):
    """ε = 0 makes 0/0 of Adam's step for a gradient that is exactly zero; the mask holds padding all the same."""
    run = train(float64, optimizer=optax.adam(0.01, eps=0.0), steps=20)
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


def test_buckets_where_a_program_costs_something():
    """Fewest groups whose steps take less than 30% longer than those of the best of all 64 partitions."""
    rng, sizes = np.random.default_rng(0), set()
    for _ in range(40):
        widths = sorted(rng.choice(np.arange(1, 60), 7, replace=False).tolist())
        program = float(rng.choice([1.0, 30.0, 400.0]))
        totals = {}
        for cuts in itertools.chain.from_iterable(itertools.combinations(range(1, 7), k) for k in range(7)):
            groups = [widths[a:b] for a, b in itertools.pairwise((0, *cuts, 7))]
            total = sum(len(group) * group[-1] + program for group in groups)
            totals[len(groups)] = min(totals.get(len(groups), math.inf), total)
        groups = buckets(widths, program=program)
        assert len(groups) == min(k for k, total in totals.items() if total < (1 + WASTE) * min(totals.values()))
        assert sum(len(group) * group[-1] + program for group in groups) == totals[len(groups)]
        sizes.add(len(groups))
    assert sizes >= {1, 2, 3}


@pytest.fixture
def groups(monkeypatch, unchecked):
    """The buckets that a call would train."""
    monkeypatch.setattr(sys.modules["jaxtheory.networks.widths"], "_sweep", lambda builds, *a, **k: [*builds])
    return partial(networks.train_widths, widths=[1, 50], optimizer=ADAMW)


def test_small_networks_and_short_runs_share_a_program(groups, monkeypatch):
    """As many rows, parameters and steps as one more program costs separate them: seeds count among the rows."""
    monkeypatch.setattr(sys.modules["jaxtheory.networks.widths"], "_CALL", 2e6)
    monkeypatch.setattr(sys.modules["jaxtheory.networks.widths"], "_COMPILATION", 2e10)
    small, large = points(), points(n=2000)
    assert groups(*small, seeds=1, steps=10**6) == [(1, 50)]
    assert groups(*large, seeds=1, steps=10**6) == [(1, 50)]
    assert groups(*large, seeds=60, steps=100) == [(1, 50)]
    assert groups(*large, seeds=60, steps=10**4) == [(1,), (50,)]


def test_buckets_are_those_given_or_of_the_state(groups):
    """Whatever the number of steps would choose, so that a continued run has the bits of a whole."""
    data_, two = points(), [(1, 50, 60), (70,)]
    trained = {"seeds": 1, "steps": 4, "widths": [1, 50, 60, 70]}
    state = tuple(networks.Bucket(group, None, None) for group in two)
    assert groups(*data_, **trained, state=state) == two
    assert groups(*data_, **trained, padded=[65, 80]) == two
    assert groups(*data_, **trained, padded=np.array([60, 60, 60, 70])) == two
    assert groups(*data_, **trained, padded=[70], state=state) == [(1, 50, 60, 70)]


@pytest.mark.slow
def test_draws_of_all_layers_at_once_are_those_of_each():
    """Bit for bit, whichever layer is the widest."""
    for sizes in ((5, 70, 70, 3), (90, 4, 6), (2, 3, 40)):
        key = jax.random.key(3)
        for one, other in zip(Draws(sizes, False, jnp.float32)(key), JointDraws(sizes, jnp.float32)(key), strict=True):
            np.testing.assert_array_equal(one.weight, other.weight)
            assert one.bias is other.bias is None


@pytest.mark.parametrize(("inputs", "depth", "drawn"), [(64, 1, JointDraws), (4000, 1, JointDraws), (4000, 5, Draws)])
def test_draws_are_at_most_twice_the_weights(inputs, depth, drawn):
    """One loop over layers where that bound holds, else each layer in its shape."""
    network = sys.modules["jaxtheory.networks.widths"].Architecture(
        inputs, 10, 60, depth, jnp.tanh, networks.standard(depth + 1), 1.0, jnp.float32
    )
    assert type(network.draws) is drawn


@pytest.mark.slow
def test_a_compiled_bucket_needs_the_stated_memory(monkeypatch):
    """Networks times parameters times (2 + 2 for Adam), held once, and the activations beside."""
    n, m, depth, width, models = 300, 100, 2, 12, 6
    memory = []

    def analyzed(program):
        def call(*arguments):
            memory.append(program.lower(*arguments).compile().memory_analysis())
            return program(*arguments)

        call.lower = program.lower
        return call

    monkeypatch.setattr(runs, "train_models", analyzed(runs.train_models))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((n + m, 4)), jnp.float32)
    y = x[:, :1]
    mesh = jax.make_mesh((1,), ("points",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    networks.train_widths(
        x[:n], y[:n], x[n:], y[n:], widths=[width], seeds=models, optimizer=optax.adam(0.01), steps=1, depth=depth,
        mesh=mesh,
    )  # fmt: skip
    (found,) = memory
    parameters = 5 * width + (width + 1) * width + (width + 1)
    state, activations = 4 * models * 3 * parameters, 4 * models * 4 * depth * (n + m) * width
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    assert state <= found.alias_size_in_bytes
    assert state < held - x.nbytes - y.nbytes < 5 / 4 * state
    assert activations / 8 < found.temp_size_in_bytes < activations + 2 * state


BUCKETS = {"widths": [2, 3, 30], "optimizer": optax.sgd(0.01), "steps": 2, "record_every": 1}


@pytest.mark.slow
def test_one_compilation_a_bucket_and_none_the_second_time():
    """Counted by JAX's own events; other seeds and other noise are other data to the same programs."""
    compiled = []

    def listen(event, duration, **kwargs):
        if event.endswith("backend_compile_duration") and "train_models" in kwargs.get("fun_name", ""):
            compiled.append(kwargs["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    first = train(**BUCKETS)
    groups = len(set(first.dataset.padded.values))
    assert len(compiled) == groups == 2
    assert first.dataset.attrs["waste"] < WASTE
    train(**(BUCKETS | {"seeds": [5, 6], "label_noise": 0.5}))
    assert len(compiled) == groups


def test_the_host_waits_once_a_bucket_while_the_next_program_is_compiled(monkeypatch):
    """The records of a bucket are dispatched together; the next programs are being compiled by then."""
    events, program, fetch = [], runs.train_models, jax.device_get

    class Traced:
        def lower(self, *arguments):
            events.append("compile")
            return program.lower(*arguments)

        def __call__(self, *arguments):
            events.append("dispatch")
            return program(*arguments)

    def fetched(tree):
        events.append("wait")
        return fetch(tree)

    monkeypatch.setattr(runs, "train_models", Traced())
    monkeypatch.setattr(runs.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(jax, "device_get", fetched)
    monkeypatch.setattr(jax, "block_until_ready", lambda tree: pytest.fail("the host waited"))
    train(**BUCKETS)
    assert events == ["compile", "compile", "dispatch", "dispatch", "wait", "dispatch", "dispatch", "wait"]


class Dying(sweeps.Checkpoint):
    """A checkpoint in memory that is always due; after `left` saves the process is killed."""

    def __init__(self, left):
        super().__init__(None, "test", every=0.0)
        self.left = left

    def save(self, tree, name="state"):
        super().save(tree, name)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("saves", [1, 2, 4])
def test_a_training_that_was_killed_goes_on_at_its_checkpoint(saves, monkeypatch):
    """With the bits of an uninterrupted run, and without the records that were kept."""
    whole, memory, calls, program = train(**BUCKETS), Dying(saves), [], runs.train_models
    with pytest.raises(KeyboardInterrupt):
        train(**BUCKETS, checkpoint=memory)

    class Counted:
        lower = program.lower

        def __call__(self, *arguments):
            calls.append(1)
            return program(*arguments)

    monkeypatch.setattr(runs, "train_models", Counted())
    again = train(**BUCKETS, checkpoint=memory)
    assert len(calls) == 4 - {1: 1, 2: 2, 4: 3}[saves]  # a bucket's last record is saved twice, due and done
    xr.testing.assert_identical(again.dataset, whole.dataset)
    for a, b in zip(jax.tree.leaves(again.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.smoke
def test_a_sweep_cut_in_two_has_the_same_bits():
    """Minibatches and Adam's memory continue; so do the records' steps."""
    whole = train(batch_size=4)
    first = train(batch_size=4, steps=20)
    second = train(batch_size=4, steps=40, state=first.state)
    both = xr.concat(
        [first.dataset, second.dataset], "step", data_vars="minimal", join="exact", compat="override", coords="minimal"
    )
    assert both.step.values.tolist() == [20, 40, 60]
    for name in ("train_loss", "test_loss", "train_error", "test_error"):
        np.testing.assert_array_equal(both[name], whole.dataset[name])
    for a, b in zip(jax.tree.leaves(second.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_devices_share_the_networks_and_do_not_talk(float64, monkeypatch):
    """Eight devices and one give the same; each holds its own networks, and the programs have no collective."""
    texts = []

    def traced(program):
        def call(*arguments):
            texts.append(program.lower(*arguments).compile().as_text())
            return program(*arguments)

        call.lower = program.lower
        return call

    one = train(float64, **DEEP, mesh=jax.make_mesh((1,), ("d",), devices=jax.devices()[:1]))
    for name in ("begin_models", "train_models"):
        monkeypatch.setattr(runs, name, traced(getattr(runs, name)))
    eight = train(float64, **DEEP, steps=20)
    xr.testing.assert_allclose(one.dataset.isel(step=[0]), eight.dataset, rtol=1e-9)
    assert len(texts) == 2
    for text in texts:
        assert not any(word in text for word in ("all-reduce", "all-gather", "all-to-all", "collective-permute"))


def test_seeds_share_labels_across_widths_and_differ_among_themselves(float64, deep):
    """The recorded losses are those of the trained networks on labels flipped with the seed's second key."""
    x, y, x_test, y_test = points(float64)
    for seed, key in enumerate(map(jax.random.key, (0, 1))):
        noisy = data.flip_labels(y, 0.2, jax.random.split(key, 3)[1], classes=3)
        for targets, inputs, name in ((noisy, x, "train"), (y_test, x_test, "test")):
            logits = deep.predict(inputs)[:, seed]
            lost = np.log(np.exp(logits).sum(-1)) - logits[:, np.arange(len(targets)), np.asarray(targets)]
            recorded = deep.dataset.isel(step=-1, seed=seed)
            np.testing.assert_allclose(recorded[f"{name}_loss"], lost.mean(-1), rtol=1e-9)
            wrong = (logits.argmax(-1) != np.asarray(targets)).mean(-1)
            np.testing.assert_allclose(recorded[f"{name}_error"], wrong, rtol=1e-12)


def test_arguments_are_converted(unchecked):
    """Lists, integers and narrow labels are their numbers; NumPy's integers count."""
    x, y, x_test, y_test = (np.asarray(v) for v in points())
    small = {"widths": [2], "seeds": 1, "optimizer": BUCKETS["optimizer"], "steps": 2}
    whole = networks.train_widths(np.round(x), y, np.round(x_test), y_test, **small).dataset
    integers = np.round(x).astype(int).tolist(), y.astype(np.uint8), np.round(x_test).astype(np.int8), y_test.tolist()
    same = networks.train_widths(*integers, **(small | {"seeds": np.int64(1), "widths": np.array([2.0])})).dataset
    xr.testing.assert_identical(whole, same)


@pytest.mark.slow
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
    run = train(optimizer=optax.sgd(1e3), widths=[4], seeds=1, steps=20)
    assert (run.dataset.status == Status.NOT_FINITE).all()


# --- Bad input --------------------------------------------------------------------------------------------------------

BAD = {
    r"widths must be distinct and >= 1, got widths=\[0, 4\]": {"widths": [0, 4]},
    r"widths must be whole numbers, got widths=\[2.5\]": {"widths": [2.5]},
    r"widths must be distinct": {"widths": [4, 4]},
    r"widths must be a sequence of integers, got widths=5; list the widths": {"widths": 5},
    r"widths must be a sequence": {"widths": []},
    r"widths must be whole numbers, got widths=\[None\]": {"widths": [None]},
    r"widths must be whole numbers, got widths=\[True\]": {"widths": [True]},
    r"widths must be whole numbers, got widths=\['a'\]": {"widths": ["a"]},
    r"padded must reach the largest width, 8, got padded=\[7\]; add a size": {"padded": [7]},
    r"padded must be whole numbers, got padded=\[8.5\]": {"padded": [8.5]},
    r"padded must be a sequence of integers, got padded=8": {"padded": 8},
    r"seeds must be whole numbers, got seeds=\[0.5\]": {"seeds": [0.5]},
    r"seeds must be whole numbers, got seeds=\[2147483648\]": {"seeds": [2**31]},
    r"seeds must be distinct and >= 0, got seeds=\[-1\]": {"seeds": [-1]},
    r"optimizer must be an optax transformation, got optimizer=0.1": {"optimizer": 0.1},
    r"weight_variance must be >= 0 and finite": {"weight_variance": -1.0},
    r"state must be the state of an earlier sweep": {"state": 3},
    r"seeds must be a positive count": {"seeds": 0},
    r"depth must be >= 1, got depth=0": {"depth": 0},
    r"label_noise must lie in \[0.0, 1.0\], got label_noise=1.5": {"label_noise": 1.5},
    r"label_noise must lie in": {"label_noise": float("nan")},
    r"batch_size must lie in 1..15": {"batch_size": 16},
    r"loss must be one of 'mse', 'xent', got loss='hinge'": {"loss": "hinge"},
    r"parameterization must be one of standard, ntk, mup": {"parameterization": "pytorch"},
    r"mesh must be a jax.sharding.Mesh, got mesh=16": {"mesh": 16},
    r"activation must be a function or one of": {"activation": "rleu"},
    r"record_every must divide steps": {"record_every": 7},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(unchecked, message):
    with pytest.raises(ValueError, match=message):
        train(**BAD[message])


def test_bad_data_is_named(unchecked):
    x, y, x_test, y_test = points()
    go = partial(networks.train_widths, widths=[3], seeds=1, optimizer=ADAMW, steps=20)
    with pytest.raises(ValueError, match="x must be finite"):
        go(x.at[0, 0].set(jnp.nan), y, x_test, y_test)
    with pytest.raises(ValueError, match="y must have at least one for each of 3 classes, got y=2 samples"):
        go(x[:2], y[:2], x_test, y_test)
    with pytest.raises(ValueError, match="y must be labels"):
        go(x, y - 1, x_test, y_test)
    with pytest.raises(ValueError, match=r"y must be labels \[n\], or floating targets, got y=shape \(15, 1\)"):
        go(x, y[:, None], x_test, y_test[:, None])
    with pytest.raises(ValueError, match="x must be known, got x=a traced array; call outside jit"):
        jax.jit(lambda x: go(x, y, x_test, y_test).dataset.test_loss.values)(x)
    with pytest.raises(ValueError, match='loss must be "mse" for floating targets'):
        go(x, x[:, 0], x_test, x_test[:, 0], loss="xent")
    state = train(**BUCKETS).state
    with pytest.raises(ValueError, match="state must be of the widths and seeds"):
        go(x, y, x_test, y_test, state=state)
    with pytest.raises(ValueError, match="state must be of the same network and optimizer"):
        train(**(BUCKETS | {"optimizer": optax.adam(0.1)}), state=state)
    with pytest.raises(ValueError, match="state must be of the same network and optimizer"):
        train(**BUCKETS, depth=2, state=state)
    with pytest.raises(ValueError, match=r"x must be points \[n, 4\]"):
        train(**BUCKETS).predict(np.ones((2, 3)))
