"""Merged axes and scatters against the same networks written on tokens and with matrices, and against drawn ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from infinite.simulation import measure
from jax import lax
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import prior

IMAGES = jax.random.normal(jax.random.key(4), (3, 4, 3, 2))
NODES = jax.random.normal(jax.random.key(5), (3, 5, 2))
EDGES = np.array([[0, 1], [1, 2], [3, 2], [4, 0], [1, 4], [2, 4]])
SHAPES = {
    "patch": (2, 2, 2, 64), "cls": (64,), "pos": (13, 64), "query": (64, 64), "key": (64, 64), "value": (64, 64),
    "in": (2, 64), "mix": (64, 64), "out": (64, 1),
}  # fmt: skip


def kernels(f, x, names):
    shapes = {name: jax.ShapeDtypeStruct(SHAPES[name], "float32") for name in names}
    return infinite.limit(f, shapes, x, prior=prior.ntk(sigma_w=1.2)).both(x)


def image(p, x):
    """Features of an image's positions, [n, 4, 3, 64]."""
    return lax.conv_general_dilated(x, p["patch"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def tokens(p, x):
    """The same positions as tokens, by patches of the input."""
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    patches = [padded[:, i : i + 4, j : j + 3] for i in (0, 1) for j in (0, 1)]
    return jnp.concatenate(patches, -1).reshape(-1, 12, 8) @ p["patch"].reshape(8, 64)


def transformer(p, h):
    """A class token, positions, a block of attention, and the class token's output."""
    first = jnp.broadcast_to(p["cls"][None, None], (h.shape[0], 1, 64))
    h = jnp.concatenate([first, h], 1) + p["pos"][None]
    scores = jnp.einsum("nic,njc->nij", h @ p["query"], h @ p["key"]) / 64
    h = h + jnp.einsum("nij,njc->nic", jax.nn.softmax(scores, -1), h @ p["value"])
    return jax.nn.relu(h[:, 0] @ p["mix"]) @ p["out"]


def merged(p, x):
    return image(p, x).reshape(-1, 12, 64)


VIT = ("patch", "cls", "pos", "query", "key", "value", "mix", "out")
PAIRS = {
    "class token": (VIT, lambda p, x: transformer(p, merged(p, x)), lambda p, x: transformer(p, tokens(p, x))),
    "every second": (
        ("patch", "mix", "out"),
        lambda p, x: jax.nn.relu(jax.nn.relu(merged(p, x))[:, 1::2] @ p["mix"]).mean(1) @ p["out"],
        lambda p, x: jax.nn.relu(jax.nn.relu(tokens(p, x))[:, 1::2] @ p["mix"]).mean(1) @ p["out"],
    ),
    "known places": (
        ("patch", "mix", "out"),
        lambda p, x: jax.nn.relu(jax.nn.relu(merged(p, x))[:, jnp.array([7, 0, 7])] @ p["mix"]).mean(1) @ p["out"],
        lambda p, x: jax.nn.relu(jax.nn.relu(tokens(p, x))[:, jnp.array([7, 0, 7])] @ p["mix"]).mean(1) @ p["out"],
    ),
    "and back": (
        ("patch", "cls", "mix", "out"),
        lambda p, x: jax.nn.relu(
            jnp.concatenate([jnp.broadcast_to(p["cls"][None, None], (x.shape[0], 1, 64)), merged(p, x)], 1)[:, 1:]
            .reshape(-1, 4, 3, 64).mean(1) @ p["mix"]
        ).mean(1) @ p["out"],
        lambda p, x: jax.nn.relu(image(p, x).mean(1) @ p["mix"]).mean(1) @ p["out"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.first_case
@pytest.mark.first_case
def test_a_merged_axis_is_one_axis_of_tokens(name):
    names, found, plain = PAIRS[name]
    others = [n for n in names if n != "cls"] if name == "and back" else names
    for kernel, expected in zip(kernels(found, IMAGES, names), kernels(plain, IMAGES, others), strict=True):
        assert_close(kernel, expected, condition=100)


def test_axes_that_were_transposed_are_refused():
    f = lambda p, x: jnp.concatenate([image(p, x).transpose(0, 2, 1, 3).reshape(-1, 12, 64)] * 2, 1).mean(1) @ p["out"]  # noqa: E731
    with pytest.raises(infinite.NoLimitError, match="transpose after it"):
        kernels(f, IMAGES, ("patch", "out"))


def hidden(p, x):
    return jax.nn.relu(x @ p["in"])


def messages(p, x, gathered):
    """A layer of a graph network: messages from neighbours, then weights."""
    return jax.nn.relu(gathered(hidden(p, x)) @ p["mix"]).mean(1) @ p["out"]


def by_matrix(h, edges=EDGES):
    matrix = np.zeros((5, 5), np.float32)
    np.add.at(matrix, (edges[:, 1], edges[:, 0]), 1)
    return jnp.einsum("ij,njc->nic", matrix, h)


SCATTERS = {
    "at": lambda h: jnp.zeros_like(h).at[:, EDGES[:, 1]].add(h[:, EDGES[:, 0]]),
    "segments": jax.vmap(lambda h: jax.ops.segment_sum(h[EDGES[:, 0]], EDGES[:, 1], 5)),
    "beside itself": lambda h: h + jnp.zeros_like(h).at[:, EDGES[:, 1]].add(h[:, EDGES[:, 0]]),
    "set": lambda h: jnp.zeros_like(h).at[:, jnp.array([3, 1, 0])].set(h[:, 1:4]),
    "dropped": lambda h: jnp.zeros_like(h).at[:, jnp.array([3, 9, 0])].add(h[:, 1:4], mode="drop"),
    "clipped": lambda h: jnp.zeros_like(h).at[:, jnp.array([3, 9, 0])].add(h[:, 1:4], mode="clip"),
}
EXPECTED = {
    "beside itself": lambda h: h + by_matrix(h),
    "set": lambda h: by_matrix(h, np.array([[1, 3], [2, 1], [3, 0]])),
    "dropped": lambda h: by_matrix(h, np.array([[1, 3], [3, 0]])),
    "clipped": lambda h: by_matrix(h, np.array([[1, 3], [2, 4], [3, 0]])),
}


@pytest.mark.parametrize("name", SCATTERS)
@pytest.mark.first_case
@pytest.mark.slow
def test_a_scatter_is_a_product_with_the_edges(name):
    names = ("in", "mix", "out")
    found = kernels(lambda p, x: messages(p, x, SCATTERS[name]), NODES, names)
    plain = kernels(lambda p, x: messages(p, x, EXPECTED.get(name, by_matrix)), NODES, names)
    for kernel, expected in zip(found, plain, strict=True):
        assert_close(kernel, expected, condition=100)


@pytest.mark.parametrize(
    ("gathered", "message"),
    [
        (lambda h: h.at[:, EDGES[:, 1]].add(h[:, EDGES[:, 0]]), "scatter into zeros and add"),
        (lambda h: jnp.zeros_like(h).at[:, jnp.array([1, 1])].set(h[:, :2]), "set each position once"),
        (lambda h: jnp.zeros_like(h).at[:, :, EDGES[:, 1]].add(h[:, :, :6]), "scatters channels"),
    ],
)
def test_what_has_no_rule_is_refused_with_an_action(gathered, message):
    with pytest.raises(infinite.NoLimitError, match=message):
        kernels(lambda p, x: messages(p, x, gathered), NODES, ("in", "mix", "out"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["class token", "segments"])
def test_drawn_networks_have_the_kernels_of_the_limit(name, key):
    """Networks of width 64 differ by O(1/64) from the limit, which 40 draws do not resolve at 5 standard errors."""
    names, x = (VIT, IMAGES) if name == "class token" else (("in", "mix", "out"), NODES)
    f = PAIRS[name][1] if name == "class token" else lambda p, x: messages(p, x, SCATTERS[name])
    law = prior.ntk(sigma_w=1.2)
    expected = kernels(f, x, names)
    found = measure(f, {n: SHAPES[n] for n in names}, law, x, key, 40, 1)
    assert np.abs((found.nngp - expected.nngp) / found.nngp_error).max() < 5
    assert np.abs((found.ntk - expected.ntk) / found.ntk_error).max() < 5
