"""Functions that mix the examples of a batch, the kernel of the whole batch, half precision, and first errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from empirical.architectures import NETWORKS, draw
from flax import linen, nnx
from tolerances import assert_close

from jaxtheory import empirical, networks
from jaxtheory.programs import mixing

W, X = (
    jnp.array([[0.5, -1.0], [0.75, 0.5], [1.0, -0.25]]),
    jnp.array([[1.0, 2.0, 0.5], [-1.0, 0.5, 2.0], [0.0, 1.0, 1.0]]),
)
KEY = jax.random.key(3)


@pytest.fixture(autouse=True)
def as_users_write():
    """Functions of users mix ranks and types."""
    with relaxed_promotion():
        yield


def normalized(w, x):
    """Batch statistics."""
    h = x @ w
    return (h - h.mean(0)) / jnp.sqrt(h.var(0) + 1e-3)


def noisy(w, x):
    """A mask drawn for the batch."""
    return jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), x, 0) @ w


def turned(w, x):
    """Each example plus its neighbour."""
    return x @ w + jnp.roll(x, 1, axis=0) @ w


MIXING = {
    "reduce_sum": lambda w, x: x @ w - (x @ w).mean(0),
    "reduce_max": lambda w, x: x @ w - (x @ w).max(0),
    "sort": lambda w, x: jnp.sort(x @ w, axis=0),
    "cumsum": lambda w, x: jnp.cumsum(x @ w, axis=0),
    "dot_general": lambda w, x: jnp.tanh(x @ x.T) @ (x @ w),
    "rev": lambda w, x: x[::-1] @ w,
}


@pytest.mark.parametrize("operation", MIXING)
def test_operations_that_mix_examples_are_found(operation):
    found = mixing.find(MIXING[operation], W, X)
    assert found is not None
    assert found.site.operation == operation
    assert "test_batches.py" in found.site.line


HIDDEN = {
    "batch statistics": normalized,
    "a mask of the batch": noisy,
    "a neighbour": turned,
    "in a loop": lambda w, x: jax.lax.scan(lambda c, row: (c + row, c + row), x[0], x)[1] @ w,
    "in a branch": lambda w, x: jax.lax.cond(w[0, 0] > 0, lambda v: v - v.mean(0), lambda v: v, x @ w),
    "under jit": lambda w, x: jax.jit(lambda v: jax.nn.softmax(v, axis=0))(x @ w),
    "under remat": lambda w, x: jax.checkpoint(lambda v: v / jnp.linalg.norm(v))(x @ w),
    "one example for all": lambda w, x: x @ w + (x @ w)[0],
    "numbered examples": lambda w, x: x @ w * jnp.arange(x.shape[0], dtype=x.dtype)[:, None],
    "the number of examples": lambda w, x: x @ w / x.shape[0],
    "vmap over features": lambda w, x: jax.vmap(jnp.cumsum, in_axes=1, out_axes=1)(x) @ w,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_mixing_is_found_wherever_it_stands(name):
    assert mixing.find(HIDDEN[name], W, X) is not None


APART = {
    "vmap": lambda w, x: jax.vmap(lambda one: jnp.cumsum(one @ w))(x),
    "the shape": lambda w, x: x.reshape(x.shape[0], -1) @ w + jnp.zeros((x.shape[0], 2)),
    "flips of features": lambda w, x: x[:, ::-1] @ w,
    "sorted features": lambda w, x: jnp.sort(x, axis=1) @ w,
    "softmax over features": lambda w, x: jax.nn.softmax(x, axis=-1) @ w,
    "positions": lambda w, x: (x + jnp.arange(3.0)) @ w,
    "a loop over examples": lambda w, x: jax.lax.map(lambda one: jnp.tanh(one @ w), x),
    "noise for each feature": lambda w, x: x * jax.random.normal(KEY, (3,)) @ w,
    "the batch moved": lambda w, x: (w.T @ x.T).T,
    "a branch": lambda w, x: jax.lax.cond(w[0, 0] > 0, lambda v: v, lambda v: 2 * v, x @ w),
    "concatenated features": lambda w, x: jnp.concatenate([x, x], 1) @ jnp.concatenate([w, w]),
    "gathered features": lambda w, x: x[:, jnp.array([2, 0, 1])] @ w,
    "zeros for booleans": lambda w, x: (x * (x > 0)) @ w,
    "unrolled and joined": lambda w, x: jnp.stack([x[:, 0] * w[0, 0], x[:, 1]], 1),
}


@pytest.mark.parametrize("name", APART)
def test_functions_of_each_example_are_accepted(name):
    assert mixing.find(APART[name], W, X) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_architectures_are_accepted(name):
    params, x = draw(NETWORKS[name], jax.random.key(0), 2, jnp.float32)
    assert mixing.find(NETWORKS[name].f, params, x) is None


class Normalized(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.first(x))


class Convolved(linen.Module):
    @linen.compact
    def __call__(self, x):
        h = linen.GroupNorm(2)(linen.relu(linen.Conv(4, (3,))(x[..., None])))
        h = h + linen.MultiHeadDotProductAttention(2)(h)
        return linen.Dense(2)(h.reshape(len(h), -1))


def test_models_in_inference_are_accepted_and_batch_norm_in_training_refused():
    f, params = empirical.from_nnx(Normalized(nnx.Rngs(0)))
    assert mixing.find(f, params, X) is None
    graph, params, rest = nnx.split(Normalized(nnx.Rngs(0)), nnx.Param, ...)
    training = lambda p, x: nnx.merge(graph, p, rest, copy=True)(x)  # noqa: E731
    with pytest.raises(ValueError, match=r"^f must map each example on its own, got f=.*batch='whole'"):
        empirical.ntk(training, params, X)
    module = Convolved()
    f, params = empirical.from_linen(module, jax.eval_shape(module.init, KEY, X))
    assert mixing.find(f, params, X) is None
    model = eqx.nn.MLP(3, 2, 4, 1, key=KEY)
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    assert mixing.find(lambda p, x: jax.vmap(eqx.combine(p, rest))(x), params, X) is None


def test_refusals_name_the_operation_its_line_and_the_way_out():
    for refused in (
        lambda: empirical.ntk(normalized, W, X),
        lambda: empirical.ntk_operator(normalized, W, X),
        lambda: empirical.explain(normalized, W, X),
        lambda: empirical.ntk_drift(normalized, W, X, jnp.ones((3, 2))),
        lambda: empirical.mean_ntk(lambda key: W, normalized, X, None, KEY, 2),
    ):
        with pytest.raises(ValueError, match=r"reduce_sum at .*test_batches.py:\d+.*batch='whole'.*batch='unchecked'"):
            refused()


@pytest.mark.parametrize("f", [normalized, pytest.param(turned, marks=pytest.mark.slow)])
@pytest.mark.first_case
def test_the_whole_batch_has_the_kernel_of_jacrev(f, float64):
    """J(x1) J(x2)ᵀ of the function of the batch, from the kernel, on a mesh, and from the operator."""
    w, x1, x2 = (jnp.asarray(v, float) for v in (W, X, X[:2] + 0.5))
    first, second = (np.asarray(jax.jacrev(f)(w, x)).reshape(*x.shape[:1], 2, -1) for x in (x1, x2))
    expected = np.einsum("ikp,jlp->ijkl", first, second)
    np.testing.assert_allclose(empirical.ntk(f, w, x1, x2, batch="whole"), expected, rtol=0, atol=1e-12)
    square = np.einsum("ikp,jlp->ijkl", first, first)
    trace = empirical.ntk(f, w, x1, output="trace", batch="whole", mesh=jax.make_mesh((2,), ("rows",)))
    np.testing.assert_allclose(trace, np.einsum("ijkk->ij", square) / 2, rtol=0, atol=1e-12)
    v = np.random.default_rng(0).normal(size=(3, 2))
    product = empirical.ntk_operator(f, w, x1, batch="whole")(jnp.asarray(v))
    np.testing.assert_allclose(product, np.einsum("ijkl,jl->ik", square, v), rtol=0, atol=1e-12)


def test_unchecked_is_the_kernel_of_batches_of_one(float64):
    w, x = jnp.asarray(W, float), jnp.asarray(X, float)
    one = np.stack([np.asarray(jax.jacrev(noisy)(w, x[i : i + 1]))[0].reshape(2, -1) for i in range(3)])
    expected = np.einsum("ikp,jkp->ij", one, one) / 2
    found = empirical.ntk(noisy, w, x, output="trace", batch="unchecked")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_single(half, unchecked):
    """The kernel of the same numbers in float32; gated units multiply booleans and floats."""
    f = lambda w, x: (x * (x > 0)) @ w  # noqa: E731
    found = empirical.ntk(f, W.astype(half), X.astype(half), output="trace")
    positive = np.maximum(np.asarray(X), 0)
    assert found.dtype == jnp.float32
    assert_close(found, positive @ positive.T)


def test_tokens_stay_integers(unchecked):
    f = lambda table, tokens: table[tokens].sum(1)  # noqa: E731
    found = empirical.ntk(f, jnp.ones((4, 2)), np.array([[0, 1], [1, 1]]), output="trace")
    np.testing.assert_allclose(found, [[2, 2], [2, 4]])


NET = networks.multilayer(3, 4, 1, activation=jnp.tanh)
FIRST_ERRORS = {
    "the network for its function": (lambda: empirical.ntk(NET, NET.init(KEY), X), "f must .*net.apply"),
    "an Equinox module": (lambda: empirical.ntk(eqx.nn.MLP(3, 1, 4, 1, key=KEY), W, X), "f must .*eqx.partition"),
    "an Equinox module as params": (
        lambda: empirical.ntk(lambda m, x: jax.vmap(m)(x), eqx.nn.MLP(3, 1, 4, 1, key=KEY), X),
        "params.* must be .*eqx.partition",
    ),
    "one example": (lambda: empirical.ntk(lambda w, x: x @ w, W, X[0]), r"x1\[None\]"),
    "integers as params": (
        lambda: empirical.ntk(lambda w, x: x @ w, np.ones((3, 2), int), X),
        "params must be a floating",
    ),
    "a number as key": (lambda: empirical.nngp(NET.init, NET.apply, X, None, 0, 2), "key must .*jax.random.key"),
    "params for examples": (lambda: empirical.ntk(NET.apply, X, NET.init(KEY)), " must "),
    "strings": (lambda: empirical.ntk(NET.apply, NET.init(KEY), "abc"), "x1 must "),
    "a loop of unknown length": (
        lambda: empirical.ntk(lambda w, x: jax.lax.while_loop(lambda h: h.sum() < 3, lambda h: h * 2, x @ w), W, X),
        "while loop",
    ),
}


@pytest.mark.parametrize("name", FIRST_ERRORS)
def test_first_errors_say_what_to_pass(name, unchecked):
    call, told = FIRST_ERRORS[name]
    with pytest.raises(ValueError, match=told):
        call()


def test_repeated_eigenvalues_are_found_as_often_as_they_occur():
    """Of a multiple of the identity, at any scale, and of a projection."""
    find = jax.jit(lambda entries: empirical.top_eigenpairs(lambda v: entries * v, (6,), 3, KEY))
    for entries in (np.ones(6), np.full(6, 1e25), np.full(6, 1e-25), np.array([2.0, 0, 2, 0, 0, 0])):
        found = find(jnp.asarray(entries, jnp.float32))
        np.testing.assert_allclose(found.values, np.sort(entries)[:2:-1], rtol=1e-5, atol=1e-5 * entries.max())
        assert int(found.status) == 0
