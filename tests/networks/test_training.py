"""The training loop: closed forms, optax step by step, and the invariances that make a run a run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import relaxed_promotion
from tolerances import assert_close

from jaxtheory import networks
from jaxtheory.results import Status

CURVATURES = (1.0, 0.5, 0.1)


def bowl(x):
    return 0.5 * jnp.sum(jnp.asarray(CURVATURES, x.dtype) * x**2)


def problem(dtype=jnp.float32, n=24, d=5):
    """A tanh network on a smooth target: its parameters, its loss on rows, its data."""
    x = jax.random.normal(jax.random.key(1), (n, d), dtype)
    y = jnp.sin(x[:, :1])
    net = networks.multilayer(d, 16, 1, activation=jnp.tanh, dtype=dtype)
    return net.init(jax.random.key(2)), lambda params, rows: jnp.mean((net.apply(params, x[rows]) - y[rows]) ** 2), n


def noisy_loss(params, key):
    _, loss, n = problem()
    return loss(params, networks.minibatch(key, n, 6))


def scheduled():
    return optax.adamw(optax.cosine_decay_schedule(0.02, 40), weight_decay=0.01)


def assert_same_bits(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.smoke
def test_gradient_descent_of_a_quadratic_is_a_power(dtype):
    """x_t = (1 − ηh)^t x_0; records come after every second step, losses before it."""
    start = jnp.ones(3, dtype)
    run = networks.train(
        bowl, start, optimizer=optax.sgd(0.3), steps=10, record=lambda x: {"x": x, "bowl": bowl(x)}, record_every=2
    )
    powers = (1 - 0.3 * np.array(CURVATURES)) ** np.arange(11)[:, None]
    assert_close(run.records["x"], powers[2::2], dtype=dtype)
    assert_close(run.losses, 0.5 * (powers[1::2] ** 2) @ CURVATURES, dtype=dtype)
    assert_close(run.params, powers[-1], dtype=dtype)
    assert run.params.dtype == run.losses.dtype == dtype
    assert (int(run.state.step), int(run.status)) == (10, Status.OK)


@pytest.mark.parametrize("make", [scheduled, partial(optax.sgd, 0.1, momentum=0.9), partial(optax.rmsprop, 0.01)])
def test_steps_are_those_of_optax(make, float64):
    """Against a Python loop over optax's own calls."""
    params, loss, n = problem(float64)
    full = lambda p: loss(p, jnp.arange(n))  # noqa: E731
    run = networks.train(full, params, optimizer=make(), steps=12)
    optimizer = make()

    @jax.jit
    def step(params, memory):
        with relaxed_promotion():
            updates, memory = optimizer.update(jax.grad(full)(params), memory, params)
            return optax.apply_updates(params, updates), memory

    memory = optimizer.init(params)
    for _ in range(12):
        params, memory = step(params, memory)
    for ours, theirs in zip(jax.tree.leaves(run.params), jax.tree.leaves(params), strict=True):
        assert_close(ours, theirs, condition=10)


@pytest.mark.smoke
def test_a_run_cut_in_two_has_the_same_bits():
    """Minibatches, Adam's moments, schedule and weight decay go on where they were."""
    params, _, _ = problem()
    begun = networks.training.begin(scheduled(), params)
    go = jax.jit(partial(networks.train, noisy_loss, optimizer=scheduled(), record_every=5), static_argnames="steps")
    key = jax.random.key(3)
    whole = go(params, steps=20, key=key, state=begun)
    first = go(params, steps=10, key=key, state=begun)
    second = go(first.params, steps=10, key=key, state=first.state)
    assert_same_bits((second.params, second.state), (whole.params, whole.state))
    assert_same_bits(np.concatenate([first.losses, second.losses]), whole.losses)
    other = go(params, steps=20, key=jax.random.key(4), state=begun)
    assert (np.asarray(other.losses) != np.asarray(whole.losses)).any()


def test_donated_states_are_held_once():
    """A caller's jit may give parameters and state away: the result lies where they were."""
    start, adam = jnp.ones(1000), optax.adam(0.01)
    state = networks.training.begin(adam, start)

    def go(params, state):
        run = networks.train(lambda x: (x**2).sum(), params, optimizer=adam, steps=2, state=state)
        return run.params, run.state

    memory = jax.jit(go, donate_argnums=(0, 1)).lower(start, state).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 3 * start.nbytes
    assert memory.alias_size_in_bytes == memory.argument_size_in_bytes


def test_numbers_of_any_kind_are_trained_as_floats(unchecked):
    """Integers, lists and half precision in float32; a record that is not finite is a status."""
    expected = networks.train(bowl, jnp.array([1.0, 2.0, 0.0]), optimizer=optax.sgd(0.3), steps=3).params
    for start in (np.array([1, 2, 0]), jnp.array([1, 2, 0], jnp.bfloat16)):
        run = networks.train(bowl, start, optimizer=optax.sgd(0.3), steps=3)
        assert run.params.dtype == jnp.float32
        np.testing.assert_array_equal(run.params, expected)
    pair = networks.train(
        lambda p: p["a"] ** 2 + p["b"][0] ** 2, {"a": 1, "b": [2.0]}, optimizer=optax.sgd(0.5), steps=1
    )
    assert jax.tree.leaves(pair.params) == [0.0, 0.0]
    broken = networks.train(bowl, jnp.ones(3), optimizer=optax.sgd(0.3), steps=2, record=lambda x: jnp.log(x - 0.9))
    assert int(broken.status) == Status.NOT_FINITE


def test_vmap_over_parameters_keys_and_rates_is_the_loop(float64):
    """An optimizer may hold a traced rate; a rate beyond 2/h diverges alone, and says so."""
    starts = jax.random.normal(jax.random.key(0), (3, 3), float64)
    rates = jnp.array([0.1, 0.5, 3.0])

    def run(start, rate):
        return networks.train(bowl, start, optimizer=optax.sgd(rate), steps=2000, record=bowl, record_every=500)

    together = jax.jit(jax.vmap(run))(starts, rates)
    assert together.status.tolist() == [Status.OK, Status.OK, Status.NOT_FINITE]
    for i in range(2):
        np.testing.assert_allclose(together.records[i], run(starts[i], rates[i]).records, rtol=1e-10)


def test_held_entries_stay_and_the_rest_trains_as_if_alone(float64):
    """Also under weight decay, and under Adam with ε = 0, where a gradient of zero gives 0/0."""
    mask = jnp.array([True, False, True])
    start = jnp.array([1.0, 2.0, 3.0])
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(0.01, eps=0.0, weight_decay=0.1))
    run = networks.train(bowl, start, optimizer=optimizer, steps=20, mask=mask)
    alone = networks.train(
        lambda x: bowl(jnp.stack([x[0], jnp.zeros_like(x[0]), x[1]])), start[mask], optimizer=optimizer, steps=20
    )
    assert run.params[1] == 2.0
    np.testing.assert_allclose(run.params[mask], alone.params, rtol=1e-13)
    assert int(run.status) == Status.OK


def test_optimizers_that_ask_for_the_loss_get_it(float64):
    """L-BFGS with its line search: the minimum of a three-dimensional quadratic within a dozen steps."""
    run = networks.train(bowl, jnp.ones(3), optimizer=optax.lbfgs(), steps=12)
    assert bowl(run.params) < 1e-12


def test_training_is_differentiable(float64):
    """d/dη of L(x_T) = Σ h (1 − ηh)^{2T}/2 is −Σ T h² (1 − ηh)^{2T−1}."""

    def last(rate):
        return bowl(networks.train(bowl, jnp.ones(3), optimizer=optax.sgd(rate), steps=7).params)

    h = np.array(CURVATURES)
    np.testing.assert_allclose(jax.grad(last)(0.2), -(7 * h**2 * (1 - 0.2 * h) ** 13).sum(), rtol=1e-12)


def test_each_step_takes_its_own_batch(float64):
    """Rows given for each step, against a loop in numpy over a quadratic whose centre is the batch; with a key too."""
    centres = np.random.default_rng(0).normal(size=(6, 3))
    options = {"optimizer": optax.sgd(0.3), "steps": 6, "record_every": 2}
    run = networks.train(
        lambda x, c: 0.5 * jnp.sum((x - c["c"]) ** 2), jnp.zeros(3), batches={"c": jnp.asarray(centres)}, **options
    )
    noisy = networks.train(
        lambda x, key, c: 0.5 * jnp.sum((x - c) ** 2) + 0.0 * jax.random.normal(key),
        jnp.zeros(3),
        batches=jnp.asarray(centres),
        key=jax.random.key(0),
        **options,
    )
    x = np.zeros(3)
    for centre in centres:
        x = x - 0.3 * (x - centre)
    assert_close(run.params, x)
    assert_close(noisy.params, x)


def test_minibatches_are_distinct_and_uniform():
    """10⁴ batches of 3 of 7: each sample in 3/7 of them, within 5 standard errors."""
    batches = jax.vmap(lambda k: networks.minibatch(k, 7, 3))(jax.random.split(jax.random.key(0), 10_000))
    ordered = np.sort(batches, axis=1)
    assert (np.diff(ordered) > 0).all()
    share = np.bincount(ordered.ravel(), minlength=7) / 10_000
    assert np.abs(share - 3 / 7).max() < 5 * np.sqrt(3 / 7 * 4 / 7 / 10_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be >= 1, got steps=0"),
        ({"record_every": 4}, "record_every must divide steps, 10, got record_every=4"),
        ({"record_every": 0}, "record_every must divide"),
        ({"mask": {"x": True}}, "mask must be a tree like params"),
        ({"mask": jnp.full(3, 0.5)}, "mask must hold booleans"),
        ({"mask": "abc"}, "mask must hold booleans"),
        ({"batches": jnp.zeros((9, 2))}, "batches must have a leading axis of 10 steps"),
        ({"mask": jnp.ones(2, bool)}, r"mask must have the shapes of params, \(3,\), got mask=shape \(2,\)"),
        ({"optimizer": 0.1}, r"optimizer must be an optax transformation, got optimizer=0.1; pass e.g. optax.adam"),
        ({"optimizer": optax.sgd}, "optimizer must be an optax transformation"),
        ({"loss": lambda x: x}, r"loss must return one real number, got loss=shape \[3\]"),
        ({"loss": lambda x: (x.sum(), x)}, "loss must return one real number, got loss="),
        ({"loss": 3.0}, "loss must be a function"),
        (
            {"loss": lambda p, x, y: p.sum()},
            r"loss must take 1 argument, params.* got loss=a function of \(p, x, y\); bind",
        ),
        ({"params": None}, "params must hold at least one number"),
        ({"steps": 2.5}, "steps must be an integer"),
        ({"key": 0}, "key must be a random key, got key=0"),
        ({"params": {"a": "text"}}, "params must be numbers"),
        ({"params": jnp.ones(3, complex)}, "params must be numbers"),
        ({"state": networks.training.begin(optax.adam(0.1), jnp.ones(3))}, "state must be a tree like that of this"),
    ],
)
def test_bad_arguments_are_named(unchecked, change, message):
    with pytest.raises(ValueError, match=message):
        networks.train(**({"loss": bowl, "params": jnp.ones(3), "optimizer": optax.sgd(0.1), "steps": 10} | change))


def test_a_state_of_other_shapes_is_named(unchecked):
    momentum = optax.sgd(0.1, momentum=0.9)
    state = networks.training.begin(momentum, jnp.ones(2))
    with pytest.raises(ValueError, match=r"state must have the shapes of that of this optimizer, \(3,\)"):
        networks.train(bowl, jnp.ones(3), optimizer=momentum, steps=1, state=state)


def test_sizes_are_known(unchecked):
    with pytest.raises(
        ValueError, match="steps must be known, got steps=a traced number; name steps in static_argnames"
    ):
        jax.jit(lambda n: networks.train(bowl, jnp.ones(3), optimizer=optax.sgd(0.1), steps=n))(3)
    with pytest.raises(ValueError, match="size must lie in"):
        networks.minibatch(jax.random.key(0), 3, 4)
