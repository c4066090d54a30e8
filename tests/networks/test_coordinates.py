"""The coordinate check: what it measures, that maximal update is flat, and that a mistake is found by its name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import relaxed_promotion

from jaxtheory.networks import parameterization

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.standard_normal((8, 6)), jnp.float32)
BATCH = X, jnp.sign(X[:, :1])
KEY = jax.random.key(5)
WIDTHS = [16, 64, 512]


def shapes(n):
    sizes = {"1": (6, n), "bias": (n,), "2": (n, n), "3": (n, 1)}
    return {name: jnp.zeros(size) for name, size in sizes.items()}


def apply(p, x):
    h = jnp.tanh(x @ p["1"] + p["bias"][None])
    return jnp.tanh(h @ p["2"]) @ p["3"]


def rules(rule, steps):
    return getattr(parameterization, rule)(apply, shapes(8), shapes(16), X, optimizer=steps)


def checked(mu, make, rate, widths, steps, mistake=lambda mu, n: mu, **options):
    """A coordinate check of a parameterization, possibly with a mistake."""
    at = lambda n: mistake(mu.at(shapes(n)), n)  # noqa: E731

    def network(n):
        wrong, right = at(n), mu.at(shapes(n))

        def init(key):
            drawn = right.start(key, shapes(n))
            ratio = jax.tree.map(lambda a, b: a / b, wrong.standard_deviations, right.standard_deviations)
            return jax.tree.map(lambda w, c: w * jnp.float32(c), drawn, ratio)

        return init, apply

    with relaxed_promotion():  # optax's Adam
        return parameterization.coordinate_check(
            network, widths, BATCH, lambda n: at(n).optimizer(make, rate), steps, key=KEY, **options
        )


def faster(name):
    """One learning rate that does not fall with width as it must."""

    def mistake(mu, n):
        return mu._replace(learning_rates=mu.learning_rates | {name: mu.learning_rates[name] * n / 8})

    return mistake


@pytest.mark.slow
def test_sizes_are_those_written_out():
    """Against the same two steps of gradient descent written by hand, for the first seed of the first width."""
    mu = rules("maximal_update", "sgd")
    found = checked(mu, optax.sgd, 0.2, [4, 8], 2, seeds=2)
    assert found.parameter.values.tolist() == ["1", "bias", "2", "3"]
    assert found.role.values.tolist() == ["input", "vector", "hidden", "readout"]

    @jax.jit
    def by_hand(key):
        start = p = mu.start(key, shapes(4))
        rates, courses = mu.at(shapes(4)).learning_rates, []
        for _ in range(2):
            gradient = jax.grad(lambda q: jnp.mean((apply(q, X) - BATCH[1]) ** 2) / 2)(p)
            p = {name: p[name] - jnp.float32(0.2 * rates[name]) * gradient[name] for name in p}
            courses.append(p)
        return start, courses

    def activations(inputs, p):
        """Of each parameter, with the inputs of its layer taken from other parameters."""
        x = np.asarray(X)
        a1 = x @ inputs["1"]
        h1 = np.tanh(a1 + inputs["bias"])
        h2 = np.tanh(h1 @ inputs["2"])
        return [x @ p["1"], a1 + p["bias"], h1 @ p["2"], h2 @ p["3"]]

    rms = lambda arrays: [float(np.sqrt(np.mean(np.asarray(a) ** 2))) for a in arrays]  # noqa: E731
    start, courses = jax.tree.map(np.asarray, by_hand(jax.random.split(KEY, 2)[0]))
    one, first = found.isel(width=0, seed=0), activations(start, start)
    np.testing.assert_allclose(one.initial, rms(first), rtol=1e-4)
    for step, p in enumerate(courses):
        taken = one.isel(step=step)
        own = [a - b for a, b in zip(activations(start, p), first, strict=True)]
        change = [a - b for a, b in zip(activations(p, p), first, strict=True)]
        np.testing.assert_allclose(taken.own_change, rms(own), rtol=1e-3)
        np.testing.assert_allclose(taken.change, rms(change), rtol=1e-3)
    axes = parameterization.coordinate_figure(found).axes
    titles = ["initial activations", "own changes, first step", "changes, last step"]
    assert [ax.get_title(loc="left") for ax in axes] == titles
    assert "2: " in axes[1].get_legend().get_texts()[2].get_text()


def test_sums_over_axes_shared_with_data_are_the_readouts_activations():
    """Σ_h a_h v_h o_h in one einsum, and Σ_i w_i h_i as a product and a sum: the outputs are what is measured."""

    def network(p, x):
        h = jnp.tanh(x @ p["in"])
        mixed = jnp.einsum("bhts,bshd,hdo->bto", h[:, :, None, None], h[:, None, :, None], p["heads"])
        return mixed[:, 0] + (h * p["row"][None]).sum(1, keepdims=True)

    def start(n):
        fixed = np.random.default_rng(n)
        sizes = {"in": (6, n), "heads": (n, 1, 1), "row": (n,)}
        return {k: jnp.asarray(fixed.standard_normal(s) / n, jnp.float32) for k, s in sizes.items()}

    make = lambda n: (lambda key: start(n), network)  # noqa: E731
    found = parameterization.coordinate_check(make, [2, 3], BATCH, optax.sgd(0.5), 1, key=KEY, seeds=2)
    assert found.role.to_series().to_dict() == {"in": "input", "heads": "readout", "row": "readout"}
    p = start(3)
    risk = lambda p: jnp.mean((network(p, X) - BATCH[1]) ** 2) / 2  # noqa: E731
    gradient = jax.jit(jax.grad(risk))(p)
    h = np.tanh(np.asarray(X) @ np.asarray(p["in"]))
    change = {name: -0.5 * np.asarray(gradient[name]) for name in p}
    expected = {
        "in": np.asarray(X) @ change["in"],
        "heads": h**2 @ change["heads"][:, 0, 0],
        "row": h @ change["row"],
    }
    for name, own in expected.items():
        measured = found.own_change.sel(parameter=name, width=3, seed=0, step=1)
        np.testing.assert_allclose(measured, np.sqrt(np.mean(own**2)), rtol=1e-4)


@pytest.mark.slow
def test_one_wrong_rate_is_found_by_its_name():
    """Adam's first step has the size of the rate, so that a wrong one shows at its own parameter alone."""
    found = checked(rules("maximal_update", "adam"), optax.adam, 1e-2, [16, 128], 1, faster("2"), seeds=8)
    assert found.wrong == ["2"]
    assert float(found.own_change_slope.sel(parameter="2", step=1)) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "make", "rate"), [("adam", optax.adam, 1e-2), ("sgd", optax.sgd, 0.1)])
def test_maximal_update_is_flat_and_standard_is_not(steps, make, rate):
    found = checked(rules("maximal_update", steps), make, rate, WIDTHS, 3, seeds=32)
    assert found.wrong == []
    assert bool(found.flat.all())
    found = checked(rules("standard", steps), make, rate, WIDTHS, 3, seeds=32)
    assert found.wrong[0] == "3"  # the readout, whose initial outputs do not fall
    assert abs(found.initial_slope.sel(parameter="3").item()) < 0.25
    grows = found.own_change_slope.sel(step=1) > 0.3
    assert grows.values.tolist() == [False, False, True, True]
    assert not found.flat.sel(parameter=["2", "3"]).isel(step=-1).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["1", "bias", "2", "3"])
def test_a_wrong_rate_of_any_layer_is_found_with_sgd(name):
    found = checked(rules("maximal_update", "sgd"), optax.sgd, 0.02, WIDTHS, 1, faster(name))
    assert found.wrong == [name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "power"), [("2", -0.5), ("3", 0.5)])
def test_a_wrong_initial_size_is_named_first(name, power):
    def mistake(mu, n):
        wrong = mu.standard_deviations[name] * (n / 8) ** power
        return mu._replace(standard_deviations=mu.standard_deviations | {name: wrong})

    found = checked(rules("maximal_update", "sgd"), optax.sgd, 0.02, WIDTHS, 1, mistake, seeds=32)
    assert found.wrong[0] == name


@pytest.mark.slow
def test_maximal_update_of_attention_in_a_scan_is_flat():
    """Two residual blocks of attention with scores times 2/d: initial sizes, own changes, last changes."""

    def attend(h, p):
        q, k, v = (h @ p[name] for name in "qkv")
        scores = jnp.einsum("btd,bsd->bts", q, k) * jnp.float32(2 / q.shape[-1])
        return h + jax.nn.softmax(scores) @ v, None

    def network(p, x):
        h, _ = jax.lax.scan(attend, x @ p["in"], {name: p[name] for name in "qkv"})
        return h.mean(1) @ p["out"]

    def attention_shapes(n):
        blocks = {name: jnp.zeros((2, n, n)) for name in "qkv"}
        return {"in": jnp.zeros((4, n)), "out": jnp.zeros((n, 2))} | blocks

    x = jnp.asarray(RNG.standard_normal((6, 3, 4)), jnp.float32)
    mu = parameterization.maximal_update(network, attention_shapes(8), attention_shapes(16), x)
    make = lambda n: (lambda key: mu.start(key, attention_shapes(n)), network)  # noqa: E731
    optimizer = lambda n: mu.at(attention_shapes(n)).optimizer(optax.adam, 1e-2)  # noqa: E731
    with relaxed_promotion():
        found = parameterization.coordinate_check(make, [16, 64, 256], (x, x[:, 0, :2]), optimizer, 3, key=KEY)
    assert found.wrong == []
    assert bool(found.flat.isel(step=-1).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "embed", "scale", "qkv"])
def test_a_wrong_rate_of_an_embedding_a_scale_or_attention_is_found(name):
    """Of a table, the scale of a norm, fused queries, keys and values: Adam's first step has the size of the rate."""

    def network(p, tokens):
        h = p["embed"][tokens]
        normed = h * jax.lax.rsqrt((h**2).mean(-1, keepdims=True)) * p["scale"][None, None]
        q, k, v = jnp.split(normed @ p["qkv"], 3, axis=-1)
        return (h + jax.nn.softmax(jnp.einsum("btd,bsd->bts", q, k) * jnp.float32(2 / q.shape[-1])) @ v)[:, 0] @ p[
            "out"
        ]

    def start(n):
        sizes = {"embed": (11, n), "scale": (n,), "qkv": (n, 3 * n), "out": (n, 2)}
        return {name: jnp.ones(size) for name, size in sizes.items()}

    tokens = jnp.asarray(RNG.integers(0, 11, (6, 3)))
    mu = parameterization.maximal_update(network, start(8), start(16), tokens)

    def optimizer(n):
        right = mu.at(start(n))
        wrong = right if name is None else faster(name)(right, n)
        return wrong.optimizer(optax.adam, 1e-2, eps=1e-12)

    make = lambda n: (lambda key: mu.at(start(n)).start(key, start(n)), network)  # noqa: E731
    batch = tokens, jnp.asarray(RNG.standard_normal((6, 2)), jnp.float32)
    with relaxed_promotion():
        found = parameterization.coordinate_check(make, [32, 128], batch, optimizer, 1, key=KEY)
    assert found.wrong == ([] if name is None else [name])


def test_a_width_twice_and_too_few_seeds_are_refused():
    network = lambda n: (lambda key: shapes(n), apply)  # noqa: E731
    check = parameterization.coordinate_check
    for widths, options, message in (
        ([8], {}, "widths must hold at least two widths"),
        ([8, 8], {}, "widths must increase"),
        ([8, 16], {"seeds": 1}, "seeds must be >= 2"),
        ([8, 16], {"steps": 0}, "steps must be >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            check(network, widths, BATCH, optax.sgd(0.1), **{"steps": 1, "key": KEY} | options)
    with pytest.raises(ValueError, match="make must return a network"):
        check(lambda n: apply, [8, 16], BATCH, optax.sgd(0.1), 1, key=KEY)
    with pytest.raises(ValueError, match="dataset must be that of coordinate_check"):
        parameterization.coordinate_figure(None)
