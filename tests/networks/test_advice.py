"""What maximal update says of sums, norms, joined inputs and attention, against exponents of width derived by hand."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxtheory.networks.parameterization import maximal_update

X, TOKENS = jnp.ones((2, 3)), jnp.zeros((2, 4), int)


def three(n):
    """Of an input layer, a hidden one and a readout."""
    return {"a": (3, n), "b": (n, n), "c": (n, 1)}


def told(f, sizes, x=X):
    """The advice, of networks of width 8 and 32."""
    base, wide = ({name: jnp.zeros(shape) for name, shape in sizes(n).items()} for n in (8, 32))
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore", UserWarning)
        return maximal_update(f, base, wide, x).advice


def hidden(p, x):
    return jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"])


def unit(h):
    return h / jnp.linalg.norm(h, axis=-1, keepdims=True)


def twice(p, x):
    """A scale whose product is summed and used once more: the sum is no readout of it."""
    scaled = hidden(p, x) * p["c"][:, 0]
    return scaled.sum(-1) + scaled.max(-1)


def two(n):
    """Of the same without a readout."""
    return {"a": (3, n), "b": (n, n)}


SUMS = {
    "a sum": (lambda p, x: hidden(p, x).sum(-1), two, 1),
    "over √d": (lambda p, x: hidden(p, x).sum(-1) / p["b"].shape[0] ** 0.5, two, 1),
    "of scaled terms": (lambda p, x: (hidden(p, x) * p["c"]).sum(-1), lambda n: two(n) | {"c": ()}, 1),
    "of a scale that is used twice": (twice, three, 1),
    "before a sigmoid": (lambda p, x: jax.nn.sigmoid(hidden(p, x).sum(-1)), two, 1),
    "with ones": (lambda p, x: hidden(p, x) @ jnp.ones(p["b"].shape[1]), two, 1),
    "a mean": (lambda p, x: hidden(p, x).mean(-1), two, 0),
    "over d": (lambda p, x: hidden(p, x).sum(-1) / p["b"].shape[0], two, 0),
    "times zero": (lambda p, x: 0 * hidden(p, x).sum(-1), two, 0),
    "over a sum": (lambda p, x: hidden(p, x) / jnp.abs(hidden(p, x)).sum(-1, keepdims=True), two, 0),
    "a weighted mean": (lambda p, x: (jax.nn.softmax(hidden(p, x)) * hidden(p, x)).sum(-1), two, 0),
    "over positions": (lambda p, x: hidden(p, x[:, None].repeat(8, 1)).sum(1) @ p["c"], three, 0),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_over_the_width_without_weights_is_told_of(name):
    f, sizes, count = SUMS[name]
    assert [line.split(", summed")[0] for line in told(f, sizes)] == ["an activation"] * count


NUMBERS = {
    "before the product": (lambda p, x: jnp.tanh(x @ p["a"]) / p["b"].shape[0] ** 0.5 @ p["b"] @ p["c"], ["b"]),
    "in a loop": (
        lambda p, x: (
            lax.scan(lambda h, _: (jnp.tanh(h @ p["b"]) / p["b"].shape[0] ** 0.5, 0), x @ p["a"], length=2)[0] @ p["c"]
        ),
        ["c"],
    ),
    "after the product": (lambda p, x: (x @ p["a"]) / p["b"].shape[0] ** 0.5 @ p["b"] @ p["c"], ["a"]),
    "unit vectors": (lambda p, x: unit(hidden(p, x)) @ p["c"], ["c"]),
    "unit vectors times √d": (lambda p, x: unit(hidden(p, x)) * p["c"].shape[0] ** 0.5 @ p["c"], []),
    "over the deviation": (lambda p, x: (lambda h: h / h.std(-1, keepdims=True, ddof=1))(hidden(p, x)) @ p["c"], []),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_inputs_of_a_weight_that_fall_with_the_width_are_told_of(name):
    """Entries of h/‖h‖ are of order 1/√d, those of h over its deviation of order 1."""
    f, paths = NUMBERS[name]
    assert [line.split(",")[0] for line in told(f, three)] == paths


def test_cosines_need_no_factor():
    """Σ_i u_i v_i of unit vectors is of order 1: similarities of two towers, and attention by cosines."""
    towers = lambda n: {"a": (3, n), "b": (3, n)}  # noqa: E731
    pair = lambda p, x: (unit(jnp.tanh(x @ p["a"])), unit(jnp.tanh(x @ p["b"])))  # noqa: E731
    assert told(lambda p, x: jnp.multiply(*pair(p, x)).sum(-1), towers) == ()
    assert told(lambda p, x: jax.nn.softmax(10 * jnp.einsum("bi,ci->bc", *pair(p, x))) @ x, towers) == ()
    assert len(told(lambda p, x: (jnp.tanh(x @ p["a"]) * pair(p, x)[1]).sum(-1), towers)) == 1


def test_a_norm_grows_but_where_it_is_divided_by():
    """‖h‖ is of order √d; h/‖h‖, h/(1 + ‖h‖) and clipped norms have no sum that grows, and ‖h‖/√d is a mean's root."""
    norm = lambda p, x: jnp.linalg.norm(hidden(p, x), axis=-1, keepdims=True)  # noqa: E731
    assert [line.split(",")[0] for line in told(norm, two)] == ["a product of activations"]
    assert told(lambda p, x: norm(p, x) / p["b"].shape[0] ** 0.5, two) == ()
    for f in (lambda p, x: hidden(p, x) / (1 + norm(p, x)), lambda p, x: hidden(p, x) * jnp.minimum(1, 2 / norm(p, x))):
        assert told(f, two) == ()


def normalized(w, count=1):
    """Columns over √count times their norm, or over their standard deviation for a count of 1/d."""
    return w / jnp.sqrt(count * (w**2).sum(0, keepdims=True) + 1e-6)


def standardized(w):
    return (w - w.mean(0, keepdims=True)) / jnp.sqrt(w.var(0, keepdims=True) + 1e-6)


NORMS = {
    "hidden": (lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"]) @ normalized(p["b"])) @ p["c"], []),
    "readout": (lambda p, x: hidden(p, x) @ normalized(p["c"]), ["c"]),
    "readout over √d": (lambda p, x: hidden(p, x) @ normalized(p["c"], p["c"].shape[0]), []),
    "readout times 1/√d": (lambda p, x: hidden(p, x) @ (normalized(p["c"]) / p["c"].shape[0] ** 0.5), []),
    "by rsqrt": (lambda p, x: hidden(p, x) @ (p["c"] * lax.rsqrt((p["c"] ** 2).sum() + 1e-6)), ["c"]),
    "deviation": (lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"]) @ standardized(p["b"])) @ p["c"], ["b"]),
    "deviation, over √d": (
        lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"]) @ (standardized(p["b"]) / p["b"].shape[0] ** 0.5)) @ p["c"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_weights_over_their_norms_keep_the_size_that_the_program_gives(name):
    """Entries are 1/√d over the norm and 1 over the deviation; hidden weights need 1/√d, readouts 1/d."""
    f, paths = NORMS[name]
    advice = told(f, three)
    assert [line.split(" is divided by a norm")[0] for line in advice] == paths
    assert all("times 0.5 in this network" in line for line in advice)


def test_parts_of_inputs_that_do_not_grow_are_told_of():
    join = lambda *parts: jnp.concatenate(parts, -1)  # noqa: E731
    f = lambda p, x: jnp.tanh(join(x, jnp.tanh(x @ p["a"])) @ p["b"]) @ p["c"]  # noqa: E731
    (line,) = told(f, lambda n: three(n) | {"b": (n + 3, n)})
    assert line.startswith("b has inputs of which 3 do not grow")
    f = lambda p, x: jnp.tanh(join(x @ p["a"], jnp.tanh(x @ p["a"])) @ p["b"]) @ p["c"]  # noqa: E731
    assert told(f, lambda n: three(n) | {"b": (2 * n, n)}) == ()
    conv = lambda h, w: lax.conv_general_dilated(h, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # noqa: E731
    f = lambda p, x: conv(jax.nn.relu(join(x, conv(x, p["a"]))), p["b"]).mean((1, 2)) @ p["c"]  # noqa: E731
    sizes = lambda n: {"a": (3, 3, 3, n), "b": (3, 3, n + 3, n), "c": (n, 1)}  # noqa: E731
    assert len(told(f, sizes, jnp.ones((2, 4, 4, 3)))) == 1


@pytest.mark.parametrize(("scale", "count"), [(None, 1), (lambda d: 1.0, 1), (lambda d: 4 / d, 0)])
def test_scores_of_the_library_s_attention_are_scores(scale, count):
    def f(p, tokens):
        h = p["e"][tokens]
        q, k, v = ((h @ w).reshape(2, 4, 2, -1) for w in jnp.split(p["qkv"], 3, axis=1))
        mixed = jax.nn.dot_product_attention(q, k, v, scale=scale and scale(q.shape[-1]), is_causal=True)
        return (h + mixed.reshape(h.shape)) @ p["out"]

    advice = told(f, lambda n: {"e": (11, n), "qkv": (n, 3 * n), "out": (n, 1)}, TOKENS)
    assert [line.split(" over")[0] for line in advice] == ["attention scores"] * count
