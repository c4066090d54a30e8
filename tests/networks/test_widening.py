"""One model is enough: which sizes of a Flax module are widths, found by what doubling them does."""

import itertools
import warnings
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import relaxed_promotion
from flax import nnx

from jaxtheory.networks import parameterization
from jaxtheory.networks.parameterization import widen

X, TOKENS = jnp.ones((2, 8)), jnp.zeros((2, 4), int)


@pytest.fixture(autouse=True)
def promotion():
    """Flax mixes dtypes."""
    with relaxed_promotion():
        yield


class MLP(nn.Module):
    features: tuple[int, ...]
    classes: int = 3

    @nn.compact
    def __call__(self, x):
        for width in self.features:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.classes)(x)


class Residual(nn.Module):
    features: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.features[0])(x)
        for width in self.features[1:]:
            x = x + nn.Dense(width)(nn.relu(x))
        return nn.Dense(1)(x)


@dataclass(frozen=True)
class Sizes:
    tokens: int = 11
    length: int = 6
    width: int = 16
    inner: int = 32
    heads: int = 2
    layers: int = 1
    dropout: float = 0.0
    causal: bool = True


class Transformer(nn.Module):
    """Numbers of tokens, positions, heads and layers beside two widths; scores are divided by √d."""

    sizes: Sizes

    @nn.compact
    def __call__(self, tokens):
        s = self.sizes
        place = self.param("position", nn.initializers.normal(), (s.length, s.width))
        h = nn.Embed(s.tokens, s.width)(tokens) + place[: tokens.shape[1]]
        for _ in range(s.layers):
            h = h + nn.MultiHeadDotProductAttention(s.heads)(nn.LayerNorm()(h))
            h = h + nn.Dense(s.width)(nn.gelu(nn.Dense(s.inner)(nn.LayerNorm()(h))))
        return nn.Dense(s.tokens)(h)


class ConvNet(nn.Module):
    channels: int = 8
    kernel: int = 3

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(self.channels, (self.kernel,) * 2)(x)))
        return nn.Dense(10)(x.mean((1, 2)))


class Net(nnx.Module):
    def __init__(self, inputs: int, width: int, *, depth: int = 2, outputs: int = 2, rngs):
        sizes = [inputs, *[width] * depth]
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(width, outputs, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.out(self.dropout(self.norm(x)))


MODELS = {
    "MLP": (MLP((8, 16)), X, ("features[0]", "features[1]")),
    "equal widths, one attribute": (MLP((8,)), X, ("features[0]",)),
    "residual: only together": (Residual((8, 8, 8)), X, ("features[0]", "features[1]", "features[2]")),
    "transformer": (Transformer(Sizes()), TOKENS, ("sizes.width", "sizes.inner")),
    "convolutions with statistics": (ConvNet(), jnp.ones((2, 6, 6, 3)), ("channels",)),
    "sequential": (nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(3)]), X, ("layers[0].features",)),
    "NNX": (partial(Net, 8, width=16, depth=2), X, ("width",)),
    "NNX, by position": (partial(Net, 8, 16), X, ("width",)),
}


@pytest.mark.parametrize("name", MODELS)
def test_widths_are_told_from_other_sizes(name):
    model, x, widths = MODELS[name]
    found = widen(model, x)
    assert found.widths == widths
    growth = [
        b / a for one, other in zip(jax.tree.leaves(found.params), jax.tree.leaves(found.wider_params), strict=True)
        for a, b in zip(one.shape, other.shape, strict=True)
    ]  # fmt: skip
    assert set(growth) == {1.0, 2.0}


def test_maximal_update_from_one_transformer():
    """Rates at four times the width by the published table: 1/r for kernels whose fan-in grows, else 1."""
    found = widen(Transformer(Sizes()), TOKENS)
    with pytest.warns(UserWarning, match="attention scores"):
        mu = parameterization.maximal_update(found.apply, found.params, found.wider_params, TOKENS)
    wide = Transformer(Sizes(width=64, inner=128))
    params = jax.eval_shape(wide.init, jax.random.key(0), TOKENS)["params"]
    rates = mu.at(params).learning_rates
    for layer in ("query", "key", "value", "out"):
        assert rates["MultiHeadDotProductAttention_0"][layer]["kernel"] == 0.25
    assert rates["Dense_0"]["kernel"] == rates["Dense_2"]["kernel"] == 0.25
    assert rates["Embed_0"]["embedding"] == rates["position"] == rates["Dense_0"]["bias"] == 1.0
    assert mu.roles["Dense_2"] == {"kernel": "readout", "bias": "fixed"}


class Recurrent(nnx.Module):
    """A GRU, whose first state has a key of its own, and attention over its states with scores times `scale`."""

    def __init__(self, width: int, *, scale: float | None = None, rngs):
        self.cell, self.scale = nnx.RNN(nnx.GRUCell(8, width, rngs=rngs)), scale
        self.parts = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        h = self.cell(x[:, None].repeat(3, axis=1))
        query, key, value = jnp.split(self.parts(h)[:, :, None], 3, axis=-1)
        scale = None if self.scale is None else self.scale / query.shape[-1]
        return self.out(jax.nn.dot_product_attention(query, key, value, scale=scale)[:, -1, 0])


@pytest.mark.parametrize(("scale", "told"), [(None, 1), (4.0, 0)])
def test_the_wider_program_says_how_scores_of_a_module_fall(scale, told):
    """At one width √d/d and 1/√d are the same number: c/d with c of the base network is right all the same."""
    found = widen(partial(Recurrent, width=16, scale=scale), X)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        mu = parameterization.maximal_update(found.apply, found.params, found.wider_params, X)
    assert len(mu.advice) == told == sum("attention scores over d = 16" in str(line.message) for line in seen)
    roles = {weight.path: role for weight, role in zip(mu.weights, jax.tree.leaves(mu.roles), strict=True)}
    assert roles["cell/cell/dense_h/kernel/value"] == roles["parts/kernel/value"] == "hidden"
    assert roles["cell/cell/dense_i/kernel/value"] == "input"


@pytest.mark.slow
def test_maximal_update_from_an_nnx_constructor_trains():
    found = widen(partial(Net, 8, width=16), X)
    mu = parameterization.maximal_update(found.apply, found.params, found.wider_params, X)
    net = Net(8, 64, rngs=nnx.Rngs(0))
    net.eval()
    graph, params, rest = nnx.split(net, nnx.Param, ...)
    at = mu.at(params)
    rates = jax.tree.leaves(at.learning_rates)
    assert sorted(set(rates)) == [0.25, 1.0]
    optimizer = at.optimizer(optax.adam, 1e-2)
    gradient = jax.grad(lambda p: nnx.merge(graph, p, rest, copy=True)(X).sum())(params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    hidden = np.abs(np.asarray(jax.tree.leaves(updates["layers"][1])[-1]))
    np.testing.assert_allclose(hidden[hidden > 1e-3], 0.25e-2, rtol=1e-3)  # a unit that is off does not move
    assert (hidden > 1e-3).mean() > 0.2


class Pair(nn.Module):
    """Two sizes, of which one at a time may be larger, and a third that must be as large as either."""

    width: int = 8
    inner: int = 8
    outer: int = 8

    @nn.compact
    def __call__(self, x):
        if self.outer != max(self.width, self.inner) or self.width + self.inner > 24:
            raise ValueError("sizes do not fit")
        sizes = (self.width, self.inner, self.outer)
        return nn.Dense(2)(nn.Sequential([nn.Dense(size) for size in sizes])(x))


def test_what_cannot_be_decided_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"one set of sizes that can be doubled together, got model=\[\['outer', 'width'\]"
    ):
        widen(Pair(), X)
    with pytest.raises(ValueError, match=r"model must have a size that is a width, got model=\['features'\]"):
        widen(nn.Dense(4), X)
    with pytest.raises(ValueError, match=r"widths must name sizes, got widths=\['breadth'\]; choose of \['features"):
        widen(MLP((8,)), X, widths=["breadth"])
    with pytest.raises(ValueError, match="model must be a linen module, got model=function"):
        widen(lambda p, x: x, X)
    with pytest.raises(ValueError, match="model must construct an NNX module"):
        widen(partial(MLP, (8,)), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert widen(MLP((8, 16)), X, widths=["features[1]"]).widths == ("features[1]",)
