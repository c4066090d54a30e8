"""Families of Flax modules over widths: each member is the module alone, and what is no family is named."""

from functools import partial

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import relaxed_promotion

from jaxtheory import data, networks


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


@pytest.mark.slow
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


class Perceptron(nnx.Module):
    def __init__(self, width, rngs):
        self.inner, self.outer = nnx.Linear(4, width, rngs=rngs), nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        with relaxed_promotion():
            return self.outer(jnp.tanh(self.inner(x)))


def points():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((15, 4)), jnp.float32), jnp.arange(15) % 3


@pytest.mark.slow
def test_members_start_from_their_seeds_keys_and_descend():
    """At a rate of zero the predictions are those of the modules as they draw themselves."""
    x, y = points()
    run = networks.train_family(Perceptron, [2, 5], x, y, x, y, seeds=[0, 3], optimizer=optax.sgd(0.0), steps=1)
    assert run.dataset.parameters.values.tolist() == [5 * w + 3 * (w + 1) for w in (2, 5)]
    for i, width in enumerate((2, 5)):
        for j, seed in enumerate((0, 3)):
            model = Perceptron(width, nnx.Rngs(jax.random.split(jax.random.key(seed), 3)[0]))
            np.testing.assert_allclose(run.predict(x)[i, j], model(x), rtol=1e-5, atol=1e-6)


def test_bad_families_are_named(unchecked):
    x, y = points()
    go = partial(networks.train_family, widths=[2], seeds=1, optimizer=optax.sgd(0.1), steps=2)
    data = {"x_test": x, "y_test": y}
    with pytest.raises(ValueError, match=r"make_model must hold parameters alone, got make_model=\['norm.mean'"):
        go(Batchwise, x=x[:, :1], y=y, x_test=x[:, :1], y_test=y)
    with pytest.raises(ValueError, match="make_model must give 3 outputs"):
        go(lambda width, rngs: nnx.Linear(4, 2, rngs=rngs), x=x, y=y, **data)
    with pytest.raises(ValueError, match="make_model must make a Flax NNX module, got make_model=a int"):
        go(lambda width, rngs: 3, x=x, y=y, **data)
    with pytest.raises(ValueError, match="make_model must be a function"):
        go(3, x=x, y=y, **data)
