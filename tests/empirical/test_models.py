"""Flax modules: their state stays fixed and named, their kernels are those of jacrev, and nothing falls back."""

import flax.linen as nn
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


def test_nnx_resnet_in_inference(key):
    with relaxed_promotion():
        f, params = empirical.from_nnx(Residual(nnx.Rngs(0)))
        check(f, params, jax.random.normal(key, (3, 5, 5, 2)))
        assert sum("mean" in name for name in f.fixed) == 2
        assert sum("var" in name for name in f.fixed) == 2
        # dropout is off: the same twice
        x = jnp.ones((2, 5, 5, 2))
        np.testing.assert_array_equal(f(params, x), f(params, x))


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
