"""Parameterizations by width: the published tables, roles read from programs, refusals, optimizers."""

import warnings

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import relaxed_promotion
from flax import nnx
from jax import lax

from jaxtheory import networks
from jaxtheory.networks import parameterization

X = jnp.ones((2, 3))
BASE, WIDE = 8, 32  # growth by 4
R = WIDE / BASE


def zeros(**shapes):
    return {name: jnp.zeros(shape) for name, shape in shapes.items()}


def mlp(p, x):
    h = jnp.tanh(x @ p["in"] + p["bias"][None])
    return jnp.tanh(h @ p["hidden"]) @ p["out"] + p["shift"][None]


def mlp_shapes(n):
    return zeros(**{"in": (3, n), "bias": (n,), "hidden": (n, n), "out": (n, 2), "shift": (2,)})


def resnet(p, x):
    """Convolution, a residual block with group norm's scale, global mean, readout."""
    conv = lambda h, w: lax.conv_general_dilated(h, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: E731
    h = conv(x, p["stem"])
    normed = (h - h.mean(-1, keepdims=True)) * p["scale"][None, None, None]
    h = h + conv(jax.nn.relu(normed), p["block"]) * jnp.float32(0.5)
    return h.mean((1, 2)) @ p["out"]


def resnet_shapes(n):
    return zeros(stem=(3, 3, 3, n), scale=(n,), block=(3, 3, n, n), out=(n, 10))


def transformer(p, tokens, scale=lambda d: 1 / d):
    """Embedding with positions, one block of two heads and an MLP, readout; queries, keys, values in one kernel."""
    h = p["embed"][tokens] + p["position"][None]
    q, k, v = jnp.moveaxis((h @ p["qkv"]).reshape(*h.shape[:2], 3, 2, -1), 2, 0)
    scores = jnp.einsum("bthd,bshd->bhts", q, k) * jnp.float32(scale(q.shape[-1]))
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    scores = jnp.where(causal[None, None], scores, jnp.float32(-1e9))
    mixed = jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores), v).reshape(h.shape)
    h = h + mixed @ p["project"]
    h = h + jax.nn.gelu(h @ p["up"]) @ p["down"]
    return (h * p["scale"][None, None]) @ p["out"]


def transformer_shapes(n):
    return zeros(
        embed=(11, n), position=(4, n), qkv=(n, 3 * n), project=(n, n), up=(n, 4 * n), down=(4 * n, n), scale=(n,),
        out=(n, 11),
    )  # fmt: skip


TOKENS = jnp.zeros((2, 4), int)
MODELS = {
    "mlp": (
        mlp, mlp_shapes, X,
        {"in": "input", "bias": "vector", "hidden": "hidden", "out": "readout", "shift": "fixed"},
        {"in": 3, "hidden": WIDE, "out": WIDE},
    ),
    "resnet": (
        resnet, resnet_shapes, jnp.ones((2, 4, 4, 3)),
        {"stem": "input", "scale": "vector", "block": "hidden", "out": "readout"},
        {"stem": 27, "block": 9 * WIDE, "out": WIDE},
    ),
    "transformer": (
        transformer, transformer_shapes, TOKENS,
        {
            "embed": "embedding", "position": "vector", "qkv": "hidden", "project": "hidden", "up": "hidden",
            "down": "hidden", "scale": "vector", "out": "readout",
        },
        {"qkv": WIDE, "project": WIDE, "up": WIDE, "down": 4 * WIDE, "out": WIDE},
    ),
}  # fmt: skip
# Growth of (std, multiplier, SGD rate, Adam rate) with width in three equivalent forms of maximal update: tables 3, 8
# and 9 of Yang et al. (2022), with r for fan_in or fan_out, whichever grows. Input rules hold for biases and scales.
TABLES = {
    "3": {"input": (1, 1, R, 1), "hidden": (R**-0.5, 1, 1, 1 / R), "readout": (1 / R, 1, 1 / R, 1 / R)},
    "8": {"input": (1, 1, R, 1), "hidden": (R**-0.5, 1, 1, 1 / R), "readout": (1, 1 / R, R, 1)},
    "9": {
        "input": (R**-0.5, R**0.5, 1, R**-0.5),
        "hidden": (R**-0.5, 1, 1, 1 / R),
        "readout": (R**-0.5, R**-0.5, 1, R**-0.5),
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_multipliers_are_those_of_the_published_tables(name):
    f, shapes, x, roles, fan_in = MODELS[name]
    for steps in ("adam", "sgd"):
        mu = parameterization.maximal_update(f, shapes(BASE), shapes(WIDE), x, optimizer=steps)
        base = mu.at(shapes(BASE))
        assert mu.roles == roles
        assert mu.advice == ()
        assert set(base.learning_rates.values()) == {1.0}
        for path, role in roles.items():
            kind = {"embedding": "input", "vector": "input"}.get(role, role)
            for table in TABLES.values():
                std, multiplier, sgd, adam = table.get(kind, (1, 1, 1, 1))
                # the weight w of W = multiplier · w: its rate in W is multiplier² times (SGD), multiplier times (Adam)
                expected = adam * multiplier if steps == "adam" else sgd * multiplier**2
                assert mu.learning_rates[path] == pytest.approx(expected), (path, table)
                grown = mu.standard_deviations[path] / base.standard_deviations[path]
                assert grown == pytest.approx(std * multiplier), (path, table)
            wide = fan_in.get(path, 1) ** -0.5 / (R**0.5 if role == "readout" else 1)
            assert mu.standard_deviations[path] == pytest.approx(wide)


@pytest.mark.parametrize("steps", ["adam", "sgd"])
def test_standard_and_neural_tangent_rules(steps):
    given = (mlp, mlp_shapes(BASE), mlp_shapes(WIDE), X)
    standard = parameterization.standard(*given, optimizer=steps)
    ntk = parameterization.ntk(*given, optimizer=steps)
    assert set(standard.learning_rates.values()) == {1.0}
    assert standard.standard_deviations == ntk.standard_deviations
    assert standard.standard_deviations["out"] == pytest.approx(WIDE**-0.5)
    rate = R**-0.5 if steps == "adam" else 1 / R
    assert ntk.learning_rates == {"in": 1, "bias": 1, "hidden": rate, "out": rate, "shift": 1}


class LinenBlock(nn.Module):
    """Linen's own attention, whose scores are divided by √d, with dense kernels of several axes."""

    width: int

    @nn.compact
    def __call__(self, tokens):
        h = nn.Embed(11, self.width)(tokens)
        h = h + nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=self.width)(nn.LayerNorm()(h))
        return nn.Dense(5)(h)


def test_linen_modules_and_the_scale_of_attention():
    base, wide = (
        jax.eval_shape(LinenBlock(n).init, jax.random.key(0), jnp.zeros((1, 4), int))["params"] for n in (BASE, WIDE)
    )
    f = lambda p, x: LinenBlock(BASE).apply({"params": p}, x)  # noqa: E731
    with pytest.warns(UserWarning, match="attention scores over d = 4 numbers are scaled by 0.5"), relaxed_promotion():
        mu = parameterization.maximal_update(f, base, wide, TOKENS)
    assert len(mu.advice) == 1
    attention = mu.roles["MultiHeadDotProductAttention_0"]
    assert {kind["kernel"] for kind in attention.values()} == {"hidden"}
    axes = {weight.path: (weight.inputs, weight.outputs) for weight in mu.weights}
    assert axes["MultiHeadDotProductAttention_0/query/kernel"] == ((0,), (1, 2))
    assert axes["MultiHeadDotProductAttention_0/out/kernel"] == ((0, 1), (2,))
    assert mu.roles["LayerNorm_0"] == {"bias": "vector", "scale": "vector"}
    assert mu.roles["Dense_0"] == {"kernel": "readout", "bias": "fixed"}
    # a module itself is its apply
    variables = {"params": base}, {"params": wide}
    with pytest.warns(UserWarning, match="attention"), relaxed_promotion():
        assert parameterization.maximal_update(LinenBlock(BASE), *variables, TOKENS).roles["params"] == mu.roles


@pytest.mark.parametrize(("scale", "told"), [(lambda d: d**-0.5, 1), (lambda d: 8 / d, 0), (lambda d: 1.0, 1)])
def test_attention_that_does_not_fall_as_1_over_d_is_told(scale, told):
    f = lambda p, x: transformer(p, x, scale)  # noqa: E731
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        mu = parameterization.maximal_update(f, transformer_shapes(BASE), transformer_shapes(WIDE), TOKENS)
    assert len(mu.advice) == len(seen) == told


def test_heads_of_fixed_size_may_be_divided_by_their_root():
    def f(p, x):
        q, k, v = (jnp.einsum("btc,chd->bthd", x @ p["in"], p[name]) for name in "qkv")
        scores = jnp.einsum("bthd,bshd->bhts", q * jnp.float32(0.5), k)
        return jnp.einsum("bhts,bshd,hdo->bto", jax.nn.softmax(scores), v, p["out"])

    shapes = lambda h: zeros(**{"in": (3, 4 * h), "out": (h, 4, 2)}, **dict.fromkeys("qkv", (4 * h, h, 4)))  # noqa: E731
    mu = parameterization.maximal_update(f, shapes(2), shapes(6), jnp.ones((2, 5, 3)))
    assert mu.advice == ()
    assert mu.roles == {"in": "input", "q": "hidden", "k": "hidden", "v": "hidden", "out": "readout"}
    assert mu.learning_rates["out"] == pytest.approx(1 / 3)


def test_nnx_and_equinox_store_axes_in_their_own_order():
    class Net(nnx.Module):
        def __init__(self, width, rngs):
            self.conv = nnx.Conv(3, width, (3, 3), rngs=rngs)
            self.hidden = nnx.Linear(width, width, rngs=rngs)
            self.out = nnx.Linear(width, 2, rngs=rngs)

        def __call__(self, x):
            return self.out(nnx.relu(self.hidden(nnx.relu(self.conv(x)).mean((1, 2)))))

    parts = [nnx.split(nnx.eval_shape(lambda n=n: Net(n, nnx.Rngs(0))), nnx.Param, ...) for n in (BASE, WIDE)]
    f = lambda p, x: nnx.merge(parts[0][0], p, parts[0][2])(x)  # noqa: E731
    with relaxed_promotion():
        mu = parameterization.maximal_update(f, parts[0][1], parts[1][1], jnp.ones((2, 4, 4, 3)))
    assert jax.tree.leaves(mu.roles) == ["vector", "input", "vector", "hidden", "fixed", "readout"]
    make = lambda n: eqx.nn.MLP(3, 2, n, 2, key=jax.random.key(0))  # noqa: E731
    shaped = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    (base, rest), (wide, _) = (eqx.partition(eqx.filter_eval_shape(make, n), shaped) for n in (BASE, WIDE))
    mu = parameterization.maximal_update(lambda p, x: jax.vmap(eqx.combine(p, rest))(x), base, wide, X)
    assert mu.roles.layers[2].weight == "readout"
    assert [w.inputs for w in mu.weights if w.path.endswith("weight")] == [(1,), (1,), (1,)]
    assert mu.learning_rates.layers[1].weight == mu.learning_rates.layers[2].weight == 1 / R


def standardized(p, x):
    w = p["w"] - p["w"].mean(0, keepdims=True)
    w = w / jnp.linalg.norm(w, axis=0, keepdims=True)
    return jnp.tanh((x @ p["in"]) @ w) @ p["out"]


def low_rank(p, x):
    return (x @ p["in"]) @ (p["w"] + p["a"] @ p["b"]) @ p["out"]


def divided(p, x):
    first, second = jnp.split(p["w"], 2, axis=1)
    return jnp.tanh(x @ p["in"] @ first) * jnp.tanh(x @ p["in"] @ second) @ p["out"]


def summed(p, x):
    return ((x @ p["in"]) * p["out"][:, 0][None]).sum(-1)


def experts(p, x):
    return jax.vmap(lambda w, v: jnp.tanh(x @ w) @ v)(p["w"], p["v"]).sum(0) @ jnp.eye(2) + 0 * (x @ p["in"]) @ p["out"]


def normalized_rows(p, x):
    h = p["w"][jnp.argmax(x, 1)]
    h = (h - h.mean(1, keepdims=True)) * lax.rsqrt(h.var(1, keepdims=True) + 1e-5)
    return h @ p["out"] + 0 * (x @ p["in"]).sum(1, keepdims=True)


def depthwise(p, x):
    h = (x[:, :, None] * p["in"][0][None, None])[:, :, None]
    numbers, count = ("NHWC", "HWIO", "NHWC"), h.shape[-1]
    h = lax.conv_general_dilated(h, p["w"], (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=count)
    return h.mean((1, 2)) @ p["out"]


def recurrent(p, x):
    h = jnp.zeros((x.shape[0], p["w"].shape[0]))
    h, _ = lax.scan(lambda h, one: (jnp.tanh(h @ p["w"] + one[:, None] @ p["in"]), None), h, x.T)
    return h @ p["out"]


IN_OUT = lambda n, d=3: {"in": (d, n), "out": (n, 1)}  # noqa: E731
PROGRAMS = {
    "a standardized weight": (standardized, lambda n: zeros(w=(n, n), **IN_OUT(n)), {"w": "hidden"}),
    "low rank": (
        low_rank, lambda n: zeros(w=(n, n), a=(n, 2), b=(2, n), **IN_OUT(n)),
        {"w": "hidden", "a": "readout", "b": "input"},
    ),
    "a weight in two parts": (divided, lambda n: zeros(w=(n, 2 * n), **IN_OUT(n)), {"w": "hidden"}),
    "a product and a sum": (summed, lambda n: zeros(**IN_OUT(n)), {}),
    "a sum over experts": (
        experts, lambda n: zeros(w=(n, 3, 4), v=(n, 4, 2), **IN_OUT(n)), {"w": "input", "v": "readout"},
    ),
    "normalized rows": (normalized_rows, lambda n: zeros(w=(3, n), **IN_OUT(n)), {"w": "embedding"}),
    "depthwise": (depthwise, lambda n: zeros(w=(3, 3, 1, n), **IN_OUT(n, 1)), {"in": "vector", "w": "input"}),
    "recurrent": (recurrent, lambda n: zeros(w=(n, n), **IN_OUT(n, 1)), {"w": "hidden"}),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_roles_are_read_from_what_the_program_does(name):
    f, shapes, expected = PROGRAMS[name]
    mu = parameterization.maximal_update(f, shapes(BASE), shapes(WIDE), X)
    assert mu.roles == {"in": "input", "out": "readout"} | expected


def test_layers_in_a_scan_and_depth():
    """Branches are read in the body of a scan; their Adam rates fall as 1/√depth, those of others do not."""
    network = networks.resnet_mlp(4)
    base, wide = (jax.eval_shape(lambda n=n: network.init(jax.random.key(0), (3,), n)) for n in (BASE, WIDE))
    for steps, hidden in (("adam", 1 / R / 2), ("sgd", 1.0)):
        mu = parameterization.maximal_update(network.apply, base, wide, X, optimizer=steps, depth=4)
        assert mu.advice == ()  # the network multiplies its branches by 1/√4
        assert mu.roles["hidden"] == {"kernel": "hidden", "bias": "vector"}
        assert mu.learning_rates["hidden"]["kernel"] == hidden
        assert mu.standard_deviations["hidden"]["kernel"] == pytest.approx(WIDE**-0.5)
        assert mu.learning_rates["out"]["kernel"] == 1 / R
    with pytest.warns(UserWarning, match="not multiplied by 1/sqrt"):
        parameterization.maximal_update(network.apply, base, wide, X, depth=9)
    with pytest.warns(UserWarning, match="no residual branch"):
        parameterization.maximal_update(mlp, mlp_shapes(BASE), mlp_shapes(WIDE), X, depth=2)


def tied(p, tokens):
    return jnp.tanh(p["embed"][tokens] @ p["hidden"]) @ p["embed"].T


def test_what_the_program_leaves_open_is_refused_by_path():
    make = parameterization.maximal_update
    shapes = lambda n: zeros(embed=(11, n), hidden=(n, n))  # noqa: E731
    with pytest.raises(ValueError, match=r"embed must have one fan-in, got a growing axis that is contracted in one"):
        make(tied, shapes(BASE), shapes(WIDE), TOKENS)
    mu = make(tied, shapes(BASE), shapes(WIDE), TOKENS, roles={"embed": ()})
    assert mu.roles == {"embed": "vector", "hidden": "hidden"}
    assert make(tied, shapes(BASE), shapes(WIDE), TOKENS, roles={"embed": (1,)}).roles["embed"] == "readout"
    spectral = lambda p, x: x @ p["in"] @ jnp.fft.irfft(jnp.fft.rfft(p["w"]), p["w"].shape[0])  # noqa: E731
    with pytest.raises(ValueError, match="parameter w must have one fan-in, got used in fft"):
        make(spectral, zeros(**{"in": (3, 8), "w": (8,)}), zeros(**{"in": (3, 16), "w": (16,)}), X)
    unused = lambda p, x: x @ p["in"]  # noqa: E731
    with pytest.raises(ValueError, match="parameter w must have one fan-in, got a growing axis that is neither"):
        make(unused, zeros(**{"in": (3, 8), "w": (8,)}), zeros(**{"in": (3, 16), "w": (16,)}), X)
    rows = lambda p, t: jnp.einsum("btn,btn->bt", p["e"][t], p["e"][t])  # noqa: E731
    with pytest.raises(ValueError, match="parameter e must have one fan-in, got used in a product of its rows"):
        make(rows, zeros(e=(11, 8)), zeros(e=(11, 16)), TOKENS)
    matrices = lambda p, t: p["e"][t[:, 0]] @ jnp.tanh(p["w"][t[:, 0]])[..., None]  # noqa: E731
    with pytest.raises(ValueError, match=r"parameter e must have one fan-in, got .* rows with data"):
        make(matrices, zeros(e=(5, 8, 8), w=(5, 8)), zeros(e=(5, 16, 16), w=(5, 16)), TOKENS)
    gated = lambda p, x: jax.nn.relu((x @ p["in"])[..., None] * p["w"][None]).sum(1)  # noqa: E731
    with pytest.raises(ValueError, match="parameter w must have one fan-in, got two growing axes that are kept"):
        make(gated, zeros(**{"in": (3, 8), "w": (8, 8)}), zeros(**{"in": (3, 16), "w": (16, 16)}), X)
    deep = networks.mlp(3)
    base, deeper = (
        jax.eval_shape(lambda d=d, n=n: networks.mlp(d).init(jax.random.key(0), (3,), n)) for d, n in ((3, 4), (5, 8))
    )
    with pytest.raises(ValueError, match="hidden/bias must have one fan-in, got a growing axis that is neither"):
        make(deep.apply, base, deeper, X)


def test_base_shapes_that_do_nothing_are_errors():
    make = parameterization.maximal_update
    with pytest.raises(ValueError, match="wider_params must have axes that grow"):
        make(mlp, mlp_shapes(BASE), mlp_shapes(BASE), X)
    lookup = lambda p, tokens: p["embed"][tokens] @ p["out"]  # noqa: E731
    with pytest.raises(ValueError, match="wider_params must have axes that grow"):  # a vocabulary is no width
        make(lookup, zeros(embed=(11, 4), out=(4, 2)), zeros(embed=(22, 4), out=(4, 2)), TOKENS)
    with pytest.raises(ValueError, match="wider_params must have the structure of params"):
        make(mlp, mlp_shapes(BASE), zeros(w=(3, 3)), X)
    with pytest.raises(ValueError, match="out must have the same number of axes"):
        make(mlp, mlp_shapes(BASE), mlp_shapes(WIDE) | zeros(out=(WIDE,)), X)
    with pytest.raises(ValueError, match="roles must name parameters"):
        make(mlp, mlp_shapes(BASE), mlp_shapes(WIDE), X, roles={"w": (0,)})
    with pytest.raises(ValueError, match="roles must give a tuple of axes"):
        make(mlp, mlp_shapes(BASE), mlp_shapes(WIDE), X, roles={"out": (2,)})


def test_the_neural_tangent_rates_are_those_of_unit_weights_with_multipliers():
    """SGD on W at the rate 1/r_in is SGD on w = W √fan_in: outputs after steps agree."""
    base, wide = zeros(v=(BASE, 1), w=(BASE, BASE)), zeros(v=(WIDE, 1), w=(WIDE, WIDE))
    f = lambda p, x: jnp.tanh(jnp.tanh(x @ jnp.ones((3, p["w"].shape[0]))) @ p["w"]) @ p["v"]  # noqa: E731
    explicit = lambda p, x: f(jax.tree.map(lambda w: w * jnp.float32(WIDE**-0.5), p), x)  # noqa: E731
    ntk = parameterization.ntk(f, base, wide, X)
    params = ntk.start(jax.random.key(0), wide)
    unit = jax.tree.map(lambda w: w * jnp.float32(WIDE**0.5), params)

    def trained(network, optimizer, params):
        def step(carry, _):
            p, state = carry
            gradient = jax.grad(lambda q: jnp.mean((network(q, X) - 1) ** 2))(p)
            updates, state = optimizer.update(gradient, state, p)
            return (optax.apply_updates(p, updates), state), None

        return network(lax.scan(step, (params, optimizer.init(params)), length=3)[0][0], X)

    ours = jax.jit(lambda p: trained(f, ntk.optimizer(optax.sgd, 0.5 / BASE, momentum=0.9), p))(params)
    theirs = jax.jit(lambda p: trained(explicit, optax.sgd(0.5, momentum=0.9), p))(unit)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert abs(ours - f(params, X)).min() > 0.1


@pytest.mark.parametrize(
    ("make", "given", "decay"), [(optax.adamw, {}, 1e-4), (optax.adam, {"weight_decay": 0.5}, 0.5), (optax.adam, {}, 0)]
)
def test_decay_is_decoupled_and_has_no_multiplier(make, given, decay):
    mu = parameterization.maximal_update(mlp, mlp_shapes(BASE), mlp_shapes(WIDE), X)
    optimizer = mu.optimizer(make, lambda count: 0.1 * 0.5**count, **given)

    @jax.jit
    def two_steps(gradient):
        params = jax.tree.map(lambda p: jnp.full_like(p, 2.0), mlp_shapes(WIDE))
        first, state = optimizer.update(gradient, optimizer.init(params), params)
        return first, optimizer.update(gradient, state, params)[0]

    with relaxed_promotion():
        for value, part in ((0.0, 0.0), (1.0, 1.0)):
            gradient = jax.tree.map(lambda p, value=value: jnp.full_like(p, value), mlp_shapes(WIDE))
            for rate, updates in zip((0.1, 0.05), two_steps(gradient), strict=True):
                for path, leaf in updates.items():  # Adam's steps of a constant gradient are the rate
                    expected = -rate * (part * mu.learning_rates[path] + decay * 2)
                    np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-12)


def test_optimizers_of_the_other_kind_and_other_trees_are_refused():
    mu = parameterization.maximal_update(mlp, mlp_shapes(BASE), mlp_shapes(WIDE), X)
    with pytest.raises(ValueError, match="make must have steps as adam"):
        mu.optimizer(optax.sgd, 0.1)
    for make in (optax.lamb, optax.adafactor, optax.contrib.muon):
        with pytest.raises(ValueError, match=r"make must have steps of the size of the rate.*use optax\.adam"):
            mu.optimizer(make, 0.1)
    with pytest.raises(ValueError, match="mask must be left out"):
        mu.optimizer(optax.adamw, 0.1, mask=lambda p: p)
    optimizer = mu.optimizer(optax.adam, 0.1)
    with pytest.raises(ValueError, match="updates must have 5 arrays"):
        optimizer.update({"w": jnp.ones(3)}, optimizer.init({"w": jnp.ones(3)}))


def test_the_start_has_the_standard_deviations_and_leaves_vectors():
    mu = parameterization.maximal_update(mlp, mlp_shapes(BASE), mlp_shapes(256), X)
    given = mlp_shapes(256) | {"bias": jnp.full(256, 3.0)}
    started = mu.start(jax.random.key(1), given, gain=2.0)
    np.testing.assert_array_equal(started["bias"], given["bias"])
    for path in ("in", "hidden", "out"):
        size = started[path].size
        # within 4 standard errors of a standard deviation
        assert float(started[path].std()) == pytest.approx(2 * mu.standard_deviations[path], rel=4 / (2 * size) ** 0.5)
    with pytest.raises(ValueError, match="gain must be positive"):
        mu.start(jax.random.key(1), given, gain=0.0)
