"""What networks return: positions, one channel or several in any order of axes, tuples and dicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import relaxed_promotion
from infinite.recursion import relu_kernels
from infinite.simulation import draw, structs
from infinite.zoo import NHWC
from jax import lax
from tolerances import assert_close

from jaxtheory import infinite
from jaxtheory.infinite import prior

SIGMA_W = 1.4
RULE = prior.ntk(SIGMA_W, 0.0)
TOKENS = np.random.default_rng(1).standard_normal((3, 4, 2)).astype(np.float32)
IMAGES = np.random.default_rng(2).standard_normal((3, 3, 4, 2)).astype(np.float32)
DENSE = {"a": (2, 16), "o": (16, 5), "b": (2, 16), "c": (16, 1)}
CONV = {"k": (3, 3, 2, 16), "l": (2, 2, 16, 3)}


@pytest.fixture(autouse=True)
def as_users_write(unchecked):
    """With NumPy's promotion, and without shapes checked by beartype."""
    with relaxed_promotion():
        yield


def limit(f, shapes, x, **options):
    return infinite.limit(f, structs(shapes, jnp.float32), x, prior=RULE, **options)


def each(p, x):
    return jax.nn.relu(x @ p["a"]) @ p["o"]


NNGP, NTK = (
    k.reshape(3, 4, 3, 4).swapaxes(1, 2) for k in relu_kernels(TOKENS.reshape(12, 2).astype(float), 1, SIGMA_W, 0)
)


def test_positions_are_points_of_the_same_network():
    """A network of each token has the kernel of all tokens, [n1 n2 t t]; equal positions are its diagonal."""
    found = limit(each, DENSE, TOKENS, check_width=False)
    nngp, ntk = found.both(TOKENS)
    assert_close(nngp, NNGP, condition=10)
    assert_close(ntk, NTK, condition=10)
    np.testing.assert_array_equal(nngp, nngp.transpose(1, 0, 3, 2))


@pytest.mark.slow
def test_pairs_of_batches_and_equal_positions():
    """Two batches, none, and the diagonal over positions."""
    found, equal = limit(each, DENSE, TOKENS), limit(each, DENSE, TOKENS, positions="equal")
    assert_close(found.ntk(TOKENS[:2], TOKENS), NTK[:2], condition=10)
    assert found.nngp(TOKENS[:0]).shape == (0, 0, 4, 4)
    for kernel, expected in zip(equal.both(TOKENS), (NNGP, NTK), strict=True):
        assert_close(kernel, np.einsum("ijtt->ijt", expected), condition=10)


OTHERS = {
    "channels first": (lambda p, x: each(p, x).swapaxes(1, 2), NNGP),
    "one channel": (lambda p, x: jax.nn.relu(x @ p["a"]) @ p["c"], NNGP),
    "no channel": (lambda p, x: (jax.nn.relu(x @ p["a"]) @ p["c"])[..., 0], NNGP),
    "two axes": (
        lambda p, x: each(p, x).reshape(-1, 2, 2, 5),
        NNGP.reshape(3, 3, 2, 2, 2, 2),
    ),
    "reversed": (lambda p, x: each(p, x)[:, ::-1], NNGP[:, :, ::-1, ::-1]),
    "some": (lambda p, x: each(p, x)[:, 1:3], NNGP[:, :, 1:3, 1:3]),
    "repeated": (
        lambda p, x: jnp.broadcast_to(each(p, x)[:, :1], (len(x), 2, 5)),
        np.broadcast_to(NNGP[:, :, :1, :1], (3, 3, 2, 2)),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_axes_come_in_the_order_of_the_program(name):
    f, expected = OTHERS[name]
    assert_close(limit(f, DENSE, TOKENS).nngp(TOKENS), expected, condition=10)


def image(p, x):
    h = jax.nn.relu(lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=NHWC))
    return lax.conv_general_dilated(h, p["l"], (1, 2), "SAME", dimension_numbers=NHWC)


@pytest.mark.slow
def test_images_have_the_kernels_of_their_pixels_and_of_drawn_networks():
    """One pixel of the output and the mean of all are networks too; and 400 draws of width 256."""
    found = limit(image, CONV, IMAGES).both(IMAGES)
    assert found.nngp.shape == (3, 3, 3, 2, 3, 2)
    pixel = limit(lambda p, x: image(p, x)[:, 1, 1], CONV, IMAGES).both(IMAGES)
    mean = limit(lambda p, x: image(p, x).mean((1, 2)), CONV, IMAGES).both(IMAGES)
    for whole, one, average in zip(found, pixel, mean, strict=True):
        assert_close(whole[:, :, 1, 1, 1, 1], one, condition=10)
        assert_close(whole.mean((2, 3, 4, 5)), average, condition=10)
    shapes = {"k": (3, 3, 2, 256), "l": (2, 2, 256, 3)}

    @jax.jit
    def drawn(key):
        values = image(draw(shapes, RULE, key, jnp.float32), IMAGES)
        return jnp.einsum("ahwc,bijc->abhwij", values, values) / 3

    kernels = np.stack([drawn(key) for key in jax.random.split(jax.random.key(0), 400)])
    error = kernels.std(0, ddof=1) / 20
    assert np.abs((kernels.mean(0) - found.nngp) / error).max() < 5


TREES = {
    "a tuple": lambda p, x: (each(p, x), jnp.tanh(x @ p["b"]) @ p["c"]),
    "a dict": lambda p, x: {"one": each(p, x), "two": (jnp.tanh(x @ p["b"]) @ p["c"], each(p, x).mean(1))},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_trees_of_outputs_have_trees_of_kernels(name):
    """Each leaf is the limit of that output alone, and the prior knows the roles of all parameters."""
    f = TREES[name]
    found = limit(f, DENSE, TOKENS)
    both = found.both(TOKENS[:2], TOKENS)
    tree = jax.tree.structure(jax.eval_shape(f, structs(DENSE, jnp.float32), TOKENS))
    assert jax.tree.structure(both.nngp) == jax.tree.structure(both.ntk) == tree
    assert_close(jax.tree.leaves(both.nngp)[0], NNGP[:2], condition=10)
    assert_close(jax.tree.leaves(both.ntk)[0], NTK[:2], condition=10)
    alone = limit(lambda p, x: jax.tree.leaves(f(p, x))[1], DENSE, TOKENS)
    assert_close(jax.tree.leaves(both.nngp)[1], alone.nngp(TOKENS[:2], TOKENS))
    assert found.prior("c", (16, 1)).variance == pytest.approx(SIGMA_W**2 / 16)


REFUSED = {
    "a number": (lambda p, x: (each(p, x), x.sum(1)), "output 1.*not an array of random channels"),
    "unlike channels": (
        lambda p, x: jnp.concatenate([each(p, x), jnp.tanh(x @ p["b"]) @ p["c"]], -1),
        "return the parts as a tuple",
    ),
    "channels and positions": (lambda p, x: each(p, x).reshape(-1, 20), r"return \[n positions channels\]"),
    "examples last": (lambda p, x: each(p, x).mean(1).T, "not that of examples"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.first_case
def test_other_outputs_are_refused_with_an_action(name):
    f, words = REFUSED[name]
    with pytest.raises(infinite.NoLimitError, match=words):
        limit(f, DENSE, TOKENS)


def test_positions_are_named():
    with pytest.raises(
        ValueError, match=r'positions must be one of those, got positions=.all.; pass "pairs" or "equal"'
    ):
        limit(each, DENSE, TOKENS, positions="all")
