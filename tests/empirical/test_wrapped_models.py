"""Models whose library wraps their layers in loops, checkpoints, masks or derivatives, against jacrev in float64."""

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from flax import nnx
from jax import lax

from jaxtheory import empirical, sweeps

RNG = np.random.default_rng(0)
WIDE = {"param_dtype": jnp.float64}


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape))


def check(f, params, x):
    """The kernel by rules, under jit, against the explicit Jacobian of one example after the other."""
    one = jax.jit(jax.jacrev(lambda p, example: f(p, jax.tree.map(lambda leaf: leaf[None], example))[0]))
    rows = []
    for i in range(len(jax.tree.leaves(x)[0])):
        found = jax.tree.leaves(one(params, jax.tree.map(lambda leaf, i=i: leaf[i], x)))
        rows.append(np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in found], -1))
    expected = np.einsum("ikp,jlp->ijkl", rows, rows)
    actual = jax.jit(lambda p: empirical.ntk(f, p, x, method="structured"))(params)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * abs(expected).max())


class Block(nnx.Module):
    """A residual layer with normalization."""

    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(4, rngs=rngs, **WIDE)
        self.dense = nnx.Linear(4, 4, rngs=rngs, **WIDE)

    def __call__(self, x):
        return x + nnx.tanh(self.dense(self.norm(x)))


class Scanned(nnx.Module):
    """Three layers made by nnx.vmap and run by nnx.scan, checkpointed or not."""

    def __init__(self, rngs, checkpoint):
        self.blocks = nnx.vmap(Block, in_axes=0)(rngs.split(3))
        self.head = nnx.Linear(4, 2, rngs=rngs, **WIDE)
        self.checkpoint = checkpoint

    def __call__(self, x):
        def step(h, block):
            return (nnx.remat(type(block).__call__) if self.checkpoint else type(block).__call__)(block, h)

        return self.head(nnx.scan(step, in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.blocks))


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
def test_layers_under_nnx_scan_and_remat(float64, checkpoint):
    with relaxed_promotion():
        f, params = empirical.from_nnx(Scanned(nnx.Rngs(0), checkpoint))
        check(f, params, normal(3, 4))
        assert not empirical.explain(f, params, normal(3, 4)).fallbacks


@pytest.mark.slow
def test_a_haiku_lstm(float64):
    """Unrolled over a sequence, its last state read by a dense layer."""

    def forward(x):
        core = hk.LSTM(3)
        out, _ = hk.dynamic_unroll(core, x.swapaxes(0, 1), core.initial_state(len(x)))
        return hk.Linear(2)(out[-1])

    with relaxed_promotion():
        net, x = hk.transform(forward), normal(3, 5, 2)
        shapes = jax.eval_shape(net.init, jax.random.key(0), x)
        params = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
        check(*empirical.from_haiku(net, params), x)


class Dropped(nn.Module):
    """Dropout in training mode."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2, **WIDE)(nn.Dropout(0.5, deterministic=not train)(nn.tanh(nn.Dense(4, **WIDE)(x))))


@pytest.mark.slow
def test_dropout_with_its_key_is_a_function_of_the_batch(float64, key):
    """One mask for the batch, the same in every call."""
    with relaxed_promotion():
        x = normal(3, 4)
        variables = Dropped().init(key, x, train=False)
        f, params = empirical.from_linen(Dropped(), variables, rngs={"dropout": key}, train=True)
        rows = [np.asarray(j).reshape(3, 2, -1) for j in jax.tree.leaves(jax.jit(jax.jacrev(f))(params, x))]
        j = np.concatenate(rows, -1)
        actual = empirical.ntk(f, params, x, batch="whole")
        np.testing.assert_allclose(actual, np.einsum("ikp,jlp->ijkl", j, j), rtol=0, atol=1e-12 * (j**2).sum(-1).max())
        with pytest.raises(ValueError, match="batch='whole'"):
            empirical.ntk(f, params, x)


class Encoder(nn.Module):
    """Token, position and segment embeddings, two blocks normalized last, padding masked, a pooled first token."""

    @nn.compact
    def __call__(self, tokens, segments, mask):
        embed = lambda count: nn.Embed(count, 4, **WIDE)  # noqa: E731
        norm = lambda h: nn.LayerNorm(**WIDE)(h)  # noqa: E731
        h = embed(7)(tokens) + embed(2)(segments) + embed(5)(jnp.arange(tokens.shape[1]))[None]
        h = norm(h)
        for _ in range(2):
            attend = nn.MultiHeadDotProductAttention(2, **WIDE)
            h = norm(h + attend(h, mask=nn.make_attention_mask(mask, mask)))
            h = norm(h + nn.Dense(4, **WIDE)(nn.gelu(nn.Dense(8, **WIDE)(h), approximate=False)))
        return nn.Dense(2, **WIDE)(nn.tanh(nn.Dense(4, **WIDE)(h[:, 0])))


@pytest.mark.slow
def test_an_encoder_with_a_padding_mask(float64):
    x = {
        "tokens": jnp.asarray(RNG.integers(7, size=(3, 5))),
        "segments": jnp.asarray(RNG.integers(2, size=(3, 5))),
        "mask": jnp.arange(5)[None] < jnp.array([[5], [3], [2]]),
    }
    with relaxed_promotion():
        shapes = jax.eval_shape(lambda: Encoder().init(jax.random.key(0), **x))
        variables = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
        f, params = empirical.from_linen(Encoder(), variables)
        check(f, params, x)
        # what is masked does not count
        padded = x | {"tokens": jnp.where(x["mask"], x["tokens"], 0)}
        np.testing.assert_allclose(
            empirical.ntk(f, params, padded, output="trace"), empirical.ntk(f, params, x, output="trace"), rtol=1e-12
        )


def wave(p, x):
    """u(t, x) at one point."""
    return jnp.tanh(jnp.tanh(x @ p["a"] + p["b"]) @ p["c"]) @ p["d"]


def residuals(p, x):
    """Of u_t = ν u_xx + u² with a trainable ν, of u = 0 at the boundary, and of u_t = 0 at the start."""

    def one(point):
        slope, curvature = jax.grad(wave, 1)(p, point), jax.hessian(wave, 1)(p, point)
        value = wave(p, point)
        return jnp.stack([slope[0] - jnp.exp(p["log_nu"]) * curvature[1, 1] - value**2, value, slope[0]])

    return jax.vmap(one)(x)


@pytest.mark.slow
def test_blocks_of_a_physics_informed_loss(float64):
    """Second derivatives in the inputs; the kernel of interior, boundary and initial points from its blocks."""
    params = {"a": normal(2, 4), "b": normal(4), "c": normal(4, 4), "d": normal(4), "log_nu": jnp.float64(-1.0)}
    x = RNG.uniform(-1, 1, size=(6, 2))
    check(residuals, params, jnp.asarray(x))
    kinds = np.array([0, 0, 0, 1, 1, 2])
    blocks = np.asarray(empirical.ntk(residuals, params, x))
    kernel = blocks[np.arange(6)[:, None], np.arange(6), kinds[:, None], kinds]
    loss_rows = jax.jit(jax.jacrev(lambda p: residuals(p, jnp.asarray(x))[np.arange(6), kinds]))(params)
    flat = np.concatenate([np.asarray(leaf).reshape(6, -1) for leaf in jax.tree.leaves(loss_rows)], -1)
    np.testing.assert_allclose(kernel, flat @ flat.T, rtol=0, atol=1e-12 * abs(kernel).max())


@pytest.mark.slow
def test_projected_gradients_of_a_data_set_go_to_disk_in_blocks(tmp_path, key):
    """A sweep over blocks of examples keeps what is done; one more block is all that a longer data set costs."""
    x = jnp.asarray(RNG.standard_normal((6, 3)), jnp.float32)
    params = {"w": jnp.asarray(RNG.standard_normal((3, 4)), jnp.float32)}
    f = lambda p, x: jnp.tanh(x @ p["w"]).sum(1)  # noqa: E731
    project = lambda rows: empirical.projected_gradients(f, params, rows, size=5, key=key)  # noqa: E731

    def point(part, key):
        return {"features": sweeps.named(project(lax.dynamic_slice_in_dim(x, 2 * part, 2)), "example", "feature")}

    run = lambda parts: sweeps.run(point, sweeps.grid(part=range(parts)), out=tmp_path / "z", progress=False)  # noqa: E731
    run(2)
    found = run(3)
    assert found.features.shape == (3, 2, 5)
    # four products with signs, in float32
    np.testing.assert_allclose(found.features.values.reshape(6, 5), project(x), rtol=0, atol=1e-5)
