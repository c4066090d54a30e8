"""Flax modules: their state stays fixed and named, their kernels are those of jacrev, and nothing falls back."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from empirical.test_kernel import oracle
from flax import nnx

from jaxtheory import empirical


class Residual(nnx.Module):
    """A small ResNet: two convolutions with BatchNorm and a shortcut, pooling, a dense head."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(4, rngs=rngs) for _ in range(2)])
        self.convs = nnx.List([nnx.Conv(4, 4, (3, 3), use_bias=False, rngs=rngs) for _ in range(2)])
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        h = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = h + conv(nnx.relu(norm(h)))
        return self.head(self.drop(h.mean((1, 2))))


class Transformer(nn.Module):
    """Embedding, one attention block with LayerNorm, mean pooling, a dense head."""

    @nn.compact
    def __call__(self, tokens):
        h = nn.Embed(7, 8)(tokens)
        h = h + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(h))
        h = h + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(h))))
        return nn.Dense(3)(h.mean(1))


class LinenNorm(nn.Module):
    """BatchNorm with running statistics."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        return nn.Dense(2)(jnp.tanh(nn.BatchNorm(use_running_average=not train)(nn.Dense(5)(x))))


def check(f, params, x, limit=2e-4):
    """Structured against jacrev in float32: two different orders of ~1e4 roundings in networks of a dozen layers."""
    expected = np.asarray(oracle(f, params, x, x))
    actual = np.asarray(empirical.ntk(f, params, x, method="structured"))
    assert np.linalg.norm(actual - expected) < limit * np.linalg.norm(expected)
    assert not empirical.explain(f, params, x).fallbacks


@pytest.mark.slow
def test_nnx_resnet_in_inference(key):
    with relaxed_promotion():
        f, params = empirical.from_nnx(Residual(nnx.Rngs(0)))
        check(f, params, jax.random.normal(key, (3, 5, 5, 2)))
        assert sum("mean" in name for name in f.fixed) == 2
        assert sum("var" in name for name in f.fixed) == 2
        # dropout is off: the same twice
        x = jnp.ones((2, 5, 5, 2))
        np.testing.assert_array_equal(f(params, x), f(params, x))


@pytest.mark.slow
def test_linen_transformer_and_batch_norm(key):
    with relaxed_promotion():
        tokens = jax.random.randint(key, (3, 5), 0, 7)
        f, params = empirical.from_linen(Transformer(), Transformer().init(key, tokens))
        check(f, params, tokens)
        x = jax.random.normal(key, (3, 4))
        f, params = empirical.from_linen(LinenNorm(), LinenNorm().init(key, x))
        check(f, params, x)
        assert sorted(f.fixed) == ["['batch_stats']['BatchNorm_0']['mean']", "['batch_stats']['BatchNorm_0']['var']"]


def test_any_tree_of_parameters_and_examples_and_a_scalar_output(float64, key):
    """A tuple of a list and an array, examples in a dict, one number an example: Theta by hand."""
    a, b, c = jnp.ones(3), jnp.asarray(2.0), jax.random.normal(key, (2,))
    x = {"left": jax.random.normal(key, (4, 3)), "right": jax.random.normal(key, (4, 2))}
    f = lambda p, x: p[0][1] * (x["left"] @ p[0][0]) + x["right"] @ p[1]  # noqa: E731
    left = x["left"] @ a
    expected = 4 * x["left"] @ x["left"].T + jnp.outer(left, left) + x["right"] @ x["right"].T
    for method in ("structured", "jacobian", "products"):
        actual = empirical.ntk(f, ([a, b], c), x, method=method)
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.smoke
def test_filter_counts_only_some_parameters(float64, key):
    params = {"body": jax.random.normal(key, (3, 4)), "head": jnp.ones((4, 2)), "steps": jnp.arange(3)}
    f = lambda p, x: jnp.tanh(x @ p["body"]) @ p["head"]  # noqa: E731
    x = jax.random.normal(key, (3, 3))
    g, kept = empirical.filter_params(f, params, lambda path, _: "head" in path)
    assert list(kept) == ["['head']"]
    features = jnp.tanh(x @ params["body"])
    expected = jnp.einsum("ij,kl->ijkl", features @ features.T, jnp.eye(2))
    np.testing.assert_allclose(empirical.ntk(g, kept, x), expected, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="keep at least one"):
        empirical.filter_params(f, params, lambda path, _: False)


class Masked(nnx.Module):
    """Two inputs, two outputs, a low-rank part and a cache that each call writes."""

    def __init__(self, rngs):
        self.dense = nnx.LoRA(3, 2, 4, base_module=nnx.Linear(3, 4, rngs=rngs), rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros(()))

    def __call__(self, x, mask):
        self.calls[...] = self.calls[...] + 1.0
        h = self.dense(x) * mask
        return {"logits": h, "sum": h.sum(1)}


def test_nnx_inputs_outputs_and_parameters_are_chosen(key):
    """A tuple and a dictionary of inputs, one of two outputs, low-rank parameters alone."""
    module = Masked(nnx.Rngs(0))
    module.dense.lora_b[...] = jnp.ones((2, 4))
    x, mask = jax.random.normal(key, (5, 3)), jnp.eye(5, 4)
    with relaxed_promotion():
        f, params = empirical.from_nnx(module, wrt=nnx.LoRAParam, select=lambda out: out["logits"])
        assert sorted(leaf.shape for leaf in jax.tree.leaves(params)) == [(2, 4), (3, 2)]
        expected = (module.dense(x) * mask, module.calls[...])
        for inputs in ((x, mask), {"mask": mask, "x": x}):
            np.testing.assert_allclose(jax.jit(f)(params, inputs), expected[0], rtol=1e-6)
            theta = empirical.ntk(f, params, inputs, output="trace")
            flat = [np.asarray(j).reshape(5, 4, -1) for j in jax.tree.leaves(jax.jacrev(f)(params, inputs))]
            np.testing.assert_allclose(
                theta, sum(np.einsum("ikp,jkp->ij", j, j) for j in flat) / 4, rtol=2e-5, atol=1e-6
            )
        assert module.calls[...] == expected[1] == 0.0


def test_a_selection_of_no_parameters_is_named():
    with pytest.raises(ValueError, match="wrt must select parameters of the module"):
        empirical.from_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), wrt=nnx.LoRAParam)


class Norm(eqx.Module):
    """A dense layer, dropout, integers that are no parameters, and two outputs."""

    dense: eqx.nn.Linear
    drop: eqx.nn.Dropout
    index: jax.Array
    activation: object = eqx.field(static=True)

    def __call__(self, x, scale=1.0):
        h = self.drop(self.activation(self.dense(x))) * scale
        return h[self.index], h.sum()


def test_equinox_models_are_read_over_a_batch(key):
    model = Norm(eqx.nn.Linear(3, 4, key=key), eqx.nn.Dropout(0.5), jnp.array([2, 0]), jnp.tanh)
    f, params = empirical.from_equinox(model, select=lambda out: out[0], scale=2.0)
    x = jax.random.normal(key, (5, 3))
    expected = 2 * jnp.tanh(x @ model.dense.weight.T + model.dense.bias[None])[:, jnp.array([2, 0])]
    np.testing.assert_allclose(f(params, x), expected, rtol=1e-6)
    assert list(f.fixed) == [".index"]
    check(f, params, x)


@pytest.mark.parametrize("stateful", [False, True])
def test_haiku_functions_are_read_with_and_without_state(key, stateful):
    def forward(x, y, is_training):
        if stateful:
            x = hk.BatchNorm(True, True, 0.9)(x, is_training=is_training)
        return hk.Linear(2)(jnp.tanh(hk.Linear(4)(x))) + y, x

    x, y = jax.random.normal(key, (5, 3)), jnp.ones((5, 2))
    with relaxed_promotion():
        transform = hk.transform_with_state(forward) if stateful else hk.transform(forward)
        made = transform.init(key, x, y, is_training=True)
        params, state = made if stateful else (made, None)
        f, params = empirical.from_haiku(transform, params, state, select=lambda out: out[0], is_training=False)
        inputs = (params, state, None, x, y) if stateful else (params, None, x, y)
        out = transform.apply(*inputs, is_training=False)
        np.testing.assert_array_equal(f(params, (x, y)), out[0][0] if stateful else out[0])
        assert bool(f.fixed) == stateful
        assert not empirical.explain(f, params, (x, y)).fallbacks


@pytest.mark.parametrize("read", [empirical.from_nnx, empirical.from_equinox, lambda f: empirical.from_haiku(f, {})])
def test_what_is_no_module_is_named(read):
    with pytest.raises(ValueError, match=r"(module|model|transformed) must (be|have) "):
        read(jnp.tanh)
